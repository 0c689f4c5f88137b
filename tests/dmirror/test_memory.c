/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device does with the program's memory, and what the program does with memory
 * that a device has.
 */
#include "dm.h"

#include <fcntl.h>
#include <pthread.h>
#include <time.h>

#define NR 256u

/* ---- there and back --------------------------------------------------------------- */

DM_TEST(pages_go_to_the_device_and_come_back)
{
	int fd = dm_open(number);
	char *p = dm_map(NR);

	dm_fill(p, NR, 1);
	dm_snapshot(fd, p, NR, DMIRROR_PROT_WRITE);
	dm_to_dev(fd, p, NR, 1);
	dm_snapshot(fd, p, NR, dm_local(number));
	dm_to_dev(fd, p, NR, 1); /* they are there */
	dm_to_sys(fd, p, NR, NR);
	dm_snapshot(fd, p, NR, DMIRROR_PROT_WRITE);
	dm_to_sys(fd, p, NR, 0);
	dm_check(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	dm_check(p, NR, 1);
}

TEST(what_is_touched_leaves_a_private_device)
{
	int fd = dm_open(PRIVATE);
	char *p = dm_map(NR);

	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	CHECK_EQ(dm_smaps_kib(p, "Rss:"), 0);
	CHECK_EQ(((volatile char *)p)[17 * PAGE], p[17 * PAGE]);
	dm_snapshot(fd, p + 17 * PAGE, 1, DMIRROR_PROT_WRITE);
	dm_snapshot(fd, p + 200 * PAGE, 1, dm_local(PRIVATE));
	dm_to_dev(fd, p, NR, 1);
	CHECK_EQ(dm_smaps_kib(p, "Rss:"), 0);
}

TEST(what_is_touched_stays_on_a_coherent_device)
{
	int fd = dm_open(COHERENT);
	char *p = dm_map(NR);

	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	dm_check(p, NR, 1);
	dm_fill(p, NR, 2);
	dm_snapshot(fd, p, NR, dm_local(COHERENT));
	dm_to_sys(fd, p, NR, NR);
	dm_check(p, NR, 2);
}

DM_TEST(the_device_writes)
{
	int fd = dm_open(number);
	char *p = dm_map(NR), *q = dm_map(NR);

	/* Fresh memory, memory of the program, and what is on the device. */
	dm_fill(q, NR, 1);
	dm_write(fd, p, q, NR, 1);
	dm_check(p, NR, 1);
	dm_fill(q, NR, 100);
	dm_write(fd, p, q, NR, 0);
	dm_check(p, NR, 100);
	dm_to_dev(fd, p, NR, 100);
	dm_fill(q, NR, 300);
	dm_write(fd, p, q, NR, 0);
	dm_snapshot(fd, p, NR, dm_local(number));
	dm_read(fd, p, q, NR, 0);
	dm_check(q, NR, 300);
	dm_check(p, NR, 300);
}

DM_TEST(what_was_never_written_goes_there_as_zeros)
{
	int fd = dm_open(number);
	char *p = dm_map(NR), *q = dm_map(NR);
	size_t i;

	CHECK_EQ(*(volatile char *)(p + PAGE), 0);
	dm_snapshot(fd, p + PAGE, 1,
		    test_has_zero_page() ? DMIRROR_PROT_READ | DMIRROR_PROT_ZERO :
					   DMIRROR_PROT_WRITE);
	dm_snapshot(fd, p + 2 * PAGE, 1, DMIRROR_PROT_NONE);
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, NR, NULL), 0);
	for (i = 0; i < NR; i++)
		dm_check(q + i * PAGE, 1, 0);
	dm_snapshot(fd, p, NR, dm_local(number));
	p[5 * PAGE] = 7;
	CHECK_EQ(p[5 * PAGE], 7);
	CHECK_EQ(p[6 * PAGE], 0);
}

DM_TEST(release_brings_back_what_any_file_has_put_there)
{
	int fd = dm_open(number), other = dm_open(number);
	char *p = dm_map(NR);

	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	CHECK_EQ(dm_call(other, DMIRROR_RELEASE, p, NULL, 1, NULL), 0);
	dm_snapshot(fd, p, NR, DMIRROR_PROT_WRITE);
	dm_check(p, NR, 1);
	/* Its memory is gone, and there is new when it is needed. */
	dm_to_dev(fd, p, NR, 1);
	dm_check(p, NR, 1);
}

