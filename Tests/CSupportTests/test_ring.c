/* test_ring.c - the ring, parking and waiting for room: HAZARDS section C. */
#include "gates.h"
#include "worker.h"

/* ------------------------------------------------------------------------------- the ring alone */

static void do_nothing(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

static bool push(ly_ring *ring, uintptr_t value) {
  ly_position position;
  if (ly_ring_claim(ring, &position) != LY_CLAIM_OK) return false;
  ly_ring_publish(ring, position, (ly_entry){do_nothing, (void *)value, 0});
  return true;
}

static uintptr_t pop(ly_ring *ring) {
  ly_entry entry = {NULL, NULL, 0};
  ly_position head = ring->head;
  if (ly_ring_peek(ring, head, &entry) != LY_PEEK_READY || !ly_ring_take(ring, head)) return 0;
  return (uintptr_t)entry.argument;
}

/* Every capacity x start position x fill: exactly `capacity` fit, and they come out in order. */
TEST(c5_small_rings_hold_exactly_their_capacity_in_order) {
  for (uint32_t capacity = 2; capacity <= 16; capacity *= 2)
    for (uint32_t start = 0; start <= 2 * capacity; start++)
      for (uint32_t fill = 0; fill <= capacity; fill++) {
        static ly_slot slots[16];
        memset(slots, 0, sizeof slots);
        static ly_ring ring;
        ly_ring_init(&ring, slots, capacity, 0, 0);
        for (uint32_t i = 0; i < start; i++) {
          CHECK(push(&ring, 1));
          CHECK_EQUAL(pop(&ring), 1);
        }
        for (uint32_t i = 1; i <= fill; i++) CHECK(push(&ring, i));
        CHECK_EQUAL(ly_ring_depth(&ring), fill);
        CHECK_EQUAL(ly_ring_has_room(&ring), fill < capacity);
        CHECK_EQUAL(push(&ring, fill + 1), fill < capacity);
        uint32_t in_ring = fill < capacity ? fill + 1 : capacity;
        for (uint32_t i = 1; i <= in_ring; i++) CHECK_EQUAL(pop(&ring), i);
        CHECK_EQUAL(pop(&ring), 0);
      }
}

TEST(c5_closed_ring_refuses_and_keeps_what_it_has) {
  static ly_slot slots[4];
  memset(slots, 0, sizeof slots);
  static ly_ring ring;
  ly_ring_init(&ring, slots, 4, 0, 0);
  CHECK(push(&ring, 1));
  CHECK_EQUAL(ly_ring_close(&ring) & LY_CLOSED, 0);
  CHECK_EQUAL(ly_ring_close(&ring) & LY_CLOSED, LY_CLOSED);
  CHECK(!push(&ring, 2));
  CHECK_EQUAL(ly_ring_depth(&ring), 1);
  CHECK_EQUAL(pop(&ring), 1);
  CHECK_EQUAL(pop(&ring), 0);
}

TEST(c5_withdrawn_slot_is_passed_over_and_used_again) {
  static ly_slot slots[2];
  memset(slots, 0, sizeof slots);
  static ly_ring ring;
  ly_ring_init(&ring, slots, 2, 0, 0);
  for (ly_position lap = 0; lap < 5; lap++) {
    ly_position first = lap * 2 * LY_STEP;
    ly_entry entry;
    CHECK(push(&ring, 1) && push(&ring, 2) && !push(&ring, 3));
    CHECK_EQUAL(ly_ring_withdraw(&ring, first, NULL, &entry), LY_WITHDRAW_OK);
    CHECK_EQUAL(ly_ring_withdraw(&ring, first, NULL, &entry), LY_WITHDRAW_REPEATED);
    CHECK(!push(&ring, 3)); /* the slot comes back with its turn */
    CHECK_EQUAL(ly_ring_peek(&ring, first, &entry), LY_PEEK_WITHDRAWN);
    ly_ring_skip(&ring, first);
    CHECK_EQUAL(ly_ring_withdraw(&ring, first, NULL, &entry), LY_WITHDRAW_GONE);
    CHECK_EQUAL(pop(&ring), 2);
  }
}

/* ------------------------------------------------------------------------------------- workers */

typedef struct log_entry {
  pthread_mutex_t lock;
  unsigned ran, dropped;
  int order[64];
} run_log;

typedef struct numbered {
  run_log *log;
  int number;
} numbered;

static void record(void *argument, lanyard_status outcome) {
  numbered *request = argument;
  run_log *log = request->log;
  pthread_mutex_lock(&log->lock);
  if (outcome == LANYARD_OK) {
    if (log->ran < 64) log->order[log->ran] = request->number;
    log->ran++;
  } else {
    log->dropped++;
  }
  pthread_mutex_unlock(&log->lock);
}

static unsigned ran(run_log *log) {
  pthread_mutex_lock(&log->lock);
  unsigned count = log->ran;
  pthread_mutex_unlock(&log->lock);
  return count;
}

static lanyard_worker *open_with(uint32_t capacity, uint32_t spin_ns) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.capacity = capacity;
  options.spin_ns = spin_ns;
  lanyard_worker *worker = NULL;
  if (!CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_OK)) abort();
  return worker;
}

