/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/migrate.h>: migration in three steps, to a device that the test itself is.
 */
#include "board.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- there and back ---------------------------------------------------------------- */

API_TEST(pages_go_to_a_drivers_device_and_come_back_when_touched)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	board_take(b, p, NR);
	api_check(p, NR, 1);
	CHECK_SOON(board_freed(b) == NR);
	api_fill(p, NR, 1000);
	board_take(b, p, NR);
	board_close(b);
	api_check(p, NR, 1000);
}

API_TEST(a_driver_brings_pages_back_itself)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct steps s;

	api_fill(p, NR, 1);
	board_take(b, p, NR);
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_DEVICE_PRIVATE), 0);
	CHECK_EQ(s.m.cpages, NR);
	steps_copy(&s, true);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), NR);
	CHECK_EQ(board_freed(b), NR);
	CHECK_EQ(api_resident(p, NR), NR);
	api_check(p, NR, 1);
	board_close(b);
}

API_TEST(pages_move_from_memory_to_memory)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct steps s;

	api_fill(p, NR, 1);
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
	steps_copy(&s, true);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), NR);
	CHECK_EQ(api_resident(p, NR), NR);
	api_check(p, NR, 1);
	board_close(b);
}

/* The node of the page at p, as the kernel says. */
static int node_of(void *p)
{
	int node = -1;

	if (syscall(SYS_move_pages, 0, 1, &p, NULL, &node, 0))
		SKIP("no move_pages: %s", strerror(errno));
	return node;
}

API_TEST(pages_move_to_a_node)
{
	struct board *b = board_open(delivery);
	char *p = api_map(4);
	uhmm_pfn_t pfn;
	struct steps s;
	int node, r;

	api_fill(p, 4, 1);
	node = node_of(p);
	CHECK_EQ(steps_setup(&s, b, p, 4, UHMM_SELECT_SYSTEM), 0);
	r = uhmm_page_alloc_on_node(b->space, node, s.dst, 4);
	if (r == -ENOSYS)
		SKIP("no set_mempolicy");
	CHECK_EQ(r, 4);
	for (r = 0; r < 4; r++)
		memcpy(uhmm_pfn_bytes(b->space, s.dst[r]),
		       uhmm_pfn_bytes(b->space, s.src[r]), PAGE);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), 4);
	CHECK_EQ(node_of(p), node);
	api_check(p, 4, 1);
	CHECK_EQ(uhmm_page_alloc_on_node(b->space, -1, &pfn, 1), -EINVAL);
	CHECK_EQ(uhmm_page_alloc_on_node(b->space, 1000, &pfn, 1), -EINVAL);
	CHECK_EQ(uhmm_page_alloc_on_node(b->space, 1 << 20, &pfn, 1), -EINVAL);
	board_close(b);
}

API_TEST(what_was_never_written_is_put_on_the_device_directly)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct steps s;
	volatile char *v = p;
	bool zero = test_has_zero_page();
	size_t i;

	CHECK_EQ(v[PAGE] + v[2 * PAGE], 0); /* the zero page */
	p[3 * PAGE] = 7;
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
	CHECK_EQ(s.m.cpages, NR);
	for (i = 0; i < NR; i++)
		CHECK_EQ(uhmm_pfn_is_valid(s.src[i]),
			 i == 3 || (!zero && (i == 1 || i == 2)));
	steps_copy(&s, false);
	/* The device may write to it before the program has seen it. */
	memset(board_bytes(b, s.dst[5]), 5, PAGE);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), NR);
	CHECK_EQ(api_resident(p, NR), 0);
	CHECK_EQ(p[3 * PAGE], 7);
	CHECK_EQ(p[5 * PAGE + 99], 5);
	CHECK_EQ(p[PAGE] + p[6 * PAGE], 0);
	board_close(b);
}

API_TEST(a_hole_that_was_written_meanwhile_stays)
{
	struct board *b = board_open(delivery);
	char *p = api_map(4);
	struct steps s;

	CHECK_EQ(steps_setup(&s, b, p, 4, UHMM_SELECT_SYSTEM), 0);
	steps_copy(&s, false);
	p[2 * PAGE] = 9;
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), 3);
	CHECK_EQ(s.src[2] & UHMM_PFN_MIGRATE, 0);
	CHECK_EQ(board_freed(b), 1);
	CHECK_EQ(p[2 * PAGE], 9);
	CHECK_EQ(p[PAGE], 0);
	board_close(b);
}