/* ---- two files, two devices ------------------------------------------------------- */

DM_TEST(two_files_of_a_device_see_the_same)
{
	int fd = dm_open(number), other = dm_open(number);
	char *p = dm_map(NR), *q = dm_map(NR);

	dm_fill(p, NR, 1);
	dm_read(other, p, q, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	dm_read(other, p, q, NR, 1);
	dm_check(q, NR, 1);
	dm_snapshot(other, p, NR, dm_local(number));
	dm_fill(q, NR, 500);
	dm_write(other, p, q, NR, 0);
	dm_read(fd, p, q, NR, 0);
	dm_check(q, NR, 500);
	/* The other's table must not keep the pages of the device. */
	dm_to_sys(fd, p, NR, NR);
	dm_fill(p, NR, 900);
	dm_read(other, p, q, NR, 1);
	dm_check(q, NR, 900);
}

DM_TEST(a_device_does_not_take_from_another)
{
	int fd = dm_open(number), other = dm_open(number + 1);
	char *p = dm_map(NR), *q = dm_map(NR);

	dm_fill(p, NR, 1);
	dm_to_dev(other, p, NR, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, NR, NULL), -ENOENT);
	dm_to_sys(fd, p, NR, 0);
	dm_snapshot(fd, p, NR,
		    number == PRIVATE ?
			    DMIRROR_PROT_NONE :
			    DMIRROR_PROT_COHERENT_REMOTE | DMIRROR_PROT_WRITE);
	dm_snapshot(other, p, NR, dm_local(number));
	/* It can read there. */
	dm_read(fd, p, q, NR, 1);
	dm_check(q, NR, 1);
	dm_check(p, NR, 1);
}

/* ---- protection ------------------------------------------------------------------- */

DM_TEST(protection_holds_for_the_device)
{
	int fd = dm_open(number), round;
	char *p = dm_map(NR), *q = dm_map(NR);

	for (round = 0; round < 2; round++) {
		dm_fill(p, NR, 1);
		dm_fill(q, NR, 100);
		if (round)
			dm_to_dev(fd, p, NR, 1);
		dm_write(fd, p, q, NR, !round);
		CHECK_EQ(mprotect(p, NR * PAGE, PROT_READ), 0);
		/* As in the kernel: a private page is found, but not to be written. */
		CHECK_EQ(dm_call(fd, DMIRROR_WRITE, p, q, NR, NULL),
			 round && number == PRIVATE ? -EFAULT : -EPERM);
		dm_read(fd, p, q, NR, 1);
		dm_check(q, NR, 100);
		CHECK_EQ(mprotect(p, NR * PAGE, PROT_NONE), 0);
		dm_fill(q, NR, 200);
		CHECK_EQ(dm_call(fd, DMIRROR_READ, p, q, NR, NULL), -EFAULT);
		CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, NR, NULL), -EINVAL);
		dm_snapshot(fd, p, NR, DMIRROR_PROT_ERROR);
		dm_check(q, NR, 200);
		CHECK_EQ(mprotect(p, NR * PAGE, PROT_READ | PROT_WRITE), 0);
		dm_write(fd, p, q, NR, 1);
		dm_check(p, NR, 200);
	}
}

