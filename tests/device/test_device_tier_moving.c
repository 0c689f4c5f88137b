/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers: what happens to a page while it is moved from one to the next. `hook` comes in
 * the middle of a batch, so that a load or a free comes at the very moment when it is
 * hardest; and threads do it at any.
 */
#define _GNU_SOURCE
#include "tests/device/tier_pages.h"

#include <pthread.h>

#include "tests/device/tier_hook.h"

/* ---- one thread ------------------------------------------------------------------ */

/* A page's bytes are right now. */
static void check_now(struct uhmm_device *dev, struct page *page)
{
	static uint8_t got[PAGE] __attribute__((aligned(4096)));
	static uint8_t want[PAGE] __attribute__((aligned(4096)));
	struct uhmm_io io = { .page = page->number, .buf = got, .len = PAGE };

	CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io, 1), 0);
	content_fill(want, page->kind, page->seed);
	check_page(got, want);
}

static struct {
	struct uhmm_device *dev;
	struct page *pages;
	uint32_t nr, calls;
	struct buffers *b;
} now;

/* Of those that are on their way down some are loaded, and some freed. */
static void in_a_move(uint32_t tier, const struct uhmm_batch *batch)
{
	struct page *one[1];
	uint32_t i;

	if (tier != 1 || batch->op != UHMM_OP_STORE)
		return;
	hook_set(NULL);
	for (i = 0; i < 100; i++) {
		check_now(now.dev, &now.pages[i]);
		if (i % 3)
			continue;
		one[0] = &now.pages[i];
		forget(now.dev, one, 1);
	}
	now.calls++;
}

