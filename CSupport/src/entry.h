/* entry.h - what the third, internal word of a slot means.
 *
 *   0                 a submit
 *   odd               a submit with a deadline: nanoseconds << 1 | 1
 *   otherwise         a call: the address of the caller's ly_reply
 */
#ifndef LANYARD_ENTRY_H
#define LANYARD_ENTRY_H

#include "reply.h"
#include "ring.h"

/* The shift costs the top bit: what does not fit is 292 years away. */
static inline uint64_t ly_extra_deadline(uint64_t deadline_ns) {
  return deadline_ns > (UINT64_MAX >> 1) ? 0 : deadline_ns << 1 | 1;
}

static inline uint64_t ly_extra_reply(ly_reply *reply) { return (uint64_t)(uintptr_t)reply; }

static inline bool ly_entry_expired(const ly_entry *entry) {
  return (entry->extra & 1) && ly_now_ns() >= entry->extra >> 1;
}

static inline lanyard_ticket ly_ticket_of(ly_position position) { return (lanyard_ticket)position / LY_STEP + 1; }

static inline ly_reply *ly_entry_reply(const ly_entry *entry) {
  return entry->extra & 1 ? NULL : (ly_reply *)(uintptr_t)entry->extra;
}

#endif
