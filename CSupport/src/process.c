/* process.c - finding this process's page. See process.h. */
#include "process.h"

/* Ordinary memory, which a child inherits: numbers go on where the parent's stood. */
static _Atomic(ly_process *) page;
static _Atomic uint64_t generations;

static bool is_foreign(const ly_process *process) {
  return process->checks_pid && process->pid != getpid();
}

/* The page behind an address that was loaded or found by a failed compare-and-swap: PAGE orders its fields. */
static bool is_usable(const ly_process *process) {
  if (process == NULL) return false;
  ly_happens_after(&page);
  return !is_foreign(process);
}

static ly_process *page_create(void) {
  bool wiped = false;
  ly_process *process = ly_wiped_page(sizeof *process, &wiped);
  if (process == NULL) return NULL;
  process->checks_pid = !wiped;
  process->pid = getpid();
  return process;
}

#if LANYARD_ANNOTATE
ly_annotations lanyard__annotations;
#endif

ly_process *lanyard__process_get(void) {
#if LANYARD_ANNOTATE
  if (RUNNING_ON_VALGRIND) { /* it runs one thread at a time */
    VALGRIND_HG_DISABLE_CHECKING(&lanyard__annotations, sizeof lanyard__annotations);
    lanyard__annotations.are_on = true;
  }
#endif
  ly_process *process = ly_load(&page, acquire); /* PAGE */
  while (!is_usable(process)) {
    ly_process *fresh = page_create();
    if (fresh == NULL) return NULL;
    /* A foreign page stays: inherited workers refer to it. */
    ly_happens_before(&page);
    if (ly_cas(&page, &process, fresh, acq_rel, acquire)) process = fresh; /* PAGE */
    else ly_unmap(fresh, sizeof *fresh);
  }
  uint64_t none = 0;
  if (ly_load(&process->generation, acquire) == 0) {
    ly_exempt(&process->generation, sizeof process->generation);
    ly_exempt(&process->reaper_turn, sizeof process->reaper_turn);
    ly_exempt(&process->ended_turn, sizeof process->ended_turn);
    ly_exempt(&process->live_count, sizeof process->live_count);
    ly_exempt(&process->alarm_turn, sizeof(_Atomic uint32_t) * 2);
    ly_cas(&process->generation, &none, ly_add(&generations, 1, relaxed) + 1, acq_rel, acquire);
  }
  return process;
}

ly_process *lanyard__process_peek(void) {
  ly_process *process = ly_load(&page, acquire); /* PAGE */
  if (!is_usable(process) || ly_load(&process->generation, acquire) == 0) return NULL;
  return process;
}

static const void *volatile reachable[2];

void lanyard__keep_reachable(const ly_process *process) {
  reachable[0] = process->zombies;
  reachable[1] = process->ended_first;
}
