/* test_jobs.c - what a worker does besides requests: jobs of executors, timers, submits in two steps; and the
 * ends that only these have: executors that keep the thread, a release that does not wait for ever.
 *
 * Interleavings are forced in three ways: by gates at the core's points, by latches in the tests' own requests
 * and jobs, and by steps: a thread is held at its k-th access to an atomic of the core, for every k there is,
 * and at each the other side does all that it has to do. What a job leaves behind is plain memory on purpose:
 * the core's own edges have to order it, and the race detectors see when they do not.
 */
#include "gates.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "worker.h"

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || HAS_FEATURE(address_sanitizer) || \
    HAS_FEATURE(thread_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static const uint64_t HOUR = 3600 * SECONDS;

/* ---------------------------------------------------------------------------------- what they share */

static void left_out(const char *what, const char *reason) { printf("     left out: %s: %s\n", what, reason); }

/* What ran on a worker, in its order. Plain memory. */
enum { JOURNAL_MAX = 64 };
typedef struct journal {
  unsigned count;
  int numbers[JOURNAL_MAX];
  pthread_t on;
  bool on_several;
} journal;

typedef struct entry {
  journal *log;
  int number;
} entry;

static void write_down(journal *log, int number) {
  if (log->count == 0) log->on = pthread_self();
  else if (!pthread_equal(log->on, pthread_self())) log->on_several = true;
  if (log->count < JOURNAL_MAX) log->numbers[log->count] = number;
  log->count++;
}

static void note_job(void *argument, void *executor) {
  (void)executor;
  const entry *self = argument;
  write_down(self->log, self->number);
}

static void note_request(void *argument, lanyard_status outcome) {
  const entry *self = argument;
  CHECK_EQUAL(outcome, LANYARD_OK);
  write_down(self->log, self->number);
}

/* 0, 1, 2, ... and nothing else, on one thread. */
static bool ran_in_order(const journal *log, unsigned count) {
  bool right = CHECK_EQUAL(log->count, count) && CHECK(!log->on_several);
  for (unsigned i = 0; i < count && i < JOURNAL_MAX; i++) right = CHECK_EQUAL(log->numbers[i], i) && right;
  return right;
}

/* An argument, or an executor, that nobody looks at. */
static char nobody;

static void nothing(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

static void never(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
  CHECK(false); /* it must not be called */
}

static void never_job(void *argument, void *executor) {
  (void)executor;
  never(argument, LANYARD_OK);
}

static void serve_all(void *context, lanyard_request *requests, size_t count) {
  (void)context;
  for (size_t i = 0; i < count; i++) requests[i].function(requests[i].argument, LANYARD_OK);
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

static lanyard_worker *open_lazy(uint32_t capacity) {
  lanyard_options options = sleepy_options(capacity);
  options.lazy = true;
  return open_with(&options);
}

static lanyard_stats stats_of(const lanyard_worker *worker) {
  lanyard_stats stats = {.size = sizeof stats};
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  return stats;
}

/* The executor's reference. */
static lanyard_worker *acquire(lanyard_worker *worker) {
  if (!CHECK(lanyard__executor_acquire(worker))) abort();
  return worker;
}

static void enqueue(lanyard_worker *worker, lanyard__job_function function, void *job) {
  CHECK_EQUAL(lanyard__enqueue(worker, function, job, &nobody), LANYARD_OK);
}

static void enqueue_note(lanyard_worker *worker, entry *job) { enqueue(worker, note_job, job); }

static void submit_note(lanyard_worker *worker, entry *request) {
  CHECK_EQUAL(lanyard_submit(worker, note_request, request, NULL), LANYARD_OK);
}

/* Waits with patience: a wake-up that was lost is a failed check and no hang. */
static bool is_posted(void *semaphore) {
  int value = 0; /* one waits for each, so it is there to be had; and helgrind knows no sem_trywait() */
  if (sem_getvalue(semaphore, &value) != 0 || value == 0) return false;
  while (sem_wait(semaphore) != 0) continue;
  return true;
}

static bool await_post(sem_t *semaphore) {
  for (int turn = 0; turn < 200; turn++) {
    if (is_posted(semaphore)) return true;
    sched_yield();
  }
  return CHECK(eventually(is_posted, semaphore));
}

static void post_job(void *semaphore, void *executor) {
  (void)executor;
  sem_post(semaphore);
}

static void latch_job(void *latch, void *executor) {
  (void)executor;
  latch_request(latch, LANYARD_OK);
}

/* Returns when the worker stands in a request of ours. */
static void hold(lanyard_worker *worker, test_latch *latch) {
  latch_init(latch);
  CHECK_EQUAL(lanyard_submit(worker, latch_request, latch, NULL), LANYARD_OK);
  latch_await(latch);
}

/* The same in a job: also when it is closed. */
static void hold_in_job(lanyard_worker *worker, test_latch *latch) {
  latch_init(latch);
  enqueue(worker, latch_job, latch);
  latch_await(latch);
}

/* Returns when all jobs of before have run. The caller is an executor. Once the worker has left the post, too,
 * since that may lie on our stack. */
typedef struct barrier {
  sem_t reached;
  _Atomic bool left;
} barrier;

static void pass_barrier(void *argument, void *executor) {
  (void)executor;
  barrier *self = argument;
  sem_post(&self->reached);
  atomic_store(&self->left, true);
}

static void await_jobs(lanyard_worker *worker) {
  barrier *self = calloc(1, sizeof *self);
  if (self == NULL || sem_init(&self->reached, 0, 0) != 0) abort();
  ly_exempt(&self->left, sizeof self->left);
  enqueue(worker, pass_barrier, self);
  if (!await_post(&self->reached)) return; /* it may come yet: leave it the memory */
  while (!atomic_load(&self->left)) sched_yield();
  sem_destroy(&self->reached);
  ly_check_again(&self->left, sizeof self->left);
  free(self);
}

static void close_and_release(lanyard_worker **worker) {
  CHECK_EQUAL(lanyard_close(*worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(worker);
}

/* Closes it, and leaves it to its executor. */
static void drain_and_keep(lanyard_worker *worker) {
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_CLOSING);
}

static bool is_asleep(void *worker) {
  return atomic_load(&((lanyard_worker *)worker)->park.word) == LY_PARKED;
}

static void await_asleep(lanyard_worker *worker) { CHECK(eventually(is_asleep, worker)); }

static bool no_worker_lives(void *unused) {
  (void)unused;
  return lanyard_quiesce(after(SECONDS)) == 0;
}

/* For references that a worker's own thread will drop: until it has, there is nothing to quiesce. */
static void await_no_worker(void) { CHECK(eventually(no_worker_lives, NULL)); }

static bool has_started(lanyard_worker *worker) {
  pthread_mutex_lock(&worker->lock);
  bool started = worker->started;
  pthread_mutex_unlock(&worker->lock);
  return started;
}

/* Of a worker that nobody has joined: its thread is over, destructors and all. */
static bool thread_is_gone(void *worker) {
  lanyard_worker *self = worker;
  if (atomic_load(&self->phase) != LY_FINISHED) return false;
  ly_happens_after(&self->phase); /* FINISH */
  return ly_thread_is_gone(self->tid);
}

static bool threads_are_no_more_than(void *count) { return thread_count() <= *(unsigned *)count; }

/* A thread that closes, and what it was told. */
typedef struct closer {
  test_thread thread;
  lanyard_worker *worker;
  lanyard_close_mode mode;
  uint64_t deadline_ns;
  lanyard_status status;
} closer;

static void close_on_thread(void *argument) {
  closer *self = argument;
  self->status = lanyard_close_until(self->worker, self->mode, self->deadline_ns);
}

static void start_closer(closer *self, lanyard_worker *worker, lanyard_close_mode mode, uint64_t deadline_ns) {
  *self = (closer){.worker = worker, .mode = mode, .deadline_ns = deadline_ns, .status = LANYARD_INVALID};
  thread_start(&self->thread, "closer", close_on_thread, self);
}

static void join_closer(closer *self, lanyard_status wanted) {
  thread_join(&self->thread);
  CHECK_EQUAL(self->status, wanted);
}

/* An asynchronous close, and its answer. */
typedef struct answer {
  sem_t told;
  unsigned count;
  lanyard_status outcome;
} answer;

static void take_answer(void *argument, lanyard_status outcome) {
  answer *self = argument;
  self->count++;
  self->outcome = outcome;
  sem_post(&self->told);
}

static void close_async(answer *self, lanyard_worker *worker, lanyard_close_mode mode) {
  *self = (answer){.count = 0, .outcome = LANYARD_INVALID};
  if (sem_init(&self->told, 0, 0) != 0) abort();
  CHECK_EQUAL(lanyard_close_async(worker, mode, take_answer, self), LANYARD_OK);
}

static bool is_answered(answer *self) {
  int value = 0;
  sem_getvalue(&self->told, &value);
  return value > 0;
}

static void await_answer(answer *self) {
  if (!await_post(&self->told)) abort(); /* it is on somebody's stack */
  CHECK_EQUAL(self->count, 1);
  CHECK_EQUAL(self->outcome, LANYARD_OK);
}

/* -------------------------------------------------------------------- steps: held at every access
 *
 * From steps_begin(), before the test opens its first worker, to steps_end(), which waits for the last one's
 * end. The coverage build has no steps: there nobody is ever held, and each exploration ends at once. */
static struct {
  _Atomic bool armed, rests; /* rests: the worker sleeps in the kernel, or is about to */
  _Atomic int left;
  const char *subject;
  sem_t held, go;
} steps;

static _Thread_local unsigned locks_held;

static void step_unlock(pthread_mutex_t *mutex) {
  locks_held--;
  if (pthread_mutex_unlock(mutex) != 0) abort();
}

static void hold_subject(void) {
  sem_post(&steps.held);
  while (sem_wait(&steps.go) != 0) continue;
}

/* Not under a lock of the core: there the other side would wait for the one that is held. */
static void at_step(const char *operation, const volatile void *address) {
  (void)operation;
  (void)address;
  if (!atomic_load(&steps.armed) || locks_held > 0 || strcmp(thread_name(), steps.subject) != 0) return;
  if (atomic_fetch_sub(&steps.left, 1) == 0) hold_subject();
}

static void step_lock(pthread_mutex_t *mutex) {
  at_step("lock", mutex); /* before it, that is */
  if (pthread_mutex_lock(mutex) != 0) abort();
  locks_held++;
}

static int step_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns) {
  bool is_worker = lanyard__current != NULL;
  struct timespec limit = ly_timespec(deadline_ns);
  if (is_worker) atomic_store(&steps.rests, true);
  long result = syscall(LY_SYS_FUTEX, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                        deadline_ns == LANYARD_FOREVER ? NULL : &limit, NULL, FUTEX_BITSET_MATCH_ANY);
  int failed = result == 0 ? 0 : errno;
  if (is_worker) atomic_store(&steps.rests, false);
  return failed == ETIMEDOUT ? ETIMEDOUT : 0;
}

static void steps_begin(void) {
  ly_exempt(&steps, offsetof(__typeof__(steps), held));
  atomic_store(&steps.armed, false);
  atomic_store(&steps.rests, false);
  if (sem_init(&steps.held, 0, 0) != 0 || sem_init(&steps.go, 0, 0) != 0) abort();
  lanyard__hooks.step = at_step;
  lanyard__hooks.lock = step_lock;
  lanyard__hooks.unlock = step_unlock;
  lanyard__hooks.futex_wait = step_futex_wait;
}

static void steps_end(void) {
  atomic_store(&steps.armed, false);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  lanyard__hooks.step = NULL;
  lanyard__hooks.lock = NULL;
  lanyard__hooks.unlock = NULL;
  lanyard__hooks.futex_wait = NULL;
  sem_destroy(&steps.held);
  sem_destroy(&steps.go);
}

/* The thread of that name will be held at its k-th access from now, counted from 0. */
static void steps_arm(const char *subject, unsigned k) {
  steps.subject = subject;
  atomic_store(&steps.left, (int)k);
  atomic_store(&steps.armed, true);
}

static bool worker_rests(void *unused) {
  (void)unused;
  return atomic_load(&steps.rests);
}

/* Whether it is held there; false once it sleeps, or is over, without having come so far: then nobody will be. */
static bool steps_await(bool (*is_over)(void *), void *argument) {
  uint64_t deadline = after(20 * SECONDS * (tool_is("native") ? 1 : 10));
  for (unsigned turn = 0;; turn++) {
    bool has_passed = is_over(argument);
    if (is_posted(&steps.held)) return true;
    if (has_passed) break;
    if (!CHECK(lanyard_now_ns() < deadline)) break;
    if (turn < 1000) sched_yield();
    else usleep(50);
  }
  atomic_store(&steps.armed, false);
  return false;
}

/* Lets it go on, to be held no more. */
static void steps_go(void) {
  atomic_store(&steps.armed, false);
  sem_post(&steps.go);
}

/* Lets it go on, to be held again m accesses later. */
static void steps_go_by(unsigned m) {
  atomic_store(&steps.rests, false);
  atomic_store(&steps.left, (int)m);
  sem_post(&steps.go);
}

/* Under the tools not every step, but other ones each time. */
static unsigned next_step(unsigned k) {
  uint64_t share = scaled(100);
  return k + 1 + (unsigned)(share >= 100 ? 0 : random_number() % (share >= 20 ? 6 : 24));
}

/* --------------------------------------------------------------------------------- order of one thread */

/* Where the counters begin: also so that they come round in the middle of a test. */
static const uint64_t starts[] = {0, (UINT64_C(1) << 32) - 3, (UINT64_C(1) << 61) - 3, (UINT64_C(1) << 62) - 3};
enum { STARTS = sizeof starts / sizeof *starts };

/* Every pattern of jobs and requests, of that length, handed over while the worker is held. */
static void order_patterns(lanyard_options *options, unsigned length) {
  for (unsigned pattern = 0; pattern < 1u << length; pattern++) {
    test_latch latch;
    journal log = {0};
    entry entries[JOURNAL_MAX];
    lanyard_worker *worker = open_with(options), *executor = acquire(worker);
    hold(worker, &latch);
    for (unsigned i = 0; i < length; i++) {
      entries[i] = (entry){&log, (int)i};
      if (pattern >> i & 1) enqueue_note(worker, &entries[i]);
      else submit_note(worker, &entries[i]);
    }
    CHECK_EQUAL(log.count, 0);
    latch_open(&latch);
    await_jobs(worker);
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK); /* orders all that ran before this thread */
    ran_in_order(&log, length);
    lanyard__executor_release(&executor);
    CHECK(executor == NULL);
    close_and_release(&worker);
    latch_destroy(&latch);
  }
}

TEST(order_of_every_mix_of_jobs_and_requests) {
  for (int i = 0; i < STARTS; i++) {
    lanyard_options options = sleepy_options(8);
    counters_start_at(starts[i]);
    order_patterns(&options, scaled(100) >= 20 ? 6 : 3);
  }
}

TEST(order_of_every_mix_of_jobs_and_served_batches) {
  for (int i = 0; i < STARTS; i++)
    for (uint32_t limit = 1; limit <= 8; limit *= 2) {
      lanyard_options options = sleepy_options(8);
      options.serve = serve_all;
      options.batch_limit = limit;
      counters_start_at(starts[i]);
      order_patterns(&options, scaled(100) >= 20 ? 5 : 2);
    }
}

/*   worker                              one thread
 *   has looked at the news
 *                                       a job, then a request
 *   looks at the slot: the request, which is the later one */
static void order_at(const char *point) {
  for (int serves = 0; serves < 2; serves++)
    for (int first_is_job = 0; first_is_job < 2; first_is_job++) {
      journal log = {0};
      entry first = {&log, 0}, second = {&log, 1}, third = {&log, 2};
      lanyard_options options = sleepy_options(4);
      if (serves) options.serve = serve_all;
      gate_arm(0, "worker", point);
      lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
      gate_await(0);
      if (first_is_job) enqueue_note(worker, &first);
      submit_note(worker, first_is_job ? &second : &first);
      enqueue_note(worker, first_is_job ? &third : &second);
      if (!first_is_job) submit_note(worker, &third);
      gate_open(0);
      await_jobs(worker);
      CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
      ran_in_order(&log, 3);
      lanyard__executor_release(&executor);
      close_and_release(&worker);
    }
}

TEST(order_of_what_comes_before_the_worker_says_that_it_sleeps) { order_at("idle"); }
TEST(order_of_what_comes_between_saying_so_and_the_last_look) { order_at("parking"); }

/* A batch that is being collected ends where a job comes in between. */
TEST(order_of_a_job_that_comes_while_a_batch_is_collected) {
  for (int i = 0; i < STARTS; i++) {
    test_latch latch;
    journal log = {0};
    entry entries[5];
    for (int n = 0; n < 5; n++) entries[n] = (entry){&log, n};
    lanyard_options options = sleepy_options(8);
    options.serve = serve_all;
    counters_start_at(starts[i]);
    lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
    hold(worker, &latch);
    submit_note(worker, &entries[0]);
    gate_arm(0, "worker", "taking");
    latch_open(&latch);
    gate_await(0); /* it has looked for jobs, and found none */
    enqueue_note(worker, &entries[1]);
    submit_note(worker, &entries[2]);
    enqueue_note(worker, &entries[3]);
    submit_note(worker, &entries[4]);
    gate_open(0);
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
    ran_in_order(&log, 5);
    lanyard__executor_release(&executor);
    close_and_release(&worker);
    latch_destroy(&latch);
  }
}

/* The first comes when the worker is held at its k-th access, the second when it is held m accesses later. */
typedef struct pair {
  lanyard_worker *worker;
  journal log;
  entry first, second;
} pair;

static void hand_over(pair *self, entry *which, bool is_job) {
  if (is_job) enqueue_note(self->worker, which);
  else submit_note(self->worker, which);
}

/* False: k, or m, is beyond the last access before the sleep. */
static bool order_between_steps(pair *self, bool job_first, unsigned k, unsigned m, bool *k_is_beyond) {
  test_latch latch;
  self->log.count = 0;
  hold(self->worker, &latch);
  steps_arm("worker", k);
  latch_open(&latch);
  bool held = steps_await(worker_rests, NULL);
  *k_is_beyond = !held;
  hand_over(self, &self->first, job_first);
  if (held) {
    steps_go_by(m);
    held = steps_await(worker_rests, NULL);
  }
  hand_over(self, &self->second, !job_first);
  if (held) steps_go();
  await_jobs(self->worker);
  CHECK_EQUAL(lanyard_call(self->worker, nothing, NULL), LANYARD_OK);
  bool right = ran_in_order(&self->log, 2);
  if (!right) fprintf(stderr, "held at access %u, and %u later\n", k, m);
  latch_destroy(&latch);
  return held && right;
}

static void order_at_every_step(bool serves, bool job_first) {
  steps_begin();
  lanyard_options options = sleepy_options(4);
  if (serves) options.serve = serve_all;
  pair self = {.worker = open_with(&options)};
  self.first = (entry){&self.log, 0};
  self.second = (entry){&self.log, 1};
  lanyard_worker *executor = acquire(self.worker);
  unsigned pairs = 0;
  bool k_is_beyond = false;
  for (unsigned k = 0; !k_is_beyond; k = next_step(k))
    for (unsigned m = 0; order_between_steps(&self, job_first, k, m, &k_is_beyond); m = next_step(m)) pairs++;
#if !LANYARD_COVERAGE
  CHECK(pairs > (scaled(100) >= 100 ? 100 : 0));
#endif
  lanyard__executor_release(&executor);
  close_and_release(&self.worker);
  steps_end();
}

TEST(order_of_a_job_and_a_request_at_every_step_of_the_worker) { order_at_every_step(false, true); }
TEST(order_of_a_request_and_a_job_at_every_step_of_the_worker) { order_at_every_step(false, false); }
TEST(order_of_a_job_and_a_served_request_at_every_step) { order_at_every_step(true, true); }
TEST(order_of_a_served_request_and_a_job_at_every_step) { order_at_every_step(true, false); }

/* A thread whose submits wait for room, with jobs in between. */
typedef struct crowd {
  lanyard_worker *worker;
  journal log;
  entry entries[12];
} crowd;

static void crowd_in(void *argument) {
  crowd *self = argument;
  for (int i = 0; i < 12; i++) {
    self->entries[i] = (entry){&self->log, i};
    if (i % 3 == 2) enqueue_note(self->worker, &self->entries[i]);
    else submit_note(self->worker, &self->entries[i]);
  }
}

TEST(order_holds_when_the_ring_is_full) {
  for (int i = 0; i < STARTS; i++) {
    test_latch latch;
    test_thread producer;
    counters_start_at(starts[i]);
    crowd self = {.worker = open_sleepy(2)};
    lanyard_worker *executor = acquire(self.worker);
    hold(self.worker, &latch);
    gate_arm(0, "producer", "room_wait");
    thread_start(&producer, "producer", crowd_in, &self);
    gate_await(0);
    gate_open(0);
    latch_open(&latch);
    thread_join(&producer);
    await_jobs(self.worker);
    CHECK_EQUAL(lanyard_call(self.worker, nothing, NULL), LANYARD_OK);
    ran_in_order(&self.log, 12);
    lanyard__executor_release(&executor);
    close_and_release(&self.worker);
    latch_destroy(&latch);
  }
}

/* What was accepted before the close, then jobs from after it. */
TEST(order_holds_after_close) {
  for (int i = 0; i < STARTS; i++) {
    test_latch latch;
    journal log = {0};
    entry entries[8];
    counters_start_at(starts[i]);
    lanyard_worker *worker = open_sleepy(8), *executor = acquire(worker);
    hold(worker, &latch);
    for (int n = 0; n < 8; n++) {
      entries[n] = (entry){&log, n};
      if (n == 4) CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
      if (n < 4 && n % 2 == 0) submit_note(worker, &entries[n]);
      else enqueue_note(worker, &entries[n]);
    }
    latch_open(&latch);
    await_jobs(worker);
    drain_and_keep(worker);
    ran_in_order(&log, 8);
    lanyard__executor_release(&executor);
    close_and_release(&worker);
    latch_destroy(&latch);
  }
}

/* What the worker's own thread hands over, in a request and in a job. */
static void hand_over_inside(void *argument, lanyard_status outcome) {
  crowd *self = argument;
  (void)outcome;
  for (int i = 0; i < 12; i++) {
    self->entries[i] = (entry){&self->log, i};
    if (i % 2) CHECK_EQUAL(lanyard_try_submit(self->worker, note_request, &self->entries[i], NULL), LANYARD_OK);
    else enqueue_note(self->worker, &self->entries[i]);
  }
}

static void hand_over_inside_job(void *argument, void *executor) {
  (void)executor;
  hand_over_inside(argument, LANYARD_OK);
}

TEST(order_of_what_the_worker_hands_to_itself) {
  crowd in_request = {.worker = open_sleepy(8)}, in_job = {.worker = in_request.worker};
  lanyard_worker *executor = acquire(in_request.worker);
  CHECK_EQUAL(lanyard_submit(in_request.worker, hand_over_inside, &in_request, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_call(in_request.worker, nothing, NULL), LANYARD_OK);
  enqueue(in_job.worker, hand_over_inside_job, &in_job);
  await_jobs(in_job.worker); /* that all were handed over */
  await_jobs(in_job.worker);
  CHECK_EQUAL(lanyard_call(in_job.worker, nothing, NULL), LANYARD_OK);
  ran_in_order(&in_request.log, 12);
  ran_in_order(&in_job.log, 12);
  lanyard__executor_release(&executor);
  close_and_release(&in_request.worker);
}

/* Several threads at random, each with an executor of its own, before and after a close under them. Each must
 * find what it handed over run in its order, exactly once, or refused. */
enum { MIXERS = 4, PER_MIXER = 48 };

typedef struct mixed {
  struct mixer *mixer;
  unsigned index;
  lanyard_status outcome;
  unsigned answers;
  bool accepted, is_job;
} mixed;

typedef struct mixer {
  test_thread thread;
  lanyard_worker *worker;
  mixed items[PER_MIXER];
  unsigned next; /* the worker's own */
} mixer;

static void take_turn(mixed *item) {
  mixer *self = item->mixer;
  item->answers++;
  CHECK(item->index >= self->next);
  self->next = item->index + 1;
}

static void mixed_job(void *argument, void *executor) {
  mixed *item = argument;
  CHECK(executor == item->mixer);
  take_turn(item);
}

static void mixed_request(void *argument, lanyard_status outcome) {
  mixed *item = argument;
  if (outcome == LANYARD_CANCELLED) item->answers++; /* on the mixer's thread */
  else take_turn(item);
  item->outcome = outcome;
}

/* A call's function is called only if it runs, which the mixer sees in time. */
static lanyard_status hand_over_somehow(mixed *item, uint64_t number) {
  lanyard_worker *worker = item->mixer->worker;
  lanyard_ticket ticket = 0;
  lanyard_status status;
  switch (number % 8) {
    case 0: return lanyard_submit(worker, mixed_request, item, NULL);
    case 1: return lanyard_try_submit(worker, mixed_request, item, NULL);
    case 2: return number / 8 % 8 ? lanyard_submit(worker, mixed_request, item, NULL)
                                  : lanyard_call(worker, mixed_request, item);
    case 3:
      status = lanyard__try_claim(worker, &ticket);
      if (status == LANYARD_OK) lanyard__publish(worker, ticket, mixed_request, item);
      return status;
    case 4:
      status = lanyard_submit(worker, mixed_request, item, &ticket);
      if (status == LANYARD_OK) lanyard_cancel(worker, ticket);
      return status;
    default:
      item->is_job = true;
      return lanyard__enqueue(worker, mixed_job, item, item->mixer);
  }
}

static void mix(void *argument) {
  mixer *self = argument;
  lanyard_worker *executor = acquire(self->worker);
  for (unsigned i = 0; i < PER_MIXER; i++) {
    mixed *item = &self->items[i];
    *item = (mixed){.mixer = self, .index = i};
    lanyard_status status = hand_over_somehow(item, random_number());
    item->accepted = status == LANYARD_OK;
    CHECK(item->accepted || (!item->is_job && (status == LANYARD_FULL || status == LANYARD_CLOSED)));
  }
  lanyard__executor_release(&executor);
}

static void mix_with_a_close(bool closes) {
  static mixer mixers[MIXERS];
  uint64_t number = random_number();
  lanyard_options options = sleepy_options(number % 2 ? 2 : 64);
  if (number / 2 % 2) options.serve = serve_all;
  options.batch_limit = (uint32_t)(1 + number / 4 % 8);
  options.spin_ns = number / 32 % 2 ? 0 : 20000;
  counters_start_at(starts[number / 64 % STARTS]);
  lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
  for (int i = 0; i < MIXERS; i++) {
    mixers[i].worker = worker;
    mixers[i].next = 0;
    thread_start(&mixers[i].thread, "mixer", mix, &mixers[i]);
  }
  if (closes) {
    usleep((useconds_t)(number / 1024 % 300));
    drain_and_keep(worker);
  }
  for (int i = 0; i < MIXERS; i++) thread_join(&mixers[i].thread);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < MIXERS; i++)
    for (int n = 0; n < PER_MIXER; n++) CHECK_EQUAL(mixers[i].items[n].answers, mixers[i].items[n].accepted);
  lanyard_release(&worker);
}

TEST(order_of_each_of_several_threads_in_random_mixes) {
  for (uint64_t i = scaled(1000); i > 0; i--) mix_with_a_close(i % 2);
}

TEST(order_of_each_of_several_threads_with_pauses_in_odd_places) {
  chaos_begin();
  for (uint64_t i = scaled(300); i > 0; i--) mix_with_a_close(i % 2);
}

/* --------------------------------------------------------------------------- a job is never refused */

typedef struct burst {
  uint64_t next;
  bool out_of_order;
} burst;

static _Thread_local burst *burst_here; /* on the worker: the jobs are numbers, and know nothing else */

static void begin_burst(void *argument, void *executor) {
  (void)executor;
  burst_here = argument;
}

static void count_job(void *number, void *executor) {
  (void)executor;
  if ((uint64_t)(uintptr_t)number != burst_here->next) burst_here->out_of_order = true;
  burst_here->next++;
}

static void enqueue_numbers(lanyard_worker *worker, uint64_t count) {
  for (uint64_t i = 0; i < count; i++)
    if (!CHECK_EQUAL(lanyard__enqueue(worker, count_job, (void *)(uintptr_t)i, &nobody), LANYARD_OK)) return;
}

/* What jobs.c calls RETAINED_CAPACITY. */
enum { RETAINED = 4096 };

TEST_WITHIN(120, never_refused_a_million_jobs_behind_a_latch_run_once_in_order_and_give_their_memory_back) {
  test_latch latch;
  burst all = {0};
  uint64_t count = scaled(1000000);
  CHECK(count > 2 * RETAINED);
  lanyard_worker *worker = open_sleepy(2), *executor = acquire(worker);
  hold(worker, &latch);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(lanyard_try_submit(worker, nothing, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_try_submit(worker, never, NULL, NULL), LANYARD_FULL);
  enqueue(worker, begin_burst, &all);
  enqueue_numbers(worker, count);
  CHECK_EQUAL(all.next, 0);
  latch_open(&latch);
  await_jobs(worker);
  for (int i = 0; i < 3; i++) await_jobs(worker); /* the arrays change places with each look */
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(all.next, count);
  CHECK(!all.out_of_order);
  CHECK(worker->jobs.taken.capacity <= RETAINED); /* joined: they are ours to read */
  CHECK(worker->jobs.pending.capacity <= RETAINED);
  CHECK_EQUAL(stats_of(worker).submitted, 3);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

/* The two arrays go back and forth: once they are large enough nothing is allocated. */
TEST(never_refused_and_once_warm_no_job_costs_an_allocation) {
  enum { BATCH = 100, DOUBLINGS = 4 }; /* 16, 32, 64, 128 */
  test_latch latch;
  burst all = {0};
  lanyard_worker *worker = open_sleepy(2), *executor = acquire(worker);
  faults_begin(0, false);
  enqueue(worker, begin_burst, &all);
  for (int round = 0; round < 50; round++) {
    hold_in_job(worker, &latch);
    all.next = 0;
    enqueue_numbers(worker, BATCH);
    latch_open(&latch);
    await_jobs(worker);
    CHECK_EQUAL(all.next, BATCH);
    latch_destroy(&latch);
  }
  CHECK(faults_end(NULL) <= 2 * DOUBLINGS);
  CHECK(!all.out_of_order);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK(worker->jobs.taken.capacity <= 2 * BATCH && worker->jobs.pending.capacity <= 2 * BATCH);
  lanyard_release(&worker);
}

/* An array doubles at 16, 32, 64, ...: every count around those. */
TEST(never_refused_at_every_size_of_the_list) {
  lanyard_worker *worker = NULL;
  for (uint64_t count = 1; count <= 70; count++) {
    test_latch latch;
    burst all = {0};
    worker = open_sleepy(2);
    lanyard_worker *executor = acquire(worker);
    enqueue(worker, begin_burst, &all);
    hold_in_job(worker, &latch);
    enqueue_numbers(worker, count);
    latch_open(&latch);
    lanyard__executor_release(&executor);
    close_and_release(&worker);
    CHECK_EQUAL(all.next, count);
    CHECK(!all.out_of_order);
    latch_destroy(&latch);
  }
}

/* No memory for the list to grow: that job is refused, and only that one; those before it are still there. */
TEST(refused_for_want_of_memory_leaves_the_jobs_before_it) {
  test_latch latch;
  burst all = {0};
  lanyard_worker *worker = open_sleepy(2), *executor = acquire(worker);
  enqueue(worker, begin_burst, &all);
  hold_in_job(worker, &latch);
  faults_at("jobs", 1);
  uint64_t taken = 0;
  while (lanyard__enqueue(worker, count_job, (void *)(uintptr_t)taken, &nobody) == LANYARD_OK) taken++;
  const char *site = NULL;
  faults_end(&site);
  CHECK(site != NULL && strcmp(site, "jobs") == 0);
  uint32_t news = atomic_load(&worker->jobs.changes);
  faults_at("jobs", 1);
  CHECK_EQUAL(lanyard__enqueue(worker, never_job, &nobody, &nobody), LANYARD_NO_MEMORY);
  faults_end(NULL);
  CHECK_EQUAL(atomic_load(&worker->jobs.changes), news);
  for (uint64_t i = 0; i < 100; i++) enqueue(worker, count_job, (void *)(uintptr_t)(taken + i));
  latch_open(&latch);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  CHECK_EQUAL(all.next, taken + 100);
  CHECK(!all.out_of_order);
  latch_destroy(&latch);
}

TEST(never_refused_and_the_memory_of_a_burst_is_given_back_when_it_is_over) {
  test_latch latch;
  burst all = {0};
  lanyard_worker *worker = open_sleepy(2), *executor = acquire(worker);
  hold_in_job(worker, &latch);
  enqueue(worker, begin_burst, &all);
  enqueue_numbers(worker, 20 * RETAINED);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  drain_and_keep(worker); /* it has nothing left to do */
  usleep(50000);
  CHECK(is_asleep(worker));
  /* The sleeping worker's own fields, which nobody writes now. */
  CHECK(worker->jobs.taken.capacity <= RETAINED);
  CHECK(worker->jobs.pending.capacity <= RETAINED);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  latch_destroy(&latch);
}

/* ----------------------------------------------------------------------------------- neither starves */

typedef struct everlasting {
  lanyard_worker *worker;
  _Atomic bool over;
  uint64_t turns;
  sem_t ended;
} everlasting;

static void begin_everlasting(everlasting *self, lanyard_worker *worker) {
  *self = (everlasting){.worker = worker};
  ly_exempt(&self->over, sizeof self->over);
  if (sem_init(&self->ended, 0, 0) != 0) abort();
}

static void go_on_as_job(void *argument, void *executor) {
  everlasting *self = argument;
  self->turns++;
  if (atomic_load(&self->over)) sem_post(&self->ended);
  else CHECK_EQUAL(lanyard__enqueue(self->worker, go_on_as_job, self, executor), LANYARD_OK);
}

static void go_on_as_request(void *argument, lanyard_status outcome) {
  everlasting *self = argument;
  self->turns++;
  if (outcome == LANYARD_OK && !atomic_load(&self->over) &&
      lanyard_try_submit(self->worker, go_on_as_request, self, NULL) == LANYARD_OK)
    return;
  sem_post(&self->ended);
}

/* A timer: what it was told, how often, and whether it came too soon. */
typedef struct timer {
  journal *log;
  int number;
  unsigned ok, closed, more; /* more: how often it wants to be called again */
  uint64_t due_ns, every_ns;
  bool was_early, was_elsewhere;
  lanyard_worker *worker;
  sem_t told;
} timer;

static uint64_t tick(void *argument, lanyard_status outcome) {
  timer *self = argument;
  uint64_t next_ns = 0;
  if (!lanyard_is_current(self->worker)) self->was_elsewhere = true;
  if (outcome == LANYARD_OK) {
    self->ok++;
    if (lanyard_now_ns() < self->due_ns) self->was_early = true;
    if (self->more > 0) {
      self->more--;
      next_ns = self->due_ns += self->every_ns;
    }
  } else {
    CHECK_EQUAL(outcome, LANYARD_CLOSED);
    self->closed++;
  }
  if (self->log != NULL) write_down(self->log, self->number);
  sem_post(&self->told);
  return next_ns;
}

static void timer_init(timer *self, lanyard_worker *worker, uint64_t due_ns) {
  *self = (timer){.worker = worker, .due_ns = due_ns};
  if (sem_init(&self->told, 0, 0) != 0) abort();
}

static void set_timer(timer *self, lanyard_worker *worker, uint64_t due_ns) {
  timer_init(self, worker, due_ns);
  CHECK_EQUAL(lanyard__set_timer(worker, due_ns, tick, self), LANYARD_OK);
}

/* After the worker's end. */
static void timer_was_told(timer *self, unsigned ok, unsigned closed) {
  CHECK_EQUAL(self->ok, ok);
  CHECK_EQUAL(self->closed, closed);
  CHECK(!self->was_early && !self->was_elsewhere);
  sem_destroy(&self->told);
}

TEST(starve_a_job_for_ever_stops_neither_requests_nor_timers_nor_other_jobs) {
  everlasting jobs;
  timer timers[5];
  lanyard_worker *worker = open_sleepy(2), *executor = acquire(worker);
  begin_everlasting(&jobs, worker);
  enqueue(worker, go_on_as_job, &jobs);
  enqueue(worker, go_on_as_job, &jobs); /* two at once */
  for (uint64_t i = scaled(200); i > 0; i--) {
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
    await_jobs(worker);
  }
  for (int i = 0; i < 5; i++) set_timer(&timers[i], worker, after((uint64_t)i * MILLISECONDS));
  for (int i = 0; i < 5; i++) await_post(&timers[i].told);
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  atomic_store(&jobs.over, true);
  for (int i = 0; i < 2; i++) await_post(&jobs.ended);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  CHECK(jobs.turns > 2);
  for (int i = 0; i < 5; i++) timer_was_told(&timers[i], 1, 0);
  sem_destroy(&jobs.ended);
}

/* Acceptance ends at once, and all that was accepted is over, while the job goes on. */
TEST(starve_a_job_for_ever_does_not_keep_a_close_from_draining) {
  test_latch latch;
  everlasting jobs;
  journal log = {0};
  entry entries[4];
  lanyard_worker *worker = open_sleepy(8), *executor = acquire(worker);
  begin_everlasting(&jobs, worker);
  hold(worker, &latch);
  enqueue(worker, go_on_as_job, &jobs);
  for (int i = 0; i < 4; i++) {
    entries[i] = (entry){&log, i};
    submit_note(worker, &entries[i]);
  }
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  latch_open(&latch);
  await_jobs(worker);
  ran_in_order(&log, 4);
  CHECK(!is_posted(&jobs.ended));
  atomic_store(&jobs.over, true);
  await_post(&jobs.ended);
  drain_and_keep(worker);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  sem_destroy(&jobs.ended);
  latch_destroy(&latch);
}

static bool drains(void *worker) {
  lanyard_status status = lanyard_close_until(worker, LANYARD_DRAIN, 0);
  return status != LANYARD_TIMED_OUT;
}

TEST(starve_a_job_for_ever_does_not_keep_closers_waiting) {
  everlasting jobs;
  timer far;
  lanyard_worker *worker = open_sleepy(8), *executor = acquire(worker);
  begin_everlasting(&jobs, worker);
  set_timer(&far, worker, after(HOUR));
  enqueue(worker, go_on_as_job, &jobs);
  /* The ring is empty and closed, and an executor lives: this is drained. */
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, after(SECONDS)), LANYARD_CLOSING);
  CHECK(is_posted(&far.told)); /* its timer was told */
  atomic_store(&jobs.over, true);
  await_post(&jobs.ended);
  CHECK(eventually(drains, worker));
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  CHECK_EQUAL(far.closed, 1);
  sem_destroy(&far.told);
  sem_destroy(&jobs.ended);
}

TEST(starve_a_request_for_ever_stops_neither_jobs_nor_timers_nor_close) {
  everlasting requests[2];
  timer timers[5];
  lanyard_worker *worker = open_sleepy(8), *executor = acquire(worker);
  for (int i = 0; i < 2; i++) {
    begin_everlasting(&requests[i], worker);
    CHECK_EQUAL(lanyard_submit(worker, go_on_as_request, &requests[i], NULL), LANYARD_OK);
  }
  for (uint64_t i = scaled(200); i > 0; i--) await_jobs(worker);
  for (int i = 0; i < 5; i++) set_timer(&timers[i], worker, after((uint64_t)i * MILLISECONDS));
  for (int i = 0; i < 5; i++) await_post(&timers[i].told);
  CHECK(!is_posted(&requests[0].ended) && !is_posted(&requests[1].ended));
  drain_and_keep(worker);
  for (int i = 0; i < 2; i++) await_post(&requests[i].ended);
  await_jobs(worker);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  for (int i = 0; i < 5; i++) timer_was_told(&timers[i], 1, 0);
  for (int i = 0; i < 2; i++) sem_destroy(&requests[i].ended);
}

/* Both at once, and in batches. */
TEST(starve_neither_when_both_go_on_for_ever) {
  everlasting job, request;
  timer timer;
  lanyard_options options = sleepy_options(4);
  options.serve = serve_all;
  lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
  begin_everlasting(&job, worker);
  begin_everlasting(&request, worker);
  enqueue(worker, go_on_as_job, &job);
  CHECK_EQUAL(lanyard_submit(worker, go_on_as_request, &request, NULL), LANYARD_OK);
  for (uint64_t i = scaled(100); i > 0; i--) {
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
    await_jobs(worker);
  }
  set_timer(&timer, worker, after(MILLISECONDS));
  await_post(&timer.told);
  atomic_store(&job.over, true);
  atomic_store(&request.over, true);
  await_post(&job.ended);
  await_post(&request.ended);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  CHECK(job.turns > 10 && request.turns > 1);
  timer_was_told(&timer, 1, 0);
  sem_destroy(&job.ended);
  sem_destroy(&request.ended);
}

/* ------------------------------------------------------------------------------- no wake-up is lost */

/* A worker, and what is handed over to it. Nothing else wakes it then. */
typedef struct scene {
  const struct news *news;
  lanyard_worker *worker, *executor;
  sem_t seen; /* by its request or job */
  timer far, near;
  test_latch latch;
  _Atomic bool given;
} scene;

typedef struct news {
  const char *name;
  bool drained, beside_a_timer; /* closed before, and kept by an executor; with a timer in an hour */
  void (*give)(scene *self);
  bool (*has_come)(void *self);
} news;

static void post_request(void *semaphore, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  sem_post(semaphore);
}

static void give_a_request(scene *self) {
  CHECK_EQUAL(lanyard_submit(self->worker, post_request, &self->seen, NULL), LANYARD_OK);
}
static void give_a_job(scene *self) { enqueue(self->worker, post_job, &self->seen); }
static bool it_was_seen(void *self) { return is_posted(&((scene *)self)->seen); }

static void give_a_timer(scene *self) { set_timer(&self->near, self->worker, after(MILLISECONDS)); }
static void give_a_timer_of_the_past(scene *self) { set_timer(&self->near, self->worker, 1); }
static bool it_was_told(void *self) { return is_posted(&((scene *)self)->near.told); }

static void release_the_executor(scene *self) { lanyard__executor_release(&self->executor); }
static bool it_has_ended(void *self) {
  return atomic_load(&((scene *)self)->worker->phase) == LY_FINISHED;
}

static void begin_close(scene *self) {
  lanyard_status status = lanyard_close_until(self->worker, LANYARD_DRAIN, 0);
  CHECK(status == LANYARD_TIMED_OUT || status == LANYARD_CLOSING);
}
static bool it_has_drained(void *self) {
  return atomic_load(&((scene *)self)->worker->phase) == LY_DRAINED;
}
static bool it_was_dropped(void *self) { return is_posted(&((scene *)self)->far.told); }

static const news all_news[] = {
    {"a job", false, false, give_a_job, it_was_seen},
    {"a job, beside a timer", false, true, give_a_job, it_was_seen},
    {"a job of a closed worker", true, false, give_a_job, it_was_seen},
    {"the last executor's end", true, false, release_the_executor, it_has_ended},
    {"a first timer", false, false, give_a_timer, it_was_told},
    {"a timer that is over", false, false, give_a_timer_of_the_past, it_was_told},
    {"an earlier timer", false, true, give_a_timer, it_was_told},
    {"an earlier timer that is over", false, true, give_a_timer_of_the_past, it_was_told},
    {"a request, beside a timer", false, true, give_a_request, it_was_seen},
    {"a close", false, false, begin_close, it_has_drained},
    {"a close, beside a timer", false, true, begin_close, it_was_dropped},
};
enum { ALL_NEWS = sizeof all_news / sizeof *all_news };

/* The worker stands in a request or job of ours, with nothing behind it. */
static void begin_scene(scene *self, const news *which) {
  *self = (scene){.news = which, .worker = open_sleepy(4)};
  if (sem_init(&self->seen, 0, 0) != 0) abort();
  ly_exempt(&self->given, sizeof self->given);
  self->executor = acquire(self->worker);
  if (which->beside_a_timer) set_timer(&self->far, self->worker, after(HOUR));
  if (which->drained) drain_and_keep(self->worker);
  hold_in_job(self->worker, &self->latch);
}

static void give(void *argument) {
  scene *self = argument;
  self->news->give(self);
  atomic_store(&self->given, true);
}

static bool has_given(void *self) { return atomic_load(&((scene *)self)->given); }

/* False, and the test fails, if it did not come: then the scene must not go away. */
static bool end_scene(scene *self, const char *where, unsigned step) {
  bool has_come = eventually(self->news->has_come, self);
  if (!CHECK(has_come)) fprintf(stderr, "%s was lost: %s %u\n", self->news->name, where, step);
  lanyard__executor_release(&self->executor);
  close_and_release(&self->worker);
  if (self->news->beside_a_timer) timer_was_told(&self->far, 0, 1);
  if (self->news->has_come == it_was_told) timer_was_told(&self->near, has_come, !has_come);
  sem_destroy(&self->seen);
  latch_destroy(&self->latch);
  return has_come;
}

/*   worker                          another thread
 *   has nothing to do, and stands before or after it says PARKED
 *                                   the news; finds AWAKE and does not wake, or wakes in vain
 *   looks again, and must find it */
static void give_at(const char *point) {
  for (int i = 0; i < ALL_NEWS; i++) {
    scene it;
    begin_scene(&it, &all_news[i]);
    gate_arm(0, "worker", point);
    latch_open(&it.latch);
    gate_await(0);
    give(&it);
    gate_open(0);
    end_scene(&it, point, 0);
  }
}

TEST(wake_is_not_lost_before_the_worker_says_that_it_sleeps) { give_at("idle"); }
TEST(wake_is_not_lost_between_saying_so_and_the_last_look) { give_at("parking"); }

TEST(wake_reaches_a_worker_that_is_asleep) {
  steps_begin();
  for (int i = 0; i < ALL_NEWS; i++) {
    scene it;
    begin_scene(&it, &all_news[i]);
    steps_arm("worker", 1u << 30);
    latch_open(&it.latch);
    steps_await(worker_rests, NULL); /* until it sleeps */
    CHECK(is_asleep(it.worker));
    usleep(1000);
    give(&it);
    end_scene(&it, "asleep", 0);
  }
  steps_end();
}

/* The worker is held at its k-th access after its last job, and all the news comes in there. */
static bool give_at_step(const news *which, unsigned k) {
  scene it;
  begin_scene(&it, which);
  steps_arm("worker", k);
  latch_open(&it.latch);
  bool held = steps_await(worker_rests, NULL);
  give(&it);
  if (held) steps_go();
  return end_scene(&it, "the worker held at access", k) && held;
}

TEST(wake_is_not_lost_at_any_step_of_the_worker) {
  steps_begin();
  for (int i = 0; i < ALL_NEWS; i++) {
    unsigned count = 0;
    for (unsigned k = 0; give_at_step(&all_news[i], k); k = next_step(k)) count++;
#if !LANYARD_COVERAGE
    if (scaled(100) >= 100) CHECK(count > 10);
#endif
  }
  steps_end();
}

/* The other way round: who gives is held at its k-th access, and the worker goes on as far as it can. It may
 * come to wait for the other one: that it must not look before there is anything is no law. */
static bool give_in_steps(const news *which, unsigned k) {
  scene it;
  test_thread giver;
  begin_scene(&it, which);
  steps_arm("giver", k);
  thread_start(&giver, "giver", give, &it);
  bool held = steps_await(has_given, &it);
  latch_open(&it.latch);
  if (held) {
    for (int turn = 0; turn < 50 && !atomic_load(&steps.rests); turn++) usleep(20);
    steps_go();
  }
  thread_join(&giver);
  return end_scene(&it, "the giver held at access", k) && held;
}

TEST(wake_is_not_lost_at_any_step_of_the_one_who_gives) {
  steps_begin();
  for (int i = 0; i < ALL_NEWS; i++) {
    unsigned count = 0;
    for (unsigned k = 0; give_in_steps(&all_news[i], k); k = next_step(k)) count++;
#if !LANYARD_COVERAGE
    if (scaled(100) >= 100) CHECK(count > 2);
#endif
  }
  steps_end();
}

/* Nothing forced, many times: each waits for its own before it gives the next. */
TEST(wake_is_not_lost_in_many_turns) {
  lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
  scene it = {.worker = worker};
  if (sem_init(&it.seen, 0, 0) != 0) abort();
  for (uint64_t i = scaled(10000); i > 0; i--) {
    give_a_job(&it);
    if (!await_post(&it.seen)) break;
  }
  drain_and_keep(worker);
  for (uint64_t i = scaled(5000); i > 0; i--) {
    give_a_job(&it);
    if (!await_post(&it.seen)) break;
  }
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  sem_destroy(&it.seen);
}

TEST(wake_of_an_earlier_timer_is_not_lost_in_many_turns) {
  lanyard_worker *worker = open_sleepy(4);
  timer far;
  set_timer(&far, worker, after(HOUR));
  for (uint64_t i = scaled(2500); i > 0; i--) {
    timer near;
    set_timer(&near, worker, after(i % 4 * 20000));
    bool told = await_post(&near.told);
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK); /* it has left the tick */
    timer_was_told(&near, told, 0);
    if (!told) break;
  }
  close_and_release(&worker);
  timer_was_told(&far, 0, 1);
}

/* ----------------------------------------------------------------------- executors keep the thread */

/* Its hooks write into the same journal as what runs in between. */
typedef struct life {
  journal log;
  int start_number, stop_number;
} life;

static void note_start(void *context) { write_down(&((life *)context)->log, ((life *)context)->start_number); }
static void note_stop(void *context) { write_down(&((life *)context)->log, ((life *)context)->stop_number); }

static void keep_after_close(lanyard_close_mode mode) {
  test_latch latch;
  life self = {.start_number = 0, .stop_number = 7};
  entry entries[7];
  lanyard_options options = sleepy_options(8);
  options.context = &self;
  options.on_start = note_start;
  options.on_stop = note_stop;
  lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
  for (int i = 1; i < 7; i++) entries[i] = (entry){&self.log, i};
  hold(worker, &latch);
  enqueue_note(worker, &entries[1]);
  CHECK_EQUAL(lanyard_close_until(worker, mode, 0), LANYARD_TIMED_OUT);
  enqueue_note(worker, &entries[2]);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, mode), LANYARD_CLOSING);
  for (int i = 3; i < 6; i++) {
    enqueue_note(worker, &entries[i]);
    await_jobs(worker);
  }
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DISCARD), LANYARD_CLOSING); /* and jobs are nothing to discard */
  enqueue_note(worker, &entries[6]);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  ran_in_order(&self.log, 8); /* on_stop is the last, and all of it was one thread's */
  lanyard_release(&worker);
  latch_destroy(&latch);
}

