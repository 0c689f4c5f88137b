/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames. Lists and kinds are under frames.lock; `present` is atomic, and whoever clears
 * its last bit frees the group if it is on the probation list. A group that is open or
 * taken is freed by who has it.
 */
#include "lib/frame.h"

#include <errno.h>

#include "lib/frame_trash.h"

#define NIL GROUP_NIL

static struct frame_block *block_of(struct frames *f, uint32_t group)
{
	return &f->block[group / BLOCK_GROUPS];
}

static bool is_executable(struct frames *f, uint32_t group)
{
	return block_of(f, group)->kind == BLOCK_EXECUTABLE;
}

/* ---- lists; under frames.lock ----------------------------------------------------- */

static void free_group_push(struct frames *f, uint32_t g)
{
	uint32_t *head = &f->free_group[is_executable(f, g)];

	f->group[g].prev = NIL;
	f->group[g].next = *head;
	if (*head != NIL)
		f->group[*head].prev = g;
	*head = g;
}

static void free_group_unlink(struct frames *f, uint32_t g)
{
	struct frame_group *group = &f->group[g];

	if (group->prev != NIL)
		f->group[group->prev].next = group->next;
	else
		f->free_group[is_executable(f, g)] = group->next;
	if (group->next != NIL)
		f->group[group->next].prev = group->prev;
}

static void free_block_push(struct frames *f, uint32_t b)
{
	uint32_t *head = &f->free_block[f->block[b].kind];

	f->block[b].next = *head;
	*head = b;
}

static uint32_t free_block_pop(struct frames *f, const enum block_kind *order)
{
	unsigned i;
	uint32_t b;

	for (i = 0; i < BLOCK_KINDS; i++) {
		b = f->free_block[order[i]];
		if (b != NIL) {
			f->free_block[order[i]] = f->block[b].next;
			return b;
		}
	}
	return NIL;
}

static void probation_append(struct frames *f, uint32_t g)
{
	f->group[g].prev = f->probation_tail;
	f->group[g].next = NIL;
	if (f->probation_tail != NIL)
		f->group[f->probation_tail].next = g;
	else
		f->probation_head = g;
	f->probation_tail = g;
}

static void probation_prepend(struct frames *f, uint32_t g)
{
	f->group[g].prev = NIL;
	f->group[g].next = f->probation_head;
	if (f->probation_head != NIL)
		f->group[f->probation_head].prev = g;
	else
		f->probation_tail = g;
	f->probation_head = g;
}

static void probation_unlink(struct frames *f, uint32_t g)
{
	struct frame_group *group = &f->group[g];

	if (group->prev != NIL)
		f->group[group->prev].next = group->next;
	else
		f->probation_head = group->next;
	if (group->next != NIL)
		f->group[group->next].prev = group->prev;
	else
		f->probation_tail = group->prev;
}

/* On the list unless its storer took it: then it is the head of nothing. */
static bool on_list(struct frames *f, uint32_t g)
{
	return f->probation_head == g || f->group[g].prev != NIL;
}

/* When all groups of a block are free the block is, and can hold a folio again. */
static void group_free(struct frames *f, uint32_t g)
{
	struct frame_block *block = block_of(f, g);
	uint32_t first = g - g % BLOCK_GROUPS, i;

	f->group[g].kind = GROUP_FREE;
	free_group_push(f, g);
	if (++block->nr_free < BLOCK_GROUPS)
		return;
	for (i = first; i < first + BLOCK_GROUPS; i++)
		free_group_unlink(f, i);
	free_block_push(f, g / BLOCK_GROUPS);
}

/* ---- blocks ----------------------------------------------------------------------- */

/* Makes a block that is on no list, and empty, one of the other kind. */
static int block_convert(struct frames *f, uint32_t b, bool executable)
{
	char *bytes = f->base + (size_t)b * CHUNK_SIZE;
	int r = 0;

	/* What is dropped from it must have somewhere to go. */
	if (executable)
		r = os_set_executable(f->trash + TRASH_EXECUTABLE, CHUNK_SIZE, true);
	if (!r)
		r = os_set_executable(bytes, CHUNK_SIZE, executable);
	if (!r)
		f->block[b].kind = executable ? BLOCK_EXECUTABLE : BLOCK_WORN;
	return r;
}

