/* stats.c - asking a worker about itself. */
#include "worker.h"

bool lanyard_is_current(const lanyard_worker *worker) {
  return ly_check(worker) == LANYARD_OK && lanyard__current == worker;
}

bool lanyard_is_closed(const lanyard_worker *worker) {
  return ly_check(worker) != LANYARD_OK || ly_load(&worker->ring.tail, acquire) & LY_CLOSED;
}

uint64_t lanyard_now_ns(void) { return ly_now_ns(); }

static void read_stats(const lanyard_worker *worker, lanyard_stats *stats_out) {
  uint64_t inline_calls = ly_load(&worker->inline_calls, relaxed);
  ly_position tail = ly_load(&worker->ring.tail, relaxed) & (ly_position)~LY_FLAGS;
  stats_out->submitted = (ly_position)(tail - worker->start) / LY_STEP + inline_calls;
  stats_out->completed = ly_load(&worker->completed, relaxed) + inline_calls;
  stats_out->cancelled = ly_load(&worker->cancelled, relaxed);
  stats_out->discarded = ly_load(&worker->discarded, relaxed);
  stats_out->timed_out = ly_load(&worker->timed_out, relaxed);
  stats_out->refused_full = ly_load(&worker->refused_full, relaxed);
  stats_out->batches = ly_load(&worker->batches, relaxed);
  stats_out->parks = ly_load(&worker->parks, relaxed);
  stats_out->wakes = ly_load(&worker->park.wakes, relaxed);
  stats_out->capacity = ly_ring_capacity(&worker->ring);
  stats_out->depth = ly_ring_depth(&worker->ring);
  stats_out->depth_high = ly_load(&worker->depth_high, relaxed);
}

lanyard_status lanyard_get_stats(const lanyard_worker *worker, lanyard_stats *stats_out) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (stats_out == NULL || stats_out->size < LANYARD_STATS_SIZE_MIN || stats_out->size > LANYARD_STATS_SIZE_MAX)
    return LANYARD_INVALID;
  lanyard_stats stats = {.size = stats_out->size};
  read_stats(worker, &stats);
  /* No more than the caller's header has; what this library does not have is 0. */
  size_t size = stats.size;
  if (size > sizeof stats) memset((char *)stats_out + sizeof stats, 0, size - sizeof stats);
  memcpy(stats_out, &stats, size < sizeof stats ? size : sizeof stats);
  return LANYARD_OK;
}
