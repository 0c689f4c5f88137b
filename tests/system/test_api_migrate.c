/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm_migrate(): what becomes of each kind of page, per page, and that its bytes stay.
 */
#include "api.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define NR 1024u

/* ---- there and back ---------------------------------------------------------------- */

static void there_and_back(uint32_t delivery, const char *spec)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *dev = api_device(space, spec);
	char *p = api_map(NR);
	struct uhmm_stats s;

	api_fill(p, NR, 1);
	api_move(space, p, NR, dev, UHMM_MOVED);
	CHECK_EQ(api_resident(p, NR), 0);
	s = api_stats(space);
	CHECK_EQ(s.now_device, NR);
	CHECK_EQ(s.stored, NR);
	CHECK_EQ(s.device_bytes_in, NR * PAGE);
	CHECK_GT(s.device_bytes_resident, 0);
	api_move(space, p, NR, dev, UHMM_ALREADY);
	/* Back by being asked, */
	api_move(space, p, NR / 2, NULL, UHMM_MOVED);
	CHECK_EQ(api_resident(p, NR), NR / 2);
	api_move(space, p, NR / 2, NULL, UHMM_ALREADY);
	/* and by being used, */
	api_check(p, NR, 1);
	CHECK_SOON(api_stats(space).now_device == 0);
	/* written as well as read. */
	api_move(space, p, NR, dev, UHMM_MOVED);
	api_fill(p, NR, 5000);
	api_move(space, p, NR, dev, UHMM_MOVED);
	api_check(p, NR, 5000);
	CHECK_SOON(api_stats(space).loaded == 3 * NR);
	s = api_stats(space);
	CHECK_EQ(s.stored, 3 * NR);
	CHECK_EQ(s.store_failed + s.load_failed + s.dropped, 0);
	api_destroy(space);
	api_check(p, NR, 5000);
}

API_TEST(pages_go_to_ram_and_come_back)
{
	there_and_back(delivery, "ram");
}

API_TEST(pages_go_to_lz4_and_come_back)
{
	there_and_back(delivery, "lz4");
}

API_TEST(pages_go_from_one_device_to_another)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	struct uhmm_device *lz4 = api_device(space, "lz4");
	char *p = api_map(NR);
	int i;

	api_fill(p, NR, 3);
	for (i = 0; i < 4; i++) {
		api_move(space, p, NR, i % 2 ? lz4 : ram, UHMM_MOVED);
		CHECK_EQ(api_stats(space).now_device, NR);
	}
	/* Not by way of memory. */
	CHECK_EQ(api_stats(space).isolated, NR);
	api_check(p, NR, 3);
	api_destroy(space);
}

API_TEST(whatever_malloc_gives_can_be_migrated, .timeout_s = 60)
{
	static const size_t sizes[] = { 24, 100, 3000, 5000, 40000, 300000, 5000000 };
	struct uhmm_space *space;
	struct uhmm_device *lz4;
	char *buf[700];
	size_t moved = 0, some, i, j;

	if (test_instrument())
		SKIP("a sanitizer's allocator keeps what its runtime needs among it");
	space = api_space(delivery, 0);
	lz4 = api_device(space, "lz4");
	for (i = 0; i < 700; i++) {
		buf[i] = malloc(sizes[i % 7]);
		CHECK(buf[i]);
		for (j = 0; j < sizes[i % 7]; j++)
			buf[i][j] = (char)mix64(i + j / 64);
	}
	for (i = 0; i < 700; i++) {
		CHECK_EQ(uhmm_migrate(space, buf[i], sizes[i % 7], lz4, NULL, &some), 0);
		CHECK_LE(some, sizes[i % 7] / PAGE);
		moved += some;
	}
	CHECK_GT(moved, 100 * (5000000 / PAGE - 1));
	for (i = 0; i < 700; i++) {
		for (j = 0; j < sizes[i % 7]; j++)
			CHECK(buf[i][j] == (char)mix64(i + j / 64), "%zu %zu", i, j);
		if (i % 3)
			free(buf[i]);
		else
			buf[i] = realloc(buf[i], sizes[i % 7] * 2);
	}
	for (i = 0; i < 700; i += 3) {
		for (j = 0; j < sizes[i % 7]; j++)
			CHECK(buf[i][j] == (char)mix64(i + j / 64), "%zu %zu", i, j);
		free(buf[i]);
	}
	api_destroy(space);
}