DM_TEST(memory_that_may_only_be_read_goes_there_and_back)
{
	int fd = dm_open(number);
	char *p = dm_map(NR);

	dm_fill(p, NR, 1);
	CHECK_EQ(mprotect(p, NR * PAGE, PROT_READ), 0);
	dm_to_dev(fd, p, NR, 1);
	dm_snapshot(fd, p, NR, dm_local(number) ^ DMIRROR_PROT_WRITE ^ DMIRROR_PROT_READ);
	dm_to_sys(fd, p, NR, NR);
	dm_snapshot(fd, p, NR, DMIRROR_PROT_READ);
	dm_check(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	dm_check(p, NR, 1);
}

/* ---- what the program does meanwhile ---------------------------------------------- */

DM_TEST(what_is_on_the_device_moves_with_mremap)
{
	int fd = dm_open(number);
	char *p = dm_map(NR), *to = dm_map(NR), *q = dm_map(NR);

	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	CHECK(mremap(p, NR * PAGE, NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	CHECK_EQ(dm_call(fd, DMIRROR_READ, p, q, NR, NULL), -EFAULT);
	dm_snapshot(fd, to, NR, dm_local(number));
	dm_read(fd, to, q, NR, 1);
	dm_check(q, NR, 1);
	dm_to_dev(fd, to, NR, 1);
	/* Half of it to where it was, and it shrinks. */
	CHECK(mremap(to, NR / 2 * PAGE, NR / 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     p) == p);
	CHECK(mremap(p, NR / 2 * PAGE, NR / 4 * PAGE, 0) == p);
	dm_to_sys(fd, p, NR / 4, NR / 4);
	dm_check(p, NR / 4, 1);
	dm_check(to + NR / 2 * PAGE, NR / 2, 1 + NR / 2);
}

static char *map_file(char *at, uint64_t key)
{
	int file = memfd_create("file", MFD_CLOEXEC);

	CHECK(file >= 0);
	CHECK_EQ(ftruncate(file, NR * PAGE), 0);
	CHECK(mmap(at, NR * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
		   0) == at);
	close(file);
	dm_fill(at, NR, key);
	return at;
}

/* A file over a file: the library hears nothing of either. */
DM_TEST(the_device_looks_anew_where_mremap_has_put_something)
{
	int fd = dm_open(number);
	char *p = map_file(dm_map(NR), 1), *to = map_file(dm_map(NR), 500);
	char *q = dm_map(NR);

	dm_read(fd, p, q, NR, 1);
	dm_read(fd, to, q, NR, 1);
	dm_check(q, NR, 500);
	CHECK(mremap(p, NR * PAGE, NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	dm_read(fd, to, q, NR, 1);
	dm_check(q, NR, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_READ, p, q, NR, NULL), -EFAULT);
}

DM_TEST(what_is_discarded_is_zeros_for_the_device_too)
{
	int fd = dm_open(number);
	char *p = dm_map(NR), *q = dm_map(NR);
	size_t i;

	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	dm_read(fd, p, q, NR, 0);
	CHECK_EQ(madvise(p, NR / 2 * PAGE, MADV_DONTNEED), 0);
	dm_read(fd, p, q, NR, 1);
	for (i = 0; i < NR / 2; i++)
		dm_check(q + i * PAGE, 1, 0);
	dm_check(q + i * PAGE, NR - i, 1 + i);
	dm_check(p + i * PAGE, NR - i, 1 + i);
}

DM_TEST(an_address_is_used_again)
{
	int fd = dm_open(number), i;
	char *p = dm_map(NR), *q = dm_map(NR);

	for (i = 0; i < 20; i++) {
		dm_fill(p, NR, 1 + i);
		dm_read(fd, p, q, NR, 1);
		dm_check(q, NR, 1 + i);
		if (i % 2)
			dm_to_dev(fd, p, NR, 1 + i);
		CHECK_EQ(munmap(p, NR * PAGE), 0);
		CHECK_EQ(dm_call(fd, DMIRROR_READ, p, q, NR, NULL), -EFAULT);
		CHECK(mmap(p, NR * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	}
}

/* ---- huge pages ------------------------------------------------------------------- */

static char *huge(size_t nr_folios)
{
	char *p = dm_map(nr_folios * 512);

	if (madvise(p, nr_folios * FOLIO, MADV_HUGEPAGE))
		SKIP("the kernel has no huge pages: %s", strerror(errno));
	return p;
}

DM_TEST(a_part_of_a_huge_page_is_unmapped)
{
	int fd = dm_open(number);
	char *p = huge(2), *q = dm_map(1024);

	dm_fill(p, 1024, 1);
	dm_to_dev(fd, p, 1024, 1);
	CHECK_EQ(munmap(p + 100 * PAGE, 200 * PAGE), 0);
	CHECK_EQ(dm_call(fd, DMIRROR_READ, p, q, 1024, NULL), -EFAULT);
	dm_read(fd, p, q, 100, 0);
	dm_check(q, 100, 1);
	dm_snapshot(fd, p + 300 * PAGE, 724, dm_local(number));
	dm_to_sys(fd, p, 100, 100);
	dm_check(p, 100, 1);
	dm_check(p + 300 * PAGE, 724, 301);
}

DM_TEST(huge_pages_in_part_and_in_whole)
{
	static const struct {
		size_t from, nr;
	} ranges[] = { { 0, 1024 }, { 0, 512 },   { 256, 512 }, { 511, 2 },
		       { 1, 1023 }, { 512, 512 }, { 700, 1 } };
	int fd = dm_open(number);
	char *p = huge(2);
	size_t i;

	for (i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		dm_fill(p, 1024, 1);
		dm_to_dev(fd, p + ranges[i].from * PAGE, ranges[i].nr,
			  1 + ranges[i].from);
		dm_check(p, 1024, 1);
		CHECK_EQ(madvise(p, 2 * FOLIO, MADV_DONTNEED), 0);
	}
}

DM_TEST(a_huge_page_of_zeros)
{
	int fd = dm_open(number);
	char *p = huge(1), *q = dm_map(512);
	size_t i;

	CHECK_EQ(*(volatile char *)(p + 77), 0);
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, 512, NULL), 0);
	for (i = 0; i < 512; i++)
		dm_check(q + i * PAGE, 1, 0);
	dm_fill(q, 512, 9);
	dm_write(fd, p, q, 512, 0);
	dm_check(p, 512, 9);
}

/* ---- the device has no room ------------------------------------------------------- */

DM_TEST(an_allocation_fails_once)
{
	int fd = dm_open(number);
	char *p = dm_map(NR), *q = dm_map(NR);
	unsigned char m[NR];
	size_t i, local = 0;

	dm_fill(p, NR, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_FLAGS, p, NULL, DMIRROR_FLAG_FAIL_ALLOC, NULL), 0);
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, NR, NULL), -ENOENT);
	CHECK_EQ(dm_call(fd, DMIRROR_SNAPSHOT, p, m, NR, NULL), 0);
	for (i = 0; i < NR; i++)
		local += m[i] == dm_local(number);
	CHECK_EQ(local, NR - 1);
	dm_to_dev(fd, p, NR, 1);
	/* And on the way back. */
	CHECK_EQ(dm_call(fd, DMIRROR_FLAGS, p, NULL, DMIRROR_FLAG_FAIL_ALLOC, NULL), 0);
	dm_to_sys(fd, p, NR, NR - 1);
	dm_to_sys(fd, p, NR, 1);
	dm_check(p, NR, 1);
}

DM_TEST(a_folio_that_cannot_be_had_goes_page_by_page)
{
	int fd = dm_open(number);
	char *p = huge(1);

	dm_fill(p, 512, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_FLAGS, p, NULL, DMIRROR_FLAG_FAIL_ALLOC, NULL), 0);
	dm_to_dev(fd, p, 512, 1);
	dm_snapshot(fd, p, 512, dm_local(number));
	dm_check(p, 512, 1);
}

