/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world's mappings and pages: what they are, without what is done to them.
 *
 * A mapping (vma) is a run of addresses with one protection, one registration and one
 * mmap() behind it; operations split it and merge it again as the kernel does, because
 * MOVE and COPY refuse a range that touches two. Pages are kept per 2 MiB chunk. A page
 * that is not present holds garbage, so that whoever looks at it all the same is found
 * out: by the oracle (reads), or by page_untouched() (writes).
 *
 * page_fill() is the one way for a page to become present. It compares the page with the
 * shadow in that instant.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/sim/world.h"

struct mm *main_mm;

static struct mm mms[MAX_MMS];
static uint32_t next_pid;

/* ---- address spaces -------------------------------------------------------------- */

static void *map_host(void *at, size_t len)
{
	char *p = mmap(at, at ? len : len + SIM_HUGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			       (at ? MAP_FIXED_NOREPLACE : 0),
		       -1, 0);

	if (p == MAP_FAILED || (at && p != at))
		sim_fail("the host has no memory for the arena");
	/* All of it will be written. */
	p += -(uintptr_t)p & (SIM_HUGE - 1);
	madvise(p, len, MADV_HUGEPAGE);
	return p;
}

static void mm_reset(struct mm *mm)
{
	unsigned i;

	for (i = 0; i < ARENA_PAGES; i++) {
		if (!mm->dirty[i])
			continue;
		memset(mm->bytes + i * SIM_PAGE, GARBAGE, SIM_PAGE);
		memset(mm->shadow + i * SIM_PAGE, 0, SIM_PAGE);
	}
	memset(mm->arena, 0, sizeof(mm->arena));
	memset(mm->flux, 0, sizeof(mm->flux));
	memset(mm->writers, 0, sizeof(mm->writers));
	memset(mm->keeping, 0, sizeof(mm->keeping));
	memset(mm->inherited, 0, sizeof(mm->inherited));
	mm->parent = NULL;
	mm->dead = mm->whole = mm->forking = false;
	memset(mm->dirty, 0, sizeof(mm->dirty));
	memset(mm->names, 0, sizeof(mm->names));
	mm->nr = 0;
	mm->own_asked = 0;
	mm->used = false;
}

void mm_reset_all(void)
{
	unsigned i;

	next_pid = 1000;
	for (i = 0; i < MAX_MMS; i++)
		if (mms[i].used)
			mm_reset(&mms[i]);
}

struct mm *mm_at(unsigned i)
{
	return i < MAX_MMS ? &mms[i] : NULL;
}

struct mm *mm_create(void)
{
	size_t len = ARENA_PAGES * SIM_PAGE;
	struct mm *mm;
	unsigned i;

	for (i = 0; i < MAX_MMS && mms[i].used; i++)
		if (mms[i].dead && !files_name(&mms[i])) {
			mm_reset(&mms[i]);
			break;
		}
	if (i == MAX_MMS)
		return NULL;
	mm = &mms[i];
	mm->index = i;
	if (!mm->bytes) {
		mm->bytes = map_host(i ? NULL : (void *)ARENA_BASE, len);
		mm->shadow = map_host(NULL, len);
		memset(mm->dirty, 1, sizeof(mm->dirty));
		mm_reset(mm);
	}
	mm->used = true;
	mm->pid = next_pid++;
	return mm;
}

/* ---- mappings -------------------------------------------------------------------- */

struct vma *vma_next(struct mm *mm, uintptr_t addr)
{
	unsigned i;

	for (i = 0; i < mm->nr; i++)
		if (mm->vma[i].end > addr)
			return &mm->vma[i];
	return NULL;
}

struct vma *vma_at(struct mm *mm, uintptr_t addr)
{
	struct vma *vma = vma_next(mm, addr);

	return vma && vma->start <= addr ? vma : NULL;
}

void vma_insert(struct mm *mm, struct vma vma)
{
	unsigned i;

	if (mm->nr == mm->cap) {
		mm->cap = mm->cap ? 2 * mm->cap : 64;
		mm->vma = realloc(mm->vma, mm->cap * sizeof(*mm->vma));
		if (!mm->vma)
			sim_fail("the host has no memory for mappings");
	}
	for (i = mm->nr; i > 0 && mm->vma[i - 1].start > vma.start; i--)
		mm->vma[i] = mm->vma[i - 1];
	mm->vma[i] = vma;
	mm->nr++;
}