/* ---- ranges ------------------------------------------------------------------------ */

API_TEST(only_pages_entirely_inside_are_moved)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	uint8_t results[8];
	char *p = api_map(8);
	size_t moved = 99;

	api_fill(p, 8, 1);
	memset(results, 0xee, sizeof(results));
	CHECK_EQ(uhmm_migrate(space, p + 1, 4 * PAGE, ram, results, &moved), 0);
	CHECK_EQ(moved, 3);
	CHECK_EQ(api_count(results, 3, UHMM_MOVED), 3);
	CHECK_EQ(results[3], 0xee);
	CHECK_EQ(api_resident(p, 8), 5);
	CHECK_EQ(api_resident(p + PAGE, 3), 0);
	/* Not one whole page: nothing to do. */
	CHECK_EQ(uhmm_migrate(space, p + 5 * PAGE + 1, PAGE, ram, results, &moved), 0);
	CHECK_EQ(moved, 0);
	CHECK_EQ(uhmm_migrate(space, p + 5 * PAGE, PAGE - 1, ram, NULL, &moved), 0);
	CHECK_EQ(moved, 0);
	CHECK_EQ(api_resident(p, 8), 5);
	api_check(p, 8, 1);
	api_destroy(space);
}

API_TEST(ranges_and_devices_that_make_no_sense_are_refused)
{
	struct uhmm_space *space = api_space(delivery, 0),
			  *other = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	struct uhmm_device *theirs = api_device(other, "ram");
	char *p = api_map(8);
	size_t moved = 99;

	api_fill(p, 8, 1);
	CHECK_EQ(uhmm_migrate(space, p, 0, ram, NULL, &moved), -EINVAL);
	CHECK_EQ(uhmm_migrate(space, p, (size_t)0 - 1, ram, NULL, &moved), -EINVAL);
	CHECK_EQ(uhmm_migrate(space, (void *)~(uintptr_t)0, PAGE, NULL, NULL, &moved),
		 -EINVAL);
	CHECK_EQ(uhmm_migrate(space, p, PAGE, theirs, NULL, &moved), -EINVAL);
	CHECK_EQ(uhmm_migrate(space, p, PAGE, (struct uhmm_device *)p, NULL, &moved),
		 -EINVAL);
	CHECK_EQ(moved, 99);
	CHECK_EQ(uhmm_manage(space, p, 0), -EINVAL);
	CHECK_EQ(uhmm_manage(space, p + 1, PAGE), -EINVAL);
	CHECK_EQ(uhmm_unmanage(space, p, (size_t)0 - 1), -EINVAL);
	CHECK_EQ(uhmm_advise(space, p, 0, UHMM_ADVISE_PIN), -EINVAL);
	CHECK_EQ(uhmm_advise(space, p, PAGE, (enum uhmm_advice)0), -EINVAL);
	CHECK_EQ(uhmm_advise(space, p, PAGE, (enum uhmm_advice)5), -EINVAL);
	api_check(p, 8, 1);
	api_destroy(space);
	api_destroy(other);
}

API_TEST(what_is_not_mapped_is_passed_over)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(64);
	uint8_t results[80];
	size_t moved;

	api_fill(p, 64, 1);
	CHECK_EQ(munmap(p + 16 * PAGE, 8 * PAGE), 0);
	/* And beyond the end, where nothing can be read. */
	CHECK_EQ(uhmm_migrate(space, p, 80 * PAGE, ram, results, &moved), 0);
	CHECK_EQ(moved, 56);
	CHECK_EQ(api_count(results, 16, UHMM_MOVED), 16);
	CHECK_EQ(api_count(results + 16, 8, UHMM_UNMOVABLE), 8);
	CHECK_EQ(api_count(results + 24, 40, UHMM_MOVED), 40);
	CHECK_EQ(api_count(results + 64, 16, UHMM_MOVED), 0);
	CHECK_EQ(uhmm_migrate(space, p, 80 * PAGE, NULL, results, &moved), 0);
	CHECK_EQ(moved, 56);
	api_check(p, 16, 1);
	api_check(p + 24 * PAGE, 40, 25);
	api_destroy(space);
}

