/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of pages for tests of devices: a kind and a seed give the same bytes each
 * time.
 */
#ifndef TESTS_CONTENT_H
#define TESTS_CONTENT_H

#include <stdint.h>

#include "uhmm/device.h"

enum content_kind {
	CONTENT_ZERO,
	CONTENT_SAME,
	CONTENT_SAME_BYTE,
	CONTENT_NEARLY_SAME,
	CONTENT_LAST_BYTE,
	CONTENT_PERIOD_16,
	CONTENT_RANDOM,
	CONTENT_HALF_RANDOM,
	CONTENT_MOSTLY_RANDOM,
	CONTENT_SPARSE,
	CONTENT_TEXT,
	CONTENT_STRUCTURES,
	CONTENT_KINDS,
};

uint64_t content_mix(uint64_t x);
/* kind is taken modulo CONTENT_KINDS. */
void content_fill(void *page, unsigned kind, uint64_t seed);

#endif
