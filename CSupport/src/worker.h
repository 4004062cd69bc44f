/* worker.h - the core behind a handle: its fields, who owns each, and its life.
 *
 *   thread     UNSTARTED -> serving [-> drained] -> finished -> joined
 *              (a lazy worker may stay UNSTARTED for ever; drained: executors keep the thread, jobs.h)
 *   acceptance open -> closed                                 (LY_CLOSED in the ring's tail; no way back)
 *   ownership  strong > 0 -> 0: the last owner closes, then whoever joined the thread destroys
 *
 * `strong`: its low half counts the owners, its high half how many of them are executors, and how many were and are
 * about to let go. `memory`: one count for
 * all owners together, one for each weak handle; at 0 the bytes are freed. The thread holds no count: it is always
 * joined before the bytes are freed. It knows this struct and nothing that points to it, so an owner is never kept
 * alive by its thread.
 *
 * Orderings
 *   OWN     release: acq_rel sub of strong, memory -> the one that finds it was the last.
 *   FINISH  thread: release store of `phase`, its last but one access -> closers: acquire load.
 *           The same for LY_DRAINED, which is not its last.
 *   JOINED  joiner: release store of `join` after pthread_join -> other closers: acquire load.
 *           So everything on the worker, destructors included, happens before every close that returns OK.
 *   DISCARD closer: release store of `discards` before it closes the ring -> worker: acquire load.
 *
 * Lock: `lock` guards starting the thread and the list of when_room waiters. Under it nothing is called
 * but pthread_create. The process's lock is never held together with it; the jobs' lock is a leaf that
 * may be taken under either.
 */
#ifndef LANYARD_WORKER_H
#define LANYARD_WORKER_H

#include "entry.h"
#include "jobs.h"
#include "park.h"
#include "process.h"
#include "room.h"
#include "running.h"

#define LY_MAGIC UINT64_C(0x6c616e7961726421) /* "lanyard!" */

/* One word says what its owners are. */
#define LY_OWNER UINT64_C(1)
#define LY_EXECUTOR (UINT64_C(1) << 32 | LY_OWNER) /* an owner who keeps the thread as well */
#define LY_LEAVER (UINT64_C(1) << 48 | LY_OWNER)   /* an executor that has begun to let go */

enum { LY_SERVING = 0, LY_DRAINED = 1, LY_FINISHED = 2 };
enum { LY_UNJOINED = 0, LY_JOINING = 1, LY_JOINED = 2 };

/* How the opener of a lazy worker is scheduled: its thread is started by whoever comes first, and shall not inherit
 * from that one. */
typedef struct ly_attributes {
  bool is_known;
  ly_schedule schedule;
  cpu_set_t cpus;
} ly_attributes;

struct lanyard_worker {
  /* Constant after open; every thread reads it. */
  uint64_t magic;
  ly_process *process;
  uint64_t generation;
  void *context;
  void (*on_start)(void *);
  void (*on_stop)(void *);
  void (*serve)(void *, lanyard_request *, size_t);
  void (*interrupt)(void *, void *, lanyard_ticket);
  void *(*main)(void *);     /* what its thread runs */
  void (*destroy)(void *);
  size_t stack_size_bytes;
  uint32_t batch_limit;
  ly_position start; /* where the ring's counters began */
  const char *name, *file;
  int line;
  bool lazy;
  ly_attributes attributes; /* of a lazy one */
  uint64_t opened_ns, id;

  alignas(LY_LINE) ly_park park; /* read by every producer, written to sleep and to wake */
  ly_ring ring;

  /* The worker's own. Counters are read by others, for statistics. */
  alignas(LY_LINE) lanyard_request *batch; /* batch_limit, with `serve` */
  ly_reply **replies;                      /* batch_limit, with `serve` */
  void **arguments;                        /* batch_limit, with `serve` and `interrupt`: as they were submitted */
  ly_spin spin;
  bool has_drained; /* LY_DRAINED was announced */
  _Atomic uint64_t completed, discarded, batches, parks, inline_calls;
  _Atomic uint32_t depth_high;

