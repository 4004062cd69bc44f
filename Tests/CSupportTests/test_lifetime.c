/* test_lifetime.c - who keeps a worker alive, who ends it, and what happens to those in between.
 *
 * Hazards A1 to A15 of the life of a worker, and the laws about calls on oneself (L5), about closing (L7,
 * L8, L11, L12), about the last release (L9, L10) and about producers that a close finds waiting (C9).
 *
 * Interleavings are forced: by gates at the core's points, by latches in the tests' own requests, and by
 * watching where a thread of the core sleeps, naps or joins. What a request leaves behind is plain memory
 * on purpose: the core's own edges have to order it, and the race detectors see when they do not.
 */
#include "gates.h"
#include "worker.h"

/* ---------------------------------------------------------------------------------- what they share */

/* What became of one request. */
typedef struct answers {
  unsigned ok, closed, other;
} answers;

static void record(void *argument, lanyard_status outcome) {
  answers *request = argument;
  if (outcome == LANYARD_OK) request->ok++;
  else if (outcome == LANYARD_CLOSED) request->closed++;
  else request->other++;
}

static void was_answered(const answers *request, lanyard_status outcome) {
  CHECK_EQUAL(request->ok, outcome == LANYARD_OK);
  CHECK_EQUAL(request->closed, outcome == LANYARD_CLOSED);
  CHECK_EQUAL(request->other, 0);
}

static void was_never_called(const answers *request) {
  CHECK_EQUAL(request->ok + request->closed + request->other, 0);
}

static void never(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
  CHECK(false); /* it must not be called */
}

/* One that goes to sleep as soon as it has nothing to do, so that a test sees it where it expects it. */
static lanyard_options sleepy_options(uint32_t capacity) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.name = "sleepy";
  options.capacity = capacity;
  options.spin_ns = 0;
  return options;
}

static lanyard_worker *open_with(const lanyard_options *options) {
  lanyard_worker *worker = NULL;
  if (!CHECK_EQUAL(lanyard_open(options, &worker), LANYARD_OK)) abort();
  return worker;
}

static lanyard_worker *open_sleepy(uint32_t capacity) {
  lanyard_options options = sleepy_options(capacity);
  return open_with(&options);
}

/* Returns when the worker stands in a request of ours. */
static void hold(lanyard_worker *worker, test_latch *latch) {
  latch_init(latch);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, latch, NULL), LANYARD_OK);
  latch_await(latch);
}

static lanyard_stats stats_of(const lanyard_worker *worker) {
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  return stats;
}

static void release_variable(void *variable) { lanyard_release(variable); }

static void release_in_request(void *variable, lanyard_status outcome) {
  (void)outcome;
  lanyard_release(variable);
}

/* A thread that closes, and what it was told. */
typedef struct closer {
  test_thread thread;
  lanyard_worker *worker;
  lanyard_close_mode mode;
  uint64_t deadline_ns;
  pid_t tid;
  lanyard_status status;
} closer;

static void close_on_thread(void *argument) {
  closer *self = argument;
  self->tid = ly_thread_id();
  self->status = lanyard_close_until(self->worker, self->mode, self->deadline_ns);
}

static void start_closer(closer *self, lanyard_worker *worker, lanyard_close_mode mode) {
  *self = (closer){.worker = worker, .mode = mode, .deadline_ns = LANYARD_FOREVER, .status = LANYARD_INVALID};
  thread_start(&self->thread, "closer", close_on_thread, self);
}

static void join_closer(closer *self, lanyard_status wanted) {
  thread_join(&self->thread);
  CHECK_EQUAL(self->status, wanted);
}

static void close_and_release(lanyard_worker **worker) {
  CHECK_EQUAL(lanyard_close(*worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(worker);
}

static bool no_worker_lives(void *unused) {
  (void)unused;
  return lanyard_quiesce(after(SECONDS)) == 0;
}

/* For references that a worker's own thread will drop: until it has, there is nothing to quiesce. */
static void await_no_worker(void) { CHECK(eventually(no_worker_lives, NULL)); }

static bool threads_are_no_more_than(void *count) { return thread_count() <= *(unsigned *)count; }

/* -------------------------------------------------------- a1: the last reference dropped on the worker */

TEST(a1_last_release_in_a_request_neither_waits_nor_leaks) {
  test_latch latch;
  answers rest[3] = {{0}};
  lanyard_worker *worker = open_worker(8), *owned = lanyard_retain(worker);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, release_in_request, &owned, NULL), LANYARD_OK);
  for (int i = 0; i < 3; i++) CHECK_EQUAL(lanyard_submit(worker, record, &rest[i], NULL), LANYARD_OK);
  lanyard_release(&worker);
  latch_open(&latch);
  await_no_worker();
  CHECK(owned == NULL);
  for (int i = 0; i < 3; i++) was_answered(&rest[i], LANYARD_OK); /* a drain: what was accepted has run */
  latch_destroy(&latch);
}

TEST(a1_last_release_in_a_discarded_request) {
  test_latch latch;
  lanyard_worker *worker = open_worker(4), *owned = lanyard_retain(worker);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, release_in_request, &owned, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  lanyard_release(&worker);
  latch_open(&latch);
  await_no_worker();
  CHECK(owned == NULL);
  latch_destroy(&latch);
}

TEST(a1_last_release_in_on_stop) {
  test_latch latch;
  lanyard_worker *owned = NULL;
  lanyard_options options = sleepy_options(4);
  options.context = &owned;
  options.on_stop = release_variable;
  lanyard_worker *worker = open_with(&options);
  owned = lanyard_retain(worker);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  lanyard_release(&worker);
  latch_open(&latch);
  await_no_worker();
  CHECK(owned == NULL);
  latch_destroy(&latch);
}

/* A destructor of thread-specific data: it runs when the loop is over and its end is announced. */
static pthread_key_t destructor_key;

static void set_specific(void *value, lanyard_status outcome) {
  if (outcome == LANYARD_OK) CHECK_EQUAL(pthread_setspecific(destructor_key, value), 0);
}

TEST(a1_last_release_in_a_destructor_of_thread_specific_data) {
  test_latch latch;
  lanyard_worker *worker = open_worker(4), *owned = lanyard_retain(worker);
  CHECK_EQUAL(pthread_key_create(&destructor_key, release_variable), 0);
  CHECK_EQUAL(lanyard_call(worker, set_specific, &owned), LANYARD_OK);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  lanyard_release(&worker);
  latch_open(&latch);
  await_no_worker();
  CHECK(owned == NULL);
  pthread_key_delete(destructor_key);
  latch_destroy(&latch);
}

/* Two owners part: the request's share is the last if it waits for the other's. */
typedef struct parting {
  lanyard_worker *theirs;
  test_latch latch, over;
  bool waits;
} parting;

static void part(void *argument, lanyard_status outcome) {
  parting *self = argument;
  if (self->waits) latch_request(&self->latch, outcome);
  lanyard_release(&self->theirs);
  sem_post(&self->over.entered);
}

TEST_WITHIN(60, a1_ten_thousand_last_releases_on_the_worker_itself) {
  parting self = {.theirs = NULL};
  latch_init(&self.latch);
  latch_init(&self.over);
  uint64_t rounds = scaled(10000);
  for (uint64_t i = 0; i < rounds; i++) {
    lanyard_worker *worker = open_worker(2);
    self.theirs = lanyard_retain(worker);
    self.waits = i % 4 != 3; /* else whoever comes later */
    CHECK_EQUAL(lanyard_submit(worker, part, &self, NULL), LANYARD_OK);
    lanyard_release(&worker);
    if (self.waits) latch_open(&self.latch);
    latch_await(&self.over);
  }
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  latch_destroy(&self.latch);
  latch_destroy(&self.over);
}

/* ------------------------------------------------------------- a2, l8: close called on the worker itself */

typedef struct inside {
  lanyard_worker *worker;
  test_latch latch;
  lanyard_close_mode mode;
  lanyard_status close, close_until, close_past, submit, call;
  bool was_current;
} inside;

static void close_inside(void *argument) {
  inside *self = argument;
  self->was_current = lanyard_is_current(self->worker);
  self->close = lanyard_close(self->worker, self->mode);
  self->close_until = lanyard_close_until(self->worker, LANYARD_DRAIN, LANYARD_FOREVER);
  self->close_past = lanyard_close_until(self->worker, LANYARD_DRAIN, 0);
  self->submit = lanyard_submit(self->worker, never, NULL, NULL);
  self->call = lanyard_call(self->worker, never, NULL);
}

static void close_in_request(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  close_inside(argument);
}

static void closing_was_reported(const inside *self) {
  CHECK(self->was_current);
  CHECK_EQUAL(self->close, LANYARD_CLOSING);
  CHECK_EQUAL(self->close_until, LANYARD_CLOSING);
  CHECK_EQUAL(self->close_past, LANYARD_CLOSING);
  CHECK_EQUAL(self->submit, LANYARD_CLOSED);
  CHECK_EQUAL(self->call, LANYARD_CLOSED);
}

static void close_in_a_request(lanyard_close_mode mode, lanyard_status wanted) {
  test_latch latch;
  answers rest[2] = {{0}};
  inside self = {.worker = open_worker(8), .mode = mode};
  hold(self.worker, &latch);
  CHECK_EQUAL(lanyard_submit(self.worker, close_in_request, &self, NULL), LANYARD_OK);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(lanyard_submit(self.worker, record, &rest[i], NULL), LANYARD_OK);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  closing_was_reported(&self);
  for (int i = 0; i < 2; i++) was_answered(&rest[i], wanted);
  lanyard_release(&self.worker);
  latch_destroy(&latch);
}

