/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the simulated application does to its memory: touch it, map, unmap, move, discard
 * and protect it, pin pages. The order of things is the kernel's (Linux 6.18):
 *
 * - munmap, mmap over something, mremap: the page table changes and from the same instant
 *   the userfaultfd's mapping "is changing"; then the caller queues the event and sleeps
 *   until it was read. One event for each userfaultfd in the range, with the whole range.
 *   mremap onto a mapping raises UNMAP, REMAP, and UNMAP for where the pages were.
 * - MADV_DONTNEED: for each mapping, event first; once it was read the mapping is no
 *   longer changing, and *then* the caller goes on and discards. Others may run in
 *   between.
 * - fork: see os_sim_fork.c.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/world.h"

static uint32_t next_id;

static size_t index_of(uintptr_t addr)
{
	return (addr - ARENA_BASE) / SIM_PAGE;
}

/* What no sane program does to memory that another thread is using so. */
static bool racing(struct mm *mm, uintptr_t start, size_t len, bool also_writers)
{
	uintptr_t addr;

	for (addr = start; addr < start + len; addr += SIM_PAGE)
		if (mm->flux[index_of(addr)] || page_at(mm, addr)->pins ||
		    (also_writers && mm->writers[index_of(addr)]))
			return true;
	return false;
}

/* fork() holds the address space while it copies it. */
void mm_wait(struct mm *mm)
{
	while (mm->forking)
		sim_sleep(world_below(3000));
}

/* ---- touching -------------------------------------------------------------------- */

static bool huge_fits(struct mm *mm, const struct vma *vma, uintptr_t start)
{
	const struct chunk *chunk = chunk_at(mm, start);

	/* The library has to do without it at times. */
	return vma->prot & SIM_THP && vma->start <= start &&
	       vma->end >= start + SIM_HUGE && !chunk->table &&
	       (in_arena(start) || world_below(8));
}

/* The kernel's own answer to a missing page. */
static void fill_by_kernel(struct mm *mm, const struct vma *vma, uintptr_t addr,
			   bool write)
{
	uintptr_t start = addr & ~(SIM_HUGE - 1);
	unsigned i;

	if (!huge_fits(mm, vma, start)) {
		memset(page_bytes(mm, addr), 0, SIM_PAGE);
		page_fill(mm, addr, write ? 0 : P_ZERO, "first touch");
		return;
	}
	for (i = 0; i < 512; i++) {
		memset(page_bytes(mm, start + i * SIM_PAGE), 0, SIM_PAGE);
		page_fill(mm, start + i * SIM_PAGE, P_HUGE, "first touch");
	}
}

static int page_try(struct mm *mm, uintptr_t addr, bool write)
{
	struct vma *vma = vma_at(mm, addr);
	struct page *page;

	if (!vma || !(vma->prot & (write ? SIM_WRITE : SIM_READ)))
		return -EFAULT;
	page = page_at(mm, addr);
	if (page->flags & P_POISON)
		return -EIO;
	if (!(page->flags & P_PRESENT)) {
		if (vma->uffd) {
			uffd_fault(vma->uffd, addr, write);
			return -EAGAIN;
		}
		fill_by_kernel(mm, vma, addr, write);
	}
	if (write && page->flags & (P_SHARED | P_ZERO)) {
		page_split(mm, addr);
		page->flags &= (uint16_t) ~(P_SHARED | P_ZERO);
	}
	return 0;
}

int page_access(struct mm *mm, uintptr_t addr, bool write)
{
	int r;

	addr &= ~(SIM_PAGE - 1);
	do {
		sim_point();
		if (mm->forking && addr < mm->copied)
			mm_wait(mm);
		r = page_try(mm, addr, write);
	} while (r == -EAGAIN);
	return r;
}

int page_access_now(struct mm *mm, uintptr_t addr, bool write)
{
	sim_point();
	return page_at(mm, addr)->flags & P_PRESENT ? page_try(mm, addr, write) : -EFAULT;
}

int sim_read(uintptr_t addr, void *buf, size_t len)
{
	struct mm *mm = sim_current->mm;
	const char *bytes = mm->bytes + (addr - ARENA_BASE);
	int r = page_access(mm, addr, false);

	sim_trace("read", (int64_t)addr, (int64_t)len, 0, r);
	if (r)
		return r;
	flux_settle(mm, addr);
	if (memcmp(bytes, mm->shadow + (addr - ARENA_BASE), len) &&
	    !(mm->flux[index_of(addr)] && page_is(page_bytes(mm, addr), 0)))
		sim_fail("read: wrong bytes in page %zu", index_of(addr));
	memcpy(buf, bytes, len);
	return 0;
}

