/* memory.h - memory that is there: a test that has none cannot go on. */
#ifndef LANYARD_FAULTS_MEMORY_H
#define LANYARD_FAULTS_MEMORY_H

#include <stdlib.h>
#include <string.h>

static inline void *need(void *memory) {
  if (memory == NULL) abort();
  return memory;
}

static inline void *copy_of(const void *bytes, size_t length) {
  return memcpy(need(malloc(length > 0 ? length : 1)), bytes, length);
}

#endif
