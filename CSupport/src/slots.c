/* slots.c - memory for rings: an untouched slot costs nothing, and opening a worker again no system call.
 *
 * A small ring is allocated. A larger one is mapped, because calloc clears what it recycles, and clearing touches. A
 * few mappings of workers that are gone are kept by the process: the slots that were used are cleared, and those alone,
 * so a worker that did little costs little.
 */
#include "worker.h"

/* From here on mapped; up to here kept. */
enum { MAPPED_BYTES = 4096, KEPT_BYTES = 65536 };

static size_t bytes_of(uint32_t capacity) { return (size_t)capacity * sizeof(ly_slot); }

static ly_slot *take_spare(ly_process *process, size_t bytes) {
  ly_slot *slots = NULL;
  ly_lock(&process->lock);
  for (int i = 0; i < LY_SPARES && slots == NULL; i++)
    if (process->spares[i].slots != NULL && process->spares[i].bytes == bytes) {
      slots = process->spares[i].slots;
      process->spares[i].slots = NULL;
    }
  ly_unlock(&process->lock);
  return slots;
}

static bool keep_spare(ly_process *process, ly_slot *slots, size_t bytes) {
  bool kept = false;
  ly_lock(&process->lock);
  for (int i = 0; i < LY_SPARES && !kept; i++)
    if (process->spares[i].slots == NULL) {
      process->spares[i] = (ly_spare){slots, bytes};
      kept = true;
    }
  ly_unlock(&process->lock);
  return kept;
}

ly_slot *lanyard__slots_create(ly_process *process, uint32_t capacity) {
  size_t bytes = bytes_of(capacity);
  if (bytes < MAPPED_BYTES) return ly_calloc("ring", capacity, sizeof(ly_slot));
  if (ly_fails("ring")) return NULL;
  ly_slot *slots = bytes <= KEPT_BYTES ? take_spare(process, bytes) : NULL;
  return slots != NULL ? slots : ly_map(bytes);
}

void lanyard__slots_destroy(ly_process *process, ly_slot *slots, uint32_t capacity, uint64_t used) {
  size_t bytes = bytes_of(capacity);
  if (bytes < MAPPED_BYTES) {
    ly_free(slots);
    return;
  }
  if (bytes <= KEPT_BYTES) {
    memset((void *)slots, 0, bytes_of(used < capacity ? (uint32_t)used : capacity));
    if (keep_spare(process, slots, bytes)) return;
  }
  ly_unmap(slots, bytes);
}
