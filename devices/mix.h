/* SPDX-License-Identifier: Apache-2.0 */
/* What a layer for tests does at random, and the same in each run with the same seed. */
#ifndef UHMM_DEVICES_MIX_H
#define UHMM_DEVICES_MIX_H

#include <stdint.h>

/* Of the nr-th: the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
static inline uint64_t mix(uint64_t seed, uint64_t nr)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + nr;

	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

#endif
