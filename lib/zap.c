/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pending discards: a short list under a leaf lock. It is nearly always empty, and then
 * nobody takes the lock. Any thread; the lock is held across a look at the page tables,
 * which is short where nothing is present. See zap.h.
 */
#include "lib/zap.h"

/*
 * A thread that was woken from reading its event and has not discarded anything a second
 * later is taken for one that never will: between the two there is nothing but the wait
 * for the lock of the address space.
 */
#define PENDING_NS UINT64_C(1000000000)

static bool overlaps(const struct zap *z, uintptr_t start, uintptr_t end)
{
	return z->range.start < end && z->range.end > start;
}

/* Is nothing left of what was to be discarded? */
static bool happened(const struct zap *z, uint64_t now)
{
	struct os_extent ext;
	uintptr_t walked;

	if (now >= z->until_ns)
		return true;
	return !z->widened &&
	       os_scan(z->range.start, z->range.end, OS_SCAN_MEMORY, 1, &ext, 1,
		       &walked) == 0 &&
	       walked >= z->range.end;
}

/* Under the lock: forgets those of [start, end) that have happened. True: one is left. */
static bool look(struct zaps *zaps, uintptr_t start, uintptr_t end)
{
	uint64_t now = os_now_ns();
	bool pending = false;
	uint32_t i, nr = 0;

	for (i = 0; i < zaps->nr; i++) {
		struct zap *z = &zaps->zap[i];

		if (overlaps(z, start, end)) {
			if (happened(z, now))
				continue;
			pending = true;
		}
		zaps->zap[nr++] = *z;
	}
	__atomic_store_n(&zaps->nr, nr, __ATOMIC_RELAXED);
	return pending;
}

bool zap_pending(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	struct zaps *zaps = &sp->zaps;
	bool pending;

	/* What is announced is announced with the gate closed. */
	if (!__atomic_load_n(&zaps->nr, __ATOMIC_RELAXED))
		return false;
	uhmm_lock(&zaps->lock);
	pending = look(zaps, start, end);
	uhmm_unlock(&zaps->lock);
	return pending;
}

void zap_announce(struct uhmm_space *sp, uintptr_t start, uintptr_t end)
{
	struct zaps *zaps = &sp->zaps;
	struct zap *z;

	uhmm_lock(&zaps->lock);
	if (zaps->nr == ZAPS_MAX)
		look(zaps, 0, UINTPTR_MAX);
	if (zaps->nr < ZAPS_MAX) {
		z = &zaps->zap[zaps->nr];
		*z = (struct zap){ .range = { start, end } };
		__atomic_store_n(&zaps->nr, zaps->nr + 1, __ATOMIC_RELAXED);
	} else {
		/* Too much rather than too little, and then only time tells. */
		z = &zaps->zap[ZAPS_MAX - 1];
		z->widened = true;
		if (start < z->range.start)
			z->range.start = start;
		if (end > z->range.end)
			z->range.end = end;
	}
	z->until_ns = os_now_ns() + PENDING_NS;
	uhmm_unlock(&zaps->lock);
}
