/* test_process.c - the library in its process: exit, unload, fork, signals, cancellation, threads that
 * cannot be had, stacks, names: HAZARDS section B.
 *
 * Most of it happens in child processes, so this program's own process opens no worker before the first
 * test that has no child. A child of a process that never opened one is as good as a fresh program. */
#include "gates.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "seam.h"

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

#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
/* Else each of the many exits below takes a second. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "atexit_sleep_ms=0"; }
#endif

/* A child that exits while a worker runs is no place to look for leaks. Asked by LeakSanitizer at exit. */
static bool expects_no_leak_check;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return expects_no_leak_check; }

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

static void count_up(void *argument, lanyard_status outcome) {
  if (outcome == LANYARD_OK) ++*(int *)argument;
}

static lanyard_worker *open_with(const lanyard_options *options) {
  lanyard_worker *worker = NULL;
  if (!CHECK_EQUAL(lanyard_open(options, &worker), LANYARD_OK)) abort();
  return worker;
}

static lanyard_worker *open_parked(void) {
  gate_arm(7, "worker", "parking");
  lanyard_worker *worker = open_worker(8);
  gate_await(7);
  gate_open(7);
  return worker;
}

/* Holds its worker until the process ends. */
static void stay_busy(void *argument, lanyard_status outcome) {
  (void)outcome;
  for (atomic_store((_Atomic int *)argument, 1);; sched_yield()) continue;
}

static void await_flag(_Atomic int *flag) {
  while (!atomic_load(flag)) sched_yield();
}

static void call_nothing(void *worker) { lanyard_call(worker, nothing, NULL); }
static void submit_nothing(void *worker) { lanyard_submit(worker, nothing, NULL, NULL); }
static void close_it(void *worker) { lanyard_close(worker, LANYARD_DRAIN); }

/* ------------------------------------------------------------------------------------- b1: exit */

static int exit_while_busy(void *status) {
  static _Atomic int runs;
  lanyard_worker *worker = open_worker(8);
  lanyard_submit(worker, stay_busy, &runs, NULL);
  await_flag(&runs);
  exit(*(int *)status);
}

static int exit_in_a_reply(void *status) {
  static test_thread caller;
  lanyard_worker *worker = open_worker(8);
  gate_arm(0, "worker", "answering");
  thread_start(&caller, "caller", call_nothing, worker);
  gate_await(0);
  exit(*(int *)status);
}

static int exit_while_parked(void *status) {
  open_parked();
  exit(*(int *)status);
}

static void exit_now(void *argument, lanyard_status outcome) {
  (void)outcome;
  exit(*(int *)argument);
}

static int exit_in_a_request(void *status) {
  lanyard_worker *worker = open_worker(8);
  lanyard_call(worker, exit_now, status);
  return 254;
}

static void exit_as_told(void *status, lanyard_status outcome) {
  (void)outcome;
  exit(*(int *)status);
}

static int exit_in_when_closed(void *status) {
  static lanyard_worker *volatile worker; /* still owned at exit */
  worker = open_worker(8);
  lanyard_close_async(worker, LANYARD_DRAIN, exit_as_told, status);
  pause();
  return 254;
}

static void exit_many_times(int (*how)(void *), uint64_t native_count) {
  expects_no_leak_check = true; /* in the children, that is */
  for (uint64_t i = 0; i < scaled(native_count); i++) {
    int status = (int)(i % 251);
    if (!CHECK_EQUAL(run_in_child(how, &status, LIMIT_MS), status)) break;
  }
  expects_no_leak_check = false;
}

TEST_WITHIN(120, b1_exit_with_a_busy_worker_keeps_its_status) { exit_many_times(exit_while_busy, 1000); }
TEST_WITHIN(120, b1_exit_with_a_worker_in_a_reply_keeps_its_status) { exit_many_times(exit_in_a_reply, 1000); }
TEST_WITHIN(120, b1_exit_with_a_parked_worker_keeps_its_status) { exit_many_times(exit_while_parked, 1000); }
TEST(b1_exit_in_a_request_keeps_its_status) { exit_many_times(exit_in_a_request, 100); }
TEST(b1_exit_in_when_closed_keeps_its_status) { exit_many_times(exit_in_when_closed, 100); }

static lanyard_worker *released_at_exit;

static void release_at_exit(void) { lanyard_release(&released_at_exit); }

static int exit_with_a_handler(void *status) {
  if (atexit(release_at_exit) != 0) return 254;
  released_at_exit = open_parked();
  lanyard_submit(released_at_exit, nothing, NULL, NULL);
  exit(*(int *)status);
}

TEST(b1_exit_handler_may_release_a_worker) { exit_many_times(exit_with_a_handler, 100); }

/* ------------------------------------------------------------------------------------- b2: abort */

static int exit_report[2];

static void report_exit(void) {
  if (write(exit_report[1], "x", 1) != 1) _exit(253);
}

static int misuse_after_release(void *argument) {
  (void)argument;
  if (atexit(report_exit) != 0 || dup2(exit_report[1], STDERR_FILENO) < 0) return 254;
  lanyard_worker *worker = open_worker(8), *stale = worker;
  lanyard_weak *weak = lanyard_weak_create(worker); /* keeps the bytes, so this is no use of freed memory */
  lanyard_release(&worker);
  lanyard_try_submit(stale, nothing, NULL, NULL);
  lanyard_weak_destroy(weak);
  return 0;
}

TEST(b2_misuse_aborts_and_does_not_exit) {
#if LANYARD_DEBUG
  CHECK(pipe(exit_report) == 0);
  CHECK_EQUAL(run_in_child(misuse_after_release, NULL, LIMIT_MS), 256 + SIGABRT);
  close(exit_report[1]);
  char text[4096];
  ssize_t size = read(exit_report[0], text, sizeof text);
  CHECK(size > 0 && memmem(text, (size_t)size, "lanyard: ", 9) == text);
  CHECK(size > 0 && text[size - 1] == '\n' && memchr(text, '\n', (size_t)size) == text + size - 1);
  close(exit_report[0]);
#else
  (void)misuse_after_release;
  left_out("misuse", "only a debug build notices it");
#endif
}

/* --------------------------------------------------------------- b3, b6, b14: registers nothing */

#if !SANITIZED && defined(__GLIBC__)
#define WATCHES_REGISTRATION 1
/* This program's own definitions come before libc's, for the library's calls too. */
static _Atomic unsigned registered;

static void *next_of(const char *name) {
  void *next = dlsym(RTLD_NEXT, name);
  if (next == NULL) abort();
  return next;
}

int __cxa_atexit(void (*function)(void *), void *argument, void *object);
int __cxa_atexit(void (*function)(void *), void *argument, void *object) {
  int (*next)(void (*)(void *), void *, void *);
  *(void **)&next = next_of("__cxa_atexit");
  atomic_fetch_add(&registered, 1u);
  return next(function, argument, object);
}

int __register_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void), void *object);
int __register_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void), void *object) {
  int (*next)(void (*)(void), void (*)(void), void (*)(void), void *);
  *(void **)&next = next_of("__register_atfork");
  atomic_fetch_add(&registered, 1u);
  return next(before, in_parent, in_child, object);
}

int pthread_key_create(pthread_key_t *key, void (*destructor)(void *)) {
  int (*next)(pthread_key_t *, void (*)(void *));
  *(void **)&next = next_of("pthread_key_create");
  atomic_fetch_add(&registered, 1u);
  return next(key, destructor);
}
#else
#define WATCHES_REGISTRATION 0
#endif

/* quiesce() knows of a worker that releases itself only once it has done so. */
static bool all_are_gone(void *argument) {
  (void)argument;
  return lanyard_quiesce(after(SECONDS)) == 0;
}

static void release_on_the_worker(void *variable, lanyard_status outcome) {
  (void)outcome;
  lanyard_release(variable);
}

static void serve_all(void *context, lanyard_request *requests, size_t count) {
  (void)context;
  for (size_t i = 0; i < count; i++) requests[i].function(requests[i].argument, LANYARD_OK);
}

/* Every way in which a worker lives and ends. */
static void use_everything(void) {
  int count = 0;
  lanyard_options options;
  lanyard_options_init(&options);
  options.lazy = true;
  lanyard_worker *lazy = open_with(&options), *self = open_with(NULL), *async = open_with(NULL);
  options.lazy = false;
  options.serve = serve_all;
  lanyard_worker *serving = open_with(&options);
  lanyard_weak *weak = lanyard_weak_create(serving);

  lanyard_call(lazy, count_up, &count);
  lanyard_call_until(serving, count_up, &count, after(10 * SECONDS));
  lanyard_when_room(serving, count_up, &count);
  CHECK_EQUAL(count, 3);
  lanyard_worker *own = self; /* read by the worker alone from now on */
  lanyard_submit(self, release_on_the_worker, &own, NULL);
  lanyard_close_async(async, LANYARD_DRAIN, nothing, NULL);
  lanyard_release(&async);
  lanyard_close_until(serving, LANYARD_DISCARD, after(10 * SECONDS));
  lanyard_release(&serving);
  lanyard_weak_destroy(weak);
  lanyard_release(&lazy);
  CHECK(eventually(all_are_gone, NULL));
}