TEST(a2_close_in_a_request_reports_closing_and_the_rest_is_drained) {
  close_in_a_request(LANYARD_DRAIN, LANYARD_OK);
}
TEST(a2_discard_in_a_request_reports_closing_and_the_rest_is_discarded) {
  close_in_a_request(LANYARD_DISCARD, LANYARD_CLOSED);
}

static void close_in_on_start(void *argument) {
  inside *self = argument;
  latch_request(&self->latch, LANYARD_OK); /* until open has given us the worker */
  close_inside(self);
}

TEST(a2_close_in_on_start_and_on_stop) {
  inside self = {.mode = LANYARD_DRAIN};
  latch_init(&self.latch);
  lanyard_options options = sleepy_options(4);
  options.context = &self;
  options.on_start = close_in_on_start;
  self.worker = open_with(&options);
  latch_open(&self.latch);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  closing_was_reported(&self);
  lanyard_release(&self.worker);
  latch_destroy(&self.latch);

  inside last = {.mode = LANYARD_DISCARD};
  options.context = &last;
  options.on_start = NULL;
  options.on_stop = close_inside;
  last.worker = open_with(&options);
  CHECK_EQUAL(lanyard_close(last.worker, LANYARD_DRAIN), LANYARD_OK);
  closing_was_reported(&last);
  lanyard_release(&last.worker);
}

TEST(l8_after_a_close_in_a_request_the_thread_ends_without_help) {
  unsigned base = thread_count();
  inside self = {.worker = open_worker(4), .mode = LANYARD_DRAIN};
  CHECK_EQUAL(lanyard_call(self.worker, close_in_request, &self), LANYARD_OK);
  CHECK(eventually(threads_are_no_more_than, &base));
  closing_was_reported(&self);
  close_and_release(&self.worker);
}

/* ------------------------------------------------------------------------ a3, l7: several threads close
 *
 *     the winner                     each loser
 *     wins the join
 *     | held before pthread_join     sees that somebody joins
 *     |                              sleeps until it is over: none may return now
 *     joins, tells, returns OK       returns OK
 */
static void several_threads_close(unsigned count) {
  enum { CLOSERS_MAX = 16 };
  closer closers[CLOSERS_MAX];
  watch_begin();
  lanyard_worker *worker = open_sleepy(4);
  gate_arm(0, "closer", "joining");
  gate_arm_after(1, NULL, "joining", 1); /* nobody may come here after the winner */
  for (unsigned i = 0; i < count; i++)
    start_closer(&closers[i], worker, i % 2 ? LANYARD_DISCARD : LANYARD_DRAIN);
  gate_await(0);
  await_sleepers(&worker->join, count - 1);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DISCARD, after(MILLISECONDS)), LANYARD_TIMED_OUT);
  gate_open(0);
  for (unsigned i = 0; i < count; i++) join_closer(&closers[i], LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DISCARD, 0), LANYARD_OK);
  CHECK(!gate_was_reached(1));
  lanyard_release(&worker);
  watch_end();
}

TEST(a3_two_closers_return_after_the_one_join) { several_threads_close(2); }
TEST(a3_three_closers_return_after_the_one_join) { several_threads_close(3); }
TEST(a3_sixteen_closers_return_after_the_one_join) { several_threads_close(16); }

/* Nothing forced, and no lock of the tests' own in between: what each closer sees of the worker's destructor
 * it sees through the core's edges alone. */
typedef struct witness {
  closer closer;
  const bool *over; /* plain: L6 */
  bool saw;
} witness;

static void close_and_look(void *argument) {
  witness *self = argument;
  close_on_thread(&self->closer);
  self->saw = *self->over;
}

static void note_the_end(void *over) { *(bool *)over = true; }

TEST(a3_each_of_several_closers_sees_all_that_the_thread_did) {
  enum { CLOSERS = 4 };
  uint64_t rounds = scaled(2000);
  CHECK_EQUAL(pthread_key_create(&destructor_key, note_the_end), 0);
  for (uint64_t round = 0; round < rounds; round++) {
    witness witnesses[CLOSERS];
    answers requests[3] = {{0}};
    bool over = false;
    lanyard_worker *worker = open_worker(4);
    CHECK_EQUAL(lanyard_call(worker, set_specific, &over), LANYARD_OK);
    for (int i = 0; i < 3; i++) CHECK_EQUAL(lanyard_submit(worker, record, &requests[i], NULL), LANYARD_OK);
    for (int i = 0; i < CLOSERS; i++) {
      uint64_t deadline = i % 2 ? LANYARD_FOREVER : after(3600 * SECONDS);
      witnesses[i] = (witness){.closer = {.worker = worker, .deadline_ns = deadline}, .over = &over};
      thread_start(&witnesses[i].closer.thread, "closer", close_and_look, &witnesses[i]);
    }
    for (int i = 0; i < CLOSERS; i++) {
      join_closer(&witnesses[i].closer, LANYARD_OK);
      CHECK(witnesses[i].saw);
    }
    for (int i = 0; i < 3; i++) was_answered(&requests[i], LANYARD_OK);
    lanyard_release(&worker);
  }
  pthread_key_delete(destructor_key);
}

TEST(l7_close_stops_acceptance_while_the_running_request_goes_on) {
  test_latch latch;
  lanyard_worker *worker = open_worker(4);
  hold(worker, &latch);
  CHECK(!lanyard_is_closed(worker));
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK(lanyard_is_closed(worker));
  CHECK_EQUAL(lanyard_try_submit(worker, never, NULL, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_submit(worker, never, NULL, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_call(worker, never, NULL), LANYARD_CLOSED);
  latch_open(&latch);
  close_and_release(&worker);
  latch_destroy(&latch);
}

/* Five wait behind a running one; the drain has begun; then comes a DISCARD. */
static void close_twice(lanyard_close_mode first, lanyard_close_mode second, lanyard_status wanted) {
  test_latch latch;
  answers queued[5] = {{0}};
  closer drainer;
  watch_begin();
  lanyard_worker *worker = open_sleepy(8);
  hold(worker, &latch);
  for (int i = 0; i < 5; i++) CHECK_EQUAL(lanyard_submit(worker, record, &queued[i], NULL), LANYARD_OK);
  start_closer(&drainer, worker, first);
  await_sleepers(&worker->phase, 1);
  CHECK_EQUAL(lanyard_close_until(worker, second, 0), LANYARD_TIMED_OUT);
  latch_open(&latch);
  join_closer(&drainer, LANYARD_OK);
  for (int i = 0; i < 5; i++) was_answered(&queued[i], wanted);
  lanyard_stats stats = stats_of(worker);
  CHECK_EQUAL(stats.discarded, wanted == LANYARD_CLOSED ? 5 : 0);
  CHECK_EQUAL(stats.completed, wanted == LANYARD_CLOSED ? 1 : 6);
  lanyard_release(&worker);
  watch_end();
  latch_destroy(&latch);
}

TEST(l7_discard_turns_a_drain_in_progress_into_a_discard) {
  close_twice(LANYARD_DRAIN, LANYARD_DISCARD, LANYARD_CLOSED);
}
TEST(l7_drain_after_discard_changes_nothing) {
  close_twice(LANYARD_DISCARD, LANYARD_DRAIN, LANYARD_CLOSED);
}
TEST(l7_drain_after_drain_runs_what_was_accepted) { close_twice(LANYARD_DRAIN, LANYARD_DRAIN, LANYARD_OK); }

static void discard_inside(void *worker, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DISCARD), LANYARD_CLOSING);
}

