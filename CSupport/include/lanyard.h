/* lanyard.h - one background thread, one bounded ring of requests, one handle that cannot leak it.
 *
 * A worker is one thread that serves requests, one at a time, from one bounded ring. Whoever uses a
 * worker owns a reference to it. The thread refers to the worker's core and to nothing else, so an
 * object that owns a reference is never kept alive by the thread that works for it: let go of the last
 * reference, on whatever thread, and the thread ends and the memory is freed.
 *
 *     lanyard_options options;
 *     lanyard_options_init(&options);
 *     options.name = "database";
 *     lanyard_worker *worker = NULL;
 *     if (lanyard_open(&options, &worker) != LANYARD_OK) { ... }
 *     lanyard_call(worker, insert_row, &row);       // runs insert_row(&row, LANYARD_OK) over there
 *     lanyard_release(&worker);                     // finishes what was accepted, joins, frees
 *
 * GENERAL RULES (each function says only where it differs)
 *
 *  Threads       Every function may be called from any thread, at the same time as any other function,
 *                by a caller that owns a reference. Using a worker without owning a reference to it is
 *                undefined; a build with LANYARD_DEBUG stops with a message when it notices.
 *  Ownership     lanyard_open() and lanyard_retain() give a reference, lanyard_release() takes one.
 *                A worker passed to any other function is borrowed for the call.
 *  Acceptance    A submitting function that returns LANYARD_OK has accepted the request: its function is
 *                called exactly once. With LANYARD_OK as outcome: do the work. With anything else: it
 *                will never run; free the argument. A submitting function that returns another status
 *                has refused: nothing will be called, and the library keeps no reference to the argument.
 *  Order         Requests of one thread run in the order in which their submits returned. A request whose
 *                submit returned before another thread's submit was called runs first. No other order is
 *                promised, and no fairness between producers.
 *  Memory        Everything sequenced before an accepted submit happens before its function is called.
 *                Everything in a request happens before the return of its lanyard_call(), and before
 *                every later request of the same worker. Everything on the worker, on_stop and the
 *                destructors of thread-specific data included, happens before the return of a close that
 *                returned LANYARD_OK. A refused submit synchronises nothing.
 *  Callbacks     No callback of yours is ever called with a lock of the library held. A callback must
 *                return: no longjmp, no C++ exception, no pthread_exit across it.
 *  Time          Deadlines are absolute, in nanoseconds of lanyard_now_ns() (CLOCK_MONOTONIC).
 *                LANYARD_FOREVER is none. Priorities are not inherited.
 *  After close   Any function on a closed worker that is still referenced returns LANYARD_CLOSED, or
 *                what its text says.
 *  Signals       A worker blocks every signal that its own fault does not cause, but SIGPROF, which profilers and
 *                crash reporters send to each thread. The caller's mask and all dispositions stay as they are. No
 *                function is async-signal-safe, except lanyard_status_text() and lanyard_version().
 *  Inheritance   A worker's thread has the scheduling policy, the priority, the nice value and the processors of the
 *                thread that opened the worker; on_start may change them. A child that a request starts (posix_spawn,
 *                fork and exec) inherits the blocked signals and would ignore SIGTERM: give posix_spawn an empty mask
 *                (POSIX_SPAWN_SETSIGMASK), or empty it before exec.
 *  Cancellation  (pthread_cancel) No function acts on a deferred cancellation while it waits, and none
 *                is safe under asynchronous cancellation. Workers cannot be cancelled.
 *  fork          In a child of fork an inherited worker is dead: every function returns at once with
 *                LANYARD_FORKED (or its documented value), nothing is joined, nothing is freed,
 *                lanyard_release() is safe. The child may open workers of its own. fork followed by exec
 *                is unrestricted. No pthread_atfork handler is installed. A request that itself forks
 *                must exec or _exit in the child: if it returns there, the copied thread ends and none of
 *                the other requests runs a second time.
 *  Exit, unload  Nothing is registered with atexit: a forgotten worker never keeps the process alive,
 *                and workers stop where they are. The shared library is never unloaded.
 *  Failure       Every failure of an allocation or of a thread's creation is reported as a status, leaves
 *                nothing behind and aborts nothing. The library never prints unless asked to.
 *  errno         Not part of the interface: it may change in any call.
 *
 * WHEN SOMETHING GOES WRONG (what you see, why it is so, what to do)
 *
 *  A submit hangs  The ring is full and the worker is busy: its request does not end, or waits for the submitter.
 *                  Give the submit a deadline, or try and be told of room by lanyard_when_room(). Workers that submit
 *                  to each other in a circle, or call, wait for ever: one of them must not wait. Take
 *                  lanyard_try_submit() there.
 *  CLOSING         lanyard_close() was called on the worker's own thread, which ends after this request and the drain.
 *                  Nothing has failed. Whoever must know of the end closes elsewhere, too, or is told by
 *                  lanyard_close_async().
 *  WOULD_DEADLOCK  A submit: the request has filled its own worker's ring. Take lanyard_try_submit(), or more capacity.
 *                  A close: two workers close each other. Closing has begun; take lanyard_close_async() there.
 *  A live worker   lanyard_report_live() shows one at the end: somebody has not released it, or its last request runs
 *                  yet. The line says where it was opened. lanyard_quiesce() waits for what nobody owns any more.
 *  NO_THREAD       The system has no more threads (RLIMIT_NPROC, the cgroup's pids.max), or no memory for a stack.
 *                  Nothing was begun. Raise the limit, set a smaller stack_size_bytes, or try again later.
 *  FORKED          The worker was opened before fork, and this is the child. Open one here, or fork before you open.
 */
