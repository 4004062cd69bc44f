/* gates.c - see gates.h. */
#include "gates.h"

#include <errno.h>
#include <time.h>

#include "seam.h"

struct lanyard__hooks lanyard__hooks;

typedef struct gate {
  bool armed, reached, open;
  const char *thread, *point;
  unsigned skip;
} gate;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static gate gates[GATES_MAX];

static struct {
  unsigned k, count, site_left;
  bool for_ever;
  const char *only_site, *first;
} faults;

/* A look every tenth of a millisecond, and no condition variable: glibc's can lose a wake-up, and signals
 * itself in a way that helgrind reports. */
static void wait_for_change(void) {
  pthread_mutex_unlock(&lock);
  usleep(100);
  pthread_mutex_lock(&lock);
}

/* A held thread that is cancelled is still held: the wait must not end its life with the lock. */
static void at_point(const char *name, const void *subject) {
  (void)subject;
  int cancel_state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  pthread_mutex_lock(&lock);
  for (int i = 0; i < GATES_MAX; i++) {
    gate *here = &gates[i];
    if (!here->armed || here->reached || strcmp(here->point, name) != 0) continue;
    if (here->thread != NULL && strcmp(here->thread, thread_name()) != 0) continue;
    if (here->skip > 0) {
      here->skip--;
      continue;
    }
    here->reached = true;
    while (here->armed && !here->open) wait_for_change();
  }
  pthread_mutex_unlock(&lock);
  pthread_setcancelstate(cancel_state, &cancel_state);
}

void gate_arm_after(int index, const char *thread, const char *point, unsigned skip) {
  pthread_mutex_lock(&lock);
  gates[index] = (gate){.armed = true, .thread = thread, .point = point, .skip = skip};
  pthread_mutex_unlock(&lock);
  lanyard__hooks.point = at_point;
}

void gate_arm(int index, const char *thread, const char *point) { gate_arm_after(index, thread, point, 0); }

static uint64_t patience(void) { return after(20 * SECONDS * (tool_is("native") ? 1 : 10)); }

bool gate_await(int index) {
  uint64_t deadline = patience();
  pthread_mutex_lock(&lock);
  while (!gates[index].reached && lanyard_now_ns() < deadline) wait_for_change();
  bool reached = gates[index].reached;
  pthread_mutex_unlock(&lock);
  return CHECK(reached);
}

bool gate_was_reached(int index) {
  pthread_mutex_lock(&lock);
  bool reached = gates[index].reached;
  pthread_mutex_unlock(&lock);
  return reached;
}

void gate_open(int index) {
  pthread_mutex_lock(&lock);
  gates[index].open = true;
  pthread_mutex_unlock(&lock);
}

/* ---------------------------------------------------------------------------------------- watching */

enum { SLEEPERS_MAX = 64, TURNERS_MAX = 8 };

typedef struct sleeper {
  const volatile void *word; /* NULL: unused */
  bool endless;              /* it has no deadline */
} sleeper;

static struct {
  sleeper sleepers[SLEEPERS_MAX];
  struct {
    const char *thread;
    unsigned count;
  } turns[TURNERS_MAX];
  unsigned joiners;
} watched;

static unsigned count_sleepers(sleeper like) {
  unsigned count = 0;
  for (int i = 0; i < SLEEPERS_MAX; i++)
    count += watched.sleepers[i].word == like.word && (watched.sleepers[i].endless || !like.endless);
  return count;
}

static sleeper *add_sleeper(sleeper added) {
  pthread_mutex_lock(&lock);
  int i = 0;
  while (i < SLEEPERS_MAX && watched.sleepers[i].word != NULL) i++;
  if (i == SLEEPERS_MAX) abort();
  watched.sleepers[i] = added;
  pthread_mutex_unlock(&lock);
  return &watched.sleepers[i];
}

static void remove_sleeper(sleeper *removed) {
  pthread_mutex_lock(&lock);
  removed->word = NULL;
  pthread_mutex_unlock(&lock);
}

/* Until the word changes, a wake, a signal, or the deadline by the clock that the core has: looked at every
 * few milliseconds, so that a test which moves that clock is noticed. Between the note and the sleep the
 * word may change; then there is no sleep. */
static int watched_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns) {
  int failed = ETIMEDOUT;
  sleeper *self = add_sleeper((sleeper){word, deadline_ns == LANYARD_FOREVER});
  for (uint64_t now; failed == ETIMEDOUT && (now = ly_now_ns()) < deadline_ns;) {
    uint64_t rest = deadline_ns - now, slice = 5 * MILLISECONDS;
    struct timespec limit = ly_timespec(ly_clock_ns(CLOCK_MONOTONIC) + (rest < slice ? rest : slice));
    long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                          deadline_ns == LANYARD_FOREVER ? NULL : &limit, NULL, FUTEX_BITSET_MATCH_ANY);
    failed = result == 0 ? 0 : errno;
  }
  remove_sleeper(self);
  return failed == ETIMEDOUT ? ETIMEDOUT : 0;
}

static unsigned *turns_of(const char *thread) {
  int i = 0;
  while (i < TURNERS_MAX && watched.turns[i].thread != NULL && strcmp(watched.turns[i].thread, thread) != 0) i++;
  if (i == TURNERS_MAX) abort();
  watched.turns[i].thread = thread;
  return &watched.turns[i].count;
}

