/* disk.h - what a disk holds for sure, and what has been written since.
 *
 * An image is a file's content, whatever its name: the bytes that are durable, and the changes since the last
 * sync, in order. A name says which image it leads to now, and to which after a loss of power.
 *
 * No function here locks; the scenario does. Images live as long as the disk.
 */
#ifndef LANYARD_FAULTS_DISK_H
#define LANYARD_FAULTS_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct image image;

typedef struct disk {
  struct name *names;
  image *images;
} disk;

/* Whether the name leads to a file now. One that was there before the scenario is durable as it is; it is
 * read before it is opened. */
bool disk_has(disk *all, const char *path);
/* The file of that name, made if there is none. */
image *disk_open(disk *all, const char *path);
void disk_delete(disk *all, const char *path, bool durably);
void disk_write(image *file, uint64_t offset, const void *bytes, size_t length);
void disk_truncate(image *file, uint64_t size);
/* What was written is durable, and so is the name. */
void disk_sync(disk *all, image *file);
/* So is what every name leads to, and that a deleted one leads nowhere: all files are in one folder. */
void disk_sync_folder(disk *all);
/* What was written will never be durable. */
void disk_forget(image *file);

/* How a loss of power decides. */
typedef enum disk_loss { DISK_LOSES_NOTHING, DISK_LOSES_BY_SEED } disk_loss;

int disk_save(const disk *all, disk_loss loss, uint64_t seed, const char *folder);
void disk_free(disk *all);

#endif