void vma_split(struct mm *mm, uintptr_t addr)
{
	struct vma *vma = vma_at(mm, addr), tail;

	if (!vma || vma->start == addr)
		return;
	tail = *vma;
	tail.start = addr;
	vma->end = addr;
	vma_insert(mm, tail);
	if (addr % SIM_HUGE)
		page_split(mm, addr);
}

void vma_cut(struct mm *mm, uintptr_t start, uintptr_t end)
{
	unsigned i, n = 0;

	vma_split(mm, start);
	vma_split(mm, end);
	for (i = 0; i < mm->nr; i++)
		if (mm->vma[i].end <= start || mm->vma[i].start >= end)
			mm->vma[n++] = mm->vma[i];
	mm->nr = n;
}

void vma_merge(struct mm *mm)
{
	unsigned i, n = 0;

	for (i = 1; i < mm->nr; i++) {
		struct vma *a = &mm->vma[n], *b = &mm->vma[i];

		if (a->end == b->start && a->prot == b->prot && a->uffd == b->uffd &&
		    a->id == b->id)
			a->end = b->end;
		else
			mm->vma[++n] = *b;
	}
	if (mm->nr)
		mm->nr = n + 1;
}

/* ---- pages ----------------------------------------------------------------------- */

struct chunk *chunk_at(struct mm *mm, uintptr_t addr)
{
	struct chunk *chunk = in_arena(addr) ? arena_chunk(mm, addr) :
					       own_chunk(mm, addr, true);

	chunk->counted = false;
	return chunk;
}

struct page *page_at(struct mm *mm, uintptr_t addr)
{
	return &chunk_at(mm, addr)->page[addr / SIM_PAGE % 512];
}

void *page_bytes(struct mm *mm, uintptr_t addr)
{
	addr &= ~(SIM_PAGE - 1);
	if (in_arena(addr))
		return mm->bytes + (addr - ARENA_BASE);
	image_check_mapped(mm);
	return (void *)addr;
}

bool page_is(const void *bytes, unsigned char value)
{
	const unsigned char *b = bytes;

	return b[0] == value && !memcmp(b, b + 1, SIM_PAGE - 1);
}

/*
 * What was under way when the parent forked goes on in the parent only: what the child
 * finds first is what it has.
 */
void flux_settle(struct mm *mm, uintptr_t addr)
{
	size_t at = (addr - ARENA_BASE) & ~(SIM_PAGE - 1), i = at / SIM_PAGE;

	if (!mm->inherited[i])
		return;
	if (mm->inherited[i] == I_MOVE || page_is(mm->bytes + at, 0))
		memcpy(mm->shadow + at, mm->bytes + at, SIM_PAGE);
	mm->inherited[i] = 0;
	mm->flux[i]--;
}

void unsettle(struct mm *mm, uintptr_t start, size_t len, unsigned char how)
{
	struct mm *child;
	uintptr_t addr;
	size_t i;
	unsigned n;

	for (n = 0; (child = mm_at(n)); n++)
		for (addr = start; child->parent == mm && addr < start + len;
		     addr += SIM_PAGE) {
			i = (addr - ARENA_BASE) / SIM_PAGE;
			child->flux[i] += !child->inherited[i];
			if (child->inherited[i] < how)
				child->inherited[i] = how;
		}
}

static void check(struct mm *mm, uintptr_t addr, const char *how)
{
	size_t at = (addr - ARENA_BASE) & ~(SIM_PAGE - 1), i;
	const unsigned char *have = (void *)(mm->bytes + at);
	const unsigned char *want = (void *)(mm->shadow + at);

	flux_settle(mm, addr);
	if (!memcmp(have, want, SIM_PAGE) ||
	    (mm->flux[at / SIM_PAGE] && page_is(have, 0)))
		return;
	for (i = 0; have[i] == want[i]; i++)
		;
	sim_fail("%s: wrong bytes in page %zu%s: at %zu is %02x where %02x belongs%s%s",
		 how, at / SIM_PAGE, mm == main_mm ? "" : " of a forked child", i,
		 have[i], want[i], page_is(have, 0) ? " (all zeros)" : "",
		 page_is(have, GARBAGE) ? " (a page that was not there)" : "");
}

