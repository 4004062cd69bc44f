/* spin.h - how long to look before going to sleep, and how to wait for what is a few instructions away.
 *
 * A sleeping thread costs its waker a system call and itself 5 to 60 us. Looking for a while first is a
 * hundred times faster when the next request is near, and a waste when it is not. So:
 *
 *   - The budget is the caller's figure or nothing useful: below the wake's own latency a spin always ends
 *     just before what it waits for. Hence no floor: it halves down to zero.
 *   - It halves when what we slept for came later than a full budget, and is full again once something
 *     came sooner.
 *   - Every 16th look yields, so a spin never starves the thread it waits for. A yield that took long
 *     tells that this core is wanted: the spin ends, and the next 4, 8, ... 256 do not happen.
 *
 * The fields are relaxed atomics: callers of one worker share an instance, and a lost update only makes a
 * later guess worse. Nothing is read through them.
 */
#ifndef LANYARD_SPIN_H
#define LANYARD_SPIN_H

#include "seam.h"

/* One turn of a wait for a few instructions of another thread: pause while it runs, yield while it may run on this
 * core, then sleep, so that it runs even where this thread has a higher real-time priority on the same core. */
static inline void ly_ladder(unsigned *turn) {
  if (*turn < 64) ly_pause();
  else if (*turn < 96) ly_yield();
  else ly_sleep_ns(50000);
  if (*turn < 96) ++*turn;
}

enum { LY_SPIN_LOOKS = 16, LY_SPIN_YIELD_NS = 3000, LY_SPIN_SKIPS_MAX = 256 };

typedef struct ly_spin {
  uint32_t full_ns;           /* constant after init */
  _Atomic uint32_t budget_ns; /* 0 ... full_ns */
  _Atomic uint32_t skips;     /* spins still to be left out */
  _Atomic uint32_t skips_next;
} ly_spin;

static inline void ly_spin_init(ly_spin *spin, uint32_t full_ns) {
  spin->full_ns = full_ns;
  atomic_init(&spin->budget_ns, full_ns);
  atomic_init(&spin->skips, 0u);
  atomic_init(&spin->skips_next, 4u);
  ly_exempt(spin, sizeof *spin);
}

/* Looks until `found(subject)` or the budget is used up. */
static inline bool ly_spin_look(ly_spin *spin, bool (*found)(const void *subject), const void *subject) {
  uint32_t budget = ly_load(&spin->budget_ns, relaxed);
  if (budget == 0) return found(subject);
  uint32_t skips = ly_load(&spin->skips, relaxed);
  if (skips != 0) {
    ly_store(&spin->skips, skips - 1, relaxed);
    return found(subject);
  }
  uint64_t begin = 0; /* the clock costs as much as a look: it is read after the first few */
  for (;;) {
    for (int look = 0; look < LY_SPIN_LOOKS; look++) {
      if (found(subject)) {
        ly_store(&spin->skips_next, 4u, relaxed);
        return true;
      }
      ly_pause();
    }
    uint64_t before = ly_now_ns();
    if (begin == 0) begin = before;
    ly_yield();
    uint64_t now = ly_now_ns();
    if (now - begin >= budget) return found(subject);
    if (now - before > LY_SPIN_YIELD_NS) {
      uint32_t next = ly_load(&spin->skips_next, relaxed);
      ly_store(&spin->skips, next, relaxed);
      ly_store(&spin->skips_next, next < LY_SPIN_SKIPS_MAX ? next * 2 : next, relaxed);
      return found(subject);
    }
  }
}

/* We looked in vain, and what we then slept for came `slept_ns` later. */
static inline void ly_spin_slept(ly_spin *spin, uint64_t slept_ns) {
  uint32_t budget = ly_load(&spin->budget_ns, relaxed);
  bool soon = slept_ns + budget <= spin->full_ns;
  ly_store(&spin->budget_ns, soon ? spin->full_ns : budget / 2, relaxed);
}

#endif
