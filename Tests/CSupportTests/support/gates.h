/* gates.h - forcing interleavings and failures through the core's hooks (CSupport/src/seam.h).
 *
 * A gate holds the first thread of a given name that comes to a given point of the core until the test
 * lets it go on. Threads are named by thread_start(); a worker's own thread is "worker"; NULL is any.
 *
 *     gate_arm(0, "producer", "claimed");      // the producer will stop between claim and publish
 *     thread_start(&producer, "producer", ...);
 *     gate_await(0);                           // it stands there now
 *     ... close, cancel, whatever shall happen in between ...
 *     gate_open(0);
 *
 * Points of the core, in the file of their name:
 *   claimed, published            submit: after the claim, after the publication
 *   room_full                     the ring was found full, and nobody knows yet that this one waits
 *   room_wait, when_room          about to sleep on a full ring; a waiter was registered
 *   waking, calling               sleepers are about to be woken; a waiter was taken off the list, to be called
 *   idle, parking, wake           the worker found nothing and is about to say that it sleeps; has said
 *                                 so, before it looks again; a waker won
 *   taking, taken, finishing      the worker, before and after taking a request; after running it
 *   answering, answered           around the exchange that answers a call
 *   withdraw, interrupting        cancel: before its compare-and-swap; inside, before the hook is called
 *   starting                      a lazy worker's start, under its lock
 *   closed, joining, joined       close: flag set; about to join; others know, and are about to be woken
 *   not_joined                    close: a try to join came too early and was given back; as joined
 *   finished                      the thread's end was announced
 *   last_release, weak_lock       the count went to 0; before a weak lock's compare-and-swap
 *   enqueued, timer_set           a job, a timer: on its list, and about to look whether to wake the worker
 *   executor_released             an executor was counted out; the same, and it still has its reference
 *   firing                        the alarms' thread is about to call what is due; it holds no lock
 */
#ifndef LANYARD_TEST_GATES_H
#define LANYARD_TEST_GATES_H

#include "check.h"

enum { GATES_MAX = 8 };

void gate_arm(int gate, const char *thread, const char *point);
/* As gate_arm, but lets `skip` arrivals pass first. */
void gate_arm_after(int gate, const char *thread, const char *point, unsigned skip);
/* Waits until a thread stands at the gate. False, and the test fails, after 20 s (more under tools). */
bool gate_await(int gate);
/* Whether a thread stands or stood at the gate. */
bool gate_was_reached(int gate);
void gate_open(int gate);

/* Watches the core's threads where there is no point: asleep on a word of the core, in a loop that yields or
 * naps, or in pthread_join. From watch_begin(), before the test opens its first worker, to watch_end(), which
 * waits for the end of the last one. The waits fail the test after 20 s (more under tools). */
void watch_begin(void);
void watch_end(void);
/* Waits until `count` threads sleep on the word. */
bool await_sleepers(const volatile void *word, unsigned count);
/* The same, of those that have no deadline. */
bool await_endless_sleepers(const volatile void *word, unsigned count);
/* Waits until threads of that name have yielded or napped `count` times more. */
bool await_turns(const char *thread, unsigned count);
/* Waits until a thread is inside pthread_join. */
bool await_joiner(void);

/* Once, before all tests. */
void gates_begin(void);
/* Opens and disarms all, ends faults and chaos. The harness does it after each test. */
void gates_reset(void);

/* Every point yields now and then, sometimes sleeps: races that need a pause in an odd place. */
void chaos_begin(void);

/* Fails fallible calls of the core: the k-th from now, counted from 1, and with `for_ever` all after it.
 * k = 0 fails none but counts. */
void faults_begin(unsigned k, bool for_ever);
/* Fails every call of one site, the first `count` times. */
void faults_at(const char *site, unsigned count);
/* How many fallible calls there were since, and the name of the one that failed first, or NULL. */
unsigned faults_end(const char **site_out);

/* Where new rings start to count, in requests. */
void counters_start_at(uint64_t position);

#endif
