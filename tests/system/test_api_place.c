/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mirror sees of pages that are on devices: of coherent ones where they are, of
 * private ones what may be done with them.
 */
#include "board.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "uhmm/range.h"

struct seen {
	struct board *board;
	struct uhmm_notifier *notifier;
	char *p;
	uint64_t pfn[NR];
	unsigned protection; /* times that PROTECTION was told */
};

static void invalidate(struct uhmm_notifier *notifier, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	struct seen *s = ctx;

	if (what->event == UHMM_EVENT_PROTECTION)
		__atomic_fetch_add(&s->protection, 1, __ATOMIC_RELAXED);
	uhmm_notifier_set_seq(notifier, seq);
}

static const struct uhmm_notifier_ops ops = { .size = sizeof(ops),
					      .invalidate = invalidate };

static void begin(struct seen *s, struct board *b, char *p)
{
	*s = (struct seen){ .board = b, .p = p };
	CHECK_EQ(uhmm_notifier_insert(b->space, (uintptr_t)p, NR * PAGE, &ops, s,
				      &s->notifier),
		 0);
}

static void look(struct seen *s, size_t nr, uint64_t flags)
{
	struct uhmm_range range = {
		.size = sizeof(range),
		.notifier = s->notifier,
		.start = (uintptr_t)s->p,
		.end = (uintptr_t)s->p + nr * PAGE,
		.pfns = s->pfn,
		.default_flags = flags,
		.dev_private_owner = board_owner,
	};
	int r;

	do {
		range.notifier_seq = uhmm_notifier_read_begin(s->notifier);
		r = uhmm_range_fault(&range);
	} while (r == -EBUSY);
	CHECK_EQ(r, 0);
}

static const uint64_t write_flags = UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE;

/* Is the page where the board has pages, and may it be written as expected? */
static void expect(struct seen *s, size_t i, bool on_board, bool write)
{
	uint64_t page, flags = UHMM_RANGE_VALID | (write ? UHMM_RANGE_WRITE : 0);
	struct uhmm_pagemap *map = uhmm_range_pagemap(s->board->space, s->pfn[i], &page);

	CHECK_EQ(s->pfn[i] & (UHMM_RANGE_VALID | UHMM_RANGE_WRITE | UHMM_RANGE_ERROR),
		 flags);
	CHECK(map == (on_board ? s->board->map : NULL));
	if (on_board)
		CHECK(page < DEVICE_PAGES);
}

API_TEST(a_coherent_page_is_seen_where_it_is)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(NR);
	struct seen s;

	api_fill(p, 8, 1);
	board_take(b, p, 4);
	begin(&s, b, p);
	look(&s, 8, 0);
	expect(&s, 0, true, true);
	expect(&s, 3, true, true);
	expect(&s, 4, false, true);
	CHECK_EQ(mprotect(p, 4 * PAGE, PROT_READ), 0);
	look(&s, 8, 0);
	expect(&s, 0, true, false);
	expect(&s, 4, false, true);
	uhmm_notifier_remove(s.notifier);
	board_close(b);
}

API_TEST(what_is_exclusive_is_on_no_device)
{
	struct board *b = board_open_coherent(delivery);
	char *p = api_map(NR);
	uhmm_pfn_t pfn;
	struct seen s;

	api_fill(p, 4, 1);
	board_take(b, p, 4);
	begin(&s, b, p);
	CHECK_EQ(uhmm_make_exclusive(b->space, (uintptr_t)p, board_owner, &pfn), 0);
	CHECK_EQ(board_freed(b), 1);
	*(char *)uhmm_pfn_bytes(b->space, pfn) ^= 1;
	*(volatile char *)p ^= 1;
	api_check(p, 4, 1);
	look(&s, 4, 0);
	expect(&s, 0, false, true);
	expect(&s, 1, true, true);
	uhmm_notifier_remove(s.notifier);
	board_close(b);
}

API_TEST(what_was_written_since_a_fork_is_memory)
{
	struct board *b = board_open_coherent(delivery);
	const char *why = api_fork_stops_threads();
	char *p = api_map(NR);
	struct seen s;
	int status;
	pid_t pid;

	if (why)
		SKIP("%s", why);
	api_fill(p, 4, 1);
	board_take(b, p, 4);
	begin(&s, b, p);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		pause();
		_exit(0);
	}
	look(&s, 4, 0);
	expect(&s, 0, true, false);
	p[0] = 1;
	look(&s, 4, 0);
	expect(&s, 0, false, true);
	expect(&s, 1, true, false);
	/* The device wants to write: the program's own copy is memory. */
	look(&s, 2, write_flags);
	expect(&s, 1, false, true);
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	uhmm_notifier_remove(s.notifier);
	board_close(b);
}

API_TEST(a_shared_page_is_not_written_by_the_device)
{
	struct board *b;
	const char *why = api_fork_stops_threads();
	char *p = api_map(NR);
	struct seen s;
	int status;
	pid_t pid;

	if (why)
		SKIP("%s", why);
	b = board_open_shared(delivery);
	api_fill(p, 4, 1);
	board_take(b, p, 4);
	begin(&s, b, p);
	look(&s, 4, write_flags);
	expect(&s, 0, true, true);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		usleep(50000);
		api_check(p, 4, 1);
		_exit(0);
	}
	CHECK_EQ(s.protection, 1);
	look(&s, 4, UHMM_RANGE_REQ_FAULT);
	expect(&s, 0, true, false);
	look(&s, 1, write_flags);
	expect(&s, 0, false, true);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	/* It has read them, and so given them up. */
	look(&s, 4, write_flags);
	expect(&s, 1, true, true);
	uhmm_notifier_remove(s.notifier);
	board_close(b);
}
