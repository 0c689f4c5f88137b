/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm_make_exclusive(): a page is the device's alone until somebody touches it.
 */
#include "mirror.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#define NR 64u

/* Pages [from, from + nr) are. */
static void make(struct mirror *m, size_t from, size_t nr)
{
	size_t i;

	for (i = from; i < from + nr; i++) {
		CHECK_EQ(mirror_make_exclusive(m, i), 0);
		CHECK_EQ(api_resident(m->p + i * PAGE, 1), 0);
	}
}

static bool has(struct mirror *m, size_t page)
{
	bool it_has;

	uhmm_lock(&m->lock);
	it_has = m->exclusive[page];
	uhmm_unlock(&m->lock);
	return it_has;
}

static char *bytes(struct mirror *m, size_t page)
{
	uhmm_pfn_t pfn;

	uhmm_lock(&m->lock);
	pfn = m->exclusive[page];
	uhmm_unlock(&m->lock);
	return uhmm_pfn_bytes(m->space, pfn);
}

/* ---- there and back ---------------------------------------------------------------- */

API_TEST(a_page_is_the_devices_alone_until_it_is_touched)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);

	api_fill(p, NR, 1);
	make(m, 3, 2);
	mirror_told(m, UHMM_EVENT_EXCLUSIVE, p + 3 * PAGE, 2, m);
	api_check(bytes(m, 3), 1, 4);
	api_fill(bytes(m, 3), 1, 100);
	api_check(p, 3, 1);
	CHECK(has(m, 3) && has(m, 4));
	mirror_told_nothing(m);
	api_check(p + 3 * PAGE, 1, 100);
	CHECK(!has(m, 3) && has(m, 4));
	mirror_told(m, UHMM_EVENT_CLEAR, p + 3 * PAGE, 1, NULL);
	*(volatile char *)(p + 4 * PAGE) = p[4 * PAGE];
	mirror_told(m, UHMM_EVENT_CLEAR, p + 4 * PAGE, 1, NULL);
	api_check(p + 4 * PAGE, NR - 4, 5);
	CHECK_SOON(api_stats(m->space).now_probation == 0);
	mirror_close(m);
}

API_TEST(what_is_not_there_is_made_a_page)
{
	char *p = api_map(NR), zeros[PAGE] = { 0 };
	struct mirror *m = mirror_open(delivery, p, NR);

	CHECK_EQ(*(volatile char *)(p + PAGE), 0); /* the zero page */
	make(m, 0, 2);
	CHECK_MEM(bytes(m, 0), zeros, PAGE);
	CHECK_MEM(bytes(m, 1), zeros, PAGE);
	*bytes(m, 0) = 1;
	*bytes(m, 1) = 2;
	CHECK_EQ(p[0], 1);
	CHECK_EQ(p[PAGE], 2);
	CHECK_EQ(p[2 * PAGE], 0);
	mirror_close(m);
}

API_TEST(what_is_elsewhere_is_brought_back_first)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	struct uhmm_device *ram = api_device(m->space, "ram");

	api_fill(p, NR, 1);
	api_move(m->space, p, 2, ram, UHMM_MOVED);
	mirror_migrate(m, p + 2 * PAGE, 2);
	mirror_clear(m);
	make(m, 0, 4);
	CHECK_EQ(m->freed, 2);
	CHECK_EQ(api_stats(m->space).now_device, 0);
	CHECK(mirror_heard(m, UHMM_EVENT_MIGRATE, p + 2 * PAGE, 2, NULL));
	api_check(bytes(m, 1), 1, 2);
	api_check(bytes(m, 2), 1, 3);
	/* Once more: it stays, and nothing is told. */
	mirror_clear(m);
	make(m, 2, 1);
	mirror_told_nothing(m);
	api_check(bytes(m, 2), 1, 3);
	mirror_migrate(m, p, 4);
	CHECK(mirror_heard(m, UHMM_EVENT_CLEAR, p, 4, NULL));
	CHECK(!has(m, 1));
	api_check(p, NR, 1);
	mirror_close(m);
}

API_TEST(a_part_of_a_huge_page_can_be_exclusive)
{
	char *p = api_map(FOLIO_PAGES);
	struct mirror *m = mirror_open(delivery, p, FOLIO_PAGES);

	api_fill_huge(p, FOLIO_PAGES, 1);
	make(m, 5, 1);
	api_check(bytes(m, 5), 1, 6);
	CHECK_EQ(api_resident(p, FOLIO_PAGES), FOLIO_PAGES - 1);
	api_check(p, FOLIO_PAGES, 1);
	mirror_close(m);
}