TEST(l7_discard_in_the_midst_of_a_drain_spares_what_has_run) {
  test_latch latch;
  answers before = {0}, behind = {0};
  lanyard_worker *worker = open_worker(8);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, record, &before, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(worker, discard_inside, worker, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(worker, record, &behind, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  was_answered(&before, LANYARD_OK);
  was_answered(&behind, LANYARD_CLOSED);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

/* ------------------------------------------------------------- a4: a submit that was faster than the close
 *
 *     producer                       closer                      worker
 *     claims a position
 *     | held before it publishes     sets the flag, waits        sees: closed, and one is to come
 *     |                                                          naps, and does not end
 *     publishes                                                  answers it, ends
 *     returns OK                     joins, returns OK
 */
typedef enum way { BY_TRY, BY_SUBMIT, BY_DEADLINE, BY_CALL, WAYS } way;

typedef struct producer {
  test_thread thread;
  lanyard_worker *worker;
  way by;
  uint64_t deadline_ns; /* BY_DEADLINE */
  lanyard_function function;
  answers request;
  lanyard_status status;
} producer;

static void produce(void *argument) {
  producer *self = argument;
  switch (self->by) {
    case BY_TRY: self->status = lanyard_try_submit(self->worker, self->function, &self->request, NULL); break;
    case BY_SUBMIT: self->status = lanyard_submit(self->worker, self->function, &self->request, NULL); break;
    case BY_DEADLINE:
      self->status =
          lanyard_submit_until(self->worker, self->function, &self->request, self->deadline_ns, NULL);
      break;
    default: self->status = lanyard_call(self->worker, self->function, &self->request); break;
  }
}

static void start_producer(producer *self, lanyard_worker *worker, way by) {
  *self = (producer){.worker = worker,
                     .by = by,
                     .deadline_ns = after(3600 * SECONDS),
                     .function = record,
                     .status = LANYARD_INVALID};
  thread_start(&self->thread, "producer", produce, self);
}

static void close_behind_a_claim(way by, lanyard_close_mode mode) {
  producer late;
  closer ending;
  watch_begin();
  lanyard_worker *worker = open_sleepy(4);
  gate_arm(0, "producer", "claimed");
  gate_arm(1, "closer", "closed");
  start_producer(&late, worker, by);
  gate_await(0);
  start_closer(&ending, worker, mode);
  gate_await(1);
  gate_open(1);
  await_turns("worker", 3); /* it has looked at the closed ring since, and did not end */
  await_sleepers(&worker->phase, 1);
  CHECK_EQUAL(lanyard_close_until(worker, mode, 0), LANYARD_TIMED_OUT);
  gate_open(0);
  thread_join(&late.thread);
  join_closer(&ending, LANYARD_OK);
  if (by == BY_CALL && mode == LANYARD_DISCARD) {
    CHECK_EQUAL(late.status, LANYARD_CLOSED);
    was_never_called(&late.request);
  } else {
    CHECK_EQUAL(late.status, LANYARD_OK);
    was_answered(&late.request, mode == LANYARD_DISCARD ? LANYARD_CLOSED : LANYARD_OK);
  }
  gates_reset();
  lanyard_release(&worker);
  watch_end();
}

TEST(a4_submit_that_passed_the_gate_is_answered_after_close) {
  for (int by = 0; by < WAYS; by++) close_behind_a_claim((way)by, LANYARD_DRAIN);
}
TEST(a4_submit_that_passed_the_gate_is_answered_after_discard) {
  for (int by = 0; by < WAYS; by++) close_behind_a_claim((way)by, LANYARD_DISCARD);
}

/* Producers submit until they are refused. Each request marks its own byte when it is answered. */
enum { STREAM_MAX = 1000 };

typedef struct stream {
  test_thread thread;
  lanyard_worker *worker;
  unsigned accepted;
  unsigned char answered[STREAM_MAX];
} stream;

static void mark(void *byte, lanyard_status outcome) {
  CHECK(outcome == LANYARD_OK || outcome == LANYARD_CLOSED);
  ++*(unsigned char *)byte;
}

static void submit_until_refused(void *argument) {
  stream *self = argument;
  lanyard_status status = LANYARD_OK;
  while (self->accepted < STREAM_MAX) {
    status = lanyard_submit(self->worker, mark, &self->answered[self->accepted], NULL);
    if (status != LANYARD_OK) break;
    self->accepted++;
  }
  if (self->accepted < STREAM_MAX) CHECK_EQUAL(status, LANYARD_CLOSED);
}

TEST(a4_each_accepted_request_is_answered_once_when_producers_race_a_close) {
  static stream streams[2];
  uint64_t rounds = scaled(500);
  for (uint64_t round = 0; round < rounds; round++) {
    lanyard_worker *worker = open_worker(8);
    for (int i = 0; i < 2; i++) {
      memset(&streams[i], 0, sizeof streams[i]);
      streams[i].worker = worker;
      thread_start(&streams[i].thread, "producer", submit_until_refused, &streams[i]);
    }
    for (uint64_t turns = random_number() % 64; turns > 0; turns--) sched_yield();
    CHECK_EQUAL(lanyard_close(worker, round % 2 ? LANYARD_DISCARD : LANYARD_DRAIN), LANYARD_OK);
    for (int i = 0; i < 2; i++) thread_join(&streams[i].thread);
    for (int i = 0; i < 2; i++)
      for (unsigned j = 0; j < STREAM_MAX; j++)
        if (streams[i].answered[j] != (j < streams[i].accepted)) /* exactly once, or never */
          CHECK_EQUAL(streams[i].answered[j], j < streams[i].accepted);
    lanyard_release(&worker);
  }
}

/* ------------------------------------------------------- a5, l10: a late caller that still owns a reference */

static void count_call(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  ++*(unsigned *)argument;
}

static void each_function_answers(lanyard_worker *worker, lanyard_ticket ticket) {
  unsigned closed = 0;
  CHECK_EQUAL(lanyard_try_submit(worker, never, NULL, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_submit(worker, never, NULL, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, after(SECONDS), NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, 0, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_call(worker, never, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_call_until(worker, never, NULL, 0), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_when_room(worker, never, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), ticket == 0 ? LANYARD_INVALID : LANYARD_TOO_LATE);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DISCARD, 0), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, count_call, &closed), LANYARD_OK);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 1); /* this one is still owned */
  CHECK_EQUAL(closed, 1);
  CHECK(lanyard_is_closed(worker));
  CHECK(!lanyard_is_current(worker));
  CHECK_EQUAL(stats_of(worker).submitted, ticket == 0 ? 0 : 1);
  lanyard_weak *weak = lanyard_weak_create(worker);
  lanyard_worker *found = lanyard_weak_lock(weak), *another = lanyard_retain(worker);
  CHECK(found == worker && another == worker);
  lanyard_release(&found);
  lanyard_release(&another);
  CHECK_EQUAL(lanyard_live_count(), 1);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_live_count(), 0);
  CHECK(lanyard_weak_lock(weak) == NULL);
  lanyard_weak_destroy(weak);
}

TEST(a5_each_function_on_a_closed_worker_answers_as_documented) {
  lanyard_ticket ticket = 0;
  answers request = {0};
  lanyard_worker *worker = open_worker(4);
  CHECK_EQUAL(lanyard_submit(worker, record, &request, &ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  was_answered(&request, LANYARD_OK);
  each_function_answers(worker, ticket);
}

TEST(a5_each_function_on_a_closed_worker_that_never_had_a_thread) {
  lanyard_options options = sleepy_options(4);
  options.lazy = true;
  unsigned base = thread_count();
  lanyard_worker *worker = open_with(&options);
  CHECK_EQUAL(thread_count(), base);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  each_function_answers(worker, 0);
}

#if LANYARD_DEBUG
/* Undefined, and noticed: the weak handle keeps the bytes, so that the look at them is none at freed
 * memory. */
static int use_after_the_last_release(void *unused) {
  (void)unused;
  if (freopen("/dev/null", "w", stderr) == NULL) return 1;
  lanyard_worker *worker = open_worker(4), *stale = worker;
  lanyard_weak_create(worker);
  lanyard_release(&worker);
  lanyard_submit(stale, never, NULL, NULL);
  return 0;
}

TEST(a5_a_debug_build_notices_the_use_of_a_released_worker) {
  if (tool_is_valgrind()) return; /* they report the abort of a child; the child is about the message */
  CHECK_EQUAL(run_in_child(use_after_the_last_release, NULL, 10000), 256 + SIGABRT);
}
#endif

/* Freed bytes, and the tool for that. */
static int use_freed_memory(void *unused) {
  (void)unused;
  if (freopen("/dev/null", "w", stderr) == NULL) return 1;
  lanyard_worker *worker = open_worker(4), *stale = worker;
  lanyard_release(&worker);
  return lanyard_is_closed(stale) ? 0 : 0;
}

TEST(a5_address_sanitizer_notices_the_use_of_a_freed_worker) {
  if (!tool_is("asan")) return;
  int status = run_in_child(use_freed_memory, NULL, 10000);
  CHECK(status != 0 && status != -1);
}

/* --------------------------------------------------------------- a6: close, close and release in any order */

typedef enum end { END_DRAIN, END_DISCARD, END_RELEASE, ENDINGS } end;

/* A thread that owns a reference of its own and does its share of the endings. */
typedef struct share {
  test_thread thread;
  lanyard_worker *worker;
  end todo[ENDINGS];
  unsigned count;
} share;

static void do_share(void *argument) {
  share *self = argument;
  for (unsigned i = 0; i < self->count; i++) {
    lanyard_worker *extra = self->todo[i] == END_RELEASE ? lanyard_retain(self->worker) : NULL;
    if (self->todo[i] == END_RELEASE) lanyard_release(&extra);
    else
      CHECK_EQUAL(lanyard_close(self->worker, self->todo[i] == END_DRAIN ? LANYARD_DRAIN : LANYARD_DISCARD),
                  LANYARD_OK);
    CHECK(extra == NULL);
  }
  lanyard_release(&self->worker); /* one of the shares' is the last */
}

static void count_stop(void *count) { ++*(unsigned *)count; }

static lanyard_worker *open_counting(unsigned *stops, answers *request) {
  lanyard_options options = sleepy_options(4);
  options.context = stops;
  options.on_stop = count_stop;
  lanyard_worker *worker = open_with(&options);
  CHECK_EQUAL(lanyard_submit(worker, record, request, NULL), LANYARD_OK);
  return worker;
}

TEST(a6_close_close_and_release_in_each_order_on_one_thread) {
  static const end orders[6][ENDINGS] = {
      {END_DRAIN, END_DISCARD, END_RELEASE}, {END_DRAIN, END_RELEASE, END_DISCARD},
      {END_DISCARD, END_DRAIN, END_RELEASE}, {END_DISCARD, END_RELEASE, END_DRAIN},
      {END_RELEASE, END_DRAIN, END_DISCARD}, {END_RELEASE, END_DISCARD, END_DRAIN}};
  for (int order = 0; order < 6; order++)
    for (unsigned count = 1; count <= ENDINGS; count++) { /* also the beginnings of each order */
      unsigned stops = 0;
      answers request = {0};
      share self = {.worker = open_counting(&stops, &request), .count = count};
      memcpy(self.todo, orders[order], sizeof self.todo);
      do_share(&self);
      CHECK_EQUAL(stops, 1);
      CHECK_EQUAL(request.ok + request.closed, 1);
      CHECK(self.worker == NULL);
      lanyard_release(&self.worker); /* once more: nothing */
      CHECK_EQUAL(lanyard_live_count(), 0);
    }
}

TEST(a6_close_close_and_release_shared_by_two_threads) {
  uint64_t rounds = scaled(1000);
  for (uint64_t round = 0; round < rounds; round++) {
    unsigned stops = 0;
    answers request = {0};
    share shares[2] = {{.worker = open_counting(&stops, &request)}};
    shares[1].worker = lanyard_retain(shares[0].worker);
    for (unsigned i = 0; i < ENDINGS; i++) { /* round's bits say whose each is */
      share *whose = &shares[round >> i & 1];
      whose->todo[whose->count++] = (end)i;
    }
    thread_start(&shares[1].thread, "other", do_share, &shares[1]);
    do_share(&shares[0]);
    thread_join(&shares[1].thread);
    CHECK_EQUAL(stops, 1);
    CHECK_EQUAL(request.ok + request.closed, 1);
    CHECK_EQUAL(lanyard_live_count(), 0);
  }
}

TEST(a6_the_variable_is_null_after_release) {
  lanyard_worker *worker = open_worker(4), *second = lanyard_retain(worker);
  lanyard_release(&worker);
  CHECK(worker == NULL);
  lanyard_release(&worker);
  lanyard_release(NULL);
  CHECK_EQUAL(lanyard_live_count(), 1);
  lanyard_release(&second);
  CHECK(second == NULL);
}

/* -------------------------------------------------------- a7: the end is the end of the thread, by a join
 *
 *     worker                              who ends it
 *     announces its end
 *     | held in a destructor              may not return: the thread still runs
 *     leaves it, is gone                  returns, and sees what the destructor wrote
 */
typedef struct slow_destructor {
  test_latch latch;
  bool over; /* plain: L6 */
} slow_destructor;

static void destroy_slowly(void *argument) {
  slow_destructor *self = argument;
  latch_request(&self->latch, LANYARD_OK);
  self->over = true;
}

static lanyard_worker *open_with_destructor(slow_destructor *destructor) {
  *destructor = (slow_destructor){.over = false};
  latch_init(&destructor->latch);
  CHECK_EQUAL(pthread_key_create(&destructor_key, destroy_slowly), 0);
  lanyard_worker *worker = open_sleepy(4);
  CHECK_EQUAL(lanyard_call(worker, set_specific, destructor), LANYARD_OK);
  return worker;
}

static void end_destructor(slow_destructor *destructor) {
  CHECK(destructor->over);
  pthread_key_delete(destructor_key);
  latch_destroy(&destructor->latch);
}

TEST(a7_close_returns_after_the_destructors_of_the_thread) {
  slow_destructor destructor;
  closer ending;
  watch_begin();
  lanyard_worker *worker = open_with_destructor(&destructor);
  start_closer(&ending, worker, LANYARD_DRAIN);
  latch_await(&destructor.latch);
  await_joiner();
  latch_open(&destructor.latch);
  join_closer(&ending, LANYARD_OK);
  end_destructor(&destructor);
  lanyard_release(&worker);
  watch_end();
}

TEST(a7_close_with_a_deadline_does_not_return_ok_before_the_thread_is_gone) {
  slow_destructor destructor;
  closer ending;
  watch_begin();
  lanyard_worker *worker = open_with_destructor(&destructor);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  latch_await(&destructor.latch); /* its end was announced before */
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, after(5 * MILLISECONDS)), LANYARD_TIMED_OUT);
  ending.worker = worker;
  ending.mode = LANYARD_DRAIN;
  ending.deadline_ns = after(3600 * SECONDS);
  thread_start(&ending.thread, "closer", close_on_thread, &ending);
  await_turns("closer", 3);
  latch_open(&destructor.latch);
  join_closer(&ending, LANYARD_OK);
  end_destructor(&destructor);
  lanyard_release(&worker);
  watch_end();
}

static void note_whether_over(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  CHECK(((slow_destructor *)argument)->over);
}

TEST(a7_when_closed_is_called_after_the_destructors_of_the_thread) {
  slow_destructor destructor;
  watch_begin();
  lanyard_worker *worker = open_with_destructor(&destructor);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, note_whether_over, &destructor), LANYARD_OK);
  lanyard_release(&worker);
  latch_await(&destructor.latch);
  await_joiner();
  CHECK_EQUAL(lanyard_quiesce(after(5 * MILLISECONDS)), 1);
  latch_open(&destructor.latch);
  watch_end();
  end_destructor(&destructor);
}

