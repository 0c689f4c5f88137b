/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structural events: the program unmapped, moved or discarded registered memory. Applied
 * with the gate closed, in the order in which they were read; see types.h for why.
 */
#ifndef UHMM_EVENT_H
#define UHMM_EVENT_H

#include "lib/types.h"

/* Forgets what was migrated of [start, end): its copies are freed, its frames dropped. */
void event_discard(struct uhmm_space *sp, uintptr_t start, uintptr_t end, bool unmapped);
/* [from, from + len) is now at to. */
void event_remap(struct uhmm_space *sp, uintptr_t from, uintptr_t to, size_t len);
/*
 * Closes the gate, reads what there is, applies what is structural and opens the gate.
 * The faults that came along are in sp->batch. -errno: the userfaultfd is dead. The
 * reader's.
 */
int event_read_and_apply(struct uhmm_space *sp);
/*
 * The faults that applying events has read along, if nobody serves them: they are
 * raised again.
 */
void event_repeat_faults(struct uhmm_space *sp);
/*
 * The gate is closed: reads on, into sp->batch, until nothing is unread or the batch is
 * due.
 */
void event_gather(struct uhmm_space *sp);
/*
 * The same, one read, for who fills memory and was told that something is unread. A batch
 * that is due is applied first; one that is being applied only grows.
 */
void event_read_or_yield(struct uhmm_space *sp);
/*
 * Is it time to apply the batch? What comes in the middle of an event cannot be applied
 * before that one's end, so only half of it is filled before.
 */
bool event_is_due(const struct event_batch *b);
/*
 * In a forked child: while its memory was copied the parent's reader may have been
 * filling the child of a raw clone, with a batch of its own.
 */
void event_after_fork(struct uhmm_space *sp);
/*
 * Is a mapping of the space's at addr? False: an event is unread, and *mapped says only
 * whether there is any.
 */
bool event_is_mapped(struct uhmm_space *sp, uintptr_t addr, bool *mapped);
/* Does a structural event say something of [start, end)? */
bool event_concerns(const struct os_event *ev, uintptr_t start, uintptr_t end);
/*
 * Adds a structural event (not FORK) to sp->batch; event_apply_batch() applies all of
 * them.
 */
void event_add(struct uhmm_space *sp, const struct os_event *ev);
void event_apply_batch(struct uhmm_space *sp);
/* Of sp->batch: what was moved to [start, end) is not there any more. ctx: the space. */
void event_gone(void *ctx, uintptr_t start, uintptr_t end);
/* And by this REMAP something has come there. */
void event_came(struct uhmm_space *sp, const struct os_event *remap);

#endif
