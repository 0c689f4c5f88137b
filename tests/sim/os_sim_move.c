/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated userfaultfd's ways to fill a page: MOVE, COPY, ZERO.
 *
 * While a mapping is changing (os_sim_uffd.c) nothing can be filled or moved: -EAGAIN. A
 * page that is filled with wrong bytes ends the run.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/world.h"

/* ---- moving ---------------------------------------------------------------------- */

static uint64_t hash_page(const void *bytes)
{
	const uint64_t *word = bytes;
	uint64_t hash = 0;
	unsigned i;

	for (i = 0; i < SIM_PAGE / 8; i++)
		hash = (hash ^ word[i]) * UINT64_C(0x9e3779b97f4a7c15);
	return hash;
}

/*
 * A frame is shared until the library wrote to it. That is seen by its bytes; but the
 * library may have written what was there, so every other refusal is the last.
 */
static bool shared(struct mm *mm, uintptr_t addr, struct page *page)
{
	if (!(page->flags & P_SHARED))
		return false;
	if (in_arena(addr))
		return true;
	if (hash_page(page_bytes(mm, addr)) != page->hash) {
		page->flags &= (uint16_t)~P_SHARED;
		return false;
	}
	if (world_below(2))
		page->flags &= (uint16_t)~P_SHARED;
	return true;
}

void page_fork_frame(struct page *page, const void *bytes)
{
	page->flags |= P_SHARED;
	page->hash = hash_page(bytes);
}

static void move_one(struct mm *mm, uintptr_t dst, uintptr_t src, uint16_t keep)
{
	uint16_t flags = page_at(mm, src)->flags & keep;

	if (!page_untouched(mm, dst))
		sim_fail("MOVE to %lx: somebody wrote there while no page was there",
			 dst);
	/* The library writes to its frames without asking: then it is no zero page. */
	if (flags & P_ZERO && !page_is(page_bytes(mm, src), 0))
		flags &= (uint16_t)~P_ZERO;
	memcpy(page_bytes(mm, dst), page_bytes(mm, src), SIM_PAGE);
	page_fill(mm, dst, flags, "MOVE");
	page_gone(mm, src);
}

static int move_huge(struct mm *mm, uintptr_t dst, uintptr_t src)
{
	struct chunk *chunk = chunk_at(mm, src);
	unsigned i;

	for (i = 0; i < 512; i++)
		if (chunk->page[i].pins ||
		    shared(mm, src + i * SIM_PAGE, &chunk->page[i]))
			return -EBUSY;
	for (i = 0; i < 512; i++)
		move_one(mm, dst + i * SIM_PAGE, src + i * SIM_PAGE, P_HUGE);
	return 0;
}

static int move_small(struct mm *mm, uintptr_t dst, uintptr_t src, unsigned flags)
{
	struct page *from = page_at(mm, src);
	const struct page *to = page_at(mm, dst);
	const struct vma *vma = vma_at(mm, src);
	/* What is there of our own memory is known where it is registered. */
	bool known = in_arena(src) || vma->uffd;

	/* As os.h says: it has moved. */
	if (to->flags & P_PRESENT && known && !(from->flags & (P_PRESENT | P_POISON)))
		return 0;
	if (to->flags & (P_PRESENT | P_POISON))
		return -EEXIST;
	if (from->flags & P_POISON)
		return -EFAULT;
	if (known && !(from->flags & P_PRESENT)) {
		if (!page_untouched(mm, src))
			sim_fail("somebody wrote to %lx while no page was there", src);
		/* The library puts up with what the kernel does; this one does not. */
		if (!in_arena(src) && !(flags & OS_MOVE_HOLES))
			sim_fail("MOVE from %lx: there is no page in this frame", src);
		return -ENOENT;
	}
	if (from->pins || shared(mm, src, from) || sim_chance(sim_config.busy_move))
		return -EBUSY;
	move_one(mm, dst, src, P_ZERO);
	return 0;
}

static bool whole_fits(struct mm *mm, uintptr_t dst, uintptr_t src, size_t len)
{
	return dst % SIM_HUGE == 0 && src % SIM_HUGE == 0 && len >= SIM_HUGE &&
	       !chunk_at(mm, dst)->table;
}

static int64_t move(const struct file *uffd, uintptr_t dst, uintptr_t src, size_t len,
		    unsigned flags)
{
	struct mm *mm = uffd->mm;
	const struct vma *to = vma_at(mm, dst), *from = vma_at(mm, src);
	size_t at = 0;
	int r = 0;

	if (mm->dead)
		return -ESRCH;
	if (uffd->changing)
		return -EAGAIN;
	if (!to || !from)
		return -ENOENT;
	if (src + len > from->end || dst + len > to->end || to->uffd != uffd ||
	    (to->prot & SIM_ACCESS) != (from->prot & SIM_ACCESS) ||
	    !(to->prot & SIM_WRITE))
		return -EINVAL;
	while (at < len) {
		size_t step = SIM_PAGE;

		if (page_at(mm, dst + at)->flags & P_HUGE) {
			r = -EEXIST;
		} else if (page_at(mm, src + at)->flags & P_HUGE &&
			   whole_fits(mm, dst + at, src + at, len - at)) {
			r = move_huge(mm, dst + at, src + at);
			step = SIM_HUGE;
		} else {
			page_split(mm, src + at);
			r = move_small(mm, dst + at, src + at, flags);
		}
		if (r)
			break;
		at += step;
		if (sim_chance(sim_config.short_move))
			break;
	}
	return at ? (int64_t)at : r;
}