int sim_write(uintptr_t addr, const void *buf, size_t len)
{
	struct mm *mm = sim_current->mm;
	size_t i = index_of(addr);
	int r;

	if (mm->flux[i])
		return -EBUSY;
	mm->writers[i]++;
	r = page_access(mm, addr, true);
	mm->writers[i]--;
	sim_trace("write", (int64_t)addr, (int64_t)len, 0, r);
	if (r)
		return r;
	memcpy(mm->bytes + (addr - ARENA_BASE), buf, len);
	memcpy(mm->shadow + (addr - ARENA_BASE), buf, len);
	return 0;
}

int sim_pin(uintptr_t addr)
{
	struct mm *mm = sim_current->mm;
	size_t i = index_of(addr);
	int r;

	if (mm->flux[i])
		return -EBUSY;
	mm->writers[i]++;
	r = page_access(mm, addr, true);
	mm->writers[i]--;
	if (!r)
		page_at(mm, addr)->pins++;
	sim_trace("pin", (int64_t)addr, 0, 0, r);
	return r;
}

void sim_dma(uintptr_t addr, const void *buf, size_t len)
{
	struct mm *mm = sim_current->mm;

	sim_trace("dma", (int64_t)addr, (int64_t)len, 0, 0);
	if (!(page_at(mm, addr)->flags & P_PRESENT) || !page_at(mm, addr)->pins)
		sim_fail("page %zu was taken away while it was pinned", index_of(addr));
	memcpy(mm->bytes + (addr - ARENA_BASE), buf, len);
	memcpy(mm->shadow + (addr - ARENA_BASE), buf, len);
}

void sim_unpin(uintptr_t addr)
{
	sim_trace("unpin", (int64_t)addr, 0, 0, 0);
	page_at(sim_current->mm, addr)->pins--;
}

void sim_device_write(uintptr_t addr, void *bytes, size_t at, const void *buf, size_t len)
{
	struct mm *mm = sim_current->mm;
	const struct page *page = page_at(mm, addr);

	if (!bytes && !(page->flags & P_PRESENT))
		sim_fail("a device writes to page %zu, which is not there",
			 index_of(addr));
	if (!bytes && page->flags & (P_SHARED | P_ZERO))
		return;
	if (!bytes)
		bytes = page_bytes(mm, addr);
	sim_trace("device write", (int64_t)addr, (int64_t)at, (int64_t)len, 0);
	memcpy((char *)bytes + at, buf, len);
	memcpy(mm->shadow + (addr - ARENA_BASE) + at, buf, len);
	mm->dirty[index_of(addr)] = true;
}

/* ---- mapping --------------------------------------------------------------------- */

static void zap(struct mm *mm, uintptr_t start, uintptr_t end)
{
	uintptr_t addr;

	if (start % SIM_HUGE)
		page_split(mm, start);
	if (end % SIM_HUGE)
		page_split(mm, end - SIM_PAGE);
	for (addr = start; addr < end; addr += SIM_PAGE)
		page_gone(mm, addr);
}

static void shadow_zero(struct mm *mm, uintptr_t start, uintptr_t end)
{
	memset(mm->shadow + (start - ARENA_BASE), 0, end - start);
}

static void unmaps_add(struct unmaps *u, struct file *uffd, uintptr_t start,
		       uintptr_t end)
{
	unsigned i;

	if (!uffd_has(uffd, OS_UFFD_EVENTS))
		return;
	for (i = 0; i < u->nr; i++)
		if (u->e[i].uffd == uffd && u->e[i].msg.from == start &&
		    u->e[i].msg.end == end)
			return;
	if (u->nr == 8)
		sim_fail("one operation on more than 8 userfaultfds");
	u->e[u->nr].uffd = uffd;
	u->e[u->nr++].msg =
		(struct os_event){ .kind = OS_EVENT_UNMAP, .from = start, .end = end };
	uffd->changing++;
}

/* Who is interrupted between a change and telling of it stays so for as long. */
#define LATE_NS 300000u

/* The address space is let go of, and nobody has been told of the change yet. */
static void before_telling(void)
{
	sim_point();
	if (sim_chance(sim_config.late_event))
		sim_sleep(world_below(LATE_NS));
}

static void unmaps_complete(struct unmaps *u)
{
	unsigned i;

	for (i = 0; i < u->nr; i++)
		uffd_event(u->e[i].uffd, u->e[i].msg, NULL);
}

/* The page table of a chunk goes with the chunk's last mapping. */
static void free_tables(struct mm *mm, uintptr_t start, uintptr_t end)
{
	uintptr_t at = start & ~(SIM_HUGE - 1);

	for (; at < end; at += SIM_HUGE) {
		const struct vma *vma = vma_next(mm, at);

		if (!vma || vma->start >= at + SIM_HUGE)
			chunk_at(mm, at)->table = false;
	}
}

