/* test_ends.c - nothing waits for ever and nothing is forgotten: ends that go by the thread and not by its number,
 * waits that end under real-time priorities, starts that hold nobody up, memory that is not touched. */
#include "gates.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "lanyard_internal.h"
#include "worker.h"

static void left_out(const char *what, const char *reason) { printf("     left out: %s: %s\n", what, reason); }

static void nothing(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

static void release_itself(void *worker, lanyard_status outcome) {
  (void)outcome;
  lanyard_worker *own = worker;
  lanyard_release(&own);
}

static void close_itself(void *worker, lanyard_status outcome) {
  (void)outcome;
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_CLOSING);
}

static void tell_id(void *id, lanyard_status outcome) {
  (void)outcome;
  *(pid_t *)id = ly_thread_id();
}

static bool has_finished(void *worker) {
  return ly_load(&((lanyard_worker *)worker)->phase, acquire) == LY_FINISHED;
}

static bool is_gone(void *id) { return ly_thread_is_gone(*(pid_t *)id); }

/* --------------------------------------------------------------------------------- reused thread ids */

typedef struct sleeper {
  test_thread thread;
  test_latch latch;
  pid_t id;
} sleeper;

static void sleep_with_id(void *argument) {
  sleeper *it = argument;
  it->id = ly_thread_id();
  latch_request(&it->latch, LANYARD_OK);
}

static void end_sleeper(sleeper *it) {
  latch_open(&it->latch);
  thread_join(&it->thread);
  latch_destroy(&it->latch);
}

/* Makes a thread of this process that has this id. False: the system does not let us. */
static bool take_id(pid_t id, sleeper *it) {
  for (int tries = 0; tries < 200; tries++) {
    int file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
    if (file < 0) return false;
    char text[32];
    int length = snprintf(text, sizeof text, "%d", (int)id - 1);
    bool written = write(file, text, (size_t)length) == length;
    close(file);
    if (!written) return false;
    latch_init(&it->latch);
    thread_start(&it->thread, "sleeper", sleep_with_id, it);
    latch_await(&it->latch);
    if (it->id == id) return true;
    end_sleeper(it);
  }
  return false;
}

/* The kernel has given the id of a thread that is gone to another one: the worker is joined all the same. */
TEST(ends_a_reused_thread_id_deceives_nobody) {
  pid_t id = 0;
  sleeper it;
  lanyard_worker *worker = open_worker(4);
  CHECK_EQUAL(lanyard_call(worker, tell_id, &id), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(worker, close_itself, worker, NULL), LANYARD_OK);
  CHECK(eventually(has_finished, worker) && eventually(is_gone, &id));
  bool taken = !tool_is_valgrind() && take_id(id, &it);
  if (!taken) left_out("a thread id that comes round", "the system does not let us choose it; see the next test");
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, after(20 * SECONDS)), LANYARD_OK);
  CHECK(!taken || !is_gone(&id));
  if (taken) end_sleeper(&it);
  lanyard_release(&worker);
}

static _Atomic unsigned asked;

static bool ask_the_thread(pthread_t thread, pid_t id) {
  atomic_fetch_add(&asked, 1u);
  if (tool_is_valgrind()) return ly_thread_is_gone(id) && pthread_join(thread, NULL) == 0;
  return pthread_tryjoin_np(thread, NULL) == 0;
}

/* The same by the seam: the thread is asked, whatever its id says. */
TEST(ends_are_asked_of_the_thread_itself) {
  ly_exempt(&asked, sizeof asked);
  atomic_store(&asked, 0u);
  lanyard__hooks.thread_try_join = ask_the_thread;
  pid_t id = 0;
  lanyard_worker *worker = open_worker(4);
  CHECK_EQUAL(lanyard_call(worker, tell_id, &id), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(worker, release_itself, worker, NULL), LANYARD_OK);
  CHECK(eventually(is_gone, &id));
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
  CHECK(atomic_load(&asked) > 0);
  lanyard__hooks.thread_try_join = NULL;
}

/* ------------------------------------------------------------------------------- counting the living */

static void count_visit(const lanyard_info *info, void *count) {
  (void)info;
  ++*(unsigned *)count;
}

/* Its last reference was dropped on itself and its thread has exited: it is not shown, by nobody. */
TEST(ends_what_has_ended_by_itself_is_not_counted_as_living) {
  for (int by = 0; by < 3; by++) {
    pid_t id = 0;
    lanyard_worker *worker = open_worker(4);
    CHECK_EQUAL(lanyard_call(worker, tell_id, &id), LANYARD_OK);
    CHECK_EQUAL(lanyard_submit(worker, release_itself, worker, NULL), LANYARD_OK);
    CHECK(eventually(is_gone, &id));
    unsigned count = 0;
    int null = open("/dev/null", O_WRONLY);
    if (by == 0) count = (unsigned)lanyard_live_count();
    else if (by == 1) lanyard_each_live(count_visit, &count);
    else count = (unsigned)lanyard_report_live(null);
    close(null);
    CHECK_EQUAL(count, 0);
  }
}