#ifndef LANYARD_H
#define LANYARD_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define LANYARD_API __attribute__((visibility("default")))
#else
#define LANYARD_API
#endif

/* A closure that Swift passes for one of these is called on another thread. Without the attribute, one
 * that was formed on the main actor traps there. */
#if defined(__swift__)
#define LANYARD_SENDABLE __attribute__((swift_attr("@Sendable")))
#else
#define LANYARD_SENDABLE
#endif

#if defined(__clang__)
#define LANYARD_NULLABLE _Nullable
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wnullability-extension"
#pragma clang assume_nonnull begin
#else
#define LANYARD_NULLABLE
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define LANYARD_VERSION_MAJOR 1
#define LANYARD_VERSION_MINOR 0
#define LANYARD_VERSION_PATCH 0

/* No deadline. */
#define LANYARD_FOREVER UINT64_MAX

#define LANYARD_CAPACITY_MIN 2u
#define LANYARD_CAPACITY_MAX (1u << 20)
#define LANYARD_CAPACITY_DEFAULT 1024u
#define LANYARD_BATCH_LIMIT_DEFAULT 64u
#define LANYARD_SPIN_NS_DEFAULT 50000u

/* The sizes of lanyard_options and of lanyard_stats that are accepted: from those of the first header on. */
#define LANYARD_OPTIONS_SIZE_MIN offsetof(lanyard_options, file)
#define LANYARD_OPTIONS_SIZE_MAX 4096u
#define LANYARD_STATS_SIZE_MIN (2 * sizeof(uint64_t))
#define LANYARD_STATS_SIZE_MAX 4096u

/// A worker: opaque, reference counted.
typedef struct lanyard_worker lanyard_worker;

/// What a function reports. LANYARD_OK is 0; everything else is negative and a negated errno.
typedef enum lanyard_status {
  LANYARD_OK = 0,
  LANYARD_FULL = -EAGAIN,              /* the ring has no room now */
  LANYARD_CLOSED = -ESHUTDOWN,         /* closing has begun, or is over */
  LANYARD_CLOSING = -EINPROGRESS,      /* closing has begun; the end could not be waited for here */
  LANYARD_CANCELLED = -ECANCELED,      /* withdrawn before it started */
  LANYARD_TOO_LATE = -EALREADY,        /* it has started, or was answered */
  LANYARD_TIMED_OUT = -ETIMEDOUT,      /* the deadline passed */
  LANYARD_WOULD_DEADLOCK = -EDEADLK,   /* the caller would wait for itself */
  LANYARD_FORKED = -ECHILD,            /* the worker belongs to the parent process */
  LANYARD_NO_MEMORY = -ENOMEM,
  LANYARD_NO_THREAD = -EUSERS,         /* the system refused a thread */
  LANYARD_INVALID = -EINVAL            /* an argument is wrong; nothing was done */
} lanyard_status;

