/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compaction: emptying sparse spans into fuller ones of the same class.
 *
 * A class is *loose* when more than a part of its places is free and these places are
 * enough to do without the sparsest span. A free that finds its class loose moves a few
 * objects, so that the work is spread over the frees that caused it; uhmm_store_compact()
 * goes on as long as a span can be emptied at all.
 *
 * An object is moved with the class locked and MOVING set in its slot, which needs that
 * nobody has pinned it. What cannot be moved stays: a pinned object, or one whose owner
 * does not know it (its header was overwritten; a load of it will say so).
 */
#include <errno.h>
#include <string.h>

#include "lib/store_internal.h"

/* Automatic: at most one free place in so many. */
#define LOOSE_PART 20u
/*
 * Moves for each free of a loose class. The spans that are emptied are about four fifths
 * full when one place in twenty may be free, so each place they yield costs four moves.
 */
#define MOVES_PER_FREE 4u
/* Moves before the class lock is given to somebody else. */
#define MOVES_PER_LOCK 16u
/* Spans looked at for one whose objects can be moved now. */
#define VICTIMS 4u

static uint64_t places(const struct store_class *c)
{
	return c->nr_spans * c->capacity;
}

/* Could the others hold what this span holds? */
static bool dispensable(const struct store_class *c, const struct store_span *span)
{
	return places(c) - c->capacity - (c->nr_objects - span->nr_used) >= span->nr_used;
}

static bool loose(const struct store_class *c)
{
	uint64_t free = places(c) - c->nr_objects;

	return free >= c->capacity && free * LOOSE_PART > places(c);
}

static struct store_span *victim(const struct store_class *c)
{
	struct store_span *span = c->partial ? c->list[__builtin_ctz(c->partial)] : NULL;
	uint32_t i;

	/* Acquire: with what put does last; its objects have owners now. */
	for (i = 0; span && i < VICTIMS; i++, span = span->next)
		if (!__atomic_load_n(&span->writing, __ATOMIC_ACQUIRE))
			return dispensable(c, span) ? span : NULL;
	return NULL;
}

/* 0: moved; else it stays where it is. */
static int object_move(struct uhmm_store *store, struct store_class *c,
		       struct store_span *from, uint32_t place)
{
	struct store_object *object = span_object(c, from, place), *to;
	uint64_t index = object_slot(object), *slot = slot_find(store, index), value;
	struct store_span *span;
	uint32_t place_to;
	int error;

	if (!slot || !object_is_of(object, c, index))
		return -EIO;
	value = __atomic_load_n(slot, __ATOMIC_RELAXED);
	if ((value & ~SLOT_PINS) != slot_make(object, from->class, from->lane))
		return -EIO;
	to = place_take(store, c, from, &span, &error);
	if (!to)
		return error;
	/* Acquire: with the unpinning of who viewed it, whose reads come first. */
	value &= ~SLOT_PINS;
	if (!__atomic_compare_exchange_n(slot, &value, value | SLOT_MOVING, false,
					 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		object_span(c, to, &place_to);
		place_drop(c, span, place_to);
		return -EBUSY;
	}
	memcpy(to, object, sizeof(*object) + object_len(object));
	__atomic_store_n(slot, slot_make(to, from->class, from->lane), __ATOMIC_RELEASE);
	return 0;
}

/*
 * With the class locked: moves up to *moves objects out of a span, less what it did. A
 * span that is empty now is off the lists and returned. *stuck: nothing more to be had.
 */
static struct store_span *compact_span(struct uhmm_store *store, struct store_class *c,
				       uint32_t *moves, bool *stuck)
{
	struct store_span *span = victim(c);
	uint32_t i = 0;
	uint32_t done = 0;

	*stuck = true;
	if (!span)
		return NULL;
	for (i = 0; i < c->capacity && *moves && span->nr_used; i++) {
		if (!(span->used[i / 64] >> (i % 64) & 1))
			continue;
		--*moves;
		if (object_move(store, c, span, i))
			continue;
		done++;
		if (place_drop(c, span, i)) {
			*stuck = false;
			return span;
		}
	}
	*stuck = done == 0;
	return NULL;
}

struct store_span *compact_a_little(struct uhmm_store *store, struct store_class *c)
{
	uint32_t moves = MOVES_PER_FREE;
	bool stuck;

	return loose(c) ? compact_span(store, c, &moves, &stuck) : NULL;
}

/* Bytes given back. */
static uint64_t compact_class(struct uhmm_store *store, struct store_class *c,
			      uint64_t max_bytes)
{
	uint64_t bytes = 0;
	bool stuck;

	do {
		uint32_t moves = MOVES_PER_LOCK;
		struct store_span *empty;

		uhmm_lock(&c->lock);
		empty = compact_span(store, c, &moves, &stuck);
		uhmm_unlock(&c->lock);
		if (empty)
			bytes += span_release(store, c, empty);
	} while (!stuck && bytes < max_bytes);
	return bytes;
}

uint64_t uhmm_store_compact(struct uhmm_store *store, uint64_t max_bytes)
{
	uint32_t nr = __atomic_load_n(&store->nr_lanes, __ATOMIC_ACQUIRE) * NR_CLASSES;
	uint64_t bytes = 0;
	uint32_t i;

	/* Each call goes on where the last one ended. */
	for (i = 0; i < nr && bytes < max_bytes; i++) {
		uint32_t n = __atomic_fetch_add(&store->cursor, 1, __ATOMIC_RELAXED) % nr;

		bytes += compact_class(
			store, &store->lane[n / NR_CLASSES]->class[n % NR_CLASSES],
			max_bytes - bytes);
	}
	return bytes;
}
