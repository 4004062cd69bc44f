/* check.c - see check.h. */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* A child of fork may end with a worker that runs: memcheck shall not call that a leak of the child. */
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define NO_LEAK_CHECK() VALGRIND_CLO_CHANGE("--leak-check=no")
#else
#define NO_LEAK_CHECK() ((void)0)
#endif

#include "gates.h"

enum { TESTS_MAX = 256 };

static struct {
  const char *name;
  void (*function)(void);
  unsigned limit_seconds;
} tests[TESTS_MAX];
static size_t test_count;

static const char *volatile current_test = "(none)";
static _Atomic unsigned current_failures;
static uint64_t seed;
static _Thread_local const char *name_of_thread;
static _Thread_local uint64_t random_state;
static _Atomic uint64_t random_streams;

void check_register(const char *name, void (*function)(void), unsigned limit_seconds) {
  if (test_count == TESTS_MAX) abort();
  tests[test_count].name = name;
  tests[test_count].function = function;
  tests[test_count++].limit_seconds = limit_seconds;
}

bool check_that(bool holds, const char *text, const char *file, int line) {
  if (!holds) {
    atomic_fetch_add(&current_failures, 1u);
    fprintf(stderr, "%s:%d: %s: failed: %s\n", file, line, current_test, text);
  }
  return holds;
}

bool check_equal(int64_t got, int64_t wanted, const char *text, const char *file, int line) {
  if (got != wanted) {
    atomic_fetch_add(&current_failures, 1u);
    fprintf(stderr, "%s:%d: %s: failed: %s: got %lld, wanted %lld\n", file, line, current_test, text,
            (long long)got, (long long)wanted);
  }
  return got == wanted;
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
  const char *text = getenv(variable);
  return text == NULL || *text == '\0' ? otherwise : strtoull(text, NULL, 10);
}

uint64_t scaled(uint64_t native) {
  uint64_t count = native * number_from("LANYARD_TEST_SCALE", 100) / 100;
  return count == 0 ? 1 : count;
}

bool tool_is(const char *name) {
  const char *tool = getenv("LANYARD_TEST_TOOL");
  return strcmp(tool == NULL || *tool == '\0' ? "native" : tool, name) == 0;
}

bool tool_is_valgrind(void) { return tool_is("memcheck") || tool_is("helgrind") || tool_is("drd"); }

static unsigned slowness(void) {
  return tool_is("native") || tool_is("coverage") ? 1 : tool_is_valgrind() ? 20 : 5;
}

uint64_t random_number(void) {
  while (random_state == 0)
    random_state = (seed + atomic_fetch_add(&random_streams, 1) + 1) * UINT64_C(0x9e3779b97f4a7c15);
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static void *run_thread(void *argument) {
  test_thread *thread = argument;
  name_of_thread = thread->name;
  thread->function(thread->argument);
  return NULL;
}

void thread_start(test_thread *thread, const char *name, void (*function)(void *), void *argument) {
  thread->name = name;
  thread->function = function;
  thread->argument = argument;
  int failed = pthread_create(&thread->thread, NULL, run_thread, thread);
  if (failed) {
    fprintf(stderr, "%s: cannot start a thread: %s\n", current_test, strerror(failed));
    abort();
  }
}

void thread_join(test_thread *thread) {
  if (pthread_join(thread->thread, NULL) != 0) abort();
}

const char *thread_name(void) { return name_of_thread == NULL ? "worker" : name_of_thread; }

unsigned thread_count(void) {
  unsigned count = 0;
  DIR *directory = opendir("/proc/self/task");
  if (directory == NULL) return 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) count += entry->d_name[0] != '.';
  closedir(directory);
  return count;
}

bool eventually(bool (*condition)(void *), void *argument) {
  uint64_t deadline = after(20 * SECONDS * slowness());
  while (!condition(argument)) {
    if (lanyard_now_ns() > deadline) return false;
    usleep(200);
  }
  return true;
}

uint64_t after(uint64_t duration_ns) { return lanyard_now_ns() + duration_ns; }

lanyard_worker *open_worker(uint32_t capacity) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.capacity = capacity;
  options.name = current_test;
  lanyard_worker *worker = NULL;
  if (!CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_OK)) abort();
  return worker;
}

