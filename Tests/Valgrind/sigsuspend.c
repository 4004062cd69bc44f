/* sigsuspend.c - lets programs that use libdispatch run under valgrind; preloaded there, used nowhere else.
 *
 * valgrind 3.19 takes two signals of its own out of the mask that a program hands to sigsuspend, and does
 * so in the program's memory. libdispatch keeps its mask in a constant, which is read-only memory: the
 * write ends the process by SIGSEGV as soon as an idle thread of its pool goes to sleep. Here valgrind
 * gets a copy to write to.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

int sigsuspend(const sigset_t *mask) {
  /* The kernel's mask is one word for 64 signals, the first part of libc's. */
  unsigned long copy = mask->__val[0];
  return (int)syscall(SYS_rt_sigsuspend, &copy, sizeof copy);
}
