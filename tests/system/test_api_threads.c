/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that read and write anywhere while others migrate to and fro: every page tells
 * whether it is what was last written. Each word has one writer, each page many.
 */
#include "api.h"

#include <pthread.h>

#define NR 768u

struct shared {
	struct uhmm_space *space;
	struct uhmm_device *dev[2];
	char *p;
	uint32_t stop;
};

struct one {
	pthread_t thread;
	struct shared *s;
	unsigned slot;
	uint64_t rounds;
	uint64_t last[NR];
};

static void start(struct one *one, struct shared *s, unsigned slot, void *(*fn)(void *))
{
	*one = (struct one){ .s = s, .slot = slot };
	CHECK_EQ(pthread_create(&one->thread, NULL, fn, one), 0);
}

static void one_more(struct one *one)
{
	__atomic_fetch_add(&one->rounds, 1, __ATOMIC_RELAXED);
}

/* Until each has been round once, however many want a processor. */
static void wait_for(struct one *one, unsigned nr)
{
	while (nr--)
		while (!__atomic_load_n(&one[nr].rounds, __ATOMIC_RELAXED))
			usleep(1000);
}

static void run_for(struct one *one, unsigned nr, uint32_t *stop, int ms)
{
	usleep((useconds_t)ms * 1000);
	wait_for(one, nr);
	__atomic_store_n(stop, 1, __ATOMIC_RELAXED);
	while (nr--)
		pthread_join(one[nr].thread, NULL);
}

/* Its own word of every page: four of them, spread over the page. */
static void *read_and_write(void *arg)
{
	struct one *me = arg;
	struct rng rng = { me->slot };

	while (!__atomic_load_n(&me->s->stop, __ATOMIC_RELAXED)) {
		unsigned i = (unsigned)rng_below(&rng, NR), k;
		volatile uint64_t *word = (volatile uint64_t *)(me->s->p + i * PAGE) +
					  me->slot;

		for (k = 0; k < 4; k++)
			CHECK(word[k * 128] == me->last[i],
			      "page %u, word %u: 0x%jx, not 0x%jx", i, k * 128,
			      (uintmax_t)word[k * 128], (uintmax_t)me->last[i]);
		if (rng_next(&rng) & 1) {
			me->last[i] = rng_next(&rng);
			for (k = 0; k < 4; k++)
				word[k * 128] = me->last[i];
		}
		one_more(me);
	}
	return NULL;
}

static void *migrate(void *arg)
{
	struct one *me = arg;
	struct rng rng = { me->slot };
	uint8_t results[NR];

	while (!__atomic_load_n(&me->s->stop, __ATOMIC_RELAXED)) {
		size_t i = rng_below(&rng, NR), nr = 1 + rng_below(&rng, NR - i), moved;
		unsigned to = (unsigned)rng_below(&rng, 3);

		memset(results, 0xff, sizeof(results));
		CHECK_EQ(uhmm_migrate(me->s->space, me->s->p + i * PAGE, nr * PAGE,
				      to < 2 ? me->s->dev[to] : NULL, results, &moved),
			 0);
		CHECK_EQ(api_count(results, nr, UHMM_MOVED), moved);
		CHECK_EQ(api_count(results, nr, UHMM_UNMOVABLE), 0);
		CHECK_EQ(api_count(results, nr, UHMM_LOST), 0);
		CHECK_EQ(api_count(results, nr, (enum uhmm_result)0xff), 0);
		one_more(me);
	}
	return NULL;
}

static void open_shared(struct shared *s, uint32_t delivery, uint64_t budget)
{
	*s = (struct shared){ .space = api_space(delivery, budget), .p = api_map(NR) };
	s->dev[0] = api_device(s->space, "ram");
	s->dev[1] = api_device(s->space, "lz4");
}

API_TEST(threads_use_pages_that_others_migrate, .timeout_s = 60)
{
	static struct shared s;
	static struct one one[5];
	unsigned i;

	open_shared(&s, delivery, 0);
	for (i = 0; i < 3; i++)
		start(&one[i], &s, i, read_and_write);
	for (; i < 5; i++)
		start(&one[i], &s, i, migrate);
	run_for(one, 5, &s.stop, 1500);
	api_destroy(s.space);
}

