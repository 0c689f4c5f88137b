/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what the kernel tells of a space's memory: faults, and events.
 *
 * The kernel tells of faults first, and while an event is unread no page can be filled.
 * Who is refused for that and faults again would hide the event for ever. So who reads
 * reads on until there are no faults before it, and answers none before that.
 */
#ifndef UHMM_MESSAGE_H
#define UHMM_MESSAGE_H

#include "lib/types.h"

struct message_reader {
	/* Each event (not a fault), in the order in which they were read. */
	void (*event)(struct uhmm_space *sp, const struct os_event *ev);
	struct range_set *landed; /* see landed.h */
	void (*gone)(void *ctx, uintptr_t start, uintptr_t end);
	void *ctx; /* gone's */
};

/*
 * Reads until there was an event, or nothing is left: at most MESSAGE_BATCH events.
 * Faults are added to those of sp->batch; if there is no room for one it is raised again.
 * The number of messages; -errno: the userfaultfd is dead. The reader's.
 */
int message_read(struct uhmm_space *sp, const struct message_reader *reader);

#endif
