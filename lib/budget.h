/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The budget, as the fault path sees it: a number of pages that may be filled before
 * somebody looks again. The worker refreshes it (reclaim.c); taking from it is one atomic
 * operation, so any thread may.
 */
#ifndef UHMM_BUDGET_H
#define UHMM_BUDGET_H

#include "lib/types.h"

static inline int64_t budget_limit(struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->budget.limit_pages, __ATOMIC_RELAXED);
}

static inline bool budget_limited(struct uhmm_space *sp)
{
	return budget_limit(sp) != 0;
}

/* Whoever takes now gets nothing. A moment later there may be room. */
static inline bool budget_is_out(struct uhmm_space *sp)
{
	return budget_limited(sp) && !sp->budget.lend &&
	       __atomic_load_n(&sp->budget.room_pages, __ATOMIC_RELAXED) <= 0;
}

/* Up to want pages; 0 when there is no room. */
static inline unsigned budget_take(struct uhmm_space *sp, unsigned want)
{
	int64_t left;

	if (!budget_limited(sp))
		return want;
	left = __atomic_sub_fetch(&sp->budget.room_pages, want, __ATOMIC_RELAXED);
	if (left >= 0 || sp->budget.lend)
		return want;
	/* Give back what was too much: all of it, or the part below zero. */
	if (left < -(int64_t)want)
		left = -(int64_t)want;
	__atomic_fetch_add(&sp->budget.room_pages, -left, __ATOMIC_RELAXED);
	return (unsigned)((int64_t)want + left);
}

/* Wakes the worker when room gets short, before a fault has to wait for it. */
static inline void budget_watch(struct uhmm_space *sp)
{
	struct budget *b = &sp->budget;

	if (!budget_limited(sp) ||
	    __atomic_load_n(&b->room_pages, __ATOMIC_RELAXED) >
		    __atomic_load_n(&b->ring_below_pages, __ATOMIC_RELAXED) ||
	    __atomic_exchange_n(&b->rung, 1, __ATOMIC_RELAXED))
		return;
	__atomic_fetch_add(&sp->work, 1, __ATOMIC_SEQ_CST);
	os_wake(&sp->work, 1);
}

static inline void budget_return(struct uhmm_space *sp, unsigned pages)
{
	if (pages && budget_limited(sp))
		__atomic_fetch_add(&sp->budget.room_pages, pages, __ATOMIC_RELAXED);
}

#endif
