/* core.c - the C core beside its plainest peer, in one run: a mutex, two condition variables, an array.
 *
 * Each round measures every cell of every contender, one after the other, so that both meet the same
 * moods of the machine; what is printed are medians and their ratio. The first line tells how far apart
 * the two cores are just now (a cache line's round trip): the same program runs several times slower when
 * they are far, so only ratios of one run mean anything.
 *
 *     core [ROUNDS]      (default 5)
 *
 * Cells, as in the literature of queues:
 *   W1         one producer, fire and forget: ns a request
 *   W2 x2, x4  two and four producers
 *   W3, x4     blocking round trips, by one and by four callers: ns each
 *   W5         a submit after 5 ms of idling, until it runs
 *   W6         open and close: used once; and never used (the peer starts its thread, a lazy worker not)
 */
#include <lanyard.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CAPACITY = 1024, PRODUCERS_MAX = 4, ROUNDS_MAX = 64 };

static uint64_t counter; /* the worker's own; read after a close */

static void count(void *argument, lanyard_status outcome) {
  (void)argument;
  counter += outcome == LANYARD_OK;
}

/* ------------------------------------------------------------------------------------- the peer */

typedef struct peer {
  pthread_mutex_t lock;
  pthread_cond_t not_empty, not_full, replied;
  lanyard_request ring[CAPACITY];
  uint64_t head, tail;
  unsigned idle, blocked;
  bool closed;
  pthread_t thread;
} peer;

static void *peer_loop(void *argument) {
  peer *at = argument;
  pthread_mutex_lock(&at->lock);
  for (;;) {
    while (at->head == at->tail && !at->closed) {
      at->idle = 1;
      pthread_cond_wait(&at->not_empty, &at->lock);
      at->idle = 0;
    }
    if (at->head == at->tail) break;
    lanyard_request request = at->ring[at->head++ % CAPACITY];
    unsigned blocked = at->blocked;
    pthread_mutex_unlock(&at->lock);
    if (blocked) pthread_cond_signal(&at->not_full);
    request.function(request.argument, LANYARD_OK);
    pthread_mutex_lock(&at->lock);
  }
  pthread_mutex_unlock(&at->lock);
  return NULL;
}

static void *peer_open(bool lazy) {
  (void)lazy;
  peer *at = calloc(1, sizeof *at);
  if (at == NULL) abort();
  pthread_mutex_init(&at->lock, NULL);
  pthread_cond_init(&at->not_empty, NULL);
  pthread_cond_init(&at->not_full, NULL);
  pthread_cond_init(&at->replied, NULL);
  if (pthread_create(&at->thread, NULL, peer_loop, at) != 0) abort();
  return at;
}

static void peer_submit(void *handle, lanyard_function function, void *argument) {
  peer *at = handle;
  pthread_mutex_lock(&at->lock);
  while (at->tail - at->head == CAPACITY) {
    at->blocked++;
    pthread_cond_wait(&at->not_full, &at->lock);
    at->blocked--;
  }
  at->ring[at->tail++ % CAPACITY] = (lanyard_request){function, argument};
  unsigned idle = at->idle;
  pthread_mutex_unlock(&at->lock);
  if (idle) pthread_cond_signal(&at->not_empty);
}

typedef struct peer_call_frame {
  peer *at;
  lanyard_function function;
  void *argument;
  bool done;
} peer_call_frame;

static void peer_run_call(void *argument, lanyard_status outcome) {
  peer_call_frame *frame = argument;
  frame->function(frame->argument, outcome);
  pthread_mutex_lock(&frame->at->lock);
  frame->done = true;
  pthread_cond_broadcast(&frame->at->replied);
  pthread_mutex_unlock(&frame->at->lock);
}

static void peer_call(void *handle, lanyard_function function, void *argument) {
  peer_call_frame frame = {handle, function, argument, false};
  peer_submit(handle, peer_run_call, &frame);
  pthread_mutex_lock(&frame.at->lock);
  while (!frame.done) pthread_cond_wait(&frame.at->replied, &frame.at->lock);
  pthread_mutex_unlock(&frame.at->lock);
}

