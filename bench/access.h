/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What access.c, access_pages.c and access_order.c share: a region of pages whose bytes
 * are known, and orders in which they are touched.
 */
#ifndef BENCH_ACCESS_H
#define BENCH_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE ((size_t)4096)
#define WORDS (PAGE / sizeof(uint64_t))

/* ---- the pages (access_pages.c) ---------------------------------------------------- */

/*
 * How well a page compresses with LZ4: 1.26 and 2.5 to 1; or one page of two is zeros and
 * the other 2.5 to 1.
 */
enum content { CONTENT_POOR, CONTENT_GOOD, CONTENT_ZEROS };

struct pages {
	char *base;
	size_t nr;
	enum content content;
	uint32_t *writes; /* per page, by page_modify(); in memory that stays */
};

bool pages_map(struct pages *pages, size_t nr, enum content content);
void pages_unmap(struct pages *pages);
/* Writes all of a page. */
void page_fill(struct pages *pages, size_t i);
/* Reads a word. True: it has what was written last. */
bool page_read(const struct pages *pages, size_t i);
/* Reads a word and writes it. True: it had what was written last. */
bool page_modify(struct pages *pages, size_t i);
/* All of its bytes. True: they are what was written last. */
bool page_whole(const struct pages *pages, size_t i);

/* ---- in which order (access_order.c) ----------------------------------------------- */

enum order { ORDER_SEQUENTIAL, ORDER_STRIDED, ORDER_UNIFORM, ORDER_ZIPF, ORDER_HOT_SET };

/* Of one thread, over [first, first + nr). */
struct walk {
	enum order order;
	size_t first, nr;
	size_t at;       /* of what goes in sequence */
	uint64_t random; /* xorshift64*; not 0 */
	uint64_t step;   /* by which what is hot is spread */
	uint64_t touches;
	struct zipf {
		double zetan, alpha, eta, half;
	} zipf;
};

void walk_begin(struct walk *walk, enum order order, size_t first, size_t nr,
		uint64_t seed);
size_t walk_next(struct walk *walk);

#endif
