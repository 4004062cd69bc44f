/* executor.c - executors: owners of a worker for whom its thread stays. See jobs.h for what they hand over.
 *
 * They are counted in the upper half of `strong`, and the worker's `jobs.lock` decides who becomes one: the worker
 * sees LY_CLOSED before it takes the lock to look for executors, so either it finds a new one, or the new one
 * finds LY_CLOSED. A closed worker without executors accepts none, so the decision to end the thread is final.
 */
#include "worker.h"

bool lanyard__executor_acquire(lanyard_worker *worker) {
  if (ly_check(worker) != LANYARD_OK) return false;
  ly_lock(&worker->jobs.lock);
  bool stays = ly_executors(ly_load(&worker->strong, relaxed)) > 0 ||
               !(ly_load(&worker->ring.tail, acquire) & LY_CLOSED);
  if (stays) lanyard__retain(worker, LY_EXECUTOR);
  ly_unlock(&worker->jobs.lock);
  return stays;
}

void lanyard__executor_release_until(lanyard_worker **variable, uint64_t deadline_ns, uint64_t limit_ns) {
  if (variable == NULL || *variable == NULL) return;
  lanyard_worker *worker = *variable;
  *variable = NULL;
  if (ly_check(worker) != LANYARD_OK) return;
  /* From an executor to one who leaves: it keeps the worker, for the wake-up, and no longer the thread. */
  ly_lock(&worker->jobs.lock);
  bool was_last = ly_executors(ly_add(&worker->strong, LY_LEAVER - LY_EXECUTOR, relaxed)) == 1;
  if (was_last) ly_add(&worker->jobs.changes, 1, seq_cst); /* NEWS */
  ly_unlock(&worker->jobs.lock);
  ly_point("executor_released", worker);
  if (was_last) ly_park_wake(&worker->park); /* NEWS */
  lanyard__give_back(worker, LY_LEAVER, deadline_ns, limit_ns);
}

void lanyard__executor_release(lanyard_worker **variable) {
  lanyard__executor_release_until(variable, LANYARD_FOREVER, LANYARD_FOREVER);
}

lanyard_status lanyard__enqueue(lanyard_worker *worker, lanyard__job_function function, void *job,
                                void *executor) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (!lanyard__jobs_push(&worker->jobs, &worker->ring, (ly_job){function, job, executor, 0}))
    return LANYARD_NO_MEMORY;
  ly_point("enqueued", worker);
  if (LY_UNLIKELY(ly_load(&worker->ring.tail, relaxed) & LY_UNSTARTED)) {
    /* A job may not be dropped: what may pass is waited for, and what cannot is said. */
    while ((status = lanyard__start(worker, LY_FOR_A_JOB)) != LANYARD_OK) {
      int error = lanyard__thread_error();
      if (error != EAGAIN && error != ENOMEM) return status;
      ly_sleep_ns(10000000);
    }
  }
  ly_park_wake(&worker->park); /* NEWS */
  return LANYARD_OK;
}

uint64_t lanyard__enqueued(lanyard_worker *worker) {
  return ly_check(worker) == LANYARD_OK ? lanyard__jobs_enqueued(&worker->jobs) : 0;
}
