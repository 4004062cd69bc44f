/* test_failures.c - every failure in turn: HAZARDS section H and T6, law L16.
 *
 * A scenario is a function that opens, uses and ends workers. It runs once to count its fallible calls, n;
 * then n times with the k-th failing, and n times with all from the k-th on. Each operation asks afterwards
 * which sites failed under it, and holds its status against what lanyard.h says for that. After each run
 * nothing may be left: no worker, no thread, no changed signal mask, and (for the leak checkers) no memory.
 * Then, with nothing failing any more, what was opened must work.
 *
 * At the end the sites that failed must be all that the core has. */
#include "gates.h"

#include <dirent.h>
#include <limits.h>

#include "lanyard_internal.h"
#include "seam.h"

static void nothing(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

static void count_any(void *count, lanyard_status outcome) {
  (void)outcome;
  ++*(int *)count;
}

/* ------------------------------------------------------------------------ what failed, and where */

enum { SITES_MAX = 32, THREAD_TRIES = 10 };

/* All sites of the core; compared with its sources where those can be read. */
static const char *const known_sites[] = {
    "alarm", "arguments", "batch", "closing", "core", "jobs", "madvise", "mmap", "pthread_attr_init", "pthread_attr_setstacksize",
    "pthread_create", "pthread_mutex_init", "pthread_sigmask", "replies", "ring", "timer", "waiter"};
enum { KNOWN_SITES = sizeof known_sites / sizeof *known_sites };

/* How often each site was asked, and failed, since the program began. Child processes write into the same
 * page. And how often it failed in the operation that this thread does. */
typedef struct site_counts {
  _Atomic unsigned seen[KNOWN_SITES], failed[KNOWN_SITES], unknown;
} site_counts;
static site_counts *sites;
static _Thread_local unsigned failed_now[KNOWN_SITES];

static bool (*decide)(const char *site);

static int index_of(const char *site) {
  for (int i = 0; i < KNOWN_SITES; i++)
    if (strcmp(known_sites[i], site) == 0) return i;
  return -1;
}

static bool recorded(const char *site) {
  bool fails = decide(site);
  int index = index_of(site);
  if (index < 0) {
    atomic_fetch_add(&sites->unknown, 1u);
    return false;
  }
  atomic_fetch_add(&sites->seen[index], 1u);
  if (fails) atomic_fetch_add(&sites->failed[index], 1u);
  if (fails) failed_now[index]++;
  return fails;
}

static void begin_failing(unsigned k, bool for_ever) {
  faults_begin(k, for_ever);
  decide = lanyard__hooks.fails;
  lanyard__hooks.fails = recorded;
}

static unsigned failures_of(const char *site) { return failed_now[index_of(site)]; }

/* How often the operation asks for a thread: what must not block asks once. */
static _Thread_local unsigned tries = THREAD_TRIES;

static void begin_operation(void) {
  memset(failed_now, 0, sizeof failed_now);
  tries = THREAD_TRIES;
}

static bool out_of_memory(void) {
  static const char *const memory[] = {"alarm", "arguments", "batch", "closing", "core",    "jobs",  "mmap", "pthread_mutex_init",
                                       "replies", "ring",    "timer", "waiter"};
  for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
    if (failures_of(memory[i]) > 0) return true;
  return false;
}

static bool out_of_threads(void) {
  return failures_of("pthread_create") >= tries || failures_of("pthread_attr_init") > 0 ||
         failures_of("pthread_attr_setstacksize") > 0 || failures_of("pthread_sigmask") > 0;
}

/* What lanyard.h says that an operation returns when these have failed, and `otherwise` when none has. A
 * page that cannot be wiped and a thread that is had at the second attempt are no failures. */
static lanyard_status documented(lanyard_status otherwise) {
  if (out_of_memory()) return LANYARD_NO_MEMORY;
  return out_of_threads() ? LANYARD_NO_THREAD : otherwise;
}

#define OPERATION(expression, otherwise) \
  (begin_operation(), operation_returned((expression), (otherwise), #expression, __LINE__))

static bool operation_returned(lanyard_status got, lanyard_status otherwise, const char *text, int line) {
  check_equal(got, documented(otherwise), text, __FILE__, line);
  return got == LANYARD_OK;
}

/* ------------------------------------------------------------------------------------- scenarios */

/* What a scenario leaves open for the final check: it must work. */
enum { HELD_MAX = 4 };
static lanyard_worker *held[HELD_MAX];
static int held_count;

static void hold_until_the_end(lanyard_worker *worker) {
  if (worker != NULL) held[held_count++] = worker;
}

static lanyard_worker *open_or_not(const lanyard_options *options) {
  lanyard_worker *worker = (lanyard_worker *)&sites;
  bool opened = OPERATION(lanyard_open(options, &worker), LANYARD_OK);
  CHECK((worker != NULL) == opened);
  return worker;
}

static lanyard_options defaults(void) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.name = "failures";
  return options;
}

static void serve_all(void *context, lanyard_request *requests, size_t count) {
  (void)context;
  for (size_t i = 0; i < count; i++) requests[i].function(requests[i].argument, LANYARD_OK);
}

static void open_and_release(const lanyard_options *options) {
  lanyard_worker *worker = open_or_not(options);
  if (worker == NULL) return;
  int count = 0;
  CHECK_EQUAL(lanyard_call(worker, count_any, &count), LANYARD_OK);
  CHECK_EQUAL(count, 1);
  lanyard_release(&worker);
}

static void interrupt_nothing(void *context, void *argument, lanyard_ticket ticket) {
  (void)context;
  (void)argument;
  (void)ticket;
}

static void opens_with_defaults(void) { open_and_release(NULL); }

static void opens_with_every_option(void) {
  lanyard_options options = defaults();
  options.capacity = 5;
  options.batch_limit = 3;
  options.stack_size_bytes = 512 << 10;
  options.spin_ns = 0;
  options.serve = serve_all;
  options.interrupt = interrupt_nothing;
  open_and_release(&options);
}

static void opens_with_a_stack_size(void) {
  lanyard_options options = defaults();
  options.stack_size_bytes = 1 << 20;
  open_and_release(&options);
}

static void opens_with_serve(void) {
  lanyard_options options = defaults();
  options.serve = serve_all;
  open_and_release(&options);
}

static void opens_with_the_largest_ring(void) {
  lanyard_options options = defaults();
  options.capacity = LANYARD_CAPACITY_MAX;
  options.serve = serve_all;
  options.batch_limit = LANYARD_CAPACITY_MAX;
  open_and_release(&options);
}

static void opens_without_a_name(void) {
  lanyard_options options = defaults();
  options.name = NULL;
  options.file = NULL;
  open_and_release(&options);
}

static void opens_for_later(void) { hold_until_the_end(open_or_not(NULL)); }

static void opens_two_for_later(void) {
  hold_until_the_end(open_or_not(NULL));
  hold_until_the_end(open_or_not(NULL));
}

static void opens_after_a_failure_of_its_own(void) {
  lanyard_options options = defaults();
  options.capacity = 0;
  lanyard_worker *worker = NULL;
  begin_operation();
  CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_INVALID); /* comes before everything that can fail */
  hold_until_the_end(open_or_not(NULL));
}

/* A lazy worker fails to open by memory alone, and to start with any submitting function. */
static lanyard_worker *open_lazy(const lanyard_options *options) {
  lanyard_options lazy = *options;
  lazy.lazy = true;
  lanyard_worker *worker = open_or_not(&lazy);
  CHECK(worker != NULL || out_of_memory());
  hold_until_the_end(worker);
  return worker;
}

static lanyard_worker *open_lazy_default(void) {
  lanyard_options options = defaults();
  return open_lazy(&options);
}

static void opens_lazy_and_never_starts(void) {
  lanyard_options options = defaults();
  options.lazy = true;
  lanyard_worker *worker = open_or_not(&options);
  lanyard_release(&worker);
}

/* Accepted means called once; refused means never, and the ticket is not touched. */
typedef lanyard_status (*submitter)(lanyard_worker *worker, int *count, lanyard_ticket *ticket);

static void start_lazily(lanyard_worker *worker, submitter submit) {
  if (worker == NULL) return;
  int count = 0, accepted = 0;
  for (int attempt = 0; attempt < 2; attempt++) { /* the next submit tries again */
    lanyard_ticket ticket = 4711;
    if (OPERATION(submit(worker, &count, &ticket), LANYARD_OK)) accepted++;
    else CHECK_EQUAL(ticket, 4711);
  }
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  CHECK_EQUAL(stats.submitted, accepted);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(count, accepted);
}

static lanyard_status by_try_submit(lanyard_worker *worker, int *count, lanyard_ticket *ticket) {
  tries = 1;
  return lanyard_try_submit(worker, count_any, count, ticket);
}
static lanyard_status by_submit(lanyard_worker *worker, int *count, lanyard_ticket *ticket) {
  return lanyard_submit(worker, count_any, count, ticket);
}
static lanyard_status by_submit_until(lanyard_worker *worker, int *count, lanyard_ticket *ticket) {
  return lanyard_submit_until(worker, count_any, count, after(3600 * SECONDS), ticket);
}
static lanyard_status by_call(lanyard_worker *worker, int *count, lanyard_ticket *ticket) {
  (void)ticket;
  return lanyard_call(worker, count_any, count);
}
static lanyard_status by_call_until(lanyard_worker *worker, int *count, lanyard_ticket *ticket) {
  (void)ticket;
  return lanyard_call_until(worker, count_any, count, after(3600 * SECONDS));
}

static void starts_lazily_by_try_submit(void) { start_lazily(open_lazy_default(), by_try_submit); }
static void starts_lazily_by_submit(void) { start_lazily(open_lazy_default(), by_submit); }
static void starts_lazily_by_submit_until(void) { start_lazily(open_lazy_default(), by_submit_until); }
static void starts_lazily_by_call(void) { start_lazily(open_lazy_default(), by_call); }
static void starts_lazily_by_call_until(void) { start_lazily(open_lazy_default(), by_call_until); }

static void starts_lazily_with_serve_and_a_stack_size(void) {
  lanyard_options options = defaults();
  options.serve = serve_all;
  options.stack_size_bytes = 512 << 10;
  start_lazily(open_lazy(&options), by_submit);
}

static void starts_lazily_and_stays_open(void) {
  lanyard_worker *worker = open_lazy_default();
  if (worker != NULL) OPERATION(lanyard_submit(worker, nothing, NULL, NULL), LANYARD_OK);
}

static void start_from_a_request(void *lazy, lanyard_status outcome) {
  (void)outcome;
  OPERATION(lanyard_submit(lazy, nothing, NULL, NULL), LANYARD_OK);
}

static void starts_lazily_from_another_worker(void) {
  lanyard_worker *lazy = open_lazy_default(), *other = open_or_not(NULL);
  if (lazy != NULL && other != NULL) CHECK_EQUAL(lanyard_call(other, start_from_a_request, lazy), LANYARD_OK);
  lanyard_release(&other);
}

static void is_discarded_before_it_starts(void) {
  lanyard_worker *worker = open_lazy_default();
  if (worker == NULL) return;
  OPERATION(lanyard_submit(worker, nothing, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DISCARD), LANYARD_OK);
  begin_operation();
  CHECK_EQUAL(lanyard_submit(worker, nothing, NULL, NULL), LANYARD_CLOSED);
}

/* ------------------------------------------------------------------------------------- when_room */

static void waits_for_room_that_is_there(void) {
  lanyard_worker *worker = open_or_not(NULL);
  if (worker == NULL) return;
  int count = 0;
  bool accepted = OPERATION(lanyard_when_room(worker, count_any, &count), LANYARD_OK);
  CHECK_EQUAL(count, accepted);
  hold_until_the_end(worker);
}

/* A worker that is held, with a full ring. */
typedef struct full_worker {
  lanyard_worker *worker;
  test_latch latch;
} full_worker;

static bool open_full(full_worker *it) {
  lanyard_options options = defaults();
  options.capacity = 2;
  it->worker = open_or_not(&options);
  if (it->worker == NULL) return false;
  latch_init(&it->latch);
  CHECK_EQUAL(lanyard_submit(it->worker, latch_request, &it->latch, NULL), LANYARD_OK);
  latch_await(&it->latch);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(lanyard_try_submit(it->worker, nothing, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_try_submit(it->worker, nothing, NULL, NULL), LANYARD_FULL);
  return true;
}

static void close_full(full_worker *it) {
  latch_open(&it->latch);
  CHECK_EQUAL(lanyard_close(it->worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&it->worker);
  latch_destroy(&it->latch);
}

static void waits_for_room_in_a_full_ring(void) {
  full_worker it;
  if (!open_full(&it)) return;
  int count = 0, accepted = 0;
  for (int i = 0; i < 3; i++) accepted += OPERATION(lanyard_when_room(it.worker, count_any, &count), LANYARD_OK);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_call(it.worker, nothing, NULL), LANYARD_OK);
  close_full(&it);
  CHECK_EQUAL(count, accepted);
}

static void waits_for_room_until_the_close(void) {
  full_worker it;
  if (!open_full(&it)) return;
  int count = 0, accepted = 0;
  for (int i = 0; i < 3; i++) accepted += OPERATION(lanyard_when_room(it.worker, count_any, &count), LANYARD_OK);
  CHECK_EQUAL(count, 0);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(count, accepted);
  close_full(&it);
}

static void waits_for_room_after_the_close(void) {
  lanyard_worker *worker = open_or_not(NULL);
  if (worker == NULL) return;
  int count = 0;
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  OPERATION(lanyard_when_room(worker, count_any, &count), LANYARD_CLOSED);
  CHECK_EQUAL(count, 0);
  hold_until_the_end(worker);
}

static void wait_for_room_on_the_worker(void *worker, lanyard_status outcome) {
  (void)outcome;
  int count = 0;
  bool accepted = OPERATION(lanyard_when_room(worker, count_any, &count), LANYARD_OK);
  CHECK_EQUAL(count, accepted);
}

static void waits_for_room_on_the_worker(void) {
  lanyard_worker *worker = open_or_not(NULL);
  if (worker == NULL) return;
  CHECK_EQUAL(lanyard_call(worker, wait_for_room_on_the_worker, worker), LANYARD_OK);
  hold_until_the_end(worker);
}

/* ----------------------------------------------------------------------------------- close_async */

/* Begins or does not begin; what did not begin has changed nothing. */
static bool close_async_or_not(lanyard_worker *worker, int *count) {
  bool was_closed = lanyard_is_closed(worker);
  bool begun = OPERATION(lanyard_close_async(worker, LANYARD_DRAIN, count_any, count), LANYARD_OK);
  if (!begun) CHECK_EQUAL(lanyard_is_closed(worker), was_closed);
  return begun;
}

static int closed_count; /* the answers come on another thread; quiesce() orders them before the check */

static void closes_asynchronously(void) {
  lanyard_worker *worker = open_or_not(NULL);
  if (worker == NULL) return;
  closed_count = 0;
  bool begun = close_async_or_not(worker, &closed_count);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 1);
  CHECK_EQUAL(closed_count, begun);
  hold_until_the_end(worker);
}

static void closes_asynchronously_and_releases_at_once(void) {
  lanyard_worker *worker = open_or_not(NULL);
  if (worker == NULL) return;
  closed_count = 0;
  bool begun = close_async_or_not(worker, &closed_count);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
  CHECK_EQUAL(closed_count, begun);
}

static void closes_asynchronously_what_is_closed(void) {
  lanyard_worker *worker = open_or_not(NULL);
  if (worker == NULL) return;
  closed_count = 0;
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  bool begun = close_async_or_not(worker, &closed_count);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 1);
  CHECK_EQUAL(closed_count, begun);
  hold_until_the_end(worker);
}

