/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How slow this machine is at what the tests do most: faults on fresh memory.
 *
 * Where the processor helps with page tables that is below USUAL_NS; under PVM (Linux
 * 6.18), which does them in software, it is 12 us and more. Everything that migrates,
 * forks or starts programs is as much slower there, and a limit that is there to end what
 * hangs has to be as much longer.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "pace.h"

#define PAGE ((size_t)4096)
#define PAGES ((size_t)1024)
/* The best of them: whoever else is there slows down the others. */
#define TIMES 5
/* What a machine may take that is not slow. */
#define USUAL_NS 3000u
#define PACE_MAX 8u

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Nanoseconds for a fault, or 0 where there is no memory to find out. */
static uint64_t fault_ns(void)
{
	volatile char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t start;
	size_t i;

	if (p == MAP_FAILED)
		return 0;
	madvise((void *)p, PAGES * PAGE, MADV_NOHUGEPAGE);
	start = now_ns();
	for (i = 0; i < PAGES; i++)
		p[i * PAGE] = 1;
	start = now_ns() - start;
	munmap((void *)p, PAGES * PAGE);
	return start / PAGES;
}

static uint64_t measured(void)
{
	uint64_t best = UINT64_MAX, ns;
	unsigned i;

	for (i = 0; i < TIMES; i++) {
		ns = fault_ns();
		best = ns < best ? ns : best;
	}
	return best / USUAL_NS;
}

unsigned test_pace(void)
{
	const char *given = getenv("TEST_PACE");
	static uint64_t pace;

	if (!pace) {
		pace = given ? strtoull(given, NULL, 10) : measured();
		pace = pace < 1 ? 1 : pace > PACE_MAX ? PACE_MAX : pace;
	}
	return (unsigned)pace;
}
