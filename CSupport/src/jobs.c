/* jobs.c - the list of jobs: pushed by any thread, taken by one. It knows no worker and no thread. See jobs.h. */
#include "jobs.h"

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

bool lanyard__jobs_push(ly_jobs *jobs, const ly_ring *ring, ly_job job) {
  ly_lock(&jobs->lock);
  ly_job_list *list = &jobs->pending;
  bool has_room = list->count < list->capacity || grow(list);
  if (has_room) {
    job.after = ly_load(&ring->tail, relaxed) & (ly_position)~LY_FLAGS; /* the lock orders it */
    list->entries[list->count++] = job;
    jobs->enqueued++;
    ly_add(&jobs->changes, 1, seq_cst); /* NEWS, ORDER */
  }
  ly_unlock(&jobs->lock);
  return has_room;
}

uint64_t lanyard__jobs_enqueued(ly_jobs *jobs) {
  ly_lock(&jobs->lock);
  uint64_t enqueued = jobs->enqueued;
  ly_unlock(&jobs->lock);
  return enqueued;
}

/* ---------------------------------------------------------------------------- the worker's thread */

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
  jobs->seen = ly_load(&jobs->changes, relaxed); /* the lock orders it */
  jobs->alarm_ns = jobs->timers == NULL ? LANYARD_FOREVER : jobs->timers->deadline_ns;
  ly_unlock(&jobs->lock);
}

bool lanyard__jobs_are_due(ly_jobs *jobs, ly_position head) {
  if (ly_jobs_have_changed(jobs) || (jobs->next == jobs->taken.count && jobs->more)) look(jobs);
  return ly_jobs_next_is_due(jobs, head);
}

bool lanyard__jobs_are_left(ly_jobs *jobs) {
  ly_lock(&jobs->lock);
  bool left = jobs->pending.count > 0;
  ly_unlock(&jobs->lock);
  return left || jobs->next < jobs->taken.count;
}

void lanyard__jobs_trim(ly_jobs *jobs) {
  if (jobs->next < jobs->taken.count || jobs->taken.capacity <= RETAINED_CAPACITY) return;
  ly_free(jobs->taken.entries);
  jobs->taken = (ly_job_list){NULL, 0, 0};
  jobs->next = 0;
}

void lanyard__jobs_destroy(ly_jobs *jobs) {
  ly_free(jobs->pending.entries);
  ly_free(jobs->taken.entries);
}
