/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled for processors that have AVX2. */
#include "lib/checksum.h"

#ifdef __x86_64__
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t checksum_avx2(const void *buf, size_t len)
{
	return XXH3_64bits(buf, len);
}
#endif
