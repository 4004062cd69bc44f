/* reply.h - where a blocking call waits for its answer: a cell on the caller's stack, a bell in the core.
 *
 *   PENDING --the caller goes to sleep--> SLEEPING + its bell
 *      \--------------------------------\      |
 *       --the worker answers------------> ANSWERED
 *
 * The exchange to ANSWERED is the worker's last access to the cell: the caller may return and reuse its
 * stack at once. What the worker rings afterwards is a word of the core, which outlives its own thread;
 * the exchange told it which. (A futex on the cell itself would be woken after the cell's end. The kernel
 * does not mind, memcheck does, rightly; a mutex or a condition variable in the cell would be a bug.)
 * Callers take bells in turn, and more callers than bells share them: who is woken for another's answer
 * looks and sleeps again.
 *
 * Orderings
 *   REPLY  worker: release exchange of state -> caller: acquire load of state.
 *          The caller sees the outcome and all that the request did.
 *   BELL   worker: release add to the bell, after REPLY -> caller: acquire load of the bell, before it
 *          looks at the state. So either it sees the answer, or the bell it sleeps on has not rung yet.
 */
#ifndef LANYARD_REPLY_H
#define LANYARD_REPLY_H

#include "spin.h"

enum { LY_PENDING = 0, LY_ANSWERED = 1, LY_SLEEPING = 2, LY_BELLS = 64 }; /* SLEEPING + n: on bell n */

typedef struct ly_bells {
  _Atomic uint32_t turn;
  _Atomic uint32_t bell[LY_BELLS];
} ly_bells;

typedef struct ly_reply {
  _Atomic uint32_t state;
  lanyard_status outcome; /* written by the worker before REPLY */
  uint32_t bell;          /* the caller's own */
} ly_reply;

static inline void ly_reply_init(ly_reply *reply) {
  atomic_init(&reply->state, (uint32_t)LY_PENDING);
  reply->outcome = LANYARD_TIMED_OUT; /* until there is another */
  reply->bell = 0;
  ly_exempt(&reply->state, sizeof reply->state);
}

/* The caller, before its stack goes on to other uses. */
static inline void ly_reply_destroy(ly_reply *reply) {
  ly_check_again(&reply->state, sizeof reply->state);
  (void)reply;
}

/* The worker. The cell is dead afterwards. */
static inline void ly_reply_answer(ly_reply *reply, ly_bells *bells, lanyard_status outcome) {
  reply->outcome = outcome;
  ly_happens_before(bells); /* and not the cell: its address is soon something else's */
  ly_point("answering", reply);
  uint32_t before = ly_exchange(&reply->state, LY_ANSWERED, release); /* REPLY */
  ly_point("answered", NULL);
  if (before < LY_SLEEPING) return;
  _Atomic uint32_t *bell = &bells->bell[before - LY_SLEEPING];
  ly_add(bell, 1, release); /* BELL */
  ly_futex_wake(bell, INT_MAX);
}

static inline bool ly_reply_is_answered(const void *reply) {
  return ly_load(&((ly_reply *)(uintptr_t)reply)->state, acquire) == LY_ANSWERED; /* REPLY */
}

/* The caller gives up looking. False once the deadline has passed without an answer. */
static inline bool ly_reply_sleep(ly_reply *reply, ly_bells *bells, uint64_t deadline_ns) {
  uint32_t pending = LY_PENDING;
  uint32_t bell = ly_add(&bells->turn, 1, relaxed) % LY_BELLS; /* any will do */
  if (ly_cas(&reply->state, &pending, LY_SLEEPING + bell, acquire, acquire)) reply->bell = bell;
  _Atomic uint32_t *word = &bells->bell[reply->bell]; /* of an earlier wait, if there was one */
  for (bool expired = false;;) {
    uint32_t rings = ly_load(word, acquire); /* BELL */
    if (ly_reply_is_answered(reply)) return true;
    if (expired) return false;
    expired = ly_futex_wait(word, rings, deadline_ns) == ETIMEDOUT;
  }
}

/* The caller. False once the deadline has passed without an answer; it may wait again. */
static inline bool ly_reply_wait(ly_reply *reply, ly_bells *bells, ly_spin *spin, uint64_t deadline_ns) {
  bool answered = ly_spin_look(spin, ly_reply_is_answered, reply);
  if (!answered) {
    uint64_t begin = ly_now_ns();
    answered = ly_reply_sleep(reply, bells, deadline_ns);
    ly_spin_slept(spin, ly_now_ns() - begin);
  }
  if (answered) ly_happens_after(bells);
  return answered;
}

#endif
