/* open.c - options, their checks, and open. It alone names the loop: whoever starts a thread asks `main`. */
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
  lanyard_status status = lanyard__create(options, process, &worker);
  if (status != LANYARD_OK) return status;
  worker->main = lanyard__loop;
  lanyard__register(worker);
  if (!options->lazy) {
    ly_lock(&worker->lock); /* whoever joins reads `thread` under it */
    status = lanyard__spawn(worker);
    ly_unlock(&worker->lock);
    if (status != LANYARD_OK) {
      lanyard__destroy(worker);
      return status;
    }
  }
  *worker_out = worker;
  return LANYARD_OK;
}