TEST(a7_last_release_returns_after_the_destructors_of_the_thread) {
  slow_destructor destructor;
  test_thread releaser;
  watch_begin();
  lanyard_worker *worker = open_with_destructor(&destructor);
  thread_start(&releaser, "releaser", release_variable, &worker);
  latch_await(&destructor.latch);
  await_joiner();
  CHECK_EQUAL(lanyard_live_count(), 1);
  latch_open(&destructor.latch);
  thread_join(&releaser);
  end_destructor(&destructor);
  watch_end();
}

TEST(a7_quiesce_awaits_the_destructors_of_a_worker_that_released_itself) {
  slow_destructor destructor;
  test_latch latch;
  lanyard_worker *worker = open_with_destructor(&destructor), *owned = lanyard_retain(worker);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, release_in_request, &owned, NULL), LANYARD_OK);
  lanyard_release(&worker);
  latch_open(&latch);
  latch_await(&destructor.latch);
  CHECK_EQUAL(lanyard_quiesce(0), 1);
  CHECK_EQUAL(lanyard_quiesce(after(5 * MILLISECONDS)), 1);
  latch_open(&destructor.latch);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  end_destructor(&destructor);
  latch_destroy(&latch);
}

/* ------------------------------------------------------------------------------- a8, l13: never closed */

static int forget_workers(void *unused) {
  (void)unused;
  static test_latch latch;
  lanyard_options options = sleepy_options(4);
  options.lazy = true;
  open_with(&options);
  open_worker(4);
  hold(open_worker(4), &latch);
  exit(lanyard_live_count() == 3 ? 7 : 8);
}

TEST(a8_a_program_that_never_closes_ends_at_once_with_its_own_status) {
  CHECK_EQUAL(run_in_child(forget_workers, NULL, 1000), 7);
}

static void count_open(const lanyard_info *info, void *argument) {
  if (!info->closed) ++*(unsigned *)argument;
}

TEST(a8_workers_that_nobody_closed_can_be_counted) {
  lanyard_worker *workers[3];
  for (size_t i = 0; i < 3; i++) {
    workers[i] = open_worker(4);
    CHECK_EQUAL(lanyard_live_count(), i + 1);
  }
  CHECK_EQUAL(lanyard_close(workers[1], LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard_live_count(), 3); /* closed, and still owned */
  unsigned open = 0;
  lanyard_each_live(count_open, &open);
  CHECK_EQUAL(open, 2);
  for (size_t i = 0; i < 3; i++) {
    lanyard_release(&workers[i]);
    CHECK_EQUAL(lanyard_live_count(), 2 - i);
  }
}

/* ---------------------------------------------------------- a9: closing without a thread that waits for it */

TEST(a9_close_async_and_the_release_after_it_do_not_wait) {
  test_latch latch;
  unsigned closed = 0;
  answers queued = {0};
  lanyard_worker *worker = open_worker(4);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, record, &queued, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, count_call, &closed), LANYARD_OK);
  CHECK(lanyard_is_closed(worker));
  lanyard_release(&worker); /* it would wait here for the latch, which is opened below */
  CHECK_EQUAL(lanyard_quiesce(0), 1);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  CHECK_EQUAL(closed, 1);
  was_answered(&queued, LANYARD_OK);
  latch_destroy(&latch);
}

TEST(a9_a_thousand_asynchronous_closes_at_once) {
  enum { MAX = 1000 };
  static lanyard_worker *workers[MAX];
  static answers requests[MAX];
  static test_latch latches[MAX];
  unsigned closed = 0, count = (unsigned)(scaled(MAX) < MAX ? scaled(MAX) : MAX);
  lanyard_options options = sleepy_options(4);
  options.stack_size_bytes = 256 * 1024;
  memset(requests, 0, sizeof requests);
  for (unsigned i = 0; i < count; i++) {
    workers[i] = open_with(&options);
    hold(workers[i], &latches[i]); /* so that all are pending together */
    CHECK_EQUAL(lanyard_submit(workers[i], record, &requests[i], NULL), LANYARD_OK);
  }
  for (unsigned i = 0; i < count; i++) {
    lanyard_close_mode mode = i % 2 ? LANYARD_DISCARD : LANYARD_DRAIN;
    CHECK_EQUAL(lanyard_close_async(workers[i], mode, count_call, &closed), LANYARD_OK);
    if (i % 3 != 0) lanyard_release(&workers[i]);
  }
  CHECK_EQUAL(lanyard_live_count(), count);
  for (unsigned i = 0; i < count; i++) latch_open(&latches[i]);
  for (unsigned i = 0; i < count; i++) lanyard_release(&workers[i]);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  CHECK_EQUAL(closed, count);
  for (unsigned i = 0; i < count; i++) {
    was_answered(&requests[i], i % 2 ? LANYARD_CLOSED : LANYARD_OK);
    latch_destroy(&latches[i]);
  }
}

TEST(a9_several_asynchronous_closes_of_one_worker_are_each_answered) {
  test_latch latch;
  unsigned closed = 0;
  lanyard_worker *worker = open_worker(4);
  hold(worker, &latch);
  for (int i = 0; i < 5; i++)
    CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, count_call, &closed), LANYARD_OK);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, count_call, &closed), LANYARD_OK);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  CHECK_EQUAL(closed, 6);
  latch_destroy(&latch);
}

/* Asynchronous closes that are begun in callbacks. */
typedef struct async {
  lanyard_worker *worker;
  unsigned closed;
} async;

static void close_async_inside(void *argument) {
  async *self = argument;
  CHECK_EQUAL(lanyard_close_async(self->worker, LANYARD_DRAIN, count_call, &self->closed), LANYARD_OK);
  lanyard_release(&self->worker);
}

static void close_async_in_request(void *argument, lanyard_status outcome) {
  (void)outcome;
  close_async_inside(argument);
}