typedef struct submission {
  lanyard_worker *worker;
  numbered request;
  lanyard_status status;
} submission;

static void submit_one(void *argument) {
  submission *one = argument;
  one->status = lanyard_submit(one->worker, record, &one->request, NULL);
}

static void call_one(void *argument) {
  submission *one = argument;
  one->status = lanyard_call(one->worker, record, &one->request);
}

/*   worker                          producer
 *   says PARKED
 *                                   claims, publishes, finds PARKED, wakes
 *   looks at the tail: news                                              nothing else wakes it after */
TEST(c1_submit_between_parked_and_look_is_served) {
  run_log log = {.lock = PTHREAD_MUTEX_INITIALIZER};
  gate_arm(0, "worker", "parking");
  lanyard_worker *worker = open_with(4, 0);
  submission call = {worker, {&log, 1}, LANYARD_OK};
  if (gate_await(0)) {
    test_thread caller;
    gate_arm(1, "caller", "published");
    thread_start(&caller, "caller", call_one, &call);
    if (gate_await(1)) gate_open(1);
    gate_open(0);
    thread_join(&caller);
    CHECK_EQUAL(call.status, LANYARD_OK);
  }
  CHECK_EQUAL(ran(&log), 1);
  lanyard_release(&worker);
}

/*   worker                          producer
 *   finds the ring empty
 *                                   claims, publishes, finds AWAKE, does not wake
 *   says PARKED, looks again: news                                       nothing else wakes it after */
static bool one_ran(void *log) { return ran(log) == 1; }

TEST(c1_submit_before_parked_is_found_by_the_second_look) {
  run_log log = {.lock = PTHREAD_MUTEX_INITIALIZER};
  numbered request = {&log, 1};
  gate_arm(0, "worker", "idle");
  lanyard_worker *worker = open_with(4, 0);
  gate_await(0);
  CHECK_EQUAL(lanyard_submit(worker, record, &request, NULL), LANYARD_OK);
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  CHECK_EQUAL(stats.wakes, 0);
  gate_open(0);
  CHECK(eventually(one_ran, &log));
  lanyard_release(&worker);
}

/*   worker                          producer
 *                                   claims ... and stands
 *   says PARKED, looks: the tail moved, so it waits for the publication and does not sleep
 *                                   publishes; finds AWAKE and does not wake */
TEST(c1_claim_before_the_look_keeps_the_worker_awake) {
  run_log log = {.lock = PTHREAD_MUTEX_INITIALIZER};
  gate_arm(0, "worker", "parking");
  lanyard_worker *worker = open_with(4, 0);
  submission call = {worker, {&log, 1}, LANYARD_OK};
  if (gate_await(0)) {
    test_thread caller;
    gate_arm(1, "caller", "claimed");
    thread_start(&caller, "caller", call_one, &call);
    gate_await(1);
    gate_open(0);
    gate_open(1);
    thread_join(&caller);
  }
  CHECK_EQUAL(ran(&log), 1);
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  CHECK_EQUAL(stats.completed, 1);
  lanyard_release(&worker);
}

/* Each call needs its own wake-up, both ways: nothing else ever wakes either side. */
static void call_many(void *argument) {
  lanyard_worker *worker = argument;
  uint64_t count = scaled(20000);
  for (uint64_t i = 0; i < count; i++) CHECK_EQUAL(lanyard_call(worker, do_nothing, NULL), LANYARD_OK);
}