/* ---- memory of other kinds -------------------------------------------------------- */

static int file(size_t nr)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char *page = malloc(PAGE);
	size_t i;

	if (fd < 0)
		SKIP("no file can be made in /tmp: %s", strerror(errno));
	for (i = 0; i < nr; i++) {
		stamp_fill(page, 1000 + i);
		CHECK_EQ(write(fd, page, PAGE), (ssize_t)PAGE);
	}
	free(page);
	return fd;
}

DM_TEST(shared_memory_is_mirrored_and_stays)
{
	int fd = dm_open(number), i;
	char *p[2], *q = dm_map(8);

	p[0] = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		    -1, 0);
	p[1] = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file(8), 0);
	for (i = 0; i < 2; i++) {
		CHECK(p[i] != MAP_FAILED);
		CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p[i], q, 8, NULL), -ENOENT);
		dm_fill(q, 8, 1);
		dm_write(fd, p[i], q, 8, 1);
		dm_check(p[i], 8, 1);
		dm_fill(p[i], 8, 2);
		dm_read(fd, p[i], q, 8, 0);
		dm_check(q, 8, 2);
		/* What the device has mirrored, it can read. */
		dm_to_dev(fd, p[i], 8, 2);
		dm_to_sys(fd, p[i], 8, 0);
		CHECK_EQ(munmap(p[i], 8 * PAGE), 0);
		CHECK_EQ(dm_call(fd, DMIRROR_READ, p[i], q, 8, NULL), -EFAULT);
	}
}

static void *rest(void *arg)
{
	(void)arg;
	pause();
	return NULL;
}

DM_TEST(written_pages_of_a_private_file_go_there)
{
	int fd = dm_open(number), source = file(16);
	char *p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, source, 0);
	char *q = dm_map(16);
	unsigned char m[16];
	pthread_t thread;

#if HAS_FEATURE(thread_sanitizer)
	SKIP("ThreadSanitizer has a thread of its own");
