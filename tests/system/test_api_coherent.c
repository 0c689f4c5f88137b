/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coherent page maps: the program uses pages of the device where they are.
 */
#include "board.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "uhmm/range.h"

#define COHERENT UHMM_SELECT_DEVICE_COHERENT

/* Everything comes back by the driver, who finds so many pages on its device. */
static void give_back(struct board *b, char *p, size_t nr, size_t expected)
{
	struct steps s;

	CHECK_EQ(steps_setup(&s, b, p, nr, COHERENT), 0);
	CHECK_EQ(s.m.cpages, expected);
	steps_copy(&s, true);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), expected);
	CHECK_EQ(api_resident(p, nr), nr);
}

API_TEST(the_program_uses_pages_where_they_are)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	board_take(b, p, NR);
	api_check(p, NR, 1);
	api_fill(p, NR, 2);
	api_check(p, NR, 2);
	/* No fault was needed, and nothing has left the device. */
	CHECK_EQ(api_stats(b->space).fault_device, 0);
	CHECK_EQ(board_freed(b), 0);
	give_back(b, p, NR, NR);
	CHECK_EQ(board_freed(b), NR);
	api_check(p, NR, 2);
	board_close(b);
	api_check(p, NR, 2);
}

API_TEST(only_its_owner_and_kind_select_it)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(4);
	struct steps s;

	api_fill(p, 4, 1);
	board_take(b, p, 4);
	CHECK_EQ(steps_setup(&s, b, p, 4,
			     UHMM_SELECT_SYSTEM | UHMM_SELECT_DEVICE_PRIVATE),
		 0);
	CHECK_EQ(s.m.cpages, 0);
	steps_end(&s);
	s.m.owner = &s;
	s.m.flags = COHERENT;
	CHECK_EQ(uhmm_migrate_setup(b->space, &s.m), 0);
	CHECK_EQ(s.m.cpages, 0);
	steps_end(&s);
	api_check(p, 4, 1);
	board_close(b);
}

API_TEST(a_rollback_leaves_it_on_the_device)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(8);
	struct steps s;

	api_fill(p, 8, 1);
	board_take(b, p, 8);
	CHECK_EQ(steps_setup(&s, b, p, 8, COHERENT), 0);
	CHECK_EQ(s.m.cpages, 8);
	CHECK_EQ(api_resident(p, 8), 0);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
	CHECK_EQ(api_resident(p, 8), 8);
	api_check(p, 8, 1);
	CHECK_EQ(board_freed(b), 0);
	give_back(b, p, 8, 8);
	board_close(b);
}

API_TEST(what_was_never_written_goes_there_too)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(NR);
	struct steps s;

	p[5 * PAGE] = 5;
	CHECK_EQ(steps_setup(&s, b, p, NR, UHMM_SELECT_SYSTEM), 0);
	CHECK_EQ(s.m.cpages, NR);
	steps_copy(&s, false);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), NR);
	CHECK_EQ(api_resident(p, NR), NR);
	CHECK_EQ(p[5 * PAGE], 5);
	CHECK_EQ(p[6 * PAGE], 0);
	p[6 * PAGE] = 6;
	give_back(b, p, NR, NR);
	CHECK_EQ(p[6 * PAGE], 6);
	board_close(b);
}

API_TEST(what_is_discarded_or_unmapped_is_freed)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	board_take(b, p, NR);
	CHECK_EQ(madvise(p, 10 * PAGE, MADV_DONTNEED), 0);
	CHECK_SOON(board_freed(b) == 10);
	CHECK_EQ(p[0], 0);
	CHECK_EQ(munmap(p + 20 * PAGE, 20 * PAGE), 0);
	CHECK_SOON(board_freed(b) == 30);
	api_check(p + 10 * PAGE, 10, 11);
	api_check(p + 40 * PAGE, NR - 40, 41);
	give_back(b, p + 40 * PAGE, NR - 40, NR - 40);
	board_close(b);
}

API_TEST(mremap_takes_it_along)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(NR), *to = api_map(NR);

	api_fill(p, NR, 1);
	board_take(b, p, NR);
	CHECK(mremap(p, NR * PAGE, NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	api_check(to, NR, 1);
	CHECK_EQ(board_freed(b), 0);
	give_back(b, to, NR, NR);
	api_check(to, NR, 1);
	board_close(b);
}

/* The kernel empties pages and tells nobody: the device's page is gone all the same. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

API_TEST(a_page_that_went_without_a_word_is_a_hole)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(4);

	api_fill(p, 4, 1);
	board_take(b, p, 4);
	if (madvise(p, PAGE, MADV_GUARD_INSTALL))
		SKIP("no MADV_GUARD_INSTALL (Linux 6.13)");
	CHECK_EQ(madvise(p, PAGE, MADV_GUARD_REMOVE), 0);
	CHECK_EQ(p[0], 0);
	CHECK_EQ(board_freed(b), 1);
	api_check(p + PAGE, 3, 2);
	board_close(b);
}

API_TEST(a_write_after_fork_is_memory_again)
{
	struct board *b = board_open_coherent(delivery);
	const char *why = api_fork_stops_threads();
	char *p = api_map(16);
	int status;
	pid_t pid;

	if (why)
		SKIP("%s", why);
	api_fill(p, 16, 1);
	board_take(b, p, 16);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		api_check(p, 16, 1);
		api_fill(p, 16, 100);
		api_check(p, 16, 100);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	api_check(p, 16, 1);
	api_fill(p, 16, 2);
	/* A copy was made, or could have been: the device has none of them any more. */
	give_back(b, p, 16, 0);
	CHECK_EQ(board_freed(b), 16);
	api_check(p, 16, 2);
	board_close(b);
}

