/* cancel.c - withdrawing what is queued, interrupting what runs. */
#include "worker.h"

/* For a position that has left the ring. True: it runs and its hook was called. */
bool lanyard__interrupt(lanyard_worker *worker, ly_position position) {
  size_t index;
  if (worker->interrupt == NULL || !ly_running_enter(&worker->running, position, &index)) return false;
  ly_point("interrupting", worker);
  void *argument = worker->serve == NULL ? worker->running.argument : worker->arguments[index];
  worker->interrupt(worker->context, argument, ly_ticket_of(position));
  ly_running_leave(&worker->running);
  return true;
}

/* Whether the ticket was ever given out; its position. */
static bool find_position(const lanyard_worker *worker, lanyard_ticket ticket, ly_position *position_out) {
  if (ticket == 0 || ticket - 1 > UINT64_MAX / LY_STEP) return false;
  ly_position position = (ly_position)((ticket - 1) * LY_STEP);
  ly_position tail = (ly_position)(ly_load(&worker->ring.tail, relaxed) & (ly_position)~LY_FLAGS);
  *position_out = position;
  return !ly_before(position, worker->start) && ly_before(position, tail);
}

/* A call gives out no ticket: its caller alone gives it up. */
static bool is_no_call(const ly_entry *entry) { return ly_entry_reply(entry) == NULL; }

lanyard_status lanyard_cancel(lanyard_worker *worker, lanyard_ticket ticket) {
  lanyard_status status = ly_check(worker);
  if (status != LANYARD_OK) return status;
  ly_position position;
  if (!find_position(worker, ticket, &position)) return LANYARD_INVALID;
  for (unsigned turn = 0;;) {
    ly_entry entry;
    switch (ly_ring_withdraw(&worker->ring, position, is_no_call, &entry)) {
      case LY_WITHDRAW_OK:
        ly_add(&worker->cancelled, 1, relaxed);
        /* The last thing: the function may drop the reference that kept the worker for its owner. */
        entry.function(entry.argument, LANYARD_CANCELLED);
        return LANYARD_OK;
      case LY_WITHDRAW_FORBIDDEN:
        return LANYARD_INVALID;
      case LY_WITHDRAW_REPEATED:
        return LANYARD_TOO_LATE;
      case LY_WITHDRAW_GONE:
        return lanyard__interrupt(worker, position) ? LANYARD_OK : LANYARD_TOO_LATE;
      case LY_WITHDRAW_UNPUBLISHED:
        break; /* its producer is between claim and publish; it knows the ticket, and so do we */
    }
    ly_ladder(&turn);
  }
}
