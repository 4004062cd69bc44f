/* test_api.c - lanyard.h, function by function: what each promises, and what it does with bad input. */
#include "gates.h"

#include <errno.h>
#include <limits.h>
#include <regex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "worker.h"

enum { LIMIT_MS = 20000 };

static void left_out(const char *what, const char *reason) { printf("     left out: %s: %s\n", what, reason); }

static void nothing(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

static void never(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
  CHECK(false); /* it must not be called */
}

static void count_up(void *count, lanyard_status outcome) {
  if (outcome == LANYARD_OK) ++*(int *)count;
}

/* What became of a request, and on which thread. */
typedef struct answer {
  int count;
  lanyard_status outcome;
  pthread_t thread;
} answer;

static void take_answer(void *argument, lanyard_status outcome) {
  answer *it = argument;
  it->count++;
  it->outcome = outcome;
  it->thread = pthread_self();
}

static void check_answer(const answer *it, lanyard_status wanted) {
  CHECK_EQUAL(it->count, 1);
  CHECK_EQUAL(it->outcome, wanted);
}

static bool is_here(const answer *it) { return pthread_equal(it->thread, pthread_self()); }

static pthread_t thread_of(lanyard_worker *worker) {
  answer it = {0, LANYARD_OK, pthread_self()};
  CHECK_EQUAL(lanyard_call(worker, take_answer, &it), LANYARD_OK);
  return it.thread;
}

static lanyard_options defaults(void) {
  lanyard_options options;
  lanyard_options_init(&options);
  return options;
}

static lanyard_worker *open_with(const lanyard_options *options) {
  lanyard_worker *worker = NULL;
  if (!CHECK_EQUAL(lanyard_open(options, &worker), LANYARD_OK)) abort();
  return worker;
}

static lanyard_stats stats_of(const lanyard_worker *worker) {
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  return stats;
}

/* A worker that stands inside a request until held_end(). */
typedef struct held_worker {
  lanyard_worker *worker;
  test_latch latch;
} held_worker;

static void held_begin_with(held_worker *it, const lanyard_options *options) {
  it->worker = open_with(options);
  latch_init(&it->latch);
  CHECK_EQUAL(lanyard_submit(it->worker, latch_request, &it->latch, NULL), LANYARD_OK);
  latch_await(&it->latch);
}

static void held_begin(held_worker *it, uint32_t capacity) {
  lanyard_options options = defaults();
  options.capacity = capacity;
  held_begin_with(it, &options);
}

static void fill(lanyard_worker *worker) {
  for (uint32_t i = 0; i < stats_of(worker).capacity; i++)
    CHECK_EQUAL(lanyard_try_submit(worker, nothing, NULL, NULL), LANYARD_OK);
}

/* Lets it go on, and ends it. */
static void held_end(held_worker *it) {
  latch_open(&it->latch);
  CHECK_EQUAL(lanyard_close(it->worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&it->worker);
  latch_destroy(&it->latch);
}

static void sleep_until(uint64_t deadline_ns) {
  while (lanyard_now_ns() < deadline_ns) usleep(500);
}

/* --------------------------------------------------------------------- statuses, version, clock */

static const struct {
  lanyard_status status;
  int error;
} statuses[] = {
    {LANYARD_OK, 0},
    {LANYARD_FULL, EAGAIN},
    {LANYARD_CLOSED, ESHUTDOWN},
    {LANYARD_CLOSING, EINPROGRESS},
    {LANYARD_CANCELLED, ECANCELED},
    {LANYARD_TOO_LATE, EALREADY},
    {LANYARD_TIMED_OUT, ETIMEDOUT},
    {LANYARD_WOULD_DEADLOCK, EDEADLK},
    {LANYARD_FORKED, ECHILD},
    {LANYARD_NO_MEMORY, ENOMEM},
    {LANYARD_NO_THREAD, EUSERS},
    {LANYARD_INVALID, EINVAL},
};
enum { STATUSES = sizeof statuses / sizeof *statuses };

TEST(api_statuses_are_distinct_negated_errnos_with_distinct_texts) {
  for (int i = 0; i < STATUSES; i++) {
    CHECK_EQUAL(statuses[i].status, -statuses[i].error);
    const char *text = lanyard_status_text(statuses[i].status);
    CHECK(text != NULL && strlen(text) > 0);
    for (int j = 0; j < i; j++) {
      CHECK(statuses[i].status != statuses[j].status);
      CHECK(strcmp(text, lanyard_status_text(statuses[j].status)) != 0);
    }
  }
}

TEST(api_text_of_what_is_no_status) {
  const int numbers[] = {1, -1, -9999, INT_MAX, INT_MIN};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    const char *text = lanyard_status_text((lanyard_status)numbers[i]);
    CHECK(text != NULL && strlen(text) > 0);
    for (int j = 0; j < STATUSES; j++) CHECK(strcmp(text, lanyard_status_text(statuses[j].status)) != 0);
  }
}

TEST(api_version_is_the_headers) {
  CHECK_EQUAL(lanyard_version(), LANYARD_VERSION_MAJOR << 16 | LANYARD_VERSION_MINOR << 8 | LANYARD_VERSION_PATCH);
}

static uint64_t monotonic_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * SECONDS + (uint64_t)time.tv_nsec;
}

TEST(api_clock_is_monotonic_time_in_nanoseconds) {
  uint64_t before = monotonic_ns(), now = lanyard_now_ns(), afterwards = monotonic_ns();
  CHECK(before <= now && now <= afterwards);
}

/* --------------------------------------------------------------------------------------- options */

TEST(api_options_init_sets_the_defaults_and_the_place) {
  lanyard_options options;
  memset(&options, 0xAA, sizeof options);
  const int line = __LINE__ + 1;
  lanyard_options_init(&options);
  CHECK_EQUAL(options.size, sizeof options);
  CHECK(options.name == NULL && options.context == NULL);
  CHECK_EQUAL(options.capacity, LANYARD_CAPACITY_DEFAULT);
  CHECK_EQUAL(options.batch_limit, LANYARD_BATCH_LIMIT_DEFAULT);
  CHECK_EQUAL(options.spin_ns, LANYARD_SPIN_NS_DEFAULT);
  CHECK_EQUAL(options.stack_size_bytes, 0);
  CHECK(!options.lazy);
  CHECK(options.on_start == NULL && options.on_stop == NULL && options.serve == NULL && options.interrupt == NULL);
  CHECK(strcmp(options.file, __FILE__) == 0);
  CHECK_EQUAL(options.line, line);
}

TEST(api_options_init_writes_no_more_than_the_callers_size) {
  union {
    lanyard_options options;
    unsigned char bytes[2 * sizeof(lanyard_options)];
  } storage;
  const size_t sizes[] = {0, 1, sizeof(size_t), 24, sizeof(lanyard_options) - 1, sizeof(lanyard_options),
                          2 * sizeof(lanyard_options)};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    memset(&storage, 0xAA, sizeof storage);
    lanyard_options_init_at(&storage.options, sizes[i], "place", 7);
    if (sizes[i] >= sizeof(size_t)) CHECK_EQUAL(storage.options.size, sizes[i]);
    for (size_t byte = sizes[i]; byte < sizeof storage; byte++) CHECK_EQUAL(storage.bytes[byte], 0xAA);
  }
  lanyard_options_init_at(NULL, sizeof(lanyard_options), "place", 7);
  lanyard_options_init(NULL);
}

/* --------------------------------------------------------------------------------------- opening */

static void check_refused(const lanyard_options *options) {
  lanyard_worker *worker = (lanyard_worker *)&worker;
  CHECK_EQUAL(lanyard_open(options, &worker), LANYARD_INVALID);
  CHECK(worker == NULL);
  CHECK_EQUAL(lanyard_live_count(), 0);
}

TEST(api_open_refuses_what_is_out_of_range) {
  lanyard_options options = defaults();
  CHECK_EQUAL(lanyard_open(&options, NULL), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_open(NULL, NULL), LANYARD_INVALID);
  const size_t sizes[] = {0, 1, LANYARD_OPTIONS_SIZE_MIN - 1, LANYARD_OPTIONS_SIZE_MAX + 1, SIZE_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    options.size = sizes[i];
    check_refused(&options);
  }
  options = defaults();
  const uint32_t capacities[] = {0, 1, LANYARD_CAPACITY_MAX + 1, UINT32_MAX};
  for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
    options.capacity = capacities[i];
    check_refused(&options);
  }
  options = defaults();
  const uint32_t limits[] = {0, LANYARD_CAPACITY_MAX + 1, UINT32_MAX};
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    options.batch_limit = limits[i];
    check_refused(&options);
  }
}

static void check_capacity(uint32_t asked, uint32_t wanted) {
  lanyard_options options = defaults();
  options.capacity = asked;
  options.lazy = true; /* no thread is needed to see it */
  lanyard_worker *worker = open_with(&options);
  CHECK_EQUAL(stats_of(worker).capacity, wanted);
  lanyard_release(&worker);
}

TEST(api_capacity_is_rounded_up_to_a_power_of_two) {
  check_capacity(LANYARD_CAPACITY_MIN, 2);
  for (uint32_t power = 2; power <= LANYARD_CAPACITY_MAX; power *= 2) {
    if (power > 2) check_capacity(power - 1, power);
    check_capacity(power, power);
    if (power < LANYARD_CAPACITY_MAX) check_capacity(power + 1, 2 * power);
  }
}

/* What waits counts, what runs does not. */
TEST(api_ring_takes_exactly_its_capacity) {
  const uint32_t capacities[] = {2, 3, 4, 5, 8, 100};
  for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
    held_worker it;
    held_begin(&it, capacities[i]);
    fill(it.worker);
    CHECK_EQUAL(stats_of(it.worker).depth, stats_of(it.worker).capacity);
    CHECK_EQUAL(lanyard_try_submit(it.worker, never, NULL, NULL), LANYARD_FULL);
    held_end(&it);
  }
}

static size_t resident_bytes(void) {
  size_t total, resident;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%zu %zu", &total, &resident) != 2) abort();
  fclose(file);
  return resident * (size_t)sysconf(_SC_PAGESIZE);
}

TEST(api_untouched_ring_costs_no_memory) {
  if (!tool_is("native")) {
    left_out("resident memory", "the tool's own changes");
    return;
  }
  lanyard_options options = defaults();
  options.capacity = LANYARD_CAPACITY_MAX; /* 32 MiB of slots */
  lanyard_worker *first = open_with(NULL);
  size_t before = resident_bytes();
  lanyard_worker *worker = open_with(&options);
  for (int i = 0; i < 100; i++) lanyard_submit(worker, nothing, NULL, NULL);
  lanyard_call(worker, nothing, NULL);
  CHECK(resident_bytes() - before < 1 << 20);
  lanyard_release(&worker);
  lanyard_release(&first);
}

typedef struct shown {
  int count;
  lanyard_info info;
  char name[64], file[64];
} shown;

static void keep_shown(const lanyard_info *info, void *argument) {
  shown *it = argument;
  it->count++;
  it->info = *info;
  snprintf(it->name, sizeof it->name, "%s", info->name);
  snprintf(it->file, sizeof it->file, "%s", info->file == NULL ? "(null)" : info->file);
}