/* No handler of fork() has seen it: the reader has, and the child is there still. */
API_TEST(what_a_raw_clone_shares_is_memory_again)
{
	struct board *b = board_open_coherent(delivery);
	const char *why = api_fork_stops_threads();
	char *p = api_map(16), c;
	int status, fd[2];
	pid_t pid;

	if (why)
		SKIP("%s", why);
	api_fill(p, 16, 1);
	board_take(b, p, 16);
	CHECK_EQ(pipe(fd), 0);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
	CHECK(pid >= 0);
	if (!pid) {
		close(fd[1]);
		while (read(fd[0], &c, 1) > 0)
			;
		api_check(p, 16, 1);
		_exit(0);
	}
	give_back(b, p, 16, 0);
	CHECK_EQ(board_freed(b), 16);
	api_fill(p, 16, 2);
	close(fd[1]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	api_check(p, 16, 2);
	board_close(b);
}

API_TEST(a_child_has_its_own_that_are_on_the_device)
{
	struct board *b = board_open_coherent(delivery);
	const char *why = api_fork_stops_threads();
	char *p = api_map(16), *q = api_map(16);
	struct steps s;
	int status;
	pid_t pid;

	if (why)
		SKIP("%s", why);
	api_fill(p, 16, 1);
	api_fill(q, 16, 50);
	board_take(b, p, 16);
	/* In the middle of a migration: these are in the device's memory at that time. */
	CHECK_EQ(steps_setup(&s, b, p, 8, COHERENT), 0);
	CHECK_EQ(s.m.cpages, 8);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		api_check(p, 16, 1);
		api_fill(p, 16, 30);
		api_check(p, 16, 30);
		_exit(0);
	}
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	api_check(p, 16, 1);
	CHECK_EQ(uhmm_pagemap_evict(b->map), 0);
	CHECK_EQ(board_freed(b), 16);
	api_check(p, 16, 1);
	board_close(b);
}

API_TEST(eviction_leaves_pages_in_their_place)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	board_take(b, p, NR);
	CHECK_EQ(uhmm_pagemap_evict(b->map), 0);
	CHECK_EQ(board_freed(b), NR);
	CHECK_EQ(api_resident(p, NR), NR);
	api_check(p, NR, 1);
	board_take(b, p, NR);
	CHECK_EQ(uhmm_pagemap_unregister(b->map), 0);
	CHECK_EQ(api_resident(p, NR), NR);
	api_check(p, NR, 1);
	board_close(b);
}

API_TEST(a_space_that_ends_gives_them_back)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	board_take(b, p, NR);
	munmap(p + 16 * PAGE, 16 * PAGE);
	CHECK_SOON(board_freed(b) == 16);
	api_destroy(b->space);
	CHECK_EQ(board_freed(b), NR);
	api_check(p, 16, 1);
	api_check(p + 32 * PAGE, NR - 32, 33);
	board_free(b);
}

API_TEST(they_go_to_a_storage_device_by_way_of_memory)
{
	struct board *b = board_open_coherent(delivery);
	struct uhmm_device *ram = api_device(b->space, "ram");
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	board_take(b, p, NR / 2);
	api_move(b->space, p, NR, ram, UHMM_MOVED);
	CHECK_EQ(board_freed(b), NR / 2);
	CHECK_EQ(api_resident(p, NR), 0);
	api_check(p, NR, 1);
	board_close(b);
}

API_TEST(they_are_found_by_the_pages_of_the_device)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(16);
	struct steps s = { .board = b };
	size_t i, n = 0;

	api_fill(p, 16, 1);
	board_take(b, p, 16);
	CHECK_EQ(mprotect(p + 12 * PAGE, 4 * PAGE, PROT_READ), 0);
	s.m = (struct uhmm_migrate){ .size = sizeof(s.m), .src = s.src, .dst = s.dst };
	CHECK_EQ(uhmm_migrate_device_range(b->map, 0, NR, &s.m), 0);
	CHECK_EQ(s.m.cpages, 12);
	steps_copy(&s, true);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), 12);
	CHECK_EQ(board_freed(b), 12);
	api_check(p, 16, 1);
	s.m.flags = UHMM_SELECT_READONLY;
	CHECK_EQ(uhmm_migrate_device_range(b->map, 0, NR, &s.m), 0);
	CHECK_EQ(s.m.cpages, 4);
	for (i = 0; i < NR; i++)
		n += s.src[i] && !(s.src[i] & UHMM_PFN_WRITE);
	CHECK_EQ(n, 4);
	steps_copy(&s, true);
	steps_end(&s);
	CHECK_EQ(board_freed(b), 16);
	api_check(p, 16, 1);
	board_close(b);
}

