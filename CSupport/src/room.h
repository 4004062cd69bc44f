/* room.h - waiting for room in a full ring: producers that block, and when_room callbacks.
 *
 * Producers sleep on one futex word, all are woken at once and compete. Its lowest bits say whether a wake would
 * find anybody:
 *
 *   SLEEPERS   somebody sleeps, or is about to, and was not woken yet; whoever wakes clears it
 *   CALLBACKS  there are callbacks, and no caller (below) who looks after them; changed under the worker's lock
 *   the rest   counts the wakes
 *
 * So the worker waits for nobody: once it has woken the sleepers the word says that there is none, whether they have
 * run since or not. A producer that is woken and finds the ring full again sets SLEEPERS again.
 *
 * The worker wakes producers when half the ring is free: a wake for each slot would make producer and worker
 * take turns on one core. But not later than the next request after the coarse clock has ticked (4 ms or
 * so), or slow requests would leave them waiting beside an empty half; and always before it sleeps. A
 * producer whose deadline passes tries once more before it gives up.
 *
 * Callbacks are a list in order of arrival. One thread at a time is the `caller`: it takes the first, calls it outside
 * of the lock, and looks again. Whoever finds a caller at work leaves the list to that one, who looks at list and ring
 * once more after it has set CALLBACKS to leave. So callbacks are called in order, each after the one before has
 * returned; only what a callback itself registers may be called inside of it. A call may close the worker, or drop its
 * last reference and with it the memory: the frame on the caller's stack tells it so.
 *
 * Orderings
 *   ROOM   producer: seq_cst RMW that sets SLEEPERS or CALLBACKS, then loads the slot's state (seq_cst, in claim and
 *                    has_room)
 *          worker:   frees the slot (seq_cst, in take and skip), then loads the word (seq_cst)
 *          At least one side sees the other: the producer finds the slot, or the worker finds the producer.
 *   TURN   waker: release RMW of the word -> producer: acquire RMW of the word, before it tries.
 *          A wake between try and sleep changes the futex word, so the sleep does not happen.
 *   IDLE   caller: release store of `calling` -> whoever awaits the end: acquire load.
 */
#ifndef LANYARD_ROOM_H
#define LANYARD_ROOM_H

#include "seam.h"

enum { LY_SLEEPERS = 1, LY_CALLBACKS = 2, LY_WAKE = 4 };

typedef struct ly_waiter {
  struct ly_waiter *next;
  lanyard_function function;
  void *argument;
} ly_waiter;

/* A caller at work; on its stack. Both under the worker's lock, but `gone`, which is its own thread's. */
typedef struct ly_caller {
  pthread_t thread;
  bool gone; /* what it called has freed the worker */
} ly_caller;

typedef struct ly_room {
  _Atomic uint32_t word;    /* futex */
  _Atomic uint32_t calling; /* futex: 1 while there is a caller */
  uint64_t ticked_ns;       /* the worker's own: coarse time of the last wake */
  ly_waiter *first, *last;  /* under the worker's lock */
  ly_caller *caller;        /* under the worker's lock */
} ly_room;

/* Whether somebody waits who was not woken yet. */
static inline bool ly_room_is_awaited(ly_room *room) {
  return ly_load(&room->word, seq_cst) & (LY_SLEEPERS | LY_CALLBACKS); /* ROOM */
}

#endif
