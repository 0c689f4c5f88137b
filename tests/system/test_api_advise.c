/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm_advise(): cold, will need, pins; and what becomes of pages whose device has lost
 * them, which is said by every function that meets one.
 */
#include "api.h"

#include <fcntl.h>

#define NR 256u

/* ---- advice ------------------------------------------------------------------------ */

API_TEST(cold_pages_go_and_needed_ones_come)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *lz4;
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	CHECK_EQ(uhmm_advise(space, p, NR * PAGE, UHMM_ADVISE_COLD), -ENODEV);
	lz4 = api_device(space, "lz4");
	api_device(space, "ram");
	CHECK_EQ(uhmm_advise(space, p, NR * PAGE, UHMM_ADVISE_COLD), 0);
	CHECK_EQ(api_resident(p, NR), 0);
	/* To the first device. */
	api_move(space, p, NR, lz4, UHMM_ALREADY);
	/* Every page that the range touches. */
	CHECK_EQ(uhmm_advise(space, p + 10 * PAGE - 1, 2, UHMM_ADVISE_WILLNEED), 0);
	CHECK_EQ(api_resident(p + 9 * PAGE, 2), 2);
	CHECK_EQ(api_resident(p, NR), 2);
	CHECK_EQ(uhmm_advise(space, p, NR * PAGE, UHMM_ADVISE_WILLNEED), 0);
	CHECK_EQ(api_resident(p, NR), NR);
	CHECK_EQ(api_stats(space).fault_device, 0);
	/* Cold, only those entirely inside. */
	CHECK_EQ(uhmm_advise(space, p + 1, 2 * PAGE, UHMM_ADVISE_COLD), 0);
	CHECK_EQ(api_resident(p, NR), NR - 1);
	api_check(p, NR, 1);
	api_destroy(space);
}

API_TEST(pins_are_counted)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	api_move(space, p, NR, ram, UHMM_MOVED);
	CHECK_EQ(uhmm_advise(space, p, 16 * PAGE, UHMM_ADVISE_PIN), 0);
	CHECK_EQ(api_resident(p, NR), 16);
	CHECK_EQ(uhmm_advise(space, p + 8 * PAGE, 16 * PAGE, UHMM_ADVISE_PIN), 0);
	api_move(space, p, 24, ram, UHMM_PINNED);
	CHECK_EQ(uhmm_advise(space, p, NR * PAGE, UHMM_ADVISE_COLD), 0);
	CHECK_EQ(api_resident(p, NR), 24);
	/* Some of these are not pinned: nothing changes. */
	CHECK_EQ(uhmm_advise(space, p, 25 * PAGE, UHMM_ADVISE_UNPIN), -EINVAL);
	api_move(space, p, 24, ram, UHMM_PINNED);
	CHECK_EQ(uhmm_advise(space, p, 16 * PAGE, UHMM_ADVISE_UNPIN), 0);
	api_move(space, p, 8, ram, UHMM_MOVED);
	api_move(space, p + 8 * PAGE, 16, ram, UHMM_PINNED);
	CHECK_EQ(uhmm_advise(space, p + 8 * PAGE, 16 * PAGE, UHMM_ADVISE_UNPIN), 0);
	api_move(space, p + 8 * PAGE, 16, ram, UHMM_MOVED);
	CHECK_EQ(uhmm_advise(space, p, PAGE, UHMM_ADVISE_UNPIN), -EINVAL);
	api_check(p, NR, 1);
	api_destroy(space);
}

API_TEST(a_page_can_be_pinned_only_so_often)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(2);
	int i;

	api_fill(p, 2, 1);
	for (i = 0; i < 65535; i++)
		CHECK_EQ(uhmm_advise(space, p + PAGE, PAGE, UHMM_ADVISE_PIN), 0);
	CHECK_EQ(uhmm_advise(space, p, 2 * PAGE, UHMM_ADVISE_PIN), -EOVERFLOW);
	/* The first page's was undone. */
	api_move(space, p, 1, ram, UHMM_MOVED);
	for (i = 0; i < 65535; i++)
		CHECK_EQ(uhmm_advise(space, p + PAGE, PAGE, UHMM_ADVISE_UNPIN), 0);
	CHECK_EQ(uhmm_advise(space, p + PAGE, PAGE, UHMM_ADVISE_UNPIN), -EINVAL);
	api_move(space, p + PAGE, 1, ram, UHMM_MOVED);
	api_check(p, 2, 1);
	api_destroy(space);
}

API_TEST(pins_follow_mremap_and_end_with_munmap)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(32), *there = api_map(32), *q;

	api_fill(p, 32, 1);
	/* So that it is registered. */
	api_move(space, p, 32, ram, UHMM_MOVED);
	CHECK_EQ(uhmm_advise(space, p, 16 * PAGE, UHMM_ADVISE_PIN), 0);
	q = mremap(p, 32 * PAGE, 32 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, there);
	CHECK_EQ((void *)q, (void *)there);
	api_move(space, q, 16, ram, UHMM_PINNED);
	CHECK_EQ(uhmm_advise(space, q, 8 * PAGE, UHMM_ADVISE_UNPIN), 0);
	api_move(space, q, 8, ram, UHMM_MOVED);
	CHECK(mmap(q, 32 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == q);
	api_fill(q, 32, 500);
	api_move(space, q, 32, ram, UHMM_MOVED);
	api_check(q, 32, 500);
	CHECK_EQ(uhmm_advise(space, q + 8 * PAGE, PAGE, UHMM_ADVISE_UNPIN), -EINVAL);
	api_destroy(space);
}

