/* annotate.h - tells helgrind and drd what C11 atomics mean.
 *
 * Neither tool knows atomics: it sees unlocked accesses and reports each. A build with LANYARD_ANNOTATE
 * (never the product) states each release/acquire edge as a happens-before pair and exempts the atomic
 * words themselves, nothing else: payloads and user data stay checked. So these tools check locks, joins
 * and what the edges protect; that the orders on the edges are the right ones is checked elsewhere
 * (ThreadSanitizer, models).
 */
#ifndef LANYARD_ANNOTATE_H
#define LANYARD_ANNOTATE_H

#if LANYARD_ANNOTATE
#include <valgrind/helgrind.h>
#define ly_happens_before(address) ANNOTATE_HAPPENS_BEFORE(address)
#define ly_happens_after(address) ANNOTATE_HAPPENS_AFTER(address)
#define ly_exempt(address, size) VALGRIND_HG_DISABLE_CHECKING((address), (size))
#define ly_check_again(address, size) VALGRIND_HG_ENABLE_CHECKING((address), (size))
#else
#define ly_happens_before(address) ((void)0)
#define ly_happens_after(address) ((void)0)
#define ly_exempt(address, size) ((void)0)
#define ly_check_again(address, size) ((void)0)
#endif

#endif
