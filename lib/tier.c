/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of a device of tiers: see tier.h.
 */
#include "lib/tier.h"

#include <errno.h>

#include "lib/tier_internal.h"

static void count(uint64_t *counter, uint64_t n)
{
	if (n)
		__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static uint64_t counted(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* ---- batches --------------------------------------------------------------------- */

static void refuse(struct uhmm_io *io, uint32_t nr, int result)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		io[i].result = result;
}

/* Those that found a place are the newest there. Returns how many. */
static uint32_t enter(struct tiers *t, struct uhmm_io *io, const uint8_t *tier,
		      const uint32_t *record, uint32_t nr)
{
	uint32_t i, entered = 0;

	uhmm_lock(&t->lock);
	for (i = 0; i < nr; i++) {
		bool alone = io[i].len != UHMM_PAGE_SIZE;
		uint64_t word = word_of(tier[i], io[i].page);

		if (io[i].result) {
			record_give(t, record[i]);
			continue;
		}
		/* Before anybody knows its number, but for a mover, who has the lock. */
		__atomic_store_n(&record_at(t, record[i])->word,
				 word | (alone ? WORD_ALONE : 0), __ATOMIC_RELAXED);
		if (!alone)
			list_add_newest(t, tier[i], record[i]);
		io[i].page = record[i];
		entered++;
	}
	uhmm_unlock(&t->lock);
	return entered;
}

static bool all_full(const struct uhmm_io *io, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr && io[i].result == -ENOSPC; i++)
		;
	return i == nr;
}

static void tiers_store(struct tiers *t, struct uhmm_batch *batch)
{
	uint64_t freed = __atomic_load_n(&t->freed, __ATOMIC_ACQUIRE);
	uint32_t record[UHMM_BATCH_MAX], nr = 0, stored = 0;
	uint8_t tier[UHMM_BATCH_MAX];

	if (freed == __atomic_load_n(&t->full_at, __ATOMIC_RELAXED)) {
		refuse(batch->io, batch->nr, -ENOSPC);
	} else {
		nr = records_take(t, record, batch->nr);
		refuse(batch->io + nr, batch->nr - nr, -ENOMEM);
	}
	if (nr) {
		tiers_place(t, 0, batch->io, tier, nr);
		stored = enter(t, batch->io, tier, record, nr);
		if (all_full(batch->io, nr))
			__atomic_store_n(&t->full_at, freed, __ATOMIC_RELAXED);
	}
	count(&t->pages, stored);
	count(&t->stores, stored);
	count(&t->store_failures, batch->nr - stored);
}

/* A page stays where it is while readers are counted in its record. */
static void tiers_load(struct tiers *t, struct uhmm_batch *batch)
{
	uint64_t word[UHMM_BATCH_MAX];
	uint32_t i, failed = 0;

	for (i = 0; i < batch->nr; i++)
		/* Acquire: with the release of who moved it there. */
		word[i] = __atomic_fetch_add(&record_at(t, batch->io[i].page)->word,
					     WORD_READER, __ATOMIC_ACQUIRE);
	tiers_run(t, UHMM_OP_LOAD, batch->io, word, batch->nr);
	for (i = 0; i < batch->nr; i++) {
		/* Release: with the acquire of who moves it then, and frees this copy. */
		__atomic_fetch_sub(&record_at(t, batch->io[i].page)->word, WORD_READER,
				   __ATOMIC_RELEASE);
		failed += batch->io[i].result != 0;
	}
	count(&t->loads, batch->nr - failed);
	count(&t->load_failures, failed);
}

/* Nobody moves anything, and nothing may be left in the records. */
static void tiers_load_frozen(struct tiers *t, struct uhmm_batch *batch)
{
	uint32_t i;

	for (i = 0; i < batch->nr; i++) {
		struct uhmm_io io = batch->io[i];
		uint64_t word = __atomic_load_n(&record_at(t, io.page)->word,
						__ATOMIC_ACQUIRE);

		io.page = word & WORD_PAGE;
		batch->io[i].result = device_peek(t->tier[word_tier(word)].dev, &io);
	}
}

/* What moves the mover frees. Of the others, their words; how many. */
static uint32_t leave(struct tiers *t, const struct uhmm_batch *batch, uint64_t *word)
{
	uint32_t i, n = 0;

	uhmm_lock(&t->lock);
	for (i = 0; i < batch->nr; i++) {
		uint32_t nr = (uint32_t)batch->io[i].page;
		uint64_t *at = &record_at(t, nr)->word;

		word[n] = __atomic_load_n(at, __ATOMIC_RELAXED);
		if (word[n] & WORD_MOVING) {
			__atomic_or_fetch(at, WORD_DROPPED, __ATOMIC_RELAXED);
			continue;
		}
		if (!(word[n] & WORD_ALONE))
			list_remove(t, word_tier(word[n]), nr);
		record_give(t, nr);
		n++;
	}
	uhmm_unlock(&t->lock);
	return n;
}

static void tiers_free(struct tiers *t, struct uhmm_batch *batch)
{
	struct uhmm_io io[UHMM_BATCH_MAX] = { 0 };
	uint64_t word[UHMM_BATCH_MAX];
	uint32_t nr = leave(t, batch, word);

	if (nr)
		tiers_run(t, UHMM_OP_FREE, io, word, nr);
	/* Release: with the acquire of a store, which finds the room. */
	__atomic_fetch_add(&t->freed, nr, __ATOMIC_RELEASE);
	refuse(batch->io, batch->nr, 0);
	count(&t->pages, -(uint64_t)batch->nr);
	count(&t->frees, batch->nr);
}

