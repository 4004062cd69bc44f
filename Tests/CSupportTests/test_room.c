/* test_room.c - waiting for room in a full ring: nobody spins for it, callbacks keep their order, withdrawals. */
#include "gates.h"

#include <errno.h>
#include <time.h>

#include "worker.h"

static void nothing(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

static void submit(lanyard_worker *worker, lanyard_function function, void *argument) {
  CHECK_EQUAL(lanyard_try_submit(worker, function, argument, NULL), LANYARD_OK);
}

/* A worker that stands in a request, with a full ring behind it. */
typedef struct scene {
  lanyard_worker *worker;
  test_latch latch;
} scene;

static void open_full(scene *at, uint32_t capacity) {
  latch_init(&at->latch);
  at->worker = open_worker(capacity);
  submit(at->worker, latch_request, &at->latch);
  latch_await(&at->latch);
  for (uint32_t i = 0; i < capacity; i++) submit(at->worker, nothing, NULL);
}

static void close_scene(scene *at) {
  lanyard_release(&at->worker);
  latch_destroy(&at->latch);
}

static void submit_and_wait(void *worker) {
  CHECK_EQUAL(lanyard_submit(worker, nothing, NULL, NULL), LANYARD_OK);
}

/* ----------------------------------------------------------------------------- nobody is waited for */

/* The producer has said that it waits and is not scheduled any more: the worker runs out of work, and sleeps. */
TEST(room_an_idle_worker_waits_for_no_producer_that_is_not_scheduled) {
  scene at;
  test_thread producer;
  watch_begin();
  open_full(&at, 2);
  gate_arm(0, "producer", "room_wait");
  thread_start(&producer, "producer", submit_and_wait, at.worker);
  gate_await(0);
  latch_open(&at.latch);
  CHECK(await_endless_sleepers(&at.worker->park.word, 1));
  gate_open(0);
  thread_join(&producer);
  close_scene(&at);
  watch_end();
}

/* All room is made between its look and its word that it waits: nobody will wake it, so it must look again. */
TEST(room_that_was_made_before_a_producer_says_that_it_waits_is_found) {
  scene at;
  test_thread producer;
  watch_begin();
  open_full(&at, 2);
  gate_arm(0, "producer", "room_full");
  thread_start(&producer, "producer", submit_and_wait, at.worker);
  gate_await(0);
  latch_open(&at.latch);
  CHECK(await_endless_sleepers(&at.worker->park.word, 1));
  gate_open(0);
  thread_join(&producer);
  close_scene(&at);
  watch_end();
}

static bool become_real_time(int priority) {
  struct sched_param parameters = {.sched_priority = priority};
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(0, &cpus);
  return sched_setaffinity(0, sizeof cpus, &cpus) == 0 && sched_setscheduler(0, SCHED_FIFO, &parameters) == 0;
}

static _Atomic int real_time; /* 1: both could, -1: one could not */

static void start_at_high_priority(void *context) {
  (void)context;
  if (!become_real_time(20)) atomic_store(&real_time, -1);
}

static void submit_at_low_priority(void *worker) {
  if (!become_real_time(10)) atomic_store(&real_time, -1);
  submit_and_wait(worker);
}

/* A real-time worker above a producer, on one processor: a worker that yields until the producer has come in
 * never lets it. */
TEST(room_a_real_time_worker_lets_a_producer_of_lower_priority_in) {
  if (!tool_is("native")) { /* a tool's own threads and locks would have to be real-time as well */
    printf("     left out: real-time priorities under a tool\n");
    return;
  }
  atomic_store(&real_time, 1);
  test_latch latch;
  latch_init(&latch);
  lanyard_options options;
  lanyard_options_init(&options);
  options.capacity = 2;
  options.on_start = start_at_high_priority;
  lanyard_worker *worker = NULL;
  if (!CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_OK)) return;
  submit(worker, latch_request, &latch);
  latch_await(&latch);
  submit(worker, nothing, NULL);
  submit(worker, nothing, NULL);
  test_thread producer;
  thread_start(&producer, "producer", submit_at_low_priority, worker);
  struct timespec moment = {0, 50 * 1000000};
  nanosleep(&moment, NULL); /* so that it sleeps; where it does not yet, nothing is shown and nothing fails */
  latch_open(&latch);
  thread_join(&producer);
  if (atomic_load(&real_time) < 0)
    printf("     left out: real-time priorities are not permitted; the gates above force the same\n");
  lanyard_release(&worker);
  latch_destroy(&latch);
}

/* Woken in vain: others were faster. Each sleep is announced again. */
TEST(room_many_producers_in_a_ring_of_two_all_come_in) {
  enum { PRODUCERS = 6 };
  lanyard_worker *worker = open_worker(2);
  for (uint64_t round = scaled(400); round > 0; round--) {
    test_thread threads[PRODUCERS];
    for (int i = 0; i < PRODUCERS; i++) thread_start(&threads[i], "producer", submit_and_wait, worker);
    for (int i = 0; i < PRODUCERS; i++) thread_join(&threads[i]);
  }
  lanyard_release(&worker);
}

