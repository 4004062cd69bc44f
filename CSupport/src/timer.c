/* timer.c - functions that the worker calls at a time of their own: a sorted list under the jobs' lock.
 *
 * A worker has few of them, so the list is searched from the front. The worker's sleep ends at the first
 * one's deadline. A timer keeps nobody alive: when the worker closes it is told so, once, and is gone.
 */
#include "worker.h"

/* False: the worker takes no more. */
static bool insert(ly_jobs *jobs, ly_timer *timer) {
  ly_lock(&jobs->lock);
  bool taken = !jobs->refuses_timers;
  if (taken) {
    ly_timer **at = &jobs->timers;
    while (*at != NULL && (*at)->deadline_ns <= timer->deadline_ns) at = &(*at)->next;
    timer->next = *at;
    *at = timer;
    ly_add(&jobs->changes, 1, seq_cst); /* NEWS: the sleep may have to be shorter */
  }
  ly_unlock(&jobs->lock);
  return taken;
}

lanyard_status lanyard__set_timer(lanyard_worker *worker, uint64_t deadline_ns, lanyard__tick tick,
                                  void *argument) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (lanyard_is_closed(worker)) return LANYARD_CLOSED;
  if (ly_load(&worker->ring.tail, relaxed) & LY_UNSTARTED) {
    status = lanyard__start(worker, LY_NEVER_BLOCKS);
    if (status != LANYARD_OK) return status;
  }
  ly_timer *timer = ly_calloc("timer", 1, sizeof *timer);
  if (timer == NULL) return LANYARD_NO_MEMORY;
  *timer = (ly_timer){NULL, deadline_ns, tick, argument};
  if (!insert(&worker->jobs, timer)) {
    ly_free(timer);
    return LANYARD_CLOSED;
  }
  ly_point("timer_set", worker);
  ly_park_wake(&worker->park); /* NEWS */
  return LANYARD_OK;
}

/* Takes those off the list whose time has come. */
static ly_timer *take_due(ly_jobs *jobs, uint64_t now) {
  ly_lock(&jobs->lock);
  ly_timer *due = jobs->timers, **end = &due;
  while (*end != NULL && (*end)->deadline_ns <= now) end = &(*end)->next;
  jobs->timers = *end;
  *end = NULL;
  jobs->alarm_ns = jobs->timers == NULL ? LANYARD_FOREVER : jobs->timers->deadline_ns;
  ly_unlock(&jobs->lock);
  return due;
}

/* Timers set by a tick run in the next round, even when already due: a tick cannot keep this loop busy for ever. */
/* Reading the clock costs as much as a short request. A worker that goes from request to request looks after so many
 * of them as take LOOK_NS together, by the time that those before took, and after ROUNDS_MAX at the latest: where
 * requests suddenly become long, a timer may be late by so many of them, once. */
enum { LOOK_NS = 4000, ROUNDS_MAX = 32 };

static bool look_at_clock(ly_jobs *jobs, bool was_idle, uint64_t *now_out) {
  if (!was_idle && ++jobs->rounds < jobs->rounds_limit) return false;
  uint64_t now = *now_out = ly_now_ns();
  if (was_idle || now - jobs->looked_ns > LOOK_NS) jobs->rounds_limit = 1;
  else if (jobs->rounds_limit < ROUNDS_MAX) jobs->rounds_limit *= 2;
  jobs->looked_ns = now;
  jobs->rounds = 0;
  return true;
}

void lanyard__run_timers(lanyard_worker *worker, bool was_idle) {
  ly_assert_on_worker(worker);
  ly_jobs *jobs = &worker->jobs;
  if (LY_LIKELY(jobs->alarm_ns == LANYARD_FOREVER) || ly_is_foreign(worker)) return;
  uint64_t now;
  if (!look_at_clock(jobs, was_idle, &now) || now < jobs->alarm_ns) return;
  if (lanyard_is_closed(worker)) {
    lanyard__drop_timers(worker);
    return;
  }
  for (ly_timer *timer = take_due(jobs, now), *next; timer != NULL; timer = next) {
    next = timer->next;
    uint64_t next_ns = timer->tick(timer->argument, LANYARD_OK);
    if (ly_is_foreign(worker)) return; /* it forked, and this is the child */
    timer->deadline_ns = next_ns;
    bool inserted = next_ns != 0 && insert(jobs, timer);
    ly_assert(inserted == (next_ns != 0)); /* they are dropped by this thread alone, and not in a round */
    if (!inserted) ly_free(timer);
  }
}

void lanyard__drop_timers(lanyard_worker *worker) {
  ly_assert_on_worker(worker);
  ly_jobs *jobs = &worker->jobs;
  ly_lock(&jobs->lock);
  ly_timer *dropped = jobs->timers;
  jobs->timers = NULL;
  jobs->refuses_timers = true;
  jobs->alarm_ns = LANYARD_FOREVER;
  ly_unlock(&jobs->lock);
  for (ly_timer *timer = dropped, *next; timer != NULL && !ly_is_foreign(worker); timer = next) {
    next = timer->next;
    timer->tick(timer->argument, LANYARD_CLOSED);
    ly_free(timer);
  }
}