void page_fill(struct mm *mm, uintptr_t addr, uint16_t flags, const char *how)
{
	struct chunk *chunk = chunk_at(mm, addr);
	struct page *page = &chunk->page[addr / SIM_PAGE % 512];

	page->flags = P_PRESENT | flags;
	if (!(flags & P_HUGE))
		chunk->table = true;
	if (!in_arena(addr))
		return;
	mm->dirty[(addr - ARENA_BASE) / SIM_PAGE] = true;
	check(mm, addr, how);
}

/* Absent pages of our own memory read as zeros, unless reading them would be a fault. */
static bool holds_garbage(struct mm *mm, uintptr_t addr)
{
	const struct vma *vma;

	if (in_arena(addr))
		return true;
	vma = vma_at(mm, addr);
	return vma && vma->uffd;
}

void page_gone(struct mm *mm, uintptr_t addr)
{
	struct page *page = page_at(mm, addr);
	bool garbage;

	if (page->flags & P_PRESENT) {
		garbage = holds_garbage(mm, addr);
		memset(page_bytes(mm, addr), garbage ? GARBAGE : 0, SIM_PAGE);
		page->flags = garbage ? P_GARBAGE : 0;
	}
	page->flags &= P_GARBAGE;
	page->pins = 0;
}

bool page_untouched(struct mm *mm, uintptr_t addr)
{
	const struct page *page = page_at(mm, addr);
	char *bytes = page_bytes(mm, addr);

	if (in_arena(addr) || page->flags & P_GARBAGE)
		return page_is(bytes, GARBAGE);
	if (!holds_garbage(mm, addr))
		return true;
	/* It is about to be filled: to read it first would be two faults here. */
	__atomic_fetch_or(bytes, 0, __ATOMIC_RELAXED);
	return page_is(bytes, 0);
}

void page_split(struct mm *mm, uintptr_t addr)
{
	struct chunk *chunk = in_arena(addr) ? chunk_at(mm, addr) :
					       own_chunk(mm, addr, false);
	unsigned i;

	if (!chunk || !(chunk->page[addr / SIM_PAGE % 512].flags & P_HUGE))
		return;
	for (i = 0; i < 512; i++)
		chunk->page[i].flags &= (uint16_t)~P_HUGE;
	chunk->table = true;
}

void mm_check(struct mm *mm, const char *when)
{
	uintptr_t addr;
	unsigned i;

	for (i = 0; i < mm->nr; i++)
		for (addr = mm->vma[i].start; addr < mm->vma[i].end; addr += SIM_PAGE) {
			size_t at = addr - ARENA_BASE;

			if (!in_arena(addr))
				break;
			if (page_at(mm, addr)->flags & P_PRESENT)
				check(mm, addr, when);
			else if (!page_is(mm->shadow + at, 0) && !mm->flux[at / SIM_PAGE])
				sim_fail("%s: page %zu of a forked child is missing",
					 when, at / SIM_PAGE);
		}
}

/* ---- looking without touching ---------------------------------------------------- */

bool sim_present(uintptr_t addr)
{
	return page_at(sim_current->mm, addr)->flags & P_PRESENT;
}

bool sim_huge(uintptr_t addr)
{
	return page_at(sim_current->mm, addr)->flags & P_HUGE;
}

bool sim_pinned(uintptr_t addr)
{
	return page_at(sim_current->mm, addr)->pins;
}

bool sim_mapped(uintptr_t addr)
{
	return vma_at(sim_current->mm, addr);
}

unsigned sim_prot(uintptr_t addr)
{
	const struct vma *vma = vma_at(sim_current->mm, addr);

	return vma ? vma->prot & SIM_RW : 0;
}

bool sim_unsettled(uintptr_t addr)
{
	return sim_current->mm->flux[(addr - ARENA_BASE) / SIM_PAGE];
}

const void *sim_shadow(uintptr_t addr)
{
	return sim_current->mm->shadow + ((addr - ARENA_BASE) & ~(SIM_PAGE - 1));
}