#if WATCHES_REGISTRATION
static void check_that_nothing_is_registered(void *argument) {
  (void)argument;
  unsigned before = atomic_load(&registered);
  use_everything();
  CHECK_EQUAL(atomic_load(&registered), before);
}

/* Proves that the test above could fail. */
static int registrations_are_seen(void *argument) {
  (void)argument;
  unsigned before = atomic_load(&registered);
  pthread_key_t key;
  return atexit(release_at_exit) == 0 && pthread_atfork(NULL, NULL, NULL) == 0 &&
                 pthread_key_create(&key, NULL) == 0 && atomic_load(&registered) == before + 3
             ? 0
             : 1;
}
#endif

TEST(b3_no_exit_handler_and_no_key_is_registered) {
#if WATCHES_REGISTRATION
  CHECK_EQUAL(run_in_child(registrations_are_seen, NULL, LIMIT_MS), 0);
  checks_hold_in_child(check_that_nothing_is_registered, NULL, LIMIT_MS);
#else
  left_out("watching registrations", "the sanitizer's own definitions stand in the way");
#endif
}

TEST(b6_no_fork_handler_is_registered) {
#if WATCHES_REGISTRATION
  checks_hold_in_child(check_that_nothing_is_registered, NULL, LIMIT_MS); /* atfork is among them */
#else
  left_out("watching registrations", "the sanitizer's own definitions stand in the way");
#endif
}

typedef void (*initializer)(void);
extern initializer __init_array_start[], __init_array_end[], __fini_array_start[], __fini_array_end[];

/* What is left when the tests' own are taken away is one each of the C runtime's. */
TEST(b3_library_has_no_constructor_and_no_destructor) {
  if (!tool_is("native") && !tool_is_valgrind()) {
    left_out("counting constructors", "a sanitizer brings its own");
    return;
  }
  CHECK((size_t)(__init_array_end - __init_array_start) <= test_total() + 1);
  CHECK(__fini_array_end - __fini_array_start <= 1);
}

static void check_that_no_process_is_started(void *argument) {
  (void)argument;
  use_everything();
  CHECK(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
}

TEST(b14_library_starts_no_process) { checks_hold_in_child(check_that_no_process_is_started, NULL, LIMIT_MS); }

/* ------------------------------------------------------------------------------------ b4: unload */

typedef struct shared_library {
  void *handle;
  lanyard_status (*open)(const lanyard_options *, lanyard_worker **);
  lanyard_status (*submit)(lanyard_worker *, lanyard_function, void *, lanyard_ticket *);
  lanyard_status (*close)(lanyard_worker *, lanyard_close_mode);
} shared_library;

static bool load(shared_library *library, const char *path) {
  library->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!CHECK(library->handle != NULL)) {
    fprintf(stderr, "%s\n", dlerror());
    return false;
  }
  *(void **)&library->open = dlsym(library->handle, "lanyard_open");
  *(void **)&library->submit = dlsym(library->handle, "lanyard_submit");
  *(void **)&library->close = dlsym(library->handle, "lanyard_close");
  return CHECK(library->open != NULL && library->submit != NULL && library->close != NULL);
}

static const char *shared_library_path(void) {
  const char *path = getenv("LANYARD_SHARED_LIBRARY");
  if (path == NULL || *path == '\0') {
    left_out("unloading", "LANYARD_SHARED_LIBRARY names no library");
    return NULL;
  }
  if (tool_is("helgrind") || tool_is("drd")) {
    left_out("unloading", "the shared library has no annotations");
    return NULL;
  }
  return path;
}

static void post(void *semaphore, lanyard_status outcome) {
  if (outcome == LANYARD_OK) sem_post(semaphore);
}

static void await_post(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue;
}

/* Unloads it while a request runs and another waits, lets both go on, and exits without a close. */
static int unload_without_close(void *path) {
  static test_latch latch;
  static sem_t ran;
  shared_library library;
  lanyard_worker *worker = NULL;
  if (!load(&library, path)) return 251;
  latch_init(&latch);
  sem_init(&ran, 0, 0);
  if (library.open(NULL, &worker) != LANYARD_OK) return 252;
  if (library.submit(worker, latch_request, &latch, NULL) != LANYARD_OK) return 253;
  latch_await(&latch);
  if (library.submit(worker, post, &ran, NULL) != LANYARD_OK) return 254;
  if (dlclose(library.handle) != 0) return 255;
  latch_open(&latch);
  await_post(&ran);
  expects_no_leak_check = true;
  exit(0);
}

/* Its code is where it was: the functions can be called as before. */
static int use_after_unload(void *path) {
  static sem_t ran;
  shared_library library;
  lanyard_worker *worker = NULL;
  if (!load(&library, path)) return 251;
  sem_init(&ran, 0, 0);
  if (library.open(NULL, &worker) != LANYARD_OK || dlclose(library.handle) != 0) return 252;
  if (library.submit(worker, post, &ran, NULL) != LANYARD_OK) return 253;
  await_post(&ran);
  return library.close(worker, LANYARD_DRAIN) == LANYARD_OK ? 0 : 254;
}

static int unload_a_hundred_times(void *path) {
  static sem_t ran;
  sem_init(&ran, 0, 0);
  for (int i = 0; i < 100; i++) {
    shared_library library;
    lanyard_worker *worker = NULL;
    if (!load(&library, path)) return 251;
    if (library.open(NULL, &worker) != LANYARD_OK) return 252;
    if (library.submit(worker, post, &ran, NULL) != LANYARD_OK) return 253;
    if (dlclose(library.handle) != 0) return 254;
  }
  for (int i = 0; i < 100; i++) await_post(&ran);
  expects_no_leak_check = true;
  exit(0);
}

TEST(b4_unload_without_close_and_exit) {
  const char *path = shared_library_path();
  if (path == NULL) return;
  for (uint64_t i = 0; i < scaled(100); i++)
    if (!CHECK_EQUAL(run_in_child(unload_without_close, (void *)(uintptr_t)path, LIMIT_MS), 0)) return;
}

TEST(b4_unload_a_hundred_times_in_one_process) {
  const char *path = shared_library_path();
  if (path == NULL) return;
  CHECK_EQUAL(run_in_child(unload_a_hundred_times, (void *)(uintptr_t)path, LIMIT_MS), 0);
}

TEST(b4_workers_go_on_after_the_unload) {
  const char *path = shared_library_path();
  if (path == NULL) return;
  CHECK_EQUAL(run_in_child(use_after_unload, (void *)(uintptr_t)path, LIMIT_MS), 0);
}

#ifdef __GLIBC__
/* Bytes of initializers that the C runtime itself puts into any library: one function each. */
TEST(b3_shared_library_has_no_constructor_and_stays_loaded) {
  const char *path = shared_library_path();
  if (path == NULL) return;
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  struct link_map *map = NULL;
  if (!CHECK(handle != NULL && dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0)) return;
  bool stays = false;
  for (const ElfW(Dyn) *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
    if (entry->d_tag == DT_INIT_ARRAYSZ || entry->d_tag == DT_FINI_ARRAYSZ)
      CHECK(entry->d_un.d_val <= sizeof(void *));
    CHECK(entry->d_tag != DT_PREINIT_ARRAYSZ);
    if (entry->d_tag == DT_FLAGS_1) stays = entry->d_un.d_val & DF_1_NODELETE;
  }
  CHECK(stays);
  dlclose(handle);
}
#endif

/* -------------------------------------------------------------------------------------- b5: fork */

/* A kernel that cannot wipe pages at fork, as far as the library can tell. */
static bool madvise_fails(const char *site) { return strcmp(site, "madvise") == 0; }

static bool (*fails_in_children)(const char *site);

/* In a child of fork: the gates' lock may be held by a thread that is not there. */
static void leave_the_gates(void) {
  lanyard__hooks.point = NULL;
  lanyard__hooks.fails = fails_in_children;
}

static uint64_t at_once_ns(void) { return 100 * MILLISECONDS * (tool_is("native") ? 1 : 20); }

#define AT_ONCE(expression, wanted) \
  do { \
    uint64_t begin_ = lanyard_now_ns(); \
    CHECK_EQUAL((expression), (wanted)); \
    CHECK(lanyard_now_ns() - begin_ < at_once_ns()); \
  } while (0)

typedef struct inherited {
  lanyard_worker *worker;
  lanyard_weak *weak;
} inherited;

static void submit_to_the_dead(lanyard_worker *dead) {
  lanyard_ticket ticket = 4711;
  AT_ONCE(lanyard_try_submit(dead, never, NULL, &ticket), LANYARD_FORKED);
  AT_ONCE(lanyard_submit(dead, never, NULL, &ticket), LANYARD_FORKED);
  AT_ONCE(lanyard_submit_until(dead, never, NULL, LANYARD_FOREVER, &ticket), LANYARD_FORKED);
  AT_ONCE(lanyard_submit_until(dead, never, NULL, 0, &ticket), LANYARD_FORKED);
  AT_ONCE(lanyard_call(dead, never, NULL), LANYARD_FORKED);
  AT_ONCE(lanyard_call_until(dead, never, NULL, LANYARD_FOREVER), LANYARD_FORKED);
  AT_ONCE(lanyard_cancel(dead, 1), LANYARD_FORKED);
  AT_ONCE(lanyard_when_room(dead, never, NULL), LANYARD_FORKED);
  CHECK_EQUAL(ticket, 4711);
}

