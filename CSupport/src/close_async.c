/* close_async.c - closes that call back, and the reaper thread that answers them.
 *
 * An asynchronous close must be answered when nobody waits, so a reaper thread does it: started by the first one
 * that is pending, it joins, answers, and ends with the last. One serves them all. lanyard__close_then() needs
 * no reaper: the worker's thread makes the call as its last act, and the caller then joins it.
 *
 * The lists and the reaper's state are under the process's lock; a worker's own `phase` is stored under it
 * too, so "has it ended?" and "put it on the list of those that wait for it" are one step.
 */
#include "worker.h"

/* On the reaper's thread: its process's generation. A child forked by a callback has none. */
static _Thread_local uint64_t reaper_generation;

bool lanyard__is_reaper(const ly_process *process) {
  return reaper_generation != 0 && !ly_process_is_foreign(process, reaper_generation);
}

/* Takes the next close to answer; NULL: the reaper shall end. */
static ly_close_call *await_call(ly_process *process) {
  for (;;) {
    ly_lock(&process->lock);
    ly_close_call *call = process->ended_first;
    uint32_t turn = ly_load(&process->reaper_turn, relaxed); /* the lock orders it */
    bool over = process->close_calls_pending == 0;
    if (call != NULL) {
      process->ended_first = call->next;
      if (call->next == NULL) process->ended_last = NULL;
      lanyard__keep_reachable(process);
    } else if (over) {
      process->reaper_runs = false;
      process->reaper_ended = true;
      ly_add(&process->ended_turn, 1, release);
    }
    ly_unlock(&process->lock);
    if (call != NULL) return call;
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
  for (ly_close_call *call; (call = await_call(process)) != NULL;) {
    /* It has finished, or was drained while an executor kept it: whose jobs are not waited for here. */
    lanyard__await_end(call->worker, 0, LANYARD_FOREVER);
    lanyard__release_until(&call->worker, 0, 0);
    lanyard_function when_closed = call->function;
    void *closed_argument = call->argument;
    ly_free(call);
    when_closed(closed_argument, LANYARD_OK);
    if (ly_process_is_foreign(process, reaper_generation)) return NULL; /* it forked, and this is the child */
    ly_lock(&process->lock);
    process->close_calls_pending--;
    ly_add(&process->ended_turn, 1, release);
    ly_unlock(&process->lock);
    ly_futex_wake(&process->ended_turn, INT_MAX);
  }
  return NULL;
}

/* Joins a reaper that has ended, if there is one. */
void lanyard__join_reaper(ly_process *process) {
  ly_lock(&process->lock);
  bool ended = process->reaper_ended;
  pthread_t thread = process->reaper;
  process->reaper_ended = false;
  ly_unlock(&process->lock);
  if (ended) ly_thread_join(thread);
}

/* Under the lock once for each try, and never longer. */
static lanyard_status try_reserve_reaper(ly_process *process) {
  lanyard__join_reaper(process);
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
  if (status == LANYARD_OK) process->close_calls_pending++;
  ly_unlock(&process->lock);
  if (joins) ly_thread_join(old);
  return status;
}

/* Counts one close in, so that a reaper stays. */
static lanyard_status reserve_reaper(ly_process *process) {
  lanyard_status status;
  unsigned attempt = 0;
  do status = try_reserve_reaper(process);
  while (lanyard__thread_retries(status, &attempt));
  return status;
}
/* Whether the thread has announced all that a closer waits for. */
static bool is_over_for_closers(lanyard_worker *worker) {
  ly_assert_held(&worker->process->lock);
  uint32_t phase = ly_load(&worker->phase, relaxed); /* the lock orders it */
  return phase == LY_FINISHED || (phase == LY_DRAINED && lanyard__has_executors(worker));
}

/* Begins to close, and leaves the call with the thread if that has not come to its end. */
typedef enum ly_left { LY_LEFT, LY_NOT_LEFT, LY_LEFT_IN_A_CHILD } ly_left;
static ly_left begin_and_leave(lanyard_worker *worker, lanyard_close_mode mode, ly_close_call *call) {
  lanyard__begin_close(worker, mode);
  if (ly_is_foreign(worker)) return LY_LEFT_IN_A_CHILD; /* a when_room callback forked, and this is the child */
  ly_lock(&worker->lock);
  bool started = worker->started;
  ly_unlock(&worker->lock);
  ly_lock(&worker->process->lock);
  bool left = started && !is_over_for_closers(worker);
  if (left) {
    call->next = worker->close_calls;
    worker->close_calls = call;
  } else if (call->worker != NULL) {
    lanyard__append_ended(worker->process, call);
  }
  ly_unlock(&worker->process->lock);
  return left ? LY_LEFT : LY_NOT_LEFT;
}

static bool is_mode(lanyard_close_mode mode) { return mode == LANYARD_DRAIN || mode == LANYARD_DISCARD; }

static lanyard_status create_call(lanyard_function function, void *argument, ly_close_call **call_out) {
  *call_out = ly_calloc("closing", 1, sizeof **call_out);
  if (*call_out == NULL) return LANYARD_NO_MEMORY;
  **call_out = (ly_close_call){NULL, NULL, function, argument};
  return LANYARD_OK;
}

lanyard_status lanyard_close_async(lanyard_worker *worker, lanyard_close_mode mode,
                                   lanyard_function when_closed, void *argument) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (when_closed == NULL || !is_mode(mode)) return LANYARD_INVALID;
  ly_process *process = worker->process;
  ly_close_call *call;
  status = create_call(when_closed, argument, &call);
  if (status != LANYARD_OK) return status;
  status = reserve_reaper(process);
  if (status != LANYARD_OK) {
    ly_free(call);
    return status;
  }
  call->worker = lanyard__retain(worker, LY_OWNER);
  if (begin_and_leave(worker, mode, call) == LY_LEFT_IN_A_CHILD) return LANYARD_FORKED;
  ly_futex_wake(&process->reaper_turn, 1);
  return LANYARD_OK;
}

lanyard_status lanyard__close_then(lanyard_worker *worker, lanyard_close_mode mode,
                                   lanyard_function ended, void *argument) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  ly_close_call *call;
  status = create_call(ended, argument, &call);
  if (status != LANYARD_OK) return status;
  switch (begin_and_leave(worker, mode, call)) {
    case LY_LEFT: return LANYARD_OK;
    case LY_LEFT_IN_A_CHILD: return LANYARD_FORKED;
    case LY_NOT_LEFT: break;
  }
  ly_free(call);
  return LANYARD_TOO_LATE;
}
