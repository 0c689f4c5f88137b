/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed store: contents against a model, invariants by walking, density, memory
 * against what the kernel says, limits, threads, planted corruption.
 */
#define _GNU_SOURCE
#include "tests/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#include "lib/host.h"
#include "lib/store_internal.h"

/* ---- objects whose bytes follow from a seed ------------------------------------ */

static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

struct item {
	uint64_t handle, seed;
	uint32_t len; /* 0: a value */
	bool live;
};

static void fill(uint8_t *buf, const struct item *item)
{
	uint32_t i;

	for (i = 0; i < item->len; i += 8) {
		uint64_t word = mix(item->seed + i);

		memcpy(buf + i, &word, item->len - i < 8 ? item->len - i : 8);
	}
}

static int item_put(struct uhmm_store *store, struct item *item, uint64_t seed,
		    uint32_t len)
{
	uint8_t buf[UHMM_PAGE_SIZE + 8];
	int r;

	item->seed = seed;
	item->len = len;
	fill(buf, item);
	r = len ? uhmm_store_put(store, buf, len, mix(seed), &item->handle) :
		  uhmm_store_put_value(store, mix(seed), &item->handle);
	item->live = r == 0;
	return r;
}

static int compare(void *ctx, const void *data, uint32_t len, uint64_t check)
{
	const struct item *item = ctx;
	uint8_t buf[UHMM_PAGE_SIZE + 8];

	CHECK_EQ(len, item->len);
	CHECK_EQ(check, mix(item->seed));
	fill(buf, item);
	CHECK_MEM(data, buf, len);
	return 1234;
}

static void item_check(struct uhmm_store *store, struct item *item)
{
	uint64_t value = 0;

	if (item->len) {
		CHECK_EQ(uhmm_store_get_value(store, item->handle, &value), 0);
		CHECK_EQ(uhmm_store_view(store, item->handle, compare, item), 1234);
	} else {
		CHECK_EQ(uhmm_store_get_value(store, item->handle, &value), 1);
		CHECK_EQ(value, mix(item->seed));
	}
}

static void item_free(struct uhmm_store *store, struct item *item)
{
	uhmm_store_free(store, item->handle);
	item->live = false;
}

static struct uhmm_store *create(uint64_t limit_bytes)
{
	struct uhmm_store *store = NULL;

	CHECK_EQ(uhmm_store_create(limit_bytes, &store), 0);
	return store;
}

#define CHECK_VALID(store_) CHECK(store_is_valid(store_), "line %d", store_wrong_line())

/* Sizes as LZ4 makes them of pages: 300..3500. */
static uint32_t page_like(uint64_t random)
{
	return 300 + (uint32_t)(random % 3201);
}

/* ---- contents ------------------------------------------------------------------ */

TEST(every_length)
{
	struct uhmm_store *store = create(0);
	static struct item item[UHMM_PAGE_SIZE + 1];
	uint32_t len;

	for (len = 0; len <= UHMM_PAGE_SIZE; len++)
		CHECK_EQ(item_put(store, &item[len], len, len), 0);
	CHECK_VALID(store);
	for (len = 0; len <= UHMM_PAGE_SIZE; len++) {
		item_check(store, &item[len]);
		CHECK_LT(item[len].handle, UHMM_DEVICE_PAGE_LIMIT);
	}
	for (len = 0; len <= UHMM_PAGE_SIZE; len++)
		item_free(store, &item[len]);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
}

TEST(refuses_no_bytes_and_too_many)
{
	struct uhmm_store *store = create(0);
	static uint8_t buf[UHMM_PAGE_SIZE + 1];
	uint64_t handle = 77;

	CHECK_EQ(uhmm_store_put(store, buf, 0, 0, &handle), -EINVAL);
	CHECK_EQ(uhmm_store_put(store, buf, UHMM_PAGE_SIZE + 1, 0, &handle), -EINVAL);
	CHECK_EQ(handle, 77);
	uhmm_store_destroy(store);
	uhmm_store_destroy(NULL);
}