API_TEST(without_a_commit_nothing_has_moved)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct steps s;

	api_fill(p, NR, 1);
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
	steps_copy(&s, false);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
	CHECK_EQ(board_freed(b), NR);
	CHECK_EQ(api_resident(p, NR), NR);
	api_check(p, NR, 1);
	board_close(b);
}

/* It was a huge page once, but that was other memory. */
API_TEST(pages_that_were_never_written_come_back_one_by_one)
{
	struct board *b = board_open(delivery);
	struct uhmm_device *ram = api_device(b->space, "ram");
	char *p = api_map(FOLIO_PAGES);
	struct steps s;
	size_t at;

	api_fill_huge(p, FOLIO_PAGES, 1);
	api_move(b->space, p, FOLIO_PAGES, ram, UHMM_MOVED);
	api_check(p, FOLIO_PAGES, 1);
	CHECK_EQ(madvise(p, FOLIO, MADV_DONTNEED), 0);
	for (at = 0; at < FOLIO_PAGES; at += NR) {
		CHECK_EQ(steps_setup(&s, b, p + at * PAGE, NR, UHMM_SELECT_SYSTEM), 0);
		steps_copy(&s, false);
		steps_end(&s);
		CHECK_EQ(steps_moved(&s), NR);
	}
	CHECK_EQ(api_stats(b->space).now_device, FOLIO_PAGES);
	api_move(b->space, p, FOLIO_PAGES, NULL, UHMM_MOVED);
	CHECK_EQ(api_smaps_kib(p, "AnonHugePages:"), 0);
	CHECK_EQ(api_resident(p, FOLIO_PAGES), FOLIO_PAGES);
	CHECK_EQ(board_freed(b), FOLIO_PAGES);
	board_close(b);
}

API_TEST(what_is_in_a_migration_is_stored_nowhere_else)
{
	struct board *b = board_open(delivery);
	struct uhmm_device *ram = api_device(b->space, "ram");
	char *p = api_map(NR);
	struct steps s;

	api_fill(p, NR, 1);
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
	api_move(b->space, p, NR, ram, UHMM_BUSY);
	steps_copy(&s, false);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), NR);
	api_move(b->space, p, NR, ram, UHMM_MOVED);
	api_check(p, NR, 1);
	board_close(b);
}

API_TEST(what_has_no_destination_stays)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct steps s;
	size_t i;

	api_fill(p, NR, 1);
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
	steps_copy(&s, false);
	for (i = 0; i < NR; i += 2) {
		uint64_t page;

		CHECK(uhmm_pfn_pagemap(b->space, s.dst[i], &page) == b->map);
		uhmm_page_put(b->map, page);
		s.dst[i] = 0;
	}
	s.dst[3] = s.dst[1]; /* a page cannot be had twice, */
	s.dst[5] = (uhmm_pfn_t)DEVICE_PAGES << UHMM_PFN_SHIFT | UHMM_PFN_VALID;
	s.dst[7] = s.dst[9] +
		   ((uhmm_pfn_t)DEVICE_PAGES << UHMM_PFN_SHIFT); /* or not be */
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), NR / 2 - 3);
	CHECK_EQ(api_resident(p, NR), NR / 2 + 3);
	api_check(p, NR, 1);
	board_close(b);
}

/* ---- meanwhile --------------------------------------------------------------------- */

struct reader {
	pthread_t thread;
	const char *p;
	char value;
	bool done;
};

static void *read_one(void *arg)
{
	struct reader *r = arg;

	r->value = *(volatile const char *)r->p;
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

API_TEST(who_touches_a_page_waits_until_it_is_back)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct reader r = { .p = p + 17 * PAGE };
	struct steps s;

	api_fill(p, NR, 1);
	p[17 * PAGE] = 77;
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
	CHECK_EQ(pthread_create(&r.thread, NULL, read_one, &r), 0);
	steps_copy(&s, false);
	usleep(50000);
	CHECK(!__atomic_load_n(&r.done, __ATOMIC_ACQUIRE));
	CHECK_EQ(uhmm_migrate_pages(b->space, &s.m), 0);
	usleep(50000);
	CHECK(!__atomic_load_n(&r.done, __ATOMIC_ACQUIRE));
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
	pthread_join(r.thread, NULL);
	CHECK_EQ(r.value, 77);
	board_close(b);
}

