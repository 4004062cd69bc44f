/* vfs.c - see vfs.h. */
#include "vfs.h"

#include <sched.h>

/* Where the default VFS's own file begins, behind ours. */
enum { REAL_AT = (sizeof(faults_file) + 15) / 16 * 16 };

enum { ON_DISK = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL | SQLITE_OPEN_SUPER_JOURNAL };

static faults *of(sqlite3_vfs *vfs) { return vfs->pAppData; }

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *opened, int flags,
                    int *flags_out) {
  faults *scenario = of(vfs);
  faults_file *file = (faults_file *)opened;
  *file = (faults_file){.scenario = scenario, .real = (sqlite3_file *)((char *)opened + REAL_AT)};
  int result;
  faults_lock(scenario);
  if (faults_judge(scenario, FAULTS_OPEN, &result) == FAULTS_GOES_ON) {
    bool is_on_disk = path != NULL && (flags & ON_DISK) != 0;
    if (is_on_disk) disk_has(&scenario->disk, path); /* which reads what is there, before it is opened */
    result = scenario->base->xOpen(scenario->base, path, file->real, flags, flags_out);
    if (result == SQLITE_OK && is_on_disk) file->image = disk_open(&scenario->disk, path);
    file->syncs_folder = (flags & SQLITE_OPEN_CREATE) != 0 && (flags & SQLITE_OPEN_MAIN_DB) == 0;
  }
  /* Without methods SQLite does not close it. */
  if (result == SQLITE_OK) {
    file->file.pMethods = &faults_methods;
    faults_retain(scenario);
  }
  faults_unlock(scenario);
  return result;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync_folder) {
  faults *scenario = of(vfs);
  int result;
  faults_lock(scenario);
  switch (faults_judge(scenario, FAULTS_DELETE, &result)) {
    case FAULTS_GOES_ON:
      disk_has(&scenario->disk, path);
      result = scenario->base->xDelete(scenario->base, path, 0);
      if (result == SQLITE_OK) disk_delete(&scenario->disk, path, sync_folder != 0);
      break;
    case FAULTS_DIES: disk_delete(&scenario->disk, path, false); break;
    case FAULTS_FAILS:
    case FAULTS_DEAD: break;
  }
  faults_unlock(scenario);
  return result;
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *result_out) {
  faults *scenario = of(vfs);
  int result = faults_power(scenario, SQLITE_IOERR_ACCESS);
  if (result != SQLITE_OK) return result;
  return scenario->base->xAccess(scenario->base, path, flags, result_out);
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *path, int size, char *full_out) {
  return of(vfs)->base->xFullPathname(of(vfs)->base, path, size, full_out);
}

static int vfs_random(sqlite3_vfs *vfs, int size, char *bytes_out) {
  return of(vfs)->base->xRandomness(of(vfs)->base, size, bytes_out);
}

/* SQLite waits for a lock up to 10 s by itself. For one that fails to order nobody needs to wait. */
static int vfs_sleep(sqlite3_vfs *vfs, int microseconds) {
  faults *scenario = of(vfs);
  if (faults_failed(scenario) == 0) return scenario->base->xSleep(scenario->base, microseconds);
  sched_yield();
  return microseconds;
}

static int vfs_time(sqlite3_vfs *vfs, double *time_out) {
  return of(vfs)->base->xCurrentTime(of(vfs)->base, time_out);
}

static int vfs_error(sqlite3_vfs *vfs, int size, char *text_out) {
  return of(vfs)->base->xGetLastError(of(vfs)->base, size, text_out);
}

void faults_vfs_init(faults *scenario) {
  scenario->vfs = (sqlite3_vfs){
      .iVersion = 1,
      .szOsFile = REAL_AT + scenario->base->szOsFile,
      .mxPathname = scenario->base->mxPathname,
      .zName = scenario->name,
      .pAppData = scenario,
      .xOpen = vfs_open,
      .xDelete = vfs_delete,
      .xAccess = vfs_access,
      .xFullPathname = vfs_full_path,
      .xRandomness = vfs_random,
      .xSleep = vfs_sleep,
      .xCurrentTime = vfs_time,
      .xGetLastError = vfs_error,
  };
}
