/* faults.h - a file layer for SQLite whose disk fails, and whose power is cut, when a test says so.
 *
 * A scenario is a VFS of its own name over the default one. Whatever a connection that was opened with this
 * name does to its files is counted by kind, fails when it was told to, and is also done to a model of the
 * disk: what was written and synced apart from what was only written.
 *
 *     faults *scenario = faults_create("first");
 *     sqlite3_open_v2(path, &connection, flags, "first");
 *     faults_fail(scenario, FAULTS_SYNC, 2, 1, SQLITE_IOERR_FSYNC);     // the second sync from now, once
 *     faults_cut_at(scenario, FAULTS_WRITE, 17);                        // dead from that write on
 *     ... the connections fail, and are closed ...
 *     faults_disk(scenario, seed, folder);                              // what the disk might hold then
 *
 * Threads: every function, and the connections, from any thread at any time; a scenario has one lock. Reads
 * and locks are counted under it and done outside of it.
 *
 * Owner: whoever made it. A scenario is destroyed when none of its files is open, or else by the last one
 * that is closed; SQLite's VFS of that name is gone at once.
 *
 * The real files lie in the default VFS, and nothing is synced there: the model alone says what is durable.
 * It covers main databases, journals and WALs; temporary files are counted and may fail. Shared memory is
 * never on the disk. What changes the files from outside meanwhile is not seen.
 */
#ifndef LANYARD_FAULTS_H
#define LANYARD_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct faults faults;

typedef enum faults_kind {
  FAULTS_OPEN,
  FAULTS_READ,
  FAULTS_WRITE,
  FAULTS_SYNC,
  FAULTS_TRUNCATE,
  FAULTS_DELETE,
  FAULTS_LOCK,     /* of the file; what unlocks is not counted and never fails */
  FAULTS_SHM_MAP,
  FAULTS_SHM_LOCK, /* likewise */
  FAULTS_KINDS
} faults_kind;

#define FAULTS_FOR_EVER UINT32_MAX

/* NULL if there is a VFS of that name. */
faults *faults_create(const char *name);
void faults_destroy(faults *scenario);

/* How many operations there were since the scenario was made, those that failed included. */
uint32_t faults_count(faults *scenario, faults_kind kind);
/* How many of them failed because they were told to. */
uint32_t faults_failed(faults *scenario);

/* Fails `times` operations with one of SQLite's codes, from the first-th from now on, counted from 1. There is
 * one such order for each kind; a new one takes the place of the last one. */
void faults_fail(faults *scenario, faults_kind kind, uint32_t first, uint32_t times, int code);
/* Whether a write that fails has written its first half. */
void faults_tear(faults *scenario, bool tears);
/* Whether a sync that fails loses what was not synced for good, as a system does that marks pages clean which
 * it could not write: they are still read, a later sync succeeds without them, and a cut shows it. */
void faults_forget(faults *scenario, bool forgets);
/* Takes every order back. */
void faults_heal(faults *scenario);

/* Cuts the power: now, or in the middle of the n-th operation of a kind from now on, counted from 1. Whatever
 * comes after fails with an I/O error, and nothing reaches the disk any more. */
void faults_cut(faults *scenario);
void faults_cut_at(faults *scenario, faults_kind kind, uint32_t n);
bool faults_is_cut(faults *scenario);

/* Writes into a folder what a disk could hold if the power went now, or when it went: what was synced and, of
 * what was not, by 512-byte sector, some kept, some lost and some torn; a file that was made, or deleted, and
 * not synced may be there or not. The seed decides; how much is kept differs from file to file, everything
 * and nothing included. Any number of times. 0, or the error's number. */
int faults_disk(faults *scenario, uint64_t seed, const char *folder);
/* The same for a process that ends and a system that goes on: everything that was written is there. */
int faults_kept(faults *scenario, const char *folder);

#endif
