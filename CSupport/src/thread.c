/* thread.c - starting a thread so that nobody notices: not the caller's signals, not the application's.
 *
 * The mask is changed around pthread_create, because a thread that blocked signals itself would be open
 * to them for its first instructions; and it is put back with SIG_SETMASK whatever happened. A system
 * that is short of threads for a moment answers EAGAIN, so callers that may block ask again, ten times in 100 ms or so.
 * They do that with no lock held, and a caller that must not block asks once: nobody waits for another's tries.
 */
#include "worker.h"

_Thread_local lanyard_worker *lanyard__current;

static _Thread_local int last_error;
static _Thread_local void *running;

void *lanyard__running(void) { return running; }

void *lanyard__set_running(void *request) {
  void *before = running;
  running = request;
  return before;
}

int lanyard__thread_error(void) { return last_error; }

enum { TRIES = 10 };
#define FIRST_PAUSE_NS UINT64_C(200000)
#define STACK_DEFAULT_MIN (UINT64_C(1) << 20) /* musl's default is 128 KiB */

/* All but what a thread brings upon itself, and SIGPROF, which profilers and crash reporters send to each thread. */
static void fill_mask(sigset_t *mask) {
  static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF};
  sigfillset(mask);
  for (size_t i = 0; i < sizeof open / sizeof *open; i++) sigdelset(mask, open[i]);
}

static int set_stack(pthread_attr_t *attributes, size_t bytes) {
  if (bytes == 0) {
    size_t standard = 0;
    pthread_attr_getstacksize(attributes, &standard);
    if (standard >= STACK_DEFAULT_MIN) return 0;
    bytes = STACK_DEFAULT_MIN;
  }
  return ly_attributes_stack(attributes, bytes);
}

bool lanyard__thread_retries(lanyard_status status, unsigned *attempt) {
  if (status != LANYARD_NO_THREAD || last_error != EAGAIN || ++*attempt == TRIES) return false;
  ly_sleep_ns(FIRST_PAUSE_NS << (*attempt - 1));
  return true;
}

lanyard_status lanyard__thread_start(pthread_t *thread_out, size_t stack_size_bytes,
                                     void *(*start)(void *), void *argument) {
  pthread_attr_t attributes;
  last_error = ly_attributes_init(&attributes);
  if (last_error != 0) return LANYARD_NO_THREAD;
  lanyard_status status = LANYARD_NO_THREAD;
  sigset_t mask, old;
  fill_mask(&mask);
  if ((last_error = set_stack(&attributes, stack_size_bytes)) == 0 &&
      (last_error = ly_signal_mask(&mask, &old)) == 0) {
    last_error = ly_thread_create(thread_out, &attributes, start, argument);
    if (last_error == 0) status = LANYARD_OK;
    pthread_sigmask(SIG_SETMASK, &old, NULL); /* undoes what succeeded a moment ago */
  }
  pthread_attr_destroy(&attributes);
  return status;
}

/* On the new thread. The kernel takes 15 bytes; a character is not cut in two. Failure does not matter. */
void lanyard__thread_name(const char *name) {
  char text[16];
  size_t length = strlen(name);
  if (length > 15)
    for (length = 15; length > 0 && ((unsigned char)name[length] & 0xC0) == 0x80;) length--;
  memcpy(text, name, length);
  text[length] = '\0';
  prctl(PR_SET_NAME, text, 0, 0, 0);
}

lanyard_status lanyard__spawn(lanyard_worker *worker) {
  ly_assert_held(&worker->lock);
  lanyard_status status =
      lanyard__thread_start(&worker->thread, worker->stack_size_bytes, worker->main, worker);
  worker->started = status == LANYARD_OK;
  return status;
}

/* Under the lock once for each try, and never longer. */
static lanyard_status try_start(lanyard_worker *worker, bool for_job) {
  lanyard_status status = LANYARD_OK;
  ly_lock(&worker->lock);
  ly_point("starting", worker);
  /* A closer sets the flag, then takes this lock: it finds either one to join, or no thread for any
   * request, ever. An executor's job may start one even then: the last release joins it. */
  if (!for_job && ly_load(&worker->ring.tail, acquire) & LY_CLOSED) status = LANYARD_CLOSED;
  else if (!worker->started) {
    status = lanyard__spawn(worker);
    if (status == LANYARD_OK) ly_ring_start(&worker->ring);
  }
  ly_unlock(&worker->lock);
  return status;
}

lanyard_status lanyard__start(lanyard_worker *worker, ly_starter starter) {
  unsigned attempt = 0;
  lanyard_status status;
  do status = try_start(worker, starter == LY_FOR_A_JOB);
  while (starter != LY_NEVER_BLOCKS && lanyard__thread_retries(status, &attempt));
  return status;
}

/* ------------------------------------------------------------------------ what a lazy worker inherits */

void lanyard__attributes_read(ly_attributes *attributes) {
  attributes->is_known = ly_schedule_read(&attributes->schedule) == 0 &&
                         sched_getaffinity(0, sizeof attributes->cpus, &attributes->cpus) == 0;
}

/* What the system does not permit stays as it is: the thread has been started, and works. */
void lanyard__attributes_take(const ly_attributes *attributes) {
  if (!attributes->is_known) return;
  (void)sched_setaffinity(0, sizeof attributes->cpus, &attributes->cpus);
  (void)ly_schedule_take(&attributes->schedule);
}
