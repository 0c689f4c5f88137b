/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed store in threads: put, view, free and compaction at once, lanes, and slots
 * that follow a thread from one CPU to another.
 */
#define _GNU_SOURCE
#include "tests/unit/store_items.h"

#include <pthread.h>
#include <sched.h>

#define THREADS 4
#define SHARED 256

struct worker {
	pthread_t thread;
	struct uhmm_store *store;
	struct item *shared; /* read by all, changed by nobody */
	uint64_t seed;
	uint32_t steps;
	struct item item[1500];
};

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t random = w->seed;
	uint32_t step;

	for (step = 0; step < w->steps; step++) {
		struct item *item = &w->item[(random = item_mix(random)) % 1500];
		bool shrink = step / 2000 % 2;

		random = item_mix(random);
		if (random % 4 == 0)
			item_check(w->store, &w->shared[random / 4 % SHARED]);
		if (item->live && (shrink || random / 16 % 4 == 0)) {
			item_check(w->store, item);
			item_free(w->store, item);
		} else if (!item->live && (!shrink || random / 16 % 4 == 0)) {
			/* Few classes, so that threads meet. */
			CHECK_EQ(item_put(w->store, item, random,
					  random % 7 ? 900 + random / 32 % 200 : 0),
				 0);
		}
		if (step % 512 == 0)
			uhmm_store_compact(w->store, 1 << 16);
	}
	return NULL;
}

static void threads_with_lanes(uint32_t lanes)
{
	static struct worker worker[THREADS];
	static struct item shared[SHARED];
	struct uhmm_store *store = store_create(0);
	struct uhmm_store_stat stat;
	uint64_t objects = SHARED;
	int i, j;

	while (store->nr_lanes < lanes)
		CHECK_EQ(store_lanes_double(store), 0);
	for (i = 0; i < SHARED; i++)
		CHECK_EQ(item_put(store, &shared[i], (uint64_t)i,
				  900 + (uint32_t)i % 200),
			 0);
	for (i = 0; i < THREADS; i++) {
		worker[i] = (struct worker){ .store = store,
					     .shared = shared,
					     .steps = 12000,
					     .seed = 1000u + (uint32_t)i };
		pthread_create(&worker[i].thread, NULL, work, &worker[i]);
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(worker[i].thread, NULL);
	CHECK_VALID(store);
	for (i = 0; i < THREADS; i++)
		for (j = 0; j < 1500; j++)
			if (worker[i].item[j].live) {
				item_check(store, &worker[i].item[j]);
				objects++;
			}
	for (i = 0; i < SHARED; i++)
		item_check(store, &shared[i]);
	uhmm_store_stat(store, &stat);
	CHECK_EQ(stat.objects, objects);
	uhmm_store_destroy(store);
	CHECK(host_is_valid());
}

TEST(threads, .timeout_s = 60)
{
	threads_with_lanes(1);
}

TEST(threads_in_lanes, .timeout_s = 60)
{
	threads_with_lanes(4);
}

/* ---- one step at a time --------------------------------------------------------- */

/*
 * Two spans. The second has one object left, items[1], for which the first has room, and
 * is only waiting to be compacted.
 */
static struct store_span *sparse_span(struct uhmm_store *store, struct item *items,
				      struct store_class **class)
{
	struct store_class *c = &store->lane[0]->class[class_of(1000)];
	struct store_span *span;
	uint32_t i, place;

	for (i = 0; i < c->capacity + 2; i++)
		CHECK_EQ(item_put(store, &items[i], i, 1000), 0);
	CHECK_EQ(c->nr_spans, 2);
	i = c->capacity;
	span = object_span(
		c, slot_object(*slot_at(store, items[i].handle >> HANDLE_INDEX_SHIFT)),
		&place);
	/* Or the frees would do it by the way. */
	span->writing = 1;
	item_free(store, &items[0]);
	item_free(store, &items[1]);
	item_free(store, &items[i + 1]);
	span->writing = 0;
	items[1] = items[i];
	CHECK_EQ(c->nr_spans, 2);
	CHECK_EQ(span->nr_used, 1);
	*class = c;
	return span;
}

static void *compact_all(void *arg)
{
	uhmm_store_compact(arg, UINT64_MAX);
	return NULL;
}

static void compact_in_thread(struct uhmm_store *store)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, compact_all, store), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

struct viewer {
	pthread_t thread;
	struct uhmm_store *store;
	struct store_class *class;
	struct item *item;
	uint32_t seen;
};

static int compact_meanwhile(void *ctx, const void *data, uint32_t len, uint64_t check)
{
	struct viewer *v = ctx;

	compact_in_thread(v->store);
	CHECK_EQ(v->class->nr_spans, 2);
	return item_compare(v->item, data, len, check);
}

