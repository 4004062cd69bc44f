/* file.c - what SQLite does to an open file of a scenario: to the real one and, unless it is temporary, to the
 * model of the disk, under the scenario's lock, so that both have the same order. */
#include "scenario.h"

static faults_file *of(sqlite3_file *file) { return (faults_file *)file; }

static const sqlite3_io_methods *real(sqlite3_file *file) { return of(file)->real->pMethods; }

static int file_close(sqlite3_file *file) {
  int result = real(file)->xClose(of(file)->real);
  file->pMethods = NULL;
  faults_release(of(file)->scenario);
  return result;
}

static int file_read(sqlite3_file *file, void *bytes, int length, sqlite3_int64 offset) {
  int result = faults_ask(of(file)->scenario, FAULTS_READ);
  return result != SQLITE_OK ? result : real(file)->xRead(of(file)->real, bytes, length, offset);
}

static int write_part(sqlite3_file *file, const void *bytes, int length, sqlite3_int64 offset) {
  int result = length == 0 ? SQLITE_OK : real(file)->xWrite(of(file)->real, bytes, length, offset);
  if (result == SQLITE_OK && of(file)->image != NULL)
    disk_write(of(file)->image, (uint64_t)offset, bytes, (size_t)length);
  return result;
}

static int file_write(sqlite3_file *file, const void *bytes, int length, sqlite3_int64 offset) {
  faults *scenario = of(file)->scenario;
  int result;
  faults_lock(scenario);
  switch (faults_judge(scenario, FAULTS_WRITE, &result)) {
    case FAULTS_GOES_ON: result = write_part(file, bytes, length, offset); break;
    case FAULTS_DIES: write_part(file, bytes, length, offset); break;
    case FAULTS_FAILS:
      if (scenario->tears) write_part(file, bytes, length / 2, offset);
      break;
    case FAULTS_DEAD: break;
  }
  faults_unlock(scenario);
  return result;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size) {
  faults *scenario = of(file)->scenario;
  image *kept = of(file)->image;
  int result;
  faults_lock(scenario);
  faults_verdict verdict = faults_judge(scenario, FAULTS_TRUNCATE, &result);
  if (verdict == FAULTS_GOES_ON) result = real(file)->xTruncate(of(file)->real, size);
  bool happened = verdict == FAULTS_DIES || (verdict == FAULTS_GOES_ON && result == SQLITE_OK);
  if (happened && kept != NULL) disk_truncate(kept, (uint64_t)size);
  faults_unlock(scenario);
  return result;
}

static int file_sync(sqlite3_file *file, int flags) {
  (void)flags;
  faults *scenario = of(file)->scenario;
  image *kept = of(file)->image;
  int result;
  faults_lock(scenario);
  switch (faults_judge(scenario, FAULTS_SYNC, &result)) {
    case FAULTS_GOES_ON:
      result = SQLITE_OK;
      if (kept != NULL) disk_sync(&scenario->disk, kept);
      if (kept != NULL && of(file)->syncs_folder) disk_sync_folder(&scenario->disk);
      of(file)->syncs_folder = false;
      break;
    case FAULTS_FAILS:
      if (scenario->forgets && kept != NULL) disk_forget(kept);
      break;
    case FAULTS_DIES: /* some of it may arrive: what is not synced is drawn */
    case FAULTS_DEAD: break;
  }
  faults_unlock(scenario);
  return result;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size_out) {
  int result = faults_power(of(file)->scenario, SQLITE_IOERR_FSTAT);
  return result != SQLITE_OK ? result : real(file)->xFileSize(of(file)->real, size_out);
}

static int file_lock(sqlite3_file *file, int level) {
  int result = faults_ask(of(file)->scenario, FAULTS_LOCK);
  return result != SQLITE_OK ? result : real(file)->xLock(of(file)->real, level);
}

static int file_unlock(sqlite3_file *file, int level) {
  return real(file)->xUnlock(of(file)->real, level);
}

static int file_is_reserved(sqlite3_file *file, int *result_out) {
  return real(file)->xCheckReservedLock(of(file)->real, result_out);
}

static int file_control(sqlite3_file *file, int operation, void *argument) {
  return real(file)->xFileControl(of(file)->real, operation, argument);
}

static int file_sector(sqlite3_file *file) { return real(file)->xSectorSize(of(file)->real); }

static int file_traits(sqlite3_file *file) {
  return real(file)->xDeviceCharacteristics(of(file)->real);
}

static int file_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **map_out) {
  int result = faults_ask(of(file)->scenario, FAULTS_SHM_MAP);
  if (result == SQLITE_OK) return real(file)->xShmMap(of(file)->real, region, size, extend, map_out);
  *map_out = NULL;
  return result;
}

static int file_shm_lock(sqlite3_file *file, int offset, int count, int flags) {
  int result = SQLITE_OK;
  if ((flags & SQLITE_SHM_LOCK) != 0) result = faults_ask(of(file)->scenario, FAULTS_SHM_LOCK);
  return result != SQLITE_OK ? result : real(file)->xShmLock(of(file)->real, offset, count, flags);
}

static void file_shm_barrier(sqlite3_file *file) { real(file)->xShmBarrier(of(file)->real); }

static int file_shm_unmap(sqlite3_file *file, int deletes) {
  return real(file)->xShmUnmap(of(file)->real, deletes);
}

/* Version 2: no memory maps, so that every read passes here. */
const sqlite3_io_methods faults_methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_is_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};
