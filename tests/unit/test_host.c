/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the library's own: runs do not overlap, read as zeros, give their memory
 * back; what happens at limits, after fork and in threads. And the lock.
 */
#define _GNU_SOURCE
#include "tests/test.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "lib/host.h"
#include "lib/host_bits.h"
#include "lib/host_pages.h"

#define PAGE 4096u

static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* ---- bit trees ----------------------------------------------------------------- */

static void bits_against_model(uint32_t nr, uint32_t steps)
{
	uint64_t *words = calloc(bits_words(nr), sizeof(*words)), random = nr;
	bool *model = calloc(nr, sizeof(*model));
	struct bits bits;
	uint32_t step, i, first;

	bits_init(&bits, nr, words);
	for (step = 0; step < steps; step++) {
		random = mix(random);
		i = (uint32_t)(random % nr);
		model[i] = random >> 40 & 1;
		if (model[i])
			bits_set(&bits, i);
		else
			bits_clear(&bits, i);
		CHECK_EQ(bits_test(&bits, i), model[i]);
		for (first = 0; first < nr && !model[first]; first++)
			;
		CHECK_EQ(bits_first(&bits), first < nr ? first : BITS_NONE);
	}
	free(model);
	free(words);
}

TEST(bit_trees)
{
	static const uint32_t sizes[] = {
		1, 2, 63, 64, 65, 128, 4095, 4096, 4097, 300000
	};
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		bits_against_model(sizes[i], 500);
}

/* ---- runs ---------------------------------------------------------------------- */

struct run {
	uint64_t *words; /* NULL: not mapped */
	size_t size;
	uint64_t seed;
};

/* First and last word of each page. */
static void run_write(struct run *run)
{
	size_t i;

	for (i = 0; i < run->size / 8; i += 512) {
		run->words[i] = mix(run->seed + i);
		run->words[i + 511] = mix(run->seed + i + 511);
	}
}

static void run_check(const struct run *run)
{
	size_t i;

	for (i = 0; i < run->size / 8; i += 512) {
		CHECK_EQ(run->words[i], mix(run->seed + i));
		CHECK_EQ(run->words[i + 511], mix(run->seed + i + 511));
	}
}

static void run_zero(const struct run *run)
{
	size_t i;

	for (i = 0; i < run->size / 8; i += 512)
		CHECK_EQ(run->words[i] | run->words[i + 511], 0);
}

static void run_map(struct run *run, size_t size, uint64_t seed)
{
	size_t align = PAGE;

	/* Sizes are rounded up; tests use whole pages to compare. */
	*run = (struct run){ .words = uhmm_host_map(size - seed % PAGE),
			     .size = size,
			     .seed = seed };
	CHECK(run->words != NULL);
	while (align < size && align < (2u << 20))
		align *= 2;
	CHECK_EQ((uintptr_t)run->words % align, 0);
	run_zero(run);
	run_write(run);
}

static void run_unmap(struct run *run)
{
	run_check(run);
	uhmm_host_unmap(run->words, run->size - run->seed % PAGE);
	run->words = NULL;
}

static size_t random_size(uint64_t random)
{
	return (size_t)PAGE * (1 + random % (UINT64_C(1) << random / 4096 % 9));
}

static void random_runs(uint64_t seed, uint32_t steps)
{
	static struct run runs[600];
	struct host_stat before, stat;
	uint64_t random = seed, mapped = 0;
	uint32_t step, i;

	host_stat(&before);
	for (step = 0; step < steps; step++) {
		struct run *run = &runs[(random = mix(random)) % 600];

		random = mix(random);
		if (run->words) {
			mapped -= run->size;
			run_unmap(run);
		} else {
			run_map(run, random_size(random), random);
			mapped += run->size;
		}
		if (step % 200 == 0) {
			CHECK(host_is_valid());
			host_stat(&stat);
			CHECK_EQ(stat.bytes_mapped, before.bytes_mapped + mapped);
		}
	}
	for (i = 0; i < 600; i++)
		if (runs[i].words)
			run_unmap(&runs[i]);
	host_stat(&stat);
	CHECK_EQ(stat.bytes_mapped, before.bytes_mapped);
	CHECK_EQ(stat.runs, before.runs);
	CHECK(host_is_valid());
}