int64_t os_uffd_move(int fd, uintptr_t dst, uintptr_t src, size_t len, unsigned flags)
{
	struct file *uffd = uffd_range(fd, dst | src, len);
	int64_t r = world_fails_now() || sim_chance(sim_config.no_memory) ?
			    -ENOMEM :
			    move(uffd, dst, src, len, flags);

	sim_trace("MOVE", (int64_t)src, (int64_t)dst, (int64_t)(len / SIM_PAGE), r);
	if (r > 0 && !(flags & OS_MOVE_NOWAKE))
		uffd_wake(uffd, dst, dst + (size_t)r);
	sim_point();
	return r;
}

/* ---- filling --------------------------------------------------------------------- */

static int fill_check(const struct file *uffd, uintptr_t dst, size_t len)
{
	const struct vma *vma = vma_at(uffd->mm, dst);

	if (uffd->mm->dead)
		return -ESRCH;
	if (uffd->changing)
		return -EAGAIN;
	if (names_fill(uffd->mm, dst, false))
		return 0;
	return !vma || !vma->uffd || dst + len > vma->end ? -ENOENT : 0;
}

/* src: NULL for the zero page. */
static int64_t fill(const struct file *uffd, uintptr_t dst, const char *src, size_t len)
{
	struct mm *mm = uffd->mm;
	int64_t r = fill_check(uffd, dst, len);
	size_t at = 0;

	if (r == 0 && !src && (r = names_fill(mm, dst, true)))
		return r < 0 ? r : (int64_t)SIM_PAGE;
	for (; r == 0 && at < len; at += SIM_PAGE) {
		if (page_at(mm, dst + at)->flags & (P_PRESENT | P_POISON)) {
			r = -EEXIST;
			break;
		}
		if (at && sim_chance(sim_config.short_move))
			break;
		if (!page_untouched(mm, dst + at))
			sim_fail("somebody wrote to %lx while no page was there",
				 dst + at);
		if (src)
			memcpy(page_bytes(mm, dst + at), src + at, SIM_PAGE);
		else
			memset(page_bytes(mm, dst + at), 0, SIM_PAGE);
		page_fill(mm, dst + at, src ? 0 : P_ZERO, src ? "COPY" : "ZERO");
	}
	if (at)
		uffd_wake(uffd, dst, dst + at);
	return at ? (int64_t)at : r;
}

int64_t os_uffd_copy(int fd, uintptr_t dst, const void *src, size_t len)
{
	struct file *uffd = uffd_range(fd, dst, len);
	uintptr_t at = (uintptr_t)src & ~(SIM_PAGE - 1);
	const struct vma *vma;
	int64_t r;

	for (; at < (uintptr_t)src + len; at += SIM_PAGE) {
		vma = vma_at(here(), at);
		if (vma && vma->uffd && !(page_at(here(), at)->flags & P_PRESENT))
			sim_fail("COPY from %lx, where no page is", at);
	}
	r = world_fails_now() ? -ENOMEM : fill(uffd, dst, src, len);
	sim_trace("COPY", (int64_t)dst, (int64_t)(len / SIM_PAGE), fd, r);
	sim_point();
	return r;
}

int64_t os_uffd_zero(int fd, uintptr_t dst, size_t len)
{
	struct file *uffd = uffd_range(fd, dst, len);
	int64_t r = world_fails_now() ? -ENOMEM : fill(uffd, dst, NULL, len);

	sim_trace("ZERO", (int64_t)dst, (int64_t)(len / SIM_PAGE), fd, r);
	sim_point();
	return r;
}

int os_uffd_probe(int fd, uintptr_t addr, size_t len)
{
	struct file *file = file_at(fd);
	int r;

	if (!file || !(file->open_in & 1u << here()->index))
		return -EBADF;
	r = fill_check(uffd_range(fd, addr, len), addr, len);

	sim_trace("probe", (int64_t)addr, fd, (int64_t)(len / SIM_PAGE), r);
	sim_point();
	return r;
}

int os_uffd_wake(int fd, uintptr_t start, size_t len)
{
	uffd_wake(uffd_range(fd, start, len), start, start + len);
	sim_trace("WAKE", (int64_t)start, (int64_t)(len / SIM_PAGE), 0, 0);
	sim_point();
	return 0;
}

int os_uffd_poison(int fd, uintptr_t start, size_t len)
{
	struct file *uffd = uffd_range(fd, start, len);
	int r = fill_check(uffd, start, len);
	size_t at;

	for (at = 0; r == 0 && at < len; at += SIM_PAGE) {
		struct page *page = page_at(uffd->mm, start + at);

		if (page->flags & (P_PRESENT | P_POISON))
			r = -EEXIST;
		else
			page->flags |= P_POISON;
	}
	if (at)
		uffd_wake(uffd, start, start + at);
	sim_trace("POISON", (int64_t)start, (int64_t)(len / SIM_PAGE), 0, r);
	sim_point();
	return r;
}
