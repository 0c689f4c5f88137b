/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rest of the simulated operating system: looking at the program's memory. Whose it
 * is is asked of the thread that runs: the library is in every process that came from
 * fork() of libc, and in each it sees only that.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/sim/world.h"

/* ---- the program's memory -------------------------------------------------------- */

int os_vma_next(uintptr_t addr, bool writable_only, struct os_vma *out)
{
	const struct vma *vma;

	sim_point();
	mm_wait(here());
	for (; (vma = vma_next(here(), addr)); addr = vma->end)
		if (vma->prot & SIM_WRITE || !writable_only)
			break;
	if (!vma)
		return -ENOENT;
	*out = (struct os_vma){
		.start = vma->start,
		.end = vma->end,
		.kind = in_arena(vma->start) ? OS_VMA_ANON : OS_VMA_SPECIAL,
		.readable = vma->prot & SIM_READ,
		.writable = vma->prot & SIM_WRITE,
		.executable = vma->prot & SIM_EXEC,
		.page_shift = 12,
	};
	return 0;
}

static bool counts(const struct page *page)
{
	return (page->flags & (P_PRESENT | P_ZERO)) == P_PRESENT;
}

/* Of the library's own memory only what has pages that are tracked. */
static bool is_tracked(uintptr_t addr)
{
	return in_arena(addr) || own_chunk(here(), addr, false);
}

static bool is_found(uintptr_t addr, enum os_scan_what what)
{
	uint32_t flags = page_at(here(), addr)->flags;

	return flags & P_PRESENT && !(flags & P_ZERO) == (what == OS_SCAN_MEMORY);
}

int os_scan(uintptr_t start, uintptr_t end, enum os_scan_what what, uint32_t max_pages,
	    struct os_extent *extents, int nr, uintptr_t *walked)
{
	uintptr_t addr = start;
	uint32_t pages = 0;
	int n = 0;

	sim_point();
	mm_wait(here());
	for (; addr < end && pages < max_pages; addr += SIM_PAGE) {
		struct os_extent *last = n ? &extents[n - 1] : NULL;
		bool huge;

		if (!is_tracked(addr) || !is_found(addr, what))
			continue;
		huge = page_at(here(), addr)->flags & P_HUGE;
		if (last && last->start + last->nr_pages * SIM_PAGE == addr &&
		    last->huge == huge) {
			last->nr_pages++;
		} else {
			if (n == nr)
				break;
			extents[n++] = (struct os_extent){ addr, 1, huge };
		}
		pages++;
	}
	*walked = addr;
	sim_point();
	return n;
}

size_t os_empty(uintptr_t start, size_t len)
{
	size_t n = 0;

	while (n < len &&
	       !(is_tracked(start + n) && page_at(here(), start + n)->flags & P_PRESENT))
		n += SIM_PAGE;
	sim_point();
	return n;
}

bool os_huge_allowed(uintptr_t addr)
{
	const struct vma *vma;

	sim_point();
	mm_wait(here());
	vma = vma_at(here(), addr);
	return vma && vma->prot & SIM_THP;
}

static unsigned count_pages(const struct chunk *chunk, unsigned first, unsigned nr)
{
	unsigned i, n = 0;

	for (i = first; i < first + nr; i++)
		n += counts(&chunk->page[i]);
	return n;
}

/* The same count again, where nobody has had a page since. */
static unsigned count_chunk(struct chunk *chunk)
{
	static unsigned asked;

	if (!chunk->counted) {
		chunk->pages = (uint16_t)count_pages(chunk, 0, 512);
		chunk->counted = true;
	} else if (asked++ % 256 == 0 && chunk->pages != count_pages(chunk, 0, 512)) {
		sim_fail("pages have come or gone that nobody had from chunk_at()");
	}
	return chunk->pages;
}

static int64_t resident_tracked(const struct vma *vma)
{
	uintptr_t at = vma->start, end;
	struct chunk *chunk;
	int64_t pages = 0;

	for (; at < vma->end; at = end) {
		chunk = in_arena(at) ? arena_chunk(here(), at) :
				       own_chunk_next(here(), &at);
		if (!chunk || at >= vma->end)
			break;
		end = (at & ~(SIM_HUGE - 1)) + SIM_HUGE;
		end = end < vma->end ? end : vma->end;
		if (end - at == SIM_HUGE)
			pages += count_chunk(chunk);
		else
			pages += count_pages(chunk, at / SIM_PAGE % 512,
					     (unsigned)((end - at) / SIM_PAGE));
	}
	return pages;
}

