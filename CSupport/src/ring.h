/* ring.h - the bounded ring: many producers, one consumer, and a closed flag in the word that admits.
 *
 * Dmitry Vyukov's bounded queue (1024cores.net), with three changes:
 *
 *   - The states count laps, so zeroed memory is an empty ring: an untouched slot is never written.
 *   - Two flags live in the low bits of `tail`. The compare-and-swap that claims a slot then admits,
 *     orders and refuses in one operation: after LY_CLOSED is set no claim succeeds, and what was accepted
 *     is exactly the positions below the tail that the closer saw. LY_UNSTARTED likewise sends the first
 *     producer of a lazy worker the slow way.
 *   - A queued request can be withdrawn by another thread: leaving READY is a compare-and-swap for the
 *     consumer and for the one who cancels, and exactly one of them wins.
 *
 * Positions count in steps of LY_STEP, so a position and a tail differ by the flags only. They run free
 * and are compared by unsigned difference:  0 <= tail - head <= capacity.
 *
 * A slot's state is its lap (the position without the index bits) plus a phase:
 *
 *      FREE(lap) --claim by tail, then publish--> READY(lap) --take-----------------> FREE(lap + 1)
 *                                                     \--withdraw--> WITHDRAWN(lap) --skip--/
 *
 * Who may do what
 *   claim, publish, has_room, withdraw   any thread, at any time, together with everything
 *   close, start                         any thread
 *   peek, take, skip                     the consumer alone
 *   head                                 written by the consumer, read by all (statistics)
 *
 * Orderings
 *   PUBLISH   publish: release store of state (READY) -> peek, withdraw: acquire load of state.
 *             Whoever takes or withdraws the request sees it whole, and all that its producer did before.
 *   RECYCLE   take, skip: store of state (FREE, next lap) -> claim: load of state.
 *             The consumer has read the slot before the next lap's producer writes it.
 *   WITHDRAW  withdraw: release CAS of state (WITHDRAWN) -> skip: acquire load of state.
 *             The one who cancels has read the slot before it is recycled.
 *   PARK      claim and close change `tail` with seq_cst; park.h pairs with it.
 *   CLOSE     close: release RMW of tail -> the consumer's acquire load that finds LY_CLOSED.
 *             What a closer did before happens before on_stop.
 *   ROOM      take and skip write the state, claim and has_room read it, all with seq_cst; room.h pairs
 *             with it.
 *
 * function, argument and extra are relaxed atomics and not plain fields for one reason: withdraw reads
 * them before its CAS decides whether it may use them. If the CAS succeeds they were stable; if it fails
 * what was read is thrown away.
 */
#ifndef LANYARD_RING_H
#define LANYARD_RING_H

#include "seam.h"

#ifndef LY_RING_WORD /* a test makes it 8 bits wide to see the counters come round */
#define LY_RING_WORD uint64_t
#define LY_RING_SIGNED int64_t
#endif
typedef LY_RING_WORD ly_position;

#define LY_CLOSED ((ly_position)1)    /* in tail: no claim succeeds any more */
#define LY_UNSTARTED ((ly_position)2) /* in tail: the thread must be started first */
#define LY_FLAGS ((ly_position)3)
#define LY_STEP ((ly_position)4)

enum { LY_FREE = 0, LY_READY = 1, LY_WITHDRAWN = 2 };

/* 32 bytes: two to a cache line. */
typedef struct ly_slot {
  _Atomic(ly_position) state;
  _Atomic(lanyard_function) function;
  _Atomic(void *) argument;
  _Atomic(uint64_t) extra; /* see entry.h */
} ly_slot;

/* A request with its internal word. */
typedef struct ly_entry {
  lanyard_function function;
  void *argument;
  uint64_t extra;
} ly_entry;

typedef struct ly_ring {
  ly_slot *slots;         /* constant after init */
  ly_position index_mask; /* constant after init: (capacity - 1) * LY_STEP */
  alignas(LY_LINE) _Atomic(ly_position) tail; /* producers and closers */
  alignas(LY_LINE) _Atomic(ly_position) head; /* the consumer; all its private fields may follow */
} ly_ring;

typedef enum ly_claim { LY_CLAIM_OK, LY_CLAIM_FULL, LY_CLAIM_REFUSED } ly_claim;
typedef enum ly_peek { LY_PEEK_READY, LY_PEEK_WITHDRAWN, LY_PEEK_NONE } ly_peek;
typedef enum ly_withdraw {
  LY_WITHDRAW_OK,
  LY_WITHDRAW_FORBIDDEN,
  LY_WITHDRAW_REPEATED, /* somebody else has withdrawn it, and the consumer has not come by yet */
  LY_WITHDRAW_GONE,     /* the consumer has taken it, or passed it over */
  LY_WITHDRAW_UNPUBLISHED
} ly_withdraw;

