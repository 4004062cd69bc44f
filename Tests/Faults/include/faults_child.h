/* faults_child.h - a child process whose output is read, and which is killed.
 *
 * posix_spawn, so that no fork happens in a process of many threads. The child has the standard descriptors
 * alone, no signal blocked and none ignored, and a pipe as its output.
 */
#ifndef LANYARD_FAULTS_CHILD_H
#define LANYARD_FAULTS_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Starts a program. `arguments` begin with its name and end with NULL. 0, or the error's number. The caller
 * owns the child, until faults_child_end, and the descriptor that its output is read from. */
int faults_child_start(const char *path, char *const arguments[], pid_t *child_out, int *output_out);

/* Kills it with SIGKILL if `kills`, waits for its end, and returns its status as waitpid has it, or -1. */
int faults_child_end(pid_t child, bool kills);

/* Kills it, and does not wait. */
void faults_child_kill(pid_t child);

/* What a status says: the signal's number if one ended it, or 0; the exit status if it exited, or -1. */
int faults_child_signal(int status);
int faults_child_exit(int status);

#endif
