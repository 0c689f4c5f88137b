/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rest of the simulated operating system: memory of the library's own, and looking
 * at the program's.
 *
 * Reservations are real memory at addresses that depend on the seed alone, so that a
 * library that sorts or hashes addresses does the same in every run. Pages of it are
 * tracked (present or not) only where they are registered with userfaultfd: that is where
 * touching an absent one would be a fault that the library takes itself.
 *
 * Children here are made as raw clone makes them, so nobody asks for the handover of a
 * userfaultfd: os_lifeline() and os_handover_listen() say that they cannot be had.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/sim/world.h"

#define MAX_RESERVATIONS 256
/* Chunks of our own memory whose pages are tracked, of one seed. */
#define MAX_OWN_CHUNKS 4096

static struct {
	uintptr_t start;
	size_t len;
} reserved[MAX_RESERVATIONS];
static unsigned nr_reserved;
static uintptr_t next_own;

static struct chunk *own[OWN_SPAN / SIM_HUGE];
static uint32_t own_used[MAX_OWN_CHUNKS];
static unsigned nr_own;

/* ---- memory of our own ----------------------------------------------------------- */

struct chunk *own_chunk(uintptr_t addr, bool create)
{
	struct chunk **chunk = &own[(addr - OWN_BASE) / SIM_HUGE];

	if (addr - OWN_BASE >= OWN_SPAN)
		sim_fail("%lx is neither the program's memory nor the library's", addr);
	if (*chunk || !create)
		return *chunk;
	if (nr_own == MAX_OWN_CHUNKS)
		sim_fail("more than %d chunks of frames", MAX_OWN_CHUNKS);
	*chunk = calloc(1, sizeof(**chunk));
	if (!*chunk)
		sim_fail("the host has no memory for chunks");
	own_used[nr_own++] = (uint32_t)((addr - OWN_BASE) / SIM_HUGE);
	return *chunk;
}

void own_reset(void)
{
	while (nr_own) {
		free(own[own_used[--nr_own]]);
		own[own_used[nr_own]] = NULL;
	}
	nr_reserved = 0;
	next_own = OWN_BASE;
}

void own_check_released(void)
{
	unsigned i;

	for (i = 0; i < nr_reserved; i++)
		if (reserved[i].start)
			sim_fail("%zu KiB reserved at %lx were not released",
				 reserved[i].len / 1024, reserved[i].start);
}

/* After fork the child shares the frames. */
void own_forked(void)
{
	unsigned i, j;

	for (i = 0; i < nr_own; i++) {
		uintptr_t at = OWN_BASE + own_used[i] * SIM_HUGE;
		struct chunk *chunk = own[own_used[i]];

		for (j = 0; chunk && j < 512; j++)
			if (chunk->page[j].flags & P_PRESENT)
				page_fork_frame(&chunk->page[j],
						(void *)(at + j * SIM_PAGE));
	}
}

void *os_reserve(size_t size_bytes)
{
	size_t len = (size_bytes + SIM_HUGE - 1) & ~(SIM_HUGE - 1);
	uintptr_t start = next_own + SIM_HUGE;
	void *p;

	sim_point();
	if (nr_reserved == MAX_RESERVATIONS)
		sim_fail("more than %d reservations", MAX_RESERVATIONS);
	if (start + len > OWN_BASE + OWN_SPAN)
		return NULL;
	p = mmap((void *)start, len, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
		 0);
	if (p != (void *)start)
		sim_fail("the host has no memory at %lx", start);
	next_own = start + len;
	reserved[nr_reserved].start = start;
	reserved[nr_reserved++].len = len;
	return p;
}

