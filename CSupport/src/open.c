/* open.c - options, allocation, the start of a worker. Each step that fails undoes those before it. */
#include "worker.h"

#define STACK_MAX ((size_t)1 << (sizeof(size_t) > 4 ? 40 : 30))

void lanyard_options_init_at(lanyard_options *options, size_t size, const char *file, int line) {
  lanyard_options defaults = {
      .size = size,
      .capacity = LANYARD_CAPACITY_DEFAULT,
      .batch_limit = LANYARD_BATCH_LIMIT_DEFAULT,
      .spin_ns = LANYARD_SPIN_NS_DEFAULT,
      .file = file,
      .line = line,
  };
  if (options != NULL) memcpy(options, &defaults, size < sizeof defaults ? size : sizeof defaults);
}

static bool are_valid(const lanyard_options *options) {
  if (options->size != sizeof *options) return false; /* nothing else may be read */
  return options->capacity >= LANYARD_CAPACITY_MIN && options->capacity <= LANYARD_CAPACITY_MAX &&
         options->batch_limit >= 1 && options->batch_limit <= LANYARD_CAPACITY_MAX &&
         (options->stack_size_bytes == 0 || (options->stack_size_bytes >= (size_t)PTHREAD_STACK_MIN &&
                                             options->stack_size_bytes <= STACK_MAX));
}

static uint32_t round_up_to_power_of_two(uint32_t value) {
  uint32_t power = LANYARD_CAPACITY_MIN;
  while (power < value) power *= 2;
  return power;
}

static size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

/* One block for the struct and its strings. */
static lanyard_worker *create_core(const char *name, const char *file) {
  size_t name_size = strlen(name) + 1, file_size = file == NULL ? 0 : strlen(file) + 1;
  lanyard_worker *worker =
      ly_calloc_lines("core", round_up(sizeof *worker + name_size + file_size, LY_LINE));
  if (worker == NULL) return NULL;
  char *strings = (char *)(worker + 1);
  worker->name = memcpy(strings, name, name_size);
  if (file != NULL) worker->file = memcpy(strings + name_size, file, file_size);
  return worker;
}

/* The ring's memory comes from calloc and stays untouched: a slot that was never used costs nothing. */
static bool create_ring(lanyard_worker *worker, uint32_t capacity, bool lazy) {
  worker->ring_memory = ly_calloc("ring", capacity + 1, sizeof(ly_slot));
  if (worker->ring_memory == NULL) return false;
  uintptr_t aligned = round_up((uintptr_t)worker->ring_memory, sizeof(ly_slot));
#if LANYARD_TESTING
  worker->start = (ly_position)lanyard__hooks.initial_position * LY_STEP;
#endif
  ly_ring_init(&worker->ring, (ly_slot *)aligned, capacity, worker->start, lazy ? LY_UNSTARTED : 0);
  ly_exempt(worker->ring_memory, (capacity + 1) * sizeof(ly_slot));
  ly_exempt(&worker->ring, sizeof worker->ring);
  return true;
}

static bool create_batch(lanyard_worker *worker, uint32_t limit) {
  worker->batch = ly_calloc("batch", limit, sizeof *worker->batch);
  worker->replies = ly_calloc("replies", limit, sizeof *worker->replies);
  return worker->batch != NULL && worker->replies != NULL;
}

static bool create_locks(lanyard_worker *worker) {
  if (ly_lock_init(&worker->lock) != 0) return false;
  if (ly_lock_init(&worker->jobs.lock) == 0) return true;
  pthread_mutex_destroy(&worker->lock);
  return false;
}

static void exempt_atomics(lanyard_worker *worker) {
  ly_exempt(&worker->completed, sizeof(_Atomic uint64_t) * 5);
  ly_exempt(&worker->depth_high, sizeof worker->depth_high);
  ly_exempt(&worker->room.waiting, sizeof worker->room.waiting);
  ly_exempt(&worker->room.turn, sizeof worker->room.turn);
  ly_exempt(&worker->bells, sizeof worker->bells);
  ly_exempt(&worker->cancelled, sizeof(_Atomic uint64_t) * 3);
  ly_exempt(&worker->strong, sizeof(_Atomic uint64_t) * 2);
  ly_exempt(&worker->discards, sizeof(_Atomic uint32_t) * 4);
  (void)worker;
}

static void free_parts(lanyard_worker *worker) {
  ly_free(worker->ring_memory);
  ly_free(worker->batch);
  ly_free(worker->replies);
  ly_free(worker->jobs.pending.entries);
  ly_free(worker->jobs.taken.entries);
}