/* ---- pages that were lost ---------------------------------------------------------- */

struct lost {
	struct uhmm_space *space;
	struct uhmm_device *dev;
	char *p; /* NR pages on the device, of which page LOST is lost */
};

#define LOST 5u
#define KEY UINT64_C(0x777000)

/* Changes a byte of each page in memory of this mapping that holds these bytes. */
static unsigned spoil(uintptr_t start, uintptr_t end, int pagemap, const char *bytes)
{
	uint64_t bits[512];
	unsigned found = 0;

	while (start < end) {
		size_t nr = (end - start) / PAGE < 512 ? (end - start) / PAGE : 512, i;

		if (pread(pagemap, bits, nr * sizeof(bits[0]),
			  (off_t)(start / PAGE * sizeof(bits[0]))) <= 0)
			return found;
		for (i = 0; i < nr; i++) {
			volatile char *page = (char *)start + i * PAGE;

			if (!(bits[i] >> 63) || memcmp((char *)page, bytes, PAGE))
				continue;
			page[100] ^= 1;
			found++;
		}
		start += nr * PAGE;
	}
	return found;
}

/* The device of this process is a copy in its memory: it is found by its bytes. */
static struct lost lose(uint32_t delivery)
{
	struct lost l = { .space = api_space(delivery, 0), .p = api_map(NR) };
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	static char wanted[PAGE], line[512];
	unsigned found = 0, key;
	char perms[5];

	if (test_instrument())
		SKIP("a sanitizer's memory cannot be searched");
	l.dev = api_device(l.space, "ram");
	CHECK(pagemap >= 0 && maps);
	/* One that is not a single word all over: the device would keep no bytes. */
	for (key = 0; mix64(KEY + key + LOST) & 7; key++)
		;
	api_fill(l.p, NR, KEY + key);
	stamp_fill(wanted, KEY + key + LOST);
	api_move(l.space, l.p, NR, l.dev, UHMM_MOVED);
	while (fgets(line, sizeof(line), maps)) {
		CHECK_EQ(sscanf(line, "%lx-%lx %4s", &start, &end, perms), 3);
		if (!strcmp(perms, "rw-p") && !strchr(line, '/') && !strchr(line, '['))
			found += spoil(start, end, pagemap, wanted);
	}
	fclose(maps);
	close(pagemap);
	CHECK_GT(found, 0);
	return l;
}

API_TEST(a_lost_page_is_reported_and_the_others_are_not)
{
	struct lost l = lose(delivery);
	uint8_t results[NR];
	size_t moved;

	CHECK_EQ(uhmm_migrate(l.space, l.p, NR * PAGE, NULL, results, &moved), 0);
	CHECK_EQ(results[LOST], UHMM_LOST);
	CHECK_EQ(moved, NR - 1);
	CHECK_EQ(api_stats(l.space).load_failed, 1);
	/* It stays lost, and is not migrated again. */
	CHECK_EQ(uhmm_migrate(l.space, l.p, NR * PAGE, l.dev, results, &moved), 0);
	CHECK_EQ(results[LOST], UHMM_LOST);
	CHECK_EQ(moved, NR - 1);
	CHECK_EQ(uhmm_space_destroy(l.space), -EIO);
}

API_TEST(a_lost_page_cannot_be_pinned)
{
	struct lost l = lose(delivery);

	CHECK_EQ(uhmm_advise(l.space, l.p, NR * PAGE, UHMM_ADVISE_PIN), -EIO);
	/* No pin is left. */
	CHECK_EQ(uhmm_advise(l.space, l.p, PAGE, UHMM_ADVISE_UNPIN), -EINVAL);
	CHECK_EQ(uhmm_advise(l.space, l.p + (NR - 1) * PAGE, PAGE, UHMM_ADVISE_UNPIN),
		 -EINVAL);
	api_move(l.space, l.p, LOST, l.dev, UHMM_MOVED);
	/* What is mapped anew is not lost. */
	CHECK_EQ(madvise(l.p + LOST * PAGE, PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(l.p[LOST * PAGE], 0);
	api_move(l.space, l.p + LOST * PAGE, 1, l.dev, UHMM_MOVED);
	CHECK_EQ(uhmm_space_destroy(l.space), 0);
}

API_TEST(a_device_that_lost_a_page_says_so_when_it_is_closed)
{
	struct lost l = lose(delivery);

	CHECK_EQ(uhmm_device_close(l.space, l.dev), -EIO);
	CHECK_EQ(api_resident(l.p, LOST), LOST);
	CHECK_EQ(uhmm_device_close(l.space, l.dev), -EINVAL);
	CHECK_EQ(uhmm_space_destroy(l.space), -EIO);
}

API_TEST(to_touch_a_lost_page_is_a_bus_error, .signal = SIGBUS)
{
	struct lost l = lose(delivery);

	(void)*(volatile char *)(l.p + LOST * PAGE);
}

API_TEST(a_lost_page_stays_lost_when_the_space_is_gone, .signal = SIGBUS)
{
	struct lost l = lose(delivery);

	CHECK_EQ(uhmm_space_destroy(l.space), -EIO);
	(void)*(volatile char *)(l.p + (LOST - 1) * PAGE);
	(void)*(volatile char *)(l.p + LOST * PAGE);
}
