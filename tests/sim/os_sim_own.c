/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the library's own.
 *
 * Reservations are real memory at addresses that depend on the seed alone, so that a
 * library that sorts or hashes addresses does the same in every run. Pages of it are
 * tracked (present or not) only where they are registered with userfaultfd: that is where
 * touching an absent one would be a fault that the library takes itself.
 *
 * A child that comes from fork() of libc has a copy of all of it at the same addresses.
 * So each process has an *image*: a file in memory that holds its reservations, mapped
 * where they belong while one of its threads runs; what the library has in .bss (host.c,
 * registry.c) is put away and brought back with it. Children of a raw clone run no code
 * of the library and have no image.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/sim/world.h"

#define MAX_RESERVATIONS 512
/* Chunks of our own memory whose pages are tracked, of one process. */
#define MAX_OWN_CHUNKS 4096
#define STATE_MAX 2048
/* What a parent shares with its child: above all images. */
#define SHARED_BASE (OWN_BASE + OWN_SPAN)
#define MAX_SHARED 64
/* Linux 6.5; younger than Debian 12's headers, and the same number everywhere. */
#define SYS_CACHESTAT 451

static struct {
	uintptr_t start;
	size_t len;
	unsigned owners; /* a bit for each process */
} reserved[MAX_RESERVATIONS], shared[MAX_SHARED];
static unsigned nr_reserved, nr_shared;
static uintptr_t next_own, next_shared;

struct image {
	int fd; /* 0: never made */
	bool used;
	struct chunk **chunk; /* OWN_SPAN / SIM_HUGE */
	uint32_t used_chunk[MAX_OWN_CHUNKS];
	unsigned nr;
	char state[STATE_MAX];
};

/* Where there is no library there is nothing to put away. */
__attribute__((weak)) const struct own_state *sim_library_state(void)
{
	static const struct own_state nothing;

	return &nothing;
}

static struct image image[MAX_MMS];
static struct mm *mapped; /* whose image lies at OWN_BASE */

