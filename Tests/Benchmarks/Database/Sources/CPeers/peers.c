#include "peers.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 256 };

static const char TEXT[] = "a row of text, as long as many are: 0123456789 0123456789 0123456789 0123456789 01234567";

static void check(int good, const char *what, sqlite3 *connection) {
  if (good) return;
  fprintf(stderr, "peers: %s: %s\n", what, connection ? sqlite3_errmsg(connection) : "failed");
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void execute(sqlite3 *connection, const char *sql) {
  check(sqlite3_exec(connection, sql, NULL, NULL, NULL) == SQLITE_OK, sql, connection);
}

static sqlite3_stmt *prepare(sqlite3 *connection, const char *sql) {
  sqlite3_stmt *statement;
  check(sqlite3_prepare_v3(connection, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) == SQLITE_OK, sql,
        connection);
  return statement;
}

static void run(sqlite3 *connection, sqlite3_stmt *statement) {
  check(sqlite3_step(statement) == SQLITE_DONE, "step", connection);
  sqlite3_reset(statement);
}

/* What is asked of the group's thread: one by each caller, on the caller's stack. */
typedef struct request {
  struct request *next;
  int done;
} request;

typedef struct {
  sqlite3 *connection;
  sqlite3_stmt *statement;
  int64_t rows;
  uint64_t end;
  pthread_mutex_t lock; /* of all below, and of the connection where there is no thread for it */
  pthread_cond_t asked, answered;
  request *first, **last;
  int stopping;
  peers_latencies *latencies;
} peer;

static void open_peer(peer *p, const char *path, double seconds, peers_latencies *latencies) {
  memset(p, 0, sizeof *p);
  check(sqlite3_open_v2(path, &p->connection, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) == SQLITE_OK, path, p->connection);
  execute(p->connection, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
  p->latencies = latencies;
  p->last = &p->first;
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->asked, NULL);
  pthread_cond_init(&p->answered, NULL);
  p->end = now() + (uint64_t)(seconds * 1e9);
}

static void close_peer(peer *p) {
  sqlite3_finalize(p->statement);
  check(sqlite3_close(p->connection) == SQLITE_OK, "close", p->connection);
  pthread_mutex_destroy(&p->lock);
  pthread_cond_destroy(&p->asked);
  pthread_cond_destroy(&p->answered);
}

/* One caller: its own times, given to the peer when it ends. */
typedef struct {
  peer *peer;
  void (*call)(peer *, uint64_t *random);
  uint64_t random, calls;
  uint64_t *times;
  size_t room;
} caller;

static void *work(void *argument) {
  caller *c = argument;
  uint64_t start = now();
  while (start < c->peer->end) {
    c->call(c->peer, &c->random);
    uint64_t end = now();
    if (c->calls < c->room) c->times[c->calls] = end - start;
    c->calls++;
    start = end;
  }
  return NULL;
}

static uint64_t let_work(peer *p, int callers, void (*call)(peer *, uint64_t *)) {
  caller *all = calloc((size_t)callers, sizeof *all);
  pthread_t *threads = calloc((size_t)callers, sizeof *threads);
  check(all && threads, "calloc", NULL);
  size_t room = p->latencies->room / (size_t)callers;
  for (int i = 0; i < callers; i++) {
    all[i] = (caller){.peer = p, .call = call, .random = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1), .room = room};
    all[i].times = malloc((room ? room : 1) * sizeof(uint64_t));
    check(all[i].times != NULL, "malloc", NULL);
    check(pthread_create(&threads[i], NULL, work, &all[i]) == 0, "pthread_create", NULL);
  }
  uint64_t calls = 0;
  for (int i = 0; i < callers; i++) {
    pthread_join(threads[i], NULL);
    calls += all[i].calls;
    size_t count = all[i].calls < room ? all[i].calls : room;
    memcpy(p->latencies->nanoseconds + p->latencies->count, all[i].times, count * sizeof(uint64_t));
    p->latencies->count += count;
    free(all[i].times);
  }
  free(all);
  free(threads);
  return calls;
}

static void insert_alone(peer *p, uint64_t *random) {
  (void)random;
  pthread_mutex_lock(&p->lock);
  run(p->connection, p->statement);
  pthread_mutex_unlock(&p->lock);
}

