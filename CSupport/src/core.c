/* core.c - the bytes of a worker: made whole or not at all, linked among the living, freed with the last
 * reference to them. Nothing here starts, waits for or ends a thread. Each step that fails undoes those before it.
 */
#include "worker.h"

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

static bool create_ring(lanyard_worker *worker, uint32_t capacity, bool lazy) {
  ly_slot *slots = lanyard__slots_create(worker->process, capacity);
  if (slots == NULL) return false;
#if LANYARD_TESTING
  worker->start = (ly_position)lanyard__hooks.initial_position * LY_STEP;
#endif
  ly_ring_init(&worker->ring, slots, capacity, worker->start, lazy ? LY_UNSTARTED : 0);
  ly_exempt(slots, capacity * sizeof(ly_slot));
  ly_exempt(&worker->ring, sizeof worker->ring);
  return true;
}

static bool create_batch(lanyard_worker *worker, uint32_t limit) {
  worker->batch = ly_calloc("batch", limit, sizeof *worker->batch);
  worker->replies = ly_calloc("replies", limit, sizeof *worker->replies);
  if (worker->interrupt != NULL) worker->arguments = ly_calloc("arguments", limit, sizeof *worker->arguments);
  return worker->batch != NULL && worker->replies != NULL &&
         (worker->interrupt == NULL || worker->arguments != NULL);
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
  ly_exempt(&worker->room.word, sizeof(_Atomic uint32_t) * 2);
  ly_exempt(&worker->bells, sizeof worker->bells);
  ly_exempt(&worker->cancelled, sizeof(_Atomic uint64_t) * 3);
  ly_exempt(&worker->strong, sizeof(_Atomic uint64_t) * 2);
  ly_exempt(&worker->discards, sizeof(_Atomic uint32_t) * 4);
  (void)worker;
}

static void destroy_ring(lanyard_worker *worker) {
  ly_position tail = ly_load(&worker->ring.tail, relaxed) & (ly_position)~LY_FLAGS;
  uint64_t used = worker->start == 0 ? (uint64_t)tail / LY_STEP : UINT64_MAX; /* a test's start touches all */
  lanyard__slots_destroy(worker->process, worker->ring.slots, ly_ring_capacity(&worker->ring), used);
}

static void free_parts(lanyard_worker *worker) {
  if (worker->ring.slots != NULL) destroy_ring(worker);
  ly_free(worker->batch);
  ly_free(worker->replies);
  ly_free(worker->arguments);
  lanyard__jobs_destroy(&worker->jobs);
}

lanyard_status lanyard__create(const lanyard_options *options, ly_process *process,
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
  worker->destroy = options->destroy;
  worker->lazy = options->lazy;
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

void lanyard__register(lanyard_worker *worker) {
  ly_process *process = worker->process;
  ly_lock(&process->lock);
  worker->id = ++process->last_id;
  worker->live_previous = process->live_last;
  if (process->live_last != NULL) process->live_last->live_next = worker;
  else process->live_first = worker;
  process->live_last = worker;
  worker->is_live = true;
  ly_bump(&process->live_count, 1);
  ly_unlock(&process->lock);
}

void lanyard__unregister(lanyard_worker *worker) {
  ly_process *process = worker->process;
  ly_lock(&process->lock);
  lanyard_worker *next = worker->live_next, *previous = worker->live_previous;
  *(previous != NULL ? &previous->live_next : &process->live_first) = next;
  *(next != NULL ? &next->live_previous : &process->live_last) = previous;
  worker->is_live = false;
  ly_store(&process->live_count, ly_load(&process->live_count, relaxed) - 1, relaxed);
  ly_add(&process->ended_turn, 1, release);
  bool awaited = process->quiescers > 0;
  ly_unlock(&process->lock);
  if (awaited) ly_futex_wake(&process->ended_turn, INT_MAX);
}

lanyard_worker *lanyard__retain(lanyard_worker *worker, uint64_t kind) {
  uint64_t before = ly_add(&worker->strong, kind, relaxed); /* the caller owns one, so it cannot go */
  ly_assert(ly_owners(before) > 0);
  (void)before;
  return worker;
}

/* Decided under `jobs.lock`: see executor.c. */
bool lanyard__has_executors(lanyard_worker *worker) {
  ly_lock(&worker->jobs.lock);
  bool has = ly_executors(ly_load(&worker->strong, relaxed)) > 0; /* the lock orders it */
  ly_unlock(&worker->jobs.lock);
  return has;
}

void lanyard__memory_release(lanyard_worker *worker) {
  ly_happens_before(&worker->memory);
  if (ly_sub(&worker->memory, 1, acq_rel) != 1) return; /* OWN */
  ly_happens_after(&worker->memory);
  ly_free(worker);
}

/* Frees all but the bytes of the struct, which weak handles may still read. */
void lanyard__destroy(lanyard_worker *worker) {
  ly_assert_not_on_worker(worker);
  lanyard__unregister(worker);
  lanyard__room_destroy(worker);
  free_parts(worker);
  pthread_mutex_destroy(&worker->lock);
  pthread_mutex_destroy(&worker->jobs.lock);
  worker->magic = 0;
  if (worker->destroy != NULL) worker->destroy(worker->context);
  if (ly_load(&worker->process->live_count, relaxed) == 0) lanyard__alarms_end(worker->process);
  lanyard__memory_release(worker);
}