void os_release(void *addr, size_t size_bytes)
{
	uintptr_t start = (uintptr_t)addr, at;
	unsigned i;

	sim_point();
	for (i = 0; i < nr_reserved && reserved[i].start != start; i++)
		;
	if (i == nr_reserved || reserved[i].len - size_bytes >= SIM_HUGE)
		sim_fail("releases %p, %zu, which was not reserved so", addr, size_bytes);
	munmap(addr, reserved[i].len);
	vma_cut(main_mm, start, start + reserved[i].len);
	for (at = start; at < start + reserved[i].len; at += SIM_HUGE)
		if (own_chunk(at, false))
			memset(own_chunk(at, false), 0, sizeof(struct chunk));
	reserved[i].start = 0;
}

static const struct vma *reservation_of(uintptr_t start, size_t len, struct vma *vma)
{
	unsigned i;

	for (i = 0; i < nr_reserved; i++)
		if (reserved[i].start && start >= reserved[i].start &&
		    start + len <= reserved[i].start + reserved[i].len) {
			*vma = (struct vma){ .prot = SIM_RW, .id = 1000000 + i };
			return vma;
		}
	sim_fail("commits or discards %lx, %zu, which is not reserved", start, len);
}

int os_commit(void *addr, size_t size_bytes)
{
	uintptr_t at = (uintptr_t)addr, end = at + size_bytes;
	struct vma vma;

	sim_point();
	reservation_of(at, size_bytes, &vma);
	if (mprotect(addr, size_bytes, PROT_READ | PROT_WRITE))
		sim_fail("the host cannot commit %zu bytes", size_bytes);
	while (at < end) {
		const struct vma *next = vma_next(main_mm, at);

		vma.start = at;
		vma.end = next && next->start < end ? next->start : end;
		at = next && next->start < end ? next->end : end;
		if (vma.end > vma.start)
			vma_insert(main_mm, vma);
	}
	vma_merge(main_mm);
	return 0;
}

static void discard(const struct vma *vma, uintptr_t start, uintptr_t end)
{
	uintptr_t at;

	if (!vma->uffd) {
		madvise((void *)start, end - start, MADV_DONTNEED);
		return;
	}
	if (uffd_has(vma->uffd, OS_UFFD_EVENTS))
		sim_fail("discards %lx, which is registered with events", start);
	for (at = start; at < end; at += SIM_PAGE)
		if (own_chunk(at, false))
			page_gone(main_mm, at);
}

int os_discard(void *addr, size_t size_bytes)
{
	uintptr_t at = (uintptr_t)addr, end = at + size_bytes;
	struct vma vma;

	sim_point();
	reservation_of(at, size_bytes, &vma);
	while (at < end) {
		const struct vma *next = vma_next(main_mm, at);
		uintptr_t from, to;

		if (!next || next->start >= end)
			break;
		from = next->start > at ? next->start : at;
		to = next->end < end ? next->end : end;
		discard(next, from, to);
		at = to;
	}
	sim_trace("discard", (int64_t)(uintptr_t)addr, (int64_t)end, 0, 0);
	sim_point();
	return 0;
}

void os_prefer_huge(void *addr, size_t size_bytes)
{
	(void)addr;
	(void)size_bytes;
	sim_point();
}

/* ---- the program's memory -------------------------------------------------------- */

int os_vma_next(uintptr_t addr, bool writable_only, struct os_vma *out)
{
	const struct vma *vma;

	sim_point();
	for (; (vma = vma_next(main_mm, addr)); addr = vma->end)
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
	};
	return 0;
}

static bool counts(uintptr_t addr)
{
	return (page_at(main_mm, addr)->flags & (P_PRESENT | P_ZERO)) == P_PRESENT;
}