static void closes_asynchronously_what_never_started(void) {
  lanyard_worker *worker = open_lazy_default();
  if (worker == NULL) return;
  closed_count = 0;
  bool begun = close_async_or_not(worker, &closed_count);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 1);
  CHECK_EQUAL(closed_count, begun);
}

static void close_from_a_request(void *worker, lanyard_status outcome) {
  (void)outcome;
  bool begun = close_async_or_not(worker, &closed_count);
  if (!begun) closed_count = -1;
}

static void closes_asynchronously_on_the_worker(void) {
  lanyard_worker *worker = open_or_not(NULL);
  if (worker == NULL) return;
  closed_count = 0;
  CHECK_EQUAL(lanyard_submit(worker, close_from_a_request, worker, NULL), LANYARD_OK);
  lanyard_call(worker, nothing, NULL); /* CLOSED, or it has run: the other one has */
  lanyard_close(worker, LANYARD_DRAIN);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
  CHECK(closed_count == 1 || closed_count == -1);
}

/* While the first is pending its thread stays, so the number of fallible calls is always the same. */
static void closes_asynchronously_several_times(void) {
  full_worker it;
  if (!open_full(&it)) return;
  closed_count = 0;
  int begun = 0;
  for (int i = 0; i < 3; i++) begun += close_async_or_not(it.worker, &closed_count);
  close_full(&it);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
  CHECK_EQUAL(closed_count, begun);
}

