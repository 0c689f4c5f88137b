/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items for tests of the packed store: objects and values whose bytes follow from a seed,
 * so that they need not be kept to be compared.
 */
#ifndef TESTS_STORE_ITEMS_H
#define TESTS_STORE_ITEMS_H

#include "tests/test.h"

#include "lib/host.h"
#include "lib/store_internal.h"

static inline uint64_t item_mix(uint64_t x)
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

static inline void item_fill(uint8_t *buf, const struct item *item)
{
	uint32_t i;

	for (i = 0; i < item->len; i += 8) {
		uint64_t word = item_mix(item->seed + i);

		memcpy(buf + i, &word, item->len - i < 8 ? item->len - i : 8);
	}
}

static inline int item_put(struct uhmm_store *store, struct item *item, uint64_t seed,
			   uint32_t len)
{
	uint8_t buf[UHMM_PAGE_SIZE + 8];
	int r;

	item->seed = seed;
	item->len = len;
	item_fill(buf, item);
	r = len ? uhmm_store_put(store, buf, len, item_mix(seed), &item->handle) :
		  uhmm_store_put_value(store, item_mix(seed), &item->handle);
	item->live = r == 0;
	return r;
}

static inline int item_compare(void *ctx, const void *data, uint32_t len, uint64_t check)
{
	const struct item *item = ctx;
	uint8_t buf[UHMM_PAGE_SIZE + 8];

	CHECK_EQ(len, item->len);
	CHECK_EQ(check, item_mix(item->seed));
	item_fill(buf, item);
	if (memcmp(data, buf, len))
		CHECK_MEM(data, buf, len);
	return 1234;
}

static inline void item_check(struct uhmm_store *store, struct item *item)
{
	uint64_t value = 0;

	if (item->len) {
		CHECK_EQ(uhmm_store_get_value(store, item->handle, &value), 0);
		CHECK_EQ(uhmm_store_view(store, item->handle, item_compare, item), 1234);
	} else {
		CHECK_EQ(uhmm_store_get_value(store, item->handle, &value), 1);
		CHECK_EQ(value, item_mix(item->seed));
	}
}

static inline void item_free(struct uhmm_store *store, struct item *item)
{
	uhmm_store_free(store, item->handle);
	item->live = false;
}

static inline struct uhmm_store *store_create(uint64_t limit_bytes)
{
	struct uhmm_store *store = NULL;

	CHECK_EQ(uhmm_store_create(limit_bytes, &store), 0);
	return store;
}

#define CHECK_VALID(store_) CHECK(store_is_valid(store_), "line %d", store_wrong_line())

/* Sizes as LZ4 makes them of pages: 300..3500. */
static inline uint32_t page_like(uint64_t random)
{
	return 300 + (uint32_t)(random % 3201);
}

#endif