static void unmap(struct mm *mm, uintptr_t start, uintptr_t end, struct unmaps *u)
{
	unsigned i;

	vma_split(mm, start);
	vma_split(mm, end);
	for (i = 0; i < mm->nr; i++) {
		struct vma *vma = &mm->vma[i];

		if (vma->start < start || vma->end > end)
			continue;
		if (vma->uffd)
			unmaps_add(u, vma->uffd, start, end);
		zap(mm, vma->start, vma->end);
		shadow_zero(mm, vma->start, vma->end);
	}
	vma_cut(mm, start, end);
	free_tables(mm, start, end);
}

int sim_munmap(uintptr_t addr, size_t len)
{
	struct mm *mm = sim_current->mm;
	struct unmaps u = { .nr = 0 };

	sim_point();
	mm_wait(mm);
	if (racing(mm, addr, len, false))
		return -EBUSY;
	unmap(mm, addr, addr + len, &u);
	sim_trace("munmap", (int64_t)addr, (int64_t)(addr + len), 0, 0);
	before_telling();
	unmaps_complete(&u);
	return 0;
}

int sim_mmap(uintptr_t addr, size_t len, unsigned prot)
{
	struct mm *mm = sim_current->mm;
	struct unmaps u = { .nr = 0 };
	struct vma vma = {
		.start = addr, .end = addr + len, .prot = prot, .id = ++next_id
	};

	sim_point();
	mm_wait(mm);
	if (racing(mm, addr, len, false))
		return -EBUSY;
	unmap(mm, addr, addr + len, &u);
	vma_insert(mm, vma);
	sim_trace("mmap", (int64_t)addr, (int64_t)(addr + len), prot, 0);
	before_telling();
	unmaps_complete(&u);
	return 0;
}

int sim_mprotect(uintptr_t addr, size_t len, unsigned prot)
{
	struct mm *mm = sim_current->mm;
	unsigned i;

	sim_point();
	mm_wait(mm);
	vma_split(mm, addr);
	vma_split(mm, addr + len);
	for (i = 0; i < mm->nr; i++)
		if (mm->vma[i].start >= addr && mm->vma[i].end <= addr + len)
			mm->vma[i].prot = (mm->vma[i].prot & SIM_THP) | prot;
	vma_merge(mm);
	sim_trace("mprotect", (int64_t)addr, (int64_t)(addr + len), prot, 0);
	return 0;
}

/* ---- mremap ---------------------------------------------------------------------- */

static bool moves_whole(struct mm *mm, uintptr_t from, uintptr_t to, size_t len,
			size_t at)
{
	return (from + at) % SIM_HUGE == 0 && (to + at) % SIM_HUGE == 0 &&
	       len - at >= SIM_HUGE && !chunk_at(mm, to + at)->table;
}

static void move_pages(struct mm *mm, uintptr_t from, uintptr_t to, size_t len)
{
	bool whole = false;
	size_t at;

	for (at = 0; at < len; at += SIM_PAGE) {
		struct page *src = page_at(mm, from + at);

		if (at == 0 || (from + at) % SIM_HUGE == 0)
			whole = moves_whole(mm, from, to, len, at);
		if (src->flags & P_HUGE && !whole)
			page_split(mm, from + at);
		memcpy(mm->shadow + (to + at - ARENA_BASE),
		       mm->shadow + (from + at - ARENA_BASE), SIM_PAGE);
		mm->dirty[index_of(to + at)] = true;
		if (src->flags & P_PRESENT) {
			memcpy(page_bytes(mm, to + at), page_bytes(mm, from + at),
			       SIM_PAGE);
			page_fill(mm, to + at, src->flags, "mremap");
		} else {
			page_at(mm, to + at)->flags = src->flags;
		}
		page_gone(mm, from + at);
		memset(mm->shadow + (from + at - ARENA_BASE), 0, SIM_PAGE);
	}
}

static int resize(struct mm *mm, uintptr_t addr, size_t old_len, size_t new_len)
{
	struct unmaps u = { .nr = 0 };
	struct vma *vma = vma_at(mm, addr), *next;

	if (new_len > old_len) {
		next = vma_next(mm, addr + old_len);
		if (vma->end != addr + old_len || (next && next->start < addr + new_len))
			return -ENOMEM;
		vma->end = addr + new_len;
		return 0;
	}
	unmap(mm, addr + new_len, addr + old_len, &u);
	before_telling();
	unmaps_complete(&u);
	return 0;
}