/* Takes a free block off its list, that of the first kind in order that has one. */
static uint32_t block_take(struct uhmm_space *sp, const enum block_kind *order)
{
	struct frames *f = &sp->frames;
	bool executable = order[0] == BLOCK_EXECUTABLE;
	uint32_t b;

	uhmm_lock(&f->lock);
	b = free_block_pop(f, order);
	uhmm_unlock(&f->lock);
	if (b == NIL || (f->block[b].kind == BLOCK_EXECUTABLE) == executable)
		return b;
	if (block_convert(f, b, executable) == 0)
		return b;
	uhmm_lock(&f->lock);
	free_block_push(f, b);
	uhmm_unlock(&f->lock);
	return NIL;
}

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
	if (b == NIL)
		return false;
	if (!executable)
		f->block[b].kind = BLOCK_WORN;
	for (i = BLOCK_GROUPS; i-- > 0;)
		free_group_push(f, b * BLOCK_GROUPS + i);
	f->block[b].nr_free = BLOCK_GROUPS;
	return true;
}

uint32_t frame_group_open(struct uhmm_space *sp, bool executable)
{
	struct frames *f = &sp->frames;
	uint32_t g = NIL;

	uhmm_lock(&f->lock);
	if (f->free_group[executable] != NIL || more_groups(sp, executable)) {
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

void frame_group_lend(struct uhmm_space *sp, uint32_t g)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	if (__atomic_load_n(&f->group[g].present, __ATOMIC_ACQUIRE))
		f->group[g].kind = GROUP_LENT;
	else
		group_free(f, g);
	uhmm_unlock(&f->lock);
}

unsigned frame_alloc(struct uhmm_space *sp, unsigned nr, uint64_t *slot)
{
	uint32_t g = frame_group_open(sp, false);
	unsigned done = 0;
	int64_t r = 0;

	if (g == NIL)
		return 0;
	*slot = (uint64_t)g * GROUP_PAGES;
	while (done < nr) {
		r = os_uffd_copy(sp->uffd, frame_addr(sp, *slot + done), sp->zeros,
				 (nr - done) * PAGE_SIZE);
		if (r > 0)
			done += (unsigned)(r >> PAGE_SHIFT);
		else if (r == -EEXIST)
			done++; /* somebody looked there, and got zeros */
		else if (r == -EAGAIN)
			os_yield(); /* until the reader has read */
		else
			break;
	}
	if (done)
		frame_group_fill(sp, g, 0, done);
	frame_group_lend(sp, g);
	return done;
}

uint32_t frame_group_take(struct uhmm_space *sp, uintptr_t *folio)
{
	struct frames *f = &sp->frames;
	uint32_t g;

	*folio = 0;
	uhmm_lock(&f->lock);
	g = f->probation_head;
	if (g != NIL) {
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
	if (f->group[g].kind == GROUP_FOLIO && on_list(f, g)) {
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

void frame_release(struct uhmm_space *sp, uint64_t slot)
{
	clear_present(sp, (uint32_t)(slot / GROUP_PAGES),
		      UINT64_C(1) << slot % GROUP_PAGES);
}

/* ---- folios ----------------------------------------------------------------------- */

/*
 * Huge pages go to blocks that never held single pages: those have no page table yet, and
 * the kernel moves the huge page by moving one entry. Single pages use worn blocks first.
 */
uint32_t frame_folio_open(struct uhmm_space *sp)
{
	static const enum block_kind order[BLOCK_KINDS] = { BLOCK_FRESH, BLOCK_WORN,
							    BLOCK_EXECUTABLE };
	uint32_t b = block_take(sp, order);

	return b == NIL ? NIL : b * BLOCK_GROUPS;
}

void frame_folio_close(struct uhmm_space *sp, uint32_t g, uintptr_t owner)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	f->block[g / BLOCK_GROUPS].nr_free = 0;
	f->group[g].kind = GROUP_FOLIO;
	frame_set_owner(sp, (uint64_t)g * GROUP_PAGES, owner);
	probation_append(f, g);
	uhmm_unlock(&f->lock);
	__atomic_fetch_add(&f->nr_probation, CHUNK_PAGES, __ATOMIC_RELAXED);
}

bool frame_folio_is_here(struct uhmm_space *sp, uint32_t g, uintptr_t owner)
{
	struct frames *f = &sp->frames;
	bool here;

	uhmm_lock(&f->lock);
	here = f->group[g].kind == GROUP_FOLIO &&
	       frame_owner(sp, (uint64_t)g * GROUP_PAGES) == owner;
	uhmm_unlock(&f->lock);
	return here;
}

static void folio_free(struct uhmm_space *sp, uint32_t g)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->lock);
	if (f->group[g].kind == GROUP_FOLIO) {
		if (on_list(f, g))
			probation_unlink(f, g);
		f->group[g].prev = NIL;
		f->group[g].kind = GROUP_FREE;
		__atomic_fetch_sub(&f->nr_probation, CHUNK_PAGES, __ATOMIC_RELAXED);
	}
	f->block[g / BLOCK_GROUPS].nr_free = BLOCK_GROUPS;
	free_block_push(f, g / BLOCK_GROUPS);
	uhmm_unlock(&f->lock);
}

void frame_folio_release(struct uhmm_space *sp, uint32_t g)
{
	folio_free(sp, g);
}

/* The bits of [from, to) that fall into group i of a folio. */
static uint64_t group_mask(unsigned i, unsigned from, unsigned to)
{
	unsigned first = i * GROUP_PAGES, end = first + GROUP_PAGES;
	uint64_t below_to, below_from;

	from = from < first ? first : from > end ? end : from;
	to = to < first ? first : to > end ? end : to;
	below_to = to == end ? ~UINT64_C(0) : (UINT64_C(1) << (to - first)) - 1;
	below_from = from == end ? ~UINT64_C(0) : (UINT64_C(1) << (from - first)) - 1;
	return below_to & ~below_from;
}

void frame_folio_split(struct uhmm_space *sp, uint32_t g, uintptr_t owner, unsigned from,
		       unsigned to)
{
	struct frames *f = &sp->frames;
	uint32_t i, j;

	uhmm_lock(&f->lock);
	if (on_list(f, g))
		probation_unlink(f, g);
	f->group[g].prev = NIL;
	f->block[g / BLOCK_GROUPS].kind = BLOCK_WORN;
	f->block[g / BLOCK_GROUPS].nr_free = 0;
	for (i = 0; i < BLOCK_GROUPS; i++) {
		struct frame_group *group = &f->group[g + i];

		group->nr_used = GROUP_PAGES;
		group->present = group_mask(i, from, to);
		if (!group->present) {
			group_free(f, g + i);
			continue;
		}
		for (j = i * GROUP_PAGES; j < (i + 1) * GROUP_PAGES; j++)
			frame_set_owner(sp, (uint64_t)g * GROUP_PAGES + j,
					owner + j * PAGE_SIZE);
		group->kind = GROUP_PROBATION;
		probation_append(f, g + i);
	}
	uhmm_unlock(&f->lock);
	__atomic_fetch_sub(&f->nr_probation, CHUNK_PAGES - (to - from), __ATOMIC_RELAXED);
}

/* ---- dropping --------------------------------------------------------------------- */

void frame_unshare(struct uhmm_space *sp, uint64_t slot, unsigned nr)
{
	os_make_exclusive(frame_addr(sp, slot), nr * PAGE_SIZE);
}

void frame_drop(struct uhmm_space *sp, uint32_t g, uint64_t mask)
{
	/* Then the group need not be the caller's any more. */
	if (!mask)
		return;
	trash_pages(sp, frame_addr(sp, (uint64_t)g * GROUP_PAGES), mask,
		    is_executable(&sp->frames, g));
	clear_present(sp, g, mask);
}

void frames_take_back(struct uhmm_space *sp, uintptr_t owner)
{
	struct frames *f = &sp->frames;
	uint32_t g;
	unsigned i;

	for (g = 0; g < f->nr_groups; g++) {
		uint64_t drop = 0;

		if (f->group[g].kind != GROUP_LENT)
			continue;
		for (i = 0; i < GROUP_PAGES; i++)
			if (f->group[g].present >> i & 1 && f->group[g].owner[i] <= owner)
				drop |= UINT64_C(1) << i;
		frame_drop(sp, g, drop);
		if (f->group[g].kind == GROUP_LENT)
			frame_group_close(sp, g, false);
	}
}

void frame_folio_drop(struct uhmm_space *sp, uint32_t g)
{
	trash_folio(sp, frame_addr(sp, (uint64_t)g * GROUP_PAGES));
	folio_free(sp, g);
}

/* ---- life ------------------------------------------------------------------------- */

int frames_init(struct uhmm_space *sp, uint64_t limit_pages)
{
	struct frames *f = &sp->frames;
	uint32_t blocks = (uint32_t)((limit_pages + CHUNK_PAGES - 1) / CHUNK_PAGES), b;
	size_t size = (size_t)blocks * CHUNK_SIZE;
	int r = -ENOMEM;

	f->nr_groups = blocks * BLOCK_GROUPS;
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
	f->free_group[0] = f->free_group[1] = NIL;
	f->probation_head = f->probation_tail = NIL;
	for (b = 0; b < BLOCK_KINDS; b++)
		f->free_block[b] = NIL;
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