TEST(keep_jobs_run_on_the_same_thread_after_a_drain) { keep_after_close(LANYARD_DRAIN); }
TEST(keep_jobs_run_on_the_same_thread_after_a_discard) { keep_after_close(LANYARD_DISCARD); }

/* Requests are over, one way or the other, before closers hear of it; jobs run in any case. */
TEST(keep_a_discard_answers_requests_and_runs_jobs) {
  test_latch latch;
  answer discarded[2] = {{.count = 0}};
  burst all = {0};
  lanyard_worker *worker = open_sleepy(8), *executor = acquire(worker);
  hold(worker, &latch);
  enqueue(worker, begin_burst, &all);
  for (int i = 0; i < 2; i++) {
    if (sem_init(&discarded[i].told, 0, 0) != 0) abort();
    enqueue(worker, count_job, (void *)(uintptr_t)i);
    CHECK_EQUAL(lanyard_submit(worker, take_answer, &discarded[i], NULL), LANYARD_OK);
  }
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DISCARD, 0), LANYARD_TIMED_OUT);
  enqueue_numbers(worker, 0);
  enqueue(worker, count_job, (void *)(uintptr_t)2);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_CLOSING);
  for (int i = 0; i < 2; i++) {
    CHECK_EQUAL(discarded[i].count, 1);
    CHECK_EQUAL(discarded[i].outcome, LANYARD_CLOSED);
    sem_destroy(&discarded[i].told);
  }
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  CHECK_EQUAL(all.next, 3);
  CHECK(!all.out_of_order);
  latch_destroy(&latch);
}

