/* reaper.c - joining threads that nobody waits for: zombies, and asynchronous closes.
 *
 * A zombie is a worker whose last reference was dropped where waiting for its end would be for ever: on
 * its own thread, or on a thread that it is itself waiting for. It is put on a list, and the next open,
 * the next last release and quiesce() join and destroy what is over. A detached thread instead would be
 * freed by nobody that a leak checker can see.
 *
 * An asynchronous close must be answered without any of these, so a reaper thread does it: started by
 * the first one that is pending, it joins, answers, and ends with the last. One serves them all. Where the
 * one who is told can join by itself, because only the thread's own end is left to wait for, the thread
 * tells it as its last act, and no reaper is needed (lanyard__close_then).
 *
 * Both lists and the reaper's state are under the process's lock; a worker's own `finished` is stored
 * under it too, so "has it ended?" and "put it on the list of those that wait for it" are one step.
 */
#include "worker.h"

/* On the reaper's thread: its process's generation. A child forked by a callback has none. */
static _Thread_local uint64_t reaper_generation;

static bool is_reaper(const ly_process *process) {
  return reaper_generation != 0 && !ly_process_is_foreign(process, reaper_generation);
}

static void append_ended(ly_process *process, ly_closing *first) {
  if (first == NULL) return;
  if (process->ended_last != NULL) process->ended_last->next = first;
  else process->ended_first = first;
  while (first->next != NULL) first = first->next;
  process->ended_last = first;
  ly_add(&process->reaper_turn, 1, release);
}

/* Takes those closings off the worker's list that the thread itself answers, or those for the reaper. */
static ly_closing *take_closings(lanyard_worker *worker, bool for_reaper) {
  ly_closing *taken = NULL, **end = &taken;
  for (ly_closing **at = &worker->closings; *at != NULL;) {
    ly_closing *closing = *at;
    if ((closing->worker != NULL) == for_reaper) {
      *at = closing->next;
      closing->next = NULL;
      *end = closing;
      end = &closing->next;
    } else {
      at = &closing->next;
    }
  }
  return taken;
}

/* LY_FINISHED is the thread's last act. Its core outlives it: the bytes go only after a join. */
void lanyard__announce(lanyard_worker *worker, uint32_t end) {
  ly_process *process = worker->process;
  worker->tid = ly_thread_id();
  ly_lock(&process->lock);
  ly_closing *own = take_closings(worker, false), *closings = take_closings(worker, true);
  append_ended(process, closings);
  ly_happens_before(&worker->finished);
  ly_store(&worker->finished, end, release); /* FINISH */
  ly_add(&process->ended_turn, 1, release);
  ly_unlock(&process->lock);
  if (end == LY_FINISHED) ly_point("finished", worker);
  ly_futex_wake(&worker->finished, INT_MAX);
  if (closings != NULL) ly_futex_wake(&process->reaper_turn, 1);
  ly_futex_wake(&process->ended_turn, INT_MAX);
  /* If one forks and returns in the child, the others are the parent's to call. */
  for (ly_closing *closing = own, *next; closing != NULL && !ly_is_foreign(worker); closing = next) {
    next = closing->next;
    closing->when_closed(closing->argument, LANYARD_OK);
    ly_free(closing);
  }
}

/* ---------------------------------------------------------------------------------------- zombies */

void lanyard__bury(lanyard_worker *worker) {
  ly_process *process = worker->process;
  ly_lock(&process->lock);
  worker->zombie_next = process->zombies;
  process->zombies = worker;
  ly_unlock(&process->lock);
}

static bool is_over(lanyard_worker *worker) {
  return worker != lanyard__current && ly_load(&worker->finished, acquire) == LY_FINISHED /* FINISH */
         && ly_thread_is_gone(worker->tid);
}

/* Joins and destroys the zombies whose threads are over. Waits for none. */
void lanyard__reap(ly_process *process) {
  lanyard_worker *over = NULL;
  ly_lock(&process->lock);
  for (lanyard_worker **at = &process->zombies; *at != NULL;) {
    lanyard_worker *worker = *at;
    ly_happens_after(&worker->finished);
    if (is_over(worker)) {
      *at = worker->zombie_next;
      worker->zombie_next = over;
      over = worker;
    } else {
      at = &worker->zombie_next;
    }
  }
  ly_unlock(&process->lock);
  for (lanyard_worker *worker = over, *next; worker != NULL; worker = next) {
    next = worker->zombie_next;
    lanyard__await_end(worker, LANYARD_FOREVER, LANYARD_FOREVER); /* it has ended: this only joins */
    lanyard__destroy(worker);
  }
}

