/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn: what is done to mappings.
 *
 * Each operation draws its random numbers first, calls the kernel, and brings the model
 * up to date. Everything here must succeed: the model only asks for what Linux grants.
 * Where a result may be an error by design (populating protected pages), the errno is
 * folded into the digest, so that it must be the same error wherever the program runs.
 *
 * Called by the thread that owns the regions.
 */
#include "churn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define HUGE_PAGES ((size_t)512)

/* Recent regions are used more: programs have hot and cold memory. */
struct region *pick_region(struct churn *c)
{
	uint64_t a = rng_next(&c->rng), b = rng_next(&c->rng);
	struct region *r;

	if (!c->nr_regions)
		return NULL;
	a %= (uint64_t)c->nr_regions;
	b %= (uint64_t)c->nr_regions;
	r = &c->region[a > b ? a : b];
	if (moves_see)
		moves_see(r->base, r->nr);
	return r;
}

/* Sizes from 1 page to max, each power of two as likely as the next. */
static size_t pick_size(struct churn *c, size_t max)
{
	uint64_t shift = rng_next(&c->rng), rest = rng_next(&c->rng);
	size_t nr = (size_t)1 << shift % 13;

	nr += rest % nr;
	return nr < max ? nr : max;
}

/* A piece of a region: often all of it. */
static void pick_part(struct churn *c, const struct region *r, size_t *first, size_t *nr)
{
	uint64_t how = rng_next(&c->rng), at = rng_next(&c->rng), len = rng_next(&c->rng);

	*first = how % 4 ? at % r->nr : 0;
	*nr = how % 4 == 1 ? r->nr - *first : 1 + len % (r->nr - *first);
}

/*
 * Address space of our own, not usable yet: aligned for huge pages, or off by some pages.
 */
static char *reserve(size_t nr, size_t off)
{
	size_t total = (nr + 2 * HUGE_PAGES) * PAGE, huge = HUGE_PAGES * PAGE;
	char *start = mmap(NULL, total, PROT_NONE, ANON | MAP_NORESERVE, -1, 0), *base;

	if (start == MAP_FAILED)
		fail("mmap to reserve %zu pages: %m", nr);
	base = (char *)(((uintptr_t)start + huge - 1) & ~(huge - 1)) +
	       off % HUGE_PAGES * PAGE;
	if (base > start && munmap(start, (size_t)(base - start)) != 0)
		fail("munmap before a reservation: %m");
	if (munmap(base + nr * PAGE, (size_t)(start + total - base) - nr * PAGE) != 0)
		fail("munmap after a reservation: %m");
	return base;
}

static void make_writable(struct region *r)
{
	if (mprotect(r->base, r->nr * PAGE, RW) != 0)
		fail("mprotect of %zu pages at %p: %m", r->nr, (void *)r->base);
	for (size_t i = 0; i < r->nr; i++)
		r->page[i].flags |= PAGE_R | PAGE_W;
}

static void advise_at(char *addr, size_t nr, int advice, bool must)
{
	if (madvise(addr, nr * PAGE, advice) != 0 && must)
		fail("madvise(%d) of %zu pages at %p: %m", advice, nr, (void *)addr);
}

void op_map(struct churn *c)
{
	size_t nr = pick_size(c, REGION_PAGES);
	uint64_t how = rng_next(&c->rng), fill = rng_below(&c->rng, 4);
	uint64_t off = rng_next(&c->rng);
	int flags = ANON | MAP_FIXED;
	struct region *r;
	char *base;

	if (c->nr_regions + 3 > REGIONS_MAX ||
	    c->pages + nr > c->target + c->target / 8) {
		op_unmap(c);
		return;
	}
	base = reserve(nr, how & 1 ? 0 : off);
	if (how >> 1 & 1)
		flags |= MAP_NORESERVE;
	if ((how >> 2 & 7) == 0)
		flags |= MAP_POPULATE;
	if (mmap(base, nr * PAGE, RW, flags, -1, 0) != base)
		fail("mmap of %zu pages at %p: %m", nr, (void *)base);
	if ((how >> 5 & 3) == 0 && madvise(base, nr * PAGE, MADV_HUGEPAGE) != 0 &&
	    errno != EINVAL)
		fail("madvise(HUGEPAGE): %m");
	r = region_new(c, base, nr);
	for (size_t i = 0; i < nr; i++) {
		uint64_t choice = rng_next(&c->rng);

		if (fill == 0 || (fill == 1 && choice >> 62))
			continue;
		page_write(c, r, i, (uint32_t)choice & ~1u);
	}
}