/* Several at once, before the drain is over, and after it. */
enum { CLOSERS = 4 };

static void start_closers(closer *closers, lanyard_worker *worker) {
  for (int i = 0; i < CLOSERS; i++)
    start_closer(&closers[i], worker, i % 2 ? LANYARD_DRAIN : LANYARD_DISCARD,
                 i / 2 ? LANYARD_FOREVER : after(HOUR));
}

static void set_flag(void *flag, lanyard_status outcome) {
  (void)outcome;
  *(bool *)flag = true;
}

TEST(closers_that_wait_return_when_the_ring_is_drained_while_an_executor_lives) {
  closer closers[CLOSERS];
  answer answers[2];
  test_latch latch;
  bool ran = false;
  watch_begin();
  lanyard_worker *worker = open_sleepy(8), *executor = acquire(worker);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, set_flag, &ran, NULL), LANYARD_OK);
  for (int i = 0; i < 2; i++) close_async(&answers[i], worker, LANYARD_DRAIN);
  for (int i = 0; i < CLOSERS; i++)
    start_closer(&closers[i], worker, LANYARD_DRAIN, i % 2 ? LANYARD_FOREVER : after(HOUR));
  await_sleepers(&worker->phase, CLOSERS);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, after(MILLISECONDS)), LANYARD_TIMED_OUT);
  for (int i = 0; i < 2; i++) CHECK(!is_answered(&answers[i]));
  latch_open(&latch);
  for (int i = 0; i < CLOSERS; i++) join_closer(&closers[i], LANYARD_CLOSING);
  CHECK(ran); /* plain: the drain happens before */
  for (int i = 0; i < 2; i++) await_answer(&answers[i]);
  await_jobs(worker); /* the thread is there */
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&worker);
  latch_destroy(&latch);
  for (int i = 0; i < 2; i++) sem_destroy(&answers[i].told);
  watch_end();
}

TEST(closers_that_come_after_the_drain_return_at_once_while_an_executor_lives) {
  closer closers[CLOSERS];
  answer answers[2];
  test_latch latch;
  lanyard_worker *worker = open_sleepy(8), *executor = acquire(worker);
  drain_and_keep(worker);
  for (int held = 0; held < 2; held++) { /* also while a job runs: they wait for none */
    if (held) hold_in_job(worker, &latch);
    for (int i = 0; i < 2; i++) close_async(&answers[i], worker, i ? LANYARD_DISCARD : LANYARD_DRAIN);
    start_closers(closers, worker);
    for (int i = 0; i < CLOSERS; i++) join_closer(&closers[i], LANYARD_CLOSING);
    CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_CLOSING);
    for (int i = 0; i < 2; i++) {
      await_answer(&answers[i]);
      CHECK_EQUAL(answers[i].count, 1);
    }
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 1); /* the answers' thread has left their posts */
    for (int i = 0; i < 2; i++) sem_destroy(&answers[i].told);
  }
  latch_open(&latch);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  latch_destroy(&latch);
}

TEST(closers_wait_for_the_end_when_the_last_executor_goes_before_the_drain) {
  closer closers[CLOSERS];
  answer answers[2];
  test_latch latch;
  watch_begin();
  unsigned base = thread_count();
  lanyard_worker *worker = open_sleepy(8), *executor = acquire(worker);
  hold(worker, &latch);
  for (int i = 0; i < 2; i++) close_async(&answers[i], worker, LANYARD_DRAIN);
  start_closers(closers, worker);
  await_sleepers(&worker->phase, CLOSERS);
  lanyard__executor_release(&executor);
  latch_open(&latch);
  for (int i = 0; i < CLOSERS; i++) join_closer(&closers[i], LANYARD_OK);
  for (int i = 0; i < 2; i++) await_answer(&answers[i]);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_OK);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 1);
  CHECK(eventually(threads_are_no_more_than, &base));
  lanyard_release(&worker);
  latch_destroy(&latch);
  for (int i = 0; i < 2; i++) sem_destroy(&answers[i].told);
  watch_end();
}

/* Drained, and then the last executor goes: what is left of its jobs is part of the end. */
TEST(closers_wait_for_the_jobs_that_a_last_executor_left) {
  closer closers[CLOSERS];
  answer one;
  test_latch latch;
  journal log = {0};
  entry last = {&log, 0};
  watch_begin();
  lanyard_worker *worker = open_sleepy(8), *executor = acquire(worker);
  drain_and_keep(worker);
  hold_in_job(worker, &latch);
  enqueue_note(worker, &last);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK(!lanyard__executor_acquire(worker)); /* the end is near, and stays near */
  start_closers(closers, worker);
  await_sleepers(&worker->phase, CLOSERS);
  close_async(&one, worker, LANYARD_DRAIN);
  CHECK(!is_answered(&one));
  latch_open(&latch);
  for (int i = 0; i < CLOSERS; i++) join_closer(&closers[i], LANYARD_OK);
  await_answer(&one);
  ran_in_order(&log, 1);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  sem_destroy(&one.told);
  latch_destroy(&latch);
  watch_end();
}

/* A job is the worker's own thread: closing there waits for nothing. */
typedef struct inner_close {
  lanyard_worker *worker;
  lanyard_status closed, closed_until, called, submitted;
} inner_close;

static void close_in_job(void *argument, void *executor) {
  (void)executor;
  inner_close *self = argument;
  self->closed = lanyard_close(self->worker, LANYARD_DRAIN);
  self->closed_until = lanyard_close_until(self->worker, LANYARD_DISCARD, after(HOUR));
  self->called = lanyard_call(self->worker, never, NULL);
  self->submitted = lanyard_submit(self->worker, never, NULL, NULL);
}

TEST(closers_in_a_job_of_the_worker_do_not_wait) {
  inner_close self = {.worker = open_sleepy(4)};
  lanyard_worker *executor = acquire(self.worker);
  for (int i = 0; i < 2; i++) {
    enqueue(self.worker, close_in_job, &self);
    await_jobs(self.worker);
    drain_and_keep(self.worker);
    CHECK_EQUAL(self.closed, LANYARD_CLOSING);
    CHECK_EQUAL(self.closed_until, LANYARD_CLOSING);
    CHECK_EQUAL(self.called, LANYARD_CLOSED);
    CHECK_EQUAL(self.submitted, LANYARD_CLOSED);
    self = (inner_close){.worker = self.worker};
  }
  lanyard__executor_release(&executor);
  close_and_release(&self.worker);
}

/* Who holds the last executor may close without waiting for itself: E1, E8. */
static void close_and_let_go(void *argument, void *executor) {
  (void)executor;
  scene *self = argument;
  CHECK_EQUAL(lanyard_close(self->worker, LANYARD_DRAIN), LANYARD_CLOSING);
  lanyard__executor_release(&self->executor);
  lanyard_release(&self->worker);
  sem_post(&self->seen);
}

TEST(closers_may_hold_the_last_executor_themselves) {
  for (int inside = 0; inside < 2; inside++) {
    scene it = {.worker = open_sleepy(4)};
    if (sem_init(&it.seen, 0, 0) != 0) abort();
    it.executor = acquire(it.worker);
    if (inside) {
      enqueue(it.worker, close_and_let_go, &it);
      await_post(&it.seen);
    } else {
      CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_CLOSING);
      lanyard__executor_release(&it.executor);
      close_and_release(&it.worker);
    }
    await_no_worker();
    CHECK(it.executor == NULL && it.worker == NULL);
    sem_destroy(&it.seen);
  }
}

TEST(closers_of_other_workers_are_not_delayed_by_a_job_that_outlives_its_executor) {
  test_latch latch;
  answer first, second;
  lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker), *other = open_sleepy(4);
  drain_and_keep(worker);
  hold_in_job(worker, &latch);
  lanyard__executor_release(&executor); /* drained, no executor, and a job still runs */
  close_async(&first, worker, LANYARD_DRAIN);
  close_async(&second, other, LANYARD_DRAIN);
  for (int i = 0; i < 1000 && !is_answered(&second); i++) usleep(1000);
  CHECK(is_answered(&second)); /* it has nothing to do with the other worker's job */
  CHECK(!is_answered(&first));
  latch_open(&latch);
  await_answer(&first);
  await_answer(&second);
  lanyard_release(&worker);
  lanyard_release(&other);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  sem_destroy(&first.told);
  sem_destroy(&second.told);
  latch_destroy(&latch);
}

typedef struct waits_for_other {
  lanyard_worker *worker, *other;
  test_latch latch;
  answer second;
  bool answered;
  size_t left;
} waits_for_other;

static void await_other_close(void *argument, void *executor) {
  (void)executor;
  waits_for_other *self = argument;
  latch_request(&self->latch, LANYARD_OK);
  close_async(&self->second, self->other, LANYARD_DRAIN);
  for (int i = 0; i < 1000 && !is_answered(&self->second); i++) usleep(1000);
  self->answered = is_answered(&self->second);
}

TEST(closers_of_other_workers_are_answered_while_a_last_job_waits_for_that) {
  waits_for_other it = {.worker = open_sleepy(4), .other = open_sleepy(4)};
  answer first;
  latch_init(&it.latch);
  lanyard_worker *executor = acquire(it.worker);
  drain_and_keep(it.worker);
  enqueue(it.worker, await_other_close, &it);
  latch_await(&it.latch);
  lanyard__executor_release(&executor);
  close_async(&first, it.worker, LANYARD_DRAIN);
  latch_open(&it.latch);
  await_answer(&first);
  await_answer(&it.second);
  CHECK(it.answered);
  lanyard_release(&it.worker);
  lanyard_release(&it.other);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  sem_destroy(&first.told);
  sem_destroy(&it.second.told);
  latch_destroy(&it.latch);
}

TEST(closers_of_a_worker_that_a_job_may_still_start_are_not_told_that_it_is_over) {
  answer one;
  lanyard_worker *worker = open_lazy(4), *executor = acquire(worker);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_CLOSING);
  await_jobs(worker); /* and here it starts */
  close_async(&one, worker, LANYARD_DRAIN);
  await_answer(&one);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  lanyard_quiesce(after(60 * SECONDS));
  sem_destroy(&one.told);
}

/* Two that close each other: a job of one that an executor keeps, and a request of another. The first waits for
 * an end, the second for no more than a drain: that is no circle. */
typedef struct mutual {
  lanyard_worker *kept, *other;
  lanyard_status of_kept, of_other;
} mutual;

static void close_the_kept(void *argument, lanyard_status outcome) {
  (void)outcome;
  mutual *self = argument;
  self->of_kept = lanyard_close(self->kept, LANYARD_DRAIN);
}

static void close_the_other(void *argument, void *executor) {
  (void)executor;
  mutual *self = argument;
  self->of_other = lanyard_close(self->other, LANYARD_DRAIN);
}

/* A worker's thread that is woken from its sleep in a close, and stays a while before it returns. */
static struct {
  _Atomic(lanyard_worker *) who;
  sem_t sleeps, held, go;
} leaver;

static int leave_slowly(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns) {
  lanyard_worker *self = lanyard__current;
  bool is_it = self != NULL && self == atomic_load(&leaver.who) && word != &self->park.word;
  if (is_it) sem_post(&leaver.sleeps);
  int result = step_futex_wait(word, expected, deadline_ns);
  if (is_it && atomic_exchange(&leaver.who, NULL) == self) {
    sem_post(&leaver.held);
    while (sem_wait(&leaver.go) != 0) continue;
  }
  return result;
}

