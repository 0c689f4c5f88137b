/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm_range_fault(): what a device may map, of memory of every kind, with and without a
 * request.
 */
#include "mirror.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#define NR 256u

#define VALID UHMM_RANGE_VALID
#define RO UHMM_RANGE_VALID
#define RW (UHMM_RANGE_VALID | UHMM_RANGE_WRITE)
#define ZERO (UHMM_RANGE_VALID | UHMM_RANGE_ZERO)
#define FAULT UHMM_RANGE_REQ_FAULT
#define FAULT_WRITE (UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE)

static size_t index_of(const struct mirror *m, const char *p)
{
	return (size_t)(p - m->p) / PAGE;
}

/* Pages of memory with these flags, in pages of 2^order. */
static void expect(struct mirror *m, const char *p, size_t nr, uint64_t flags,
		   unsigned order)
{
	uint64_t page, pfn;
	size_t i;

	for (i = 0; i < nr; i++) {
		pfn = m->pfns[index_of(m, p) + i];
		if (flags & VALID)
			flags = (flags & (RW | ZERO)) | ((uintptr_t)p / PAGE + i) |
				(uint64_t)order << UHMM_RANGE_ORDER_SHIFT;
		CHECK(pfn == flags, "page %zu is 0x%jx, not 0x%jx", i, (uintmax_t)pfn,
		      (uintmax_t)flags);
		CHECK(!uhmm_range_pagemap(m->space, pfn, &page));
		CHECK_EQ(uhmm_range_order(pfn), flags & VALID ? order : 0);
	}
}

/* Pages of m's device. */
static void expect_device(struct mirror *m, const char *p, size_t nr, uint64_t flags)
{
	uint64_t page, pfn;
	size_t i;

	for (i = 0; i < nr; i++) {
		pfn = m->pfns[index_of(m, p) + i];
		CHECK_EQ(pfn & (RW | ZERO | UHMM_RANGE_ERROR), flags);
		CHECK(uhmm_range_pagemap(m->space, pfn, &page) == m->map);
		CHECK_LT(page, MIRROR_DEVICE_PAGES);
	}
}

static char read_byte(const char *p)
{
	return *(const volatile char *)p;
}

/* What a page is that the program has only read. */
static uint64_t only_read(void)
{
	return test_has_zero_page() ? ZERO : RW;
}

/* ---- private anonymous memory ------------------------------------------------------ */

API_TEST(a_snapshot_changes_nothing)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p - PAGE, NR + 1);

	CHECK_EQ(read_byte(p + PAGE), 0);
	p[2 * PAGE] = 1;
	p[3 * PAGE] = p[4 * PAGE] = p[5 * PAGE] = 1;
	CHECK_EQ(mprotect(p + 3 * PAGE, PAGE, PROT_READ), 0);
	CHECK_EQ(mprotect(p + 4 * PAGE, PAGE, PROT_NONE), 0);
	CHECK_EQ(munmap(p + 5 * PAGE, PAGE), 0);
	CHECK_EQ(mirror_look(m, p - PAGE, NR + 1, 0), 0);
	expect(m, p - PAGE, 1, UHMM_RANGE_ERROR, 0);
	expect(m, p, 1, 0, 0);
	expect(m, p + PAGE, 1, only_read(), 0);
	expect(m, p + 2 * PAGE, 1, RW, 0);
	expect(m, p + 3 * PAGE, 1, RO, 0);
	expect(m, p + 4 * PAGE, 2, UHMM_RANGE_ERROR, 0);
	expect(m, p + 6 * PAGE, NR - 6, 0, 0);
	CHECK_EQ(api_resident(p, NR), 4);
	mirror_close(m);
}

