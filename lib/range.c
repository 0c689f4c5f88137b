/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Range sets: sorted disjoint arrays under a leaf lock. Adjacent ranges are merged.
 */
#include "lib/range.h"

#include <errno.h>
#include <string.h>

/* The first range that ends above addr. */
static uint32_t lower(const struct range_set *set, uintptr_t addr)
{
	uint32_t lo = 0, hi = set->nr;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (set->range[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Replaces ranges [from, to) by nr (0..2) others. */
static int replace(struct range_set *set, uint32_t from, uint32_t to,
		   const struct range *by, uint32_t nr)
{
	if (set->nr - (to - from) + nr > SPACE_RANGES)
		return -ENOSPC;
	memmove(&set->range[from + nr], &set->range[to],
		(set->nr - to) * sizeof(set->range[0]));
	memcpy(&set->range[from], by, nr * sizeof(by[0]));
	set->nr = set->nr - (to - from) + nr;
	return 0;
}

int range_add(struct range_set *set, uintptr_t start, uintptr_t end)
{
	struct range merged = { start, end };
	uint32_t from, to;
	int r;

	uhmm_lock(&set->lock);
	/* Also what only touches: it ends at start, or starts at end. */
	from = start ? lower(set, start - 1) : 0;
	for (to = from; to < set->nr && set->range[to].start <= end; to++) {
		if (set->range[to].start < merged.start)
			merged.start = set->range[to].start;
		if (set->range[to].end > merged.end)
			merged.end = set->range[to].end;
	}
	r = replace(set, from, to, &merged, 1);
	uhmm_unlock(&set->lock);
	return r;
}

int range_remove(struct range_set *set, uintptr_t start, uintptr_t end)
{
	struct range rest[2];
	uint32_t from, to, nr = 0;
	int r;

	uhmm_lock(&set->lock);
	from = lower(set, start);
	for (to = from; to < set->nr && set->range[to].start < end; to++) {
		struct range *x = &set->range[to];

		if (x->start < start)
			rest[nr++] = (struct range){ x->start, start };
		if (x->end > end)
			rest[nr++] = (struct range){ end, x->end };
	}
	r = replace(set, from, to, rest, nr);
	uhmm_unlock(&set->lock);
	return r;
}

void range_reset(struct range_set *set)
{
	set->lock = (struct uhmm_lock){ 0 };
	set->nr = 0;
}

void range_add_or_all(struct range_set *set, uintptr_t start, uintptr_t end)
{
	static const uintptr_t all = (uintptr_t)1 << ADDRESS_BITS;

	while (range_add(set, start, end)) {
		range_remove(set, 0, all);
		start = 0;
		end = all;
	}
}

bool range_clip(struct range_set *set, bool inside, uintptr_t start, uintptr_t end,
		struct range *piece)
{
	uint32_t i;
	bool found;

	uhmm_lock(&set->lock);
	i = lower(set, start);
	if (inside) {
		found = i < set->nr && set->range[i].start < end;
		if (found) {
			piece->start = set->range[i].start > start ? set->range[i].start :
								     start;
			piece->end = set->range[i].end < end ? set->range[i].end : end;
		}
	} else {
		while (i < set->nr && set->range[i].start <= start)
			start = set->range[i++].end;
		piece->start = start;
		piece->end = i < set->nr && set->range[i].start < end ?
				     set->range[i].start :
				     end;
		found = piece->start < piece->end;
	}
	uhmm_unlock(&set->lock);
	return found;
}

bool range_touches(struct range_set *set, uintptr_t start, uintptr_t end)
{
	struct range piece;

	return range_clip(set, true, start, end, &piece);
}

bool space_clip(struct uhmm_space *sp, uintptr_t start, uintptr_t end,
		struct range *piece)
{
	return sp->whole ? range_clip(&sp->excluded, false, start, end, piece) :
			   range_clip(&sp->managed, true, start, end, piece);
}

bool space_manages(struct uhmm_space *sp, const struct os_vma *vma)
{
	struct range piece;

	/* UFFDIO_MOVE wants what can be written to; see docs/read-only.md. */
	if ((vma->kind != OS_VMA_ANON && vma->kind != OS_VMA_HEAP) || !vma->readable ||
	    !vma->writable || vma->start >> ADDRESS_BITS)
		return false;
	return space_clip(sp, vma->start, vma->end, &piece);
}
