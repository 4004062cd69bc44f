/* close.c - the end: stop acceptance, let the thread finish, join it exactly once.
 *
 * A closer of a worker that an executor keeps waits until the ring is drained, and no longer: the thread
 * lives as long as the executor does, which the closer itself may be holding.
 *
 * Every other one waits for FINISH, which the thread announces as its last act; the one that then wins the
 * compare-and-swap of `join` joins, the others wait for its result. A closer with a deadline does not
 * join before the kernel has let go of the thread, because pthread_join has no deadline that every tool
 * understands, and destructors of thread-specific data may still run.
 */
#include "worker.h"

void lanyard__begin_close(lanyard_worker *worker, lanyard_close_mode mode) {
  if (mode == LANYARD_DISCARD) {
    ly_happens_before(&worker->discards);
    ly_store(&worker->discards, 1u, release); /* DISCARD */
  }
  if (ly_ring_close(&worker->ring) & LY_CLOSED) return;
  ly_store(&worker->closing, 1u, relaxed);
  ly_point("closed", worker);
  ly_park_wake(&worker->park); /* PARK */
  lanyard__room_close(worker);
}

/* Whether there is a thread, or ever will be. Called after the ring was closed. */
static bool has_thread(lanyard_worker *worker) {
  ly_lock(&worker->lock);
  bool started = worker->started;
  ly_unlock(&worker->lock);
  return started;
}

/* Closers of such a worker wait no longer, even where they have not noticed yet. */
static bool is_drained_and_kept(lanyard_worker *worker) {
  return ly_load(&worker->finished, acquire) == LY_DRAINED && lanyard__has_executors(worker);
}

/* A worker whose thread waits for the end of another, which waits for the end of ..., the first. Only
 * waits for an end and without a deadline are edges, and those last until that end: a circle found is a
 * deadlock for certain. */
static bool enter_wait(lanyard_worker *worker, bool for_ever) {
  lanyard_worker *self = ly_self();
  if (self == NULL) return true;
  ly_lock(&self->process->lock);
  lanyard_worker *at = worker;
  while (at != NULL && at != self) at = is_drained_and_kept(at) ? NULL : at->joins;
  if (at != NULL && is_drained_and_kept(self)) at = NULL;
  if (at == NULL && for_ever) self->joins = worker;
  ly_unlock(&self->process->lock);
  return at == NULL;
}

static void leave_wait(void) {
  lanyard_worker *self = ly_self();
  if (self == NULL) return;
  ly_lock(&self->process->lock);
  self->joins = NULL;
  ly_unlock(&self->process->lock);
}

/* False once the deadline has passed. */
static bool await_word(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns) {
  while (ly_load(word, acquire) == value) /* FINISH, JOINED */
    if (ly_futex_wait(word, value, deadline_ns) == ETIMEDOUT) return ly_load(word, acquire) != value;
  return true;
}

/* False once the deadline has passed and the kernel still knows the thread. */
static bool await_exit(pid_t tid, uint64_t deadline_ns) {
  for (uint64_t pause_ns = 1000; !ly_thread_is_gone(tid); pause_ns += pause_ns < 1000000 ? pause_ns : 0) {
    if (ly_now_ns() >= deadline_ns) return false;
    ly_sleep_ns(pause_ns);
  }
  return true;
}

/* OK: the thread has finished. CLOSING: it is drained, and stays for an executor. */
static lanyard_status await_finish(lanyard_worker *worker, uint64_t deadline_ns) {
  for (bool expired = false;;) {
    uint32_t end = ly_load(&worker->finished, acquire); /* FINISH */
    if (end != LY_SERVING) ly_happens_after(&worker->finished);
    if (end == LY_FINISHED) return LANYARD_OK;
    if (end == LY_DRAINED && lanyard__has_executors(worker)) return LANYARD_CLOSING;
    if (expired) return LANYARD_TIMED_OUT;
    expired = ly_futex_wait(&worker->finished, end, deadline_ns) == ETIMEDOUT;
  }
}

static lanyard_status join(lanyard_worker *worker, uint64_t deadline_ns) {
  uint32_t unjoined = LY_UNJOINED;
  if (ly_load(&worker->join, acquire) == LY_UNJOINED) {
    if (deadline_ns != LANYARD_FOREVER && !await_exit(worker->tid, deadline_ns)) return LANYARD_TIMED_OUT;
    if (ly_cas(&worker->join, &unjoined, LY_JOINING, acq_rel, acquire)) {
      ly_point("joining", worker);
      ly_thread_join(worker->thread);
      ly_happens_before(&worker->join);
      ly_store(&worker->join, LY_JOINED, release); /* JOINED */
      ly_point("joined", worker); /* others return now; the reference of this call keeps the word */
      ly_futex_wake(&worker->join, INT_MAX);
      return LANYARD_OK;
    }
  }
  if (!await_word(&worker->join, LY_JOINING, deadline_ns)) return LANYARD_TIMED_OUT;
  ly_happens_after(&worker->join);
  return LANYARD_OK;
}

/* Any thread but the worker's own, after the ring was closed. The first deadline is for the thread's last
 * word, the second one for the rest, which is short unless somebody's destructors take their time. */
lanyard_status lanyard__await_end(lanyard_worker *worker, uint64_t deadline_ns, uint64_t exit_deadline_ns) {
  if (!has_thread(worker)) return lanyard__has_executors(worker) ? LANYARD_CLOSING : LANYARD_OK;
  if (!enter_wait(worker, deadline_ns == LANYARD_FOREVER)) return LANYARD_WOULD_DEADLOCK;
  lanyard_status status = await_finish(worker, deadline_ns);
  leave_wait();
  if (status != LANYARD_OK) return status;
  /* Its destructors may wait for us, too. */
  if (!enter_wait(worker, exit_deadline_ns == LANYARD_FOREVER)) return LANYARD_WOULD_DEADLOCK;
  status = join(worker, exit_deadline_ns);
  leave_wait();
  return status;
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