static void closes_two_asynchronously(void) {
  full_worker first;
  if (!open_full(&first)) return;
  lanyard_worker *second = open_or_not(NULL);
  closed_count = 0;
  int begun = close_async_or_not(first.worker, &closed_count);
  if (second != NULL) begun += close_async_or_not(second, &closed_count);
  lanyard_release(&second);
  close_full(&first);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
  CHECK_EQUAL(closed_count, begun);
}

/* The thread of the first has ended and is joined by the second. */
static void closes_asynchronously_one_after_the_other(void) {
  for (int i = 0; i < 2; i++) closes_asynchronously_and_releases_at_once();
}

static void open_from_when_closed(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
  hold_until_the_end(open_or_not(NULL));
}

static void opens_from_when_closed(void) {
  lanyard_worker *worker = open_or_not(NULL);
  if (worker == NULL) return;
  OPERATION(lanyard_close_async(worker, LANYARD_DRAIN, open_from_when_closed, NULL), LANYARD_OK);
  lanyard_release(&worker);
  lanyard_quiesce(after(20 * SECONDS));
}

/* ------------------------------------------------------------------- executors, timers, the end by itself */

/* Each of the two locks of a worker is asked for, and fails in its turn with the rest. */
static void opens_with_two_locks(void) {
  unsigned before = atomic_load(&sites->seen[index_of("pthread_mutex_init")]);
  lanyard_worker *worker = open_or_not(NULL);
  if (worker != NULL) CHECK_EQUAL(atomic_load(&sites->seen[index_of("pthread_mutex_init")]), before + 2);
  hold_until_the_end(worker);
}

