/* test_ring_narrow.c - the ring with counters of 8 bits: 64 positions, so they come round all the time.
 *
 * C6: everything still holds across the boundary. C7: with so few positions a stall of a whole round is
 * possible, and the compare-and-swap of the one who stalled wrongly succeeds. That failure must be seen
 * here, or the same test with 64 bits would prove nothing. */
#define LY_RING_WORD uint8_t
#define LY_RING_SIGNED int8_t

#include "gates.h"
#include "ring.h"

static void nothing(void *argument, lanyard_status outcome) {
  (void)argument;
  (void)outcome;
}

static void publish(ly_ring *ring, ly_position position, uintptr_t value) {
  ly_ring_publish(ring, position, (ly_entry){nothing, (void *)value, 0});
}

static bool push(ly_ring *ring, uintptr_t value) {
  ly_position position;
  if (ly_ring_claim(ring, &position) != LY_CLAIM_OK) return false;
  publish(ring, position, value);
  return true;
}

static uintptr_t pop(ly_ring *ring) {
  ly_entry entry = {NULL, NULL, 0};
  ly_position head = ring->head;
  if (ly_ring_peek(ring, head, &entry) != LY_PEEK_READY || !ly_ring_take(ring, head)) return 0;
  return (uintptr_t)entry.argument;
}

TEST(c6_narrow_counters_come_round_without_loss) {
  for (uint32_t capacity = 2; capacity <= 16; capacity *= 2) {
    static ly_slot slots[16];
    memset(slots, 0, sizeof slots);
    static ly_ring ring;
    ly_ring_init(&ring, slots, capacity, 0, 0);
    uintptr_t in = 0, out = 0;
    for (int turn = 0; turn < 10000; turn++) {
      bool room = in - out < capacity;
      CHECK_EQUAL(ly_ring_has_room(&ring), room);
      CHECK_EQUAL(ly_ring_depth(&ring), in - out);
      if (random_number() % 2 == 0) {
        CHECK_EQUAL(push(&ring, in + 1), room);
        in += room;
      } else {
        bool any = in != out;
        CHECK_EQUAL(pop(&ring), any ? out + 1 : 0);
        out += any;
      }
    }
  }
}

/* A producer that read the tail, and the free slot, and then stands still while `turns` others pass. Does
 * its compare-and-swap succeed when it goes on? */
static bool stale_claim_succeeds(unsigned turns) {
  static ly_slot slots[2];
  memset(slots, 0, sizeof slots);
  static ly_ring ring;
  ly_ring_init(&ring, slots, 2, 0, 0);
  ly_position stale = ring.tail;
  for (unsigned i = 0; i < turns; i++) {
    CHECK(push(&ring, i + 1));
    CHECK_EQUAL(pop(&ring), i + 1);
  }
  return atomic_compare_exchange_strong(&ring.tail, &stale, (ly_position)(stale + LY_STEP));
}

TEST(c7_stall_of_a_whole_round_is_seen_with_8_bits) {
  CHECK(!stale_claim_succeeds(1));
  CHECK(!stale_claim_succeeds(63));
  CHECK(stale_claim_succeeds(64)); /* ABA: 2^62 positions make this a stall of centuries */
}
