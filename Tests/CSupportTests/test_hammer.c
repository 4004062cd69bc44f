/* test_hammer.c - producers against closers against cancellers, over small rings, many times.
 *
 * Each round opens a worker, lets 3 producers submit in every way there is, 2 cancellers cancel what they
 * find, and 2 closers close it under them in a random way. Then each request is asked what became of it:
 *
 *   accepted   answered exactly once, with a reason that some party really gave
 *   refused    never called
 *   all run    in their producer's order, one at a time
 *   counters   submitted = completed + cancelled + discarded + timed out
 */
#include "gates.h"
#include "worker.h"

enum { PRODUCERS = 3, CANCELLERS = 2, CLOSERS = 2, PER_PRODUCER = 64 };

typedef struct record {
  struct round *round;
  unsigned producer, index;
  _Atomic unsigned answers;
  _Atomic int outcome;
  _Atomic lanyard_ticket ticket;
  bool accepted, called; /* called: it was a lanyard_call, which reports by its return value */
  lanyard_status returned;
} record;

typedef struct round {
  lanyard_worker *worker;
  bool serves, interrupts;
  record records[PRODUCERS][PER_PRODUCER];
  _Atomic bool over;
  _Atomic unsigned submits; /* made so far, accepted or not: closers come after a random number of them */
  _Atomic unsigned interrupted;
  /* The worker's own. */
  unsigned running, next[PRODUCERS];
} round_state;

static uint64_t total_requests, total_run, total_cancelled, total_discarded, total_timed_out, total_refused;

static void answer(void *argument, lanyard_status outcome) {
  record *request = argument;
  round_state *round = request->round;
  atomic_fetch_add(&request->answers, 1u);
  atomic_store(&request->outcome, (int)outcome);
  if (outcome != LANYARD_OK) return;
  CHECK_EQUAL(++round->running, 1); /* plain: L3, and a data race if it were broken */
  CHECK(round->next[request->producer] <= request->index);
  round->next[request->producer] = request->index + 1;
  if (random_number() % 64 == 0) sched_yield();
  round->running--;
}

static void serve(void *context, lanyard_request *requests, size_t count) {
  (void)context;
  for (size_t i = 0; i < count; i++) requests[i].function(requests[i].argument, LANYARD_OK);
}

static void interrupt(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  atomic_fetch_add(&((round_state *)context)->interrupted, 1u);
}

static lanyard_status submit_somehow(record *request, lanyard_ticket *ticket) {
  lanyard_worker *worker = request->round->worker;
  uint64_t number = random_number(), soon = after(number / 8 % 50000);
  request->called = number % 8 == 1 || number % 8 == 2;
  switch (number % 8) {
    case 0: return lanyard_try_submit(worker, answer, request, ticket);
    case 1: return lanyard_call(worker, answer, request);
    case 2: return lanyard_call_until(worker, answer, request, soon);
    case 3: return lanyard_submit_until(worker, answer, request, soon, ticket);
    default: return lanyard_submit(worker, answer, request, ticket);
  }
}

static void produce(void *argument) {
  record *records = argument;
  for (unsigned i = 0; i < PER_PRODUCER; i++) {
    lanyard_ticket ticket = 0;
    records[i].returned = submit_somehow(&records[i], &ticket);
    records[i].accepted = records[i].returned == LANYARD_OK;
    atomic_store(&records[i].ticket, ticket);
    atomic_fetch_add(&records[i].round->submits, 1u);
  }
}

static void cancel_at_random(void *argument) {
  round_state *round = argument;
  while (!atomic_load(&round->over)) {
    uint64_t number = random_number();
    record *victim = &round->records[number % PRODUCERS][number / PRODUCERS % PER_PRODUCER];
    lanyard_ticket ticket = atomic_load(&victim->ticket);
    if (ticket != 0) {
      lanyard_status status = lanyard_cancel(round->worker, ticket);
      CHECK(status == LANYARD_OK || status == LANYARD_TOO_LATE);
    }
    if (number % 8 == 0) sched_yield();
  }
}

static void ignore(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  atomic_fetch_add((_Atomic unsigned *)argument, 1u);
}

static void close_somehow(void *argument) {
  round_state *round = argument;
  static _Atomic unsigned ignored;
  uint64_t number = random_number();
  while (atomic_load(&round->submits) < number / 64 % (PRODUCERS * PER_PRODUCER)) usleep(20);
  lanyard_close_mode mode = number % 2 ? LANYARD_DISCARD : LANYARD_DRAIN;
  lanyard_status status;
  switch (number / 4 % 4) {
    case 0: status = lanyard_close_until(round->worker, mode, after(number % 100000)); break;
    case 1: status = lanyard_close_async(round->worker, mode, ignore, (void *)&ignored); break;
    default: status = lanyard_close(round->worker, mode); break;
  }
  CHECK(status == LANYARD_OK || status == LANYARD_TIMED_OUT);
}

