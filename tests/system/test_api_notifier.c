/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/range.h>: notifiers are told of everything that happens to what they are for, in
 * time; and finding a space.
 */
#include "mirror.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#define NR 256u

static void *touch(void *arg)
{
	return (void *)(uintptr_t) * (volatile char *)arg;
}

/* ---- what is told ------------------------------------------------------------------ */

API_TEST(what_the_program_does_to_its_mappings_is_told)
{
	char *p = api_map(NR), *to = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR), *other;
	unsigned i;

	other = mirror_join(m->space, to, NR);
	api_fill(p, NR, 1);
	/* Nobody has migrated it, but it is mirrored. */
	CHECK_EQ(mirror_map(m, p, NR, 0), 0);
	mirror_told_nothing(m);
	CHECK_EQ(munmap(p, 8 * PAGE), 0);
	mirror_told(m, UHMM_EVENT_UNMAP, p, 8, NULL);
	CHECK_EQ(madvise(p + 16 * PAGE, 3 * PAGE, MADV_DONTNEED), 0);
	mirror_told(m, UHMM_EVENT_CLEAR, p + 16 * PAGE, 3, NULL);
	CHECK_EQ(mirror_map(other, to, NR, UHMM_RANGE_REQ_FAULT), 0);
	CHECK(mremap(p + 32 * PAGE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     to + 64 * PAGE) == to + 64 * PAGE);
	mirror_told(m, UHMM_EVENT_UNMAP, p + 32 * PAGE, 4, NULL);
	mirror_told(other, UHMM_EVENT_UNMAP, to + 64 * PAGE, 4, NULL);
	CHECK(mmap(p + 40 * PAGE, PAGE, PROT_READ,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 40 * PAGE);
	mirror_told(m, UHMM_EVENT_UNMAP, p + 40 * PAGE, 1, NULL);
	for (i = 0; i < NR; i++)
		CHECK_EQ(mirror_at(m, i) == 0,
			 i < 8 || (i >= 16 && i < 19) || (i >= 32 && i < 36) || i == 40);
	for (i = 0; i < NR; i++)
		CHECK_EQ(mirror_at(other, i) == 0, i >= 64 && i < 68);
	mirror_leave(other);
	mirror_close(m);
}

/* The mapping stays: there is no munmap() of it that would tell the same once more. */
API_TEST(pages_that_leave_their_mapping_are_told)
{
	char *p = api_map(NR), *to = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	unsigned i;

	api_fill(p, NR, 1);
	CHECK_EQ(mirror_map(m, p, NR, 0), 0);
	CHECK(mremap(p + 32 * PAGE, 4 * PAGE, 4 * PAGE,
		     MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		     to + 64 * PAGE) == to + 64 * PAGE);
	mirror_told(m, UHMM_EVENT_UNMAP, p + 32 * PAGE, 4, NULL);
	for (i = 0; i < NR; i++)
		CHECK_EQ(mirror_at(m, i) == 0, i >= 32 && i < 36);
	api_check(to + 64 * PAGE, 4, 33);
	mirror_close(m);
}

API_TEST(what_the_library_does_is_told)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	struct uhmm_device *ram = api_device(m->space, "ram");

	api_fill(p, NR, 1);
	CHECK_EQ(mirror_map(m, p, NR, 0), 0);
	api_move(m->space, p, 100, ram, UHMM_MOVED);
	mirror_told(m, UHMM_EVENT_CLEAR, p, 100, NULL);
	CHECK(!mirror_at(m, 0) && !mirror_at(m, 99) && mirror_at(m, 100));
	/* What the device could not use comes back without a word. */
	api_check(p, 50, 1);
	CHECK_EQ(uhmm_migrate(m->space, p, 100 * PAGE, NULL, NULL, NULL), 0);
	CHECK_EQ(api_resident(p, NR), NR);
	mirror_told_nothing(m);
	mirror_migrate(m, p, 10);
	mirror_told(m, UHMM_EVENT_MIGRATE, p, 10, m);
	touch(p + 3 * PAGE);
	CHECK(mirror_heard(m, UHMM_EVENT_MIGRATE, p + 3 * PAGE, 1, NULL));
	CHECK(!mirror_heard(m, UHMM_EVENT_MIGRATE, p, 1, m));
	CHECK_GE(m->told_at, 1); /* before copy_to_ram() */
	mirror_clear(m);
	uhmm_protection_changed(m->space, (uintptr_t)p + 5, (uintptr_t)p + 6);
	CHECK_EQ(m->nr_log, 1);
	CHECK_EQ(m->log[0].event, UHMM_EVENT_PROTECTION);
	CHECK_EQ(m->log[0].start, (uintptr_t)p + 5);
	CHECK_EQ(m->log[0].end, (uintptr_t)p + 6);
	uhmm_protection_changed(m->space, (uintptr_t)p + 6, (uintptr_t)p + 6);
	CHECK_EQ(m->nr_log, 1);
	mirror_clear(m);
	api_check(p, NR, 1);
	mirror_close(m);
}

