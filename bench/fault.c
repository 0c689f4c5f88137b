/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a page costs: on the way to a device, and when it is touched there, one by one in
 * random and in sequential order. Microseconds a page, and how many times the cost of
 * copying a page from memory, measured in the same run: machines differ and are shared,
 * ratios less so.
 *
 * Best of ROUNDS, as what disturbs a measurement only ever makes it longer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <uhmm/device.h>
#include <uhmm/uhmm.h>

#define NR_PAGES 8192u
#define LEN ((size_t)NR_PAGES * UHMM_PAGE_SIZE)
#define ROUNDS 3

static volatile char sink;

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static char *map_pages(void)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	if (p == MAP_FAILED)
		exit(1);
	/* Small pages: what is measured is one of them. */
	madvise(p, LEN, MADV_NOHUGEPAGE);
	return p;
}

/* Half of each page is noise, half is text: compressible about 2 to 1. */
static void fill(char *pages)
{
	uint64_t x = 1;
	size_t i;

	for (i = 0; i < LEN; i += sizeof(x)) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		memcpy(pages + i, i / 512 % 2 ? "a page. " : (char *)&x, sizeof(x));
	}
}

static void shuffle(uint32_t *order)
{
	uint32_t i, j, swap;

	for (i = 0; i < NR_PAGES; i++)
		order[i] = i;
	for (i = NR_PAGES - 1; i > 0; i--) {
		j = (uint32_t)random() % (i + 1);
		swap = order[i];
		order[i] = order[j];
		order[j] = swap;
	}
}

static double copy_us(const char *from, char *to)
{
	double start = now_us();
	uint32_t i;

	for (i = 0; i < NR_PAGES; i++)
		memcpy(to + (size_t)i * UHMM_PAGE_SIZE, from + (size_t)i * UHMM_PAGE_SIZE,
		       UHMM_PAGE_SIZE);
	return (now_us() - start) / NR_PAGES;
}

static double touch_us(const char *pages, const uint32_t *order)
{
	double start = now_us();
	uint32_t i;

	for (i = 0; i < NR_PAGES; i++)
		sink = pages[(size_t)(order ? order[i] : i) * UHMM_PAGE_SIZE];
	return (now_us() - start) / NR_PAGES;
}

static void keep_least(double *least, double value)
{
	if (*least == 0 || value < *least)
		*least = value;
}

/* Moves all pages out; microseconds a page. */
static double migrate_us(struct uhmm_space *space, char *pages,
			 struct uhmm_device *device)
{
	double start = now_us();
	size_t moved = 0;

	if (uhmm_migrate(space, pages, LEN, device, NULL, &moved) || moved != NR_PAGES) {
		fprintf(stderr, "only %zu of %u pages migrated\n", moved, NR_PAGES);
		exit(1);
	}
	return (now_us() - start) / NR_PAGES;
}

static void measure(const char *name, enum uhmm_delivery delivery, const char *spec,
		    double copy)
{
	struct uhmm_space_config config = { .size = sizeof(config),
					    .delivery = delivery };
	double out = 0, apart = 0, in_order = 0;
	static uint32_t order[NR_PAGES];
	struct uhmm_device *device;
	struct uhmm_space *space;
	char *pages = map_pages();
	int error, i;

	error = uhmm_space_create(&config, &space);
	if (error) {
		printf("%-7s %-5s cannot create a space: %s\n", name, spec,
		       strerror(-error));
		munmap(pages, LEN);
		return;
	}
	if (uhmm_device_open(space, spec, &device))
		exit(1);
	fill(pages);
	for (i = 0; i < ROUNDS; i++) {
		shuffle(order);
		keep_least(&out, migrate_us(space, pages, device));
		keep_least(&apart, touch_us(pages, order));
		keep_least(&out, migrate_us(space, pages, device));
		keep_least(&in_order, touch_us(pages, NULL));
	}
	printf("%-7s %-5s %8.2f (%5.1f) %8.2f (%5.1f) %8.2f (%5.1f)\n", name, spec, out,
	       out / copy, apart, apart / copy, in_order, in_order / copy);
	munmap(pages, LEN);
	uhmm_space_destroy(space);
}

int main(void)
{
	char *from = map_pages(), *to = map_pages();
	double copy = 0;
	int i;

	fill(from);
	fill(to);
	for (i = 0; i < ROUNDS; i++)
		keep_least(&copy, copy_us(from, to));
	munmap(from, LEN);
	munmap(to, LEN);
	printf("microseconds a page (times a copy, %.2f)\n", copy);
	printf("faults  to          migrate    touch, random   touch, in order\n");
	measure("thread", UHMM_DELIVERY_THREAD, "ram", copy);
	measure("thread", UHMM_DELIVERY_THREAD, "lz4", copy);
	measure("inline", UHMM_DELIVERY_INLINE, "ram", copy);
	measure("inline", UHMM_DELIVERY_INLINE, "lz4", copy);
	return 0;
}