TEST(a9_close_async_in_a_request_that_then_drops_the_last_reference) {
  test_latch latch;
  lanyard_worker *worker = open_worker(4);
  async self = {.worker = lanyard_retain(worker)};
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, close_async_in_request, &self, NULL), LANYARD_OK);
  lanyard_release(&worker);
  latch_open(&latch);
  await_no_worker();
  CHECK_EQUAL(self.closed, 1);
  latch_destroy(&latch);
}

TEST(a9_close_async_in_on_stop_and_in_a_destructor) {
  for (int in_destructor = 0; in_destructor < 2; in_destructor++) {
    test_latch latch;
    async self = {.closed = 0};
    lanyard_options options = sleepy_options(4);
    options.context = &self;
    if (!in_destructor) options.on_stop = close_async_inside;
    CHECK_EQUAL(pthread_key_create(&destructor_key, close_async_inside), 0);
    lanyard_worker *worker = open_with(&options);
    self.worker = lanyard_retain(worker);
    if (in_destructor) CHECK_EQUAL(lanyard_call(worker, set_specific, &self), LANYARD_OK);
    hold(worker, &latch);
    CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
    lanyard_release(&worker);
    latch_open(&latch);
    await_no_worker();
    CHECK_EQUAL(self.closed, 1);
    pthread_key_delete(destructor_key);
    latch_destroy(&latch);
  }
}

/* when_closed of each worker closes the next, and opens and closes one more. */
typedef struct chain {
  lanyard_worker *next[3];
  unsigned at, closed, others;
  lanyard_status statuses[3];
} chain;

static void close_next(void *argument, lanyard_status outcome) {
  chain *self = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  self->closed++;
  if (self->at == 3) return;
  lanyard_worker *next = self->next[self->at], *other = open_worker(2);
  self->statuses[self->at++] = lanyard_close_async(next, LANYARD_DRAIN, close_next, self);
  CHECK_EQUAL(lanyard_close_async(other, LANYARD_DRAIN, count_call, &self->others), LANYARD_OK);
  lanyard_release(&other);
  CHECK_EQUAL(lanyard_close(next, LANYARD_DRAIN), LANYARD_OK);
}

TEST(a9_close_async_in_when_closed) {
  chain self = {.at = 0};
  lanyard_worker *worker = open_worker(4);
  self.next[0] = worker; /* the very worker that was closed, still owned */
  self.next[1] = open_worker(4);
  self.next[2] = open_worker(4);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, close_next, &self), LANYARD_OK);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 3);
  CHECK_EQUAL(self.closed, 4);
  CHECK_EQUAL(self.others, 3);
  for (int i = 0; i < 3; i++) {
    CHECK_EQUAL(self.statuses[i], LANYARD_OK);
    lanyard_release(&self.next[i]);
  }
}

TEST(a9_a_refused_close_async_begins_nothing) {
  answers request = {0};
  lanyard_worker *worker = open_worker(4);
  faults_at("closing", 1);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, never, NULL), LANYARD_NO_MEMORY);
  faults_at("pthread_create", UINT_MAX);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, never, NULL), LANYARD_NO_THREAD);
  faults_end(NULL);
  CHECK_EQUAL(lanyard_close_async(worker, (lanyard_close_mode)2, never, NULL), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, NULL, NULL), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_close_async(NULL, LANYARD_DRAIN, never, NULL), LANYARD_INVALID);
  CHECK(!lanyard_is_closed(worker));
  CHECK_EQUAL(lanyard_call(worker, record, &request), LANYARD_OK);
  was_answered(&request, LANYARD_OK);
  lanyard_release(&worker);
}

typedef struct quiescent {
  test_latch latch;
  bool in_time;
  size_t live;
} quiescent;

static void quiesce_inside(void *argument, lanyard_status outcome) {
  quiescent *self = argument;
  latch_request(&self->latch, outcome);
  uint64_t deadline = after(20 * SECONDS);
  self->live = lanyard_quiesce(deadline);
  self->in_time = lanyard_now_ns() < deadline;
}

TEST(a9_quiesce_in_when_closed_does_not_wait_for_closes_that_it_keeps_waiting) {
  quiescent self = {.live = 99};
  unsigned closed = 0;
  latch_init(&self.latch);
  lanyard_worker *first = open_worker(4), *second = open_worker(4);
  CHECK_EQUAL(lanyard_close_async(first, LANYARD_DRAIN, quiesce_inside, &self), LANYARD_OK);
  lanyard_release(&first);
  latch_await(&self.latch);
  CHECK_EQUAL(lanyard_close_async(second, LANYARD_DRAIN, count_call, &closed), LANYARD_OK);
  lanyard_release(&second);
  latch_open(&self.latch);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  CHECK(self.in_time);
  CHECK_EQUAL(self.live, 1);
  CHECK_EQUAL(closed, 1);
  latch_destroy(&self.latch);
}

TEST(a9_quiesce_on_a_worker_leaves_that_worker_out) {
  quiescent self = {.live = 99};
  unsigned closed = 0;
  latch_init(&self.latch);
  lanyard_worker *worker = open_worker(4);
  CHECK_EQUAL(lanyard_submit(worker, quiesce_inside, &self, NULL), LANYARD_OK);
  latch_await(&self.latch);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, count_call, &closed), LANYARD_OK);
  lanyard_release(&worker);
  latch_open(&self.latch);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  CHECK(self.in_time);
  CHECK_EQUAL(self.live, 1);
  CHECK_EQUAL(closed, 1);
  latch_destroy(&self.latch);
}

/* ---------------------------------------------------- a11: the thread does not keep the owner's worker alive */

/* As if the owner's destructor never ran: a weak handle finds the worker just as long as someone owns it. */
static void weak_finds_nothing_after(void (*use)(lanyard_worker *worker)) {
  lanyard_worker *worker = open_worker(4);
  lanyard_weak *weak = lanyard_weak_create(worker);
  use(worker);
  lanyard_worker *found = lanyard_weak_lock(weak);
  CHECK(found == worker);
  lanyard_release(&found);
  CHECK_EQUAL(lanyard_live_count(), 1);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_live_count(), 0);
  CHECK(lanyard_weak_lock(weak) == NULL);
  lanyard_weak_destroy(weak);
}

static void use_not(lanyard_worker *worker) { (void)worker; }

static void use_once(lanyard_worker *worker) {
  answers request = {0};
  CHECK_EQUAL(lanyard_call(worker, record, &request), LANYARD_OK);
}

static void use_in_vain(lanyard_worker *worker) {
  test_latch latch;
  answers request = {0};
  lanyard_ticket ticket;
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, record, &request, &ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_call_until(worker, never, NULL, after(MILLISECONDS)), LANYARD_TIMED_OUT);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_call(worker, record, &request), LANYARD_OK);
  latch_destroy(&latch);
}

TEST(a11_an_idle_thread_does_not_keep_its_worker_alive) {
  weak_finds_nothing_after(use_not);
  weak_finds_nothing_after(use_once);
  weak_finds_nothing_after(use_in_vain);
}

TEST(a11_queued_requests_do_not_keep_their_worker_alive) {
  test_latch latch;
  test_thread releaser;
  answers queued[3] = {{0}};
  watch_begin();
  lanyard_worker *worker = open_sleepy(4), *owned = worker;
  lanyard_weak *weak = lanyard_weak_create(worker);
  hold(worker, &latch);
  for (int i = 0; i < 3; i++) CHECK_EQUAL(lanyard_submit(worker, record, &queued[i], NULL), LANYARD_OK);
  thread_start(&releaser, "releaser", release_variable, &owned);
  await_sleepers(&worker->phase, 1); /* it waits for the drain; the weak handle keeps the bytes */
  CHECK(lanyard_weak_lock(weak) == NULL);
  latch_open(&latch);
  thread_join(&releaser);
  for (int i = 0; i < 3; i++) was_answered(&queued[i], LANYARD_OK);
  lanyard_weak_destroy(weak);
  watch_end();
  latch_destroy(&latch);
}

/* ------------------------------------------------- a12, l11: a request that does not return, and a deadline */

TEST(a12_close_until_gives_up_waiting_and_nothing_else) {
  test_latch latch;
  answers queued = {0};
  lanyard_worker *worker = open_worker(4);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, record, &queued, NULL), LANYARD_OK);
  for (int i = 0; i < 3; i++) {
    uint64_t deadline = i == 0 ? 0 : after((unsigned)i * MILLISECONDS);
    CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, deadline), LANYARD_TIMED_OUT);
    CHECK(lanyard_now_ns() >= deadline);
    CHECK(lanyard_is_closed(worker));
    CHECK_EQUAL(lanyard_submit(worker, never, NULL, NULL), LANYARD_CLOSED);
    CHECK_EQUAL(lanyard_live_count(), 1);
  }
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, after(3600 * SECONDS)), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_OK);
  was_answered(&queued, LANYARD_OK);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

TEST(l12_the_release_after_a_close_has_nothing_left_to_wait_for) {
  lanyard_worker *worker = open_worker(4);
  unsigned base = thread_count() - 1;
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK(eventually(threads_are_no_more_than, &base)); /* /proc shows a joined thread a moment longer */
  gate_arm(0, NULL, "joining");
  gate_arm(1, NULL, "closed");
  lanyard_release(&worker); /* held for ever if it came to either */
  CHECK(!gate_was_reached(0));
  CHECK(!gate_was_reached(1));
  CHECK_EQUAL(lanyard_live_count(), 0);
}

/* -------------------------------------------------------------- a13: an interrupt that races with the close
 *
 *     canceller                        request, worker               closer
 *     enters: the request runs
 *     | held before the hook           returns; the worker waits     waits
 *     |                                and may not go to on_stop
 *     calls the hook: still open
 *     leaves                           on_stop closes what the hook uses
 */