TEST_WITHIN(240, c1_every_call_to_a_sleeping_worker_returns) {
  lanyard_worker *worker = open_with(2, 0);
  call_many(worker);
  test_thread callers[2];
  for (int i = 0; i < 2; i++) thread_start(&callers[i], "caller", call_many, worker);
  for (int i = 0; i < 2; i++) thread_join(&callers[i]);
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  CHECK_EQUAL(stats.completed, 3 * scaled(20000));
  CHECK(stats.parks > 0);
  lanyard_release(&worker);
}

static void submit_many(void *argument) {
  lanyard_worker *worker = argument;
  uint64_t count = scaled(20000);
  for (uint64_t i = 0; i < count; i++) CHECK_EQUAL(lanyard_submit(worker, do_nothing, NULL, NULL), LANYARD_OK);
}

TEST_WITHIN(240, c2_sixteen_producers_on_a_full_ring_all_get_through) {
  enum { PRODUCERS = 16 };
  lanyard_worker *worker = open_with(2, LANYARD_SPIN_NS_DEFAULT);
  test_thread producers[PRODUCERS];
  for (int i = 0; i < PRODUCERS; i++) thread_start(&producers[i], "producer", submit_many, worker);
  for (int i = 0; i < PRODUCERS; i++) thread_join(&producers[i]);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  CHECK_EQUAL(stats.completed, PRODUCERS * scaled(20000));
  lanyard_release(&worker);
}

/* Every second wait ends at once and for nothing, as an interrupted or a spurious one does. */
static int unreliable_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns) {
  if (random_number() % 2 == 0) return 0;
  struct timespec limit = ly_timespec(deadline_ns == LANYARD_FOREVER ? 0 : deadline_ns);
  long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                        deadline_ns == LANYARD_FOREVER ? NULL : &limit, NULL, FUTEX_BITSET_MATCH_ANY);
  return result != 0 && errno == ETIMEDOUT ? ETIMEDOUT : 0;
}

TEST_WITHIN(120, c3_spurious_wakes_change_nothing) {
  lanyard__hooks.futex_wait = unreliable_wait;
  lanyard_worker *worker = open_with(2, 0);
  test_thread threads[4];
  for (int i = 0; i < 4; i++)
    thread_start(&threads[i], "producer", i % 2 ? submit_many : call_many, worker);
  for (int i = 0; i < 4; i++) thread_join(&threads[i]);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  CHECK_EQUAL(stats.completed, 4 * scaled(20000));
  lanyard_release(&worker);
  lanyard__hooks.futex_wait = NULL;
}

/* One producer stands between claim and publish; three requests lie behind it. */
typedef struct stuck {
  run_log log;
  lanyard_worker *worker;
  submission submissions[4];
  test_thread first;
} stuck;

static bool begin_stuck(stuck *at) {
  memset(at, 0, sizeof *at);
  pthread_mutex_init(&at->log.lock, NULL);
  at->worker = open_with(8, 0);
  for (int i = 0; i < 4; i++) at->submissions[i] = (submission){at->worker, {&at->log, i}, LANYARD_OK};
  gate_arm(0, "first", "claimed");
  thread_start(&at->first, "first", submit_one, &at->submissions[0]);
  bool stands = gate_await(0);
  for (int i = 1; i < 4; i++) submit_one(&at->submissions[i]);
  return stands;
}

/* After a close that returned OK. */
static void end_stuck(stuck *at) {
  for (int i = 0; i < 4; i++) CHECK_EQUAL(at->submissions[i].status, LANYARD_OK);
  CHECK_EQUAL(at->log.ran, 4);
  for (int i = 0; i < 4; i++) CHECK_EQUAL(at->log.order[i], i);
  lanyard_release(&at->worker);
  pthread_mutex_destroy(&at->log.lock);
}

TEST(c4_unpublished_slot_delays_those_behind_it_and_loses_none) {
  stuck at;
  begin_stuck(&at);
  CHECK_EQUAL(ran(&at.log), 0);
  gate_open(0);
  thread_join(&at.first);
  CHECK_EQUAL(lanyard_close(at.worker, LANYARD_DRAIN), LANYARD_OK);
  end_stuck(&at);
}