static int tiers_submit(void *dev, struct uhmm_batch *batch)
{
	static void (*const run[])(struct tiers *, struct uhmm_batch *) = {
		[UHMM_OP_STORE] = tiers_store,
		[UHMM_OP_LOAD] = tiers_load,
		[UHMM_OP_FREE] = tiers_free,
	};

	if (batch->flags & UHMM_BATCH_FROZEN)
		tiers_load_frozen(dev, batch);
	else
		run[batch->op](dev, batch);
	batch->complete(batch);
	return 0;
}

/* ---- the rest -------------------------------------------------------------------- */

static int tiers_flush(void *dev)
{
	struct tiers *t = dev;
	uint32_t k;
	int r = 0, r2;

	for (k = 0; k < t->nr; k++) {
		r2 = device_flush(t->tier[k].dev);
		r = r ? r : r2;
	}
	return r;
}

static bool any_is_shared(const struct tiers *t)
{
	uint32_t k = 0;

	while (k < t->nr && !device_is_shared(t->tier[k].dev))
		k++;
	return k < t->nr;
}

static void tiers_before_fork(void *dev)
{
	struct tiers *t = dev;
	uint32_t k;

	for (k = 0; k < t->nr; k++)
		device_before_fork(t->tier[k].dev);
}

static void tiers_fork_failed(void *dev)
{
	struct tiers *t = dev;
	uint32_t k;

	for (k = 0; k < t->nr; k++)
		device_fork_failed(t->tier[k].dev);
}

/* Nothing moves while a process forks: that is within a batch. */
static int tiers_after_fork(void *dev)
{
	struct tiers *t = dev;
	uint32_t k;
	int r = 0;

	t->lock.word = 0;
	for (k = 0; k < t->nr && !r; k++) {
		t->tier[k].moving.word = 0;
		r = device_after_fork(t->tier[k].dev);
	}
	return r;
}

static uint64_t own_bytes(void)
{
	return (sizeof(struct tiers) + UHMM_PAGE_SIZE - 1) / UHMM_PAGE_SIZE *
	       UHMM_PAGE_SIZE;
}

/* Pages by what was asked of this device: to a tier, moving is storing and freeing. */
static void tiers_stat(void *dev, struct uhmm_device_stat *stat)
{
	struct tiers *t = dev;
	uint32_t k;

	stat->bytes_metadata = own_bytes() + records_bytes(t);
	stat->bytes_resident = stat->bytes_metadata;
	for (k = 0; k < t->nr; k++) {
		struct uhmm_device_stat s = { .size = sizeof(s) };

		device_stat(t->tier[k].dev, &s);
		stat->pages_same += s.pages_same;
		stat->pages_raw += s.pages_raw;
		stat->bytes_in += s.bytes_in;
		stat->bytes_stored += s.bytes_stored;
		stat->bytes_resident += s.bytes_resident;
		stat->bytes_metadata += s.bytes_metadata;
	}
	stat->pages = counted(&t->pages);
	stat->stores = counted(&t->stores);
	stat->loads = counted(&t->loads);
	stat->frees = counted(&t->frees);
	stat->store_failures = counted(&t->store_failures);
	stat->load_failures = counted(&t->load_failures);
}

/* ---- create, close --------------------------------------------------------------- */

static void tiers_release(struct tiers *t)
{
	records_close(t);
	uhmm_host_unmap(t, sizeof(*t));
}

static void tiers_close(void *dev)
{
	struct tiers *t = dev;
	uint32_t k;

	for (k = 0; k < t->nr; k++)
		device_close(t->tier[k].dev);
	tiers_release(t);
}

/* What holds for all of them. */
static void make_driver(struct tiers *t)
{
	uint32_t flags = UHMM_DRIVER_RECLAIM_SAFE | UHMM_DRIVER_MEMORY |
			 UHMM_DRIVER_SECRET;
	uint32_t batch = UHMM_BATCH_MAX, hint, k;

	for (k = 0; k < t->nr; k++) {
		flags &= device_flags(t->tier[k].dev);
		hint = device_batch_hint(t->tier[k].dev);
		batch = hint < batch ? hint : batch;
	}
	t->driver = (struct uhmm_driver){
		.size = sizeof(t->driver),
		.name = "tiers",
		.summary = "several devices, each where the one before is full",
		.flags = flags,
		.thread_model = UHMM_THREAD_PARALLEL,
		.batch = batch,
		.close = tiers_close,
		.submit = tiers_submit,
		.flush = tiers_flush,
		.after_fork = tiers_after_fork,
		.stat = tiers_stat,
	};
	if (any_is_shared(t)) {
		t->driver.before_fork = tiers_before_fork;
		t->driver.fork_failed = tiers_fork_failed;
	}
}

int tier_create(struct uhmm_device *const *tier, uint32_t nr, struct uhmm_device **dev)
{
	struct tiers *t = uhmm_host_map(sizeof(*t));
	uint32_t k;
	int r = -ENOMEM;

	if (!t)
		return -ENOMEM;
	t->nr = nr;
	t->full_at = UINT64_MAX;
	for (k = 0; k < nr; k++)
		t->tier[k].dev = tier[k];
	make_driver(t);
	if (records_open(t))
		r = device_wrap(&t->driver, t, dev);
	if (r)
		tiers_release(t);
	return r;
}

bool tier_is_driver(const struct uhmm_driver *driver)
{
	return driver->submit == tiers_submit;
}

struct uhmm_device *tier_at(void *impl, uint32_t k)
{
	const struct tiers *t = impl;

	return k < t->nr ? t->tier[k].dev : NULL;
}