static void let_go_soon(void *argument) {
  (void)argument;
  usleep(20000);
  sem_post(&leaver.go);
}

TEST(closers_whose_wait_a_drain_has_ended_are_no_deadlock) {
  mutual it = {.of_other = LANYARD_INVALID};
  test_latch latch;
  test_thread helper;
  ly_exempt(&leaver.who, sizeof leaver.who);
  atomic_store(&leaver.who, NULL);
  if (sem_init(&leaver.sleeps, 0, 0) != 0 || sem_init(&leaver.held, 0, 0) != 0 || sem_init(&leaver.go, 0, 0) != 0) abort();
  lanyard__hooks.futex_wait = leave_slowly;
  it.kept = open_sleepy(4);
  it.other = open_sleepy(4);
  lanyard_worker *executor = acquire(it.kept);
  hold(it.kept, &latch);
  atomic_store(&leaver.who, it.other);
  CHECK_EQUAL(lanyard_submit(it.other, close_the_kept, &it, NULL), LANYARD_OK);
  await_post(&leaver.sleeps);
  latch_open(&latch); /* the kept one drains: the other's close is over, and stands before it returns */
  await_post(&leaver.held);
  enqueue(it.kept, close_the_other, &it);
  thread_start(&helper, "helper", let_go_soon, NULL);
  await_jobs(it.kept);
  thread_join(&helper);
  CHECK_EQUAL(it.of_other, LANYARD_OK);
  CHECK_EQUAL(it.of_kept, LANYARD_CLOSING);
  lanyard__executor_release(&executor);
  lanyard_release(&it.other);
  close_and_release(&it.kept);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  lanyard__hooks.futex_wait = NULL;
  sem_destroy(&leaver.sleeps);
  sem_destroy(&leaver.held);
  sem_destroy(&leaver.go);
  latch_destroy(&latch);
}

TEST(closers_of_a_drained_worker_that_an_executor_keeps_are_no_deadlock) {
  mutual it = {.of_kept = LANYARD_INVALID};
  test_latch latch;
  watch_begin();
  it.kept = open_sleepy(4);
  it.other = open_sleepy(4);
  lanyard_worker *executor = acquire(it.kept);
  drain_and_keep(it.kept);
  hold(it.other, &latch);
  CHECK_EQUAL(lanyard_submit(it.other, close_the_kept, &it, NULL), LANYARD_OK);
  enqueue(it.kept, close_the_other, &it);
  await_sleepers(&it.other->phase, 1); /* the kept one's job waits for the other's end */
  latch_open(&latch);                     /* and the other closes the kept one, which is drained: CLOSING */
  await_jobs(it.kept);
  CHECK_EQUAL(it.of_kept, LANYARD_CLOSING);
  CHECK_EQUAL(it.of_other, LANYARD_OK);
  lanyard__executor_release(&executor);
  lanyard_release(&it.other);
  close_and_release(&it.kept);
  latch_destroy(&latch);
  watch_end();
}

/* ------------------------------------------------------------------------------- acquire and release */

TEST(acquire_counts_before_and_during_a_close_but_not_after_the_last_one) {
  test_latch latch;
  lanyard_worker *worker = open_sleepy(4), *first = acquire(worker), *second = NULL;
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  second = acquire(worker); /* during: one is left */
  lanyard__executor_release(&first);
  CHECK(first == NULL);
  first = acquire(worker);
  latch_open(&latch);
  drain_and_keep(worker);
  lanyard__executor_release(&second);
  second = acquire(worker); /* after the drain, the same */
  await_jobs(worker);
  lanyard__executor_release(&second);
  lanyard__executor_release(&first);
  for (int i = 0; i < 3; i++) CHECK(!lanyard__executor_acquire(worker));
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK(!lanyard__executor_acquire(worker));
  lanyard_release(&worker); /* and none of those counted as an owner */
  CHECK_EQUAL(lanyard_live_count(), 0);
  latch_destroy(&latch);
}

TEST(acquire_is_refused_once_a_close_has_begun_and_there_is_none) {
  for (int lazy = 0; lazy < 2; lazy++) {
    test_latch latch;
    lanyard_worker *worker = lazy ? open_lazy(4) : open_sleepy(4);
    if (!lazy) hold(worker, &latch);
    CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), lazy ? LANYARD_OK : LANYARD_TIMED_OUT);
    CHECK(!lanyard__executor_acquire(worker));
    if (!lazy) latch_open(&latch);
    CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
    CHECK(!lanyard__executor_acquire(worker));
    lanyard_release(&worker);
    CHECK_EQUAL(lanyard_live_count(), 0);
    if (!lazy) latch_destroy(&latch);
  }
}

TEST(acquire_of_null_is_refused) {
  lanyard_worker *none = NULL;
  CHECK(!lanyard__executor_acquire(none));
  lanyard__executor_release(&none);
  lanyard__executor_release(NULL);
  CHECK_EQUAL(lanyard__enqueue(none, never_job, &nobody, &nobody), LANYARD_INVALID);
  CHECK_EQUAL(lanyard__set_timer(none, 0, tick, &nobody), LANYARD_INVALID);
  lanyard_ticket ticket = 4711;
  CHECK_EQUAL(lanyard__try_claim(none, &ticket), LANYARD_INVALID);
  CHECK_EQUAL(lanyard__close_then(none, LANYARD_DRAIN, never, &nobody), LANYARD_INVALID);
  CHECK_EQUAL(lanyard__enqueued(none), 0);
  CHECK_EQUAL(ticket, 4711);
}

/* on_stop comes when the thread has decided to end. */
static void acquire_in_on_stop(void *context) {
  lanyard_worker **worker = context;
  CHECK(!lanyard__executor_acquire(*worker));
}

TEST(acquire_is_refused_in_on_stop) {
  lanyard_worker *worker = NULL;
  lanyard_options options = sleepy_options(4);
  options.context = &worker;
  options.on_stop = acquire_in_on_stop;
  worker = open_with(&options);
  lanyard_worker *executor = acquire(worker);
  drain_and_keep(worker);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
}

/* The last job of the last executor: nobody becomes one again, not even from there. */
static void acquire_in_job(void *argument, void *executor) {
  (void)executor;
  scene *self = argument;
  test_latch *latch = &self->latch;
  latch_request(latch, LANYARD_OK);
  CHECK(!lanyard__executor_acquire(self->worker));
  sem_post(&self->seen);
}

TEST(acquire_is_refused_in_the_last_job_of_all) {
  scene it = {.worker = open_sleepy(4)};
  if (sem_init(&it.seen, 0, 0) != 0) abort();
  latch_init(&it.latch);
  it.executor = acquire(it.worker);
  drain_and_keep(it.worker);
  enqueue(it.worker, acquire_in_job, &it);
  latch_await(&it.latch);
  lanyard__executor_release(&it.executor);
  latch_open(&it.latch);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK(is_posted(&it.seen));
  lanyard_release(&it.worker);
  sem_destroy(&it.seen);
  latch_destroy(&it.latch);
}

/* Someone who comes, hands over one job if there is still a thread for it, and goes. */
typedef struct visitor {
  lanyard_worker *worker;
  bool came;
  uint64_t ran; /* the worker's own until its end */
  _Atomic bool over;
} visitor;

static void count_visit(void *argument, void *executor) {
  (void)executor;
  ((visitor *)argument)->ran++;
}

static void visit(void *argument) {
  visitor *self = argument;
  lanyard_worker *executor = self->worker;
  self->came = lanyard__executor_acquire(self->worker);
  if (self->came) {
    CHECK_EQUAL(lanyard__enqueue(self->worker, count_visit, self, &nobody), LANYARD_OK);
    lanyard__executor_release(&executor);
  }
  atomic_store(&self->over, true);
}

static bool visit_is_over(void *self) { return atomic_load(&((visitor *)self)->over); }

static void begin_visit(visitor *self, lanyard_worker *worker) {
  *self = (visitor){.worker = worker};
  ly_exempt(&self->over, sizeof self->over);
}

/* The worker goes to its end, and is held at each access on the way; the visitor must be refused there. */
static bool visit_at_step(unsigned k) {
  scene it;
  visitor it_comes;
  begin_scene(&it, &all_news[0]);
  begin_visit(&it_comes, it.worker);
  CHECK_EQUAL(lanyard_close_until(it.worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  lanyard__executor_release(&it.executor);
  steps_arm("worker", k);
  latch_open(&it.latch);
  bool held = steps_await(it_has_ended, &it);
  visit(&it_comes);
  CHECK(!it_comes.came);
  if (held) steps_go();
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(it_comes.ran, 0);
  lanyard_release(&it.worker);
  sem_destroy(&it.seen);
  latch_destroy(&it.latch);
  return held;
}

TEST(acquire_is_refused_at_every_step_of_a_worker_that_ends) {
  steps_begin();
  unsigned count = 0;
  for (unsigned k = 0; visit_at_step(k); k = next_step(k)) count++;
#if !LANYARD_COVERAGE
  if (scaled(100) >= 100) CHECK(count > 20);
#endif
  steps_end();
}

/* The other way round: who comes is held at each access, and meanwhile the worker is closed and goes as far as
 * it can. Refused or run: there is nothing between. */
static bool visit_in_steps(unsigned k) {
  test_thread thread;
  visitor self;
  lanyard_worker *worker = open_sleepy(4);
  begin_visit(&self, worker);
  steps_arm("visitor", k);
  thread_start(&thread, "visitor", visit, &self);
  bool held = steps_await(visit_is_over, &self);
  lanyard_status status = lanyard_close_until(worker, LANYARD_DRAIN, after(20 * MILLISECONDS));
  CHECK(status == LANYARD_OK || status == LANYARD_CLOSING || status == LANYARD_TIMED_OUT);
  if (held) steps_go();
  thread_join(&thread);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  if (!CHECK_EQUAL(self.ran, self.came)) fprintf(stderr, "held at access %u\n", k);
  lanyard_release(&worker);
  return held;
}

TEST(acquire_held_at_every_step_is_refused_or_counts) {
  steps_begin();
  unsigned count = 0;
  for (unsigned k = 0; visit_in_steps(k); k = next_step(k)) count++;
#if !LANYARD_COVERAGE
  if (scaled(100) >= 100) CHECK(count > 5);
#endif
  steps_end();
}

/* Nothing forced: several come and go while the worker is closed. Once one was refused, all are. */
enum { VISITORS = 3, VISITS = 6 };

static void visit_often(void *argument) {
  visitor *visits = argument;
  bool refused = false;
  for (int i = 0; i < VISITS; i++) {
    visit(&visits[i]);
    CHECK(!(refused && visits[i].came));
    refused = !visits[i].came;
  }
}

static void race_the_end(void) {
  visitor visits[VISITORS][VISITS];
  test_thread threads[VISITORS];
  answer one;
  uint64_t number = random_number();
  lanyard_options options = sleepy_options(4);
  options.lazy = number % 4 == 0;
  lanyard_worker *worker = open_with(&options);
  for (int v = 0; v < VISITORS; v++) {
    for (int i = 0; i < VISITS; i++) begin_visit(&visits[v][i], worker);
    thread_start(&threads[v], "visitor", visit_often, visits[v]);
  }
  for (uint64_t k = number / 8 % 20000; k > 0; k--) ly_pause();
  bool asks = number / 4 % 2;
  if (asks) close_async(&one, worker, LANYARD_DRAIN);
  else lanyard_close(worker, LANYARD_DISCARD);
  for (int v = 0; v < VISITORS; v++) thread_join(&threads[v]);
  CHECK(!lanyard__executor_acquire(worker));
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  for (int v = 0; v < VISITORS; v++)
    for (int i = 0; i < VISITS; i++) CHECK_EQUAL(visits[v][i].ran, visits[v][i].came);
  if (asks) await_answer(&one);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  if (asks) sem_destroy(&one.told);
}

TEST(acquire_racing_the_end) {
  for (uint64_t i = scaled(700); i > 0; i--) race_the_end();
}

TEST(acquire_racing_the_end_with_pauses_in_odd_places) {
  chaos_begin();
  for (uint64_t i = scaled(300); i > 0; i--) race_the_end();
}

/* ---------------------------------------------------------------- where the last executor is released */

static void release_in_job(void *variable, void *executor) {
  (void)executor;
  lanyard__executor_release(variable);
}

TEST(release_of_the_last_executor_on_the_worker_itself) {
  for (int closed = 0; closed < 2; closed++)
    for (int owned = 0; owned < 2; owned++) {
      test_latch latch;
      burst all = {0};
      sem_t over;
      if (sem_init(&over, 0, 0) != 0) abort();
      lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
      if (closed) drain_and_keep(worker);
      hold_in_job(worker, &latch);
      enqueue(worker, release_in_job, &executor);
      enqueue(worker, begin_burst, &all);
      enqueue(worker, count_job, NULL); /* before its release too, so it runs */
      enqueue(worker, post_job, &over);
      if (!owned) lanyard_release(&worker);
      latch_open(&latch);
      await_post(&over);
      CHECK(executor == NULL);
      if (owned) close_and_release(&worker);
      await_no_worker();
      CHECK_EQUAL(all.next, 1);
      sem_destroy(&over);
      latch_destroy(&latch);
    }
}

/* Its own thread makes itself an executor, more than once, and has jobs of its own behind it. */
typedef struct nested {
  lanyard_worker *worker, *executors[3];
  unsigned depth;
  sem_t over;
} nested;

static void nest(void *argument, void *executor) {
  (void)executor;
  nested *self = argument;
  if (self->depth < 3) {
    self->executors[self->depth++] = acquire(self->worker);
    CHECK_EQUAL(lanyard__enqueue(self->worker, nest, self, &nobody), LANYARD_OK);
    return;
  }
  for (int i = 0; i < 3; i++) lanyard__executor_release(&self->executors[i]);
  sem_post(&self->over);
}

TEST(release_of_several_executors_that_a_job_acquired) {
  nested self = {.worker = open_sleepy(4)};
  if (sem_init(&self.over, 0, 0) != 0) abort();
  lanyard_worker *executor = acquire(self.worker);
  drain_and_keep(self.worker);
  enqueue(self.worker, nest, &self);
  await_jobs(self.worker);
  lanyard__executor_release(&executor);
  await_post(&self.over);
  close_and_release(&self.worker);
  CHECK_EQUAL(self.depth, 3);
  sem_destroy(&self.over);
}

static void release_executor(void *variable) { lanyard__executor_release(variable); }
static void release_worker(void *variable) { lanyard_release(variable); }

static void close_somehow(void *argument) {
  lanyard_worker *worker = argument;
  lanyard_status status = lanyard_close(worker, LANYARD_DRAIN);
  CHECK(status == LANYARD_OK || status == LANYARD_CLOSING);
  lanyard_release(&worker);
}

/* Every way to let go at once: of the executor on another thread or in a job, of the worker, with a close and
 * an asynchronous one. */
static void race_the_releases(void) {
  test_thread threads[3];
  answer one;
  visitor visits[2];
  uint64_t number = random_number();
  bool in_job = number % 2, closes = number / 2 % 2, asks = number / 4 % 2;
  lanyard_worker *worker = open_sleepy(4), *first = acquire(worker), *second = acquire(worker);
  for (int i = 0; i < 2; i++) {
    begin_visit(&visits[i], worker);
    enqueue(worker, count_visit, &visits[i]);
  }
  if (asks) close_async(&one, worker, LANYARD_DRAIN);
  thread_start(&threads[0], "releaser", release_executor, &first);
  if (in_job) enqueue(worker, release_in_job, &second);
  else thread_start(&threads[1], "releaser", release_executor, &second);
  if (closes) thread_start(&threads[2], "closer", close_somehow, lanyard_retain(worker));
  release_worker(&worker);
  thread_join(&threads[0]);
  if (!in_job) thread_join(&threads[1]);
  if (closes) thread_join(&threads[2]);
  if (asks) await_answer(&one);
  await_no_worker();
  for (int i = 0; i < 2; i++) CHECK_EQUAL(visits[i].ran, 1);
  CHECK(first == NULL && second == NULL);
  if (asks) sem_destroy(&one.told);
}

TEST(release_of_executors_racing_close_and_the_last_reference) {
  for (uint64_t i = scaled(1500); i > 0; i--) race_the_releases();
}

TEST(release_of_executors_racing_close_with_pauses_in_odd_places) {
  chaos_begin();
  for (uint64_t i = scaled(300); i > 0; i--) race_the_releases();
}

/* Between counting out and letting go of its reference. */
TEST(release_held_in_the_middle_keeps_the_worker) {
  test_thread releaser;
  burst all = {0};
  watch_begin();
  lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
  enqueue(worker, begin_burst, &all);
  enqueue(worker, count_job, NULL);
  drain_and_keep(worker);
  await_sleepers(&worker->park.word, 1);
  gate_arm(0, "releaser", "executor_released");
  thread_start(&releaser, "releaser", release_executor, &executor);
  gate_await(0);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT); /* nobody has told it yet */
  CHECK(!lanyard__executor_acquire(worker));
  CHECK_EQUAL(all.next, 1);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_live_count(), 1); /* the executor's is the last reference */
  gate_open(0);
  thread_join(&releaser);
  CHECK_EQUAL(lanyard_live_count(), 0);
  watch_end();
}

/* An executor is an owner: only that keeps the worker here. */
TEST(release_by_all_others_leaves_the_executor_an_open_worker) {
  burst all = {0};
  lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
  enqueue(worker, begin_burst, &all);
  lanyard_release(&worker);
  CHECK_EQUAL(lanyard_live_count(), 1);
  CHECK(!lanyard_is_closed(executor));
  enqueue(executor, count_job, NULL);
  CHECK_EQUAL(lanyard_call(executor, nothing, NULL), LANYARD_OK);
  lanyard__executor_release(&executor); /* the last owner too: it closes, drains, and joins */
  CHECK_EQUAL(all.next, 1);
  CHECK_EQUAL(lanyard_live_count(), 0);
}

/* helgrind's clocks grow with every thread that there ever was, so its cost grows with the square. */
static uint64_t cycles_of(uint64_t native) { return scaled(tool_is("helgrind") ? native / 4 : native); }

/* Its job makes itself an executor once more, and its next job lets go of both: the last owners, unless
 * whoever opened it comes later. */
typedef struct cycle {
  lanyard_worker *worker, *executors[2];
  test_latch latch;
  bool waits;
  sem_t over;
} cycle;

static void end_cycle(void *argument, void *executor) {
  (void)executor;
  cycle *self = argument;
  if (self->waits) latch_request(&self->latch, LANYARD_OK);
  for (int i = 0; i < 2; i++) lanyard__executor_release(&self->executors[i]);
  sem_post(&self->over);
}

static void begin_cycle(void *argument, void *executor) {
  cycle *self = argument;
  self->executors[1] = acquire(self->worker);
  CHECK_EQUAL(lanyard__enqueue(self->worker, end_cycle, self, executor), LANYARD_OK);
}

TEST_WITHIN(120, cycles_of_last_executors_released_on_the_worker_itself) {
  cycle self = {.waits = false};
  latch_init(&self.latch);
  if (sem_init(&self.over, 0, 0) != 0) abort();
  for (uint64_t cycles = cycles_of(10000), i = 0; i < cycles; i++) {
    lanyard_worker *own = self.worker = open_worker(2);
    self.waits = i % 4 != 3;
    self.executors[0] = acquire(own);
    enqueue(own, begin_cycle, &self);
    lanyard_release(&own);
    if (self.waits) latch_open(&self.latch);
    if (!await_post(&self.over)) abort();
    if (self.waits) latch_await(&self.latch);
  }
  await_no_worker();
  sem_destroy(&self.over);
  latch_destroy(&self.latch);
}

/* The whole life of a worker, on the thread of another one, from a job of it. */
typedef struct lives {
  uint64_t count, ran;
} lives;

static void count_life(void *argument, void *executor) {
  (void)executor;
  ++*(uint64_t *)argument;
}

static void live_often(void *argument, void *executor) {
  (void)executor;
  lives *self = argument;
  for (uint64_t i = 0; i < self->count; i++) {
    lanyard_worker *worker = open_worker(2), *inner = acquire(worker);
    CHECK_EQUAL(lanyard__enqueue(worker, count_life, &self->ran, &nobody), LANYARD_OK);
    if (i % 2) CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_CLOSING);
    lanyard__executor_release(&inner);
    lanyard_release(&worker);
    CHECK_EQUAL(self->ran, i + 1);
  }
}

TEST_WITHIN(120, cycles_of_whole_lives_in_a_job_of_another_worker) {
  lives self = {.count = cycles_of(10000)};
  unsigned base = thread_count();
  lanyard_worker *worker = open_worker(2), *executor = acquire(worker);
  enqueue(worker, live_often, &self);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  CHECK_EQUAL(self.ran, self.count);
  CHECK_EQUAL(lanyard_live_count(), 0);
  CHECK(eventually(threads_are_no_more_than, &base));
}

/* -------------------------------------------------------------------------------------- lazy workers */

