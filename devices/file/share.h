/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments of a file, which fork() does not copy: parent and child have the same ones. In
 * memory that all processes of a family share there is, of each segment, how many of them
 * have it, and of each process which.
 *
 * A process may end at any time without giving anything back: it is killed, or becomes
 * another program. So who looks for a free segment looks whether the others live. (Where
 * a number has a new process by then, that is taken for the old one: what it had is free
 * when the family is over.)
 *
 * A process is claimed by its parent before it is made, with all segments of the parent,
 * and disclaimed by it if nothing came of it. Any thread, but for fork.
 */
#ifndef UHMM_DEVICES_FILE_SHARE_H
#define UHMM_DEVICES_FILE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Processes of a family that have pages at the same time. */
#define SHARE_PROCESSES 256u
#define SHARE_NONE UINT32_MAX

struct share_memory;

struct share {
	struct share_memory *memory;
	uint32_t nr; /* segments */
	uint32_t me, child;
	/* A segment is nobody's any more; before it may be taken again. */
	void (*freed)(void *ctx, uint32_t segment);
	void *ctx;
};

/* share is zeroed but for freed and ctx. False: no memory. */
bool share_open(struct share *share, uint32_t nr);
void share_close(struct share *share);

/* A segment that nobody has; `spare` of them are left. SHARE_NONE: there is none. */
uint32_t share_take(struct share *share, uint32_t spare);
/* This process has it no more. */
void share_give(struct share *share, uint32_t segment);
/* Segments that somebody has. */
uint32_t share_used(const struct share *share);
/* Gives back what processes had that are over. */
void share_bury(struct share *share);

void share_claim(struct share *share);
void share_disclaim(struct share *share);
/* In the child. False: the family is too large. */
bool share_adopt(struct share *share);

#endif
