/* SPDX-License-Identifier: Apache-2.0 */
/* Sequential streams. Two calls a fault under a leaf lock: a dozen comparisons. */
#include "lib/stream.h"

/* The stream that addr continues, or the one that was not followed for longest. */
static struct stream *find(struct streams *s, uintptr_t addr, bool *follows)
{
	struct stream *oldest = &s->stream[0];
	unsigned i;

	for (i = 0; i < STREAMS; i++) {
		struct stream *st = &s->stream[i];

		if (st->next == addr) {
			*follows = true;
			return st;
		}
		if ((int32_t)(st->stamp - oldest->stamp) < 0)
			oldest = st;
	}
	*follows = false;
	return oldest;
}

unsigned stream_window(struct streams *s, uintptr_t addr, unsigned max)
{
	struct stream *st;
	unsigned window;
	bool follows;

	uhmm_lock(&s->lock);
	st = find(s, addr, &follows);
	st->window = follows ? st->window * 2 : 1;
	if (st->window > UHMM_BATCH_MAX)
		st->window = UHMM_BATCH_MAX;
	st->next = addr;
	st->stamp = ++s->clock;
	window = st->window;
	uhmm_unlock(&s->lock);
	return window < max ? window : max;
}

void stream_filled(struct streams *s, uintptr_t addr, unsigned nr)
{
	struct stream *st;
	bool follows;

	uhmm_lock(&s->lock);
	st = find(s, addr, &follows);
	if (follows)
		st->next = addr + nr * PAGE_SIZE;
	uhmm_unlock(&s->lock);
}