TEST(lazy_worker_starts_with_the_first_job) {
  for (int closed = 0; closed < 2; closed++)
    for (int i = 0; i < STARTS; i++) {
      life self = {.start_number = 0, .stop_number = 3};
      entry entries[3];
      counters_start_at(starts[i]);
      lanyard_options options = sleepy_options(4);
      options.lazy = true;
      options.context = &self;
      options.on_start = note_start;
      options.on_stop = note_stop;
      lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
      if (closed) lanyard_close_until(worker, LANYARD_DRAIN, 0);
      CHECK(!has_started(worker));
      CHECK_EQUAL(self.log.count, 0);
      for (int n = 1; n < 3; n++) {
        entries[n] = (entry){&self.log, n};
        if (n == 2 && !closed) submit_note(worker, &entries[n]);
        else enqueue_note(worker, &entries[n]);
      }
      CHECK(has_started(worker));
      CHECK_EQUAL(lanyard_try_submit(worker, closed ? never : nothing, NULL, NULL), closed ? LANYARD_CLOSED : LANYARD_OK);
      lanyard__executor_release(&executor);
      CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
      ran_in_order(&self.log, 4);
      lanyard_release(&worker);
    }
}

TEST(lazy_worker_without_a_job_never_starts) {
  life self = {.start_number = 0};
  lanyard_options options = sleepy_options(4);
  options.lazy = true;
  options.context = &self;
  options.on_start = note_start;
  options.on_stop = note_stop;
  lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
  lanyard__executor_release(&executor);
  executor = acquire(worker);
  CHECK(!has_started(worker));
  lanyard_release(&worker);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_live_count(), 0);
  CHECK_EQUAL(self.log.count, 0);
}

/* The last release joins a thread that a job started behind all closers' backs. */
TEST(lazy_worker_started_after_the_close_is_joined_by_the_last_release) {
  burst all = {0};
  unsigned threads = thread_count();
  lanyard_worker *worker = open_lazy(4), *executor = acquire(worker);
  lanyard_close_until(worker, LANYARD_DRAIN, 0);
  CHECK(lanyard_is_closed(worker));
  enqueue(worker, begin_burst, &all);
  enqueue(worker, count_job, NULL);
  lanyard_release(&worker);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(all.next, 1);
  CHECK_EQUAL(lanyard_live_count(), 0);
  CHECK(eventually(threads_are_no_more_than, &threads));
}

/* Several start it at once: with jobs, requests, timers. */
static void start_it(void *argument) {
  visitor *self = argument;
  CHECK_EQUAL(lanyard__enqueue(self->worker, count_visit, self, &nobody), LANYARD_OK);
}

static void submit_visit(void *argument, lanyard_status outcome) {
  CHECK_EQUAL(outcome, LANYARD_OK);
  count_visit(argument, NULL);
}

static void start_it_with_a_request(void *argument) {
  visitor *self = argument;
  CHECK_EQUAL(lanyard_submit(self->worker, submit_visit, self, NULL), LANYARD_OK);
}

TEST(lazy_worker_started_by_several_at_once_has_one_thread) {
  for (uint64_t i = scaled(400); i > 0; i--) {
    test_thread threads[4];
    visitor visits[4];
    timer timer;
    life self = {.start_number = 0, .stop_number = 1};
    lanyard_options options = sleepy_options(4);
    options.lazy = true;
    options.context = &self;
    options.on_start = note_start;
    options.on_stop = note_stop;
    lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
    for (int n = 0; n < 4; n++) {
      begin_visit(&visits[n], worker);
      thread_start(&threads[n], "starter", n % 2 ? start_it : start_it_with_a_request, &visits[n]);
    }
    set_timer(&timer, worker, after(HOUR));
    for (int n = 0; n < 4; n++) thread_join(&threads[n]);
    lanyard__executor_release(&executor);
    close_and_release(&worker);
    for (int n = 0; n < 4; n++) CHECK_EQUAL(visits[n].ran, 1);
    timer_was_told(&timer, 0, 1);
    ran_in_order(&self.log, 2);
  }
}

/* Naps are counted and cost no time. From before the test opens its worker to its end. */
static _Atomic unsigned naps, long_naps;

static void count_nap(uint64_t duration_ns) {
  atomic_fetch_add(duration_ns == 10 * MILLISECONDS ? &long_naps : &naps, 1u);
  sched_yield();
}

static void naps_begin(void) {
  ly_exempt(&naps, sizeof naps);
  ly_exempt(&long_naps, sizeof long_naps);
  atomic_store(&naps, 0u);
  atomic_store(&long_naps, 0u);
  lanyard__hooks.sleep_ns = count_nap;
}

static void naps_end(void) {
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  lanyard__hooks.sleep_ns = NULL;
}

/* It is asked for ten times in each attempt, and there are as many attempts as it takes. */
TEST(lazy_worker_whose_thread_is_refused_is_waited_for_and_the_job_runs_once) {
  static const unsigned refusals[] = {1, 9, 10, 11, 20, 35};
  naps_begin();
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    burst all = {0};
    lanyard_worker *worker = open_lazy(4), *executor = acquire(worker);
    atomic_store(&long_naps, 0u);
    faults_at("pthread_create", refusals[i]);
    enqueue(worker, begin_burst, &all);
    CHECK_EQUAL(atomic_load(&long_naps), refusals[i] / 10);
    enqueue(worker, count_job, NULL);
    faults_end(NULL);
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
    lanyard__executor_release(&executor);
    close_and_release(&worker);
    CHECK_EQUAL(all.next, 1);
  }
  naps_end();
}

/* What can be refused, is: only a job waits. */
TEST(lazy_worker_whose_thread_is_refused_refuses_timers_and_claims) {
  naps_begin();
  timer timer;
  lanyard_ticket ticket = 4711;
  lanyard_worker *worker = open_lazy(4);
  timer_init(&timer, worker, 1);
  faults_at("pthread_create", 1000);
  CHECK_EQUAL(lanyard__set_timer(worker, 1, tick, &timer), LANYARD_NO_THREAD);
  CHECK_EQUAL(lanyard__thread_error(), EAGAIN);
  CHECK_EQUAL(lanyard__try_claim(worker, &ticket), LANYARD_NO_THREAD);
  CHECK_EQUAL(ticket, 4711);
  faults_at("pthread_attr_init", 1);
  CHECK_EQUAL(lanyard__set_timer(worker, 1, tick, &timer), LANYARD_NO_THREAD);
  CHECK_EQUAL(lanyard__thread_error(), ENOMEM);
  faults_at("pthread_sigmask", 1);
  CHECK_EQUAL(lanyard__try_claim(worker, &ticket), LANYARD_NO_THREAD);
  CHECK_EQUAL(lanyard__thread_error(), EINVAL);
  faults_end(NULL);
  CHECK_EQUAL(lanyard__set_timer(worker, 1, tick, &timer), LANYARD_OK);
  await_post(&timer.told);
  close_and_release(&worker);
  timer_was_told(&timer, 1, 0);
  naps_end();
}

/*   enqueues                        another thread
 *   the thread was refused; naps
 *                                   submits: the thread starts, and runs the job too
 *   finds that there is one */
static test_latch *nap_latch;

static void nap_in_latch(uint64_t duration_ns) {
  if (duration_ns == 10 * MILLISECONDS) latch_request(nap_latch, LANYARD_OK);
  else sched_yield();
}

TEST(lazy_worker_started_by_another_while_a_job_waits_for_its_thread) {
  test_latch latch;
  test_thread starter;
  visitor visit;
  latch_init(&latch);
  nap_latch = &latch;
  lanyard__hooks.sleep_ns = nap_in_latch;
  lanyard_worker *worker = open_lazy(4), *executor = acquire(worker);
  begin_visit(&visit, worker);
  faults_at("pthread_create", 10);
  thread_start(&starter, "starter", start_it, &visit);
  latch_await(&latch);
  CHECK_EQUAL(lanyard_submit(worker, nothing, NULL, NULL), LANYARD_OK);
  await_jobs(worker);
  latch_open(&latch);
  thread_join(&starter);
  faults_end(NULL);
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  CHECK_EQUAL(visit.ran, 1);
  naps_end();
  latch_destroy(&latch);
}

TEST(thread_error_is_that_of_this_thread_and_its_last_failure) {
  naps_begin();
  lanyard_worker *worker = NULL;
  faults_at("pthread_create", 10);
  CHECK_EQUAL(lanyard_open(NULL, &worker), LANYARD_NO_THREAD);
  CHECK_EQUAL(lanyard__thread_error(), EAGAIN);
  faults_end(NULL);
  naps_end();
}

/* ---------------------------------------------------------------------------------------------- fork */

static uint64_t at_once_ns(void) { return 100 * MILLISECONDS * (tool_is("native") ? 1 : 20); }

#define AT_ONCE(expression, wanted) \
  do { \
    uint64_t begin_ = lanyard_now_ns(); \
    CHECK_EQUAL((expression), (wanted)); \
    CHECK(lanyard_now_ns() - begin_ < at_once_ns()); \
  } while (0)

typedef struct inherited {
  lanyard_worker *worker, *executor;
} inherited;

static void destroyed_in_a_child(void *context) {
  (void)context;
  CHECK(false);
}

static void use_the_dead(void *argument) {
  lanyard__hooks.point = NULL;
  inherited *it = argument;
  lanyard_ticket ticket = 4711;
  AT_ONCE(lanyard__enqueue(it->worker, never_job, &nobody, &nobody), LANYARD_FORKED);
  AT_ONCE(lanyard__executor_acquire(it->worker), false);
  AT_ONCE(lanyard__set_timer(it->worker, 0, tick, &nobody), LANYARD_FORKED);
  AT_ONCE(lanyard__try_claim(it->worker, &ticket), LANYARD_FORKED);
  AT_ONCE(lanyard__close_then(it->worker, LANYARD_DRAIN, never, &nobody), LANYARD_FORKED);
  AT_ONCE(lanyard__enqueued(it->worker), 0);
  CHECK_EQUAL(ticket, 4711);
  lanyard_worker *copy = it->executor;
  AT_ONCE((lanyard__executor_release_until(&copy, LANYARD_FOREVER, after(200 * MILLISECONDS)), copy == NULL), true);
  AT_ONCE((lanyard__executor_release(&it->executor), it->executor == NULL), true);
  AT_ONCE((lanyard__release_until(&it->worker, LANYARD_FOREVER, after(200 * MILLISECONDS)), it->worker == NULL), true);
  CHECK_EQUAL(lanyard_live_count(), 0);
}

/* A thread of the parent's, which is not there in a child, holds every lock of the worker. */
typedef struct holder {
  test_thread thread;
  lanyard_worker *worker;
  test_latch latch;
} holder;

static void hold_locks(void *argument) {
  holder *self = argument;
  pthread_mutex_lock(&self->worker->jobs.lock);
  pthread_mutex_lock(&self->worker->lock);
  latch_request(&self->latch, LANYARD_OK);
  pthread_mutex_unlock(&self->worker->lock);
  pthread_mutex_unlock(&self->worker->jobs.lock);
}

/* And a job is pending, a timer is set. */
TEST(fork_in_a_child_everything_is_dead_at_once) {
  for (int lazy = 0; lazy < 2; lazy++) {
    test_latch latch;
    timer timer;
    burst all = {0};
    lanyard_worker *worker = lazy ? open_lazy(4) : open_sleepy(4), *executor = acquire(worker);
    if (!lazy) {
      set_timer(&timer, worker, after(HOUR));
      hold_in_job(worker, &latch);
      enqueue(worker, begin_burst, &all);
    }
    inherited copy = {worker, executor};
    worker->destroy = destroyed_in_a_child; /* nobody else looks at it before the end */
    holder it = {.worker = worker};
    latch_init(&it.latch);
    thread_start(&it.thread, "holder", hold_locks, &it);
    latch_await(&it.latch);
    checks_hold_in_child(use_the_dead, &copy, 20000);
    latch_open(&it.latch);
    thread_join(&it.thread);
    latch_destroy(&it.latch);
    worker->destroy = NULL;
    if (!lazy) {
      latch_open(&latch);
      await_jobs(worker);
    }
    lanyard__executor_release(&executor);
    close_and_release(&worker);
    if (!lazy) timer_was_told(&timer, 0, 1);
    if (!lazy) latch_destroy(&latch);
  }
}

/* A job, or a tick, that forks and wrongly returns in the child: there the copied thread ends, and nothing of
 * what was behind it runs a second time. */
enum { BEHIND = 5 };

typedef struct copies {
  lanyard_worker *worker;
  int pipe[2];
  pid_t child;
  bool rearms;
} copies;

static void fork_here(copies *self) {
  pid_t child = fork();
  if (child == 0) lanyard__hooks.point = NULL;
  else self->child = child;
}

static void fork_in_job(void *argument, void *executor) {
  (void)executor;
  fork_here(argument);
}

static void tell_the_process(const copies *self) {
  pid_t process = getpid();
  if (write(self->pipe[1], &process, sizeof process) != sizeof process) abort();
}

static void tell_in_job(void *argument, void *executor) {
  (void)executor;
  tell_the_process(argument);
}

static void tell_in_request(void *argument, lanyard_status outcome) {
  (void)outcome;
  tell_the_process(argument);
}

static uint64_t fork_in_tick(void *argument, lanyard_status outcome) {
  copies *self = argument;
  bool first = self->child == 0;
  (void)outcome;
  if (first) fork_here(self);
  else tell_the_process(self);
  return self->rearms && first ? 1 : 0;
}

static uint64_t tell_in_tick(void *argument, lanyard_status outcome) {
  (void)outcome;
  tell_the_process(argument);
  return 0;
}

static void tell_at_stop(void *context) { tell_the_process(context); }

static int await_process(pid_t child) {
  int status = 0;
  for (uint64_t deadline = after(10 * SECONDS * (tool_is("native") ? 1 : 10)); waitpid(child, &status, WNOHANG) == 0; usleep(500))
    if (lanyard_now_ns() > deadline) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return -1;
    }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* What the child's process would have told again. */
static void check_copies(copies *self, unsigned wanted) {
  CHECK(self->child > 0);
  CHECK_EQUAL(await_process(self->child), 0);
  close(self->pipe[1]);
  unsigned here = 0, elsewhere = 0;
  for (pid_t process; read(self->pipe[0], &process, sizeof process) == sizeof process;)
    process == getpid() ? here++ : elsewhere++;
  close(self->pipe[0]);
  CHECK_EQUAL(here, wanted);
  CHECK_EQUAL(elsewhere, 0);
}

static void fork_begin(copies *self, test_latch *latch) {
  *self = (copies){.child = 0};
  if (pipe(self->pipe) != 0) abort();
  lanyard_options options = sleepy_options(16);
  options.context = self;
  options.on_stop = tell_at_stop;
  self->worker = open_with(&options);
  latch_init(latch);
}

static void put_behind(copies *self) {
  for (int i = 0; i < BEHIND; i++) {
    enqueue(self->worker, tell_in_job, self);
    CHECK_EQUAL(lanyard_submit(self->worker, tell_in_request, self, NULL), LANYARD_OK);
    CHECK_EQUAL(lanyard__set_timer(self->worker, after(HOUR), tell_in_tick, self), LANYARD_OK);
  }
}

static void job_that_forks(void *closed) {
  copies it;
  test_latch latch;
  fork_begin(&it, &latch);
  lanyard_worker *executor = acquire(it.worker);
  if (*(bool *)closed) {
    drain_and_keep(it.worker);
    hold_in_job(it.worker, &latch);
    enqueue(it.worker, fork_in_job, &it);
    for (int i = 0; i < 3 * BEHIND; i++) enqueue(it.worker, tell_in_job, &it);
  } else {
    hold(it.worker, &latch);
    enqueue(it.worker, fork_in_job, &it);
    put_behind(&it);
  }
  latch_open(&latch);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  check_copies(&it, 3 * BEHIND + 1);
  lanyard_release(&it.worker);
  latch_destroy(&latch);
}

/* Called in time, called again in the child, and called because of a close. */
static void tick_that_forks(void *how) {
  copies it;
  test_latch latch;
  fork_begin(&it, &latch);
  lanyard_worker *executor = acquire(it.worker);
  bool at_close = *(int *)how == 2;
  it.rearms = *(int *)how == 1;
  hold(it.worker, &latch);
  CHECK_EQUAL(lanyard__set_timer(it.worker, at_close ? after(HOUR) - SECONDS : 1, fork_in_tick, &it), LANYARD_OK);
  put_behind(&it);
  latch_open(&latch);
  await_jobs(it.worker);
  CHECK_EQUAL(lanyard_call(it.worker, nothing, NULL), LANYARD_OK);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  check_copies(&it, 3 * BEHIND + 1 + it.rearms);
  lanyard_release(&it.worker);
  latch_destroy(&latch);
}

/* The child of a worker's thread ends by exit(), which no sanitizer and neither race detector can do there. */
static void fork_and_live(void (*function)(void *), void *argument) {
  if (SANITIZED || tool_is("helgrind") || tool_is("drd"))
    left_out("a child that lives on", "the tool's own state does not survive the fork");
  else checks_hold_in_child(function, argument, 30000);
}

TEST(fork_in_a_job_that_returns_in_the_child) {
  for (int closed = 0; closed < 2; closed++) fork_and_live(job_that_forks, &(bool){closed});
}

TEST(fork_in_a_tick_that_returns_in_the_child) {
  for (int how = 0; how < 3; how++) fork_and_live(tick_that_forks, &how);
}

/* -------------------------------------------------------------------------------------------- timers */

/* Hours pass when the test says so. Together with watch_begin(), whose sleeps look at this clock. */
static _Atomic uint64_t clock_ahead_ns;
static uint64_t frozen_ns; /* 0: it goes on by itself too */

static uint64_t clock_now(void) {
  return (frozen_ns == 0 ? ly_clock_ns(CLOCK_MONOTONIC) : frozen_ns) +
         atomic_load_explicit(&clock_ahead_ns, memory_order_relaxed);
}

static void clock_begin(void) {
  watch_begin();
  ly_exempt(&clock_ahead_ns, sizeof clock_ahead_ns);
  atomic_store_explicit(&clock_ahead_ns, 0, memory_order_relaxed);
  lanyard__hooks.now_ns = clock_now;
}

static void pass_ns(uint64_t duration_ns) {
  atomic_fetch_add_explicit(&clock_ahead_ns, duration_ns, memory_order_relaxed);
}

static void pass_hours(uint64_t hours) { pass_ns(hours * HOUR); }

static void clock_end(void) {
  frozen_ns = 0;
  watch_end();
  lanyard__hooks.now_ns = NULL;
}

/* Set in any order, also at equal times: those go in the order in which they were set. */
TEST(timers_run_in_order_of_their_deadlines_and_not_before_them) {
  static const int hours[] = {5, 1, 3, 3, 2, 5, 1, 4, 3};
  static const int place[] = {7, 0, 3, 4, 2, 8, 1, 6, 5};
  enum { COUNT = sizeof hours / sizeof *hours };
  timer timers[COUNT];
  journal log = {0};
  clock_begin();
  lanyard_worker *worker = open_sleepy(4);
  uint64_t begin = lanyard_now_ns();
  for (int i = 0; i < COUNT; i++) {
    timer_init(&timers[i], worker, begin + (uint64_t)hours[i] * HOUR);
    timers[i].log = &log;
    timers[i].number = place[i];
    CHECK_EQUAL(lanyard__set_timer(worker, timers[i].due_ns, tick, &timers[i]), LANYARD_OK);
  }
  for (int hour = 1; hour <= 5; hour++) {
    await_sleepers(&worker->park.word, 1);
    CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
    for (int i = 0; i < COUNT; i++) CHECK(hours[i] < hour || !is_posted(&timers[i].told));
    pass_hours(1);
    for (int i = 0; i < COUNT; i++)
      if (hours[i] == hour) await_post(&timers[i].told);
  }
  close_and_release(&worker);
  ran_in_order(&log, COUNT);
  for (int i = 0; i < COUNT; i++) timer_was_told(&timers[i], 1, 0);
  clock_end();
}

/* The same when all are over at once: one round takes them in order. */
TEST(timers_that_are_all_over_run_in_order_of_their_deadlines) {
  enum { COUNT = 60 };
  for (uint64_t round = scaled(20); round > 0; round--) {
    timer timers[COUNT];
    journal log = {0};
    test_latch latch;
    unsigned order[COUNT];
    lanyard_worker *worker = open_sleepy(4);
    hold(worker, &latch);
    for (unsigned i = 0; i < COUNT; i++) order[i] = i;
    for (unsigned i = COUNT - 1; i > 0; i--) {
      unsigned other = (unsigned)(random_number() % (i + 1)), saved = order[i];
      order[i] = order[other];
      order[other] = saved;
    }
    for (int i = 0; i < COUNT; i++) {
      timer_init(&timers[i], worker, 1000 + 7 * order[i]);
      timers[i].log = &log;
      timers[i].number = (int)order[i];
      CHECK_EQUAL(lanyard__set_timer(worker, timers[i].due_ns, tick, &timers[i]), LANYARD_OK);
    }
    latch_open(&latch);
    for (int i = 0; i < COUNT; i++) await_post(&timers[i].told);
    close_and_release(&worker);
    ran_in_order(&log, COUNT);
    for (int i = 0; i < COUNT; i++) timer_was_told(&timers[i], 1, 0);
    latch_destroy(&latch);
  }
}

/* By the real clock, from several threads, which sleep and wake in between. */
enum { SETTERS = 3, PER_SETTER = 30 };

typedef struct setter {
  test_thread thread;
  lanyard_worker *worker;
  timer timers[PER_SETTER];
} setter;

