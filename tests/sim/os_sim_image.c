/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's own memory, of each process.
 *
 * A child that comes from fork() of libc has a copy of all of it at the same addresses.
 * So each process has an *image*: a file in memory that holds its reservations, mapped
 * where they belong while one of its threads runs; what the library has in .bss (host.c,
 * registry.c) is put away and brought back with it. Children of a raw clone run no code
 * of the library and have no image.
 *
 * Mapping a file anew for each switch costs a fault for every page that is used then: a
 * seed with children switches hundreds of times, and most of its time went there. So the
 * mapping of who does not run is parked: mremap() moves the tables with it. The kernel
 * moves one mapping at a time (before Linux 6.17). So from the first child on all of the
 * images is one mapping that can be read and written; before that what is not committed
 * cannot be touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/sim/world.h"

#define STATE_MAX 2048
/* Linux 6.5; younger than Debian 12's headers, and the same number everywhere. */
#define SYS_CACHESTAT 451
/* Tables are moved as they are where both places are aligned to what they map. */
#define PARKING_ALIGN ((size_t)1 << 30)
/* A mapping above the images, if it may be: the tables that lead to both stay. */
#define NEIGHBOUR (OWN_BASE + ((size_t)200 << 30))

/* Zeros do not count as memory: to write a few is faster than to free pages. */
#define WIPED_MAX (16 * SIM_PAGE)

struct image {
	int fd; /* 0: never made */
	bool used;
	char *parking;
	size_t room, parked; /* bytes: of the place, and of what is there */
	char state[STATE_MAX];
};

static struct image image[MAX_MMS];
static struct mm *mapped; /* whose image lies at OWN_BASE */
static uintptr_t end = OWN_BASE;
static bool several; /* there are children: all is one mapping */

/* Where there is no library there is nothing to put away. */
__attribute__((weak)) const struct own_state *sim_library_state(void)
{
	static const struct own_state nothing;

	return &nothing;
}

static size_t span(void)
{
	return (end - OWN_BASE + PARKING_ALIGN - 1) & ~(PARKING_ALIGN - 1);
}

static void image_make(struct mm *mm)
{
	struct image *im = &image[mm->index];

	if (!im->fd) {
		im->fd = memfd_create("image", MFD_CLOEXEC);
		if (im->fd < 0 || ftruncate(im->fd, (off_t)OWN_SPAN))
			sim_fail("the host has no memory for an image");
	}
	im->used = true;
	mm->whole = true;
}

static void image_empty(struct image *im)
{
	if (im->used && (ftruncate(im->fd, 0) || ftruncate(im->fd, (off_t)OWN_SPAN)))
		sim_fail("the host cannot empty an image: %s", strerror(errno));
	im->used = false;
	im->parked = 0;
}

void image_reset(void)
{
	unsigned i;

	for (i = 0; i < MAX_MMS; i++)
		image_empty(&image[i]);
	if (span())
		munmap((void *)OWN_BASE, span());
	end = OWN_BASE;
	several = false;
}

void image_begin(struct mm *mm)
{
	mmap((void *)NEIGHBOUR, SIM_PAGE, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	image_make(mm);
	mapped = mm;
}

void image_check_mapped(const struct mm *mm)
{
	if (mm != mapped)
		sim_fail("memory of another process's library is used");
}

/* ---- whose memory lies there ------------------------------------------------------ */

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

/* Maps the rest of it, from `from` on; what it joins is the same mapping then. */
static void map_from(const struct image *im, uintptr_t from)
{
	uintptr_t to = OWN_BASE + span();

	if (from < to && mmap((void *)from, to - from, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_NORESERVE | MAP_FIXED, im->fd,
			      (off_t)(from - OWN_BASE)) == MAP_FAILED)
		sim_fail("the host cannot map an image: %s", strerror(errno));
}

static bool parking_find(struct image *im)
{
	size_t room = (span() / PARKING_ALIGN + 2) * PARKING_ALIGN;
	char *p;

	if (im->room >= span())
		return true;
	if (im->room)
		munmap(im->parking, im->room);
	im->room = 0;
	p = mmap(NULL, room + PARKING_ALIGN, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return false;
	im->parking = p + (-(uintptr_t)p & (PARKING_ALIGN - 1));
	munmap(p, (size_t)(im->parking - p));
	munmap(im->parking + room, (size_t)(p + PARKING_ALIGN - im->parking));
	im->room = room;
	return true;
}

/* The place that is left stays taken: nobody else's memory may come there. */
static bool move_tables(void *from, size_t len, void *to)
{
	return mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		      to) == to;
}

/* Where it cannot be parked, it is mapped anew when it is needed again. */
static void park(struct image *im)
{
	im->parked = 0;
	if (span() && parking_find(im) &&
	    move_tables((void *)OWN_BASE, span(), im->parking))
		im->parked = span();
}

static void unpark(struct image *im)
{
	size_t len = im->parked;

	if (len && !move_tables(im->parking, len, (void *)OWN_BASE))
		len = 0;
	im->parked = 0;
	map_from(im, OWN_BASE + len);
}

/* From here on the library's memory is that of this process. */
void image_enter(struct mm *mm)
{
	if (!mm->whole || mm == mapped)
		return;
	state_put_away(&image[mapped->index]);
	park(&image[mapped->index]);
	unpark(&image[mm->index]);
	state_bring_back(&image[mm->index]);
	mapped = mm;
}

/* A process has ended. */
void image_exit(struct mm *mm)
{
	if (mapped == mm) {
		mm->whole = true;
		image_enter(main_mm);
	}
	image_empty(&image[mm->index]);
	mm->whole = false;
}

/* ---- what a file has -------------------------------------------------------------- */

/* Pages that the file has there; 0 where that is not known (before Linux 6.5). */
static off_t file_pages(int fd, off_t start, off_t stop)
{
	struct {
		uint64_t off, len;
	} range = { (uint64_t)start, (uint64_t)(stop - start) };
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} stat = { 0 };

	if (start == stop || syscall(SYS_CACHESTAT, fd, &range, &stat, 0))
		return 0;
	return (off_t)(stat.cached + stat.evicted);
}

