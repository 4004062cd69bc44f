/* test_cancel.c - withdrawing what is queued, interrupting what runs, giving up at a deadline.
 *
 * The laws of cancelling (L18) and of deadlines (L19), and the hazards of replies: D1 the caller gave up,
 * D2 callbacks and locks, D3 answered twice or never, D4 a reply cannot fail, D7 nothing piles up.
 *
 * Interleavings are forced: by gates at the core's points, by latches in the tests' own requests, and by
 * watching where a thread of the core sleeps or turns in a loop. What a request leaves behind is plain
 * memory on purpose: the core's own edges have to order it.
 */
#include "gates.h"

#include <signal.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "worker.h"

/* ---------------------------------------------------------------------------------- what they share */

/* What became of one request, and on which thread it was told last. */
typedef struct answers {
  unsigned ok, cancelled, closed, timed_out;
  pthread_t on;
} answers;

static void record(void *argument, lanyard_status outcome) {
  answers *request = argument;
  request->on = pthread_self();
  switch (outcome) {
    case LANYARD_OK: request->ok++; return;
    case LANYARD_CANCELLED: request->cancelled++; return;
    case LANYARD_CLOSED: request->closed++; return;
    case LANYARD_TIMED_OUT: request->timed_out++; return;
    default: CHECK_EQUAL(outcome, LANYARD_OK); /* no documented outcome */
  }
}

static unsigned times_called(const answers *request) {
  return request->ok + request->cancelled + request->closed + request->timed_out;
}

/* Exactly once, and so. */
static void was_answered(const answers *request, lanyard_status outcome) {
  CHECK_EQUAL(times_called(request), 1);
  CHECK_EQUAL(request->ok, outcome == LANYARD_OK);
  CHECK_EQUAL(request->cancelled, outcome == LANYARD_CANCELLED);
  CHECK_EQUAL(request->closed, outcome == LANYARD_CLOSED);
  CHECK_EQUAL(request->timed_out, outcome == LANYARD_TIMED_OUT);
}

static void was_never_called(const answers *request) { CHECK_EQUAL(times_called(request), 0); }

static void never(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
  CHECK(false); /* it must not be called */
}

/* The context of a worker with an interrupt hook that counts. Only one at a time comes here. */
typedef struct hook {
  unsigned calls;
  pthread_t on;
  test_latch called;
} hook;

static void interrupt(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  hook *self = context;
  self->calls++;
  self->on = pthread_self();
  sem_post(&self->called.entered);
}

/* It sleeps as soon as it has nothing to do, so that a test sees it where it expects it. */
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

/* `self` NULL: without a hook. */
static lanyard_worker *open_hooked(hook *self, uint32_t capacity) {
  lanyard_options options = sleepy_options(capacity);
  if (self != NULL) {
    *self = (hook){.calls = 0};
    latch_init(&self->called);
    options.context = self;
    options.interrupt = interrupt;
  }
  return open_with(&options);
}

/* Returns when the worker stands in a request of ours. */
static lanyard_ticket hold(lanyard_worker *worker, test_latch *latch) {
  lanyard_ticket ticket = 0;
  latch_init(latch);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, latch, &ticket), LANYARD_OK);
  latch_await(latch);
  return ticket;
}

static lanyard_ticket queue(lanyard_worker *worker, answers *request) {
  lanyard_ticket ticket = 0;
  *request = (answers){.ok = 0};
  CHECK_EQUAL(lanyard_submit(worker, record, request, &ticket), LANYARD_OK);
  CHECK(ticket != 0);
  return ticket;
}

