/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots of the packed store: taking and dropping them, and giving their memory back.
 *
 * Slots come in groups of one page. A group with a free slot is on the list of the
 * shard it belongs to, and a thread takes from the shard of the CPU it runs on, so that
 * threads seldom meet. A dropped slot goes back to its own group, whoever drops it: a
 * thread that only stores and one that only frees still share the same slots. A shard
 * that has run out takes a group from another that can spare one before it asks for a
 * new one. Near its limit a store has other uses for a page than slots that are used by
 * half: then a thread takes a slot of any shard first, whatever is left.
 *
 * A group without used slots gives its page back, unless it is its shard's last one.
 *
 * Failure: -ENOMEM or -ENOSPC when no slot is left and there is no memory for a group;
 * dropping cannot fail.
 */
#include <errno.h>

#include "lib/assert.h"
#include "lib/os/os.h"
#include "lib/store_internal.h"

#define CHUNK_SLOTS (CHUNK_GROUPS * GROUP_SLOTS)

/* A store is near its limit when less than so small a part of that is left. */
#define NEAR_LIMIT 8u

static struct store_group *group_at(struct uhmm_store *store, uint32_t g)
{
	struct store_chunk *chunk = &store->chunk[g / CHUNK_GROUPS];

	return &__atomic_load_n(&chunk->groups, __ATOMIC_ACQUIRE)[g % CHUNK_GROUPS];
}

static uint64_t *group_slots(struct uhmm_store *store, uint32_t g)
{
	return store->chunk[g / CHUNK_GROUPS].slots +
	       g % CHUNK_GROUPS * (size_t)GROUP_SLOTS;
}

uint64_t *slot_find(struct uhmm_store *store, uint64_t index)
{
	uint64_t c = index / CHUNK_SLOTS;

	if (c >= STORE_CHUNKS ||
	    !__atomic_load_n(&store->chunk[c].groups, __ATOMIC_ACQUIRE))
		return NULL;
	return &store->chunk[c].slots[index % CHUNK_SLOTS];
}

uint64_t *slot_at(struct uhmm_store *store, uint64_t index)
{
	uint64_t *slot = slot_find(store, index);

	assert_always(slot);
	return slot;
}

/* ---- lists of groups, under the shard's lock ----------------------------------- */

static void group_link(struct uhmm_store *store, struct store_shard *shard, uint32_t g)
{
	struct store_group *group = group_at(store, g);

	group->prev = GROUP_NONE;
	group->next = shard->partial;
	if (shard->partial != GROUP_NONE)
		group_at(store, shard->partial)->prev = g;
	shard->partial = g;
	__atomic_store_n(&shard->nr_partial, shard->nr_partial + 1, __ATOMIC_RELAXED);
}

static void group_unlink(struct uhmm_store *store, struct store_shard *shard, uint32_t g)
{
	struct store_group *group = group_at(store, g);

	if (group->prev != GROUP_NONE)
		group_at(store, group->prev)->next = group->next;
	else
		shard->partial = group->next;
	if (group->next != GROUP_NONE)
		group_at(store, group->next)->prev = group->prev;
	__atomic_store_n(&shard->nr_partial, shard->nr_partial - 1, __ATOMIC_RELAXED);
}

/* The shard a group belongs to, locked. */
static struct store_shard *group_lock(struct uhmm_store *store, struct store_group *group)
{
	for (;;) {
		uint16_t s = __atomic_load_n(&group->shard, __ATOMIC_RELAXED);

		uhmm_lock(&store->shard[s].lock);
		if (__atomic_load_n(&group->shard, __ATOMIC_RELAXED) == s)
			return &store->shard[s];
		uhmm_unlock(&store->shard[s].lock);
	}
}

/* ---- new groups ---------------------------------------------------------------- */

/* Pages of slots, and those that find them: the list of chunks, a page for each. */
uint64_t slots_pages(const struct uhmm_store *store)
{
	uint64_t chunks = (store->nr_groups + CHUNK_GROUPS - 1) / CHUNK_GROUPS;

	return store->slot_pages + chunks +
	       store_pages(chunks * sizeof(struct store_chunk));
}

