/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the library's own.
 *
 * Reservations are real memory at addresses that depend on the seed alone, so that a
 * library that sorts or hashes addresses does the same in every run. Pages of it are
 * tracked (present or not) only where they are registered with userfaultfd: that is where
 * touching an absent one would be a fault that the library takes itself.
 *
 * Each process has its own, at the same addresses: os_sim_image.c.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/sim/world.h"

#define MAX_RESERVATIONS 512
/*
 * What is larger than this lies behind the room for what is not, of which there is enough
 * for a test. So what is used of all of them is in one GiB, as a rule: the host moves an
 * image by its tables, one for each GiB.
 */
#define SMALL_MAX ((size_t)256 << 20)
#define SMALL_SPAN ((size_t)512 << 20)
/* Chunks of our own memory whose pages are tracked, of one process. */
#define MAX_OWN_CHUNKS 4096
/* What a parent shares with its child: above all images. */
#define SHARED_BASE (OWN_BASE + OWN_SPAN)
#define MAX_SHARED 64

static struct {
	uintptr_t start;
	size_t len;
	unsigned owners; /* a bit for each process */
} reserved[MAX_RESERVATIONS], shared[MAX_SHARED];
static unsigned nr_reserved, nr_shared;
static uintptr_t next_small, next_large, next_shared;

static struct tracked {
	struct chunk **chunk;          /* OWN_SPAN / SIM_HUGE */
	uint32_t used[MAX_OWN_CHUNKS]; /* ascending */
	unsigned nr;
} tracked[MAX_MMS];

/* Chunks that nobody uses: where pages are dear it is faster to wipe them. */
struct spare {
	struct spare *next;
};
static struct spare *spares;

/* Not from malloc(): a table of them that a leak checker does not look at has them. */
static struct chunk *chunk_new(void)
{
	void *chunk = spares;

	if (chunk) {
		spares = spares->next;
		return memset(chunk, 0, sizeof(struct chunk));
	}
	chunk = mmap(NULL, sizeof(struct chunk), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (chunk == MAP_FAILED)
		sim_fail("the host has no memory for chunks");
	return chunk;
}

static void chunk_put(struct chunk *chunk)
{
	struct spare *spare = (struct spare *)(void *)chunk;

	spare->next = spares;
	spares = spare;
}

static struct chunk **table_new(void)
{
	void *table = mmap(NULL, OWN_SPAN / SIM_HUGE * sizeof(struct chunk *),
			   PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (table == MAP_FAILED)
		sim_fail("the host has no memory for a table of chunks");
	return table;
}

static void tracked_forget(struct tracked *t)
{
	while (t->nr) {
		chunk_put(t->chunk[t->used[--t->nr]]);
		t->chunk[t->used[t->nr]] = NULL;
	}
}

static void tracked_fork(const struct tracked *from, struct tracked *to)
{
	unsigned i;

	if (!to->chunk)
		to->chunk = table_new();
	for (i = 0; i < from->nr; i++) {
		struct chunk *copy = chunk_new();

		*copy = *from->chunk[from->used[i]];
		to->chunk[from->used[i]] = copy;
		to->used[i] = from->used[i];
	}
	to->nr = from->nr;
}

/* The child gets a copy of the parent's memory. */
void own_fork(struct mm *parent, struct mm *child)
{
	unsigned i;

	image_fork(parent, child);
	tracked_fork(&tracked[parent->index], &tracked[child->index]);
	for (i = 0; i < nr_reserved; i++)
		if (reserved[i].owners & 1u << parent->index)
			reserved[i].owners |= 1u << child->index;
	for (i = 0; i < nr_shared; i++)
		if (shared[i].owners & 1u << parent->index)
			shared[i].owners |= 1u << child->index;
}

void own_reset(void)
{
	unsigned i;

	for (i = 0; i < MAX_MMS; i++)
		tracked_forget(&tracked[i]);
	image_reset();
	if (next_shared > SHARED_BASE)
		munmap((void *)SHARED_BASE, next_shared - SHARED_BASE);
	nr_reserved = nr_shared = 0;
	next_small = OWN_BASE;
	next_large = OWN_BASE + SMALL_SPAN;
	next_shared = SHARED_BASE;
}

static void shared_give_up(unsigned i, const struct mm *mm)
{
	shared[i].owners &= ~(1u << mm->index);
	if (!shared[i].owners)
		madvise((void *)shared[i].start, shared[i].len, MADV_DONTNEED);
}

/* A process has ended. */
void own_exit(struct mm *mm)
{
	unsigned i;

	for (i = 0; i < nr_reserved; i++)
		reserved[i].owners &= ~(1u << mm->index);
	for (i = 0; i < nr_shared; i++)
		if (shared[i].owners & 1u << mm->index)
			shared_give_up(i, mm);
	tracked_forget(&tracked[mm->index]);
	image_exit(mm);
}

void own_check_released(void)
{
	unsigned i;

	for (i = 0; i < nr_reserved; i++)
		if (reserved[i].owners)
			sim_fail("%zu KiB reserved at %lx were not released",
				 reserved[i].len / 1024, reserved[i].start);
	for (i = 0; i < nr_shared; i++)
		if (shared[i].owners)
			sim_fail("%zu KiB shared at %lx were not unmapped",
				 shared[i].len / 1024, shared[i].start);
}

/* ---- chunks ---------------------------------------------------------------------- */

/* Of those that end above addr. */
static unsigned first_used(const struct tracked *t, uintptr_t addr)
{
	unsigned i = 0, n = t->nr;

	while (n) {
		if (t->used[i + n / 2] < (addr - OWN_BASE) / SIM_HUGE) {
			i += n / 2 + 1;
			n -= n / 2 + 1;
		} else {
			n /= 2;
		}
	}
	return i;
}

struct chunk *own_chunk(struct mm *mm, uintptr_t addr, bool create)
{
	struct tracked *t = &tracked[mm->index];
	struct chunk **chunk;
	unsigned i;