TEST(runs_do_not_overlap_and_read_as_zeros)
{
	random_runs(1, 4000);
	host_reset();
	random_runs(2, 4000);
}

TEST(nothing_is_nothing)
{
	CHECK(uhmm_host_map(0) == NULL);
	CHECK(uhmm_host_map(SIZE_MAX) == NULL);
	CHECK(uhmm_host_map((size_t)1 << 60) == NULL);
	uhmm_host_unmap(NULL, 5);
	CHECK(host_is_valid());
}

/* ---- pages that are kept ------------------------------------------------------- */

#define KEPT 300u

static void get_all(void **page)
{
	unsigned i, done;

	for (i = 0; i < KEPT; i += done) {
		done = uhmm_host_pages_get(page + i, KEPT - i < 7 ? KEPT - i : 7);
		CHECK(done);
	}
}

static uint64_t nr_runs(void)
{
	struct host_stat stat;

	host_stat(&stat);
	return stat.runs;
}

TEST(pages_are_kept_for_who_comes_next)
{
	static void *page[KEPT], *again[KEPT];
	uint64_t runs;
	unsigned i, j;

	host_pages_drop();
	runs = nr_runs();

	get_all(page);
	CHECK_EQ(nr_runs(), runs + KEPT);
	for (i = 0; i < KEPT; i++) {
		memset(page[i], (int)i, PAGE);
		for (j = 0; j < i; j++)
			CHECK(page[i] != page[j]);
	}
	uhmm_host_pages_put(page, KEPT);
	runs++; /* the list of them */
	CHECK_EQ(nr_runs(), runs + KEPT);
	get_all(again);
	CHECK_EQ(nr_runs(), runs + KEPT);
	/* What is not used for two rounds goes. */
	uhmm_host_pages_put(again, KEPT);
	host_pages_trim();
	CHECK_EQ(nr_runs(), runs + KEPT);
	CHECK_EQ(uhmm_host_pages_get(page, 10), 10);
	uhmm_host_pages_put(page, 10);
	host_pages_trim();
	CHECK_EQ(nr_runs(), runs + 10);
	host_pages_trim();
	CHECK_EQ(nr_runs(), runs);
	CHECK(host_is_valid());
	/* Nobody has written to the memory that comes now. */
	get_all(page);
	for (i = 0; i < KEPT; i++)
		CHECK_EQ(*(uint64_t *)page[i], 0);
	uhmm_host_pages_put(page, KEPT);
	host_pages_drop();
	CHECK_EQ(nr_runs(), runs - 1);
}

TEST(no_more_pages_are_kept_than_there_may_be)
{
	static void *page[HOST_PAGES_MAX + 100];
	uint64_t runs = nr_runs();
	uint32_t nr = sizeof(page) / sizeof(page[0]);

	CHECK_EQ(uhmm_host_pages_get(page, nr), nr);
	uhmm_host_pages_put(page, nr);
	CHECK_EQ(nr_runs(), runs + HOST_PAGES_MAX + 1);
	/* Memory is short from now on. */
	host_pages_keep_none();
	CHECK_EQ(nr_runs(), runs);
	CHECK_EQ(uhmm_host_pages_get(page, 5), 5);
	uhmm_host_pages_put(page, 5);
	CHECK_EQ(nr_runs(), runs);
}

/* ---- large runs ---------------------------------------------------------------- */