#endif
	CHECK(p != MAP_FAILED);
	dm_fill(p + 4 * PAGE, 8, 1);
	dm_check(p, 4, 1000);
	/* Those that were not written are the file's, and stay. */
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, 16, NULL), -ENOENT);
	CHECK_EQ(dm_call(fd, DMIRROR_SNAPSHOT, p, m, 16, NULL), 0);
	CHECK_EQ(m[3], DMIRROR_PROT_READ);
	CHECK_EQ(m[4], dm_local(number));
	CHECK_EQ(m[11], dm_local(number));
	dm_to_dev(fd, p + 4 * PAGE, 8, 1);
	dm_check(p + 4 * PAGE, 8, 1);
	dm_check(p + 12 * PAGE, 4, 1012);
	/* With another thread about, nobody can say that they are not being written. */
	CHECK_EQ(pthread_create(&thread, NULL, rest, NULL), 0);
	dm_fill(p, 2, 7);
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, 2, NULL), -ENOENT);
	dm_check(p, 2, 7);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
}

/* The thread's own stack is not taken from under it; other memory of the mapping is. */
static void *migrate_own_stack(void *arg)
{
	int fd = *(int *)arg;
	char here[64 * PAGE], *p, *q = dm_map(600);
	volatile char *at = here;
	size_t i;

	for (i = 0; i < sizeof(here); i += PAGE)
		at[i] = (char)(i / PAGE);
	p = (char *)((uintptr_t)here & ~(PAGE - 1)) - 500 * PAGE;
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, 500 + 64, NULL), -ENOENT);
	for (i = 0; i < sizeof(here); i += PAGE)
		CHECK_EQ(at[i], (char)(i / PAGE));
	return NULL;
}

DM_TEST(a_thread_migrates_its_own_stack)
{
	int fd = dm_open(number);
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, migrate_own_stack, &fd), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

DM_TEST(everything_that_is_mapped_is_tried)
{
	int fd = dm_open(number);
	struct {
		unsigned long start, end;
	} vma[256];
	char line[512], *heap = malloc(100 * PAGE);
	size_t nr = 0, i, page;
	char *q = dm_map(1);
	FILE *f = fopen("/proc/self/maps", "re");

	if (test_instrument())
		SKIP("%s has memory that every thread needs", test_instrument());
	CHECK(f && heap);
	dm_fill(heap, 100, 1);
	while (nr < 256 && fgets(line, sizeof(line), f))
		nr += sscanf(line, "%lx-%lx", &vma[nr].start, &vma[nr].end) == 2;
	fclose(f);
	/* A page after the other: not all may be read, and some are endless. */
	for (i = 0; i < nr; i++)
		for (page = vma[i].start;
		     page < vma[i].end && page < vma[i].start + FOLIO; page += PAGE)
			if (page != (uintptr_t)q)
				dm_call(fd, DMIRROR_MIGRATE_TO_DEV, (void *)page, q, 1,
					NULL);
	dm_check(heap, 100, 1);
	free(heap);
}

/* ---- exclusive access ------------------------------------------------------------- */

DM_TEST(exclusive_access_ends_when_the_program_touches)
{
	int fd = dm_open(number), other = dm_open(number + 1);
	char *p = dm_map(NR), *q = dm_map(NR);
	struct dmirror_cmd cmd;

	dm_fill(p, NR, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, p, q, NR, &cmd), 0);
	CHECK_EQ(cmd.cpages, NR);
	dm_check(q, NR, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_CHECK_EXCLUSIVE, p, NULL, NR, NULL), -EPERM);
	dm_snapshot(fd, p, NR, DMIRROR_PROT_NONE);
	dm_fill(p, NR / 2, 500);
	CHECK_EQ(dm_call(fd, DMIRROR_CHECK_EXCLUSIVE, p, NULL, NR / 2, NULL), 0);
	CHECK_EQ(dm_call(fd, DMIRROR_CHECK_EXCLUSIVE, p, NULL, NR, NULL), -EPERM);
	/* Another device is a toucher too. */
	dm_read(other, p, q, NR, 1);
	dm_check(q, NR / 2, 500);
	dm_check(q + NR / 2 * PAGE, NR / 2, 1 + NR / 2);
	CHECK_EQ(dm_call(fd, DMIRROR_CHECK_EXCLUSIVE, p, NULL, NR, NULL), 0);
	dm_check(p, NR / 2, 500);
}

