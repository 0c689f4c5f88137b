/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compaction: emptying sparse spans into fuller ones of the same class, and, where the
 * others have no room for that, moving a span's objects to its start, so that the pages
 * at its end can be given back.
 *
 * A class is *loose* when more than a small part of its memory holds no objects. A free
 * that finds its class loose moves a few objects, so that the work is spread over the
 * frees that caused it; uhmm_store_compact() goes on as long as there is a page to be
 * had.
 *
 * An object is moved with the class locked and MOVING set in its slot, which needs that
 * nobody has pinned it. What cannot be moved stays: a pinned object, or one whose owner
 * does not know it (its header was overwritten; a load of it will say so).
 */
#include <string.h>

#include "lib/store_internal.h"

/* Automatic: at most so small a part of a class's memory may hold no objects. */
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
/* Automatic: pages that trimming a span must yield, to be worth the system call. */
#define TRIM_PAGES 2u

/* What is wanted of a step, and what came of it. */
struct step {
	uint32_t moves;           /* at most; less those made */
	uint32_t trim;            /* pages that trimming must yield */
	bool progress;            /* more may be had by another step */
	uint64_t trimmed;         /* bytes given back */
	struct store_span *empty; /* to be released, without the lock; or NULL */
};

/* Could one span less hold all there is? */
static bool dispensable(const struct store_class *c)
{
	return (c->nr_spans - 1) * c->capacity >= c->nr_objects;
}

static bool loose(const struct store_class *c)
{
	uint64_t memory = c->nr_touched * STORE_PAGE;
	uint64_t objects = c->nr_objects * c->size;

	return (memory - objects) * LOOSE_PART > memory;
}

/* The sparsest, or one that is nearly so. */
static struct store_span *victim(const struct store_class *c)
{
	struct store_span *span = c->partial ? c->list[__builtin_ctz(c->partial)] : NULL;
	uint32_t i;

	/* Acquire: with what put does last; its objects have owners now. */
	for (i = 0; span && i < VICTIMS; i++, span = span->next)
		if (!__atomic_load_n(&span->writing, __ATOMIC_ACQUIRE))
			return span;
	return NULL;
}

/* From a place of one span to the first free place of the other, or of the same. */
static bool object_move(struct uhmm_store *store, struct store_class *c,
			struct store_span *from, uint32_t place, struct store_span *to)
{
	struct store_object *object = span_object(c, from, place), *copy;
	uint64_t index = object_slot(object), *slot = slot_find(store, index), value;
	uint32_t place_to;

	if (!slot || !object_is_of(object, c, index))
		return false;
	value = __atomic_load_n(slot, __ATOMIC_RELAXED);
	if ((value & ~SLOT_PINS) != slot_make(object, from->class, from->lane))
		return false;
	copy = place_take(store, c, to);
	if (!copy)
		return false;
	/* Acquire: with the unpinning of who viewed it, whose reads come first. */
	value &= ~SLOT_PINS;
	if (!__atomic_compare_exchange_n(slot, &value, value | SLOT_MOVING, false,
					 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		object_span(c, copy, &place_to);
		place_drop(c, to, place_to);
		return false;
	}
	memcpy(copy, object, sizeof(*object) + object_len(object));
	__atomic_store_n(slot, slot_make(copy, to->class, to->lane), __ATOMIC_RELEASE);
	return true;
}

/* Moves objects out of the span, until it is empty and off the lists. */
static void evacuate(struct uhmm_store *store, struct store_class *c,
		     struct store_span *span, struct step *step)
{
	uint32_t i, end = span_end(span);

	for (i = 0; i < end && step->moves; i++) {
		struct store_span *to;

		if (!(span->used[i / 64] >> (i % 64) & 1))
			continue;
		to = span_fullest(c, span);
		step->moves--;
		if (!to || !object_move(store, c, span, i, to))
			continue;
		step->progress = true;
		if (place_drop(c, span, i)) {
			step->empty = span;
			return;
		}
	}
}

/* Moves objects from the span's end to its free places, then trims it. */
static void pack(struct uhmm_store *store, struct store_class *c, struct store_span *span,
		 struct step *step)
{
	while (step->moves) {
		uint32_t last = span_end(span) - 1;

		if (last < span->nr_used)
			break;
		step->moves--;
		if (!object_move(store, c, span, last, span))
			break;
		place_drop(c, span, last);
		step->progress = true;
	}
	step->trimmed = span_trim(store, c, span, step->trim);
}

/* One step, with the class locked. */
static void compact(struct uhmm_store *store, struct store_class *c, struct step *step)
{
	struct store_span *span = victim(c);

	step->progress = false;
	step->trimmed = 0;
	step->empty = NULL;
	if (!span || !span->nr_used)
		return;
	if (dispensable(c))
		evacuate(store, c, span, step);
	else if (span_spare(c, span) >= step->trim)
		pack(store, c, span, step);
}

struct store_span *compact_a_little(struct uhmm_store *store, struct store_class *c)
{
	struct step step = { .moves = MOVES_PER_FREE, .trim = TRIM_PAGES };

	if (!loose(c))
		return NULL;
	compact(store, c, &step);
	return step.empty;
}

/* Bytes given back. */
static uint64_t compact_class(struct uhmm_store *store, struct store_class *c,
			      uint64_t max_bytes)
{
	struct step step;
	uint64_t bytes = 0;

	do {
		step = (struct step){ .moves = MOVES_PER_LOCK, .trim = 1 };
		uhmm_lock(&c->lock);
		compact(store, c, &step);
		uhmm_unlock(&c->lock);
		bytes += step.trimmed;
		if (step.empty)
			bytes += span_release(store, c, step.empty);
	} while (step.progress && bytes < max_bytes);
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
