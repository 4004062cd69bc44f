/* lanyard_internal.h - what the Swift layer needs of the core and C callers do not.
 *
 * Not installed, not exported by liblanyard.so, no promise from one version to the next. The general
 * rules of lanyard.h hold: who calls owns a reference; no callback is called under a lock.
 */
#ifndef LANYARD_INTERNAL_H
#define LANYARD_INTERNAL_H

#include "lanyard.h"

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wnullability-extension"
#pragma clang assume_nonnull begin
#endif

/* -------------------------------------------------------------------------------------- executors */

/// Runs a job. Called once, on the worker's thread.
typedef void (*lanyard__job_function)(void *job, void *executor);

/// Counts one executor in: from now on the thread lives until it is counted out, and runs its jobs whatever
/// becomes of the ring. An executor is an owner too, and this gives it a reference.
///
/// @return false: closing has begun and there is no executor, so the thread is about to end, or has ended,
///         or the worker is the parent process's. Nothing was counted.
bool lanyard__executor_acquire(lanyard_worker *worker);

/// Counts one executor out and releases its reference. Every job of it was enqueued before.
void lanyard__executor_release(lanyard_worker *LANYARD_NULLABLE *LANYARD_NULLABLE worker);

/// The same, as lanyard__release_until().
void lanyard__executor_release_until(lanyard_worker *LANYARD_NULLABLE *LANYARD_NULLABLE worker,
                                     uint64_t deadline_ns, uint64_t limit_ns);

/// Hands over a job. The caller is a counted executor. Runs after everything this thread submitted before.
///
/// Never waits for room, and never refuses, but in a child of fork (LANYARD_FORKED) and when there is no
/// memory for the list to grow (LANYARD_NO_MEMORY). Where the system has no thread for a lazy worker now, it waits until
/// there is one, for a job may be neither refused nor dropped; what asking again cannot change is LANYARD_NO_THREAD, and
/// the job stays on the list.
lanyard_status lanyard__enqueue(lanyard_worker *worker, lanyard__job_function function, void *job,
                                void *executor);

/// How many jobs were ever handed over. 0 in a child of fork.
uint64_t lanyard__enqueued(lanyard_worker *worker);

/* ----------------------------------------------------------------------------------------- timers */

/// Called on the worker's thread when its time has come, with LANYARD_OK: returns when it wants to be
/// called again, and 0 if never. Or once with LANYARD_CLOSED, instead, when the worker closes.
typedef uint64_t (*lanyard__tick)(void *argument, lanyard_status outcome);

/// Has a function called on the worker's thread at a time of lanyard_now_ns().
///
/// @return LANYARD_OK: it will be called. LANYARD_CLOSED, LANYARD_NO_MEMORY, LANYARD_NO_THREAD,
///         LANYARD_FORKED: it will not.
lanyard_status lanyard__set_timer(lanyard_worker *worker, uint64_t deadline_ns, lanyard__tick tick,
                                  void *argument);

/* ------------------------------------------------------------------------------ what a thread runs */

/// What the layer above has noted of the request that the calling thread runs; NULL if nothing.
void *LANYARD_NULLABLE lanyard__running(void);

/// Notes it, and returns what was noted before.
void *LANYARD_NULLABLE lanyard__set_running(void *LANYARD_NULLABLE request);

/* ----------------------------------------------------------------------------------------- alarms */

/// A function that is to be called at a time, by a thread of the process and not by a worker, which may be busy with
/// just the request whose deadline passes.
typedef struct lanyard__alarm lanyard__alarm;

/// Has `fire` called once at a time of lanyard_now_ns(), on the process's own thread for that. It must be short.
///
/// @return LANYARD_OK: *alarm_out is the caller's, who unsets it exactly once. LANYARD_NO_MEMORY, LANYARD_NO_THREAD
///         (the system was asked once): it will not be called.
///
/// Blocks: never.
lanyard_status lanyard__alarm_set(uint64_t deadline_ns, void (*fire)(void *LANYARD_NULLABLE argument) LANYARD_SENDABLE,
                                  void *LANYARD_NULLABLE argument,
                                  lanyard__alarm *LANYARD_NULLABLE *LANYARD_NULLABLE alarm_out);

/// Takes it back. NULL is ignored.
///
/// @return true: it was not called and will not be. false: it was called, and the call is over (unless this is it).
bool lanyard__alarm_unset(lanyard__alarm *LANYARD_NULLABLE alarm);

/* --------------------------------------------------------------------------- a submit in two steps */

/// The first half of lanyard_try_submit(). After LANYARD_OK the caller must publish without delay, on the
/// same thread, and may use the time in between to store what belongs to the ticket.
lanyard_status lanyard__try_claim(lanyard_worker *worker, lanyard_ticket *ticket_out);

/// The second half.
void lanyard__publish(lanyard_worker *worker, lanyard_ticket ticket, lanyard_function function,
                      void *LANYARD_NULLABLE argument);

/* ----------------------------------------------------------------------------------------- the end */

/// Begins to close, and has a function called once by the worker's thread as the last thing that it does
/// (if an executor keeps the thread: once the ring is drained). What is left is to join it. The caller keeps
/// a reference until then.
///
/// @return LANYARD_OK: it will be called, with LANYARD_OK. LANYARD_TOO_LATE: closing has begun, and the
///         thread has come so far already, or there is none. LANYARD_NO_MEMORY, LANYARD_FORKED.
lanyard_status lanyard__close_then(lanyard_worker *worker, lanyard_close_mode mode,
                                   lanyard_function ended, void *argument);

/// As lanyard_release(), but waits for the drain until the deadline only, and for as long again, until the limit at
/// most, whenever requests have ended meanwhile. Then it leaves the rest to the next open, release or
/// quiesce, as a release on the worker's own thread does.
void lanyard__release_until(lanyard_worker *LANYARD_NULLABLE *LANYARD_NULLABLE worker,
                            uint64_t deadline_ns, uint64_t limit_ns);

/// What pthread_create said when this thread last got a LANYARD_NO_THREAD: an errno.
int lanyard__thread_error(void);

#if defined(__clang__)
#pragma clang assume_nonnull end
#pragma clang diagnostic pop
#endif

#endif