TEST(what_is_viewed_stays_where_it_is)
{
	struct uhmm_store *store = store_create(0);
	static struct item items[300];
	struct viewer v = { .store = store, .item = &items[1] };

	sparse_span(store, items, &v.class);
	CHECK_EQ(uhmm_store_view(store, items[1].handle, compact_meanwhile, &v), 1234);
	compact_in_thread(store);
	CHECK_EQ(v.class->nr_spans, 1);
	item_check(store, &items[1]);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
}

static void *view_one(void *arg)
{
	struct viewer *v = arg;

	item_check(v->store, v->item);
	__atomic_store_n(&v->seen, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* As compaction does it, but slowly, and the old place is overwritten at once. */
TEST(a_view_waits_for_a_move)
{
	struct uhmm_store *store = store_create(0);
	static struct item items[300];
	struct viewer v = { .store = store, .item = &items[1] };
	struct store_span *from = sparse_span(store, items, &v.class), *to;
	uint64_t *slot = slot_at(store, items[1].handle >> HANDLE_INDEX_SHIFT);
	struct store_object *old = slot_object(*slot), *moved;
	uint32_t place;

	object_span(v.class, old, &place);
	uhmm_lock(&v.class->lock);
	__atomic_fetch_or(slot, SLOT_MOVING, __ATOMIC_ACQUIRE);
	to = span_fullest(v.class, from);
	moved = place_take(store, v.class, to);
	CHECK(moved != NULL);
	memcpy(moved, old, sizeof(*old) + 1000);
	memset(old, 0xee, sizeof(*old) + 1000);
	CHECK_EQ(pthread_create(&v.thread, NULL, view_one, &v), 0);
	usleep(50000);
	CHECK_EQ(__atomic_load_n(&v.seen, __ATOMIC_ACQUIRE), 0);
	__atomic_store_n(slot, slot_make(moved, to->class, to->lane), __ATOMIC_RELEASE);
	CHECK(place_drop(v.class, from, place));
	uhmm_unlock(&v.class->lock);
	CHECK_EQ(pthread_join(v.thread, NULL), 0);
	CHECK_EQ(v.seen, 1);
	span_release(store, v.class, from);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
}

TEST(what_is_being_written_stays_where_it_is)
{
	struct uhmm_store *store = store_create(0);
	static struct item items[300];
	struct store_class *c;
	struct store_span *span = sparse_span(store, items, &c);

	span->writing = 1;
	CHECK_EQ(uhmm_store_compact(store, UINT64_MAX), 0);
	CHECK_EQ(span->nr_used, 1);
	span->writing = 0;
	CHECK_GT(uhmm_store_compact(store, UINT64_MAX), 0);
	CHECK_EQ(c->nr_spans, 1);
	item_check(store, &items[1]);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
}

/* ---- CPUs ----------------------------------------------------------------------- */

static void *put_one(void *arg)
{
	static struct item item;

	CHECK_EQ(item_put(arg, &item, 1, 300), 0);
	return NULL;
}

/* Locks that had to be waited for add lanes, once the store is large. */
TEST(lanes_come_with_waiting)
{
	struct uhmm_store *store = store_create(0);
	static struct item items[70000];
	struct store_class *c = &store->lane[0]->class[class_of(300)];
	pthread_t thread;
	uint32_t i;

	if (store->max_lanes < 2)
		SKIP("one CPU needs one lane");
	store->contended = 1 << 20;
	for (i = 0; i < 70000; i++) {
		CHECK_EQ(item_put(store, &items[i], i, 300), 0);
		CHECK_EQ(store->nr_lanes, 1);
	}
	uhmm_lock(&c->lock);
	CHECK_EQ(pthread_create(&thread, NULL, put_one, store), 0);
	for (i = 0; i < 2000 && __atomic_load_n(&store->nr_lanes, __ATOMIC_ACQUIRE) < 2;
	     i++)
		usleep(1000);
	CHECK_EQ(store->nr_lanes, 2);
	uhmm_unlock(&c->lock);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	for (i = 0; i < 70000; i++)
		item_check(store, &items[i]);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
}

static bool run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

/* What was freed on one CPU is used on another before there is more. */
TEST(slots_follow_the_thread)
{
	struct uhmm_store *store = store_create(0);
	static struct item items[20000];
	struct uhmm_store_stat first, stat;
	uint32_t i;

	if (store->nr_shards < 2 || !run_on(1) || !run_on(0))
		SKIP("needs CPUs 0 and 1");
	for (i = 0; i < 20000; i++)
		CHECK_EQ(item_put(store, &items[i], i, 0), 0);
	uhmm_store_stat(store, &first);
	for (i = 0; i < 20000; i += 2)
		item_free(store, &items[i]);
	CHECK(run_on(1));
	for (i = 0; i < 20000; i += 2)
		CHECK_EQ(item_put(store, &items[i], i, 0), 0);
	uhmm_store_stat(store, &stat);
	CHECK_LE(stat.bytes_resident, first.bytes_resident + 2 * 4096);
	for (i = 0; i < 20000; i++)
		item_check(store, &items[i]);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
}
