/* faults_allocator.h - an allocator for SQLite that fails when a test says so.
 *
 * It is the whole process's, and it must be there before anything else uses SQLite: so these tests run in a
 * process of their own. Every allocation counts: SQLite's own small reserves (lookaside) are turned off.
 *
 * Threads: every function but install from any thread.
 */
#ifndef LANYARD_FAULTS_ALLOCATOR_H
#define LANYARD_FAULTS_ALLOCATOR_H

#include <stdbool.h>
#include <stdint.h>

/* False if SQLite was used before. Once. */
bool faults_allocator_install(void);

/* Fails `times` allocations from the first-th from now on, counted from 1; UINT32_MAX: all after it. None if
 * `first` is 0. */
void faults_allocator_fail(uint32_t first, uint32_t times);

/* How many allocations there were since the last order, and how many of them failed. */
uint32_t faults_allocator_count(void);
uint32_t faults_allocator_failed(void);

/* How many blocks are allocated now. */
int64_t faults_allocator_live(void);

#endif
