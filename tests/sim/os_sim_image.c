/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's own memory, of each process.
 *
 * A child that comes from fork() of libc has a copy of all of it at the same addresses.
 * So each process has an *image*: its reservations, which lie where they belong while one
 * of its threads runs, and are parked elsewhere while none does; what the library has in
 * .bss (host.c, registry.c) is put away and brought back with it. Children of a raw clone
 * run no code of the library and have no image.
 *
 * A seed with children switches hundreds of times. mremap() parks pages with their
 * tables, and moves one mapping at a time (before Linux 6.17). So from the first child on
 * each image is one mapping that can be read and written; before that what is not
 * committed cannot be touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/os/uapi.h"
#include "tests/sim/world.h"

#define STATE_MAX 2048
/* Tables are moved as they are where both places are aligned to what they map. */
#define PARKING_ALIGN ((size_t)1 << 30)
/* A mapping above the images, if it may be: the tables that lead to both stay. */
#define NEIGHBOUR (OWN_BASE + ((size_t)200 << 30))
/* For what is reserved while there are children. */
#define ROOM ((size_t)1 << 30)
/* To write a few zeros is faster than to give pages back and get them again. */
#define WIPED_MAX (16 * SIM_PAGE)
#define EXTENTS 256

struct image {
	char *parking;
	size_t room, parked; /* bytes: of the place, and of what is there */
	char state[STATE_MAX];
};

static struct image image[MAX_MMS];
static struct mm *mapped; /* whose image lies at OWN_BASE */
static uintptr_t end = OWN_BASE;
/* There are children: all is one mapping, and room for more. 0: it is not. */
static size_t several;

/* Where there is no library there is nothing to put away. */
__attribute__((weak)) const struct own_state *sim_library_state(void)
{
	static const struct own_state nothing;

	return &nothing;
}

static size_t span(void)
{
	size_t used = (end - OWN_BASE + PARKING_ALIGN - 1) & ~(PARKING_ALIGN - 1);

	return used > several ? used : several;
}

