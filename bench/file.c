/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the device `file` is: pages of random bytes are stored one after the other in
 * batches of 64, and loaded in batches of 16 in random order. file.py puts that beside
 * fio.
 *
 * Prints megabytes a second (10^6 bytes):
 *
 *	store 1234.5
 *	load 345.6
 *
 * usage: bench-file DIRECTORY [MiB [LOADS]]: 512, and 16384 pages
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <uhmm/device.h>
#include <uhmm/uhmm.h>

#define PAGE ((size_t)UHMM_PAGE_SIZE)
#define STORED 64u
#define LOADED 16u
/* Pages of different contents: each is stored many times. */
#define CONTENTS 1024u

static char *pages;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	return x ^= x << 17;
}

static void completed(struct uhmm_batch *batch)
{
	*(int *)batch->cookie = 1;
}

static void run(struct uhmm_device *device, enum uhmm_op op, struct uhmm_io *io,
		uint32_t nr)
{
	int done = 0;
	struct uhmm_batch batch = {
		.op = op, .nr = nr, .io = io, .complete = completed, .cookie = &done
	};
	uint32_t i;

	uhmm_device_submit(device, &batch);
	if (!done)
		errx(1, "a batch has not completed at once");
	for (i = 0; i < nr; i++)
		if (io[i].result)
			errx(1, "a page failed: %s", strerror(-io[i].result));
}

static char *content(uint64_t page)
{
	return pages + page % CONTENTS * PAGE;
}

static double store(struct uhmm_device *device, uint64_t *number, size_t nr)
{
	struct uhmm_io io[STORED];
	double start = now();
	size_t at, i;

	for (at = 0; at < nr; at += STORED) {
		for (i = 0; i < STORED; i++)
			io[i] = (struct uhmm_io){ .buf = content(at + i), .len = PAGE };
		run(device, UHMM_OP_STORE, io, STORED);
		for (i = 0; i < STORED; i++)
			number[at + i] = io[i].page;
	}
	return now() - start;
}

static double load(struct uhmm_device *device, const uint64_t *number, size_t nr,
		   size_t loads, char *to)
{
	struct uhmm_io io[LOADED];
	uint64_t which[LOADED];
	double took = 0, start;
	size_t at, i;

	for (at = 0; at < loads; at += LOADED) {
		for (i = 0; i < LOADED; i++) {
			which[i] = next_random() % nr;
			io[i] = (struct uhmm_io){ .page = number[which[i]],
						  .buf = to + i * PAGE,
						  .len = PAGE };
		}
		start = now();
		run(device, UHMM_OP_LOAD, io, LOADED);
		took += now() - start;
		for (i = 0; i < LOADED; i++)
			if (memcmp(io[i].buf, content(which[i]), PAGE) != 0)
				errx(3, "a page came back wrong");
	}
	return took;
}

int main(int argc, char **argv)
{
	size_t nr = (argc > 2 ? strtoul(argv[2], NULL, 10) : 512) * 256, i;
	size_t loads = argc > 3 ? strtoul(argv[3], NULL, 10) : 16384;
	struct uhmm_space *space;
	struct uhmm_device *device;
	uint64_t *number = calloc(nr ? nr : 1, sizeof(*number));
	char spec[1024], *to;

	if (argc < 2 || argc > 4 || !nr || !loads || !number)
		errx(2, "usage: bench-file DIRECTORY [MiB [LOADS]]");
	snprintf(spec, sizeof(spec), "file:%s", argv[1]);
	if (uhmm_space_create(NULL, &space))
		errx(1, "no space: see uhmm doctor");
	if (uhmm_device_open(space, spec, &device))
		errx(1, "%s", uhmm_strerror_spec());
	pages = aligned_alloc(PAGE, CONTENTS * PAGE);
	to = aligned_alloc(PAGE, LOADED * PAGE);
	if (!pages || !to)
		err(1, "memory");
	for (i = 0; i < CONTENTS * PAGE / sizeof(uint64_t); i++)
		((uint64_t *)pages)[i] = next_random();
	printf("store %.1f\n", (double)(nr * PAGE) / 1e6 / store(device, number, nr));
	printf("load %.1f\n",
	       (double)(loads * PAGE) / 1e6 / load(device, number, nr, loads, to));
	uhmm_device_close(space, device);
	uhmm_space_destroy(space);
	return 0;
}
