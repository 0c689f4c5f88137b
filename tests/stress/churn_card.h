/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture: a device with memory of its own, which moves pages there and back in three
 * steps as a driver does. It knows of each of its pages whether it is free, single or of
 * a folio, and whatever the library asks of a page that is something else is a failure.
 */
#ifndef STRESS_CHURN_CARD_H
#define STRESS_CHURN_CARD_H

#include <stdbool.h>
#include <stdint.h>

#include "uhmm/migrate.h"

#define CARD_FOLIOS 12u
#define CARD_PAGES (CARD_FOLIOS * UHMM_FOLIO_PAGES)
#define CARD_MOVE_PAGES (2 * UHMM_FOLIO_PAGES)

struct card {
	struct uhmm_space *space;
	struct uhmm_pagemap *map;
	int pid;
	char (*page)[4096]; /* NULL: it is coherent */
	uint8_t use[CARD_PAGES];
	uint64_t next, moves, rollbacks, evictions;
};

/* What a thread needs to move pages. */
struct card_move {
	struct uhmm_migrate m;
	uhmm_pfn_t src[CARD_MOVE_PAGES], dst[CARD_MOVE_PAGES];
};

/* All of this and struct card_move is of uhmm_host_map(): it must not migrate itself. */
struct card *card_open(struct uhmm_space *space, bool coherent);
/* Every page of it has come back: is all of it free? Its space is gone. */
void card_close(struct card *card);
/*
 * Pages of [start, end) go to the card, or to memory if they are on it; `how` is random,
 * and says which of them, as what, or that after all nothing is moved. Pages moved.
 */
uint64_t card_move(struct card *card, struct card_move *cm, uintptr_t start,
		   uintptr_t end, uint64_t how);
/* The card wants some of its pages back. */
uint64_t card_take_back(struct card *card, struct card_move *cm, uint64_t how);

#endif