static void close_and_release(lanyard_worker **worker) {
  CHECK_EQUAL(lanyard_close(*worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(worker);
}

static lanyard_stats stats_of(const lanyard_worker *worker) {
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  return stats;
}

/* A thread that cancels, and what it was told. */
typedef struct canceller {
  test_thread thread;
  lanyard_worker *worker;
  lanyard_ticket ticket;
  lanyard_status status;
} canceller;

static void cancel_on_thread(void *argument) {
  canceller *self = argument;
  self->status = lanyard_cancel(self->worker, self->ticket);
}

static void start_canceller(canceller *self, lanyard_worker *worker, lanyard_ticket ticket) {
  *self = (canceller){.worker = worker, .ticket = ticket, .status = LANYARD_INVALID};
  thread_start(&self->thread, "canceller", cancel_on_thread, self);
}

static void join_canceller(canceller *self, lanyard_status wanted) {
  thread_join(&self->thread);
  CHECK_EQUAL(self->status, wanted);
}

/* ------------------------------------------------------------------------------ a clock of our own */

/* Hours pass when the test says so. */
static _Atomic uint64_t clock_ahead_ns;

static uint64_t clock_now(void) {
  return ly_clock_ns(CLOCK_MONOTONIC) + atomic_load_explicit(&clock_ahead_ns, memory_order_relaxed);
}

static const uint64_t HOUR = 3600 * SECONDS;

/* Before the test opens its worker. */
static void clock_begin(void) {
  ly_exempt(&clock_ahead_ns, sizeof clock_ahead_ns);
  atomic_store_explicit(&clock_ahead_ns, 0, memory_order_relaxed);
  lanyard__hooks.now_ns = clock_now;
}

static void pass_hours(uint64_t hours) {
  atomic_fetch_add_explicit(&clock_ahead_ns, hours * HOUR, memory_order_relaxed);
}

/* After its last worker has gone. */
static void clock_end(void) {
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  lanyard__hooks.now_ns = NULL;
}

static lanyard_ticket queue_until(lanyard_worker *worker, answers *request, uint64_t deadline_ns) {
  lanyard_ticket ticket = 0;
  *request = (answers){.ok = 0};
  CHECK_EQUAL(lanyard_submit_until(worker, record, request, deadline_ns, &ticket), LANYARD_OK);
  return ticket;
}

/* ------------------------------------------------------------------------------ l18: what is queued */

static void cancel_while_busy(hook *with) {
  test_latch latch;
  answers request;
  lanyard_worker *worker = open_hooked(with, 4);
  hold(worker, &latch);
  lanyard_ticket ticket = queue(worker, &request);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  was_answered(&request, LANYARD_CANCELLED); /* already, and the worker stands where it stood */
  CHECK(pthread_equal(request.on, pthread_self()));
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE); /* at once: the slot is still the worker's */
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  was_answered(&request, LANYARD_CANCELLED);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
  CHECK_EQUAL(stats_of(worker).cancelled, 1);
  CHECK_EQUAL(stats_of(worker).completed, 1);
  if (with != NULL) CHECK_EQUAL(with->calls, 0);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

TEST_WITHIN(20, l18_a_queued_request_is_answered_on_this_thread_before_cancel_returns) {
  cancel_while_busy(NULL);
}
TEST_WITHIN(20, l18_cancelling_twice_is_too_late_at_once_also_beside_a_hook) {
  hook with;
  cancel_while_busy(&with);
  latch_destroy(&with.called);
}

TEST(l18_the_slot_of_a_withdrawn_request_is_free_when_its_turn_would_have_come) {
  test_latch latch;
  answers requests[2], last = {0};
  lanyard_ticket tickets[2];
  lanyard_worker *worker = open_sleepy(2);
  hold(worker, &latch);
  for (int i = 0; i < 2; i++) tickets[i] = queue(worker, &requests[i]);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(lanyard_cancel(worker, tickets[i]), LANYARD_OK);
  CHECK_EQUAL(lanyard_try_submit(worker, never, NULL, NULL), LANYARD_FULL);
  CHECK_EQUAL(stats_of(worker).depth, 2); /* they wait there still */
  latch_open(&latch);
  CHECK_EQUAL(lanyard_call(worker, record, &last), LANYARD_OK);
  was_answered(&last, LANYARD_OK);
  for (int i = 0; i < 2; i++) was_answered(&requests[i], LANYARD_CANCELLED);
  close_and_release(&worker);
  latch_destroy(&latch);
}

/* Every subset of three is withdrawn, from either end; the others run in order. */
TEST(l18_each_subset_of_the_queue_can_be_withdrawn) {
  for (unsigned subset = 0; subset < 8; subset++)
    for (int backwards = 0; backwards < 2; backwards++) {
      test_latch latch;
      answers requests[3];
      lanyard_ticket tickets[3];
      lanyard_worker *worker = open_sleepy(4);
      hold(worker, &latch);
      for (int i = 0; i < 3; i++) tickets[i] = queue(worker, &requests[i]);
      for (int k = 0; k < 3; k++) {
        int i = backwards ? 2 - k : k;
        if (subset >> i & 1) CHECK_EQUAL(lanyard_cancel(worker, tickets[i]), LANYARD_OK);
      }
      latch_open(&latch);
      close_and_release(&worker);
      for (int i = 0; i < 3; i++) was_answered(&requests[i], subset >> i & 1 ? LANYARD_CANCELLED : LANYARD_OK);
      latch_destroy(&latch);
    }
}

static void cancel_during_close(lanyard_close_mode mode) {
  test_latch latch;
  answers withdrawn, left;
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &latch);
  lanyard_ticket ticket = queue(worker, &withdrawn), other = queue(worker, &left);
  CHECK_EQUAL(lanyard_close_until(worker, mode, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  was_answered(&withdrawn, LANYARD_CANCELLED);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  was_answered(&withdrawn, LANYARD_CANCELLED);
  was_answered(&left, mode == LANYARD_DRAIN ? LANYARD_OK : LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
  CHECK_EQUAL(lanyard_cancel(worker, other), LANYARD_TOO_LATE);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

TEST(l18_what_is_queued_behind_a_close_can_still_be_withdrawn) {
  cancel_during_close(LANYARD_DRAIN);
  cancel_during_close(LANYARD_DISCARD);
}

TEST(l18_a_ticket_that_was_never_given_out_is_invalid) {
  test_latch latch;
  answers request;
  lanyard_worker *worker = open_sleepy(4);
  CHECK_EQUAL(lanyard_cancel(worker, 1), LANYARD_INVALID);
  lanyard_ticket first = hold(worker, &latch), ticket = queue(worker, &request);
  CHECK(ticket != first);
  CHECK_EQUAL(lanyard_cancel(NULL, ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_cancel(worker, 0), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_cancel(worker, ticket + 1), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_cancel(worker, UINT64_MAX), LANYARD_INVALID);
  for (int bit = 40; bit < 64; bit++) /* no number but its own names it */
    CHECK_EQUAL(lanyard_cancel(worker, ticket + (UINT64_C(1) << bit)), LANYARD_INVALID);
  was_never_called(&request);
  latch_open(&latch);
  close_and_release(&worker);
  was_answered(&request, LANYARD_OK);
  latch_destroy(&latch);

  lanyard_options options = sleepy_options(4);
  options.lazy = true;
  worker = open_with(&options);
  CHECK_EQUAL(lanyard_cancel(worker, 1), LANYARD_INVALID);
  lanyard_release(&worker);
}

TEST(l18_tickets_name_their_requests_where_the_counters_come_round) {
  for (uint64_t before = 0; before < 5; before++) {
    test_latch latch;
    answers requests[4];
    lanyard_ticket tickets[4];
    counters_start_at((UINT64_C(1) << 62) - before);
    lanyard_worker *worker = open_sleepy(4);
    hold(worker, &latch);
    for (int i = 0; i < 4; i++) tickets[i] = queue(worker, &requests[i]);
    CHECK_EQUAL(lanyard_cancel(worker, tickets[1]), LANYARD_OK);
    CHECK_EQUAL(lanyard_cancel(worker, tickets[3]), LANYARD_OK);
    latch_open(&latch);
    CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
    for (int i = 0; i < 4; i++) {
      was_answered(&requests[i], i % 2 ? LANYARD_CANCELLED : LANYARD_OK);
      CHECK_EQUAL(lanyard_cancel(worker, tickets[i]), LANYARD_TOO_LATE);
    }
    lanyard_release(&worker);
    latch_destroy(&latch);
  }
  counters_start_at(0);
}

/* What a call waits for is its caller's: nobody else was given a ticket. */
typedef struct caller {
  test_thread thread;
  lanyard_worker *worker;
  lanyard_function function;
  void *argument;
  uint64_t deadline_ns;
  lanyard_status status;
} caller;

static void call_on_thread(void *argument) {
  caller *self = argument;
  self->status = lanyard_call_until(self->worker, self->function, self->argument, self->deadline_ns);
}

static void start_caller(caller *self, lanyard_worker *worker, lanyard_function function, void *argument,
                         uint64_t deadline_ns) {
  *self = (caller){.worker = worker,
                   .function = function,
                   .argument = argument,
                   .deadline_ns = deadline_ns,
                   .status = LANYARD_INVALID};
  thread_start(&self->thread, "caller", call_on_thread, self);
}

static void submit_on_thread(void *argument) {
  caller *self = argument;
  self->status = lanyard_submit_until(self->worker, self->function, self->argument, self->deadline_ns, NULL);
}

static void join_caller(caller *self, lanyard_status wanted) {
  thread_join(&self->thread);
  CHECK_EQUAL(self->status, wanted);
}

TEST(l18_a_guessed_ticket_does_not_withdraw_a_call) {
  test_latch latch;
  caller caught;
  answers request = {0};
  lanyard_worker *worker = open_sleepy(4);
  lanyard_ticket before = hold(worker, &latch);
  gate_arm(0, "caller", "published");
  start_caller(&caught, worker, record, &request, LANYARD_FOREVER);
  gate_await(0);
  gate_open(0);
  CHECK_EQUAL(lanyard_cancel(worker, before + 1), LANYARD_INVALID);
  latch_open(&latch);
  join_caller(&caught, LANYARD_OK);
  was_answered(&request, LANYARD_OK);
  close_and_release(&worker);
  latch_destroy(&latch);
}

/* ------------------------------------------------------------------ l18: cancel against take, both ways
 *
 *     canceller                       worker
 *     reads a queued request
 *     | held before its exchange      takes it, runs it
 *     fails: too late
 */
static void withdraw_loses(hook *with, lanyard_status wanted_while_it_runs) {
  test_latch before, running;
  lanyard_ticket ticket;
  canceller late;
  lanyard_worker *worker = open_hooked(with, 4);
  hold(worker, &before);
  latch_init(&running);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &running, &ticket), LANYARD_OK);
  gate_arm(0, "canceller", "withdraw");
  start_canceller(&late, worker, ticket);
  gate_await(0);
  latch_open(&before);
  latch_await(&running);
  gate_open(0);
  join_canceller(&late, wanted_while_it_runs);
  latch_open(&running);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(stats_of(worker).cancelled, 0);
  CHECK_EQUAL(stats_of(worker).completed, 2);
  lanyard_release(&worker);
  latch_destroy(&before);
  latch_destroy(&running);
}

TEST(l18_a_withdrawal_that_comes_after_the_take_is_too_late) { withdraw_loses(NULL, LANYARD_TOO_LATE); }

TEST(l18_a_withdrawal_that_comes_after_the_take_interrupts) {
  hook with;
  withdraw_loses(&with, LANYARD_OK);
  CHECK_EQUAL(with.calls, 1);
  latch_destroy(&with.called);
}

/*     worker                          canceller
 *     reads a queued request
 *     | held before its exchange      withdraws it, answers it
 *     fails, passes it over
 */
TEST(l18_a_take_that_comes_after_the_withdrawal_passes_over) {
  test_latch before;
  answers request, next;
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &before);
  lanyard_ticket ticket = queue(worker, &request);
  queue(worker, &next);
  gate_arm(0, "worker", "taking");
  latch_open(&before);
  gate_await(0);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  was_answered(&request, LANYARD_CANCELLED);
  gate_open(0);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  was_answered(&request, LANYARD_CANCELLED);
  was_answered(&next, LANYARD_OK);
  CHECK_EQUAL(stats_of(worker).completed, 2);
  lanyard_release(&worker);
  latch_destroy(&before);
}

/* The same, where what the worker was about to take was going to be discarded. */
TEST(l18_a_discard_that_comes_after_the_withdrawal_passes_over) {
  test_latch before;
  answers request;
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &before);
  lanyard_ticket ticket = queue(worker, &request);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  gate_arm(0, "worker", "taking");
  latch_open(&before);
  gate_await(0);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  gate_open(0);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  was_answered(&request, LANYARD_CANCELLED);
  CHECK_EQUAL(stats_of(worker).discarded, 0);
  lanyard_release(&worker);
  latch_destroy(&before);
}

/*     canceller                       everybody else
 *     reads a queued request
 *     | held before its exchange      it runs; its slot holds another one of the next lap
 *     fails: too late, and the other one is not its
 */
TEST(l18_a_withdrawal_does_not_take_the_next_lap_for_its_own) {
  test_latch before, now;
  answers request, others[2];
  canceller late;
  lanyard_worker *worker = open_sleepy(2);
  hold(worker, &before);
  lanyard_ticket ticket = queue(worker, &request);
  gate_arm(0, "canceller", "withdraw");
  start_canceller(&late, worker, ticket);
  gate_await(0);
  latch_open(&before);
  hold(worker, &now); /* its turn comes after the request's */
  for (int i = 0; i < 2; i++) queue(worker, &others[i]);
  gate_open(0);
  join_canceller(&late, LANYARD_TOO_LATE);
  latch_open(&now);
  close_and_release(&worker);
  was_answered(&request, LANYARD_OK);
  for (int i = 0; i < 2; i++) was_answered(&others[i], LANYARD_OK);
  latch_destroy(&before);
  latch_destroy(&now);
}

/* Both have read it as queued; one exchange succeeds. */
TEST(l18_of_two_cancellers_of_one_request_one_withdraws_it) {
  for (int first = 0; first < 2; first++) {
    test_latch latch;
    answers request;
    canceller both[2];
    lanyard_worker *worker = open_sleepy(4);
    hold(worker, &latch);
    lanyard_ticket ticket = queue(worker, &request);
    for (int i = 0; i < 2; i++) {
      gate_arm(i, "canceller", "withdraw");
      start_canceller(&both[i], worker, ticket);
      gate_await(i); /* the first one stands at gate 0, the second at gate 1 */
    }
    gate_open(first);
    join_canceller(&both[first], LANYARD_OK);
    gate_open(1 - first);
    join_canceller(&both[1 - first], LANYARD_TOO_LATE);
    was_answered(&request, LANYARD_CANCELLED);
    latch_open(&latch);
    close_and_release(&worker);
    was_answered(&request, LANYARD_CANCELLED);
    gates_reset();
    latch_destroy(&latch);
  }
}

/* ----------------------------------------------------------- l18: claimed, and not published
 *
 *     producer                        canceller
 *     claims a position
 *     | held before it publishes      knows the ticket; waits those few instructions
 *     publishes
 *                                     withdraws it (the worker is busy), answers it
 *     returns OK
 */
typedef struct producer {
  test_thread thread;
  lanyard_worker *worker;
  answers request;
  lanyard_ticket ticket;
  lanyard_status status;
} producer;

static void produce(void *argument) {
  producer *self = argument;
  self->status = lanyard_submit(self->worker, record, &self->request, &self->ticket);
}

TEST(l18_a_request_that_is_not_published_yet_is_withdrawn_once_it_is) {
  test_latch latch;
  canceller early;
  watch_begin();
  producer late = {.worker = open_sleepy(4), .status = LANYARD_INVALID};
  lanyard_ticket before = hold(late.worker, &latch);
  gate_arm(0, "producer", "claimed");
  thread_start(&late.thread, "producer", produce, &late);
  gate_await(0);
  start_canceller(&early, late.worker, before + 1);
  await_turns("canceller", 3);
  gate_open(0);
  thread_join(&late.thread);
  join_canceller(&early, LANYARD_OK);
  CHECK_EQUAL(late.status, LANYARD_OK);
  CHECK_EQUAL(late.ticket, before + 1);
  was_answered(&late.request, LANYARD_CANCELLED);
  CHECK(pthread_equal(late.request.on, early.thread.thread));
  latch_open(&latch);
  close_and_release(&late.worker);
  was_answered(&late.request, LANYARD_CANCELLED);
  watch_end();
  latch_destroy(&latch);
}

/*     producer                        worker
 *     publishes
 *     | held                          runs the request, which frees the memory that the ticket lies in
 *     returns OK
 */
typedef struct own_ticket {
  lanyard_ticket ticket;
  lanyard_ticket *seen;
  lanyard_worker *worker;
} own_ticket;

static void free_ticket(void *argument, lanyard_status outcome) {
  own_ticket *self = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  *self->seen = self->ticket;
  free(self);
}

static void submit_own_ticket(void *argument) {
  own_ticket *self = argument;
  CHECK_EQUAL(lanyard_submit(self->worker, free_ticket, self, &self->ticket), LANYARD_OK);
}

TEST(l18_the_ticket_is_written_before_its_request_can_run) {
  test_latch latch;
  test_thread thread;
  lanyard_ticket seen = 0;
  answers next = {0};
  lanyard_worker *worker = open_sleepy(4);
  lanyard_ticket before = hold(worker, &latch);
  own_ticket *self = malloc(sizeof *self);
  if (self == NULL) abort();
  *self = (own_ticket){.seen = &seen, .worker = worker};
  gate_arm(0, "producer", "published");
  thread_start(&thread, "producer", submit_own_ticket, self);
  gate_await(0);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_call(worker, record, &next), LANYARD_OK); /* its turn comes after the other's */
  CHECK_EQUAL(seen, before + 1);
  gate_open(0);
  thread_join(&thread);
  close_and_release(&worker);
  latch_destroy(&latch);
}

/* A canceller that only guesses the next ticket is told of the request through the ring alone: nothing else
 * makes it see what the producer wrote into it. */
enum { GUESSES = 512 };

typedef struct guessing {
  test_thread thread;
  lanyard_worker *worker;
  lanyard_ticket first;
  unsigned payloads[GUESSES], withdrawn;
} guessing;

static void check_payload(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_CANCELLED);
  CHECK_EQUAL(*(unsigned *)argument, 42);
}

