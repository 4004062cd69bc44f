/* peers.h - SQLite from plain C threads, as one would write it without a library.
 *
 * Each function opens the file, lets `callers` threads work for `seconds`, closes, and returns how many calls
 * were done. The time of each call, in nanoseconds, goes to `latencies` as far as there is room. A failure of
 * SQLite or of the system ends the process: a measurement with a failure in it measures nothing. */
#ifndef PEERS_H
#define PEERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  uint64_t *nanoseconds;
  size_t room, count;
} peers_latencies;

/* One connection behind a mutex, a transaction for each insert, synchronous=FULL. */
uint64_t peers_insert_alone(const char *path, int callers, double seconds, peers_latencies *latencies);

/* One thread with the connection; what waits shares a commit, a savepoint each, synchronous=FULL. */
uint64_t peers_insert_grouped(const char *path, int callers, double seconds, peers_latencies *latencies);

/* One connection behind a mutex, rows of the table `item` by key. */
uint64_t peers_select(const char *path, int callers, double seconds, int64_t rows, peers_latencies *latencies);

#endif
