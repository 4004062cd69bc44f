/* alarm.c - functions called at a time of their own, by a thread of the process: for deadlines of requests, whose
 * worker is busy with just the one that is to be stopped.
 *
 * The alarms are a pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986), whose nodes are the alarms themselves: to
 * set one costs one allocation, to unset it nothing is searched. The thread starts with the first alarm, sleeps until
 * the earliest is due, and ends when the last worker of the process is gone, or quiesce() asks, and no alarm is left.
 *
 * Who owns what: everything is under `alarm_lock`, a leaf, but the call itself. An alarm belongs to whoever set it, who
 * unsets it exactly once, fired or not; unset waits for a call in progress, so that what the call uses may go then.
 *
 * Orderings: the lock's alone. `alarm_turn` and `alarm_ends` are futex words, changed under it.
 */
#include "worker.h"

struct lanyard__alarm {
  lanyard__alarm *child, *next, *previous; /* previous: the sibling before, or of the first child its parent */
  uint64_t deadline_ns;
  void (*fire)(void *);
  void *argument;
  ly_process *process;
  uint64_t generation;
  bool is_set;
};

static _Thread_local bool is_alarm_thread;

/* ------------------------------------------------------------------------------------------ the heap */

static lanyard__alarm *meld(lanyard__alarm *a, lanyard__alarm *b) {
  if (a == NULL || b == NULL) return a == NULL ? b : a;
  if (b->deadline_ns < a->deadline_ns) {
    lanyard__alarm *other = a;
    a = b;
    b = other;
  }
  b->next = a->child;
  b->previous = a;
  if (a->child != NULL) a->child->previous = b;
  a->child = b;
  a->next = a->previous = NULL;
  return a;
}

/* Melds siblings in pairs, from the left, and the pairs from the right. */
static lanyard__alarm *meld_siblings(lanyard__alarm *first) {
  lanyard__alarm *pairs = NULL;
  while (first != NULL) {
    lanyard__alarm *a = first, *b = a->next;
    first = b == NULL ? NULL : b->next;
    a->next = a->previous = NULL;
    if (b != NULL) b->next = b->previous = NULL;
    a = meld(a, b);
    a->next = pairs;
    pairs = a;
  }
  lanyard__alarm *all = NULL;
  while (pairs != NULL) {
    lanyard__alarm *a = pairs;
    pairs = a->next;
    a->next = NULL;
    all = meld(all, a);
  }
  return all;
}

static void take_out(ly_process *process, lanyard__alarm *alarm) {
  ly_assert_held(&process->alarm_lock);
  lanyard__alarm *children = meld_siblings(alarm->child);
  alarm->child = NULL;
  alarm->is_set = false;
  if (process->alarms == alarm) {
    process->alarms = children;
    return;
  }
  if (alarm->previous->child == alarm) alarm->previous->child = alarm->next;
  else alarm->previous->next = alarm->next;
  if (alarm->next != NULL) alarm->next->previous = alarm->previous;
  alarm->next = alarm->previous = NULL;
  process->alarms = meld(process->alarms, children);
}

/* ---------------------------------------------------------------------------------------- the thread */

static void change(_Atomic uint32_t *word) {
  ly_add(word, 1, relaxed); /* the lock orders what it tells of */
  ly_futex_wake(word, INT_MAX);
}

/* Under the lock, which is given back for the call. False: it forked, and this is the child. */
static bool fire(ly_process *process, uint64_t generation, lanyard__alarm *alarm) {
  void (*function)(void *) = alarm->fire;
  void *argument = alarm->argument;
  take_out(process, alarm);
  process->alarm_firing = alarm; /* from now on only compared: its owner frees it once this is over */
  ly_unlock(&process->alarm_lock);
  ly_point("firing", NULL);
  function(argument);
  if (ly_process_is_foreign(process, generation)) return false;
  ly_lock(&process->alarm_lock);
  process->alarm_firing = NULL;
  return true;
}