API_TEST(what_is_requested_is_made)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);

	CHECK_EQ(read_byte(p + 5 * PAGE), 0);
	p[6 * PAGE] = 1;
	CHECK_EQ(mirror_look(m, p, 10, FAULT), 0);
	expect(m, p, 5, ZERO, 0);
	expect(m, p + 5 * PAGE, 1, only_read(), 0);
	expect(m, p + 6 * PAGE, 1, RW, 0);
	expect(m, p + 7 * PAGE, 3, ZERO, 0);
	CHECK_EQ(mirror_look(m, p, 20, FAULT_WRITE), 0);
	expect(m, p, 20, RW, 0);
	CHECK_EQ(p[6 * PAGE], 1);
	CHECK_EQ(read_byte(p) | read_byte(p + 19 * PAGE), 0);
	/* A write without a read is no request. */
	CHECK_EQ(madvise(p, NR * PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(mirror_look(m, p, NR, UHMM_RANGE_REQ_WRITE), 0);
	expect(m, p, NR, 0, 0);
	CHECK_EQ(api_resident(p, NR), 0);
	mirror_close(m);
}

/* Of what nobody asked for the library may have filled some along, as for any fault. */
API_TEST(each_page_has_its_own_request)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	struct uhmm_range range = { .size = sizeof(range),
				    .notifier = m->notifier,
				    .start = (uintptr_t)p,
				    .end = (uintptr_t)p + NR * PAGE,
				    .pfns = m->pfns };
	size_t i;

	for (i = 0; i < NR; i++)
		m->pfns[i] = i % 4 == 1 ? FAULT : i % 4 == 2 ? FAULT_WRITE : ~FAULT;
	range.pfn_flags_mask = FAULT_WRITE;
	range.notifier_seq = uhmm_notifier_read_begin(m->notifier);
	CHECK_EQ(uhmm_range_fault(&range), 0);
	for (i = 0; i < NR; i++) {
		if (i % 4 == 1)
			CHECK(m->pfns[i] & VALID, "page %zu", i);
		if (i % 4 == 2)
			expect(m, p + i * PAGE, 1, RW, 0);
	}
	CHECK_EQ(madvise(p, NR * PAGE, MADV_DONTNEED), 0);
	/* A mask of the request to write, with a default to read. */
	for (i = 0; i < NR; i++)
		m->pfns[i] = i == 100 ? FAULT_WRITE : FAULT;
	range.pfn_flags_mask = UHMM_RANGE_REQ_WRITE;
	range.default_flags = FAULT;
	range.notifier_seq = uhmm_notifier_read_begin(m->notifier);
	CHECK_EQ(uhmm_range_fault(&range), 0);
	expect(m, p, 100, ZERO, 0);
	expect(m, p + 100 * PAGE, 1, RW, 0);
	CHECK(m->pfns[NR - 1] & VALID);
	mirror_close(m);
}

API_TEST(many_windows_and_mappings_are_one_range)
{
	char *p = api_map(MIRROR_PAGES), *from = p + 300 * PAGE;
	struct mirror *m = mirror_open(delivery, p, MIRROR_PAGES);

	madvise(p, MIRROR_PAGES * PAGE, MADV_NOHUGEPAGE);
	CHECK_EQ(mprotect(p + 700 * PAGE, 10 * PAGE, PROT_READ), 0);
	CHECK_EQ(mirror_look(m, from, MIRROR_PAGES - 300, FAULT), 0);
	expect(m, from, MIRROR_PAGES - 300, ZERO, 0);
	CHECK_EQ(mirror_look(m, from, 400, FAULT_WRITE), 0);
	CHECK_EQ(mirror_look(m, from, MIRROR_PAGES - 300, FAULT), 0);
	expect(m, from, 400, RW, 0);
	expect(m, p + 700 * PAGE, MIRROR_PAGES - 700, ZERO, 0);
	CHECK_EQ(mirror_look(m, p + 701 * PAGE, 2, FAULT_WRITE), -EPERM);
	CHECK_EQ(mirror_look(m, p + 699 * PAGE, 2, FAULT_WRITE), -EPERM);
	CHECK_EQ(mirror_look(m, p + 709 * PAGE, 2, FAULT_WRITE), -EPERM);
	CHECK_EQ(mirror_look(m, p + 710 * PAGE, 2, FAULT_WRITE), 0);
	mirror_close(m);
}