/* ---------------------------------------------------------------------------------------- callbacks */

/* A worker that sleeps, so that it is not the one who calls. Between watch_begin() and watch_end(). */
static lanyard_worker *open_asleep(void) {
  lanyard_worker *worker = open_worker(2);
  CHECK(await_endless_sleepers(&worker->park.word, 1));
  return worker;
}

enum { CALLS_MAX = 64 };

/* Who was called, in which order, with what. */
typedef struct record {
  _Atomic unsigned count;
  int who[CALLS_MAX];
  lanyard_status outcome[CALLS_MAX];
} record;

typedef struct callback {
  record *all;
  int number;
  lanyard_worker *worker;
  sem_t *waits_for; /* NULL: returns at once */
} callback;

static void note(void *argument, lanyard_status outcome) {
  callback *it = argument;
  unsigned at = atomic_fetch_add(&it->all->count, 1);
  if (!CHECK(at < CALLS_MAX)) return;
  it->all->who[at] = it->number;
  it->all->outcome[at] = outcome;
  if (it->waits_for != NULL)
    while (sem_wait(it->waits_for) != 0) continue;
}

static void check_order(const record *all, unsigned count) {
  CHECK_EQUAL(all->count, count);
  for (unsigned i = 0; i < count && i < CALLS_MAX; i++) CHECK_EQUAL(all->who[i], i);
}

static void ask_for_room(void *argument) {
  callback *it = argument;
  CHECK_EQUAL(lanyard_when_room(it->worker, note, it), LANYARD_OK);
}

/* The first has been taken off the list and not called yet. The second must not be called before it, by nobody. */
TEST(room_callbacks_keep_their_order_while_the_first_is_about_to_be_called) {
  record all = {0};
  watch_begin();
  lanyard_worker *worker = open_asleep();
  callback first = {&all, 0, worker, NULL}, second = {&all, 1, worker, NULL};
  test_thread thread;
  gate_arm(0, "first", "calling");
  thread_start(&thread, "first", ask_for_room, &first);
  gate_await(0);
  ask_for_room(&second);
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK); /* the worker does not call it either */
  CHECK_EQUAL(all.count, 0);
  gate_open(0);
  thread_join(&thread);
  check_order(&all, 2);
  lanyard_release(&worker);
  watch_end();
}

/* The worker sleeps while another thread looks after the callbacks. */
TEST(room_an_idle_worker_leaves_callbacks_to_the_one_who_calls_them) {
  record all = {0};
  watch_begin();
  lanyard_worker *worker = open_asleep();
  sem_t go;
  sem_init(&go, 0, 0);
  callback first = {&all, 0, worker, &go}, second = {&all, 1, worker, NULL};
  test_thread thread;
  gate_arm(0, "first", "calling");
  thread_start(&thread, "first", ask_for_room, &first);
  gate_await(0);
  ask_for_room(&second);
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  CHECK(await_endless_sleepers(&worker->park.word, 1));
  gate_open(0);
  sem_post(&go);
  thread_join(&thread);
  check_order(&all, 2);
  lanyard_release(&worker);
  sem_destroy(&go);
  watch_end();
}

/* What is registered while the caller is about to leave is its own affair or the registrant's, never nobody's. */
static void race_registrants(void) {
  enum { THREADS = 4 };
  record all = {0};
  lanyard_worker *worker = open_worker(2);
  callback asked[THREADS];
  test_thread threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    asked[i] = (callback){&all, i, worker, NULL};
    thread_start(&threads[i], "asks", ask_for_room, &asked[i]);
  }
  for (int i = 0; i < THREADS; i++) submit_and_wait(worker);
  for (int i = 0; i < THREADS; i++) thread_join(&threads[i]);
  while (atomic_load(&all.count) < THREADS) sched_yield(); /* the limit of the test ends it */
  lanyard_release(&worker);
}

TEST(room_callbacks_of_many_threads_are_each_called_once) {
  for (uint64_t i = scaled(500); i > 0; i--) race_registrants();
}

TEST(room_callbacks_of_many_threads_with_pauses_in_odd_places) {
  chaos_begin();
  for (uint64_t i = scaled(100); i > 0; i--) race_registrants();
}

static void close_and_note(void *argument) {
  callback *it = argument;
  CHECK_EQUAL(lanyard_close(it->worker, LANYARD_DRAIN), LANYARD_OK);
  atomic_fetch_add(&it->all->count, 100);
}

/* The closer finds another thread in the midst of a call: that one tells the rest, in order, and a close that waits
 * waits for it. */