  alignas(LY_LINE) ly_jobs jobs;
  alignas(LY_LINE) ly_room room;
  alignas(LY_LINE) ly_running running;
  ly_spin reply_spin; /* shared by the callers that wait for a reply */
  ly_bells bells;
  _Atomic uint64_t cancelled, timed_out, refused_full;

  alignas(LY_LINE) _Atomic uint64_t strong;
  _Atomic uint64_t memory;
  _Atomic uint32_t discards; /* set by a DISCARD close, read by the worker */
  _Atomic uint32_t close_hint; /* only a hint that ends a spin: LY_CLOSED in the tail decides */
  _Atomic uint32_t phase;    /* futex: LY_SERVING, LY_DRAINED, LY_FINISHED: nothing left but to return */
  _Atomic uint32_t join;     /* futex: LY_UNJOINED, LY_JOINING, LY_JOINED */
  pthread_mutex_t lock;
  bool started;     /* under `lock` */
  pthread_t thread; /* written under `lock` when it starts */
  pid_t tid;        /* written by the thread before FINISH */

  /* Under the process's lock. */
  lanyard_worker *live_next, *live_previous, *zombie_next;
  lanyard_worker *waits_for_end_of; /* the worker whose end this one's thread is waiting for */
  ly_close_call *close_calls; /* asynchronous closes that wait for this thread */
  bool is_live;
};

/* The worker whose thread this is, or NULL. In a child that a request forked it is still the parent's. */
extern _Thread_local lanyard_worker *lanyard__current;

static inline bool ly_is_foreign(const lanyard_worker *worker) {
  return ly_process_is_foreign(worker->process, worker->generation);
}

/* This process's worker whose thread this is, or NULL. */
static inline lanyard_worker *ly_self(void) {
  lanyard_worker *self = lanyard__current;
  return self == NULL || ly_is_foreign(self) ? NULL : self;
}

#if LANYARD_DEBUG
#define ly_check_alive(worker) \
  ((worker)->magic == LY_MAGIC \
       ? (void)0 \
       : ly_die("lanyard: a worker was used after its last reference was released, or this is no " \
                "worker; each user must own a reference (lanyard_retain)\n"))
#else
#define ly_check_alive(worker) ((void)0)
#endif

/* What every function that returns a status does first. */
static inline lanyard_status ly_check(const lanyard_worker *worker) {
  if (LY_UNLIKELY(worker == NULL)) return LANYARD_INVALID;
  ly_check_alive(worker);
  return LY_UNLIKELY(ly_is_foreign(worker)) ? LANYARD_FORKED : LANYARD_OK;
}

/* Which thread this is, and which lock somebody holds, in debug builds. */
#define ly_assert_on_worker(worker) ly_assert(lanyard__current == (worker))
#define ly_assert_not_on_worker(worker) ly_assert(lanyard__current != (worker))
#define ly_assert_held(lock) ly_assert(ly_is_held(lock))

static inline uint32_t ly_owners(uint64_t strong) { return (uint32_t)strong; }
static inline uint32_t ly_executors(uint64_t strong) { return (uint16_t)(strong >> 32); }
static inline uint32_t ly_leavers(uint64_t strong) { return (uint32_t)(strong >> 48); }

/* The floors, from the top: each file calls its own functions and those of the files below it.
 * (Tests/CSupportTests/check layers draws it from the object files and fails on an arrow upwards.) */

/* quiesce.c, open.c: public functions alone. */

/* close_async.c */
bool lanyard__is_reaper(const ly_process *process); /* whether this thread is the process's reaper */
void lanyard__join_reaper(ly_process *process);     /* joins a reaper that has ended, if there is one */

/* registry.c: public functions alone. */

/* executor.c */

/* owner.c */
/* The last one ends it, and waits for the drain: lanyard__release_until(). */
void lanyard__give_back(lanyard_worker *worker, uint64_t kind, uint64_t deadline_ns, uint64_t limit_ns);
void lanyard__reap(ly_process *process); /* joins and destroys the zombies whose threads are over; waits for none */