/* A place where nothing is, and nobody else's memory comes. */
static void *map_nothing(void *at, size_t len, int flags)
{
	return mmap(at, len, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

/* Memory that is empty. What it joins is the same mapping then. */
static void map_memory(void *at, size_t len, int prot, int flags)
{
	if (len && mmap(at, len, prot,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0) != at)
		sim_fail("the host has no memory at %p: %s", at, strerror(errno));
}

static void image_empty(struct image *im)
{
	if (im->parked)
		map_nothing(im->parking, im->room, MAP_FIXED);
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
	several = 0;
}

void image_begin(struct mm *mm)
{
	map_nothing((void *)NEIGHBOUR, SIM_PAGE, MAP_FIXED);
	mm->whole = true;
	mapped = mm;
}

void image_check_mapped(const struct mm *mm)
{
	if (mm != mapped)
		sim_fail("memory of another process's library is used");
}

/* ---- pages ------------------------------------------------------------------------ */

/* Of this process: the seeds run in children of the one that began. */
static int pagemap(void)
{
	static pid_t opened_by;
	static int fd;

	if (opened_by != getpid()) {
		if (opened_by)
			close(fd);
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			sim_fail("/proc/self/pagemap cannot be opened: %s",
				 strerror(errno));
		opened_by = getpid();
	}
	return fd;
}

/*
 * Calls fn for what was written of [start, stop), run by run: not where the zero page is,
 * which comes where memory is read.
 */
static void each_written(uintptr_t start, uintptr_t stop,
			 void (*fn)(void *ctx, uintptr_t start, uintptr_t stop),
			 void *ctx)
{
	struct page_region run[EXTENTS] = { 0 };
	struct pm_scan_arg arg = { .size = sizeof(arg),
				   .start = start,
				   .end = stop,
				   .vec = (uintptr_t)run,
				   .vec_len = EXTENTS,
				   .category_inverted = PAGE_IS_PFNZERO,
				   .category_mask = PAGE_IS_PFNZERO,
				   .category_anyof_mask = PAGE_IS_PRESENT |
							  PAGE_IS_SWAPPED,
				   .return_mask = PAGE_IS_PRESENT };
	int i, n;

	for (; arg.start < stop; arg.start = arg.walk_end) {
		n = ioctl(pagemap(), PAGEMAP_SCAN, &arg);
		if (n < 0)
			sim_fail("the host cannot tell what was written: %s",
				 strerror(errno));
		for (i = 0; i < n; i++)
			fn(ctx, run[i].start, run[i].end);
	}
}

static void parking_find(struct image *im)
{
	size_t room = (span() / PARKING_ALIGN + 2) * PARKING_ALIGN;
	char *p;

	if (im->room >= span())
		return;
	if (im->room)
		munmap(im->parking, im->room);
	im->room = 0;
	p = map_nothing(NULL, room + PARKING_ALIGN, 0);
	if (p == MAP_FAILED)
		sim_fail("the host has no addresses for an image");
	im->parking = p + (-(uintptr_t)p & (PARKING_ALIGN - 1));
	munmap(p, (size_t)(im->parking - p));
	munmap(im->parking + room, (size_t)(p + PARKING_ALIGN - im->parking));
	im->room = room;
}

/* The place that is left stays taken: nobody else's memory may come there. */
static void move_tables(void *from, size_t len, void *to)
{
	if (len && mremap(from, len, len,
			  MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) != to)
		sim_fail("the host cannot move an image: %s", strerror(errno));
}

/* From where the image of who runs lies to the parking of another, or of its own. */
static void copy_run(void *ctx, uintptr_t start, uintptr_t stop)
{
	char *to = (char *)ctx + (start - OWN_BASE);

	for (; start < stop; start += SIM_PAGE, to += SIM_PAGE)
		if (!page_is((void *)start, 0))
			memcpy(to, (void *)start, SIM_PAGE);
}

/* A copy of what is mapped, in one mapping. */
static void copy_to(struct image *im)
{
	parking_find(im);
	map_memory(im->parking, span(), PROT_READ | PROT_WRITE, MAP_FIXED);
	im->parked = span();
	each_written(OWN_BASE, OWN_BASE + span(), copy_run, im->parking);
}

/*
 * What is mapped becomes one mapping: the kernel joins what was moved, and has pages,
 * with nothing that was not.
 */
static void make_one(struct image *im)
{
	copy_to(im);
	move_tables(im->parking, im->parked, (void *)OWN_BASE);
	im->parked = 0;
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

static void park(struct image *im)
{
	parking_find(im);
	move_tables((void *)OWN_BASE, span(), im->parking);
	im->parked = span();
}

static void unpark(struct image *im)
{
	move_tables(im->parking, im->parked, (void *)OWN_BASE);
	if (im->parked < span())
		make_one(im);
	im->parked = 0;
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

/* ---- a child's ------------------------------------------------------------------- */

/* The child gets a copy of the parent's image, which is mapped. */
void image_fork(struct mm *parent, struct mm *child)
{
	image_check_mapped(parent);
	if (!several) {
		several = span() + ROOM;
		make_one(&image[parent->index]);
	}
	copy_to(&image[child->index]);
	child->whole = true;
	state_put_away(&image[child->index]);
}

static void count_run(void *ctx, uintptr_t start, uintptr_t stop)
{
	int64_t *pages = ctx;

	for (; start < stop; start += SIM_PAGE)
		*pages += !page_is((void *)start, 0);
}

int64_t image_resident(uintptr_t start, uintptr_t stop)
{
	int64_t pages = 0;

	each_written(start, stop, count_run, &pages);
	return pages;
}

/* ---- reservations ----------------------------------------------------------------- */

/* The others when they are needed: see unpark(). */
static void grow(void)
{
	several = span() + ROOM;
	make_one(&image[mapped->index]);
}

void image_reserve(uintptr_t start, size_t len)
{
	/* Once: what lies there from then on is somebody's. */
	if (end <= NEIGHBOUR && start + len > NEIGHBOUR)
		munmap((void *)NEIGHBOUR, SIM_PAGE);
	if (end < start + len)
		end = start + len;
	if (!several)
		map_memory((void *)start, len, PROT_NONE, MAP_FIXED_NOREPLACE);
	else if (span() > several)
		grow();
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
	else if (madvise((void *)start, len, MADV_DONTNEED))
		sim_fail("the host cannot discard: %s", strerror(errno));
}

void image_release(uintptr_t start, size_t len)
{
	image_discard(start, len);
	if (!several)
		mprotect((void *)start, len, PROT_NONE);
}
