/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm_manage() and budgets: held while threads use more than there is, over the ranges
 * that were given and no others, to the page; and what the statistics say of it.
 */
#include "api.h"

#include <pthread.h>

#define MB ((size_t)1 << 20)
#define TOLERANCE ((int64_t)(16 * MB))

/* ---- ranges ----------------------------------------------------------------------- */

API_TEST(only_so_many_ranges_are_managed)
{
	struct uhmm_space *space = api_space(delivery, 0);
	char *p = api_map(2100);
	size_t i;

	for (i = 0; i < 1024; i++)
		CHECK_EQ(uhmm_manage(space, p + 2 * i * PAGE, PAGE), 0);
	CHECK_EQ(uhmm_manage(space, p + 2 * i * PAGE, PAGE), -ENOSPC);
	/* Adjacent ones are one. */
	CHECK_EQ(uhmm_manage(space, p + PAGE, PAGE), 0);
	CHECK_EQ(uhmm_manage(space, p + 2 * i * PAGE, PAGE), 0);
	CHECK_EQ(uhmm_unmanage(space, p, 2100 * PAGE), 0);
	CHECK_EQ(uhmm_manage(space, p, 2100 * PAGE), 0);
	api_destroy(space);
}

API_TEST(reclaim_takes_from_managed_ranges_alone, .timeout_s = 60)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *lz4;
	char *a = api_map(16 * MB / PAGE), *b = api_map(16 * MB / PAGE);

	api_fill(a, 16 * MB / PAGE, 1);
	api_fill(b, 16 * MB / PAGE, 100000);
	CHECK_EQ(uhmm_manage(space, a, 16 * MB), 0);
	/* Without a device nothing can go, whatever the budget. */
	CHECK_EQ(uhmm_budget_set(space, 1 * MB), 0);
	usleep(100000);
	CHECK_EQ(api_resident(a, 16 * MB / PAGE), 16 * MB / PAGE);
	lz4 = api_device(space, "lz4");
	CHECK_SOON(api_stats(space).now_device > 12 * MB / PAGE);
	CHECK_EQ(api_resident(b, 16 * MB / PAGE), 16 * MB / PAGE);
	CHECK_EQ(uhmm_unmanage(space, a, 16 * MB), 0);
	CHECK_EQ(uhmm_budget_set(space, 0), 0);
	/* Where they are they stay. */
	CHECK_GT(api_stats(space).now_device, 12 * MB / PAGE);
	api_check(a, 16 * MB / PAGE, 1);
	api_check(b, 16 * MB / PAGE, 100000);
	CHECK_EQ(uhmm_device_close(space, lz4), 0);
	api_destroy(space);
}

/*
 * What a full device does not take comes back, and is not offered over and over: nobody
 * who waits for room there is any need to hurry.
 */
API_TEST(a_full_device_is_left_alone, .timeout_s = 60)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *lz4 = api_device(space, "lz4:size=4M");
	size_t nr = 32 * MB / PAGE;
	char *p = api_map(nr);
	uint64_t before;

	madvise(p, 32 * MB, MADV_HUGEPAGE);
	api_fill(p, nr, 1);
	CHECK_EQ(uhmm_manage(space, p, 32 * MB), 0);
	CHECK_EQ(uhmm_budget_set(space, 8 * MB), 0);
	CHECK_SOON(api_stats(space).store_failed > 0);
	usleep(500000);
	before = api_stats(space).isolated;
	usleep(500000);
	/* Some 10 tries of at most 64 steps; it was as many as the processor could do. */
	CHECK_LE(api_stats(space).isolated - before, 10 * 64 * 512);
	api_check(p, nr, 1);
	CHECK_EQ(uhmm_budget_set(space, 0), 0);
	CHECK_EQ(uhmm_device_close(space, lz4), 0);
	api_check(p, nr, 1);
	api_destroy(space);
}

/* ---- a budget --------------------------------------------------------------------- */

struct user {
	pthread_t thread;
	char *p;
	size_t nr;
	unsigned rounds, seed;
	uint32_t *running;
};

/* Its own pages: first all in sequence, then anywhere. */
static void *use(void *arg)
{
	struct user *u = arg;
	uint64_t *key = calloc(u->nr, sizeof(*key));
	struct rng rng = { u->seed };
	size_t i, r;

	CHECK(key);
	for (i = 0; i < u->nr; i++) {
		key[i] = rng_next(&rng) | 1;
		stamp_fill(u->p + i * PAGE, key[i]);
	}
	for (r = 0; r < u->rounds * u->nr; r++) {
		i = rng_below(&rng, u->nr);
		CHECK(stamp_check(u->p + i * PAGE, key[i]) == PAGE_WORDS, "page %zu", i);
		if (r % 3 == 0) {
			key[i] = rng_next(&rng) | 1;
			stamp_fill(u->p + i * PAGE, key[i]);
		}
	}
	for (i = 0; i < u->nr; i++)
		CHECK(stamp_check(u->p + i * PAGE, key[i]) == PAGE_WORDS, "page %zu", i);
	free(key);
	__atomic_fetch_sub(u->running, 1, __ATOMIC_RELEASE);
	return NULL;
}