static inline uint32_t ly_ring_capacity(const ly_ring *ring) {
  return (uint32_t)((uint64_t)ring->index_mask / LY_STEP) + 1;
}

static inline ly_slot *ly_ring_slot(const ly_ring *ring, ly_position position) {
  return &ring->slots[(ly_position)(position & ring->index_mask) / LY_STEP];
}

/* FREE of the lap that `position` belongs to. */
static inline ly_position ly_ring_lap(const ly_ring *ring, ly_position position) {
  return (ly_position)(position & (ly_position)~(ring->index_mask | LY_FLAGS));
}

static inline ly_position ly_ring_next_lap(const ly_ring *ring, ly_position position) {
  return (ly_position)(ly_ring_lap(ring, position) + ring->index_mask + LY_STEP);
}

static inline bool ly_before(ly_position a, ly_position b) {
  return (LY_RING_SIGNED)(ly_position)(a - b) < 0;
}

/* `slots` is zeroed memory; `start` is 0 but in tests. */
static inline void ly_ring_init(ly_ring *ring, ly_slot *slots, uint32_t capacity, ly_position start,
                                ly_position flags) {
  ring->slots = slots;
  ring->index_mask = (ly_position)((capacity - 1) * LY_STEP);
  atomic_init(&ring->tail, (ly_position)(start | flags));
  atomic_init(&ring->head, start);
  if (start != 0)
    for (uint32_t i = 0; i < capacity; i++) {
      ly_position position = (ly_position)(start + (ly_position)(i * LY_STEP));
      atomic_init(&ly_ring_slot(ring, position)->state, ly_ring_lap(ring, position));
    }
}

/* Takes the next position for the caller, who must publish it without delay. FULL is exact: at that
 * moment `capacity` requests were in the ring. */
static inline ly_claim ly_ring_claim(ly_ring *ring, ly_position *position_out) {
  ly_position tail = ly_load(&ring->tail, relaxed); /* the CAS below decides */
  for (;;) {
    if (LY_UNLIKELY(tail & LY_FLAGS)) return LY_CLAIM_REFUSED;
    ly_position state = ly_load(&ly_ring_slot(ring, tail)->state, seq_cst); /* RECYCLE, ROOM */
    ly_position lap = ly_ring_lap(ring, tail);
    if (LY_LIKELY(state == lap)) {
      if (LY_LIKELY(ly_cas(&ring->tail, &tail, (ly_position)(tail + LY_STEP), seq_cst, relaxed))) {
        ly_happens_after(ly_ring_slot(ring, tail));
        *position_out = tail;
        return LY_CLAIM_OK; /* PARK */
      }
    } else if (ly_before(state, lap)) {
      /* The slot still holds the lap before, so nobody can have claimed `tail` since: it is the tail. */
      return LY_CLAIM_FULL;
    } else {
      tail = ly_load(&ring->tail, relaxed); /* somebody else claimed it */
    }
  }
}

static inline void ly_ring_publish(ly_ring *ring, ly_position position, ly_entry entry) {
  ly_slot *slot = ly_ring_slot(ring, position);
  ly_store(&slot->function, entry.function, relaxed); /* PUBLISH orders all three */
  ly_store(&slot->argument, entry.argument, relaxed);
  ly_store(&slot->extra, entry.extra, relaxed);
  ly_happens_before(slot);
  ly_store(&slot->state, (ly_position)(ly_ring_lap(ring, position) | LY_READY), release); /* PUBLISH */
}

static inline bool ly_ring_has_room(ly_ring *ring) {
  ly_position tail = ly_load(&ring->tail, seq_cst);
  return !ly_before(ly_load(&ly_ring_slot(ring, tail)->state, seq_cst), ly_ring_lap(ring, tail)); /* ROOM */
}

static inline ly_entry ly_slot_read(ly_slot *slot) {
  ly_entry entry = {ly_load(&slot->function, relaxed), ly_load(&slot->argument, relaxed),
                    ly_load(&slot->extra, relaxed)};
  return entry;
}

/* Whether the request at `position` is published and still in the ring. */
static inline bool ly_ring_is_ready(const ly_ring *ring, ly_position position) {
  return ly_load(&ly_ring_slot(ring, position)->state, acquire) ==
         (ly_position)(ly_ring_lap(ring, position) | LY_READY);
}

