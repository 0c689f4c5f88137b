/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moments in which the machine did not run what it should have.
 *
 * On each processor a thread of high priority wakes up every two milliseconds and notes
 * when that was late: because the processor of a virtual machine was not run by its host,
 * or was busy in the kernel. While a processor stands still so do uhmm's threads that are
 * to run there, and a program on another one can fill memory that nobody looks at.
 */
#ifndef STRESS_STALLS_H
#define STRESS_STALLS_H

#include <stdint.h>

/* Starts the threads, where they can be: without them there was no stall. */
void stalls_watch(void);
/* The longest stall that overlaps [from_ms, to_ms], of CLOCK_MONOTONIC; in ms. */
uint64_t stalls_longest_ms(uint64_t from_ms, uint64_t to_ms);

#endif
