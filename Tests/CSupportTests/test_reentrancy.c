/* test_reentrancy.c - callbacks that call back, from the places where the worker is between two states. */
#include "gates.h"
#include "worker.h"

typedef struct scene {
  lanyard_worker *worker;
  lanyard_ticket ticket;
  lanyard_status cancelled;
  unsigned calls, interrupts;
  pthread_barrier_t barrier;
} scene;

static void interrupt(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  ((scene *)context)->interrupts++;
}

static void open_scene(scene *at, uint32_t capacity) {
  memset(at, 0, sizeof *at);
  at->cancelled = LANYARD_INVALID;
  pthread_barrier_init(&at->barrier, NULL, 2);
  lanyard_options options;
  lanyard_options_init(&options);
  options.capacity = capacity;
  options.context = at;
  options.interrupt = interrupt;
  if (!CHECK_EQUAL(lanyard_open(&options, &at->worker), LANYARD_OK)) abort();
}

static void close_scene(scene *at) {
  lanyard_release(&at->worker);
  pthread_barrier_destroy(&at->barrier);
}

static void hold(void *argument, lanyard_status outcome) {
  scene *at = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  pthread_barrier_wait(&at->barrier);
  pthread_barrier_wait(&at->barrier);
}

static void begin_hold(scene *at) {
  CHECK_EQUAL(lanyard_submit(at->worker, hold, at, NULL), LANYARD_OK);
  pthread_barrier_wait(&at->barrier);
}

static void end_hold(scene *at) { pthread_barrier_wait(&at->barrier); }

static void cancel_ticket(void *argument, lanyard_status outcome) {
  scene *at = argument;
  (void)outcome;
  at->calls++;
  at->cancelled = lanyard_cancel(at->worker, at->ticket);
}

static void end(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

/* While it is answered it is neither queued, nor running, nor over; waiting for one of these on the
 * worker's own thread would be for ever. */
TEST(discarded_request_may_cancel_itself) {
  scene at;
  open_scene(&at, 4);
  begin_hold(&at);
  CHECK_EQUAL(lanyard_submit(at.worker, cancel_ticket, &at, &at.ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(at.worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  end_hold(&at);
  CHECK_EQUAL(lanyard_close(at.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(at.calls, 1);
  CHECK_EQUAL(at.cancelled, LANYARD_TOO_LATE);
  CHECK_EQUAL(at.interrupts, 0);
  close_scene(&at);
}

TEST(cancelled_request_may_cancel_itself) {
  scene at;
  open_scene(&at, 4);
  begin_hold(&at);
  CHECK_EQUAL(lanyard_submit(at.worker, cancel_ticket, &at, &at.ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(at.worker, at.ticket), LANYARD_OK);
  end_hold(&at);
  CHECK_EQUAL(at.calls, 1);
  CHECK_EQUAL(at.cancelled, LANYARD_TOO_LATE);
  close_scene(&at);
}

/* A when_room callback comes on the worker when it has taken a request and not called it yet. */
TEST(room_callback_may_cancel_the_request_that_made_the_room) {
  scene at;
  open_scene(&at, 2);
  begin_hold(&at);
  CHECK_EQUAL(lanyard_submit(at.worker, end, NULL, &at.ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(at.worker, end, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_when_room(at.worker, cancel_ticket, &at), LANYARD_OK);
  CHECK_EQUAL(at.calls, 0);
  end_hold(&at);
  CHECK_EQUAL(lanyard_call(at.worker, end, NULL), LANYARD_OK); /* behind both; closing would answer it */
  CHECK_EQUAL(at.calls, 1);
  CHECK_EQUAL(at.cancelled, LANYARD_OK);
  CHECK_EQUAL(at.interrupts, 1);
  close_scene(&at);
}

static void cancel_itself(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  cancel_ticket(argument, outcome);
}

TEST(running_request_may_cancel_itself) {
  scene at;
  open_scene(&at, 2);
  CHECK_EQUAL(lanyard_submit(at.worker, cancel_itself, &at, &at.ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(at.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(at.cancelled, LANYARD_OK);
  CHECK_EQUAL(at.interrupts, 1);
  close_scene(&at);
}

static void see_itself(void *context) { *(size_t *)context = lanyard_live_count(); }

TEST(worker_lives_when_its_on_start_runs) {
  size_t seen = 0;
  lanyard_options options;
  lanyard_options_init(&options);
  options.context = &seen;
  options.on_start = see_itself;
  lanyard_worker *worker = NULL;
  CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(seen, 1);
  lanyard_release(&worker);
}

/* Calls of every kind from inside a request of the same worker. */
static void use_everything(void *argument, lanyard_status outcome) {
  scene *at = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  lanyard_worker *worker = at->worker;
  CHECK(lanyard_is_current(worker));
  CHECK_EQUAL(lanyard_call(worker, end, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_call_until(worker, end, NULL, after(SECONDS)), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(worker, end, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_when_room(worker, end, NULL), LANYARD_OK);
  lanyard_weak *weak = lanyard_weak_create(worker);
  lanyard_worker *again = lanyard_weak_lock(weak);
  CHECK(again == worker);
  lanyard_release(&again);
  lanyard_weak_destroy(weak);
  CHECK_EQUAL(lanyard_quiesce(0), 1);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_CLOSING);
  CHECK_EQUAL(lanyard_call(worker, end, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 1); /* it does not wait for this worker */
  at->calls++;
}

TEST(request_may_use_every_function_of_its_own_worker) {
  scene at;
  open_scene(&at, 8);
  CHECK_EQUAL(lanyard_call(at.worker, use_everything, &at), LANYARD_OK);
  CHECK_EQUAL(at.calls, 1);
  CHECK_EQUAL(lanyard_close(at.worker, LANYARD_DRAIN), LANYARD_OK);
  close_scene(&at);
}

/* ------------------------------------------------------- a child of fork that goes on where it stands */

static int open_use_and_quiesce(void *argument) {
  (void)argument;
  lanyard_worker *worker = NULL;
  if (lanyard_open(NULL, &worker) != LANYARD_OK) return 10;
  if (lanyard_call(worker, end, NULL) != LANYARD_OK) return 11;
  if (lanyard_close_async(worker, LANYARD_DRAIN, end, NULL) != LANYARD_OK) return 12;
  lanyard_release(&worker);
  uint64_t begin = lanyard_now_ns();
  if (lanyard_quiesce(after(5 * SECONDS)) != 0) return 13;
  return lanyard_now_ns() - begin < 4 * SECONDS ? 0 : 14;
}

static void fork_here(void *argument, lanyard_status outcome) {
  (void)outcome;
  *(int *)argument = run_in_child(open_use_and_quiesce, NULL, 20000);
}

TEST(child_forked_by_a_request_is_a_process_of_its_own) {
  if (tool_is("tsan")) return; /* a child of fork cannot start threads there */
  int status = -1;
  lanyard_worker *worker = open_worker(4);
  CHECK_EQUAL(lanyard_call(worker, fork_here, &status), LANYARD_OK);
  CHECK_EQUAL(status, 0);
  lanyard_release(&worker);
}

TEST(child_forked_by_a_when_closed_callback_is_a_process_of_its_own) {
  if (tool_is("tsan")) return;
  int status = -1;
  lanyard_worker *worker = open_worker(4);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, fork_here, &status), LANYARD_OK);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_quiesce(after(30 * SECONDS)), 0);
  CHECK_EQUAL(status, 0);
}
