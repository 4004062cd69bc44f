/* owner.c - who owns a worker, and who only knows it. See worker.h for the two counts.
 *
 * A zombie is a worker whose last reference was dropped where waiting for its end would be for ever: on its own
 * thread, or on a thread that it is itself waiting for. It is put on a list, and the next open, the next last
 * release and quiesce() join and destroy what is over. A detached thread instead would be freed by nobody that
 * a leak checker can see.
 */
#include "worker.h"

/* A weak handle is the core's address under another name, and one count of `memory`. */
static lanyard_worker *core_of(const lanyard_weak *weak) { return (lanyard_worker *)(uintptr_t)weak; }

lanyard_worker *lanyard_retain(lanyard_worker *worker) {
  return ly_check(worker) == LANYARD_OK ? lanyard__retain(worker, LY_OWNER) : worker;
}

/* How far the drain has come. */
static uint64_t progress(lanyard_worker *worker) {
  return ly_load(&worker->completed, relaxed) + ly_load(&worker->discarded, relaxed);
}

/* Waits in rounds as long as the time to the deadline. A round in which no request ended gives up; otherwise
 * another begins, until the limit. */
static lanyard_status await_drain(lanyard_worker *worker, uint64_t deadline_ns, uint64_t limit_ns) {
  if (deadline_ns == LANYARD_FOREVER) return lanyard__await_end(worker, deadline_ns, deadline_ns);
  uint64_t now = ly_now_ns();
  uint64_t patience_ns = deadline_ns > now ? deadline_ns - now : 0;
  for (;;) {
    uint64_t before = progress(worker);
    lanyard_status status = lanyard__await_end(worker, deadline_ns, LANYARD_FOREVER);
    if (status != LANYARD_TIMED_OUT || patience_ns == 0 || progress(worker) == before) return status;
    now = ly_now_ns();
    if (now >= limit_ns) return status;
    deadline_ns = limit_ns - now < patience_ns ? limit_ns : now + patience_ns;
  }
}

static void bury(lanyard_worker *worker) {
  ly_process *process = worker->process;
  ly_lock(&process->lock);
  worker->zombie_next = process->zombies;
  process->zombies = worker;
  lanyard__keep_reachable(process);
  ly_unlock(&process->lock);
}

static bool is_over(lanyard_worker *worker) {
  ly_assert_held(&worker->process->lock);
  if (worker == lanyard__current || ly_load(&worker->room.calling, acquire) != 0) return false;
  if (ly_load(&worker->ring.tail, relaxed) & LY_UNSTARTED) return true; /* it is closed: there never will be a thread */
  if (ly_load(&worker->phase, acquire) != LY_FINISHED) return false; /* FINISH */
  ly_happens_after(&worker->phase);
  return lanyard__try_join(worker);
}

/* Joins and destroys the zombies whose threads are over. Waits for none. */
void lanyard__reap(ly_process *process) {
  lanyard_worker *over = NULL;
  ly_lock(&process->lock);
  for (lanyard_worker **at = &process->zombies; *at != NULL;) {
    lanyard_worker *worker = *at;
    if (is_over(worker)) {
      *at = worker->zombie_next;
      worker->zombie_next = over;
      over = worker;
    } else {
      at = &worker->zombie_next;
    }
  }
  lanyard__keep_reachable(process);
  ly_unlock(&process->lock);
  for (lanyard_worker *worker = over, *next; worker != NULL; worker = next) {
    next = worker->zombie_next;
    lanyard__destroy(worker);
  }
}

void lanyard__give_back(lanyard_worker *worker, uint64_t kind, uint64_t deadline_ns, uint64_t limit_ns) {
  ly_happens_before(&worker->strong);
  if (ly_sub(&worker->strong, kind, acq_rel) != kind) return; /* OWN */
  ly_happens_after(&worker->strong);
  ly_point("last_release", worker);

  lanyard__reap(worker->process);
  lanyard__begin_close(worker, LANYARD_DRAIN);
  if (ly_is_foreign(worker)) return; /* a when_room callback forked, and this is the child */
  if (lanyard__current != worker && await_drain(worker, deadline_ns, limit_ns) == LANYARD_OK)
    lanyard__destroy(worker);
  else
    bury(worker); /* this thread must not wait; somebody else joins and destroys */
}

void lanyard__release_until(lanyard_worker **variable, uint64_t deadline_ns, uint64_t limit_ns) {
  if (variable == NULL || *variable == NULL) return;
  lanyard_worker *worker = *variable;
  *variable = NULL;
  if (ly_check(worker) == LANYARD_OK) /* else a child's copy: the parent's is the real one */
    lanyard__give_back(worker, LY_OWNER, deadline_ns, limit_ns);
}

void lanyard_release(lanyard_worker **variable) {
  lanyard__release_until(variable, LANYARD_FOREVER, LANYARD_FOREVER);
}

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