static shown show_only_worker(void) {
  shown it = {.count = 0};
  lanyard_each_live(keep_shown, &it);
  CHECK_EQUAL(it.count, 1);
  return it;
}

TEST(api_open_without_options_takes_the_defaults) {
  lanyard_worker *worker = open_with(NULL);
  CHECK_EQUAL(stats_of(worker).capacity, LANYARD_CAPACITY_DEFAULT);
  shown it = show_only_worker();
  CHECK(strcmp(it.name, "lanyard") == 0);
  CHECK(it.info.file == NULL);
  lanyard_release(&worker);
}

TEST(api_open_copies_the_name_and_the_place) {
  char name[] = "a name", file[] = "a file";
  lanyard_options options = defaults();
  options.name = name;
  options.file = file;
  options.line = 4711;
  lanyard_worker *worker = open_with(&options);
  memset(name, 'x', sizeof name - 1);
  memset(file, 'x', sizeof file - 1);
  shown it = show_only_worker();
  CHECK(strcmp(it.name, "a name") == 0);
  CHECK(strcmp(it.file, "a file") == 0);
  CHECK_EQUAL(it.info.line, 4711);
  lanyard_release(&worker);
}

/* ------------------------------------------------------------------------------------- bad input */

TEST(api_null_for_the_worker) {
  lanyard_worker *none = NULL;
  lanyard_ticket ticket = 4711;
  lanyard_stats stats = {.size = sizeof stats};
  CHECK(lanyard_retain(NULL) == NULL);
  lanyard_release(NULL);
  lanyard_release(&none);
  CHECK_EQUAL(lanyard_try_submit(NULL, never, NULL, &ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_submit(NULL, never, NULL, &ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_submit_until(NULL, never, NULL, LANYARD_FOREVER, &ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_submit_until(NULL, never, NULL, 0, &ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_call(NULL, never, NULL), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_call_until(NULL, never, NULL, 0), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_cancel(NULL, 1), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_when_room(NULL, never, NULL), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_close(NULL, LANYARD_DRAIN), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_close_until(NULL, LANYARD_DRAIN, 0), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_close_async(NULL, LANYARD_DRAIN, never, NULL), LANYARD_INVALID);
  CHECK(lanyard_weak_create(NULL) == NULL);
  CHECK(lanyard_weak_lock(NULL) == NULL);
  lanyard_weak_destroy(NULL);
  CHECK(!lanyard_is_current(NULL));
  CHECK(lanyard_is_closed(NULL));
  CHECK_EQUAL(lanyard_get_stats(NULL, &stats), LANYARD_INVALID);
  lanyard_each_live(NULL, NULL);
  CHECK_EQUAL(ticket, 4711);
}

/* Whatever was wrong with the arguments, nothing was done. */
static void check_untouched(lanyard_worker *worker) {
  CHECK_EQUAL(stats_of(worker).submitted, 0);
  CHECK(!lanyard_is_closed(worker));
}

TEST(api_null_for_the_function) {
  lanyard_worker *worker = open_worker(4);
  lanyard_ticket ticket = 4711;
  CHECK_EQUAL(lanyard_try_submit(worker, NULL, NULL, &ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_submit(worker, NULL, NULL, &ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_submit_until(worker, NULL, NULL, LANYARD_FOREVER, &ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_submit_until(worker, NULL, NULL, 0, &ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_call(worker, NULL, NULL), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_call_until(worker, NULL, NULL, 0), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_when_room(worker, NULL, NULL), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, NULL, NULL), LANYARD_INVALID);
  lanyard_each_live(NULL, NULL);
  CHECK_EQUAL(ticket, 4711);
  check_untouched(worker);
  lanyard_release(&worker);
}

TEST(api_bad_close_mode) {
  lanyard_worker *worker = open_worker(4);
  const int modes[] = {-1, 2, INT_MAX, INT_MIN};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    lanyard_close_mode mode = (lanyard_close_mode)modes[i];
    CHECK_EQUAL(lanyard_close(worker, mode), LANYARD_INVALID);
    CHECK_EQUAL(lanyard_close_until(worker, mode, 0), LANYARD_INVALID);
    CHECK_EQUAL(lanyard_close_async(worker, mode, never, NULL), LANYARD_INVALID);
  }
  check_untouched(worker);
  lanyard_release(&worker);
}

/* A program that was built with another header of 1.x passes its own size. */
TEST(api_open_takes_options_of_older_and_newer_headers) {
  union {
    lanyard_options options;
    char bytes[sizeof(lanyard_options) + 64];
  } given;
  for (size_t size = LANYARD_OPTIONS_SIZE_MIN; size <= sizeof given; size += 8) {
    memset(&given, 0xa5, sizeof given); /* what lies behind is not looked at */
    lanyard_options_init_at(&given.options, size, "place.c", 7);
    given.options.name = "of another header";
    given.options.capacity = 8;
    for (size_t i = size; i < sizeof given; i++) CHECK_EQUAL((unsigned char)given.bytes[i], 0xa5);
    lanyard_worker *worker = NULL;
    CHECK_EQUAL(lanyard_open(&given.options, &worker), LANYARD_OK);
    CHECK_EQUAL(stats_of(worker).capacity, 8);
    lanyard_release(&worker);
    if (size <= sizeof(lanyard_options)) continue;
    given.bytes[size - 1] = 1; /* an option that this library does not have */
    CHECK_EQUAL(lanyard_open(&given.options, &worker), LANYARD_INVALID);
    CHECK(worker == NULL);
  }
}

TEST(api_stats_fill_what_the_callers_header_has) {
  union {
    lanyard_stats stats;
    char bytes[sizeof(lanyard_stats) + 64];
  } asked;
  lanyard_worker *worker = open_worker(4);
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  for (size_t size = LANYARD_STATS_SIZE_MIN; size <= sizeof asked; size += 8) {
    memset(&asked, 0xa5, sizeof asked);
    asked.stats.size = size;
    CHECK_EQUAL(lanyard_get_stats(worker, &asked.stats), LANYARD_OK);
    CHECK_EQUAL(asked.stats.size, size);
    CHECK_EQUAL(asked.stats.submitted, 1);
    for (size_t i = sizeof(lanyard_stats); i < size; i++) CHECK_EQUAL(asked.bytes[i], 0);
    for (size_t i = size; i < sizeof asked; i++) CHECK_EQUAL((unsigned char)asked.bytes[i], 0xa5);
  }
  lanyard_release(&worker);
}

TEST(api_bad_stats) {
  lanyard_worker *worker = open_worker(4);
  lanyard_stats stats = {.size = LANYARD_STATS_SIZE_MIN - 1, .submitted = 4711};
  CHECK_EQUAL(lanyard_get_stats(worker, NULL), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_INVALID);
  stats.size = LANYARD_STATS_SIZE_MAX + 1;
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_INVALID);
  stats.size = 0;
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_INVALID);
  CHECK_EQUAL(stats.submitted, 4711);
  lanyard_release(&worker);
}

/* --------------------------------------------------------------------------------------- tickets */

TEST(api_tickets_are_distinct_and_never_zero) {
  lanyard_worker *worker = open_worker(4);
  lanyard_ticket tickets[20];
  for (int i = 0; i < 20; i++) {
    tickets[i] = 0;
    CHECK_EQUAL(lanyard_submit(worker, nothing, NULL, &tickets[i]), LANYARD_OK);
    CHECK(tickets[i] != 0);
    for (int j = 0; j < i; j++) CHECK(tickets[i] != tickets[j]);
    if (i % 3 == 0) CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  }
  lanyard_release(&worker);
}

/* The request frees the memory that its ticket lies in. */
typedef struct ticketed {
  lanyard_ticket ticket;
  lanyard_ticket *seen;
} ticketed;

static void free_with_ticket(void *argument, lanyard_status outcome) {
  (void)outcome;
  ticketed *it = argument;
  *it->seen = it->ticket;
  free(it);
}

TEST(api_ticket_is_written_before_its_request_runs) {
  lanyard_worker *worker = open_worker(4);
  lanyard_ticket seen = 0, before = 0;
  for (uint64_t i = 0; i < scaled(2000); i++, before = seen) {
    ticketed *it = malloc(sizeof *it);
    if (it == NULL) abort();
    *it = (ticketed){0, &seen};
    CHECK_EQUAL(lanyard_submit(worker, free_with_ticket, it, &it->ticket), LANYARD_OK);
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
    if (!CHECK(seen != 0 && seen != before)) break;
  }
  lanyard_release(&worker);
}

TEST(api_ticket_is_not_written_on_refusal) {
  held_worker it;
  held_begin(&it, 2);
  fill(it.worker);
  lanyard_ticket ticket = 4711;
  CHECK_EQUAL(lanyard_try_submit(it.worker, never, NULL, &ticket), LANYARD_FULL);
  CHECK_EQUAL(lanyard_submit_until(it.worker, never, NULL, 0, &ticket), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_submit_until(it.worker, never, NULL, after(MILLISECONDS), &ticket), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_submit(it.worker, never, NULL, &ticket), LANYARD_CLOSED);
  CHECK_EQUAL(ticket, 4711);
  held_end(&it);
}

TEST(api_cancel_of_a_ticket_never_given_is_invalid) {
  held_worker it;
  held_begin(&it, 4);
  answer kept = {0, LANYARD_OK, pthread_self()};
  lanyard_ticket ticket;
  CHECK_EQUAL(lanyard_submit(it.worker, take_answer, &kept, &ticket), LANYARD_OK);
  const lanyard_ticket wrong[] = {0, ticket + 1, ticket + 4, ticket + 1000, UINT64_MAX, UINT64_MAX - 1,
                                  ticket + (UINT64_C(1) << 62), ticket + (UINT64_C(2) << 62),
                                  ticket + (UINT64_C(3) << 62), ticket + (UINT64_C(1) << 32)};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    CHECK_EQUAL(lanyard_cancel(it.worker, wrong[i]), LANYARD_INVALID);
  CHECK_EQUAL(stats_of(it.worker).cancelled, 0);
  held_end(&it);
  check_answer(&kept, LANYARD_OK);
}

typedef struct caller {
  lanyard_worker *worker;
  lanyard_function function;
  void *argument;
  uint64_t deadline_ns;
  lanyard_status status;
} caller;

static void call_until(void *argument) {
  caller *it = argument;
  it->status = lanyard_call_until(it->worker, it->function, it->argument, it->deadline_ns);
}

/* Starts a call on another thread; it is in the ring when this returns. */
static void start_call(test_thread *thread, caller *it) {
  gate_arm(7, "caller", "published");
  thread_start(thread, "caller", call_until, it);
  gate_await(7);
  gate_open(7);
}

TEST(api_cancel_of_a_call_is_refused) {
  held_worker it;
  held_begin(&it, 4);
  lanyard_ticket last;
  CHECK_EQUAL(lanyard_submit(it.worker, nothing, NULL, &last), LANYARD_OK);
  answer ran = {0, LANYARD_INVALID, pthread_self()};
  caller call = {it.worker, take_answer, &ran, LANYARD_FOREVER, LANYARD_INVALID};
  test_thread thread;
  start_call(&thread, &call);
  CHECK_EQUAL(lanyard_cancel(it.worker, last + 1), LANYARD_INVALID); /* a good guess, and never given */
  latch_open(&it.latch);
  thread_join(&thread);
  CHECK_EQUAL(call.status, LANYARD_OK);
  check_answer(&ran, LANYARD_OK);
  held_end(&it);
}

/* ---------------------------------------------------------------------------------- order, memory */

enum { PRODUCERS = 4 };

typedef struct sequence {
  lanyard_worker *worker;
  uintptr_t producer;
} sequence;

static uintptr_t next_of[PRODUCERS]; /* the worker's own */

static void take_number(void *argument, lanyard_status outcome) {
  (void)outcome;
  uintptr_t producer = (uintptr_t)argument % PRODUCERS, number = (uintptr_t)argument / PRODUCERS;
  if (number == next_of[producer]) next_of[producer]++;
  else CHECK_EQUAL(number, next_of[producer]);
}

static void produce(void *argument) {
  const sequence *it = argument;
  uint64_t count = scaled(50000);
  for (uintptr_t number = 0; number < count; number++)
    if (lanyard_submit(it->worker, take_number, (void *)(number * PRODUCERS + it->producer), NULL) != LANYARD_OK)
      CHECK(false);
}

TEST(api_requests_of_one_thread_run_in_order) {
  memset(next_of, 0, sizeof next_of);
  lanyard_worker *worker = open_worker(64);
  test_thread threads[PRODUCERS];
  sequence sequences[PRODUCERS];
  for (uintptr_t i = 0; i < PRODUCERS; i++) {
    sequences[i] = (sequence){worker, i};
    thread_start(&threads[i], "producer", produce, &sequences[i]);
  }
  for (int i = 0; i < PRODUCERS; i++) thread_join(&threads[i]);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < PRODUCERS; i++) CHECK_EQUAL(next_of[i], scaled(50000));
  lanyard_release(&worker);
}

/* Two threads take turns, so each submit returned before the next was called. */
typedef struct turns {
  lanyard_worker *worker;
  sem_t go[2];
  uint64_t count;
} turns;

static uint64_t next_turn; /* the worker's own */

static void take_turn(void *number, lanyard_status outcome) {
  (void)outcome;
  if ((uintptr_t)number == next_turn) next_turn++;
  else CHECK_EQUAL((uintptr_t)number, next_turn);
}

static void submit_in_turns(turns *it, int self) {
  for (uint64_t number = (uint64_t)self; number < it->count; number += 2) {
    while (sem_wait(&it->go[self]) != 0) continue;
    lanyard_submit(it->worker, take_turn, (void *)(uintptr_t)number, NULL);
    sem_post(&it->go[1 - self]);
  }
}

static void submit_odd(void *argument) { submit_in_turns(argument, 1); }

TEST(api_submit_that_returned_before_another_began_runs_first) {
  next_turn = 0;
  turns it = {.worker = open_worker(64), .count = 2 * scaled(2000)};
  for (unsigned i = 0; i < 2; i++) sem_init(&it.go[i], 0, 1 - i);
  test_thread thread;
  thread_start(&thread, "odd", submit_odd, &it);
  submit_in_turns(&it, 0);
  thread_join(&thread);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(next_turn, it.count);
  lanyard_release(&it.worker);
  for (int i = 0; i < 2; i++) sem_destroy(&it.go[i]);
}

/* Plain variables from here to the worker, from request to request, and back. */
typedef struct plain {
  uint64_t in, sum, last;
} plain;

static void add_plain(void *argument, lanyard_status outcome) {
  (void)outcome;
  plain *it = argument;
  it->sum += it->in;
  it->last = it->in;
}

static void read_at_stop(void *context) {
  plain *it = context;
  it->last = UINT64_MAX;
}

TEST(api_memory_follows_the_requests) {
  plain it = {0, 0, 0};
  lanyard_options options = defaults();
  options.context = &it;
  options.on_stop = read_at_stop;
  lanyard_worker *worker = open_with(&options);
  uint64_t wanted = 0, count = scaled(5000);
  for (uint64_t i = 1; i <= count; i++) {
    it.in = i;
    CHECK_EQUAL(lanyard_submit(worker, add_plain, &it, NULL), LANYARD_OK);
    CHECK_EQUAL(lanyard_call(worker, add_plain, &it), LANYARD_OK);
    wanted += 2 * i;
    CHECK_EQUAL(it.sum, wanted);
  }
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK(it.last == UINT64_MAX);
  lanyard_release(&worker);
}

/* ------------------------------------------------------------------------------------ submitting */

TEST(api_accepted_request_runs_once_on_the_workers_thread) {
  lanyard_worker *worker = open_worker(4);
  pthread_t thread = thread_of(worker);
  CHECK(!pthread_equal(thread, pthread_self()));
  answer answers[3] = {{0, LANYARD_INVALID, pthread_self()}, {0, LANYARD_INVALID, pthread_self()},
                       {0, LANYARD_INVALID, pthread_self()}};
  CHECK_EQUAL(lanyard_try_submit(worker, take_answer, &answers[0], NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(worker, take_answer, &answers[1], NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit_until(worker, take_answer, &answers[2], LANYARD_FOREVER, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < 3; i++) {
    check_answer(&answers[i], LANYARD_OK);
    CHECK(pthread_equal(answers[i].thread, thread));
  }
  lanyard_release(&worker);
}

static void submit_one(void *argument) {
  caller *it = argument;
  it->status = lanyard_submit_until(it->worker, it->function, it->argument, it->deadline_ns, NULL);
}

TEST(api_submit_waits_for_room) {
  held_worker it;
  held_begin(&it, 2);
  fill(it.worker);
  answer ran = {0, LANYARD_INVALID, pthread_self()};
  caller submit = {it.worker, take_answer, &ran, LANYARD_FOREVER, LANYARD_INVALID};
  test_thread thread;
  gate_arm(0, "producer", "room_wait");
  thread_start(&thread, "producer", submit_one, &submit);
  gate_await(0);
  gate_open(0);
  latch_open(&it.latch);
  thread_join(&thread);
  CHECK_EQUAL(submit.status, LANYARD_OK);
  held_end(&it);
  check_answer(&ran, LANYARD_OK);
}

TEST(api_submit_that_waits_is_refused_when_closing_begins) {
  held_worker it;
  held_begin(&it, 2);
  fill(it.worker);
  caller submit = {it.worker, never, NULL, LANYARD_FOREVER, LANYARD_INVALID};
  test_thread thread;
  gate_arm(0, "producer", "room_wait");
  thread_start(&thread, "producer", submit_one, &submit);
  gate_await(0);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  gate_open(0);
  thread_join(&thread);
  CHECK_EQUAL(submit.status, LANYARD_CLOSED);
  held_end(&it);
}

TEST(api_submit_until_waits_for_room_until_its_deadline) {
  held_worker it;
  held_begin(&it, 2);
  fill(it.worker);
  uint64_t deadline = after(20 * MILLISECONDS);
  CHECK_EQUAL(lanyard_submit_until(it.worker, never, NULL, deadline, NULL), LANYARD_TIMED_OUT);
  CHECK(lanyard_now_ns() >= deadline);
  CHECK_EQUAL(stats_of(it.worker).timed_out, 0); /* it was never accepted */
  held_end(&it);
}

TEST(api_deadline_that_has_passed_refuses_at_once) {
  lanyard_worker *worker = open_worker(4);
  const uint64_t deadlines[] = {0, 1, lanyard_now_ns()};
  for (int i = 0; i < 3; i++) {
    CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, deadlines[i], NULL), LANYARD_TIMED_OUT);
    CHECK_EQUAL(lanyard_call_until(worker, never, NULL, deadlines[i]), LANYARD_TIMED_OUT);
  }
  check_untouched(worker);
  lanyard_release(&worker);
}

TEST(api_deadline_in_the_far_future_is_none) {
  lanyard_worker *worker = open_worker(4);
  const uint64_t deadlines[] = {LANYARD_FOREVER, LANYARD_FOREVER - 1, (UINT64_MAX >> 1) + 1, UINT64_MAX >> 1};
  int count = 0;
  for (int i = 0; i < 4; i++) {
    CHECK_EQUAL(lanyard_submit_until(worker, count_up, &count, deadlines[i], NULL), LANYARD_OK);
    CHECK_EQUAL(lanyard_call_until(worker, count_up, &count, deadlines[i]), LANYARD_OK);
  }
  CHECK_EQUAL(count, 8);
  lanyard_release(&worker);
}

TEST(api_request_whose_turn_comes_too_late_is_answered_on_the_worker) {
  held_worker it;
  held_begin(&it, 4);
  pthread_t thread = it.worker->thread;
  answer late = {0, LANYARD_OK, pthread_self()}, in_time = late;
  uint64_t deadline = after(100 * MILLISECONDS);
  CHECK_EQUAL(lanyard_submit_until(it.worker, take_answer, &late, deadline, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit_until(it.worker, take_answer, &in_time, after(3600 * SECONDS), NULL), LANYARD_OK);
  sleep_until(deadline);
  held_end(&it);
  check_answer(&late, LANYARD_TIMED_OUT);
  CHECK(pthread_equal(late.thread, thread));
  check_answer(&in_time, LANYARD_OK);
}

/* On the worker's own thread, with a full ring. */
static void submit_to_own_full_ring(void *argument, lanyard_status outcome) {
  (void)outcome;
  lanyard_worker *worker = argument;
  int count = 0;
  fill(worker);
  CHECK_EQUAL(lanyard_submit(worker, never, NULL, NULL), LANYARD_WOULD_DEADLOCK);
  CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, LANYARD_FOREVER, NULL), LANYARD_WOULD_DEADLOCK);
  CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, after(SECONDS), NULL), LANYARD_WOULD_DEADLOCK);
  CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, 0, NULL), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_try_submit(worker, never, NULL, NULL), LANYARD_FULL);
  CHECK_EQUAL(lanyard_call(worker, count_up, &count), LANYARD_OK);
  CHECK_EQUAL(lanyard_call_until(worker, count_up, &count, after(SECONDS)), LANYARD_OK);
  CHECK_EQUAL(lanyard_call_until(worker, never, NULL, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(count, 2);
}

TEST(api_submit_on_the_worker_with_a_full_ring_would_deadlock) {
  for (uint32_t capacity = 2; capacity <= 8; capacity *= 2) {
    lanyard_worker *worker = open_worker(capacity);
    CHECK_EQUAL(lanyard_call(worker, submit_to_own_full_ring, worker), LANYARD_OK);
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
    lanyard_release(&worker);
  }
}

/* ----------------------------------------------------------------------------------------- calls */

typedef struct nested {
  lanyard_worker *worker;
  int depth;
  char order[16];
} nested;

static void append(nested *it, char what) {
  size_t length = strlen(it->order);
  if (length + 1 < sizeof it->order) it->order[length] = what;
}

static void append_queued(void *argument, lanyard_status outcome) {
  (void)outcome;
  append(argument, 'q');
}

static void call_inside(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  nested *it = argument;
  CHECK(lanyard_is_current(it->worker));
  append(it, (char)('0' + it->depth));
  if (it->depth == 0) CHECK_EQUAL(lanyard_submit(it->worker, append_queued, it, NULL), LANYARD_OK);
  if (it->depth++ < 3) CHECK_EQUAL(lanyard_call(it->worker, call_inside, it), LANYARD_OK);
  append(it, 'r');
}

TEST(api_call_on_the_worker_runs_inline) {
  nested it = {.worker = open_worker(2)};
  CHECK_EQUAL(lanyard_call(it.worker, call_inside, &it), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK(strcmp(it.order, "0123rrrrq") == 0);
  lanyard_release(&it.worker);
}

__attribute__((noinline)) static uint64_t call_with_stack_argument(lanyard_worker *worker, uint64_t number) {
  plain on_stack = {number, 0, 0};
  CHECK_EQUAL(lanyard_call(worker, add_plain, &on_stack), LANYARD_OK);
  return on_stack.sum;
}

TEST(api_argument_of_a_call_may_live_on_the_stack) {
  lanyard_worker *worker = open_worker(4);
  for (uint64_t i = 0; i < scaled(20000); i++)
    if (!CHECK_EQUAL(call_with_stack_argument(worker, i), i)) break;
  lanyard_release(&worker);
}

TEST(api_call_that_is_discarded_returns_closed_and_calls_nothing) {
  held_worker it;
  held_begin(&it, 4);
  caller call = {it.worker, never, NULL, LANYARD_FOREVER, LANYARD_INVALID};
  test_thread thread;
  start_call(&thread, &call);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  latch_open(&it.latch);
  thread_join(&thread);
  CHECK_EQUAL(call.status, LANYARD_CLOSED);
  CHECK_EQUAL(stats_of(it.worker).discarded, 1);
  held_end(&it);
}

TEST(api_call_that_waits_beyond_its_deadline_never_runs) {
  held_worker it;
  held_begin(&it, 2);
  uint64_t deadline = after(10 * MILLISECONDS);
  CHECK_EQUAL(lanyard_call_until(it.worker, never, NULL, deadline), LANYARD_TIMED_OUT); /* in the ring */
  CHECK(lanyard_now_ns() >= deadline);
  CHECK_EQUAL(stats_of(it.worker).timed_out, 1);
  CHECK_EQUAL(lanyard_try_submit(it.worker, nothing, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_call_until(it.worker, never, NULL, after(10 * MILLISECONDS)), LANYARD_TIMED_OUT); /* for room */
  CHECK_EQUAL(stats_of(it.worker).timed_out, 1);
  held_end(&it);
}

/* An interrupt hook that lets the running request end. */
typedef struct interruption {
  test_latch latch;
  int interrupts;
  pthread_t thread;
} interruption;

static void interrupt(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  interruption *it = context;
  it->interrupts++;
  it->thread = pthread_self();
  latch_open(&it->latch);
}

static lanyard_worker *open_interruptible(interruption *it) {
  latch_init(&it->latch);
  it->interrupts = 0;
  lanyard_options options = defaults();
  options.interrupt = interrupt;
  options.context = it;
  return open_with(&options);
}

TEST(api_call_that_runs_beyond_its_deadline_is_interrupted_and_awaited) {
  interruption it;
  lanyard_worker *worker = open_interruptible(&it);
  CHECK_EQUAL(lanyard_call_until(worker, latch_request, &it.latch, after(50 * MILLISECONDS)), LANYARD_OK);
  CHECK_EQUAL(it.interrupts, 1);
  CHECK(pthread_equal(it.thread, pthread_self()));
  CHECK_EQUAL(stats_of(worker).timed_out, 0);
  lanyard_release(&worker);
  latch_destroy(&it.latch);
}

/* ---------------------------------------------------------------------------------------- cancel */

TEST(api_cancelled_request_is_answered_on_this_thread_before_cancel_returns) {
  held_worker it;
  held_begin(&it, 4);
  answer withdrawn = {0, LANYARD_OK, it.worker->thread};
  lanyard_ticket ticket;
  CHECK_EQUAL(lanyard_submit(it.worker, take_answer, &withdrawn, &ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(it.worker, ticket), LANYARD_OK);
  check_answer(&withdrawn, LANYARD_CANCELLED);
  CHECK(is_here(&withdrawn));
  CHECK_EQUAL(lanyard_cancel(it.worker, ticket), LANYARD_TOO_LATE);
  CHECK_EQUAL(stats_of(it.worker).depth, 1); /* its slot is free when its turn comes */
  held_end(&it);
  check_answer(&withdrawn, LANYARD_CANCELLED);
}

TEST(api_running_request_without_a_hook_is_too_late) {
  lanyard_worker *worker = open_worker(4);
  test_latch latch;
  latch_init(&latch);
  lanyard_ticket ticket;
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &latch, &ticket), LANYARD_OK);
  latch_await(&latch);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

TEST(api_running_request_is_interrupted_on_this_thread) {
  interruption it;
  lanyard_worker *worker = open_interruptible(&it);
  lanyard_ticket ticket;
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &it.latch, &ticket), LANYARD_OK);
  latch_await(&it.latch);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  CHECK_EQUAL(it.interrupts, 1);
  CHECK(pthread_equal(it.thread, pthread_self()));
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
  CHECK_EQUAL(it.interrupts, 1);
  CHECK_EQUAL(stats_of(worker).cancelled, 0);
  lanyard_release(&worker);
  latch_destroy(&it.latch);
}

TEST(api_cancel_after_close_works_on_what_is_queued) {
  held_worker it;
  held_begin(&it, 4);
  answer withdrawn = {0, LANYARD_OK, it.worker->thread}, drained = withdrawn;
  lanyard_ticket tickets[2];
  CHECK_EQUAL(lanyard_submit(it.worker, take_answer, &withdrawn, &tickets[0]), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(it.worker, take_answer, &drained, &tickets[1]), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard_cancel(it.worker, tickets[0]), LANYARD_OK);
  check_answer(&withdrawn, LANYARD_CANCELLED);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(lanyard_cancel(it.worker, tickets[i]), LANYARD_TOO_LATE);
  held_end(&it);
  check_answer(&drained, LANYARD_OK);
}

/* A callback that asks to cancel, on the worker's own thread, from a state in between. */
typedef struct asker {
  lanyard_worker *worker;
  lanyard_ticket ticket;
  lanyard_status status;
} asker;

static void ask_to_cancel(void *argument, lanyard_status outcome) {
  (void)outcome;
  asker *it = argument;
  it->status = lanyard_cancel(it->worker, it->ticket);
}

static void hook_that_does_nothing(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  (void)context;
}

static void begin_with_hook(held_worker *held, asker *it) {
  lanyard_options options = defaults();
  options.capacity = 2;
  options.interrupt = hook_that_does_nothing;
  held_begin_with(held, &options);
  *it = (asker){held->worker, 0, LANYARD_INVALID};
}

static void cancel_itself_when_late(void *argument) {
  (void)argument;
  held_worker held;
  asker it;
  begin_with_hook(&held, &it);
  uint64_t deadline = after(100 * MILLISECONDS);
  CHECK_EQUAL(lanyard_submit_until(held.worker, ask_to_cancel, &it, deadline, &it.ticket), LANYARD_OK);
  sleep_until(deadline);
  held_end(&held);
  CHECK_EQUAL(it.status, LANYARD_TOO_LATE);
}

TEST(api_timed_out_request_may_cancel_itself) { checks_hold_in_child(cancel_itself_when_late, NULL, LIMIT_MS); }

static void cancel_the_next_when_there_is_room(void *argument) {
  (void)argument;
  held_worker held;
  asker it;
  begin_with_hook(&held, &it);
  CHECK_EQUAL(lanyard_submit(held.worker, nothing, NULL, &it.ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(held.worker, nothing, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_when_room(held.worker, ask_to_cancel, &it), LANYARD_OK);
  latch_open(&held.latch);
  CHECK_EQUAL(lanyard_call(held.worker, nothing, NULL), LANYARD_OK);
  held_end(&held);
  CHECK(it.status == LANYARD_OK || it.status == LANYARD_TOO_LATE);
}

TEST(api_when_room_callback_may_cancel_the_next_request) {
  checks_hold_in_child(cancel_the_next_when_there_is_room, NULL, LIMIT_MS);
}

/* ------------------------------------------------------------------------------------- when_room */

TEST(api_when_room_calls_at_once_if_there_is_room) {
  held_worker it;
  held_begin(&it, 2);
  answer called = {0, LANYARD_INVALID, it.worker->thread};
  CHECK_EQUAL(lanyard_when_room(it.worker, take_answer, &called), LANYARD_OK);
  check_answer(&called, LANYARD_OK);
  CHECK(is_here(&called));
  CHECK_EQUAL(stats_of(it.worker).submitted, 1); /* it is no request */
  held_end(&it);
  CHECK_EQUAL(called.count, 1);
}

static answer *room_order[8];
static int room_order_count;

static void take_room(void *argument, lanyard_status outcome) {
  take_answer(argument, outcome);
  room_order[room_order_count++] = argument;
}

TEST(api_when_room_calls_in_order_on_the_worker) {
  held_worker it;
  held_begin(&it, 4);
  pthread_t thread = it.worker->thread;
  fill(it.worker);
  room_order_count = 0;
  answer called[6];
  for (int i = 0; i < 6; i++) {
    called[i] = (answer){0, LANYARD_INVALID, pthread_self()};
    CHECK_EQUAL(lanyard_when_room(it.worker, take_room, &called[i]), LANYARD_OK);
    CHECK_EQUAL(called[i].count, 0);
  }
  CHECK_EQUAL(stats_of(it.worker).depth, 4); /* they take no slot */
  latch_open(&it.latch);
  for (int i = 0; i < 8; i++) CHECK_EQUAL(lanyard_call(it.worker, nothing, NULL), LANYARD_OK);
  held_end(&it);
  CHECK_EQUAL(room_order_count, 6);
  for (int i = 0; i < 6; i++) {
    check_answer(&called[i], LANYARD_OK);
    CHECK(room_order[i] == &called[i]);
    CHECK(pthread_equal(called[i].thread, thread));
  }
}

TEST(api_when_room_is_told_of_a_close_on_the_closing_thread) {
  held_worker it;
  held_begin(&it, 2);
  fill(it.worker);
  room_order_count = 0;
  answer called[3];
  for (int i = 0; i < 3; i++) {
    called[i] = (answer){0, LANYARD_OK, it.worker->thread};
    CHECK_EQUAL(lanyard_when_room(it.worker, take_room, &called[i]), LANYARD_OK);
  }
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(room_order_count, 3);
  for (int i = 0; i < 3; i++) {
    check_answer(&called[i], LANYARD_CLOSED);
    CHECK(is_here(&called[i]));
    CHECK(room_order[i] == &called[i]);
  }
  CHECK_EQUAL(lanyard_when_room(it.worker, never, NULL), LANYARD_CLOSED);
  held_end(&it);
  CHECK_EQUAL(room_order_count, 3);
}

/* Asks again from inside the callback, as an event loop does, until its request fits. */
typedef struct event_loop {
  lanyard_worker *worker;
  int asked, ran;
} event_loop;

static void try_again(void *argument, lanyard_status outcome) {
  event_loop *it = argument;
  if (outcome != LANYARD_OK) return;
  it->asked++;
  if (lanyard_try_submit(it->worker, count_up, &it->ran, NULL) == LANYARD_FULL)
    CHECK_EQUAL(lanyard_when_room(it->worker, try_again, it), LANYARD_OK);
}

typedef struct completed {
  lanyard_worker *worker;
  uint64_t count;
} completed;

static bool completed_are(void *argument) {
  const completed *wanted = argument;
  return stats_of(wanted->worker).completed == wanted->count;
}

TEST(api_when_room_may_be_asked_again_from_its_callback) {
  held_worker it;
  held_begin(&it, 2);
  fill(it.worker);
  event_loop loops[3];
  for (int i = 0; i < 3; i++) {
    loops[i] = (event_loop){it.worker, 0, 0};
    CHECK_EQUAL(lanyard_when_room(it.worker, try_again, &loops[i]), LANYARD_OK);
  }
  latch_open(&it.latch);
  completed wanted = {it.worker, 6}; /* the latch, the two that filled the ring, and theirs */
  CHECK(eventually(completed_are, &wanted));
  held_end(&it);
  for (int i = 0; i < 3; i++) {
    CHECK(loops[i].asked >= 1);
    CHECK_EQUAL(loops[i].ran, 1);
  }
}

/* A clock that stands: the worker tells of room only when half the ring is free, so that it can be held with
 * a waiter in the list beside one free slot. */
static uint64_t standing_clock(void) { return SECONDS; }

static void ask_for_room(void *argument) {
  caller *it = argument;
  it->status = lanyard_when_room(it->worker, it->function, it->argument);
}

static void check_with_a_waiter_beside_room(held_worker *it, test_latch *next) {
  static answer earlier, later; /* static: they may be called as late as by the close */
  earlier = later = (answer){0, LANYARD_INVALID, pthread_self()};
  CHECK_EQUAL(lanyard_when_room(it->worker, take_answer, &earlier), LANYARD_OK);
  latch_open(&next[0]);
  latch_await(&next[1]);
  CHECK_EQUAL(earlier.count, 0); /* or the test has not come where it wanted to */
  caller registrant = {it->worker, take_answer, &later, 0, LANYARD_INVALID};
  test_thread thread;
  thread_start(&thread, "registrant", ask_for_room, &registrant);
  thread_join(&thread);
  CHECK_EQUAL(registrant.status, LANYARD_OK);
  latch_open(&next[1]);
  CHECK_EQUAL(lanyard_call(it->worker, nothing, NULL), LANYARD_OK);
  check_answer(&earlier, LANYARD_OK);
  CHECK(pthread_equal(earlier.thread, thread.thread)); /* who found room for the first in the line */
}

TEST(api_when_room_callback_is_called_by_a_later_registrant_that_finds_room) {
  lanyard__hooks.now_ns = standing_clock;
  lanyard_options options = defaults();
  options.capacity = 8;
  options.spin_ns = 0;
  held_worker it;
  held_begin_with(&it, &options);
  test_latch next[2];
  answer first = {0, LANYARD_INVALID, pthread_self()};
  for (int i = 0; i < 2; i++) {
    latch_init(&next[i]);
    CHECK_EQUAL(lanyard_submit(it.worker, latch_request, &next[i], NULL), LANYARD_OK);
  }
  for (int i = 0; i < 6; i++) CHECK_EQUAL(lanyard_try_submit(it.worker, nothing, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_when_room(it.worker, take_answer, &first), LANYARD_OK);
  latch_open(&it.latch);
  latch_await(&next[0]); /* the worker has told the first waiter, and when it did */
  CHECK_EQUAL(lanyard_try_submit(it.worker, nothing, NULL, NULL), LANYARD_OK);
  check_with_a_waiter_beside_room(&it, next);
  held_end(&it);
  check_answer(&first, LANYARD_OK);
  for (int i = 0; i < 2; i++) latch_destroy(&next[i]);
  lanyard__hooks.now_ns = NULL;
}

/* ------------------------------------------------------------------------------------ statistics */

/* Every counter moves by one for what it counts, and by nothing else. */
TEST(api_statistics_count_each_thing_once) {
  held_worker it;
  held_begin(&it, 4);
  lanyard_ticket ticket;
  CHECK_EQUAL(lanyard_submit(it.worker, nothing, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(it.worker, nothing, NULL, &ticket), LANYARD_OK);
  uint64_t deadline = after(100 * MILLISECONDS);
  CHECK_EQUAL(lanyard_submit_until(it.worker, nothing, NULL, deadline, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(it.worker, ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(it.worker, ticket), LANYARD_TOO_LATE);
  CHECK_EQUAL(lanyard_submit(it.worker, nothing, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_try_submit(it.worker, nothing, NULL, NULL), LANYARD_FULL);
  CHECK_EQUAL(lanyard_submit_until(it.worker, nothing, NULL, after(MILLISECONDS), NULL), LANYARD_TIMED_OUT);
  lanyard_stats held = stats_of(it.worker);
  CHECK_EQUAL(held.submitted, 5);
  CHECK_EQUAL(held.completed, 0);
  CHECK_EQUAL(held.cancelled, 1);
  CHECK_EQUAL(held.refused_full, 1);
  CHECK_EQUAL(held.depth, 4);
  sleep_until(deadline);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_stats closed = stats_of(it.worker);
  CHECK_EQUAL(closed.submitted, 5);
  CHECK_EQUAL(closed.completed, 3);
  CHECK_EQUAL(closed.batches, 3);
  CHECK_EQUAL(closed.cancelled, 1);
  CHECK_EQUAL(closed.timed_out, 1);
  CHECK_EQUAL(closed.discarded, 0);
  CHECK_EQUAL(closed.refused_full, 1);
  CHECK_EQUAL(closed.capacity, 4);
  CHECK_EQUAL(closed.depth, 0);
  held_end(&it);
}

TEST(api_statistics_count_discarded_requests) {
  held_worker it;
  held_begin(&it, 4);
  answer answers[3];
  for (int i = 0; i < 3; i++) {
    answers[i] = (answer){0, LANYARD_OK, pthread_self()};
    CHECK_EQUAL(lanyard_submit(it.worker, take_answer, &answers[i], NULL), LANYARD_OK);
  }
  pthread_t thread = it.worker->thread;
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_stats stats = stats_of(it.worker);
  CHECK_EQUAL(stats.submitted, 4);
  CHECK_EQUAL(stats.completed, 1);
  CHECK_EQUAL(stats.batches, 1);
  CHECK_EQUAL(stats.discarded, 3);
  held_end(&it);
  for (int i = 0; i < 3; i++) {
    check_answer(&answers[i], LANYARD_CLOSED);
    CHECK(pthread_equal(answers[i].thread, thread));
  }
}

static void call_twice_inline(void *worker, lanyard_status outcome) {
  (void)outcome;
  for (int i = 0; i < 2; i++) CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
}

TEST(api_statistics_count_inline_calls_as_requests) {
  lanyard_worker *worker = open_worker(4);
  CHECK_EQUAL(lanyard_call(worker, call_twice_inline, worker), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_stats stats = stats_of(worker);
  CHECK_EQUAL(stats.submitted, 3);
  CHECK_EQUAL(stats.completed, 3);
  lanyard_release(&worker);
}

typedef struct parks {
  lanyard_worker *worker;
  uint64_t count;
} parks;

static bool parks_are(void *argument) {
  const parks *wanted = argument;
  return stats_of(wanted->worker).parks == wanted->count;
}

/* The worker counts a sleep when it is over, the waker its wake before. */
TEST(api_statistics_count_a_sleep_and_its_wake) {
  watch_begin();
  lanyard_options options = defaults();
  options.spin_ns = 0;
  lanyard_worker *worker = open_with(&options);
  for (uint64_t i = 1; i <= 3; i++) {
    await_endless_sleepers(&worker->park.word, 1);
    CHECK_EQUAL(stats_of(worker).wakes, i - 1);
    CHECK_EQUAL(stats_of(worker).parks, i - 1);
    CHECK_EQUAL(lanyard_submit(worker, nothing, NULL, NULL), LANYARD_OK);
    CHECK_EQUAL(stats_of(worker).wakes, i);
    parks wanted = {worker, i};
    CHECK(eventually(parks_are, &wanted));
  }
  await_endless_sleepers(&worker->park.word, 1);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_stats stats = stats_of(worker);
  CHECK_EQUAL(stats.parks, 4); /* the close woke it from the fourth */
  CHECK_EQUAL(stats.wakes, 4);
  lanyard_release(&worker);
  watch_end();
}

TEST(api_depth_high_is_the_most_that_waited) {
  held_worker it;
  held_begin(&it, 8);
  CHECK_EQUAL(stats_of(it.worker).depth_high, 1);
  for (int i = 0; i < 5; i++) CHECK_EQUAL(lanyard_submit(it.worker, nothing, NULL, NULL), LANYARD_OK);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_call(it.worker, nothing, NULL), LANYARD_OK);
  uint32_t high = stats_of(it.worker).depth_high;
  CHECK(high == 5 || high == 6); /* the call may have been in time to be counted */
  CHECK_EQUAL(lanyard_call(it.worker, nothing, NULL), LANYARD_OK);
  CHECK_EQUAL(stats_of(it.worker).depth_high, high); /* it does not fall */
  held_end(&it);
}

TEST(api_depth_high_of_a_full_ring_is_its_capacity) {
  held_worker it;
  held_begin(&it, 4);
  fill(it.worker);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(stats_of(it.worker).depth_high, 4);
  held_end(&it);
}

static _Atomic bool loading;

static void read_statistics(void *worker) {
  lanyard_stats before = stats_of(worker);
  while (atomic_load(&loading)) {
    lanyard_stats now = stats_of(worker);
    CHECK(now.submitted >= before.submitted && now.completed >= before.completed);
    CHECK(now.parks >= before.parks && now.wakes >= before.wakes && now.batches >= before.batches);
    CHECK(now.refused_full >= before.refused_full && now.depth_high >= before.depth_high);
    CHECK(now.depth <= now.capacity && now.depth_high <= now.capacity);
    before = now;
    sched_yield();
  }
}

static _Atomic uint64_t load_refused;

static void load_worker(void *worker) {
  for (uint64_t i = 0; i < scaled(50000); i++) {
    while (lanyard_try_submit(worker, nothing, NULL, NULL) == LANYARD_FULL) {
      atomic_fetch_add(&load_refused, 1u);
      sched_yield();
    }
  }
}

TEST(api_statistics_may_be_read_under_load) {
  lanyard_worker *worker = open_worker(16);
  test_thread readers[2], producers[2];
  atomic_store(&loading, true);
  atomic_store(&load_refused, 0u);
  for (int i = 0; i < 2; i++) thread_start(&readers[i], "reader", read_statistics, worker);
  for (int i = 0; i < 2; i++) thread_start(&producers[i], "producer", load_worker, worker);
  for (int i = 0; i < 2; i++) thread_join(&producers[i]);
  atomic_store(&loading, false);
  for (int i = 0; i < 2; i++) thread_join(&readers[i]);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_stats stats = stats_of(worker);
  CHECK_EQUAL(stats.submitted, 2 * scaled(50000));
  CHECK_EQUAL(stats.completed, stats.submitted);
  CHECK_EQUAL(stats.batches, stats.submitted);
  CHECK_EQUAL(stats.refused_full, atomic_load(&load_refused));
  lanyard_release(&worker);
}

/* -------------------------------------------------------------------------------------- registry */

enum { LIVE_MAX = 8 };

typedef struct live_list {
  size_t count;
  uint64_t ids[LIVE_MAX], opened_ns[LIVE_MAX];
  uint32_t depths[LIVE_MAX];
  bool closed[LIVE_MAX];
  char names[LIVE_MAX][16];
} live_list;

static void list_live(const lanyard_info *info, void *argument) {
  live_list *list = argument;
  if (list->count == LIVE_MAX) return;
  list->ids[list->count] = info->id;
  list->opened_ns[list->count] = info->opened_ns;
  list->depths[list->count] = info->depth;
  list->closed[list->count] = info->closed;
  snprintf(list->names[list->count++], 16, "%s", info->name);
}

static lanyard_worker *open_named(const char *name) {
  lanyard_options options = defaults();
  options.name = name;
  return open_with(&options);
}

TEST(api_live_workers_are_shown_in_the_order_of_their_opening) {
  uint64_t before = lanyard_now_ns();
  held_worker first;
  held_begin(&first, 4);
  lanyard_submit(first.worker, nothing, NULL, NULL);
  lanyard_worker *second = open_named("second"), *third = open_named("third");
  CHECK_EQUAL(lanyard_live_count(), 3);
  CHECK_EQUAL(lanyard_close(second, LANYARD_DRAIN), LANYARD_OK);
  live_list list = {.count = 0};
  lanyard_each_live(list_live, &list);
  CHECK_EQUAL(list.count, 3);
  CHECK(list.ids[0] > 0 && list.ids[0] < list.ids[1] && list.ids[1] < list.ids[2]);
  CHECK(before <= list.opened_ns[0] && list.opened_ns[0] <= list.opened_ns[1]);
  CHECK(list.opened_ns[1] <= list.opened_ns[2] && list.opened_ns[2] <= lanyard_now_ns());
  CHECK(strcmp(list.names[1], "second") == 0 && strcmp(list.names[2], "third") == 0);
  CHECK_EQUAL(list.depths[0], 1);
  CHECK_EQUAL(list.depths[1], 0);
  CHECK(!list.closed[0] && list.closed[1] && !list.closed[2]);
  lanyard_release(&second);
  CHECK_EQUAL(lanyard_live_count(), 2);
  lanyard_release(&third);
  held_end(&first);
  CHECK_EQUAL(lanyard_live_count(), 0);
}

static void count_id(const lanyard_info *info, void *id) { *(uint64_t *)id = info->id; }

static void see_own_id(void *argument, lanyard_status outcome) {
  (void)outcome;
  lanyard_each_live(count_id, argument);
}

TEST(api_ids_count_from_one_in_each_process) {
  lanyard_worker *worker = open_worker(2);
  uint64_t first = 0, second = 0;
  CHECK_EQUAL(lanyard_call(worker, see_own_id, &first), LANYARD_OK);
  lanyard_release(&worker);
  worker = open_worker(2);
  lanyard_each_live(count_id, &second);
  CHECK_EQUAL(second, first + 1);
  lanyard_release(&worker);
}

static void check_first_id(void *argument) {
  (void)argument;
  lanyard_worker *worker = open_worker(2);
  uint64_t id = 0;
  lanyard_each_live(count_id, &id);
  CHECK_EQUAL(id, 1);
  lanyard_release(&worker);
}

TEST(api_first_id_of_a_child_process_is_one) { checks_hold_in_child(check_first_id, NULL, LIMIT_MS); }

/* Releases the worker that is shown, and those next to it, and opens others. */
typedef struct visitor {
  lanyard_worker *workers[4], *opened[16];
  int calls;
} visitor;

static void visit_and_change(const lanyard_info *info, void *argument) {
  visitor *it = argument;
  if (it->calls == 0) {
    lanyard_release(&it->workers[0]); /* the one that is shown */
    lanyard_release(&it->workers[1]); /* the one that would be next */
  } else if (it->calls == 1) {
    lanyard_close(it->workers[3], LANYARD_DRAIN);
  }
  if (it->calls < 16) it->opened[it->calls] = it->calls < 3 ? open_named("opened") : NULL;
  it->calls++;
  CHECK(strncmp(info->name, "visited", 7) == 0 || strcmp(info->name, "opened") == 0);
  CHECK(strstr(info->file, "test_api.c") != NULL);
}

TEST(api_visitor_may_open_close_and_release) {
  visitor it = {.calls = 0};
  for (int i = 0; i < 4; i++) it.workers[i] = open_named(i % 2 ? "visited odd" : "visited even");
  lanyard_each_live(visit_and_change, &it);
  CHECK(it.calls >= 3 && it.calls <= 6);
  for (int i = 0; i < 16; i++) lanyard_release(&it.opened[i]);
  for (int i = 0; i < 4; i++) lanyard_release(&it.workers[i]);
  CHECK_EQUAL(lanyard_live_count(), 0);
}

/* What report_live wrote; the caller's buffer, as a string. */
static size_t report_into(char *text, size_t size) {
  int descriptors[2];
  if (pipe(descriptors) != 0) abort();
  size_t count = lanyard_report_live(descriptors[1]);
  close(descriptors[1]);
  ssize_t length, total = 0;
  while ((length = read(descriptors[0], text + total, size - 1 - (size_t)total)) > 0) total += length;
  text[total] = '\0';
  close(descriptors[0]);
  return count;
}

static bool matches(const char *text, const char *pattern) {
  regex_t compiled;
  if (regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB) != 0) abort();
  bool found = regexec(&compiled, text, 0, NULL, 0) == 0;
  regfree(&compiled);
  if (!found) fprintf(stderr, "\"%s\" does not match \"%s\"\n", text, pattern);
  return found;
}

static size_t lines_in(const char *text) {
  size_t count = 0;
  for (; *text != '\0'; text++) count += *text == '\n';
  return count;
}

TEST(api_report_writes_one_line_for_each_worker) {
  char text[4096];
  CHECK_EQUAL(report_into(text, sizeof text), 0);
  CHECK_EQUAL(strlen(text), 0);
  lanyard_options options = defaults();
  options.name = "reported";
  options.file = "place.c";
  options.line = 12;
  options.capacity = 4;
  held_worker first;
  held_begin_with(&first, &options);
  for (int i = 0; i < 3; i++) lanyard_submit(first.worker, nothing, NULL, NULL);
  lanyard_worker *second = open_with(NULL);
  lanyard_close(second, LANYARD_DRAIN);
  CHECK_EQUAL(report_into(text, sizeof text), 2);
  CHECK_EQUAL(lines_in(text), 2);
  CHECK(matches(text, "^lanyard: worker [0-9]+ \"reported\" open, 3 waiting, open for [0-9]+\\.[0-9]{3} s, opened at "
                      "place\\.c:12\nlanyard: worker [0-9]+ \"lanyard\" closed, 0 waiting, open for [0-9]+\\.[0-9]{3} "
                      "s, opened at \\(unknown\\):0\n$"));
  lanyard_release(&second);
  held_end(&first);
}

TEST(api_report_of_a_very_long_name_is_still_one_line) {
  char name[2000], text[8192];
  lanyard_options options = defaults();
  options.name = name;
  const size_t lengths[] = {300, 400, 420, 440, 450, 460, 480, 500, 512, 1999};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    memset(name, 'n', sizeof name);
    name[lengths[i]] = '\0';
    lanyard_worker *worker = open_with(&options);
    CHECK_EQUAL(report_into(text, sizeof text), 1);
    CHECK_EQUAL(lines_in(text), 1);
    CHECK(text[strlen(text) - 1] == '\n');
    CHECK(matches(text, "^lanyard: worker [0-9]+ \"nnnnnnnn"));
    lanyard_release(&worker);
  }
}

TEST(api_report_of_a_name_with_line_breaks_is_still_one_line) {
  char text[4096];
  lanyard_options options = defaults();
  options.name = "two\nlines\r\nor three";
  lanyard_worker *worker = open_with(&options);
  CHECK_EQUAL(report_into(text, sizeof text), 1);
  CHECK_EQUAL(lines_in(text), 1);
  lanyard_release(&worker);
}

TEST(api_report_to_a_bad_descriptor_only_counts) {
  lanyard_worker *worker = open_worker(2);
  CHECK_EQUAL(lanyard_report_live(-1), 1);
  lanyard_release(&worker);
}

/* --------------------------------------------------------------------------------------- quiesce */

TEST(api_quiesce_without_anything_pending_returns_at_once) {
  CHECK_EQUAL(lanyard_quiesce(0), 0);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 0);
  lanyard_worker *worker = open_worker(2);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 1); /* it lives, and ends when its owner wants it to */
  lanyard_release(&worker);
}

typedef struct self_owner {
  lanyard_worker *worker;
  test_latch latch;
  sem_t released;
} self_owner;

static void release_itself_and_stay(void *argument, lanyard_status outcome) {
  self_owner *it = argument;
  lanyard_release(&it->worker);
  sem_post(&it->released);
  latch_request(&it->latch, outcome);
}

TEST(api_quiesce_waits_until_its_deadline_for_a_worker_that_released_itself) {
  self_owner it;
  latch_init(&it.latch);
  sem_init(&it.released, 0, 0);
  it.worker = open_worker(2);
  CHECK_EQUAL(lanyard_submit(it.worker, release_itself_and_stay, &it, NULL), LANYARD_OK);
  while (sem_wait(&it.released) != 0) continue;
  CHECK_EQUAL(lanyard_quiesce(0), 1);
  uint64_t deadline = after(10 * MILLISECONDS);
  CHECK_EQUAL(lanyard_quiesce(deadline), 1);
  CHECK(lanyard_now_ns() >= deadline);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 0);
  sem_destroy(&it.released);
  latch_destroy(&it.latch);
}

static void quiesce_here(void *argument, lanyard_status outcome) {
  (void)outcome;
  *(size_t *)argument = lanyard_quiesce(LANYARD_FOREVER);
}

typedef struct self_quiescer {
  lanyard_worker *worker;
  sem_t over;
  size_t left;
} self_quiescer;

static void release_itself_and_quiesce(void *argument, lanyard_status outcome) {
  self_quiescer *it = argument;
  lanyard_release(&it->worker);
  quiesce_here(&it->left, outcome);
  sem_post(&it->over);
}

TEST(api_quiesce_on_a_worker_leaves_that_worker_out) {
  self_quiescer it = {.left = 99};
  sem_init(&it.over, 0, 0);
  it.worker = open_worker(2);
  CHECK_EQUAL(lanyard_submit(it.worker, release_itself_and_quiesce, &it, NULL), LANYARD_OK);
  while (sem_wait(&it.over) != 0) continue;
  CHECK_EQUAL(it.left, 1);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 0);
  sem_destroy(&it.over);
}

TEST(api_quiesce_in_when_closed_does_not_wait_for_itself) {
  size_t left = 99;
  test_latch latch;
  latch_init(&latch);
  lanyard_worker *worker = open_worker(2);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &latch, NULL), LANYARD_OK);
  latch_await(&latch);
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, quiesce_here, &left), LANYARD_OK);
  lanyard_release(&worker); /* before it can end: then the callback counts no owner */
  latch_open(&latch);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 0);
  CHECK_EQUAL(left, 0);
  latch_destroy(&latch);
}