/* Under groups_lock: makes the next chunk, which group number nr_groups will be in. */
static int chunk_make(struct uhmm_store *store)
{
	uint32_t c = store->nr_groups / CHUNK_GROUPS;
	/* Its groups, and a page of the list now and then. */
	uint64_t pages = 1 + (c * sizeof(struct store_chunk) % STORE_PAGE == 0);
	struct store_chunk *chunk = &store->chunk[c];
	struct store_group *groups;

	if (c == STORE_CHUNKS || !store_charge(store, pages))
		return -ENOSPC;
	groups = uhmm_host_map(CHUNK_GROUPS * sizeof(*groups));
	chunk->slots = groups ? uhmm_host_map(CHUNK_SLOTS * sizeof(uint64_t)) : NULL;
	if (!chunk->slots) {
		if (groups)
			uhmm_host_unmap(groups, CHUNK_GROUPS * sizeof(*groups));
		store_uncharge(store, pages);
		return -ENOMEM;
	}
	__atomic_store_n(&chunk->groups, groups, __ATOMIC_RELEASE);
	return 0;
}

/* A group without used slots, its page charged. */
static int group_make(struct uhmm_store *store, uint32_t *out)
{
	int r = 0;

	if (!store_charge(store, 1))
		return -ENOSPC;
	uhmm_lock(&store->groups_lock);
	if (store->empty_group != GROUP_NONE) {
		*out = store->empty_group;
		store->empty_group = group_at(store, *out)->next;
	} else {
		if (store->nr_groups % CHUNK_GROUPS == 0)
			r = chunk_make(store);
		*out = store->nr_groups;
		if (!r)
			__atomic_store_n(&store->nr_groups, *out + 1, __ATOMIC_RELAXED);
	}
	if (!r)
		store->slot_pages++;
	uhmm_unlock(&store->groups_lock);
	if (r)
		store_uncharge(store, 1);
	return r;
}

static void group_release(struct uhmm_store *store, uint32_t g)
{
	struct store_group *group = group_at(store, g);

	uhmm_host_discard(group_slots(store, g), STORE_PAGE);
	group->first_free = 0;
	group->nr_touched = 0;
	uhmm_lock(&store->groups_lock);
	group->next = store->empty_group;
	store->empty_group = g;
	store->slot_pages--;
	uhmm_unlock(&store->groups_lock);
	store_uncharge(store, 1);
}

/*
 * With s locked and out of groups: takes one from a shard that has two or more. Others
 * are only tried, so that two that take from each other do not wait for each other.
 */
static bool group_steal(struct uhmm_store *store, uint32_t s)
{
	uint32_t i;

	for (i = 1; i < store->nr_shards; i++) {
		struct store_shard *other =
			&store->shard[(s + i) & (store->nr_shards - 1)];
		struct store_group *group;
		uint32_t g;

		if (__atomic_load_n(&other->nr_partial, __ATOMIC_RELAXED) < 2 ||
		    !uhmm_trylock(&other->lock))
			continue;
		if (other->nr_partial < 2) {
			uhmm_unlock(&other->lock);
			continue;
		}
		g = other->partial;
		group = group_at(store, g);
		group_unlink(store, other, g);
		other->nr_used -= group->nr_used;
		store->shard[s].nr_used += group->nr_used;
		__atomic_store_n(&group->shard, (uint16_t)s, __ATOMIC_RELAXED);
		uhmm_unlock(&other->lock);
		group_link(store, &store->shard[s], g);
		return true;
	}
	return false;
}

/* ---- slots --------------------------------------------------------------------- */

/* From a locked shard that has a group with a free slot. */
static uint64_t slot_first(struct uhmm_store *store, struct store_shard *shard)
{
	uint32_t g = shard->partial, i;
	struct store_group *group = group_at(store, g);
	uint64_t *slots = group_slots(store, g);

	if (group->first_free) {
		i = group->first_free - 1u;
		group->first_free = (uint16_t)slots[i];
	} else {
		i = group->nr_touched++;
	}
	slots[i] = 0;
	shard->nr_used++;
	if (++group->nr_used == GROUP_SLOTS)
		group_unlink(store, shard, g);
	return (uint64_t)g * GROUP_SLOTS + i;
}