static void submit_payloads(void *argument) {
  guessing *self = argument;
  for (int i = 0; i < GUESSES; i++) {
    self->payloads[i] = 42;
    CHECK_EQUAL(lanyard_submit(self->worker, check_payload, &self->payloads[i], NULL), LANYARD_OK);
  }
}

TEST(l18_who_withdraws_sees_what_the_producer_did) {
  static guessing self;
  test_latch latch;
  memset(&self, 0, sizeof self);
  self.worker = open_sleepy(GUESSES);
  self.first = hold(self.worker, &latch) + 1;
  thread_start(&self.thread, "producer", submit_payloads, &self);
  for (lanyard_ticket i = 0; i < GUESSES; i++) {
    lanyard_status status = LANYARD_INVALID;
    while ((status = lanyard_cancel(self.worker, self.first + i)) == LANYARD_INVALID) sched_yield();
    CHECK_EQUAL(status, LANYARD_OK);
  }
  thread_join(&self.thread);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(stats_of(self.worker).cancelled, GUESSES);
  CHECK_EQUAL(stats_of(self.worker).completed, 1);
  lanyard_release(&self.worker);
  latch_destroy(&latch);
}

/* ------------------------------------------------------------------------------ l18: what runs */

TEST(l18_the_running_request_is_interrupted_once_for_each_cancel) {
  hook with;
  test_latch latch;
  lanyard_worker *worker = open_hooked(&with, 4);
  lanyard_ticket ticket = hold(worker, &latch);
  for (unsigned i = 1; i <= 3; i++) {
    CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
    CHECK_EQUAL(with.calls, i);
    CHECK(pthread_equal(with.on, pthread_self()));
  }
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
  CHECK_EQUAL(with.calls, 3);
  CHECK_EQUAL(stats_of(worker).completed, 1);
  CHECK_EQUAL(stats_of(worker).cancelled, 0);
  lanyard_release(&worker);
  latch_destroy(&latch);
  latch_destroy(&with.called);
}

TEST(l18_a_running_request_without_a_hook_is_too_late) {
  test_latch latch;
  lanyard_worker *worker = open_sleepy(4);
  lanyard_ticket ticket = hold(worker, &latch);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
  latch_open(&latch);
  close_and_release(&worker);
  latch_destroy(&latch);
}

TEST(l18_a_request_that_has_ended_is_too_late_and_the_next_one_is_not_interrupted) {
  hook with;
  test_latch before, latch;
  answers first, skipped;
  lanyard_worker *worker = open_hooked(&with, 4);
  hold(worker, &before);
  lanyard_ticket done = queue(worker, &first), withdrawn = queue(worker, &skipped);
  CHECK_EQUAL(lanyard_cancel(worker, withdrawn), LANYARD_OK);
  latch_open(&before);
  lanyard_ticket running = hold(worker, &latch);
  CHECK_EQUAL(lanyard_cancel(worker, done), LANYARD_TOO_LATE);
  CHECK_EQUAL(lanyard_cancel(worker, withdrawn), LANYARD_TOO_LATE);
  CHECK_EQUAL(with.calls, 0);
  CHECK_EQUAL(lanyard_cancel(worker, running), LANYARD_OK);
  CHECK_EQUAL(with.calls, 1);
  latch_open(&latch);
  close_and_release(&worker);
  was_answered(&first, LANYARD_OK);
  was_answered(&skipped, LANYARD_CANCELLED);
  latch_destroy(&before);
  latch_destroy(&latch);
  latch_destroy(&with.called);
}

/*     canceller                       worker
 *     enters: the request runs
 *     | held before the hook          the request returns; the worker waits,
 *     |                               and the next one does not start
 *     calls the hook, leaves
 *                                     goes on to the next one
 */
TEST(l18_the_worker_waits_for_an_interrupt_that_is_under_way) {
  hook with;
  test_latch latch;
  answers next;
  canceller slow;
  watch_begin();
  lanyard_worker *worker = open_hooked(&with, 4);
  lanyard_ticket ticket = hold(worker, &latch);
  queue(worker, &next);
  gate_arm(0, "canceller", "interrupting");
  start_canceller(&slow, worker, ticket);
  gate_await(0);
  latch_open(&latch);
  await_sleepers(&worker->running.word, 1);
  was_never_called(&next);
  CHECK_EQUAL(with.calls, 0);
  gate_open(0);
  join_canceller(&slow, LANYARD_OK);
  CHECK_EQUAL(with.calls, 1);
  close_and_release(&worker);
  was_answered(&next, LANYARD_OK);
  watch_end();
  latch_destroy(&latch);
  latch_destroy(&with.called);
}