static void peer_close(void *handle) {
  peer *at = handle;
  pthread_mutex_lock(&at->lock);
  at->closed = true;
  pthread_cond_signal(&at->not_empty);
  pthread_mutex_unlock(&at->lock);
  pthread_join(at->thread, NULL);
  free(at);
}

/* -------------------------------------------------------------------------------------- lanyard */

static void must(lanyard_status status) {
  if (status == LANYARD_OK) return;
  fprintf(stderr, "core: %s\n", lanyard_status_text(status));
  exit(EXIT_FAILURE);
}

static void *worker_open(bool lazy) {
  lanyard_options options;
  lanyard_options_init(&options);
  options.capacity = CAPACITY;
  options.lazy = lazy;
  lanyard_worker *worker = NULL;
  must(lanyard_open(&options, &worker));
  return worker;
}

static void worker_submit(void *handle, lanyard_function function, void *argument) {
  must(lanyard_submit(handle, function, argument, NULL));
}

static void worker_call(void *handle, lanyard_function function, void *argument) {
  must(lanyard_call(handle, function, argument));
}

static void worker_close(void *handle) {
  lanyard_worker *worker = handle;
  lanyard_release(&worker);
}

/* ---------------------------------------------------------------------------------------- cells */

typedef struct contender {
  const char *name;
  void *(*open)(bool lazy);
  void (*submit)(void *handle, lanyard_function, void *);
  void (*call)(void *handle, lanyard_function, void *);
  void (*close)(void *handle);
} contender;

static const contender contenders[] = {
    {"lanyard", worker_open, worker_submit, worker_call, worker_close},
    {"mutex+cond", peer_open, peer_submit, peer_call, peer_close},
};
enum { CONTENDERS = 2 };

typedef struct load {
  const contender *who;
  void *handle;
  uint64_t count;
  bool calls;
} load;

static void *produce(void *argument) {
  load *at = argument;
  for (uint64_t i = 0; i < at->count; i++) {
    if (at->calls) at->who->call(at->handle, count, NULL);
    else at->who->submit(at->handle, count, NULL);
  }
  return NULL;
}

/* ns a request, from the first submit to the end of the last request. */
static double measure_load(const contender *who, unsigned producers, uint64_t total, bool calls) {
  load at = {who, who->open(false), total / producers, calls};
  counter = 0;
  pthread_t threads[PRODUCERS_MAX];
  uint64_t begin = lanyard_now_ns();
  if (producers == 1) produce(&at);
  else {
    for (unsigned i = 0; i < producers; i++)
      if (pthread_create(&threads[i], NULL, produce, &at) != 0) abort();
    for (unsigned i = 0; i < producers; i++) pthread_join(threads[i], NULL);
  }
  who->close(at.handle);
  uint64_t end = lanyard_now_ns();
  if (counter != at.count * producers) {
    fprintf(stderr, "core: %s lost requests: %llu of %llu ran\n", who->name, (unsigned long long)counter,
            (unsigned long long)(at.count * producers));
    exit(EXIT_FAILURE);
  }
  return (double)(end - begin) / (double)(at.count * producers);
}

static void stamp(void *argument, lanyard_status outcome) {
  (void)outcome;
  atomic_store((_Atomic uint64_t *)argument, lanyard_now_ns());
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, unsigned count) {
  qsort(values, count, sizeof *values, compare);
  return values[count / 2];
}

static double measure_wake(const contender *who) {
  enum { WAKES = 41 };
  double latencies[WAKES];
  void *handle = who->open(false);
  for (int i = 0; i < WAKES; i++) {
    _Atomic uint64_t ran = 0;
    nanosleep(&(struct timespec){0, 5000000}, NULL);
    uint64_t begin = lanyard_now_ns();
    who->submit(handle, stamp, (void *)&ran);
    while (atomic_load(&ran) == 0) nanosleep(&(struct timespec){0, 200000}, NULL);
    latencies[i] = (double)(atomic_load(&ran) - begin);
  }
  who->close(handle);
  return median(latencies, WAKES);
}

