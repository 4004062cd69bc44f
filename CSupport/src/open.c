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
  if (options == NULL) return;
  if (size > sizeof defaults) memset((char *)options + sizeof defaults, 0, size - sizeof defaults);
  memcpy(options, &defaults, size < sizeof defaults ? size : sizeof defaults);
}

/* What the caller's header has of them, and defaults for what was added since. False: the size is none, or a newer
 * header's option was set, which this library does not have. */
static bool read_options(const lanyard_options *given, lanyard_options *options_out) {
  lanyard_options_init_at(options_out, sizeof *options_out, NULL, 0);
  if (given == NULL) return true;
  size_t size = given->size; /* nothing else may be read before it was checked */
  if (size < LANYARD_OPTIONS_SIZE_MIN || size > LANYARD_OPTIONS_SIZE_MAX) return false;
  const char *bytes = (const char *)given;
  for (size_t i = sizeof *options_out; i < size; i++)
    if (bytes[i] != 0) return false;
  memcpy(options_out, given, size < sizeof *options_out ? size : sizeof *options_out);
  return true;
}

static bool are_valid(const lanyard_options *options) {
  return options->capacity >= LANYARD_CAPACITY_MIN && options->capacity <= LANYARD_CAPACITY_MAX &&
         options->batch_limit >= 1 && options->batch_limit <= LANYARD_CAPACITY_MAX &&
         (options->stack_size_bytes == 0 || (options->stack_size_bytes >= (size_t)PTHREAD_STACK_MIN &&
                                             options->stack_size_bytes <= STACK_MAX));
}

static lanyard_status spawn(lanyard_worker *worker) {
  unsigned attempt = 0;
  lanyard_status status;
  do {
    ly_lock(&worker->lock); /* whoever joins reads `thread` under it */
    status = lanyard__spawn(worker);
    ly_unlock(&worker->lock);
  } while (lanyard__thread_retries(status, &attempt));
  return status;
}

lanyard_status lanyard_open(const lanyard_options *given, lanyard_worker **worker_out) {
  if (worker_out == NULL) return LANYARD_INVALID;
  *worker_out = NULL;
  lanyard_options options;
  if (!read_options(given, &options) || !are_valid(&options)) return LANYARD_INVALID;
  ly_process *process = lanyard__process_get();
  if (process == NULL) return LANYARD_NO_MEMORY;
  lanyard__reap(process);

  lanyard_worker *worker = NULL;
  lanyard_status status = lanyard__create(&options, process, &worker);
  if (status != LANYARD_OK) return status;
  worker->main = lanyard__loop;
  lanyard__register(worker);
  if (options.lazy) lanyard__attributes_read(&worker->attributes);
  else status = spawn(worker);
  if (status != LANYARD_OK) {
    worker->destroy = NULL; /* the context stays the caller's */
    lanyard__destroy(worker);
    return status;
  }
  *worker_out = worker;
  return LANYARD_OK;
}
