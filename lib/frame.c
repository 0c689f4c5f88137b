/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames. Lists and kinds are under frames.lock; `present` is atomic, and whoever clears
 * its last bit frees the group if it is on the probation list. A group that is open or
 * taken is freed by who has it.
 */
#include "lib/frame.h"

#include <errno.h>

#include "lib/frame_list.h"
#include "lib/frame_trash.h"

/* ---- groups ----------------------------------------------------------------------- */

/* A block's worth of free groups, under the lock, which is let go of meanwhile. */
static bool more_groups(struct uhmm_space *sp, bool executable)
{
	static const enum block_kind order[2][BLOCK_KINDS] = {
		{ BLOCK_WORN, BLOCK_FRESH, BLOCK_EXECUTABLE },
		{ BLOCK_EXECUTABLE, BLOCK_WORN, BLOCK_FRESH },
	};
	struct frames *f = &sp->frames;
	uint32_t b, i;

	uhmm_unlock(&f->lock);
	b = block_take(sp, order[executable]);
	uhmm_lock(&f->lock);
	if (b == GROUP_NIL)
		return false;
	if (!executable)
		f->block[b].kind = BLOCK_WORN;
	for (i = BLOCK_GROUPS; i-- > 0;)
		free_group_push(f, b * BLOCK_GROUPS + i);
	f->block[b].nr_free = BLOCK_GROUPS;
	return true;
}

static uint32_t group_open(struct uhmm_space *sp, bool executable)
{
	struct frames *f = &sp->frames;
	uint32_t g = GROUP_NIL;

	uhmm_lock(&f->lock);
	if (f->free_group[executable] != GROUP_NIL || more_groups(sp, executable)) {
		g = f->free_group[executable];
		free_group_unlink(f, g);
		block_of(f, g)->nr_free--;
		f->group[g].kind = GROUP_OPEN;
		f->group[g].nr_used = 0;
		f->group[g].present = 0;
	}
	uhmm_unlock(&f->lock);
	return g;
}

uint32_t frame_group_open(struct uhmm_space *sp, bool executable)
{
	uint32_t g = group_open(sp, executable);

	if (g == GROUP_NIL && frames_drop_unneeded(sp))
		g = group_open(sp, executable);
	return g;
}

void frame_group_fill(struct uhmm_space *sp, uint32_t g, uintptr_t owner, unsigned nr)
{
	struct frame_group *group = frame_group(sp, g);
	uint64_t mask = nr == GROUP_PAGES ? ~UINT64_C(0) : (UINT64_C(1) << nr) - 1;
	uint64_t first = (uint64_t)g * GROUP_PAGES + group->nr_used;
	unsigned i;

	for (i = 0; i < nr; i++)
		frame_set_owner(sp, first + i, owner + i * PAGE_SIZE);
	__atomic_fetch_or(&group->present, mask << group->nr_used, __ATOMIC_RELEASE);
	__atomic_fetch_add(&sp->frames.nr_probation, nr, __ATOMIC_RELAXED);
	group->nr_used += nr;
}

void frame_group_close(struct uhmm_space *sp, uint32_t g, bool oldest)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	if (__atomic_load_n(&f->group[g].present, __ATOMIC_ACQUIRE)) {
		f->group[g].kind = GROUP_PROBATION;
		if (oldest)
			probation_prepend(f, g);
		else
			probation_append(f, g);
	} else {
		group_free(f, g);
	}
	uhmm_unlock(&f->lock);
}

uint32_t frame_group_take(struct uhmm_space *sp, uintptr_t *folio)
{
	struct frames *f = &sp->frames;
	uint32_t g;

	*folio = 0;
	uhmm_lock(&f->lock);
	g = f->probation_head;
	if (g != GROUP_NIL) {
		probation_unlink(f, g);
		if (f->group[g].kind == GROUP_PROBATION)
			f->group[g].kind = GROUP_CLOSED;
		else
			*folio = frame_owner(sp, (uint64_t)g * GROUP_PAGES);
	}
	uhmm_unlock(&f->lock);
	return g;
}