/* ----------------------------------------------------------------------------------- hooks, serve */

enum { SERVED_MAX = 32 };

/* What the hooks saw; the worker's own until it is closed. */
typedef struct hooks_log {
  lanyard_worker *worker;
  int starts, stops, requests_at_start, requests_at_stop, batches, requests;
  size_t sizes[SERVED_MAX];
  int order[SERVED_MAX];
  pthread_t start_thread, stop_thread;
  bool served;
  test_latch latch;
} hooks_log;

static void note_start(void *context) {
  hooks_log *it = context;
  it->starts++;
  it->requests_at_start = it->requests;
  it->start_thread = pthread_self();
}

static void note_stop(void *context) {
  hooks_log *it = context;
  it->stops++;
  it->requests_at_stop = it->requests;
  it->stop_thread = pthread_self();
  CHECK(lanyard_is_current(it->worker));
}

static void note_batch(void *context, lanyard_request *requests, size_t count) {
  hooks_log *it = context;
  it->sizes[it->batches++ % SERVED_MAX] = count;
  it->served = false;
  for (size_t i = 0; i < count; i++) requests[i].function(requests[i].argument, LANYARD_OK);
  it->served = true;
}

/* Noted by its number. */
typedef struct noted {
  hooks_log *log;
  int number;
} noted;

