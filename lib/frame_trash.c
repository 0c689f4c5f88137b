/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See frame_trash.h. Pages for the trash are gathered a group at a time and discarded
 * together when a chunk is full, or when memory is wanted at once.
 */
#include "lib/frame_trash.h"

#include <errno.h>

#include "lib/assert.h"
#include "lib/frame.h"

static char *trash_for(struct frames *f, bool executable)
{
	return f->trash + (executable ? TRASH_EXECUTABLE : 0);
}

static void discard_trash(struct frames *f, bool executable)
{
	if (f->trash_used[executable])
		os_discard(trash_for(f, executable),
			   (size_t)f->trash_used[executable] * GROUP_SIZE);
	__atomic_store_n(&f->trash_used[executable], 0, __ATOMIC_RELAXED);
}

int64_t trash_held(struct uhmm_space *sp)
{
	const struct frames *f = &sp->frames;

	return (int64_t)GROUP_PAGES *
	       (__atomic_load_n(&f->trash_used[false], __ATOMIC_RELAXED) +
		__atomic_load_n(&f->trash_used[true], __ATOMIC_RELAXED));
}

void frame_empty_trash(struct uhmm_space *sp)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->trash_lock);
	discard_trash(f, false);
	discard_trash(f, true);
	uhmm_unlock(&f->trash_lock);
}

/* It may lock all again, in the middle of a few moves; more often is no coincidence. */
#define UNDO_MAX 16

/*
 * The program has locked all there was, by an mlockall() that nobody kept from us: frames
 * and trash are full of zeros, and one may be locked where the other is not.
 */
static void undo_mlockall(struct uhmm_space *sp, uintptr_t trash, size_t len)
{
	os_unlock(sp->frames.base, (size_t)sp->frames.nr_groups * GROUP_SIZE);
	os_discard((void *)trash, len);
}

/*
 * No page stays: a hole that is moved on top of one would count as moved (os.h), and have
 * its bytes. So where the kernel has no memory for a table it is asked again, as a fault
 * would be repeated.
 */
static void run(struct uhmm_space *sp, uintptr_t from, unsigned nr, uintptr_t trash)
{
	unsigned done = 0;
	unsigned undone = 0;

	while (done < nr) {
		uintptr_t to = trash + done * PAGE_SIZE, at = from + done * PAGE_SIZE;
		int64_t r = os_uffd_move(sp->frames.trash_uffd, to, at,
					 (nr - done) * PAGE_SIZE, OS_MOVE_NOWAKE);

		if (r > 0)
			done += (unsigned)(r / (int64_t)PAGE_SIZE);
		else if (r == -EBUSY) /* shared since a fork */
			os_make_exclusive(at, PAGE_SIZE);
		else if (r == -ENOENT)
			done++; /* marked free, and taken before os_keep() */
		else if (r == -ENOMEM)
			os_yield();
		else if ((r == -EEXIST || r == -EINVAL) && undone++ < UNDO_MAX)
			undo_mlockall(sp, to, (nr - done) * PAGE_SIZE);
		else
			/* transient: the page was locked */
			assert_result(r == -EAGAIN, r);
	}
}

void trash_pages(struct uhmm_space *sp, uintptr_t start, uint64_t mask, bool executable)
{
	struct frames *f = &sp->frames;
	uintptr_t trash;

	uhmm_lock(&f->trash_lock);
	if (f->trash_used[executable] == BLOCK_GROUPS)
		discard_trash(f, executable);
	trash = (uintptr_t)trash_for(f, executable) +
		(size_t)f->trash_used[executable] * GROUP_SIZE;
	__atomic_store_n(&f->trash_used[executable], f->trash_used[executable] + 1,
			 __ATOMIC_RELAXED);
	while (mask) {
		unsigned from = (unsigned)__builtin_ctzll(mask);
		uint64_t rest = ~(mask >> from);
		unsigned nr = rest ? (unsigned)__builtin_ctzll(rest) : GROUP_PAGES;

		if (from + nr > GROUP_PAGES)
			nr = GROUP_PAGES - from;
		run(sp, start + from * PAGE_SIZE, nr, trash + from * PAGE_SIZE);
		mask &= nr == GROUP_PAGES ? 0 : ~(((UINT64_C(1) << nr) - 1) << from);
	}
	uhmm_unlock(&f->trash_lock);
}

void trash_folio(struct uhmm_space *sp, uintptr_t start)
{
	struct frames *f = &sp->frames;
	uintptr_t trash = (uintptr_t)f->trash + TRASH_FOLIO;
	unsigned undone = 0;
	size_t done = 0;

	uhmm_lock(&f->trash_lock);
	while (done < CHUNK_SIZE) {
		int64_t r = os_uffd_move(f->trash_uffd, trash + done, start + done,
					 CHUNK_SIZE - done,
					 OS_MOVE_NOWAKE | OS_MOVE_HOLES);

		if (r > 0)
			done += (size_t)r;
		else if (r == -ENOENT)
			done += PAGE_SIZE;
		else if (r == -ENOMEM)
			os_yield();
		else if (r == -EBUSY)
			os_make_exclusive(start + done, PAGE_SIZE);
		else if ((r == -EEXIST || r == -EINVAL) && undone++ < UNDO_MAX)
			undo_mlockall(sp, trash + done, CHUNK_SIZE - done);
		else
			assert_result(r == -EAGAIN, r);
	}
	os_discard((void *)trash, CHUNK_SIZE);
	uhmm_unlock(&f->trash_lock);
}

int trash_open(struct uhmm_space *sp)
{
	struct frames *f = &sp->frames;
	int r;

	/* Nobody faults there. And this any user may, also who was root before. */
	f->trash_uffd = os_uffd_open(OS_UFFD_USER_ONLY);
	if (f->trash_uffd < 0)
		return f->trash_uffd;
	r = os_uffd_register(f->trash_uffd, (uintptr_t)f->trash, TRASH_SIZE);
	if (r) {
		os_uffd_close(f->trash_uffd);
		f->trash_uffd = -1;
	}
	return r;
}
