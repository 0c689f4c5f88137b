/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which order pages are touched.
 *
 * Zipf: ranks by the method of Gray et al., "Quickly generating billion-record synthetic
 * databases" (SIGMOD 1994), theta 0.99 as in YCSB (Cooper et al., SoCC 2010); ranks are
 * spread over the region, so that two pages that are hot are not neighbours.
 *
 * Hot set: four touches of an eighth of the pages at random, then the next page of a scan
 * over all of them: who does not resist scans loses the eighth.
 */
#include <math.h>

#include "bench/access.h"

#define THETA 0.99
#define STRIDE 9u
#define HOT_SHARE 8u
#define HOT_TOUCHES 4u

static uint64_t next_random(struct walk *w)
{
	w->random ^= w->random >> 12;
	w->random ^= w->random << 25;
	w->random ^= w->random >> 27;
	return w->random * UINT64_C(0x2545f4914f6cdd1d);
}

static double next_fraction(struct walk *w)
{
	return (double)(next_random(w) >> 11) / (double)(UINT64_C(1) << 53);
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b != 0) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static void zipf_begin(struct walk *w)
{
	double zeta2 = 1 + pow(0.5, THETA), n = (double)w->nr;
	struct zipf *z = &w->zipf;
	size_t i;

	z->zetan = 0;
	for (i = 1; i <= w->nr; i++)
		z->zetan += pow(1 / (double)i, THETA);
	z->alpha = 1 / (1 - THETA);
	z->eta = (1 - pow(2 / n, 1 - THETA)) / (1 - zeta2 / z->zetan);
	z->half = 1 + pow(0.5, THETA);
}

static size_t zipf_rank(struct walk *w)
{
	double u = next_fraction(w), uz = u * w->zipf.zetan;
	size_t rank;

	if (uz < 1)
		return 0;
	if (uz < w->zipf.half)
		return 1;
	rank = (size_t)((double)w->nr *
			pow(w->zipf.eta * u - w->zipf.eta + 1, w->zipf.alpha));
	return rank < w->nr ? rank : w->nr - 1;
}

void walk_begin(struct walk *w, enum order order, size_t first, size_t nr, uint64_t seed)
{
	*w = (struct walk){ .order = order, .first = first, .nr = nr,
			    .random = seed * 2 + 1 };
	/* The golden section, for those that are to be spread; each page comes by. */
	w->step = (uint64_t)((double)nr * 0.6180339887) | 1;
	while (common_divisor(w->step, nr) != 1)
		w->step += 2;
	if (order == ORDER_ZIPF)
		zipf_begin(w);
}

/* The pages 0, 9, 18 ... and then 1, 10, 19 ...; each once before any comes again. */
static size_t next_strided(struct walk *w)
{
	size_t at = w->at;

	w->at += STRIDE;
	if (w->at >= w->nr)
		w->at = (w->at % STRIDE + 1) % STRIDE % w->nr;
	return at;
}

static size_t next_sequential(struct walk *w)
{
	size_t at = w->at;

	w->at = at + 1 < w->nr ? at + 1 : 0;
	return at;
}

static size_t next_of_hot_set(struct walk *w)
{
	if (++w->touches % (HOT_TOUCHES + 1) == 0)
		return next_sequential(w);
	return (size_t)(next_random(w) % (w->nr / HOT_SHARE) * w->step % w->nr);
}

size_t walk_next(struct walk *w)
{
	switch (w->order) {
	case ORDER_SEQUENTIAL:
		return w->first + next_sequential(w);
	case ORDER_STRIDED:
		return w->first + next_strided(w);
	case ORDER_UNIFORM:
		return w->first + (size_t)(next_random(w) % w->nr);
	case ORDER_ZIPF:
		return w->first + (size_t)(zipf_rank(w) * w->step % w->nr);
	case ORDER_HOT_SET:
		return w->first + next_of_hot_set(w);
	}
	return w->first;
}