static void note_request(void *argument, lanyard_status outcome) {
  const noted *it = argument;
  if (outcome != LANYARD_OK) return;
  it->log->order[it->log->requests++ % SERVED_MAX] = it->number;
}

static lanyard_options hooked(hooks_log *it) {
  memset(it, 0, sizeof *it);
  lanyard_options options = defaults();
  options.context = it;
  options.on_start = note_start;
  options.on_stop = note_stop;
  return options;
}

static void check_hooks(const hooks_log *it, int requests) {
  CHECK_EQUAL(it->starts, 1);
  CHECK_EQUAL(it->stops, 1);
  CHECK_EQUAL(it->requests_at_start, 0);
  CHECK_EQUAL(it->requests_at_stop, requests);
  CHECK(pthread_equal(it->start_thread, it->stop_thread));
  CHECK(!pthread_equal(it->start_thread, pthread_self()));
}

TEST(api_hooks_are_called_on_the_worker_before_and_after_the_requests) {
  for (int lazy = 0; lazy < 2; lazy++) {
    hooks_log it;
    lanyard_options options = hooked(&it);
    options.lazy = lazy;
    it.worker = open_with(&options);
    noted request = {&it, 1};
    for (int i = 0; i < 5; i++) lanyard_submit(it.worker, note_request, &request, NULL);
    CHECK(pthread_equal(thread_of(it.worker), it.worker->thread));
    CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
    check_hooks(&it, 5);
    CHECK(pthread_equal(it.start_thread, it.worker->thread));
    lanyard_release(&it.worker);
  }
}