/// Names a status in one short English sentence fragment, for people.
///
/// @return Static text, never NULL, also for a number that is no status.
///
/// Async-signal-safe.
LANYARD_API const char *lanyard_status_text(lanyard_status status);

/// The version of the library that runs: major << 16 | minor << 8 | patch.
///
/// Async-signal-safe. Compare with LANYARD_VERSION_MAJOR and its companions, which are the header's.
LANYARD_API unsigned lanyard_version(void);

/* ---------------------------------------------------------------------------------------- requests */

/// What a request does. Called exactly once for each accepted request.
///
/// @param argument  What was submitted.
/// @param outcome   LANYARD_OK: do the work; this is the worker's thread. LANYARD_CLOSED,
///                  LANYARD_CANCELLED or LANYARD_TIMED_OUT: it will never run; free `argument` and tell
///                  whoever waits. CANCELLED comes on the thread that cancelled, the other two on the
///                  worker's.
typedef void (*lanyard_function)(void *LANYARD_NULLABLE argument, lanyard_status outcome);

/// A request as a `serve` hook sees it.
typedef struct lanyard_request {
  lanyard_function function;
  void *LANYARD_NULLABLE argument;
} lanyard_request;

/// Names one accepted request of one worker. Never 0, never reused.
typedef uint64_t lanyard_ticket;

/* --------------------------------------------------------------------------------- opening, owning */

/// How to open a worker. Set all fields with lanyard_options_init(), then change what you need.
typedef struct lanyard_options {
  /// Set by lanyard_options_init(): how much of this struct the caller's header has. Smaller sizes are accepted, down
  /// to LANYARD_OPTIONS_SIZE_MIN, and what is missing has its default; larger ones if what this library does not know
  /// is zero.
  size_t size;
  /// Name of the worker and of its thread; copied. The kernel sees at most 15 bytes of it, cut on a
  /// UTF-8 character's boundary. NULL: "lanyard".
  const char *LANYARD_NULLABLE name;
  /// Slots of the ring: LANYARD_CAPACITY_MIN to LANYARD_CAPACITY_MAX, rounded up to a power of two.
  /// An unused slot costs address space only.
  uint32_t capacity;
  /// The most requests handed to `serve` at once: 1 to LANYARD_CAPACITY_MAX; the capacity bounds it too.
  uint32_t batch_limit;
  /// Stack of the thread. 0: the system's default, and 1 MiB at least. Otherwise PTHREAD_STACK_MIN at
  /// least and 1 TiB at most, rounded up to whole pages. A guard page is kept in any case.
  size_t stack_size_bytes;
  /// How long an idle worker looks for work before it sleeps. It adapts downwards by itself, to 0 where
  /// requests come further apart than this. 0: never look, sleep at once.
  uint32_t spin_ns;
  /// Start the thread with the first request. A failure to start it then shows there, as the
  /// LANYARD_NO_THREAD of that submit. A worker that never got a request never starts a thread, and
  /// calls neither on_start nor on_stop. Its thread runs with the scheduling policy, nice value and processors that
  /// the opener had, whoever submits first, as far as the system permits.
  bool lazy;
  /// Given to the hooks below. Borrowed until the thread has ended, and until `destroy` if there is one.
  void *LANYARD_NULLABLE context;
  /// Called on the worker's thread before the first request. May be NULL.
  void (*LANYARD_NULLABLE on_start)(void *LANYARD_NULLABLE context) LANYARD_SENDABLE;
  /// Called on the worker's thread after the last request. May be NULL.
  void (*LANYARD_NULLABLE on_stop)(void *LANYARD_NULLABLE context) LANYARD_SENDABLE;
  /// Called once when the worker's memory is freed, after its thread was joined or if none was ever started: frees
  /// `context`. On whatever thread gave back the last reference, closed last, or joined what ended by itself; not if
  /// lanyard_open() fails, nor in a child of fork. May be NULL.
  void (*LANYARD_NULLABLE destroy)(void *LANYARD_NULLABLE context) LANYARD_SENDABLE;
  /// Serves a batch. NULL: each request's function is called in turn. Otherwise it gets what is queued,
  /// up to `batch_limit`, and must call each function exactly once itself, with LANYARD_OK, before it
  /// returns. `requests` is valid until then. Requests that were withdrawn, discarded or timed out are
  /// answered before and are not in it. A batch counts as one running request for lanyard_cancel().
  void (*LANYARD_NULLABLE serve)(void *LANYARD_NULLABLE context, lanyard_request *requests,
                                 size_t count) LANYARD_SENDABLE;
  /// Interrupts the running request. Called by lanyard_cancel() and lanyard_call_until() on their
  /// caller's thread, at most once a call and only while that very request (with `serve`: its batch)
  /// runs: the worker does not go on to the next one before this has returned. So it must be short and
  /// must not wait for the worker. It may come before the request's own first statement, and from several
  /// threads at once. NULL: a running request cannot be interrupted.
  ///
  /// `argument` and `ticket` are those of the request that was cancelled, with `serve` one of its batch. A library
  /// that polls a flag finds it there: keep the flag in the argument, and it stops that very request and no other.
  /// What the hook reads through `argument` must therefore outlive the request's function: free it later, or have
  /// the function and the hook agree under a lock of theirs.
  void (*LANYARD_NULLABLE interrupt)(void *LANYARD_NULLABLE context, void *LANYARD_NULLABLE argument,
                                     lanyard_ticket ticket) LANYARD_SENDABLE;
  /// Where the worker was opened, for lanyard_each_live(); filled in by lanyard_options_init(); copied.
  const char *LANYARD_NULLABLE file;
  int line;
} lanyard_options;

