/* seam.h - the one door to everything outside the core's own logic.
 *
 * Every atomic access, wait, wake, lock, thread, clock and allocation of the core goes through a name of
 * this header. In the product each is one line over C11 atomics, a futex or libc, and the hooks below do
 * not exist. A build with LANYARD_TESTING routes each through `lanyard__hooks`, so that a test can
 *
 *   (a) hold a thread at a named point               point
 *   (b) fail the k-th fallible call                  fails
 *   (c) replace the scheduler                        step, and every primitive below it
 *   (d) see happens-before edges (annotate.h)        LANYARD_ANNOTATE, independent of the hooks
 *
 * This file is also the only one that knows the platform: Linux 4.14 or later, glibc or musl.
 */
#ifndef LANYARD_SEAM_H
#define LANYARD_SEAM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#ifndef __linux__
#error "lanyard: this platform has no port yet; seam.h is the only file that needs one"
#endif

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "annotate.h"
#include "lanyard.h"

#define LY_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define LY_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* 128 and not 64: the prefetcher of x86 fetches lines in pairs. */
#define LY_LINE 128

/* Our own mistakes, in debug builds. A product build keeps no check that cannot fail. */
#if LANYARD_DEBUG
#define ly_assert(condition) \
  ((condition) ? (void)0 : ly_die("lanyard: internal error: " #condition " (" __FILE__ ")\n"))
#else
#define ly_assert(condition) ((void)0)
#endif

/* Stops the process with one line. For misuse and our own mistakes, in debug builds only. */
static inline void ly_die(const char *text) {
  ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
  (void)ignored; /* there is nobody left to tell */
  abort();
}

/* ------------------------------------------------------------------------------------ test hooks */

#if LANYARD_TESTING
/* What a test build may replace. A NULL member means the real thing. Set before the first call into the
 * library, by one thread, and read by all; only `point` and `fails` may change while workers run. */
struct lanyard__hooks {
  void (*_Atomic point)(const char *name, const void *subject);
  bool (*_Atomic fails)(const char *site);
  void (*step)(const char *operation, const volatile void *address);
  int (*futex_wait)(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns);
  void (*futex_wake)(_Atomic uint32_t *word, int count);
  void (*lock)(pthread_mutex_t *mutex);
  void (*unlock)(pthread_mutex_t *mutex);
  int (*thread_create)(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *);
  int (*thread_join)(pthread_t thread);
  bool (*thread_try_join)(pthread_t thread, pid_t tid);
  uint64_t (*now_ns)(void);
  void (*yield)(void);
  void (*pause)(void);
  void (*sleep_ns)(uint64_t duration_ns);
  uint64_t initial_position; /* in requests: where a new ring's counters start */
};
extern struct lanyard__hooks lanyard__hooks;
#define LY_HOOKED(member) LY_UNLIKELY(lanyard__hooks.member != NULL)
/* A named place in the protocol where a test may hold the thread. */
static inline void ly_point(const char *name, const volatile void *subject) {
  void (*point)(const char *, const void *) =
      atomic_load_explicit(&lanyard__hooks.point, memory_order_relaxed);
  if (point != NULL) point(name, (const void *)(uintptr_t)subject);
}
/* Whether the fallible call named `site` shall fail now. */
static inline bool ly_fails(const char *site) {
  bool (*fails)(const char *) = atomic_load_explicit(&lanyard__hooks.fails, memory_order_relaxed);
  return fails != NULL && fails(site);
}
#if LANYARD_COVERAGE /* a branch at every atomic access would drown those of the core */
#define ly_step(operation, address) ((void)0)
#else
#define ly_step(operation, address) \
  ((void)(LY_HOOKED(step) ? (lanyard__hooks.step((operation), (address)), 0) : 0))
#endif
/* Leaves the function with the hook's answer if there is a hook. */
#define LY_REPLACED(member, ...) \
  do { \
    if (LY_HOOKED(member)) return lanyard__hooks.member(__VA_ARGS__); \
  } while (0)
#define LY_REPLACED_VOID(member, ...) \
  do { \
    if (LY_HOOKED(member)) { \
      lanyard__hooks.member(__VA_ARGS__); \
      return; \
    } \
  } while (0)
#else
#define ly_point(name, subject) ((void)0)
#define ly_fails(site) false
#define ly_step(operation, address) ((void)0)
#define LY_REPLACED(member, ...) ((void)0)
#define LY_REPLACED_VOID(member, ...) ((void)0)
#endif

/* --------------------------------------------------------------------------------------- atomics */

/* The order is part of every access: ly_load(&word, acquire). */
#define ly_load(p, order) (ly_step("load", (p)), atomic_load_explicit((p), memory_order_##order))
#define ly_store(p, value, order) \
  (ly_step("store", (p)), atomic_store_explicit((p), (value), memory_order_##order))
#define ly_exchange(p, value, order) \
  (ly_step("exchange", (p)), atomic_exchange_explicit((p), (value), memory_order_##order))
#define ly_add(p, value, order) \
  (ly_step("add", (p)), atomic_fetch_add_explicit((p), (value), memory_order_##order))
#define ly_sub(p, value, order) \
  (ly_step("sub", (p)), atomic_fetch_sub_explicit((p), (value), memory_order_##order))
#define ly_or(p, value, order) \
  (ly_step("or", (p)), atomic_fetch_or_explicit((p), (value), memory_order_##order))
#define ly_and(p, value, order) \
  (ly_step("and", (p)), atomic_fetch_and_explicit((p), (value), memory_order_##order))
#define ly_cas(p, expected, desired, success, failure) \
  (ly_step("cas", (p)), \
   atomic_compare_exchange_strong_explicit((p), (expected), (desired), memory_order_##success, \
                                           memory_order_##failure))

/* A counter with one writer: no read-modify-write is needed, and nothing is read through it. */
#define ly_bump(p, amount) \
  ly_store((p), ly_load((p), relaxed) + (amount), relaxed)

/* ------------------------------------------------------------------------------------------ time */

static inline uint64_t ly_clock_ns(clockid_t clock) {
  struct timespec time;
  int failed = clock_gettime(clock, &time);
  ly_assert(failed == 0); /* fails only for a clock that does not exist */
  (void)failed;
  return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

static inline uint64_t ly_now_ns(void) {
  LY_REPLACED(now_ns, );
  return ly_clock_ns(CLOCK_MONOTONIC);
}

/* A few milliseconds behind at most, and five times cheaper. */
static inline uint64_t ly_coarse_ns(void) {
  LY_REPLACED(now_ns, );
  return ly_clock_ns(CLOCK_MONOTONIC_COARSE);
}

static inline struct timespec ly_timespec(uint64_t ns) {
  struct timespec time = {.tv_sec = (time_t)(ns / UINT64_C(1000000000)),
                          .tv_nsec = (long)(ns % UINT64_C(1000000000))};
  return time;
}

static inline void ly_sleep_ns(uint64_t duration_ns) {
  LY_REPLACED_VOID(sleep_ns, duration_ns);
  /* nanosleep is a cancellation point; no caller of ours may vanish in the middle of a protocol. */
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  struct timespec time = ly_timespec(duration_ns);
  clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
  pthread_setcancelstate(state, &state);
}

static inline void ly_yield(void) {
  LY_REPLACED_VOID(yield, );
  sched_yield();
}

/* One turn of a spin. */
static inline void ly_pause(void) {
  LY_REPLACED_VOID(pause, );
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#else
  atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* --------------------------------------------------------------------------------- waits and wakes */

/* Where a long has 32 bits, time_t may have 64: then the call has another name. */
#if defined(SYS_futex_time64) && ULONG_MAX == 0xffffffffUL
#define LY_SYS_FUTEX (sizeof(time_t) == 8 ? SYS_futex_time64 : SYS_futex)
#else
#define LY_SYS_FUTEX SYS_futex
#endif


/* Sleeps while *word == expected. Returns ETIMEDOUT once the deadline has passed; 0 otherwise, also for a
 * signal or for no reason at all: the caller looks at the word again, in a loop. */
static inline int ly_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns) {
  LY_REPLACED(futex_wait, word, expected, deadline_ns);
  struct timespec deadline, *limit = NULL;
  if (deadline_ns != LANYARD_FOREVER) {
    deadline = ly_timespec(deadline_ns);
    limit = &deadline;
  }
  long result = syscall(LY_SYS_FUTEX, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, limit, NULL,
                        FUTEX_BITSET_MATCH_ANY);
  if (result == 0) return 0;
  ly_assert(errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT);
  return errno == ETIMEDOUT ? ETIMEDOUT : 0;
}

/* Wakes up to `count` sleepers. The word may be dead already: the kernel only uses its address. */
static inline void ly_futex_wake(_Atomic uint32_t *word, int count) {
  LY_REPLACED_VOID(futex_wake, word, count);
  syscall(LY_SYS_FUTEX, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
}

/* ----------------------------------------------------------------------------------------- locks */

static inline int ly_lock_init(pthread_mutex_t *mutex) {
  if (ly_fails("pthread_mutex_init")) return ENOMEM;
  return pthread_mutex_init(mutex, NULL);
}

static inline void ly_lock(pthread_mutex_t *mutex) {
  LY_REPLACED_VOID(lock, mutex);
  int failed = pthread_mutex_lock(mutex);
  ly_assert(failed == 0);
  (void)failed;
}

static inline void ly_unlock(pthread_mutex_t *mutex) {
  LY_REPLACED_VOID(unlock, mutex);
  int failed = pthread_mutex_unlock(mutex);
  ly_assert(failed == 0);
  (void)failed;
}

#if LANYARD_DEBUG
/* Whether anybody holds it. */
static inline bool ly_is_held(pthread_mutex_t *mutex) {
  if (pthread_mutex_trylock(mutex) != 0) return true;
  pthread_mutex_unlock(mutex);
  return false;
}
#endif

/* --------------------------------------------------------------------------------------- threads */

static inline int ly_attributes_init(pthread_attr_t *attributes) {
  if (ly_fails("pthread_attr_init")) return ENOMEM;
  return pthread_attr_init(attributes);
}

static inline int ly_attributes_stack(pthread_attr_t *attributes, size_t bytes) {
  if (ly_fails("pthread_attr_setstacksize")) return EINVAL;
  return pthread_attr_setstacksize(attributes, bytes);
}

static inline int ly_signal_mask(const sigset_t *set, sigset_t *old) {
  if (ly_fails("pthread_sigmask")) return EINVAL;
  return pthread_sigmask(SIG_SETMASK, set, old);
}

static inline int ly_thread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                   void *(*start)(void *), void *argument) {
  if (ly_fails("pthread_create")) return EAGAIN;
  LY_REPLACED(thread_create, thread, attributes, start, argument);
  return pthread_create(thread, attributes, start, argument);
}

static inline void ly_thread_join(pthread_t thread) {
#if LANYARD_TESTING
  if (LY_HOOKED(thread_join)) {
    lanyard__hooks.thread_join(thread);
    return;
  }
#endif
  /* A cancellation point: a closer that vanished here would leave the thread unjoined for ever. */
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int failed = pthread_join(thread, NULL);
  pthread_setcancelstate(state, &state);
  ly_assert(failed == 0);
  (void)failed;
}

/* write(2), which is a cancellation point too. */
static inline ssize_t ly_write(int descriptor, const void *bytes, size_t size) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  ssize_t written = write(descriptor, bytes, size);
  int error = errno;
  pthread_setcancelstate(state, &state);
  errno = error;
  return written;
}

static inline pid_t ly_thread_id(void) { return (pid_t)syscall(SYS_gettid); }

/* Whether the kernel has let go of a thread of this process, destructors and all. Once it has, the id may name
 * another thread: only for an id that cannot have come round, and for tests. */
static inline bool ly_thread_is_gone(pid_t tid) {
  return syscall(SYS_tgkill, getpid(), tid, 0) != 0 && errno == ESRCH;
}

/* Joins a thread that is over, destructors and all; false: it is not. Goes by the thread and not by its id, which the
 * kernel may have given to another one since. valgrind's tools know pthread_join alone: there the id decides, which
 * would have to come round within one run. */
static inline bool ly_thread_try_join(pthread_t thread, pid_t tid) {
  LY_REPLACED(thread_try_join, thread, tid);
  if (!ly_runs_on_valgrind()) return pthread_tryjoin_np(thread, NULL) == 0;
  if (!ly_thread_is_gone(tid)) return false;
  ly_thread_join(thread);
  return true;
}

/* Policy, priority and nice value of a thread, as the kernel has them: one call for all three. glibc has no name for
 * it yet. */
typedef struct ly_schedule {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime_ns, deadline_ns, period_ns;
} ly_schedule;

static inline long ly_schedule_read(ly_schedule *schedule) {
  return syscall(SYS_sched_getattr, 0, schedule, (unsigned)sizeof *schedule, 0u);
}

static inline long ly_schedule_take(const ly_schedule *schedule) {
  return syscall(SYS_sched_setattr, 0, schedule, 0u);
}

/* --------------------------------------------------------------------------------------- memory */

static inline void *ly_calloc(const char *site, size_t count, size_t size) {
  (void)site;
  if (ly_fails(site)) return NULL;
  return calloc(count, size);
}

/* Zeroed memory that begins on a cache line of its own. `size` is a multiple of LY_LINE. */
static inline void *ly_calloc_lines(const char *site, size_t size) {
  (void)site;
  if (ly_fails(site)) return NULL;
  void *memory = aligned_alloc(LY_LINE, size);
  return memory == NULL ? NULL : memset(memory, 0, size);
}

static inline void ly_free(void *memory) { free(memory); }

/* A page of zeros that a child of fork finds zeroed again. *wiped tells whether the kernel can do that. */
static inline void *ly_wiped_page(size_t bytes, bool *wiped) {
  if (ly_fails("mmap")) return NULL;
  void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return NULL;
  *wiped = !ly_fails("madvise") && madvise(page, bytes, MADV_WIPEONFORK) == 0;
  return page;
}

/* Zeroed memory of which nothing is resident before it is written. */
static inline void *ly_map(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

static inline void ly_unmap(void *page, size_t bytes) { munmap(page, bytes); }

#endif
