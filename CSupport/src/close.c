/* close.c - the end: stop acceptance, let the thread finish, join it exactly once.
 *
 * A closer of a worker that an executor keeps waits until the ring is drained, and no longer: the thread
 * lives as long as the executor does, which the closer itself may be holding.
 *
 * Every other one waits for FINISH, which the thread announces as its last act; the one that then wins the
 * compare-and-swap of `join` joins, the others wait for its result. A closer with a deadline only tries to join, again
 * and again, and gives `join` back in between: destructors of thread-specific data may still run.
 */
#include "worker.h"

void lanyard__begin_close(lanyard_worker *worker, lanyard_close_mode mode) {
  if (mode == LANYARD_DISCARD) {
    ly_happens_before(&worker->discards);
    ly_store(&worker->discards, 1u, release); /* DISCARD */
  }
  if (ly_ring_close(&worker->ring) & LY_CLOSED) return;
  ly_store(&worker->close_hint, 1u, relaxed);
  ly_point("closed", worker);
  ly_park_wake(&worker->park); /* PARK */
  lanyard__room_close(worker);
}

void lanyard__append_ended(ly_process *process, ly_close_call *first) {
  ly_assert_held(&process->lock);
  if (first == NULL) return;
  if (process->ended_last != NULL) process->ended_last->next = first;
  else process->ended_first = first;
  while (first->next != NULL) first = first->next;
  process->ended_last = first;
  lanyard__keep_reachable(process);
  ly_add(&process->reaper_turn, 1, release);
}

/* Takes those calls off the worker's list that its own thread makes, or those for the reaper. */
static ly_close_call *take_calls(lanyard_worker *worker, bool for_reaper) {
  ly_assert_held(&worker->process->lock);
  ly_close_call *taken = NULL, **end = &taken;
  for (ly_close_call **at = &worker->close_calls; *at != NULL;) {
    ly_close_call *call = *at;
    if ((call->worker != NULL) == for_reaper) {
      *at = call->next;
      call->next = NULL;
      *end = call;
      end = &call->next;
    } else {
      at = &call->next;
    }
  }
  return taken;
}

/* LY_FINISHED is the thread's last act. Its core outlives it: the bytes are freed only after a join. */
void lanyard__announce(lanyard_worker *worker, uint32_t phase) {
  ly_assert_on_worker(worker);
  ly_process *process = worker->process;
  worker->tid = ly_thread_id();
  ly_lock(&process->lock);
  ly_close_call *own = take_calls(worker, false), *reaped = take_calls(worker, true);
  lanyard__append_ended(process, reaped);
  ly_happens_before(&worker->phase);
  ly_store(&worker->phase, phase, release); /* FINISH */
  ly_add(&process->ended_turn, 1, release);
  ly_unlock(&process->lock);
  if (phase == LY_FINISHED) ly_point("finished", worker);
  ly_futex_wake(&worker->phase, INT_MAX);
  if (reaped != NULL) ly_futex_wake(&process->reaper_turn, 1);
  ly_futex_wake(&process->ended_turn, INT_MAX);
  /* If one forks and returns in the child, the others are the parent's to call. */
  for (ly_close_call *call = own, *next; call != NULL && !ly_is_foreign(worker); call = next) {
    next = call->next;
    call->function(call->argument, LANYARD_OK);
    ly_free(call);
  }
}

/* Whether there is a thread, or ever will be. Called after the ring was closed. */
static bool has_thread(lanyard_worker *worker) {
  ly_lock(&worker->lock);
  bool started = worker->started;
  ly_unlock(&worker->lock);
  return started;
}

/* Drained and kept by an executor. A closer recorded as waiting for such a worker is about to return, so it is
 * no edge of a circle. */
static bool is_drained_and_kept(lanyard_worker *worker) {
  return ly_load(&worker->phase, acquire) == LY_DRAINED && lanyard__has_executors(worker);
}

/* A worker whose thread waits for the end of another, which waits for the end of ..., the first. Only
 * waits for an end and without a deadline are edges, and those last until that end: a circle found is a
 * deadlock for certain. */
static bool enter_wait(lanyard_worker *worker, bool for_ever) {
  lanyard_worker *self = ly_self();
  if (self == NULL) return true;
  ly_lock(&self->process->lock);
  lanyard_worker *at = worker;
  while (at != NULL && at != self) at = is_drained_and_kept(at) ? NULL : at->waits_for_end_of;
  if (at != NULL && is_drained_and_kept(self)) at = NULL;
  if (at == NULL && for_ever) self->waits_for_end_of = worker;
  ly_unlock(&self->process->lock);
  return at == NULL;
}

static void leave_wait(void) {
  lanyard_worker *self = ly_self();
  if (self == NULL) return;
  ly_lock(&self->process->lock);
  self->waits_for_end_of = NULL;
  ly_unlock(&self->process->lock);
}

