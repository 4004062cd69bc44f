/* jobs.h - what runs on the worker's thread besides the requests of the ring: jobs of executors, timers.
 *
 * A job can neither be refused nor wait for room, so jobs have a list of their own that grows: an array
 * under a lock, which the worker takes away whole and gives back empty. So the lock is taken once for many
 * jobs, and nothing is allocated for one as long as the arrays are large enough.
 *
 * Each job notes the ring's tail when it came, and runs when the head has reached it: requests and jobs
 * together run in the order in which one thread handed them over, and neither can starve the other.
 *
 * An executor is an owner of the worker that also keeps the thread: it is counted in `executors`, and as
 * long as there is one the thread stays, also when the ring is closed and drained. Its jobs still run.
 *
 *   serving --ring closed and drained, executors > 0--> drained --executors == 0--> finished
 *         \-------------------------- executors == 0 ------------------------------/
 *
 * Nobody becomes an executor of a closed worker that has none, so the end, once it is near, stays near.
 *
 * Who owns what: `lock` guards the fields that say so; what the worker has taken is its own. `lock` is a
 * leaf: no other lock is taken, and nothing is called, under it.
 *
 * Orderings
 *   NEWS   whoever changes anything below `lock`: seq_cst add to `news`, then loads the park word (seq_cst)
 *          worker: stores PARKED (seq_cst), then loads `news` (seq_cst), sleeps only if it saw that value
 *          before it last looked. As PARK in park.h: at least one side sees the other.
 *   ORDER  a job, then a request of the same thread: the worker that finds the request READY (PUBLISH) and
 *          then loads `news` finds the job's addition, and takes the job first.
 */
#ifndef LANYARD_JOBS_H
#define LANYARD_JOBS_H

#include "lanyard_internal.h"
#include "ring.h"

typedef struct ly_job {
  lanyard__job_function function;
  void *job, *executor;
  ly_position after; /* runs when the head is here */
} ly_job;

typedef struct ly_job_list {
  ly_job *entries;
  size_t count, capacity;
} ly_job_list;

typedef struct ly_timer {
  struct ly_timer *next; /* by deadline */
  uint64_t deadline_ns;
  lanyard__tick tick;
  void *argument;
} ly_timer;

typedef struct ly_jobs {
  _Atomic uint32_t news; /* written under `lock`; read by the worker at every request */

  alignas(LY_LINE) pthread_mutex_t lock;
  ly_job_list pending; /* under `lock` */
  uint64_t executors;  /* under `lock` */
  uint64_t enqueued;   /* under `lock`; statistics only */
  ly_timer *timers;    /* under `lock` */
  bool refuses_timers; /* under `lock`: the last ones were told that the worker closes */

  /* The worker's own. */
  alignas(LY_LINE) ly_job_list taken;
  size_t next;       /* the first of `taken` that has not run */
  bool more;         /* `pending` was not empty when it last looked */
  uint32_t seen;     /* `news` when it last looked */
  uint64_t alarm_ns; /* the first timer's deadline; LANYARD_FOREVER: there is none */
} ly_jobs;

static inline void ly_jobs_init(ly_jobs *jobs) {
  atomic_init(&jobs->news, 0u);
  jobs->alarm_ns = LANYARD_FOREVER;
  ly_exempt(&jobs->news, sizeof jobs->news);
}

/* The worker: whether something has changed since it last looked. */
static inline bool ly_jobs_have_news(const ly_jobs *jobs) {
  return ly_load(&((ly_jobs *)(uintptr_t)jobs)->news, acquire) != jobs->seen; /* ORDER */
}

/* The worker: whether there is none, as far as it knows. */
static inline bool ly_jobs_are_quiet(const ly_jobs *jobs) {
  return jobs->next == jobs->taken.count && !jobs->more && !ly_jobs_have_news(jobs);
}

#endif