TEST(api_hooks_are_called_for_a_worker_without_requests) {
  hooks_log it;
  lanyard_options options = hooked(&it);
  it.worker = open_with(&options);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  check_hooks(&it, 0);
  lanyard_release(&it.worker);
}

TEST(api_lazy_worker_without_requests_starts_nothing_and_calls_no_hook) {
  hooks_log it;
  lanyard_options options = hooked(&it);
  options.lazy = true;
  unsigned threads = thread_count();
  it.worker = open_with(&options);
  CHECK_EQUAL(thread_count(), threads);
  CHECK_EQUAL(lanyard_live_count(), 1);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard_try_submit(it.worker, never, NULL, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(it.starts, 0);
  CHECK_EQUAL(it.stops, 0);
  lanyard_release(&it.worker);
}

/* Opens a serving worker and holds it in its first batch, which is the latch alone. */
static void serving_begin(hooks_log *it, uint32_t capacity, uint32_t limit) {
  lanyard_options options = hooked(it);
  options.serve = note_batch;
  options.capacity = capacity;
  options.batch_limit = limit;
  it->worker = open_with(&options);
  latch_init(&it->latch);
  CHECK_EQUAL(lanyard_submit(it->worker, latch_request, &it->latch, NULL), LANYARD_OK);
  latch_await(&it->latch);
}

static void serving_close(hooks_log *it) {
  latch_open(&it->latch);
  CHECK_EQUAL(lanyard_close(it->worker, LANYARD_DRAIN), LANYARD_OK);
  latch_destroy(&it->latch);
}

static void check_served(const hooks_log *it, const size_t *sizes, int batches, int requests) {
  CHECK_EQUAL(it->batches, batches);
  for (int i = 0; i < batches; i++) CHECK_EQUAL(it->sizes[i], sizes[i]);
  CHECK_EQUAL(it->requests, requests);
  for (int i = 1; i < requests; i++) CHECK(it->order[i - 1] < it->order[i]);
}

TEST(api_serve_gets_what_is_queued_in_order_up_to_the_limit) {
  hooks_log it;
  serving_begin(&it, 16, 4);
  noted requests[10];
  for (int i = 0; i < 10; i++) {
    requests[i] = (noted){&it, i};
    CHECK_EQUAL(lanyard_submit(it.worker, note_request, &requests[i], NULL), LANYARD_OK);
  }
  serving_close(&it);
  const size_t sizes[] = {1, 4, 4, 2};
  check_served(&it, sizes, 4, 10);
  CHECK_EQUAL(stats_of(it.worker).batches, 4);
  CHECK_EQUAL(stats_of(it.worker).completed, 11);
  lanyard_release(&it.worker);
}

TEST(api_serve_never_gets_more_than_the_capacity) {
  hooks_log it;
  serving_begin(&it, 4, LANYARD_CAPACITY_MAX);
  noted requests[4];
  for (int i = 0; i < 4; i++) {
    requests[i] = (noted){&it, i};
    CHECK_EQUAL(lanyard_try_submit(it.worker, note_request, &requests[i], NULL), LANYARD_OK);
  }
  serving_close(&it);
  const size_t sizes[] = {1, 4};
  check_served(&it, sizes, 2, 4);
  lanyard_release(&it.worker);
}

TEST(api_serve_gets_neither_withdrawn_nor_late_requests) {
  hooks_log it;
  serving_begin(&it, 16, 8);
  noted requests[7];
  answer withdrawn = {0, LANYARD_OK, pthread_self()}, late = withdrawn;
  lanyard_ticket ticket;
  uint64_t deadline = after(100 * MILLISECONDS);
  for (int i = 0; i < 7; i++) {
    requests[i] = (noted){&it, i};
    if (i == 2) lanyard_submit(it.worker, take_answer, &withdrawn, &ticket);
    else if (i == 4) lanyard_submit_until(it.worker, take_answer, &late, deadline, NULL);
    else lanyard_submit(it.worker, note_request, &requests[i], NULL);
  }
  CHECK_EQUAL(lanyard_cancel(it.worker, ticket), LANYARD_OK);
  sleep_until(deadline);
  serving_close(&it);
  check_answer(&withdrawn, LANYARD_CANCELLED);
  check_answer(&late, LANYARD_TIMED_OUT);
  CHECK_EQUAL(it.requests, 5);
  for (int i = 1; i < 5; i++) CHECK(it.order[i - 1] < it.order[i]);
  size_t total = 0;
  for (int i = 0; i < it.batches; i++) total += it.sizes[i];
  CHECK_EQUAL(total, 6); /* the latch is one */
  lanyard_release(&it.worker);
}

TEST(api_call_with_serve_returns_when_its_batch_was_served) {
  hooks_log it;
  lanyard_options options = hooked(&it);
  options.serve = note_batch;
  it.worker = open_with(&options);
  for (uint64_t i = 0; i < scaled(1000); i++) {
    CHECK_EQUAL(lanyard_call(it.worker, nothing, NULL), LANYARD_OK);
    if (!CHECK(it.served)) break; /* the plain variable shows the end of the hook, or ThreadSanitizer complains */
  }
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&it.worker);
}