/* Whether there is anything for the consumer at `position`: a request or a withdrawn one. */
static inline bool ly_ring_peek_any(const ly_ring *ring, ly_position position) {
  ly_position state = ly_load(&ly_ring_slot(ring, position)->state, acquire);
  return ly_before(ly_ring_lap(ring, position), state);
}

/* What stands at the head. READY fills in *entry_out, which is valid only once take() has succeeded. */
static inline ly_peek ly_ring_peek(ly_ring *ring, ly_position head, ly_entry *entry_out) {
  ly_slot *slot = ly_ring_slot(ring, head);
  ly_position lap = ly_ring_lap(ring, head);
  ly_position state = ly_load(&slot->state, acquire); /* PUBLISH, WITHDRAW */
  if (LY_LIKELY(state == (ly_position)(lap | LY_READY))) {
    *entry_out = ly_slot_read(slot);
    return LY_PEEK_READY;
  }
  return state == (ly_position)(lap | LY_WITHDRAWN) ? LY_PEEK_WITHDRAWN : LY_PEEK_NONE;
}

/* Takes the READY request at the head and frees its slot; false if it was withdrawn in between. */
static inline bool ly_ring_take(ly_ring *ring, ly_position head) {
  ly_slot *slot = ly_ring_slot(ring, head);
  ly_position ready = (ly_position)(ly_ring_lap(ring, head) | LY_READY);
  ly_happens_after(slot); /* PUBLISH */
  ly_happens_before(slot);
  if (!ly_cas(&slot->state, &ready, ly_ring_next_lap(ring, head), seq_cst, acquire)) return false;
  ly_store(&ring->head, (ly_position)(head + LY_STEP), relaxed); /* statistics only */
  return true; /* RECYCLE, ROOM */
}

/* Frees the WITHDRAWN slot at the head. */
static inline void ly_ring_skip(ly_ring *ring, ly_position head) {
  ly_slot *slot = ly_ring_slot(ring, head);
  ly_happens_after(slot); /* WITHDRAW */
  ly_happens_before(slot);
  ly_store(&slot->state, ly_ring_next_lap(ring, head), seq_cst); /* RECYCLE, ROOM */
  ly_store(&ring->head, (ly_position)(head + LY_STEP), relaxed);
}

/* Takes a queued request away from the consumer, if `may` (NULL: always) allows it for what it is. OK: it
 * is the caller's to answer. */
static inline ly_withdraw ly_ring_withdraw(ly_ring *ring, ly_position position,
                                           bool (*may)(const ly_entry *), ly_entry *entry_out) {
  ly_slot *slot = ly_ring_slot(ring, position);
  ly_position lap = ly_ring_lap(ring, position), ready = (ly_position)(lap | LY_READY);
  ly_position state = ly_load(&slot->state, acquire); /* PUBLISH */
  if (state == ready) {
    *entry_out = ly_slot_read(slot);
    ly_happens_after(slot);
    ly_happens_before(slot);
    ly_point("withdraw", ring);
    bool allowed = may == NULL || may(entry_out);
    /* Forbidding takes a compare-and-swap too: only that tells that what was read was stable. */
    if (ly_cas(&slot->state, &state, allowed ? (ly_position)(lap | LY_WITHDRAWN) : ready, acq_rel, acquire))
      return allowed ? LY_WITHDRAW_OK : LY_WITHDRAW_FORBIDDEN; /* WITHDRAW */
  }
  if (state == (ly_position)(lap | LY_WITHDRAWN)) return LY_WITHDRAW_REPEATED;
  /* FREE of this lap or less: claimed, but its producer has not published it yet. */
  return ly_before(lap, state) ? LY_WITHDRAW_GONE : LY_WITHDRAW_UNPUBLISHED;
}

/* Sets LY_CLOSED. Returns the tail before: the first closer finds the flag clear. */
static inline ly_position ly_ring_close(ly_ring *ring) {
  ly_happens_before(&ring->tail);
  return ly_or(&ring->tail, LY_CLOSED, seq_cst); /* PARK */
}

static inline void ly_ring_start(ly_ring *ring) {
  ly_and(&ring->tail, (ly_position)~LY_UNSTARTED, release);
}

static inline uint32_t ly_ring_depth(const ly_ring *ring) {
  ly_position head = ly_load(&ring->head, relaxed); /* first: tail >= head holds for every later tail */
  ly_position tail = ly_load(&ring->tail, relaxed);
  uint64_t depth = (uint64_t)(ly_position)((tail & (ly_position)~LY_FLAGS) - head) / LY_STEP;
  return depth > ly_ring_capacity(ring) ? ly_ring_capacity(ring) : (uint32_t)depth;
}

#endif
