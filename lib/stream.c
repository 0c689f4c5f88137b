/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams. Two calls a fault under a leaf lock: a few dozen comparisons. What random
 * faults leave behind are streams of window 1, and among those strides are looked for.
 */
#include "lib/stream.h"

#include "lib/page.h"

/* Bytes; beyond that three faults are in line by chance. */
#define STRIDE_MAX (128 * (int64_t)PAGE_SIZE)

/*
 * How far trust goes. So many streams that end, and it is gone where there was most; so
 * many that come through where they fault at each page, and it is there again.
 */
#define TRUST_MAX 3
#define TRUST_MIN (-4)

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

static int8_t *trust_in(struct streams *s, const struct stream *st)
{
	unsigned size = 31 - (unsigned)__builtin_clz(st->window / 2u);

	return &s->trust[st->stride != PAGE_SIZE][size];
}

/* The stream came through its window, or it did not. */
static void judge(struct streams *s, const struct stream *st, bool through)
{
	int8_t *trust = trust_in(s, st);

	if (!st->to_come && !st->brought)
		return; /* nothing could be brought: that tells of nothing */
	if (through && *trust < TRUST_MAX)
		++*trust;
	if (!through && *trust > TRUST_MIN)
		--*trust;
}

static void end(struct uhmm_space *sp, const struct stream *st)
{
	if (st->window > 1)
		judge(&sp->streams, st, false);
	if (st->loaded)
		__atomic_fetch_add(&sp->counter[COUNT_PREFETCH_VAIN], st->loaded,
				   __ATOMIC_RELAXED);
}

/* The next window of a stream that a fault has continued: how many pages to bring. */
static unsigned next_window(struct streams *s, struct stream *st, uintptr_t addr,
			    unsigned max)
{
	int64_t passed = (int64_t)(addr - st->last) / st->stride;

	if (addr == st->last) /* the same fault again */
		return st->to_come ? 1 : st->window;
	if (passed < st->to_come) {
		st->to_come -= (uint8_t)passed;
		return 1;
	}
	if (st->window > 1)
		judge(s, st, true);
	st->window = (uint8_t)(st->window * 2u < max ? st->window * 2u : max);
	if (st->window == 1)
		return 1;
	st->to_come = *trust_in(s, st) < 0 ? st->window : 0;
	return st->to_come ? 1 : st->window;
}

unsigned stream_window(struct uhmm_space *sp, uintptr_t addr, unsigned max,
		       int64_t *stride)
{
	struct streams *s = &sp->streams;
	struct stream *st, *strided;
	unsigned window = 1;
	bool follows;

	uhmm_lock(&s->lock);
	st = find(sp, addr, &follows);
	strided = follows ? NULL : in_stride(s, addr);
	if (strided)
		st = strided;
	if (follows || strided) {
		window = next_window(s, st, addr, max);
	} else {
		end(sp, st);
		*st = (struct stream){ .stride = PAGE_SIZE, .window = 1 };
	}
	st->last = addr;
	st->next = addr;
	st->brought = 0;
	st->loaded = 0;
	st->stamp = ++s->clock;
	*stride = st->stride;
	uhmm_unlock(&s->lock);
	return window < max ? window : max;
}

void stream_filled(struct uhmm_space *sp, uintptr_t addr, unsigned nr, unsigned loaded)
{
	struct streams *s = &sp->streams;
	unsigned i;

	uhmm_lock(&s->lock);
	for (i = 0; i < STREAMS; i++) {
		struct stream *st = &s->stream[i];

		if (!st->stride || st->last != addr || st->next != addr)
			continue;
		st->next = addr + (uintptr_t)((int64_t)nr * st->stride);
		st->brought = (uint8_t)(nr - 1);
		st->loaded = (uint8_t)loaded;
	}
	uhmm_unlock(&s->lock);
}
