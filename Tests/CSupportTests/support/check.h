/* check.h - a small test harness: named tests, checks that count, a limit for each, nothing left behind.
 *
 * A test is a function made with TEST(name). It fails when a CHECK in it fails, when it takes longer than
 * its limit, or when it leaves a worker or a thread behind. The program closes with "N passed, N failed".
 *
 * Environment
 *   LANYARD_TEST_SCALE  per cent of the native count that a repeated test does (default 100)
 *   LANYARD_TEST_TOOL   native, tsan, asan, memcheck, helgrind, drd, coverage (default native)
 *   LANYARD_TEST_SEED   decimal seed of all random choices (default: from the clock, and printed)
 *   LANYARD_TEST_ONLY   run only tests whose name contains this
 */
#ifndef LANYARD_TEST_CHECK_H
#define LANYARD_TEST_CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <lanyard.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECONDS UINT64_C(1000000000)
#define MILLISECONDS UINT64_C(1000000)

void check_register(const char *name, void (*function)(void), unsigned limit_seconds);
bool check_that(bool holds, const char *text, const char *file, int line);
bool check_equal(int64_t got, int64_t wanted, const char *text, const char *file, int line);

/* A test with a limit of its own, in seconds of a native run. */
#define TEST_WITHIN(limit_seconds, name) \
  static void name(void); \
  __attribute__((constructor)) static void register_##name(void) { \
    check_register(#name, name, (limit_seconds)); \
  } \
  static void name(void)
#define TEST(name) TEST_WITHIN(60, name)

/* Both return whether it held, so a test can leave: if (!CHECK(x)) return; */
#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(got, wanted) \
  check_equal((int64_t)(got), (int64_t)(wanted), #got " is " #wanted, __FILE__, __LINE__)

/* How often a repeated test repeats: the scale's share of `native`, once at least. */
uint64_t scaled(uint64_t native);
bool tool_is(const char *name);
bool tool_is_valgrind(void);

/* Random numbers, a stream for each thread, all from the printed seed. */
uint64_t random_number(void);

/* A thread of the test. The name is what gates know it by. */
typedef struct test_thread {
  pthread_t thread;
  const char *name;
  void (*function)(void *argument);
  void *argument;
} test_thread;
void thread_start(test_thread *thread, const char *name, void (*function)(void *), void *argument);
void thread_join(test_thread *thread);
const char *thread_name(void); /* "main", the name given, or "worker" */

/* Threads of this process. */
unsigned thread_count(void);

/* Waits until the condition holds or 20 s (more under tools) have passed; for what no gate can show. */
bool eventually(bool (*condition)(void *argument), void *argument);

/* Opens a worker or fails the test. */
lanyard_worker *open_worker(uint32_t capacity);

uint64_t after(uint64_t duration_ns); /* a deadline from now */

/* Runs a function in a child process; the child's exit status, or 256 + the signal that ended it, or -1
 * when it took longer than `limit_ms` and was killed. The function's result is the exit status. */
int run_in_child(int (*function)(void *argument), void *argument, unsigned limit_ms);

/* Runs checks in a child process, which ends with _exit. What fails there fails the test here. */
bool checks_hold_in_child(void (*function)(void *argument), void *argument, unsigned limit_ms);

/* A request that holds its worker until the test lets it go on: latch_request with a test_latch. */
typedef struct test_latch {
  sem_t entered, left;
} test_latch;
void latch_init(test_latch *latch);
void latch_request(void *latch, lanyard_status outcome);
void latch_await(test_latch *latch); /* until the request stands there */
void latch_open(test_latch *latch);  /* may come first */
void latch_destroy(test_latch *latch);

/* The calling thread's signal mask as the kernel has it: bit n - 1 is signal n. */
uint64_t signal_mask(void);

/* How many tests this program has. */
size_t test_total(void);

#endif