/*
 * Calls fn for what the file has data of in [start, stop). False if there may be more: a
 * page that the host's kernel is just moving elsewhere in its memory (compaction) is not
 * up to date for an instant, and is passed over as a hole (Linux 6.18).
 */
static bool each_data(int fd, off_t start, off_t stop,
		      void (*fn)(void *ctx, off_t start, off_t stop), void *ctx)
{
	off_t pages = file_pages(fd, start, stop), at = start, hole;

	while (at < stop && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < stop) {
		hole = lseek(fd, at, SEEK_HOLE);
		hole = hole < stop ? hole : stop;
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
static void copy_data(void *ctx, off_t at, off_t stop)
{
	static char buf[64 << 10];
	const struct copy *c = ctx;

	while (at < stop) {
		size_t n = stop - at < (off_t)sizeof(buf) ? (size_t)(stop - at) :
							    sizeof(buf);

		if (pread(c->from, buf, n, at) != (ssize_t)n ||
		    pwrite(c->to, buf, n, at) != (ssize_t)n)
			sim_fail("the host cannot copy an image");
		at += (off_t)n;
	}
}

/* The child gets a copy of the parent's image, which is mapped. */
void image_fork(struct mm *parent, struct mm *child)
{
	const struct image *from = &image[parent->index];
	struct copy fds = { .from = from->fd };

	image_check_mapped(parent);
	if (!several)
		map_from(from, OWN_BASE);
	several = true;
	image_make(child);
	fds.to = image[child->index].fd;
	while (!each_data(from->fd, 0, (off_t)span(), copy_data, &fds))
		;
	state_put_away(&image[child->index]);
}

static void count_written(void *ctx, off_t at, off_t stop)
{
	int64_t *pages = ctx;

	for (; at < stop; at += (off_t)SIM_PAGE)
		*pages += !page_is((void *)(OWN_BASE + (uintptr_t)at), 0);
}

/*
 * The library touches its own memory without asking: the file knows which of it. But what
 * was only read the host may take back as it likes (a clean page; proactive reclaim does,
 * Linux 6.18). So what counts is what was written, as for the kernel, which puts the zero
 * page where memory is read: pages that hold more than zeros.
 */
int64_t image_resident(uintptr_t start, uintptr_t stop)
{
	int fd = image[mapped->index].fd;
	int64_t pages;

	do
		pages = 0;
	while (!each_data(fd, (off_t)(start - OWN_BASE), (off_t)(stop - OWN_BASE),
			  count_written, &pages));
	return pages;
}

/* ---- reservations ----------------------------------------------------------------- */

/* What lies between is the same mapping then, where all is one. */
void image_reserve(uintptr_t start, size_t len)
{
	const struct image *im = &image[mapped->index];
	uintptr_t from = OWN_BASE + span();

	end = start + len;
	if (end > NEIGHBOUR)
		munmap((void *)NEIGHBOUR, SIM_PAGE);
	if (several)
		map_from(im, from);
	else if (mmap((void *)start, len, PROT_NONE,
		      MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, im->fd,
		      (off_t)(start - OWN_BASE)) != (void *)start)
		sim_fail("the host has no memory at %lx", start);
}

void image_commit(uintptr_t start, size_t len)
{
	if (!several && mprotect((void *)start, len, PROT_READ | PROT_WRITE))
		sim_fail("the host cannot commit %zu bytes", len);
}

void image_discard(uintptr_t start, size_t len)
{
	if (len <= WIPED_MAX)
		memset((void *)start, 0, len);
	else if (fallocate(image[mapped->index].fd,
			   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			   (off_t)(start - OWN_BASE), (off_t)len))
		sim_fail("the host cannot discard: %s", strerror(errno));
}

void image_release(uintptr_t start, size_t len)
{
	image_discard(start, len);
	if (!several)
		mprotect((void *)start, len, PROT_NONE);
}