/* ---------------------------------------------------------------------------- asynchronous closes */

/* Takes the next close to answer; NULL: the reaper shall end. */
static ly_closing *await_closing(ly_process *process) {
  for (;;) {
    ly_lock(&process->lock);
    ly_closing *closing = process->ended_first;
    uint32_t turn = ly_load(&process->reaper_turn, relaxed); /* the lock orders it */
    bool over = process->closings == 0;
    if (closing != NULL) {
      process->ended_first = closing->next;
      if (closing->next == NULL) process->ended_last = NULL;
    } else if (over) {
      process->reaper_runs = false;
      process->reaper_ended = true;
      ly_add(&process->ended_turn, 1, release);
    }
    ly_unlock(&process->lock);
    if (closing != NULL) return closing;
    if (over) {
      ly_futex_wake(&process->ended_turn, INT_MAX);
      return NULL;
    }
    ly_futex_wait(&process->reaper_turn, turn, LANYARD_FOREVER);
  }
}

static void *reaper_loop(void *argument) {
  ly_process *process = argument;
  reaper_generation = ly_load(&process->generation, relaxed);
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  lanyard__thread_name("lanyard-reaper");
  for (ly_closing *closing; (closing = await_closing(process)) != NULL;) {
    /* It has finished, or was drained while an executor kept it: whose jobs are not waited for here. */
    lanyard__await_end(closing->worker, 0, LANYARD_FOREVER);
    lanyard__release_until(&closing->worker, 0);
    lanyard_function when_closed = closing->when_closed;
    void *closed_argument = closing->argument;
    ly_free(closing);
    when_closed(closed_argument, LANYARD_OK);
    if (ly_process_is_foreign(process, reaper_generation)) return NULL; /* it forked, and this is the child */
    ly_lock(&process->lock);
    process->closings--;
    ly_add(&process->ended_turn, 1, release);
    ly_unlock(&process->lock);
    ly_futex_wake(&process->ended_turn, INT_MAX);
  }
  return NULL;
}

/* Joins a reaper that has ended, if there is one. */
static void join_reaper(ly_process *process) {
  ly_lock(&process->lock);
  bool ended = process->reaper_ended;
  pthread_t thread = process->reaper;
  process->reaper_ended = false;
  ly_unlock(&process->lock);
  if (ended) ly_thread_join(thread);
}

/* Counts one close in, so that a reaper stays. */
static lanyard_status reserve_reaper(ly_process *process) {
  join_reaper(process);
  lanyard_status status = LANYARD_OK;
  pthread_t old;
  bool joins = false;
  ly_lock(&process->lock);
  if (!process->reaper_runs) {
    pthread_t thread;
    status = lanyard__thread_start(&thread, 0, reaper_loop, process);
    if (status == LANYARD_OK) {
      joins = process->reaper_ended; /* one that ended since */
      old = process->reaper;
      process->reaper_ended = false;
      process->reaper_runs = true;
      process->reaper = thread;
    }
  }
  if (status == LANYARD_OK) process->closings++;
  ly_unlock(&process->lock);
  if (joins) ly_thread_join(old);
  return status;
}

/* Under the process's lock: whether the thread has announced all that a closer waits for. */
static bool is_over_for_closers(lanyard_worker *worker) {
  uint32_t end = ly_load(&worker->finished, relaxed); /* the lock orders it */
  return end == LY_FINISHED || (end == LY_DRAINED && lanyard__has_executors(worker));
}