API_TEST(a_huge_page_says_so)
{
	char *p = api_map(FOLIO_PAGES + 8);
	struct mirror *m = mirror_open(delivery, p, FOLIO_PAGES + 8);

	api_fill_huge(p, FOLIO_PAGES, 1);
	CHECK_EQ(mirror_look(m, p, FOLIO_PAGES + 8, 0), 0);
	expect(m, p, FOLIO_PAGES, RW, 9);
	expect(m, p + FOLIO, 8, 0, 0);
	CHECK_EQ(mirror_look(m, p + 5 * PAGE, 1, FAULT_WRITE), 0);
	expect(m, p + 5 * PAGE, 1, RW, 9);
	CHECK_EQ(mirror_look(m, p + FOLIO, 8, FAULT_WRITE), 0);
	expect(m, p + FOLIO, 8, RW, 0);
	mirror_close(m);
}

API_TEST(the_huge_zero_page_cannot_be_written)
{
	char *p = api_map(FOLIO_PAGES);
	struct mirror *m = mirror_open(delivery, p, FOLIO_PAGES);
	unsigned order;

	madvise(p, FOLIO, MADV_HUGEPAGE);
	CHECK_EQ(read_byte(p), 0);
	CHECK_EQ(mirror_look(m, p, FOLIO_PAGES, FAULT), 0);
	order = uhmm_range_order(m->pfns[0]);
	CHECK(order == 0 || order == 9, "%u", order);
	expect(m, p, FOLIO_PAGES, only_read(), order);
	CHECK_EQ(mirror_look(m, p, 1, FAULT_WRITE), 0);
	CHECK_EQ(m->pfns[0] & (RW | UHMM_RANGE_ZERO), RW);
	mirror_close(m);
}

/* Parent and child have the same page: who writes gets a copy. */
API_TEST(what_a_fork_shares_is_not_written_without_a_request)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	int status, fds[2];
	char byte;
	pid_t pid;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	CHECK_EQ(pipe(fds), 0);
	api_fill(p, NR, 1);
	pid = fork();
	CHECK_GE(pid, 0);
	if (!pid) {
		close(fds[1]);
		CHECK_EQ(read(fds[0], &byte, 1), 0);
		api_check(p, NR, 1);
		_exit(0);
	}
	CHECK_EQ(mirror_look(m, p, NR, FAULT), 0);
	expect(m, p, NR, RO, 0);
	CHECK_EQ(mirror_look(m, p, 7, FAULT_WRITE), 0);
	expect(m, p, 7, RW, 0);
	CHECK_EQ(mirror_look(m, p, NR, 0), 0);
	expect(m, p, 7, RW, 0);
	expect(m, p + 7 * PAGE, NR - 7, RO, 0);
	api_fill(p, 7, 100);
	close(fds[0]);
	close(fds[1]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	mirror_close(m);
}

/* ---- memory of other kinds --------------------------------------------------------- */

static char *map_file(int flags, size_t nr, bool read_only)
{
	FILE *f = tmpfile();
	char *p;

	CHECK(f);
	CHECK_EQ(ftruncate(fileno(f), (off_t)(nr * PAGE)), 0);
	CHECK_EQ(pwrite(fileno(f), "x", 1, 2 * PAGE), 1);
	p = mmap(NULL, nr * PAGE, read_only ? PROT_READ : PROT_READ | PROT_WRITE, flags,
		 fileno(f), 0);
	CHECK(p != MAP_FAILED);
	fclose(f);
	return p;
}

static void unmap(struct mirror *m, char *p, size_t nr)
{
	mirror_close(m);
	CHECK_EQ(munmap(p, nr * PAGE), 0);
}