API_TEST(a_budget_is_held_while_threads_use_twice_of_it, .timeout_s = 90)
{
	/* A sanitizer's own memory is above it, so then each touch is a fault. */
	size_t budget = (test_instrument() ? 12 : 48) * MB, nr = budget / PAGE, i;
	struct uhmm_space *space = api_space(delivery, 0);
	int64_t base, most = 0, now;
	uint32_t running = 2;
	struct user u[2];
	char *p[2];

	api_device(space, "lz4");
	base = api_rss_bytes();
	CHECK_EQ(uhmm_budget_set(space, (uint64_t)base + budget), 0);
	for (i = 0; i < 2; i++) {
		p[i] = api_map(nr);
		CHECK_EQ(uhmm_manage(space, p[i], nr * PAGE), 0);
		u[i] = (struct user){ .p = p[i],
				      .nr = nr,
				      .seed = (unsigned)i + 1,
				      .rounds = 1,
				      .running = &running };
	}
	for (i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&u[i].thread, NULL, use, &u[i]), 0);
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		now = api_rss_bytes();
		most = now > most ? now : most;
		usleep(2000);
	}
	for (i = 0; i < 2; i++)
		pthread_join(u[i].thread, NULL);
	/* A sanitizer's shadow of it all is memory too, and cannot be migrated. */
	if (!test_instrument())
		CHECK_LE(most, base + (int64_t)budget + TOLERANCE);
	CHECK_GT(api_stats(space).stored, nr / 2);
	CHECK_GT(api_stats(space).loaded, nr / 4);
	api_destroy(space);
}

/* ---- statistics ------------------------------------------------------------------- */

/*
 * Each page that was isolated is stored, back, dropped, or on probation. A load is
 * counted a while after its page is there, and after its copy was freed: until then it
 * adds up only by chance.
 */
static bool adds_up(const struct uhmm_stats *s)
{
	return s->isolated == s->stored + s->restored + s->now_probation &&
	       s->stored == s->now_device + s->loaded + s->dropped &&
	       s->device_bytes_in == s->now_device * PAGE &&
	       s->loaded == s->fault_device + s->prefetch &&
	       s->prefetch_vain <= s->prefetch;
}

API_TEST(statistics_add_up)
{
	struct uhmm_space *space = api_space(delivery, 0);
	struct uhmm_device *ram = api_device(space, "ram"),
			   *lz4 = api_device(space, "lz4");
	const size_t nr = 2048;
	char *p = api_map(nr);
	struct uhmm_stats s;
	size_t i;

	s = api_stats(space);
	CHECK_EQ(s.isolated + s.stored + s.loaded + s.restored + s.now_device, 0);
	api_fill(p, nr, 1);
	api_move(space, p, nr / 2, ram, UHMM_MOVED);
	api_move(space, p + nr / 2 * PAGE, nr / 2, lz4, UHMM_MOVED);
	CHECK_EQ(madvise(p, 100 * PAGE, MADV_DONTNEED), 0);
	for (i = 100; i < nr; i += 7)
		api_check(p + i * PAGE, 1, 1 + i);
	CHECK_SOON((s = api_stats(space), adds_up(&s)));
	CHECK_EQ(s.isolated, nr);
	CHECK_EQ(s.dropped, 100);
	CHECK_EQ(s.now_device, nr - 100 - s.loaded);
	CHECK_GT(s.metadata_bytes, 0);
	CHECK_GT(s.rss_anon_bytes, api_resident(p, nr) * PAGE);
	api_destroy(space);
}

API_TEST(a_refault_is_one_on_a_page_stored_lately)
{
	/* The least that a space has frames for: 8,192 pages. A quarter is 2,048. */
	struct uhmm_space *space = api_space(delivery, 32 * MB);
	struct uhmm_device *ram = api_device(space, "ram");
	char *p = api_map(256), *q = api_map(512);
	struct uhmm_stats s;
	int i;

	CHECK_EQ(uhmm_budget_set(space, 0), 0);
	api_fill(p, 256, 1);
	api_fill(q, 512, 1000);
	api_move(space, p, 256, ram, UHMM_MOVED);
	/* 1,024 stores later: not long ago. */
	for (i = 0; i < 2; i++) {
		api_move(space, q, 512, ram, UHMM_MOVED);
		api_move(space, q, 512, NULL, UHMM_MOVED);
	}
	for (i = 0; i < 128; i += 8)
		api_check(p + i * PAGE, 1, 1 + (uint64_t)i);
	CHECK_SOON((s = api_stats(space), s.fault_device >= 1));
	usleep(10000);
	s = api_stats(space);
	CHECK_EQ(s.refault, s.fault_device);
	/* 5,120: long ago. */
	for (i = 0; i < 8; i++) {
		api_move(space, q, 512, ram, UHMM_MOVED);
		api_move(space, q, 512, NULL, UHMM_MOVED);
	}
	api_check(p + 128 * PAGE, 128, 129);
	CHECK_SOON(api_stats(space).fault_device > s.fault_device);
	CHECK_EQ(api_stats(space).refault, s.refault);
	api_destroy(space);
}

TEST(statistics_of_older_and_newer_callers)
{
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0);
	struct {
		struct uhmm_stats s;
		uint64_t more[4];
	} newer = { .s = { .size = sizeof(newer) } };
	struct uhmm_stats older;

	memset(newer.more, 0x5a, sizeof(newer.more));
	CHECK_EQ(uhmm_stats_get(space, &newer.s), 0);
	CHECK_EQ(newer.s.size, sizeof(struct uhmm_stats));
	CHECK_EQ(newer.more[0], UINT64_C(0x5a5a5a5a5a5a5a5a));
	memset(&older, 0x5a, sizeof(older));
	older.size = offsetof(struct uhmm_stats, fault_zero);
	CHECK_EQ(uhmm_stats_get(space, &older), 0);
	CHECK_EQ(older.size, offsetof(struct uhmm_stats, fault_zero));
	CHECK_EQ(older.fault_device, 0);
	CHECK_EQ(older.fault_zero, UINT64_C(0x5a5a5a5a5a5a5a5a));
	older.size = 0;
	CHECK_EQ(uhmm_stats_get(space, &older), -EINVAL);
	CHECK_EQ(uhmm_stats_get(space, NULL), -EINVAL);
	api_destroy(space);
}