static void *alarm_loop(void *argument) {
  ly_process *process = argument;
  uint64_t generation = ly_load(&process->generation, relaxed); /* GENERATION */
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  lanyard__thread_name("lanyard-timer");
  is_alarm_thread = true;
  ly_lock(&process->alarm_lock);
  while (process->alarms != NULL || !process->alarm_asked_to_end) {
    lanyard__alarm *first = process->alarms;
    if (first != NULL && first->deadline_ns <= ly_now_ns()) {
      if (!fire(process, generation, first)) return NULL;
      continue;
    }
    uint32_t turn = ly_load(&process->alarm_turn, relaxed); /* the lock orders it */
    uint64_t deadline_ns = first == NULL ? LANYARD_FOREVER : first->deadline_ns;
    ly_unlock(&process->alarm_lock);
    ly_futex_wait(&process->alarm_turn, turn, deadline_ns);
    ly_lock(&process->alarm_lock);
  }
  process->alarm_asked_to_end = process->alarm_runs = false;
  process->alarm_ended = true;
  change(&process->alarm_ends);
  ly_unlock(&process->alarm_lock);
  return NULL;
}

/* Under the lock. Asks the system once: nobody waits here. */
static lanyard_status start_thread(ly_process *process) {
  process->alarm_asked_to_end = false;
  change(&process->alarm_ends); /* whoever asked for the end waits no longer */
  if (process->alarm_runs) return LANYARD_OK;
  pthread_t thread;
  lanyard_status status = lanyard__thread_start(&thread, 0, alarm_loop, process);
  if (status != LANYARD_OK) return status;
  if (process->alarm_ended) ly_thread_join(process->alarm_thread); /* it gave the lock back as its last act */
  process->alarm_ended = false;
  process->alarm_runs = true;
  process->alarm_thread = thread;
  return LANYARD_OK;
}

void lanyard__alarms_end(ly_process *process) {
  if (is_alarm_thread) return;
  for (;;) {
    ly_lock(&process->alarm_lock);
    bool ended = process->alarm_ended, runs = process->alarm_runs && process->alarms == NULL;
    pthread_t thread = process->alarm_thread;
    process->alarm_ended = false;
    uint32_t ends = ly_load(&process->alarm_ends, relaxed); /* the lock orders it */
    if (!ended && runs) {
      process->alarm_asked_to_end = true;
      change(&process->alarm_turn);
    }
    ly_unlock(&process->alarm_lock);
    if (ended) ly_thread_join(thread);
    if (ended || !runs) return;
    ly_futex_wait(&process->alarm_ends, ends, LANYARD_FOREVER);
  }
}

/* ------------------------------------------------------------------------------------- set and unset */

lanyard_status lanyard__alarm_set(uint64_t deadline_ns, void (*fires)(void *), void *argument,
                                  lanyard__alarm **alarm_out) {
  *alarm_out = NULL;
  ly_process *process = lanyard__process_get();
  lanyard__alarm *alarm = process == NULL ? NULL : ly_calloc("alarm", 1, sizeof *alarm);
  if (alarm == NULL) return LANYARD_NO_MEMORY;
  *alarm = (lanyard__alarm){.deadline_ns = deadline_ns, .fire = fires, .argument = argument, .process = process,
                            .generation = ly_load(&process->generation, relaxed), .is_set = true};
  ly_lock(&process->alarm_lock);
  lanyard_status status = start_thread(process);
  if (status == LANYARD_OK) {
    process->alarms = meld(process->alarms, alarm);
    if (process->alarms == alarm) change(&process->alarm_turn);
  }
  ly_unlock(&process->alarm_lock);
  if (status == LANYARD_OK) *alarm_out = alarm;
  else ly_free(alarm);
  return status;
}

bool lanyard__alarm_unset(lanyard__alarm *alarm) {
  if (alarm == NULL) return true;
  ly_process *process = alarm->process;
  if (ly_process_is_foreign(process, alarm->generation)) return true; /* the parent's: nothing fires here */
  ly_lock(&process->alarm_lock);
  bool was_set = alarm->is_set;
  if (was_set) take_out(process, alarm);
  for (unsigned turn = 0; process->alarm_firing == alarm && !is_alarm_thread;) {
    ly_unlock(&process->alarm_lock);
    ly_ladder(&turn); /* the call is short */
    ly_lock(&process->alarm_lock);
  }
  ly_unlock(&process->alarm_lock);
  ly_free(alarm);
  return was_set;
}
