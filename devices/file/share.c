/* SPDX-License-Identifier: Apache-2.0 */
/* Who has which segment: see share.h. */
#include "devices/file/share.h"

#include "uhmm/device.h"

enum member_state {
	MEMBER_NONE = 0,
	MEMBER_CLAIMED, /* by its parent, or about to be buried */
	MEMBER_ALIVE,
};

struct member {
	uint32_t state;
	uint32_t process;
};

struct share_memory {
	uint32_t used;  /* segments that somebody has */
	uint32_t first; /* a hint: those below are not free */
	struct member member[SHARE_PROCESSES];
	uint32_t refs[]; /* of each segment; behind it the members' bits */
};

/* Of a segment that is being freed. */
#define FREEING (UINT32_C(1) << 31)

static size_t words(const struct share *share)
{
	return (share->nr + 63) / 64;
}

static size_t refs_size(const struct share *share)
{
	return (sizeof(struct share_memory) + share->nr * sizeof(uint32_t) + 63) / 64 *
	       64;
}

static size_t memory_size(const struct share *share)
{
	return refs_size(share) + SHARE_PROCESSES * words(share) * sizeof(uint64_t);
}

static uint64_t *bits_of(const struct share *share, uint32_t member)
{
	return (uint64_t *)((char *)share->memory + refs_size(share)) +
	       member * words(share);
}

static uint32_t get(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static bool change(uint32_t *word, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

static uint32_t claim_member(struct share *share)
{
	uint32_t i;

	for (i = 0; i < SHARE_PROCESSES; i++)
		if (change(&share->memory->member[i].state, MEMBER_NONE, MEMBER_CLAIMED))
			return i;
	return SHARE_NONE;
}

static void live(struct share *share)
{
	struct member *m = &share->memory->member[share->me];

	__atomic_store_n(&m->process, uhmm_host_process(), __ATOMIC_RELAXED);
	__atomic_store_n(&m->state, MEMBER_ALIVE, __ATOMIC_RELEASE);
}

bool share_open(struct share *share, uint32_t nr)
{
	share->nr = nr;
	share->me = share->child = SHARE_NONE;
	share->memory = uhmm_host_shared_map(memory_size(share));
	if (!share->memory)
		return false;
	share->me = claim_member(share);
	live(share);
	return true;
}

/* ---- segments -------------------------------------------------------------------- */

/* Who is the last to have it frees it, and others find it free after that. */
static void unref(struct share *share, uint32_t segment)
{
	struct share_memory *m = share->memory;
	uint32_t *refs = &m->refs[segment], n = get(refs), first;

	while (!change(refs, n, n == 1 ? FREEING : n - 1))
		n = get(refs);
	if (n != 1)
		return;
	share->freed(share->ctx, segment);
	__atomic_store_n(refs, 0, __ATOMIC_RELEASE);
	__atomic_fetch_sub(&m->used, 1, __ATOMIC_RELAXED);
	do
		first = get(&m->first);
	while (segment < first && !change(&m->first, first, segment));
}

static void give_up(struct share *share, uint32_t member, uint32_t segment)
{
	uint64_t bit = UINT64_C(1) << segment % 64;
	uint64_t *word = bits_of(share, member) + segment / 64;

	if (__atomic_fetch_and(word, ~bit, __ATOMIC_ACQ_REL) & bit)
		unref(share, segment);
}

static void give_up_all(struct share *share, uint32_t member)
{
	const uint64_t *word = bits_of(share, member);
	uint64_t left;
	size_t i;

	for (i = 0; i < words(share); i++)
		for (left = __atomic_load_n(&word[i], __ATOMIC_ACQUIRE); left;
		     left &= left - 1)
			give_up(share, member,
				(uint32_t)(i * 64 + (unsigned)__builtin_ctzll(left)));
}

void share_close(struct share *share)
{
	if (!share->memory)
		return;
	if (share->me != SHARE_NONE) {
		give_up_all(share, share->me);
		change(&share->memory->member[share->me].state, MEMBER_ALIVE,
		       MEMBER_NONE);
	}
	uhmm_host_shared_unmap(share->memory, memory_size(share));
	share->memory = NULL;
}

uint32_t share_used(const struct share *share)
{
	return __atomic_load_n(&share->memory->used, __ATOMIC_RELAXED);
}

/* The first one from there on that is free. */
static uint32_t take_from(struct share *share, uint32_t first)
{
	struct share_memory *m = share->memory;
	uint32_t i;

	for (i = first; i < share->nr; i++) {
		if (get(&m->refs[i]) || !change(&m->refs[i], 0, 1))
			continue;
		change(&m->first, first, i + 1);
		__atomic_fetch_or(bits_of(share, share->me) + i / 64,
				  UINT64_C(1) << i % 64, __ATOMIC_ACQ_REL);
		return i;
	}
	return SHARE_NONE;
}

uint32_t share_take(struct share *share, uint32_t spare)
{
	struct share_memory *m = share->memory;
	uint32_t first = get(&m->first), taken = SHARE_NONE;

	if (__atomic_add_fetch(&m->used, 1, __ATOMIC_RELAXED) + spare <= share->nr)
		taken = take_from(share, first);
	/* What was freed while somebody looked further on is below where he ended. */
	if (taken == SHARE_NONE && share_used(share) + spare <= share->nr && first)
		taken = take_from(share, 0);
	if (taken == SHARE_NONE)
		__atomic_fetch_sub(&m->used, 1, __ATOMIC_RELAXED);
	return taken;
}

void share_give(struct share *share, uint32_t segment)
{
	give_up(share, share->me, segment);
}

/* One of those who find it over; if that one ends half-way, what is left stays taken. */
void share_bury(struct share *share)
{
	uint32_t i;

	for (i = 0; i < SHARE_PROCESSES; i++) {
		struct member *m = &share->memory->member[i];

		if (i == share->me || get(&m->state) != MEMBER_ALIVE ||
		    !uhmm_host_process_is_over(get(&m->process)) ||
		    !change(&m->state, MEMBER_ALIVE, MEMBER_CLAIMED))
			continue;
		give_up_all(share, i);
		__atomic_store_n(&m->state, MEMBER_NONE, __ATOMIC_RELEASE);
	}
}

/* ---- fork ------------------------------------------------------------------------ */

void share_claim(struct share *share)
{
	const uint64_t *mine = bits_of(share, share->me);
	uint64_t *its, left;
	size_t i;

	share->child = claim_member(share);
	if (share->child == SHARE_NONE) {
		share_bury(share);
		share->child = claim_member(share);
	}
	if (share->child == SHARE_NONE)
		return;
	its = bits_of(share, share->child);
	for (i = 0; i < words(share); i++) {
		left = __atomic_load_n(&mine[i], __ATOMIC_ACQUIRE);
		if (left) /* the others are not written: they take no memory */
			__atomic_store_n(&its[i], left, __ATOMIC_RELEASE);
		for (; left; left &= left - 1)
			__atomic_fetch_add(
				&share->memory
					 ->refs[i * 64 + (unsigned)__builtin_ctzll(left)],
				1, __ATOMIC_ACQ_REL);
	}
}

void share_disclaim(struct share *share)
{
	if (share->child == SHARE_NONE)
		return;
	give_up_all(share, share->child);
	__atomic_store_n(&share->memory->member[share->child].state, MEMBER_NONE,
			 __ATOMIC_RELEASE);
	share->child = SHARE_NONE;
}

bool share_adopt(struct share *share)
{
	share->me = share->child;
	share->child = SHARE_NONE;
	if (share->me == SHARE_NONE)
		return false;
	live(share);
	return true;
}
