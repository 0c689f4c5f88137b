/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interval notifiers: who mirrors the program's mappings is told before they change.
 *
 * An *invalidation* begins before what it is about and ends after it. When it begins each
 * notifier whose interval it touches is called with a sequence, which is odd; the last
 * invalidation that ends makes it even. A notifier has the sequence of the invalidation
 * that its driver has heard of last, so
 *
 * - if that is the present one, the mappings are changing now: notifier_read_begin()
 *   waits;
 * - if it is not the one that somebody saw before he looked at the mappings, what he has
 *   seen is old: he looks again.
 *
 * Where there is no notifier an invalidation costs one load. So the first that is
 * inserted waits until whoever may have looked before that has done what he was about to
 * do (uhmm_notifier_insert()): has left the world, that is, or is the reader and has
 * served. What lasts longer begins its invalidation anew in each visit to the world.
 *
 * What the kernel tells us it tells afterwards: munmap() returns when the event was read,
 * and that is applied, the gate closed, a moment later. Who must not see what was there
 * before enters the gate first: notifier_read_begin() does.
 *
 * Callbacks are made with the world entered or the gate closed, and with busy pages held,
 * but with no lock of ours: a driver takes its own lock there, and whoever has that
 * neither waits for memory nor calls us.
 */
#ifndef UHMM_NOTIFIER_H
#define UHMM_NOTIFIER_H

#include "lib/types.h"
#include "uhmm/range.h"

struct uhmm_notifier {
	struct uhmm_space *space; /* NULL: it has ended, or was the parent's; atomic */
	uintptr_t start, last;    /* first and last byte */
	struct uhmm_notifier_ops ops;
	void *ctx;
	uint64_t seq;   /* odd; atomic */
	uint32_t users; /* calls under way for it, but for remove; atomic, futex */
	/* Under the lock of the space's notifiers. */
	uint32_t calls; /* of invalidate() */
	struct uhmm_notifier *left, *right;
	uintptr_t max_last; /* of itself and those below it */
};

/* Slow part of notifier_begin(). */
void notifier_tell(struct uhmm_space *sp, uintptr_t start, uintptr_t end,
		   enum uhmm_event event, const void *owner);
/* Slow part of notifier_end(). */
void notifier_told(struct uhmm_space *sp);

/*
 * Before something happens to [start, end): no device uses it when this returns. True if
 * somebody was to be told: what is given to notifier_end(), once it has happened.
 */
static inline bool notifier_begin(struct uhmm_space *sp, uintptr_t start, uintptr_t end,
				  enum uhmm_event event, const void *owner)
{
	/* Pairs with the grace that uhmm_notifier_insert() gives. */
	if (!__atomic_load_n(&sp->notifiers.nr, __ATOMIC_SEQ_CST))
		return false;
	notifier_tell(sp, start, end, event, owner);
	return true;
}

static inline void notifier_end(struct uhmm_space *sp, bool begun)
{
	if (begun)
		notifier_told(sp);
}

/* One whose space, interval, ops and ctx are set. True: it is the only one now. */
bool notifier_link(struct uhmm_space *sp, struct uhmm_notifier *n);
/* Waits until no callback is under way. Not with a driver's lock. */
void notifier_unlink(struct uhmm_space *sp, struct uhmm_notifier *n);

/*
 * Its space, which lives until notifier_unuse(); NULL: it has ended. Who has removed a
 * notifier does not come here any more.
 */
struct uhmm_space *notifier_use(struct uhmm_notifier *n);
void notifier_unuse(struct uhmm_notifier *n);

/* The calling thread holds none of our locks, and no driver's. */
uint64_t notifier_read_begin(struct uhmm_space *sp, struct uhmm_notifier *n);

static inline bool notifier_is_stale(const struct uhmm_notifier *n, uint64_t seq)
{
	return __atomic_load_n(&n->seq, __ATOMIC_ACQUIRE) != seq;
}

/* The space ends: tells RELEASE, and that it has no notifiers from now on. */
void notifier_release_all(struct uhmm_space *sp);
/* In a forked child, which begins without: nobody else is there. */
void notifier_forget_all(struct uhmm_space *sp);

#endif
