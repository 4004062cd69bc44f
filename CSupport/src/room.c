/* room.c - see room.h. */
#include "room.h"

#include "worker.h"

/* ------------------------------------------------------------------------------------- producers */

/* Clears SLEEPERS and counts one wake, or finds that nobody sleeps. */
static void wake_producers(ly_room *room) {
  uint32_t word = ly_load(&room->word, relaxed);
  while (word & LY_SLEEPERS) {
    uint32_t woken = (word & ~(uint32_t)LY_SLEEPERS) + LY_WAKE;
    if (!ly_cas(&room->word, &word, woken, release, relaxed)) continue; /* TURN */
    ly_point("waking", room);
    ly_futex_wake(&room->word, INT_MAX);
    return;
  }
}

ly_claim lanyard__room_wait(lanyard_worker *worker, uint64_t deadline_ns, ly_position *position_out) {
  ly_assert_not_on_worker(worker);
  ly_room *room = &worker->room;
  for (bool expired = false;;) {
    /* First without a word: whoever was woken nearly always finds room, and the worker shall not wake in vain. */
    ly_claim claim = ly_ring_claim(&worker->ring, position_out);
    if (claim != LY_CLAIM_FULL || expired) return claim;
    ly_point("room_full", worker);
    uint32_t word = ly_or(&room->word, (uint32_t)LY_SLEEPERS, seq_cst) | LY_SLEEPERS; /* ROOM, TURN */
    claim = ly_ring_claim(&worker->ring, position_out);
    if (claim != LY_CLAIM_FULL) return claim;
    ly_point("room_wait", worker);
    expired = ly_futex_wait(&room->word, word, deadline_ns) == ETIMEDOUT;
  }
}

/* ------------------------------------------------------------------------------------- callbacks */

static void append(lanyard_worker *worker, ly_waiter *waiter) {
  ly_assert_held(&worker->lock);
  ly_room *room = &worker->room;
  if (room->last != NULL) room->last->next = waiter;
  else room->first = waiter;
  room->last = waiter;
  if (room->caller == NULL) ly_or(&room->word, (uint32_t)LY_CALLBACKS, seq_cst); /* ROOM */
}

/* Unlinks the one behind `previous`; NULL: the first. */
static ly_waiter *unlink_after(lanyard_worker *worker, ly_waiter *previous) {
  ly_assert_held(&worker->lock);
  ly_room *room = &worker->room;
  ly_waiter **at = previous == NULL ? &room->first : &previous->next, *waiter = *at;
  *at = waiter->next;
  if (room->last == waiter) room->last = previous;
  if (room->first == NULL) ly_and(&room->word, ~(uint32_t)LY_CALLBACKS, relaxed);
  return waiter;
}

static bool may_call(lanyard_worker *worker) {
  return ly_load(&worker->ring.tail, acquire) & LY_CLOSED || ly_ring_has_room(&worker->ring); /* ROOM */
}

/* How many are called in one go: as many as there is room for, and one at least, because room was found a moment ago
 * and may have been taken since by a producer: callbacks must not starve beside those. */
static size_t count_callable(lanyard_worker *worker) {
  if (ly_load(&worker->ring.tail, acquire) & LY_CLOSED) return SIZE_MAX;
  uint32_t slots = ly_ring_capacity(&worker->ring) - ly_ring_depth(&worker->ring);
  return slots == 0 ? 1 : slots;
}

/* Under the lock. Calls up to `count` from the front, each outside of it. False, and not under the lock: what was
 * called has freed the worker, or has forked and this is the child, where the others are the parent's to call. */
static bool call_some(lanyard_worker *worker, const ly_caller *caller, size_t count) {
  const ly_process *process = worker->process;
  const uint64_t generation = worker->generation;
  for (; count > 0 && worker->room.first != NULL; count--) {
    ly_waiter *waiter = unlink_after(worker, NULL), called = *waiter;
    bool closed = ly_load(&worker->ring.tail, acquire) & LY_CLOSED;
    ly_unlock(&worker->lock);
    ly_free(waiter);
    ly_point("calling", NULL);
    called.function(called.argument, closed ? LANYARD_CLOSED : LANYARD_OK);
    if (caller->gone || ly_process_is_foreign(process, generation)) return false;
    ly_lock(&worker->lock);
  }
  return true;
}

/* The caller, under the lock. False: it must go on, for there are callbacks, and room for them or a close. The
 * worker itself leaves when it has called as many as there was room for: it looks again before it sleeps. */
static bool leave(lanyard_worker *worker) {
  ly_room *room = &worker->room;
  if (room->first != NULL) {
    ly_or(&room->word, (uint32_t)LY_CALLBACKS, seq_cst); /* ROOM */
    bool looks_again = lanyard__current == worker && !(ly_load(&worker->ring.tail, acquire) & LY_CLOSED);
    if (!looks_again && may_call(worker)) {
      ly_and(&room->word, ~(uint32_t)LY_CALLBACKS, relaxed);
      return false;
    }
  }
  room->caller = NULL;
  ly_happens_before(&room->calling);
  ly_store(&room->calling, 0u, release); /* IDLE */
  ly_futex_wake(&room->calling, INT_MAX); /* under the lock, which whoever frees the worker takes first */
  return true;
}