int os_scan(uintptr_t start, uintptr_t end, uint32_t max_pages, struct os_extent *extents,
	    int nr, uintptr_t *walked)
{
	uintptr_t addr = start;
	uint32_t pages = 0;
	int n = 0;

	sim_point();
	for (; addr < end && pages < max_pages; addr += SIM_PAGE) {
		struct os_extent *last = n ? &extents[n - 1] : NULL;
		bool huge;

		if (!in_arena(addr) || !counts(addr))
			continue;
		huge = page_at(main_mm, addr)->flags & P_HUGE;
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

static int64_t resident_tracked(const struct vma *vma)
{
	uintptr_t at = vma->start, end;
	int64_t pages = 0;

	while (at < vma->end) {
		end = (at & ~(SIM_HUGE - 1)) + SIM_HUGE;
		end = end < vma->end ? end : vma->end;
		for (; own_chunk(at, false) && at < end; at += SIM_PAGE)
			pages += counts(at);
		at = end;
	}
	return pages;
}

/* The library touches its own memory without asking: the host knows which of it. */
static int64_t resident_untracked(const struct vma *vma)
{
	static unsigned char vec[4096];
	uintptr_t at, step = sizeof(vec) * SIM_PAGE, i;
	int64_t pages = 0;

	for (at = vma->start; at < vma->end; at += step) {
		size_t len = vma->end - at < step ? vma->end - at : step;

		if (mincore((void *)at, len, vec))
			sim_fail("mincore: %s", strerror(errno));
		for (i = 0; i < len / SIM_PAGE; i++)
			pages += vec[i] & 1;
	}
	return pages;
}

int64_t os_rss_anon_pages(int64_t *mapped_pages)
{
	int64_t pages = 0, mapped = 0;
	uintptr_t addr;
	unsigned i;

	sim_point();
	for (i = 0; i < main_mm->nr; i++) {
		const struct vma *vma = &main_mm->vma[i];

		mapped += (int64_t)((vma->end - vma->start) / SIM_PAGE);
		if (!in_arena(vma->start))
			pages += vma->uffd ? resident_tracked(vma) :
					     resident_untracked(vma);
		for (addr = vma->start; in_arena(addr) && addr < vma->end;
		     addr += SIM_PAGE)
			pages += counts(addr);
	}
	if (mapped_pages)
		*mapped_pages = mapped;
	return pages;
}

int os_make_exclusive(uintptr_t start, size_t len)
{
	uintptr_t addr;
	int r = 0;

	for (addr = start; addr < start + len && r == 0; addr += SIM_PAGE) {
		r = page_access(main_mm, addr, true);
		if (r == -EFAULT)
			r = vma_at(main_mm, addr) ? -EINVAL : -ENOMEM;
		else if (r == -EIO)
			r = -EHWPOISON;
	}
	sim_trace("populate", (int64_t)start, (int64_t)(start + len), 0, r);
	sim_point();
	return r;
}

void os_for_each_thread_area(void (*fn)(void *ctx, uintptr_t addr, size_t len), void *ctx)
{
	/* Simulated threads end without writing to memory. */
	(void)fn;
	(void)ctx;
	sim_point();
}

void os_for_each_wiped(void (*fn)(void *ctx, uintptr_t start, uintptr_t end), void *ctx)
{
	/* Nobody asks for MADV_WIPEONFORK here. */
	(void)fn;
	(void)ctx;
	sim_point();
}

void os_block_signals(uint64_t *saved)
{
	*saved = 0; /* nobody sends signals here */
}

void os_restore_signals(const uint64_t *saved)
{
	(void)saved;
}

int os_attach(void)
{
	sim_point();
	return 0;
}

/* ---- handing over to a forked child ---------------------------------------------- */

void *os_map_shared(size_t size_bytes)
{
	void *addr = os_reserve(size_bytes);

	if (addr)
		os_commit(addr, (size_bytes + SIM_PAGE - 1) & ~(SIM_PAGE - 1));
	return addr;
}

void os_unmap_shared(void *addr, size_t size_bytes)
{
	os_release(addr, size_bytes);
}

int os_private_files(void)
{
	return 0;
}

int os_lifeline(int fds[2])
{
	(void)fds;
	return -ENOSYS;
}

int os_handover_listen(struct os_handover_name *name)
{
	(void)name;
	return -ENOSYS;
}

int os_handover_send(int listener, int uffd)
{
	sim_fail("hands userfaultfd %d over at %d, where nobody listens", uffd, listener);
}

int os_handover_receive(const struct os_handover_name *name)
{
	(void)name;
	return -ENOENT;
}