static void close_worker(void *argument) {
  submission *close = argument;
  close->status = lanyard_close(close->worker, LANYARD_DRAIN);
}

TEST(c4_close_waits_for_an_unpublished_slot) {
  stuck at;
  begin_stuck(&at);
  submission close = {.worker = at.worker, .status = LANYARD_INVALID};
  test_thread closer;
  gate_arm(1, "closer", "closed");
  thread_start(&closer, "closer", close_worker, &close);
  gate_await(1);
  gate_open(1);
  /* It cannot end: a bounded wait for the end runs out, and is no race. */
  CHECK_EQUAL(lanyard_close_until(at.worker, LANYARD_DRAIN, after(50 * MILLISECONDS)), LANYARD_TIMED_OUT);
  CHECK_EQUAL(ran(&at.log), 0);
  gate_open(0);
  thread_join(&at.first);
  thread_join(&closer);
  CHECK_EQUAL(close.status, LANYARD_OK);
  end_stuck(&at);
}

/* The same life, begun just before a counter's boundary. */
static void live_once(void) {
  run_log log = {.lock = PTHREAD_MUTEX_INITIALIZER};
  lanyard_worker *worker = open_with(4, 0);
  numbered requests[12];
  for (int i = 0; i < 12; i++) {
    requests[i] = (numbered){&log, i};
    lanyard_ticket ticket = 0;
    CHECK_EQUAL(lanyard_submit(worker, record, &requests[i], &ticket), LANYARD_OK);
    CHECK(ticket != 0);
    if (i % 3 == 2) CHECK_EQUAL(lanyard_call(worker, do_nothing, NULL), LANYARD_OK);
    if (i % 3 == 2) CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
    if (i == 11) CHECK_EQUAL(lanyard_cancel(worker, ticket + 5), LANYARD_INVALID);
  }
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(log.ran, 12);
  for (int i = 0; i < 12; i++) CHECK_EQUAL(log.order[i], i);
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  CHECK_EQUAL(stats.submitted, 16);
  CHECK_EQUAL(stats.completed, 16);
  CHECK_EQUAL(stats.depth, 0);
  lanyard_release(&worker);
}

TEST(c6_counters_cross_every_boundary) {
  const uint64_t starts[] = {0, (UINT64_C(1) << 30) - 3, (UINT64_C(1) << 32) - 3, (UINT64_C(1) << 61) - 3,
                             (UINT64_C(1) << 62) - 3 /* here the 64 bits come round */};
  for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
    counters_start_at(starts[i]);
    live_once();
  }
}

typedef struct resubmission {
  lanyard_worker *worker;
  unsigned accepted, would_deadlock, full, inline_runs;
  _Atomic unsigned ran;
} resubmission;

static void count_run(void *argument, lanyard_status outcome) {
  if (outcome == LANYARD_OK) atomic_fetch_add((_Atomic unsigned *)argument, 1u);
}

static void submit_to_itself(void *argument, lanyard_status outcome) {
  resubmission *own = argument;
  (void)outcome;
  for (int i = 0; i < 1000; i++) {
    lanyard_status status = lanyard_submit(own->worker, count_run, &own->ran, NULL);
    own->accepted += status == LANYARD_OK;
    own->would_deadlock += status == LANYARD_WOULD_DEADLOCK;
    own->full += lanyard_try_submit(own->worker, count_run, &own->ran, NULL) == LANYARD_FULL;
    own->inline_runs += lanyard_call(own->worker, do_nothing, NULL) == LANYARD_OK;
  }
}