/* As before, and a second canceller comes when the request has ended: it does not wait for the first. */
TEST(l18_a_canceller_that_finds_the_worker_waiting_for_another_is_too_late) {
  hook with;
  test_latch latch;
  canceller slow;
  watch_begin();
  lanyard_worker *worker = open_hooked(&with, 4);
  lanyard_ticket ticket = hold(worker, &latch);
  gate_arm(0, "canceller", "interrupting");
  start_canceller(&slow, worker, ticket);
  gate_await(0);
  latch_open(&latch);
  await_sleepers(&worker->running.word, 1);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
  CHECK_EQUAL(with.calls, 0);
  gate_open(0);
  join_canceller(&slow, LANYARD_OK);
  CHECK_EQUAL(with.calls, 1);
  close_and_release(&worker);
  watch_end();
  latch_destroy(&latch);
  latch_destroy(&with.called);
}

/*     worker                          canceller
 *     takes the request
 *     | held before it says so        finds it neither queued nor running nor done: waits
 *     says that it runs, runs it      calls the hook
 */
static void wait_for_the_hook(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  latch_await(&((hook *)argument)->called);
}

TEST(l18_a_request_that_is_about_to_run_is_interrupted_once_it_does) {
  hook with;
  lanyard_ticket ticket;
  canceller early;
  watch_begin();
  lanyard_worker *worker = open_hooked(&with, 4);
  gate_arm(0, "worker", "taken");
  CHECK_EQUAL(lanyard_submit(worker, wait_for_the_hook, &with, &ticket), LANYARD_OK);
  gate_await(0);
  start_canceller(&early, worker, ticket);
  await_turns("canceller", 3);
  CHECK_EQUAL(with.calls, 0);
  gate_open(0);
  join_canceller(&early, LANYARD_OK);
  CHECK_EQUAL(with.calls, 1);
  close_and_release(&worker);
  watch_end();
  latch_destroy(&with.called);
}

/* The request's function has returned, and the worker has not said so yet: still that request. */
TEST(l18_a_request_that_is_about_to_end_is_interrupted_before_it_has) {
  hook with;
  answers request, next;
  lanyard_worker *worker = open_hooked(&with, 4);
  gate_arm(0, "worker", "finishing");
  lanyard_ticket ticket = queue(worker, &request);
  queue(worker, &next);
  gate_await(0);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  CHECK_EQUAL(with.calls, 1);
  was_never_called(&next);
  gate_open(0);
  close_and_release(&worker);
  was_answered(&request, LANYARD_OK);
  was_answered(&next, LANYARD_OK);
  latch_destroy(&with.called);
}

/* What on_start opened, the hook may use: it is told of it through the running request alone. */
typedef struct connection {
  hook with;
  unsigned handle; /* plain */
} connection;

static void connect(void *context) { ((connection *)context)->handle = 42; }

static void interrupt_connection(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  connection *self = context;
  CHECK_EQUAL(self->handle, 42);
  interrupt(&self->with, NULL, 0);
}

TEST(l18_the_hook_sees_what_on_start_did) {
  uint64_t rounds = scaled(200);
  for (uint64_t i = 0; i < rounds; i++) {
    connection self = {.handle = 0};
    lanyard_ticket ticket;
    lanyard_options options = sleepy_options(4);
    options.context = &self;
    options.on_start = connect;
    options.interrupt = interrupt_connection;
    latch_init(&self.with.called);
    lanyard_worker *worker = open_with(&options);
    CHECK_EQUAL(lanyard_submit(worker, wait_for_the_hook, &self.with, &ticket), LANYARD_OK);
    while (ly_ring_depth(&worker->ring) != 0) sched_yield(); /* no edge: it only looks at the counters */
    CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
    close_and_release(&worker);
    latch_destroy(&self.with.called);
  }
}

/* ------------------------------------------------------------------------------ l18: from inside
 *
 * Cancelling is called from each of the library's own callbacks, with a hook: none may wait for itself.
 * A regression is a hang, so each has a limit of its own.
 */
typedef struct insider {
  hook with; /* first: it is the worker's context */
  lanyard_worker *worker;
  lanyard_ticket own, other;
  lanyard_status self, twice[2];
  test_latch latch;
  bool in_hook;
} insider;

static void open_insider(insider *self) {
  memset(self, 0, sizeof *self);
  self->worker = open_hooked(&self->with, 4);
  latch_init(&self->latch);
}

