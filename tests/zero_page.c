/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether memory that is only read has no page of its own. A kernel may have no page of
 * zeros for everybody (in some virtual machines, for one): then each gets memory.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "test.h"

#define PAGE ((size_t)4096)
/* Many more than the kernel may count late. */
#define PAGES ((size_t)8192)

static long resident_pages(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long size, resident;

	CHECK(f);
	CHECK_EQ(fscanf(f, "%ld %ld", &size, &resident), 2);
	fclose(f);
	return resident;
}

bool test_has_zero_page(void)
{
	volatile char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long before = resident_pages(), more;
	size_t i;

	CHECK(p != MAP_FAILED);
	madvise((void *)p, PAGES * PAGE, MADV_NOHUGEPAGE);
	for (i = 0; i < PAGES; i++)
		CHECK_EQ(p[i * PAGE], 0);
	more = resident_pages() - before;
	munmap((void *)p, PAGES * PAGE);
	return more < (long)PAGES / 2;
}
