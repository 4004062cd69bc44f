/* room.h - waiting for room in a full ring: producers that block, and when_room callbacks.
 *
 * Producers sleep on `turn`, a futex that changes with every wake; all are woken at once and compete.
 * Callbacks are a list in order of arrival, of which as many are called as there is room for.
 *
 * The worker wakes them when half the ring is free: a wake for each slot would make producer and worker
 * take turns on one core. But not later than the next request after the coarse clock has ticked (4 ms or
 * so), or slow requests would leave them waiting beside an empty half; and always before it sleeps. A
 * producer whose deadline passes tries once more before it gives up.
 *
 * Orderings
 *   ROOM   producer: seq_cst add to `waiting`, then loads the slot's state (seq_cst, in claim/has_room)
 *          worker:   frees the slot (seq_cst, in take/skip), then loads `waiting` (seq_cst)
 *          At least one side sees the other: the producer finds the slot, or the worker finds the producer.
 *   TURN   worker: release add to `turn` -> producer: acquire load of `turn`, before it tries.
 *          A wake between try and sleep changes the futex word, so the sleep does not happen.
 */
#ifndef LANYARD_ROOM_H
#define LANYARD_ROOM_H

#include "seam.h"

typedef struct ly_waiter {
  struct ly_waiter *next;
  lanyard_function function;
  void *argument;
} ly_waiter;

typedef struct ly_room {
  _Atomic uint32_t waiting; /* producers that block + callbacks in the list */
  _Atomic uint32_t turn;
  uint64_t ticked_ns;             /* the worker's own: coarse time of the last wake */
  ly_waiter *first, *last;        /* under the worker's lock */
} ly_room;

#endif