static void call_as_caller(lanyard_worker *worker) {
  ly_room *room = &worker->room;
  ly_caller caller = {pthread_self(), false};
  room->caller = &caller;
  ly_store(&room->calling, 1u, relaxed); /* the lock orders it */
  ly_and(&room->word, ~(uint32_t)LY_CALLBACKS, relaxed);
  do {
    if (!call_some(worker, &caller, count_callable(worker))) return;
  } while (!leave(worker));
  ly_unlock(&worker->lock);
}

/* Calls those whose turn it is. */
static void call_waiters(lanyard_worker *worker) {
  ly_lock(&worker->lock);
  ly_caller *at_work = worker->room.caller;
  if (at_work == NULL) {
    call_as_caller(worker);
    return;
  }
  if (pthread_equal(at_work->thread, pthread_self()) && /* inside of a call */
      !call_some(worker, at_work, count_callable(worker)))
    return;
  ly_unlock(&worker->lock);
}

void lanyard__room_made(lanyard_worker *worker, bool is_idle) {
  ly_assert_on_worker(worker);
  ly_room *room = &worker->room;
  uint64_t now = ly_coarse_ns();
  if (!is_idle && now == room->ticked_ns &&
      ly_ring_depth(&worker->ring) > ly_ring_capacity(&worker->ring) / 2)
    return;
  room->ticked_ns = now;
  wake_producers(room);
  if (ly_load(&room->word, seq_cst) & LY_CALLBACKS) call_waiters(worker);
}

void lanyard__room_close(lanyard_worker *worker) {
  ly_assert(ly_load(&worker->ring.tail, relaxed) & LY_CLOSED);
  wake_producers(&worker->room);
  call_waiters(worker);
}

bool lanyard__room_await_idle(lanyard_worker *worker, uint64_t deadline_ns) {
  ly_room *room = &worker->room;
  if (ly_load(&room->calling, acquire) == 0) { /* IDLE: nearly always */
    ly_happens_after(&room->calling);
    return true;
  }
  ly_lock(&worker->lock);
  bool is_mine = room->caller != NULL && pthread_equal(room->caller->thread, pthread_self());
  ly_unlock(&worker->lock);
  if (is_mine) return true; /* this is called by what it called */
  while (ly_load(&room->calling, acquire) != 0) /* IDLE */
    if (ly_futex_wait(&room->calling, 1, deadline_ns) == ETIMEDOUT && ly_load(&room->calling, acquire) != 0)
      return false;
  ly_happens_after(&room->calling);
  return true;
}

void lanyard__room_destroy(lanyard_worker *worker) {
  ly_lock(&worker->lock); /* the caller that was waited for has given it back now */
  ly_assert(worker->room.first == NULL);
  if (worker->room.caller != NULL) worker->room.caller->gone = true; /* it is on this thread's stack */
  ly_unlock(&worker->lock);
}

lanyard_status lanyard_when_room(lanyard_worker *worker, lanyard_function function, void *argument) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (function == NULL) return LANYARD_INVALID;
  ly_waiter *waiter = ly_calloc("waiter", 1, sizeof *waiter);
  if (waiter == NULL) return LANYARD_NO_MEMORY;
  *waiter = (ly_waiter){NULL, function, argument};

  ly_lock(&worker->lock);
  /* Under the lock: the first closer empties the list under it after it set the flag, so what is put in
   * before is answered by it, and what comes after is refused here. */
  bool closed = ly_load(&worker->ring.tail, seq_cst) & LY_CLOSED;
  if (!closed) append(worker, waiter);
  ly_unlock(&worker->lock);
  if (closed) {
    ly_free(waiter);
    return LANYARD_CLOSED;
  }
  ly_point("when_room", worker);
  if (ly_ring_has_room(&worker->ring)) call_waiters(worker); /* ROOM */
  return LANYARD_OK;
}

lanyard_status lanyard_cancel_when_room(lanyard_worker *worker, lanyard_function function, void *argument) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (function == NULL) return LANYARD_INVALID;
  ly_lock(&worker->lock);
  ly_waiter *previous = NULL, *found = worker->room.first;
  while (found != NULL && (found->function != function || found->argument != argument)) {
    previous = found;
    found = found->next;
  }
  if (found != NULL) unlink_after(worker, previous);
  ly_unlock(&worker->lock);
  if (found == NULL) return LANYARD_TOO_LATE;
  ly_free(found);
  function(argument, LANYARD_CANCELLED); /* the last thing: it may drop the reference that kept the worker */
  return LANYARD_OK;
}
