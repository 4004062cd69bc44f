/* loop.c - the thread: collect what is queued, run it, sleep when there is nothing, end when closed.
 *
 * The thread alone takes from the ring, writes the head and the counters of its section, and calls
 * on_start, the requests, serve and on_stop, in that order and one at a time. It frees each slot before
 * it runs what was in it, so the capacity counts requests that wait.
 *
 * It ends when the ring is closed and every position below the closed tail has been taken. A position
 * that was claimed but is not published yet is waited for, never skipped: its producer was accepted.
 *
 * Each callback may fork, and may wrongly return in the child. There this thread is a copy that serves
 * nobody, and every step below begins by asking whether it is.
 */
#include "worker.h"

/* What collect() took and run() will run: one request, or with `serve` up to batch_limit, at the positions
 * [first, end). */
typedef struct ly_batch {
  lanyard_request *requests;
  ly_reply **replies;
  size_t count;
  ly_position first, end;
} ly_batch;

/* Answers a request that will not run. */
static void answer_unrun(lanyard_worker *worker, const ly_entry *entry, lanyard_status outcome) {
  if (outcome == LANYARD_CLOSED) ly_bump(&worker->discarded, 1);
  else ly_add(&worker->timed_out, 1, relaxed);
  ly_reply *reply = ly_entry_reply(entry);
  if (reply != NULL) ly_reply_answer(reply, &worker->bells, outcome);
  else entry->function(entry->argument, outcome);
}

/* Why the request at the head shall not run; LANYARD_OK if it shall. */
static lanyard_status verdict(lanyard_worker *worker, const ly_entry *entry) {
  if (LY_UNLIKELY(ly_load(&worker->discards, acquire))) { /* DISCARD */
    ly_happens_after(&worker->discards);
    return LANYARD_CLOSED;
  }
  return LY_UNLIKELY(ly_entry_expired(entry)) ? LANYARD_TIMED_OUT : LANYARD_OK;
}

/* Raises the high-water mark as far as the ring is filled behind the head. Looking at one slot ahead
 * disturbs producers less than reading the tail, which they all write. */
static void measure_depth(lanyard_worker *worker, ly_position head) {
  uint32_t high = ly_load(&worker->depth_high, relaxed), seen = high;
  while (seen < ly_ring_capacity(&worker->ring) &&
         ly_ring_is_ready(&worker->ring, (ly_position)(head + seen * LY_STEP)))
    seen++;
  if (seen != high) ly_store(&worker->depth_high, seen, relaxed); /* statistics only */
}

/* Frees the slot at the head without running what was in it. */
static ly_position step_over(lanyard_worker *worker, ly_batch *batch, ly_position head) {
  batch->first = (ly_position)(head + LY_STEP);
  if (worker->interrupt != NULL) ly_running_skip(&worker->running, batch->first);
  return batch->first;
}

/* Takes ready requests, up to the limit, and marks them as running. From then on lanyard_cancel() on one of them
 * interrupts it. Requests that must not run are answered here; one that follows a request already taken ends the
 * batch, because `running` names a batch by one gapless range. */
