/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classes of the packed store: spans, and places for objects in them.
 *
 * A place is taken from the fullest span that has one, the lowest first: so sparse
 * spans become sparser until they are empty or compaction has emptied them, and the
 * pages at the end of a span that was never full take no memory.
 *
 * What is called with the class locked does not block on anything but that lock; spans
 * are mapped and unmapped without it, because that is a system call.
 */
#include <errno.h>

#include "lib/assert.h"
#include "lib/store_internal.h"

/*
 * A span may leave a hundredth of itself unused at its end; the shortest that does not
 * waste more is taken, because each class has one half-empty span.
 */
#define SPAN_WASTE 100u

bool store_charge(struct uhmm_store *store, uint64_t pages)
{
	if (!store->limit_pages || !pages)
		return true;
	if (__atomic_add_fetch(&store->charged_pages, pages, __ATOMIC_RELAXED) <=
	    store->limit_pages)
		return true;
	store_uncharge(store, pages);
	return false;
}

void store_uncharge(struct uhmm_store *store, uint64_t pages)
{
	if (store->limit_pages)
		__atomic_sub_fetch(&store->charged_pages, pages, __ATOMIC_RELAXED);
}

/* ---- sizes --------------------------------------------------------------------- */

uint32_t class_of(uint32_t len)
{
	uint32_t size = len + (uint32_t)sizeof(struct store_object);

	if (size <= CLASS_FINE * CLASS_FINE_STEP)
		return (size - 1) / CLASS_FINE_STEP;
	return CLASS_FINE + (size - CLASS_FINE * CLASS_FINE_STEP - 1) / CLASS_STEP;
}

static uint32_t class_size(uint32_t class)
{
	uint32_t size;

	if (class < CLASS_FINE)
		return (class + 1) * CLASS_FINE_STEP;
	size = CLASS_FINE * CLASS_FINE_STEP + (class - CLASS_FINE + 1) * CLASS_STEP;
	return size < OBJECT_MAX ? size : OBJECT_MAX;
}

static void class_init(struct store_class *c, uint32_t size)
{
	uint32_t pages, best = UINT32_MAX;

	c->size = size;
	for (pages = 1; pages <= SPAN_PAGES_MAX; pages++) {
		uint32_t bytes = pages * UHMM_PAGE_SIZE;
		uint32_t nr = (bytes - (uint32_t)sizeof(struct store_span)) / size;
		uint32_t waste;

		if (nr == 0 || nr > SPAN_OBJECTS_MAX)
			continue;
		/* In 2^-16 of the span. */
		waste = (uint32_t)(((uint64_t)(bytes - nr * size) << 16) / bytes);
		if (waste < best) {
			best = waste;
			c->capacity = nr;
			c->span_pages = pages;
		}
		if (best <= 65536 / SPAN_WASTE)
			break;
	}
}

void lane_init(struct store_lane *lane)
{
	uint32_t i;

	for (i = 0; i < NR_CLASSES; i++)
		class_init(&lane->class[i], class_size(i));
}

/* ---- spans --------------------------------------------------------------------- */

struct store_object *span_object(const struct store_class *c, struct store_span *span,
				 uint32_t place)
{
	return (struct store_object *)((char *)(span + 1) + (size_t)place * c->size);
}

/* Runs of host memory are aligned to the power of two of their pages. */
struct store_span *object_span(const struct store_class *c, struct store_object *object,
			       uint32_t *place)
{
	uintptr_t size = c->span_pages * STORE_PAGE, align = STORE_PAGE;
	struct store_span *span;

	while (align < size)
		align *= 2;
	span = (struct store_span *)((uintptr_t)object & ~(align - 1));
	assert_always(span->magic == SPAN_MAGIC);
	*place = (uint32_t)((uintptr_t)object - (uintptr_t)(span + 1)) / c->size;
	return span;
}

static uint32_t span_list(const struct store_class *c, const struct store_span *span)
{
	return span->nr_used * SPAN_FULL / c->capacity;
}

static void span_link(struct store_class *c, struct store_span *span)
{
	uint32_t l = span_list(c, span);

	span->list = (uint8_t)l;
	span->prev = NULL;
	span->next = c->list[l];
	if (span->next)
		span->next->prev = span;
	c->list[l] = span;
	if (l < SPAN_FULL)
		c->partial |= 1u << l;
}

static void span_unlink(struct store_class *c, struct store_span *span)
{
	uint32_t l = span->list;

	if (span->prev)
		span->prev->next = span->next;
	else
		c->list[l] = span->next;
	if (span->next)
		span->next->prev = span->prev;
	if (!c->list[l])
		c->partial &= ~(1u << l);
}