static double measure_handles(const contender *who, bool used) {
  enum { HANDLES = 2000 };
  uint64_t begin = lanyard_now_ns();
  for (int i = 0; i < HANDLES; i++) {
    void *handle = who->open(!used);
    if (used) who->call(handle, count, NULL);
    who->close(handle);
  }
  return (double)(lanyard_now_ns() - begin) / HANDLES;
}

static double w1(const contender *who) { return measure_load(who, 1, 1000000, false); }
static double w2_2(const contender *who) { return measure_load(who, 2, 1000000, false); }
static double w2_4(const contender *who) { return measure_load(who, 4, 1000000, false); }
static double w3(const contender *who) { return measure_load(who, 1, 10000, true); }
static double w3_4(const contender *who) { return measure_load(who, 4, 40000, true); }
static double w6_used(const contender *who) { return measure_handles(who, true); }
static double w6_unused(const contender *who) { return measure_handles(who, false); }

static const struct {
  const char *name;
  double (*measure)(const contender *);
} cells[] = {
    {"W1     1 producer", w1},          {"W2 x2  2 producers", w2_2}, {"W2 x4  4 producers", w2_4},
    {"W3     round trip", w3},          {"W3 x4  4 callers", w3_4},   {"W5     wake after 5 ms", measure_wake},
    {"W6     open, call, close", w6_used}, {"W6     open, close", w6_unused},
};
enum { CELLS = sizeof cells / sizeof *cells };

/* ------------------------------------------------------------------------------- the machine's mood */

enum { BOUNCES = 200000 };
static _Alignas(128) _Atomic uint32_t ball;

static void *bounce(void *unused) {
  for (uint32_t i = 1; i < 2 * BOUNCES; i += 2) {
    while (atomic_load_explicit(&ball, memory_order_acquire) != i) {}
    atomic_store_explicit(&ball, i + 1, memory_order_release);
  }
  return unused;
}

static double line_round_trip(void) {
  pthread_t thread;
  atomic_store(&ball, 0u);
  if (pthread_create(&thread, NULL, bounce, NULL) != 0) abort();
  uint64_t begin = lanyard_now_ns();
  for (uint32_t i = 0; i < 2 * BOUNCES; i += 2) {
    atomic_store_explicit(&ball, i + 1, memory_order_release);
    while (atomic_load_explicit(&ball, memory_order_acquire) != i + 2) {}
  }
  double round_trip = (double)(lanyard_now_ns() - begin) / BOUNCES;
  pthread_join(thread, NULL);
  return round_trip;
}

int main(int argc, char **argv) {
  static double results[CELLS][CONTENDERS][ROUNDS_MAX], distances[ROUNDS_MAX];
  unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 5;
  if (rounds < 1 || rounds > ROUNDS_MAX) {
    fprintf(stderr, "core: rounds must be 1 to %d\n", ROUNDS_MAX);
    return EXIT_FAILURE;
  }
  for (unsigned round = 0; round < rounds; round++) {
    distances[round] = line_round_trip();
    for (unsigned cell = 0; cell < CELLS; cell++)
      for (unsigned who = 0; who < CONTENDERS; who++)
        results[cell][who][round] = cells[cell].measure(&contenders[who]);
  }
  printf("cache line round trip between cores: %.0f ns; medians of %u rounds, ns\n\n", median(distances, rounds),
         rounds);
  printf("%-26s %12s %12s %8s\n", "", contenders[0].name, contenders[1].name, "ratio");
  for (unsigned cell = 0; cell < CELLS; cell++) {
    double ours = median(results[cell][0], rounds), theirs = median(results[cell][1], rounds);
    printf("%-26s %12.1f %12.1f %8.3f\n", cells[cell].name, ours, theirs, ours / theirs);
  }
  return EXIT_SUCCESS;
}
