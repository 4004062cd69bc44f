/* registry.c - the workers that live, for leak checks that work while other tests run. */
#include "worker.h"

size_t lanyard_live_count(void) {
  ly_process *process = lanyard__process_peek();
  if (process == NULL) return 0;
  lanyard__reap(process); /* what has ended lives no more */
  return ly_load(&process->live_count, relaxed);
}

/* The first live worker with a higher id than `last_id`, with its bytes kept; NULL if there is none.
 * `hint` is the worker before, whose bytes the caller keeps: the next one is usually its neighbour. */
static lanyard_worker *next_live(ly_process *process, const lanyard_worker *hint, uint64_t last_id) {
  ly_lock(&process->lock);
  lanyard_worker *worker = hint != NULL && hint->is_live ? hint->live_next : process->live_first;
  while (worker != NULL && worker->id <= last_id) worker = worker->live_next;
  if (worker != NULL) ly_add(&worker->memory, 1, relaxed); /* live: its strong owners' count is in */
  ly_unlock(&process->lock);
  return worker;
}

void lanyard_each_live(void (*visit)(const lanyard_info *, void *), void *argument) {
  ly_process *process = lanyard__process_peek();
  if (process == NULL || visit == NULL) return;
  lanyard__reap(process); /* as above */
  lanyard_worker *worker = NULL;
  for (uint64_t id = 0;;) {
    lanyard_worker *next = next_live(process, worker, id);
    if (worker != NULL) lanyard__memory_release(worker);
    if (next == NULL) return;
    worker = next;
    id = worker->id;
    lanyard_info info = {.id = id,
                         .name = worker->name,
                         .file = worker->file,
                         .line = worker->line,
                         .opened_ns = worker->opened_ns,
                         .depth = ly_ring_depth(&worker->ring),
                         .closed = ly_load(&worker->ring.tail, relaxed) & LY_CLOSED};
    visit(&info, argument);
  }
}

typedef struct ly_report {
  int descriptor;
  size_t count;
} ly_report;

static void write_all(int descriptor, const char *text, size_t size) {
  while (size > 0) {
    ssize_t written = ly_write(descriptor, text, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return; /* as documented: what it does not take is not written again */
    text += written;
    size -= (size_t)written;
  }
}

/* Names come from callers: a control character in one must not break the line. */
static void replace_controls(char *text, size_t size) {
  for (size_t i = 0; i < size; i++)
    if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) text[i] = '?';
}

static void report_line(const lanyard_info *info, void *argument) {
  ly_report *report = argument;
  report->count++;
  char line[512];
  uint64_t age_ns = ly_now_ns() - info->opened_ns;
  int length = snprintf(line, sizeof line, "lanyard: worker %llu \"%s\" %s, %u waiting, open for %llu.%03llu s, opened at %s:%d\n",
                        (unsigned long long)info->id, info->name, info->closed ? "closed" : "open",
                        info->depth, (unsigned long long)(age_ns / 1000000000),
                        (unsigned long long)(age_ns / 1000000 % 1000),
                        info->file == NULL ? "(unknown)" : info->file, info->line);
  if (length < 0) return;
  if ((size_t)length >= sizeof line) { /* a very long name or path: the line is cut, and still one line */
    length = sizeof line - 1;
    line[length - 1] = '\n';
  }
  replace_controls(line, (size_t)length - 1);
  write_all(report->descriptor, line, (size_t)length);
}

size_t lanyard_report_live(int descriptor) {
  ly_report report = {descriptor, 0};
  lanyard_each_live(report_line, &report);
  return report.count;
}