/* Whole, head, tail, or out of the middle. */
void op_unmap(struct churn *c)
{
	struct region *r = pick_region(c);
	size_t first, nr;

	if (!r)
		return;
	pick_part(c, r, &first, &nr);
	if (c->nr_regions + 3 > REGIONS_MAX || c->pages > c->target) {
		first = 0;
		nr = r->nr;
	}
	r = region_split(c, r, first, nr);
	if (munmap(r->base, r->nr * PAGE) != 0)
		fail("munmap of %zu pages at %p: %m", r->nr, (void *)r->base);
	region_forget(c, r);
}

/* A run, a stride, or here and there; read, or written and read. */
void op_touch(struct churn *c)
{
	struct region *r = pick_region(c);
	uint64_t how = rng_next(&c->rng), at = rng_next(&c->rng), nr = rng_next(&c->rng);
	size_t step = how % 3 == 0 ? 1 + at % 17 : 1;

	if (!r)
		return;
	at %= r->nr;
	nr = 1 + nr % (how >> 62 ? 16 : 128);
	for (uint64_t n = 0; n < nr; n++) {
		uint64_t choice = rng_next(&c->rng);

		if (how % 3 == 2)
			at = rng_next(&c->rng);
		at %= r->nr;
		page_check(c, r, at, choice);
		if (how >> 8 & 1) {
			page_write(c, r, at, (uint32_t)(choice >> 16));
			page_check(c, r, at, choice >> 1);
		}
		at += step;
	}
	constants_check(how);
}

/* Moved, and zeros where it grew. */
static void remap_to(struct region *r, char *to, size_t nr, struct churn *c)
{
	size_t old = r->nr;

	r->base = to;
	if (nr > old) {
		r->page = realloc(r->page, nr * sizeof(struct page));
		if (!r->page)
			fail("realloc of %zu bytes", nr * sizeof(struct page));
		memset(r->page + old, 0, (nr - old) * sizeof(struct page));
		for (size_t i = old; i < nr; i++)
			r->page[i].flags = PAGE_R | PAGE_W;
	}
	r->nr = nr;
	c->pages += nr - old;
}

/*
 * What Linux 6.17 has moved before it came to a mapping that it refuses: of a place that
 * was reserved, pages that can be written.
 */
static size_t writable_from(const char *to, size_t nr)
{
	char mapping[256];
	unsigned long start, end;
	size_t n = 0;

	while (n < nr) {
		mapping_of((uintptr_t)to + n * PAGE, mapping, sizeof(mapping));
		if (sscanf(mapping, "%lx-%lx rw", &start, &end) != 2 ||
		    !strstr(mapping, " rw"))
			break;
		n = (end - (uintptr_t)to) / PAGE;
	}
	return n < nr ? n : nr;
}

/*
 * Two pieces of a region that were protected differently when they were first written may
 * stay two mappings for good, and mremap works on one. Then we move by hand; a program
 * that sees this more often than a few times in a hundred is being told wrong.
 */
static char *move_by_hand(struct churn *c, struct region *r, size_t nr, int flags,
			  char *to)
{
	size_t keep = nr < r->nr ? nr : r->nr, moved = to ? writable_from(to, keep) : 0;

	if (++c->refused > 10 + c->remapped / 10)
		fail("mremap refused %u of %u times, now for %zu pages at %p to %zu at "
		     "%p, flags %d",
		     c->refused, c->remapped, r->nr, (void *)r->base, nr, (void *)to,
		     flags);
	if (!to)
		to = reserve(nr, 0);
	if (moved < nr && mmap(to + moved * PAGE, (nr - moved) * PAGE, RW,
			       ANON | MAP_FIXED, -1, 0) == MAP_FAILED)
		fail("mmap(FIXED) of %zu pages: %m", nr - moved);
	memcpy(to + moved * PAGE, r->base + moved * PAGE, (keep - moved) * PAGE);
	/* What was moved has left a hole, where somebody else may have mapped since. */
	if (flags & MREMAP_DONTUNMAP ?
		    madvise(r->base, r->nr * PAGE, MADV_DONTNEED) :
		    munmap(r->base + moved * PAGE, (r->nr - moved) * PAGE))
		fail("giving up the old place: %m");
	if (r->flags & REGION_DONTFORK)
		advise_at(to, nr, MADV_DONTFORK, true);
	if (r->flags & REGION_WIPE)
		advise_at(to, nr, MADV_WIPEONFORK, true);
	return to;
}

