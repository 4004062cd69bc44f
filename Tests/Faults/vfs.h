/* vfs.h - a scenario as SQLite's VFS: opening and deleting; all else is the default VFS's. */
#ifndef LANYARD_FAULTS_VFS_H
#define LANYARD_FAULTS_VFS_H

#include "scenario.h"

/* Fills in `vfs` from `base` and `name`. */
void faults_vfs_init(faults *scenario);

#endif
