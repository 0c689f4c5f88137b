/* SPDX-License-Identifier: Apache-2.0 */
/* See pagemap_share.h. */
#include "lib/pagemap_share.h"

#include <errno.h>

#include "lib/host.h"

#define NO_PROCESS UINT32_MAX

enum member_state {
	MEMBER_NONE = 0,
	MEMBER_CLAIMED, /* by its parent; or its thread has not begun, or ends */
	MEMBER_ALIVE,   /* its thread has its life */
};

static size_t words(const struct uhmm_pagemap *map)
{
	return (map->nr_pages + 63) / 64;
}

static size_t bytes(const struct uhmm_pagemap *map)
{
	return sizeof(struct map_share) + map->nr_pages * sizeof(uint32_t) +
	       SHARE_PROCESSES * words(map) * sizeof(uint64_t) + 64;
}

static uint32_t *refs(const struct uhmm_pagemap *map, uint64_t page)
{
	return (uint32_t *)(map->share + 1) + page;
}

/* Bitmap of the pages that a process has. */
static uint64_t *held(const struct uhmm_pagemap *map, uint32_t member)
{
	uintptr_t end = (uintptr_t)refs(map, map->nr_pages);

	return (uint64_t *)((end + 7) & ~(uintptr_t)7) + member * words(map);
}

static bool claim_member(struct uhmm_pagemap *map, uint32_t *member)
{
	uint32_t i, none;

	for (i = 0; i < SHARE_PROCESSES; i++) {
		none = MEMBER_NONE;
		if (__atomic_compare_exchange_n(&map->share->member[i].state, &none,
						MEMBER_CLAIMED, false, __ATOMIC_ACQ_REL,
						__ATOMIC_RELAXED)) {
			*member = i;
			return true;
		}
	}
	return false;
}

int map_share_make(struct uhmm_pagemap *map)
{
	uint32_t i;

	map->share = os_map_shared(bytes(map));
	map->child = map->member = NO_PROCESS;
	if (!map->share)
		return -ENOMEM;
	for (i = 0; i < SHARE_PROCESSES; i++)
		os_life_init(&map->share->member[i].life);
	return claim_member(map, &map->member) ? 0 : -ENOMEM;
}

/* ---- pages ------------------------------------------------------------------------ */

static bool unref(struct uhmm_pagemap *map, uint64_t page)
{
	return __atomic_sub_fetch(refs(map, page), 1, __ATOMIC_ACQ_REL) == 0;
}

/* A process has a page no more, if it had it. True: nobody has. */
static bool give_up(struct uhmm_pagemap *map, uint32_t member, uint64_t page)
{
	uint64_t bit = UINT64_C(1) << page % 64;
	uint64_t *word = held(map, member) + page / 64;

	return __atomic_fetch_and(word, ~bit, __ATOMIC_ACQ_REL) & bit && unref(map, page);
}

/* All that a process had; what nobody has then is freed here. */
static void give_up_all(struct uhmm_pagemap *map, uint32_t member)
{
	uint64_t *word = held(map, member), left, page;
	size_t i;

	for (i = 0; i < words(map); i++)
		for (left = __atomic_load_n(&word[i], __ATOMIC_ACQUIRE); left;
		     left &= left - 1) {
			page = i * 64 + (unsigned)__builtin_ctzll(left);
			if (give_up(map, member, page) && map->ops.page_free)
				map->ops.page_free(map->ctx, page);
		}
}

/*
 * Gives back what processes had that have ended: who has the life of one that is alive
 * has found it over. If he ends half-way the next one goes on.
 */
static void bury(struct uhmm_pagemap *map)
{
	uint32_t i;

	for (i = 0; i < SHARE_PROCESSES; i++) {
		struct map_member *m = &map->share->member[i];

		if (__atomic_load_n(&m->state, __ATOMIC_ACQUIRE) != MEMBER_ALIVE ||
		    !os_life_try(&m->life))
			continue;
		if (__atomic_load_n(&m->state, __ATOMIC_ACQUIRE) == MEMBER_ALIVE) {
			give_up_all(map, i);
			__atomic_store_n(&m->state, MEMBER_NONE, __ATOMIC_RELEASE);
		}
		os_life_end(&m->life);
	}
}

