/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device with a page table of its own and memory of its own, for tests of
 * <uhmm/range.h>: it mirrors some pages of the test, and writes down what it is told.
 *
 * Its memory is of the library's kind, for it must not migrate. mirror_* functions fail
 * the test themselves. Any thread.
 */
#ifndef TESTS_MIRROR_H
#define TESTS_MIRROR_H

#include "api.h"
#include "uhmm/migrate.h"
#include "uhmm/range.h"

#define MIRROR_PAGES 2048u
#define MIRROR_DEVICE_PAGES 600u
#define MIRROR_LOG 4096u

struct mirror {
	struct uhmm_space *space;
	struct uhmm_notifier *notifier;
	struct uhmm_pagemap *map; /* its own; the mirror is the owner */
	char *p;                  /* what it mirrors */
	size_t nr;
	uint64_t pfns[MIRROR_PAGES]; /* of mirror_look(), and what mirror_map() made */
	struct uhmm_lock lock;       /* the driver's: of what follows */
	uint64_t table[MIRROR_PAGES];
	uhmm_pfn_t exclusive[MIRROR_PAGES]; /* 0: is not */
	const void *own;                    /* MIGRATE of this owner is passed over */
	unsigned slow_ms;
	bool inside, entered; /* a callback is; one ever was */
	unsigned nr_log;
	struct uhmm_invalidation log[MIRROR_LOG];
	uint64_t last_seq;
	unsigned told_at; /* nr_log when copy_to_ram() was called last */
	/* the device's memory */
	char (*page)[PAGE];
	unsigned next, freed;
	/* atomic */
	unsigned load_ms; /* copy_to_ram() takes so long */
	bool loading;     /* it is */
	bool broken;      /* it fails */
};

/* Of nr pages at p, in a space of its own. */
struct mirror *mirror_open(uint32_t delivery, char *p, size_t nr);
/* The same, which is in a space of another. */
struct mirror *mirror_join(struct uhmm_space *space, char *p, size_t nr);
/* Its notifier, which it has from the start, comes and goes. */
void mirror_insert(struct mirror *m);
void mirror_remove(struct mirror *m);
/* Destroys the space too; or leaves that to another. */
void mirror_close(struct mirror *m);
void mirror_leave(struct mirror *m);

/* Forgets what was told. */
void mirror_clear(struct mirror *m);
/*
 * Was this told, and nothing else, of all of [p, p + nr) pages and nothing beyond? What
 * the calling thread did before is told by now.
 */
void mirror_told(struct mirror *m, enum uhmm_event event, const char *p, size_t nr,
		 const void *owner);
/* The same among others. */
bool mirror_heard(struct mirror *m, enum uhmm_event event, const char *p, size_t nr,
		  const void *owner);
void mirror_told_nothing(struct mirror *m);

/*
 * uhmm_range_fault() once, with a new sequence, of nr pages from p on; into m->pfns. One
 * thread at a time.
 */
int mirror_look(struct mirror *m, const char *p, size_t nr, uint64_t flags);
/* Until it is not -EBUSY; and then, if it is 0, into the device's page table. */
int mirror_map(struct mirror *m, const char *p, size_t nr, uint64_t flags);
/* An element of the table. */
uint64_t mirror_at(struct mirror *m, size_t page);
/* Where the device reads and writes the page of a table's element; NULL: not VALID. */
void *mirror_bytes(struct mirror *m, uint64_t pfn);

/* A page becomes the device's alone, and its exclusive[]; or -errno. */
int mirror_make_exclusive(struct mirror *m, size_t page);

/* Pages go to the device, all of them. */
void mirror_migrate(struct mirror *m, char *p, size_t nr);
/* A migration to it up to the commit; to be finalized. */
void mirror_setup(struct mirror *m, char *p, size_t nr, struct uhmm_migrate *migrate);
uhmm_pfn_t mirror_page(struct mirror *m);

#endif