/* A shared mapping of a file, or of nothing. */
static void try_shared(uint32_t delivery, char *p)
{
	struct mirror *m = mirror_open(delivery, p, 16);

	madvise(p, 16 * PAGE, MADV_RANDOM);
	CHECK_EQ(mirror_look(m, p, 16, 0), 0);
	expect(m, p, 16, 0, 0);
	p[3 * PAGE] = 'y';
	CHECK_EQ(mirror_look(m, p + 3 * PAGE, 1, 0), 0);
	expect(m, p + 3 * PAGE, 1, RW, 0);
	CHECK_EQ(mirror_look(m, p, 16, FAULT), 0);
	expect(m, p, 16, RW, 0);
	CHECK_EQ(mirror_look(m, p, 16, FAULT_WRITE), 0);
	expect(m, p, 16, RW, 0);
	*(char *)mirror_bytes(m, m->pfns[3]) = 'z';
	CHECK_EQ(p[3 * PAGE], 'z');
	CHECK_EQ(mprotect(p, 16 * PAGE, PROT_READ), 0);
	CHECK_EQ(mirror_look(m, p, 16, FAULT), 0);
	expect(m, p, 16, RO, 0);
	CHECK_EQ(mirror_look(m, p, 16, FAULT_WRITE), -EPERM);
	unmap(m, p, 16);
}