int run_in_child(int (*function)(void *), void *argument, unsigned limit_ms) {
  fflush(NULL);
  pid_t child = fork();
  if (child < 0) abort();
  if (child == 0) {
    alarm(0);
    if (tool_is("memcheck")) NO_LEAK_CHECK();
    int status = function(argument);
    fflush(NULL);
#if LANYARD_COVERAGE
    extern int __llvm_profile_write_file(void);
    __llvm_profile_write_file();
#endif
    _exit(status);
  }
  uint64_t deadline = after(limit_ms * MILLISECONDS * slowness());
  int status;
  for (;;) {
    pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) break;
    if (ended < 0) abort();
    if (lanyard_now_ns() > deadline) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return -1;
    }
    usleep(500);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

typedef struct child_checks {
  void (*function)(void *);
  void *argument;
} child_checks;

static int count_failures(void *argument) {
  const child_checks *checks = argument;
  atomic_store(&current_failures, 0u);
  checks->function(checks->argument);
  unsigned failures = atomic_load(&current_failures);
  return (int)(failures < 100 ? failures : 100);
}

bool checks_hold_in_child(void (*function)(void *), void *argument, unsigned limit_ms) {
  child_checks checks = {function, argument};
  return CHECK_EQUAL(run_in_child(count_failures, &checks, limit_ms), 0);
}

static void sem_await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0)
    if (errno != EINTR) abort();
}

void latch_init(test_latch *latch) {
  if (sem_init(&latch->entered, 0, 0) != 0 || sem_init(&latch->left, 0, 0) != 0) abort();
}

void latch_request(void *argument, lanyard_status outcome) {
  test_latch *latch = argument;
  (void)outcome;
  sem_post(&latch->entered);
  sem_await(&latch->left);
}

void latch_await(test_latch *latch) { sem_await(&latch->entered); }

void latch_open(test_latch *latch) { sem_post(&latch->left); }

void latch_destroy(test_latch *latch) {
  sem_destroy(&latch->entered);
  sem_destroy(&latch->left);
}

uint64_t signal_mask(void) {
  uint64_t mask = 0;
  if (syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask) != 0) abort();
  return mask;
}

size_t test_total(void) { return test_count; }

/* A hang is a failure with a name. */
static void on_alarm(int signal_number) {
  (void)signal_number;
  const char *parts[] = {"hang: ", current_test, " took longer than its limit\n0 passed, 1 failed\n"};
  for (int i = 0; i < 3; i++)
    if (write(STDOUT_FILENO, parts[i], strlen(parts[i])) < 0) break;
  abort();
}

static bool one_thread_is_left(void *base) { return thread_count() <= *(unsigned *)base; }

static bool run_test(size_t index, unsigned base) {
  current_test = tests[index].name;
  atomic_store(&current_failures, 0u);
  alarm(tests[index].limit_seconds * slowness());
  uint64_t begin = lanyard_now_ns();
  tests[index].function();
  gates_reset();
  CHECK_EQUAL(lanyard_quiesce(after(10 * SECONDS * slowness())), 0);
  if (!CHECK(eventually(one_thread_is_left, &base))) lanyard_report_live(STDERR_FILENO);
  alarm(0);
  bool passed = atomic_load(&current_failures) == 0;
  printf("%s %s (%.3f s)\n", passed ? "ok  " : "FAIL", current_test,
         (double)(lanyard_now_ns() - begin) / 1e9);
  fflush(stdout);
  return passed;
}

static void nothing(void *argument) { (void)argument; }

/* After one thread has come and gone: a sanitizer starts its own with the first. */
static unsigned count_base_threads(void) {
  test_thread thread;
  thread_start(&thread, "first", nothing, NULL);
  thread_join(&thread);
  usleep(20000);
  return thread_count();
}

int main(int argc, char **argv) {
  (void)argc;
  name_of_thread = "main";
  seed = number_from("LANYARD_TEST_SEED", (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000);
  const char *only = getenv("LANYARD_TEST_ONLY");
  printf("# %s, LANYARD_TEST_SEED=%llu\n", argv[0], (unsigned long long)seed);
  fflush(stdout);
  struct sigaction action = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &action, NULL);
  gates_begin();
  unsigned base = count_base_threads(), passed = 0, failed = 0;
  for (size_t i = 0; i < test_count; i++) {
    if (only != NULL && strstr(tests[i].name, only) == NULL) continue;
    if (run_test(i, base)) passed++;
    else failed++;
  }
  printf("%u passed, %u failed\n", passed, failed);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