TEST(c8_handler_that_fills_its_own_ring_never_waits) {
  resubmission own = {.worker = open_with(2, 0)};
  CHECK_EQUAL(lanyard_call(own.worker, submit_to_itself, &own), LANYARD_OK);
  CHECK_EQUAL(own.accepted + own.would_deadlock, 1000);
  CHECK(own.accepted >= 1 && own.accepted <= 2); /* submit and try_submit share the two slots */
  CHECK_EQUAL(own.full, 1000 - (2 - own.accepted));
  CHECK_EQUAL(own.inline_runs, 1000);
  CHECK_EQUAL(lanyard_close(own.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(own.ran, 2);
  lanyard_release(&own.worker);
}

TEST(c10_many_submits_need_only_one_wake) {
  run_log log = {.lock = PTHREAD_MUTEX_INITIALIZER};
  numbered requests[8];
  gate_arm(0, "worker", "parking");
  lanyard_worker *worker = open_with(8, 0);
  gate_await(0);
  for (int i = 0; i < 8; i++) {
    requests[i] = (numbered){&log, i};
    CHECK_EQUAL(lanyard_submit(worker, record, &requests[i], NULL), LANYARD_OK);
  }
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  CHECK_EQUAL(stats.wakes, 1);
  gate_open(0);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(log.ran, 8);
  for (int i = 0; i < 8; i++) CHECK_EQUAL(log.order[i], i);
  lanyard_release(&worker);
}

static void submit_itself_again(void *argument, lanyard_status outcome) {
  resubmission *own = argument;
  if (outcome != LANYARD_OK) return;
  atomic_fetch_add(&own->ran, 1u);
  if (lanyard_submit(own->worker, submit_itself_again, own, NULL) == LANYARD_OK) own->accepted++;
}

static bool has_run_often(void *argument) { return atomic_load((_Atomic unsigned *)argument) > 1000; }

TEST(c11_handler_that_resubmits_itself_does_not_hold_up_close) {
  resubmission own = {.worker = open_with(2, 0), .accepted = 1};
  ly_exempt(&own.ran, sizeof own.ran);
  CHECK_EQUAL(lanyard_submit(own.worker, submit_itself_again, &own, NULL), LANYARD_OK);
  CHECK(eventually(has_run_often, &own.ran));
  CHECK_EQUAL(lanyard_close(own.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(own.ran, own.accepted);
  lanyard_release(&own.worker);
}

static void hold(void *argument, lanyard_status outcome) {
  (void)outcome;
  pthread_barrier_wait(argument);
  pthread_barrier_wait(argument);
}

static void visit(const lanyard_info *info, void *argument) {
  (void)info;
  ++*(unsigned *)argument;
}

/* With a request running, every function that takes a lock still goes through. */
TEST(c12_no_lock_is_held_while_a_request_runs) {
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, 2);
  lanyard_worker *worker = open_with(4, 0);
  CHECK_EQUAL(lanyard_submit(worker, hold, &barrier, NULL), LANYARD_OK);
  pthread_barrier_wait(&barrier);

  _Atomic unsigned called = 0;
  unsigned seen = 0;
  CHECK_EQUAL(lanyard_when_room(worker, count_run, (void *)&called), LANYARD_OK);
  CHECK_EQUAL(called, 1);
  lanyard_each_live(visit, &seen);
  CHECK_EQUAL(seen, 1);
  lanyard_worker *other = open_with(2, 0);
  CHECK_EQUAL(lanyard_call(other, do_nothing, NULL), LANYARD_OK);
  lanyard_release(&other);

  pthread_barrier_wait(&barrier);
  lanyard_release(&worker);
  pthread_barrier_destroy(&barrier);
}

TEST(c13_deadlines_are_monotonic_and_survive_extremes) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  uint64_t before = (uint64_t)time.tv_sec * SECONDS + (uint64_t)time.tv_nsec, now = lanyard_now_ns();
  CHECK(now >= before && now < before + 10 * SECONDS);

  lanyard_worker *worker = open_with(2, 0);
  const uint64_t far[] = {INT64_MAX - 1, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX - 1, UINT64_MAX};
  for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
    CHECK_EQUAL(lanyard_call_until(worker, do_nothing, NULL, far[i]), LANYARD_OK);
    CHECK_EQUAL(lanyard_submit_until(worker, do_nothing, NULL, far[i], NULL), LANYARD_OK);
  }
  const uint64_t past[] = {0, 1, now};
  for (size_t i = 0; i < sizeof past / sizeof *past; i++) {
    CHECK_EQUAL(lanyard_call_until(worker, do_nothing, NULL, past[i]), LANYARD_TIMED_OUT);
    CHECK_EQUAL(lanyard_submit_until(worker, do_nothing, NULL, past[i], NULL), LANYARD_TIMED_OUT);
  }
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, UINT64_MAX - 1), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_OK); /* it is over: nothing to wait for */
  lanyard_release(&worker);
}

/* ------------------------------------------------------------------------- signals into waits */

