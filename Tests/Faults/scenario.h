/* scenario.h - one scenario: its VFS, its orders, its disk, and one lock around them.
 *
 * Owners: the test holds one reference, each open file another; the last one frees it.
 */
#ifndef LANYARD_FAULTS_SCENARIO_H
#define LANYARD_FAULTS_SCENARIO_H

#include <faults.h>
#include <pthread.h>
#include <sqlite3.h>

#include "disk.h"

/* The operations from `first` to before `end`, by their number; none if both are 0. */
typedef struct order {
  uint64_t first, end;
  int code;
} order;

struct faults {
  sqlite3_vfs vfs;
  sqlite3_vfs *base; /* SQLite's, for ever */
  char *name;

  pthread_mutex_t lock; /* of all below */
  uint32_t references;
  uint64_t counts[FAULTS_KINDS];
  order orders[FAULTS_KINDS];
  uint64_t cut_at[FAULTS_KINDS]; /* 0: never */
  uint32_t failed;
  bool tears, forgets, is_cut;
  disk disk;
};

void faults_lock(faults *scenario);
void faults_unlock(faults *scenario);
void faults_retain(faults *scenario);  /* under its lock */
void faults_release(faults *scenario); /* not under its lock */

typedef enum faults_verdict {
  FAULTS_GOES_ON,
  FAULTS_FAILS, /* told to */
  FAULTS_DIES,  /* the power goes in the middle of it */
  FAULTS_DEAD   /* it has gone before */
} faults_verdict;

/* Counts an operation and says what becomes of it. Under the lock. `code_out` unless it goes on. */
faults_verdict faults_judge(faults *scenario, faults_kind kind, int *code_out);
/* The same, with the lock, for what leaves no trace if it fails. */
int faults_ask(faults *scenario, faults_kind kind);
/* SQLITE_OK, or the code if the power is gone; counts nothing. */
int faults_power(faults *scenario, int code);

/* file.c: what SQLite does to an open file. */
typedef struct faults_file {
  sqlite3_file file;
  faults *scenario;
  image *image;       /* NULL: temporary */
  bool syncs_folder;  /* with its next sync, as SQLite's file layer does for new journals and WALs */
  sqlite3_file *real; /* behind this struct, in the same memory */
} faults_file;

extern const sqlite3_io_methods faults_methods;

#endif