/* How often each page was told of, as a migration of its owner's. */
static void count_told(struct uhmm_notifier *notifier, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	unsigned *told = ctx;
	uintptr_t addr;

	uhmm_notifier_set_seq(notifier, seq);
	if (what->event == UHMM_EVENT_MIGRATE && what->owner == board_owner)
		for (addr = what->start; addr < what->end; addr += PAGE)
			told[addr / PAGE % 16]++;
}

API_TEST(who_mirrors_them_is_told_that_they_are_taken)
{
	static const struct uhmm_notifier_ops ops = { .size = sizeof(ops),
						      .invalidate = count_told };
	struct board *b = board_open_coherent(delivery);
	struct steps s = { .board = b };
	struct uhmm_notifier *notifier;
	unsigned told[16] = { 0 }, i;
	char *p = api_map(16);

	api_fill(p, 16, 1);
	board_take(b, p, 16);
	CHECK_EQ(uhmm_notifier_insert(b->space, (uintptr_t)p, 16 * PAGE, &ops, told,
				      &notifier),
		 0);
	CHECK_EQ(steps_setup(&s, b, p, 16, COHERENT), 0);
	CHECK_EQ(s.m.cpages, 16);
	for (i = 0; i < 16; i++)
		CHECK_GT(told[i], 0);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
	memset(told, 0, sizeof(told));
	s.m = (struct uhmm_migrate){ .size = sizeof(s.m), .src = s.src, .dst = s.dst };
	CHECK_EQ(uhmm_migrate_device_range(b->map, 0, NR, &s.m), 0);
	CHECK_EQ(s.m.cpages, 16);
	for (i = 0; i < 16; i++)
		CHECK_GT(told[i], 0);
	steps_copy(&s, true);
	steps_end(&s);
	uhmm_notifier_remove(notifier);
	api_check(p, 16, 1);
	board_close(b);
}

API_TEST(its_memory_may_be_looked_at)
{
	struct board *b = board_open_coherent(delivery);
	char *memory = uhmm_pagemap_memory(b->map), *p = api_map(8);
	size_t i;

	CHECK(memory);
	api_fill(p, 8, 1);
	board_take(b, p, 8);
	/* Where the program has the pages there are none; looking makes some. */
	if (delivery == UHMM_DELIVERY_THREAD)
		for (i = 0; i < 16; i++)
			CHECK_EQ(*(volatile char *)&memory[i * PAGE], 0);
	give_back(b, p, 8, 8);
	api_check(p, 8, 1);
	board_close(b);
}

API_TEST(a_mapping_that_may_not_be_written)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(8);
	struct steps s;

	api_fill(p, 8, 1);
	board_take(b, p, 8);
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_READ), 0);
	give_back(b, p, 8, 0);
	CHECK_EQ(steps_setup(&s, b, p, 8, COHERENT | UHMM_SELECT_READONLY), 0);
	CHECK_EQ(s.m.cpages, 8);
	CHECK_EQ(s.src[0] & UHMM_PFN_WRITE, 0);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
	/* It was copied back: it is the device's still, and may be taken again. */
	CHECK_EQ(steps_setup(&s, b, p, 8, COHERENT | UHMM_SELECT_READONLY), 0);
	CHECK_EQ(s.m.cpages, 8);
	steps_copy(&s, true);
	steps_end(&s);
	CHECK_EQ(board_freed(b), 8);
	api_check(p, 8, 1);
	board_close(b);
}

/* ---- by several threads ----------------------------------------------------------- */

struct worker {
	struct board *board;
	char *p;
	uint64_t seed;
	bool *stop;
	size_t moved;
	pthread_t thread;
};

static void *migrate_at_random(void *arg)
{
	struct worker *w = arg;
	struct steps *s = malloc(sizeof(*s));

	CHECK(s);
	while (!__atomic_load_n(w->stop, __ATOMIC_ACQUIRE)) {
		size_t at = w->seed >> 33 & (NR - 1), nr = 1 + (w->seed >> 20 & 31);
		bool back = w->seed >> 40 & 1;

		w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
		nr = nr < NR - at ? nr : NR - at;
		CHECK_EQ(steps_setup(s, w->board, w->p + at * PAGE, nr,
				     back ? COHERENT : COHERENT | UHMM_SELECT_SYSTEM),
			 0);
		steps_copy(s, back);
		steps_end(s);
		__atomic_fetch_add(&w->moved, steps_moved(s), __ATOMIC_RELAXED);
	}
	free(s);
	return NULL;
}

API_TEST(threads_write_while_drivers_migrate, .timeout_s = 60)
{
	struct board *b = board_open_coherent(delivery);
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
		if (round % 7 == 0)
			CHECK_EQ(madvise(p, NR * PAGE, MADV_DONTNEED), 0);
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
	api_check(p, NR, round);
}
