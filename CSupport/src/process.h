/* process.h - what the library keeps once for each process: fork guard, live registry, threads to join.
 *
 * All of it lies in one page that the kernel hands to a child of fork as zeros (MADV_WIPEONFORK), and
 * zeros are its valid initial state, an unlocked mutex included. So a child starts afresh without
 * pthread_atfork handlers, whatever its parent's other threads were doing, and "does this worker belong
 * to this process" is one load: the generation in the page against the one that the worker remembers.
 * The page is reachable and never freed: workers stop where they are at exit, and nothing is destroyed
 * under them.
 *
 * Lock order: `lock`, which guards everything below it (but the alarms), then a worker's jobs.lock; no other. No callback runs under
 * it. (The reaper's thread is created under it.)
 *
 * Orderings
 *   GENERATION  the word is set once in each process, before its first worker exists, so relaxed loads by
 *               whoever has a worker of this process read that value; in a child they read 0 or another.
 *   PAGE        get: release CAS of the page's address -> get, peek: acquire load.
 */
#ifndef LANYARD_PROCESS_H
#define LANYARD_PROCESS_H

#include "seam.h"

/* One asynchronous close. */
typedef struct ly_close_call {
  struct ly_close_call *next;
  lanyard_worker *worker; /* a reference, for the reaper; NULL: the thread itself calls, at its end */
  lanyard_function function;
  void *argument;
} ly_close_call;

/* A mapping for a ring, of a worker that is gone: zeroed. slots.c */
enum { LY_SPARES = 8 };
typedef struct ly_spare {
  struct ly_slot *slots; /* NULL: none */
  size_t bytes;
} ly_spare;

typedef struct ly_process {
  _Atomic uint64_t generation; /* 0: fresh, or wiped by fork */
  bool checks_pid;             /* the kernel cannot wipe: compare pids instead */
  pid_t pid;

  pthread_mutex_t lock;
  uint64_t last_id;
  lanyard_worker *live_first, *live_last; /* by id */
  lanyard_worker *zombies;                /* released where nobody could wait; threads to join */

  ly_close_call *ended_first, *ended_last; /* asynchronous closes whose worker's thread has ended */
  size_t close_calls_pending;              /* asynchronous closes not yet answered by the reaper */
  bool reaper_runs, reaper_ended;       /* ended: and not yet joined */
  pthread_t reaper;
  _Atomic uint32_t reaper_turn; /* futex: changes with every entry of the ended list */
  _Atomic uint32_t ended_turn;  /* futex: changes with every end of a thread or worker; quiesce waits on it */
  uint32_t quiescers;           /* threads that do */
  ly_spare spares[LY_SPARES];

  pthread_mutex_t alarm_lock; /* a leaf; guards the rest: see alarm.c */
  struct lanyard__alarm *alarms, *alarm_firing;
  bool alarm_runs, alarm_asked_to_end, alarm_ended; /* ended: and not yet joined */
  pthread_t alarm_thread;
  _Atomic uint32_t alarm_turn; /* futex: the earliest alarm has changed, or the thread shall end */
  _Atomic uint32_t alarm_ends; /* futex: the thread has ended, or shall no longer */
  _Atomic size_t live_count;    /* written under `lock` */
} ly_process;

/* Whether this is another process than the one that had this generation of the page. */
static inline bool ly_process_is_foreign(const ly_process *process, uint64_t generation) {
  return LY_UNLIKELY(ly_load(&process->generation, relaxed) != generation) || /* GENERATION */
         (LY_UNLIKELY(process->checks_pid) && process->pid != getpid());
}

/* This process's page; makes it if there is none. NULL: out of memory. */
ly_process *lanyard__process_get(void);
/* This process's page if it has ever opened a worker, else NULL. */
ly_process *lanyard__process_peek(void);
/* Under the lock, after a change of `zombies` or of the ended list. Leak checkers look for pointers in ordinary memory
 * and not in the page: what waits there to be joined or answered is no leak. */
void lanyard__keep_reachable(const ly_process *process);

#endif