static lanyard_status create(const lanyard_options *options, ly_process *process,
                             lanyard_worker **worker_out) {
  uint32_t capacity = round_up_to_power_of_two(options->capacity);
  lanyard_worker *worker = create_core(options->name == NULL ? "lanyard" : options->name, options->file);
  if (worker == NULL) return LANYARD_NO_MEMORY;
  worker->magic = LY_MAGIC;
  worker->process = process;
  worker->generation = ly_load(&process->generation, relaxed); /* GENERATION */
  worker->context = options->context;
  worker->on_start = options->on_start;
  worker->on_stop = options->on_stop;
  worker->serve = options->serve;
  worker->interrupt = options->interrupt;
  worker->stack_size_bytes = round_up(options->stack_size_bytes, (size_t)sysconf(_SC_PAGESIZE));
  worker->batch_limit = options->serve == NULL                 ? 1
                        : options->batch_limit < capacity ? options->batch_limit
                                                          : capacity;
  worker->line = options->line;
  worker->opened_ns = ly_now_ns();
  atomic_init(&worker->strong, LY_OWNER);
  atomic_init(&worker->memory, UINT64_C(1));

  if (create_ring(worker, capacity, options->lazy) &&
      (options->serve == NULL || create_batch(worker, worker->batch_limit)) && create_locks(worker)) {
    ly_jobs_init(&worker->jobs);
    ly_park_init(&worker->park);
    ly_running_init(&worker->running, worker->start);
    ly_spin_init(&worker->spin, options->spin_ns);
    ly_spin_init(&worker->reply_spin, options->spin_ns);
    exempt_atomics(worker);
    *worker_out = worker;
    return LANYARD_OK;
  }
  free_parts(worker);
  ly_free(worker);
  return LANYARD_NO_MEMORY;
}

/* Under worker->lock, or before anybody else knows the worker. */
static lanyard_status start_thread(lanyard_worker *worker) {
  lanyard_status status =
      lanyard__thread_start(&worker->thread, worker->stack_size_bytes, lanyard__loop, worker);
  worker->started = status == LANYARD_OK;
  return status;
}

lanyard_status lanyard__start(lanyard_worker *worker, bool for_job) {
  lanyard_status status = LANYARD_OK;
  ly_lock(&worker->lock);
  ly_point("starting", worker);
  /* A closer sets the flag, then takes this lock: it finds either one to join, or no thread for any
   * request, ever. An executor's job may start one even then: the last release joins it. */
  if (!for_job && ly_load(&worker->ring.tail, acquire) & LY_CLOSED) status = LANYARD_CLOSED;
  else if (!worker->started) {
    status = start_thread(worker);
    if (status == LANYARD_OK) ly_ring_start(&worker->ring);
  }
  ly_unlock(&worker->lock);
  return status;
}

lanyard_status lanyard_open(const lanyard_options *options, lanyard_worker **worker_out) {
  if (worker_out == NULL) return LANYARD_INVALID;
  *worker_out = NULL;
  lanyard_options defaults;
  if (options == NULL) {
    lanyard_options_init_at(&defaults, sizeof defaults, NULL, 0);
    options = &defaults;
  }
  if (!are_valid(options)) return LANYARD_INVALID;
  ly_process *process = lanyard__process_get();
  if (process == NULL) return LANYARD_NO_MEMORY;
  lanyard__reap(process);

  lanyard_worker *worker = NULL;
  lanyard_status status = create(options, process, &worker);
  if (status != LANYARD_OK) return status;
  lanyard__register(worker);
  if (!options->lazy) {
    ly_lock(&worker->lock); /* whoever joins reads `thread` under it */
    status = start_thread(worker);
    ly_unlock(&worker->lock);
    if (status != LANYARD_OK) {
      lanyard__destroy(worker);
      return status;
    }
  }
  *worker_out = worker;
  return LANYARD_OK;
}

/* Frees all but the bytes of the struct, which weak handles may still read. */
void lanyard__destroy(lanyard_worker *worker) {
  lanyard__unregister(worker);
  free_parts(worker);
  pthread_mutex_destroy(&worker->lock);
  pthread_mutex_destroy(&worker->jobs.lock);
  worker->magic = 0;
  if (worker->destroyed != NULL) worker->destroyed(worker->context);
  lanyard__memory_release(worker);
}

void lanyard__on_destroy(lanyard_worker *worker, void (*destroyed)(void *context)) {
  worker->destroyed = destroyed;
}
