/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed store from the inside: read this before lib/store*.c. What it promises is in
 * <uhmm/device.h>.
 *
 *	handle --> slot (8 bytes) --> object in a span
 *	             ^                   |
 *	             +---- owner --------+
 *
 * An *object* is a header of 16 bytes and the bytes that were put. Objects of similar
 * size are of one *class* and lie side by side in *spans*, runs of a few pages chosen
 * so that little is left over at the end. A *slot* says where its object is; the object
 * says which slot is its owner, so that compaction can move it. A value needs no
 * object: its slot is the value, and the handle says that it is one.
 *
 * Classes exist once for each *lane*. There is one lane until threads are seen to wait
 * for each other and the store is large enough for another set of half-filled spans.
 *
 * Who may do what
 * ---------------
 * - A span's header and lists belong to the lock of its class. An object's bytes are
 *   written by put before its slot is published and by nobody afterwards; they are read
 *   by who has pinned the slot, and by the holder of the class lock.
 * - A slot with an object is changed by: free and compaction, with the class lock; view,
 *   which counts pins up and down without a lock. Compaction sets MOVING while it copies,
 *   and only if there is no pin; whoever meets MOVING sleeps on the class lock.
 * - The class and lane of an object never change, so the lock can be found without one.
 * - Free slots belong to the lock of their group's shard.
 * Lock order: shard, then groups; class locks and shard locks are never held together.
 *
 * Memory. Spans and slots are counted when they are first written, page by page: that is
 * what the kernel charges. With a limit every page is charged to the store before it is
 * touched, so that the limit holds at all times.
 */
#ifndef UHMM_STORE_INTERNAL_H
#define UHMM_STORE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uhmm/device.h"

#define STORE_PAGE ((size_t)UHMM_PAGE_SIZE)

/* ---- slots and handles (store_handle.c) ---------------------------------------- */

/*
 * slot of an object:  address / 16 << 20 | class << 12 | lane << 6 | pins << 1 | MOVING
 * slot of a value:    the value
 * free slot:          1 + index of the next free slot of the group, or 0; below 2^20
 *
 * handle:             index << 8 | check << 1 | is a value
 *
 * check is 7 bits drawn from a value, because values have no other checksum; 0 for
 * objects.
 */
#define SLOT_MOVING UINT64_C(1)
#define SLOT_PIN (UINT64_C(1) << 1)
#define SLOT_PINS_MAX 31u
#define SLOT_PINS (SLOT_PIN * SLOT_PINS_MAX)
#define SLOT_LANE_SHIFT 6
#define SLOT_CLASS_SHIFT 12
#define SLOT_ADDR_SHIFT 20
#define HANDLE_VALUE UINT64_C(1)
#define HANDLE_INDEX_SHIFT 8

/* A page of slots: what shards own, and what is given back when it is wholly free. */
#define GROUP_SLOTS 512u
#define GROUP_NONE UINT32_MAX
/* Groups that are mapped together. */
#define CHUNK_GROUPS 256u
/* 2^19 chunks of 2^17 slots: 256 TiB of pages, and a handle stays below 2^44. */
#define STORE_CHUNKS (1u << 19)

struct store_group {
	uint32_t prev, next; /* of the shard's groups that have a free slot */
	uint16_t first_free; /* 1 + index, or 0 */
	uint16_t nr_used;
	uint16_t nr_touched; /* slots from here on have never been used */
	uint16_t shard;      /* atomic: read without the lock, to find it */
};

struct store_chunk {
	uint64_t *slots;            /* CHUNK_GROUPS * GROUP_SLOTS */
	struct store_group *groups; /* CHUNK_GROUPS */
};

#define STORE_SHARDS 64u

struct store_shard {
	struct uhmm_lock lock;
	uint32_t partial;    /* list of groups with a free slot */
	uint32_t nr_partial; /* atomic: others look before they take one */
	uint64_t nr_used;    /* slots of its groups; moves along with a group */
} __attribute__((aligned(64)));