/* ---- kinds of pages ---------------------------------------------------------------- */

API_TEST(pages_never_written_are_holes_and_stay_zeros)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(64), zeros[PAGE] = { 0 };
	uint8_t results[64];
	size_t moved;
	int i;

	for (i = 0; i < 64; i += 2)
		api_fill(p + i * PAGE, 1, 1 + i);
	CHECK_EQ(uhmm_migrate(space, p, 64 * PAGE, ram, results, &moved), 0);
	CHECK_EQ(moved, 32);
	CHECK_EQ(api_count(results, 64, UHMM_HOLE), 32);
	for (i = 0; i < 64; i++) {
		CHECK_EQ(results[i], i % 2 ? UHMM_HOLE : UHMM_MOVED);
		if (i % 2)
			CHECK_MEM(p + i * PAGE, zeros, PAGE);
		else
			api_check(p + i * PAGE, 1, 1 + i);
	}
	api_destroy(space);
}

static char *map_file(int flags)
{
	char name[] = "/tmp/uhmm-api-XXXXXX";
	int fd = mkstemp(name), i;
	char page[PAGE], *p;

	CHECK(fd >= 0);
	unlink(name);
	for (i = 0; i < 16; i++) {
		stamp_fill(page, 1 + i);
		CHECK_EQ(write(fd, page, PAGE), PAGE);
	}
	p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
	CHECK(p != MAP_FAILED);
	close(fd);
	return p;
}

API_TEST(files_and_shared_memory_stay)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *shared = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *file = map_file(MAP_PRIVATE), *shared_file = map_file(MAP_SHARED);

	CHECK(shared != MAP_FAILED);
	api_fill(shared, 16, 1);
	api_fill(file, 8, 1); /* its own copies of these pages */
	api_move(space, shared, 16, ram, UHMM_UNMOVABLE);
	api_move(space, file, 16, ram, UHMM_UNMOVABLE);
	api_move(space, shared_file, 16, ram, UHMM_UNMOVABLE);
	api_check(shared, 16, 1);
	api_check(file, 16, 1);
	api_check(shared_file, 16, 1);
	api_destroy(space);
}

API_TEST(what_may_not_be_written_or_is_locked_stays)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(32);

	api_fill(p, 32, 1);
	CHECK_EQ(mprotect(p, 16 * PAGE, PROT_READ), 0);
	api_move(space, p, 16, ram, UHMM_UNMOVABLE);
	api_move(space, p + 16 * PAGE, 16, ram, UHMM_MOVED);
	CHECK_EQ(mprotect(p, 16 * PAGE, PROT_READ | PROT_WRITE), 0);
	api_move(space, p, 16, ram, UHMM_MOVED);
	/* For a system call: with inline delivery it cannot bring them in itself. */
	api_move(space, p, 8, NULL, UHMM_MOVED);
	/* Not by libc: a sanitizer makes nothing of that. */
	if (syscall(SYS_mlock, p, 8 * PAGE))
		SKIP("mlock: %s", strerror(errno));
	/* Locking has brought them in. */
	CHECK_EQ(api_resident(p, 8), 8);
	api_move(space, p, 8, ram, UHMM_UNMOVABLE);
	CHECK_EQ(syscall(SYS_munlock, p, 8 * PAGE), 0);
	api_move(space, p, 8, ram, UHMM_MOVED);
	api_check(p, 32, 1);
	api_destroy(space);
}