static void set_some(void *argument) {
  setter *self = argument;
  for (int i = 0; i < PER_SETTER; i++) {
    set_timer(&self->timers[i], self->worker, after(random_number() % (3 * MILLISECONDS)));
    if (random_number() % 4 == 0) usleep((useconds_t)(random_number() % 300));
  }
  for (int i = 0; i < PER_SETTER; i++) await_post(&self->timers[i].told);
}

TEST(timers_of_several_threads_run_once_and_not_too_soon) {
  static setter setters[SETTERS];
  for (uint64_t round = scaled(20); round > 0; round--) {
    lanyard_worker *worker = open_sleepy(4);
    for (int i = 0; i < SETTERS; i++) {
      setters[i].worker = worker;
      thread_start(&setters[i].thread, "setter", set_some, &setters[i]);
    }
    for (int i = 0; i < SETTERS; i++) thread_join(&setters[i].thread);
    close_and_release(&worker);
    for (int i = 0; i < SETTERS; i++)
      for (int n = 0; n < PER_SETTER; n++) timer_was_told(&setters[i].timers[n], 1, 0);
  }
}

/* Called again at the times that it asks for, between others; and when it asks no more, no more. */
TEST(timer_that_wants_to_be_called_again) {
  timer every, other;
  journal log = {0};
  clock_begin();
  lanyard_worker *worker = open_sleepy(4);
  uint64_t begin = lanyard_now_ns();
  timer_init(&every, worker, begin + HOUR);
  every.every_ns = 2 * HOUR;
  every.more = 2; /* at 1, 3, 5 */
  every.log = &log;
  timer_init(&other, worker, begin + 2 * HOUR);
  other.every_ns = 2 * HOUR;
  other.more = 1; /* at 2, 4 */
  other.log = &log;
  other.number = 1;
  CHECK_EQUAL(lanyard__set_timer(worker, other.due_ns, tick, &other), LANYARD_OK);
  CHECK_EQUAL(lanyard__set_timer(worker, every.due_ns, tick, &every), LANYARD_OK);
  for (int hour = 1; hour <= 5; hour++) {
    pass_hours(1);
    await_post(hour % 2 ? &every.told : &other.told);
  }
  pass_hours(10);
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  await_endless_sleepers(&worker->park.word, 1); /* there is none left to wake for */
  close_and_release(&worker);
  CHECK_EQUAL(log.count, 5);
  for (int i = 0; i < 5; i++) CHECK_EQUAL(log.numbers[i], i % 2);
  timer_was_told(&every, 3, 0);
  timer_was_told(&other, 2, 0);
  clock_end();
}

/* A tick that is over again at once: it has one turn in each round, and the others have theirs. */
typedef struct hasty {
  _Atomic bool over;
  uint64_t turns, next_ns;
  sem_t ended;
} hasty;

static uint64_t tick_again(void *argument, lanyard_status outcome) {
  hasty *self = argument;
  self->turns++;
  if (outcome == LANYARD_OK && !atomic_load(&self->over)) return self->next_ns == 0 ? lanyard_now_ns() : self->next_ns;
  sem_post(&self->ended);
  return 0;
}

TEST(timer_that_asks_for_the_past_starves_nobody) {
  for (uint64_t next_ns = 0; next_ns < 2; next_ns++) {
    hasty self = {.next_ns = next_ns};
    timer other;
    ly_exempt(&self.over, sizeof self.over);
    if (sem_init(&self.ended, 0, 0) != 0) abort();
    lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
    CHECK_EQUAL(lanyard__set_timer(worker, 0, tick_again, &self), LANYARD_OK);
    for (uint64_t i = scaled(100); i > 0; i--) {
      CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
      await_jobs(worker);
    }
    set_timer(&other, worker, after(MILLISECONDS));
    await_post(&other.told);
    CHECK(!is_posted(&self.ended));
    drain_and_keep(worker); /* nor a close */
    CHECK(is_posted(&self.ended));
    lanyard__executor_release(&executor);
    close_and_release(&worker);
    CHECK(self.turns > 1);
    timer_was_told(&other, 1, 0);
    sem_destroy(&self.ended);
  }
}

typedef struct chain {
  lanyard_worker *worker;
  _Atomic bool over;
  sem_t ended;
} chain;

static uint64_t set_the_next(void *argument, lanyard_status outcome) {
  chain *self = argument;
  if (outcome != LANYARD_OK || atomic_load(&self->over) ||
      lanyard__set_timer(self->worker, 1, set_the_next, self) != LANYARD_OK)
    sem_post(&self->ended);
  return 0;
}

TEST(timer_that_sets_the_next_one_in_the_past_starves_nobody) {
  chain self = {.worker = open_sleepy(4)};
  test_latch latch;
  answer one = {.count = 0};
  if (sem_init(&self.ended, 0, 0) != 0 || sem_init(&one.told, 0, 0) != 0) abort();
  ly_exempt(&self.over, sizeof self.over);
  hold(self.worker, &latch);
  CHECK_EQUAL(lanyard__set_timer(self.worker, 1, set_the_next, &self), LANYARD_OK);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_submit(self.worker, take_answer, &one, NULL), LANYARD_OK);
  for (int i = 0; i < 1000 && !is_answered(&one); i++) usleep(1000);
  CHECK(is_answered(&one)); /* within a second */
  atomic_store(&self.over, true);
  await_post(&self.ended);
  close_and_release(&self.worker);
  sem_destroy(&one.told);
  sem_destroy(&self.ended);
  latch_destroy(&latch);
}

/* Where it is set: from a request, a job, a tick, on_start. */
typedef struct from_inside {
  lanyard_worker *worker;
  timer inner;
  uint64_t delay_ns;
  lanyard_status status;
} from_inside;

static void set_inside(from_inside *self) {
  self->inner.due_ns = self->delay_ns == 0 ? 0 : after(self->delay_ns);
  self->status = lanyard__set_timer(self->worker, self->inner.due_ns, tick, &self->inner);
}

static void set_in_request(void *argument, lanyard_status outcome) {
  (void)outcome;
  set_inside(argument);
}

static void set_in_job(void *argument, void *executor) {
  (void)executor;
  set_inside(argument);
}

static uint64_t set_in_tick(void *argument, lanyard_status outcome) {
  (void)outcome;
  set_inside(argument);
  return 0;
}

TEST(timer_set_on_the_worker_itself) {
  for (int where = 0; where < 3; where++)
    for (int i = 0; i < 3; i++) {
      timer far;
      from_inside self = {.worker = open_sleepy(4), .delay_ns = (uint64_t)i * 500000};
      lanyard_worker *executor = acquire(self.worker);
      timer_init(&self.inner, self.worker, 0);
      set_timer(&far, self.worker, after(HOUR));
      if (where == 0) CHECK_EQUAL(lanyard_submit(self.worker, set_in_request, &self, NULL), LANYARD_OK);
      else if (where == 1) enqueue(self.worker, set_in_job, &self);
      else CHECK_EQUAL(lanyard__set_timer(self.worker, 1, set_in_tick, &self), LANYARD_OK);
      await_post(&self.inner.told);
      lanyard__executor_release(&executor);
      close_and_release(&self.worker);
      CHECK_EQUAL(self.status, LANYARD_OK);
      timer_was_told(&self.inner, 1, 0);
      timer_was_told(&far, 0, 1);
    }
}

TEST(timer_set_from_elsewhere_with_an_earlier_deadline_than_the_one_slept_for) {
  timer timers[4];
  clock_begin();
  lanyard_worker *worker = open_sleepy(4);
  for (int i = 3; i >= 0; i--) {
    set_timer(&timers[i], worker, after((uint64_t)(i + 1) * HOUR));
    await_sleepers(&worker->park.word, 1);
  }
  for (int i = 0; i < 4; i++) {
    for (int later = i; later < 4; later++) CHECK(!is_posted(&timers[later].told));
    pass_hours(1);
    await_post(&timers[i].told);
  }
  close_and_release(&worker);
  for (int i = 0; i < 4; i++) timer_was_told(&timers[i], 1, 0);
  clock_end();
}

/* Told once that it will not be, before on_stop; then refused. */
typedef struct dropping {
  life life;
  timer timers[4];
  entry request, job;
} dropping;

static void drop_by(lanyard_close_mode mode, bool keeps) {
  static const uint64_t far[] = {1, 7, 1000, 0}; /* hours; 0: never */
  dropping self = {.life = {.start_number = 0, .stop_number = 6}};
  test_latch latch;
  lanyard_options options = sleepy_options(4);
  options.context = &self.life;
  options.on_start = note_start;
  options.on_stop = note_stop;
  lanyard_worker *worker = open_with(&options), *executor = keeps ? acquire(worker) : NULL;
  hold(worker, &latch);
  for (int i = 3; i >= 0; i--) {
    uint64_t due_ns = far[i] == 0 ? LANYARD_FOREVER : after(far[i] * HOUR);
    timer_init(&self.timers[i], worker, due_ns);
    self.timers[i].log = &self.life.log;
    self.timers[i].number = i + (keeps ? 1 : 2);
    CHECK_EQUAL(lanyard__set_timer(worker, due_ns, tick, &self.timers[i]), LANYARD_OK);
  }
  self.request = (entry){&self.life.log, 1};
  if (!keeps) submit_note(worker, &self.request);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard__set_timer(worker, 1, tick, &nobody), LANYARD_CLOSED); /* before they are dropped too */
  latch_open(&latch);
  if (keeps) {
    CHECK_EQUAL(lanyard_close(worker, mode), LANYARD_CLOSING);
    for (int i = 0; i < 4; i++) CHECK(is_posted(&self.timers[i].told)); /* the thread stays, and they are gone */
    CHECK_EQUAL(lanyard__set_timer(worker, 1, tick, &nobody), LANYARD_CLOSED);
    self.job = (entry){&self.life.log, 5};
    enqueue_note(worker, &self.job);
    lanyard__executor_release(&executor);
  }
  CHECK_EQUAL(lanyard_close(worker, mode), LANYARD_OK);
  CHECK_EQUAL(lanyard__set_timer(worker, 1, tick, &nobody), LANYARD_CLOSED);
  ran_in_order(&self.life.log, 7);
  for (int i = 0; i < 4; i++) timer_was_told(&self.timers[i], 0, 1);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

TEST(timers_are_told_of_a_drain_once_and_before_on_stop) { drop_by(LANYARD_DRAIN, false); }
TEST(timers_are_told_of_a_drain_though_an_executor_keeps_the_thread) {
  drop_by(LANYARD_DRAIN, true);
  drop_by(LANYARD_DISCARD, true);
}

TEST(timers_are_told_of_a_discard_and_of_a_last_release) {
  for (int how = 0; how < 2; how++) {
    timer timers[3];
    lanyard_worker *worker = open_sleepy(4);
    for (int i = 0; i < 3; i++) set_timer(&timers[i], worker, after(HOUR));
    if (how) CHECK_EQUAL(lanyard_close(worker, LANYARD_DISCARD), LANYARD_OK);
    lanyard_release(&worker); /* a timer is no owner */
    CHECK_EQUAL(lanyard_live_count(), 0);
    for (int i = 0; i < 3; i++) timer_was_told(&timers[i], 0, 1);
  }
}

/* It is over when the worker closes: once more in time, or told; not both, and not after. */
TEST(timer_that_is_over_when_the_worker_closes_is_told_once) {
  for (int rearms = 0; rearms < 2; rearms++) {
    timer self;
    test_latch latch;
    lanyard_worker *worker = open_sleepy(4);
    hold(worker, &latch);
    timer_init(&self, worker, 1);
    self.more = rearms ? 1000 : 0;
    CHECK_EQUAL(lanyard__set_timer(worker, 1, tick, &self), LANYARD_OK);
    CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
    latch_open(&latch);
    close_and_release(&worker);
    CHECK_EQUAL(self.ok, 0);
    timer_was_told(&self, 0, 1);
    latch_destroy(&latch);
  }
}

/* A tick that closes, and wants to be called again: it is told. */
static uint64_t close_in_tick(void *argument, lanyard_status outcome) {
  from_inside *self = argument;
  if (outcome == LANYARD_OK) {
    self->status = lanyard_close(self->worker, LANYARD_DRAIN);
    self->inner.ok++;
    return 1;
  }
  self->inner.closed++;
  CHECK_EQUAL(lanyard__set_timer(self->worker, 1, tick, &nobody), LANYARD_CLOSED);
  return 1; /* which nobody asks for any more */
}

TEST(timer_that_closes_the_worker_is_told_so_once) {
  from_inside self = {.worker = open_sleepy(4)};
  timer_init(&self.inner, self.worker, 0);
  CHECK_EQUAL(lanyard__set_timer(self.worker, 1, close_in_tick, &self), LANYARD_OK);
  CHECK(eventually(thread_is_gone, self.worker)); /* without more help */
  close_and_release(&self.worker);
  CHECK_EQUAL(self.status, LANYARD_CLOSING);
  timer_was_told(&self.inner, 1, 1);
}

/*   sets a timer                    the worker
 *   is not closed; held at each access
 *                                   closes, drops the timers, ends
 *   is refused, or told */
typedef struct attempt {
  lanyard_worker *worker;
  timer timer;
  lanyard_status status;
  _Atomic bool over;
} attempt;

static void try_timer(void *argument) {
  attempt *self = argument;
  self->status = lanyard__set_timer(self->worker, self->timer.due_ns, tick, &self->timer);
  atomic_store(&self->over, true);
}

static bool attempt_is_over(void *self) { return atomic_load(&((attempt *)self)->over); }

static void begin_attempt(attempt *self, lanyard_worker *worker, uint64_t due_ns) {
  *self = (attempt){.worker = worker};
  timer_init(&self->timer, worker, due_ns);
  ly_exempt(&self->over, sizeof self->over);
}

/* After the worker's end. */
static void was_told_once_or_refused(attempt *self) {
  CHECK(self->status == LANYARD_OK || self->status == LANYARD_CLOSED);
  CHECK_EQUAL(self->timer.ok + self->timer.closed, self->status == LANYARD_OK);
  timer_was_told(&self->timer, self->timer.ok, self->timer.closed);
}

static bool set_timer_in_steps(unsigned k) {
  test_thread thread;
  attempt self;
  lanyard_worker *worker = k % 2 ? open_lazy(4) : open_sleepy(4);
  begin_attempt(&self, worker, after(HOUR));
  steps_arm("setter", k / 2);
  thread_start(&thread, "setter", try_timer, &self);
  bool held = steps_await(attempt_is_over, &self);
  lanyard_status status = lanyard_close_until(worker, LANYARD_DRAIN, after(20 * MILLISECONDS));
  CHECK(status == LANYARD_OK || status == LANYARD_TIMED_OUT); /* it may hold the lock that a start needs */
  if (held) steps_go();
  thread_join(&thread);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  was_told_once_or_refused(&self);
  lanyard_release(&worker);
  return held;
}

TEST(timer_held_at_every_step_is_refused_or_told_of_the_close) {
  steps_begin();
  unsigned k = 0, count = 0;
  for (unsigned ends = 0; ends < 2; k = next_step(k), count++) ends = set_timer_in_steps(k) ? 0 : ends + 1;
#if !LANYARD_COVERAGE
  if (scaled(100) >= 100) CHECK(count > 10);
#endif
  steps_end();
}

enum { ATTEMPTS = 8 };

static void try_timers(void *argument) {
  attempt *attempts = argument;
  for (int i = 0; i < ATTEMPTS; i++) try_timer(&attempts[i]);
}

static void race_timers_and_close(void) {
  attempt attempts[2][ATTEMPTS];
  test_thread threads[2];
  uint64_t number = random_number();
  lanyard_worker *worker = open_sleepy(4), *executor = number % 2 ? acquire(worker) : NULL;
  for (int t = 0; t < 2; t++) {
    for (int i = 0; i < ATTEMPTS; i++) {
      begin_attempt(&attempts[t][i], worker, i % 3 ? after(random_number() % 200000) : after(HOUR));
      attempts[t][i].timer.more = i % 2 ? 0 : 1000000;
      attempts[t][i].timer.every_ns = 20000;
    }
    thread_start(&threads[t], "setter", try_timers, attempts[t]);
  }
  for (uint64_t k = number / 4 % 30000; k > 0; k--) ly_pause();
  CHECK_EQUAL(lanyard_close(worker, number / 2 % 2 ? LANYARD_DRAIN : LANYARD_DISCARD), executor ? LANYARD_CLOSING : LANYARD_OK);
  for (int t = 0; t < 2; t++) thread_join(&threads[t]);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  for (int t = 0; t < 2; t++)
    for (int i = 0; i < ATTEMPTS; i++) {
      attempt *self = &attempts[t][i];
      if (i % 2) was_told_once_or_refused(self);
      else {
        CHECK_EQUAL(self->timer.closed, self->status == LANYARD_OK); /* it wants to be called for ever */
        timer_was_told(&self->timer, self->timer.ok, self->timer.closed);
      }
    }
  lanyard_release(&worker);
}

TEST(timers_racing_close_are_each_told_once) {
  for (uint64_t i = scaled(700); i > 0; i--) race_timers_and_close();
}

TEST(timers_racing_close_with_pauses_in_odd_places) {
  chaos_begin();
  for (uint64_t i = scaled(300); i > 0; i--) race_timers_and_close();
}

/* One that is set while the worker is idle wakes it once; for an hour's rest it sleeps once. */
static uint64_t cpu_ns(pthread_t thread) {
  clockid_t clock;
  if (pthread_getcpuclockid(thread, &clock) != 0) abort();
  return ly_clock_ns(clock);
}

TEST(timer_in_an_hour_costs_no_time_until_then) {
  timer self;
  test_latch latch;
  lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
  hold(worker, &latch);
  set_timer(&self, worker, after(HOUR));
  latch_open(&latch);
  await_asleep(worker);
  usleep(5000);
  uint64_t parks = stats_of(worker).parks, before = cpu_ns(worker->thread);
  usleep(200000);
  CHECK(cpu_ns(worker->thread) - before < 2 * MILLISECONDS * (tool_is_valgrind() ? 20 : 1));
  CHECK(is_asleep(worker));
  CHECK_EQUAL(stats_of(worker).parks, parks);
  lanyard_stats stats = stats_of(worker);
  drain_and_keep(worker);
  await_asleep(worker); /* and so without it */
  before = cpu_ns(worker->thread);
  usleep(100000);
  CHECK(cpu_ns(worker->thread) - before < 2 * MILLISECONDS * (tool_is_valgrind() ? 20 : 1));
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK(stats_of(worker).parks <= stats.parks + 2);
  lanyard_release(&worker);
  timer_was_told(&self, 0, 1);
  latch_destroy(&latch);
}

typedef struct interrupted {
  _Atomic bool in_tick;
  _Atomic unsigned in_tick_calls;
  test_latch latch;
} interrupted;

static void interrupt_it(void *context, void *argument, lanyard_ticket ticket) {
  (void)argument;
  (void)ticket;
  interrupted *self = context;
  if (atomic_load(&self->in_tick)) atomic_fetch_add(&self->in_tick_calls, 1u);
}

static uint64_t stand_in_tick(void *argument, lanyard_status outcome) {
  interrupted *self = argument;
  atomic_store(&self->in_tick, true);
  latch_request(&self->latch, outcome);
  atomic_store(&self->in_tick, false);
  return 0;
}

/* No request is said to run while a tick does: it can be withdrawn, and its interrupt hits nobody else. */
TEST(timer_that_runs_is_not_interrupted_in_place_of_a_request) {
  interrupted self = {.in_tick = false};
  test_latch latch;
  answer one = {.count = 0};
  lanyard_ticket ticket;
  ly_exempt(&self.in_tick, offsetof(interrupted, latch));
  if (sem_init(&one.told, 0, 0) != 0) abort();
  latch_init(&self.latch);
  clock_begin();
  lanyard_options options = sleepy_options(4);
  options.context = &self;
  options.interrupt = interrupt_it;
  lanyard_worker *worker = open_with(&options);
  CHECK_EQUAL(lanyard__set_timer(worker, after(HOUR), stand_in_tick, &self), LANYARD_OK);
  await_sleepers(&worker->park.word, 1); /* it knows when */
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, take_answer, &one, &ticket), LANYARD_OK);
  pass_hours(2);
  latch_open(&latch);
  latch_await(&self.latch); /* a tick runs, no request does */
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  CHECK_EQUAL(atomic_load(&self.in_tick_calls), 0);
  CHECK_EQUAL(one.count, 1);
  CHECK_EQUAL(one.outcome, LANYARD_CANCELLED);
  latch_open(&self.latch);
  close_and_release(&worker);
  sem_destroy(&one.told);
  latch_destroy(&self.latch);
  latch_destroy(&latch);
  clock_end();
}

/* Each park was ended by somebody's wake; one that a deadline ended is no park. */
TEST(timers_that_end_a_sleep_are_not_counted_as_wakes) {
  clock_begin();
  timer self;
  test_latch latch;
  lanyard_worker *worker = open_sleepy(4);
  hold(worker, &latch);
  timer_init(&self, worker, after(HOUR));
  self.every_ns = HOUR;
  self.more = 4;
  CHECK_EQUAL(lanyard__set_timer(worker, self.due_ns, tick, &self), LANYARD_OK);
  latch_open(&latch);
  await_sleepers(&worker->park.word, 1);
  lanyard_stats before = stats_of(worker);
  for (int i = 0; i < 5; i++) {
    pass_hours(1);
    await_post(&self.told);
    if (i < 4) await_sleepers(&worker->park.word, 1);
  }
  lanyard_stats stats = stats_of(worker);
  CHECK_EQUAL(stats.wakes, before.wakes);
  CHECK_EQUAL(stats.parks, before.parks);
  close_and_release(&worker);
  timer_was_told(&self, 5, 0);
  latch_destroy(&latch);
  clock_end();
}