/* ---- spans and classes (store_class.c) ----------------------------------------- */

struct store_object {
	uint64_t check;
	uint64_t owner; /* index of the slot << 16 | bytes that follow */
};

#define SPAN_PAGES_MAX 32u
#define SPAN_WORDS 4u
#define SPAN_OBJECTS_MAX (SPAN_WORDS * 64)

/* Lists of spans by how full they are: eighths, and those without a free place. */
#define SPAN_LISTS 9u
#define SPAN_FULL 8u

struct store_span {
	struct store_span *prev, *next;
	uint64_t used[SPAN_WORDS];
	uint32_t writing; /* atomic: places taken whose slots are not yet published */
	uint16_t nr_used;
	uint8_t nr_touched; /* pages from the start that take memory */
	uint8_t list;
	uint16_t class;
	uint16_t lane;
	uint32_t magic;
} __attribute__((aligned(64)));

#define SPAN_MAGIC 0x4e415053u
_Static_assert(sizeof(struct store_span) == 64, "a span's header is one cache line");

/*
 * Sizes with header: in steps of 16 to 1024, then of 32 to that of a raw page. Finer
 * steps would lose less in each object, and more in half-filled spans of more classes.
 */
#define CLASS_FINE 64u
#define CLASS_FINE_STEP 16u
#define CLASS_STEP 32u
#define NR_CLASSES 161u
#define OBJECT_MAX (UHMM_PAGE_SIZE + (uint32_t)sizeof(struct store_object))

struct store_class {
	struct uhmm_lock lock;
	uint32_t size;     /* of an object with its header */
	uint32_t capacity; /* objects of a span */
	uint32_t span_pages;
	uint32_t partial; /* a bit for each list below SPAN_FULL that is not empty */
	struct store_span *list[SPAN_LISTS];
	uint64_t nr_spans;
	uint64_t nr_objects;
	uint64_t nr_touched; /* pages of all its spans */
	uint64_t bytes;      /* that were put */
} __attribute__((aligned(64)));

#define STORE_LANES 64u

struct store_lane {
	struct store_class class[NR_CLASSES];
};

/* ---- the store ----------------------------------------------------------------- */

struct uhmm_store {
	uint64_t limit_pages;   /* 0: none */
	uint64_t charged_pages; /* atomic; counts only if there is a limit */
	uint32_t futile;        /* atomic: compacting was in vain, no free since */
	uint32_t cursor;        /* atomic: where compaction goes on */
	/* lanes: published with release, never taken away */
	struct uhmm_lock lanes_lock;
	uint32_t nr_lanes; /* atomic; a power of two */
	uint32_t max_lanes;
	uint32_t contended; /* atomic: locks not had at once, since the last lane */
	struct store_lane *lane[STORE_LANES];
	/* slots */
	struct uhmm_lock groups_lock;
	uint32_t nr_shards;        /* a power of two */
	uint32_t nr_groups;        /* ever made; atomic, changed under groups_lock */
	uint32_t empty_group;      /* list of groups without memory; under groups_lock */
	uint64_t slot_pages;       /* that take memory; under groups_lock */
	struct store_chunk *chunk; /* STORE_CHUNKS, memory as it is written */
	struct store_shard shard[STORE_SHARDS];
};

static inline size_t store_pages(size_t bytes)
{
	return (bytes + STORE_PAGE - 1) / STORE_PAGE;
}

/* Pages about to be touched; false: over the limit, nothing charged. */
bool store_charge(struct uhmm_store *store, uint64_t pages);
void store_uncharge(struct uhmm_store *store, uint64_t pages);

/* Slots. take: 0, -ENOMEM, -ENOSPC. */
int slot_take(struct uhmm_store *store, uint64_t *index);
void slot_drop(struct uhmm_store *store, uint64_t index);
/* The slot with this index, NULL if there never was one. */
uint64_t *slot_find(struct uhmm_store *store, uint64_t index);
/* The slot of a handle that was given out; anything else ends the process. */
uint64_t *slot_at(struct uhmm_store *store, uint64_t index);
int slots_init(struct uhmm_store *store);
void slots_fini(struct uhmm_store *store);
/* Pages of memory that slots and what finds them take. Under groups_lock. */
uint64_t slots_pages(const struct uhmm_store *store);