static int ring_with_buffer(void *p, size_t len)
{
	struct io_uring_params params = { 0 };
	struct iovec iov = { p, len };
	int fd = (int)syscall(SYS_io_uring_setup, 4, &params);

	if (fd < 0)
		SKIP("io_uring: %s", strerror(errno));
	if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1) < 0)
		SKIP("io_uring buffers: %s", strerror(errno));
	return fd;
}

API_TEST(what_the_kernel_has_pinned_stays)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(32);
	uint8_t results[32];
	size_t moved;
	int fd, tries;

	api_fill(p, 32, 1);
	fd = ring_with_buffer(p + 8 * PAGE, 8 * PAGE);
	CHECK_EQ(uhmm_migrate(space, p, 32 * PAGE, ram, results, &moved), 0);
	CHECK_EQ(moved, 24);
	CHECK_EQ(api_count(results + 8, 8, UHMM_PINNED), 8);
	CHECK_GE(api_stats(space).skip_pinned, 8);
	CHECK_EQ(api_resident(p + 8 * PAGE, 8), 8);
	close(fd);
	/* The ring lets go of them a little later. */
	for (moved = 0, tries = 0; moved < 8 && tries < 500; tries++) {
		size_t some = 0;

		usleep(10000);
		CHECK_EQ(uhmm_migrate(space, p + 8 * PAGE, 8 * PAGE, ram, NULL, &some),
			 0);
		moved += some;
	}
	CHECK_EQ(moved, 8);
	api_check(p, 32, 1);
	api_destroy(space);
}

/*
 * Which page is whose is looked at once some were refused; the zero page is nobody's, and
 * under a budget still to be made a hole.
 */
API_TEST(zero_pages_become_holes_though_others_are_pinned)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *zeros = api_map(2048), *p = api_map(32);
	int fd;
	size_t i;

	for (i = 0; i < 2048; i++)
		CHECK_EQ(*(volatile char *)(zeros + i * PAGE), 0);
	CHECK_EQ(api_resident(zeros, 2048), 2048);
	api_fill(p, 32, 1);
	fd = ring_with_buffer(p + 8 * PAGE, 8 * PAGE);
	CHECK_EQ(uhmm_migrate(space, p, 32 * PAGE, ram, NULL, NULL), 0);
	CHECK_GE(api_stats(space).skip_pinned, 8);
	CHECK_EQ(uhmm_manage(space, zeros, 2048 * PAGE), 0);
	CHECK_EQ(uhmm_budget_set(space, 1 << 20), 0);
	CHECK_SOON(api_resident(zeros, 2048) == 0);
	close(fd);
	api_destroy(space);
}

/* ---- folios ------------------------------------------------------------------------ */

API_TEST(a_huge_page_is_moved_as_one)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(4 * FOLIO_PAGES);

	api_fill_huge(p, 4 * FOLIO_PAGES, 1);
	api_move(space, p + FOLIO, 2 * FOLIO_PAGES, ram, UHMM_MOVED);
	CHECK_EQ(api_stats(space).isolated_folio, 2 * FOLIO_PAGES);
	/* Its neighbours are what they were. */
	CHECK_EQ(api_smaps_kib(p, "AnonHugePages:"), 2 * 2048);
	CHECK_EQ(api_resident(p + FOLIO, 2 * FOLIO_PAGES), 0);
	api_check(p, 4 * FOLIO_PAGES, 1);
	api_destroy(space);
}

/* Huge pages that khugepaged has made of small ones so far, of any process. */
static size_t collapsed(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_collapsed",
			"r");
	size_t nr = 0;

	if (f && fscanf(f, "%zu", &nr) != 1)
		nr = 0;
	if (f)
		fclose(f);
	return nr;
}

/*
 * Two huge pages are stored, something is done to them, and they come back: all but so
 * many small pages that were back before. So many are huge then; and those that the
 * kernel has made of small ones meanwhile.
 */