/// Sets the defaults, and `file` and `line` to the place of this line.
///
/// @param options  Storage of the caller. NULL is ignored.
#define lanyard_options_init(options) \
  lanyard_options_init_at((options), sizeof(lanyard_options), __FILE__, __LINE__)

/// What lanyard_options_init() expands to; for languages without macros.
///
/// @param size  The caller's sizeof(lanyard_options). So much is written: what this library does not know, with zeros.
/// @param file  Kept as a pointer until lanyard_open() has copied it.
LANYARD_API void lanyard_options_init_at(lanyard_options *LANYARD_NULLABLE options, size_t size,
                                         const char *LANYARD_NULLABLE file, int line);

/// Opens a worker and starts its thread.
///
/// @param options     Borrowed for the call. NULL: all defaults.
/// @param worker_out  Receives the worker, with one reference, which the caller owns; NULL on failure.
///
/// @return LANYARD_OK
///         LANYARD_INVALID    worker_out is NULL, or the struct's size, the capacity, the batch limit or
///                            the stack's size is out of range; or an option is set that only a newer library has.
///         LANYARD_NO_MEMORY
///         LANYARD_NO_THREAD  the system refused a thread, ten times in about 100 ms.
///
/// Blocks:  only for those retries. It does not wait for on_start.
/// fork:    a child may open workers of its own.
LANYARD_API lanyard_status lanyard_open(const lanyard_options *LANYARD_NULLABLE options,
                                        lanyard_worker *LANYARD_NULLABLE *LANYARD_NULLABLE worker_out);

/// Gives one more reference.
///
/// @return `worker`; NULL if it is NULL. In a child of fork: the same pointer, and nothing is counted.
///
/// After close: still counts.
LANYARD_API lanyard_worker *LANYARD_NULLABLE lanyard_retain(lanyard_worker *LANYARD_NULLABLE worker);

/// Takes a reference back and sets the variable to NULL.
///
/// The last one closes the worker (LANYARD_DRAIN), waits for the end of its thread and frees the memory.
/// Where that wait would be for ever it does not wait: on the worker's own thread, and on the thread of
/// another worker that this one is itself waiting to see end. There what was accepted is still finished,
/// the thread ends, and lanyard_quiesce(), the next lanyard_open() or another last release joins it. So a
/// reference may be dropped anywhere.
///
/// @param worker  The caller's variable. NULL, or a variable that holds NULL, is ignored.
///
/// Blocks:  the last release, until the running request and the drain are over.
/// fork:    in a child it only sets the variable to NULL.
LANYARD_API void lanyard_release(lanyard_worker *LANYARD_NULLABLE *LANYARD_NULLABLE worker);