/* Regions double; what is mapped last is as good as what is mapped first. */
TEST(large_runs)
{
	static struct run runs[46];
	struct host_stat stat;
	uint32_t i;

	for (i = 0; i < 40; i++)
		run_map(&runs[i], (size_t)5 << 20, 1000 + i);
	for (; i < 46; i++) { /* 16 to 256 MiB, and one larger than regions give */
		size_t size = i < 45 ? (size_t)16 << 20 << (i - 40) :
				       ((size_t)1 << 30) + PAGE;

		runs[i].words = uhmm_host_map(size);
		CHECK(runs[i].words != NULL);
		runs[i].size = size;
		runs[i].words[0] = i;
		runs[i].words[size / 8 - 1] = i;
	}
	CHECK(host_is_valid());
	host_stat(&stat);
	CHECK_LE(stat.regions, 12);
	for (i = 0; i < 40; i++)
		run_unmap(&runs[i]);
	for (; i < 46; i++) {
		CHECK_EQ(runs[i].words[0] + runs[i].words[runs[i].size / 8 - 1], 2 * i);
		uhmm_host_unmap(runs[i].words, runs[i].size);
	}
	CHECK(host_is_valid());
	host_reset();
	host_stat(&stat);
	CHECK_EQ(stat.bytes_reserved + stat.bytes_mapped + stat.runs + stat.regions, 0);
}

static uint64_t resident_pages(const void *addr, size_t size)
{
	unsigned char vec[4096];
	uint64_t pages = 0;
	size_t i;

	CHECK_LE(size / PAGE, sizeof(vec));
	CHECK_EQ(mincore((void *)(uintptr_t)addr, size, vec), 0);
	for (i = 0; i < size / PAGE; i++)
		pages += vec[i] & 1;
	return pages;
}

TEST(memory_is_lazy_and_given_back)
{
	size_t size = (size_t)4096 * PAGE;
	char *run = uhmm_host_map(size);

	CHECK_EQ(resident_pages(run, size), 0);
	memset(run + 10 * PAGE, 1, 20 * PAGE);
	CHECK_EQ(resident_pages(run, size), 20);
	uhmm_host_discard(run + 15 * PAGE, 5 * PAGE);
	CHECK_EQ(resident_pages(run, size), 15);
	CHECK_EQ(run[15 * PAGE], 0);
	CHECK_EQ(run[14 * PAGE], 1);
	CHECK_EQ(run[20 * PAGE], 1);
	uhmm_host_unmap(run, size);
	CHECK_EQ(resident_pages(run, size), 0);
}

/* madvise cannot give locked memory back, but zeros are zeros. */
TEST(locked_memory_reads_as_zeros_too)
{
	char *run = uhmm_host_map(4 * PAGE), *again;

	if (mlock(run, 4 * PAGE))
		SKIP("mlock is not permitted");
	memset(run, 7, 4 * PAGE);
	uhmm_host_unmap(run, 4 * PAGE);
	again = uhmm_host_map(4 * PAGE);
	CHECK(again == run);
	CHECK_EQ(again[0] | again[4 * PAGE - 1], 0);
	uhmm_host_unmap(again, 4 * PAGE);
}

TEST(a_limit_on_address_space)
{
	struct rlimit limit = { .rlim_cur = (rlim_t)700 << 20,
				.rlim_max = (rlim_t)700 << 20 };
	uint64_t mapped = 0;
	uint32_t round;
	void *list = NULL;

	if (test_instrument())
		SKIP("%s takes address space of its own", test_instrument());
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	for (round = 0; round < 3; round++) {
		void **run;

		for (mapped = 0; (run = uhmm_host_map(1 << 20)); mapped += 1 << 20) {
			*run = list;
			list = run;
		}
		/* Not all, because regions are of certain sizes; but no small part. */
		CHECK_GE(mapped, UINT64_C(350) << 20);
		CHECK(host_is_valid());
		while (list) {
			run = list;
			list = *run;
			uhmm_host_unmap(run, 1 << 20);
		}
		CHECK(host_is_valid());
	}
}

