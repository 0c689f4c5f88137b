/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bursts of changes of mappings whose pages are migrated, by the only thread of a program
 * that has one processor, compared with what each page should hold after them. No reader
 * gets between two changes there, so all of a burst is told as one batch; of what grows
 * in place the kernel tells nobody at all.
 */
#include "api.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGES 48u
#define CHILDREN 4u
#define LOG 400

struct burst {
	char *base;
	uint64_t random;
	unsigned next; /* what is written next: each page has something else */
	struct {
		bool mapped;
		unsigned value;
	} page[PAGES];
	pid_t child[CHILDREN];
	unsigned nr_children;
	bool unknown; /* the kernel has done a part of what it refused */
	char log[LOG];
	size_t logged;
};

static unsigned below(struct burst *b, unsigned n)
{
	b->random = b->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)(b->random >> 33) % n;
}

static void note(struct burst *b, const char *what, unsigned from, unsigned to,
		 unsigned there)
{
	int n = snprintf(b->log + b->logged, LOG - b->logged, " %s %u-%u %u;", what, from,
			 to, there);

	if (n > 0 && (size_t)n < LOG - b->logged)
		b->logged += (size_t)n;
}

static char *at(const struct burst *b, unsigned page)
{
	return b->base + page * PAGE;
}

static void write_page(struct burst *b, unsigned page)
{
	b->page[page].value = b->next++;
	memcpy(at(b, page) + 128, &b->page[page].value, sizeof(unsigned));
}

/* The first page that does not hold what it should, or PAGES. */
static unsigned wrong_page(const struct burst *b)
{
	unsigned page, value;

	for (page = 0; page < PAGES; page++) {
		if (!b->page[page].mapped)
			continue;
		memcpy(&value, at(b, page) + 128, sizeof(value));
		if (value != b->page[page].value)
			break;
	}
	return page;
}

static void set(struct burst *b, unsigned from, unsigned to, bool mapped)
{
	for (; from < to; from++) {
		b->page[from].mapped = mapped;
		b->page[from].value = 0;
	}
}

/* The end of what is mapped from there on, or of what is not. */
static unsigned end_of(const struct burst *b, unsigned page)
{
	bool mapped = b->page[page].mapped;

	while (page < PAGES && b->page[page].mapped == mapped)
		page++;
	return page;
}

/* Some pages that are mapped; false: none were found. */
static bool choose(struct burst *b, unsigned *from, unsigned *to)
{
	unsigned tries;

	for (tries = 0; tries < 20; tries++) {
		*from = below(b, PAGES);
		if (!b->page[*from].mapped)
			continue;
		*to = *from + 1 + below(b, end_of(b, *from) - *from);
		return true;
	}
	return false;
}

/* ---- the changes ------------------------------------------------------------------- */