	if (addr - OWN_BASE >= OWN_SPAN || !mm->whole)
		sim_fail("%lx is neither the program's memory nor the library's", addr);
	if (!t->chunk)
		t->chunk = table_new();
	chunk = &t->chunk[(addr - OWN_BASE) / SIM_HUGE];
	if (*chunk || !create)
		return *chunk;
	if (t->nr == MAX_OWN_CHUNKS)
		sim_fail("more than %d chunks of frames", MAX_OWN_CHUNKS);
	*chunk = chunk_new();
	i = first_used(t, addr);
	memmove(&t->used[i + 1], &t->used[i], (t->nr++ - i) * sizeof(t->used[0]));
	t->used[i] = (uint32_t)((addr - OWN_BASE) / SIM_HUGE);
	return *chunk;
}

struct chunk *own_chunk_next(struct mm *mm, uintptr_t *addr)
{
	const struct tracked *t = &tracked[mm->index];
	unsigned i = first_used(t, *addr);
	uintptr_t start;

	if (i == t->nr)
		return NULL;
	start = OWN_BASE + t->used[i] * SIM_HUGE;
	*addr = *addr > start ? *addr : start;
	return t->chunk[t->used[i]];
}

/* After fork the child shares the frames. */
void own_share(struct mm *mm)
{
	const struct tracked *t = &tracked[mm->index];
	unsigned i, j;

	for (i = 0; i < t->nr; i++) {
		uintptr_t at = OWN_BASE + t->used[i] * SIM_HUGE;
		struct chunk *chunk = t->chunk[t->used[i]];

		for (j = 0; chunk && j < 512; j++)
			if (chunk->page[j].flags & P_PRESENT)
				page_fork_frame(&chunk->page[j],
						(void *)(at + j * SIM_PAGE));
	}
}

/* ---- lib/os/os.h: memory of our own ---------------------------------------------- */

/* Where there is room for len bytes, behind a page of nothing. */
static uintptr_t place(size_t len)
{
	bool small = len <= SMALL_MAX &&
		     next_small + SIM_HUGE + len <= OWN_BASE + SMALL_SPAN;
	uintptr_t *next = small ? &next_small : &next_large, start = *next + SIM_HUGE;

	if (start + len > OWN_BASE + OWN_SPAN)
		return 0;
	*next = start + len;
	return start;
}

void *os_reserve(size_t size_bytes)
{
	size_t len = (size_bytes + SIM_HUGE - 1) & ~(SIM_HUGE - 1);
	uintptr_t start;

	sim_point();
	if (nr_reserved == MAX_RESERVATIONS)
		sim_fail("more than %d reservations", MAX_RESERVATIONS);
	start = world_fails() ? 0 : place(len);
	if (!start)
		return NULL;
	image_check_mapped(here());
	image_reserve(start, len);
	reserved[nr_reserved].start = start;
	reserved[nr_reserved].owners = 1u << here()->index;
	reserved[nr_reserved++].len = len;
	return (void *)start;
}

void os_release(void *addr, size_t size_bytes)
{
	uintptr_t start = (uintptr_t)addr, at;
	unsigned i;

	sim_point();
	for (i = 0; i < nr_reserved; i++)
		if (reserved[i].start == start &&
		    reserved[i].owners & 1u << here()->index)
			break;
	if (i == nr_reserved || reserved[i].len - size_bytes >= SIM_HUGE)
		sim_fail("releases %p, %zu, which was not reserved so", addr, size_bytes);
	names_release(here(), start);
	vma_cut(here(), start, start + reserved[i].len);
	image_check_mapped(here());
	image_release(start, reserved[i].len);
	for (at = start; at < start + reserved[i].len; at += SIM_HUGE)
		if (own_chunk(here(), at, false))
			memset(own_chunk(here(), at, false), 0, sizeof(struct chunk));
	reserved[i].owners &= ~(1u << here()->index);
}

static const struct vma *reservation_of(uintptr_t start, size_t len, struct vma *vma)
{
	unsigned i;

	for (i = 0; i < nr_reserved; i++)
		if (reserved[i].owners & 1u << here()->index &&
		    start >= reserved[i].start &&
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
	if (world_fails())
		return -ENOMEM;
	image_check_mapped(here());
	image_commit(at, size_bytes);
	while (at < end) {
		const struct vma *next = vma_next(here(), at);

		vma.start = at;
		vma.end = next && next->start < end ? next->start : end;
		at = next && next->start < end ? next->end : end;
		if (vma.end > vma.start)
			vma_insert(here(), vma);
	}
	vma_merge(here());
	return 0;
}

/* As mprotect(): the mapping is split. And it may be refused, for want of mappings. */
int os_set_executable(void *addr, size_t size_bytes, bool executable)
{
	uintptr_t start = (uintptr_t)addr, end = start + size_bytes, at;
	struct vma reservation;
	struct mm *mm = here();
	unsigned i;

	sim_point();
	reservation_of(start, size_bytes, &reservation);
	if (sim_chance(sim_config.busy_move) || world_fails())
		return -ENOMEM;
	vma_split(mm, start);
	vma_split(mm, end);
	for (i = 0, at = start; i < mm->nr; i++)
		if (mm->vma[i].start >= start && mm->vma[i].end <= end) {
			mm->vma[i].prot = SIM_RW | (executable ? SIM_EXEC : 0);
			at += mm->vma[i].end - mm->vma[i].start;
		}
	if (at != end)
		sim_fail("makes %lx executable, which is not committed", start);
	vma_merge(mm);
	sim_trace("set_executable", (int64_t)start, (int64_t)end, executable, 0);
	sim_point();
	return 0;
}

static void discard(const struct vma *vma, uintptr_t start, uintptr_t end)
{
	uintptr_t at;

	if (!vma->uffd) {
		for (at = start; at < end; at += SIM_PAGE)
			if (own_chunk(here(), at, false))
				page_at(here(), at)->flags = 0;
		image_discard(start, end - start);
		return;
	}
	if (uffd_has(vma->uffd, OS_UFFD_EVENTS))
		sim_fail("discards %lx, which is registered with events", start);
	for (at = start; at < end; at += SIM_PAGE)
		if (own_chunk(here(), at, false))
			page_gone(here(), at);
}

/* No memory is taken away here; but a page may have gone back, and then it is a fault. */
void os_keep(void *addr)
{
	if (page_access(here(), (uintptr_t)addr, true))
		sim_fail("keeps %lx, where nothing is", (uintptr_t)addr);
}

int os_keep_now(void *addr)
{
	return page_access_now(here(), (uintptr_t)addr, true);
}

/* Nothing is ever locked here. */
int os_lock(void *addr, size_t size_bytes)
{
	(void)addr;
	(void)size_bytes;
	sim_point();
	return world_fails() ? -ENOMEM : 0;
}

void os_unlock(void *addr, size_t size_bytes)
{
	(void)addr;
	(void)size_bytes;
}

int os_discard(void *addr, size_t size_bytes)
{
	uintptr_t at = (uintptr_t)addr, end = at + size_bytes;
	struct vma vma;

	sim_point();
	reservation_of(at, size_bytes, &vma);
	while (at < end) {
		const struct vma *next = vma_next(here(), at);
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

void os_hold_prepare(void *addr, size_t size_bytes)
{
	(void)addr;
	(void)size_bytes;
	sim_point();
}

/* Of one thread at a time nobody has to be kept from anything. */
void os_hold_mappings(void *addr, size_t size_bytes)
{
	(void)addr;
	(void)size_bytes;
	sim_point();
}

/* As mmap() over it: its page tables go too. */
int os_prefer_huge(void *addr, size_t size_bytes)
{
	uintptr_t start = (uintptr_t)addr, end = start + size_bytes, at;
	struct vma reservation;
	struct mm *mm = here();
	unsigned i;

	sim_point();
	reservation_of(start, size_bytes, &reservation);
	if ((start | end) % SIM_HUGE)
		sim_fail("huge pages at %lx, %zu", start, size_bytes);
	if (sim_chance(sim_config.busy_move) || world_fails())
		return -ENOMEM;
	vma_split(mm, start);
	vma_split(mm, end);
	for (i = 0; i < mm->nr; i++) {
		if (mm->vma[i].start < start || mm->vma[i].end > end)
			continue;
		if (mm->vma[i].uffd)
			sim_fail("maps %lx anew, which is registered", start);
		mm->vma[i].prot = SIM_RW | SIM_THP;
	}
	vma_merge(mm);
	for (at = start; at < end; at += SIM_HUGE)
		if (own_chunk(mm, at, false))
			memset(own_chunk(mm, at, false), 0, sizeof(struct chunk));
	image_discard(start, size_bytes);
	sim_trace("prefer_huge", (int64_t)start, (int64_t)end, 0, 0);
	sim_point();
	return 0;
}

/* Those that know nothing of the library never look. */
void os_wipe_on_fork(void *addr __attribute__((unused)),
		     size_t size_bytes __attribute__((unused)))
{
}

int os_node_set(int node, struct os_node_policy *saved __attribute__((unused)))
{
	return node ? -EINVAL : 0;
}

void os_node_restore(const struct os_node_policy *saved __attribute__((unused)))
{
}

void *os_map_shared(size_t size_bytes)
{
	size_t len = (size_bytes + SIM_PAGE - 1) & ~(SIM_PAGE - 1);
	uintptr_t start;
	void *p;

	sim_point();
	start = next_shared;
	if (world_fails())
		return NULL;
	if (nr_shared == MAX_SHARED)
		sim_fail("more than %d shared mappings", MAX_SHARED);
	p = mmap((void *)start, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
		 0);
	if (p != (void *)start)
		sim_fail("the host has no memory to share");
	next_shared = start + len;
	shared[nr_shared].start = start;
	shared[nr_shared].len = len;
	shared[nr_shared++].owners = 1u << here()->index;
	return p;
}

void os_unmap_shared(void *addr, size_t size_bytes)
{
	unsigned i;

	sim_point();
	for (i = 0; i < nr_shared; i++)
		if (shared[i].start == (uintptr_t)addr &&
		    shared[i].owners & 1u << here()->index &&
		    shared[i].len - size_bytes < SIM_PAGE)
			break;
	if (i == nr_shared)
		sim_fail("unmaps %p, which is not shared", addr);
	shared_give_up(i, here());
}

bool own_is_shared(const void *addr)
{
	return (uintptr_t)addr >= SHARED_BASE && (uintptr_t)addr < next_shared;
}