/* -------------------------------------------------------------------------------------- submitting */

/// Hands over one request if there is room. Never waits.
///
/// @param function    Called exactly once if this returns LANYARD_OK.
/// @param ticket_out  NULL, or receives the request's name for lanyard_cancel(). Written before the
///                    request can run, so it may lie in memory that the request itself frees; not
///                    written on refusal.
///
/// @return LANYARD_OK         accepted.
///         LANYARD_FULL       no room.
///         LANYARD_CLOSED     closing has begun.
///         LANYARD_NO_THREAD  a lazy worker's thread could not be started. The system was asked once; the next
///                            submit asks again.
///         LANYARD_FORKED
///         LANYARD_INVALID    worker or function is NULL.
///
/// Blocks:  never (the first submit to a lazy worker starts its thread, and waits for no other's tries).
LANYARD_API lanyard_status lanyard_try_submit(lanyard_worker *LANYARD_NULLABLE worker,
                                              lanyard_function LANYARD_NULLABLE function LANYARD_SENDABLE,
                                              void *LANYARD_NULLABLE argument,
                                              lanyard_ticket *LANYARD_NULLABLE ticket_out);

/// Hands over one request; waits while the ring is full.
///
/// @return as lanyard_try_submit(), but never LANYARD_FULL, and
///         LANYARD_WOULD_DEADLOCK  called on the worker's own thread while the ring is full: only this
///                                 thread could make room. Refused.
///         LANYARD_CLOSED          also when closing began while it waited.
///         LANYARD_NO_THREAD       the system refused a lazy worker's thread ten times in about 100 ms.
///
/// Blocks:  while the ring is full. It may wait for one request more than the first that makes room.
LANYARD_API lanyard_status lanyard_submit(lanyard_worker *LANYARD_NULLABLE worker,
                                          lanyard_function LANYARD_NULLABLE function LANYARD_SENDABLE,
                                          void *LANYARD_NULLABLE argument,
                                          lanyard_ticket *LANYARD_NULLABLE ticket_out);

/// Hands over one request that must have started by a deadline.
///
/// The deadline spans the wait for room and the wait in the ring. A request whose turn comes after it is
/// answered LANYARD_TIMED_OUT on the worker's thread, instead of run.
///
/// @return as lanyard_submit(), and
///         LANYARD_TIMED_OUT  the deadline passed before there was room, or before the call. Refused.
///
/// Blocks:  while the ring is full, until the deadline.
LANYARD_API lanyard_status lanyard_submit_until(lanyard_worker *LANYARD_NULLABLE worker,
                                                lanyard_function LANYARD_NULLABLE function LANYARD_SENDABLE,
                                                void *LANYARD_NULLABLE argument, uint64_t deadline_ns,
                                                lanyard_ticket *LANYARD_NULLABLE ticket_out);

/// Runs a function on the worker's thread and returns when it has run.
///
/// `argument` may live on the caller's stack. Unlike a submit, `function` is called only if it runs, with
/// LANYARD_OK: every other outcome is the returned status and nothing else. On the worker's own thread it
/// runs at once, inside the request that calls. With `serve` it returns when its batch has been served.
///
/// @return LANYARD_OK         it has run.
///         LANYARD_CLOSED     closing had begun, or it was accepted and then discarded: it has not run.
///         LANYARD_NO_THREAD, LANYARD_FORKED, LANYARD_INVALID  as lanyard_submit().
///
/// Blocks:  until it has run. Two workers that call each other wait for ever, like any two threads.
LANYARD_API lanyard_status lanyard_call(lanyard_worker *LANYARD_NULLABLE worker,
                                        lanyard_function LANYARD_NULLABLE function LANYARD_SENDABLE,
                                        void *LANYARD_NULLABLE argument);