/* False once the deadline has passed. */
static bool await_word(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns) {
  while (ly_load(word, acquire) == value) /* FINISH, JOINED */
    if (ly_futex_wait(word, value, deadline_ns) == ETIMEDOUT) return ly_load(word, acquire) != value;
  return true;
}

/* OK: the thread has finished. CLOSING: it is drained, and stays for an executor. */
static lanyard_status await_finish(lanyard_worker *worker, uint64_t deadline_ns) {
  for (bool expired = false;;) {
    uint32_t end = ly_load(&worker->phase, acquire); /* FINISH */
    if (end != LY_SERVING) ly_happens_after(&worker->phase);
    if (end == LY_FINISHED) return LANYARD_OK;
    if (end == LY_DRAINED && lanyard__has_executors(worker)) return LANYARD_CLOSING;
    if (expired) return LANYARD_TIMED_OUT;
    expired = ly_futex_wait(&worker->phase, end, deadline_ns) == ETIMEDOUT;
  }
}

/* Everybody who waits on `join` looks again. */
static void set_join(lanyard_worker *worker, uint32_t join) {
  ly_happens_before(&worker->join);
  ly_store(&worker->join, join, release); /* JOINED */
  ly_point(join == LY_JOINED ? "joined" : "not_joined", worker); /* the caller's reference keeps the word */
  ly_futex_wake(&worker->join, INT_MAX);
}

bool lanyard__try_join(lanyard_worker *worker) {
  uint32_t join = LY_UNJOINED;
  if (ly_cas(&worker->join, &join, LY_JOINING, acq_rel, acquire)) {
    bool joined = ly_thread_try_join(worker->thread, worker->tid);
    set_join(worker, joined ? LY_JOINED : LY_UNJOINED);
    return joined;
  }
  ly_happens_after(&worker->join);
  return join == LY_JOINED;
}

/* Waits for a thread that has finished to exit, in naps: nothing announces that, and destructors of thread-specific
 * data may take their time. False once the deadline has passed. */
static bool join_until(lanyard_worker *worker, uint64_t deadline_ns) {
  for (uint64_t pause_ns = 1000; !lanyard__try_join(worker); pause_ns += pause_ns < 1000000 ? pause_ns : 0) {
    if (ly_now_ns() >= deadline_ns) return false;
    ly_sleep_ns(pause_ns);
  }
  return true;
}

static void join(lanyard_worker *worker) {
  for (;;) {
    uint32_t join = LY_UNJOINED;
    if (ly_cas(&worker->join, &join, LY_JOINING, acq_rel, acquire)) {
      ly_point("joining", worker);
      ly_thread_join(worker->thread);
      set_join(worker, LY_JOINED);
      return;
    }
    if (join == LY_JOINED) break;
    await_word(&worker->join, LY_JOINING, LANYARD_FOREVER);
  }
  ly_happens_after(&worker->join);
}

lanyard_status lanyard__await_end(lanyard_worker *worker, uint64_t finish_deadline_ns,
                                  uint64_t exit_deadline_ns) {
  ly_assert_not_on_worker(worker);
  ly_assert(ly_load(&worker->ring.tail, relaxed) & LY_CLOSED);
  if (!has_thread(worker)) {
    if (lanyard__has_executors(worker)) return LANYARD_CLOSING;
    return lanyard__room_await_idle(worker, exit_deadline_ns) ? LANYARD_OK : LANYARD_TIMED_OUT;
  }
  if (!enter_wait(worker, finish_deadline_ns == LANYARD_FOREVER)) return LANYARD_WOULD_DEADLOCK;
  lanyard_status status = await_finish(worker, finish_deadline_ns);
  leave_wait();
  if (status != LANYARD_OK) return status;
  /* Before the join, which is the last look at the worker of the one who joins. */
  if (!lanyard__room_await_idle(worker, exit_deadline_ns)) return LANYARD_TIMED_OUT;
  /* Its destructors may wait for us, too. */
  if (!enter_wait(worker, exit_deadline_ns == LANYARD_FOREVER)) return LANYARD_WOULD_DEADLOCK;
  bool joined = true;
  if (exit_deadline_ns == LANYARD_FOREVER) join(worker);
  else joined = join_until(worker, exit_deadline_ns);
  leave_wait();
  return joined ? LANYARD_OK : LANYARD_TIMED_OUT;
}

lanyard_status lanyard_close_until(lanyard_worker *worker, lanyard_close_mode mode, uint64_t deadline_ns) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (mode != LANYARD_DRAIN && mode != LANYARD_DISCARD) return LANYARD_INVALID;
  lanyard__begin_close(worker, mode);
  if (ly_is_foreign(worker)) return LANYARD_FORKED; /* a when_room callback forked, and this is the child */
  return lanyard__current == worker ? LANYARD_CLOSING : lanyard__await_end(worker, deadline_ns, deadline_ns);
}

lanyard_status lanyard_close(lanyard_worker *worker, lanyard_close_mode mode) {
  return lanyard_close_until(worker, mode, LANYARD_FOREVER);
}