API_TEST(shared_memory_is_mirrored)
{
	try_shared(delivery, mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

API_TEST(a_shared_file_is_mirrored)
{
	try_shared(delivery, map_file(MAP_SHARED, 16, false));
}

API_TEST(a_private_file_is_copied_before_it_is_written)
{
	char *p = map_file(MAP_PRIVATE, 16, false);
	struct mirror *m = mirror_open(delivery, p, 16);

	p[3 * PAGE] = 'y';
	CHECK_EQ(read_byte(p + 2 * PAGE), 'x');
	CHECK_EQ(mirror_look(m, p, 16, FAULT), 0);
	expect(m, p, 3, RO, 0);
	expect(m, p + 3 * PAGE, 1, RW, 0);
	expect(m, p + 4 * PAGE, 12, RO, 0);
	CHECK_EQ(mirror_look(m, p + 2 * PAGE, 2, FAULT_WRITE), 0);
	expect(m, p + 2 * PAGE, 2, RW, 0);
	CHECK_EQ(p[2 * PAGE], 'x');
	CHECK_EQ(mirror_look(m, p, 16, 0), 0);
	expect(m, p, 2, RO, 0);
	expect(m, p + 2 * PAGE, 2, RW, 0);
	unmap(m, p, 16);
}

API_TEST(a_file_that_may_only_be_read_is_mirrored_so)
{
	char *p = map_file(MAP_SHARED, 16, true);
	struct mirror *m = mirror_open(delivery, p, 16);

	CHECK_EQ(mirror_look(m, p, 16, FAULT), 0);
	expect(m, p, 16, RO, 0);
	CHECK_EQ(mirror_look(m, p, 16, FAULT_WRITE), -EPERM);
	unmap(m, p, 16);
}

API_TEST(what_a_file_does_not_have_cannot_be_had)
{
	FILE *f = tmpfile();
	struct mirror *m;
	char *p;

	CHECK(f);
	CHECK_EQ(ftruncate(fileno(f), 2 * PAGE), 0);
	p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
	CHECK(p != MAP_FAILED);
	fclose(f);
	m = mirror_open(delivery, p, 4);
	CHECK_EQ(mirror_look(m, p, 4, FAULT), -EFAULT);
	CHECK_EQ(mirror_look(m, p, 4, 0), 0);
	expect(m, p, 2, RW, 0);
	expect(m, p + 2 * PAGE, 2, 0, 0);
	CHECK_EQ(mirror_look(m, p, 2, FAULT_WRITE), 0);
	CHECK_EQ(mirror_look(m, p + 3 * PAGE, 1, FAULT_WRITE), -EFAULT);
	unmap(m, p, 4);
}

/* How many huge pages the system keeps; sets it, if that is permitted. */
static int reserve_huge_pages(int nr)
{
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "r+e");
	int before = 0;

	if (!f)
		return 0;
	CHECK_EQ(fscanf(f, "%d", &before), 1);
	rewind(f);
	if (before < nr || nr == 0)
		fprintf(f, "%d\n", nr);
	fclose(f);
	return before;
}

static void try_hugetlb(uint32_t delivery, int flags)
{
	int before = reserve_huge_pages(4);
	char *p = mmap(NULL, 2 * FOLIO, PROT_READ | PROT_WRITE,
		       MAP_ANONYMOUS | MAP_HUGETLB | flags, -1, 0);
	struct mirror *m;

	if (!before)
		reserve_huge_pages(0); /* when what is in use is free again */
	if (p == MAP_FAILED)
		SKIP("no huge pages are reserved (vm.nr_hugepages)");
	m = mirror_open(delivery, p, 2 * FOLIO_PAGES);
	CHECK_EQ(mirror_look(m, p, 2 * FOLIO_PAGES, 0), 0);
	expect(m, p, 2 * FOLIO_PAGES, 0, 0);
	p[3 * PAGE] = 1;
	CHECK_EQ(mirror_look(m, p, 2 * FOLIO_PAGES, 0), 0);
	expect(m, p, FOLIO_PAGES, RW, 9);
	expect(m, p + FOLIO, FOLIO_PAGES, 0, 0);
	CHECK_EQ(mirror_look(m, p + 5 * PAGE, FOLIO_PAGES, FAULT_WRITE), 0);
	expect(m, p + 5 * PAGE, FOLIO_PAGES, RW, 9);
	CHECK_EQ(p[3 * PAGE], 1);
	unmap(m, p, 2 * FOLIO_PAGES);
}

API_TEST(reserved_huge_pages_are_mirrored)
{
	try_hugetlb(delivery, MAP_PRIVATE);
	try_hugetlb(delivery, MAP_SHARED);
}

API_TEST(what_is_the_librarys_own_is_an_error)
{
	char *own = uhmm_host_map(PAGE);
	struct mirror *m = mirror_open(delivery, own, 1);

	own[0] = 1;
	CHECK_EQ(mirror_look(m, own, 1, 0), 0);
	expect(m, own, 1, UHMM_RANGE_ERROR, 0);
	CHECK_EQ(mirror_look(m, own, 1, FAULT), -EFAULT);
	mirror_close(m);
	uhmm_host_unmap(own, PAGE);
}

/* ---- pages that are elsewhere ------------------------------------------------------ */

API_TEST(pages_of_the_owner_are_reported_where_they_are)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);

	api_fill(p, NR, 1);
	mirror_migrate(m, p, 8);
	CHECK_EQ(mirror_look(m, p, NR, 0), 0);
	expect_device(m, p, 8, RW);
	expect(m, p + 8 * PAGE, NR - 8, RW, 0);
	CHECK_EQ(mirror_look(m, p, NR, FAULT_WRITE), 0);
	expect_device(m, p, 8, RW);
	CHECK_EQ(m->freed, 0);
	api_check(mirror_bytes(m, m->pfns[7]), 1, 8);
	/* Where it may not be written the request does not move it, nor fail. */
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_READ), 0);
	CHECK_EQ(mirror_look(m, p, 8, FAULT_WRITE), 0);
	expect_device(m, p, 8, RO);
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_NONE), 0);
	CHECK_EQ(mirror_look(m, p, 8, 0), 0);
	expect(m, p, 8, UHMM_RANGE_ERROR, 0);
	CHECK_EQ(mirror_look(m, p, 8, FAULT), -EFAULT);
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_READ | PROT_WRITE), 0);
	api_check(p, NR, 1);
	mirror_close(m);
}