API_TEST(what_a_migration_does_is_told_at_setup_and_where_holes_are_filled)
{
	char *p = api_map(8);
	struct mirror *m = mirror_open(delivery, p, 8);
	uhmm_pfn_t src[8], dst[8];
	struct uhmm_migrate migrate = { .src = src, .dst = dst };

	p[0] = p[5 * PAGE] = 1;
	mirror_setup(m, p, 8, &migrate);
	uhmm_lock(&m->lock);
	CHECK_EQ(m->nr_log, 2);
	CHECK_EQ(m->log[0].start, (uintptr_t)p);
	CHECK_EQ(m->log[1].start, (uintptr_t)p + PAGE);
	CHECK_EQ(m->log[1].end, (uintptr_t)p + 8 * PAGE);
	uhmm_unlock(&m->lock);
	mirror_told(m, UHMM_EVENT_MIGRATE, p, 8, m);
	CHECK_EQ(uhmm_migrate_finalize(m->space, &migrate), 0);
	mirror_told_nothing(m);
	mirror_close(m);
}

API_TEST(who_passes_over_its_own_is_not_disturbed_by_it)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	uint64_t seq;

	m->own = m;
	api_fill(p, NR, 1);
	seq = uhmm_notifier_read_begin(m->notifier);
	mirror_migrate(m, p, NR);
	CHECK(!uhmm_notifier_read_retry(m->notifier, seq));
	api_check(p, NR, 1);
	CHECK(uhmm_notifier_read_retry(m->notifier, seq));
	mirror_close(m);
}

API_TEST(reclaim_tells)
{
	char *p = api_map(MIRROR_PAGES);
	struct mirror *m = mirror_open(delivery, p, MIRROR_PAGES);
	size_t i, gone = 0;

	api_device(m->space, "ram");
	api_fill(p, MIRROR_PAGES, 1);
	madvise(p, MIRROR_PAGES * PAGE, MADV_NOHUGEPAGE);
	CHECK_EQ(mirror_map(m, p, MIRROR_PAGES, 0), 0);
	CHECK_EQ(uhmm_manage(m->space, p, MIRROR_PAGES * PAGE), 0);
	CHECK_EQ(uhmm_budget_set(m->space, (uint64_t)api_rss_bytes() - (4 << 20)), 0);
	CHECK_SOON(api_stats(m->space).isolated > 100);
	CHECK_EQ(uhmm_budget_set(m->space, 0), 0);
	usleep(100000);
	for (i = 0; i < MIRROR_PAGES; i++) {
		CHECK(api_resident(p + i * PAGE, 1) || !mirror_at(m, i), "page %zu", i);
		gone += !mirror_at(m, i);
	}
	CHECK_GT(gone, 100);
	api_check(p, MIRROR_PAGES, 1);
	mirror_close(m);
}

API_TEST(the_end_is_told_and_survived)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	uint64_t seq = uhmm_notifier_read_begin(m->notifier);

	api_fill(p, NR, 1);
	mirror_migrate(m, p, 7);
	api_destroy(m->space);
	CHECK_EQ(m->log[m->nr_log - 1].event, UHMM_EVENT_RELEASE);
	CHECK_EQ(m->log[m->nr_log - 1].start, 0);
	CHECK_GE(m->log[m->nr_log - 1].end, (uintptr_t)p + NR * PAGE);
	CHECK(uhmm_notifier_read_retry(m->notifier, seq));
	CHECK_EQ(mirror_look(m, p, NR, 0), -EFAULT);
	uhmm_notifier_remove(m->notifier);
	uhmm_notifier_remove(NULL);
	api_check(p, NR, 1);
	uhmm_host_unmap(m->page, MIRROR_DEVICE_PAGES * PAGE);
	uhmm_host_unmap(m, sizeof(*m));
}

