/* annotate.h - tells helgrind and drd what C11 atomics mean.
 *
 * Neither tool knows atomics: it sees unlocked accesses and reports each. So each release/acquire edge is stated as a
 * happens-before pair, and the atomic words themselves are exempted, nothing else: payloads and user data stay
 * checked. So these tools check locks, joins and what the edges protect; that the orders on the edges are the right
 * ones is checked elsewhere (ThreadSanitizer, models).
 *
 * The product has them, too, for the programs of others that run under these tools. They are switched on once, by the
 * first worker of a process that runs under valgrind; elsewhere each is one test of a word that never changes. Where
 * valgrind's headers are missing when the library is built they are left out.
 */
#ifndef LANYARD_ANNOTATE_H
#define LANYARD_ANNOTATE_H

#include <stdbool.h>

#ifndef LANYARD_ANNOTATE
#ifdef __has_include
#if __has_include(<valgrind/helgrind.h>)
#define LANYARD_ANNOTATE 1
#endif
#endif
#endif

#if LANYARD_ANNOTATE
#include <valgrind/helgrind.h>

/* Written before the process's first worker exists, and never again (process.c). It fills a line of the cache: every
 * submit and every request read it, and the linker would put a caller's busiest variable beside it. */
typedef struct ly_annotations {
  _Alignas(128) bool are_on;
} ly_annotations;
extern ly_annotations lanyard__annotations;

static inline bool ly_runs_on_valgrind(void) { return __builtin_expect(lanyard__annotations.are_on, 0); }

#define LY_ANNOTATE(request) \
  do { \
    if (ly_runs_on_valgrind()) request; \
  } while (0)
#define ly_happens_before(address) LY_ANNOTATE(ANNOTATE_HAPPENS_BEFORE(address))
#define ly_happens_after(address) LY_ANNOTATE(ANNOTATE_HAPPENS_AFTER(address))
#define ly_exempt(address, size) LY_ANNOTATE(VALGRIND_HG_DISABLE_CHECKING((address), (size)))
#define ly_check_again(address, size) LY_ANNOTATE(VALGRIND_HG_ENABLE_CHECKING((address), (size)))
#else
static inline bool ly_runs_on_valgrind(void) { return false; }
#define ly_happens_before(address) ((void)0)
#define ly_happens_after(address) ((void)0)
#define ly_exempt(address, size) ((void)0)
#define ly_check_again(address, size) ((void)0)
#endif

#endif
