/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of tiers share: counting pages, and looking at those that were stored. */
#ifndef TESTS_TIER_PAGES_H
#define TESTS_TIER_PAGES_H

#include "tests/device/subject.h"

/* More than two tiers of 1M have room for. */
#define MANY 2003u

static inline uint64_t pages_in(struct uhmm_device *dev, uint32_t tier)
{
	return stat_of(device_tier(dev, tier)).pages;
}

static inline uint64_t pages_in_all(struct uhmm_device *dev)
{
	uint64_t pages = 0;
	uint32_t i;

	for (i = 0; device_tier(dev, i); i++)
		pages += pages_in(dev, i);
	return pages;
}

static inline void load_stored(struct uhmm_device *dev, struct buffers *b,
			       struct page *pages, uint32_t nr)
{
	struct page *batch[1];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		batch[0] = &pages[i];
		if (pages[i].stored)
			load(dev, b, batch, 1);
	}
}

#endif
