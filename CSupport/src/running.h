/* running.h - which request runs, and who may interrupt it.
 *
 * One word: RUNNING, and above it the number of threads that are inside the interrupt hook or about to
 * enter it. They enter only while RUNNING is set and only for a ticket of the range that runs; the worker
 * clears RUNNING at the end of the request and waits until the last of them has left. So a hook is called
 * for that very request or not at all. It is a count and not a lock: a hook may itself call any function.
 *
 * `done` closes the gap between taking a request from the ring and setting RUNNING: a request that is not
 * queued, not running and not done is just about to run, and the interrupter waits those few instructions.
 *
 * A worker without an interrupt hook has no use for any of this and skips it.
 *
 * Orderings
 *   RUN    worker: release store of word (RUNNING) -> interrupter: acquire CAS of word.
 *          It sees the range. While its count is in, the range cannot change.
 *   LEAVE  interrupter: release sub of word -> worker: acquire load of word.
 *          The hook is over before the worker goes on.
 *   DONE   worker: release store of done -> interrupter: acquire load of done.
 */
#ifndef LANYARD_RUNNING_H
#define LANYARD_RUNNING_H

#include "ring.h"
#include "spin.h"

enum { LY_RUNNING = 1, LY_INTERRUPTER = 2 };

typedef struct ly_running {
  _Atomic uint32_t word;
  _Atomic(ly_position) first, end; /* the range that runs: [first, end); written by the worker before RUN */
  void *argument;                  /* of a request that runs alone; written by the worker before RUN */
  _Atomic(ly_position) done;       /* everything below was answered; written by the worker */
} ly_running;

static inline void ly_running_init(ly_running *running, ly_position start) {
  atomic_init(&running->word, 0u);
  atomic_init(&running->first, start);
  atomic_init(&running->end, start);
  atomic_init(&running->done, start);
  ly_exempt(running, sizeof *running);
}

/* The worker, before it runs [first, end). */
static inline void ly_running_begin(ly_running *running, ly_position first, ly_position end, void *argument) {
  running->argument = argument;
  ly_store(&running->first, first, relaxed);
  ly_store(&running->end, end, relaxed);
  ly_happens_before(running);
  ly_store(&running->word, LY_RUNNING, release); /* RUN */
}

/* The worker, when it has run. Returns once no interrupter is left. DONE comes first: a hook that is
 * being waited for may itself ask to cancel, and must learn that it is too late. */
static inline void ly_running_finish(ly_running *running, ly_position end) {
  ly_point("finishing", running);
  uint32_t word = ly_and(&running->word, (uint32_t)~LY_RUNNING, acq_rel);
  ly_store(&running->done, end, release); /* DONE */
  for (word &= (uint32_t)~LY_RUNNING; word != 0; word = ly_load(&running->word, acquire)) /* LEAVE */
    ly_futex_wait(&running->word, word, LANYARD_FOREVER);
  ly_happens_after(running);
}

/* The worker: requests that were answered without running. */
static inline void ly_running_skip(ly_running *running, ly_position end) {
  ly_store(&running->done, end, release); /* DONE */
}

/* Whoever has entered. Wakes the worker if it waits and nobody else is inside. */
static inline void ly_running_leave(ly_running *running) {
  ly_happens_before(running);
  if (ly_sub(&running->word, LY_INTERRUPTER, release) == LY_INTERRUPTER)
    ly_futex_wake(&running->word, 1); /* LEAVE */
}

/* Any thread, for a position that has left the ring. True: it runs, and does not end before leave(). *index_out: which
 * one of those that run. */
static inline bool ly_running_enter(ly_running *running, ly_position position, size_t *index_out) {
  for (unsigned turn = 0;;) {
    uint32_t word = ly_load(&running->word, acquire);
    if (word & LY_RUNNING) {
      if (!ly_cas(&running->word, &word, word + LY_INTERRUPTER, acq_rel, acquire)) continue; /* RUN */
      ly_happens_after(running);
      ly_position first = ly_load(&running->first, relaxed);
      if (!ly_before(position, first) && ly_before(position, ly_load(&running->end, relaxed))) {
        *index_out = (size_t)(ly_position)(position - first) / LY_STEP;
        return true;
      }
      ly_running_leave(running);
    }
    if (ly_before(position, ly_load(&running->done, acquire))) return false; /* DONE */
    ly_ladder(&turn);
  }
}

#endif
