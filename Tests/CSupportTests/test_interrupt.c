/* test_interrupt.c - an interrupt knows whom it hits: the argument and the ticket of the very request, so that a
 * library that polls a flag stops that one and no other. */
#include "gates.h"

#include "worker.h"

static void nothing(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

/* A request as a library that polls would have it: its flag is its own. */
typedef struct polled {
  _Atomic bool stop;
  _Atomic unsigned hits; /* how often the hook was called with this one */
  lanyard_ticket ticket, hit_ticket;
  bool was_stopped, ran, cancelled;
  sem_t begun, go;
} polled;

static void hit(void *context, void *argument, lanyard_ticket ticket) {
  polled *it = argument;
  it->hit_ticket = ticket;
  atomic_fetch_add(&it->hits, 1u);
  atomic_store(&it->stop, true);
  atomic_fetch_add((_Atomic unsigned *)context, 1u);
}

static void polled_init(polled *it) {
  memset(it, 0, sizeof *it);
  ly_exempt(&it->stop, sizeof it->stop);
  ly_exempt(&it->hits, sizeof it->hits);
  sem_init(&it->begun, 0, 0);
  sem_init(&it->go, 0, 0);
}

static void polled_destroy(polled *it) {
  sem_destroy(&it->begun);
  sem_destroy(&it->go);
}

static void run_polled(void *argument, lanyard_status outcome) {
  polled *it = argument;
  it->cancelled = outcome == LANYARD_CANCELLED;
  it->ran = outcome == LANYARD_OK;
  if (it->ran) it->was_stopped = atomic_load(&it->stop);
}

static void run_until_stopped(void *argument, lanyard_status outcome) {
  polled *it = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  sem_post(&it->begun);
  while (!atomic_load(&it->stop)) sched_yield(); /* the limit of the test ends it */
  it->was_stopped = true;
}

static void serve_each(void *context, lanyard_request *requests, size_t count) {
  (void)context;
  for (size_t i = 0; i < count; i++) {
    lanyard_request request = requests[i];
    requests[i] = (lanyard_request){NULL, NULL}; /* the array is the hook's to change */
    request.function(request.argument, LANYARD_OK);
  }
}

static lanyard_worker *open_hit(_Atomic unsigned *hits, bool serves) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.context = hits;
  options.interrupt = hit;
  if (serves) options.serve = serve_each;
  ly_exempt(hits, sizeof *hits);
  lanyard_worker *worker = NULL;
  if (!CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_OK)) abort();
  return worker;
}

TEST(interrupt_is_told_the_argument_and_the_ticket_of_the_request) {
  _Atomic unsigned hits = 0;
  polled it;
  polled_init(&it);
  lanyard_worker *worker = open_hit(&hits, false);
  CHECK_EQUAL(lanyard_submit(worker, run_until_stopped, &it, &it.ticket), LANYARD_OK);
  while (sem_wait(&it.begun) != 0) continue;
  CHECK_EQUAL(lanyard_cancel(worker, it.ticket), LANYARD_OK);
  lanyard_release(&worker);
  CHECK(it.was_stopped);
  CHECK_EQUAL(it.hits, 1);
  CHECK_EQUAL(it.hit_ticket, it.ticket);
  polled_destroy(&it);
}

TEST(interrupt_by_a_deadline_is_told_the_argument_of_the_call) {
  _Atomic unsigned hits = 0;
  polled it;
  polled_init(&it);
  lanyard_worker *worker = open_hit(&hits, false);
  CHECK_EQUAL(lanyard_call_until(worker, run_until_stopped, &it, after(20 * MILLISECONDS)), LANYARD_OK);
  CHECK(it.was_stopped);
  CHECK_EQUAL(it.hits, 1);
  CHECK(it.hit_ticket != 0);
  lanyard_release(&worker);
  polled_destroy(&it);
}

/* In a batch each request is told for itself, also where serve() has changed the array that it was given. */
TEST(interrupt_in_a_batch_is_told_which_of_its_requests) {
  enum { COUNT = 4 };
  _Atomic unsigned hits = 0;
  polled all[COUNT];
  test_latch latch;
  latch_init(&latch);
  lanyard_worker *worker = open_hit(&hits, true);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &latch, NULL), LANYARD_OK);
  latch_await(&latch);
  for (int i = 0; i < COUNT; i++) {
    polled_init(&all[i]);
    CHECK_EQUAL(lanyard_submit(worker, i == 0 ? run_until_stopped : run_polled, &all[i], &all[i].ticket), LANYARD_OK);
  }
  latch_open(&latch);
  while (sem_wait(&all[0].begun) != 0) continue; /* the batch of four runs */
  for (int i = COUNT - 1; i >= 0; i--) CHECK_EQUAL(lanyard_cancel(worker, all[i].ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < COUNT; i++) {
    CHECK_EQUAL(all[i].hits, 1);
    CHECK_EQUAL(all[i].hit_ticket, all[i].ticket);
    CHECK(all[i].was_stopped);
    polled_destroy(&all[i]);
  }
  lanyard_release(&worker);
  latch_destroy(&latch);
}

/* Every request has a flag of its own, every other one is cancelled at some time: a cancel that stopped somebody else,
 * or one that was wiped out, would show here. */
TEST(interrupt_of_a_polled_flag_never_stops_another_and_is_never_lost) {
  enum { WINDOW = 64 };
  _Atomic unsigned hits = 0;
  static polled all[WINDOW];
  lanyard_worker *worker = open_hit(&hits, false);
  for (uint64_t round = scaled(1600); round > 0; round--) {
    for (int i = 0; i < WINDOW; i++) {
      polled_init(&all[i]);
      CHECK_EQUAL(lanyard_submit(worker, run_polled, &all[i], &all[i].ticket), LANYARD_OK);
    }
    lanyard_status status[WINDOW];
    for (int i = 0; i < WINDOW; i += 2) status[i] = lanyard_cancel(worker, all[i].ticket);
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK); /* behind them all */
    for (int i = 0; i < WINDOW; i++) {
      bool asked = i % 2 == 0;
      CHECK(!(all[i].ran && all[i].cancelled));
      if (!asked) CHECK(all[i].hits == 0 && !all[i].was_stopped);
      else if (status[i] == LANYARD_OK) CHECK(all[i].cancelled ? all[i].hits == 0 : all[i].hits == 1);
      else CHECK(all[i].hits == 0 && all[i].ran);
      polled_destroy(&all[i]);
    }
  }
  lanyard_release(&worker);
}
