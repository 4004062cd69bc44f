/* quiesce.c - waits for every end there is: for the ends of tests and of main. */
#include "worker.h"

/* Whether nobody but executors owns it, who let go of it when the tasks that they serve have ended, or
 * nobody at all: its end is near, on this thread or on another. */
static bool is_ending(lanyard_worker *worker) {
  uint64_t strong = ly_load(&worker->strong, relaxed);
  return ly_owners(strong) == ly_executors(strong) + ly_leavers(strong);
}

/* Whether a thread is still to come to its end, other than this one. ending_out: one is about to. */
static bool is_pending(ly_process *process, bool *ending_out, uint32_t *turn_out) {
  const lanyard_worker *self = ly_self();
  bool pending = false;
  *ending_out = false;
  ly_lock(&process->lock);
  size_t calls = process->close_calls_pending;
  *turn_out = ly_load(&process->ended_turn, relaxed); /* the lock orders it */
  for (lanyard_worker *worker = process->live_first; worker != NULL; worker = worker->live_next)
    if (worker != self && is_ending(worker)) pending = true;
  for (lanyard_worker *worker = process->zombies; worker != NULL; worker = worker->zombie_next)
    if (worker != self && ly_load(&worker->phase, relaxed) == LY_FINISHED) *ending_out = true;
  if (self != NULL)
    for (const ly_close_call *call = self->close_calls; call != NULL; call = call->next)
      if (call->worker != NULL) calls--;
  /* Not the reaper itself, which answers them; and not a thread in its destructors, which the reaper may
   * be joining. */
  bool in_destructors = self != NULL && ly_load(&self->phase, relaxed) == LY_FINISHED;
  bool reaper_ends = process->reaper_runs && process->close_calls_pending == 0;
  if (!lanyard__is_reaper(process) && !in_destructors) pending = pending || calls != 0 || reaper_ends;
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
  if (!lanyard__is_reaper(process)) lanyard__join_reaper(process);
  lanyard__alarms_end(process);
  return ly_load(&process->live_count, relaxed);
}
