/* test_alarm.c - alarms: each fires once or is unset, in time, in order; the thread comes and goes with them. */
#include "gates.h"

#include "lanyard_internal.h"
#include "worker.h"

enum { MANY = 2000 };

typedef struct rung {
  _Atomic unsigned count;
  uint64_t due_ns, at_ns;
  lanyard__alarm *alarm;
  sem_t told;
} rung;

static void ring(void *argument) {
  rung *it = argument;
  it->at_ns = lanyard_now_ns();
  atomic_fetch_add(&it->count, 1u);
  sem_post(&it->told);
}

static void set(rung *it, uint64_t due_ns) {
  atomic_init(&it->count, 0u);
  ly_exempt(&it->count, sizeof it->count);
  sem_init(&it->told, 0, 0);
  it->due_ns = due_ns;
  CHECK_EQUAL(lanyard__alarm_set(due_ns, ring, it, &it->alarm), LANYARD_OK);
}

static void await(rung *it) {
  while (sem_wait(&it->told) != 0) continue;
}

TEST(alarm_fires_once_and_not_before_its_time) {
  lanyard_worker *worker = open_worker(4);
  rung it;
  set(&it, after(5 * MILLISECONDS));
  await(&it);
  CHECK(it.at_ns >= it.due_ns);
  CHECK(!lanyard__alarm_unset(it.alarm));
  CHECK_EQUAL(it.count, 1);
  lanyard_release(&worker);
  sem_destroy(&it.told);
}

TEST(alarm_that_is_unset_does_not_fire) {
  lanyard_worker *worker = open_worker(4);
  rung it;
  set(&it, after(3600 * SECONDS));
  CHECK(lanyard__alarm_unset(it.alarm));
  CHECK(lanyard__alarm_unset(NULL));
  lanyard_release(&worker);
  CHECK_EQUAL(it.count, 0);
  sem_destroy(&it.told);
}

/* An earlier one cuts the sleep for a later one short. */
TEST(alarm_that_is_earlier_than_all_others_is_not_late) {
  lanyard_worker *worker = open_worker(4);
  rung late, early;
  set(&late, after(3600 * SECONDS));
  set(&early, after(MILLISECONDS));
  await(&early);
  CHECK(!lanyard__alarm_unset(early.alarm));
  CHECK(lanyard__alarm_unset(late.alarm));
  lanyard_release(&worker);
  sem_destroy(&late.told);
  sem_destroy(&early.told);
}

static _Atomic unsigned fired, order_errors;
static uint64_t last_due_ns;

static void ring_in_order(void *argument) {
  rung *it = argument;
  if (it->due_ns < last_due_ns) atomic_fetch_add(&order_errors, 1u);
  last_due_ns = it->due_ns;
  atomic_fetch_add(&it->count, 1u);
  atomic_fetch_add(&fired, 1u);
}

static bool all_fired(void *wanted) { return atomic_load(&fired) == *(unsigned *)wanted; }

/* Set in any order and unset from any place of the heap. */
TEST(alarms_in_any_number_fire_in_the_order_of_their_times) {
  static rung all[MANY];
  lanyard_worker *worker = open_worker(4);
  ly_exempt(&fired, sizeof fired);
  ly_exempt(&order_errors, sizeof order_errors);
  atomic_store(&fired, 0u);
  atomic_store(&order_errors, 0u);
  last_due_ns = 0;
  unsigned count = tool_is("native") ? MANY : 300, wanted = 0;
  uint64_t begin = after((tool_is_valgrind() ? 2000 : 200) * MILLISECONDS);
  for (unsigned i = 0; i < count; i++) {
    atomic_init(&all[i].count, 0u);
    ly_exempt(&all[i].count, sizeof all[i].count);
    all[i].due_ns = begin + random_number() % (50 * MILLISECONDS);
    CHECK_EQUAL(lanyard__alarm_set(all[i].due_ns, ring_in_order, &all[i], &all[i].alarm), LANYARD_OK);
  }
  for (unsigned i = 0; i < count; i++)
    if (random_number() % 3 == 0) {
      if (lanyard__alarm_unset(all[i].alarm)) all[i].due_ns = 0;
      else wanted++;
      all[i].alarm = NULL;
    } else {
      wanted++;
    }
  CHECK(eventually(all_fired, &wanted));
  for (unsigned i = 0; i < count; i++) {
    CHECK_EQUAL(all[i].count, all[i].due_ns != 0);
    if (all[i].alarm != NULL) CHECK(!lanyard__alarm_unset(all[i].alarm));
  }
  CHECK_EQUAL(order_errors, 0);
  lanyard_release(&worker);
}