static void close_the_dead(lanyard_worker *dead) {
  AT_ONCE(lanyard_close(dead, LANYARD_DRAIN), LANYARD_FORKED);
  AT_ONCE(lanyard_close(dead, LANYARD_DISCARD), LANYARD_FORKED);
  AT_ONCE(lanyard_close_until(dead, LANYARD_DRAIN, LANYARD_FOREVER), LANYARD_FORKED);
  AT_ONCE(lanyard_close_until(dead, LANYARD_DRAIN, 0), LANYARD_FORKED);
  AT_ONCE(lanyard_close_async(dead, LANYARD_DRAIN, never, NULL), LANYARD_FORKED);
}

static void ask_the_dead(lanyard_worker *dead, lanyard_weak *weak) {
  lanyard_stats stats = {.size = sizeof stats};
  AT_ONCE(lanyard_is_current(dead), false);
  AT_ONCE(lanyard_is_closed(dead), true);
  AT_ONCE(lanyard_get_stats(dead, &stats), LANYARD_FORKED);
  AT_ONCE(lanyard_weak_lock(weak) == NULL, true);
  lanyard_weak *another = lanyard_weak_create(dead);
  CHECK(another != NULL);
  AT_ONCE(lanyard_weak_lock(another) == NULL, true);
  lanyard_weak_destroy(another);
  AT_ONCE(lanyard_retain(dead) == dead, true);
  lanyard_worker *copy = dead;
  AT_ONCE((lanyard_release(&copy), copy == NULL), true);
}

static void use_the_dead(const inherited *it) {
  submit_to_the_dead(it->worker);
  close_the_dead(it->worker);
  ask_the_dead(it->worker, it->weak);
}

static void count_shown(const lanyard_info *info, void *count) {
  (void)info;
  ++*(size_t *)count;
}

static void check_live(size_t wanted) {
  size_t shown = 0;
  AT_ONCE(lanyard_live_count(), wanted);
  lanyard_each_live(count_shown, &shown);
  CHECK_EQUAL(shown, wanted);
  int descriptors[2];
  CHECK(pipe(descriptors) == 0);
  AT_ONCE(lanyard_report_live(descriptors[1]), wanted);
  close(descriptors[1]);
  char byte;
  CHECK_EQUAL(read(descriptors[0], &byte, 1), wanted == 0 ? 0 : 1);
  close(descriptors[0]);
}

static void work_with(lanyard_worker *worker) {
  int count = 0;
  CHECK_EQUAL(lanyard_submit(worker, count_up, &count, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_call(worker, count_up, &count), LANYARD_OK);
  CHECK_EQUAL(count, 2);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
}

static void in_grandchild(void *argument) {
  leave_the_gates();
  const inherited *both = argument;
  use_the_dead(&both[0]);
  use_the_dead(&both[1]);
  check_live(0);
  lanyard_worker *own = open_with(NULL);
  use_the_dead(&both[1]);
  work_with(own);
  lanyard_release(&own);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 0);
}

/* Whether a child of a process with threads can do more than to ask the dead. Neither sanitizer's runtime
 * supports threads there, or so much as free(); helgrind and drd keep the parent's threads and locks. */
static bool child_may_live(void) { return !SANITIZED && !tool_is("helgrind") && !tool_is("drd"); }

static void release_the_dead(const inherited *it) {
  lanyard_worker *last = it->worker;
  lanyard_release(&last);
  lanyard_weak_destroy(it->weak);
}

static void in_child(void *argument) {
  leave_the_gates();
  const inherited *it = argument;
  AT_ONCE(lanyard_status_text(LANYARD_FORKED) != NULL && lanyard_version() != 0, true);
  check_live(0);
  AT_ONCE(lanyard_quiesce(LANYARD_FOREVER), 0);
  use_the_dead(it);
  release_the_dead(it);
  if (!child_may_live()) return;

  lanyard_worker *own = open_with(NULL);
  lanyard_weak *weak = lanyard_weak_create(own);
  use_the_dead(it); /* the page is in use again, and still not theirs */
  check_live(1);
  inherited both[] = {*it, {own, weak}};
  checks_hold_in_child(in_grandchild, both, LIMIT_MS);
  work_with(own);

  release_the_dead(it);
  lanyard_weak_destroy(weak);
  lanyard_release(&own);
  AT_ONCE(lanyard_quiesce(LANYARD_FOREVER), 0);
  check_live(0);
}

static void fork_with(lanyard_worker *worker) {
  inherited it = {worker, lanyard_weak_create(worker)};
  checks_hold_in_child(in_child, &it, LIMIT_MS);
  lanyard_weak_destroy(it.weak);
}

/* A state of the parent, in a process of its own, with and without MADV_WIPEONFORK. */
typedef struct fork_state {
  void (*function)(void);
  bool can_wipe;
} fork_state;

static void in_state(void *argument) {
  const fork_state *state = argument;
  if (!state->can_wipe) {
    const char *site = NULL;
    CHECK_EQUAL(lanyard_live_count(), 0);
    faults_at("madvise", 1);
    lanyard_worker *first = open_worker(2);
    faults_end(&site);
    CHECK(site != NULL && strcmp(site, "madvise") == 0); /* or this process is not a fresh one */
    lanyard_release(&first);
    fails_in_children = madvise_fails;
  }
  state->function();
  gates_reset();
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
}

static void fork_in(void (*function)(void), bool can_wipe) {
  fork_state state = {function, can_wipe};
  checks_hold_in_child(in_state, &state, 3 * LIMIT_MS);
}

