/* disk.c - see disk.h. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"

enum { SECTOR = 512 };

/* A write, or a truncation if there are no bytes. */
typedef struct change {
  struct change *next;
  unsigned char *bytes;
  uint64_t offset;
  size_t length;
} change;

typedef struct content {
  unsigned char *bytes;
  uint64_t size, capacity;
} content;

struct image {
  image *next;
  content durable;
  change *first, **end;
};

typedef struct name {
  struct name *next;
  char *path;
  image *now, *durable; /* NULL: no file */
} name;

/* ------------------------------------------------------------------------------------- content */

static void resize(content *file, uint64_t size) {
  if (size > file->capacity) {
    file->capacity = size * 2;
    file->bytes = need(realloc(file->bytes, file->capacity));
  }
  if (size > file->size) memset(file->bytes + file->size, 0, size - file->size);
  file->size = size;
}

static void put(content *file, uint64_t offset, const unsigned char *bytes, size_t length) {
  if (length == 0) return;
  if (offset + length > file->size) resize(file, offset + length);
  memcpy(file->bytes + offset, bytes, length);
}

static void apply(content *file, const change *one) {
  if (one->bytes == NULL)
    resize(file, one->offset);
  else
    put(file, one->offset, one->bytes, one->length);
}

/* ------------------------------------------------------------------------------------- images */

static image *new_image(disk *all) {
  image *file = need(calloc(1, sizeof *file));
  file->end = &file->first;
  file->next = all->images;
  all->images = file;
  return file;
}

static void add(image *file, change added) {
  change *one = copy_of(&added, sizeof added);
  one->next = NULL;
  *file->end = one;
  file->end = &one->next;
}

void disk_write(image *file, uint64_t offset, const void *bytes, size_t length) {
  add(file, (change){.bytes = copy_of(bytes, length), .offset = offset, .length = length});
}

void disk_truncate(image *file, uint64_t size) {
  add(file, (change){.offset = size});
}

void disk_forget(image *file) {
  for (change *one = file->first, *next; one != NULL; one = next) {
    next = one->next;
    free(one->bytes);
    free(one);
  }
  file->first = NULL;
  file->end = &file->first;
}

void disk_sync(disk *all, image *file) {
  for (const change *one = file->first; one != NULL; one = one->next) apply(&file->durable, one);
  disk_forget(file);
  for (name *one = all->names; one != NULL; one = one->next)
    if (one->now == file) one->durable = file;
}

void disk_sync_folder(disk *all) {
  for (name *one = all->names; one != NULL; one = one->next) one->durable = one->now;
}

/* ------------------------------------------------------------------------------------- names */

static void read_file(content *file, int descriptor) {
  unsigned char block[1 << 16];
  ssize_t count;
  while ((count = read(descriptor, block, sizeof block)) > 0)
    put(file, file->size, block, (size_t)count);
  if (count < 0) abort();
}

static name *find(disk *all, const char *path) {
  for (name *one = all->names; one != NULL; one = one->next)
    if (strcmp(one->path, path) == 0) return one;
  name *found = need(calloc(1, sizeof *found));
  found->path = copy_of(path, strlen(path) + 1);
  found->next = all->names;
  all->names = found;
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor >= 0) {
    found->now = found->durable = new_image(all);
    read_file(&found->now->durable, descriptor);
    close(descriptor);
  }
  return found;
}

bool disk_has(disk *all, const char *path) { return find(all, path)->now != NULL; }

image *disk_open(disk *all, const char *path) {
  name *found = find(all, path);
  if (found->now == NULL) found->now = new_image(all);
  return found->now;
}

void disk_delete(disk *all, const char *path, bool durably) {
  name *found = find(all, path);
  found->now = NULL;
  if (durably) found->durable = NULL;
}

void disk_free(disk *all) {
  for (image *file = all->images, *next; file != NULL; file = next) {
    next = file->next;
    disk_forget(file);
    free(file->durable.bytes);
    free(file);
  }
  for (name *one = all->names, *next; one != NULL; one = next) {
    next = one->next;
    free(one->path);
    free(one);
  }
}

/* ------------------------------------------------------------------------------------- loss */

/* SplitMix64. */
static uint64_t draw(uint64_t *state) {
  uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

static bool one_of(uint64_t *state, unsigned share, unsigned of) {
  return draw(state) % of < share;
}

/* Of a write, what arrived: each sector whole, or its beginning, or nothing of it. */
static void arrive(content *file, const change *one, unsigned kept, unsigned of, uint64_t *state) {
  for (size_t start = 0, end; start < one->length; start = end) {
    end = start + (SECTOR - (size_t)((one->offset + start) % SECTOR));
    if (end > one->length) end = one->length;
    if (!one_of(state, kept, of)) continue;
    size_t length = end - start;
    if (kept < of && one_of(state, 1, 8)) length = (size_t)(draw(state) % length);
    put(file, one->offset + start, one->bytes + start, length);
  }
}

static content lose(const image *file, uint64_t *state) {
  content left = {0};
  put(&left, 0, file->durable.bytes, file->durable.size);
  unsigned kept = (unsigned)(draw(state) % 5), of = 4; /* nothing, a quarter, ... everything */
  for (const change *one = file->first; one != NULL; one = one->next) {
    if (one->bytes != NULL)
      arrive(&left, one, kept, of, state);
    else if (one_of(state, kept, of))
      apply(&left, one);
  }
  return left;
}

/* The real file: it also has what a failed sync has made the disk forget. */
static content keep(const char *path) {
  content left = {0};
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) abort();
  read_file(&left, descriptor);
  close(descriptor);
  return left;
}

/* ------------------------------------------------------------------------------------- saving */

static int write_file(const char *folder, const char *path, const content *file) {
  const char *last = strrchr(path, '/');
  char target[4096];
  int length = snprintf(target, sizeof target, "%s/%s", folder, last == NULL ? path : last + 1);
  if (length < 0 || (size_t)length >= sizeof target) return ENAMETOOLONG;
  int descriptor = open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (descriptor < 0) return errno;
  int error = 0;
  for (uint64_t done = 0; done < file->size && error == 0;) {
    ssize_t count = write(descriptor, file->bytes + done, file->size - done);
    if (count < 0)
      error = errno;
    else
      done += (uint64_t)count;
  }
  if (close(descriptor) != 0 && error == 0) error = errno;
  return error;
}

int disk_save(const disk *all, disk_loss loss, uint64_t seed, const char *folder) {
  int error = 0;
  for (const name *one = all->names; one != NULL && error == 0; one = one->next) {
    const image *file = one->now;
    if (loss == DISK_LOSES_BY_SEED && one->durable != one->now && one_of(&seed, 1, 2))
      file = one->durable;
    if (file == NULL) continue;
    content left = loss == DISK_LOSES_BY_SEED ? lose(file, &seed) : keep(one->path);
    error = write_file(folder, one->path, &left);
    free(left.bytes);
  }
  return error;
}