void frame_group_give(struct uhmm_space *sp, uint32_t g)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	if (f->group[g].kind == GROUP_FOLIO && group_on_list(f, g)) {
		/* It was never taken: uhmm_migrate() stores a folio where it is. */
	} else if (f->group[g].kind == GROUP_FOLIO ||
		   __atomic_load_n(&f->group[g].present, __ATOMIC_ACQUIRE)) {
		if (f->group[g].kind != GROUP_FOLIO)
			f->group[g].kind = GROUP_PROBATION;
		probation_prepend(f, g);
	} else {
		group_free(f, g);
	}
	uhmm_unlock(&f->lock);
}

static void clear_present(struct uhmm_space *sp, uint32_t g, uint64_t mask)
{
	struct frames *f = &sp->frames;
	struct frame_group *group = &f->group[g];
	uint64_t left = __atomic_and_fetch(&group->present, ~mask, __ATOMIC_ACQ_REL);

	__atomic_fetch_sub(&f->nr_probation, (uint64_t)__builtin_popcountll(mask),
			   __ATOMIC_RELAXED);
	if (left)
		return;
	uhmm_lock(&f->lock);
	/*
	 * Two may get here one after the other; a group that was reused has pages again.
	 */
	if (group->kind == GROUP_PROBATION &&
	    !__atomic_load_n(&group->present, __ATOMIC_ACQUIRE)) {
		probation_unlink(f, g);
		group_free(f, g);
	} else if (group->kind == GROUP_LENT &&
		   !__atomic_load_n(&group->present, __ATOMIC_ACQUIRE)) {
		group_free(f, g);
	}
	uhmm_unlock(&f->lock);
}

void frame_release(struct uhmm_space *sp, uint64_t slot, unsigned nr)
{
	clear_present(sp, (uint32_t)(slot / GROUP_PAGES),
		      which_first(nr) << slot % GROUP_PAGES);
}

/* ---- left ------------------------------------------------------------------------- */

/* So many of a group: what is left is memory, and nobody has any use for it. */
#define LEFT_MAX (GROUP_PAGES / 4)

bool frame_may_leave(struct uhmm_space *sp, uint64_t slot)
{
	struct frame_group *group = frame_group(sp, (uint32_t)(slot / GROUP_PAGES));
	uint64_t left = __atomic_load_n(&group->left, __ATOMIC_RELAXED);

	return sp->frames.leaves && (unsigned)__builtin_popcountll(left) < LEFT_MAX;
}

void frame_leave(struct uhmm_space *sp, uint64_t slot)
{
	struct frame_group *group = frame_group(sp, (uint32_t)(slot / GROUP_PAGES));

	/* Before the slot is present no more: after that the group may be freed. */
	__atomic_fetch_or(&group->left, UINT64_C(1) << slot % GROUP_PAGES,
			  __ATOMIC_RELAXED);
	frame_release(sp, slot, 1);
}

static uint32_t left_take(struct frames *f)
{
	uint32_t g;

	if (__atomic_load_n(&f->left_group, __ATOMIC_RELAXED) == GROUP_NIL)
		return GROUP_NIL;
	uhmm_lock(&f->lock);
	g = f->left_group;
	if (g != GROUP_NIL) {
		__atomic_store_n(&f->left_group, f->group[g].next, __ATOMIC_RELAXED);
		f->group[g].kind = GROUP_OPEN;
	}
	uhmm_unlock(&f->lock);
	return g;
}

bool frames_drop_left(struct uhmm_space *sp)
{
	struct frames *f = &sp->frames;
	bool any = false;
	uint32_t g;

	for (; (g = left_take(f)) != GROUP_NIL; any = true) {
		trash_pages(sp, frame_addr(sp, (uint64_t)g * GROUP_PAGES),
			    f->group[g].left, group_is_executable(f, g));
		f->group[g].left = 0;
		uhmm_lock(&f->lock);
		group_free(f, g);
		uhmm_unlock(&f->lock);
	}
	return any;
}