/* ----------------------------------------------------------------------------- close and owners */

static void close_own_worker(void *worker, lanyard_status outcome) {
  (void)outcome;
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_CLOSING);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_CLOSING);
  CHECK_EQUAL(lanyard_submit(worker, never, NULL, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_call(worker, never, NULL), LANYARD_CLOSED);
  CHECK(lanyard_is_closed(worker) && lanyard_is_current(worker));
}

TEST(api_close_on_the_worker_only_begins) {
  lanyard_worker *worker = open_worker(4);
  CHECK_EQUAL(lanyard_call(worker, close_own_worker, worker), LANYARD_OK);
  CHECK(lanyard_is_closed(worker) && !lanyard_is_current(worker));
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&worker);
}

TEST(api_close_with_a_deadline_stops_acceptance_and_may_be_repeated) {
  held_worker it;
  held_begin(&it, 4);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK(lanyard_is_closed(it.worker));
  CHECK_EQUAL(lanyard_try_submit(it.worker, never, NULL, NULL), LANYARD_CLOSED);
  uint64_t deadline = after(10 * MILLISECONDS);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, deadline), LANYARD_TIMED_OUT);
  CHECK(lanyard_now_ns() >= deadline);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, LANYARD_FOREVER), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, 0), LANYARD_OK);
  held_end(&it);
}