TEST(loaded_and_freed_while_it_moves)
{
	struct uhmm_device *dev = hook_open("hook+ram:size=1M,hook+ram");
	struct page *pages = pages_of_all_kinds(MANY, 7), *batch[1];
	struct buffers b;
	uint32_t i;

	buffers_init(&b);
	now.dev = dev;
	now.pages = pages;
	now.nr = MANY;
	hook_set(in_a_move);
	each_batch(dev, &b, pages, MANY, 1, 1, store_all);
	CHECK_EQ(now.calls, 1);
	/* Both copies of those that were freed are gone. */
	CHECK_EQ(stat_of(dev).pages, MANY - 34);
	CHECK_EQ(pages_in_all(dev), MANY - 34);
	load_stored(dev, &b, pages, MANY);
	for (i = 0; i < MANY; i++) {
		batch[0] = &pages[i];
		if (pages[i].stored)
			forget(dev, batch, 1);
	}
	CHECK_EQ(pages_in_all(dev), 0);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

/*
 * The first tier is asked for a page, and before it has read it all others are stored:
 * the page would sink, and its memory be another's.
 */
static void in_a_load(uint32_t tier, const struct uhmm_batch *batch)
{
	if (tier != 0 || batch->op != UHMM_OP_LOAD)
		return;
	hook_set(NULL);
	each_batch(now.dev, now.b, now.pages + 1, now.nr - 1, 1, 8, store_all);
	now.calls++;
}

TEST(moved_while_it_is_loaded)
{
	struct uhmm_device *dev = hook_open("hook+ram:size=1M,ram");
	struct page *pages = pages_of_all_kinds(MANY, 8), *batch[1] = { pages };
	struct buffers b;

	buffers_init(&b);
	now.dev = dev;
	now.pages = pages;
	now.nr = MANY;
	now.b = &b;
	pages[0].kind = CONTENT_RANDOM;
	CHECK_EQ(store(dev, &b, batch, 1), 0);
	hook_set(in_a_load);
	check_now(dev, &pages[0]);
	CHECK_EQ(now.calls, 1);
	CHECK_GT(pages_in(dev, 1), MANY / 2);
	CHECK_EQ(pages_in_all(dev), MANY);
	each_batch(dev, &b, pages, MANY, 1, 64, load);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

/* A fork may come in the middle of it, and whoever has the page has to know. */
static void in_a_peek(uint32_t tier, const struct uhmm_batch *batch)
{
	CHECK_EQ(batch->op, UHMM_OP_LOAD);
	CHECK(batch->flags & UHMM_BATCH_FROZEN);
	now.calls |= 1u << tier;
}

TEST(frozen_for_each_tier)
{
	struct uhmm_device *dev = hook_open("hook+ram:size=1M,hook+ram");
	struct page *pages = pages_of_all_kinds(MANY, 12);
	struct buffers b;
	uint32_t i;

	buffers_init(&b);
	each_batch(dev, &b, pages, MANY, 1, 16, store_all);
	hook_set(in_a_peek);
	for (i = 0; i < MANY; i += MANY - 1) {
		struct uhmm_io io = { .page = pages[i].number,
				      .buf = b.data[0],
				      .len = PAGE };

		CHECK_EQ(device_peek(dev, &io), 0);
		content_fill(b.expected, pages[i].kind, pages[i].seed);
		check_page(b.data[0], b.expected);
	}
	CHECK_EQ(now.calls, 3);
	hook_set(NULL);
	device_close(dev);
	free(pages);
	buffers_fini(&b);
}

/* ---- threads --------------------------------------------------------------------- */

#define THREADS 4
#define OWN 701u
#define STEPS 600

struct worker {
	pthread_t thread;
	struct uhmm_device *dev;
	struct page *shared;
	uint64_t random;
	struct page own[OWN];
};

/* Pages that are all stored, or none is, with what there is to be done to them. */
static void step(struct worker *w, struct buffers *b)
{
	struct page *batch[16];
	uint32_t size = 1 + w->random % 16, at = (w->random >> 8) % OWN, n = 0;
	bool stored = w->own[at].stored;

	for (; n < size && at + n < OWN && w->own[at + n].stored == stored; n++)
		batch[n] = &w->own[at + n];
	if (!stored) {
		for (uint32_t i = 0; i < n; i++) {
			batch[i]->kind = CONTENT_RANDOM + i % 2;
			batch[i]->seed = w->random + i;
		}
		CHECK_EQ(store(w->dev, b, batch, n), 0);
		return;
	}
	load(w->dev, b, batch, n);
	if (w->random >> 32 & 1)
		forget(w->dev, batch, n);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct buffers b;
	uint32_t i;

	buffers_init(&b);
	for (i = 0; i < STEPS; i++) {
		struct page *batch[2];

		w->random = content_mix(w->random);
		step(w, &b);
		/* The same as others, at the same time. */
		batch[0] = &w->shared[i % MANY];
		batch[1] = &w->shared[(w->random >> 16) % MANY];
		load(w->dev, &b, batch, batch[0] == batch[1] ? 1 : 2);
	}
	buffers_fini(&b);
	return NULL;
}

static void worked_on(const char *spec)
{
	struct uhmm_device *dev = open_spec(spec);
	struct worker *worker = calloc(THREADS, sizeof(*worker));
	struct page *shared = pages_of_all_kinds(MANY, 9);
	struct buffers b;
	uint64_t left = MANY;
	uint32_t i, j;

	buffers_init(&b);
	each_batch(dev, &b, shared, MANY, 1, 16, store_all);
	for (i = 0; i < THREADS; i++) {
		worker[i].dev = dev;
		worker[i].shared = shared;
		worker[i].random = 100 + i;
		CHECK_EQ(pthread_create(&worker[i].thread, NULL, work, &worker[i]), 0);
	}
	for (i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(worker[i].thread, NULL), 0);
	for (i = 0; i < THREADS; i++) {
		load_stored(dev, &b, worker[i].own, OWN);
		for (j = 0; j < OWN; j++)
			left += worker[i].own[j].stored;
	}
	each_batch(dev, &b, shared, MANY, 1, UHMM_BATCH_MAX, load);
	CHECK_EQ(stat_of(dev).pages, left);
	CHECK_EQ(pages_in_all(dev), left);
	device_close(dev);
	free(shared);
	free(worker);
	buffers_fini(&b);
}

TEST(threads_while_pages_sink, .timeout_s = 120)
{
	worked_on("ram:size=1M,ram");
	worked_on("ram:size=1M,lz4:size=1M,ram");
	worked_on("error:ppm=50000+ram,delay:store=100+lz4:size=1M,lz4");
}