static void on_signal(int signal_number) { (void)signal_number; }

typedef struct storm {
  pthread_t target;
  _Atomic bool over;
} storm;

static void send_signals(void *argument) {
  storm *at = argument;
  while (!atomic_load(&at->over)) {
    pthread_kill(at->target, SIGUSR2);
    sched_yield();
  }
}

TEST_WITHIN(120, c14_interrupted_waits_are_taken_up_again) {
  struct sigaction action = {.sa_handler = on_signal}; /* without SA_RESTART */
  sigaction(SIGUSR2, &action, NULL);
  storm at = {.target = pthread_self()};
  ly_exempt(&at.over, sizeof at.over);
  lanyard_worker *worker = open_with(2, 0);
  test_thread sender, producers[2];
  thread_start(&sender, "sender", send_signals, &at);
  for (int i = 0; i < 2; i++) thread_start(&producers[i], "producer", submit_many, worker);
  uint64_t count = scaled(5000);
  for (uint64_t i = 0; i < count; i++) {
    CHECK_EQUAL(lanyard_call(worker, do_nothing, NULL), LANYARD_OK);
    CHECK_EQUAL(lanyard_submit(worker, do_nothing, NULL, NULL), LANYARD_OK);
  }
  for (int i = 0; i < 2; i++) thread_join(&producers[i]);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  atomic_store(&at.over, true);
  thread_join(&sender);
  lanyard_release(&worker);
}

/* ------------------------------------------------------------------------- wakes of what may be gone */

static void close_and_release(void *argument) {
  lanyard_worker *worker = argument;
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&worker);
}

/*   joiner                          others
 *   joins, says JOINED
 *                                   see it, return, release
 *   wakes whoever sleeps: the word must still be there */
TEST(c15_joiner_wakes_a_word_that_its_own_reference_keeps) {
  lanyard_worker *worker = open_with(2, 0);
  test_thread joiner, other;
  gate_arm(0, "joiner", "joined");
  thread_start(&joiner, "joiner", close_and_release, lanyard_retain(worker));
  if (gate_await(0)) {
    thread_start(&other, "other", close_and_release, lanyard_retain(worker));
    thread_join(&other);
    lanyard_release(&worker);
    CHECK_EQUAL(lanyard_live_count(), 1);
    gate_open(0);
  }
  thread_join(&joiner);
  CHECK_EQUAL(lanyard_live_count(), 0);
}

/* --------------------------------------------------------------------------------- one processor */

static int all_on_one_processor(void *argument) {
  (void)argument;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(sched_getcpu(), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) return 2;
  lanyard_worker *worker = open_with(2, LANYARD_SPIN_NS_DEFAULT);
  test_thread threads[3];
  for (int i = 0; i < 3; i++) thread_start(&threads[i], "producer", i ? submit_many : call_many, worker);
  for (int i = 0; i < 3; i++) thread_join(&threads[i]);
  lanyard_release(&worker);
  return (int)lanyard_live_count();
}

TEST_WITHIN(120, c16_spinning_on_one_processor_does_not_starve_anybody) {
  if (tool_is("tsan")) { /* a child of fork cannot start threads there */
    printf("#    left out under tsan: threads after fork\n");
    return;
  }
  CHECK_EQUAL(run_in_child(all_on_one_processor, NULL, 60000), 0);
}

/* -------------------------------------------------------------------------------- waiting for room */

/* A producer that waits gets the room of a slow worker with its next request, not only when half the
 * ring is free: the coarse clock has ticked. */
static void take_10_ms(void *argument, lanyard_status outcome) {
  (void)argument;
  if (outcome == LANYARD_OK) usleep(10000);
}

TEST(c9_slow_worker_lets_a_waiting_producer_in_before_half_is_free) {
  lanyard_worker *worker = open_with(64, 0);
  for (int i = 0; i < 65; i++) CHECK_EQUAL(lanyard_submit(worker, take_10_ms, NULL, NULL), LANYARD_OK);
  /* 64 wait. The next comes in while far more than half of them still do. */
  CHECK_EQUAL(lanyard_submit(worker, take_10_ms, NULL, NULL), LANYARD_OK);
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  CHECK(stats.depth > 32);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DISCARD), LANYARD_OK);
  lanyard_release(&worker);
}