TEST(a_run_unmapped_twice_ends_the_process, .signal = SIGKILL)
{
	void *run = uhmm_host_map(PAGE);

	CHECK(uhmm_host_map(PAGE) != NULL);
	uhmm_host_unmap(run, PAGE);
	uhmm_host_unmap(run, PAGE);
}

/* The first time it became part of a larger free block. */
TEST(a_run_unmapped_twice_after_merging_ends_the_process, .signal = SIGKILL)
{
	void *run = uhmm_host_map(PAGE);

	uhmm_host_unmap(run, PAGE);
	CHECK(host_is_valid());
	uhmm_host_unmap(run, PAGE);
}

/* ---- fork and threads ---------------------------------------------------------- */

static volatile uint32_t stop;

static void *map_and_unmap(void *arg)
{
	uint64_t random = (uintptr_t)arg;
	struct run runs[40] = { { 0 } };
	uint32_t i;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct run *run = &runs[(random = mix(random)) % 40];

		if (run->words)
			run_unmap(run);
		else
			run_map(run, random_size(random / 64), random);
	}
	for (i = 0; i < 40; i++)
		if (runs[i].words)
			run_unmap(&runs[i]);
	return NULL;
}

static void start(pthread_t *threads, uint32_t nr, void *(*fn)(void *))
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, fn,
					(void *)(uintptr_t)(i + 1)),
			 0);
}

static void join(pthread_t *threads, uint32_t nr)
{
	uint32_t i;

	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < nr; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* Children are made while threads are in the allocator; theirs must be whole. */
TEST(fork_while_threads_map)
{
	pthread_t threads[3];
	int i, status;

	start(threads, 3, map_and_unmap);
	for (i = 0; i < 20; i++) {
		pid_t pid;

		usleep(3000);
		host_fork_prepare();
		pid = fork();
		host_fork_done();
		CHECK_GE(pid, 0);
		if (pid == 0) {
			struct run run;

			CHECK(host_is_valid());
			run_map(&run, 7 * PAGE, 5);
			run_unmap(&run);
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
	join(threads, 3);
	CHECK(host_is_valid());
}

static uint32_t mapped_in_time;

static void *map_one(void *arg)
{
	(void)arg;
	uhmm_host_unmap(uhmm_host_map(PAGE), PAGE);
	__atomic_store_n(&mapped_in_time, 1, __ATOMIC_RELAXED);
	return NULL;
}

TEST(nobody_maps_during_fork)
{
	pthread_t thread;

	host_fork_prepare();
	start(&thread, 1, map_one);
	usleep(50000);
	CHECK_EQ(__atomic_load_n(&mapped_in_time, __ATOMIC_RELAXED), 0);
	host_fork_done();
	join(&thread, 1);
	CHECK_EQ(mapped_in_time, 1);
}

static struct uhmm_lock lock;
static uint64_t guarded[2], taken, tried;

static void *count_up(void *arg)
{
	uint64_t mine = 0;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if ((uintptr_t)arg % 2) {
			uhmm_lock(&lock);
		} else if (!uhmm_trylock(&lock)) {
			__atomic_fetch_add(&tried, 1, __ATOMIC_RELAXED);
			continue;
		}
		CHECK_EQ(guarded[0], guarded[1]);
		guarded[0]++;
		/* Now and then long enough for others to sleep. */
		if (++mine % 256 == 0)
			usleep(100);
		guarded[1]++;
		uhmm_unlock(&lock);
	}
	__atomic_fetch_add(&taken, mine, __ATOMIC_RELAXED);
	return NULL;
}

TEST(the_lock_lets_one_in_and_loses_nobody)
{
	pthread_t threads[6];

	start(threads, 6, count_up);
	usleep(500000);
	join(threads, 6);
	CHECK_EQ(guarded[0], taken);
	CHECK_EQ(guarded[1], taken);
	CHECK_GT(taken, 1000);
	CHECK_GT(tried, 0);
	CHECK_EQ(lock.word, 0);
}