static void close_insider(insider *self) {
  CHECK_EQUAL(lanyard_close(self->worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&self->worker);
  latch_destroy(&self->latch);
  latch_destroy(&self->with.called);
}

/* Of a running request: itself, and twice what is queued behind it. */
static void cancel_around(void *argument, lanyard_status outcome) {
  insider *self = argument;
  latch_request(&self->latch, outcome);
  self->self = lanyard_cancel(self->worker, self->own);
  for (int i = 0; i < 2; i++) self->twice[i] = lanyard_cancel(self->worker, self->other);
}

TEST_WITHIN(20, l18_a_request_cancels_itself_and_what_is_behind_it) {
  insider self;
  answers behind;
  open_insider(&self);
  CHECK_EQUAL(lanyard_submit(self.worker, cancel_around, &self, &self.own), LANYARD_OK);
  latch_await(&self.latch);
  self.other = queue(self.worker, &behind);
  latch_open(&self.latch);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(self.self, LANYARD_OK); /* it runs, and was interrupted */
  CHECK_EQUAL(self.with.calls, 1);
  CHECK(!pthread_equal(self.with.on, pthread_self()));
  CHECK_EQUAL(self.twice[0], LANYARD_OK);
  CHECK_EQUAL(self.twice[1], LANYARD_TOO_LATE);
  was_answered(&behind, LANYARD_CANCELLED);
  CHECK(pthread_equal(behind.on, self.with.on)); /* on the worker: it was the canceller */
  close_insider(&self);
}

static void cancel_self(void *argument, lanyard_status outcome) {
  insider *self = argument;
  (void)outcome;
  self->self = lanyard_cancel(self->worker, self->own);
  sem_post(&self->latch.entered);
}

static void cancel_in_the_answer(bool discards) {
  insider self;
  test_latch before;
  clock_begin();
  open_insider(&self);
  hold(self.worker, &before);
  CHECK_EQUAL(lanyard_submit_until(self.worker, cancel_self, &self, after(HOUR), &self.own), LANYARD_OK);
  if (discards) CHECK_EQUAL(lanyard_close_until(self.worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  else pass_hours(2);
  latch_open(&before);
  latch_await(&self.latch);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(self.self, LANYARD_TOO_LATE);
  CHECK_EQUAL(self.with.calls, 0);
  CHECK_EQUAL(stats_of(self.worker).discarded, discards);
  CHECK_EQUAL(stats_of(self.worker).timed_out, !discards);
  close_insider(&self);
  clock_end();
  latch_destroy(&before);
}

TEST_WITHIN(20, l18_a_request_that_is_being_discarded_cancels_itself) { cancel_in_the_answer(true); }
TEST_WITHIN(20, l18_a_request_that_is_being_told_of_its_deadline_cancels_itself) {
  cancel_in_the_answer(false);
}

/* The callback runs on the worker because a request has left the ring, and cancels that very request. */
TEST_WITHIN(20, l18_a_when_room_callback_cancels_the_request_that_made_the_room) {
  insider self;
  test_latch before;
  answers requests[4];
  open_insider(&self);
  hold(self.worker, &before);
  for (int i = 0; i < 4; i++) {
    lanyard_ticket ticket = queue(self.worker, &requests[i]);
    if (i == 0) self.own = ticket;
  }
  CHECK_EQUAL(lanyard_when_room(self.worker, cancel_self, &self), LANYARD_OK);
  latch_open(&before);
  latch_await(&self.latch);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < 4; i++) was_answered(&requests[i], LANYARD_OK);
  CHECK_EQUAL(self.self, self.with.calls == 1 ? LANYARD_OK : LANYARD_TOO_LATE);
  close_insider(&self);
  latch_destroy(&before);
}

/* The hook waits until the request has ended and the worker waits for the hook; then it cancels. */
static void cancel_in_the_hook(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  insider *self = context;
  CHECK(!self->in_hook); /* a second time would be for a request that has ended */
  if (self->in_hook) return;
  self->in_hook = true;
  await_sleepers(&self->worker->running.word, 1);
  self->self = lanyard_cancel(self->worker, self->own);
  for (int i = 0; i < 2; i++) self->twice[i] = lanyard_cancel(self->worker, self->other);
}

TEST_WITHIN(20, l18_the_hook_cancels_when_the_request_has_ended) {
  insider self = {.in_hook = false};
  answers behind;
  canceller caught;
  lanyard_options options = sleepy_options(4);
  options.context = &self;
  options.interrupt = cancel_in_the_hook;
  watch_begin();
  self.worker = open_with(&options);
  self.own = hold(self.worker, &self.latch);
  self.other = queue(self.worker, &behind);
  gate_arm(0, "canceller", "interrupting");
  start_canceller(&caught, self.worker, self.own);
  gate_await(0);
  latch_open(&self.latch);
  gate_open(0);
  join_canceller(&caught, LANYARD_OK);
  CHECK_EQUAL(self.self, LANYARD_TOO_LATE);
  CHECK_EQUAL(self.twice[0], LANYARD_OK);
  CHECK_EQUAL(self.twice[1], LANYARD_TOO_LATE);
  was_answered(&behind, LANYARD_CANCELLED);
  close_and_release(&self.worker);
  watch_end();
  latch_destroy(&self.latch);
}

/* --------------------------------------------------------------------------- d2: no lock is ever held */

static void count_up(void *argument, lanyard_status outcome) {
  (void)outcome;
  ++*(unsigned *)argument;
}

/* Most of what there is; each would wait for ever if its lock were held by whoever called us. */
typedef struct busybody {
  lanyard_worker *worker;
  unsigned calls, submitted, room;
} busybody;

static void use_everything(void *argument, void *cancelled, lanyard_ticket ticket) {
  (void)cancelled;
  (void)ticket;
  busybody *self = argument;
  self->calls++;
  lanyard_worker *extra = lanyard_retain(self->worker);
  lanyard_weak *weak = lanyard_weak_create(extra);
  lanyard_worker *found = lanyard_weak_lock(weak), *other = open_sleepy(2);
  CHECK(found == self->worker);
  lanyard_release(&found);
  lanyard_weak_destroy(weak);
  lanyard_release(&extra);
  lanyard_release(&other);
  CHECK_EQUAL(lanyard_try_submit(self->worker, count_up, &self->submitted, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_when_room(self->worker, count_up, &self->room), LANYARD_OK);
  CHECK_EQUAL(stats_of(self->worker).capacity, 32);
  CHECK(lanyard_live_count() == 1);
  CHECK_EQUAL(lanyard_quiesce(0), 1);
}

static void use_everything_in_answer(void *argument, lanyard_status outcome) {
  (void)outcome;
  use_everything(argument, NULL, 0);
}

TEST_WITHIN(20, d2_callbacks_use_any_function) {
  test_latch latch;
  busybody self = {.calls = 0};
  lanyard_ticket queued;
  lanyard_options options = sleepy_options(32);
  options.context = &self;
  options.interrupt = use_everything;
  self.worker = open_with(&options);
  lanyard_ticket running = hold(self.worker, &latch);
  CHECK_EQUAL(lanyard_submit(self.worker, use_everything_in_answer, &self, &queued), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(self.worker, queued), LANYARD_OK);  /* the answer to a cancel */
  CHECK_EQUAL(lanyard_cancel(self.worker, running), LANYARD_OK); /* the hook */
  CHECK_EQUAL(lanyard_when_room(self.worker, use_everything_in_answer, &self), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(self.worker, use_everything_in_answer, &self, NULL), LANYARD_OK);
  CHECK_EQUAL(self.calls, 3);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_call(self.worker, use_everything_in_answer, &self), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(self.calls, 5);
  CHECK_EQUAL(self.submitted, 5);
  CHECK_EQUAL(self.room, 5);
  lanyard_release(&self.worker);
  latch_destroy(&latch);
}

/* A withdrawn request may own the canceller's reference, and drop it. */
typedef struct last_will {
  lanyard_worker *worker;
  test_latch *latch;
} last_will;

static void release_in_answer(void *argument, lanyard_status outcome) {
  last_will *self = argument;
  CHECK_EQUAL(outcome, LANYARD_CANCELLED);
  latch_open(self->latch);
  lanyard_release(&self->worker); /* the last: it waits for the latch's request */
}

TEST(d2_the_answer_to_a_cancel_drops_the_last_reference) {
  test_latch latch;
  lanyard_ticket ticket;
  last_will self = {.worker = open_sleepy(4), .latch = &latch};
  hold(self.worker, &latch);
  CHECK_EQUAL(lanyard_submit(self.worker, release_in_answer, &self, &ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(self.worker, ticket), LANYARD_OK);
  CHECK(self.worker == NULL);
  CHECK_EQUAL(lanyard_live_count(), 0);
  latch_destroy(&latch);
}

/* ----------------------------------------------------------------------------- l18: serve, in batches */

enum { BATCHES_MAX = 16 };

typedef struct server {
  hook with; /* first: it is the worker's context */
  size_t sizes[BATCHES_MAX], count;
} server;

static void serve(void *context, lanyard_request *requests, size_t count) {
  server *self = context;
  if (self->count < BATCHES_MAX) self->sizes[self->count] = count;
  self->count++;
  for (size_t i = 0; i < count; i++) requests[i].function(requests[i].argument, LANYARD_OK);
}

static lanyard_worker *open_serving(server *self, uint32_t batch_limit) {
  memset(self, 0, sizeof *self);
  latch_init(&self->with.called);
  lanyard_options options = sleepy_options(8);
  options.context = self;
  options.interrupt = interrupt;
  options.serve = serve;
  options.batch_limit = batch_limit;
  return open_with(&options);
}

TEST(l18_a_batch_is_interrupted_as_one_running_request) {
  server self;
  test_latch before, within;
  answers a, c, d;
  lanyard_ticket b;
  lanyard_worker *worker = open_serving(&self, 3);
  hold(worker, &before);
  lanyard_ticket first = queue(worker, &a);
  latch_init(&within);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &within, &b), LANYARD_OK);
  lanyard_ticket third = queue(worker, &c), fourth = queue(worker, &d);
  latch_open(&before);
  latch_await(&within); /* a has run, b runs, c is to come, d is not of this batch */
  CHECK_EQUAL(lanyard_cancel(worker, first), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(worker, b), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(worker, third), LANYARD_OK);
  CHECK_EQUAL(self.with.calls, 3);
  CHECK_EQUAL(lanyard_cancel(worker, fourth), LANYARD_OK);
  was_answered(&d, LANYARD_CANCELLED);
  CHECK_EQUAL(self.with.calls, 3);
  latch_open(&within);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  was_answered(&a, LANYARD_OK);
  was_answered(&c, LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(worker, first), LANYARD_TOO_LATE);
  CHECK_EQUAL(self.with.calls, 3);
  CHECK_EQUAL(self.count, 2);
  CHECK_EQUAL(self.sizes[1], 3);
  lanyard_release(&worker);
  latch_destroy(&before);
  latch_destroy(&within);
  latch_destroy(&self.with.called);
}

/* Of five, the second is withdrawn: a batch has no gap, so it ends there. */
TEST(l18_a_withdrawn_request_parts_two_batches_and_is_in_neither) {
  server self;
  test_latch before, within;
  answers rest[4];
  lanyard_worker *worker = open_serving(&self, 8);
  hold(worker, &before);
  latch_init(&within);
  lanyard_ticket tickets[5];
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &within, &tickets[0]), LANYARD_OK);
  for (int i = 1; i < 5; i++) tickets[i] = queue(worker, &rest[i - 1]);
  CHECK_EQUAL(lanyard_cancel(worker, tickets[1]), LANYARD_OK);
  latch_open(&before);
  latch_await(&within);
  CHECK_EQUAL(lanyard_cancel(worker, tickets[1]), LANYARD_TOO_LATE);
  CHECK_EQUAL(self.with.calls, 0);
  CHECK_EQUAL(lanyard_cancel(worker, tickets[4]), LANYARD_OK); /* still queued, the last of all */
  CHECK_EQUAL(lanyard_cancel(worker, tickets[0]), LANYARD_OK);
  CHECK_EQUAL(self.with.calls, 1);
  latch_open(&within);
  close_and_release(&worker);
  was_answered(&rest[0], LANYARD_CANCELLED);
  was_answered(&rest[1], LANYARD_OK);
  was_answered(&rest[2], LANYARD_OK);
  was_answered(&rest[3], LANYARD_CANCELLED);
  CHECK_EQUAL(self.count, 3);
  CHECK_EQUAL(self.sizes[1], 1);
  CHECK_EQUAL(self.sizes[2], 2);
  latch_destroy(&before);
  latch_destroy(&within);
  latch_destroy(&self.with.called);
}

/* Two are in the batch already when the third is withdrawn under the worker's hand. */
TEST(l18_a_request_withdrawn_while_its_batch_is_collected_is_not_in_it) {
  server self;
  test_latch before;
  answers requests[4];
  lanyard_ticket tickets[4];
  lanyard_worker *worker = open_serving(&self, 8);
  hold(worker, &before);
  for (int i = 0; i < 4; i++) tickets[i] = queue(worker, &requests[i]);
  gate_arm_after(0, "worker", "taking", 2);
  latch_open(&before);
  gate_await(0);
  CHECK_EQUAL(lanyard_cancel(worker, tickets[2]), LANYARD_OK);
  gate_open(0);
  close_and_release(&worker);
  for (int i = 0; i < 4; i++) was_answered(&requests[i], i == 2 ? LANYARD_CANCELLED : LANYARD_OK);
  CHECK_EQUAL(self.count, 3);
  CHECK_EQUAL(self.sizes[1], 2);
  CHECK_EQUAL(self.sizes[2], 1);
  latch_destroy(&before);
  latch_destroy(&self.with.called);
}

