/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See checksum.h. Which one it is is looked up by who asks first: a program that migrates
 * nothing does not pay for cpuid, which a virtual machine's host answers.
 */
#include "lib/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t checksum_any(const void *buf, size_t len)
{
	return XXH3_64bits(buf, len);
}

#ifdef __x86_64__
#include <cpuid.h>

/* What the kernel saves when it takes a thread off its processor: XCR0. */
static uint64_t saved_state(void)
{
	uint32_t low, high;

	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

static bool has_avx2(void)
{
	const uint64_t registers = 0x6; /* the lower and the upper half of 256 bits */
	uint32_t a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) ||
	    (saved_state() & registers) != registers)
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_AVX2;
}

uint64_t uhmm_checksum(const void *buf, size_t len)
{
	enum { UNKNOWN, NO, YES };
	static int avx2;
	int known = __atomic_load_n(&avx2, __ATOMIC_RELAXED);

	if (known == UNKNOWN) {
		known = has_avx2() ? YES : NO;
		__atomic_store_n(&avx2, known, __ATOMIC_RELAXED);
	}
	return known == YES ? checksum_avx2(buf, len) : checksum_any(buf, len);
}
#else
uint64_t uhmm_checksum(const void *buf, size_t len)
{
	return checksum_any(buf, len);
}
#endif