typedef struct engine {
  lanyard_worker *worker;
  lanyard_ticket ticket;
  bool open; /* plain: on_stop ends it, the hook looks at it */
  unsigned interrupts;
  lanyard_status status;
} engine;

static void interrupt_engine(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  engine *self = context;
  CHECK(self->open);
  self->interrupts++;
}

static void close_engine(void *argument) { ((engine *)argument)->open = false; }

static void cancel_request(void *argument) {
  engine *self = argument;
  self->status = lanyard_cancel(self->worker, self->ticket);
}

TEST(a13_on_stop_waits_for_an_interrupt_that_is_under_way) {
  test_latch latch;
  test_thread canceller;
  closer ending;
  engine self = {.open = true};
  lanyard_options options = sleepy_options(4);
  options.context = &self;
  options.interrupt = interrupt_engine;
  options.on_stop = close_engine;
  watch_begin();
  self.worker = open_with(&options);
  latch_init(&latch);
  CHECK_EQUAL(lanyard_submit(self.worker, latch_request, &latch, &self.ticket), LANYARD_OK);
  latch_await(&latch);
  gate_arm(0, "canceller", "interrupting");
  thread_start(&canceller, "canceller", cancel_request, &self);
  gate_await(0);
  start_closer(&ending, self.worker, LANYARD_DRAIN);
  latch_open(&latch);
  await_sleepers(&self.worker->running.word, 1);
  CHECK(self.open);
  gate_open(0);
  thread_join(&canceller);
  join_closer(&ending, LANYARD_OK);
  CHECK_EQUAL(self.status, LANYARD_OK);
  CHECK_EQUAL(self.interrupts, 1);
  CHECK(!self.open);
  lanyard_release(&self.worker);
  watch_end();
  latch_destroy(&latch);
}

/* ------------------------------------------------------------- a14: the waiting thread itself is cancelled */

/* Whether the closer sleeps in pthread_join: on a futex inside the worker's thread descriptor. True if
 * /proc does not tell, or no longer: then the checks that follow decide. */
static bool sleeps_in_join(void *argument) {
  const closer *self = argument;
  char path[64];
  long number = -1;
  unsigned long address = 0;
  snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)self->tid);
  FILE *file = fopen(path, "r");
  if (file == NULL) return true;
  int fields = fscanf(file, "%ld %lx", &number, &address);
  fclose(file);
  return fields == 2 && number == SYS_futex && address - (uintptr_t)self->worker->thread < 4096;
}

/*     winner                               the worker's thread
 *     wins the join                        | held in a destructor
 *     | held before pthread_join, cancelled
 *     waits there, cancelled as it is
 *                                          ends
 *     tells the others, returns OK
 */
TEST(a14_the_closer_that_joins_is_cancelled) {
  slow_destructor destructor;
  closer winner, loser;
  lanyard_worker *worker = open_with_destructor(&destructor);
  gate_arm(0, "closer", "joining");
  start_closer(&winner, worker, LANYARD_DRAIN);
  gate_await(0);
  latch_await(&destructor.latch);
  start_closer(&loser, worker, LANYARD_DRAIN);
  CHECK_EQUAL(pthread_cancel(winner.thread.thread), 0);
  gate_open(0);
  CHECK(eventually(sleeps_in_join, &winner));
  latch_open(&destructor.latch);
  join_closer(&winner, LANYARD_OK); /* it returned from close, and only then, if ever, ended */
  join_closer(&loser, LANYARD_OK);
  end_destructor(&destructor);
  close_and_release(&worker);
}

TEST(a14_closers_that_wait_are_cancelled) {
  test_latch latch;
  closer closers[2];
  lanyard_worker *worker = open_worker(4);
  hold(worker, &latch);
  gate_arm(0, "closer", "closed");
  start_closer(&closers[0], worker, LANYARD_DRAIN);
  gate_await(0);
  start_closer(&closers[1], worker, LANYARD_DRAIN);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(pthread_cancel(closers[i].thread.thread), 0);
  gate_open(0);
  latch_open(&latch);
  join_closer(&closers[0], LANYARD_OK);
  thread_join(&closers[1].thread); /* it may have been cancelled before it came to close */
  close_and_release(&worker);
  latch_destroy(&latch);
}

/* How often a closer has asked the kernel whether the thread is gone. */
static pthread_mutex_t looks_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned looks;

static bool counted_try_join(pthread_t thread, pid_t tid) {
  pthread_mutex_lock(&looks_lock);
  looks++;
  pthread_mutex_unlock(&looks_lock);
  if (!tool_is_valgrind()) return pthread_tryjoin_np(thread, NULL) == 0;
  return ly_thread_is_gone(tid) && pthread_join(thread, NULL) == 0; /* its tools know this call alone */
}

static bool has_looked(void *times) {
  pthread_mutex_lock(&looks_lock);
  bool enough = looks >= *(unsigned *)times;
  pthread_mutex_unlock(&looks_lock);
  return enough;
}

/* Its naps are cancellation points, or would be. */
TEST(a14_a_closer_with_a_deadline_is_cancelled_while_it_polls) {
  slow_destructor destructor;
  closer ending;
  unsigned thrice = 3;
  looks = 0;
  lanyard__hooks.thread_try_join = counted_try_join;
  lanyard_worker *worker = open_with_destructor(&destructor);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  latch_await(&destructor.latch);
  ending.worker = worker;
  ending.mode = LANYARD_DRAIN;
  ending.deadline_ns = after(3600 * SECONDS);
  ending.status = LANYARD_INVALID;
  gate_arm(0, "closer", "joining");
  thread_start(&ending.thread, "closer", close_on_thread, &ending);
  CHECK(eventually(has_looked, &thrice));
  CHECK_EQUAL(pthread_cancel(ending.thread.thread), 0);
  unsigned more = looks + 3;
  CHECK(eventually(has_looked, &more));
  latch_open(&destructor.latch);
  gate_open(0);
  join_closer(&ending, LANYARD_OK);
  end_destructor(&destructor);
  close_and_release(&worker);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  lanyard__hooks.thread_try_join = NULL;
}

TEST(a14_a_producer_and_a_caller_that_wait_are_cancelled) {
  static const char *const points[2] = {"room_wait", "published"};
  for (int i = 0; i < 2; i++) { /* one that waits for room, one that waits for its answer */
    test_latch latch;
    producer waiting;
    answers fill[2] = {{0}};
    lanyard_worker *worker = open_sleepy(2);
    hold(worker, &latch);
    if (i == 0)
      for (int j = 0; j < 2; j++) CHECK_EQUAL(lanyard_submit(worker, record, &fill[j], NULL), LANYARD_OK);
    gate_arm(0, "producer", points[i]);
    start_producer(&waiting, worker, i == 0 ? BY_SUBMIT : BY_CALL);
    gate_await(0);
    CHECK_EQUAL(pthread_cancel(waiting.thread.thread), 0);
    gate_open(0);
    latch_open(&latch);
    thread_join(&waiting.thread);
    CHECK_EQUAL(waiting.status, LANYARD_OK);
    CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
    was_answered(&waiting.request, LANYARD_OK);
    gates_reset();
    lanyard_release(&worker);
    latch_destroy(&latch);
  }
}

/* --------------------------------------------------- a15: what is signalled must outlive the one who signals
 *
 *     worker                                caller
 *     answers: the cell is dead now         sleeps on the core's bell
 *     | held before it rings                a signal wakes it; it sees the answer, returns,
 *     |                                     uses its stack again, and waits in the next call
 *     rings: nobody's cell is touched       is not fooled by it
 */
typedef struct caller {
  test_thread thread;
  lanyard_worker *first, *second;
  lanyard_status statuses[2];
  answers requests[2];
  bool between; /* under `looks_lock` */
} caller;

static void call_both(void *argument) {
  caller *self = argument;
  self->statuses[0] = lanyard_call(self->first, record, &self->requests[0]);
  pthread_mutex_lock(&looks_lock);
  self->between = true;
  pthread_mutex_unlock(&looks_lock);
  self->statuses[1] = lanyard_call(self->second, record, &self->requests[1]);
}

static bool has_left_the_first_call(void *argument) {
  caller *self = argument;
  pthread_kill(self->thread.thread, SIGUSR1); /* as often as it takes: it may not sleep yet */
  pthread_mutex_lock(&looks_lock);
  bool between = self->between;
  pthread_mutex_unlock(&looks_lock);
  return between;
}

static void ignore_signal(int signal_number) { (void)signal_number; }

TEST(a15_a_caller_woken_early_leaves_and_reuses_its_cell) {
  test_latch holds_first, holds_second;
  struct sigaction action = {.sa_handler = ignore_signal}, old; /* no SA_RESTART: the wait is interrupted */
  sigaction(SIGUSR1, &action, &old);
  caller self = {.first = open_sleepy(4), .second = open_sleepy(4)};
  hold(self.first, &holds_first);
  hold(self.second, &holds_second);
  gate_arm(0, "worker", "answered");
  gate_arm(1, "caller", "published");
  thread_start(&self.thread, "caller", call_both, &self);
  gate_await(1);
  gate_open(1);
  latch_open(&holds_first);
  gate_await(0);
  CHECK(eventually(has_left_the_first_call, &self));
  gate_open(0);
  CHECK_EQUAL(lanyard_close(self.first, LANYARD_DRAIN), LANYARD_OK);
  latch_open(&holds_second);
  thread_join(&self.thread);
  for (int i = 0; i < 2; i++) {
    CHECK_EQUAL(self.statuses[i], LANYARD_OK);
    was_answered(&self.requests[i], LANYARD_OK);
  }
  lanyard_release(&self.first);
  lanyard_release(&self.second);
  sigaction(SIGUSR1, &old, NULL);
  latch_destroy(&holds_first);
  latch_destroy(&holds_second);
}