TEST(api_later_discard_turns_a_drain_and_later_drain_changes_nothing) {
  for (int discard_first = 0; discard_first < 2; discard_first++) {
    held_worker it;
    held_begin(&it, 4);
    answer queued = {0, LANYARD_OK, pthread_self()};
    CHECK_EQUAL(lanyard_submit(it.worker, take_answer, &queued, NULL), LANYARD_OK);
    lanyard_close_mode modes[] = {LANYARD_DRAIN, LANYARD_DISCARD};
    CHECK_EQUAL(lanyard_close_until(it.worker, modes[discard_first], 0), LANYARD_TIMED_OUT);
    CHECK_EQUAL(lanyard_close_until(it.worker, modes[1 - discard_first], 0), LANYARD_TIMED_OUT);
    held_end(&it);
    check_answer(&queued, LANYARD_CLOSED);
  }
}

/* Every function, on a worker that is closed and still owned. */
static void check_closed(lanyard_worker *worker, lanyard_ticket given) {
  lanyard_ticket ticket = 4711;
  CHECK_EQUAL(lanyard_try_submit(worker, never, NULL, &ticket), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_submit(worker, never, NULL, &ticket), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, LANYARD_FOREVER, &ticket), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_submit_until(worker, never, NULL, 0, &ticket), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_call(worker, never, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_call_until(worker, never, NULL, LANYARD_FOREVER), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_when_room(worker, never, NULL), LANYARD_CLOSED);
  CHECK_EQUAL(lanyard_cancel(worker, given), LANYARD_TOO_LATE);
  CHECK_EQUAL(lanyard_cancel(worker, given + 1000), LANYARD_INVALID);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DISCARD), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_OK);
  CHECK(lanyard_is_closed(worker) && !lanyard_is_current(worker));
  CHECK_EQUAL(ticket, 4711);
  lanyard_stats stats = stats_of(worker);
  CHECK_EQUAL(stats.submitted, 1);
  CHECK_EQUAL(stats.completed, 1);
  CHECK(show_only_worker().info.closed);
}