/*
 * What the library has for itself grows slowly and takes long to count, so it is not
 * counted each time, and rarely where it has been asked often, by one who waits: the
 * kernel's own count is as late, by what each processor has not added yet.
 */
static int64_t resident_own(struct mm *mm)
{
	uint32_t asked = mm->own_asked++, late = sim_config.rss_late;
	unsigned i;

	if (late && asked % (asked < 64 * late ? late : 16 * late))
		return mm->own_pages;
	mm->own_pages = 0;
	for (i = 0; i < mm->nr; i++)
		if (!in_arena(mm->vma[i].start) && !mm->vma[i].uffd)
			mm->own_pages += image_resident(mm->vma[i].start, mm->vma[i].end);
	return mm->own_pages;
}

int64_t os_rss_anon_pages(int64_t *mapped_pages)
{
	int64_t pages, mapped = 0;
	unsigned i;

	sim_point();
	pages = resident_own(here());
	for (i = 0; i < here()->nr; i++) {
		const struct vma *vma = &here()->vma[i];

		mapped += (int64_t)((vma->end - vma->start) / SIM_PAGE);
		if (in_arena(vma->start) || vma->uffd)
			pages += resident_tracked(vma);
	}
	if (mapped_pages)
		*mapped_pages = mapped;
	return pages;
}

void os_mapped_once(uintptr_t start, unsigned nr, uint64_t *which)
{
	unsigned i;

	memset(which, 0, (nr + 63) / 64 * sizeof(*which));
	for (i = 0; i < nr; i++)
		if (!(page_at(here(), start + i * SIM_PAGE)->flags & P_SHARED) ||
		    world_below(2))
			which[i / 64] |= UINT64_C(1) << i % 64;
	sim_point();
}

int os_set_writable(uintptr_t start, size_t len, const struct os_vma *vma, bool writable)
{
	unsigned own = (vma->readable ? SIM_READ : 0) | (vma->writable ? SIM_WRITE : 0);

	return sim_mprotect(start, len,
			    (writable ? SIM_RW : own) | (vma->executable ? SIM_EXEC : 0));
}

int os_look(uintptr_t start, unsigned nr, uint8_t *pages)
{
	unsigned i;

	sim_point();
	mm_wait(here());
	for (i = 0; i < nr; i++) {
		uint16_t flags = page_at(here(), start + i * SIM_PAGE)->flags;

		pages[i] = flags & P_PRESENT ? OS_PAGE_PRESENT : 0;
		if (pages[i] && flags & P_ZERO)
			pages[i] |= OS_PAGE_ZERO;
		else if (pages[i] && !(flags & P_SHARED))
			pages[i] |= OS_PAGE_EXCLUSIVE;
		if (pages[i] && flags & P_HUGE)
			pages[i] |= OS_PAGE_HUGE;
	}
	sim_point();
	return 0;
}

int os_populate(uintptr_t start, size_t len, bool write)
{
	uintptr_t addr;
	int r = 0;

	for (addr = start; addr < start + len && r == 0; addr += SIM_PAGE) {
		r = page_access(here(), addr, write);
		if (r == -EFAULT)
			r = vma_at(here(), addr) ? -EINVAL : -ENOMEM;
		else if (r == -EIO)
			r = -EHWPOISON;
	}
	sim_trace("populate", (int64_t)start, (int64_t)(start + len), write, r);
	sim_point();
	return r;
}

int os_make_exclusive(uintptr_t start, size_t len)
{
	return os_populate(start, len, true);
}

void os_for_each_thread_area(void (*fn)(void *ctx, uintptr_t addr, size_t len), void *ctx)
{
	/* Simulated threads end without writing to memory. */
	(void)fn;
	(void)ctx;
	sim_point();
}

int os_for_each_wiped(uint32_t pid, void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
		      void *ctx)
{
	/* Nobody asks for MADV_WIPEONFORK here. */
	(void)fn;
	(void)ctx;
	sim_point();
	return pid && world_fails() ? -EMFILE : 0;
}

void os_block_signals(uint64_t *saved)
{
	*saved = 0; /* nobody sends signals here */
}

void os_accept_faults(void)
{
}

void os_restore_signals(const uint64_t *saved)
{
	(void)saved;
}

int os_attach(void)
{
	sim_point();
	return world_fails() ? -EMFILE : 0;
}
