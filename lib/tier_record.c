/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of pages on tiers, and the list of each tier, from its oldest page to its
 * newest: see tier.h. Which list a record is in, its word says, not these functions.
 */
#include "lib/tier_internal.h"

#define CHUNKS_SIZE (((RECORDS_MAX >> RECORDS_SHIFT) + 1) * sizeof(struct record *))
#define CHUNK_SIZE (RECORDS_CHUNK * sizeof(struct record))

bool records_open(struct tiers *t)
{
	t->chunk = uhmm_host_map(CHUNKS_SIZE);
	return t->chunk;
}

void records_close(struct tiers *t)
{
	uint64_t i;

	if (!t->chunk)
		return;
	for (i = 0; i << RECORDS_SHIFT < t->used; i++)
		uhmm_host_unmap(t->chunk[i], CHUNK_SIZE);
	uhmm_host_unmap(t->chunk, CHUNKS_SIZE);
}

uint64_t records_bytes(struct tiers *t)
{
	uint64_t used = __atomic_load_n(&t->used, __ATOMIC_RELAXED);
	uint64_t chunks = (used >> RECORDS_SHIFT) * sizeof(*t->chunk);

	return (used * sizeof(struct record) + chunks) / UHMM_PAGE_SIZE * UHMM_PAGE_SIZE +
	       2 * UHMM_PAGE_SIZE;
}

/* Who has a record's number has it from somebody who took it: its chunk is there. */
struct record *record_at(const struct tiers *t, uint64_t nr)
{
	return &t->chunk[nr >> RECORDS_SHIFT][nr & (RECORDS_CHUNK - 1)];
}

/* One that nobody has used. */
static bool records_grow(struct tiers *t, uint32_t *nr)
{
	uint64_t i = t->used;
	struct record **chunk = &t->chunk[i >> RECORDS_SHIFT];

	if (i == RECORDS_MAX)
		return false;
	if (!*chunk)
		*chunk = uhmm_host_map(CHUNK_SIZE);
	if (!*chunk)
		return false;
	*nr = (uint32_t)i;
	__atomic_store_n(&t->used, i + 1, __ATOMIC_RELAXED);
	return true;
}

uint32_t records_take(struct tiers *t, uint32_t *record, uint32_t nr)
{
	uint32_t i;

	uhmm_lock(&t->lock);
	for (i = 0; i < nr; i++)
		if (t->free) {
			record[i] = t->free - 1;
			t->free = record_at(t, record[i])->newer;
		} else if (!records_grow(t, &record[i])) {
			break;
		}
	uhmm_unlock(&t->lock);
	return i;
}

void record_give(struct tiers *t, uint32_t nr)
{
	record_at(t, nr)->newer = t->free;
	t->free = nr + 1;
}

/* ---- lists ----------------------------------------------------------------------- */

/* What points to the record from its older side, and from its newer side. */
static uint32_t *from_older(struct tiers *t, uint32_t tier, const struct record *r)
{
	return r->older ? &record_at(t, r->older - 1)->newer : &t->tier[tier].oldest;
}

static uint32_t *from_newer(struct tiers *t, uint32_t tier, const struct record *r)
{
	return r->newer ? &record_at(t, r->newer - 1)->older : &t->tier[tier].newest;
}

static void list_add(struct tiers *t, uint32_t tier, uint32_t nr)
{
	struct record *r = record_at(t, nr);

	*from_older(t, tier, r) = nr + 1;
	*from_newer(t, tier, r) = nr + 1;
}

void list_add_newest(struct tiers *t, uint32_t tier, uint32_t nr)
{
	record_at(t, nr)->older = t->tier[tier].newest;
	record_at(t, nr)->newer = 0;
	list_add(t, tier, nr);
}

void list_add_oldest(struct tiers *t, uint32_t tier, uint32_t nr)
{
	record_at(t, nr)->older = 0;
	record_at(t, nr)->newer = t->tier[tier].oldest;
	list_add(t, tier, nr);
}

void list_remove(struct tiers *t, uint32_t tier, uint32_t nr)
{
	const struct record *r = record_at(t, nr);

	*from_older(t, tier, r) = r->newer;
	*from_newer(t, tier, r) = r->older;
}
