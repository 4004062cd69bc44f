/* jobs.c - the list of jobs, and who keeps the thread. See jobs.h. */
#include "worker.h"

/* An array larger than this is freed once it is empty: a burst does not cost memory for ever. */
enum { FIRST_CAPACITY = 16, RETAINED_CAPACITY = 4096 };

static bool grow(ly_job_list *list) {
  size_t capacity = list->capacity == 0 ? FIRST_CAPACITY : list->capacity * 2;
  ly_job *entries = ly_calloc("jobs", capacity, sizeof *entries);
  if (entries == NULL) return false;
  if (list->count > 0) memcpy(entries, list->entries, list->count * sizeof *entries);
  ly_free(list->entries);
  list->entries = entries;
  list->capacity = capacity;
  return true;
}

static bool push(lanyard_worker *worker, ly_job job) {
  ly_jobs *jobs = &worker->jobs;
  ly_lock(&jobs->lock);
  ly_job_list *list = &jobs->pending;
  bool has_room = list->count < list->capacity || grow(list);
  if (has_room) {
    job.after = ly_load(&worker->ring.tail, relaxed) & (ly_position)~LY_FLAGS; /* the lock orders it */
    list->entries[list->count++] = job;
    jobs->enqueued++;
    ly_add(&jobs->news, 1, seq_cst); /* NEWS, ORDER */
  }
  ly_unlock(&jobs->lock);
  return has_room;
}

lanyard_status lanyard__enqueue(lanyard_worker *worker, lanyard__job_function function, void *job,
                                void *executor) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (!push(worker, (ly_job){function, job, executor, 0})) return LANYARD_NO_MEMORY;
  ly_point("enqueued", worker);
  if (LY_UNLIKELY(ly_load(&worker->ring.tail, relaxed) & LY_UNSTARTED))
    while (lanyard__start(worker, true) != LANYARD_OK) ly_sleep_ns(10000000); /* it may not be dropped */
  ly_park_wake(&worker->park); /* NEWS */
  return LANYARD_OK;
}

uint64_t lanyard__enqueued(lanyard_worker *worker) {
  if (ly_check(worker) != LANYARD_OK) return 0;
  ly_lock(&worker->jobs.lock);
  uint64_t enqueued = worker->jobs.enqueued;
  ly_unlock(&worker->jobs.lock);
  return enqueued;
}

/* ----------------------------------------------------------------------------------- the worker's */

/* Takes what is pending if all that was taken has run. */
static void look(ly_jobs *jobs) {
  ly_lock(&jobs->lock);
  if (jobs->next == jobs->taken.count) {
    ly_job_list empty = {jobs->taken.entries, 0, jobs->taken.capacity};
    jobs->taken = jobs->pending;
    jobs->pending = empty;
    jobs->next = 0;
  }
  jobs->more = jobs->pending.count > 0;
  jobs->seen = ly_load(&jobs->news, relaxed); /* the lock orders it */
  jobs->alarm_ns = jobs->timers == NULL ? LANYARD_FOREVER : jobs->timers->deadline_ns;
  ly_unlock(&jobs->lock);
}

/* After a burst. */
static void free_surplus(ly_jobs *jobs) {
  if (jobs->next < jobs->taken.count || jobs->taken.capacity <= RETAINED_CAPACITY) return;
  ly_free(jobs->taken.entries);
  jobs->taken = (ly_job_list){NULL, 0, 0};
  jobs->next = 0;
}

bool lanyard__job_is_due(lanyard_worker *worker) {
  ly_jobs *jobs = &worker->jobs;
  if (ly_jobs_have_news(jobs) || (jobs->next == jobs->taken.count && jobs->more)) look(jobs);
  return jobs->next < jobs->taken.count &&
         !ly_before(ly_load(&worker->ring.head, relaxed), jobs->taken.entries[jobs->next].after);
}

/* Runs what is due of what was taken, and no more: the loop has other things to look at in between. */
bool lanyard__run_jobs(lanyard_worker *worker) {
  ly_jobs *jobs = &worker->jobs;
  ly_position head = ly_load(&worker->ring.head, relaxed);
  if (ly_is_foreign(worker) || !lanyard__job_is_due(worker)) return false;
  do {
    ly_job job = jobs->taken.entries[jobs->next++];
    job.function(job.job, job.executor);
  } while (!ly_is_foreign(worker) && jobs->next < jobs->taken.count &&
           !ly_before(head, jobs->taken.entries[jobs->next].after));
  free_surplus(jobs);
  return true;
}

/* ------------------------------------------------------------------------------------- executors */

bool lanyard__executor_acquire(lanyard_worker *worker) {
  if (ly_check(worker) != LANYARD_OK) return false;
  ly_jobs *jobs = &worker->jobs;
  ly_lock(&jobs->lock);
  /* The worker sees LY_CLOSED before it takes the lock to look for executors, so either it finds this one
   * or this finds LY_CLOSED. */
  bool stays = jobs->executors > 0 || !(ly_load(&worker->ring.tail, acquire) & LY_CLOSED);
  if (stays) jobs->executors++;
  ly_unlock(&jobs->lock);
  if (stays) lanyard__retain(worker, LY_EXECUTOR);
  return stays;
}

void lanyard__executor_release_until(lanyard_worker **variable, uint64_t deadline_ns) {
  if (variable == NULL || *variable == NULL) return;
  lanyard_worker *worker = *variable;
  *variable = NULL;
  if (ly_check(worker) != LANYARD_OK) return;
  ly_jobs *jobs = &worker->jobs;
  ly_lock(&jobs->lock);
  bool was_last = --jobs->executors == 0;
  if (was_last) ly_add(&jobs->news, 1, seq_cst); /* NEWS */
  ly_unlock(&jobs->lock);
  ly_point("executor_released", worker);
  if (was_last) ly_park_wake(&worker->park); /* NEWS */
  lanyard__give_back(worker, LY_EXECUTOR, deadline_ns);
}

void lanyard__executor_release(lanyard_worker **variable) {
  lanyard__executor_release_until(variable, LANYARD_FOREVER);
}

bool lanyard__has_executors(lanyard_worker *worker) {
  ly_lock(&worker->jobs.lock);
  bool has = worker->jobs.executors > 0;
  ly_unlock(&worker->jobs.lock);
  return has;
}

bool lanyard__is_kept(lanyard_worker *worker) {
  ly_jobs *jobs = &worker->jobs;
  ly_lock(&jobs->lock);
  bool kept = jobs->executors > 0 || jobs->pending.count > 0;
  ly_unlock(&jobs->lock);
  return kept || jobs->next < jobs->taken.count;
}