/* Written by the worker; read after a close. */
static int jobs_run;

static char nobody;

static void count_job(void *argument, void *executor) {
  (void)argument;
  (void)executor;
  jobs_run++;
}

static void hold_job(void *latch, void *executor) {
  (void)executor;
  latch_request(latch, LANYARD_OK);
}

/* Its list grows twice. What was refused is not run, and what was taken is. */
static void enqueues_jobs(void) {
  lanyard_worker *worker = open_or_not(NULL), *executor = worker;
  if (worker == NULL) return;
  test_latch latch;
  jobs_run = 0;
  int taken = 0;
  latch_init(&latch);
  CHECK(lanyard__executor_acquire(worker)); /* needs nothing */
  bool holds = OPERATION(lanyard__enqueue(worker, hold_job, &latch, &nobody), LANYARD_OK);
  if (holds) latch_await(&latch);
  for (int i = 0; i < 40; i++) taken += OPERATION(lanyard__enqueue(worker, count_job, &nobody, &nobody), LANYARD_OK);
  if (holds) latch_open(&latch);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(jobs_run, taken);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

/* A job waits for its thread until it has one. When that will be for ever, somebody has to end the failures. */
static _Atomic bool enqueuing;

static void end_failing_at_last(void *argument) {
  (void)argument;
  unsigned before = 0;
  for (int i = 0; i < KNOWN_SITES; i++) before += atomic_load(&sites->failed[i]);
  for (unsigned failed = before; atomic_load(&enqueuing); sched_yield()) {
    failed = 0;
    for (int i = 0; i < KNOWN_SITES; i++) failed += atomic_load(&sites->failed[i]);
    if (failed - before > 3 * THREAD_TRIES) lanyard__hooks.fails = NULL;
  }
}

static void starts_lazily_by_a_job(void) {
  lanyard_options options = defaults();
  options.stack_size_bytes = 512 << 10;
  lanyard_worker *worker = open_lazy(&options), *executor = worker;
  if (worker == NULL) return;
  test_thread helper;
  jobs_run = 0;
  CHECK(lanyard__executor_acquire(worker));
  ly_exempt(&enqueuing, sizeof enqueuing);
  atomic_store(&enqueuing, true);
  thread_start(&helper, "helper", end_failing_at_last, NULL);
  begin_operation();
  lanyard_status status = lanyard__enqueue(worker, count_job, &nobody, &nobody);
  /* A thread that is refused now is waited for; what cannot pass is said. */
  bool never = failures_of("pthread_attr_setstacksize") > 0 || failures_of("pthread_sigmask") > 0;
  CHECK_EQUAL(status, failures_of("jobs") > 0 ? LANYARD_NO_MEMORY : never ? LANYARD_NO_THREAD : LANYARD_OK);
  atomic_store(&enqueuing, false);
  thread_join(&helper);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(jobs_run, status == LANYARD_OK);
}

static int ticks_told;

static uint64_t count_tick(void *argument, lanyard_status outcome) {
  (void)argument;
  CHECK_EQUAL(outcome, LANYARD_CLOSED); /* they are an hour away */
  ticks_told++;
  return 0;
}

static void set_timers(lanyard_worker *worker) {
  if (worker == NULL) return;
  int set = 0;
  ticks_told = 0;
  for (int i = 0; i < 3; i++)
    set += OPERATION((tries = 1, lanyard__set_timer(worker, after(3600 * SECONDS), count_tick, &nobody)), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(ticks_told, set);
  begin_operation();
  CHECK_EQUAL(lanyard__set_timer(worker, 1, count_tick, &nobody), LANYARD_CLOSED);
}

static void sets_timers(void) {
  lanyard_worker *worker = open_or_not(NULL);
  set_timers(worker);
  hold_until_the_end(worker);
}

static void fire_nothing(void *argument) { (void)argument; }

static void sets_alarms(void) {
  lanyard_worker *worker = open_or_not(NULL);
  for (int i = 0; i < 3; i++) {
    lanyard__alarm *alarm = NULL;
    begin_operation();
    tries = 1; /* it asks once */
    lanyard_status status = lanyard__alarm_set(after(3600 * SECONDS), fire_nothing, &nobody, &alarm);
    CHECK_EQUAL(status, documented(LANYARD_OK));
    CHECK((alarm != NULL) == (status == LANYARD_OK));
    CHECK(lanyard__alarm_unset(alarm));
  }
  hold_until_the_end(worker);
}

static void starts_lazily_by_a_timer(void) { set_timers(open_lazy_default()); }

static lanyard_status by_claim(lanyard_worker *worker, int *count, lanyard_ticket *ticket) {
  tries = 1;
  lanyard_status status = lanyard__try_claim(worker, ticket);
  if (status == LANYARD_OK) lanyard__publish(worker, *ticket, count_any, count);
  return status;
}

static void starts_lazily_by_a_claim(void) { start_lazily(open_lazy_default(), by_claim); }

/* Begins or does not begin, as an asynchronous close; and needs no thread. */
static void closes_and_is_told_at_the_end(void) {
  full_worker it;
  if (!open_full(&it)) return;
  closed_count = 0;
  int begun = 0;
  for (int i = 0; i < 2; i++) {
    bool was_closed = lanyard_is_closed(it.worker);
    bool begins = OPERATION(lanyard__close_then(it.worker, LANYARD_DRAIN, count_any, &closed_count), LANYARD_OK);
    if (!begins) CHECK_EQUAL(lanyard_is_closed(it.worker), was_closed);
    begun += begins;
  }
  close_full(&it);
  CHECK_EQUAL(closed_count, begun);
}

/* -------------------------------------------------------------------------------- everything else */

static unsigned asked_so_far(void) {
  unsigned total = 0;
  for (int i = 0; i < KNOWN_SITES; i++) total += atomic_load(&sites->seen[i]);
  return total;
}

/* Nothing here allocates, whatever happens to a request. */
static void use_without_allocation(lanyard_worker *worker) {
  unsigned before = asked_so_far();
  int count = 0, cancelled_or_run = 0;
  lanyard_ticket ticket = 0;
  for (int i = 0; i < 5; i++) CHECK_EQUAL(lanyard_submit(worker, count_any, &count, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit_until(worker, count_any, &cancelled_or_run, after(3600 * SECONDS), &ticket), LANYARD_OK);
  lanyard_cancel(worker, ticket);
  CHECK_EQUAL(lanyard_call(worker, count_any, &count), LANYARD_OK);
  CHECK_EQUAL(lanyard_call_until(worker, count_any, &count, after(3600 * SECONDS)), LANYARD_OK);
  CHECK_EQUAL(count, 7);
  CHECK_EQUAL(cancelled_or_run, 1);
  lanyard_weak *weak = lanyard_weak_create(worker);
  lanyard_worker *again = lanyard_weak_lock(weak);
  CHECK(again == worker);
  lanyard_release(&again);
  lanyard_weak_destroy(weak);
  CHECK(lanyard_retain(worker) == worker);
  again = worker;
  lanyard_release(&again);
  CHECK_EQUAL(asked_so_far(), before);
}

static void works_without_allocation(void) {
  lanyard_worker *worker = open_or_not(NULL);
  if (worker == NULL) return;
  use_without_allocation(worker);
  hold_until_the_end(worker);
}

static void keeps_a_weak_handle_beyond_its_end(void) {
  lanyard_worker *worker = open_or_not(NULL);
  lanyard_weak *weak = lanyard_weak_create(worker);
  CHECK((weak != NULL) == (worker != NULL));
  lanyard_release(&worker);
  CHECK(lanyard_weak_lock(weak) == NULL);
  lanyard_weak_destroy(weak);
}

static void ends_with_a_deadline_and_a_discard(void) {
  full_worker it;
  if (!open_full(&it)) return;
  unsigned before = asked_so_far();
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DISCARD, after(MILLISECONDS)), LANYARD_TIMED_OUT);
  close_full(&it);
  CHECK_EQUAL(asked_so_far(), before);
}

static void release_on_the_worker(void *variable, lanyard_status outcome) {
  (void)outcome;
  lanyard_release(variable);
}

static bool self_released_are_gone(void *wanted) { return lanyard_quiesce(after(SECONDS)) == *(size_t *)wanted; }

static void releases_itself(void) {
  lanyard_worker *worker = open_or_not(NULL), *own = worker;
  if (worker == NULL) return;
  CHECK_EQUAL(lanyard_submit(worker, release_on_the_worker, &own, NULL), LANYARD_OK);
  size_t wanted = 0;
  CHECK(eventually(self_released_are_gone, &wanted));
}

/* The next open joins what has ended by itself, also if it fails. */
static void opens_while_another_ends_by_itself(void) {
  lanyard_worker *worker = open_or_not(NULL), *own = worker;
  if (worker == NULL) return;
  CHECK_EQUAL(lanyard_submit(worker, release_on_the_worker, &own, NULL), LANYARD_OK);
  lanyard_worker *next = open_or_not(NULL);
  hold_until_the_end(next);
  size_t wanted = next != NULL;
  CHECK(eventually(self_released_are_gone, &wanted));
}

static void open_from_a_request(void *argument, lanyard_status outcome) {
  (void)outcome;
  *(lanyard_worker **)argument = open_or_not(NULL);
}

static void opens_from_a_request(void) {
  lanyard_worker *worker = open_or_not(NULL), *inner = NULL;
  if (worker == NULL) return;
  CHECK_EQUAL(lanyard_call(worker, open_from_a_request, &inner), LANYARD_OK);
  if (inner != NULL) use_without_allocation(inner);
  lanyard_release(&inner);
  hold_until_the_end(worker);
}

static void opens_many(void) {
  lanyard_worker *workers[8];
  for (int i = 0; i < 8; i++) workers[i] = open_or_not(NULL);
  for (int i = 7; i >= 0; i--) lanyard_release(&workers[i]);
}

static void does_everything(void) {
  lanyard_options options = defaults();
  options.serve = serve_all;
  options.stack_size_bytes = 512 << 10;
  options.batch_limit = 2;
  options.capacity = 2;
  lanyard_worker *serving = open_or_not(&options), *lazy = open_lazy_default();
  full_worker full;
  bool is_full = open_full(&full);
  int waited = 0, registered = 0;
  if (is_full) registered += OPERATION(lanyard_when_room(full.worker, count_any, &waited), LANYARD_OK);
  if (serving != NULL) OPERATION(lanyard_call(serving, nothing, NULL), LANYARD_OK);
  closed_count = 0;
  int begun = is_full ? close_async_or_not(full.worker, &closed_count) : 0;
  if (lazy != NULL) OPERATION(lanyard_submit(lazy, nothing, NULL, NULL), LANYARD_OK);
  hold_until_the_end(open_or_not(NULL));
  if (is_full) close_full(&full);
  lanyard_release(&serving);
  lanyard_quiesce(after(20 * SECONDS));
  CHECK_EQUAL(closed_count, begun);
  CHECK_EQUAL(waited, registered);
}

/* ------------------------------------------------------------------------------- running them all */

/* Pauses between attempts only cost time here. */
static void no_pause(uint64_t duration_ns) {
  (void)duration_ns;
  sched_yield();
}

/* Nothing fails any more: an open worker serves, a closed one says so. */
static void check_held(lanyard_worker *worker) {
  int count = 0;
  bool closed = lanyard_is_closed(worker);
  CHECK_EQUAL(lanyard_call(worker, count_any, &count), closed ? LANYARD_CLOSED : LANYARD_OK);
  CHECK_EQUAL(count, !closed);
  if (!closed) CHECK_EQUAL(lanyard_when_room(worker, nothing, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&worker);
}

static void check_nothing_is_left(void) {
  for (int i = 0; i < held_count; i++) check_held(held[i]);
  held_count = 0;
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
  CHECK_EQUAL(lanyard_live_count(), 0);
}

static bool threads_are(void *wanted) { return thread_count() == *(unsigned *)wanted; }

/* Returns how many fallible calls there were. */
static unsigned run_failing(void (*scenario)(void), unsigned k, bool for_ever) {
  uint64_t mask = signal_mask();
  unsigned threads = thread_count();
  begin_failing(k, for_ever);
  scenario();
  unsigned count = faults_end(NULL);
  CHECK_EQUAL(signal_mask(), mask);
  check_nothing_is_left();
  CHECK(eventually(threads_are, &threads));
  return count;
}

static void run_all_failures(void (*scenario)(void), unsigned at_least) {
  lanyard__hooks.sleep_ns = no_pause; /* no worker runs yet */
  unsigned count = run_failing(scenario, 0, false);
  CHECK(count >= at_least);
  for (unsigned k = 1; k <= count; k++) run_failing(scenario, k, false);
  for (unsigned k = 1; k <= count; k++) run_failing(scenario, k, true);
  lanyard__hooks.sleep_ns = NULL;
}

/* The page of the sites, before the first test. */
__attribute__((constructor)) static void map_sites(void) {
  sites = mmap(NULL, sizeof *sites, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (sites == MAP_FAILED) abort();
  ly_exempt(sites, sizeof *sites); /* atomics only */
}

/* The first open of a process makes its page: each run needs a process of its own, and this one must not
 * have opened any worker yet. So these tests come first. */
typedef struct fresh_run {
  void (*scenario)(void);
  unsigned k;
  bool for_ever;
} fresh_run;

static _Atomic unsigned *fresh_count;

static void run_fresh(void *argument) {
  const fresh_run *run = argument;
  lanyard__hooks.sleep_ns = no_pause;
  unsigned asked = atomic_load(&sites->seen[index_of("mmap")]);
  atomic_store(fresh_count, run_failing(run->scenario, run->k, run->for_ever));
  CHECK(atomic_load(&sites->seen[index_of("mmap")]) > asked); /* or the process is not fresh */
}

static void run_all_failures_fresh(void (*scenario)(void)) {
  fresh_count = mmap(NULL, sizeof *fresh_count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (fresh_count == MAP_FAILED) abort();
  fresh_run run = {scenario, 0, false};
  checks_hold_in_child(run_fresh, &run, 20000);
  unsigned count = atomic_load(fresh_count);
  CHECK(count >= 7);
  for (run.k = 1; run.k <= count; run.k++) checks_hold_in_child(run_fresh, &run, 20000);
  run.for_ever = true;
  for (run.k = 1; run.k <= count; run.k++) checks_hold_in_child(run_fresh, &run, 20000);
  munmap(fresh_count, sizeof *fresh_count);
}

#define FRESH_SCENARIO(name) \
  TEST(h_first_of_the_process_##name) { run_all_failures_fresh(name); }
#define SCENARIO(name, at_least) \
  TEST(h_##name) { run_all_failures(name, (at_least)); }

FRESH_SCENARIO(opens_with_defaults)
FRESH_SCENARIO(opens_for_later)
FRESH_SCENARIO(opens_with_every_option)
FRESH_SCENARIO(starts_lazily_by_submit)
FRESH_SCENARIO(does_everything)

SCENARIO(opens_with_defaults, 6)
SCENARIO(opens_with_every_option, 9)
SCENARIO(opens_with_a_stack_size, 7)
SCENARIO(opens_with_serve, 8)
SCENARIO(opens_with_the_largest_ring, 8)
SCENARIO(opens_without_a_name, 6)
SCENARIO(opens_for_later, 6)
SCENARIO(opens_two_for_later, 12)
SCENARIO(opens_after_a_failure_of_its_own, 6)
SCENARIO(opens_lazy_and_never_starts, 3)
SCENARIO(opens_from_a_request, 12)
SCENARIO(opens_many, 48)
SCENARIO(starts_lazily_by_try_submit, 6)
SCENARIO(starts_lazily_by_submit, 6)
SCENARIO(starts_lazily_by_submit_until, 6)
SCENARIO(starts_lazily_by_call, 6)
SCENARIO(starts_lazily_by_call_until, 6)
SCENARIO(starts_lazily_with_serve_and_a_stack_size, 9)
SCENARIO(starts_lazily_and_stays_open, 6)
SCENARIO(starts_lazily_from_another_worker, 12)
SCENARIO(is_discarded_before_it_starts, 6)
SCENARIO(waits_for_room_that_is_there, 7)
SCENARIO(waits_for_room_in_a_full_ring, 9)
SCENARIO(waits_for_room_until_the_close, 9)
SCENARIO(waits_for_room_after_the_close, 7)
SCENARIO(waits_for_room_on_the_worker, 7)
SCENARIO(closes_asynchronously, 10)
SCENARIO(closes_asynchronously_and_releases_at_once, 10)
SCENARIO(closes_asynchronously_what_is_closed, 10)
SCENARIO(closes_asynchronously_what_never_started, 7)
SCENARIO(closes_asynchronously_on_the_worker, 10)
SCENARIO(closes_asynchronously_several_times, 12)
SCENARIO(closes_two_asynchronously, 17)
SCENARIO(closes_asynchronously_one_after_the_other, 20)
SCENARIO(opens_from_when_closed, 16)
SCENARIO(opens_with_two_locks, 7)
SCENARIO(enqueues_jobs, 10)
SCENARIO(starts_lazily_by_a_job, 9)
SCENARIO(sets_timers, 10)
SCENARIO(sets_alarms, 10)
SCENARIO(starts_lazily_by_a_timer, 10)
SCENARIO(starts_lazily_by_a_claim, 7)
SCENARIO(closes_and_is_told_at_the_end, 9)
SCENARIO(works_without_allocation, 6)
SCENARIO(keeps_a_weak_handle_beyond_its_end, 6)
SCENARIO(ends_with_a_deadline_and_a_discard, 6)
SCENARIO(releases_itself, 6)
SCENARIO(opens_while_another_ends_by_itself, 12)
SCENARIO(does_everything, 30)

/* ------------------------------------------------------------------------------- the sites, all */

/* The names that the sources ask with, as ly_fails("...") and ly_calloc...("..."). */
static void find_sites_in(const char *path, bool *found) {
  static const char *const askers[] = {"ly_fails(\"", "ly_calloc(\"", "ly_calloc_lines(\""};
  FILE *file = fopen(path, "r");
  if (file == NULL) abort();
  char line[512];
  while (fgets(line, sizeof line, file) != NULL)
    for (size_t i = 0; i < sizeof askers / sizeof *askers; i++)
      for (char *at = line; (at = strstr(at, askers[i])) != NULL;) {
        at += strlen(askers[i]);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "\""), at);
        int index = index_of(name);
        if (!CHECK(index >= 0)) fprintf(stderr, "the list above lacks \"%s\" of %s\n", name, path);
        else found[index] = true;
      }
  fclose(file);
}

/* The core's sources, from the root of the tree or from beside this file; NULL if they are not here. */
static DIR *open_sources(char *path, size_t size) {
  snprintf(path, size, "CSupport/src");
  DIR *directory = opendir(path);
  if (directory != NULL) return directory;
  const char *file = __FILE__, *slash = strrchr(file, '/');
  snprintf(path, size, "%.*s/../../CSupport/src", slash == NULL ? 1 : (int)(slash - file), slash == NULL ? "." : file);
  return opendir(path);
}

TEST(h_list_of_sites_is_that_of_the_sources) {
  char root[PATH_MAX - 300], path[PATH_MAX];
  DIR *directory = open_sources(root, sizeof root);
  if (directory == NULL) {
    printf("     left out: reading the sources: they are not here\n");
    return;
  }
  bool found[KNOWN_SITES] = {false};
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", root, entry->d_name);
    find_sites_in(path, found);
  }
  closedir(directory);
  for (int i = 0; i < KNOWN_SITES; i++)
    if (!CHECK(found[i])) fprintf(stderr, "no source asks for \"%s\"\n", known_sites[i]);
}

TEST(h_every_site_was_made_to_fail) {
  if (getenv("LANYARD_TEST_ONLY") != NULL) {
    printf("     left out: counting sites: not all scenarios ran\n");
    return;
  }
  CHECK_EQUAL(atomic_load(&sites->unknown), 0);
  for (int i = 0; i < KNOWN_SITES; i++)
    if (!CHECK(atomic_load(&sites->failed[i]) > 0)) fprintf(stderr, "\"%s\" never failed\n", known_sites[i]);
}