#define FORK_TEST(name) \
  static void name(void); \
  TEST(b5_##name) { fork_in(name, true); } \
  TEST(b5_without_wipe_##name) { fork_in(name, false); } \
  static void name(void)

/* What needs more of the child than that. */
static void fork_and_live_in(void (*function)(void), bool can_wipe) {
  if (child_may_live()) fork_in(function, can_wipe);
  else left_out("a child that lives on", "the tool's own state does not survive the fork");
}

#define FORK_AND_LIVE_TEST(name) \
  static void name(void); \
  TEST(b5_##name) { fork_and_live_in(name, true); } \
  TEST(b5_without_wipe_##name) { fork_and_live_in(name, false); } \
  static void name(void)

FORK_TEST(fork_while_the_worker_is_parked) {
  lanyard_worker *worker = open_parked();
  fork_with(worker);
  work_with(worker);
  lanyard_release(&worker);
}

FORK_TEST(fork_while_a_request_runs_and_one_waits) {
  test_latch latch;
  latch_init(&latch);
  int count = 0;
  lanyard_worker *worker = open_worker(8);
  lanyard_submit(worker, latch_request, &latch, NULL);
  latch_await(&latch);
  lanyard_submit(worker, count_up, &count, NULL);
  fork_with(worker);
  CHECK_EQUAL(lanyard_live_count(), 1);
  latch_open(&latch);
  work_with(worker);
  CHECK_EQUAL(count, 1);
  lanyard_release(&worker);
  latch_destroy(&latch);
}

/* Holds a thread at a point, forks, and lets it go on. */
static void fork_while_at(lanyard_worker *worker, const char *thread, const char *point,
                          void (*function)(void *)) {
  test_thread held;
  gate_arm(0, thread, point);
  thread_start(&held, "held", function, worker);
  gate_await(0);
  fork_with(worker);
  gate_open(0);
  thread_join(&held);
}

FORK_TEST(fork_while_a_producer_has_claimed) {
  lanyard_worker *worker = open_worker(8);
  fork_while_at(worker, "held", "claimed", submit_nothing);
  work_with(worker);
  lanyard_stats stats = {.size = sizeof stats};
  lanyard_get_stats(worker, &stats);
  CHECK_EQUAL(stats.completed, 3);
  lanyard_release(&worker);
}

FORK_TEST(fork_while_a_closer_has_closed) {
  lanyard_worker *worker = open_worker(8);
  fork_while_at(worker, "held", "closed", close_it);
  CHECK_EQUAL(lanyard_call(worker, never, NULL), LANYARD_CLOSED);
  lanyard_release(&worker);
}

FORK_TEST(fork_while_a_closer_joins) {
  lanyard_worker *worker = open_worker(8);
  fork_while_at(worker, "held", "joining", close_it);
  lanyard_release(&worker);
}

FORK_TEST(fork_while_the_thread_ends) {
  lanyard_worker *worker = open_worker(8);
  fork_while_at(worker, "worker", "finished", close_it);
  lanyard_release(&worker);
}

FORK_TEST(fork_while_the_worker_answers_a_call) {
  lanyard_worker *worker = open_worker(8);
  fork_while_at(worker, "worker", "answering", call_nothing);
  work_with(worker);
  lanyard_release(&worker);
}

FORK_TEST(fork_while_a_lazy_start_holds_the_workers_lock) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.lazy = true;
  lanyard_worker *worker = open_with(&options);
  fork_while_at(worker, "held", "starting", submit_nothing);
  work_with(worker);
  lanyard_release(&worker);
}

FORK_TEST(fork_after_close) {
  lanyard_worker *worker = open_worker(8);
  lanyard_close(worker, LANYARD_DRAIN);
  fork_with(worker);
  lanyard_release(&worker);
}

FORK_TEST(fork_with_an_asynchronous_close_and_a_zombie) {
  test_latch latch;
  latch_init(&latch);
  lanyard_worker *worker = open_worker(8), *zombie = open_worker(8), *own = zombie;
  lanyard_submit(worker, latch_request, &latch, NULL);
  lanyard_close_async(worker, LANYARD_DRAIN, nothing, NULL);
  lanyard_submit(zombie, release_on_the_worker, &own, NULL);
  fork_with(worker);
  latch_open(&latch);
  lanyard_release(&worker);
  CHECK(eventually(all_are_gone, NULL));
  latch_destroy(&latch);
}

/* close_async creates its thread under the process's lock; this holds it there. */
static test_latch inside_the_lock;

static bool hold_inside_the_lock(const char *site) {
  if (strcmp(site, "pthread_create") == 0 && strcmp(thread_name(), "held") == 0)
    latch_request(&inside_the_lock, LANYARD_OK);
  return false;
}

static void close_asynchronously(void *worker) {
  CHECK_EQUAL(lanyard_close_async(worker, LANYARD_DRAIN, nothing, NULL), LANYARD_OK);
}

/* Returns once a thread stands inside the process's lock. */
static void take_the_process_lock(test_thread *holder, lanyard_worker *worker) {
  latch_init(&inside_the_lock);
  lanyard__hooks.fails = hold_inside_the_lock;
  thread_start(holder, "held", close_asynchronously, worker);
  latch_await(&inside_the_lock);
}

static void leave_the_process_lock(test_thread *holder) {
  latch_open(&inside_the_lock);
  thread_join(holder);
  lanyard__hooks.fails = NULL;
  latch_destroy(&inside_the_lock);
}

FORK_TEST(fork_while_a_thread_holds_the_process_lock) {
  lanyard_worker *worker = open_worker(8), *other = open_worker(8);
  test_thread holder;
  take_the_process_lock(&holder, other);
  fork_with(worker);
  leave_the_process_lock(&holder);
  lanyard_release(&other);
  work_with(worker);
  lanyard_release(&worker);
}

/* ---------------------------------------------------------------- b5: requests that fork themselves */

enum { BEHIND = 5 };

/* What a request that forked left to be counted. */
typedef struct copies {
  int pipe[2];
  pid_t child;
} copies;

static void fork_and_return(void *argument, lanyard_status outcome) {
  (void)outcome;
  copies *it = argument;
  pid_t child = fork();
  if (child == 0) leave_the_gates();
  else it->child = child;
}

static void tell_the_process(void *argument, lanyard_status outcome) {
  (void)outcome;
  const copies *it = argument;
  pid_t self = getpid();
  if (write(it->pipe[1], &self, sizeof self) != sizeof self) abort();
}

/* The child's status as of run_in_child. */
static int await_process(pid_t child, uint64_t limit_ms) {
  int status = 0;
  for (uint64_t deadline = after(limit_ms * MILLISECONDS); waitpid(child, &status, WNOHANG) == 0; usleep(500))
    if (lanyard_now_ns() > deadline) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return -1;
    }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* The child has ended, and what was behind its request has run in this process, once, and nowhere else. */
static void check_copies(copies *it, unsigned wanted) {
  CHECK(it->child > 0);
  CHECK_EQUAL(await_process(it->child, 5000 * (tool_is("native") ? 1 : 10)), 0);
  close(it->pipe[1]);
  unsigned here = 0, elsewhere = 0;
  for (pid_t process; read(it->pipe[0], &process, sizeof process) == sizeof process;)
    process == getpid() ? here++ : elsewhere++;
  close(it->pipe[0]);
  CHECK_EQUAL(here, wanted);
  CHECK_EQUAL(elsewhere, 0);
}

typedef struct forking_worker {
  copies copies;
  test_latch latch;
  lanyard_worker *worker;
} forking_worker;

static void forking_begin(forking_worker *it, lanyard_options *options) {
  options->spin_ns = 0;
  it->copies.child = 0;
  if (pipe(it->copies.pipe) != 0) abort();
  latch_init(&it->latch);
  it->worker = open_with(options);
  lanyard_submit(it->worker, latch_request, &it->latch, NULL);
  latch_await(&it->latch);
}

static void forking_end(forking_worker *it, unsigned wanted) {
  lanyard_call(it->worker, nothing, NULL); /* what shall happen before the close has happened */
  lanyard_close(it->worker, LANYARD_DRAIN);
  check_copies(&it->copies, wanted);
  lanyard_release(&it->worker);
  latch_destroy(&it->latch);
}

static void request_that_forks(lanyard_options *options) {
  forking_worker it;
  forking_begin(&it, options);
  lanyard_submit(it.worker, fork_and_return, &it.copies, NULL);
  for (int i = 0; i < BEHIND; i++) lanyard_submit(it.worker, tell_the_process, &it.copies, NULL);
  latch_open(&it.latch);
  forking_end(&it, BEHIND);
}

FORK_AND_LIVE_TEST(request_that_forks_and_returns) {
  lanyard_options options;
  lanyard_options_init(&options);
  request_that_forks(&options);
}

FORK_AND_LIVE_TEST(served_request_that_forks_and_returns) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.serve = serve_all;
  options.batch_limit = 1; /* what is in the same batch is the hook's affair */
  request_that_forks(&options);
}

typedef struct forking_call {
  lanyard_worker *worker;
  copies *copies;
} forking_call;

static void call_fork_and_return(void *argument, lanyard_status outcome) {
  (void)outcome;
  const forking_call *call = argument;
  lanyard_call(call->worker, fork_and_return, call->copies);
}

FORK_AND_LIVE_TEST(inline_call_that_forks_and_returns) {
  forking_worker it;
  lanyard_options options;
  lanyard_options_init(&options);
  forking_begin(&it, &options);
  forking_call call = {it.worker, &it.copies};
  lanyard_submit(it.worker, call_fork_and_return, &call, NULL);
  for (int i = 0; i < BEHIND; i++) lanyard_submit(it.worker, tell_the_process, &it.copies, NULL);
  latch_open(&it.latch);
  forking_end(&it, BEHIND);
}

FORK_AND_LIVE_TEST(request_that_forks_when_it_times_out) {
  forking_worker it;
  lanyard_options options;
  lanyard_options_init(&options);
  forking_begin(&it, &options);
  uint64_t deadline = after(200 * MILLISECONDS);
  CHECK_EQUAL(lanyard_submit_until(it.worker, fork_and_return, &it.copies, deadline, NULL), LANYARD_OK);
  for (int i = 0; i < BEHIND; i++) lanyard_submit(it.worker, tell_the_process, &it.copies, NULL);
  while (lanyard_now_ns() < deadline) usleep(1000);
  latch_open(&it.latch);
  forking_end(&it, BEHIND);
}

FORK_AND_LIVE_TEST(request_that_forks_when_it_is_discarded) {
  forking_worker it;
  lanyard_options options;
  lanyard_options_init(&options);
  forking_begin(&it, &options);
  lanyard_submit(it.worker, fork_and_return, &it.copies, NULL);
  for (int i = 0; i < BEHIND; i++) lanyard_submit(it.worker, tell_the_process, &it.copies, NULL);
  lanyard_close_until(it.worker, LANYARD_DISCARD, 0);
  latch_open(&it.latch);
  forking_end(&it, BEHIND);
}

FORK_AND_LIVE_TEST(when_room_callback_that_forks) {
  forking_worker it;
  lanyard_options options;
  lanyard_options_init(&options);
  options.capacity = 2;
  forking_begin(&it, &options);
  lanyard_submit(it.worker, tell_the_process, &it.copies, NULL);
  lanyard_submit(it.worker, tell_the_process, &it.copies, NULL);
  lanyard_when_room(it.worker, fork_and_return, &it.copies);
  lanyard_when_room(it.worker, tell_the_process, &it.copies);
  latch_open(&it.latch);
  forking_end(&it, 3);
}

/* In such a child the copied thread still remembers the parent's worker as its own. It may nevertheless open
 * workers, close them and quiesce. */
typedef struct opener {
  sem_t go, forked;
  pid_t child;
} opener;

static void live_in_the_child(void) {
  lanyard_worker *own = open_with(NULL);
  lanyard_weak *weak = lanyard_weak_create(own);
  work_with(own);
  lanyard_release(&own);
  CHECK(lanyard_weak_lock(weak) == NULL);
  lanyard_weak_destroy(weak);
  AT_ONCE(lanyard_quiesce(after(10 * SECONDS)), 0);
}

static void fork_and_live(void *argument, lanyard_status outcome) {
  (void)outcome;
  opener *it = argument;
  await_post(&it->go);
  pid_t child = fork();
  if (child == 0) {
    leave_the_gates();
    live_in_the_child();
    _exit(42);
  }
  it->child = child;
  sem_post(&it->forked);
}

static size_t count_in(const char *text, size_t size, const char *word) {
  size_t count = 0;
  for (const char *at = text; (at = memmem(at, size - (size_t)(at - text), word, strlen(word))) != NULL; at++) count++;
  return count;
}

/* The child of a request fails where nobody counts, so what it prints is counted instead. */
static void check_child_of_request(opener *it) {
  int printed[2], saved = dup(STDERR_FILENO);
  if (saved < 0 || pipe(printed) != 0 || dup2(printed[1], STDERR_FILENO) < 0) abort();
  sem_post(&it->go);
  await_post(&it->forked);
  int status = await_process(it->child, 5000 * (tool_is("native") ? 1 : 10));
  if (dup2(saved, STDERR_FILENO) < 0) abort();
  close(saved);
  close(printed[1]);
  char text[8192];
  ssize_t size = read(printed[0], text, sizeof text);
  close(printed[0]);
  CHECK_EQUAL(status, 42);
  if (!CHECK(size >= 0 && count_in(text, (size_t)size, "failed: ") == 0)) fprintf(stderr, "%.*s", (int)size, text);
}

static lanyard_worker *opener_begin(opener *it) {
  sem_init(&it->go, 0, 0);
  sem_init(&it->forked, 0, 0);
  lanyard_worker *worker = open_worker(8);
  lanyard_submit(worker, fork_and_live, it, NULL);
  return worker;
}

static void opener_end(opener *it, lanyard_worker *worker) {
  lanyard_close(worker, LANYARD_DRAIN);
  lanyard_release(&worker);
  sem_destroy(&it->go);
  sem_destroy(&it->forked);
}

FORK_AND_LIVE_TEST(child_of_a_request_opens_closes_and_quiesces) {
  opener it;
  lanyard_worker *worker = opener_begin(&it);
  check_child_of_request(&it);
  opener_end(&it, worker);
}

FORK_AND_LIVE_TEST(child_of_a_request_does_not_wait_for_the_parents_asynchronous_close) {
  opener it;
  lanyard_worker *worker = opener_begin(&it);
  close_asynchronously(worker);
  check_child_of_request(&it);
  opener_end(&it, worker);
}

FORK_AND_LIVE_TEST(child_of_a_request_does_not_wait_for_the_parents_lock) {
  opener it;
  lanyard_worker *other = open_worker(8), *worker = opener_begin(&it);
  test_thread holder;
  take_the_process_lock(&holder, other);
  check_child_of_request(&it);
  leave_the_process_lock(&holder);
  opener_end(&it, worker);
  lanyard_release(&other);
}

/* ------------------------------------------------------------------------------- b5: fork, in numbers */

static _Atomic bool churning;

static void churn(void *argument) {
  (void)argument;
  while (atomic_load(&churning)) {
    lanyard_worker *worker = open_worker(8);
    lanyard_submit(worker, nothing, NULL, NULL);
    lanyard_close_async(worker, LANYARD_DRAIN, nothing, NULL);
    lanyard_release(&worker);
  }
}

static void open_and_work(void *argument) {
  (void)argument;
  leave_the_gates();
  check_live(0);
  lanyard_worker *own = open_with(NULL);
  work_with(own);
  lanyard_release(&own);
  CHECK_EQUAL(lanyard_quiesce(LANYARD_FOREVER), 0);
}

/* Whatever the other thread was doing: the child begins afresh. */
static void fork_many_times(void) {
  test_thread thread;
  atomic_store(&churning, true);
  thread_start(&thread, "churn", churn, NULL);
  for (uint64_t i = 0; i < scaled(500); i++)
    if (!checks_hold_in_child(open_and_work, NULL, LIMIT_MS)) break;
  atomic_store(&churning, false);
  thread_join(&thread);
}

FORK_AND_LIVE_TEST(forks_at_random_moments) { fork_many_times(); }

/* Two threads make the page at once; one of the two pages is given back. */
static pthread_barrier_t both_map;

static bool meet_at_the_page(const char *site) {
  if (strcmp(site, "mmap") == 0) pthread_barrier_wait(&both_map);
  return false;
}

static void open_work_release(void *argument) {
  (void)argument;
  lanyard_worker *worker = open_with(NULL);
  work_with(worker);
  lanyard_release(&worker);
}

static void open_first_in_two_threads(void *argument) {
  (void)argument;
  pthread_barrier_init(&both_map, NULL, 2);
  lanyard__hooks.fails = meet_at_the_page;
  test_thread threads[2];
  for (int i = 0; i < 2; i++) thread_start(&threads[i], "opener", open_work_release, NULL);
  for (int i = 0; i < 2; i++) thread_join(&threads[i]);
  lanyard__hooks.fails = NULL;
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
}

TEST(b5_two_threads_open_the_first_worker_of_the_process) {
  checks_hold_in_child(open_first_in_two_threads, NULL, LIMIT_MS);
}

static void fork_and_execute(void *argument, lanyard_status outcome) {
  (void)outcome;
  pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
    _exit(127);
  }
  *(int *)argument = await_process(child, LIMIT_MS);
}

TEST(b5_fork_and_exec_in_a_request_is_unrestricted) {
  int status = -1;
  lanyard_worker *worker = open_worker(8);
  CHECK_EQUAL(lanyard_call(worker, fork_and_execute, &status), LANYARD_OK);
  CHECK_EQUAL(status, 7);
  work_with(worker);
  lanyard_release(&worker);
}

/* ----------------------------------------------------------------------------------- b7: signals */

/* And SIGPROF, by which profilers and crash reporters ask each thread. */
static const int left_open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF};