/* The caller leaves with the last reference while the worker is about to ring the core's bell. */
static void call_and_release(void *argument) {
  caller *self = argument;
  self->statuses[0] = lanyard_call(self->first, record, &self->requests[0]);
  lanyard_release(&self->first);
}

TEST(a15_the_core_outlives_the_ring_of_its_bell) {
  watch_begin();
  caller self = {.first = open_sleepy(4)};
  lanyard_worker *worker = self.first;
  gate_arm(0, "worker", "answered");
  gate_arm(1, "worker", "answering");
  thread_start(&self.thread, "caller", call_and_release, &self);
  gate_await(1);
  await_sleepers(&worker->bells.bell[0], 1); /* a caller that slept is the one that is rung for */
  gate_open(1);
  gate_await(0);
  CHECK_EQUAL(lanyard_live_count(), 1);
  gate_open(0);
  thread_join(&self.thread);
  CHECK_EQUAL(self.statuses[0], LANYARD_OK);
  CHECK_EQUAL(lanyard_live_count(), 0);
  watch_end();
}

/* The thread has announced its end, and is about to wake whoever waits for that. The last owner sees the
 * end without being woken. If it freed the core now, the thread would touch it. */
TEST(a15_the_core_outlives_the_last_wakes_of_its_thread) {
  test_thread releaser;
  watch_begin();
  lanyard_worker *worker = open_sleepy(4);
  gate_arm(0, "worker", "finished");
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  gate_await(0);
  thread_start(&releaser, "releaser", release_variable, &worker);
  await_joiner();
  CHECK_EQUAL(lanyard_live_count(), 1);
  gate_open(0);
  thread_join(&releaser);
  CHECK_EQUAL(lanyard_live_count(), 0);
  watch_end();
}

/* More callers than bells: those that share one are woken for each other's answers, and look again. The one
 * that went to sleep first is answered last, so it does not do to wake whoever slept first. */
TEST(a15_two_callers_on_one_bell_each_get_their_own_answer) {
  test_latch before, between;
  producer callers[2];
  watch_begin();
  lanyard_worker *worker = open_sleepy(256);
  const _Atomic uint32_t *bell = &worker->bells.bell[0];
  hold(worker, &before);
  gate_arm(0, "producer", "published");
  start_producer(&callers[0], worker, BY_CALL);
  gate_await(0); /* in the ring, and not asleep */
  latch_init(&between);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &between, NULL), LANYARD_OK);
  start_producer(&callers[1], worker, BY_CALL);
  await_sleepers(bell, 1);
  while (ly_load(&worker->bells.turn, relaxed) % LY_BELLS != 0) /* the bells in between, one each */
    CHECK_EQUAL(lanyard_call_until(worker, never, NULL, after(MILLISECONDS)), LANYARD_TIMED_OUT);
  gate_open(0);
  await_sleepers(bell, 2);
  latch_open(&before);
  thread_join(&callers[0].thread);
  latch_await(&between);
  await_sleepers(bell, 1); /* it looked, and sleeps again */
  latch_open(&between);
  thread_join(&callers[1].thread);
  for (int i = 0; i < 2; i++) {
    CHECK_EQUAL(callers[i].status, LANYARD_OK);
    was_answered(&callers[i].request, LANYARD_OK);
  }
  lanyard_release(&worker);
  watch_end();
  latch_destroy(&before);
  latch_destroy(&between);
}

/* ----------------------------------------------------- c9: producers that wait for room when a close begins */

static void count_refusal(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_CLOSED);
  ++*(unsigned *)argument;
}

TEST(c9_producers_blocked_on_a_full_ring_are_refused_when_close_begins) {
  enum { PRODUCERS = 15 };
  static producer producers[PRODUCERS];
  test_latch latch;
  answers fill[2] = {{0}};
  unsigned refused = 0;
  watch_begin();
  lanyard_worker *worker = open_sleepy(2);
  hold(worker, &latch);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(lanyard_submit(worker, record, &fill[i], NULL), LANYARD_OK);
  for (int i = 0; i < PRODUCERS; i++)
    start_producer(&producers[i], worker, i % 3 == 0 ? BY_SUBMIT : i % 3 == 1 ? BY_DEADLINE : BY_CALL);
  await_sleepers(&worker->room.word, PRODUCERS);
  CHECK_EQUAL(lanyard_when_room(worker, count_refusal, &refused), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(refused, 1); /* on this thread */
  for (int i = 0; i < PRODUCERS; i++) { /* the worker still stands in its request */
    thread_join(&producers[i].thread);
    CHECK_EQUAL(producers[i].status, LANYARD_CLOSED);
  }
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < PRODUCERS; i++) was_never_called(&producers[i].request);
  for (int i = 0; i < 2; i++) was_answered(&fill[i], LANYARD_OK);
  CHECK_EQUAL(stats_of(worker).submitted, 3);
  lanyard_release(&worker);
  watch_end();
  latch_destroy(&latch);
}

/* ------------------------------------------------------------ l9: the last release, and weak handles with it */

TEST(l9_the_last_release_runs_what_was_accepted) {
  answers requests[100] = {{0}};
  lanyard_worker *worker = open_worker(128);
  for (int i = 0; i < 100; i++) CHECK_EQUAL(lanyard_submit(worker, record, &requests[i], NULL), LANYARD_OK);
  lanyard_release(&worker);
  for (int i = 0; i < 100; i++) was_answered(&requests[i], LANYARD_OK);
  CHECK_EQUAL(lanyard_live_count(), 0);
}

typedef struct finder {
  test_thread thread;
  lanyard_weak *weak;
  lanyard_worker *found;
} finder;

static void find(void *argument) {
  finder *self = argument;
  self->found = lanyard_weak_lock(self->weak);
}

static void find_in_request(void *argument, lanyard_status outcome) {
  (void)outcome;
  find(argument);
}

/*     finder                          owner
 *     reads: one owner
 *     | held before its exchange      drops the last reference: joined, destroyed
 *     fails, reads: none; NULL
 */
TEST(l9_a_weak_lock_that_saw_an_owner_finds_nothing_after_the_last_release) {
  lanyard_worker *worker = open_worker(4);
  finder self = {.weak = lanyard_weak_create(worker), .found = worker};
  gate_arm(0, "finder", "weak_lock");
  thread_start(&self.thread, "finder", find, &self);
  gate_await(0);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_live_count(), 0);
  gate_open(0);
  thread_join(&self.thread);
  CHECK(self.found == NULL);
  lanyard_weak_destroy(self.weak);
}

/*     finder                          owner
 *     reads: one owner
 *     | held before its exchange      finds the worker too: two owners
 *     fails, reads: two; finds it
 */
TEST(l9_a_weak_lock_whose_count_changed_looks_again) {
  lanyard_worker *worker = open_worker(4);
  finder self = {.weak = lanyard_weak_create(worker)};
  gate_arm(0, "finder", "weak_lock");
  thread_start(&self.thread, "finder", find, &self);
  gate_await(0);
  lanyard_worker *second = lanyard_weak_lock(self.weak);
  CHECK(second == worker);
  gate_open(0);
  thread_join(&self.thread);
  CHECK(self.found == worker);
  lanyard_release(&worker);
  lanyard_release(&second);
  CHECK_EQUAL(lanyard_live_count(), 1); /* the found one is a real owner */
  lanyard_release(&self.found);
  CHECK_EQUAL(lanyard_live_count(), 0);
  lanyard_weak_destroy(self.weak);
}

TEST(l9_a_weak_lock_in_a_request_finds_nothing_once_the_last_release_has_begun) {
  test_latch latch;
  test_thread releaser;
  lanyard_worker *worker = open_worker(4);
  finder self = {.weak = lanyard_weak_create(worker), .found = worker};
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, find_in_request, &self, NULL), LANYARD_OK);
  gate_arm(0, "releaser", "last_release");
  thread_start(&releaser, "releaser", release_variable, &worker);
  gate_await(0); /* no owner is left, and the ring is still open */
  latch_open(&latch);
  gate_open(0);
  thread_join(&releaser);
  CHECK(self.found == NULL);
  lanyard_weak_destroy(self.weak);
  latch_destroy(&latch);
}

TEST(l9_a_weak_handle_is_destroyed_before_or_after_its_worker) {
  lanyard_worker *worker = open_worker(4);
  lanyard_weak *early = lanyard_weak_create(worker), *late = lanyard_weak_create(worker);
  lanyard_weak_destroy(early);
  lanyard_release(&worker);
  CHECK(lanyard_weak_lock(late) == NULL);
  lanyard_weak_destroy(late);
  lanyard_weak_destroy(NULL);
  CHECK(lanyard_weak_create(NULL) == NULL);
  CHECK(lanyard_weak_lock(NULL) == NULL);
}

static void find_and_use(void *argument) {
  finder *self = argument;
  for (int i = 0; i < 20; i++) { /* not for ever: two finders could keep it alive for each other */
    if ((self->found = lanyard_weak_lock(self->weak)) == NULL) break;
    answers request = {0};
    CHECK_EQUAL(lanyard_call(self->found, record, &request), LANYARD_OK);
    was_answered(&request, LANYARD_OK);
    lanyard_release(&self->found);
  }
  lanyard_weak_destroy(self->weak);
}

TEST(l9_finders_race_the_last_release) {
  uint64_t rounds = scaled(1000);
  for (uint64_t round = 0; round < rounds; round++) {
    finder finders[2];
    lanyard_worker *worker = open_worker(4);
    for (int i = 0; i < 2; i++) {
      finders[i].weak = lanyard_weak_create(worker);
      thread_start(&finders[i].thread, "finder", find_and_use, &finders[i]);
    }
    for (uint64_t turns = random_number() % 16; turns > 0; turns--) sched_yield();
    lanyard_release(&worker);
    for (int i = 0; i < 2; i++) thread_join(&finders[i].thread);
    CHECK_EQUAL(lanyard_live_count(), 0);
  }
}