static void huge_again(struct uhmm_space *space, struct uhmm_device *dev,
		       void (*meanwhile)(char *p), size_t back, size_t least, size_t most)
{
	size_t nr = 2 * FOLIO_PAGES, moved = 0, before = collapsed(), huge;
	char *p = api_map(nr);

	api_fill_huge(p, nr, 1);
	api_move(space, p, nr, dev, UHMM_MOVED);
	CHECK_EQ(api_resident(p, nr), 0);
	if (meanwhile)
		meanwhile(p);
	CHECK_EQ(uhmm_migrate(space, p, nr * PAGE, NULL, NULL, &moved), 0);
	api_check(p, nr, 1);
	CHECK_EQ(moved, nr - back);
	huge = (size_t)api_smaps_kib(p, "AnonHugePages:") / 2048;
	CHECK_LE(least, huge);
	CHECK_LE(huge, most + (collapsed() - before));
	munmap(p, nr * PAGE);
}

static void touch_one(char *p)
{
	api_check(p + 7 * PAGE, 1, 8);
}

static void discard_one(char *p)
{
	CHECK_EQ(madvise(p + 7 * PAGE, PAGE, MADV_DONTNEED), 0);
	api_fill(p + 7 * PAGE, 1, 8);
}

static void protect_one(char *p)
{
	CHECK_EQ(mprotect(p + 7 * PAGE, PAGE, PROT_READ), 0);
}

API_TEST(a_huge_page_that_was_stored_comes_back_as_one)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *dev[2] = { api_device(space, "ram"),
				       api_device(space, "lz4") };
	unsigned i;

	for (i = 0; i < 4; i++) {
		huge_again(space, dev[i % 2], NULL, 0, 2, 2);
		CHECK_EQ(api_stats(space).now_device, 0);
	}
	huge_again(space, dev[0], touch_one, 1, 1, 1);
	huge_again(space, dev[0], discard_one, 1, 1, 1);
	huge_again(space, dev[0], protect_one, 0, 0, 1);
	CHECK_EQ(api_stats(space).now_device, 0);
	api_destroy(space);
}

API_TEST(small_pages_that_were_stored_come_back_as_such)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(FOLIO_PAGES);

	/* Stored as one, but then one by one. */
	api_fill_huge(p, FOLIO_PAGES, 1);
	api_move(space, p, FOLIO_PAGES, ram, UHMM_MOVED);
	api_check(p, FOLIO_PAGES, 1);
	api_move(space, p, FOLIO_PAGES, ram, UHMM_MOVED);
	api_move(space, p, FOLIO_PAGES, NULL, UHMM_MOVED);
	CHECK_EQ(api_smaps_kib(p, "AnonHugePages:"), 0);
	api_check(p, FOLIO_PAGES, 1);
	api_destroy(space);
}

API_TEST(a_huge_page_that_does_not_fit_stays_whole)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *small = api_device(space, "ram:size=1M");
	char *p = api_map(2 * FOLIO_PAGES);

	api_fill_huge(p, 2 * FOLIO_PAGES, 1);
	/* Moved out as one, refused by the device, moved back as one. */
	api_move(space, p, 2 * FOLIO_PAGES, small, UHMM_FULL);
	CHECK_EQ(api_stats(space).isolated_folio, 2 * FOLIO_PAGES);
	CHECK_GT(api_stats(space).store_failed, 0);
	CHECK_EQ(api_stats(space).now_device, 0);
	CHECK_EQ(api_smaps_kib(p, "AnonHugePages:"), 2 * 2048);
	api_check(p, 2 * FOLIO_PAGES, 1);
	api_destroy(space);
}

API_TEST(a_part_of_a_huge_page_is_moved_alone)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(2 * FOLIO_PAGES);

	api_fill_huge(p, 2 * FOLIO_PAGES, 1);
	api_move(space, p + 100 * PAGE, 50, ram, UHMM_MOVED);
	CHECK_EQ(api_stats(space).isolated_folio, 0);
	CHECK_EQ(api_smaps_kib(p, "AnonHugePages:"), 2048);
	CHECK_EQ(api_resident(p, 2 * FOLIO_PAGES), 2 * FOLIO_PAGES - 50);
	api_check(p, 2 * FOLIO_PAGES, 1);
	api_destroy(space);
}

