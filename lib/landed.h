/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where mremap() has moved something, whether it is there still.
 *
 * An UNMAP of that place may be read after the REMAP and have happened before it (see
 * event.c). Whether the page is there, asked when all is read, does not always tell: a
 * mapping that was shrunk may have grown again, of which the kernel tells nobody, and
 * then it is there and empty. So it is asked before each read: who unmaps does nothing
 * else until we have read of it. What is seen as a hole then is gone, whatever grows
 * there. What is read is what was queued when we looked: one event, if there was one,
 * and faults, which the kernel tells of first.
 *
 * (A hole that another thread closes before we look, by growing the same mapping that the
 * first is still in the middle of shrinking, is not seen.)
 */
#ifndef UHMM_LANDED_H
#define UHMM_LANDED_H

#include "lib/types.h"

/* Something was moved to [start, end). */
void landed_add(struct range_set *landed, uintptr_t start, uintptr_t end);
/*
 * As os_uffd_read(), with a look at those places before: gone is called for what is not
 * mapped any more, once for each place.
 */
int landed_read(struct range_set *landed, int uffd, struct os_event *ev, int nr,
		void (*gone)(void *ctx, uintptr_t start, uintptr_t end), void *ctx);

#endif