API_TEST(there_may_be_many)
{
	char *p = api_map(MIRROR_PAGES);
	struct mirror *m = mirror_open(delivery, p, MIRROR_PAGES);
	size_t i;

	madvise(p, MIRROR_PAGES * PAGE, MADV_NOHUGEPAGE);
	api_fill(p, MIRROR_PAGES, 1);
	make(m, 0, MIRROR_PAGES);
	CHECK_EQ(api_stats(m->space).now_probation, MIRROR_PAGES);
	for (i = 0; i < MIRROR_PAGES; i += 7)
		api_fill(bytes(m, i), 1, 10000 + i);
	for (i = 0; i < MIRROR_PAGES; i++)
		if (i % 3 == 0)
			api_check(p + i * PAGE, 1, i % 7 ? 1 + i : 10000 + i);
	api_destroy(m->space);
	CHECK_EQ(api_resident(p, MIRROR_PAGES), MIRROR_PAGES);
	for (i = 0; i < MIRROR_PAGES; i++)
		api_check(p + i * PAGE, 1, i % 7 ? 1 + i : 10000 + i);
	uhmm_notifier_remove(m->notifier);
}

/* ---- who touches it ---------------------------------------------------------------- */

static void *read_pages(void *arg)
{
	api_check(arg, NR, 1);
	return NULL;
}

API_TEST(any_thread_may_touch_it)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	pthread_t thread[4];
	unsigned round, i;

	api_fill(p, NR, 1);
	for (round = 0; round < 20; round++) {
		/*
		 * Whether it still is when the next one is made: of several threads that
		 * touched a page, one fault may be answered when all have gone on.
		 */
		for (i = 0; i < NR; i++)
			CHECK_EQ(mirror_make_exclusive(m, i), 0);
		for (i = 0; i < 4; i++)
			CHECK_EQ(pthread_create(&thread[i], NULL, read_pages, p), 0);
		for (i = 0; i < 4; i++)
			pthread_join(thread[i], NULL);
		CHECK(!has(m, 0) && !has(m, NR - 1));
		mirror_clear(m);
	}
	CHECK_SOON(api_stats(m->space).now_probation == 0);
	mirror_close(m);
}

TEST(a_system_call_may_touch_it)
{
	char *p = api_map(NR), *copy = api_map(1);
	struct mirror *m = mirror_open(UHMM_DELIVERY_THREAD, p, NR);
	int fds[2];

	CHECK_EQ(pipe(fds), 0);
	api_fill(p, NR, 1);
	make(m, 0, 4);
	api_fill(bytes(m, 0), 1, 100);
	CHECK_EQ(write(fds[1], p, PAGE), (ssize_t)PAGE);
	CHECK_EQ(read(fds[0], copy, PAGE), (ssize_t)PAGE);
	api_check(copy, 1, 100);
	CHECK(!has(m, 0));
	api_fill(copy, 1, 200);
	CHECK_EQ(write(fds[1], copy, PAGE), (ssize_t)PAGE);
	CHECK_EQ(read(fds[0], p + PAGE, PAGE), (ssize_t)PAGE);
	api_check(p + PAGE, 1, 200);
	CHECK(!has(m, 1) && has(m, 2));
	mirror_close(m);
	close(fds[0]);
	close(fds[1]);
}

API_TEST(it_may_be_stored_on_another_device)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	struct uhmm_device *ram = api_device(m->space, "ram");

	api_fill(p, NR, 1);
	make(m, 3, 2);
	api_move(m->space, p, NR, ram, UHMM_MOVED);
	CHECK(!has(m, 3) && !has(m, 4));
	CHECK_EQ(api_resident(p, NR), 0);
	api_check(p, NR, 1);
	mirror_close(m);
}

API_TEST(another_device_may_want_it)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	struct mirror *other = mirror_join(m->space, p, NR);

	api_fill(p, NR, 1);
	CHECK_EQ(mirror_map(other, p, NR, 0), 0);
	make(m, 0, 2);
	CHECK_EQ(mirror_at(other, 1), 0);
	CHECK_NE(mirror_at(other, 2), 0);
	CHECK_EQ(mirror_look(other, p, NR, 0), 0);
	CHECK_EQ(other->pfns[1], 0);
	CHECK(has(m, 1));
	CHECK_EQ(mirror_map(other, p, 2, UHMM_RANGE_REQ_FAULT), 0);
	CHECK_NE(mirror_at(other, 1), 0);
	CHECK(!has(m, 0) && !has(m, 1));
	make(m, 0, 2);
	*bytes(m, 1) = 'm';
	make(other, 1, 1);
	CHECK(has(m, 0) && !has(m, 1) && has(other, 1));
	CHECK_EQ(*bytes(other, 1), 'm');
	CHECK_EQ(uhmm_advise(m->space, p, PAGE, UHMM_ADVISE_WILLNEED), 0);
	CHECK(!has(m, 0));
	mirror_leave(other);
	mirror_close(m);
}

/* ---- mappings ---------------------------------------------------------------------- */