/// As lanyard_call(), with one deadline for the wait for room, the wait in the ring and the run.
///
/// If it is running at the deadline it is interrupted (see lanyard_options.interrupt) and awaited.
///
/// @return as lanyard_call(), and
///         LANYARD_TIMED_OUT  the deadline passed first: it has not run and never will. A call that was
///                            interrupted while it ran returns LANYARD_OK: it ran, and what came of it
///                            only its function knows.
///
/// Blocks:  until the deadline; and while it runs, until it has run.
LANYARD_API lanyard_status lanyard_call_until(lanyard_worker *LANYARD_NULLABLE worker,
                                              lanyard_function LANYARD_NULLABLE function LANYARD_SENDABLE,
                                              void *LANYARD_NULLABLE argument, uint64_t deadline_ns);

/// Withdraws a request that has not started; interrupts it if it runs.
///
/// A queued request is answered LANYARD_CANCELLED on this thread before this returns, whatever the worker
/// is doing. Its slot is free again when its turn would have come. A running one is interrupted if the
/// worker has an `interrupt` hook.
///
/// @return LANYARD_OK        withdrawn and answered; or it is running and its interrupt hook was called
///                           (the request itself knows which: LANYARD_CANCELLED, or it runs).
///         LANYARD_TOO_LATE  it was answered before; or it runs and there is no hook.
///         LANYARD_FORKED
///         LANYARD_INVALID   worker is NULL, or the worker never gave out this ticket.
///
/// Blocks:  never for a request.
/// After close: works on what is still queued or running; LANYARD_TOO_LATE once the drain is over.
LANYARD_API lanyard_status lanyard_cancel(lanyard_worker *LANYARD_NULLABLE worker, lanyard_ticket ticket);

/// Calls a function once, as soon as there is room in the ring; for event loops.
///
/// The function is not a request: it takes no slot, and it may find the ring full again when others were
/// faster (ask again then). Several are called in the order in which they were registered, each after the one
/// before has returned, as many at a time as there is room for.
///
/// @param function  Called once, with LANYARD_OK: on this thread before this returns if there is room
///                  now and nobody is before it; otherwise on the worker's thread, or on that of a later
///                  caller that finds room. Or with LANYARD_CLOSED, on the thread that closes, or on the one
///                  that is just calling another; a close that waits waits for that, too. Or with
///                  LANYARD_CANCELLED, by lanyard_cancel_when_room(). It must be short.
///
/// @return LANYARD_OK         it was called or will be.
///         LANYARD_CLOSED     closing has begun; it will not be called.
///         LANYARD_NO_MEMORY, LANYARD_FORKED, LANYARD_INVALID  it will not be called.
///
/// Blocks:  never.
LANYARD_API lanyard_status lanyard_when_room(lanyard_worker *LANYARD_NULLABLE worker,
                                             lanyard_function LANYARD_NULLABLE function LANYARD_SENDABLE,
                                             void *LANYARD_NULLABLE argument);

/// Withdraws a function that lanyard_when_room() has registered and that was not called yet.
///
/// @param function, argument  As they were registered. If they were registered several times, the earliest of these
///                            is withdrawn.
///
/// @return LANYARD_OK        withdrawn: it was called with LANYARD_CANCELLED on this thread before this returned, and
///                           is not called again.
///         LANYARD_TOO_LATE  it was called, is being called, or was never registered.
///         LANYARD_FORKED
///         LANYARD_INVALID   worker or function is NULL.
///
/// Blocks:  never. The list is searched from its front.
/// After close: LANYARD_TOO_LATE.
LANYARD_API lanyard_status lanyard_cancel_when_room(lanyard_worker *LANYARD_NULLABLE worker,
                                                    lanyard_function LANYARD_NULLABLE function LANYARD_SENDABLE,
                                                    void *LANYARD_NULLABLE argument);

/* ----------------------------------------------------------------------------------------- closing */

/// What becomes of requests that were accepted but have not started.
typedef enum lanyard_close_mode {
  LANYARD_DRAIN = 0,  /* run them */
  LANYARD_DISCARD = 1 /* answer them LANYARD_CLOSED, on the worker's thread */
} lanyard_close_mode;

