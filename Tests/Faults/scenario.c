/* scenario.c - see scenario.h and faults.h: counting, orders, cuts. */
#include "scenario.h"

#include "memory.h"
#include "vfs.h"

void faults_lock(faults *scenario) {
  if (pthread_mutex_lock(&scenario->lock) != 0) abort();
}

void faults_unlock(faults *scenario) {
  if (pthread_mutex_unlock(&scenario->lock) != 0) abort();
}

faults *faults_create(const char *name) {
  sqlite3_vfs *base = sqlite3_vfs_find(NULL);
  if (base == NULL || sqlite3_vfs_find(name) != NULL) return NULL;
  faults *scenario = need(calloc(1, sizeof *scenario));
  if (pthread_mutex_init(&scenario->lock, NULL) != 0) abort();
  scenario->base = base;
  scenario->name = copy_of(name, strlen(name) + 1);
  scenario->references = 1;
  faults_vfs_init(scenario);
  if (sqlite3_vfs_register(&scenario->vfs, 0) != SQLITE_OK) abort();
  return scenario;
}

void faults_destroy(faults *scenario) {
  sqlite3_vfs_unregister(&scenario->vfs);
  faults_release(scenario);
}

void faults_retain(faults *scenario) { scenario->references++; }

void faults_release(faults *scenario) {
  faults_lock(scenario);
  bool is_last = --scenario->references == 0;
  faults_unlock(scenario);
  if (!is_last) return;
  disk_free(&scenario->disk);
  pthread_mutex_destroy(&scenario->lock);
  free(scenario->name);
  free(scenario);
}

/* ------------------------------------------------------------------------------------- judging */

static int code_of_death(faults_kind kind) {
  switch (kind) {
    case FAULTS_OPEN: return SQLITE_CANTOPEN;
    case FAULTS_READ: return SQLITE_IOERR_READ;
    case FAULTS_WRITE: return SQLITE_IOERR_WRITE;
    case FAULTS_SYNC: return SQLITE_IOERR_FSYNC;
    case FAULTS_TRUNCATE: return SQLITE_IOERR_TRUNCATE;
    case FAULTS_DELETE: return SQLITE_IOERR_DELETE;
    case FAULTS_LOCK: return SQLITE_IOERR_LOCK;
    case FAULTS_SHM_MAP: return SQLITE_IOERR_SHMMAP;
    case FAULTS_SHM_LOCK: return SQLITE_IOERR_SHMLOCK;
    case FAULTS_KINDS: break;
  }
  return SQLITE_IOERR;
}

faults_verdict faults_judge(faults *scenario, faults_kind kind, int *code_out) {
  uint64_t number = ++scenario->counts[kind];
  *code_out = code_of_death(kind);
  if (scenario->is_cut) return FAULTS_DEAD;
  if (scenario->cut_at[kind] == number) {
    scenario->is_cut = true;
    return FAULTS_DIES;
  }
  const order *told = &scenario->orders[kind];
  if (number < told->first || number >= told->end) return FAULTS_GOES_ON;
  scenario->failed++;
  *code_out = told->code;
  return FAULTS_FAILS;
}

int faults_ask(faults *scenario, faults_kind kind) {
  int code;
  faults_lock(scenario);
  faults_verdict verdict = faults_judge(scenario, kind, &code);
  faults_unlock(scenario);
  return verdict == FAULTS_GOES_ON ? SQLITE_OK : code;
}

int faults_power(faults *scenario, int code) {
  return faults_is_cut(scenario) ? code : SQLITE_OK;
}

/* ------------------------------------------------------------------------------------- orders */

uint32_t faults_count(faults *scenario, faults_kind kind) {
  faults_lock(scenario);
  uint32_t count = (uint32_t)scenario->counts[kind];
  faults_unlock(scenario);
  return count;
}

uint32_t faults_failed(faults *scenario) {
  faults_lock(scenario);
  uint32_t failed = scenario->failed;
  faults_unlock(scenario);
  return failed;
}

void faults_fail(faults *scenario, faults_kind kind, uint32_t first, uint32_t times, int code) {
  faults_lock(scenario);
  uint64_t from = scenario->counts[kind] + first;
  uint64_t end = times == FAULTS_FOR_EVER ? UINT64_MAX : from + times;
  scenario->orders[kind] = (order){.first = from, .end = end, .code = code};
  faults_unlock(scenario);
}

void faults_tear(faults *scenario, bool tears) {
  faults_lock(scenario);
  scenario->tears = tears;
  faults_unlock(scenario);
}

void faults_forget(faults *scenario, bool forgets) {
  faults_lock(scenario);
  scenario->forgets = forgets;
  faults_unlock(scenario);
}

void faults_heal(faults *scenario) {
  faults_lock(scenario);
  memset(scenario->orders, 0, sizeof scenario->orders);
  memset(scenario->cut_at, 0, sizeof scenario->cut_at);
  faults_unlock(scenario);
}

/* ------------------------------------------------------------------------------------- the power */

void faults_cut(faults *scenario) {
  faults_lock(scenario);
  scenario->is_cut = true;
  faults_unlock(scenario);
}

void faults_cut_at(faults *scenario, faults_kind kind, uint32_t n) {
  faults_lock(scenario);
  scenario->cut_at[kind] = scenario->counts[kind] + n;
  faults_unlock(scenario);
}

bool faults_is_cut(faults *scenario) {
  faults_lock(scenario);
  bool is_cut = scenario->is_cut;
  faults_unlock(scenario);
  return is_cut;
}

static int save(faults *scenario, disk_loss loss, uint64_t seed, const char *folder) {
  faults_lock(scenario);
  int error = disk_save(&scenario->disk, loss, seed, folder);
  faults_unlock(scenario);
  return error;
}

int faults_disk(faults *scenario, uint64_t seed, const char *folder) {
  return save(scenario, DISK_LOSES_BY_SEED, seed, folder);
}

int faults_kept(faults *scenario, const char *folder) {
  return save(scenario, DISK_LOSES_NOTHING, 0, folder);
}
