/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed store: putting, viewing and freeing. What it promises is in <uhmm/device.h>,
 * how it is built in store_internal.h.
 *
 * All functions on any thread at once, also while a fault is being resolved: they block
 * on locks that are held for less than a microsecond, and on the kernel when it maps
 * memory. A handle that was freed, or never given out, ends the process where it is
 * noticed: that is a bug of the device. An object whose header was overwritten is -EIO.
 */
#include <errno.h>
#include <string.h>

#include "lib/assert.h"
#include "lib/os/os.h"
#include "lib/store_internal.h"

/* Another lane for every so many objects, so that half-empty spans stay below 1%. */
#define LANE_OBJECTS 65536u
/* Waits for a class lock until another lane is worth its memory. */
#define LANE_WAITS 1024u
/* What compaction is asked for when the limit is reached. */
#define ROOM_BYTES (UINT64_C(256) << 10)

/* ---- create, destroy ----------------------------------------------------------- */

int store_lanes_double(struct uhmm_store *store)
{
	uint32_t nr = store->nr_lanes, want = nr ? nr * 2 : 1;
	uint64_t pages = store_pages(sizeof(struct store_lane));

	for (; nr < want; nr++) {
		if (!store->lane[nr]) {
			if (!store_charge(store, pages))
				return -ENOSPC;
			store->lane[nr] = uhmm_host_map(sizeof(struct store_lane));
			if (!store->lane[nr]) {
				store_uncharge(store, pages);
				return -ENOMEM;
			}
			lane_init(store->lane[nr]);
		}
	}
	__atomic_store_n(&store->nr_lanes, want, __ATOMIC_RELEASE);
	return 0;
}

int uhmm_store_create(uint64_t limit_bytes, struct uhmm_store **out)
{
	struct uhmm_store *store = uhmm_host_map(sizeof(*store));
	int r;

	if (!store)
		return -ENOMEM;
	store->limit_pages = limit_bytes / STORE_PAGE;
	if (limit_bytes && !store->limit_pages)
		store->limit_pages = 1;
	r = slots_init(store);
	if (r) {
		uhmm_host_unmap(store, sizeof(*store));
		return r;
	}
	store->max_lanes = store->nr_shards;
	if (!store_charge(store, store_pages(sizeof(*store))))
		r = -ENOSPC;
	if (!r)
		r = store_lanes_double(store);
	if (r) {
		uhmm_store_destroy(store);
		return r;
	}
	*out = store;
	return 0;
}

static void class_fini(struct store_class *c)
{
	uint32_t l;

	for (l = 0; l < SPAN_LISTS; l++)
		while (c->list[l]) {
			struct store_span *span = c->list[l];

			c->list[l] = span->next;
			uhmm_host_unmap(span, c->span_pages * STORE_PAGE);
		}
}

void uhmm_store_destroy(struct uhmm_store *store)
{
	uint32_t i, j;

	if (!store)
		return;
	for (i = 0; i < STORE_LANES && store->lane[i]; i++) {
		for (j = 0; j < NR_CLASSES; j++)
			class_fini(&store->lane[i]->class[j]);
		uhmm_host_unmap(store->lane[i], sizeof(struct store_lane));
	}
	slots_fini(store);
	uhmm_host_unmap(store, sizeof(*store));
}

/* ---- objects ------------------------------------------------------------------- */

/* Somebody had to wait: when that is frequent and the store is large, add lanes. */
static void waited(struct uhmm_store *store)
{
	uint32_t nr = __atomic_load_n(&store->nr_lanes, __ATOMIC_RELAXED);
	uint64_t objects;

	if (nr >= store->max_lanes ||
	    __atomic_add_fetch(&store->contended, 1, __ATOMIC_RELAXED) < LANE_WAITS)
		return;
	objects = (uint64_t)__atomic_load_n(&store->nr_groups, __ATOMIC_RELAXED) *
		  GROUP_SLOTS;
	if (objects >= (uint64_t)nr * LANE_OBJECTS && uhmm_trylock(&store->lanes_lock)) {
		if (store->nr_lanes == nr)
			store_lanes_double(store);
		uhmm_unlock(&store->lanes_lock);
	}
	__atomic_store_n(&store->contended, 0, __ATOMIC_RELAXED);
}

static void class_lock(struct uhmm_store *store, struct store_class *c)
{
	if (uhmm_trylock(&c->lock))
		return;
	waited(store);
	uhmm_lock(&c->lock);
}

