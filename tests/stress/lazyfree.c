/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lazyfree [-m MIB] [-n ROUNDS]: memory that is marked free and taken by the kernel.
 *
 * MADV_FREE lets the kernel take pages as long as they are not written to, and it may do
 * so when they have been moved elsewhere. Each round marks half of MIB free, uses the
 * other half so that the first goes cold, and asks the kernel to take what it may of all
 * private memory of the process (MADV_PAGEOUT), wherever it is now. Then each page of the
 * first half must be as it was, or zeros; each of the other as it was. Prints the same
 * however many were taken; ends with 1 at the first wrong page.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stamp.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static unsigned char *map(size_t len)
{
	unsigned char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("lazyfree: mmap");
		exit(1);
	}
	return p;
}

static void fill(unsigned char *p, size_t len, unsigned char byte)
{
	for (size_t at = 0; at < len; at += PAGE)
		memset(p + at, byte, 512);
}

static void check(const unsigned char *p, size_t len, unsigned char byte, int or_zero)
{
	for (size_t at = 0; at < len; at += PAGE) {
		unsigned char found = *(const volatile unsigned char *)(p + at);

		if (found == byte || (or_zero && found == 0))
			continue;
		fprintf(stderr, "lazyfree: page %zu of %s: %u instead of %u\n", at / PAGE,
			or_zero ? "those marked free" : "those in use", found, byte);
		exit(1);
	}
}

/* Ranges that cannot be paged out are refused; that is fine. */
static void take_what_may_be_taken(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end;
	char line[4200], perms[5];

	if (!maps) {
		perror("lazyfree: /proc/self/maps");
		exit(1);
	}
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) == 3 &&
		    perms[1] == 'w' && perms[3] == 'p')
			madvise((void *)start, end - start, MADV_PAGEOUT);
	fclose(maps);
}

int main(int argc, char **argv)
{
	size_t len = (size_t)96 << 19;
	unsigned char *free_p, *used;
	unsigned round, nr = 3;
	int opt;

	while ((opt = getopt(argc, argv, "m:n:")) != -1) {
		if (opt == 'm')
			len = strtoul(optarg, NULL, 0) << 19;
		else if (opt == 'n')
			nr = (unsigned)strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	free_p = map(len);
	used = map(len);
	for (round = 1; round <= nr; round++) {
		fill(free_p, len, (unsigned char)round);
		fill(used, len, (unsigned char)round);
		check(free_p, len, (unsigned char)round, 0);
		if (madvise(free_p, len, MADV_FREE)) {
			perror("lazyfree: MADV_FREE");
			return 1;
		}
		/* Longer than uhmm waits for pages to go that were announced to go. */
		usleep(1200000);
		fill(used, len, (unsigned char)(round + 1));
		take_what_may_be_taken();
		check(free_p, len, (unsigned char)round, 1);
		check(used, len, (unsigned char)(round + 1), 0);
	}
	printf("%u rounds\n", nr);
	return 0;
}
