/* submit.c - handing requests over: with and without waiting for room, and waiting for the result. */
#include "worker.h"

/* What the slow half of a submit needs to know. */
typedef struct ly_terms {
  bool waits;
  uint64_t deadline_ns;
} ly_terms;

/* The ring was full or refused. Claims after all, or says why not. */
static lanyard_status claim_slowly(lanyard_worker *worker, ly_terms terms, ly_claim claim,
                                   ly_position *position_out) {
  for (;;) {
    if (claim == LY_CLAIM_OK) return LANYARD_OK;
    if (claim == LY_CLAIM_REFUSED) {
      if (ly_load(&worker->ring.tail, acquire) & LY_CLOSED) return LANYARD_CLOSED;
      lanyard_status status = lanyard__start(worker, terms.waits ? LY_MAY_BLOCK : LY_NEVER_BLOCKS);
      if (status != LANYARD_OK) return status;
      claim = ly_ring_claim(&worker->ring, position_out);
    } else if (!terms.waits) {
      ly_add(&worker->refused_full, 1, relaxed);
      return LANYARD_FULL;
    } else if (lanyard__current == worker) {
      return LANYARD_WOULD_DEADLOCK;
    } else {
      claim = lanyard__room_wait(worker, terms.deadline_ns, position_out);
      if (claim == LY_CLAIM_FULL) return LANYARD_TIMED_OUT;
    }
  }
}

static inline lanyard_status claim(lanyard_worker *worker, ly_terms terms, ly_position *position_out) {
  ly_claim claim = ly_ring_claim(&worker->ring, position_out);
  if (LY_UNLIKELY(claim != LY_CLAIM_OK)) {
    lanyard_status status = claim_slowly(worker, terms, claim, position_out);
    if (status != LANYARD_OK) return status;
  }
  ly_point("claimed", worker);
  return LANYARD_OK;
}

static inline void publish(lanyard_worker *worker, ly_position position, ly_entry entry) {
  ly_ring_publish(&worker->ring, position, entry);
  ly_point("published", worker);
  ly_park_wake(&worker->park); /* PARK */
}

static inline lanyard_status submit(lanyard_worker *worker, ly_entry entry, ly_terms terms,
                                    lanyard_ticket *ticket_out, ly_position *position_out) {
  lanyard_status status = ly_check(worker);
  if (LY_UNLIKELY(status != LANYARD_OK)) return status;
  if (LY_UNLIKELY(entry.function == NULL)) return LANYARD_INVALID;
  status = claim(worker, terms, position_out);
  if (LY_UNLIKELY(status != LANYARD_OK)) return status;
  /* Before it can run: it may free the memory that the ticket lies in. */
  if (ticket_out != NULL) *ticket_out = ly_ticket_of(*position_out);
  publish(worker, *position_out, entry);
  return LANYARD_OK;
}

lanyard_status lanyard__try_claim(lanyard_worker *worker, lanyard_ticket *ticket_out) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  ly_position position;
  status = claim(worker, (ly_terms){false, LANYARD_FOREVER}, &position);
  if (status == LANYARD_OK) *ticket_out = ly_ticket_of(position);
  return status;
}

void lanyard__publish(lanyard_worker *worker, lanyard_ticket ticket, lanyard_function function,
                      void *argument) {
  publish(worker, (ly_position)((ticket - 1) * LY_STEP), (ly_entry){function, argument, 0});
}

lanyard_status lanyard_try_submit(lanyard_worker *worker, lanyard_function function, void *argument,
                                  lanyard_ticket *ticket_out) {
  ly_entry entry = {function, argument, 0};
  ly_position position;
  return submit(worker, entry, (ly_terms){false, LANYARD_FOREVER}, ticket_out, &position);
}

lanyard_status lanyard_submit(lanyard_worker *worker, lanyard_function function, void *argument,
                              lanyard_ticket *ticket_out) {
  ly_entry entry = {function, argument, 0};
  ly_position position;
  return submit(worker, entry, (ly_terms){true, LANYARD_FOREVER}, ticket_out, &position);
}

/* A deadline that has passed refuses at once, before anything is accepted. */
static lanyard_status check_deadline(const lanyard_worker *worker, uint64_t deadline_ns) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  if (lanyard_is_closed(worker)) return LANYARD_CLOSED;
  return deadline_ns != LANYARD_FOREVER && ly_now_ns() >= deadline_ns ? LANYARD_TIMED_OUT : LANYARD_OK;
}

lanyard_status lanyard_submit_until(lanyard_worker *worker, lanyard_function function, void *argument,
                                    uint64_t deadline_ns, lanyard_ticket *ticket_out) {
  if (function == NULL) return LANYARD_INVALID;
  lanyard_status status = check_deadline(worker, deadline_ns);
  if (status != LANYARD_OK) return status;
  ly_entry entry = {function, argument, ly_extra_deadline(deadline_ns)};
  ly_position position;
  return submit(worker, entry, (ly_terms){true, deadline_ns}, ticket_out, &position);
}

/* On the worker itself: inside the request that calls. */
static lanyard_status call_inline(lanyard_worker *worker, lanyard_function function, void *argument) {
  if (lanyard_is_closed(worker)) return LANYARD_CLOSED;
  function(argument, LANYARD_OK);
  ly_bump(&worker->inline_calls, 1);
  return LANYARD_OK;
}

/* The deadline passed. True: it was withdrawn and never runs; else it has left the ring, and is
 * interrupted if it runs. */
static bool give_up(lanyard_worker *worker, ly_position position) {
  ly_entry entry;
  if (ly_ring_withdraw(&worker->ring, position, NULL, &entry) == LY_WITHDRAW_OK) {
    ly_add(&worker->timed_out, 1, relaxed);
    return true;
  }
  lanyard__interrupt(worker, position);
  return false;
}

lanyard_status lanyard_call_until(lanyard_worker *worker, lanyard_function function, void *argument,
                                  uint64_t deadline_ns) {
  if (function == NULL) return LANYARD_INVALID;
  lanyard_status status = check_deadline(worker, deadline_ns);
  if (status != LANYARD_OK) return status;
  if (lanyard__current == worker) return call_inline(worker, function, argument);

  ly_reply reply;
  ly_reply_init(&reply);
  ly_entry entry = {function, argument, ly_extra_reply(&reply)};
  ly_position position;
  status = submit(worker, entry, (ly_terms){true, deadline_ns}, NULL, &position);
  if (status == LANYARD_OK) {
    bool answered = ly_reply_wait(&reply, &worker->bells, &worker->reply_spin, deadline_ns);
    if (!answered && !give_up(worker, position)) {
      if (ly_is_foreign(worker)) return LANYARD_FORKED; /* the hook forked, and this is the child */
      ly_reply_wait(&reply, &worker->bells, &worker->reply_spin, LANYARD_FOREVER);
    }
    status = reply.outcome;
  }
  ly_reply_destroy(&reply);
  return status;
}

lanyard_status lanyard_call(lanyard_worker *worker, lanyard_function function, void *argument) {
  return lanyard_call_until(worker, function, argument, LANYARD_FOREVER);
}