API_TEST(pages_of_others_are_fetched)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	struct mirror *other = mirror_join(m->space, p, NR);
	struct uhmm_device *ram = api_device(m->space, "ram");

	api_fill(p, NR, 1);
	mirror_migrate(other, p, 8);
	api_move(m->space, p + 8 * PAGE, 8, ram, UHMM_MOVED);
	CHECK_EQ(mirror_look(m, p, NR, 0), 0);
	expect(m, p, 16, 0, 0);
	CHECK_EQ(api_stats(m->space).now_device, 16);
	/* It is told of what it fetches itself. */
	CHECK_EQ(mirror_look(m, p + 3 * PAGE, 1, FAULT), -EBUSY);
	CHECK_EQ(mirror_look(m, p + 3 * PAGE, 1, FAULT), 0);
	expect(m, p + 3 * PAGE, 1, RW, 0);
	CHECK_EQ(mirror_map(m, p + 4 * PAGE, 8, FAULT_WRITE), 0);
	expect(m, p + 4 * PAGE, 8, RW, 0);
	CHECK(mirror_heard(m, UHMM_EVENT_MIGRATE, p + 4 * PAGE, 4, NULL));
	CHECK_EQ(api_stats(m->space).now_device, 7);
	CHECK_EQ(mprotect(p + 12 * PAGE, PAGE, PROT_READ), 0);
	CHECK_EQ(mirror_look(m, p + 12 * PAGE, 1, FAULT_WRITE), -EPERM);
	CHECK_EQ(mirror_look(m, p + 12 * PAGE, 1, FAULT), 0);
	expect(m, p + 12 * PAGE, 1, RO, 0);
	api_check(p, NR, 1);
	mirror_leave(other);
	mirror_close(m);
}

API_TEST(a_lost_page_cannot_be_had)
{
	char *p = api_map(4);
	struct mirror *m = mirror_open(delivery, p, 4);
	struct mirror *other = mirror_join(m->space, p, 4);

	api_fill(p, 4, 1);
	mirror_migrate(other, p + 2 * PAGE, 1);
	__atomic_store_n(&other->broken, true, __ATOMIC_RELAXED);
	CHECK_EQ(mirror_look(m, p, 2, FAULT), 0);
	CHECK_EQ(mirror_map(m, p, 4, FAULT), -EFAULT);
	CHECK_EQ(mirror_look(m, p, 4, 0), 0);
	expect(m, p, 2, RW, 0);
	expect(m, p + 2 * PAGE, 1, UHMM_RANGE_ERROR, 0);
	expect(m, p + 3 * PAGE, 1, RW, 0);
	mirror_leave(other);
	CHECK_EQ(uhmm_space_destroy(m->space), -EIO);
	uhmm_notifier_remove(m->notifier);
}

struct looker {
	pthread_t thread;
	struct mirror *m;
	int result;
	bool done;
};

