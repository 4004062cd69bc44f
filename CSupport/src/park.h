/* park.h - the worker's sleep, and the wake-up that cannot be lost.
 *
 * One word: AWAKE, or PARKED from when the worker has decided to sleep until somebody wakes it.
 *
 * Orderings
 *   PARK   producer: claims a slot or closes (seq_cst RMW of the ring's tail), then loads the word (seq_cst)
 *          worker:   stores PARKED (seq_cst), then loads the tail (seq_cst), sleeps only if nothing is new
 *          All four are in one total order, so at least one side sees the other: either the worker finds
 *          the new tail, or the producer finds PARKED and wakes it.
 *   WAKE   producer: release exchange of the word to AWAKE -> worker: acquire load that ends its sleep.
 *          The worker sees the waker's time stamp. (What was submitted it sees through PUBLISH.)
 *
 * The claim's compare-and-swap is the fence, so a submit to a worker that is awake pays one load more.
 */
#ifndef LANYARD_PARK_H
#define LANYARD_PARK_H

#include "jobs.h"

enum { LY_AWAKE = 0, LY_PARKED = 1 };

typedef struct ly_park {
  _Atomic uint32_t word;    /* the worker sets PARKED; whoever takes it back to AWAKE wakes the worker */
  _Atomic uint64_t woken_ns; /* when; written by the waker before WAKE */
  _Atomic uint64_t wakes;   /* statistics only */
} ly_park;

static inline void ly_park_init(ly_park *park) {
  atomic_init(&park->word, (uint32_t)LY_AWAKE);
  atomic_init(&park->woken_ns, UINT64_C(0));
  atomic_init(&park->wakes, UINT64_C(0));
  ly_exempt(park, sizeof *park);
}

/* Any thread, after it changed the tail or the jobs' `changes`. */
static inline void ly_park_wake(ly_park *park) {
  if (LY_LIKELY(ly_load(&park->word, seq_cst) == LY_AWAKE)) return; /* PARK */
  ly_store(&park->woken_ns, ly_now_ns(), relaxed);                  /* WAKE orders it */
  if (ly_exchange(&park->word, LY_AWAKE, release) != LY_PARKED) return; /* someone else wakes it */
  ly_add(&park->wakes, 1, relaxed);
  ly_point("wake", park);
  ly_futex_wake(&park->word, 1);
}

typedef enum ly_slept { LY_DID_NOT_SLEEP, LY_WAS_WOKEN, LY_SLEPT_OUT } ly_slept;

/* The worker: sleeps unless the tail is no longer what it was when the ring was found empty, or there is
 * news of jobs. */
static inline ly_slept ly_park_sleep(ly_park *park, ly_ring *ring, ly_position empty_tail, ly_jobs *jobs,
                                 uint64_t deadline_ns) {
  ly_point("idle", park);
  ly_store(&park->word, LY_PARKED, seq_cst); /* PARK */
  ly_point("parking", park);
  if (ly_load(&ring->tail, seq_cst) != empty_tail ||     /* PARK */
      ly_load(&jobs->changes, seq_cst) != jobs->seen) {     /* NEWS */
    ly_store(&park->word, LY_AWAKE, relaxed); /* a waker that was faster only makes one useless wake */
    return LY_DID_NOT_SLEEP;
  }
  while (ly_load(&park->word, acquire) == LY_PARKED) { /* WAKE */
    if (ly_futex_wait(&park->word, LY_PARKED, deadline_ns) != ETIMEDOUT) continue;
    /* WAKE, if somebody was faster. */
    return ly_exchange(&park->word, LY_AWAKE, acquire) == LY_AWAKE ? LY_WAS_WOKEN : LY_SLEPT_OUT;
  }
  return LY_WAS_WOKEN;
}

#endif