API_TEST(it_may_be_unmapped_discarded_and_moved)
{
	char *p = api_map(NR), *to = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);

	api_fill(p, NR, 1);
	make(m, 0, 24);
	mirror_clear(m);
	CHECK_EQ(munmap(p, 8 * PAGE), 0);
	mirror_told(m, UHMM_EVENT_UNMAP, p, 8, NULL);
	CHECK_EQ(madvise(p + 8 * PAGE, 8 * PAGE, MADV_DONTNEED), 0);
	mirror_told(m, UHMM_EVENT_CLEAR, p + 8 * PAGE, 8, NULL);
	CHECK_EQ(p[8 * PAGE] | p[15 * PAGE], 0);
	CHECK_EQ(api_stats(m->space).now_probation, 8);
	api_fill(bytes(m, 16), 1, 100);
	CHECK(mremap(p + 16 * PAGE, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     to) == to);
	mirror_told(m, UHMM_EVENT_UNMAP, p + 16 * PAGE, 8, NULL);
	CHECK(!has(m, 0) && !has(m, 8) && !has(m, 16) && !has(m, 23));
	api_check(to, 1, 100);
	api_check(to + PAGE, 7, 18);
	api_check(p + 24 * PAGE, NR - 24, 25);
	CHECK_SOON(api_stats(m->space).now_probation == 0);
	mirror_close(m);
}

API_TEST(a_fork_takes_it_back)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	struct uhmm_device *ram = api_device(m->space, "ram");
	int status;
	pid_t pid;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	api_fill(p, NR, 1);
	make(m, 0, 8);
	api_fill(bytes(m, 0), 1, 100);
	mirror_clear(m);
	pid = fork();
	CHECK_GE(pid, 0);
	if (!pid) {
		/* It is a page like any other. */
		api_move(m->space, p, 4, ram, UHMM_MOVED);
		api_check(p, 1, 100);
		api_check(p + PAGE, NR - 1, 2);
		api_fill(p, NR, 500);
		CHECK_EQ(uhmm_space_destroy(m->space), 0);
		api_check(p, NR, 500);
		_exit(0);
	}
	CHECK(mirror_heard(m, UHMM_EVENT_PROTECTION, p, NR, NULL));
	CHECK(!has(m, 0) && !has(m, 7));
	make(m, 1, 2);
	api_fill(bytes(m, 1), 1, 200);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	api_check(p, 1, 100);
	api_check(p + PAGE, 1, 200);
	api_check(p + 2 * PAGE, NR - 2, 3);
	/* What parent and child shared can be exclusive again. */
	make(m, 0, NR);
	api_check(p + 2 * PAGE, NR - 2, 3);
	mirror_close(m);
}

/* ---- what cannot be ---------------------------------------------------------------- */

static void refused(struct mirror *m, const char *p, int expected)
{
	uhmm_pfn_t pfn = 77;

	CHECK_EQ(uhmm_make_exclusive(m->space, (uintptr_t)p, m, &pfn), expected);
	CHECK_EQ(pfn, 77);
}

API_TEST(what_cannot_be_exclusive_is_refused)
{
	char *p = api_map(NR), *shared, *file, *stack = __builtin_frame_address(0);
	struct mirror *m = mirror_open(delivery, p, NR);
	int fd = open("/proc/self/exe", O_RDONLY);
	uhmm_pfn_t src[2], dst[2];
	struct uhmm_migrate migrate = { .src = src, .dst = dst };

	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(shared != MAP_FAILED && file != MAP_FAILED);
	api_fill(p, NR, 1);
	CHECK_EQ(uhmm_make_exclusive(m->space, (uintptr_t)p, m, NULL), -EINVAL);
	refused(m, p + 8, -EINVAL);
	refused(m, NULL, -EFAULT);
	refused(m, p - PAGE, -EPERM);
	refused(m, (char *)UINTPTR_MAX - PAGE + 1, -EFAULT);
	refused(m, shared, -EOPNOTSUPP);
	refused(m, file, -EOPNOTSUPP);
	refused(m, stack - (uintptr_t)stack % PAGE, -EOPNOTSUPP);
	CHECK_EQ(mprotect(p, PAGE, PROT_READ), 0);
	refused(m, p, -EPERM);
	CHECK_EQ(munmap(p + PAGE, PAGE), 0);
	refused(m, p + PAGE, -EFAULT);
	CHECK_EQ(uhmm_advise(m->space, p + 2 * PAGE, PAGE, UHMM_ADVISE_PIN), 0);
	refused(m, p + 2 * PAGE, -EBUSY);
	CHECK_EQ(uhmm_advise(m->space, p + 2 * PAGE, PAGE, UHMM_ADVISE_UNPIN), 0);
	make(m, 2, 1);
	mirror_setup(m, p + 4 * PAGE, 2, &migrate);
	refused(m, p + 4 * PAGE, -EBUSY);
	CHECK_EQ(uhmm_migrate_finalize(m->space, &migrate), 0);
	make(m, 4, 1);
	api_check(p, 1, 1);
	api_check(p + 2 * PAGE, NR - 2, 3);
	close(fd);
	mirror_close(m);
}
