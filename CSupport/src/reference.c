/* reference.c - who owns a worker, and who only knows it. See worker.h for the two counts. */
#include "worker.h"

#define LY_DRAIN_LIMIT_NS UINT64_C(200000000)

/* A weak handle is the core's address under another name, and one count of `memory`. */
static lanyard_worker *core_of(const lanyard_weak *weak) { return (lanyard_worker *)(uintptr_t)weak; }

lanyard_worker *lanyard__retain(lanyard_worker *worker, uint64_t kind) {
  uint64_t before = ly_add(&worker->strong, kind, relaxed); /* the caller owns one, so it cannot go */
  ly_assert(ly_owners(before) > 0);
  (void)before;
  return worker;
}

lanyard_worker *lanyard_retain(lanyard_worker *worker) {
  return ly_check(worker) == LANYARD_OK ? lanyard__retain(worker, LY_OWNER) : worker;
}

void lanyard__memory_release(lanyard_worker *worker) {
  ly_happens_before(&worker->memory);
  if (ly_sub(&worker->memory, 1, acq_rel) != 1) return; /* OWN */
  ly_happens_after(&worker->memory);
  ly_free(worker);
}

/* How far the drain has come. */
static uint64_t progress(lanyard_worker *worker) {
  return ly_load(&worker->completed, relaxed) + ly_load(&worker->discarded, relaxed);
}

/* Until the deadline, and on for as long again and again while requests end: what hangs is given up, what
 * goes on is not, within limits. */
static lanyard_status await_drain(lanyard_worker *worker, uint64_t deadline_ns) {
  if (deadline_ns == LANYARD_FOREVER) return lanyard__await_end(worker, deadline_ns, deadline_ns);
  uint64_t now = ly_now_ns(), limit_ns = now + LY_DRAIN_LIMIT_NS;
  uint64_t patience_ns = deadline_ns > now ? deadline_ns - now : 0;
  for (;;) {
    uint64_t before = progress(worker);
    lanyard_status status = lanyard__await_end(worker, deadline_ns, LANYARD_FOREVER);
    if (status != LANYARD_TIMED_OUT || patience_ns == 0 || progress(worker) == before) return status;
    now = ly_now_ns();
    if (now >= limit_ns) return status;
    deadline_ns = now + patience_ns;
  }
}

/* The caller's reference is gone. The last one closes. */
void lanyard__give_back(lanyard_worker *worker, uint64_t kind, uint64_t deadline_ns) {
  ly_happens_before(&worker->strong);
  if (ly_sub(&worker->strong, kind, acq_rel) != kind) return; /* OWN */
  ly_happens_after(&worker->strong);
  ly_point("last_release", worker);

  lanyard__reap(worker->process);
  lanyard__begin_close(worker, LANYARD_DRAIN);
  if (ly_is_foreign(worker)) return; /* a when_room callback forked, and this is the child */
  if (lanyard__current != worker && await_drain(worker, deadline_ns) == LANYARD_OK)
    lanyard__destroy(worker);
  else
    lanyard__bury(worker); /* this thread must not wait; somebody else joins and destroys */
}

void lanyard__release_until(lanyard_worker **variable, uint64_t deadline_ns) {
  if (variable == NULL || *variable == NULL) return;
  lanyard_worker *worker = *variable;
  *variable = NULL;
  if (ly_check(worker) == LANYARD_OK) /* else a child's copy: the parent's is the real one */
    lanyard__give_back(worker, LY_OWNER, deadline_ns);
}

void lanyard_release(lanyard_worker **variable) { lanyard__release_until(variable, LANYARD_FOREVER); }

lanyard_weak *lanyard_weak_create(lanyard_worker *worker) {
  if (ly_check(worker) == LANYARD_OK) ly_add(&worker->memory, 1, relaxed); /* the caller's reference keeps it */
  return (lanyard_weak *)worker;
}

lanyard_worker *lanyard_weak_lock(lanyard_weak *weak) {
  lanyard_worker *worker = core_of(weak);
  if (worker == NULL || ly_is_foreign(worker)) return NULL;
  uint64_t strong = ly_load(&worker->strong, relaxed);
  while (strong != 0) {
    ly_point("weak_lock", worker);
    if (ly_cas(&worker->strong, &strong, strong + LY_OWNER, acquire, relaxed)) return worker;
  }
  return NULL;
}

void lanyard_weak_destroy(lanyard_weak *weak) {
  lanyard_worker *worker = core_of(weak);
  if (worker != NULL && !ly_is_foreign(worker)) lanyard__memory_release(worker);
}