/* Pages that move, vanish and change protection under those who migrate them. */
static void *change_mappings(void *arg)
{
	struct one *me = arg;
	struct rng rng = { me->slot };
	char *there = api_map(NR), *p = api_map(NR), *at = p, *to = there, *q;
	uint64_t key = 1;

	while (!__atomic_load_n(&me->s->stop, __ATOMIC_RELAXED)) {
		api_fill(at, 64, key);
		CHECK_EQ(uhmm_migrate(me->s->space, at, 64 * PAGE, me->s->dev[0], NULL,
				      NULL),
			 0);
		switch (rng_below(&rng, 4)) {
		case 0:
			CHECK(mremap(at, 64 * PAGE, 64 * PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
			q = at;
			at = to;
			to = q;
			break;
		case 1:
			CHECK_EQ(mprotect(at, 32 * PAGE, PROT_READ), 0);
			api_check(at, 64, key);
			CHECK_EQ(mprotect(at, 32 * PAGE, PROT_READ | PROT_WRITE), 0);
			break;
		case 2:
			CHECK_EQ(madvise(at, 8 * PAGE, MADV_DONTNEED), 0);
			CHECK_EQ(*at, 0);
			api_fill(at, 8, key);
			break;
		default:
			/* All that mremap() is to move: a part is not registered. */
			CHECK(mmap(at, 64 * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
			CHECK_EQ(at[15 * PAGE], 0);
			api_fill(at, 64, key);
			break;
		}
		api_check(at, 64, key);
		key += 64;
		one_more(me);
	}
	return NULL;
}

/* Two threads that do this beside one that uses the pages and one that migrates them. */
static void two_of(void *(*fn)(void *), uint32_t delivery, int ms)
{
	static struct shared s;
	static struct one one[4];

	open_shared(&s, delivery, 0);
	start(&one[0], &s, 0, read_and_write);
	start(&one[1], &s, 1, migrate);
	start(&one[2], &s, 2, fn);
	start(&one[3], &s, 3, fn);
	run_for(one, 4, &s.stop, ms);
	api_destroy(s.space);
}

API_TEST(mappings_change_while_others_migrate, .timeout_s = 60)
{
	two_of(change_mappings, delivery, 1500);
}

static void *pin_and_use(void *arg)
{
	struct one *me = arg;
	struct rng rng = { me->slot };

	while (!__atomic_load_n(&me->s->stop, __ATOMIC_RELAXED)) {
		size_t i = rng_below(&rng, NR - 16);
		char *p = me->s->p + i * PAGE;

		CHECK_EQ(uhmm_advise(me->s->space, p, 16 * PAGE, UHMM_ADVISE_PIN), 0);
		api_stats(me->s->space);
		/* Pinned, so there: those that were ever written. */
		*((volatile uint64_t *)p + me->slot) = i;
		CHECK_EQ(api_resident(p, 1), 1);
		CHECK_EQ(uhmm_advise(me->s->space, p, 16 * PAGE, UHMM_ADVISE_UNPIN), 0);
		one_more(me);
	}
	return NULL;
}

API_TEST(pins_hold_while_others_migrate, .timeout_s = 60)
{
	two_of(pin_and_use, delivery, 1000);
}

/* The worker reclaims what the others migrate, back and forth with the budget. */
API_TEST(a_budget_comes_and_goes_while_others_migrate, .timeout_s = 60)
{
	static struct shared s;
	static struct one one[3];
	int i;

	open_shared(&s, delivery, 0);
	CHECK_EQ(uhmm_manage(s.space, s.p, NR * PAGE), 0);
	for (i = 0; i < 2; i++)
		start(&one[i], &s, (unsigned)i, read_and_write);
	start(&one[2], &s, 2, migrate);
	for (i = 0; i < 20; i++) {
		CHECK_EQ(uhmm_budget_set(s.space, i % 2 ? 0 : 4 * MIB), 0);
		usleep(50000);
	}
	CHECK_EQ(uhmm_budget_set(s.space, 0), 0);
	run_for(one, 3, &s.stop, 10);
	api_destroy(s.space);
}

/* ---- more threads that fault than one read tells of -------------------------------- */

#define CROWD 120u

static void *look_anywhere(void *arg)
{
	struct one *me = arg;
	struct rng rng = { me->slot };
	volatile char *p = me->s->p;

	for (; !__atomic_load_n(&me->s->stop, __ATOMIC_RELAXED); one_more(me))
		(void)p[rng_below(&rng, NR) * PAGE];
	return NULL;
}

static void *send_all_away(void *arg)
{
	struct one *me = arg;

	for (; !__atomic_load_n(&me->s->stop, __ATOMIC_RELAXED); one_more(me))
		uhmm_migrate(me->s->space, me->s->p, NR * PAGE, me->s->dev[0], NULL,
			     NULL);
	return NULL;
}

/*
 * The kernel tells of faults before it tells of an event, and fills no page while an
 * event is unread: so many threads that fault again could hide it for ever.
 */
TEST(events_are_read_where_many_threads_fault, .timeout_s = 60)
{
	struct shared s = { .space = api_space(UHMM_DELIVERY_THREAD, 0),
			    .p = api_map(NR) };
	static struct one one[CROWD + 1];
	unsigned i;

	s.dev[0] = api_device(s.space, "ram");
	api_fill(s.p, NR, 1);
	for (i = 0; i < CROWD; i++)
		start(&one[i], &s, i, look_anywhere);
	start(&one[CROWD], &s, CROWD, send_all_away);
	wait_for(one, CROWD + 1);
	for (i = 0; i < 40; i++) {
		char *p = api_map(16);

		api_fill(p, 16, i);
		uhmm_migrate(s.space, p, 16 * PAGE, s.dev[0], NULL, NULL);
		api_unmap(p, 16);
	}
	run_for(one, CROWD + 1, &s.stop, 0);
	api_check(s.p, NR, 1);
	api_destroy(s.space);
}