TEST(room_a_close_leaves_the_rest_to_the_caller_and_waits_for_it) {
  record all = {0};
  watch_begin();
  lanyard_worker *worker = open_asleep();
  callback first = {&all, 0, worker, NULL}, second = {&all, 1, worker, NULL}, closes = {&all, 0, worker, NULL};
  test_thread thread, closer;
  gate_arm(0, "first", "calling");
  thread_start(&thread, "first", ask_for_room, &first);
  gate_await(0);
  ask_for_room(&second);
  thread_start(&closer, "closer", close_and_note, &closes);
  CHECK(await_sleepers(&worker->room.calling, 1));
  CHECK_EQUAL(all.count, 0);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  gate_open(0);
  thread_join(&closer);
  thread_join(&thread);
  CHECK_EQUAL(all.count, 102);
  CHECK_EQUAL(all.who[0], 0);
  CHECK_EQUAL(all.outcome[1], LANYARD_CLOSED);
  lanyard_release(&worker);
  watch_end();
}

typedef struct dropper {
  record *all;
  lanyard_worker *worker;
} dropper;

static void drop_worker(void *argument, lanyard_status outcome) {
  dropper *it = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  lanyard_release(&it->worker);
}

static void ask_with_the_last_reference(void *argument) {
  dropper *it = argument;
  CHECK_EQUAL(lanyard_when_room(it->worker, drop_worker, it), LANYARD_OK);
}

/* The callback frees the worker under the thread that calls it, with another callback in the list. */
TEST(room_a_callback_that_drops_the_last_reference_ends_the_worker) {
  record all = {0};
  watch_begin();
  dropper it = {&all, open_asleep()};
  callback second = {&all, 0, it.worker, NULL};
  test_thread thread;
  gate_arm(0, "dropper", "calling");
  thread_start(&thread, "dropper", ask_with_the_last_reference, &it);
  gate_await(0);
  ask_for_room(&second);
  gate_open(0);
  thread_join(&thread);
  CHECK(it.worker == NULL);
  CHECK_EQUAL(all.count, 1);
  CHECK_EQUAL(all.outcome[0], LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_live_count(), 0);
  watch_end();
}

/* --------------------------------------------------------------------------------------- withdrawals */

TEST(room_a_callback_is_withdrawn_from_any_place_and_the_others_keep_their_order) {
  for (int left = 0; left < 3; left++) {
    record all = {0};
    scene at;
    open_full(&at, 2);
    callback asked[3];
    for (int i = 0; i < 3; i++) {
      asked[i] = (callback){&all, i, at.worker, NULL};
      ask_for_room(&asked[i]);
    }
    CHECK_EQUAL(lanyard_cancel_when_room(at.worker, note, &asked[left]), LANYARD_OK);
    CHECK_EQUAL(all.count, 1);
    CHECK_EQUAL(all.who[0], left);
    CHECK_EQUAL(all.outcome[0], LANYARD_CANCELLED);
    CHECK_EQUAL(lanyard_cancel_when_room(at.worker, note, &asked[left]), LANYARD_TOO_LATE);
    latch_open(&at.latch);
    close_scene(&at);
    CHECK_EQUAL(all.count, 3);
    CHECK(all.who[1] < all.who[2] && all.who[1] != left && all.who[2] != left);
  }
}

TEST(room_withdrawing_what_was_called_or_never_registered_is_too_late) {
  record all = {0};
  lanyard_worker *worker = open_worker(2);
  callback it = {&all, 0, worker, NULL};
  CHECK_EQUAL(lanyard_cancel_when_room(worker, note, &it), LANYARD_TOO_LATE);
  ask_for_room(&it);
  CHECK_EQUAL(lanyard_cancel_when_room(worker, note, &it), LANYARD_TOO_LATE);
  CHECK_EQUAL(all.count, 1);
  CHECK_EQUAL(lanyard_cancel_when_room(worker, NULL, &it), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_cancel_when_room(NULL, note, &it), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel_when_room(worker, note, &it), LANYARD_TOO_LATE);
  lanyard_release(&worker);
}

/* A million of them that come and go leave nothing behind, and the worker asleep. */
TEST(room_callbacks_that_come_and_go_leave_nothing) {
  record all = {0};
  scene at;
  watch_begin();
  open_full(&at, 2);
  callback it = {&all, 0, at.worker, NULL};
  for (uint64_t i = scaled(100000); i > 0; i--) {
    ask_for_room(&it);
    CHECK_EQUAL(lanyard_cancel_when_room(at.worker, note, &it), LANYARD_OK);
    atomic_store(&all.count, 0);
  }
  CHECK(!ly_room_is_awaited(&at.worker->room));
  latch_open(&at.latch);
  CHECK(await_endless_sleepers(&at.worker->park.word, 1));
  close_scene(&at);
  watch_end();
}
