/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page maps: memory of a driver's device, whose pages are named by the driver and hold
 * what a migration put there (lib/migration.h).
 *
 * To the rest of the core a page map is a device like any other, one that nothing is
 * stored on: a page comes back by LOAD, which is the driver's copy_to_ram(), and FREE
 * gives it back to the driver. So faults, fork, eviction and the end of the space work on
 * these pages as on all others.
 *
 * Of each page the map knows whether it is used, and at which address of the program it
 * belongs (its *owner*): that is changed by who changes the entry there, the gate entered
 * or closed.
 */
#ifndef UHMM_PAGEMAP_H
#define UHMM_PAGEMAP_H

#include "lib/types.h"
#include "uhmm/migrate.h"

/* Does the driver's struct have this member, and is it set? */
#define OPS_HAS(ops_, member_)                                                           \
	((ops_)->size >= offsetof(struct uhmm_pagemap_ops, member_) + sizeof(void *) &&  \
	 (ops_)->member_)

/* pfn: number of the device (0: a frame of the space) and page there */
#define PFN_PAGE_BITS 44
#define PFN_PAGE_MASK ((UINT64_C(1) << PFN_PAGE_BITS) - 1)

static inline uhmm_pfn_t pfn_make(unsigned device, uint64_t page)
{
	return ((uint64_t)device << PFN_PAGE_BITS | page) << UHMM_PFN_SHIFT |
	       UHMM_PFN_VALID;
}

static inline unsigned pfn_device(uhmm_pfn_t pfn)
{
	return (unsigned)(pfn >> (UHMM_PFN_SHIFT + PFN_PAGE_BITS)) % SPACE_DEVICES;
}

static inline uint64_t pfn_page(uhmm_pfn_t pfn)
{
	return pfn >> UHMM_PFN_SHIFT & PFN_PAGE_MASK;
}

enum map_page_use {
	MAP_PAGE_FREE = 0,
	MAP_PAGE_USED,    /* a driver has it, or an entry */
	MAP_PAGE_FREEING, /* page_free() has not returned yet */
};

enum map_page_part {
	MAP_PAGE_SINGLE = 0,
	MAP_PAGE_HEAD, /* of a folio, the other pages of which are */
	MAP_PAGE_TAIL,
};

struct map_page {
	uintptr_t owner; /* where the program has it; 0: nowhere (any more). Atomic */
	uint32_t use;    /* enum map_page_use; atomic */
	uint32_t part;   /* enum map_page_part; atomic, changed by who has the page */
};

/* Faults for a driver's migrate_to_ram(): about as many as threads that touch pages. */
#define MAP_FAULTS_MAX 1024u

/* See pagemap_fault.h. */
struct map_faults {
	struct uhmm_lock lock; /* of first, nr, addr; nr is read without as well */
	uint32_t first, nr;
	uintptr_t addr[MAP_FAULTS_MAX];
	uint32_t work; /* futex: the thread's bell */
	bool running;  /* atomic; set false under the lock */
	uint32_t tid;  /* of the thread; futex: 0 until it has begun */
	struct os_thread thread;
};

/* Processes that have pages of one device at a time. */
#define SHARE_PROCESSES 256u

struct map_member {
	uint32_t state; /* enum member_state; atomic */
	uint32_t pad;
	struct os_life life;
};

/* In memory that the processes share; behind it: how many have each page, and which. */
struct map_share {
	struct map_member member[SHARE_PROCESSES];
};

struct uhmm_pagemap {
	struct uhmm_space *sp;
	struct uhmm_device *dev;
	unsigned number; /* as a device of the space */
	uint64_t nr_pages;
	uint64_t nr_used; /* pages that are not free; atomic */
	const void *owner;
	struct uhmm_pagemap_ops ops;
	void *ctx;
	struct map_faults faults;
	/* Of one whose pages forked processes share, or NULL; pagemap_share.h. */
	struct map_share *share;
	uint32_t member, child; /* this process in it; that which is about to be made */
	char *memory; /* of a coherent one, registered on the space's uffd; or NULL */
	struct map_page *page; /* takes memory where pages were used */
};

/* The page map of this number, or NULL: none, or a storage device. */
static inline struct uhmm_pagemap *pagemap_at(struct uhmm_space *sp, unsigned number)
{
	return __atomic_load_n(&sp->pagemap[number], __ATOMIC_ACQUIRE);
}

/* Where a page of a coherent page map is while the program has it not. */
static inline uintptr_t pagemap_addr(const struct uhmm_pagemap *map, uint64_t page)
{
	return (uintptr_t)map->memory + page * PAGE_SIZE;
}

/* Is it of the kind that these UHMM_SELECT_* flags ask for, and of this owner? */
static inline bool pagemap_selected(const struct uhmm_pagemap *map, uint32_t flags,
				    const void *owner)
{
	return map && map->owner == owner &&
	       flags & (map->memory ? UHMM_SELECT_DEVICE_COHERENT :
				      UHMM_SELECT_DEVICE_PRIVATE);
}

static inline uintptr_t pagemap_owner(const struct uhmm_pagemap *map, uint64_t page)
{
	return __atomic_load_n(&map->page[page].owner, __ATOMIC_RELAXED);
}

static inline void pagemap_set_owner(struct uhmm_pagemap *map, uint64_t page,
				     uintptr_t addr)
{
	__atomic_store_n(&map->page[page].owner, addr, __ATOMIC_RELAXED);
}

static inline enum map_page_part pagemap_part(const struct uhmm_pagemap *map,
					      uint64_t page)
{
	return (enum map_page_part)__atomic_load_n(&map->page[page].part,
						   __ATOMIC_RELAXED);
}

/* A page map that the space does not know yet. -EINVAL: config; -ENOMEM. */
int pagemap_make(struct uhmm_space *sp, const struct uhmm_pagemap_config *config,
		 struct uhmm_pagemap **map);
/* In a forked child that has a userfaultfd of its own. */
void pagemap_register_memory(struct uhmm_space *sp);
/* Its device is closed. */
void pagemap_free(struct uhmm_pagemap *map);
/* A page that nobody uses is used. -EINVAL: no such page; -EBUSY. */
int pagemap_get(struct uhmm_pagemap *map, uint64_t page);
/* Is it one that a migration may have as a destination: got, and nowhere yet? */
bool pagemap_is_spare(const struct uhmm_pagemap *map, uint64_t page);
/* The same of a folio. */
bool pagemap_is_spare_folio(const struct uhmm_pagemap *map, uint64_t head);
/* Puts all of these; nobody has the page map in use. */
void pagemap_put_spares(struct uhmm_pagemap *map);

/* Nobody uses the folio any more. */
void pagemap_put_folio(struct uhmm_pagemap *map, uint64_t head);
/*
 * The pages of a folio are single ones from now on, that of addr and those behind it. By
 * who changes its entry.
 */
void pagemap_split(struct uhmm_pagemap *map, uint64_t head, uintptr_t addr);
/* All bytes of a folio. 0; -EIO: some of them are lost. */
int pagemap_load_folio(struct uhmm_pagemap *map, uint64_t head, char *buf);

#endif
