/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a packed store what store_internal.h says it is? Walks every span, object, group and
 * slot. For tests, on a store that nobody else uses meanwhile; says on which line the
 * first wrong thing was found.
 */
#include "lib/store_internal.h"

static int wrong_line;

/* Where store_is_valid() found something wrong, for a debugger or a test's message. */
int store_wrong_line(void)
{
	return wrong_line;
}

#define MUST(expr)                                                                       \
	do {                                                                             \
		if (!(expr)) {                                                           \
			wrong_line = __LINE__;                                           \
			return false;                                                    \
		}                                                                        \
	} while (0)

struct totals {
	uint64_t objects, pages;
};

static bool object_is_valid(struct uhmm_store *store, struct store_class *c,
			    struct store_span *span, uint32_t place)
{
	struct store_object *object = span_object(c, span, place);
	uint64_t *slot = slot_find(store, object_slot(object));
	uint32_t found;

	MUST(slot);
	MUST(*slot == slot_make(object, span->class, span->lane));
	MUST(object_is_of(object, c, object_slot(object)));
	MUST(slot_home(store, *slot) == c);
	MUST(object_span(c, object, &found) == span && found == place);
	return true;
}

static bool span_is_valid(struct uhmm_store *store, struct store_class *c,
			  struct store_span *span, uint64_t *bytes)
{
	uint32_t i, nr = 0, end = 0;

	MUST(span->magic == SPAN_MAGIC);
	MUST(span->writing == 0);
	MUST(&store->lane[span->lane]->class[span->class] == c);
	for (i = 0; i < SPAN_OBJECTS_MAX; i++) {
		if (!(span->used[i / 64] >> (i % 64) & 1))
			continue;
		MUST(i < c->capacity);
		if (!object_is_valid(store, c, span, i))
			return false;
		*bytes += object_len(span_object(c, span, i));
		end = i + 1;
		nr++;
	}
	MUST(nr == span->nr_used);
	MUST(span->nr_touched >= 1 && span->nr_touched <= c->span_pages);
	MUST(sizeof(*span) + end * (size_t)c->size <= span->nr_touched * STORE_PAGE);
	return true;
}

static bool class_is_valid(struct uhmm_store *store, struct store_class *c,
			   struct totals *totals)
{
	uint64_t spans = 0, objects = 0, pages = 0, bytes = 0;
	uint32_t l;

	for (l = 0; l < SPAN_LISTS; l++) {
		struct store_span *span, *prev = NULL;

		MUST(l == SPAN_FULL || (c->partial >> l & 1) == (c->list[l] != NULL));
		for (span = c->list[l]; span; prev = span, span = span->next) {
			MUST(span->prev == prev);
			MUST(span->list == l &&
			     span->nr_used * SPAN_FULL / c->capacity == l);
			if (!span_is_valid(store, c, span, &bytes))
				return false;
			spans++;
			objects += span->nr_used;
			pages += span->nr_touched;
		}
	}
	MUST(spans == c->nr_spans && objects == c->nr_objects);
	MUST(pages == c->nr_touched && bytes == c->bytes);
	totals->objects += objects;
	totals->pages += pages;
	return true;
}

static bool group_is_valid(struct uhmm_store *store, uint32_t g)
{
	struct store_chunk *chunk = &store->chunk[g / CHUNK_GROUPS];
	struct store_group *group = &chunk->groups[g % CHUNK_GROUPS];
	uint64_t *slots = chunk->slots + (size_t)(g % CHUNK_GROUPS) * GROUP_SLOTS;
	uint32_t i = group->first_free, nr_free = 0;

	while (i) {
		MUST(i <= group->nr_touched && nr_free < GROUP_SLOTS);
		nr_free++;
		i = (uint32_t)slots[i - 1];
	}
	MUST(group->nr_touched <= GROUP_SLOTS);
	MUST(group->nr_used + nr_free == group->nr_touched);
	return true;
}

static bool shards_are_valid(struct uhmm_store *store, uint64_t *slots_used)
{
	uint64_t used = 0, listed = 0, partial = 0, empty = 0, without = 0;
	uint32_t s, g;

	*slots_used = 0;
	for (s = 0; s < store->nr_shards; s++) {
		struct store_shard *shard = &store->shard[s];
		uint32_t prev = GROUP_NONE, nr = 0;

		for (g = shard->partial; g != GROUP_NONE;) {
			struct store_group *group =
				&store->chunk[g / CHUNK_GROUPS].groups[g % CHUNK_GROUPS];

			MUST(group->prev == prev && group->shard == s);
			MUST(group->nr_used < GROUP_SLOTS);
			empty += group->nr_used == 0;
			prev = g;
			g = group->next;
			nr++;
		}
		MUST(nr == shard->nr_partial);
		listed += nr;
		*slots_used += shard->nr_used;
	}
	for (g = store->empty_group; g != GROUP_NONE;
	     g = store->chunk[g / CHUNK_GROUPS].groups[g % CHUNK_GROUPS].next)
		without++;
	for (g = 0; g < store->nr_groups; g++) {
		if (!group_is_valid(store, g))
			return false;
		s = store->chunk[g / CHUNK_GROUPS].groups[g % CHUNK_GROUPS].nr_used;
		used += s;
		partial += s > 0 && s < GROUP_SLOTS;
	}
	MUST(used == *slots_used);
	MUST(partial + empty == listed);
	MUST(store->slot_pages + without == store->nr_groups);
	return true;
}

bool store_is_valid(struct uhmm_store *store)
{
	struct totals totals = { 0 };
	uint64_t slots_used, pages;
	uint32_t i, j;

	for (i = 0; i < store->nr_lanes; i++)
		for (j = 0; j < NR_CLASSES; j++)
			if (!class_is_valid(store, &store->lane[i]->class[j], &totals))
				return false;
	if (!shards_are_valid(store, &slots_used))
		return false;
	/* The others are values. */
	MUST(totals.objects <= slots_used);
	pages = totals.pages + slots_pages(store) + store_pages(sizeof(*store)) +
		store->nr_lanes * store_pages(sizeof(struct store_lane));
	MUST(!store->limit_pages || pages == store->charged_pages);
	MUST(!store->limit_pages || pages <= store->limit_pages);
	return true;
}