/// Stops acceptance at once, finishes what was accepted, and waits until the thread was joined.
///
/// Any number of threads may close, any number of times; each returns only after the join. A later
/// LANYARD_DISCARD turns a drain in progress into a discard; a later LANYARD_DRAIN changes nothing. Close
/// does not release the caller's reference, and after it the last release has nothing left to wait for.
/// It does not interrupt the running request: cancel that first.
///
/// @return LANYARD_OK              the thread was joined, now or before.
///         LANYARD_CLOSING         called on the worker's own thread: closing has begun; the thread ends
///                                 after this request and the drain.
///         LANYARD_WOULD_DEADLOCK  called on the thread of another worker that this one is itself waiting
///                                 to see end: closing has begun, but waiting here would be for ever.
///         LANYARD_FORKED
///         LANYARD_INVALID         worker is NULL, or there is no such mode.
///
/// Blocks:  until the running request and the drain are over.
LANYARD_API lanyard_status lanyard_close(lanyard_worker *LANYARD_NULLABLE worker, lanyard_close_mode mode);

/// As lanyard_close(), but gives up waiting at a deadline.
///
/// @return as lanyard_close(), and
///         LANYARD_TIMED_OUT  acceptance is stopped, the thread has not ended. Call again to wait again.
///
/// Blocks:  until the deadline at most; a deadline in the past does not wait.
LANYARD_API lanyard_status lanyard_close_until(lanyard_worker *LANYARD_NULLABLE worker,
                                               lanyard_close_mode mode, uint64_t deadline_ns);

/// As lanyard_close(), but waits for nothing: calls a function after the thread was joined.
///
/// The library keeps a reference until then, so the caller may release its own at once, and that release
/// does not wait.
///
/// @param when_closed  Called exactly once if this returns LANYARD_OK, with LANYARD_OK, on a thread of the
///                     library that all asynchronous closes share. It must be short. It may use any
///                     function of this header.
///
/// @return LANYARD_OK         closing has begun (or was over) and `when_closed` will be called.
///         LANYARD_NO_MEMORY, LANYARD_NO_THREAD, LANYARD_FORKED, LANYARD_INVALID
///                            nothing was begun, nothing will be called.
///
/// Threads: any, the worker's own included.
/// Blocks:  never (only for the retries when the system refuses a thread).
LANYARD_API lanyard_status lanyard_close_async(lanyard_worker *LANYARD_NULLABLE worker,
                                               lanyard_close_mode mode,
                                               lanyard_function LANYARD_NULLABLE when_closed LANYARD_SENDABLE,
                                               void *LANYARD_NULLABLE argument);

/* ----------------------------------------------------------------------------------- weak handles */

/// A weak handle: finds the worker as long as someone else owns it. For what runs on a worker and must
/// find it again without keeping it alive.
typedef struct lanyard_weak lanyard_weak;

/// Makes a weak handle.
///
/// @return Owned by the caller; destroy it with lanyard_weak_destroy(). NULL if worker is NULL. It
///         allocates nothing and cannot fail.
LANYARD_API lanyard_weak *LANYARD_NULLABLE lanyard_weak_create(lanyard_worker *LANYARD_NULLABLE worker);

/// Gives a reference to the worker if it still has an owner.
///
/// @return The worker with a reference more, which the caller owns and releases; or NULL when its last
///         reference is gone, in a child of fork, or when weak is NULL.
///
/// After close: gives the closed worker, as long as someone owns it.
LANYARD_API lanyard_worker *LANYARD_NULLABLE lanyard_weak_lock(lanyard_weak *LANYARD_NULLABLE weak);

/// Destroys a weak handle. NULL is ignored.
///
/// fork: in a child it does nothing.
LANYARD_API void lanyard_weak_destroy(lanyard_weak *LANYARD_NULLABLE weak);

/* ----------------------------------------------------------------------------- asking, watching */

/// Whether the calling thread is this worker's own.
///
/// @return false for NULL and in a child of fork. True also in on_start, on_stop and in destructors of
///         thread-specific data on the worker.
LANYARD_API bool lanyard_is_current(const lanyard_worker *LANYARD_NULLABLE worker);

