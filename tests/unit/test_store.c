/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed store: contents against a model, with its invariants walked; what was
 * overwritten is noticed; a forked child has a store of its own.
 */
#define _GNU_SOURCE
#include "tests/unit/store_items.h"

#include <sys/wait.h>

/* ---- contents ------------------------------------------------------------------ */

TEST(every_length)
{
	struct uhmm_store *store = store_create(0);
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
	struct uhmm_store *store = store_create(0);
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
	struct uhmm_store *store = store_create(limit_bytes);
	struct item *items = calloc(nr, sizeof(*items));
	struct uhmm_store_stat stat;
	uint64_t bytes = 0, objects = 0, random = seed;
	uint32_t i, step;

	for (step = 0; step < steps; step++) {
		struct item *item = &items[(random = item_mix(random)) % nr];
		uint64_t choice = (random = item_mix(random)) % 100;
		/* Mostly growing, mostly shrinking, in turns. */
		uint64_t put = step / (nr / 2) % 2 ? 30 : 70;

		if (item->live && choice >= put) {
			item_check(store, item);
			bytes -= item->len;
			objects--;
			item_free(store, item);
		} else if (!item->live && choice < put) {
			uint64_t kind = (random = item_mix(random)) % 8;
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

/* ---- corruption ---------------------------------------------------------------- */

TEST(a_flipped_bit_of_a_value_is_noticed)
{
	struct uhmm_store *store = store_create(0);
	uint64_t values[] = { 0,           ~UINT64_C(0),      0x5a5a5a5a5a5a5a5a,
			      1,           UINT64_C(1) << 63, 0xdeadbeef,
			      item_mix(1), item_mix(2) };
	uint64_t handle, value, *slot;
	size_t i;
	int bit;

	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		CHECK_EQ(uhmm_store_put_value(store, values[i], &handle), 0);
		slot = slot_at(store, handle >> HANDLE_INDEX_SHIFT);
		for (bit = 0; bit < 64; bit++) {
			*slot ^= UINT64_C(1) << bit;
			CHECK_EQ(uhmm_store_get_value(store, handle, &value), 0);
			CHECK_EQ(uhmm_store_view(store, handle, item_compare, NULL),
				 -EIO);
			*slot ^= UINT64_C(1) << bit;
		}
		CHECK_EQ(uhmm_store_get_value(store, handle, &value), 1);
		CHECK_EQ(value, values[i]);
	}
	uhmm_store_destroy(store);
}

TEST(a_flipped_bit_of_an_owner_is_noticed)
{
	struct uhmm_store *store = store_create(0);
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
			CHECK_EQ(uhmm_store_view(store, item[3].handle, item_compare,
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
	struct uhmm_store *store = store_create(0);
	struct item item, other;

	CHECK_EQ(item_put(store, &other, 1, 1000), 0);
	CHECK_EQ(item_put(store, &item, 2, 1000), 0);
	uhmm_store_free(store, item.handle);
	uhmm_store_free(store, item.handle);
}

TEST(a_handle_never_given_out_ends_the_process, .signal = SIGKILL)
{
	struct uhmm_store *store = store_create(0);

	uhmm_store_view(store, UINT64_C(0x123456789) << HANDLE_INDEX_SHIFT, item_compare,
			NULL);
}

/* ---- fork ---------------------------------------------------------- */

TEST(a_forked_child_has_its_own)
{
	struct uhmm_store *store = store_create(0);
	static struct item items[4000];
	int status, i, who;
	pid_t pid;

	for (i = 0; i < 4000; i++)
		CHECK_EQ(item_put(store, &items[i], (uint64_t)i, page_like(item_mix(i))),
			 0);
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
					  page_like(item_mix(i * who))),
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
