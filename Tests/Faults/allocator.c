/* allocator.c - see faults_allocator.h: SQLite's own allocator, asked or not. */
#include <faults_allocator.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stddef.h>

static sqlite3_mem_methods base; /* written once, before any thread uses it */

static _Atomic uint64_t count, first_failing, end_of_failing;
static _Atomic uint32_t failed;
static _Atomic int64_t live;

static bool is_refused(void) {
  uint64_t number = atomic_fetch_add(&count, 1) + 1;
  if (number < atomic_load(&first_failing) || number >= atomic_load(&end_of_failing)) return false;
  atomic_fetch_add(&failed, 1);
  return true;
}

static void *allocate(int size) {
  void *block = is_refused() ? NULL : base.xMalloc(size);
  if (block != NULL) atomic_fetch_add(&live, 1);
  return block;
}

static void *reallocate(void *block, int size) {
  return is_refused() ? NULL : base.xRealloc(block, size);
}

static void release(void *block) {
  atomic_fetch_sub(&live, 1);
  base.xFree(block);
}

static int size_of(void *block) { return base.xSize(block); }
static int round_up(int size) { return base.xRoundup(size); }
static int begin(void *argument) { return base.xInit(argument); }
static void end(void *argument) { base.xShutdown(argument); }

bool faults_allocator_install(void) {
  if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &base) != SQLITE_OK) return false;
  sqlite3_mem_methods methods = {.xMalloc = allocate,
                                 .xFree = release,
                                 .xRealloc = reallocate,
                                 .xSize = size_of,
                                 .xRoundup = round_up,
                                 .xInit = begin,
                                 .xShutdown = end,
                                 .pAppData = base.pAppData};
  return sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK &&
         sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) == SQLITE_OK && sqlite3_initialize() == SQLITE_OK;
}

void faults_allocator_fail(uint32_t first, uint32_t times) {
  /* Nobody else allocates meanwhile, or in between some may or may not fail. */
  atomic_store(&end_of_failing, 0);
  atomic_store(&count, 0);
  atomic_store(&failed, 0);
  atomic_store(&first_failing, first);
  if (first > 0) atomic_store(&end_of_failing, times == UINT32_MAX ? UINT64_MAX : (uint64_t)first + times);
}

uint32_t faults_allocator_count(void) { return (uint32_t)atomic_load(&count); }
uint32_t faults_allocator_failed(void) { return atomic_load(&failed); }
int64_t faults_allocator_live(void) { return atomic_load(&live); }