/* ----------------------------------------------------------------------------- waits of a few instructions */

static _Atomic unsigned naps;

static void count_nap(uint64_t duration_ns) {
  (void)duration_ns;
  atomic_fetch_add(&naps, 1u);
  sched_yield();
}

static bool has_napped(void *since) { return atomic_load(&naps) > *(unsigned *)since; }

typedef struct canceller {
  test_thread thread;
  lanyard_worker *worker;
  lanyard_ticket ticket;
  lanyard_status status;
} canceller;

static void cancel_it(void *argument) {
  canceller *it = argument;
  it->status = lanyard_cancel(it->worker, it->ticket);
}

static void ignore_interrupt(void *context, void *argument, lanyard_ticket ticket) {
  (void)context;
  (void)argument;
  (void)ticket;
}

/* The worker has taken the request and is not scheduled before it says that it runs: a canceller of a higher
 * real-time priority on the same processor must sleep, for no yield would let it. */
TEST(ends_a_canceller_sleeps_while_the_worker_is_between_taking_and_running) {
  ly_exempt(&naps, sizeof naps);
  lanyard__hooks.sleep_ns = count_nap;
  lanyard_options options;
  lanyard_options_init(&options);
  options.interrupt = ignore_interrupt;
  canceller it = {.status = LANYARD_INVALID};
  if (!CHECK_EQUAL(lanyard_open(&options, &it.worker), LANYARD_OK)) return;
  gate_arm(0, "worker", "taken");
  CHECK_EQUAL(lanyard_submit(it.worker, nothing, NULL, &it.ticket), LANYARD_OK);
  gate_await(0);
  unsigned before = atomic_load(&naps);
  thread_start(&it.thread, "canceller", cancel_it, &it);
  CHECK(eventually(has_napped, &before));
  gate_open(0);
  thread_join(&it.thread);
  CHECK(it.status == LANYARD_OK || it.status == LANYARD_TOO_LATE);
  lanyard_release(&it.worker);
  lanyard__hooks.sleep_ns = NULL;
}

static void submit_slowly(void *argument) {
  canceller *it = argument;
  it->status = lanyard_submit(it->worker, nothing, NULL, &it->ticket);
}

/* The producer has claimed and not published: whoever wants to cancel what it submits sleeps, too. */
TEST(ends_a_canceller_sleeps_while_the_request_is_not_published) {
  ly_exempt(&naps, sizeof naps);
  lanyard__hooks.sleep_ns = count_nap;
  canceller producer = {.worker = open_worker(4), .status = LANYARD_INVALID}, it = producer;
  it.ticket = 1; /* the first of a worker */
  gate_arm(0, "producer", "claimed");
  thread_start(&producer.thread, "producer", submit_slowly, &producer);
  gate_await(0);
  unsigned before = atomic_load(&naps) + 1000; /* the worker naps as well, and yields before */
  thread_start(&it.thread, "canceller", cancel_it, &it);
  CHECK(eventually(has_napped, &before));
  gate_open(0);
  thread_join(&it.thread);
  thread_join(&producer.thread);
  CHECK(it.status == LANYARD_OK || it.status == LANYARD_TOO_LATE);
  lanyard_release(&producer.worker);
  lanyard__hooks.sleep_ns = NULL;
}

/* ------------------------------------------------------------------------------------- starting threads */

static lanyard_worker *open_lazy(void) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.lazy = true;
  lanyard_worker *worker = NULL;
  CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_OK);
  return worker;
}

static test_latch nap;

static void nap_in_latch(uint64_t duration_ns) {
  (void)duration_ns;
  latch_request(&nap, LANYARD_OK);
}

typedef struct starter {
  test_thread thread;
  lanyard_worker *worker;
  lanyard_status status;
} starter;

static void submit_patiently(void *argument) {
  starter *it = argument;
  it->status = lanyard_submit(it->worker, nothing, NULL, NULL);
}

static void close_later(void *argument) {
  starter *it = argument;
  it->status = lanyard_close_async(it->worker, LANYARD_DRAIN, nothing, NULL);
}

static void count_outcome(void *count, lanyard_status outcome) {
  (void)outcome;
  ++*(int *)count;
}