TEST(api_every_function_after_close) {
  lanyard_worker *worker = open_worker(4);
  lanyard_ticket ticket;
  CHECK_EQUAL(lanyard_submit(worker, nothing, NULL, &ticket), LANYARD_OK);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  check_closed(worker, ticket);
  lanyard_worker *retained = lanyard_retain(worker);
  CHECK(retained == worker);
  lanyard_release(&retained);
  CHECK(retained == NULL);
  lanyard_weak *weak = lanyard_weak_create(worker);
  lanyard_worker *locked = lanyard_weak_lock(weak);
  CHECK(locked == worker);
  lanyard_release(&locked);
  lanyard_weak_destroy(weak);
  answer closed = {0, LANYARD_INVALID, pthread_self()};
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, take_answer, &closed), LANYARD_OK);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 1);
  check_answer(&closed, LANYARD_OK);
  check_closed(worker, ticket);
  lanyard_release(&worker);
}

TEST(api_asynchronous_close_answers_once_after_the_end_on_a_thread_of_its_own) {
  hooks_log it;
  lanyard_options options = hooked(&it);
  it.worker = open_with(&options);
  pthread_t thread = it.worker->thread;
  noted request = {&it, 1};
  lanyard_submit(it.worker, note_request, &request, NULL);
  answer closed = {0, LANYARD_INVALID, pthread_self()};
  CHECK_EQUAL(lanyard_close_async(it.worker, LANYARD_DRAIN, take_answer, &closed), LANYARD_OK);
  CHECK(lanyard_is_closed(it.worker));
  lanyard_worker *own = lanyard_retain(it.worker); /* on_stop still looks at it.worker */
  lanyard_release(&own);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 1);
  check_answer(&closed, LANYARD_OK);
  CHECK(!is_here(&closed) && !pthread_equal(closed.thread, thread));
  check_hooks(&it, 1);
  lanyard_release(&it.worker);
}

/* The release after close_async does not wait: the worker is held until it has returned. */
TEST(api_release_after_an_asynchronous_close_does_not_wait) {
  held_worker it;
  held_begin(&it, 4);
  answer closed = {0, LANYARD_INVALID, pthread_self()};
  CHECK_EQUAL(lanyard_close_async(it.worker, LANYARD_DRAIN, take_answer, &closed), LANYARD_OK);
  lanyard_release(&it.worker);
  CHECK_EQUAL(lanyard_live_count(), 1);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 0);
  check_answer(&closed, LANYARD_OK);
  latch_destroy(&it.latch);
}

typedef struct last_call {
  lanyard_worker *worker;
  lanyard_status submitted, closed;
  bool is_closed;
  size_t live;
} last_call;

static void use_library_in_when_closed(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  last_call *it = argument;
  it->submitted = lanyard_submit(it->worker, never, NULL, NULL);
  it->closed = lanyard_close(it->worker, LANYARD_DRAIN);
  it->is_closed = lanyard_is_closed(it->worker);
  it->live = lanyard_live_count();
  int count = 0;
  lanyard_worker *another = open_worker(2);
  CHECK_EQUAL(lanyard_call(another, count_up, &count), LANYARD_OK);
  CHECK_EQUAL(count, 1);
  lanyard_release(&another);
  lanyard_release(&it->worker); /* the last reference */
}

TEST(api_when_closed_may_use_any_function) {
  last_call it = {open_worker(2), LANYARD_OK, LANYARD_INVALID, false, 99};
  CHECK_EQUAL(lanyard_close_async(it.worker, LANYARD_DRAIN, use_library_in_when_closed, &it), LANYARD_OK);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 0);
  CHECK_EQUAL(it.submitted, LANYARD_CLOSED);
  CHECK_EQUAL(it.closed, LANYARD_OK);
  CHECK(it.is_closed && it.worker == NULL);
  CHECK_EQUAL(it.live, 1);
}

TEST(api_references_keep_the_worker_open) {
  lanyard_worker *first = open_worker(4), *second = lanyard_retain(first), *third = lanyard_retain(first);
  int count = 0;
  CHECK(first == second && second == third);
  lanyard_release(&first);
  CHECK(first == NULL);
  CHECK_EQUAL(lanyard_call(second, count_up, &count), LANYARD_OK);
  lanyard_release(&second);
  CHECK_EQUAL(lanyard_call(third, count_up, &count), LANYARD_OK);
  CHECK_EQUAL(count, 2);
  CHECK_EQUAL(lanyard_live_count(), 1);
  lanyard_release(&third);
  CHECK_EQUAL(lanyard_live_count(), 0);
}

TEST(api_last_release_drains) {
  int count = 0;
  lanyard_worker *worker = open_worker(64);
  for (int i = 0; i < 50; i++) CHECK_EQUAL(lanyard_submit(worker, count_up, &count, NULL), LANYARD_OK);
  lanyard_release(&worker);
  CHECK_EQUAL(count, 50);
}

TEST(api_weak_handle_finds_the_worker_while_somebody_owns_it) {
  lanyard_worker *worker = open_worker(4);
  lanyard_weak *weak = lanyard_weak_create(worker), *another = lanyard_weak_create(worker);
  CHECK(weak != NULL && another != NULL);
  lanyard_worker *locked = lanyard_weak_lock(weak);
  CHECK(locked == worker);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_call(locked, nothing, NULL), LANYARD_OK); /* the lock is an owner like any other */
  lanyard_release(&locked);
  CHECK_EQUAL(lanyard_live_count(), 0);
  CHECK(lanyard_weak_lock(weak) == NULL);
  lanyard_weak_destroy(weak);
  CHECK(lanyard_weak_lock(another) == NULL);
  lanyard_weak_destroy(another);
}

/* ---------------------------------------------------------------------------------------- misuse */

#if LANYARD_DEBUG
typedef void (*misuse)(lanyard_worker *stale);

static void misuse_try_submit(lanyard_worker *stale) { lanyard_try_submit(stale, nothing, NULL, NULL); }
static void misuse_call(lanyard_worker *stale) { lanyard_call(stale, nothing, NULL); }
static void misuse_cancel(lanyard_worker *stale) { lanyard_cancel(stale, 1); }
static void misuse_when_room(lanyard_worker *stale) { lanyard_when_room(stale, nothing, NULL); }
static void misuse_close(lanyard_worker *stale) { lanyard_close(stale, LANYARD_DRAIN); }
static void misuse_close_async(lanyard_worker *stale) { lanyard_close_async(stale, LANYARD_DRAIN, nothing, NULL); }
static void misuse_retain(lanyard_worker *stale) { lanyard_retain(stale); }
static void misuse_release(lanyard_worker *stale) { lanyard_release(&stale); }
static void misuse_weak_create(lanyard_worker *stale) { lanyard_weak_create(stale); }
static void misuse_is_current(lanyard_worker *stale) { lanyard_is_current(stale); }
static void misuse_is_closed(lanyard_worker *stale) { lanyard_is_closed(stale); }
static void misuse_get_stats(lanyard_worker *stale) {
  lanyard_stats stats = {.size = sizeof stats};
  lanyard_get_stats(stale, &stats);
}

static const misuse misuses[] = {misuse_try_submit, misuse_call,        misuse_cancel,  misuse_when_room,
                                 misuse_close,      misuse_close_async, misuse_retain,  misuse_release,
                                 misuse_weak_create, misuse_is_current, misuse_is_closed, misuse_get_stats};
enum { MISUSES = sizeof misuses / sizeof *misuses };

typedef struct misuse_case {
  misuse function;
  int messages[2];
  bool freed; /* the bytes too */
} misuse_case;

static int misuse_in_child(void *argument) {
  const misuse_case *it = argument;
  if (dup2(it->messages[1], STDERR_FILENO) < 0) return 0;
  lanyard_worker *worker = open_worker(4), *stale = worker;
  lanyard_weak *weak = it->freed ? NULL : lanyard_weak_create(worker);
  lanyard_release(&worker);
  it->function(stale);
  lanyard_weak_destroy(weak);
  return 0;
}

/* The child's status; what it wrote is in `text`. */
static int run_misuse(misuse_case *it, char *text, size_t size) {
  if (pipe(it->messages) != 0) abort();
  int status = run_in_child(misuse_in_child, it, LIMIT_MS);
  close(it->messages[1]);
  ssize_t length = read(it->messages[0], text, size - 1);
  text[length < 0 ? 0 : length] = '\0';
  close(it->messages[0]);
  return status;
}

/* A weak handle keeps the bytes, so what is read there is defined. */
TEST(api_use_after_the_last_release_aborts_with_a_message) {
  for (int i = 0; i < MISUSES; i++) {
    misuse_case it = {.function = misuses[i], .freed = false};
    char text[4096];
    CHECK_EQUAL(run_misuse(&it, text, sizeof text), 256 + SIGABRT);
    CHECK(strstr(text, "lanyard: a worker was used after its last reference was released") != NULL);
  }
}

/* Freed memory: the message, or the tool's own report; but never as if nothing were wrong. */
TEST(api_use_of_freed_memory_never_goes_unnoticed) {
  for (int i = 0; i < MISUSES; i++) {
    misuse_case it = {.function = misuses[i], .freed = true};
    char text[65536];
    CHECK(run_misuse(&it, text, sizeof text) != 0);
    CHECK(strlen(text) > 0);
  }
}
#else
TEST(api_use_after_the_last_release_aborts_with_a_message) { left_out("misuse", "only a debug build notices it"); }
#endif

/* ------------------------------------------------------------------------------------------ idle */

static void read_thread_id(void *argument, lanyard_status outcome) {
  (void)outcome;
  *(pid_t *)argument = (pid_t)syscall(SYS_gettid);
}

static uint64_t switches_of(pid_t tid) {
  char path[64], line[256];
  unsigned long long voluntary = 0, involuntary = 0;
  snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
  FILE *file = fopen(path, "r");
  if (file == NULL) abort();
  while (fgets(line, sizeof line, file) != NULL) {
    sscanf(line, "voluntary_ctxt_switches: %llu", &voluntary);
    sscanf(line, "nonvoluntary_ctxt_switches: %llu", &involuntary);
  }
  fclose(file);
  return voluntary + involuntary;
}

/* Anything that polls, at whatever pace below a second, wakes in that time. */
TEST(api_idle_worker_uses_no_processor) {
  watch_begin();
  lanyard_worker *worker = open_worker(4), *closed = open_worker(4);
  pid_t tid = 0;
  CHECK_EQUAL(lanyard_call(worker, read_thread_id, &tid), LANYARD_OK);
  lanyard_close(closed, LANYARD_DRAIN);
  await_endless_sleepers(&worker->park.word, 1);
  uint64_t before = switches_of(tid), settled;
  while ((settled = (usleep(200000), switches_of(tid))) != before) before = settled; /* it is on its way to sleep */
  usleep(tool_is("native") ? 5000000 : 1000000);
  CHECK_EQUAL(switches_of(tid), before);
  lanyard_release(&worker);
  lanyard_release(&closed);
  watch_end();
}
