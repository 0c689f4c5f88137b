/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames on the real kernel: pages of mappings that can be executed, and of others, find
 * frames that UFFDIO_MOVE takes them to, whatever those were used for before, and can be
 * dropped from there. Skipped where userfaultfd is not permitted.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/frame.h"
#include "tests/test.h"

#define BLOCKS 2u
#define GROUPS (BLOCKS * BLOCK_GROUPS)
#define RW (PROT_READ | PROT_WRITE)
#define RWX (RW | PROT_EXEC)

static struct uhmm_space *space(void)
{
	struct uhmm_space *sp = mmap(NULL, sizeof(*sp), RW, MAP_PRIVATE | MAP_ANONYMOUS,
				     -1, 0);
	void *x = mmap(NULL, PAGE_SIZE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(sp != MAP_FAILED);
	if (x == MAP_FAILED)
		SKIP("no memory is writable and executable here: %s", strerror(errno));
	munmap(x, PAGE_SIZE);
	CHECK_EQ(os_attach(), 0);
	/* No events: nobody reads them here. */
	sp->uffd = os_uffd_open(0);
	if (sp->uffd < 0)
		SKIP("userfaultfd: %s", strerror(-sp->uffd));
	CHECK_EQ(frames_init(sp, BLOCKS * CHUNK_PAGES), 0);
	return sp;
}

static void end(struct uhmm_space *sp)
{
	frames_fini(sp);
	os_uffd_close(sp->uffd);
	munmap(sp, sizeof(*sp));
}

/* A group's worth of pages of the program. */
static char *program_pages(int prot)
{
	char *p = mmap(NULL, GROUP_SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* They are written and move to the first group of frames from there on. */
static void move_to(struct uhmm_space *sp, uint32_t group, char *p, unsigned char byte)
{
	uint64_t slot = (uint64_t)group * GROUP_PAGES;

	memset(p, byte, GROUP_SIZE);
	CHECK_EQ(os_uffd_move(sp->uffd, frame_addr(sp, slot), (uintptr_t)p, GROUP_SIZE,
			      0),
		 GROUP_SIZE);
	CHECK_EQ(*(unsigned char *)frame_bytes(sp, slot + 5), byte);
}

static void move_in(struct uhmm_space *sp, uint32_t group, char *p, unsigned char byte)
{
	move_to(sp, group, p, byte);
	frame_group_fill(sp, group, (uintptr_t)p, GROUP_PAGES);
}

static void drop(struct uhmm_space *sp, uint32_t group)
{
	frame_group_close(sp, group, false);
	frame_drop(sp, group, ~UINT64_C(0));
}

TEST(pages_move_in_and_out_of_frames_of_their_kind)
{
	struct uhmm_space *sp = space();
	char *p[2] = { program_pages(RW), program_pages(RWX) };
	uint32_t g[2];
	int x;

	for (x = 0; x < 2; x++) {
		g[x] = frame_group_open(sp, x);
		CHECK_NE(g[x], GROUP_NIL);
		move_in(sp, g[x], p[x], (unsigned char)(1 + x));
		frame_group_close(sp, g[x], false);
	}
	/* They do not change places. */
	CHECK_EQ(os_uffd_register(sp->uffd, (uintptr_t)p[0], GROUP_SIZE), 0);
	CHECK_EQ(os_uffd_register(sp->uffd, (uintptr_t)p[1], GROUP_SIZE), 0);
	CHECK_EQ(os_uffd_move(sp->uffd, (uintptr_t)p[0],
			      frame_addr(sp, (uint64_t)g[1] * GROUP_PAGES), PAGE_SIZE, 0),
		 -EINVAL);
	for (x = 0; x < 2; x++) {
		uint64_t slot = (uint64_t)g[x] * GROUP_PAGES, i;

		CHECK_EQ(os_uffd_move(sp->uffd, (uintptr_t)p[x], frame_addr(sp, slot),
				      GROUP_SIZE, 0),
			 GROUP_SIZE);
		for (i = 0; i < GROUP_PAGES; i++)
			frame_release(sp, slot + i, 1);
		CHECK_EQ(p[x][GROUP_SIZE - 1], 1 + x);
	}
	CHECK_EQ(sp->frames.nr_probation, 0);
	end(sp);
}

/* All groups there are, each filled, which proves that it is of the kind. */
static void use_all(struct uhmm_space *sp, bool executable)
{
	char *p = program_pages(executable ? RWX : RW);
	uint32_t g[GROUPS], i;

	for (i = 0; i < GROUPS; i++) {
		g[i] = frame_group_open(sp, executable);
		CHECK_NE(g[i], GROUP_NIL);
		move_in(sp, g[i], p, (unsigned char)i);
	}
	CHECK_EQ(frame_group_open(sp, executable), GROUP_NIL);
	CHECK_EQ(frame_group_open(sp, !executable), GROUP_NIL);
	CHECK_EQ(frame_folio_open(sp), GROUP_NIL);
	for (i = 0; i < GROUPS; i++)
		drop(sp, g[i]);
	munmap(p, GROUP_SIZE);
}

TEST(frames_become_what_is_needed_when_there_are_no_others)
{
	struct uhmm_space *sp = space();
	char *p = program_pages(RW);
	uint32_t g[BLOCKS], i;
	int round;

	for (round = 0; round < 3; round++) {
		use_all(sp, true);
		use_all(sp, false);
		use_all(sp, true);
		for (i = 0; i < BLOCKS; i++) {
			g[i] = frame_folio_open(sp);
			CHECK_NE(g[i], GROUP_NIL);
			move_to(sp, g[i], p, 7);
			frame_folio_close(sp, g[i], (uintptr_t)p);
		}
		CHECK_EQ(frame_group_open(sp, true), GROUP_NIL);
		for (i = 0; i < BLOCKS; i++)
			frame_folio_drop(sp, g[i]);
	}
	end(sp);
}

/* What lies in frames, or was dropped and lies in the trash. */
static size_t resident(const struct uhmm_space *sp)
{
	const struct frames *f = &sp->frames;
	struct range area[2] = {
		{ (uintptr_t)f->base, (uintptr_t)f->base + BLOCKS * CHUNK_SIZE },
		{ (uintptr_t)f->trash, (uintptr_t)f->trash + 3 * CHUNK_SIZE },
	};
	size_t nr = 0;
	int i, n;

	for (i = 0; i < 2; i++) {
		uintptr_t at = area[i].start;

		while (at < area[i].end) {
			struct os_extent ext;

			n = os_scan(at, area[i].end, OS_SCAN_MEMORY, CHUNK_PAGES, &ext, 1,
				    &at);
			CHECK_GE(n, 0);
			nr += n ? ext.nr_pages : 0;
		}
	}
	return nr;
}

TEST(what_is_dropped_gives_its_memory_back)
{
	struct uhmm_space *sp = space();
	char *p[2] = { program_pages(RW), program_pages(RWX) };
	unsigned i;

	sp->budget.limit_pages = 1; /* where nothing is kept */
	/* More than the trash holds, of both kinds in turn. */
	for (i = 0; i < 5 * BLOCK_GROUPS; i++) {
		uint32_t g = frame_group_open(sp, i & 1);

		move_in(sp, g, p[i & 1], 1);
		CHECK_GE(resident(sp), GROUP_PAGES);
		drop(sp, g);
		CHECK_LE(resident(sp), 2 * CHUNK_PAGES);
	}
	CHECK_GT(resident(sp), 0);
	frame_empty_trash(sp);
	CHECK_EQ(resident(sp), 0);
	end(sp);
}

/* A group whose pages are dropped. */
static uint32_t drop_one(struct uhmm_space *sp, char *p)
{
	uint32_t g = frame_group_open(sp, false);

	CHECK_NE(g, GROUP_NIL);
	move_in(sp, g, p, 1);
	drop(sp, g);
	return g;
}

TEST(what_is_dropped_is_kept_until_nobody_has_needed_it_for_a_while)
{
	struct uhmm_space *sp = space();
	char *p = program_pages(RW);
	uint32_t quarter = GROUPS / 4, i, g;

	for (i = 0; i < 2 * quarter; i++)
		drop_one(sp, p);
	CHECK_EQ(sp->frames.spare_pages, quarter * GROUP_PAGES);
	CHECK_EQ(sp->frames.nr_probation, 0);
	/* One of them is needed from time to time. */
	for (i = 0; i < 3; i++) {
		g = frame_spare_take(sp);
		CHECK_NE(g, GROUP_NIL);
		memset(frame_bytes(sp, (uint64_t)g * GROUP_PAGES), (int)i, GROUP_SIZE);
		frame_spare_give(sp, g, ~UINT64_C(0));
		frames_trim(sp);
	}
	CHECK_EQ(sp->frames.spare_pages, GROUP_PAGES);
	CHECK_EQ(resident(sp), GROUP_PAGES);
	/* It is moved away, half of it. */
	g = frame_spare_take(sp);
	CHECK_EQ(os_uffd_register(sp->uffd, (uintptr_t)p, GROUP_SIZE), 0);
	munmap(p, GROUP_SIZE);
	p = program_pages(RW);
	CHECK_EQ(os_uffd_register(sp->uffd, (uintptr_t)p, GROUP_SIZE), 0);
	CHECK_EQ(os_uffd_move(sp->uffd, (uintptr_t)p,
			      frame_addr(sp, (uint64_t)g * GROUP_PAGES), GROUP_SIZE / 2,
			      0),
		 GROUP_SIZE / 2);
	frame_spare_give(sp, g, ~UINT64_C(0) << GROUP_PAGES / 2);
	CHECK_EQ(p[GROUP_SIZE / 2 - 1], 2);
	CHECK_EQ(frame_spare_take(sp), GROUP_NIL);
	frame_empty_trash(sp);
	CHECK_EQ(resident(sp), 0);
	end(sp);
}

TEST(spare_frames_are_there_for_who_needs_empty_ones)
{
	struct uhmm_space *sp = space();
	char *p = program_pages(RW);
	uint32_t g[GROUPS], i;

	for (i = 0; i < GROUPS / 4; i++)
		drop_one(sp, p);
	for (i = 0; i < GROUPS; i++) {
		g[i] = frame_group_open(sp, false);
		CHECK_NE(g[i], GROUP_NIL);
	}
	CHECK_EQ(sp->frames.spare_pages, 0);
	for (i = 0; i < GROUPS; i++)
		frame_group_close(sp, g[i], false);
	drop_one(sp, p);
	sp->budget.limit_pages = 1;
	frames_trim(sp);
	CHECK_EQ(sp->frames.spare_pages, 0);
	drop_one(sp, p);
	CHECK_EQ(sp->frames.spare_pages, 0);
	end(sp);
}