/* What there can be of addresses is looked through at once. */
DM_TEST(exclusive_access_is_looked_for_everywhere)
{
	int fd = dm_open(number);
	char *p = dm_map(NR), *q = dm_map(NR), *first = (char *)PAGE;
	size_t all = ((size_t)1 << 52) - 2;

	CHECK_EQ(dm_call(fd, DMIRROR_CHECK_EXCLUSIVE, first, NULL, all, NULL), 0);
	dm_fill(p, NR, 1);
	dm_read(fd, p, q, NR, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, p + PAGE, q, 1, NULL), 0);
	CHECK_EQ(dm_call(fd, DMIRROR_CHECK_EXCLUSIVE, first, NULL, all, NULL), -EPERM);
	CHECK_EQ(dm_call(fd, DMIRROR_CHECK_EXCLUSIVE, p, NULL, 1, NULL), 0);
}

DM_TEST(exclusive_pages_go_to_the_device)
{
	int fd = dm_open(number);
	char *p = dm_map(NR), *q = dm_map(NR);

	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, p, q, NR, NULL), 0);
	dm_check(q, NR, 1);
	CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, p, q, NR, NULL), 0);
	dm_to_dev(fd, p, NR, 1);
	CHECK_EQ(madvise(p, PAGE, MADV_DONTNEED), 0);
	dm_check(p, 1, 0);
	dm_check(p + PAGE, NR - 1, 2);
}

DM_TEST(exclusive_access_needs_memory_that_can_be_written)
{
	int fd = dm_open(number);
	char *p = dm_map(2), *q = dm_map(2), *shared;

	dm_fill(p, 2, 1);
	CHECK_EQ(mprotect(p, 2 * PAGE, PROT_READ), 0);
	CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, p, q, 2, NULL), -EPERM);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	CHECK(shared != MAP_FAILED);
	CHECK_EQ(dm_call(fd, DMIRROR_EXCLUSIVE, shared, q, 1, NULL), -EOPNOTSUPP);
	dm_check(p, 2, 1);
}

/* ---- in bulk ---------------------------------------------------------------------- */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#define BULK ((size_t)64 << 20)

DM_TEST(a_lot_at_once)
{
	int fd = dm_open(number);
	size_t nr = BULK / PAGE;
	char *p = dm_map(nr), *q = dm_map(nr);
	double start, plain, out, back;

	dm_fill(p, nr, 1);
	memcpy(q, p, BULK);
	start = seconds();
	memcpy(q, p, BULK);
	plain = seconds() - start;
	start = seconds();
	CHECK_EQ(dm_call(fd, DMIRROR_MIGRATE_TO_DEV, p, q, nr, NULL), 0);
	out = seconds() - start;
	dm_check(q, nr, 1);
	start = seconds();
	dm_to_sys(fd, p, nr, nr);
	back = seconds() - start;
	dm_check(p, nr, 1);
	fprintf(stderr,
		"# 64 MiB: there %.0f times as long as memcpy(), back %.0f times\n",
		out / plain, back / plain);
}

/* ---- /proc/self/pagemap ----------------------------------------------------------- */

#define PM_PRESENT (UINT64_C(1) << 63)
#define PM_SWAP (UINT64_C(1) << 62)

TEST(pages_of_a_private_device_are_swapped_out_for_the_pagemap)
{
	int fd = dm_open(PRIVATE), pagemap = open("/proc/self/pagemap", O_RDONLY);
	uint64_t bits[NR];
	char *p = dm_map(NR);
	off_t offset = (off_t)((uintptr_t)p / PAGE * sizeof(bits[0]));
	size_t i;

	CHECK(pagemap >= 0);
	dm_fill(p, NR, 1);
	dm_to_dev(fd, p, NR / 2, 1);
	CHECK_EQ(pread(pagemap, bits, sizeof(bits), offset), sizeof(bits));
	for (i = 0; i < NR; i++)
		CHECK_EQ(bits[i] & (PM_PRESENT | PM_SWAP),
			 i < NR / 2 ? PM_SWAP : PM_PRESENT);
	CHECK_EQ(lseek(pagemap, offset, SEEK_SET), offset);
	dm_check(p, 1, 1);
	CHECK_EQ(read(pagemap, bits, 2 * sizeof(bits[0])), 2 * sizeof(bits[0]));
	CHECK_EQ(bits[0] & (PM_PRESENT | PM_SWAP), PM_PRESENT);
	CHECK_EQ(bits[1] & (PM_PRESENT | PM_SWAP), PM_SWAP);
	close(pagemap);
}