/* A place for an object of len bytes; *span has one more writer. */
static int object_place(struct uhmm_store *store, uint32_t len, struct store_object **out,
			struct store_span **span)
{
	uint32_t lanes = __atomic_load_n(&store->nr_lanes, __ATOMIC_ACQUIRE);
	uint32_t lane = lanes > 1 ? uhmm_host_cpu() & (lanes - 1) : 0;
	uint32_t class = class_of(len);
	struct store_class *c = &store->lane[lane]->class[class];
	int r;

	for (;;) {
		*out = NULL;
		class_lock(store, c);
		*span = span_fullest(c, NULL);
		if (*span)
			*out = place_take(store, c, *span);
		if (*out) {
			c->bytes += len;
			__atomic_fetch_add(&(*span)->writing, 1, __ATOMIC_RELAXED);
		}
		uhmm_unlock(&c->lock);
		if (*span)
			return *out ? 0 : -ENOSPC;
		r = span_add(store, lane, class);
		if (r)
			return r;
	}
}

/* At the limit: have other classes' spans emptied, unless that was in vain lately. */
static bool make_room(struct uhmm_store *store)
{
	if (__atomic_load_n(&store->futile, __ATOMIC_RELAXED))
		return false;
	if (uhmm_store_compact(store, ROOM_BYTES))
		return true;
	__atomic_store_n(&store->futile, 1, __ATOMIC_RELAXED);
	return false;
}

/* A slot, for which compaction makes room if need be. */
static int slot_get(struct uhmm_store *store, uint64_t *index)
{
	int r;

	do {
		r = slot_take(store, index);
	} while (r == -ENOSPC && make_room(store));
	return r;
}

int uhmm_store_put(struct uhmm_store *store, const void *data, uint32_t len,
		   uint64_t check, uint64_t *handle)
{
	struct store_object *object;
	struct store_span *span;
	uint64_t index;
	int r;

	if (len == 0 || len > UHMM_PAGE_SIZE)
		return -EINVAL;
	r = slot_get(store, &index);
	if (r)
		return r;
	do {
		r = object_place(store, len, &object, &span);
	} while (r == -ENOSPC && make_room(store));
	if (r) {
		slot_drop(store, index);
		return r;
	}
	object->check = check;
	object->owner = index << 16 | len;
	memcpy(object + 1, data, len);
	__atomic_store_n(slot_at(store, index),
			 slot_make(object, span->class, span->lane), __ATOMIC_RELEASE);
	/* Release: whoever finds no writer finds the object's owner, and the slot. */
	__atomic_fetch_sub(&span->writing, 1, __ATOMIC_RELEASE);
	*handle = index << HANDLE_INDEX_SHIFT;
	return 0;
}

/* The slot's object, kept where it is until slot_unpin(). */
static struct store_object *slot_pin(struct uhmm_store *store, uint64_t *slot,
				     struct store_class **c)
{
	uint64_t value = __atomic_load_n(slot, __ATOMIC_ACQUIRE);

	for (;;) {
		assert_always(slot_object(value));
		*c = slot_home(store, value);
		if (value & SLOT_MOVING) {
			/* Until whoever moves it is done. */
			uhmm_lock(&(*c)->lock);
			uhmm_unlock(&(*c)->lock);
			value = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
		} else if ((value & SLOT_PINS) == SLOT_PINS) {
			os_yield();
			value = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
		} else if (__atomic_compare_exchange_n(slot, &value, value + SLOT_PIN,
						       true, __ATOMIC_ACQUIRE,
						       __ATOMIC_ACQUIRE)) {
			return slot_object(value);
		}
	}
}

static void slot_unpin(uint64_t *slot)
{
	/* Release: with the acquire of who moves or frees the object. */
	__atomic_fetch_sub(slot, SLOT_PIN, __ATOMIC_RELEASE);
}

int uhmm_store_view(struct uhmm_store *store, uint64_t handle,
		    int (*fn)(void *ctx, const void *data, uint32_t len, uint64_t check),
		    void *ctx)
{
	uint64_t index = handle >> HANDLE_INDEX_SHIFT, *slot;
	struct store_object *object;
	struct store_class *c;
	int r = -EIO;

	/* A value whose check failed is looked for here too. */
	if (handle & HANDLE_VALUE)
		return -EIO;
	slot = slot_at(store, index);
	object = slot_pin(store, slot, &c);
	if (object_is_of(object, c, index))
		r = fn(ctx, object + 1, object_len(object), object->check);
	slot_unpin(slot);
	return r;
}