static void span_relink(struct store_class *c, struct store_span *span)
{
	if (span_list(c, span) == span->list)
		return;
	span_unlink(c, span);
	span_link(c, span);
}

struct store_span *span_fullest(const struct store_class *c,
				const struct store_span *except)
{
	uint32_t lists = c->partial;
	struct store_span *span = NULL;

	while (lists && !span) {
		uint32_t l = 31 - (uint32_t)__builtin_clz(lists);

		span = c->list[l] != except ? c->list[l] : c->list[l]->next;
		lists &= ~(1u << l);
	}
	return span;
}

int span_add(struct uhmm_store *store, uint32_t lane, uint32_t class)
{
	struct store_class *c = &store->lane[lane]->class[class];
	struct store_span *span;

	if (!store_charge(store, 1))
		return -ENOSPC;
	span = uhmm_host_map(c->span_pages * STORE_PAGE);
	if (!span) {
		store_uncharge(store, 1);
		return -ENOMEM;
	}
	/* A slot has room for 48 bits of address. */
	assert_always((uintptr_t)span >> 48 == 0);
	span->nr_touched = 1;
	span->class = (uint16_t) class;
	span->lane = (uint16_t)lane;
	span->magic = SPAN_MAGIC;
	uhmm_lock(&c->lock);
	c->nr_spans++;
	c->nr_touched++;
	span_link(c, span);
	uhmm_unlock(&c->lock);
	return 0;
}

uint64_t span_release(struct uhmm_store *store, const struct store_class *c,
		      struct store_span *span)
{
	uint64_t pages = span->nr_touched;

	uhmm_host_unmap(span, c->span_pages * STORE_PAGE);
	store_uncharge(store, pages);
	return pages * STORE_PAGE;
}

uint32_t span_end(const struct store_span *span)
{
	uint32_t w = SPAN_WORDS;

	while (w && !span->used[w - 1])
		w--;
	return w ? w * 64 - (uint32_t)__builtin_clzll(span->used[w - 1]) : 0;
}

/* Pages up to the end of this many places. */
static uint32_t pages_of(const struct store_class *c, uint32_t nr)
{
	return (uint32_t)store_pages(sizeof(struct store_span) + (size_t)nr * c->size);
}

uint32_t span_spare(const struct store_class *c, const struct store_span *span)
{
	return span->nr_touched - pages_of(c, span->nr_used);
}

uint64_t span_trim(struct uhmm_store *store, struct store_class *c,
		   struct store_span *span, uint32_t min_pages)
{
	uint32_t pages = pages_of(c, span_end(span)), spare = span->nr_touched - pages;

	if (spare < min_pages)
		return 0;
	uhmm_host_discard((char *)span + pages * STORE_PAGE, spare * STORE_PAGE);
	span->nr_touched = (uint8_t)pages;
	c->nr_touched -= spare;
	store_uncharge(store, spare);
	return spare * STORE_PAGE;
}

/* ---- places -------------------------------------------------------------------- */

static uint32_t first_free(const struct store_span *span)
{
	uint32_t w = 0;

	while (span->used[w] == UINT64_MAX)
		w++;
	return w * 64 + (uint32_t)__builtin_ctzll(~span->used[w]);
}

/* Charges the pages up to the end of a place; false: over the limit. */
static bool span_touch(struct uhmm_store *store, struct store_class *c,
		       struct store_span *span, uint32_t place)
{
	uint32_t pages = pages_of(c, place + 1);

	if (pages <= span->nr_touched)
		return true;
	if (!store_charge(store, pages - span->nr_touched))
		return false;
	c->nr_touched += pages - span->nr_touched;
	span->nr_touched = (uint8_t)pages;
	return true;
}

struct store_object *place_take(struct uhmm_store *store, struct store_class *c,
				struct store_span *span)
{
	uint32_t place = first_free(span);

	if (!span_touch(store, c, span, place))
		return NULL;
	span->used[place / 64] |= UINT64_C(1) << (place % 64);
	span->nr_used++;
	c->nr_objects++;
	span_relink(c, span);
	return span_object(c, span, place);
}

bool place_drop(struct store_class *c, struct store_span *span, uint32_t place)
{
	uint64_t bit = UINT64_C(1) << (place % 64);

	assert_always(span->used[place / 64] & bit);
	span->used[place / 64] &= ~bit;
	span->nr_used--;
	c->nr_objects--;
	if (span->nr_used) {
		span_relink(c, span);
		return false;
	}
	span_unlink(c, span);
	c->nr_spans--;
	c->nr_touched -= span->nr_touched;
	return true;
}