/* Without a lock: a slot of the last group of any shard but s. */
static bool slot_borrow(struct uhmm_store *store, uint32_t s, uint64_t *index)
{
	uint32_t i;

	for (i = 1; i < store->nr_shards; i++) {
		struct store_shard *other =
			&store->shard[(s + i) & (store->nr_shards - 1)];
		bool found;

		if (!__atomic_load_n(&other->nr_partial, __ATOMIC_RELAXED))
			continue;
		uhmm_lock(&other->lock);
		found = other->partial != GROUP_NONE;
		if (found)
			*index = slot_first(store, other);
		uhmm_unlock(&other->lock);
		if (found)
			return true;
	}
	return false;
}

static bool near_limit(const struct uhmm_store *store)
{
	return store->limit_pages &&
	       __atomic_load_n(&store->charged_pages, __ATOMIC_RELAXED) >
		       store->limit_pages - store->limit_pages / NEAR_LIMIT;
}

/* With s locked: gives it a new group. */
static int group_add(struct uhmm_store *store, uint32_t s)
{
	uint32_t g;
	int r = group_make(store, &g);

	if (r)
		return r;
	__atomic_store_n(&group_at(store, g)->shard, (uint16_t)s, __ATOMIC_RELAXED);
	group_link(store, &store->shard[s], g);
	return 0;
}

int slot_take(struct uhmm_store *store, uint64_t *index)
{
	uint32_t s = uhmm_host_cpu() & (store->nr_shards - 1);
	struct store_shard *shard = &store->shard[s];
	int r = 0;

	uhmm_lock(&shard->lock);
	if (shard->partial == GROUP_NONE && !group_steal(store, s)) {
		if (near_limit(store)) {
			uhmm_unlock(&shard->lock);
			if (slot_borrow(store, s, index))
				return 0;
			uhmm_lock(&shard->lock);
		}
		/* Meanwhile somebody may have dropped one here. */
		if (shard->partial == GROUP_NONE)
			r = group_add(store, s);
	}
	if (!r)
		*index = slot_first(store, shard);
	uhmm_unlock(&shard->lock);
	return r;
}

void slot_drop(struct uhmm_store *store, uint64_t index)
{
	uint32_t g = (uint32_t)(index / GROUP_SLOTS), i = (uint32_t)(index % GROUP_SLOTS);
	struct store_group *group = group_at(store, g);
	struct store_shard *shard = group_lock(store, group);
	bool release = false;

	assert_always(group->nr_used > 0);
	/* Atomic: a handle that is used after it was freed must not tear this word. */
	__atomic_store_n(&group_slots(store, g)[i], group->first_free, __ATOMIC_RELAXED);
	group->first_free = (uint16_t)(i + 1);
	shard->nr_used--;
	if (group->nr_used-- == GROUP_SLOTS)
		group_link(store, shard, g);
	if (group->nr_used == 0 && shard->nr_partial > 1) {
		group_unlink(store, shard, g);
		release = true;
	}
	uhmm_unlock(&shard->lock);
	if (release)
		group_release(store, g);
}

int slots_init(struct uhmm_store *store)
{
	uint32_t s, cpus = (uint32_t)os_nr_cpus();

	store->nr_shards = 1;
	while (store->nr_shards < cpus && store->nr_shards < STORE_SHARDS)
		store->nr_shards *= 2;
	for (s = 0; s < store->nr_shards; s++)
		store->shard[s].partial = GROUP_NONE;
	store->empty_group = GROUP_NONE;
	store->chunk = uhmm_host_map(STORE_CHUNKS * sizeof(*store->chunk));
	return store->chunk ? 0 : -ENOMEM;
}

void slots_fini(struct uhmm_store *store)
{
	uint32_t c;

	for (c = 0; c < STORE_CHUNKS && store->chunk[c].groups; c++) {
		uhmm_host_unmap(store->chunk[c].slots, CHUNK_SLOTS * sizeof(uint64_t));
		uhmm_host_unmap(store->chunk[c].groups,
				CHUNK_GROUPS * sizeof(struct store_group));
	}
	uhmm_host_unmap(store->chunk, STORE_CHUNKS * sizeof(*store->chunk));
}
