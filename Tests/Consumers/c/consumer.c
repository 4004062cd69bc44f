/* consumer.c - four threads, one SQLite connection, one worker between them.
 *
 * An SQLite connection serves one thread at a time, and a commit to disk costs the same for one row as for
 * a thousand. A worker gives both: it owns the connection, so no lock is needed, and it commits what is
 * queued as one transaction, so nobody waits for a disk on behalf of one row.
 *
 *     producer --submit--\
 *     producer --call-----+--> ring --> worker: BEGIN, row, row, ..., COMMIT
 *     producer --submit--/
 *
 * Read it from main() upwards. Usage: consumer [ROWS [DATABASE]]; the table in the database is replaced.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <lanyard.h>
#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum { PRODUCERS = 4, ROWS_PER_CALL = 500 };
static int passed, failed; /* by the main thread alone */

static bool check(bool holds, const char *what) {
  printf("%s  %s\n", holds ? "ok    " : "FAILED", what);
  *(holds ? &passed : &failed) += 1;
  return holds;
}

/* ------------------------------------------------------------------------------- what the worker owns */

/* All but the path belongs to the worker: no one else touches it before it has ended. */
struct store {
  const char *path;
  sqlite3 *database;
  sqlite3_stmt *insert;
  int status; /* the first thing that went wrong; SQLITE_OK if nothing did */
};

static void note(struct store *store, int status) {
  if (status != SQLITE_OK && status != SQLITE_DONE && store->status == SQLITE_OK) store->status = status;
}

static void execute(struct store *store, const char *sql) {
  note(store, sqlite3_exec(store->database, sql, NULL, NULL, NULL));
}

/* Hook: before the first request. The connection is born on the thread that it will live on. */
static void open_store(void *context) {
  struct store *store = context;
  note(store, sqlite3_open(store->path, &store->database));
  execute(store, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                 "DROP TABLE IF EXISTS item; CREATE TABLE item (value INTEGER NOT NULL)");
  note(store, sqlite3_prepare_v2(store->database, "INSERT INTO item VALUES (?)", -1, &store->insert, NULL));
}

/* Hook: what is queued, as one transaction. A lanyard_call() returns after this, its row on the disk. */
static void serve_store(void *context, lanyard_request *requests, size_t count) {
  struct store *store = context;
  execute(store, "BEGIN");
  for (size_t i = 0; i < count; i++) requests[i].function(requests[i].argument, LANYARD_OK);
  execute(store, "COMMIT");
}

/* Hook: after the last request, whatever ended the worker. */
static void close_store(void *context) {
  struct store *store = context;
  note(store, sqlite3_finalize(store->insert));
  note(store, sqlite3_close(store->database));
}

/* ------------------------------------------------------------------------------------------- requests */

struct row {
  struct store *store;
  int64_t value;
  lanyard_status *answer; /* NULL, or where to say what became of it */
};

/* A row of a lanyard_call() lies on its caller's stack; the caller waits. */
static void insert_row(void *argument, lanyard_status outcome) {
  struct row *row = argument;
  struct store *store = row->store;
  if (row->answer != NULL) *row->answer = outcome;
  if (outcome != LANYARD_OK) return; /* cancelled or discarded: no work, and perhaps another thread */
  note(store, sqlite3_bind_int64(store->insert, 1, row->value));
  note(store, sqlite3_step(store->insert));
  note(store, sqlite3_reset(store->insert));
}

/* A row that is submitted belongs to its request, which is answered exactly once: so it is freed once. */
static void insert_and_free_row(void *argument, lanyard_status outcome) {
  insert_row(argument, outcome);
  free(argument);
}

/* The other side of the contract: a refused request is still the caller's. */
static lanyard_status submit_row(lanyard_worker *worker, struct row row, lanyard_ticket *ticket_out) {
  struct row *owned = malloc(sizeof *owned);
  if (owned == NULL) return LANYARD_NO_MEMORY;
  *owned = row;
  lanyard_status status = lanyard_submit(worker, insert_and_free_row, owned, ticket_out);
  if (status != LANYARD_OK) free(owned);
  return status;
}

/* A question: how the store is. Whoever asks knows that all earlier requests are over. */
struct question {
  const struct store *store;
  int status;
};

static void ask(void *argument, lanyard_status outcome) {
  struct question *question = argument;
  if (outcome == LANYARD_OK) question->status = question->store->status;
}