/* ----------------------------------------------------------- l9: workers that end each other, in a circle */

enum { CIRCLE_MAX = 3 };

/* A worker whose one request waits for its start and then ends its neighbour. */
typedef struct member {
  lanyard_worker *own, *neighbour; /* the main thread's reference; the request's */
  test_latch latch;
  bool closes; /* or releases */
  lanyard_status status;
} member;

static void end_neighbour(void *argument, lanyard_status outcome) {
  member *self = argument;
  latch_request(&self->latch, outcome);
  if (self->closes) self->status = lanyard_close(self->neighbour, LANYARD_DRAIN);
  else lanyard_release(&self->neighbour);
}

static void open_circle(member *members, int count, bool closes) {
  for (int i = 0; i < count; i++) {
    members[i] = (member){.own = open_sleepy(4), .closes = closes, .status = LANYARD_INVALID};
    latch_init(&members[i].latch);
  }
  for (int i = 0; i < count; i++) {
    members[i].neighbour = lanyard_retain(members[(i + 1) % count].own);
    CHECK_EQUAL(lanyard_submit(members[i].own, end_neighbour, &members[i], NULL), LANYARD_OK);
  }
  for (int i = 0; i < count; i++) latch_await(&members[i].latch);
}

/* Each drops the last reference to the next, and all have dropped before any of them goes on:
 *
 *     worker A                         worker B
 *     drops the last one to B
 *     | held                           drops the last one to A
 *     |                                | held
 *     waits for B's end                |
 *                                      would wait for A, which waits for B: buries A, ends
 *     joins B, ends; quiesce joins A
 */
static void drop_in_a_circle(int count, int first) {
  member members[CIRCLE_MAX];
  open_circle(members, count, false);
  for (int i = 0; i < count; i++) gate_arm(i, "worker", "last_release");
  for (int i = 0; i < count; i++) lanyard_release(&members[i].own);
  for (int i = 0; i < count; i++) latch_open(&members[i].latch);
  for (int i = 0; i < count; i++) gate_await(i);
  for (int i = 0; i < count; i++) gate_open((first + i) % count);
  await_no_worker();
  for (int i = 0; i < count; i++) {
    CHECK(members[i].neighbour == NULL);
    latch_destroy(&members[i].latch);
  }
  gates_reset();
}

TEST(l9_two_workers_drop_each_others_last_references_at_the_same_time) {
  for (int first = 0; first < 2; first++) drop_in_a_circle(2, first);
}
TEST(l9_three_workers_drop_each_others_last_references_in_a_circle) {
  for (int first = 0; first < 3; first++) drop_in_a_circle(3, first);
}

TEST(l9_workers_that_drop_each_other_never_hang) {
  uint64_t rounds = scaled(2000);
  for (uint64_t round = 0; round < rounds; round++) {
    member members[CIRCLE_MAX];
    int count = round % 2 ? 3 : 2;
    open_circle(members, count, false);
    for (int i = 0; i < count; i++) latch_open(&members[i].latch);
    for (int i = 0; i < count; i++) lanyard_release(&members[i].own);
    await_no_worker();
    for (int i = 0; i < count; i++) latch_destroy(&members[i].latch);
  }
}

/* Each closes the next; all but the last wait already when the last one comes. */
static void close_in_a_circle(int count, int last) {
  member members[CIRCLE_MAX];
  watch_begin();
  open_circle(members, count, true);
  for (int i = 1; i < count; i++) {
    member *one = &members[(last + i) % count];
    latch_open(&one->latch);
    await_sleepers(&one->neighbour->phase, 1);
  }
  latch_open(&members[last].latch);
  for (int i = 0; i < count; i++) CHECK_EQUAL(lanyard_close(members[i].own, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < count; i++) {
    CHECK_EQUAL(members[i].status, i == last ? LANYARD_WOULD_DEADLOCK : LANYARD_OK);
    lanyard_release(&members[i].neighbour);
    lanyard_release(&members[i].own);
    latch_destroy(&members[i].latch);
  }
  watch_end();
}

TEST(l7_of_two_workers_that_close_each_other_the_second_would_deadlock) {
  for (int last = 0; last < 2; last++) close_in_a_circle(2, last);
}
TEST(l7_of_three_workers_that_close_each_other_the_last_would_deadlock) {
  for (int last = 0; last < 3; last++) close_in_a_circle(3, last);
}

TEST(l7_workers_that_close_each_other_never_hang) {
  uint64_t rounds = scaled(2000);
  for (uint64_t round = 0; round < rounds; round++) {
    member members[CIRCLE_MAX];
    int count = round % 2 ? 3 : 2, refused = 0;
    open_circle(members, count, true);
    for (int i = 0; i < count; i++) latch_open(&members[i].latch);
    for (int i = 0; i < count; i++) CHECK_EQUAL(lanyard_close(members[i].own, LANYARD_DRAIN), LANYARD_OK);
    for (int i = 0; i < count; i++) {
      CHECK(members[i].status == LANYARD_OK || members[i].status == LANYARD_WOULD_DEADLOCK);
      refused += members[i].status == LANYARD_WOULD_DEADLOCK;
      lanyard_release(&members[i].neighbour);
      lanyard_release(&members[i].own);
      latch_destroy(&members[i].latch);
    }
    CHECK(refused <= 1); /* none, if one had ended before the circle was complete */
  }
}

/* A waits for B and B for C: nobody for himself, so nobody is refused. */
TEST(l7_a_chain_of_workers_that_close_each_other_is_no_circle) {
  member members[2];
  watch_begin();
  lanyard_worker *last = open_sleepy(4);
  test_latch latch;
  hold(last, &latch);
  for (int i = 0; i < 2; i++) {
    members[i] = (member){.own = open_sleepy(4), .closes = true};
    latch_init(&members[i].latch);
  }
  members[0].neighbour = members[1].own;
  members[1].neighbour = last;
  for (int i = 0; i < 2; i++)
    CHECK_EQUAL(lanyard_submit(members[i].own, end_neighbour, &members[i], NULL), LANYARD_OK);
  for (int i = 0; i < 2; i++) {
    latch_open(&members[i].latch);
    await_sleepers(&members[i].neighbour->phase, 1);
  }
  latch_open(&latch);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(lanyard_close(members[i].own, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < 2; i++) {
    CHECK_EQUAL(members[i].status, LANYARD_OK);
    lanyard_release(&members[i].own);
    latch_destroy(&members[i].latch);
  }
  lanyard_release(&last);
  watch_end();
  latch_destroy(&latch);
}

/* -------------------------------------------------------------- l5: calls and submits on the worker itself */

typedef struct nested {
  lanyard_worker *worker;
  unsigned depth, reached;
  lanyard_status statuses[4];
} nested;

static void call_deeper(void *argument, lanyard_status outcome) {
  nested *self = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  CHECK(lanyard_is_current(self->worker));
  self->reached++;
  if (self->depth == 4) return;
  unsigned depth = self->depth++;
  self->statuses[depth] = depth % 2 ? lanyard_call(self->worker, call_deeper, self)
                                    : lanyard_call_until(self->worker, call_deeper, self, LANYARD_FOREVER);
  CHECK(self->reached == 5); /* it ran inside, at once */
}

TEST(l5_a_call_on_the_worker_itself_runs_inline) {
  nested self = {.worker = open_worker(2)};
  CHECK_EQUAL(lanyard_call(self.worker, call_deeper, &self), LANYARD_OK);
  for (int i = 0; i < 4; i++) CHECK_EQUAL(self.statuses[i], LANYARD_OK);
  CHECK_EQUAL(self.reached, 5);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(stats_of(self.worker).submitted, 5);
  CHECK_EQUAL(stats_of(self.worker).completed, 5);
  lanyard_release(&self.worker);
}

/* A request of a worker with two slots submits a thousand more. */
typedef struct flood {
  lanyard_worker *worker;
  answers requests[1000];
  unsigned accepted[3];
  lanyard_status refusals[3];
} flood;

static lanyard_status submit_to_self(flood *self, int by, answers *request) {
  switch (by) {
    case 0: return lanyard_submit(self->worker, record, request, NULL);
    case 1: return lanyard_submit_until(self->worker, record, request, after(3600 * SECONDS), NULL);
    default: return lanyard_try_submit(self->worker, record, request, NULL);
  }
}

static void flood_self(void *argument, lanyard_status outcome) {
  flood *self = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  for (int i = 0; i < 1000; i++) {
    lanyard_status status = submit_to_self(self, i % 3, &self->requests[i]);
    if (status == LANYARD_OK) self->accepted[i % 3]++;
    else self->refusals[i % 3] = status;
  }
}

TEST(l5_a_submit_on_the_worker_itself_that_would_wait_is_refused) {
  static flood self;
  memset(&self, 0, sizeof self);
  self.worker = open_worker(2);
  CHECK_EQUAL(lanyard_call(self.worker, flood_self, &self), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(self.accepted[0] + self.accepted[1] + self.accepted[2], 2);
  CHECK_EQUAL(self.refusals[0], LANYARD_WOULD_DEADLOCK);
  CHECK_EQUAL(self.refusals[1], LANYARD_WOULD_DEADLOCK);
  CHECK_EQUAL(self.refusals[2], LANYARD_FULL);
  for (int i = 0; i < 2; i++) was_answered(&self.requests[i], LANYARD_OK);
  for (int i = 2; i < 1000; i++) was_never_called(&self.requests[i]);
  lanyard_release(&self.worker);
}