static void map_some(struct burst *b)
{
	unsigned from = below(b, PAGES), left = PAGES - from;
	unsigned to = from + 1 + below(b, left < 8 ? left : 8);

	note(b, "map", from, to, 0);
	CHECK(mmap(at(b, from), (to - from) * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at(b, from));
	set(b, from, to, true);
}

static void unmap_some(struct burst *b)
{
	unsigned from, to;

	if (!choose(b, &from, &to))
		return;
	note(b, "unmap", from, to, 0);
	CHECK_EQ(munmap(at(b, from), (to - from) * PAGE), 0);
	set(b, from, to, false);
}

static void discard_some(struct burst *b)
{
	unsigned from, to;

	if (!choose(b, &from, &to))
		return;
	note(b, "discard", from, to, 0);
	CHECK_EQ(madvise(at(b, from), (to - from) * PAGE, MADV_DONTNEED), 0);
	set(b, from, to, true);
}

static void shrink_one(struct burst *b)
{
	unsigned from, to, end;

	if (!choose(b, &from, &end) || (end = end_of(b, from)) - from < 2)
		return;
	to = from + 1 + below(b, end - from - 1);
	note(b, "shrink", from, end, to);
	if (mremap(at(b, from), (end - from) * PAGE, (to - from) * PAGE, 0) == MAP_FAILED)
		b->unknown = true;
	set(b, to, end, false);
}

static void grow_one(struct burst *b)
{
	unsigned from, to, end;

	if (!choose(b, &from, &end) || (end = end_of(b, from)) == PAGES)
		return;
	to = end + 1 + below(b, end_of(b, end) - end);
	note(b, "grow", from, end, to);
	/* What is mapped may be more than one mapping. */
	if (mremap(at(b, from), (end - from) * PAGE, (to - from) * PAGE, 0) != MAP_FAILED)
		set(b, end, to, true);
}

static void move_one(struct burst *b)
{
	unsigned from, to, there, nr, more, i;
	bool keep = below(b, 5) == 0;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (keep ? MREMAP_DONTUNMAP : 0);

	if (!choose(b, &from, &to))
		return;
	nr = to - from;
	more = keep || below(b, 4) ? 0 : below(b, 3);
	there = below(b, PAGES - nr + 1);
	if (there + nr + more > PAGES || (there < to && from < there + nr + more))
		return;
	note(b, keep ? "leave" : "move", from, to, there);
	note(b, "and grow", there + nr, there + nr + more, 0);
	if (mremap(at(b, from), nr * PAGE, (nr + more) * PAGE, flags, at(b, there)) ==
	    MAP_FAILED) {
		b->unknown = true;
		return;
	}
	for (i = 0; i < nr; i++)
		b->page[there + i] = b->page[from + i];
	set(b, there + nr, there + nr + more, true);
	set(b, from, to, keep);
}

static void write_one(struct burst *b)
{
	unsigned page, to;

	if (!choose(b, &page, &to))
		return;
	note(b, "write", page, page + 1, 0);
	write_page(b, page);
}

static void make_child(struct burst *b)
{
	bool raw = below(b, 3);
	pid_t pid;

	if (b->nr_children == CHILDREN)
		return;
	note(b, raw ? "clone" : "fork", 0, 0, 0);
	pid = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0) : fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit((int)wrong_page(b));
	b->child[b->nr_children++] = pid;
}

static void (*const change[])(struct burst *) = {
	map_some, unmap_some, discard_some, shrink_one, grow_one,
	grow_one, move_one,   move_one,     write_one,  make_child,
};

/* ---- bursts ------------------------------------------------------------------------ */

static void begin(struct burst *b, struct uhmm_space *space, struct uhmm_device *dev)
{
	unsigned i, page, nr = 1 + below(b, 3);

	b->nr_children = 0;
	b->logged = 0;
	b->unknown = false;
	munmap(b->base, PAGES * PAGE);
	set(b, 0, PAGES, false);
	for (i = 0; i < nr; i++)
		map_some(b);
	for (page = 0; page < PAGES; page++)
		if (b->page[page].mapped && below(b, 8))
			write_page(b, page);
	/* There are holes, and pages that were never written. */
	uhmm_migrate(space, b->base, PAGES * PAGE, dev, NULL, NULL);
}

static void end(struct burst *b, unsigned seed)
{
	unsigned i, wrong = b->unknown ? PAGES : wrong_page(b);
	int status;

	CHECK(wrong == PAGES, "seed %u: page %u, after%s", seed, wrong, b->log);
	for (i = 0; i < b->nr_children; i++) {
		CHECK_EQ(waitpid(b->child[i], &status, 0), b->child[i]);
		CHECK(b->unknown || status == (int)PAGES << 8,
		      "seed %u: child %u ended with %x, after%s", seed, i, status,
		      b->log);
	}
}

static void take_one_processor(void)
{
	cpu_set_t all, one;
	int cpu;

	CHECK_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
	for (cpu = 0; !CPU_ISSET(cpu, &all); cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	CHECK_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
}

API_TEST(bursts_of_a_single_thread_are_followed, .timeout_s = 120)
{
	const char *why = api_fork_stops_threads();
	unsigned seed, seeds = test_instrument() ? 50 : 500, i, nr;
	struct uhmm_space *space;
	struct uhmm_device *dev;
	struct burst b = { .next = 1 };

	if (why)
		SKIP("%s", why);
	take_one_processor();
	space = api_space(delivery, 0);
	dev = api_device(space, "ram");
	b.base = api_map(PAGES);
	for (seed = 1; seed <= seeds; seed++) {
		b.random = seed * UINT64_C(0x9e3779b97f4a7c15);
		begin(&b, space, dev);
		for (i = 0, nr = 2 + below(&b, 7); i < nr && !b.unknown; i++)
			change[below(&b, sizeof(change) / sizeof(change[0]))](&b);
		end(&b, seed);
	}
	api_destroy(space);
}
