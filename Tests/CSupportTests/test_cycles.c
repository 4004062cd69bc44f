/* test_cycles.c - open, a few submits, close, release, a million times: nothing is left, ever. */
#include "gates.h"
#include "worker.h"

static void count(void *argument, lanyard_status outcome) {
  if (outcome == LANYARD_OK) ++*(uint64_t *)argument; /* plain: the close that joined made it visible */
}

static void report(uint64_t cycles, uint64_t begin_ns) {
  double seconds = (double)(lanyard_now_ns() - begin_ns) / 1e9;
  printf("#    %llu cycles in %.1f s, %.1f us each; %u threads, %zu live workers\n",
         (unsigned long long)cycles, seconds, seconds * 1e6 / (double)cycles, thread_count(),
         lanyard_live_count());
}

/* helgrind's clocks grow with every thread that there ever was, so its cost grows with the square. */
static uint64_t cycles_of(uint64_t native) { return scaled(tool_is("helgrind") ? native / 10 : native); }

TEST_WITHIN(600, cycles_of_open_four_submits_and_close) {
  uint64_t cycles = cycles_of(1000000), begin = lanyard_now_ns(), ran = 0;
  for (uint64_t i = 0; i < cycles; i++) {
    lanyard_worker *worker = open_worker(8);
    for (int k = 0; k < 4; k++) CHECK_EQUAL(lanyard_submit(worker, count, &ran, NULL), LANYARD_OK);
    CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
    CHECK_EQUAL(ran, 4 * (i + 1));
    lanyard_release(&worker);
  }
  report(cycles, begin);
}

typedef struct owner {
  lanyard_worker *worker;
  uint64_t accepted, ran;
} owner;

static void submit_until_closed(void *argument) {
  owner *at = argument;
  while (lanyard_submit(at->worker, count, &at->ran, NULL) == LANYARD_OK) at->accepted++;
}

TEST_WITHIN(300, cycles_of_producers_racing_close) {
  uint64_t cycles = cycles_of(50000), begin = lanyard_now_ns();
  for (uint64_t i = 0; i < cycles; i++) {
    owner at = {.worker = open_worker(4)};
    test_thread producer;
    thread_start(&producer, "producer", submit_until_closed, &at);
    for (uint64_t k = random_number() % 4000; k > 0; k--) ly_pause(); /* a yield here costs a time slice */
    CHECK_EQUAL(lanyard_close(at.worker, LANYARD_DRAIN), LANYARD_OK);
    thread_join(&producer);
    CHECK_EQUAL(at.ran, at.accepted);
    lanyard_release(&at.worker);
  }
  report(cycles, begin);
}

static void close_and_release(void *argument) {
  lanyard_worker *worker = argument;
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&worker);
}

TEST_WITHIN(300, cycles_of_closers_racing_closers) {
  uint64_t cycles = cycles_of(50000), begin = lanyard_now_ns();
  for (uint64_t i = 0; i < cycles; i++) {
    lanyard_worker *worker = open_worker(4);
    test_thread closers[2];
    for (int k = 0; k < 2; k++) thread_start(&closers[k], "closer", close_and_release, lanyard_retain(worker));
    if (i % 2) CHECK_EQUAL(lanyard_close(worker, LANYARD_DISCARD), LANYARD_OK);
    lanyard_release(&worker);
    for (int k = 0; k < 2; k++) thread_join(&closers[k]);
  }
  report(cycles, begin);
}