/* The batch is held with what it has taken, before the worker says that it runs. */
TEST(l18_each_request_of_a_batch_that_is_about_to_run_is_interrupted_once_it_does) {
  server self;
  test_latch before;
  answers a;
  lanyard_ticket b;
  canceller early;
  watch_begin();
  lanyard_worker *worker = open_serving(&self, 8);
  hold(worker, &before);
  lanyard_ticket first = queue(worker, &a);
  CHECK_EQUAL(lanyard_submit(worker, wait_for_the_hook, &self.with, &b), LANYARD_OK);
  gate_arm(0, "worker", "taken");
  latch_open(&before);
  gate_await(0);
  start_canceller(&early, worker, first); /* b waits for the hook */
  await_turns("canceller", 3);
  CHECK_EQUAL(self.with.calls, 0);
  gate_open(0);
  join_canceller(&early, LANYARD_OK);
  CHECK_EQUAL(self.with.calls, 1);
  close_and_release(&worker);
  was_answered(&a, LANYARD_OK);
  watch_end();
  latch_destroy(&before);
  latch_destroy(&self.with.called);
}

TEST(l19_a_call_that_is_served_in_a_batch_returns_when_the_batch_has_run) {
  server self;
  test_latch before, behind;
  answers request = {0};
  caller waiting;
  watch_begin();
  lanyard_worker *worker = open_serving(&self, 8);
  hold(worker, &before);
  gate_arm(0, "caller", "published");
  start_caller(&waiting, worker, record, &request, LANYARD_FOREVER);
  gate_await(0);
  gate_open(0);
  await_sleepers(&worker->bells.bell[0], 1);
  latch_init(&behind);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &behind, NULL), LANYARD_OK);
  latch_open(&before);
  latch_await(&behind);                      /* of the same batch: the call has run */
  await_sleepers(&worker->bells.bell[0], 1); /* and its caller sleeps on */
  latch_open(&behind);
  join_caller(&waiting, LANYARD_OK);
  was_answered(&request, LANYARD_OK);
  close_and_release(&worker);
  CHECK_EQUAL(self.sizes[1], 2);
  watch_end();
  latch_destroy(&before);
  latch_destroy(&behind);
  latch_destroy(&self.with.called);
}

/* ------------------------------------------------------------------------- l19: call_until, step by step */

TEST(l19_a_deadline_in_the_past_refuses_before_anything_is_accepted) {
  lanyard_worker *worker = open_sleepy(4);
  lanyard_ticket ticket = 77;
  CHECK_EQUAL(lanyard_call_until(worker, never, NULL, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_call_until(worker, never, NULL, lanyard_now_ns()), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, 0, &ticket), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, lanyard_now_ns() - 1, &ticket), LANYARD_TIMED_OUT);
  CHECK_EQUAL(ticket, 77); /* not written on refusal */
  CHECK_EQUAL(stats_of(worker).submitted, 0);
  CHECK_EQUAL(stats_of(worker).timed_out, 0); /* of accepted ones only */
  close_and_release(&worker);
}

TEST(l19_a_deadline_passes_while_waiting_for_room) {
  test_latch latch;
  answers fill[2];
  caller waiting;
  clock_begin();
  watch_begin();
  lanyard_worker *worker = open_sleepy(2);
  hold(worker, &latch);
  for (int i = 0; i < 2; i++) queue(worker, &fill[i]);
  for (int submits = 0; submits < 2; submits++) {
    waiting = (caller){.worker = worker, .function = never, .deadline_ns = after(HOUR)};
    thread_start(&waiting.thread, "caller", submits ? submit_on_thread : call_on_thread, &waiting);
    await_sleepers(&worker->room.word, 1);
    pass_hours(2);
    join_caller(&waiting, LANYARD_TIMED_OUT);
  }
  CHECK_EQUAL(stats_of(worker).submitted, 3);
  CHECK_EQUAL(stats_of(worker).timed_out, 0); /* of accepted ones only */
  latch_open(&latch);
  close_and_release(&worker);
  for (int i = 0; i < 2; i++) was_answered(&fill[i], LANYARD_OK);
  watch_end();
  clock_end();
  latch_destroy(&latch);
}

TEST(l19_a_deadline_passes_in_the_ring) {
  test_latch latch;
  answers behind;
  caller waiting;
  clock_begin();
  watch_begin();
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &latch);
  start_caller(&waiting, worker, never, NULL, after(HOUR));
  await_sleepers(&worker->bells.bell[0], 1);
  pass_hours(2);
  join_caller(&waiting, LANYARD_TIMED_OUT); /* the worker stands where it stood */
  CHECK_EQUAL(stats_of(worker).timed_out, 1);
  queue(worker, &behind);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK); /* and the call has never run */
  was_answered(&behind, LANYARD_OK);
  CHECK_EQUAL(stats_of(worker).completed, 2);
  CHECK_EQUAL(stats_of(worker).timed_out, 1);
  lanyard_release(&worker);
  watch_end();
  clock_end();
  latch_destroy(&latch);
}

/* Tells that it runs, then waits for the hook. */
typedef struct interruptible {
  hook with; /* first: it is the worker's context */
  test_latch running;
  bool over; /* plain: L6 */
} interruptible;

static void run_until_interrupted(void *argument, lanyard_status outcome) {
  interruptible *self = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  sem_post(&self->running.entered);
  latch_await(&self->with.called);
  self->over = true;
}

TEST(l19_a_call_that_runs_at_the_deadline_is_interrupted_and_awaited) {
  interruptible self = {.over = false};
  caller waiting;
  clock_begin();
  watch_begin();
  lanyard_worker *worker = open_hooked(&self.with, 4);
  latch_init(&self.running);
  start_caller(&waiting, worker, run_until_interrupted, &self, after(HOUR));
  latch_await(&self.running);
  pass_hours(2);
  join_caller(&waiting, LANYARD_OK);
  CHECK(self.over);
  CHECK_EQUAL(self.with.calls, 1);
  CHECK(pthread_equal(self.with.on, waiting.thread.thread));
  close_and_release(&worker);
  CHECK_EQUAL(self.with.calls, 1);
  watch_end();
  clock_end();
  latch_destroy(&self.running);
  latch_destroy(&self.with.called);
}

TEST(l19_a_call_that_runs_at_the_deadline_is_awaited_without_a_hook) {
  test_latch running;
  caller waiting;
  clock_begin();
  watch_begin();
  lanyard_worker *worker = open_sleepy(4);
  latch_init(&running);
  start_caller(&waiting, worker, latch_request, &running, after(HOUR));
  latch_await(&running);
  pass_hours(2);
  await_endless_sleepers(&worker->bells.bell[0], 1); /* it has given up, and could not */
  latch_open(&running);
  join_caller(&waiting, LANYARD_OK);
  close_and_release(&worker);
  watch_end();
  clock_end();
  latch_destroy(&running);
}

/*     worker                          caller
 *     takes the call
 *     | held before it says so        its deadline passes; neither queued nor running nor done: waits
 *     says that it runs, runs it      interrupts it, and awaits it
 */
TEST(l19_a_deadline_passes_between_take_and_run) {
  hook with;
  caller impatient;
  clock_begin();
  watch_begin();
  lanyard_worker *worker = open_hooked(&with, 4);
  gate_arm(0, "worker", "taken");
  start_caller(&impatient, worker, wait_for_the_hook, &with, after(HOUR));
  gate_await(0);
  await_sleepers(&worker->bells.bell[0], 1);
  pass_hours(2);
  await_turns("caller", 3); /* in search of what it gave up */
  CHECK_EQUAL(with.calls, 0);
  gate_open(0);
  join_caller(&impatient, LANYARD_OK);
  CHECK_EQUAL(with.calls, 1);
  close_and_release(&worker);
  watch_end();
  clock_end();
  latch_destroy(&with.called);
}

/*     worker                          caller
 *     has run the call
 *     | held before it answers        its deadline passes; done: too late for an interrupt
 *     answers                         returns what was answered
 */
TEST(d1_a_caller_that_gives_up_when_its_answer_is_due_takes_the_answer) {
  hook with;
  answers request = {0};
  caller impatient;
  clock_begin();
  watch_begin();
  lanyard_worker *worker = open_hooked(&with, 4);
  gate_arm(0, "worker", "answering");
  start_caller(&impatient, worker, record, &request, after(HOUR));
  gate_await(0);
  await_sleepers(&worker->bells.bell[0], 1);
  pass_hours(2);
  await_endless_sleepers(&worker->bells.bell[0], 1); /* it has given up, and could not */
  gate_open(0);
  join_caller(&impatient, LANYARD_OK);
  was_answered(&request, LANYARD_OK);
  CHECK_EQUAL(with.calls, 0);
  close_and_release(&worker);
  watch_end();
  clock_end();
  latch_destroy(&with.called);
}

/*     caller                          worker
 *     its deadline passes; it reads its request as queued
 *     | held before its exchange      takes it, runs it
 *     fails: awaits the answer
 */