/* Somebody waits between two tries of the system: that is nobody else's affair. */
TEST(ends_what_never_blocks_waits_for_no_other_threads_tries) {
  latch_init(&nap);
  starter it = {.worker = open_lazy()};
  lanyard__hooks.sleep_ns = nap_in_latch;
  faults_at("pthread_create", 1000);
  thread_start(&it.thread, "starter", submit_patiently, &it);
  latch_await(&nap); /* it naps until it is let go on */
  int called = 0;
  CHECK_EQUAL(lanyard_try_submit(it.worker, nothing, NULL, NULL), LANYARD_NO_THREAD);
  CHECK_EQUAL(lanyard_when_room(it.worker, count_outcome, &called), LANYARD_OK);
  CHECK_EQUAL(called, 1);
  lanyard_worker *other = open_lazy();
  lanyard_release(&other);
  faults_end(NULL);
  CHECK_EQUAL(lanyard_try_submit(it.worker, nothing, NULL, NULL), LANYARD_OK);
  latch_open(&nap);
  thread_join(&it.thread);
  CHECK_EQUAL(it.status, LANYARD_OK);
  lanyard__hooks.sleep_ns = NULL; /* nobody sleeps any more: the worker has all it needs */
  lanyard_release(&it.worker);
  latch_destroy(&nap);
}

/* The same for the thread of asynchronous closes, which is the whole process's. */
TEST(ends_the_reapers_start_holds_no_lock_between_two_tries) {
  latch_init(&nap);
  starter it = {.worker = open_worker(4)};
  lanyard_worker *other = open_lazy();
  lanyard__hooks.sleep_ns = nap_in_latch;
  faults_at("pthread_create", 1);
  thread_start(&it.thread, "starter", close_later, &it);
  latch_await(&nap);
  lanyard_worker *third = open_lazy();
  lanyard_release(&third);
  lanyard_release(&other);
  lanyard__hooks.sleep_ns = NULL;
  latch_open(&nap);
  thread_join(&it.thread);
  faults_end(NULL);
  CHECK_EQUAL(it.status, LANYARD_OK);
  lanyard_release(&it.worker);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  latch_destroy(&nap);
}

/* ---------------------------------------------------------------------------- what a lazy worker inherits */

typedef struct schedule {
  int nice, policy;
  cpu_set_t cpus;
} schedule;

static void read_schedule(void *argument, lanyard_status outcome) {
  (void)outcome;
  schedule *it = argument;
  it->nice = getpriority(PRIO_PROCESS, 0);
  it->policy = sched_getscheduler(0);
  sched_getaffinity(0, sizeof it->cpus, &it->cpus);
}

static void submit_when_nice(void *argument) {
  starter *it = argument;
  cpu_set_t first;
  CPU_ZERO(&first);
  CPU_SET(0, &first);
  sched_setaffinity(0, sizeof first, &first);
  if (setpriority(PRIO_PROCESS, 0, 5) != 0) left_out("a nicer submitter", "not permitted");
  struct sched_param none = {0};
  sched_setscheduler(0, SCHED_BATCH, &none);
  it->status = lanyard_submit(it->worker, nothing, NULL, NULL);
}

TEST(ends_a_lazy_worker_is_scheduled_as_its_opener_and_not_as_its_first_submitter) {
  schedule mine, its;
  read_schedule(&mine, LANYARD_OK);
  starter it = {.worker = open_lazy()};
  thread_start(&it.thread, "starter", submit_when_nice, &it);
  thread_join(&it.thread);
  CHECK_EQUAL(it.status, LANYARD_OK);
  CHECK_EQUAL(lanyard_call(it.worker, read_schedule, &its), LANYARD_OK);
  CHECK_EQUAL(its.policy, mine.policy);
  CHECK(CPU_EQUAL(&its.cpus, &mine.cpus));
  if (geteuid() == 0) CHECK_EQUAL(its.nice, mine.nice);
  else left_out("the nice value", "only root may take it back");
  lanyard_release(&it.worker);
}

/* --------------------------------------------------------------------------------------------- memory */