static void random_operations(uint64_t seed, uint64_t limit_bytes, uint32_t nr,
			      uint32_t steps)
{
	struct uhmm_store *store = create(limit_bytes);
	struct item *items = calloc(nr, sizeof(*items));
	struct uhmm_store_stat stat;
	uint64_t bytes = 0, objects = 0, random = seed;
	uint32_t i, step;

	for (step = 0; step < steps; step++) {
		struct item *item = &items[(random = mix(random)) % nr];
		uint64_t choice = (random = mix(random)) % 100;
		/* Mostly growing, mostly shrinking, in turns. */
		uint64_t put = step / (nr / 2) % 2 ? 30 : 70;

		if (item->live && choice >= put) {
			item_check(store, item);
			bytes -= item->len;
			objects--;
			item_free(store, item);
		} else if (!item->live && choice < put) {
			uint64_t kind = (random = mix(random)) % 8;
			uint32_t len = kind == 0 ? 0 :
				       kind == 1 ? 1 + random / 8 % 64 :
				       kind == 2 ? UHMM_PAGE_SIZE :
						   page_like(random / 8);
			int r = item_put(store, item, random, len);

			CHECK(r == 0 || (r == -ENOSPC && limit_bytes));
			bytes += r ? 0 : len;
			objects += r == 0;
		}
		if (step % (steps / 16) == 0) {
			if (step % 3 == 0)
				uhmm_store_compact(store, UINT64_MAX);
			CHECK_VALID(store);
			uhmm_store_stat(store, &stat);
			CHECK_EQ(stat.objects, objects);
			CHECK_EQ(stat.bytes_requested, bytes);
			CHECK_EQ(stat.bytes_resident,
				 stat.bytes_objects + stat.bytes_metadata);
			CHECK(!limit_bytes || stat.bytes_resident <= limit_bytes);
		}
	}
	for (i = 0; i < nr; i++)
		if (items[i].live) {
			item_check(store, &items[i]);
			item_free(store, &items[i]);
		}
	CHECK_VALID(store);
	uhmm_store_destroy(store);
	free(items);
	CHECK(host_is_valid());
}

TEST(random_operations_keep_contents)
{
	uint64_t seed;

	for (seed = 1; seed <= 6; seed++)
		random_operations(seed, 0, 3000, 24000);
}

TEST(random_operations_at_a_limit)
{
	uint64_t seed;

	for (seed = 1; seed <= 6; seed++)
		random_operations(seed, UINT64_C(3) << 20, 3000, 24000);
}

/* ---- density and memory -------------------------------------------------------- */

/* Pages of the library's own memory that are resident, by the kernel's account. */
static void count_resident(void *ctx, void *addr, size_t size_bytes)
{
	uint64_t entry[512], *pages = ctx;
	size_t page, nr = size_bytes / 4096, i;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	CHECK(fd >= 0);
	for (page = 0; page < nr; page += 512) {
		size_t n = nr - page < 512 ? nr - page : 512;

		CHECK_EQ(pread(fd, entry, n * 8,
			       (off_t)((uintptr_t)addr / 4096 + page) * 8),
			 (ssize_t)(n * 8));
		for (i = 0; i < n; i++)
			*pages += entry[i] >> 63;
	}
	close(fd);
}

static uint64_t kernel_resident_bytes(void)
{
	uint64_t pages = 0;

	host_for_each(count_resident, &pages);
	return pages * 4096;
}

/* Memory beyond the bytes put, in hundredths of a percent of them. */
static uint64_t overhead(struct uhmm_store *store)
{
	struct uhmm_store_stat stat;

	uhmm_store_stat(store, &stat);
	return (stat.bytes_resident - stat.bytes_requested) * 10000 /
	       stat.bytes_requested;
}

static void check_density(uint32_t nr)
{
	struct uhmm_store *store = create(0);
	struct item *items = calloc(nr, sizeof(*items));
	uint64_t full, half, compacted, again;
	uint32_t i, round;

	for (i = 0; i < nr; i++)
		CHECK_EQ(item_put(store, &items[i], i, page_like(mix(i))), 0);
	full = overhead(store);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < nr; i++)
			if (mix(i + 1000003u * round) % 2)
				item_free(store, &items[i]);
		half = overhead(store);
		uhmm_store_compact(store, UINT64_MAX);
		compacted = overhead(store);
		CHECK_VALID(store);
		for (i = 0; i < nr; i++)
			if (!items[i].live)
				CHECK_EQ(item_put(store, &items[i], i,
						  page_like(mix(i ^ mix(round)))),
					 0);
		again = overhead(store);
		fprintf(stderr,
			"# %u objects: overhead %.2f%% full, %.2f%% half, "
			"%.2f%% compacted, %.2f%% refilled\n",
			nr, (double)full / 100, (double)half / 100,
			(double)compacted / 100, (double)again / 100);
		CHECK_LE(full, 1000);
		CHECK_LE(compacted, 1000);
		CHECK_LE(again, 1000);
		/* Without being asked, by what frees do. */
		CHECK_LE(half, 1500);
	}
	for (i = 0; i < nr; i++)
		item_check(store, &items[i]);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
	free(items);
}

TEST(overhead_is_at_most_a_tenth)
{
	check_density(40000);
	check_density(150000);
}

