/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device with memory of its own for tests of folios: it knows of each of its pages
 * whether it is free, single, or of a folio, and fails the test if the library takes it
 * for something else.
 */
#ifndef TESTS_FOLIO_H
#define TESTS_FOLIO_H

#include "api.h"
#include "uhmm/migrate.h"

#define CARD_FOLIOS 6u
#define CARD_PAGES (CARD_FOLIOS * UHMM_FOLIO_PAGES)

enum card_use { CARD_FREE = 0, CARD_SINGLE, CARD_HEAD, CARD_TAIL };

struct card {
	struct uhmm_space *space;
	struct uhmm_pagemap *map;
	char (*page)[PAGE];
	uint8_t use[CARD_PAGES];
	unsigned next;
	unsigned freed, splits; /* calls; atomic */
	uint64_t broken;        /* page + 1 whose copy_to_ram() fails */
	bool full;              /* it has no folios to give */
};

struct card *card_open(uint32_t delivery);
void card_close(struct card *c);
/* The same, without a check of what uhmm_space_destroy() says. */
void card_free(struct card *c);
/* A page, or a folio, or 0: there is none. */
uhmm_pfn_t card_get(struct card *c, bool folio);
/* The head of the first folio that is used. */
uint64_t card_head(struct card *c);
unsigned card_freed(const struct card *c);
unsigned card_splits(const struct card *c);

/* A migration of up to MOVE_PAGES pages, and its arrays. */
#define MOVE_PAGES (2 * UHMM_FOLIO_PAGES)

struct move {
	struct card *card;
	struct uhmm_migrate m;
	uhmm_pfn_t src[MOVE_PAGES], dst[MOVE_PAGES];
};

struct move *move_new(void);
void move_free(struct move *mv);
int move_setup(struct move *mv, struct card *c, char *p, size_t nr, uint32_t flags);
/* All that can goes to the device, or to memory: folios as such where there are any. */
void move_copy(struct move *mv, bool to_memory);
void move_end(struct move *mv);
/* Pages that move: 512 for a COMPOUND source. */
size_t move_moved(const struct move *mv);
/* Setup, copy and end. */
void move_out(struct card *c, char *p, size_t nr);

#define NR UHMM_FOLIO_PAGES
#define WHOLE (UHMM_SELECT_SYSTEM | UHMM_SELECT_COMPOUND)
#define FROM_DEVICE (UHMM_SELECT_DEVICE_PRIVATE | UHMM_SELECT_COMPOUND)
#define TAKEN (UHMM_PFN_VALID | UHMM_PFN_MIGRATE | UHMM_PFN_WRITE | UHMM_PFN_COMPOUND)
#define FLAGS ((UINT64_C(1) << UHMM_PFN_SHIFT) - 1)

/* Two huge pages, filled with 1, 2, ...; or the test is skipped. */
char *map_huge(void);
/* Huge pages of the mapping of p, in pages. */
size_t huge_pages(const void *p);

#endif