API_TEST(a_fork_is_told_and_its_child_begins_without_notifiers)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	int status;
	pid_t pid;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	api_fill(p, NR, 1);
	mirror_migrate(m, p, 8);
	CHECK_EQ(mirror_map(m, p, NR, 0), 0);
	mirror_clear(m);
	pid = fork();
	CHECK_GE(pid, 0);
	if (!pid) {
		m->nr_log = 0;
		CHECK_EQ(mirror_look(m, p, NR, 0), -EFAULT);
		CHECK_EQ(munmap(p + 16 * PAGE, PAGE), 0);
		api_check(p, 16, 1);
		mirror_migrate(m, p, 8);
		CHECK_EQ(m->nr_log, 0);
		uhmm_notifier_remove(m->notifier);
		CHECK_EQ(uhmm_space_destroy(m->space), 0);
		api_check(p, 16, 1);
		_exit(0);
	}
	CHECK(mirror_heard(m, UHMM_EVENT_PROTECTION, p, NR, NULL));
	CHECK_EQ(mirror_at(m, 0) | mirror_at(m, NR - 1), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(mirror_map(m, p, NR, 0), 0);
	CHECK(mirror_bytes(m, mirror_at(m, 3)) == m->page[mirror_at(m, 3) & 0xffff]);
	mirror_close(m);
}

/* ---- sequences --------------------------------------------------------------------- */

API_TEST(a_sequence_is_stale_once_something_was_told)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	uintptr_t at = (uintptr_t)p;
	uint64_t seq = uhmm_notifier_read_begin(m->notifier);

	CHECK_EQ(uhmm_notifier_read_begin(m->notifier), seq);
	CHECK(!uhmm_notifier_read_retry(m->notifier, seq));
	uhmm_protection_changed(m->space, at - 1, at);
	uhmm_protection_changed(m->space, at + NR * PAGE, at + NR * PAGE + 1);
	CHECK(!uhmm_notifier_read_retry(m->notifier, seq));
	uhmm_protection_changed(m->space, at + NR * PAGE - 1, at + NR * PAGE + 1);
	CHECK(uhmm_notifier_read_retry(m->notifier, seq));
	seq = uhmm_notifier_read_begin(m->notifier);
	CHECK_EQ(seq, m->last_seq);
	uhmm_protection_changed(m->space, at - 1, at + 1);
	CHECK(uhmm_notifier_read_retry(m->notifier, seq));
	CHECK_GT(uhmm_notifier_read_begin(m->notifier), seq);
	mirror_close(m);
}

struct beginner {
	pthread_t thread;
	struct mirror *m;
	bool done;
};

static void *begin(void *arg)
{
	struct beginner *b = arg;

	uhmm_notifier_read_begin(b->m->notifier);
	__atomic_store_n(&b->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* The page is being loaded: whoever begins to read now waits until it is there. */
API_TEST(who_reads_waits_while_something_is_invalidated)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	struct mirror *beside = mirror_join(m->space, p + NR * PAGE, 1);
	struct beginner b = { .m = m };
	pthread_t toucher;

	api_fill(p, NR, 1);
	mirror_migrate(m, p, NR);
	__atomic_store_n(&m->load_ms, 300, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_create(&toucher, NULL, touch, p), 0);
	CHECK_SOON(__atomic_load_n(&m->loading, __ATOMIC_SEQ_CST));
	CHECK_EQ(pthread_create(&b.thread, NULL, begin, &b), 0);
	uhmm_notifier_read_begin(beside->notifier); /* is not concerned */
	while (__atomic_load_n(&m->loading, __ATOMIC_SEQ_CST))
		CHECK(!__atomic_load_n(&b.done, __ATOMIC_SEQ_CST) ||
		      !__atomic_load_n(&m->loading, __ATOMIC_SEQ_CST));
	pthread_join(b.thread, NULL);
	pthread_join(toucher, NULL);
	__atomic_store_n(&m->load_ms, 0, __ATOMIC_RELAXED);
	mirror_leave(beside);
	mirror_close(m);
}

/* Who is about to load a page has seen that nobody need be told. */
API_TEST(the_first_notifier_begins_when_what_is_under_way_has_ended)
{
	char *p = api_map(NR);
	struct mirror *m = mirror_open(delivery, p, NR);
	pthread_t toucher;

	api_fill(p, NR, 1);
	mirror_migrate(m, p, NR);
	mirror_clear(m);
	mirror_remove(m);
	__atomic_store_n(&m->load_ms, 300, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_create(&toucher, NULL, touch, p), 0);
	CHECK_SOON(__atomic_load_n(&m->loading, __ATOMIC_SEQ_CST));
	mirror_insert(m);
	CHECK(!__atomic_load_n(&m->loading, __ATOMIC_SEQ_CST));
	__atomic_store_n(&m->load_ms, 0, __ATOMIC_RELAXED);
	pthread_join(toucher, NULL);
	mirror_told_nothing(m);
	mirror_close(m);
}

/* ---- intervals --------------------------------------------------------------------- */

#define MANY 300u
#define SPAN 2000u

struct counted {
	struct uhmm_notifier *notifier;
	uintptr_t start, len;
	unsigned calls, expected;
};

static void count_call(struct uhmm_notifier *n, void *ctx,
		       const struct uhmm_invalidation *what, uint64_t seq)
{
	struct counted *c = ctx;

	(void)what;
	uhmm_notifier_set_seq(n, seq);
	__atomic_fetch_add(&c->calls, 1, __ATOMIC_RELAXED);
}

static const struct uhmm_notifier_ops count_ops = {
	.size = sizeof(count_ops),
	.invalidate = count_call,
};

static void insert_random(struct uhmm_space *space, struct counted *c, unsigned *seed)
{
	*c = (struct counted){ .start = (uintptr_t)rand_r(seed) % SPAN,
			       .len = 1 + (uintptr_t)rand_r(seed) %
						  (rand_r(seed) % 8 ? 30 : SPAN) };
	CHECK_EQ(uhmm_notifier_insert(space, c->start, c->len, &count_ops, c,
				      &c->notifier),
		 0);
}

/* Bytes, not pages: nothing need be mapped there. */
TEST(those_and_only_those_are_told_whose_interval_is_touched)
{
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0);
	struct counted *c = uhmm_host_map(MANY * sizeof(*c));
	unsigned i, round, seed = 1;
	uintptr_t start, end;

	CHECK(c);
	for (i = 0; i < MANY; i++)
		insert_random(space, &c[i], &seed);
	for (round = 0; round < 2000; round++) {
		start = (uintptr_t)rand_r(&seed) % SPAN;
		end = start + 1 + (uintptr_t)rand_r(&seed) % 40;
		uhmm_protection_changed(space, start, end);
		for (i = 0; i < MANY; i++) {
			c[i].expected += c[i].start < end &&
					 start < c[i].start + c[i].len;
			CHECK_EQ(c[i].calls, c[i].expected);
		}
		i = (unsigned)rand_r(&seed) % MANY;
		uhmm_notifier_remove(c[i].notifier);
		insert_random(space, &c[i], &seed);
	}
	for (i = 0; i < MANY; i++)
		uhmm_notifier_remove(c[i].notifier);
	api_destroy(space);
	uhmm_host_unmap(c, MANY * sizeof(*c));
}

