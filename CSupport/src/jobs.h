/* jobs.h - what runs on the worker's thread besides the requests of the ring: jobs of executors, timers.
 *
 * A job can neither be refused nor wait for room, so jobs have a list of their own that grows: an array
 * under a lock, which the worker takes away whole and gives back empty. So the lock is taken once for many
 * jobs, and nothing is allocated for one as long as the arrays are large enough.
 *
 * Each job notes the ring's tail when it came, and runs when the head has reached it: requests and jobs
 * together run in the order in which one thread handed them over, and neither can starve the other.
 *
 * An executor is an owner of the worker that also keeps the thread (executor.c): as long as there is one the
 * thread stays, also when the ring is closed and drained. Its jobs still run.
 *
 *   serving --ring closed and drained, executors > 0--> drained --executors == 0--> finished
 *         \-------------------------- executors == 0 ------------------------------/
 *
 * A closed worker without executors accepts none, so the decision to end the thread is final.
 *
 * Who owns what: `lock` guards the fields that say so; what the worker has taken is its own. `lock` is a
 * leaf: no other lock is taken, and nothing is called, under it.
 *
 * Orderings
 *   NEWS   whoever changes anything below `lock`: seq_cst add to `changes`, then loads the park word (seq_cst)
 *          worker: stores PARKED (seq_cst), then loads `changes` (seq_cst), sleeps only if it saw that value
 *          before it last looked. As PARK in park.h: at least one side sees the other.
 *   ORDER  a job, then a request of the same thread: the worker that finds the request READY (PUBLISH) and
 *          then loads `changes` finds the job's addition, and takes the job first.
 */
#ifndef LANYARD_JOBS_H
#define LANYARD_JOBS_H

#include "ring.h" /* first: it asks for GNU's names */

#include "lanyard_internal.h"

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
  _Atomic uint32_t changes; /* written under `lock`; read by the worker at every request */

  alignas(LY_LINE) pthread_mutex_t lock;
  ly_job_list pending; /* under `lock` */
  uint64_t enqueued;   /* under `lock`; statistics only */
  ly_timer *timers;    /* under `lock` */
  bool refuses_timers; /* under `lock`: the last ones were told that the worker closes */

  /* The worker's own. */
  alignas(LY_LINE) ly_job_list taken;
  size_t next;       /* the first of `taken` that has not run */
  bool more;         /* `pending` was not empty when it last looked */
  uint32_t seen;     /* `changes` when it last looked */
  uint64_t alarm_ns; /* the first timer's deadline; LANYARD_FOREVER: there is none */
  uint64_t looked_ns;            /* when it last looked at the clock for the timers */
  uint32_t rounds, rounds_limit; /* of the loop since then, and after how many it looks again */
} ly_jobs;

static inline void ly_jobs_init(ly_jobs *jobs) {
  atomic_init(&jobs->changes, 0u);
  jobs->alarm_ns = LANYARD_FOREVER;
  jobs->rounds_limit = 1;
  ly_exempt(&jobs->changes, sizeof jobs->changes);
}

/* The worker: whether something has changed since it last looked. */
static inline bool ly_jobs_have_changed(const ly_jobs *jobs) {
  return ly_load(&((ly_jobs *)(uintptr_t)jobs)->changes, acquire) != jobs->seen; /* ORDER */
}

/* The worker: whether there is none, as far as it knows. */
static inline bool ly_jobs_are_quiet(const ly_jobs *jobs) {
  return jobs->next == jobs->taken.count && !jobs->more && !ly_jobs_have_changed(jobs);
}

/* The worker: whether the next of those that it has taken may run. */
static inline bool ly_jobs_next_is_due(const ly_jobs *jobs, ly_position head) {
  return jobs->next < jobs->taken.count && !ly_before(head, jobs->taken.entries[jobs->next].after);
}

/* Any thread. False: no memory. */
bool lanyard__jobs_push(ly_jobs *jobs, const ly_ring *ring, ly_job job);
uint64_t lanyard__jobs_enqueued(ly_jobs *jobs);

/* The worker. `due` looks at what has come; the next one is then taken.entries[next]. */
bool lanyard__jobs_are_due(ly_jobs *jobs, ly_position head);
bool lanyard__jobs_are_left(ly_jobs *jobs);
void lanyard__jobs_trim(ly_jobs *jobs); /* after a burst */

/* Whoever owns it alone. */
void lanyard__jobs_destroy(ly_jobs *jobs);

#endif