static char *must_remap(struct churn *c, struct region *r, size_t nr, int flags, char *to)
{
	char *now = mremap(r->base, r->nr * PAGE, nr * PAGE, flags, to);

	c->remapped++;
	if (now != MAP_FAILED)
		return now;
	if (errno != EFAULT)
		fail("mremap of %zu pages at %p to %zu at %p, flags %d: %m", r->nr,
		     (void *)r->base, nr, (void *)to, flags);
	return move_by_hand(c, r, nr, flags, to);
}

/* The old range stays, empty. */
static void remap_leave(struct churn *c, struct region *r, char *to)
{
	struct region *moved;
	char *now = must_remap(c, r, r->nr,
			       MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);

	moved = region_new(c, now, r->nr);
	moved->flags = r->flags;
	memcpy(moved->page, r->page, r->nr * sizeof(struct page));
	pages_zero(r, 0, r->nr);
}

void op_remap(struct churn *c)
{
	struct region *r = pick_region(c);
	uint64_t how = rng_next(&c->rng), at = rng_next(&c->rng), len = rng_next(&c->rng);
	uint64_t off = rng_next(&c->rng);
	size_t room = c->target > c->pages ? c->target - c->pages : 0, nr, first, part;
	char *now;

	if (!r || r->flags & REGION_MIXED || c->nr_regions + 3 > REGIONS_MAX)
		return;
	make_writable(r);
	switch (how % 6) {
	case 0: /* grow, in place if it can be */
	case 1: /* grow, anywhere */
		nr = r->nr + 1 + len % r->nr;
		if (nr > REGION_PAGES || nr - r->nr > room)
			return;
		now = how % 6 ? MAP_FAILED : mremap(r->base, r->nr * PAGE, nr * PAGE, 0);
		if (now == MAP_FAILED)
			now = must_remap(c, r, nr, MREMAP_MAYMOVE, NULL);
		remap_to(r, now, nr, c);
		break;
	case 2: /* shrink */
		nr = 1 + len % r->nr;
		remap_to(r, must_remap(c, r, nr, 0, NULL), nr, c);
		break;
	case 3: /* to a place of our choice, perhaps of another size */
		nr = how >> 8 & 1 ? r->nr :
				    1 + len % (r->nr + (r->nr < room ? r->nr : room));
		if (nr > REGION_PAGES)
			nr = REGION_PAGES;
		now = reserve(nr, how >> 9 & 1 ? 0 : off);
		remap_to(r, must_remap(c, r, nr, MREMAP_MAYMOVE | MREMAP_FIXED, now), nr,
			 c);
		break;
	case 4:
		if (r->nr <= room)
			remap_leave(c, r, reserve(r->nr, how >> 9 & 1 ? 0 : off));
		break;
	default: /* a part of it goes elsewhere and leaves a hole */
		first = at % r->nr;
		part = 1 + len % (r->nr - first);
		r = region_split(c, r, first, part);
		now = reserve(part, how >> 9 & 1 ? 0 : off);
		remap_to(r, must_remap(c, r, part, MREMAP_MAYMOVE | MREMAP_FIXED, now),
			 part, c);
	}
}

static void advise(struct region *r, size_t first, size_t nr, int advice, bool must)
{
	advise_at(r->base + first * PAGE, nr, advice, must);
}