static void open_round(round_state *round, uint32_t capacity) {
  memset(round, 0, sizeof *round);
  uint64_t number = random_number();
  round->serves = number % 2;
  round->interrupts = number / 2 % 2;
  for (unsigned p = 0; p < PRODUCERS; p++)
    for (unsigned i = 0; i < PER_PRODUCER; i++) {
      round->records[p][i].round = round;
      round->records[p][i].producer = p;
      round->records[p][i].index = i;
    }
  /* The test's own atomics; the rest of a record has one writer and is read after a join. */
  for (unsigned p = 0; p < PRODUCERS; p++)
    for (unsigned i = 0; i < PER_PRODUCER; i++) {
      record *request = &round->records[p][i];
      ly_exempt(&request->answers, sizeof request->answers);
      ly_exempt(&request->outcome, sizeof request->outcome);
      ly_exempt(&request->ticket, sizeof request->ticket);
      (void)request;
    }
  ly_exempt(&round->over, sizeof round->over);
  ly_exempt(&round->submits, sizeof round->submits);
  ly_exempt(&round->interrupted, sizeof round->interrupted);

  lanyard_options options;
  lanyard_options_init(&options);
  options.capacity = capacity;
  options.batch_limit = (uint32_t)(1 + number / 4 % 8);
  options.spin_ns = number / 32 % 2 ? 0 : 20000;
  options.lazy = number / 64 % 4 == 0;
  options.context = round;
  if (round->serves) options.serve = serve;
  if (round->interrupts) options.interrupt = interrupt;
  if (!CHECK_EQUAL(lanyard_open(&options, &round->worker), LANYARD_OK)) abort();
}

static void judge(const record *request, lanyard_stats *sum) {
  unsigned answers = atomic_load(&request->answers);
  lanyard_status outcome = (lanyard_status)atomic_load(&request->outcome);
  total_requests++;
  if (request->called) { /* called only if it ran */
    CHECK_EQUAL(answers, request->returned == LANYARD_OK);
    if (answers) CHECK_EQUAL(outcome, LANYARD_OK);
    sum->completed += answers;
    total_refused += !answers;
  } else if (request->accepted) {
    CHECK_EQUAL(answers, 1);
    sum->completed += outcome == LANYARD_OK;
    sum->cancelled += outcome == LANYARD_CANCELLED;
    sum->discarded += outcome == LANYARD_CLOSED;
    sum->timed_out += outcome == LANYARD_TIMED_OUT;
    CHECK(outcome == LANYARD_OK || outcome == LANYARD_CANCELLED || outcome == LANYARD_CLOSED ||
          outcome == LANYARD_TIMED_OUT);
  } else {
    CHECK_EQUAL(answers, 0);
    CHECK(request->returned == LANYARD_CLOSED || request->returned == LANYARD_FULL ||
          request->returned == LANYARD_TIMED_OUT);
    total_refused++;
  }
}

static void judge_round(round_state *round) {
  lanyard_stats sum = {.size = sizeof sum}, stats = {.size = sizeof stats};
  for (unsigned p = 0; p < PRODUCERS; p++)
    for (unsigned i = 0; i < PER_PRODUCER; i++) judge(&round->records[p][i], &sum);
  CHECK_EQUAL(lanyard_get_stats(round->worker, &stats), LANYARD_OK);
  CHECK_EQUAL(stats.submitted, stats.completed + stats.cancelled + stats.discarded + stats.timed_out);
  CHECK_EQUAL(stats.completed, sum.completed);
  CHECK_EQUAL(stats.cancelled, sum.cancelled);
  CHECK(stats.discarded >= sum.discarded && stats.timed_out >= sum.timed_out); /* calls count there too */
  CHECK_EQUAL(stats.depth, 0);
  CHECK(stats.depth_high <= stats.capacity);
  total_run += stats.completed;
  total_cancelled += stats.cancelled;
  total_discarded += stats.discarded;
  total_timed_out += stats.timed_out;
}

static void hammer_once(uint32_t capacity) {
  static round_state round;
  test_thread producers[PRODUCERS], cancellers[CANCELLERS], closers[CLOSERS];
  open_round(&round, capacity);
  for (int i = 0; i < PRODUCERS; i++) thread_start(&producers[i], "producer", produce, round.records[i]);
  for (int i = 0; i < CANCELLERS; i++) thread_start(&cancellers[i], "canceller", cancel_at_random, &round);
  for (int i = 0; i < CLOSERS; i++) thread_start(&closers[i], "closer", close_somehow, &round);
  for (int i = 0; i < PRODUCERS; i++) thread_join(&producers[i]);
  for (int i = 0; i < CLOSERS; i++) thread_join(&closers[i]);
  CHECK_EQUAL(lanyard_close(round.worker, LANYARD_DRAIN), LANYARD_OK);
  atomic_store(&round.over, true);
  for (int i = 0; i < CANCELLERS; i++) thread_join(&cancellers[i]);
  judge_round(&round);
  lanyard_release(&round.worker);
}

static void hammer(uint32_t capacity) {
  total_requests = total_run = total_cancelled = total_discarded = total_timed_out = total_refused = 0;
  uint64_t rounds = scaled(2500);
  for (uint64_t i = 0; i < rounds; i++) hammer_once(capacity);
  printf("#    capacity %u: %llu rounds, %llu requests: %llu ran, %llu cancelled, %llu discarded, %llu timed "
         "out, %llu refused\n",
         capacity, (unsigned long long)rounds, (unsigned long long)total_requests,
         (unsigned long long)total_run, (unsigned long long)total_cancelled,
         (unsigned long long)total_discarded, (unsigned long long)total_timed_out,
         (unsigned long long)total_refused);
}

TEST_WITHIN(120, hammer_capacity_2) { hammer(2); }
TEST_WITHIN(120, hammer_capacity_4) { hammer(4); }
TEST_WITHIN(120, hammer_capacity_8) { hammer(8); }
TEST_WITHIN(120, hammer_capacity_128) { hammer(128); }

TEST_WITHIN(120, hammer_with_pauses_in_odd_places) {
  chaos_begin();
  hammer(2);
}
