/* room.c - see room.h. */
#include "room.h"

#include "worker.h"

static void wake_producers(ly_room *room) {
  ly_add(&room->turn, 1, release); /* TURN */
  ly_futex_wake(&room->turn, INT_MAX);
}

/* Takes up to `limit` waiters off the list, in order. */
static ly_waiter *take_waiters(lanyard_worker *worker, uint32_t limit) {
  ly_room *room = &worker->room;
  ly_lock(&worker->lock);
  ly_waiter *taken = room->first, **end = &taken;
  uint32_t count = 0;
  for (; *end != NULL && count < limit; count++) end = &(*end)->next;
  room->first = *end;
  if (*end == NULL) room->last = NULL;
  *end = NULL;
  ly_unlock(&worker->lock);
  ly_sub(&room->waiting, count, relaxed); /* too high only costs the worker a look */
  return taken;
}

/* A callback may drop the caller's last reference, so the worker is not looked at in between. If one
 * forks and returns in the child, the others are the parent's to call. */
static void call_waiters(const lanyard_worker *worker, ly_waiter *waiters, lanyard_status outcome) {
  const ly_process *process = worker->process;
  uint64_t generation = worker->generation;
  for (ly_waiter *waiter = waiters, *next; waiter != NULL; waiter = next) {
    ly_waiter called = *waiter;
    next = waiter->next;
    ly_free(waiter);
    if (!ly_process_is_foreign(process, generation)) called.function(called.argument, outcome);
  }
}

/* The worker, or a registrant that found room. At least one is called: the depth that a registrant reads
 * may lag behind the room that it found, and to call one too many is allowed. */
static void call_some(lanyard_worker *worker) {
  uint32_t free = ly_ring_capacity(&worker->ring) - ly_ring_depth(&worker->ring);
  call_waiters(worker, take_waiters(worker, free == 0 ? 1 : free), LANYARD_OK);
}

/* The worker, when somebody waits and slots were freed. */
void lanyard__room_made(lanyard_worker *worker) {
  ly_assert_on_worker(worker);
  ly_room *room = &worker->room;
  uint64_t now = ly_coarse_ns();
  if (now == room->ticked_ns &&
      ly_ring_depth(&worker->ring) > ly_ring_capacity(&worker->ring) / 2)
    return;
  room->ticked_ns = now;
  wake_producers(room);
  call_some(worker);
}

/* The first closer, after it closed the ring. */
void lanyard__room_close(lanyard_worker *worker) {
  ly_assert(ly_load(&worker->ring.tail, relaxed) & LY_CLOSED);
  wake_producers(&worker->room);
  call_waiters(worker, take_waiters(worker, UINT32_MAX), LANYARD_CLOSED);
}

/* Any thread but the worker's. OK or REFUSED as claim; FULL: the deadline passed. */
ly_claim lanyard__room_wait(lanyard_worker *worker, uint64_t deadline_ns, ly_position *position_out) {
  ly_assert_not_on_worker(worker);
  ly_room *room = &worker->room;
  ly_claim claim;
  bool expired = false;
  ly_add(&room->waiting, 1, seq_cst); /* ROOM */
  for (;;) {
    uint32_t turn = ly_load(&room->turn, acquire); /* TURN */
    claim = ly_ring_claim(&worker->ring, position_out);
    if (claim != LY_CLAIM_FULL || expired) break;
    ly_point("room_wait", worker);
    expired = ly_futex_wait(&room->turn, turn, deadline_ns) == ETIMEDOUT;
  }
  ly_sub(&room->waiting, 1, relaxed);
  return claim;
}

lanyard_status lanyard_when_room(lanyard_worker *worker, lanyard_function function, void *argument) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (function == NULL) return LANYARD_INVALID;
  ly_waiter *waiter = ly_calloc("waiter", 1, sizeof *waiter);
  if (waiter == NULL) return LANYARD_NO_MEMORY;
  waiter->function = function;
  waiter->argument = argument;

  ly_room *room = &worker->room;
  ly_lock(&worker->lock);
  /* Under the lock: the first closer empties the list under it after it set the flag, so what is put in
   * before is answered by it, and what comes after is refused here. */
  bool closed = ly_load(&worker->ring.tail, seq_cst) & LY_CLOSED;
  if (!closed) {
    if (room->last != NULL) room->last->next = waiter;
    else room->first = waiter;
    room->last = waiter;
    ly_add(&room->waiting, 1, seq_cst); /* ROOM */
  }
  ly_unlock(&worker->lock);
  if (closed) {
    ly_free(waiter);
    return LANYARD_CLOSED;
  }
  ly_point("when_room", worker);
  if (ly_ring_has_room(&worker->ring)) call_some(worker); /* ROOM */
  return LANYARD_OK;
}
