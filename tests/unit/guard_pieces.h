/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What walks the table of system calls for a test: notes the pieces that are named, reads
 * this process's own memory, and sees that only what is named is read.
 */
#ifndef TESTS_GUARD_PIECES_H
#define TESTS_GUARD_PIECES_H

#include "tests/test.h"

#include "preload/guard_call.h"

struct piece {
	uintptr_t addr;
	size_t len;
	bool write;
};

#define PIECES_MAX (1u << 16)
static struct piece *named;
static size_t nr_named, enough_after; /* after so many the walk is told to end */

static inline bool note(void *ctx, uintptr_t addr, size_t len, bool write)
{
	(void)ctx;
	CHECK(nr_named < enough_after, "it goes on when it has been told to end");
	CHECK_LT(nr_named, PIECES_MAX);
	CHECK(addr && len);
	CHECK(addr < CALL_USER_END && len <= CALL_USER_END - addr);
	named[nr_named++] = (struct piece){ addr, len, write };
	return nr_named < enough_after;
}

/* All of it, by one piece or several. */
static inline bool is_named(uintptr_t addr, size_t len)
{
	size_t i;

	for (i = nr_named; len && i-- > 0;) {
		const struct piece *p = &named[i];

		if (addr < p->addr || addr - p->addr >= p->len)
			continue;
		if (len <= p->len - (addr - p->addr))
			return true;
		len -= p->len - (addr - p->addr);
		addr = p->addr + p->len;
		i = nr_named;
	}
	return !len;
}

static inline bool read_own(void *ctx, void *to, uintptr_t from, size_t len)
{
	(void)ctx;
	CHECK(is_named(from, len), "%zu bytes at %#lx are read before they are named",
	      len, (long)from);
	memcpy(to, (const void *)from, len);
	return true;
}

static inline size_t string_own(void *ctx, uintptr_t addr, size_t max)
{
	size_t len = strnlen((const char *)addr, max);

	(void)ctx;
	return len < max ? len + 1 : max;
}

static const struct call_walk walk_own = { NULL, note, read_own, string_own };

static inline bool walk(const struct call_walk *how, long nr, const uint64_t *arg,
			size_t enough)
{
	if (!named)
		named = calloc(PIECES_MAX, sizeof(*named));
	CHECK(named);
	nr_named = 0;
	enough_after = enough;
	return call_memory(nr, arg, how);
}

#define P(x_) ((uintptr_t)(x_))
#define ARGS(...) ((const uint64_t[6]){ __VA_ARGS__ })

#endif
