/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames. Lists and kinds are under frames.lock; `present` is atomic, and whoever clears
 * its last bit frees the group if it is on the probation list. A group that is open or
 * taken is freed by who has it.
 */
#include "lib/frame.h"

#include <errno.h>

#include "lib/assert.h"

#define NIL GROUP_NIL

static struct frame_block *block_of(struct frames *f, uint32_t group)
{
	return &f->block[group / BLOCK_GROUPS];
}

/* ---- lists; under frames.lock ----------------------------------------------------- */

static void free_group_push(struct frames *f, uint32_t g)
{
	f->group[g].prev = NIL;
	f->group[g].next = f->free_group;
	if (f->free_group != NIL)
		f->group[f->free_group].prev = g;
	f->free_group = g;
}

static void free_group_unlink(struct frames *f, uint32_t g)
{
	struct frame_group *group = &f->group[g];

	if (group->prev != NIL)
		f->group[group->prev].next = group->next;
	else
		f->free_group = group->next;
	if (group->next != NIL)
		f->group[group->next].prev = group->prev;
}

/*
 * Huge pages go to blocks that never held single pages: those have no page table yet, and
 * the kernel moves the huge page by moving one entry. Single pages use worn blocks first.
 */
static void free_block_push(struct frames *f, uint32_t b)
{
	uint32_t *head = &f->free_block[f->block[b].worn];

	f->block[b].next = *head;
	*head = b;
}