static size_t resident_bytes(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  long all = 0, resident = 0;
  if (file == NULL || fscanf(file, "%ld %ld", &all, &resident) != 2) resident = 0;
  if (file != NULL) fclose(file);
  return (size_t)resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* Also where the heap has freed memory to give: what is recycled would be cleared, and so touched. */
TEST(ends_a_worker_that_was_never_used_touches_no_more_than_12_KiB) {
  enum { WORKERS = 200 };
  if (!tool_is("native")) {
    left_out("resident memory", "a tool's own memory is counted");
    return;
  }
  const uint32_t capacities[] = {2, 64, 128, 1024, 4096, 65536};
  for (size_t c = 0; c < sizeof capacities / sizeof *capacities; c++) {
    static lanyard_worker *workers[WORKERS];
    lanyard_options options;
    lanyard_options_init(&options);
    options.lazy = true;
    options.capacity = capacities[c];
    size_t bytes = 32 * (size_t)capacities[c] < (1 << 17) ? 32 * (size_t)capacities[c] : 0;
    void *freed[64];
    for (int i = 0; i < 64; i++) freed[i] = bytes == 0 ? NULL : memset(malloc(bytes), 1, bytes);
    for (int i = 0; i < 64; i += 2) free(freed[i]);
    size_t before = resident_bytes();
    for (int i = 0; i < WORKERS; i++) CHECK_EQUAL(lanyard_open(&options, &workers[i]), LANYARD_OK);
    size_t grown = resident_bytes() - before;
    CHECK(resident_bytes() < before || grown / WORKERS <= 12 * 1024);
    for (int i = 0; i < WORKERS; i++) lanyard_release(&workers[i]);
    for (int i = 1; i < 64; i += 2) free(freed[i]);
  }
}

static void write_over(void *argument, lanyard_status outcome) {
  (void)outcome;
  ++*(uint64_t *)argument;
}

/* A ring that was used by a worker that is gone is as good as new for the next one. */
TEST(ends_rings_that_are_kept_for_the_next_worker_are_empty) {
  for (uint64_t round = scaled(300); round > 0; round--) {
    uint64_t count = 0, requests = random_number() % 3000;
    lanyard_options options;
    lanyard_options_init(&options);
    options.capacity = 128u << random_number() % 4;
    lanyard_worker *worker = NULL;
    if (!CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_OK)) return;
    for (uint64_t i = 0; i < requests; i++)
      CHECK_EQUAL(lanyard_submit(worker, write_over, &count, NULL), LANYARD_OK);
    lanyard_release(&worker);
    CHECK_EQUAL(count, requests);
  }
}

/* --------------------------------------------------------------------------------------------- timers */

typedef struct metronome {
  _Atomic unsigned ticks;
  uint64_t every_ns;
} metronome;

static uint64_t beat(void *argument, lanyard_status outcome) {
  metronome *it = argument;
  if (outcome != LANYARD_OK) return 0;
  atomic_fetch_add(&it->ticks, 1u);
  return lanyard_now_ns() + it->every_ns;
}

static bool has_beaten_often(void *argument) { return atomic_load(&((metronome *)argument)->ticks) >= 30; }

/* The worker looks for work before it sleeps; that adapts where only timers end its sleeps. */
TEST(ends_a_worker_with_a_timer_stops_looking_for_work_in_vain) {
  metronome it = {0, 2 * MILLISECONDS};
  ly_exempt(&it.ticks, sizeof it.ticks);
  lanyard_worker *worker = open_worker(4);
  CHECK(ly_load(&worker->spin.budget_ns, relaxed) > 0);
  CHECK_EQUAL(lanyard__set_timer(worker, lanyard_now_ns() + it.every_ns, beat, &it), LANYARD_OK);
  CHECK(eventually(has_beaten_often, &it));
  /* Where a tool makes the ticks slow, the next one is due at once, and looking is right. */
  CHECK(!tool_is("native") || ly_load(&worker->spin.budget_ns, relaxed) == 0);
  lanyard_release(&worker);
}

static _Atomic unsigned clock_reads;

static uint64_t counted_now(void) {
  atomic_fetch_add(&clock_reads, 1u);
  return ly_clock_ns(CLOCK_MONOTONIC);
}

/* A timer that is far away: the clock is not read at every request. */
TEST(ends_a_far_timer_does_not_make_every_request_read_the_clock) {
  const unsigned requests = tool_is_valgrind() ? 100 : 4000;
  ly_exempt(&clock_reads, sizeof clock_reads);
  metronome it = {0, 0};
  lanyard__hooks.now_ns = counted_now;
  test_latch latch;
  latch_init(&latch);
  lanyard_worker *worker = open_worker(4 * requests);
  CHECK_EQUAL(lanyard__set_timer(worker, lanyard_now_ns() + 3600 * SECONDS, beat, &it), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, &latch, NULL), LANYARD_OK);
  latch_await(&latch);
  for (int i = 0; i < (int)requests; i++) CHECK_EQUAL(lanyard_submit(worker, nothing, NULL, NULL), LANYARD_OK);
  unsigned before = atomic_load(&clock_reads);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  /* A slow tool makes each request long, and the clock is then read more often, rightly. */
  CHECK(!tool_is("native") || atomic_load(&clock_reads) - before < requests / 2);
  lanyard_release(&worker);
  lanyard__hooks.now_ns = NULL;
  latch_destroy(&latch);
}