lanyard_status lanyard_close_async(lanyard_worker *worker, lanyard_close_mode mode,
                                   lanyard_function when_closed, void *argument) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (when_closed == NULL || (mode != LANYARD_DRAIN && mode != LANYARD_DISCARD)) return LANYARD_INVALID;
  ly_process *process = worker->process;
  ly_closing *closing = ly_calloc("closing", 1, sizeof *closing);
  if (closing == NULL) return LANYARD_NO_MEMORY;
  status = reserve_reaper(process);
  if (status != LANYARD_OK) {
    ly_free(closing);
    return status;
  }
  closing->worker = lanyard__retain(worker, LY_OWNER);
  closing->when_closed = when_closed;
  closing->argument = argument;

  lanyard__begin_close(worker, mode);
  if (ly_is_foreign(worker)) return LANYARD_FORKED; /* a when_room callback forked, and this is the child */
  ly_lock(&worker->lock);
  bool started = worker->started;
  ly_unlock(&worker->lock);
  ly_lock(&process->lock);
  if (started && !is_over_for_closers(worker)) {
    closing->next = worker->closings;
    worker->closings = closing;
  } else {
    append_ended(process, closing);
  }
  ly_unlock(&process->lock);
  ly_futex_wake(&process->reaper_turn, 1);
  return LANYARD_OK;
}

lanyard_status lanyard__close_then(lanyard_worker *worker, lanyard_close_mode mode,
                                   lanyard_function ended, void *argument) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  ly_closing *closing = ly_calloc("closing", 1, sizeof *closing);
  if (closing == NULL) return LANYARD_NO_MEMORY;
  *closing = (ly_closing){NULL, NULL, ended, argument};

  lanyard__begin_close(worker, mode);
  if (ly_is_foreign(worker)) return LANYARD_FORKED; /* a when_room callback forked, and this is the child */
  ly_lock(&worker->lock);
  bool waits = worker->started;
  ly_unlock(&worker->lock);
  ly_process *process = worker->process;
  ly_lock(&process->lock);
  waits = waits && !is_over_for_closers(worker);
  if (waits) {
    closing->next = worker->closings;
    worker->closings = closing;
  }
  ly_unlock(&process->lock);
  if (waits) return LANYARD_OK;
  ly_free(closing);
  return LANYARD_TOO_LATE;
}

/* ---------------------------------------------------------------------------------------- quiesce */

/* Whether nobody but executors owns it, who let go of it when the tasks that they serve have ended, or
 * nobody at all: its end is near, on this thread or on another. */
static bool is_ending(lanyard_worker *worker) {
  uint64_t strong = ly_load(&worker->strong, relaxed);
  return ly_owners(strong) == ly_executors(strong);
}

/* Whether a thread is still to come to its end, other than this one. ending_out: one is about to. */
static bool is_pending(ly_process *process, bool *ending_out, uint32_t *turn_out) {
  const lanyard_worker *self = ly_self();
  bool pending = false;
  *ending_out = false;
  ly_lock(&process->lock);
  size_t closings = process->closings;
  *turn_out = ly_load(&process->ended_turn, relaxed); /* the lock orders it */
  for (lanyard_worker *worker = process->live_first; worker != NULL; worker = worker->live_next)
    if (worker != self && is_ending(worker)) pending = true;
  for (lanyard_worker *worker = process->zombies; worker != NULL; worker = worker->zombie_next)
    if (worker != self && ly_load(&worker->finished, relaxed) == LY_FINISHED) *ending_out = true;
  if (self != NULL)
    for (const ly_closing *closing = self->closings; closing != NULL; closing = closing->next)
      if (closing->worker != NULL) closings--;
  /* Not the reaper itself, which answers them; and not a thread in its destructors, which the reaper may
   * be joining. */
  bool in_destructors = self != NULL && ly_load(&self->finished, relaxed) == LY_FINISHED;
  bool reaper_ends = process->reaper_runs && process->closings == 0;
  if (!is_reaper(process) && !in_destructors) pending = pending || closings != 0 || reaper_ends;
  ly_unlock(&process->lock);
  return pending;
}

static void count_quiescer(ly_process *process, uint32_t change) {
  ly_lock(&process->lock);
  process->quiescers += change;
  ly_unlock(&process->lock);
}

size_t lanyard_quiesce(uint64_t deadline_ns) {
  ly_process *process = lanyard__process_peek();
  if (process == NULL) return 0;
  count_quiescer(process, 1);
  for (;;) {
    bool ending;
    uint32_t turn;
    lanyard__reap(process);
    if (!is_pending(process, &ending, &turn) || ly_now_ns() >= deadline_ns) break;
    /* A thread that has finished but is not gone yet says nothing more. */
    if (ending) ly_sleep_ns(20000);
    else ly_futex_wait(&process->ended_turn, turn, deadline_ns);
  }
  count_quiescer(process, (uint32_t)-1);
  if (!is_reaper(process)) join_reaper(process);
  return ly_load(&process->live_count, relaxed);
}