/* Huge pages to and fro under threads that write them. */
struct stormer {
	pthread_t thread;
	char *p;
	uint32_t *stop;
	unsigned nr, slot;
};

static void *storm(void *arg)
{
	struct stormer *st = arg;
	struct rng rng = { st->slot };
	uint64_t *own = calloc(st->nr, sizeof(*own));

	CHECK(own);
	while (!__atomic_load_n(st->stop, __ATOMIC_RELAXED)) {
		unsigned i = (unsigned)rng_below(&rng, st->nr);
		volatile uint64_t *word = (volatile uint64_t *)(st->p + i * PAGE) +
					  st->slot;

		CHECK(*word == own[i], "page %u: 0x%jx, not 0x%jx", i, (uintmax_t)*word,
		      (uintmax_t)own[i]);
		if (rng_next(&rng) % 4 == 0)
			*word = own[i] = rng_next(&rng);
	}
	free(own);
	return NULL;
}

API_TEST(huge_pages_go_to_and_fro_under_writers, .timeout_s = 60)
{
	enum { FOLIOS = 4 };
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram");
	struct uhmm_device *small = api_device(space, "ram:size=3M");
	struct stormer st[2];
	uint32_t stop = 0;
	char *p = api_map(FOLIOS * FOLIO_PAGES);
	size_t folios = 0;
	int i, round;

	for (i = 0; i < 2; i++) {
		st[i] = (struct stormer){ .p = p,
					  .stop = &stop,
					  .slot = (unsigned)i + 1,
					  .nr = FOLIOS * FOLIO_PAGES };
		CHECK_EQ(pthread_create(&st[i].thread, NULL, storm, &st[i]), 0);
	}
	madvise(p, FOLIOS * FOLIO, MADV_HUGEPAGE);
	for (round = 0; round < (test_instrument() ? 10 : 40); round++) {
		CHECK_EQ(uhmm_migrate(space, p, FOLIOS * FOLIO, round % 3 ? ram : small,
				      NULL, NULL),
			 0);
		CHECK_EQ(uhmm_migrate(space, p, FOLIOS * FOLIO, NULL, NULL, NULL), 0);
		madvise(p, FOLIOS * FOLIO, MADV_COLLAPSE);
		folios = api_stats(space).isolated_folio;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		pthread_join(st[i].thread, NULL);
	api_destroy(space);
	if (!folios)
		SKIP("the kernel has no huge pages to give now");
}

/* ---- devices that are full --------------------------------------------------------- */

static void fill_up(uint32_t delivery, const char *spec)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *small = api_device(space, spec);
	char *p = api_map(NR);
	uint8_t results[NR];
	size_t moved, again;

	api_fill(p, NR, 1);
	CHECK_EQ(uhmm_migrate(space, p, NR * PAGE, small, results, &moved), 0);
	CHECK_GT(moved, 0);
	CHECK_LT(moved, NR);
	CHECK_EQ(api_count(results, NR, UHMM_MOVED), moved);
	CHECK_EQ(api_count(results, NR, UHMM_FULL), NR - moved);
	CHECK_EQ(api_resident(p, NR), NR - moved);
	CHECK_GE(api_stats(space).store_failed, NR - moved);
	/* lz4 has buffers on top, for each thread that compresses. */
	CHECK_LE(api_stats(space).device_bytes_resident, (1 << 20) + (256 << 10));
	api_check(p, NR, 1);
	/* Empty again, it takes as many as before. */
	CHECK_SOON(api_stats(space).now_device == 0);
	CHECK_EQ(uhmm_migrate(space, p, NR * PAGE, small, NULL, &again), 0);
	CHECK_GE(again, moved * 9 / 10);
	api_destroy(space);
	api_check(p, NR, 1);
}

API_TEST(a_full_ram_device_takes_what_it_can)
{
	fill_up(delivery, "ram:size=1M");
}

API_TEST(a_full_lz4_device_takes_what_it_can)
{
	fill_up(delivery, "lz4:size=1M");
}
