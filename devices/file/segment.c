/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: who uses them. One count for all: each object, whoever is about to read one,
 * and who writes. So there is one moment at which a segment becomes free, and nobody who
 * looks at it then.
 */
#include <errno.h>

#include "devices/file/segment.h"

static bool chunk_is_there(struct file *f, uint32_t nr)
{
	struct segment **chunk = &f->chunk[nr / CHUNK_SEGMENTS];

	if (__atomic_load_n(chunk, __ATOMIC_ACQUIRE))
		return true;
	uhmm_lock(&f->grow);
	if (!*chunk)
		__atomic_store_n(chunk,
				 uhmm_host_map(CHUNK_SEGMENTS * sizeof(struct segment)),
				 __ATOMIC_RELEASE);
	uhmm_unlock(&f->grow);
	return *chunk;
}

static void raise_top(struct file *f, uint32_t top)
{
	uint32_t seen = __atomic_load_n(&f->top, __ATOMIC_RELAXED);

	while (seen < top &&
	       !__atomic_compare_exchange_n(&f->top, &seen, top, false, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED))
		;
}

uint32_t segment_open(struct file *f, uint32_t spare, uint32_t log, int *why)
{
	uint32_t nr;
	struct segment *s;

	share_bury(&f->share);
	nr = share_take(&f->share, spare);
	*why = -ENOSPC;
	if (nr == SHARE_NONE)
		return nr;
	if (!chunk_is_there(f, nr)) {
		share_give(&f->share, nr);
		*why = -ENOMEM;
		return SHARE_NONE;
	}
	s = segment_at(f, nr);
	__atomic_store_n(&s->live, 0, __ATOMIC_RELAXED);
	s->ever = 0;
	s->nr = 0;
	__atomic_store_n(&s->log, log, __ATOMIC_RELAXED);
	__atomic_store_n(&s->state, SEGMENT_OPEN, __ATOMIC_RELEASE);
	__atomic_store_n(&s->uses, 1, __ATOMIC_RELEASE);
	raise_top(f, nr + 1);
	return nr;
}

static void let_go(struct file *f, uint32_t nr)
{
	struct segment *s = segment_at(f, nr);
	void *list[LIST_PAGES];
	uint32_t i, n = 0;

	for (i = 0; i < LIST_PAGES; i++)
		if (s->list[i]) {
			list[n++] = s->list[i];
			s->list[i] = NULL;
		}
	uhmm_host_pages_put(list, n);
	__atomic_fetch_sub(&f->lists, n, __ATOMIC_RELAXED);
	__atomic_store_n(&s->state, SEGMENT_FREE, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&f->ever, s->ever, __ATOMIC_RELAXED);
	share_give(&f->share, nr);
}

void segment_unuse(struct file *f, uint32_t nr, uint32_t uses)
{
	struct segment *s = segment_at(f, nr);

	if (uses && __atomic_sub_fetch(&s->uses, uses, __ATOMIC_ACQ_REL) == 0)
		let_go(f, nr);
}

bool segment_use(struct file *f, uint32_t nr)
{
	struct segment *s = segment_at(f, nr);
	uint32_t uses = __atomic_load_n(&s->uses, __ATOMIC_RELAXED);

	while (uses)
		if (__atomic_compare_exchange_n(&s->uses, &uses, uses + 1, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
	return false;
}

bool segment_list_grow(struct file *f, struct segment *s, uint32_t nr)
{
	uint32_t i, last = (s->nr + nr - 1) / LIST_ENTRIES;
	void *page;

	for (i = s->nr / LIST_ENTRIES; i <= last; i++) {
		if (s->list[i])
			continue;
		if (!uhmm_host_pages_get(&page, 1))
			return false;
		s->list[i] = page;
		__atomic_fetch_add(&f->lists, 1, __ATOMIC_RELAXED);
	}
	return true;
}

void segment_freed(void *ctx, uint32_t nr)
{
	struct file *f = ctx;

	uhmm_host_file_punch(f->file, f->start + (uint64_t)nr * SEGMENT_SIZE,
			     SEGMENT_SIZE);
}