static void count_turn(void) {
  pthread_mutex_lock(&lock);
  ++*turns_of(thread_name());
  pthread_mutex_unlock(&lock);
}

static void watched_yield(void) {
  count_turn();
  sched_yield();
}

static void watched_sleep(uint64_t duration_ns) {
  count_turn();
  int cancel_state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  struct timespec duration = ly_timespec(duration_ns);
  clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, NULL);
  pthread_setcancelstate(cancel_state, &cancel_state);
}

static void change_joiners(unsigned by) {
  pthread_mutex_lock(&lock);
  watched.joiners += by;
  pthread_mutex_unlock(&lock);
}

static int watched_join(pthread_t thread) {
  int cancel_state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  change_joiners(1u);
  int failed = pthread_join(thread, NULL);
  change_joiners(UINT_MAX);
  pthread_setcancelstate(cancel_state, &cancel_state);
  return failed;
}

static bool await_count(sleeper like, unsigned count) {
  uint64_t deadline = patience();
  pthread_mutex_lock(&lock);
  while (count_sleepers(like) != count && lanyard_now_ns() < deadline) wait_for_change();
  unsigned sleepers = count_sleepers(like);
  pthread_mutex_unlock(&lock);
  return CHECK_EQUAL(sleepers, count);
}

bool await_sleepers(const volatile void *word, unsigned count) {
  return await_count((sleeper){word, false}, count);
}

bool await_endless_sleepers(const volatile void *word, unsigned count) {
  return await_count((sleeper){word, true}, count);
}

bool await_turns(const char *thread, unsigned count) {
  uint64_t deadline = patience();
  pthread_mutex_lock(&lock);
  unsigned before = *turns_of(thread);
  while (*turns_of(thread) - before < count && lanyard_now_ns() < deadline) wait_for_change();
  bool turned = *turns_of(thread) - before >= count;
  pthread_mutex_unlock(&lock);
  return CHECK(turned);
}

bool await_joiner(void) {
  uint64_t deadline = patience();
  pthread_mutex_lock(&lock);
  while (watched.joiners == 0 && lanyard_now_ns() < deadline) wait_for_change();
  bool joins = watched.joiners != 0;
  pthread_mutex_unlock(&lock);
  return CHECK(joins);
}

void watch_begin(void) {
  lanyard__hooks.futex_wait = watched_futex_wait;
  lanyard__hooks.yield = watched_yield;
  lanyard__hooks.sleep_ns = watched_sleep;
  lanyard__hooks.thread_join = watched_join;
}

/* These hooks may change only while no worker runs. */
void watch_end(void) {
  if (!CHECK_EQUAL(lanyard_quiesce(patience()), 0)) return;
  lanyard__hooks.futex_wait = NULL;
  lanyard__hooks.yield = NULL;
  lanyard__hooks.sleep_ns = NULL;
  lanyard__hooks.thread_join = NULL;
}

void gates_begin(void) {
  ly_exempt(&lanyard__hooks, sizeof lanyard__hooks);
  gates_reset();
}

/* A thread that is inside a hook finds nothing armed and goes on. */
void gates_reset(void) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < GATES_MAX; i++) gates[i] = (gate){.armed = false};
  memset(&faults, 0, sizeof faults);
  pthread_mutex_unlock(&lock);
  lanyard__hooks.point = NULL;
  lanyard__hooks.fails = NULL;
  lanyard__hooks.initial_position = 0;
}

static void in_chaos(const char *name, const void *subject) {
  (void)name;
  (void)subject;
  uint64_t number = random_number();
  if (number % 16 == 0) sched_yield();
  if (number % 1024 == 1) usleep((useconds_t)(number / 1024 % 200));
}

void chaos_begin(void) { lanyard__hooks.point = in_chaos; }

static bool fails_now(const char *site) {
  pthread_mutex_lock(&lock);
  faults.count++;
  bool fails;
  if (faults.only_site != NULL) {
    fails = strcmp(site, faults.only_site) == 0 && faults.site_left > 0;
    if (fails) faults.site_left--;
  } else {
    fails = faults.k != 0 && (faults.count == faults.k || (faults.for_ever && faults.count > faults.k));
  }
  if (fails && faults.first == NULL) faults.first = site;
  pthread_mutex_unlock(&lock);
  return fails;
}

static void begin_faults(unsigned k, bool for_ever, const char *site, unsigned count) {
  pthread_mutex_lock(&lock);
  memset(&faults, 0, sizeof faults);
  faults.k = k;
  faults.for_ever = for_ever;
  faults.only_site = site;
  faults.site_left = count;
  pthread_mutex_unlock(&lock);
  lanyard__hooks.fails = fails_now;
}

void faults_begin(unsigned k, bool for_ever) { begin_faults(k, for_ever, NULL, 0); }

void faults_at(const char *site, unsigned count) { begin_faults(0, false, site, count); }

unsigned faults_end(const char **site_out) {
  lanyard__hooks.fails = NULL;
  pthread_mutex_lock(&lock);
  unsigned count = faults.count;
  if (site_out != NULL) *site_out = faults.first;
  pthread_mutex_unlock(&lock);
  return count;
}

void counters_start_at(uint64_t position) { lanyard__hooks.initial_position = position; }