static inline struct store_object *slot_object(uint64_t slot)
{
	return (struct store_object *)(uintptr_t)(slot >> SLOT_ADDR_SHIFT << 4);
}

static inline uint64_t slot_make(const struct store_object *object, uint32_t class,
				 uint32_t lane)
{
	return (uint64_t)(uintptr_t)object >> 4 << SLOT_ADDR_SHIFT |
	       (uint64_t) class << SLOT_CLASS_SHIFT | (uint64_t)lane << SLOT_LANE_SHIFT;
}

static inline uint32_t slot_class(uint64_t slot)
{
	return (uint32_t)(slot >> SLOT_CLASS_SHIFT) & 0xff;
}

static inline uint32_t slot_lane(uint64_t slot)
{
	return (uint32_t)(slot >> SLOT_LANE_SHIFT) & 0x3f;
}

static inline struct store_class *slot_home(struct uhmm_store *store, uint64_t slot)
{
	return &store->lane[slot_lane(slot)]->class[slot_class(slot)];
}

static inline uint32_t object_len(const struct store_object *object)
{
	return (uint32_t)(object->owner & 0xffff);
}

static inline uint64_t object_slot(const struct store_object *object)
{
	return object->owner >> 16;
}

/* Is this the header of an object of this class and slot? */
static inline bool object_is_of(const struct store_object *object,
				const struct store_class *c, uint64_t index)
{
	uint32_t len = object_len(object);

	return object_slot(object) == index && len > 0 &&
	       len + sizeof(*object) <= c->size;
}

/* Places. */
uint32_t class_of(uint32_t len);
void lane_init(struct store_lane *lane);
struct store_object *span_object(const struct store_class *c, struct store_span *span,
				 uint32_t place);
/* The span an object lies in, and which of its places it is. */
struct store_span *object_span(const struct store_class *c, struct store_object *object,
			       uint32_t *place);
/* All with the class locked: */
/* A span with a free place, as full a one as there is but not `except`; or NULL. */
struct store_span *span_fullest(const struct store_class *c,
				const struct store_span *except);
/* Its first free place. NULL: that would touch a page over the limit. */
struct store_object *place_take(struct uhmm_store *store, struct store_class *c,
				struct store_span *span);
/* True if the span is empty now; it is off its list then. */
bool place_drop(struct store_class *c, struct store_span *span, uint32_t place);
/* The first place from which on all are free. */
uint32_t span_end(const struct store_span *span);
/* Pages it would not need if its objects lay at its start. */
uint32_t span_spare(const struct store_class *c, const struct store_span *span);
/* Gives back the pages behind the last object if they are so many; bytes. */
uint64_t span_trim(struct uhmm_store *store, struct store_class *c,
		   struct store_span *span, uint32_t min_pages);

/* Without a lock: adds an empty span. 0, -ENOMEM, -ENOSPC. */
int span_add(struct uhmm_store *store, uint32_t lane, uint32_t class);
/* Without a lock: gives an empty span's memory back; bytes. */
uint64_t span_release(struct uhmm_store *store, const struct store_class *c,
		      struct store_span *span);

/* One lane, or twice as many as there are. Under lanes_lock. -ENOMEM, -ENOSPC. */
int store_lanes_double(struct uhmm_store *store);

/* Compaction (store_compact.c). */
/* After a free, with the class locked: a few moves if it has become loose. */
struct store_span *compact_a_little(struct uhmm_store *store, struct store_class *c);

/* For tests: walks everything; the caller sees to it that nobody else uses the store. */
bool store_is_valid(struct uhmm_store *store);
/* The line of store_check.c that found something wrong. */
int store_wrong_line(void);

#endif