/* --------------------------------------------------------------------------- a submit in two steps */

static lanyard_ticket claim(lanyard_worker *worker) {
  lanyard_ticket ticket = 0;
  CHECK_EQUAL(lanyard__try_claim(worker, &ticket), LANYARD_OK);
  CHECK(ticket != 0);
  return ticket;
}

TEST(claim_takes_a_place_in_the_order_and_publish_fills_it) {
  for (int serves = 0; serves < 2; serves++)
    for (int i = 0; i < STARTS; i++) {
      journal log = {0};
      entry entries[6];
      lanyard_ticket tickets[6];
      lanyard_options options = sleepy_options(8);
      if (serves) options.serve = serve_all;
      counters_start_at(starts[i]);
      lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
      for (int n = 0; n < 6; n++) entries[n] = (entry){&log, n};
      tickets[0] = claim(worker);
      tickets[1] = claim(worker);
      enqueue_note(worker, &entries[2]); /* behind both */
      CHECK_EQUAL(lanyard_submit(worker, note_request, &entries[3], &tickets[3]), LANYARD_OK);
      enqueue_note(worker, &entries[4]);
      tickets[5] = claim(worker);
      CHECK_EQUAL((tickets[1] - tickets[0]) * LY_STEP, LY_STEP); /* times that, they come round like positions */
      CHECK_EQUAL((tickets[3] - tickets[1]) * LY_STEP, LY_STEP);
      CHECK_EQUAL((tickets[5] - tickets[3]) * LY_STEP, LY_STEP);
      lanyard__publish(worker, tickets[5], note_request, &entries[5]);
      lanyard__publish(worker, tickets[1], note_request, &entries[1]);
      usleep(2000);
      CHECK_EQUAL(stats_of(worker).completed, 0); /* nothing passes the first */
      lanyard__publish(worker, tickets[0], note_request, &entries[0]);
      await_jobs(worker);
      CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
      ran_in_order(&log, 6);
      lanyard__executor_release(&executor);
      close_and_release(&worker);
    }
}

TEST(claim_is_refused_like_a_submit) {
  test_latch latch;
  lanyard_ticket ticket = 4711;
  lanyard_worker *worker = open_sleepy(2);
  hold(worker, &latch);
  for (int i = 0; i < 2; i++) lanyard__publish(worker, claim(worker), nothing, NULL);
  CHECK_EQUAL(lanyard__try_claim(worker, &ticket), LANYARD_FULL);
  CHECK_EQUAL(stats_of(worker).refused_full, 1);
  CHECK_EQUAL(stats_of(worker).depth, 2);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  CHECK_EQUAL(lanyard__try_claim(worker, &ticket), LANYARD_CLOSED);
  latch_open(&latch);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard__try_claim(worker, &ticket), LANYARD_CLOSED);
  CHECK_EQUAL(ticket, 4711);
  CHECK_EQUAL(stats_of(worker).submitted, 3);
  CHECK_EQUAL(stats_of(worker).completed, 3);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

/* A slot that was claimed counts: the ring is full of them. */
TEST(claim_of_every_slot_fills_the_ring) {
  lanyard_ticket tickets[2], none = 0;
  lanyard_worker *worker = open_sleepy(2);
  for (int i = 0; i < 2; i++) tickets[i] = claim(worker);
  CHECK_EQUAL(lanyard__try_claim(worker, &none), LANYARD_FULL);
  CHECK_EQUAL(lanyard_try_submit(worker, never, NULL, NULL), LANYARD_FULL);
  for (int i = 1; i >= 0; i--) lanyard__publish(worker, tickets[i], nothing, NULL);
  close_and_release(&worker);
}

TEST(claim_starts_a_lazy_worker) {
  lanyard_worker *worker = open_lazy(2);
  CHECK(!has_started(worker));
  lanyard_ticket ticket = claim(worker);
  CHECK(has_started(worker));
  answer one = {.count = 0};
  if (sem_init(&one.told, 0, 0) != 0) abort();
  lanyard__publish(worker, ticket, take_answer, &one);
  await_answer(&one);
  close_and_release(&worker);
  sem_destroy(&one.told);
}

/*   claims, and stands
 *                                   closes: waits for it
 *   publishes: it was accepted, so it is answered */
static void claim_while_closing(lanyard_close_mode mode) {
  answer one = {.count = 0};
  closer closer;
  watch_begin();
  if (sem_init(&one.told, 0, 0) != 0) abort();
  lanyard_worker *worker = open_sleepy(4);
  lanyard_ticket ticket = claim(worker);
  start_closer(&closer, worker, mode, LANYARD_FOREVER);
  await_turns("worker", 5); /* naps and looks */
  await_sleepers(&worker->phase, 1);
  CHECK(!is_answered(&one));
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, after(MILLISECONDS)), LANYARD_TIMED_OUT);
  lanyard__publish(worker, ticket, take_answer, &one);
  join_closer(&closer, LANYARD_OK);
  CHECK_EQUAL(one.count, 1);
  CHECK_EQUAL(one.outcome, mode == LANYARD_DRAIN ? LANYARD_OK : LANYARD_CLOSED);
  lanyard_release(&worker);
  sem_destroy(&one.told);
  watch_end();
}

TEST(claim_held_while_a_drain_begins_is_waited_for_and_runs) { claim_while_closing(LANYARD_DRAIN); }
TEST(claim_held_while_a_discard_begins_is_waited_for_and_answered) { claim_while_closing(LANYARD_DISCARD); }

/* The ticket is the caller's before anybody can run the request: what belongs to it can be stored. */
typedef struct stored {
  lanyard_worker *worker;
  lanyard_ticket ticket, seen;
} stored;

static void see_ticket(void *argument, lanyard_status outcome) {
  (void)outcome;
  stored *self = argument;
  self->seen = self->ticket;
}

static void claim_in_request(void *argument, lanyard_status outcome) {
  (void)outcome;
  stored *self = argument;
  CHECK_EQUAL(lanyard__try_claim(self->worker, &self->ticket), LANYARD_OK);
  lanyard__publish(self->worker, self->ticket, see_ticket, self);
}

TEST(claim_gives_the_ticket_before_the_request_can_run) {
  stored outside = {.ticket = 0}, inside = {.ticket = 0};
  lanyard_worker *worker = outside.worker = inside.worker = open_sleepy(4);
  outside.ticket = claim(worker);
  lanyard__publish(worker, outside.ticket, see_ticket, &outside);
  CHECK_EQUAL(lanyard_submit(worker, claim_in_request, &inside, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  CHECK_EQUAL(outside.seen, outside.ticket);
  CHECK_EQUAL(inside.seen, inside.ticket);
  CHECK_EQUAL(lanyard_cancel(worker, inside.ticket), LANYARD_TOO_LATE);
  close_and_release(&worker);
}

TEST(claim_that_was_published_can_be_cancelled) {
  answer one = {.count = 0};
  test_latch latch;
  lanyard_worker *worker = open_sleepy(4);
  if (sem_init(&one.told, 0, 0) != 0) abort();
  hold(worker, &latch);
  lanyard_ticket ticket = claim(worker);
  lanyard__publish(worker, ticket, take_answer, &one);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_OK);
  CHECK_EQUAL(one.count, 1);
  CHECK_EQUAL(one.outcome, LANYARD_CANCELLED);
  CHECK_EQUAL(lanyard_cancel(worker, ticket), LANYARD_TOO_LATE);
  latch_open(&latch);
  close_and_release(&worker);
  CHECK_EQUAL(one.count, 1);
  sem_destroy(&one.told);
  latch_destroy(&latch);
}

/* -------------------------------------------------------------- a last release that does not wait for ever */

static uint64_t now_or_never(bool never_waits) { return never_waits ? 0 : after(5 * MILLISECONDS); }

static unsigned destroyed_count;
static void *destroyed_context;

static void count_destroyed(void *context) {
  destroyed_count++;
  destroyed_context = context;
}

static lanyard_worker *open_counted(lanyard_options options) {
  options.context = &destroyed_context;
  if (options.destroy == NULL) options.destroy = count_destroyed;
  destroyed_count = 0;
  destroyed_context = NULL;
  return open_with(&options);
}

static void was_destroyed_once(void) {
  CHECK_EQUAL(destroyed_count, 1);
  CHECK(destroyed_context == &destroyed_context);
}

TEST(release_until_a_deadline_that_passes_leaves_the_rest_to_quiesce) {
  for (int never_waits = 0; never_waits < 2; never_waits++) {
    test_latch latch;
    burst all = {0};
    unsigned base = thread_count();
    lanyard_worker *worker = open_counted(sleepy_options(4)), *stays = worker, *executor = acquire(worker);
    hold(worker, &latch);
    enqueue(worker, begin_burst, &all);
    enqueue(worker, count_job, NULL);
    lanyard__executor_release(&executor);
    uint64_t deadline_ns = now_or_never(never_waits);
    lanyard__release_until(&worker, deadline_ns, after(200 * MILLISECONDS));
    CHECK(lanyard_now_ns() >= deadline_ns);
    CHECK(worker == NULL);
    CHECK_EQUAL(lanyard_live_count(), 1);
    CHECK(lanyard_is_closed(stays)); /* buried, not gone */
    CHECK_EQUAL(lanyard_quiesce(0), 1);
    CHECK_EQUAL(destroyed_count, 0);
    CHECK_EQUAL(all.next, 0);
    latch_open(&latch);
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0); /* a drain, as ever */
    CHECK_EQUAL(all.next, 1);
    was_destroyed_once();
    CHECK(eventually(threads_are_no_more_than, &base));
    latch_destroy(&latch);
  }
}

/* The next open, and the next last release, join it as well. */
TEST(release_until_leaves_the_rest_to_the_next_open_or_last_release) {
  for (int opens = 0; opens < 2; opens++) {
    test_latch latch;
    lanyard_worker *other = opens ? NULL : open_sleepy(2), *worker = open_counted(sleepy_options(4));
    lanyard_worker *buried = worker;
    hold(worker, &latch);
    lanyard__release_until(&worker, 0, after(200 * MILLISECONDS));
    latch_open(&latch);
    CHECK(eventually(thread_is_gone, buried));
    CHECK_EQUAL(destroyed_count, 0);
    if (opens) other = open_sleepy(2);
    else lanyard_release(&other);
    was_destroyed_once();
    CHECK_EQUAL(lanyard_live_count(), opens);
    lanyard_release(&other);
    latch_destroy(&latch);
  }
}

/* In time it is as good as a release: joined, with the destructors of the thread's own data. */
static pthread_key_t slow_key;

static void note_slowly(void *over) {
  usleep(20000);
  *(bool *)over = true;
}

static void set_slow(void *over, lanyard_status outcome) {
  if (outcome == LANYARD_OK) CHECK_EQUAL(pthread_setspecific(slow_key, over), 0);
}

TEST(release_until_a_deadline_that_does_not_pass_has_joined) {
  CHECK_EQUAL(pthread_key_create(&slow_key, note_slowly), 0);
  for (int for_ever = 0; for_ever < 2; for_ever++) {
    bool over = false;
    unsigned base = thread_count();
    lanyard_worker *worker = open_counted(sleepy_options(4));
    CHECK_EQUAL(lanyard_call(worker, set_slow, &over), LANYARD_OK);
    lanyard__release_until(&worker, for_ever ? LANYARD_FOREVER : after(HOUR), after(200 * MILLISECONDS));
    CHECK(worker == NULL);
    CHECK(over); /* plain */
    was_destroyed_once();
    CHECK_EQUAL(lanyard_live_count(), 0);
    CHECK(eventually(threads_are_no_more_than, &base));
  }
  pthread_key_delete(slow_key);
}

/* The deadline is for the drain; once the thread has said its last word, its destructors are waited for. */
static test_latch *destructor_latch;

static void stand_in_destructor(void *argument) {
  latch_request(destructor_latch, LANYARD_OK);
  *(bool *)argument = true;
}

static void release_at_once(void *variable) { lanyard__release_until(variable, 0, after(200 * MILLISECONDS)); }

TEST(release_until_of_a_thread_in_its_destructors_waits_for_them) {
  test_latch latch;
  test_thread releaser;
  bool over = false;
  latch_init(&latch);
  destructor_latch = &latch;
  CHECK_EQUAL(pthread_key_create(&slow_key, stand_in_destructor), 0);
  watch_begin();
  lanyard_worker *worker = open_counted(sleepy_options(4));
  CHECK_EQUAL(lanyard_call(worker, set_slow, &over), LANYARD_OK);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  latch_await(&latch);
  thread_start(&releaser, "releaser", release_at_once, &worker);
  await_joiner();
  CHECK_EQUAL(destroyed_count, 0);
  latch_open(&latch);
  thread_join(&releaser);
  CHECK(over);
  was_destroyed_once();
  watch_end();
  pthread_key_delete(slow_key);
  latch_destroy(&latch);
}

TEST(release_until_of_one_of_several_references_waits_for_nothing) {
  test_latch latch;
  lanyard_worker *worker = open_counted(sleepy_options(4)), *other = lanyard_retain(worker);
  hold(worker, &latch);
  lanyard__release_until(&other, LANYARD_FOREVER, after(200 * MILLISECONDS));
  CHECK(other == NULL);
  CHECK(!lanyard_is_closed(worker));
  lanyard_worker *none = NULL;
  lanyard__release_until(&none, LANYARD_FOREVER, after(200 * MILLISECONDS));
  lanyard__release_until(NULL, LANYARD_FOREVER, after(200 * MILLISECONDS));
  CHECK_EQUAL(destroyed_count, 0);
  latch_open(&latch);
  lanyard_release(&worker);
  was_destroyed_once();
  latch_destroy(&latch);
}

/* The deadline is put off by as much again as long as requests end, and no more than 200 ms in all. The clock
 * stands still but for what the test says. */
typedef struct patient {
  lanyard_worker *worker;
  uint64_t deadline_ns;
  _Atomic bool over;
} patient;

static void release_patiently(void *argument) {
  patient *self = argument;
  lanyard__release_until(&self->worker, self->deadline_ns, after(200 * MILLISECONDS));
  atomic_store(&self->over, true);
}

static bool is_over(void *self) { return atomic_load(&((patient *)self)->over); }

enum { DRAINED = 30 };

/* Of the requests, `ends` end, each some time after the one before. How many came to their end before the
 * release gave up; all of them: it did not. */
static int drain_slowly(int ends, uint64_t patience_ns, uint64_t each_ns) {
  test_latch latches[DRAINED + 1];
  test_thread releaser;
  clock_begin();
  frozen_ns = ly_clock_ns(CLOCK_MONOTONIC);
  patient self = {.worker = open_counted(sleepy_options(64)), .deadline_ns = after(patience_ns)};
  ly_exempt(&self.over, sizeof self.over);
  const _Atomic uint32_t *finished = &self.worker->phase;
  for (int i = 0; i < DRAINED; i++) {
    latch_init(&latches[i]);
    CHECK_EQUAL(lanyard_submit(self.worker, latch_request, &latches[i], NULL), LANYARD_OK);
  }
  latch_await(&latches[0]);
  thread_start(&releaser, "releaser", release_patiently, &self);
  if (patience_ns > 0) await_sleepers(finished, 1);
  else thread_join(&releaser);
  int ended = 0;
  while (ended < ends && !is_over(&self)) {
    latch_open(&latches[ended++]);
    if (ended < DRAINED) latch_await(&latches[ended]); /* the one before has been counted */
    else CHECK(eventually(is_over, &self));
    pass_ns(each_ns);
    for (int turn = 0; turn < 12 && !is_over(&self); turn++) usleep(1000); /* its sleeps look every 5 ms */
  }
  if (ended < DRAINED) { /* now nothing ends any more */
    if (ended == ends) pass_ns(patience_ns + 1);
    while (!is_over(&self)) usleep(200);
    CHECK_EQUAL(destroyed_count, 0);
  }
  if (patience_ns > 0) thread_join(&releaser);
  for (int i = ended; i < DRAINED; i++) latch_open(&latches[i]);
  frozen_ns = 0;
  clock_end();
  was_destroyed_once();
  for (int i = 0; i < DRAINED; i++) latch_destroy(&latches[i]);
  return ended;
}

TEST(release_until_goes_on_while_requests_end_and_no_longer_than_its_limit) {
  if (tool_is("helgrind") || tool_is("drd")) {
    left_out("a clock that stands still", "what one thread sleeps is too long there");
    return;
  }
  CHECK_EQUAL(drain_slowly(0, 10 * MILLISECONDS, 0), 0);                               /* hangs */
  CHECK_EQUAL(drain_slowly(4, 10 * MILLISECONDS, 11 * MILLISECONDS), 4);               /* goes on, then hangs */
  CHECK_EQUAL(drain_slowly(DRAINED, 10 * MILLISECONDS, 6 * MILLISECONDS), DRAINED);    /* goes on to its end */
  int ended = drain_slowly(DRAINED, 10 * MILLISECONDS, 11 * MILLISECONDS);             /* beyond the limit */
  CHECK(ended >= 18 && ended <= 24);
  CHECK_EQUAL(drain_slowly(DRAINED, 0, MILLISECONDS), 0);                              /* no patience at all */
}

typedef struct circle {
  lanyard_worker *first, *second;
  uint64_t deadline_ns;
  lanyard_status status;
  sem_t over;
} circle;

static void close_first_in_destructor(void *argument) {
  circle *self = argument;
  self->status = lanyard_close(self->first, LANYARD_DRAIN);
  sem_post(&self->over); /* until then it borrows the reference of the test */
}

static void release_second(void *argument, lanyard_status outcome) {
  (void)outcome;
  circle *self = argument;
  lanyard__release_until(&self->second, self->deadline_ns, after(200 * MILLISECONDS));
}

/* Whoever of the two comes second finds the circle, and does not wait. */
TEST(release_until_that_waits_for_destructors_is_part_of_a_circle) {
  uint64_t deadlines_ns[] = {LANYARD_FOREVER, after(HOUR)};
  for (int i = 0; i < 2; i++) {
    test_latch latch;
    watch_begin();
    circle it = {.first = open_sleepy(4), .second = open_sleepy(4), .deadline_ns = deadlines_ns[i]};
    sem_init(&it.over, 0, 0);
    CHECK_EQUAL(pthread_key_create(&slow_key, close_first_in_destructor), 0);
    CHECK_EQUAL(lanyard_call(it.second, set_slow, &it), LANYARD_OK);
    hold(it.second, &latch);
    const _Atomic uint32_t *finished = &it.second->phase;
    CHECK_EQUAL(lanyard_submit(it.first, release_second, &it, NULL), LANYARD_OK);
    await_sleepers(finished, 1); /* the first waits for the second's end; now the second's destructor for the first's */
    latch_open(&latch);
    CHECK_EQUAL(lanyard_close(it.first, LANYARD_DRAIN), LANYARD_OK);
    while (sem_wait(&it.over) != 0) continue;
    sem_destroy(&it.over);
    lanyard_release(&it.first);
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
    CHECK(it.status == LANYARD_WOULD_DEADLOCK || it.status == LANYARD_OK);
    pthread_key_delete(slow_key);
    latch_destroy(&latch);
    watch_end();
  }
}

static void release_until_in_request(void *variable, lanyard_status outcome) {
  (void)outcome;
  lanyard__release_until(variable, LANYARD_FOREVER, after(200 * MILLISECONDS));
}

TEST(release_until_on_the_worker_itself_does_not_wait) {
  test_latch latch;
  lanyard_worker *worker = open_counted(sleepy_options(4)), *own = lanyard_retain(worker);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, release_until_in_request, &own, NULL), LANYARD_OK);
  lanyard_release(&worker);
  latch_open(&latch);
  await_no_worker();
  CHECK(own == NULL);
  was_destroyed_once();
  latch_destroy(&latch);
}

/* Many, with a deadline that is about as far away as the end. */
TEST(release_until_racing_the_end) {
  for (uint64_t i = scaled(2000); i > 0; i--) {
    visitor visit;
    lanyard_worker *worker = open_counted(sleepy_options(4)), *executor = acquire(worker);
    begin_visit(&visit, worker);
    enqueue(worker, count_visit, &visit);
    lanyard__executor_release(&executor);
    lanyard__release_until(&worker, after(random_number() % 200000), after(200 * MILLISECONDS));
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
    CHECK_EQUAL(visit.ran, 1);
    was_destroyed_once();
  }
}

/* ------------------------------------------------------------------ a close whose end the thread announces */

/* Written by the worker as its last word; whoever has awaited the post sees all of it. */
typedef struct last_word {
  lanyard_worker *worker;
  journal *log;
  int number;
  unsigned count;
  lanyard_status outcome, status;
  bool was_elsewhere;
  sem_t told;
  _Atomic bool over;
} last_word;

static void say_last_word(void *argument, lanyard_status outcome) {
  last_word *self = argument;
  self->count++;
  self->outcome = outcome;
  if (!lanyard_is_current(self->worker)) self->was_elsewhere = true;
  if (self->log != NULL) write_down(self->log, self->number);
  sem_post(&self->told);
}