/* ---- dropping --------------------------------------------------------------------- */

void frame_unshare(struct uhmm_space *sp, uint64_t slot, unsigned nr)
{
	os_make_exclusive(frame_addr(sp, slot), nr * PAGE_SIZE);
}

void frame_drop(struct uhmm_space *sp, uint32_t g, uint64_t mask)
{
	uint64_t all;

	/* Then the group need not be the caller's any more. */
	if (!mask)
		return;
	all = mask | __atomic_exchange_n(&frame_group(sp, g)->left, 0, __ATOMIC_RELAXED);
	if (!frame_group_keep(sp, g, all))
		trash_pages(sp, frame_addr(sp, (uint64_t)g * GROUP_PAGES), all,
			    group_is_executable(&sp->frames, g));
	clear_present(sp, g, mask);
}

void frame_drop_now(struct uhmm_space *sp, uint32_t g, uint64_t mask)
{
	trash_pages(sp, frame_addr(sp, (uint64_t)g * GROUP_PAGES), mask,
		    group_is_executable(&sp->frames, g));
	clear_present(sp, g, mask);
}

/* ---- life ------------------------------------------------------------------------- */

int frames_init(struct uhmm_space *sp, uint64_t limit_pages)
{
	struct frames *f = &sp->frames;
	uint32_t blocks = (uint32_t)((limit_pages + CHUNK_PAGES - 1) / CHUNK_PAGES), b;
	size_t size = (size_t)blocks * CHUNK_SIZE;
	int r = -ENOMEM;

	f->nr_groups = blocks * BLOCK_GROUPS;
	f->leaves = os_nr_cpus() > 1;
	f->base = os_reserve(size);
	f->trash = os_reserve(TRASH_SIZE);
	f->group = uhmm_host_map(f->nr_groups * sizeof(*f->group));
	f->block = uhmm_host_map(blocks * sizeof(*f->block));
	if (!f->base || !f->trash || !f->group || !f->block)
		goto fail;
	r = os_commit(f->base, size);
	if (!r)
		r = os_commit(f->trash, TRASH_SIZE);
	if (!r)
		r = os_uffd_register(sp->uffd, (uintptr_t)f->base, size);
	if (!r)
		r = trash_open(sp);
	if (r)
		goto fail;
	f->free_group[0] = f->free_group[1] = GROUP_NIL;
	f->probation_head = f->probation_tail = f->left_group = GROUP_NIL;
	f->spare[0].head = f->spare[1].head = GROUP_NIL;
	for (b = 0; b < BLOCK_KINDS; b++)
		f->free_block[b] = GROUP_NIL;
	/* A group that was never used has prev 0: only what is on a list looks at it. */
	for (b = blocks; b-- > 0;)
		free_block_push(f, b);
	return 0;
fail:
	f->trash_uffd = -1;
	frames_fini(sp);
	return r;
}

int frames_after_fork(struct uhmm_space *sp)
{
	/*
	 * The trash was registered on a userfaultfd without EVENT_FORK: it is ours anew.
	 */
	sp->frames.trash_used[0] = sp->frames.trash_used[1] = 0;
	os_discard(sp->frames.trash, TRASH_SIZE);
	return trash_open(sp);
}

void frames_fini(struct uhmm_space *sp)
{
	struct frames *f = &sp->frames;

	if (f->trash_uffd > 0)
		os_uffd_close(f->trash_uffd);
	if (f->block)
		uhmm_host_unmap(f->block,
				f->nr_groups / BLOCK_GROUPS * sizeof(*f->block));
	if (f->group)
		uhmm_host_unmap(f->group, f->nr_groups * sizeof(*f->group));
	if (f->trash)
		os_release(f->trash, TRASH_SIZE);
	if (f->base)
		os_release(f->base, (size_t)f->nr_groups * CHUNK_SIZE / BLOCK_GROUPS);
	*f = (struct frames){ .trash_uffd = -1 };
}