static void collect(lanyard_worker *worker, ly_batch *batch) {
  ly_assert_on_worker(worker);
  ly_ring *ring = &worker->ring;
  ly_position head = ly_load(&ring->head, relaxed); /* written by this thread alone */
  batch->count = 0;
  batch->first = head;
  while (batch->count < worker->batch_limit && !ly_is_foreign(worker)) {
    ly_entry entry = {NULL, NULL, 0};
    ly_peek peek = ly_ring_peek(ring, head, &entry);
    if (peek == LY_PEEK_NONE || (peek == LY_PEEK_WITHDRAWN && batch->count > 0)) break;
    /* After the look at the slot: a job that one thread enqueued before this request is seen now. */
    if (LY_UNLIKELY(!ly_jobs_are_quiet(&worker->jobs)) && lanyard__jobs_are_due(&worker->jobs, head))
      break; /* ORDER */
    measure_depth(worker, head);
    if (peek == LY_PEEK_WITHDRAWN) {
      ly_ring_skip(ring, head);
      head = step_over(worker, batch, head);
      continue;
    }
    lanyard_status outcome = verdict(worker, &entry);
    if (outcome != LANYARD_OK && batch->count > 0) break;
    ly_point("taking", worker);
    if (!ly_ring_take(ring, head)) continue; /* withdrawn just now */
    if (outcome == LANYARD_OK) {
      batch->requests[batch->count] = (lanyard_request){entry.function, entry.argument};
      if (worker->arguments != NULL) worker->arguments[batch->count] = entry.argument; /* `serve` may change its array */
      batch->replies[batch->count++] = ly_entry_reply(&entry);
      head = (ly_position)(head + LY_STEP);
    } else {
      head = step_over(worker, batch, head); /* before answer_unrun(): its callback may cancel this very
                                                    * ticket, and must find it done */
      answer_unrun(worker, &entry, outcome);
    }
  }
  batch->end = head;
  if (batch->count == 0) return;
  ly_point("taken", worker);
  if (worker->interrupt != NULL) ly_running_begin(&worker->running, batch->first, head, batch->requests->argument);
}

static void run(lanyard_worker *worker, ly_batch *batch) {
  ly_assert_on_worker(worker);
  if (LY_UNLIKELY(ly_is_foreign(worker))) return;
  if (worker->serve != NULL) worker->serve(worker->context, batch->requests, batch->count);
  else batch->requests->function(batch->requests->argument, LANYARD_OK);
  if (LY_UNLIKELY(ly_is_foreign(worker))) return;
  if (worker->interrupt != NULL) ly_running_finish(&worker->running, batch->end);
  ly_bump(&worker->batches, 1);
  ly_bump(&worker->completed, batch->count);
  for (size_t i = 0; i < batch->count; i++)
    if (batch->replies[i] != NULL) ly_reply_answer(batch->replies[i], &worker->bells, LANYARD_OK);
}

/* Runs what is due of what was taken, and no more: the loop has other things to look at in between. False: there
 * was none to run now. */
static bool run_jobs(lanyard_worker *worker) {
  ly_assert_on_worker(worker);
  ly_jobs *jobs = &worker->jobs;
  ly_position head = ly_load(&worker->ring.head, relaxed);
  if (ly_is_foreign(worker) || !lanyard__jobs_are_due(jobs, head)) return false;
  do {
    ly_job job = jobs->taken.entries[jobs->next++];
    job.function(job.job, job.executor);
  } while (!ly_is_foreign(worker) && ly_jobs_next_is_due(jobs, head));
  lanyard__jobs_trim(jobs);
  return true;
}

static bool head_is_ready(const lanyard_worker *worker) {
  return ly_ring_peek_any(&worker->ring, ly_load(&worker->ring.head, relaxed));
}

/* What ends a spin. It looks at the head's slot and not at the tail, which every producer is writing. */
static bool has_news(const void *worker) {
  return head_is_ready(worker) || ly_jobs_have_changed(&((const lanyard_worker *)worker)->jobs) ||
         ly_load(&((const lanyard_worker *)worker)->close_hint, relaxed);
}

static void sleep_until_news(lanyard_worker *worker, ly_position tail) {
  ly_assert_on_worker(worker);
  uint64_t begin = ly_now_ns();
  ly_slept slept = ly_park_sleep(&worker->park, &worker->ring, tail, &worker->jobs, worker->jobs.alarm_ns);
  if (slept == LY_DID_NOT_SLEEP) return;
  if (slept == LY_WAS_WOKEN) ly_bump(&worker->parks, 1);
  uint64_t woken = slept == LY_WAS_WOKEN ? ly_load(&worker->park.woken_ns, relaxed) /* WAKE orders it */
                                         : ly_now_ns();
  ly_spin_slept(&worker->spin, woken > begin ? woken - begin : 0);
}