/* Not from malloc(): a table of them that a leak checker does not look at has them. */
static struct chunk *chunk_new(void)
{
	void *chunk = mmap(NULL, sizeof(struct chunk), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (chunk == MAP_FAILED)
		sim_fail("the host has no memory for chunks");
	return chunk;
}

/* ---- images ---------------------------------------------------------------------- */

static void image_empty(struct image *im)
{
	while (im->nr) {
		munmap(im->chunk[im->used_chunk[--im->nr]], sizeof(struct chunk));
		im->chunk[im->used_chunk[im->nr]] = NULL;
	}
	if (im->used && (ftruncate(im->fd, 0) || ftruncate(im->fd, (off_t)OWN_SPAN)))
		sim_fail("the host cannot empty an image: %s", strerror(errno));
	im->used = false;
}

static void image_make(struct mm *mm)
{
	struct image *im = &image[mm->index];

	if (!im->fd) {
		im->fd = memfd_create("image", MFD_CLOEXEC);
		im->chunk = mmap(NULL, OWN_SPAN / SIM_HUGE * sizeof(*im->chunk),
				 PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (im->fd < 0 || im->chunk == MAP_FAILED ||
		    ftruncate(im->fd, (off_t)OWN_SPAN))
			sim_fail("the host has no memory for an image");
	}
	im->used = true;
	mm->whole = true;
}

static void state_put_away(struct image *im)
{
	const struct own_state *s = sim_library_state();
	size_t at = 0;

	for (; s->addr; at += s++->size) {
		if (at + s->size > sizeof(im->state))
			sim_fail("the library's state has no room in an image");
		memcpy(im->state + at, s->addr, s->size);
	}
}

static void state_bring_back(const struct image *im)
{
	const struct own_state *s = sim_library_state();
	size_t at = 0;

	for (; s->addr; at += s++->size)
		memcpy(s->addr, im->state + at, s->size);
}

/* From here on the library's memory is that of this process. */
void own_enter(struct mm *mm)
{
	if (!mm->whole || mm == mapped)
		return;
	state_put_away(&image[mapped->index]);
	if (next_own > OWN_BASE &&
	    mmap((void *)OWN_BASE, next_own - OWN_BASE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_NORESERVE | MAP_FIXED, image[mm->index].fd,
		 0) == MAP_FAILED)
		sim_fail("the host cannot map an image: %s", strerror(errno));
	state_bring_back(&image[mm->index]);
	mapped = mm;
}

void own_check_mapped(const struct mm *mm)
{
	if (mm != mapped)
		sim_fail("memory of another process's library is used");
}

/* Pages that the file has there; 0 where that is not known (before Linux 6.5). */
static off_t file_pages(int fd, off_t start, off_t end)
{
	struct {
		uint64_t off, len;
	} range = { (uint64_t)start, (uint64_t)(end - start) };
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} stat = { 0 };

	if (start == end || syscall(SYS_CACHESTAT, fd, &range, &stat, 0))
		return 0;
	return (off_t)(stat.cached + stat.evicted);
}

/*
 * Calls fn for what the file has data of in [start, end). False if there may be more: a
 * page that the host's kernel is just moving elsewhere in its memory (compaction) is not
 * up to date for an instant, and is passed over as a hole (Linux 6.18).
 */
static bool each_data(int fd, off_t start, off_t end,
		      void (*fn)(void *ctx, off_t start, off_t end), void *ctx)
{
	off_t pages = file_pages(fd, start, end), at = start, hole;

	while (at < end && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
		hole = lseek(fd, at, SEEK_HOLE);
		hole = hole < end ? hole : end;
		fn(ctx, at, hole);
		pages -= (hole - at) / (off_t)SIM_PAGE;
		at = hole;
	}
	return pages <= 0;
}

struct copy {
	int from, to;
};

/* By way of the file: what is reserved may not be readable. */
static void copy_data(void *ctx, off_t at, off_t end)
{
	static char buf[64 << 10];
	const struct copy *c = ctx;

	while (at < end) {
		size_t n = end - at < (off_t)sizeof(buf) ? (size_t)(end - at) :
							   sizeof(buf);

		if (pread(c->from, buf, n, at) != (ssize_t)n ||
		    pwrite(c->to, buf, n, at) != (ssize_t)n)
			sim_fail("the host cannot copy an image");
		at += (off_t)n;
	}
}

/* The child gets a copy of the parent's image, which is mapped. */
void own_fork(struct mm *parent, struct mm *child)
{
	struct image *from = &image[parent->index], *to = &image[child->index];
	struct copy fds = { .from = from->fd };
	unsigned i;

	own_check_mapped(parent);
	image_make(child);
	fds.to = to->fd;
	while (!each_data(from->fd, 0, (off_t)(next_own - OWN_BASE), copy_data, &fds))
		;
	for (i = 0; i < from->nr; i++) {
		struct chunk *copy = chunk_new();

		*copy = *from->chunk[from->used_chunk[i]];
		to->chunk[from->used_chunk[i]] = copy;
		to->used_chunk[i] = from->used_chunk[i];
	}
	to->nr = from->nr;
	state_put_away(to);
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
		if (image[i].used)
			image_empty(&image[i]);
	if (next_own > OWN_BASE)
		munmap((void *)OWN_BASE, next_own - OWN_BASE);
	if (next_shared > SHARED_BASE)
		munmap((void *)SHARED_BASE, next_shared - SHARED_BASE);
	nr_reserved = nr_shared = 0;
	next_own = OWN_BASE;
	next_shared = SHARED_BASE;
}

void own_begin(struct mm *mm)
{
	image_make(mm);
	mapped = mm;
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
	if (mapped == mm) {
		mm->whole = true;
		own_enter(main_mm);
	}
	image_empty(&image[mm->index]);
	mm->whole = false;
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

struct chunk *own_chunk(struct mm *mm, uintptr_t addr, bool create)
{
	struct image *im = &image[mm->index];
	struct chunk **chunk;

	if (addr - OWN_BASE >= OWN_SPAN || !mm->whole)
		sim_fail("%lx is neither the program's memory nor the library's", addr);
	chunk = &im->chunk[(addr - OWN_BASE) / SIM_HUGE];
	if (*chunk || !create)
		return *chunk;
	if (im->nr == MAX_OWN_CHUNKS)
		sim_fail("more than %d chunks of frames", MAX_OWN_CHUNKS);
	*chunk = chunk_new();
	im->used_chunk[im->nr++] = (uint32_t)((addr - OWN_BASE) / SIM_HUGE);
	return *chunk;
}

/* After fork the child shares the frames. */
void own_share(struct mm *mm)
{
	struct image *im = &image[mm->index];
	unsigned i, j;

	for (i = 0; i < im->nr; i++) {
		uintptr_t at = OWN_BASE + im->used_chunk[i] * SIM_HUGE;
		struct chunk *chunk = im->chunk[im->used_chunk[i]];

		for (j = 0; chunk && j < 512; j++)
			if (chunk->page[j].flags & P_PRESENT)
				page_fork_frame(&chunk->page[j],
						(void *)(at + j * SIM_PAGE));
	}
}

/* ---- lib/os/os.h: memory of our own ---------------------------------------------- */

static void punch(uintptr_t start, size_t len)
{
	own_check_mapped(here());
	if (fallocate(image[here()->index].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)(start - OWN_BASE), (off_t)len))
		sim_fail("the host cannot discard: %s", strerror(errno));
}

static void count_written(void *ctx, off_t at, off_t end)
{
	int64_t *pages = ctx;

	for (; at < end; at += (off_t)SIM_PAGE)
		*pages += !page_is((void *)(OWN_BASE + (uintptr_t)at), 0);
}

/*
 * The library touches its own memory without asking: the file knows which of it. But what
 * was only read the host may take back as it likes (a clean page; proactive reclaim does,
 * Linux 6.18). So what counts is what was written, as for the kernel, which puts the zero
 * page where memory is read: pages that hold more than zeros.
 */
int64_t own_resident(uintptr_t start, uintptr_t end)
{
	int fd = image[here()->index].fd;
	int64_t pages;

	own_check_mapped(here());
	do
		pages = 0;
	while (!each_data(fd, (off_t)(start - OWN_BASE), (off_t)(end - OWN_BASE),
			  count_written, &pages));
	return pages;
}

void *os_reserve(size_t size_bytes)
{
	size_t len = (size_bytes + SIM_HUGE - 1) & ~(SIM_HUGE - 1);
	uintptr_t start;
	void *p;

	sim_point();
	start = next_own + SIM_HUGE;
	if (nr_reserved == MAX_RESERVATIONS)
		sim_fail("more than %d reservations", MAX_RESERVATIONS);
	if (start + len > OWN_BASE + OWN_SPAN || world_fails())
		return NULL;
	own_check_mapped(here());
	p = mmap((void *)start, len, PROT_NONE,
		 MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
		 image[here()->index].fd, (off_t)(start - OWN_BASE));
	if (p != (void *)start)
		sim_fail("the host has no memory at %lx", start);
	next_own = start + len;
	reserved[nr_reserved].start = start;
	reserved[nr_reserved].owners = 1u << here()->index;
	reserved[nr_reserved++].len = len;
	return p;
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
	punch(start, reserved[i].len);
	mprotect(addr, reserved[i].len, PROT_NONE);
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
	own_check_mapped(here());
	if (mprotect(addr, size_bytes, PROT_READ | PROT_WRITE))
		sim_fail("the host cannot commit %zu bytes", size_bytes);
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
		punch(start, end - start);
		return;
	}
	if (uffd_has(vma->uffd, OS_UFFD_EVENTS))
		sim_fail("discards %lx, which is registered with events", start);
	for (at = start; at < end; at += SIM_PAGE)
		if (own_chunk(here(), at, false))
			page_gone(here(), at);
}

/* No memory is taken away here; but a page may have gone back, and then it is a fault. */
void os_keep(void *addr, bool quietly)
{
	if (quietly)
		sim_point();
	else if (page_access(here(), (uintptr_t)addr, true))
		sim_fail("keeps %lx, where nothing is", (uintptr_t)addr);
}

/* Nothing is ever locked here. */
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
	punch(start, size_bytes);
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
