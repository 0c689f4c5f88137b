/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams. Two calls a fault under a leaf lock: a few dozen comparisons. What random
 * faults leave behind are streams of window 1, and among those strides are looked for.
 */
#include "lib/stream.h"

#include "lib/page.h"

/* Bytes; beyond that three faults are in line by chance. */
#define STRIDE_MAX (128 * (int64_t)PAGE_SIZE)

/* Does a touch of these pages need nothing of us? */
static bool all_here(struct uhmm_space *sp, uintptr_t addr, uintptr_t end, int64_t stride)
{
	for (; addr != end; addr += (uintptr_t)stride) {
		struct chunk *chunk = page_chunk(sp, addr);
		entry_t *entry = page_entry(chunk, addr);

		if (chunk && entry_state(entry_load(&chunk->folio)) != PAGE_NONE)
			return false;
		if (entry && entry_state(entry_load(entry)) != PAGE_NONE)
			return false;
	}
	return true;
}

static bool continues(struct uhmm_space *sp, const struct stream *st, uintptr_t addr)
{
	int64_t ahead = (int64_t)(addr - st->next);

	if (ahead == 0)
		return true;
	return st->window > 1 && ahead % st->stride == 0 && ahead / st->stride > 0 &&
	       ahead / st->stride <= st->window &&
	       all_here(sp, st->next, addr, st->stride);
}

/* The stream that addr continues, or a free one, or that not followed for longest. */
static struct stream *find(struct uhmm_space *sp, uintptr_t addr, bool *follows)
{
	struct streams *s = &sp->streams;
	struct stream *oldest = &s->stream[0];
	unsigned i;

	for (i = 0; i < STREAMS; i++) {
		struct stream *st = &s->stream[i];

		if (continues(sp, st, addr)) {
			*follows = true;
			return st;
		}
		if (oldest->stride &&
		    (!st->stride || (int32_t)(st->stamp - oldest->stamp) < 0))
			oldest = st;
	}
	*follows = false;
	return oldest;
}

/* A stream that began so many bytes before addr, and was not followed. */
static struct stream *began_at(struct streams *s, uintptr_t last)
{
	unsigned i;

	for (i = 0; i < STREAMS; i++)
		if (s->stream[i].last == last && s->stream[i].window == 1)
			return &s->stream[i];
	return NULL;
}

/* The third of three in even strides: makes one stream of the others. */
static struct stream *in_stride(struct streams *s, uintptr_t addr)
{
	unsigned i;

	for (i = 0; i < STREAMS; i++) {
		struct stream *st = &s->stream[i], *first;
		int64_t stride = (int64_t)(addr - st->last);

		if (st->window != 1 || !stride || stride > STRIDE_MAX ||
		    stride < -STRIDE_MAX)
			continue;
		first = began_at(s, st->last - (uintptr_t)stride);
		if (!first)
			continue;
		*first = (struct stream){ 0 };
		st->stride = stride;
		return st;
	}
	return NULL;
}

unsigned stream_window(struct uhmm_space *sp, uintptr_t addr, unsigned max,
		       int64_t *stride)
{
	struct streams *s = &sp->streams;
	struct stream *st, *strided;
	unsigned window;
	bool follows;

	uhmm_lock(&s->lock);
	st = find(sp, addr, &follows);
	strided = follows ? NULL : in_stride(s, addr);
	if (strided)
		st = strided;
	if (!follows && !strided)
		*st = (struct stream){ .stride = PAGE_SIZE };
	st->window = follows || strided ? st->window * 2 : 1;
	if (st->window > UHMM_BATCH_MAX)
		st->window = UHMM_BATCH_MAX;
	st->last = addr;
	st->next = addr;
	st->stamp = ++s->clock;
	window = st->window;
	*stride = st->stride;
	uhmm_unlock(&s->lock);
	return window < max ? window : max;
}

void stream_filled(struct uhmm_space *sp, uintptr_t addr, unsigned nr)
{
	struct streams *s = &sp->streams;
	unsigned i;

	uhmm_lock(&s->lock);
	for (i = 0; i < STREAMS; i++) {
		struct stream *st = &s->stream[i];

		if (st->stride && st->last == addr && st->next == addr)
			st->next = addr + (uintptr_t)((int64_t)nr * st->stride);
	}
	uhmm_unlock(&s->lock);
}