static bool try_get(struct uhmm_pagemap *map, uint64_t page)
{
	uint32_t none = 0;

	if (!__atomic_compare_exchange_n(refs(map, page), &none, 1, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return false;
	__atomic_fetch_or(held(map, map->member) + page / 64, UINT64_C(1) << page % 64,
			  __ATOMIC_ACQ_REL);
	return true;
}

bool map_share_get(struct uhmm_pagemap *map, uint64_t page)
{
	if (try_get(map, page))
		return true;
	bury(map);
	return try_get(map, page);
}

bool map_share_put(struct uhmm_pagemap *map, uint64_t page)
{
	return give_up(map, map->member, page);
}

bool map_share_is_shared(const struct uhmm_pagemap *map, uint64_t page)
{
	return map->share && __atomic_load_n(refs(map, page), __ATOMIC_ACQUIRE) > 1;
}

/* ---- life ------------------------------------------------------------------------- */

static uint32_t *state_of(struct uhmm_pagemap *map)
{
	return &map->share->member[map->member].state;
}

void map_share_live(struct uhmm_pagemap *map)
{
	os_life_begin(&map->share->member[map->member].life);
	__atomic_store_n(state_of(map), MEMBER_ALIVE, __ATOMIC_RELEASE);
}

void map_share_rest(struct uhmm_pagemap *map)
{
	__atomic_store_n(state_of(map), MEMBER_CLAIMED, __ATOMIC_RELEASE);
	os_life_end(&map->share->member[map->member].life);
}

void map_share_free(struct uhmm_pagemap *map)
{
	if (!map->share)
		return;
	if (map->member != NO_PROCESS) {
		give_up_all(map, map->member);
		__atomic_store_n(state_of(map), MEMBER_NONE, __ATOMIC_RELEASE);
	}
	/* Perhaps nobody is left who would notice. */
	bury(map);
	os_unmap_shared(map->share, bytes(map));
	map->share = NULL;
}

/* ---- fork ------------------------------------------------------------------------- */

static void claim_child(struct uhmm_pagemap *map)
{
	const uint64_t *mine = held(map, map->member);
	uint64_t *its, left;
	size_t i;

	map->child = NO_PROCESS;
	if (!claim_member(map, &map->child)) {
		bury(map);
		if (!claim_member(map, &map->child))
			return;
	}
	its = held(map, map->child);
	for (i = 0; i < words(map); i++) {
		left = __atomic_load_n(&mine[i], __ATOMIC_ACQUIRE);
		if (left) /* the others are not written: they take no memory */
			__atomic_store_n(&its[i], left, __ATOMIC_RELEASE);
		for (; left; left &= left - 1)
			__atomic_fetch_add(refs(map,
						i * 64 + (unsigned)__builtin_ctzll(left)),
					   1, __ATOMIC_ACQ_REL);
	}
}

static void disclaim_child(struct uhmm_pagemap *map)
{
	if (map->child == NO_PROCESS)
		return;
	give_up_all(map, map->child);
	__atomic_store_n(&map->share->member[map->child].state, MEMBER_NONE,
			 __ATOMIC_RELEASE);
	map->child = NO_PROCESS;
}

static void for_all(struct uhmm_space *sp, void (*fn)(struct uhmm_pagemap *map))
{
	struct uhmm_pagemap *map;
	unsigned i;

	for (i = 1; i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		if (map && map->share)
			fn(map);
	}
}

void map_shares_claim(struct uhmm_space *sp)
{
	for_all(sp, claim_child);
}

void map_shares_disclaim(struct uhmm_space *sp)
{
	for_all(sp, disclaim_child);
}

bool map_shares_any(struct uhmm_space *sp)
{
	const struct uhmm_pagemap *map;
	unsigned i;

	for (i = 1; i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		if (map && map->share)
			return true;
	}
	return false;
}

int map_shares_after_fork(struct uhmm_space *sp)
{
	struct uhmm_pagemap *map;
	unsigned i;
	int r = 0;

	for (i = 1; i < SPACE_DEVICES; i++) {
		map = pagemap_at(sp, i);
		if (!map || !map->share)
			continue;
		if (map->child == NO_PROCESS)
			r = -EMFILE;
		map->member = map->child;
		map->child = NO_PROCESS;
	}
	return r;
}

static void forget(struct uhmm_pagemap *map)
{
	map->member = NO_PROCESS;
}

void map_shares_forget(struct uhmm_space *sp)
{
	for_all(sp, forget);
}