TEST(an_interval_may_be_all_there_is)
{
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0);
	struct counted *c = uhmm_host_map(sizeof(*c));

	CHECK(c);
	CHECK_EQ(uhmm_notifier_insert(space, 0, SIZE_MAX, &count_ops, c, &c->notifier),
		 0);
	uhmm_protection_changed(space, 0, 1);
	CHECK_EQ(c->calls, 1);
	uhmm_protection_changed(space, UINTPTR_MAX - 1, UINTPTR_MAX);
	CHECK_EQ(c->calls, 2);
	uhmm_notifier_remove(c->notifier);
	uhmm_protection_changed(space, 0, 1);
	CHECK_EQ(c->calls, 2);
	api_destroy(space);
	uhmm_host_unmap(c, sizeof(*c));
}

/* ---- coming and going -------------------------------------------------------------- */

static void *change_protection(void *arg)
{
	struct mirror *m = arg;

	uhmm_protection_changed(m->space, (uintptr_t)m->p, (uintptr_t)m->p + PAGE);
	return NULL;
}

TEST(who_removes_waits_for_a_call_that_is_under_way)
{
	char *p = api_map(1);
	struct mirror *m = mirror_open(UHMM_DELIVERY_THREAD, p, 1);
	pthread_t thread;

	m->slow_ms = 200;
	CHECK_EQ(pthread_create(&thread, NULL, change_protection, m), 0);
	CHECK_SOON(__atomic_load_n(&m->entered, __ATOMIC_SEQ_CST));
	uhmm_notifier_remove(m->notifier);
	CHECK(!__atomic_load_n(&m->inside, __ATOMIC_SEQ_CST));
	CHECK_EQ(m->nr_log, 1);
	pthread_join(thread, NULL);
	change_protection(m);
	CHECK_EQ(m->nr_log, 1);
	api_destroy(m->space);
	uhmm_host_unmap(m->page, MIRROR_DEVICE_PAGES * PAGE);
	uhmm_host_unmap(m, sizeof(*m));
}

static bool stop;

static void *tell_all_the_time(void *arg)
{
	struct uhmm_space *space = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uintptr_t start = (uintptr_t)rand_r(&seed) % SPAN;

		uhmm_protection_changed(space, start, start + 1 + start % 50);
	}
	return NULL;
}

