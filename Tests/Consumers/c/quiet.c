/* quiet.c - what a program of somebody's does with the installed library, for helgrind and drd to watch: they know no
 * C11 atomics, and must be quiet all the same, without a suppression and without a build of the library for tests.
 *
 * Four threads submit, call, cancel and wait for room on one worker with a small ring, whose requests change plain
 * memory; one worker is dropped on its own thread, one closed within a limit.
 */
#define _POSIX_C_SOURCE 200809L
#include <lanyard.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { THREADS = 4, ROUNDS = 200 };

static void require(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "quiet: %s\n", what);
  exit(1);
}

/* Plain memory that the worker alone changes, and that main reads after the close. */
typedef struct account {
  lanyard_worker *worker;
  long sum;
} account;

typedef struct entry {
  account *to;
  int amount;
} entry;

static void add(void *argument, lanyard_status outcome) {
  entry *it = argument;
  if (outcome == LANYARD_OK) it->to->sum += it->amount;
  free(it);
}

static void add_on_stack(void *argument, lanyard_status outcome) {
  const entry *it = argument;
  if (outcome == LANYARD_OK) it->to->sum += it->amount;
}

static entry *make_entry(account *to) {
  entry *it = malloc(sizeof *it);
  require(it != NULL, "no memory");
  *it = (entry){to, 1};
  return it;
}

static void told_of_room(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

static void *work(void *argument) {
  account *to = argument;
  for (int i = 0; i < ROUNDS; i++) {
    lanyard_ticket ticket;
    entry own = {to, 1};
    require(lanyard_submit(to->worker, add, make_entry(to), &ticket) == LANYARD_OK, "submit");
    if (i % 3 == 0) lanyard_cancel(to->worker, ticket);
    if (i % 2 == 0) require(lanyard_call(to->worker, add_on_stack, &own) == LANYARD_OK, "call");
    if (i % 5 == 0) require(lanyard_when_room(to->worker, told_of_room, NULL) == LANYARD_OK, "when_room");
    if (i % 7 == 0) lanyard_call_until(to->worker, add_on_stack, &own, lanyard_now_ns() + 1000000000);
    entry *tried = make_entry(to);
    if (lanyard_try_submit(to->worker, add, tried, NULL) != LANYARD_OK) free(tried);
  }
  return NULL;
}

static void interrupt(void *context, void *argument, lanyard_ticket ticket) {
  (void)context;
  (void)argument;
  (void)ticket;
}

static void *close_it(void *worker) {
  require(lanyard_close(worker, LANYARD_DRAIN) == LANYARD_OK, "close");
  return NULL;
}

static void drop(void *argument, lanyard_status outcome) {
  (void)outcome;
  lanyard_worker *own = argument;
  lanyard_release(&own);
}

int main(void) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.capacity = 4;
  options.interrupt = interrupt;
  account to = {NULL, 0};
  require(lanyard_open(&options, &to.worker) == LANYARD_OK, "open");
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) require(pthread_create(&threads[i], NULL, work, &to) == 0, "thread");
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 2; i++) require(pthread_create(&threads[i], NULL, close_it, to.worker) == 0, "thread");
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  require(to.sum >= THREADS * ROUNDS / 2, "the sum");
  lanyard_stats stats = {.size = sizeof stats};
  require(lanyard_get_stats(to.worker, &stats) == LANYARD_OK, "statistics");
  lanyard_release(&to.worker);

  lanyard_worker *dropped = NULL, *limited = NULL;
  require(lanyard_open(NULL, &dropped) == LANYARD_OK && lanyard_open(NULL, &limited) == LANYARD_OK, "open");
  require(lanyard_submit(dropped, drop, lanyard_retain(dropped), NULL) == LANYARD_OK, "submit");
  lanyard_release(&dropped);
  require(lanyard_close_until(limited, LANYARD_DISCARD, lanyard_now_ns() + 60000000000) == LANYARD_OK, "close_until");
  lanyard_release(&limited);
  size_t live = 1; /* until the request has run that drops it */
  for (int i = 0; i < 60000 && live > 0; i++) {
    live = lanyard_quiesce(lanyard_now_ns() + 60000000000);
    if (live > 0) nanosleep(&(struct timespec){0, 1000000}, NULL);
  }
  require(live == 0, "something lives");
  puts("1 passed, 0 failed");
  return 0;
}