int uhmm_store_peek(struct uhmm_store *store, uint64_t handle,
		    int (*fn)(void *ctx, const void *data, uint32_t len, uint64_t check),
		    void *ctx)
{
	uint64_t index = handle >> HANDLE_INDEX_SHIFT, value;
	struct store_object *object;

	if (handle & HANDLE_VALUE)
		return -EIO;
	value = __atomic_load_n(slot_at(store, index), __ATOMIC_ACQUIRE);
	object = slot_object(value);
	if (!object || !object_is_of(object, slot_home(store, value), index))
		return -EIO;
	return fn(ctx, object + 1, object_len(object), object->check);
}

static void object_free(struct uhmm_store *store, uint64_t index)
{
	uint64_t *slot = slot_at(store, index);
	uint64_t value = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
	struct store_span *span, *empty = NULL, *emptied = NULL;
	struct store_object *object;
	struct store_class *c;
	uint32_t place, len;

	assert_always(slot_object(value));
	c = slot_home(store, value);
	__builtin_prefetch(slot_object(value));
	class_lock(store, c);
	/* It may have been moved before the lock was had, not after. */
	value = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
	assert_always(slot_object(value) && !(value & SLOT_PINS));
	object = slot_object(value);
	len = object_is_of(object, c, index) ? object_len(object) : c->size;
	c->bytes -= len < c->bytes ? len : c->bytes;
	span = object_span(c, object, &place);
	if (place_drop(c, span, place))
		empty = span;
	emptied = compact_a_little(store, c);
	uhmm_unlock(&c->lock);
	if (empty)
		span_release(store, c, empty);
	if (emptied)
		span_release(store, c, emptied);
	if (__atomic_load_n(&store->futile, __ATOMIC_RELAXED))
		__atomic_store_n(&store->futile, 0, __ATOMIC_RELAXED);
}

void uhmm_store_free(struct uhmm_store *store, uint64_t handle)
{
	if (!(handle & HANDLE_VALUE))
		object_free(store, handle >> HANDLE_INDEX_SHIFT);
	slot_drop(store, handle >> HANDLE_INDEX_SHIFT);
}

/* ---- values -------------------------------------------------------------------- */

/*
 * Seven bits that change whenever one bit of the value does: the top bits of a product
 * with a constant that has, at every shift, a top that is neither all zeros nor all ones.
 */
static uint64_t value_check(uint64_t value)
{
	return value * UINT64_C(0x9249249249249249) >> 57;
}

int uhmm_store_put_value(struct uhmm_store *store, uint64_t value, uint64_t *handle)
{
	uint64_t index;
	int r = slot_get(store, &index);

	if (r)
		return r;
	__atomic_store_n(slot_at(store, index), value, __ATOMIC_RELAXED);
	*handle = index << HANDLE_INDEX_SHIFT | value_check(value) << 1 | HANDLE_VALUE;
	return 0;
}

int uhmm_store_get_value(struct uhmm_store *store, uint64_t handle, uint64_t *value)
{
	uint64_t v;

	if (!(handle & HANDLE_VALUE))
		return 0;
	v = __atomic_load_n(slot_at(store, handle >> HANDLE_INDEX_SHIFT),
			    __ATOMIC_RELAXED);
	if (value_check(v) != (handle >> 1 & 0x7f))
		return 0;
	*value = v;
	return 1;
}

/* ---- statistics ---------------------------------------------------------------- */

void uhmm_store_stat(struct uhmm_store *store, struct uhmm_store_stat *stat)
{
	uint32_t lanes = __atomic_load_n(&store->nr_lanes, __ATOMIC_ACQUIRE), i, j;
	uint64_t headers = 0, touched = 0, tables;

	*stat = (struct uhmm_store_stat){ 0 };
	tables = store_pages(sizeof(*store)) +
		 lanes * store_pages(sizeof(struct store_lane));
	for (i = 0; i < lanes; i++)
		for (j = 0; j < NR_CLASSES; j++) {
			struct store_class *c = &store->lane[i]->class[j];

			uhmm_lock(&c->lock);
			stat->bytes_requested += c->bytes;
			touched += c->nr_touched;
			headers += c->nr_objects * sizeof(struct store_object) +
				   c->nr_spans * sizeof(struct store_span);
			uhmm_unlock(&c->lock);
		}
	for (i = 0; i < store->nr_shards; i++) {
		uhmm_lock(&store->shard[i].lock);
		stat->objects += store->shard[i].nr_used;
		uhmm_unlock(&store->shard[i].lock);
	}
	uhmm_lock(&store->groups_lock);
	tables += slots_pages(store);
	uhmm_unlock(&store->groups_lock);
	stat->bytes_metadata = tables * STORE_PAGE + headers;
	stat->bytes_objects = touched * STORE_PAGE - headers;
	stat->bytes_resident = (tables + touched) * STORE_PAGE;
}