API_TEST(pages_may_be_unmapped_moved_and_discarded_meanwhile)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR), *to = api_map(NR);
	int commit_first;
	struct steps s;

	for (commit_first = 0; commit_first < 2; commit_first++) {
		api_fill(p, NR, 1);
		CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
		steps_copy(&s, false);
		if (commit_first)
			CHECK_EQ(uhmm_migrate_pages(b->space, &s.m), 0);
		CHECK_EQ(munmap(p, 8 * PAGE), 0);
		CHECK_EQ(madvise(p + 8 * PAGE, 8 * PAGE, MADV_DONTNEED), 0);
		CHECK(mremap(p + 16 * PAGE, 8 * PAGE, 8 * PAGE,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
		if (!commit_first) {
			CHECK_EQ(uhmm_migrate_pages(b->space, &s.m), 0);
			CHECK_EQ(steps_moved(&s), NR - 16);
		}
		CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
		CHECK_EQ(p[8 * PAGE] + p[15 * PAGE], 0);
		api_check(to, 8, 17);
		api_check(p + 24 * PAGE, NR - 24, 25);
		CHECK_SOON(api_stats(b->space).now_device == 0);
		CHECK(mmap(p, 24 * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
		/* One mapping again, for what is next. */
		CHECK(mmap(p, NR * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	}
	board_close(b);
}

/* In thread delivery the child's copy is of pages that the parent has in a migration. */
API_TEST(a_child_has_what_is_in_a_migration)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct steps s;
	int step, status;
	pid_t pid;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	for (step = 0; step < 3; step++) {
		api_fill(p, NR, 1);
		CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
		steps_copy(&s, step == 1);
		if (step == 2)
			CHECK_EQ(uhmm_migrate_pages(b->space, &s.m), 0);
		pid = fork();
		CHECK_GE(pid, 0);
		if (!pid) {
			api_check(p, NR, 1);
			api_fill(p, NR, 500);
			board_take(b, p, NR);
			api_check(p, NR, 500);
			CHECK_EQ(uhmm_pagemap_unregister(b->map), 0);
			_exit(0);
		}
		if (step != 2)
			CHECK_EQ(uhmm_migrate_pages(b->space, &s.m), 0);
		CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
		CHECK_EQ(steps_moved(&s), NR);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
		api_check(p, NR, 1);
	}
	board_close(b);
}

TEST(a_system_call_waits_for_a_migration)
{
	struct board *b = board_open(UHMM_DELIVERY_THREAD);
	char *p = api_map(NR), *copied = api_map(1);
	int fds[2];

	api_fill(p, NR, 1);
	CHECK_EQ(pipe(fds), 0);
	board_take(b, p, NR);
	CHECK_EQ(write(fds[1], p + 3 * PAGE, PAGE), (ssize_t)PAGE);
	CHECK_EQ(read(fds[0], copied, PAGE), (ssize_t)PAGE);
	api_check(copied, 1, 4);
	board_close(b);
	close(fds[0]);
	close(fds[1]);
}

/* ---- lost pages -------------------------------------------------------------------- */

static void lose_one(uint32_t delivery, char **page)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct steps s;

	api_fill(p, NR, 1);
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
	steps_copy(&s, false);
	uhmm_page_put(b->map, 3);
	s.dst[3] = UHMM_PFN_ERROR;
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), NR);
	api_check(p, 3, 1);
	api_check(p + 4 * PAGE, NR - 4, 5);
	*page = p + 3 * PAGE;
}

TEST(a_lost_page_is_a_bus_error_thread, .signal = SIGBUS)
{
	char *p;

	lose_one(UHMM_DELIVERY_THREAD, &p);
	CHECK_EQ(*(volatile char *)p, 0);
}

TEST(a_lost_page_is_a_bus_error_inline, .signal = SIGBUS)
{
	char *p;

	lose_one(UHMM_DELIVERY_INLINE, &p);
	CHECK_EQ(*(volatile char *)p, 0);
}

API_TEST(a_lost_page_that_is_discarded_is_zeros)
{
	char *p;

	lose_one(delivery, &p);
	CHECK_EQ(madvise(p, PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(*(volatile char *)p, 0);
}

/* ---- bad input --------------------------------------------------------------------- */

static int try(struct board *b, char *p, size_t nr)
{
	struct steps s;
	int r = steps_setup(&s, b, p, nr, UHMM_SELECT_SYSTEM);

	if (r == 0)
		CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
	else
		CHECK(!s.m.migration);
	return r;
}

API_TEST(what_is_no_range_of_one_mapping_is_refused)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR), *file;
	int fd = open("/proc/self/exe", O_RDONLY);

	file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(file != MAP_FAILED);
	api_fill(p, NR, 1);
	CHECK_EQ(try(b, p, NR), 0);
	CHECK_EQ(try(b, p, 0), -EINVAL);
	CHECK_EQ(try(b, p + 1, 1), -EINVAL);
	CHECK_EQ(try(b, p - PAGE, 2), -EINVAL);
	CHECK_EQ(try(b, p + (NR - 1) * PAGE, 2), -EINVAL);
	CHECK_EQ(try(b, NULL, 1), -EINVAL);
	CHECK_EQ(try(b, file, 2), -EINVAL);
	CHECK_EQ(mprotect(p + 8 * PAGE, PAGE, PROT_READ), 0);
	CHECK_EQ(try(b, p, NR), -EINVAL);
	CHECK_EQ(munmap(p + 16 * PAGE, PAGE), 0);
	CHECK_EQ(try(b, p + 12 * PAGE, 8), -EINVAL);
	api_check(p, 16, 1);
	munmap(file, 2 * PAGE);
	close(fd);
	board_close(b);
}

API_TEST(bad_arguments_are_refused_and_change_nothing)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct steps s, other;
	struct uhmm_space *space;
	uhmm_pfn_t pfn;
	uint64_t page;

	api_fill(p, NR, 1);
	CHECK_EQ(steps_setup(&s, b, p, 4, 0), -EINVAL);
	CHECK_EQ(steps_setup(&s, b, p, 4, 0x80), -EINVAL);
	CHECK_EQ(steps_setup(&s, b, p, 4, UHMM_SELECT_READONLY), -EINVAL);
	s.m.flags = UHMM_SELECT_DEVICE_PRIVATE;
	s.m.owner = NULL;
	CHECK_EQ(uhmm_migrate_setup(b->space, &s.m), -EINVAL);
	s.m.flags = UHMM_SELECT_SYSTEM;
	s.m.dst = s.src + 3;
	CHECK_EQ(uhmm_migrate_setup(b->space, &s.m), -EINVAL);
	s.m.dst = (uhmm_pfn_t *)p; /* who wrote there would wait for himself */
	CHECK_EQ(uhmm_migrate_setup(b->space, &s.m), -EINVAL);
	s.m.dst = NULL;
	CHECK_EQ(uhmm_migrate_setup(b->space, &s.m), -EINVAL);
	s.m.dst = s.dst;
	s.m.size = 8;
	CHECK_EQ(uhmm_migrate_setup(b->space, &s.m), -EINVAL);
	CHECK_EQ(uhmm_migrate_setup(b->space, NULL), -EINVAL);
	CHECK_EQ(uhmm_migrate_pages(b->space, &s.m), -EINVAL);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), -EINVAL);

	CHECK_EQ(steps_setup(&s, b, p, 4, UHMM_SELECT_SYSTEM), 0);
	CHECK_EQ(uhmm_migrate_setup(b->space, &s.m), -EINVAL);
	/* What one migration has another does not get. */
	CHECK_EQ(steps_setup(&other, b, p, 8, UHMM_SELECT_SYSTEM), 0);
	CHECK_EQ(other.m.cpages, 4);
	CHECK_EQ(other.src[0] | other.src[3], 0);
	CHECK_EQ(uhmm_space_destroy(b->space), -EBUSY);
	CHECK_EQ(uhmm_advise(b->space, p, PAGE, UHMM_ADVISE_PIN), -EBUSY);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &other.m), 0);
	/* Another space knows nothing of it. */
	space = api_space(delivery, 0);
	CHECK_EQ(uhmm_migrate_pages(space, &s.m), -EINVAL);
	CHECK_EQ(uhmm_migrate_finalize(space, &s.m), -EINVAL);
	api_destroy(space);
	CHECK_EQ(uhmm_migrate_pages(b->space, &s.m), 0);
	CHECK_EQ(uhmm_migrate_pages(b->space, &s.m), -EINVAL);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), -EINVAL);

	CHECK_EQ(uhmm_page_get(b->map, DEVICE_PAGES, &pfn), -EINVAL);
	CHECK_EQ(uhmm_page_get(b->map, 1, &pfn), 0);
	CHECK_EQ(uhmm_page_get(b->map, 1, &pfn), -EBUSY);
	CHECK_EQ(uhmm_pagemap_unregister(b->map), -EBUSY);
	CHECK(uhmm_pfn_pagemap(b->space, pfn, &page) == b->map);
	CHECK_EQ(page, 1);
	uhmm_page_put(b->map, page);
	CHECK_EQ(uhmm_page_alloc(b->space, &pfn, 0), -EINVAL);
	CHECK_EQ(uhmm_page_alloc(b->space, &pfn, 1), 1);
	CHECK(uhmm_pfn_bytes(b->space, pfn));
	uhmm_page_free(b->space, pfn);
	uhmm_page_free(b->space, pfn);
	CHECK(!uhmm_pfn_bytes(b->space, 0));
	CHECK_EQ(api_resident(p, NR), NR);
	api_check(p, NR, 1);
	CHECK_EQ(uhmm_pagemap_unregister(b->map), 0);
	board_close(b);
}

