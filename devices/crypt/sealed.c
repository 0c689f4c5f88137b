/* SPDX-License-Identifier: Apache-2.0 */
/* The table of what was encrypted: see sealed.h. */
#include "devices/crypt/sealed.h"

#define CHUNK_PLACES (UINT64_C(1) << SEALED_CHUNK_SHIFT)
#define CHUNK_SIZE (CHUNK_PLACES * sizeof(struct sealed))

bool sealed_open(struct sealed_table *table)
{
	table->chunk = uhmm_host_map(SEALED_CHUNKS * sizeof(*table->chunk));
	return table->chunk;
}

void sealed_close(struct sealed_table *table)
{
	uint64_t i;

	if (!table->chunk)
		return;
	for (i = 0; i < SEALED_CHUNKS && table->chunk[i]; i++)
		uhmm_host_unmap(table->chunk[i], CHUNK_SIZE);
	uhmm_host_unmap(table->chunk, SEALED_CHUNKS * sizeof(*table->chunk));
}

static struct sealed *chunk_of(const struct sealed_table *table, uint64_t nr)
{
	return __atomic_load_n(&table->chunk[nr >> SEALED_CHUNK_SHIFT], __ATOMIC_ACQUIRE);
}

struct sealed *sealed_at(const struct sealed_table *table, uint64_t nr)
{
	return chunk_of(table, nr) + (nr & (CHUNK_PLACES - 1));
}

static bool list_pop(struct sealed_table *table, struct sealed_list *list, uint64_t *nr)
{
	uint64_t first = __atomic_load_n(&list->first, __ATOMIC_RELAXED);
	bool found;

	if (!first)
		return false;
	uhmm_lock(&list->lock);
	first = list->first;
	found = first;
	if (found) {
		*nr = first - 1;
		__atomic_store_n(&list->first, sealed_at(table, *nr)->below,
				 __ATOMIC_RELAXED);
	}
	uhmm_unlock(&list->lock);
	return found;
}

/* One that nobody has used. */
static bool sealed_new(struct sealed_table *table, uint64_t *nr)
{
	struct sealed **chunk;
	bool there;

	uhmm_lock(&table->grow);
	*nr = table->used;
	there = *nr < SEALED_CHUNKS << SEALED_CHUNK_SHIFT;
	if (there) {
		chunk = &table->chunk[*nr >> SEALED_CHUNK_SHIFT];
		if (!*chunk)
			__atomic_store_n(chunk, uhmm_host_map(CHUNK_SIZE),
					 __ATOMIC_RELEASE);
		there = *chunk;
	}
	if (there)
		__atomic_store_n(&table->used, *nr + 1, __ATOMIC_RELAXED);
	uhmm_unlock(&table->grow);
	return there;
}

uint64_t sealed_take(struct sealed_table *table)
{
	uint32_t mine = uhmm_host_cpu(), i;
	uint64_t nr;

	for (i = 0; i < SEALED_LISTS; i++)
		if (list_pop(table, &table->list[(mine + i) % SEALED_LISTS], &nr))
			return nr;
	return sealed_new(table, &nr) ? nr : UINT64_MAX;
}

void sealed_give(struct sealed_table *table, uint64_t nr)
{
	struct sealed_list *list = &table->list[uhmm_host_cpu() % SEALED_LISTS];

	uhmm_lock(&list->lock);
	sealed_at(table, nr)->below = list->first;
	__atomic_store_n(&list->first, nr + 1, __ATOMIC_RELAXED);
	uhmm_unlock(&list->lock);
}

uint64_t sealed_bytes(const struct sealed_table *table)
{
	uint64_t used = __atomic_load_n(&table->used, __ATOMIC_RELAXED);
	uint64_t chunks = (used >> SEALED_CHUNK_SHIFT) * sizeof(*table->chunk);

	return (used * sizeof(struct sealed) + chunks) / UHMM_PAGE_SIZE * UHMM_PAGE_SIZE +
	       2 * UHMM_PAGE_SIZE;
}