static uint64_t bit_of(int signal_number) { return UINT64_C(1) << (signal_number - 1); }

/* What nobody can block, and the two that glibc and musl keep for themselves. */
static uint64_t never_blocked(void) { return bit_of(SIGKILL) | bit_of(SIGSTOP) | bit_of(32) | bit_of(33) | bit_of(34); }

static void read_mask(void *mask, lanyard_status outcome) {
  (void)outcome;
  *(uint64_t *)mask = signal_mask();
}

static void check_worker_mask(uint64_t mask) {
  uint64_t wanted = ~UINT64_C(0);
  for (size_t i = 0; i < sizeof left_open / sizeof *left_open; i++) wanted &= ~bit_of(left_open[i]);
  CHECK_EQUAL(mask | never_blocked(), wanted | never_blocked());
}

static void set_mask(uint64_t mask) {
  sigset_t set;
  sigemptyset(&set);
  for (int number = 1; number <= 64; number++)
    if (mask & ~never_blocked() & bit_of(number)) sigaddset(&set, number);
  pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static const uint64_t creators_masks[] = {0, UINT64_C(1) << 9, UINT64_C(0x5555555555555555), ~UINT64_C(0)};
enum { MASKS = sizeof creators_masks / sizeof *creators_masks };

/* Eager and lazy, and the thread of asynchronous closes: each mask is the same, whoever creates. */
static void check_masks_of_threads(void) {
  uint64_t before = signal_mask(), mask = 0;
  lanyard_options options;
  lanyard_options_init(&options);
  for (int lazy = 0; lazy < 2; lazy++) {
    options.lazy = lazy;
    lanyard_worker *worker = open_with(&options);
    CHECK_EQUAL(signal_mask(), before);
    CHECK_EQUAL(lanyard_call(worker, read_mask, &mask), LANYARD_OK);
    CHECK_EQUAL(signal_mask(), before);
    check_worker_mask(mask);
    mask = 0;
    lanyard_close_async(worker, LANYARD_DRAIN, read_mask, &mask);
    CHECK_EQUAL(signal_mask(), before);
    lanyard_release(&worker);
    lanyard_quiesce(after(20 * SECONDS));
    check_worker_mask(mask);
  }
}

TEST(b7_worker_blocks_all_but_its_own_faults_and_sigprof_and_the_creators_mask_stays) {
  uint64_t old = signal_mask();
  for (int i = 0; i < MASKS; i++) {
    set_mask(creators_masks[i]);
    check_masks_of_threads();
  }
  set_mask(old);
  CHECK_EQUAL(signal_mask(), old);
}

TEST(b7_creators_mask_stays_when_the_thread_cannot_be_had) {
  uint64_t old = signal_mask();
  const char *const sites[] = {"pthread_create", "pthread_sigmask", "pthread_attr_init"};
  for (int i = 0; i < 3 * MASKS; i++) {
    set_mask(creators_masks[i % MASKS]);
    uint64_t before = signal_mask();
    lanyard_worker *worker = NULL;
    faults_at(sites[i / MASKS], 10);
    CHECK(lanyard_open(NULL, &worker) != LANYARD_OK);
    faults_end(NULL);
    CHECK(worker == NULL);
    CHECK_EQUAL(signal_mask(), before);
  }
  set_mask(old);
}

static void read_dispositions(struct sigaction *actions) {
  memset(actions, 0, 65 * sizeof *actions);
  for (int number = 1; number <= 64; number++) sigaction(number, NULL, &actions[number]);
}

TEST(b7_no_disposition_is_changed) {
  struct sigaction before[65], afterwards[65];
  read_dispositions(before);
  use_everything();
  read_dispositions(afterwards);
  for (int i = 1; i <= 64; i++) CHECK(before[i].sa_sigaction == afterwards[i].sa_sigaction);
}

/* Process-directed signals go to a thread that does not block them: the one that waits for them here, or
 * the worker if it does not block them. The main thread, the kernel's first choice, does. */
static _Atomic unsigned handled, handled_elsewhere;
static _Atomic int wanted_tid;
static _Atomic bool sinking;

static void on_signal(int number) {
  (void)number;
  if ((int)syscall(SYS_gettid) != atomic_load(&wanted_tid)) atomic_fetch_add(&handled_elsewhere, 1u);
  atomic_fetch_add(&handled, 1u);
}

static void take_signals(void *argument) {
  (void)argument;
  set_mask(0);
  atomic_store(&wanted_tid, (int)syscall(SYS_gettid));
  while (atomic_load(&sinking)) sched_yield();
}

static void send_signals(uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    unsigned before = atomic_load(&handled);
    kill(getpid(), i % 2 == 0 ? SIGUSR1 : SIGTERM);
    while (atomic_load(&handled) == before) sched_yield();
  }
}