API_TEST(pinned_pages_stay)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct steps s;

	api_fill(p, NR, 1);
	CHECK_EQ(uhmm_advise(b->space, p + 8 * PAGE, 8 * PAGE, UHMM_ADVISE_PIN), 0);
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
	CHECK_EQ(s.m.cpages, NR - 8);
	CHECK_EQ(s.src[8] | s.src[15], 0);
	steps_copy(&s, false);
	steps_end(&s);
	CHECK_EQ(api_resident(p, NR), 8);
	api_check(p, NR, 1);
	board_close(b);
}

API_TEST(a_device_that_fails_loses_what_is_touched)
{
	struct board *b = board_open(delivery);
	char *p = api_map(4);

	api_fill(p, 4, 1);
	board_take(b, p, 4);
	b->broken = true;
	CHECK_EQ(uhmm_pagemap_unregister(b->map), -EIO);
	CHECK_EQ(uhmm_space_destroy(b->space), -EIO);
}

/* ---- threads ----------------------------------------------------------------------- */

struct worker {
	pthread_t thread;
	struct board *board;
	char *p;
	uint64_t seed;
	bool *stop;
	size_t moved;
};

static void *migrate_at_random(void *arg)
{
	struct worker *w = arg;
	struct steps *s = malloc(sizeof(*s));

	CHECK(s);
	while (!__atomic_load_n(w->stop, __ATOMIC_ACQUIRE)) {
		size_t at = w->seed >> 33 & (NR - 1), nr = 1 + (w->seed >> 20 & 31);

		w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
		nr = nr < NR - at ? nr : NR - at;
		CHECK_EQ(steps_setup(s, w->board, w->p + at * PAGE, nr, 1 + w->seed % 3),
			 0);
		steps_copy(s, w->seed >> 40 & 1);
		steps_end(s);
		__atomic_fetch_add(&w->moved, steps_moved(s), __ATOMIC_RELAXED);
	}
	free(s);
	return NULL;
}

API_TEST(threads_write_while_drivers_migrate, .timeout_s = 60)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);
	struct worker w[2];
	bool stop = false;
	size_t round, i;

	api_fill(p, NR, 1);
	for (i = 0; i < 2; i++) {
		w[i] = (struct worker){
			.board = b, .p = p, .seed = i + 1, .stop = &stop
		};
		CHECK_EQ(pthread_create(&w[i].thread, NULL, migrate_at_random, &w[i]), 0);
	}
	for (round = 1; round < 60; round++) {
		api_check(p, NR, round);
		api_fill(p, NR, round + 1);
	}
	/* On a busy machine they may not have begun. */
	for (i = 0; i < 2; i++)
		CHECK_SOON(__atomic_load_n(&w[i].moved, __ATOMIC_RELAXED) > 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++)
		pthread_join(w[i].thread, NULL);
	api_check(p, NR, round);
	board_close(b);
}