static void last_word_init(last_word *self, lanyard_worker *worker) {
  *self = (last_word){.worker = worker, .outcome = LANYARD_INVALID, .status = LANYARD_INVALID};
  ly_exempt(&self->over, sizeof self->over);
  if (sem_init(&self->told, 0, 0) != 0) abort();
}

static void close_then(last_word *self, lanyard_worker *worker, lanyard_close_mode mode, lanyard_status wanted) {
  last_word_init(self, worker);
  self->status = lanyard__close_then(worker, mode, say_last_word, self);
  CHECK_EQUAL(self->status, wanted);
}

/* After the worker's end. */
static void was_said(last_word *self, unsigned count) {
  CHECK_EQUAL(self->count, count);
  if (count > 0) CHECK_EQUAL(self->outcome, LANYARD_OK);
  CHECK(!self->was_elsewhere);
  sem_destroy(&self->told);
}

TEST(close_then_calls_as_the_last_thing_that_the_thread_does) {
  for (int mode = LANYARD_DRAIN; mode <= LANYARD_DISCARD; mode++) {
    life self = {.start_number = 0, .stop_number = 2};
    last_word words[3];
    entry job = {&self.log, 1};
    test_latch latch;
    lanyard_options options = sleepy_options(4);
    options.context = &self;
    options.on_start = note_start;
    options.on_stop = note_stop;
    lanyard_worker *worker = open_with(&options), *executor = acquire(worker);
    hold(worker, &latch);
    enqueue_note(worker, &job);
    for (int i = 0; i < 3; i++) {
      close_then(&words[i], worker, (lanyard_close_mode)mode, LANYARD_OK);
      words[i].number = 3; /* all three: no order among them is promised */
      words[i].log = &self.log;
    }
    CHECK(lanyard_is_closed(worker));
    CHECK_EQUAL(lanyard_try_submit(worker, never, NULL, NULL), LANYARD_CLOSED);
    lanyard__executor_release(&executor);
    for (int i = 0; i < 3; i++) CHECK_EQUAL(words[i].count, 0);
    latch_open(&latch);
    for (int i = 0; i < 3; i++) await_post(&words[i].told);
    CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
    CHECK(!self.log.on_several);
    CHECK_EQUAL(self.log.count, 6);
    for (int i = 0; i < 6; i++) CHECK_EQUAL(self.log.numbers[i], i < 3 ? i : 3);
    for (int i = 0; i < 3; i++) was_said(&words[i], 1);
    lanyard_release(&worker);
    latch_destroy(&latch);
  }
}

TEST(close_then_calls_at_the_drain_while_an_executor_lives) {
  last_word before, after_it;
  test_latch latch;
  bool ran = false;
  lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
  hold(worker, &latch);
  CHECK_EQUAL(lanyard_submit(worker, set_flag, &ran, NULL), LANYARD_OK);
  close_then(&before, worker, LANYARD_DRAIN, LANYARD_OK);
  CHECK_EQUAL(lanyard_quiesce(0), 1);
  latch_open(&latch);
  await_post(&before.told);
  CHECK(ran);
  CHECK_EQUAL(before.count, 1);
  close_then(&after_it, worker, LANYARD_DRAIN, LANYARD_TOO_LATE);
  await_jobs(worker); /* the thread is there */
  lanyard__executor_release(&executor);
  close_and_release(&worker);
  was_said(&before, 1); /* not once more at the end */
  was_said(&after_it, 0);
  latch_destroy(&latch);
}

TEST(close_then_is_too_late_when_nothing_is_left_to_wait_for) {
  for (int lazy = 0; lazy < 2; lazy++) {
    last_word word;
    lanyard_worker *worker = lazy ? open_lazy(4) : open_sleepy(4);
    if (!lazy) CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
    close_then(&word, worker, LANYARD_DRAIN, LANYARD_TOO_LATE);
    CHECK(lanyard_is_closed(worker));
    close_and_release(&worker);
    was_said(&word, 0);
  }
}

TEST(close_then_without_memory_begins_nothing) {
  last_word word;
  lanyard_worker *worker = open_sleepy(4);
  faults_at("closing", 1);
  close_then(&word, worker, LANYARD_DRAIN, LANYARD_NO_MEMORY);
  faults_end(NULL);
  CHECK(!lanyard_is_closed(worker));
  CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK);
  close_and_release(&worker);
  was_said(&word, 0);
}

/* Beside asynchronous closes, which another thread answers, and closers that wait. */
TEST(close_then_beside_every_other_close) {
  for (int keeps = 0; keeps < 2; keeps++) {
    last_word words[2];
    answer answers[2];
    closer closers[CLOSERS];
    test_latch latch;
    lanyard_worker *worker = open_sleepy(4), *executor = keeps ? acquire(worker) : NULL;
    hold(worker, &latch);
    for (int i = 0; i < 2; i++) {
      close_then(&words[i], worker, LANYARD_DRAIN, LANYARD_OK);
      close_async(&answers[i], worker, LANYARD_DRAIN);
    }
    start_closers(closers, worker);
    latch_open(&latch);
    for (int i = 0; i < CLOSERS; i++) join_closer(&closers[i], keeps ? LANYARD_CLOSING : LANYARD_OK);
    for (int i = 0; i < 2; i++) {
      await_post(&words[i].told);
      await_answer(&answers[i]);
    }
    lanyard__executor_release(&executor);
    close_and_release(&worker);
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
    for (int i = 0; i < 2; i++) {
      was_said(&words[i], 1);
      sem_destroy(&answers[i].told);
    }
    latch_destroy(&latch);
  }
}

static void close_then_in_request(void *argument, lanyard_status outcome) {
  (void)outcome;
  last_word *self = argument;
  self->status = lanyard__close_then(self->worker, LANYARD_DRAIN, say_last_word, self);
}

TEST(close_then_on_the_worker_itself) {
  last_word word;
  lanyard_worker *worker = open_sleepy(4);
  last_word_init(&word, worker);
  CHECK_EQUAL(lanyard_submit(worker, close_then_in_request, &word, NULL), LANYARD_OK);
  await_post(&word.told);
  CHECK_EQUAL(word.status, LANYARD_OK);
  close_and_release(&worker);
  was_said(&word, 1);
}

TEST(close_then_and_asynchronous_closes_come_after_the_jobs_that_a_last_executor_left) {
  for (int asks = 0; asks < 2; asks++) {
    test_latch latch, second;
    answer one;
    last_word word;
    lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
    hold(worker, &latch);
    latch_init(&second);
    enqueue(worker, latch_job, &second);
    if (asks) close_async(&one, worker, LANYARD_DRAIN);
    else close_then(&word, worker, LANYARD_DRAIN, LANYARD_OK);
    lanyard__executor_release(&executor); /* before the drain: nobody keeps the thread */
    latch_open(&latch);
    latch_await(&second); /* its last job runs */
    usleep(20000);
    if (asks) CHECK(!is_answered(&one)); /* "called after the thread was joined" */
    else CHECK(!is_posted(&word.told));   /* "the last thing that it does" */
    latch_open(&second);
    if (asks) await_answer(&one);
    close_and_release(&worker);
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
    if (asks) sem_destroy(&one.told);
    else was_said(&word, 1);
    latch_destroy(&latch);
    latch_destroy(&second);
  }
}

/* Closes from one thread, ends from others: called once if it was promised, else never. */
static void try_last_word(void *argument) {
  last_word *self = argument;
  self->status = lanyard__close_then(self->worker, LANYARD_DRAIN, say_last_word, self);
}

static void race_last_words(void) {
  test_thread threads[3];
  last_word words[3];
  uint64_t number = random_number();
  lanyard_options options = sleepy_options(4);
  options.lazy = number % 4 == 0;
  lanyard_worker *worker = open_with(&options), *executor = number / 4 % 2 ? acquire(worker) : NULL;
  if (number / 8 % 2) CHECK_EQUAL(lanyard_submit(worker, nothing, NULL, NULL), LANYARD_OK);
  for (int i = 0; i < 3; i++) {
    last_word_init(&words[i], worker);
    thread_start(&threads[i], "closer", try_last_word, &words[i]);
  }
  for (uint64_t k = number / 16 % 20000; k > 0; k--) ly_pause();
  lanyard__executor_release(&executor);
  for (int i = 0; i < 3; i++) thread_join(&threads[i]);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  for (int i = 0; i < 3; i++) {
    CHECK(words[i].status == LANYARD_OK || words[i].status == LANYARD_TOO_LATE);
    was_said(&words[i], words[i].status == LANYARD_OK);
  }
  lanyard_release(&worker);
}

TEST(close_then_racing_the_end) {
  for (uint64_t i = scaled(500); i > 0; i--) race_last_words();
}

static void fork_at_end(void *argument, lanyard_status outcome) {
  (void)outcome;
  copies *self = argument;
  bool first = !self->rearms;
  self->rearms = true;
  if (first) fork_here(self);
  else tell_the_process(self);
}

static void last_word_that_forks(void *keeps) {
  copies it;
  test_latch latch;
  fork_begin(&it, &latch);
  lanyard_worker *executor = *(bool *)keeps ? acquire(it.worker) : NULL;
  hold(it.worker, &latch);
  for (int i = 0; i < 3; i++) CHECK_EQUAL(lanyard__close_then(it.worker, LANYARD_DRAIN, fork_at_end, &it), LANYARD_OK);
  latch_open(&latch);
  if (executor != NULL) await_jobs(it.worker);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(it.worker, LANYARD_DRAIN), LANYARD_OK);
  check_copies(&it, 3);
  lanyard_release(&it.worker);
  latch_destroy(&latch);
}

TEST(fork_in_a_last_word_that_returns_in_the_child) {
  for (int keeps = 0; keeps < 2; keeps++) fork_and_live(last_word_that_forks, &(bool){keeps});
}

/* quiesce() waits for workers that nobody but executors own: their tasks end, and let go of them. */
static void release_soon(void *variable) {
  usleep(20000);
  lanyard__executor_release(variable);
}

TEST(quiesce_waits_for_a_worker_that_only_an_executor_owns) {
  test_thread releaser;
  lanyard_worker *worker = open_counted(sleepy_options(4)), *executor = acquire(worker), *second = acquire(worker);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 1); /* an owner is left: there is nothing to wait for */
  lanyard_release(&worker);
  uint64_t deadline_ns = after(5 * MILLISECONDS);
  CHECK_EQUAL(lanyard_quiesce(deadline_ns), 1);
  CHECK(lanyard_now_ns() >= deadline_ns);
  lanyard__executor_release(&second);
  thread_start(&releaser, "releaser", release_soon, &executor);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  thread_join(&releaser);
  was_destroyed_once();
}

static void quiesce_in_job(void *argument, void *executor) {
  (void)executor;
  waits_for_other *self = argument;
  latch_request(&self->latch, LANYARD_OK);
  uint64_t begin = lanyard_now_ns();
  self->left = lanyard_quiesce(after(2 * SECONDS));
  self->answered = lanyard_now_ns() - begin < SECONDS;
}

TEST(quiesce_in_a_last_job_leaves_its_own_worker_out) {
  waits_for_other it = {.worker = open_sleepy(4)};
  answer first;
  latch_init(&it.latch);
  lanyard_worker *executor = acquire(it.worker);
  drain_and_keep(it.worker);
  enqueue(it.worker, quiesce_in_job, &it);
  latch_await(&it.latch);
  lanyard__executor_release(&executor);
  close_async(&first, it.worker, LANYARD_DRAIN);
  latch_open(&it.latch);
  await_answer(&first);
  CHECK(it.answered); /* "Called on a worker's thread it leaves that worker out" */
  lanyard_release(&it.worker);
  CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
  sem_destroy(&first.told);
  latch_destroy(&it.latch);
}

/* The last executor's release with a deadline, as that of a worker. */
TEST(release_until_of_the_last_executor) {
  for (int in_time = 0; in_time < 2; in_time++) {
    test_latch latch;
    burst all = {0};
    lanyard_worker *worker = open_counted(sleepy_options(4)), *executor = acquire(worker);
    hold_in_job(worker, &latch);
    enqueue(worker, begin_burst, &all);
    enqueue(worker, count_job, NULL);
    lanyard_release(&worker);
    if (in_time) latch_open(&latch);
    lanyard__executor_release_until(&executor, in_time ? after(HOUR) : after(MILLISECONDS), after(200 * MILLISECONDS));
    CHECK(executor == NULL);
    CHECK_EQUAL(destroyed_count, in_time);
    if (!in_time) latch_open(&latch);
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
    CHECK_EQUAL(all.next, 1);
    was_destroyed_once();
    latch_destroy(&latch);
  }
  lanyard__executor_release_until(NULL, 0, after(200 * MILLISECONDS));
}

TEST(enqueued_counts_what_was_handed_over_and_not_what_was_refused) {
  test_latch latch;
  lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
  CHECK_EQUAL(lanyard__enqueued(worker), 0);
  hold_in_job(worker, &latch);
  for (int i = 0; i < 5; i++) enqueue(worker, post_job, &latch.entered);
  CHECK_EQUAL(lanyard__enqueued(worker), 6);
  uint64_t count = 6;
  faults_at("jobs", 1);
  while (lanyard__enqueue(worker, post_job, &latch.entered, &nobody) == LANYARD_OK) count++;
  faults_end(NULL);
  CHECK_EQUAL(lanyard__enqueued(worker), count);
  latch_open(&latch);
  await_jobs(worker);
  CHECK_EQUAL(lanyard__enqueued(worker), count + 1);
  CHECK_EQUAL(stats_of(worker).submitted, 0);
  drain_and_keep(worker);
  lanyard__executor_release(&executor);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(lanyard__enqueued(worker), count + 1);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

/* ------------------------------------------------------------------------------------------ destroy */

TEST(destroy_is_called_once_by_the_last_release) {
  for (int lazy = 0; lazy < 2; lazy++)
    for (int closes = 0; closes < 2; closes++)
      for (int deadline = 0; deadline < 2; deadline++) {
        lanyard_options options = sleepy_options(4);
        options.lazy = lazy;
        lanyard_worker *worker = open_counted(options), *other = lanyard_retain(worker);
        if (closes) CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
        lanyard_release(&other);
        CHECK_EQUAL(destroyed_count, 0);
        if (deadline && (lazy || closes)) lanyard__release_until(&worker, 0, after(200 * MILLISECONDS)); /* there is nothing to wait for */
        else lanyard_release(&worker);
        was_destroyed_once();
        CHECK_EQUAL(lanyard_quiesce(0), 0);
        was_destroyed_once();
      }
}

TEST(destroy_of_a_worker_released_by_itself_is_called_at_quiesce) {
  for (int in_job = 0; in_job < 2; in_job++) {
    test_latch latch;
    lanyard_worker *worker = open_counted(sleepy_options(4)), *own = lanyard_retain(worker), *buried = own;
    lanyard_worker *executor = acquire(worker);
    hold(worker, &latch);
    CHECK_EQUAL(lanyard_submit(worker, release_until_in_request, &own, NULL), LANYARD_OK);
    if (in_job) enqueue(worker, release_in_job, &executor);
    else lanyard__executor_release(&executor);
    lanyard_release(&worker);
    latch_open(&latch);
    CHECK(eventually(thread_is_gone, buried));
    CHECK_EQUAL(destroyed_count, 0);
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
    was_destroyed_once();
    latch_destroy(&latch);
  }
}

/* A weak handle keeps bytes, and no more than that. */
TEST(destroy_is_called_while_a_weak_handle_is_left) {
  lanyard_worker *worker = open_counted(sleepy_options(4));
  lanyard_weak *weak = lanyard_weak_create(worker);
  lanyard_release(&worker);
  was_destroyed_once();
  CHECK(lanyard_weak_lock(weak) == NULL);
  lanyard_weak_destroy(weak);
  was_destroyed_once();
}

/* After the thread's very end, whoever brings it about: here the thread of asynchronous closes. */
static bool *destructor_over;

static void check_destructor_is_over(void *context) {
  CHECK(*destructor_over);
  count_destroyed(context);
}

TEST(destroy_comes_after_the_threads_destructors) {
  for (int asks = 0; asks < 2; asks++) {
    bool over = false;
    answer one;
    destructor_over = &over;
    CHECK_EQUAL(pthread_key_create(&slow_key, note_slowly), 0);
    lanyard_options options = sleepy_options(4);
    options.destroy = check_destructor_is_over;
    lanyard_worker *worker = open_counted(options);
    CHECK_EQUAL(lanyard_call(worker, set_slow, &over), LANYARD_OK);
    if (asks) close_async(&one, worker, LANYARD_DRAIN);
    lanyard_release(&worker);
    if (asks) await_answer(&one);
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
    was_destroyed_once();
    if (asks) sem_destroy(&one.told);
    pthread_key_delete(slow_key);
  }
}

static void release_in_a_child(void *argument) {
  lanyard__hooks.point = NULL;
  lanyard_worker *copy = argument;
  destroyed_count = 0;
  lanyard_release(&copy);
  copy = argument;
  lanyard__release_until(&copy, 0, after(200 * MILLISECONDS));
  CHECK_EQUAL(lanyard_quiesce(after(SECONDS)), 0);
  CHECK_EQUAL(destroyed_count, 0);
}

TEST(destroy_is_not_called_in_a_child) {
  for (int lazy = 0; lazy < 2; lazy++) {
    lanyard_options options = sleepy_options(4);
    options.lazy = lazy;
    lanyard_worker *worker = open_counted(options);
    checks_hold_in_child(release_in_a_child, worker, 20000);
    CHECK_EQUAL(destroyed_count, 0);
    lanyard_release(&worker);
    was_destroyed_once();
  }
}

/* A worker that could not be opened was never anybody's: its context stays with the caller. */
TEST(destroy_is_not_called_when_open_fails) {
  lanyard_options options = sleepy_options(4);
  options.context = &destroyed_context;
  options.destroy = count_destroyed;
  destroyed_count = 0;
  for (unsigned k = 1; k < 20; k++) {
    lanyard_worker *worker = NULL;
    faults_begin(k, true);
    lanyard_status status = lanyard_open(&options, &worker);
    if (faults_end(NULL) == 0 || status == LANYARD_OK) {
      lanyard_release(&worker);
      break;
    }
    CHECK_EQUAL(destroyed_count, 0);
  }
  CHECK(destroyed_count <= 1);
}

/* ---- 10 ---- */

TEST(an_asynchronous_close_is_answered_after_the_jobs_that_a_last_executor_left) {
  for (int first = 0; first < 2; first++) {
    test_latch latch, second;
    answer one;
    last_word word;
    lanyard_worker *worker = open_sleepy(4), *executor = acquire(worker);
    hold(worker, &latch);
    latch_init(&second);
    enqueue(worker, latch_job, &second);
    if (first) close_async(&one, worker, LANYARD_DRAIN);
    else close_then(&word, worker, LANYARD_DRAIN, LANYARD_OK);
    lanyard__executor_release(&executor); /* before the drain: nobody keeps the thread */
    latch_open(&latch);
    latch_await(&second); /* its last job runs */
    for (int i = 0; i < 50; i++) usleep(1000);
    if (first) CHECK(!is_answered(&one)); /* "called after the thread was joined" */
    else CHECK(!is_posted(&word.told));   /* "the last thing that it does" */
    latch_open(&second);
    if (first) await_answer(&one);
    close_and_release(&worker);
    CHECK_EQUAL(lanyard_quiesce(after(60 * SECONDS)), 0);
    if (first) sem_destroy(&one.told);
    else was_said(&word, 1);
    latch_destroy(&latch);
    latch_destroy(&second);
  }
}

/* ---- 11 ---- */

typedef struct pair_of_closers {
  lanyard_worker *kept, *other;
  lanyard_status of_kept, of_other;
} pair_of_closers;

static void close_kept(void *argument, lanyard_status outcome) {
  (void)outcome;
  pair_of_closers *self = argument;
  self->of_kept = lanyard_close(self->kept, LANYARD_DRAIN);
}

static void close_other(void *argument, void *executor) {
  (void)executor;
  pair_of_closers *self = argument;
  self->of_other = lanyard_close(self->other, LANYARD_DRAIN);
}

TEST(closing_a_drained_worker_that_an_executor_keeps_is_no_wait_and_no_deadlock) {
  pair_of_closers it = {.kept = NULL};
  test_latch latch;
  watch_begin();
  it.kept = open_sleepy(4);
  it.other = open_sleepy(4);
  lanyard_worker *executor = acquire(it.kept);
  drain_and_keep(it.kept);
  hold(it.other, &latch);
  CHECK_EQUAL(lanyard_submit(it.other, close_kept, &it, NULL), LANYARD_OK);
  enqueue(it.kept, close_other, &it);
  await_sleepers(&it.other->phase, 1); /* the kept one's job waits for the other's end */
  latch_open(&latch);                     /* and the other closes the kept one: it is drained, that is CLOSING */
  await_jobs(it.kept);
  CHECK_EQUAL(it.of_kept, LANYARD_CLOSING); /* got LANYARD_WOULD_DEADLOCK */
  CHECK_EQUAL(it.of_other, LANYARD_OK);
  lanyard__executor_release(&executor);
  lanyard_release(&it.other);
  close_and_release(&it.kept);
  latch_destroy(&latch);
  watch_end();
}

