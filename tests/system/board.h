/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that a test itself is, for <uhmm/migrate.h>. Its memory is of the library's
 * kind, which does not migrate; or, of a coherent one, what the page map has.
 */
#ifndef TESTS_BOARD_H
#define TESTS_BOARD_H

#include "api.h"
#include "uhmm/migrate.h"

#define NR 256u
#define DEVICE_PAGES 600u

struct board {
	struct uhmm_space *space;
	struct uhmm_pagemap *map;
	char (*page)[PAGE];
	unsigned next, freed;
	bool broken; /* copy_to_ram() fails */
	bool coherent, shared;
	/* migrate_to_ram(), or NULL; and how often it was called */
	int (*to_ram)(struct board *b, const struct uhmm_fault *fault);
	unsigned faults;
};

/* Of a kind that page maps of the same owner select. */
extern const char board_owner[];

/* A private one. */
struct board *board_open(uint32_t delivery);
struct board *board_open_coherent(uint32_t delivery);
/* A private one of which to_ram() serves the faults. */
struct board *board_open_serving(uint32_t delivery,
				 int (*to_ram)(struct board *b,
					       const struct uhmm_fault *fault));
/* A private one whose memory is not copied by fork(). */
struct board *board_open_shared(uint32_t delivery);
void board_close(struct board *b);
/* The same, of one whose space has ended. */
void board_free(struct board *b);
/* Pages that were given back so far. */
unsigned board_freed(const struct board *b);
/* Calls of to_ram(). */
unsigned board_faults(const struct board *b);

/* A migration of up to NR pages, and its arrays. */
struct steps {
	struct board *board;
	struct uhmm_migrate m;
	uhmm_pfn_t src[NR], dst[NR];
};

int steps_setup(struct steps *s, struct board *b, char *p, size_t nr, uint32_t flags);
/* Everything that can goes to the device, or to memory. */
void steps_copy(struct steps *s, bool to_memory);
void steps_end(struct steps *s);
size_t steps_moved(const struct steps *s);

void *board_bytes(struct board *b, uhmm_pfn_t pfn);
/* A free page of the device. */
uhmm_pfn_t board_get(struct board *b);
/* All nr pages, which are in memory. */
void board_take(struct board *b, char *p, size_t nr);

#endif
