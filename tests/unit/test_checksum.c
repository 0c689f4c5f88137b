/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksum of stored pages: the same by every set of instructions, and that of
 * xxHash 0.8 (XXH3, 64 bits).
 */
#include "tests/test.h"

#include "lib/checksum.h"

static void fill(unsigned char *bytes, size_t len)
{
	uint32_t x = 1;
	size_t i;

	for (i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		bytes[i] = (unsigned char)(x >> 24);
	}
}

TEST(it_is_xxh3)
{
	CHECK_EQ(uhmm_checksum("", 0), UINT64_C(0x2d06800538d394c2));
	CHECK_EQ(checksum_any("", 0), UINT64_C(0x2d06800538d394c2));
	CHECK_EQ(uhmm_checksum("uhmm", 4), UINT64_C(0xdf668290d557363e));
}

TEST(every_way_gives_the_same)
{
	static unsigned char bytes[3 * UHMM_PAGE_SIZE];
	size_t len;

	fill(bytes, sizeof(bytes));
	for (len = 0; len <= UHMM_PAGE_SIZE; len++) {
		const unsigned char *at = bytes + len % 64;

		CHECK_EQ(uhmm_checksum(at, len), checksum_any(at, len));
	}
	CHECK(uhmm_checksum(bytes, UHMM_PAGE_SIZE) !=
	      uhmm_checksum(bytes + 1, UHMM_PAGE_SIZE));
}

#ifdef __x86_64__
TEST(avx2_is_used_where_it_is)
{
	static unsigned char bytes[UHMM_PAGE_SIZE];

	if (!__builtin_cpu_supports("avx2"))
		SKIP("this processor has no AVX2");
	fill(bytes, sizeof(bytes));
	CHECK_EQ(checksum_avx2(bytes, sizeof(bytes)), checksum_any(bytes, sizeof(bytes)));
}
#endif