/* Closed, and everything that was accepted is over. Whether the thread stays, for an executor's jobs. */
static bool stays_when_drained(lanyard_worker *worker) {
  ly_assert_on_worker(worker);
  lanyard__drop_timers(worker);
  if (ly_is_foreign(worker)) return false;
  bool has_executors = lanyard__has_executors(worker);
  if (!has_executors && !lanyard__jobs_are_left(&worker->jobs)) return false;
  if (!worker->has_drained && has_executors) { /* else its last jobs run, and it has finished */
    worker->has_drained = true;
    lanyard__announce(worker, LY_DRAINED);
  }
  return !ly_is_foreign(worker); /* a callback may have forked, and this may be the child, where
                                    * the thread ends */
}

/* Jobs that go on for ever must not keep closers waiting. */
static void notice_drain(lanyard_worker *worker) {
  ly_assert_on_worker(worker);
  ly_position tail = ly_load(&worker->ring.tail, acquire); /* CLOSE */
  if (worker->has_drained || tail != (ly_load(&worker->ring.head, relaxed) | LY_CLOSED)) return;
  ly_happens_after(&worker->ring.tail);
  stays_when_drained(worker);
}

/* Returns when there may be something to collect; false when there never will be again. */
static bool await_requests(lanyard_worker *worker) {
  ly_assert_on_worker(worker);
  ly_ring *ring = &worker->ring;
  ly_spin_look(&worker->spin, has_news, worker);
  for (unsigned turn = 0; !ly_is_foreign(worker);) {
    ly_position head = ly_load(&ring->head, relaxed);
    if (head_is_ready(worker) || lanyard__jobs_are_due(&worker->jobs, head)) return true;
    ly_position tail = ly_load(&ring->tail, seq_cst);
    if ((tail & (ly_position)~LY_FLAGS) != head) {
      ly_ladder(&turn); /* its producer has claimed the head and is about to publish it */
    } else if (tail & LY_CLOSED) {
      ly_happens_after(&ring->tail); /* CLOSE */
      if (!stays_when_drained(worker)) return false;
      sleep_until_news(worker, tail);
    } else if (ly_room_is_awaited(&worker->room)) { /* ROOM; the ring is empty */
      lanyard__room_made(worker, true);
      ly_spin_look(&worker->spin, has_news, worker); /* those who were woken are about to come */
      turn = 0;
    } else {
      sleep_until_news(worker, tail);
      if (worker->jobs.alarm_ns != LANYARD_FOREVER) return true; /* it may be time */
      turn = 0;
    }
  }
  return false;
}

void *lanyard__loop(void *argument) {
  lanyard_worker *worker = argument;
  lanyard__current = worker;
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  lanyard__thread_name(worker->name);
  if (worker->lazy) lanyard__attributes_take(&worker->attributes);
  if (worker->on_start != NULL) worker->on_start(worker->context);

  lanyard_request request;
  ly_reply *reply;
  ly_batch batch = {worker->serve == NULL ? &request : worker->batch,
                    worker->serve == NULL ? &reply : worker->replies, 0, 0, 0};
  for (bool was_idle = true;;) {
    /* Before a request is said to run: it is what an interrupt is for. */
    lanyard__run_timers(worker, was_idle);
    was_idle = false;
    collect(worker, &batch);
    if (LY_UNLIKELY(ly_room_is_awaited(&worker->room))) lanyard__room_made(worker, false); /* ROOM */
    if (batch.count > 0) {
      run(worker, &batch);
    } else {
      if (LY_UNLIKELY(ly_load(&worker->close_hint, relaxed)) && !ly_is_foreign(worker)) notice_drain(worker);
      if (run_jobs(worker)) continue;
      if (!await_requests(worker)) break;
      was_idle = true;
    }
  }
  if (worker->on_stop != NULL && !ly_is_foreign(worker)) worker->on_stop(worker->context);
  if (!ly_is_foreign(worker)) lanyard__announce(worker, LY_FINISHED);
  return NULL;
}
