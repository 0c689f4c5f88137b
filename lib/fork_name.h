/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which process a child is. EVENT_FORK brings a userfaultfd of its memory, and the kernel
 * does not say whose that is. So we write a number there that no other has, and look
 * which of the processes that this one has made has it.
 *
 * Written where? Into pages of ours that nobody can read and that are never there but in
 * such a child: a pair for each bit, of which one gets the page of zeros, at the price of
 * no memory. /proc/PID/pagemap tells which are there, and needs no more permission than
 * looking at a process takes.
 */
#ifndef UHMM_FORK_NAME_H
#define UHMM_FORK_NAME_H

#include "lib/types.h"

/* What is registered at sp->fork.names. */
#define FORK_NAMES_SIZE (OS_NAME_PAGES * PAGE_SIZE)

/* A process and what is written in it; pid 0: it is not known. */
struct fork_name {
	uint32_t pid;
	uint64_t written;
};

int fork_name_init(struct uhmm_space *sp);
void fork_name_fini(struct uhmm_space *sp);

/*
 * The child behind a userfaultfd, made by this process (maker NULL) or by a child of it
 * that was named before. Waits until the kernel has made it: the clone goes on when its
 * event has been read. While changes of the child's memory that were not read are in the
 * way, read_events is called.
 */
struct fork_name fork_name_child(struct uhmm_space *sp, int uffd,
				 const struct fork_name *maker,
				 void (*read_events)(void *ctx), void *ctx);

#endif