static void stay_while_sinking(void *argument, lanyard_status outcome) {
  (void)outcome;
  (void)argument;
  while (atomic_load(&sinking)) sched_yield();
}

TEST(b7_no_signal_of_the_process_is_handled_on_a_worker) {
  uint64_t old = signal_mask();
  struct sigaction action = {.sa_handler = on_signal}, old_usr1, old_term;
  sigaction(SIGUSR1, &action, &old_usr1);
  sigaction(SIGTERM, &action, &old_term);
  atomic_store(&sinking, true);
  lanyard_worker *busy = open_worker(8), *parked = open_parked(); /* created while nothing is blocked */
  lanyard_submit(busy, stay_while_sinking, NULL, NULL);
  test_thread sink;
  thread_start(&sink, "sink", take_signals, NULL);
  while (atomic_load(&wanted_tid) == 0) sched_yield();
  set_mask(bit_of(SIGUSR1) | bit_of(SIGTERM));
  send_signals(scaled(10000));
  atomic_store(&sinking, false);
  thread_join(&sink);
  lanyard_release(&busy);
  lanyard_release(&parked);
  CHECK_EQUAL(atomic_load(&handled), scaled(10000));
  CHECK_EQUAL(atomic_load(&handled_elsewhere), 0);
  set_mask(old);
  sigaction(SIGUSR1, &old_usr1, NULL);
  sigaction(SIGTERM, &old_term, NULL);
}

/* ----------------------------------------------------------------------------------- b8: SIGPIPE */

static void write_to_nobody(void *argument, lanyard_status outcome) {
  (void)outcome;
  int descriptors[2];
  if (pipe(descriptors) != 0) return;
  close(descriptors[0]);
  *(bool *)argument = write(descriptors[1], "x", 1) < 0 && errno == EPIPE;
  close(descriptors[1]);
}

static int write_to_nobody_on_a_worker(void *argument) {
  (void)argument;
  signal(SIGPIPE, SIG_DFL);
  bool refused = false;
  lanyard_worker *worker = open_worker(8);
  lanyard_call(worker, write_to_nobody, &refused);
  bool lives = lanyard_call(worker, nothing, NULL) == LANYARD_OK;
  lanyard_release(&worker);
  return refused && lives ? 42 : 1;
}

TEST(b8_sigpipe_raised_on_a_worker_does_not_kill) {
  CHECK_EQUAL(run_in_child(write_to_nobody_on_a_worker, NULL, LIMIT_MS), 42);
}

/* ------------------------------------------------------------------------------ b9: cancellation */

static void leak_own_thread(void *thread, lanyard_status outcome) {
  (void)outcome;
  *(pthread_t *)thread = pthread_self();
}

/* A cancellation that was let in would end the thread here. */
static void come_to_a_cancellation_point(void *argument, lanyard_status outcome) {
  (void)outcome;
  pthread_testcancel();
  usleep(1);
  *(bool *)argument = true;
}

TEST(b9_cancelled_worker_lives_on) {
  lanyard_worker *worker = open_worker(8);
  pthread_t thread = pthread_self();
  bool lives = false;
  lanyard_call(worker, leak_own_thread, &thread);
  CHECK(!pthread_equal(thread, pthread_self()));
  CHECK_EQUAL(pthread_cancel(thread), 0);
  CHECK_EQUAL(lanyard_call(worker, come_to_a_cancellation_point, &lives), LANYARD_OK);
  CHECK(lives);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  lanyard_release(&worker);
}

static void cancel_own_thread(void *argument, lanyard_status outcome) {
  pthread_cancel(pthread_self());
  come_to_a_cancellation_point(argument, outcome);
}

TEST(b9_cancelled_thread_of_asynchronous_closes_lives_on) {
  bool lives[2] = {false, false};
  lanyard_worker *first = open_worker(8), *second = open_worker(8);
  lanyard_close_async(first, LANYARD_DRAIN, cancel_own_thread, &lives[0]);
  lanyard_close_async(second, LANYARD_DRAIN, cancel_own_thread, &lives[1]);
  lanyard_release(&first);
  lanyard_release(&second);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
  CHECK(lives[0] && lives[1]);
}

/* Every function that waits, or could, by a thread whose cancellation is pending. The worker is held until
 * the thread has had the time to wait; it is open, or full, or closing, as the function needs it. */
typedef struct pending_case {
  const char *name;
  void (*function)(lanyard_worker *worker);
  bool fills;  /* the ring is full before */
  bool starts; /* a thread */
} pending_case;

static void wait_in_submit(lanyard_worker *worker) { CHECK_EQUAL(lanyard_submit(worker, nothing, NULL, NULL), LANYARD_OK); }
static void wait_in_submit_until(lanyard_worker *worker) {
  CHECK_EQUAL(lanyard_submit_until(worker, nothing, NULL, after(60 * SECONDS), NULL), LANYARD_OK);
}
static void wait_in_call(lanyard_worker *worker) { CHECK_EQUAL(lanyard_call(worker, nothing, NULL), LANYARD_OK); }
static void wait_in_call_until(lanyard_worker *worker) {
  CHECK_EQUAL(lanyard_call_until(worker, nothing, NULL, after(60 * SECONDS)), LANYARD_OK);
}
static void wait_in_close(lanyard_worker *worker) { CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK); }
static void wait_in_close_until(lanyard_worker *worker) {
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, after(60 * SECONDS)), LANYARD_OK);
}
static void wait_in_release(lanyard_worker *worker) {
  (void)worker;
  lanyard_worker *own = open_with(NULL);
  lanyard_submit(own, nothing, NULL, NULL);
  lanyard_release(&own);
}
static void wait_in_open(lanyard_worker *worker) {
  (void)worker;
  lanyard_worker *own = NULL;
  faults_at("pthread_create", 5);
  CHECK_EQUAL(lanyard_open(NULL, &own), LANYARD_OK);
  faults_end(NULL);
  lanyard_release(&own);
}
static void wait_in_quiesce(lanyard_worker *worker) {
  lanyard_worker *zombie = open_with(NULL), *own = zombie;
  lanyard_submit(zombie, release_on_the_worker, &own, NULL);
  lanyard_close_async(worker, LANYARD_DRAIN, nothing, NULL);
  while (lanyard_quiesce(after(60 * SECONDS)) != 1) continue; /* the zombie first has to be one */
}
static int report_to[2]; /* pipe and close are cancellation points themselves */

