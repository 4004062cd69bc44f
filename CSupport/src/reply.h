/* reply.h - where a blocking call waits for its answer: a cell on the caller's stack.
 *
 *   PENDING --the caller sleeps--> SLEEPING
 *      \-----------------\            |
 *       --worker answers--> ANSWERED <-/
 *
 * The exchange to ANSWERED is the worker's last access to the cell: the caller may return and reuse its
 * stack before the worker has issued the wake. The wake is then for an address where nobody waits, or
 * where somebody waits for something else and looks again. A mutex or a condition variable in the cell's
 * place would be touched after its end.
 *
 * Orderings
 *   REPLY  worker: release exchange of state -> caller: acquire load of state.
 *          The caller sees the outcome and all that the request did.
 */
#ifndef LANYARD_REPLY_H
#define LANYARD_REPLY_H

#include "spin.h"

enum { LY_PENDING = 0, LY_SLEEPING = 1, LY_ANSWERED = 2 };

typedef struct ly_reply {
  _Atomic uint32_t state;
  lanyard_status outcome; /* written by the worker before REPLY */
} ly_reply;

static inline void ly_reply_init(ly_reply *reply) {
  atomic_init(&reply->state, (uint32_t)LY_PENDING);
  ly_exempt(&reply->state, sizeof reply->state);
}

/* The worker. The cell is dead afterwards. */
static inline void ly_reply_answer(ly_reply *reply, lanyard_status outcome) {
  reply->outcome = outcome;
  ly_happens_before(reply);
  ly_point("answering", reply);
  uint32_t before = ly_exchange(&reply->state, LY_ANSWERED, release); /* REPLY */
  ly_point("answered", NULL);
  if (before == LY_SLEEPING) ly_futex_wake(&reply->state, 1);
}

static inline bool ly_reply_is_answered(const void *reply) {
  return ly_load(&((ly_reply *)(uintptr_t)reply)->state, acquire) == LY_ANSWERED; /* REPLY */
}

/* The caller. False once the deadline has passed without an answer; it may wait again. */
static inline bool ly_reply_wait(ly_reply *reply, ly_spin *spin, uint64_t deadline_ns) {
  bool answered = ly_spin_look(spin, ly_reply_is_answered, reply);
  if (!answered) {
    uint64_t begin = ly_now_ns();
    uint32_t pending = LY_PENDING;
    ly_cas(&reply->state, &pending, LY_SLEEPING, acquire, acquire);
    while (!(answered = ly_reply_is_answered(reply)))
      if (ly_futex_wait(&reply->state, LY_SLEEPING, deadline_ns) == ETIMEDOUT) {
        answered = ly_reply_is_answered(reply);
        break;
      }
    ly_spin_slept(spin, ly_now_ns() - begin);
  }
  if (answered) ly_happens_after(reply);
  return answered;
}

/* The caller, before its stack goes on to other uses. */
static inline void ly_reply_destroy(ly_reply *reply) {
  ly_check_again(&reply->state, sizeof reply->state);
  ly_forget(reply);
  (void)reply;
}

#endif