/* loop.c */
void *lanyard__loop(void *worker); /* the thread */

/* close.c */
void lanyard__begin_close(lanyard_worker *worker, lanyard_close_mode mode); /* any thread */
void lanyard__announce(lanyard_worker *worker, uint32_t phase); /* the worker: LY_DRAINED or LY_FINISHED */
bool lanyard__try_join(lanyard_worker *worker); /* after FINISH; false: it has not exited. Waits for nobody */
void lanyard__append_ended(ly_process *process, ly_close_call *first); /* under the process's lock */
/* Any thread but the worker's own, after the ring was closed. `finish_deadline_ns` bounds the wait for FINISH,
 * `exit_deadline_ns` the wait for the thread to exit after it, which only slow destructors of thread-specific data
 * prolong. */
lanyard_status lanyard__await_end(lanyard_worker *worker, uint64_t finish_deadline_ns, uint64_t exit_deadline_ns);

/* submit.c, stats.c: public functions alone. */

/* cancel.c */
bool lanyard__interrupt(lanyard_worker *worker, ly_position position); /* true: it runs and its hook was called */

/* timer.c */
void lanyard__run_timers(lanyard_worker *worker, bool was_idle); /* the worker; was_idle: it looked for work in vain */
void lanyard__drop_timers(lanyard_worker *worker); /* the worker */

/* alarm.c */
void lanyard__alarms_end(ly_process *process); /* ends and joins its thread, if no alarm is set. Short; under no lock */

/* room.c */
void lanyard__room_made(lanyard_worker *worker, bool is_idle); /* the worker, when somebody waits and slots were freed */
void lanyard__room_close(lanyard_worker *worker);              /* the first closer, after it closed the ring */
bool lanyard__room_await_idle(lanyard_worker *worker, uint64_t deadline_ns); /* false: a callback still runs */
void lanyard__room_destroy(lanyard_worker *worker);            /* after it was idle */
/* Any thread but the worker's. OK or REFUSED as claim; FULL: the deadline passed. */
ly_claim lanyard__room_wait(lanyard_worker *worker, uint64_t deadline_ns, ly_position *position_out);

/* thread.c */
lanyard_status lanyard__thread_start(pthread_t *thread_out, size_t stack_size_bytes,
                                     void *(*start)(void *), void *argument);
void lanyard__thread_name(const char *name);         /* the new thread */
lanyard_status lanyard__spawn(lanyard_worker *worker); /* under worker->lock; asks the system once */
/* After a failure: whether to ask again, after a pause. `attempt` begins at 0. With no lock held. */
bool lanyard__thread_retries(lanyard_status status, unsigned *attempt);
typedef enum ly_starter { LY_NEVER_BLOCKS, LY_MAY_BLOCK, LY_FOR_A_JOB } ly_starter;
lanyard_status lanyard__start(lanyard_worker *worker, ly_starter starter); /* a lazy worker's thread; OK: it runs */
void lanyard__attributes_read(ly_attributes *attributes);       /* the opener */
void lanyard__attributes_take(const ly_attributes *attributes); /* the new thread */

/* core.c */
lanyard_status lanyard__create(const lanyard_options *options, ly_process *process,
                               lanyard_worker **worker_out);
void lanyard__register(lanyard_worker *worker);
void lanyard__unregister(lanyard_worker *worker);
void lanyard__destroy(lanyard_worker *worker); /* whoever joined: all but the bytes that weak handles may read */
lanyard_worker *lanyard__retain(lanyard_worker *worker, uint64_t kind); /* LY_OWNER, LY_EXECUTOR */
void lanyard__memory_release(lanyard_worker *worker);
bool lanyard__has_executors(lanyard_worker *worker);

/* slots.c: zeroed slots for a ring; `used`: how many of them, from the first on, were written at most */
ly_slot *lanyard__slots_create(ly_process *process, uint32_t capacity);
void lanyard__slots_destroy(ly_process *process, ly_slot *slots, uint32_t capacity, uint64_t used);

#endif