TEST(d1_a_caller_whose_withdrawal_comes_after_the_take_takes_the_answer) {
  test_latch before;
  answers request = {0};
  caller impatient;
  clock_begin();
  watch_begin();
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &before);
  gate_arm(0, "caller", "withdraw");
  start_caller(&impatient, worker, record, &request, after(HOUR));
  await_sleepers(&worker->bells.bell[0], 1);
  pass_hours(2);
  gate_await(0);
  latch_open(&before);
  CHECK_EQUAL(lanyard_call(worker, record, &(answers){0}), LANYARD_OK); /* its turn comes after the other's */
  was_answered(&request, LANYARD_OK);
  gate_open(0);
  join_caller(&impatient, LANYARD_OK);
  was_answered(&request, LANYARD_OK);
  close_and_release(&worker);
  watch_end();
  clock_end();
  latch_destroy(&before);
}

/*     worker                          caller
 *     reads the call as queued
 *     | held before its exchange      its deadline passes; withdraws it, returns: its stack is gone
 *     fails, passes it over, and touches nothing of the caller's
 */
TEST(d1_a_worker_whose_take_comes_after_the_withdrawal_leaves_the_caller_alone) {
  caller impatient;
  clock_begin();
  watch_begin();
  lanyard_worker *worker = open_sleepy(4);
  gate_arm(0, "worker", "taking");
  start_caller(&impatient, worker, never, NULL, after(HOUR));
  gate_await(0);
  await_sleepers(&worker->bells.bell[0], 1);
  pass_hours(2);
  join_caller(&impatient, LANYARD_TIMED_OUT);
  gate_open(0);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(stats_of(worker).completed, 0);
  CHECK_EQUAL(stats_of(worker).timed_out, 1);
  lanyard_release(&worker);
  watch_end();
  clock_end();
}

TEST(d1_a_discarded_call_is_told_so_by_its_status_alone) {
  test_latch before;
  caller waiting;
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &before);
  gate_arm(0, "caller", "published");
  start_caller(&waiting, worker, never, NULL, after(3600 * SECONDS));
  gate_await(0);
  gate_open(0);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  latch_open(&before);
  join_caller(&waiting, LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(stats_of(worker).discarded, 1);
  lanyard_release(&worker);
  latch_destroy(&before);
}

static void call_inline(void *argument, lanyard_status outcome) {
  lanyard_worker *worker = argument;
  answers request = {0};
  CHECK_EQUAL(outcome, LANYARD_OK);
  CHECK_EQUAL(lanyard_call_until(worker, never, NULL, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_call_until(worker, record, &request, after(3600 * SECONDS)), LANYARD_OK);
  was_answered(&request, LANYARD_OK);
}

TEST(l19_a_deadline_counts_for_an_inline_call_too) {
  lanyard_worker *worker = open_sleepy(4);
  CHECK_EQUAL(lanyard_call(worker, call_inline, worker), LANYARD_OK);
  close_and_release(&worker);
}

/* --------------------------------------------------------- d1: a signal wakes the caller before its answer
 *
 *     worker                          caller
 *     has run the call                sleeps
 *     | held before it answers        a signal wakes it: no answer, so it sleeps again
 *     answers, rings                  returns
 */
static sem_t signalled;

static void note_signal(int signal_number) {
  (void)signal_number;
  sem_post(&signalled);
}

TEST(d1_a_signal_is_no_answer) {
  test_latch before;
  answers request = {0};
  caller waiting;
  struct sigaction action = {.sa_handler = note_signal}, old; /* no SA_RESTART: the wait is interrupted */
  sem_init(&signalled, 0, 0);
  sigaction(SIGUSR1, &action, &old);
  watch_begin();
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &before);
  gate_arm(0, "worker", "answering");
  start_caller(&waiting, worker, record, &request, LANYARD_FOREVER);
  await_sleepers(&worker->bells.bell[0], 1);
  latch_open(&before);
  gate_await(0);
  for (int i = 0; i < 3; i++) {
    CHECK_EQUAL(pthread_kill(waiting.thread.thread, SIGUSR1), 0);
    while (sem_wait(&signalled) != 0) continue;
    await_sleepers(&worker->bells.bell[0], 1);
  }
  gate_open(0);
  join_caller(&waiting, LANYARD_OK);
  was_answered(&request, LANYARD_OK);
  close_and_release(&worker);
  watch_end();
  sigaction(SIGUSR1, &old, NULL);
  sem_destroy(&signalled);
  latch_destroy(&before);
}

/* -------------------------------------------------------------------- l19: submit_until, on a clock of ours */

TEST(l19_a_request_whose_turn_comes_after_its_deadline_is_told_so_on_the_worker) {
  test_latch latch;
  answers late[2], early, plain, for_ever, absurd;
  clock_begin();
  lanyard_worker *worker = open_sleepy(8);
  hold(worker, &latch);
  queue_until(worker, &late[0], after(1 * HOUR));
  queue_until(worker, &early, after(9 * HOUR));
  queue_until(worker, &late[1], after(4 * HOUR));
  queue(worker, &plain);
  queue_until(worker, &for_ever, LANYARD_FOREVER);
  queue_until(worker, &absurd, LANYARD_FOREVER - 1);
  pass_hours(5);
  for (int i = 0; i < 2; i++) was_never_called(&late[i]); /* by nobody but the worker, in its turn */
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < 2; i++) {
    was_answered(&late[i], LANYARD_TIMED_OUT);
    CHECK(pthread_equal(late[i].on, plain.on));
  }
  was_answered(&early, LANYARD_OK);
  was_answered(&plain, LANYARD_OK);
  was_answered(&for_ever, LANYARD_OK);
  was_answered(&absurd, LANYARD_OK);
  CHECK_EQUAL(stats_of(worker).timed_out, 2);
  CHECK_EQUAL(stats_of(worker).completed, 5);
  lanyard_release(&worker);
  clock_end();
  latch_destroy(&latch);
}

TEST(l19_a_deadline_is_for_the_start_and_not_for_the_run) {
  test_latch running;
  lanyard_ticket ticket;
  hook with;
  clock_begin();
  lanyard_worker *worker = open_hooked(&with, 4);
  latch_init(&running);
  CHECK_EQUAL(lanyard_submit_until(worker, latch_request, &running, after(HOUR), &ticket), LANYARD_OK);
  latch_await(&running);
  pass_hours(2);
  latch_open(&running);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(stats_of(worker).completed, 1);
  CHECK_EQUAL(with.calls, 0);
  lanyard_release(&worker);
  clock_end();
  latch_destroy(&running);
  latch_destroy(&with.called);
}

TEST(l19_a_request_past_its_deadline_can_be_withdrawn_before_its_turn) {
  test_latch latch;
  answers request;
  clock_begin();
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &latch);
  lanyard_ticket ticket = queue_until(worker, &request, after(HOUR));
  pass_hours(2);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  was_answered(&request, LANYARD_CANCELLED);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  was_answered(&request, LANYARD_CANCELLED);
  CHECK_EQUAL(stats_of(worker).timed_out, 0);
  lanyard_release(&worker);
  clock_end();
  latch_destroy(&latch);
}

TEST(l19_a_discard_comes_before_a_deadline) {
  test_latch latch;
  answers request;
  clock_begin();
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &latch);
  queue_until(worker, &request, after(HOUR));
  pass_hours(2);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  latch_open(&latch);
  close_and_release(&worker);
  was_answered(&request, LANYARD_CLOSED);
  clock_end();
  latch_destroy(&latch);
}

TEST(l19_a_deadline_that_passed_parts_two_batches) {
  server self;
  test_latch latch;
  answers requests[5];
  clock_begin();
  lanyard_worker *worker = open_serving(&self, 8);
  hold(worker, &latch);
  for (int i = 0; i < 5; i++) queue_until(worker, &requests[i], after(i == 2 ? HOUR : 9 * HOUR));
  pass_hours(2);
  latch_open(&latch);
  close_and_release(&worker);
  for (int i = 0; i < 5; i++) was_answered(&requests[i], i == 2 ? LANYARD_TIMED_OUT : LANYARD_OK);
  CHECK_EQUAL(self.count, 3);
  CHECK_EQUAL(self.sizes[1], 2);
  CHECK_EQUAL(self.sizes[2], 2);
  clock_end();
  latch_destroy(&latch);
  latch_destroy(&self.with.called);
}

/* ------------------------------------------------------------------- d4, d7: nothing fails, nothing piles up */

static size_t allocated_bytes(void) {
#if defined(__GLIBC__)
  if (tool_is("native")) return mallinfo2().uordblks;
#endif
  return 0;
}

static void cancel_late(hook *with) {
  answers request;
  lanyard_worker *worker = open_hooked(with, 4);
  lanyard_ticket ticket = queue(worker, &request);
  CHECK_EQUAL(lanyard_call(worker, record, &(answers){0}), LANYARD_OK); /* it has run */
  faults_begin(0, false); /* counts the core's fallible calls: each allocation is one */
  size_t before = allocated_bytes();
  uint64_t rounds = scaled(500000);
  uint64_t too_late = 0;
  for (uint64_t i = 0; i < rounds; i++) too_late += lanyard_cancel(worker, ticket) == LANYARD_TOO_LATE;
  CHECK_EQUAL(too_late, rounds);
  CHECK_EQUAL(allocated_bytes(), before);
  CHECK_EQUAL(faults_end(NULL), 0);
  close_and_release(&worker);
  was_answered(&request, LANYARD_OK);
}