static void *look_for(void *arg)
{
	struct looker *l = arg;

	l->result = mirror_map(l->m, l->m->p, 4, FAULT);
	__atomic_store_n(&l->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

API_TEST(a_page_that_is_migrating_is_waited_for)
{
	char *p = api_map(4);
	struct mirror *m = mirror_open(delivery, p, 4);
	struct looker l = { .m = m };
	uhmm_pfn_t src[2], dst[2];
	struct uhmm_migrate migrate = { .src = src, .dst = dst };

	api_fill(p, 4, 1);
	mirror_setup(m, p, 2, &migrate);
	CHECK_EQ(mirror_look(m, p, 4, 0), 0);
	expect(m, p, 2, 0, 0);
	expect(m, p + 2 * PAGE, 2, RW, 0);
	CHECK_EQ(pthread_create(&l.thread, NULL, look_for, &l), 0);
	usleep(100000);
	CHECK(!__atomic_load_n(&l.done, __ATOMIC_SEQ_CST));
	CHECK_EQ(uhmm_migrate_finalize(m->space, &migrate), 0);
	pthread_join(l.thread, NULL);
	CHECK_EQ(l.result, 0);
	expect_device(m, p, 2, RW);
	CHECK(mirror_at(m, 0) && mirror_at(m, 3));
	api_check(p, 4, 1);
	mirror_close(m);
}

/* ---- bad input --------------------------------------------------------------------- */

API_TEST(bad_arguments_are_refused_and_change_nothing)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	uint64_t pfns[NR], untouched[NR];
	struct uhmm_range good = { .size = sizeof(good),
				   .notifier = m->notifier,
				   .start = (uintptr_t)p,
				   .end = (uintptr_t)p + NR * PAGE,
				   .pfns = pfns },
			  r = good;

	memset(pfns, 0x5a, sizeof(pfns));
	memcpy(untouched, pfns, sizeof(pfns));
	good.notifier_seq = uhmm_notifier_read_begin(m->notifier);
	CHECK_EQ(uhmm_range_fault(NULL), -EINVAL);
	r.size = 8;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r = good;
	r.notifier = NULL;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r = good;
	r.start = r.end;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r.start = r.end + PAGE;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r = good;
	r.start++;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r = good;
	r.end--;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r = good;
	r.start -= PAGE;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r = good;
	r.end += PAGE;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r = good;
	r.pfns = NULL;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r = good;
	r.default_flags = UHMM_RANGE_ERROR;
	CHECK_EQ(uhmm_range_fault(&r), -EINVAL);
	r = good;
	r.notifier_seq -= 2;
	CHECK_EQ(uhmm_range_fault(&r), -EBUSY);
	CHECK_MEM(pfns, untouched, sizeof(pfns));
	CHECK_EQ(api_resident(p, NR), 0);
	CHECK_EQ(uhmm_range_fault(&good), 0);
	CHECK_EQ(pfns[NR - 1], 0);
	mirror_close(m);
}

API_TEST(a_request_for_what_is_not_mapped_fails)
{
	char *p = api_map(4);
	struct mirror *m = mirror_open(delivery, p - PAGE, 5);

	CHECK_EQ(mirror_look(m, p - PAGE, 2, FAULT), -EFAULT);
	CHECK_EQ(munmap(p + PAGE, PAGE), 0);
	CHECK_EQ(mirror_look(m, p, 4, FAULT), -EFAULT);
	CHECK_EQ(mirror_look(m, p, 1, FAULT), 0);
	CHECK_EQ(mprotect(p + 2 * PAGE, PAGE, PROT_NONE), 0);
	CHECK_EQ(mirror_look(m, p + 2 * PAGE, 1, FAULT), -EFAULT);
	CHECK_EQ(mirror_look(m, p + 2 * PAGE, 1, FAULT_WRITE), -EFAULT);
	CHECK_EQ(mprotect(p + 2 * PAGE, PAGE, PROT_READ), 0);
	CHECK_EQ(mirror_look(m, p + 2 * PAGE, 1, FAULT_WRITE), -EPERM);
	CHECK_EQ(mirror_look(m, p + 2 * PAGE, 1, FAULT), 0);
	mirror_close(m);
}

/* The arrays may be pages that are on a device themselves. */
API_TEST(the_callers_array_may_migrate)
{
	char *p = api_map(NR), *q = api_map(4);
	struct mirror *m = mirror_open(delivery, p, NR);
	struct mirror *other = mirror_join(m->space, q, 4);
	struct uhmm_range *range = (void *)q;
	uint64_t seq;

	api_fill(p, NR, 1);
	*range = (struct uhmm_range){ .size = sizeof(*range),
				      .notifier = m->notifier,
				      .start = (uintptr_t)p,
				      .end = (uintptr_t)p + NR * PAGE,
				      .pfns = (uint64_t *)(q + PAGE),
				      .pfn_flags_mask = FAULT };
	memset(range->pfns, 0, NR * sizeof(*range->pfns));
	range->notifier_seq = seq = uhmm_notifier_read_begin(m->notifier);
	mirror_migrate(other, q, 2);
	CHECK(!uhmm_notifier_read_retry(m->notifier, seq));
	CHECK_EQ(uhmm_range_fault(range), 0);
	memcpy(m->pfns, range->pfns, NR * sizeof(*range->pfns));
	expect(m, p, NR, RW, 0);
	mirror_leave(other);
	mirror_close(m);
}