/* What a child sees of the region: nothing, zeros, or what there is. */
void op_inherit(struct churn *c)
{
	struct region *r = pick_region(c);
	uint64_t how = rng_next(&c->rng);

	if (!r)
		return;
	if (r->flags & REGION_DONTFORK) {
		advise(r, 0, r->nr, MADV_DOFORK, true);
		r->flags &= ~(uint32_t)REGION_DONTFORK;
	} else if (r->flags & REGION_WIPE) {
		advise(r, 0, r->nr, MADV_KEEPONFORK, true);
		r->flags &= ~(uint32_t)REGION_WIPE;
	} else if (how & 1) {
		advise(r, 0, r->nr, MADV_DONTFORK, true);
		r->flags |= REGION_DONTFORK;
	} else {
		advise(r, 0, r->nr, MADV_WIPEONFORK, true);
		r->flags |= REGION_WIPE;
	}
}

void op_advise(struct churn *c)
{
	struct region *r = pick_region(c);
	uint64_t how = rng_next(&c->rng), which = rng_next(&c->rng) % 14;
	static const int hints[] = { MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED,
				     MADV_COLLAPSE };
	size_t first, nr;
	int result;

	if (!r)
		return;
	pick_part(c, r, &first, &nr);
	if (which < 5) {
		advise(r, first, nr, MADV_DONTNEED, true);
		pages_zero(r, first, nr);
	} else if (which < 8) {
		advise(r, first, nr, MADV_FREE, true);
		for (size_t i = first; i < first + nr; i++)
			r->page[i].flags |= PAGE_MAYBE;
	} else if (which < 12) {
		advise(r, first, nr, hints[how % 4], false);
	} else if (which == 12) {
		result = madvise(r->base + first * PAGE, nr * PAGE,
				 how & 1 ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
		if (!options.without_kernel)
			fold(c, result ? (uint64_t)errno : 0);
	} else {
		advise(r, 0, r->nr, how & 1 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE, false);
	}
	page_check(c, r, first, how >> 2);
}

void op_protect(struct churn *c)
{
	struct region *r = pick_region(c);
	uint64_t how = rng_next(&c->rng);
	static const struct {
		int prot;
		uint8_t flags;
	} kinds[] = {
		{ PROT_NONE, 0 },
		{ PROT_READ, PAGE_R },
		{ RW, PAGE_R | PAGE_W },
	};
	size_t first, nr, kind = how % 3;

	if (!r)
		return;
	pick_part(c, r, &first, &nr);
	if (how >> 8 & 1) {
		make_writable(r);
		return;
	}
	if (mprotect(r->base + first * PAGE, nr * PAGE, kinds[kind].prot) != 0)
		fail("mprotect of %zu pages: %m", nr);
	for (size_t i = first; i < first + nr; i++)
		r->page[i].flags = (uint8_t)((r->page[i].flags & PAGE_MAYBE) |
					     kinds[kind].flags);
}

/* A new mapping over a part of an old one, which nobody unmapped. */
void op_fixed(struct churn *c)
{
	struct region *r = pick_region(c);
	size_t first, nr;

	if (!r || r->flags & REGION_WIPE)
		return;
	pick_part(c, r, &first, &nr);
	if (mmap(r->base + first * PAGE, nr * PAGE, RW, ANON | MAP_FIXED, -1, 0) ==
	    MAP_FAILED)
		fail("mmap(FIXED) of %zu pages: %m", nr);
	pages_zero(r, first, nr);
	for (size_t i = first; i < first + nr; i++)
		r->page[i].flags = PAGE_R | PAGE_W;
	r->flags |= REGION_MIXED;
	page_check(c, r, first, 0);
}

void op_lock(struct churn *c)
{
	struct region *r = pick_region(c);
	size_t first, nr;

	if (!r)
		return;
	pick_part(c, r, &first, &nr);
	if (nr > 64)
		nr = 64;
	for (size_t i = first; i < first + nr; i++)
		if (!(r->page[i].flags & PAGE_R))
			return;
	if (mlock(r->base + first * PAGE, nr * PAGE) != 0)
		fail("mlock of %zu pages: %m", nr);
	for (size_t i = first; i < first + nr; i++)
		page_check(c, r, i, 4 * i + 1);
	if (munlock(r->base + first * PAGE, nr * PAGE) != 0)
		fail("munlock of %zu pages: %m", nr);
}