static bool is_well(lanyard_worker *worker, const struct store *store) {
  struct question question = {.store = store, .status = SQLITE_ERROR};
  return lanyard_call(worker, ask, &question) == LANYARD_OK && question.status == SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------ producers */

struct producer {
  pthread_t thread;
  lanyard_worker *worker; /* a reference of its own */
  struct store *store;
  int64_t first, end;
  lanyard_status status; /* of the first refusal */
};

static void *produce(void *argument) {
  struct producer *producer = argument;
  for (int64_t i = producer->first; i < producer->end && producer->status == LANYARD_OK; i++) {
    struct row row = {.store = producer->store, .value = i};
    /* Submit and go on; now and then call, to know that everything up to here is on the disk. */
    if (i % ROWS_PER_CALL == 0) producer->status = lanyard_call(producer->worker, insert_row, &row);
    else producer->status = submit_row(producer->worker, row, NULL);
  }
  lanyard_release(&producer->worker);
  return NULL;
}

static void insert_by_threads(lanyard_worker *worker, struct store *store, int64_t rows) {
  struct producer producers[PRODUCERS];
  bool accepted = true;
  int started = 0;
  for (; started < PRODUCERS; started++) {
    struct producer *producer = &producers[started];
    *producer = (struct producer){.worker = lanyard_retain(worker), .store = store,
                                  .first = rows * started / PRODUCERS,
                                  .end = rows * (started + 1) / PRODUCERS};
    if (pthread_create(&producer->thread, NULL, produce, producer) == 0) continue;
    lanyard_release(&producer->worker);
    break;
  }
  for (int i = 0; i < started; i++) {
    if (pthread_join(producers[i].thread, NULL) != 0 || producers[i].status != LANYARD_OK) accepted = false;
  }
  check(started == PRODUCERS && accepted, "every row was accepted");
}

/* --------------------------------------------------------------------------------------- cancellation */

/* Holds the worker, so that what is queued behind it certainly has not started. */
struct gate { sem_t entered, leave; };

static void pass_gate(void *argument, lanyard_status outcome) {
  struct gate *gate = argument;
  if (sem_post(&gate->entered) != 0 || outcome != LANYARD_OK) return;
  while (sem_wait(&gate->leave) != 0) continue; /* EINTR */
}

static void cancel_one(lanyard_worker *worker, struct store *store) {
  struct gate gate;
  lanyard_status answer = LANYARD_OK;
  lanyard_ticket queued = 0;
  if (!check(!sem_init(&gate.entered, 0, 0) && !sem_init(&gate.leave, 0, 0), "a gate is made")) return;
  if (check(lanyard_submit(worker, pass_gate, &gate, NULL) == LANYARD_OK, "a request holds the worker")) {
    while (sem_wait(&gate.entered) != 0) continue; /* EINTR */
    struct row row = {.store = store, .value = -1, .answer = &answer};
    check(submit_row(worker, row, &queued) == LANYARD_OK, "a row queues behind it");
    check(lanyard_cancel(worker, queued) == LANYARD_OK, "the queued row is cancelled");
    check(answer == LANYARD_CANCELLED, "it was answered before the cancel returned");
    check(lanyard_cancel(worker, queued) == LANYARD_TOO_LATE, "nothing is cancelled twice");
    check(sem_post(&gate.leave) == 0, "the gate opens");
    check(is_well(worker, store), "the worker went on"); /* and is out of the gate */
  }
  check(sem_destroy(&gate.entered) == 0 && sem_destroy(&gate.leave) == 0, "the gate is gone");
}

/* ----------------------------------------------------------------------------------------------- main */

/* Looks with a connection of its own: how many rows there are, and whether they are the right ones. */
static bool holds_rows(const char *path, int64_t rows) {
  sqlite3 *database = NULL;
  sqlite3_stmt *query = NULL;
  const char *sql = "SELECT count(*), total(value) FROM item";
  bool holds = sqlite3_open(path, &database) == SQLITE_OK &&
               sqlite3_prepare_v2(database, sql, -1, &query, NULL) == SQLITE_OK &&
               sqlite3_step(query) == SQLITE_ROW && sqlite3_column_int64(query, 0) == rows &&
               sqlite3_column_int64(query, 1) == rows * (rows - 1) / 2;
  bool finalized = sqlite3_finalize(query) == SQLITE_OK;
  return sqlite3_close(database) == SQLITE_OK && finalized && holds;
}

int main(int count, char **arguments) {
  int64_t rows = count > 1 ? strtoll(arguments[1], NULL, 10) : 100000;
  struct store store = {.path = count > 2 ? arguments[2] : "consumer.db"};

  lanyard_options options;
  lanyard_options_init(&options);
  options.name = "item store";
  options.batch_limit = options.capacity; /* all that is queued */
  options.context = &store;
  options.on_start = open_store;
  options.serve = serve_store;
  options.on_stop = close_store;
  lanyard_worker *worker = NULL;
  if (!check(lanyard_open(&options, &worker) == LANYARD_OK, "the worker is open")) return 1;
  check(is_well(worker, &store), "so is the database");

  uint64_t start_ns = lanyard_now_ns();
  insert_by_threads(worker, &store, rows);
  cancel_one(worker, &store);

  /* Once this has returned, every row that was accepted is on the disk and the thread is joined. */
  check(lanyard_close(worker, LANYARD_DRAIN) == LANYARD_OK, "the worker is closed");
  check(lanyard_close(worker, LANYARD_DRAIN) == LANYARD_OK, "closing again is fine");
  double seconds = (double)(lanyard_now_ns() - start_ns) / 1e9;
  check(submit_row(worker, (struct row){.store = &store}, NULL) == LANYARD_CLOSED, "now it refuses");

  lanyard_stats stats = {.size = sizeof stats};
  check(lanyard_get_stats(worker, &stats) == LANYARD_OK, "its figures are final");
  check(stats.cancelled == 1 && stats.submitted == stats.completed + stats.cancelled, "none is unanswered");
  lanyard_release(&worker);
  check(worker == NULL, "the reference is given back");
  check(lanyard_quiesce(lanyard_now_ns() + UINT64_C(5000000000)) == 0, "no worker lives");

  /* The worker has ended, and all it did happened before its close returned: its fields are ours now. */
  check(store.status == SQLITE_OK, "SQLite never complained");
  check(holds_rows(store.path, rows), "a new connection finds every row, once");

  printf("%" PRId64 " rows in %" PRIu64 " transactions in %.2f s\n", rows, stats.batches, seconds);
  printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
