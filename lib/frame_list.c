/* SPDX-License-Identifier: Apache-2.0 */
/* Lists and blocks of frames. See frame_list.h. */
#include "lib/frame_list.h"

#include "lib/frame_trash.h"

struct frame_block *block_of(struct frames *f, uint32_t group)
{
	return &f->block[group / BLOCK_GROUPS];
}

bool group_is_executable(struct frames *f, uint32_t group)
{
	return block_of(f, group)->kind == BLOCK_EXECUTABLE;
}

/* ---- lists; under frames.lock ----------------------------------------------------- */

void free_group_push(struct frames *f, uint32_t g)
{
	uint32_t *head = &f->free_group[group_is_executable(f, g)];

	f->group[g].prev = GROUP_NIL;
	f->group[g].next = *head;
	if (*head != GROUP_NIL)
		f->group[*head].prev = g;
	*head = g;
}

void free_group_unlink(struct frames *f, uint32_t g)
{
	struct frame_group *group = &f->group[g];

	if (group->prev != GROUP_NIL)
		f->group[group->prev].next = group->next;
	else
		f->free_group[group_is_executable(f, g)] = group->next;
	if (group->next != GROUP_NIL)
		f->group[group->next].prev = group->prev;
}

void free_block_push(struct frames *f, uint32_t b)
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
		if (b != GROUP_NIL) {
			f->free_block[order[i]] = f->block[b].next;
			return b;
		}
	}
	return GROUP_NIL;
}

void probation_append(struct frames *f, uint32_t g)
{
	f->group[g].prev = f->probation_tail;
	f->group[g].next = GROUP_NIL;
	if (f->probation_tail != GROUP_NIL)
		f->group[f->probation_tail].next = g;
	else
		f->probation_head = g;
	f->probation_tail = g;
}

void probation_prepend(struct frames *f, uint32_t g)
{
	f->group[g].prev = GROUP_NIL;
	f->group[g].next = f->probation_head;
	if (f->probation_head != GROUP_NIL)
		f->group[f->probation_head].prev = g;
	else
		f->probation_tail = g;
	f->probation_head = g;
}

void probation_unlink(struct frames *f, uint32_t g)
{
	struct frame_group *group = &f->group[g];

	if (group->prev != GROUP_NIL)
		f->group[group->prev].next = group->next;
	else
		f->probation_head = group->next;
	if (group->next != GROUP_NIL)
		f->group[group->next].prev = group->prev;
	else
		f->probation_tail = group->prev;
}

/* On the list unless its storer took it: then it is the head of nothing. */
bool group_on_list(struct frames *f, uint32_t g)
{
	return f->probation_head == g || f->group[g].prev != GROUP_NIL;
}

static void left_push(struct frames *f, uint32_t g)
{
	f->group[g].kind = GROUP_LEFT;
	f->group[g].prev = GROUP_NIL;
	f->group[g].next = f->left_group;
	__atomic_store_n(&f->left_group, g, __ATOMIC_RELAXED);
}

void group_free(struct frames *f, uint32_t g)
{
	struct frame_block *block = block_of(f, g);
	uint32_t first = g - g % BLOCK_GROUPS, i;

	if (f->group[g].stale) {
		spare_push(f, g, GROUP_SPARE);
		return;
	}
	if (__atomic_load_n(&f->group[g].left, __ATOMIC_ACQUIRE)) {
		left_push(f, g);
		return;
	}
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
uint32_t block_take(struct uhmm_space *sp, const enum block_kind *order)
{
	struct frames *f = &sp->frames;
	bool executable = order[0] == BLOCK_EXECUTABLE;
	uint32_t b;

	uhmm_lock(&f->lock);
	b = free_block_pop(f, order);
	uhmm_unlock(&f->lock);
	if (b == GROUP_NIL || (f->block[b].kind == BLOCK_EXECUTABLE) == executable)
		return b;
	if (block_convert(f, b, executable) == 0)
		return b;
	uhmm_lock(&f->lock);
	free_block_push(f, b);
	uhmm_unlock(&f->lock);
	return GROUP_NIL;
}