static void bind_text(peer *p, sqlite3_stmt *statement) {
  check(sqlite3_bind_text(statement, 1, TEXT, -1, SQLITE_STATIC) == SQLITE_OK, "bind", p->connection);
}

uint64_t peers_insert_alone(const char *path, int callers, double seconds, peers_latencies *latencies) {
  peer p;
  open_peer(&p, path, seconds, latencies);
  p.statement = prepare(p.connection, "INSERT INTO entry(text) VALUES (?)");
  bind_text(&p, p.statement);
  uint64_t calls = let_work(&p, callers, insert_alone);
  close_peer(&p);
  return calls;
}

static void ask(peer *p, uint64_t *random) {
  (void)random;
  request r = {0};
  pthread_mutex_lock(&p->lock);
  *p->last = &r;
  p->last = &r.next;
  pthread_cond_signal(&p->asked);
  while (!r.done) pthread_cond_wait(&p->answered, &p->lock);
  pthread_mutex_unlock(&p->lock);
}

static void *serve(void *argument) {
  peer *p = argument;
  sqlite3_stmt *begin = prepare(p->connection, "BEGIN IMMEDIATE"), *commit = prepare(p->connection, "COMMIT");
  sqlite3_stmt *save = prepare(p->connection, "SAVEPOINT member");
  sqlite3_stmt *release = prepare(p->connection, "RELEASE member");
  for (;;) {
    pthread_mutex_lock(&p->lock);
    while (!p->first && !p->stopping) pthread_cond_wait(&p->asked, &p->lock);
    if (!p->first) break;
    request *batch = p->first, *end = batch;
    int count = 1;
    for (; count < BATCH && end->next; count++) end = end->next;
    p->first = end->next;
    if (!p->first) p->last = &p->first;
    pthread_mutex_unlock(&p->lock);
    run(p->connection, begin);
    for (int i = 0; i < count; i++) {
      run(p->connection, save);
      run(p->connection, p->statement);
      run(p->connection, release);
    }
    run(p->connection, commit);
    pthread_mutex_lock(&p->lock);
    while (count-- > 0) {
      request *next = batch->next;
      batch->done = 1;
      batch = next;
    }
    pthread_cond_broadcast(&p->answered);
    pthread_mutex_unlock(&p->lock);
  }
  pthread_mutex_unlock(&p->lock);
  sqlite3_finalize(begin);
  sqlite3_finalize(commit);
  sqlite3_finalize(save);
  sqlite3_finalize(release);
  return NULL;
}

uint64_t peers_insert_grouped(const char *path, int callers, double seconds, peers_latencies *latencies) {
  peer p;
  pthread_t thread;
  open_peer(&p, path, seconds, latencies);
  p.statement = prepare(p.connection, "INSERT INTO entry(text) VALUES (?)");
  bind_text(&p, p.statement);
  check(pthread_create(&thread, NULL, serve, &p) == 0, "pthread_create", NULL);
  uint64_t calls = let_work(&p, callers, ask);
  pthread_mutex_lock(&p.lock);
  p.stopping = 1;
  pthread_cond_signal(&p.asked);
  pthread_mutex_unlock(&p.lock);
  pthread_join(thread, NULL);
  close_peer(&p);
  return calls;
}

static void select_one(peer *p, uint64_t *random) {
  char text[128];
  *random ^= *random << 13, *random ^= *random >> 7, *random ^= *random << 17;
  pthread_mutex_lock(&p->lock);
  sqlite3_bind_int64(p->statement, 1, (int64_t)(*random % (uint64_t)p->rows) + 1);
  check(sqlite3_step(p->statement) == SQLITE_ROW, "no row", p->connection);
  int size = sqlite3_column_bytes(p->statement, 1);
  check(size < (int)sizeof text, "a longer text than expected", NULL);
  memcpy(text, sqlite3_column_text(p->statement, 1), (size_t)size);
  run(p->connection, p->statement);
  pthread_mutex_unlock(&p->lock);
  __asm__ volatile("" : : "r"(text) : "memory");
}

uint64_t peers_select(const char *path, int callers, double seconds, int64_t rows, peers_latencies *latencies) {
  peer p;
  open_peer(&p, path, seconds, latencies);
  p.rows = rows;
  p.statement = prepare(p.connection, "SELECT id, text FROM item WHERE id = ?");
  uint64_t calls = let_work(&p, callers, select_one);
  close_peer(&p);
  return calls;
}