TEST(resident_is_what_the_kernel_says)
{
	uint64_t base, objects = 0;
	struct uhmm_store_stat stat;
	struct uhmm_store *store;
	static struct item items[20000];
	uint32_t i, step;

	/* The allocator's own pages are not the store's: let it have touched them. */
	uhmm_host_unmap(uhmm_host_map(4096), 4096);
	base = kernel_resident_bytes();
	store = create(0);
	for (step = 0; step < 4; step++) {
		for (i = 0; i < 20000; i++)
			if (!items[i].live)
				objects += !item_put(store, &items[i], i,
						     page_like(mix(i)));
		for (i = 0; i < 20000; i++)
			if (mix(i + step * 77) % 4 < step)
				item_free(store, &items[i]);
		if (step == 3)
			uhmm_store_compact(store, UINT64_MAX);
		uhmm_store_stat(store, &stat);
		/* 64 KiB: sets of the host's free blocks that were touched since. */
		CHECK_GE(kernel_resident_bytes() - base + 65536, stat.bytes_resident);
		CHECK_LE(kernel_resident_bytes() - base, stat.bytes_resident + 65536);
	}
	CHECK_GT(objects, 20000);
	uhmm_store_destroy(store);
	CHECK_LE(kernel_resident_bytes(), base + 65536);
}

TEST(fill_free_fill_does_not_grow)
{
	struct uhmm_store *store = create(0);
	static struct item items[20000];
	struct uhmm_store_stat first, stat;
	struct host_stat host_first, host;
	uint32_t i, round;

	for (round = 0; round < 6; round++) {
		for (i = 0; i < 20000; i++)
			CHECK_EQ(item_put(store, &items[i], i,
					  i % 5 ? page_like(mix(i)) : 0),
				 0);
		uhmm_store_stat(store, &stat);
		host_stat(&host);
		if (round == 0) {
			first = stat;
			host_first = host;
		}
		/* A page of slots more for each CPU that this thread ran on meanwhile. */
		CHECK_LE(stat.bytes_resident,
			 first.bytes_resident + STORE_SHARDS * UINT64_C(4096));
		CHECK_LE(host.bytes_mapped, host_first.bytes_mapped);
		CHECK_LE(host.bytes_reserved, host_first.bytes_reserved);
		/* Another order each time. */
		for (i = 0; i < 20000; i++)
			item_free(store, &items[(i * 7919u + round * 31u) % 20000]);
		CHECK_VALID(store);
		uhmm_store_stat(store, &stat);
		CHECK_EQ(stat.objects, 0);
		CHECK_EQ(stat.bytes_requested, 0);
		/* What is left are tables: one page of slots for each CPU's shard. */
		CHECK_LE(stat.bytes_resident, (60 + STORE_SHARDS) * UINT64_C(4096));
	}
	uhmm_store_destroy(store);
}

/* Sizes drift: what was freed in one class must come to the help of another. */
TEST(a_full_store_makes_room_for_other_sizes)
{
	struct uhmm_store *store = create(UINT64_C(8) << 20);
	static struct item items[65536];
	uint32_t nr = 0, i, again = 0;

	while (item_put(store, &items[nr], nr, 600) == 0)
		nr++;
	for (i = 0; i < nr; i += 2)
		item_free(store, &items[i]);
	while (item_put(store, &items[nr + again], again, 3000) == 0)
		again++;
	/* Half of 8 MiB, less what cannot be had. */
	CHECK_GT(again, 1200);
	CHECK_VALID(store);
	for (i = 1; i < nr; i += 2)
		item_check(store, &items[i]);
	uhmm_store_destroy(store);
}

TEST(a_limit_holds_and_room_comes_back)
{
	struct uhmm_store *store = create(UINT64_C(4) << 20);
	static struct item items[32768];
	struct uhmm_store_stat stat;
	uint32_t nr = 0, i;
	int r;

	while ((r = item_put(store, &items[nr], nr, page_like(mix(nr)))) == 0)
		nr++;
	CHECK_EQ(r, -ENOSPC);
	uhmm_store_stat(store, &stat);
	CHECK_LE(stat.bytes_resident, UINT64_C(4) << 20);
	CHECK_GT(stat.bytes_requested, UINT64_C(3) << 20);
	CHECK_VALID(store);
	for (i = 0; i < nr; i++)
		item_check(store, &items[i]);
	for (i = 0; i < nr; i++)
		item_free(store, &items[i]);
	for (i = 0; i < nr; i++)
		CHECK_EQ(item_put(store, &items[i], i, page_like(mix(i))), 0);
	uhmm_store_destroy(store);
	CHECK_EQ(uhmm_store_create(1, &store), -ENOSPC);
}

/* ---- corruption ---------------------------------------------------------------- */