static int move_mapping(struct mm *mm, uintptr_t from, size_t old_len, uintptr_t to,
			size_t new_len, bool keep_old)
{
	struct unmaps early = { .nr = 0 }, late = { .nr = 0 };
	struct vma vma;

	unmap(mm, to, to + new_len, &early);
	if (new_len < old_len) {
		unmap(mm, from + new_len, from + old_len, &late);
		old_len = new_len;
	}
	vma_split(mm, from);
	vma_split(mm, from + old_len);
	vma = *vma_at(mm, from);
	vma.start = to;
	vma.end = to + new_len;
	vma.id = ++next_id;
	if (vma.uffd && uffd_has(vma.uffd, OS_UFFD_EVENTS))
		vma.uffd->changing++;
	else
		vma.uffd = NULL;
	vma_insert(mm, vma);
	move_pages(mm, from, to, old_len);
	if (!keep_old)
		unmap(mm, from, from + old_len, &late);
	vma_merge(mm);
	before_telling();
	unmaps_complete(&early);
	if (vma.uffd)
		uffd_event(vma.uffd,
			   (struct os_event){ .kind = OS_EVENT_REMAP,
					      .from = from,
					      .to = to,
					      .len = old_len },
			   NULL);
	unmaps_complete(&late);
	return 0;
}

static void keeping(struct mm *mm, uintptr_t start, size_t len, int delta)
{
	uintptr_t addr;

	for (addr = start; addr < start + len; addr += SIM_PAGE)
		mm->keeping[index_of(addr)] += (uint16_t)delta;
}

int sim_mremap(uintptr_t from, size_t old_len, uintptr_t to, size_t new_len,
	       bool keep_old)
{
	struct mm *mm = sim_current->mm;
	struct vma *vma;
	int r;

	sim_point();
	mm_wait(mm);
	vma = vma_at(mm, from);
	if (!vma || vma->end < from + old_len)
		return -EFAULT;
	if (to != from && to < from + old_len && from < to + new_len)
		return -EINVAL;
	if (racing(mm, from, old_len, false) || racing(mm, to, new_len, false))
		return -EBUSY;
	sim_trace(keep_old ? "mremap, keep" : "mremap", (int64_t)from,
		  (int64_t)(from + old_len), (int64_t)to, (int64_t)(to + new_len));
	if (keep_old) {
		unsettle(mm, from, old_len, I_MOVE);
		unsettle(mm, to, new_len, I_MOVE);
		keeping(mm, from, old_len, 1);
		keeping(mm, to, new_len, 1);
	}
	if (to == from)
		r = resize(mm, from, old_len, new_len);
	else
		r = move_mapping(mm, from, old_len, to, new_len, keep_old);
	if (keep_old) {
		keeping(mm, from, old_len, -1);
		keeping(mm, to, new_len, -1);
	}
	sim_trace("mremap end", (int64_t)from, (int64_t)to, 0, r);
	return r;
}

/* ---- discarding ------------------------------------------------------------------ */

static int dontneed(struct mm *mm, uintptr_t start, uintptr_t end)
{
	while (start < end) {
		struct vma *vma = vma_next(mm, start);
		uintptr_t stop;

		if (!vma || vma->start >= end)
			return -ENOMEM;
		if (vma->start > start)
			start = vma->start;
		stop = vma->end < end ? vma->end : end;
		if (vma->uffd && uffd_has(vma->uffd, OS_UFFD_EVENTS)) {
			vma->uffd->changing++;
			uffd_event(vma->uffd,
				   (struct os_event){ .kind = OS_EVENT_REMOVE,
						      .from = start,
						      .end = stop },
				   NULL);
			sim_point();
			mm_wait(mm);
			vma = vma_at(mm, start);
			if (!vma)
				return -ENOMEM;
			stop = vma->end < stop ? vma->end : stop;
		}
		zap(mm, start, stop);
		shadow_zero(mm, start, stop);
		sim_trace("zap", (int64_t)start, (int64_t)stop, 0, 0);
		start = stop;
	}
	return 0;
}

int sim_dontneed(uintptr_t addr, size_t len)
{
	struct mm *mm = sim_current->mm;
	size_t i;
	int r;

	sim_point();
	mm_wait(mm);
	if (racing(mm, addr, len, true))
		return -EBUSY;
	sim_trace("dontneed", (int64_t)addr, (int64_t)(addr + len), 0, 0);
	unsettle(mm, addr, len, I_DISCARD);
	for (i = 0; i < len / SIM_PAGE; i++)
		mm->flux[index_of(addr) + i]++;
	r = dontneed(mm, addr, addr + len);
	for (i = 0; i < len / SIM_PAGE; i++)
		mm->flux[index_of(addr) + i]--;
	sim_trace("dontneed end", (int64_t)addr, (int64_t)(addr + len), 0, r);
	return r;
}