/* The call may use what its owner frees when it has unset the alarm. */
TEST(alarm_unset_waits_for_a_call_in_progress) {
  lanyard_worker *worker = open_worker(4);
  for (uint64_t i = scaled(2000); i > 0; i--) {
    rung *it = malloc(sizeof *it);
    if (!CHECK(it != NULL)) return;
    set(it, lanyard_now_ns() + random_number() % 20000);
    if (i % 2 == 0) sched_yield();
    bool unset = lanyard__alarm_unset(it->alarm);
    CHECK_EQUAL(it->count, !unset);
    sem_destroy(&it->told);
    memset((void *)it, 0xff, sizeof *it);
    free(it);
  }
  lanyard_release(&worker);
}

static void unset_it(void *argument) {
  rung *it = argument;
  CHECK(!lanyard__alarm_unset(it->alarm));
  CHECK_EQUAL(it->count, 1);
}

/* The call is held before its first statement: whoever unsets yields and naps until it is over. */
TEST(alarm_unset_returns_after_a_call_that_was_held) {
  test_thread unsetter;
  rung it;
  watch_begin();
  lanyard_worker *worker = open_worker(4);
  gate_arm(0, NULL, "firing");
  set(&it, lanyard_now_ns());
  gate_await(0);
  thread_start(&unsetter, "unsetter", unset_it, &it);
  CHECK(await_turns("unsetter", 50));
  CHECK_EQUAL(it.count, 0);
  gate_open(0);
  thread_join(&unsetter);
  lanyard_release(&worker);
  sem_destroy(&it.told);
  watch_end();
}

static void use_alarms(void *argument) {
  (void)argument;
  for (uint64_t i = scaled(300); i > 0; i--) {
    rung it;
    set(&it, lanyard_now_ns() + random_number() % 100000);
    if (random_number() % 2) await(&it);
    lanyard__alarm_unset(it.alarm);
    sem_destroy(&it.told);
  }
}

/* Workers come and go, and the thread of the alarms with the last of them, while others set alarms. */
TEST(alarms_of_many_threads_while_the_last_worker_comes_and_goes) {
  test_thread threads[3];
  for (int i = 0; i < 3; i++) thread_start(&threads[i], "sets", use_alarms, NULL);
  for (uint64_t i = scaled(300); i > 0; i--) {
    lanyard_worker *worker = open_worker(4);
    lanyard_release(&worker);
  }
  for (int i = 0; i < 3; i++) thread_join(&threads[i]);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
}

static void unset_in_a_child(void *argument) {
  rung *it = argument;
  CHECK(lanyard__alarm_unset(it->alarm));
  if (tool_is("tsan")) return; /* it takes a thread of the child for one of the parent */
  rung own;
  set(&own, lanyard_now_ns());
  await(&own);
  CHECK(!lanyard__alarm_unset(own.alarm));
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
}

TEST(alarm_of_the_parent_does_not_fire_in_a_child_which_has_its_own) {
  lanyard_worker *worker = open_worker(4);
  rung it;
  set(&it, after(3600 * SECONDS));
  checks_hold_in_child(unset_in_a_child, &it, 60000);
  CHECK(lanyard__alarm_unset(it.alarm));
  CHECK_EQUAL(it.count, 0);
  lanyard_release(&worker);
  sem_destroy(&it.told);
}
