/* SPDX-License-Identifier: Apache-2.0 */
/* Records of pages by their numbers: see table.h. */
#include "devices/table.h"

#define CHUNK_PLACES (UINT64_C(1) << TABLE_CHUNK_SHIFT)
#define CHUNKS_SIZE (TABLE_CHUNKS * sizeof(char *))

static size_t chunk_size(const struct table *table)
{
	return CHUNK_PLACES * table->record_size;
}

bool table_open(struct table *table, size_t record_size)
{
	table->record_size = record_size;
	table->chunk = uhmm_host_map(CHUNKS_SIZE);
	return table->chunk;
}

void table_close(struct table *table)
{
	uint64_t i;

	if (!table->chunk)
		return;
	for (i = 0; i < TABLE_CHUNKS && table->chunk[i]; i++)
		uhmm_host_unmap(table->chunk[i], chunk_size(table));
	uhmm_host_unmap(table->chunk, CHUNKS_SIZE);
}

void *table_at(const struct table *table, uint64_t nr)
{
	char *chunk = __atomic_load_n(&table->chunk[nr >> TABLE_CHUNK_SHIFT],
				      __ATOMIC_ACQUIRE);

	return chunk + (nr & (CHUNK_PLACES - 1)) * table->record_size;
}

/*
 * In a free place: the next one that is, as in a list's head. Atomic: a driver may look
 * at a place that it has given.
 */
static uint64_t *next_of(const struct table *table, uint64_t nr)
{
	return table_at(table, nr);
}

static bool list_pop(struct table *table, struct table_list *list, uint64_t *nr)
{
	uint64_t first = __atomic_load_n(&list->first, __ATOMIC_RELAXED);

	if (!first)
		return false;
	uhmm_lock(&list->lock);
	first = list->first;
	if (first) {
		*nr = first - 1;
		__atomic_store_n(&list->first,
				 __atomic_load_n(next_of(table, *nr), __ATOMIC_RELAXED),
				 __ATOMIC_RELAXED);
	}
	uhmm_unlock(&list->lock);
	return first;
}

/* One that nobody has used. */
static bool table_grow(struct table *table, uint64_t *nr)
{
	char **chunk;
	bool there;

	uhmm_lock(&table->grow);
	*nr = table->used;
	there = *nr < TABLE_CHUNKS << TABLE_CHUNK_SHIFT;
	if (there) {
		chunk = &table->chunk[*nr >> TABLE_CHUNK_SHIFT];
		if (!*chunk)
			__atomic_store_n(chunk, uhmm_host_map(chunk_size(table)),
					 __ATOMIC_RELEASE);
		there = *chunk;
	}
	if (there)
		__atomic_store_n(&table->used, *nr + 1, __ATOMIC_RELAXED);
	uhmm_unlock(&table->grow);
	return there;
}

uint64_t table_take(struct table *table)
{
	uint32_t mine = uhmm_host_cpu(), i;
	uint64_t nr;

	for (i = 0; i < TABLE_LISTS; i++)
		if (list_pop(table, &table->list[(mine + i) % TABLE_LISTS], &nr))
			return nr;
	return table_grow(table, &nr) ? nr : UINT64_MAX;
}

void table_give(struct table *table, uint64_t nr)
{
	struct table_list *list = &table->list[uhmm_host_cpu() % TABLE_LISTS];

	uhmm_lock(&list->lock);
	__atomic_store_n(next_of(table, nr), list->first, __ATOMIC_RELAXED);
	__atomic_store_n(&list->first, nr + 1, __ATOMIC_RELAXED);
	uhmm_unlock(&list->lock);
}

uint64_t table_bytes(const struct table *table)
{
	uint64_t used = __atomic_load_n(&table->used, __ATOMIC_RELAXED);
	uint64_t chunks = (used >> TABLE_CHUNK_SHIFT) * sizeof(*table->chunk);

	return (used * table->record_size + chunks) / UHMM_PAGE_SIZE * UHMM_PAGE_SIZE +
	       2 * UHMM_PAGE_SIZE;
}