TEST(a_flipped_bit_of_a_value_is_noticed)
{
	struct uhmm_store *store = create(0);
	uint64_t values[] = { 0,
			      ~UINT64_C(0),
			      0x5a5a5a5a5a5a5a5a,
			      1,
			      UINT64_C(1) << 63,
			      0xdeadbeef,
			      mix(1),
			      mix(2) };
	uint64_t handle, value, *slot;
	size_t i;
	int bit;

	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		CHECK_EQ(uhmm_store_put_value(store, values[i], &handle), 0);
		slot = slot_at(store, handle >> HANDLE_INDEX_SHIFT);
		for (bit = 0; bit < 64; bit++) {
			*slot ^= UINT64_C(1) << bit;
			CHECK_EQ(uhmm_store_get_value(store, handle, &value), 0);
			CHECK_EQ(uhmm_store_view(store, handle, compare, NULL), -EIO);
			*slot ^= UINT64_C(1) << bit;
		}
		CHECK_EQ(uhmm_store_get_value(store, handle, &value), 1);
		CHECK_EQ(value, values[i]);
	}
	uhmm_store_destroy(store);
}

TEST(a_flipped_bit_of_an_owner_is_noticed)
{
	struct uhmm_store *store = create(0);
	struct store_object *object;
	struct item item[40];
	int bit, i;

	for (i = 0; i < 40; i++)
		CHECK_EQ(item_put(store, &item[i], (uint64_t)i, 1000), 0);
	object = slot_object(*slot_at(store, item[3].handle >> HANDLE_INDEX_SHIFT));
	for (bit = 0; bit < 64; bit++) {
		object->owner ^= UINT64_C(1) << bit;
		/* A shorter length than it was is the checksum's business. */
		if (bit >= 16 || object_len(object) == 0 || object_len(object) > 1040)
			CHECK_EQ(uhmm_store_view(store, item[3].handle, compare,
						 &item[3]),
				 -EIO);
		CHECK(!store_is_valid(store));
		object->owner ^= UINT64_C(1) << bit;
	}
	/* Compaction leaves it where it is, and a free of it is a free. */
	object->owner ^= UINT64_C(1) << 40;
	for (i = 0; i < 40; i++)
		if (i != 3 && i % 8)
			item_free(store, &item[i]);
	uhmm_store_compact(store, UINT64_MAX);
	for (i = 0; i < 40; i += 8)
		item_check(store, &item[i]);
	item_free(store, &item[3]);
	for (i = 0; i < 40; i += 8)
		item_free(store, &item[i]);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
}

TEST(a_handle_freed_twice_ends_the_process, .signal = SIGKILL)
{
	struct uhmm_store *store = create(0);
	struct item item, other;

	CHECK_EQ(item_put(store, &other, 1, 1000), 0);
	CHECK_EQ(item_put(store, &item, 2, 1000), 0);
	uhmm_store_free(store, item.handle);
	uhmm_store_free(store, item.handle);
}

TEST(a_handle_never_given_out_ends_the_process, .signal = SIGKILL)
{
	struct uhmm_store *store = create(0);

	uhmm_store_view(store, UINT64_C(0x123456789) << HANDLE_INDEX_SHIFT, compare,
			NULL);
}

/* ---- fork and threads ---------------------------------------------------------- */

TEST(a_forked_child_has_its_own)
{
	struct uhmm_store *store = create(0);
	static struct item items[4000];
	int status, i, who;
	pid_t pid;

	for (i = 0; i < 4000; i++)
		CHECK_EQ(item_put(store, &items[i], (uint64_t)i, page_like(mix(i))), 0);
	host_fork_prepare();
	pid = fork();
	host_fork_done();
	CHECK(pid >= 0);
	who = pid ? 1 : 2;
	for (i = 0; i < 4000; i++) {
		item_check(store, &items[i]);
		if (i % 3 == who) {
			item_free(store, &items[i]);
			CHECK_EQ(item_put(store, &items[i], (uint64_t)(i + who * 10000),
					  page_like(mix(i * who))),
				 0);
		}
	}
	for (i = 0; i < 4000; i++)
		item_check(store, &items[i]);
	CHECK_VALID(store);
	uhmm_store_destroy(store);
	CHECK(host_is_valid());
	if (pid == 0)
		_exit(0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

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
		struct item *item = &w->item[(random = mix(random)) % 1500];
		bool shrink = step / 2000 % 2;

		random = mix(random);
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

TEST(threads, .timeout_s = 60)
{
	static struct worker worker[THREADS];
	static struct item shared[SHARED];
	struct uhmm_store *store = create(0);
	struct uhmm_store_stat stat;
	uint64_t objects = SHARED;
	int i, j;

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
