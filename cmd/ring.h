/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings at a process's door: makes it start its keeper; see ring.c.
 */
#ifndef UHMM_RING_H
#define UHMM_RING_H

#include "preload/ctl.h"

#include <stdbool.h>

enum ring {
	RING_DONE,   /* the process has a thread that starts the keeper */
	RING_LATER,  /* not now: stopped, traced, in the kernel, ending. Ask again */
	RING_NOBODY, /* there is no door any more: another program has been executed */
	RING_UNABLE, /* the process may not start a thread */
};

/* Whether it can work here at all. If not, each process starts its keeper by itself. */
bool ring_is_possible(void);

/* claim and door are what the slot says. Blocks for some milliseconds at most. */
enum ring ring(uint32_t pid, uint64_t claim, uint64_t door);

#endif