static void wait_in_report(lanyard_worker *worker) {
  (void)worker;
  CHECK_EQUAL(lanyard_report_live(report_to[1]), 1);
}
static void wait_in_the_rest(lanyard_worker *worker) {
  lanyard_stats stats = {.size = sizeof stats};
  size_t shown = 0;
  lanyard_weak *weak = lanyard_weak_create(worker);
  lanyard_worker *again = lanyard_weak_lock(weak);
  lanyard_release(&again);
  lanyard_weak_destroy(weak);
  CHECK_EQUAL(lanyard_when_room(worker, nothing, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_try_submit(worker, nothing, NULL, NULL), LANYARD_OK);
  CHECK_EQUAL(lanyard_cancel(worker, 1), LANYARD_TOO_LATE);
  CHECK_EQUAL(lanyard_get_stats(worker, &stats), LANYARD_OK);
  lanyard_each_live(count_shown, &shown);
  CHECK_EQUAL(shown, lanyard_live_count());
  CHECK(!lanyard_is_closed(worker) && !lanyard_is_current(worker));
}

static const pending_case pending_cases[] = {
    {"submit", wait_in_submit, true, false},
    {"submit_until", wait_in_submit_until, true, false},
    {"call", wait_in_call, false, false},
    {"call_until", wait_in_call_until, false, false},
    {"close", wait_in_close, false, false},
    {"close_until", wait_in_close_until, false, false},
    {"release", wait_in_release, false, true},
    {"open", wait_in_open, false, true},
    {"quiesce", wait_in_quiesce, false, true},
    {"report_live", wait_in_report, false, false},
    {"the rest", wait_in_the_rest, false, false},
};

typedef struct pending_call {
  const pending_case *what;
  lanyard_worker *worker;
  sem_t about_to;
} pending_call;

static void *call_while_pending(void *argument) {
  pending_call *call = argument;
  pthread_cancel(pthread_self());
  sem_post(&call->about_to);
  call->what->function(call->worker);
  return NULL;
}

static void check_pending(const pending_case *what) {
  test_latch latch;
  latch_init(&latch);
  pending_call call = {.what = what, .worker = open_worker(2)};
  sem_init(&call.about_to, 0, 0);
  lanyard_submit(call.worker, latch_request, &latch, NULL);
  latch_await(&latch);
  for (int i = 0; i < 2 && what->fills; i++) lanyard_submit(call.worker, nothing, NULL, NULL);
  pthread_t thread;
  void *result = &latch;
  if (pthread_create(&thread, NULL, call_while_pending, &call) != 0) abort();
  await_post(&call.about_to);
  usleep(20000); /* lets it come to its wait; if it does not, the test only sees less */
  latch_open(&latch);
  pthread_join(thread, &result);
  if (!CHECK(result == NULL)) fprintf(stderr, "cancelled in %s\n", what->name);
  lanyard_release(&call.worker);
  CHECK_EQUAL(lanyard_quiesce(after(20 * SECONDS)), 0);
  sem_destroy(&call.about_to);
  latch_destroy(&latch);
}

TEST(b9_no_function_acts_on_a_pending_cancellation) {
  CHECK(pipe(report_to) == 0);
  for (size_t i = 0; i < sizeof pending_cases / sizeof *pending_cases; i++)
    if (!pending_cases[i].starts || !tool_is("drd")) check_pending(&pending_cases[i]);
    else left_out(pending_cases[i].name, "the tool's own pthread_create is a cancellation point");
  close(report_to[0]);
  close(report_to[1]);
}

/* --------------------------------------------------------------------- b10: the end of the thread */

/* Plain memory: the worker's writes are read after close, ThreadSanitizer sees whether that is ordered. */
static char order[16];

static void note(char what) {
  size_t length = strlen(order);
  if (length < sizeof order - 1) order[length] = what;
}

static pthread_key_t key;

static void on_start(void *context) {
  (void)context;
  note('S');
}
static void on_stop(void *context) {
  (void)context;
  note('E');
}
static void on_thread_end(void *value) {
  (void)value;
  note('D');
}
static void note_request(void *argument, lanyard_status outcome) {
  (void)outcome;
  pthread_setspecific(key, &order);
  note(*(const char *)argument);
}

static lanyard_worker *open_noting(void (*destructor)(void *)) {
  memset(order, 0, sizeof order);
  if (pthread_key_create(&key, destructor) != 0) abort();
  lanyard_options options;
  lanyard_options_init(&options);
  options.on_start = on_start;
  options.on_stop = on_stop;
  return open_with(&options);
}

TEST(b10_start_requests_stop_destructors_and_then_close_returns) {
  lanyard_worker *worker = open_noting(on_thread_end);
  char first = '1', second = '2';
  lanyard_submit(worker, note_request, &first, NULL);
  lanyard_submit(worker, note_request, &second, NULL);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  note('C');
  CHECK(strcmp(order, "S12EDC") == 0);
  lanyard_release(&worker);
  pthread_key_delete(key);
}

static test_latch in_destructor;

static void hold_the_end(void *value) {
  (void)value;
  latch_request(&in_destructor, LANYARD_OK);
  note('D');
}

static void close_and_note(void *worker) {
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  note('C');
}

TEST(b10_close_waits_for_the_destructors) {
  latch_init(&in_destructor);
  lanyard_worker *worker = open_noting(hold_the_end);
  char only = '1';
  lanyard_call(worker, note_request, &only);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  latch_await(&in_destructor);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, after(5 * MILLISECONDS)), LANYARD_TIMED_OUT);
  test_thread closer;
  gate_arm(0, "closer", "joining");
  thread_start(&closer, "closer", close_and_note, worker);
  gate_await(0);
  gate_open(0);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, after(5 * MILLISECONDS)), LANYARD_TIMED_OUT);
  latch_open(&in_destructor);
  thread_join(&closer);
  CHECK(strcmp(order, "S1EDC") == 0);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_OK);
  lanyard_release(&worker);
  pthread_key_delete(key);
  latch_destroy(&in_destructor);
}

/* The destructor's own view of its worker, and the last reference, dropped there. */
typedef struct last_owner {
  lanyard_worker *worker;
  bool current;
  lanyard_status submitted, called, closed;
} last_owner;

static void release_in_destructor(void *value) {
  last_owner *it = value;
  it->current = lanyard_is_current(it->worker);
  it->submitted = lanyard_submit(it->worker, never, NULL, NULL);
  it->called = lanyard_call(it->worker, never, NULL);
  it->closed = lanyard_close(it->worker, LANYARD_DRAIN);
  lanyard_release(&it->worker);
}

static void own_in_key(void *value, lanyard_status outcome) {
  (void)outcome;
  pthread_setspecific(key, value);
}

TEST(b10_last_release_inside_a_destructor) {
  lanyard_worker *worker = open_noting(release_in_destructor);
  last_owner owner = {.worker = lanyard_retain(worker)};
  lanyard_call(worker, own_in_key, &owner);
  gate_arm(0, "worker", "finished");
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_TIMED_OUT);
  lanyard_release(&worker);
  gate_open(0);
  CHECK(eventually(all_are_gone, NULL));
  CHECK(owner.current && owner.worker == NULL);
  CHECK_EQUAL(owner.submitted, LANYARD_CLOSED);
  CHECK_EQUAL(owner.called, LANYARD_CLOSED);
  CHECK_EQUAL(owner.closed, LANYARD_CLOSING);
  pthread_key_delete(key);
}

/* ------------------------------------------------------------------ b11: a thread that cannot be had */

TEST(b11_thread_is_asked_for_ten_times) {
  for (unsigned refusals = 1; refusals <= 9; refusals++) {
    lanyard_worker *worker = NULL;
    faults_at("pthread_create", refusals);
    CHECK_EQUAL(lanyard_open(NULL, &worker), LANYARD_OK);
    faults_end(NULL);
    work_with(worker);
    lanyard_release(&worker);
  }
}

TEST(b11_tenth_refusal_is_reported_after_a_tenth_of_a_second) {
  unsigned threads = thread_count();
  lanyard_worker *worker = (lanyard_worker *)&threads;
  faults_at("pthread_create", 10);
  uint64_t begin = lanyard_now_ns();
  CHECK_EQUAL(lanyard_open(NULL, &worker), LANYARD_NO_THREAD);
  CHECK(lanyard_now_ns() - begin >= 100 * MILLISECONDS);
  CHECK(worker == NULL);
  CHECK_EQUAL(lanyard_live_count(), 0);
  CHECK_EQUAL(thread_count(), threads);
  CHECK_EQUAL(lanyard_open(NULL, &worker), LANYARD_OK); /* the eleventh attempt */
  faults_end(NULL);
  lanyard_release(&worker);
}

TEST(b11_lazy_worker_tries_again_with_the_next_submit) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.lazy = true;
  int count = 0;
  lanyard_ticket ticket = 4711;
  lanyard_worker *worker = open_with(&options);
  faults_at("pthread_create", 20);
  CHECK_EQUAL(lanyard_try_submit(worker, never, NULL, &ticket), LANYARD_NO_THREAD);
  CHECK_EQUAL(lanyard_call(worker, never, NULL), LANYARD_NO_THREAD);
  CHECK_EQUAL(ticket, 4711);
  CHECK_EQUAL(lanyard_submit(worker, count_up, &count, NULL), LANYARD_OK);
  faults_end(NULL);
  CHECK_EQUAL(lanyard_close(worker, LANYARD_DRAIN), LANYARD_OK);
  CHECK_EQUAL(count, 1);
  lanyard_release(&worker);
}

TEST(b11_worker_that_never_got_a_thread_closes_at_once) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.lazy = true;
  lanyard_worker *worker = open_with(&options);
  faults_at("pthread_create", 10);
  CHECK_EQUAL(lanyard_submit(worker, never, NULL, NULL), LANYARD_NO_THREAD);
  faults_end(NULL);
  CHECK_EQUAL(lanyard_close_until(worker, LANYARD_DRAIN, 0), LANYARD_OK);
  CHECK_EQUAL(lanyard_submit(worker, never, NULL, NULL), LANYARD_CLOSED);
  lanyard_release(&worker);
}

static size_t address_space(void) {
  size_t pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%zu", &pages) != 1) abort();
  fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* No hook here: the kernel refuses the stack. */
static void open_without_address_space(void *argument) {
  (void)argument;
  struct rlimit before, tight;
  lanyard_worker *worker = NULL, *lazy = NULL;
  lanyard_options options;
  lanyard_options_init(&options);
  options.stack_size_bytes = (size_t)64 << 20;
  options.lazy = true;
  CHECK_EQUAL(lanyard_open(&options, &lazy), LANYARD_OK);
  options.lazy = false;
  getrlimit(RLIMIT_AS, &before);
  tight = before;
  tight.rlim_cur = address_space() + ((size_t)16 << 20);
  CHECK(setrlimit(RLIMIT_AS, &tight) == 0);
  unsigned threads = thread_count();
  CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_NO_THREAD);
  CHECK_EQUAL(lanyard_submit(lazy, nothing, NULL, NULL), LANYARD_NO_THREAD);
  CHECK_EQUAL(lanyard_live_count(), 1);
  CHECK_EQUAL(thread_count(), threads);
  CHECK(setrlimit(RLIMIT_AS, &before) == 0);
  CHECK_EQUAL(lanyard_open(&options, &worker), LANYARD_OK);
  work_with(worker);
  work_with(lazy);
  lanyard_release(&worker);
  lanyard_release(&lazy);
  CHECK_EQUAL(lanyard_quiesce(after(10 * SECONDS)), 0);
}