static uint32_t free_block_pop(struct frames *f, bool worn)
{
	uint32_t *head = &f->free_block[worn], b;

	if (*head == NIL)
		head = &f->free_block[!worn];
	b = *head;
	if (b != NIL)
		*head = f->block[b].next;
	return b;
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

static uint32_t group_alloc(struct frames *f)
{
	uint32_t g = f->free_group, b, i;

	if (g == NIL) {
		b = free_block_pop(f, true);
		if (b == NIL)
			return NIL;
		f->block[b].worn = true;
		for (i = BLOCK_GROUPS; i-- > 0;)
			free_group_push(f, b * BLOCK_GROUPS + i);
		f->block[b].nr_free = BLOCK_GROUPS;
		g = f->free_group;
	}
	free_group_unlink(f, g);
	block_of(f, g)->nr_free--;
	return g;
}

/* ---- groups ----------------------------------------------------------------------- */

uint32_t frame_group_open(struct uhmm_space *sp)
{
	struct frames *f = &sp->frames;
	uint32_t g;

	uhmm_lock(&f->lock);
	g = group_alloc(f);
	if (g != NIL) {
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
	}
	uhmm_unlock(&f->lock);
}

void frame_release(struct uhmm_space *sp, uint64_t slot)
{
	clear_present(sp, (uint32_t)(slot / GROUP_PAGES),
		      UINT64_C(1) << slot % GROUP_PAGES);
}

/* ---- folios ----------------------------------------------------------------------- */

uint32_t frame_folio_open(struct uhmm_space *sp)
{
	struct frames *f = &sp->frames;
	uint32_t b;

	uhmm_lock(&f->lock);
	b = free_block_pop(f, false);
	uhmm_unlock(&f->lock);
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
	f->block[g / BLOCK_GROUPS].worn = true;
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

void frame_empty_trash(struct uhmm_space *sp)
{
	struct frames *f = &sp->frames;

	uhmm_lock(&f->trash_lock);
	if (f->trash_used)
		os_discard(f->trash, (size_t)f->trash_used * GROUP_SIZE);
	f->trash_used = 0;
	uhmm_unlock(&f->trash_lock);
}

/* Pages [from, from + nr) of a group go to the same places of a trash group. */
static void trash_run(struct uhmm_space *sp, uint32_t g, unsigned from, unsigned nr,
		      uintptr_t trash)
{
	uint64_t slot = (uint64_t)g * GROUP_PAGES + from;
	unsigned done = 0;

	while (done < nr) {
		int64_t r = os_uffd_move(sp->frames.trash_uffd,
					 trash + (from + done) * PAGE_SIZE,
					 frame_addr(sp, slot + done),
					 (nr - done) * PAGE_SIZE, OS_MOVE_NOWAKE);

		if (r > 0)
			done += (unsigned)(r / (int64_t)PAGE_SIZE);
		else if (r == -EBUSY)
			frame_unshare(sp, slot + done, 1);
		else if (r == -ENOENT)
			done++; /* marked free, and taken before os_keep() */
		else
			/* transient: the page was locked */
			assert_result(r == -EAGAIN, r);
	}
}

void frame_drop(struct uhmm_space *sp, uint32_t g, uint64_t mask)
{
	struct frames *f = &sp->frames;
	uint64_t left = mask;
	uintptr_t trash;

	if (!mask)
		return;
	uhmm_lock(&f->trash_lock);
	if (f->trash_used == BLOCK_GROUPS) {
		os_discard(f->trash, CHUNK_SIZE);
		f->trash_used = 0;
	}
	trash = (uintptr_t)f->trash + (size_t)f->trash_used++ * GROUP_SIZE;
	while (left) {
		unsigned from = (unsigned)__builtin_ctzll(left);
		uint64_t rest = ~(left >> from);
		unsigned nr = rest ? (unsigned)__builtin_ctzll(rest) : GROUP_PAGES;

		if (from + nr > GROUP_PAGES)
			nr = GROUP_PAGES - from;
		trash_run(sp, g, from, nr, trash);
		left &= nr == GROUP_PAGES ? 0 : ~(((UINT64_C(1) << nr) - 1) << from);
	}
	uhmm_unlock(&f->trash_lock);
	clear_present(sp, g, mask);
}

void frame_folio_drop(struct uhmm_space *sp, uint32_t g)
{
	struct frames *f = &sp->frames;
	uintptr_t trash = (uintptr_t)f->trash + CHUNK_SIZE;
	uint64_t slot = (uint64_t)g * GROUP_PAGES;
	size_t done = 0;

	uhmm_lock(&f->trash_lock);
	while (done < CHUNK_SIZE) {
		int64_t r = os_uffd_move(f->trash_uffd, trash + done,
					 frame_addr(sp, slot) + done, CHUNK_SIZE - done,
					 OS_MOVE_NOWAKE);

		if (r > 0)
			done += (size_t)r;
		else if (r == -ENOENT)
			done += PAGE_SIZE;
		else if (r == -EBUSY)
			frame_unshare(sp, slot + done / PAGE_SIZE, 1);
		else
			assert_result(r == -EAGAIN, r);
	}
	os_discard((void *)trash, CHUNK_SIZE);
	uhmm_unlock(&f->trash_lock);
	folio_free(sp, g);
}

/* ---- life ------------------------------------------------------------------------- */

static int open_trash(struct uhmm_space *sp)
{
	struct frames *f = &sp->frames;
	int r;

	f->trash_uffd = os_uffd_open(sp->user_only ? OS_UFFD_USER_ONLY : 0);
	if (f->trash_uffd < 0)
		return f->trash_uffd;
	r = os_uffd_register(f->trash_uffd, (uintptr_t)f->trash, 2 * CHUNK_SIZE);
	if (r)
		os_uffd_close(f->trash_uffd);
	return r;
}

int frames_init(struct uhmm_space *sp, uint64_t limit_pages)
{
	struct frames *f = &sp->frames;
	uint32_t blocks = (uint32_t)((limit_pages + CHUNK_PAGES - 1) / CHUNK_PAGES), b;
	size_t size = (size_t)blocks * CHUNK_SIZE;
	int r = -ENOMEM;

	f->nr_groups = blocks * BLOCK_GROUPS;
	f->base = os_reserve(size);
	f->trash = os_reserve(2 * CHUNK_SIZE);
	f->group = uhmm_host_map(f->nr_groups * sizeof(*f->group));
	f->block = uhmm_host_map(blocks * sizeof(*f->block));
	if (!f->base || !f->trash || !f->group || !f->block)
		goto fail;
	r = os_commit(f->base, size);
	if (!r)
		r = os_commit(f->trash, 2 * CHUNK_SIZE);
	if (!r)
		r = os_uffd_register(sp->uffd, (uintptr_t)f->base, size);
	if (!r)
		r = open_trash(sp);
	if (r)
		goto fail;
	f->free_group = f->probation_head = f->probation_tail = NIL;
	f->free_block[0] = f->free_block[1] = NIL;
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
	sp->frames.trash_used = 0;
	os_discard(sp->frames.trash, 2 * CHUNK_SIZE);
	return open_trash(sp);
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
		os_release(f->trash, 2 * CHUNK_SIZE);
	if (f->base)
		os_release(f->base, (size_t)f->nr_groups * CHUNK_SIZE / BLOCK_GROUPS);
	*f = (struct frames){ .trash_uffd = -1 };
}