TEST(d7_a_million_late_cancels_leave_nothing_behind) {
  hook with;
  cancel_late(NULL);
  cancel_late(&with);
  CHECK_EQUAL(with.calls, 0);
  latch_destroy(&with.called);
}

/* Each in its turn too late, while another one runs; no id is kept for later. */
TEST(d7_a_late_cancel_does_not_wait_for_its_number_to_come_again) {
  hook with;
  lanyard_worker *worker = open_hooked(&with, 2);
  uint64_t rounds = scaled(20000);
  for (uint64_t i = 0; i < rounds; i++) {
    answers request;
    lanyard_ticket ticket = queue(worker, &request);
    CHECK_EQUAL(lanyard_call(worker, count_up, &(unsigned){0}), LANYARD_OK);
    CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
    was_answered(&request, LANYARD_OK);
  }
  close_and_release(&worker);
  CHECK_EQUAL(with.calls, 0);
  latch_destroy(&with.called);
}

TEST(d4_submits_cancels_and_replies_allocate_nothing_and_cannot_fail) {
  test_latch latch;
  answers requests[3], called = {0};
  lanyard_worker *worker = open_sleepy(4);
  faults_begin(1, true); /* from here on every fallible call fails */
  hold(worker, &latch);
  for (int i = 0; i < 2; i++) queue(worker, &requests[i]);
  CHECK_EQUAL(lanyard_cancel(worker, queue(worker, &requests[2])), LANYARD_OK);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_call(worker, record, &called), LANYARD_OK);
  CHECK_EQUAL(lanyard_call_until(worker, record, &called, after(HOUR)), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DISCARD), LANYARD_OK);
  CHECK_EQUAL(called.ok, 2);
  for (int i = 0; i < 3; i++) was_answered(&requests[i], i == 2 ? LANYARD_CANCELLED : LANYARD_OK);
  lanyard_release(&worker);
  CHECK_EQUAL(faults_end(NULL), 0);
  latch_destroy(&latch);
}

/* ------------------------------------------------------------- d3: cancel and complete race, unforced
 *
 * One thread submits, and cancels every third request itself, at once. Two others go over what was
 * submitted, one from the front and one from the back. Each request is answered exactly once; without a
 * hook exactly the withdrawn ones are those that one cancel said OK for.
 */
enum { CROWD = 500, CROWD_CANCELLERS = 2 };

typedef struct crowd {
  lanyard_worker *worker;
  answers requests[CROWD + 1]; /* the last is never submitted */
  lanyard_ticket tickets[CROWD];
  lanyard_status statuses[CROWD_CANCELLERS + 1][CROWD]; /* of each canceller; the last is the producer */
  unsigned available; /* under `lock`: how many tickets may be read */
  pthread_mutex_t lock;
} crowd;

static _Thread_local unsigned interrupting; /* the index of what this thread cancels */

/* The next request must not have begun. Plain: it cannot begin before this returns. */
static void interrupt_crowd(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  crowd *self = context;
  CHECK_EQUAL(self->requests[interrupting + 1].ok, 0);
}

static void cancel_one(crowd *self, unsigned who, unsigned index) {
  interrupting = index;
  self->statuses[who][index] = lanyard_cancel(self->worker, self->tickets[index]);
}

typedef struct crowd_canceller {
  test_thread thread;
  crowd *crowd;
  unsigned who;
} crowd_canceller;

static unsigned available(crowd *self) {
  pthread_mutex_lock(&self->lock);
  unsigned count = self->available;
  pthread_mutex_unlock(&self->lock);
  return count;
}

static void cancel_the_crowd(void *argument) {
  crowd_canceller *self = argument;
  for (unsigned done = 0; done < CROWD;) {
    unsigned count = available(self->crowd);
    if (count == done) sched_yield();
    for (unsigned i = done; i < count; i++)
      cancel_one(self->crowd, self->who, self->who == 0 ? i : done + count - 1 - i);
    done = count;
  }
}

static void submit_the_crowd(crowd *self) {
  for (unsigned i = 0; i < CROWD; i++) {
    CHECK_EQUAL(lanyard_submit(self->worker, record, &self->requests[i], &self->tickets[i]), LANYARD_OK);
    self->statuses[CROWD_CANCELLERS][i] = LANYARD_TOO_LATE;
    if (i % 3 == 0) cancel_one(self, CROWD_CANCELLERS, i);
    pthread_mutex_lock(&self->lock);
    self->available = i + 1;
    pthread_mutex_unlock(&self->lock);
  }
}

static void judge_the_crowd(const crowd *self, bool hooked, uint64_t *cancelled) {
  unsigned withdrawn = 0;
  for (unsigned i = 0; i < CROWD; i++) {
    unsigned oks = 0;
    for (unsigned who = 0; who <= CROWD_CANCELLERS; who++) {
      lanyard_status status = self->statuses[who][i];
      CHECK(status == LANYARD_OK || status == LANYARD_TOO_LATE);
      oks += status == LANYARD_OK;
    }
    const answers *request = &self->requests[i];
    was_answered(request, request->cancelled ? LANYARD_CANCELLED : LANYARD_OK);
    if (request->cancelled) CHECK_EQUAL(oks, 1);
    else if (!hooked) CHECK_EQUAL(oks, 0);
    withdrawn += request->cancelled;
  }
  CHECK_EQUAL(stats_of(self->worker).cancelled, withdrawn);
  CHECK_EQUAL(stats_of(self->worker).completed, CROWD - withdrawn);
  *cancelled += withdrawn;
}

static void race_the_crowd(uint32_t capacity, bool hooked, uint64_t *cancelled) {
  static crowd self;
  memset(&self, 0, sizeof self);
  pthread_mutex_init(&self.lock, NULL);
  lanyard_options options = sleepy_options(capacity);
  options.context = &self;
  if (hooked) options.interrupt = interrupt_crowd;
  self.worker = open_with(&options);
  crowd_canceller cancellers[CROWD_CANCELLERS];
  for (unsigned i = 0; i < CROWD_CANCELLERS; i++) {
    cancellers[i].crowd = &self;
    cancellers[i].who = i;
    thread_start(&cancellers[i].thread, "canceller", cancel_the_crowd, &cancellers[i]);
  }
  submit_the_crowd(&self);
  for (unsigned i = 0; i < CROWD_CANCELLERS; i++) thread_join(&cancellers[i].thread);
  CHECK_EQUAL(lanyard_close(self.worker, LANYARD_DRAIN), LANYARD_OK);
  judge_the_crowd(&self, hooked, cancelled);
  lanyard_release(&self.worker);
  pthread_mutex_destroy(&self.lock);
}

static void race(bool hooked) {
  uint64_t rounds = scaled(200), cancelled = 0;
  for (uint64_t i = 0; i < rounds; i++) race_the_crowd(i % 2 ? 4 : 64, hooked, &cancelled);
  printf("#    %llu requests, %llu of them withdrawn\n", (unsigned long long)(rounds * CROWD),
         (unsigned long long)cancelled);
}

TEST(d3_a_hundred_thousand_cancels_race_completion_and_each_request_is_answered_once) { race(false); }
TEST(d3_a_hundred_thousand_interrupts_race_completion_and_none_hits_the_next_request) { race(true); }

/* Calls with deadlines about as long as their way through the ring. */
typedef struct hasty {
  test_thread thread;
  lanyard_worker *worker;
  unsigned ran, timed_out;
} hasty;

static void call_hastily(void *argument) {
  hasty *self = argument;
  uint64_t rounds = scaled(10000);
  for (uint64_t i = 0; i < rounds; i++) {
    answers request = {0};
    lanyard_status status =
        lanyard_call_until(self->worker, record, &request, after(random_number() % 20000));
    CHECK(status == LANYARD_OK || status == LANYARD_TIMED_OUT);
    CHECK_EQUAL(times_called(&request), status == LANYARD_OK);
    CHECK_EQUAL(request.ok, status == LANYARD_OK);
    if (status == LANYARD_OK) self->ran++;
    else self->timed_out++;
  }
}

static void ignore_interrupt(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  (void)context;
}

TEST(d1_calls_that_give_up_race_their_answers) {
  for (int hooked = 0; hooked < 2; hooked++) {
    hasty callers[3] = {{.ran = 0}};
    lanyard_options options = sleepy_options(4);
    if (hooked) options.interrupt = ignore_interrupt;
    lanyard_worker *worker = open_with(&options);
    for (int i = 0; i < 3; i++) {
      callers[i].worker = worker;
      thread_start(&callers[i].thread, "caller", call_hastily, &callers[i]);
    }
    unsigned ran = 0;
    for (int i = 0; i < 3; i++) {
      thread_join(&callers[i].thread);
      ran += callers[i].ran;
    }
    CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
    CHECK_EQUAL(stats_of(worker).completed, ran);
    lanyard_release(&worker);
  }
}