/* Who has been removed is not called any more: its memory is gone. */
static void *come_and_go(void *arg)
{
	struct uhmm_space *space = arg;
	unsigned i, seed = (unsigned)(uintptr_t)&seed;
	struct counted *c;
	uint64_t seq;

	for (i = 0; i < 2000; i++) {
		c = uhmm_host_map(sizeof(*c));
		CHECK(c);
		insert_random(space, c, &seed);
		seq = uhmm_notifier_read_begin(c->notifier);
		CHECK(seq & 1);
		uhmm_notifier_read_retry(c->notifier, seq);
		uhmm_notifier_remove(c->notifier);
		uhmm_host_unmap(c, sizeof(*c));
	}
	return NULL;
}

TEST(notifiers_come_and_go_while_others_are_told)
{
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0);
	pthread_t teller[2], other[2];
	int i;

	for (i = 0; i < 2; i++) {
		CHECK_EQ(pthread_create(&teller[i], NULL, tell_all_the_time, space), 0);
		CHECK_EQ(pthread_create(&other[i], NULL, come_and_go, space), 0);
	}
	for (i = 0; i < 2; i++)
		pthread_join(other[i], NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		pthread_join(teller[i], NULL);
	api_destroy(space);
}

TEST(bad_arguments_are_refused)
{
	struct uhmm_space *space = api_space(UHMM_DELIVERY_THREAD, 0);
	struct uhmm_notifier_ops bad = count_ops;
	struct uhmm_notifier *n = (void *)8;
	struct counted c = { .calls = 0 };

	CHECK_EQ(uhmm_notifier_insert(space, 0, PAGE, NULL, &c, &n), -EINVAL);
	bad.size = 8;
	CHECK_EQ(uhmm_notifier_insert(space, 0, PAGE, &bad, &c, &n), -EINVAL);
	bad = count_ops;
	bad.invalidate = NULL;
	CHECK_EQ(uhmm_notifier_insert(space, 0, PAGE, &bad, &c, &n), -EINVAL);
	CHECK_EQ(uhmm_notifier_insert(space, 0, 0, &count_ops, &c, &n), -EINVAL);
	CHECK_EQ(uhmm_notifier_insert(space, PAGE, SIZE_MAX - PAGE + 2, &count_ops, &c,
				      &n),
		 -EOVERFLOW);
	CHECK(n == (void *)8);
	uhmm_protection_changed(space, 0, UINTPTR_MAX);
	CHECK_EQ(c.calls, 0);
	api_destroy(space);
}

/* ---- finding a space --------------------------------------------------------------- */

TEST(a_space_is_found_and_held)
{
	struct uhmm_space *a, *b;

	CHECK(!uhmm_space_find(0));
	a = api_space(UHMM_DELIVERY_THREAD, 0);
	b = api_space(UHMM_DELIVERY_THREAD, 0);
	CHECK(uhmm_space_find(0) == a);
	CHECK(uhmm_space_find(getpid()) == a);
	CHECK(!uhmm_space_find(getppid()));
	CHECK(uhmm_space_get(b) == b);
	CHECK(!uhmm_space_get(NULL));
	CHECK_EQ(uhmm_space_destroy(a), -EBUSY);
	CHECK_EQ(uhmm_space_destroy(b), -EBUSY);
	uhmm_space_put(a);
	CHECK_EQ(uhmm_space_destroy(a), -EBUSY);
	uhmm_space_put(a);
	CHECK_EQ(uhmm_space_destroy(a), 0);
	CHECK(!uhmm_space_get(a));
	CHECK(uhmm_space_find(0) == b);
	a = api_space(UHMM_DELIVERY_THREAD, 0); /* where the first was, but later */
	CHECK(uhmm_space_find(0) == b);
	uhmm_space_put(b);
	uhmm_space_put(b);
	uhmm_space_put(b);
	uhmm_space_put(NULL);
	api_destroy(b);
	CHECK(uhmm_space_find(0) == a);
	uhmm_space_put(a);
	api_destroy(a);
	CHECK(!uhmm_space_find(0));
}

API_TEST(a_child_finds_its_own_space)
{
	struct uhmm_space *space = api_space(delivery, 0);
	int status;
	pid_t pid;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	pid = fork();
	CHECK_GE(pid, 0);
	if (!pid) {
		CHECK(!uhmm_space_find(getppid()));
		CHECK(uhmm_space_find(0) == space);
		CHECK_EQ(uhmm_space_destroy(space), -EBUSY);
		uhmm_space_put(space);
		CHECK_EQ(uhmm_space_destroy(space), 0);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	api_destroy(space);
}