TEST(b11_refusal_by_the_kernel_leaves_nothing_behind) {
  if (!tool_is("native")) {
    left_out("RLIMIT_AS", "the tool itself needs the address space");
    return;
  }
  checks_hold_in_child(open_without_address_space, NULL, LIMIT_MS);
}

/* ----------------------------------------------------------------------------------- b12: stacks */

typedef struct stack_seen {
  size_t size, guard;
  char *lowest;
} stack_seen;

static void see_stack(void *argument, lanyard_status outcome) {
  (void)outcome;
  stack_seen *seen = argument;
  pthread_attr_t attributes;
  void *lowest;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) abort();
  pthread_attr_getstack(&attributes, &lowest, &seen->size);
  pthread_attr_getguardsize(&attributes, &seen->guard);
  seen->lowest = lowest;
  pthread_attr_destroy(&attributes);
}

static lanyard_status open_stack(size_t bytes, lanyard_worker **worker_out) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.stack_size_bytes = bytes;
  return lanyard_open(&options, worker_out);
}

TEST(b12_absurd_stacks_are_refused) {
  const size_t sizes[] = {1, 4096, (size_t)PTHREAD_STACK_MIN - 1, ((size_t)1 << 40) + 1, SIZE_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    lanyard_worker *worker = (lanyard_worker *)&worker;
    CHECK_EQUAL(open_stack(sizes[i], &worker), LANYARD_INVALID);
    CHECK(worker == NULL);
  }
}

TEST(b12_largest_stack_is_had_or_refused) {
  if (tool_is("helgrind")) {
    left_out("the largest stack", "the tool calls a refused thread an error");
    return;
  }
  lanyard_worker *worker = NULL;
  lanyard_status status = open_stack((size_t)1 << 40, &worker);
  CHECK(status == LANYARD_OK || status == LANYARD_NO_THREAD);
  CHECK((worker != NULL) == (status == LANYARD_OK));
  if (worker != NULL) work_with(worker);
  lanyard_release(&worker);
}

/* Whether the page below a stack cannot be touched. */
static bool is_guarded(const char *lowest) {
  bool guarded = false;
  FILE *maps = fopen("/proc/self/maps", "r");
  if (maps == NULL) abort();
  char line[512], rights[8];
  unsigned long from, to;
  while (fgets(line, sizeof line, maps) != NULL)
    if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3 && from <= (uintptr_t)lowest - 1 &&
        (uintptr_t)lowest - 1 < to)
      guarded = rights[0] == '-' && rights[1] == '-';
  fclose(maps);
  return guarded;
}

static void check_stack(size_t bytes, size_t at_least) {
  lanyard_worker *worker = NULL;
  stack_seen seen = {0, 0, NULL};
  if (!CHECK_EQUAL(open_stack(bytes, &worker), LANYARD_OK)) return;
  CHECK_EQUAL(lanyard_call(worker, see_stack, &seen), LANYARD_OK);
  CHECK(seen.size >= at_least);
  CHECK(seen.guard >= (size_t)sysconf(_SC_PAGESIZE));
  CHECK(is_guarded(seen.lowest));
  lanyard_release(&worker);
}

TEST(b12_stacks_have_the_size_asked_for_and_a_guard) {
  check_stack(256 << 10, 256 << 10);
  check_stack((256 << 10) + 1, (256 << 10) + 1);
  check_stack(16 << 20, 16 << 20);
  check_stack(0, 1 << 20);
}

TEST(b12_smallest_stack_serves) {
  if (SANITIZED) {
    left_out("the smallest stack", "instrumented code needs more");
    return;
  }
  check_stack((size_t)PTHREAD_STACK_MIN, (size_t)PTHREAD_STACK_MIN);
}

static void open_where_the_default_is_small(void *argument) {
  (void)argument;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 128 << 10);
  CHECK(pthread_setattr_default_np(&small) == 0);
  check_stack(0, 1 << 20);
  check_stack(256 << 10, 256 << 10);
  pthread_attr_destroy(&small);
}

TEST(b12_default_is_a_mebibyte_where_the_systems_is_less) {
  checks_hold_in_child(open_where_the_default_is_small, NULL, LIMIT_MS);
}

/* Uses so many bytes of stack, whatever a frame costs here. */
__attribute__((noinline)) static size_t use_stack(const volatile char *begin, size_t bytes) {
  volatile char frame[512];
  frame[0] = 1;
  size_t used = (size_t)((uintptr_t)begin - (uintptr_t)frame);
  if (used < bytes) used = use_stack(begin, bytes);
  return used + (size_t)frame[0] - 1;
}

static void recurse(void *bytes, lanyard_status outcome) {
  (void)outcome;
  volatile char here = 0;
  *(size_t *)bytes = use_stack(&here, *(size_t *)bytes);
}

TEST(b12_recursion_that_fits) {
  if (SANITIZED) {
    left_out("measuring frames", "the sanitizer may keep them elsewhere");
    return;
  }
  lanyard_worker *worker = NULL;
  size_t bytes = 224 << 10;
  if (!CHECK_EQUAL(open_stack(256 << 10, &worker), LANYARD_OK)) return;
  CHECK_EQUAL(lanyard_call(worker, recurse, &bytes), LANYARD_OK);
  CHECK(bytes >= 224 << 10);
  lanyard_release(&worker);
}

static int overflow_the_stack(void *argument) {
  (void)argument;
  lanyard_worker *worker = NULL;
  size_t bytes = 300 << 10;
  if (open_stack(256 << 10, &worker) != LANYARD_OK) return 1;
  lanyard_call(worker, recurse, &bytes);
  return 0;
}

TEST(b12_overflow_hits_the_guard) {
  if (!tool_is("native")) {
    left_out("an overflow", "the tool reports it, and frames differ");
    return;
  }
  CHECK_EQUAL(run_in_child(overflow_the_stack, NULL, LIMIT_MS), 256 + SIGSEGV);
}

/* ------------------------------------------------------------------------------------ b13: names */

static void read_kernel_name(void *text, lanyard_status outcome) {
  (void)outcome;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%ld/comm", (long)syscall(SYS_gettid));
  FILE *file = fopen(path, "r");
  if (file == NULL) abort();
  char *line = fgets(text, 32, file);
  if (line != NULL) line[strcspn(line, "\n")] = '\0';
  fclose(file);
}

static void copy_name(const lanyard_info *info, void *text) { snprintf(text, 64, "%s", info->name); }

static void check_name(const char *name, const char *in_kernel) {
  char seen[32] = "?", listed[64] = "?", own_before[32] = "?", own_after[32] = "?";
  lanyard_options options;
  lanyard_options_init(&options);
  options.name = name;
  read_kernel_name(own_before, LANYARD_OK);
  lanyard_worker *worker = open_with(&options);
  lanyard_call(worker, read_kernel_name, seen);
  lanyard_each_live(copy_name, listed);
  read_kernel_name(own_after, LANYARD_OK);
  lanyard_release(&worker);
  if (!CHECK(strcmp(seen, in_kernel) == 0)) fprintf(stderr, "\"%s\", wanted \"%s\"\n", seen, in_kernel);
  CHECK(strcmp(listed, name == NULL ? "lanyard" : name) == 0);
  CHECK(strcmp(own_before, own_after) == 0);
}

TEST(b13_names_are_cut_between_characters) {
  check_name("123456789012345", "123456789012345");
  check_name("1234567890123456", "123456789012345");
  check_name("12345678901234567890123456789012345678901234567890", "123456789012345");
  check_name("1234567890123\xc3\xa9", "1234567890123\xc3\xa9");         /* two bytes, 15 in all */
  check_name("12345678901234\xc3\xa9", "12345678901234");               /* 16 */
  check_name("123456789012\xe2\x82\xac", "123456789012\xe2\x82\xac");   /* three bytes, 15 */
  check_name("1234567890123\xe2\x82\xac", "1234567890123");             /* 16 */
  check_name("12345678901234\xe2\x82\xac", "12345678901234");           /* 17 */
  check_name("12345678901\xf0\x9f\x90\xa2", "12345678901\xf0\x9f\x90\xa2"); /* four bytes, 15 */
  check_name("123456789012\xf0\x9f\x90\xa2", "123456789012");
  check_name("1234567890123\xf0\x9f\x90\xa2", "1234567890123");
  check_name("12345678901234\xf0\x9f\x90\xa2", "12345678901234");
  check_name("123456789012345\xc3\xa9", "123456789012345"); /* cut just before it */
}

TEST(b13_null_is_lanyard_and_empty_is_empty) {
  check_name(NULL, "lanyard");
  check_name("", "");
  check_name("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", ""); /* no character at all */
}