/// Whether closing has begun.
///
/// @return true for NULL and in a child of fork: nothing can be submitted there either.
LANYARD_API bool lanyard_is_closed(const lanyard_worker *LANYARD_NULLABLE worker);

/// The clock of every deadline: CLOCK_MONOTONIC in nanoseconds.
LANYARD_API uint64_t lanyard_now_ns(void);

/// What a worker has done so far. Each figure is exact once the worker is closed; while it runs they are
/// read one after the other and need not add up.
typedef struct lanyard_stats {
  size_t size;           /* set it to sizeof(lanyard_stats) before the call: so much is written */
  uint64_t submitted;    /* accepted requests */
  uint64_t completed;    /* ran */
  uint64_t cancelled;    /* withdrawn by lanyard_cancel() */
  uint64_t discarded;    /* answered LANYARD_CLOSED */
  uint64_t timed_out;    /* accepted, and answered LANYARD_TIMED_OUT */
  uint64_t refused_full; /* lanyard_try_submit() that found no room */
  uint64_t batches;      /* calls of `serve`; without it, requests run */
  uint64_t parks;        /* how often the idle worker went to sleep */
  uint64_t wakes;        /* how often someone woke it */
  uint32_t capacity;     /* slots, after rounding up */
  uint32_t depth;        /* accepted requests that wait in the ring, withdrawn ones included */
  uint32_t depth_high;   /* the most that the worker has found waiting */
} lanyard_stats;

/// Reads the statistics.
///
/// @return LANYARD_OK, LANYARD_FORKED, or LANYARD_INVALID when an argument is NULL or stats_out->size is
///         less than LANYARD_STATS_SIZE_MIN or no size at all.
///
/// After close: the final figures.
LANYARD_API lanyard_status lanyard_get_stats(const lanyard_worker *LANYARD_NULLABLE worker,
                                             lanyard_stats *LANYARD_NULLABLE stats_out);

/// A worker as lanyard_each_live() shows it. It may grow at its end: a program that was built with an older header sees
/// the beginning.
typedef struct lanyard_info {
  uint64_t id;                     /* counts from 1 in each process */
  const char *name;                /* in full */
  const char *LANYARD_NULLABLE file; /* where it was opened; NULL if unknown */
  int line;
  uint64_t opened_ns;              /* lanyard_now_ns() at open */
  uint32_t depth;                  /* requests that wait */
  bool closed;                     /* closing has begun; someone still owns it or its thread still runs */
} lanyard_info;

/// How many workers live in this process: opened, and not yet both released and joined.
///
/// What has ended by itself is joined first, here and in the next two: a worker whose last reference was dropped on its
/// own thread lives until that thread has exited, and no longer.
///
/// In a child of fork: those that the child opened.
LANYARD_API size_t lanyard_live_count(void);

/// Shows each live worker, in the order in which they were opened.
///
/// @param visit  Called on this thread, with no lock held, so it may open, close and release workers. The
///               info and its strings are valid until it returns. Workers opened or gone meanwhile may or
///               may not be shown.
LANYARD_API void lanyard_each_live(void (*LANYARD_NULLABLE visit)(const lanyard_info *info,
                                                                  void *LANYARD_NULLABLE argument)
                                       LANYARD_SENDABLE,
                                   void *LANYARD_NULLABLE argument);

/// Writes one line for each live worker.
///
/// @param descriptor  An open file descriptor. What it does not take is not written again.
/// @return How many workers live.
///
/// Blocks:  as write(2) does.
LANYARD_API size_t lanyard_report_live(int descriptor);

/// Joins what ended by itself; for the end of tests and of main.
///
/// Waits until every thread whose last reference was dropped, by whomever and wherever, and every
/// asynchronous close, has come to its end. Called on a worker's thread it leaves that worker out; called
/// by a `when_closed` function it waits for no asynchronous close, for they are all answered there.
///
/// @return How many workers still live: 0 when nothing leaked.
///
/// Blocks:  until the deadline at most.
LANYARD_API size_t lanyard_quiesce(uint64_t deadline_ns);

#ifdef __cplusplus
}
#endif

#if defined(__clang__)
#pragma clang assume_nonnull end
#pragma clang diagnostic pop
#endif

#endif
