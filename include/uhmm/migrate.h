/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/migrate.h>: migration in three steps, for drivers of devices with memory of their
 * own. What the kernel's migrate_vma_setup(), migrate_vma_pages() and
 * migrate_vma_finalize() are to drivers in the kernel (mm/migrate_device.c, Linux 6.1 to
 * 7.2), these are to drivers in a process.
 *
 *	struct uhmm_migrate m = {
 *		.size = sizeof(m), .start = start, .end = end, .src = src, .dst = dst,
 *		.flags = UHMM_SELECT_SYSTEM,
 *	};
 *	uhmm_migrate_setup(space, &m);     // pages are out of the program's reach
 *	for each i with src[i] & UHMM_PFN_MIGRATE:
 *		dst[i] = a page of the device, with a copy of src[i]'s bytes
 *	uhmm_migrate_pages(space, &m);     // src[i] & MIGRATE: this one moves
 *	... update the device's page table ...
 *	uhmm_migrate_finalize(space, &m);  // the program may have them again
 *
 * Between setup and finalize a thread that touches a page of the migration sleeps. The
 * program may unmap, move or discard it: then its MIGRATE is gone after
 * uhmm_migrate_pages(), or, if that comes later, finalize drops it. fork() copies it from
 * where it was before. No lock is held between the calls: the driver may touch any other
 * memory, and may take as long as it likes.
 *
 * Addresses are multiples of UHMM_PAGE_SIZE. The arrays src and dst have an element for
 * each page of [start, end), are the caller's, and may themselves lie in memory that
 * migrates, but not in the range. One migration is for one thread at a time; any number
 * of migrations may be under way.
 */
#ifndef UHMM_MIGRATE_H
#define UHMM_MIGRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uhmm/device.h"
#include "uhmm/uhmm.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct uhmm_pagemap;

/* A page frame number and flags; 0: no page. */
typedef uint64_t uhmm_pfn_t;

#define UHMM_PFN_VALID UINT64_C(0x1)   /* there is a page */
#define UHMM_PFN_MIGRATE UINT64_C(0x2) /* src: it can move; without VALID: a hole */
#define UHMM_PFN_WRITE UINT64_C(0x8)   /* src: the program may write there */
/*
 * The first of UHMM_FOLIO_PAGES pages that are one: of a huge page of 2 MiB, whose
 * address is a multiple of that. The elements of the others are 0.
 */
#define UHMM_PFN_COMPOUND UINT64_C(0x10)
/* dst: the bytes are lost. Who touches the page gets SIGBUS, until it is discarded. */
#define UHMM_PFN_ERROR UINT64_C(0x20)
#define UHMM_PFN_SHIFT 6

#define UHMM_FOLIO_PAGES 512u

static inline bool uhmm_pfn_is_valid(uhmm_pfn_t pfn)
{
	return (pfn & UHMM_PFN_VALID) != 0;
}

/* Where a page may come from; flags of struct uhmm_migrate, to be OR-ed. */
#define UHMM_SELECT_SYSTEM 0x1u          /* memory, and the space's storage devices */
#define UHMM_SELECT_DEVICE_PRIVATE 0x2u  /* private page maps of the same owner */
#define UHMM_SELECT_DEVICE_COHERENT 0x4u /* coherent ones */
#define UHMM_SELECT_COMPOUND 0x8u /* huge pages whole, where the range has all of one */
/*
 * Memory that may not be written too. To take such a page is not possible but by making
 * it writable for an instant, so the caller sees to it that until uhmm_migrate_pages()
 * nobody changes the mappings of the range, or writes where that is to end in SIGSEGV.
 * (In the kernel, callers hold the lock of the mappings.)
 */
#define UHMM_SELECT_READONLY 0x10u

struct uhmm_migrate {
	size_t size; /* sizeof(struct uhmm_migrate) */
	uintptr_t start, end;
	uhmm_pfn_t *src, *dst;
	const void *owner; /* of the page maps that DEVICE_* select */
	uint32_t flags;    /* UHMM_SELECT_* */
	uint32_t reserved; /* 0 */
	size_t npages;     /* out: pages of the range */
	size_t cpages;     /* out: elements of src that are not 0 */
	void *migration;   /* the library's; NULL before setup and after finalize */
	/* of struct uhmm_fault, in migrate_to_ram(): the page that was touched; else 0 */
	uhmm_pfn_t fault_page;
};

/*
 * Takes the pages that can move out of the program's reach. src[i] is then
 *   VALID|MIGRATE[|WRITE]  a page: its bytes do not change until finalize
 *   MIGRATE[|WRITE]        nothing was ever written there, so a page of zeros may be put
 *                          on the device directly; it is one still, if it still is at
 *                          uhmm_migrate_pages()
 *   0                      not now: pinned, locked, shared with another process in a way
 *                          that cannot be undone, in another migration, not selected
 * and dst[i] is 0. Pages that were reclaimed to one of the space's storage devices are
 * brought back first. With SELECT_COMPOUND a huge page is one element, and so is a hole
 * of a whole one that the program could have as a huge page.
 * 0, also if cpages is 0: then finalize is due all the same. -EINVAL: size, an address
 * that is not a page's, an empty range, one that is not within one mapping of private
 * anonymous memory, no arrays or overlapping ones, flags, a migration that was not
 * finalized. -ENOMEM. Since 0.1.
 */
int uhmm_migrate_setup(struct uhmm_space *space, struct uhmm_migrate *migrate);

/*
 * The same by the pages of a page map, wherever the program has them, for a driver that
 * needs its memory back: npages from first on, which src and dst have elements for. Of
 * flags two count: UHMM_SELECT_COMPOUND, a folio of which all pages are asked for is one
 * element then, its head's, and is split otherwise; and UHMM_SELECT_READONLY, for pages
 * of a coherent page map. start, end and owner are ignored. A page that the program has
 * not, that is in transition, or in which one of the two arrays or *migrate lies is 0.
 * 0; -EINVAL; -ENOMEM. Since 0.1.
 */
int uhmm_migrate_device_range(struct uhmm_pagemap *pagemap, uint64_t first, size_t npages,
			      struct uhmm_migrate *migrate);
/*
 * The same of these pages, of any page maps of the space: pfns has npages of them, and
 * may be migrate->src. Those of a folio follow its head's, or are 0. Since 0.1.
 */
int uhmm_migrate_device_pfns(struct uhmm_space *space, const uhmm_pfn_t *pfns,
			     size_t npages, struct uhmm_migrate *migrate);

/*
 * Commits: a page of which dst[i] is
 *   a page of a page map (uhmm_page_get())     goes there
 *   a page of memory (uhmm_page_alloc())       goes there, and back to the program
 *   UHMM_PFN_ERROR                             is lost
 *   0, or nothing that it could go to          stays where it was
 * A COMPOUND source goes as one if its destination is COMPOUND, and else page by page to
 * dst[i .. i + UHMM_FOLIO_PAGES), whose sources src[] then has.
 * MIGRATE stays set in src[i] where a page moves. 0; -EINVAL: not between setup and
 * finalize, or done before. Since 0.1.
 */
int uhmm_migrate_pages(struct uhmm_space *space, struct uhmm_migrate *migrate);

/*
 * Gives the pages back to the program, moved or not, and frees what is not needed:
 * sources of pages that moved, destinations of those that did not. Without
 * uhmm_migrate_pages() before it none has moved. 0; -EINVAL: there is no such migration.
 * Since 0.1.
 */
int uhmm_migrate_finalize(struct uhmm_space *space, struct uhmm_migrate *migrate);

/*
 * The bytes of a page of memory that a migration has as a source, or that was allocated;
 * of a COMPOUND one all UHMM_FOLIO_PAGES pages, one after the other; NULL for any other.
 * Since 0.1.
 */
void *uhmm_pfn_bytes(struct uhmm_space *space, uhmm_pfn_t pfn);

/*
 * Pages of memory for dst, to be written to: what is in them is of no meaning. Of nr that
 * were asked for it allocates as many as there is room for: how many, or -EINVAL,
 * -ENOMEM. What is not used by a migration that moves it there is to be freed, or is by
 * finalize if it was in dst. Since 0.1.
 */
int uhmm_page_alloc(struct uhmm_space *space, uhmm_pfn_t *pfns, unsigned nr);
/*
 * The same, of a node of a machine whose memory is not all alike (NUMA; numactl
 * --hardware lists them): what a page goes there for is to be near those who use it. A
 * machine with one kind of memory has node 0. -EINVAL: no such node; -ENOSYS: the kernel
 * knows no nodes. Since 0.1.
 */
int uhmm_page_alloc_on_node(struct uhmm_space *space, int node, uhmm_pfn_t *pfns,
			    unsigned nr);
/*
 * The same of a huge page, for the dst of a COMPOUND source: *pfn is COMPOUND. -EINVAL;
 * -ENOMEM: the system has no huge page now. Since 0.1.
 */
int uhmm_folio_alloc(struct uhmm_space *space, uhmm_pfn_t *pfn);
/* Of either kind. Since 0.1. */
void uhmm_page_free(struct uhmm_space *space, uhmm_pfn_t pfn);

/* ---- page maps: a device's own memory -------------------------------------------- */

enum uhmm_pagemap_type {
	/* The program cannot reach the pages: touching one brings it back to memory. */
	UHMM_PAGEMAP_PRIVATE = 1,
	/*
	 * The program uses the pages where they are. They are memory of this process,
	 * uhmm_pagemap_memory(), which the driver may place (mbind) but not lock. They
	 * stay until the driver migrates them, or a write after fork() makes a copy.
	 */
	UHMM_PAGEMAP_COHERENT = 2,
};

/* A page of a private page map that the program has touched. */
struct uhmm_fault {
	size_t size; /* sizeof(struct uhmm_fault) */
	struct uhmm_space *space;
	struct uhmm_pagemap *pagemap;
	uint64_t page;        /* of the page map */
	uintptr_t addr;       /* of the program */
	uhmm_pfn_t pfn;       /* for uhmm_migrate.fault_page */
	uintptr_t start, end; /* of the mapping: what may be migrated along */
};

/*
 * What a driver does for the pages of its device. copy_to_ram(), page_free() and
 * folio_split() are called on threads of the library and of the program, any number at a
 * time, also while the mappings of the program change: they must not touch memory that
 * migrates, nor call anything that does.
 */
struct uhmm_pagemap_ops {
	size_t size; /* sizeof(struct uhmm_pagemap_ops) */
	/*
	 * Copies a page to memory: the program has touched it, or everything is to come
	 * back. The page map's notifiers (<uhmm/range.h>) were told; the page stays on
	 * the device until page_free(). 0, or -EIO: it is lost. Must be set if the page
	 * map is private.
	 */
	int (*copy_to_ram)(void *ctx, uint64_t page, void *buf);
	/* Nobody uses the page any more, or the folio that it is the head of. Or NULL. */
	void (*page_free)(void *ctx, uint64_t page);
	/*
	 * In a child that fork() made, where the driver's memory was copied like any
	 * other. A migration that was under way is not, there: its pages are where they
	 * were, and if there was one all pages that were got for a destination, of
	 * memory too, have been freed. May be NULL. -errno ends the child.
	 */
	int (*after_fork)(void *ctx);
	/*
	 * The program has touched a page, and the driver brings it back by a migration of
	 * its own, with fault_page, and what else it likes along with it. On a thread of
	 * the page map that may do anything, one page at a time; who touched the page
	 * sleeps. 0: if the page is still on the device it is touched again. -errno: it
	 * is fetched by copy_to_ram(). May be NULL: always copy_to_ram(), which costs
	 * less. A touch that was served is not asked for once more when the page has gone
	 * to the device again; except, with UHMM_DELIVERY_THREAD, one that the kernel
	 * told of and that nobody has looked at since.
	 */
	int (*migrate_to_ram)(void *ctx, const struct uhmm_fault *fault);
	/*
	 * The UHMM_FOLIO_PAGES pages from head on, which were one, are single pages from
	 * now on, each freed for itself. May be NULL.
	 */
	void (*folio_split)(void *ctx, uint64_t head);
	/*
	 * As copy_to_ram(), of a folio at once: UHMM_FOLIO_PAGES pages, to memory in one
	 * piece. If it fails the folio is split, and each page is asked for by itself.
	 * May be NULL: copy_to_ram() of each.
	 */
	int (*copy_folio_to_ram)(void *ctx, uint64_t head, void *buf);
};

/*
 * fork() does not copy the device's memory: parent and child have the same pages, and one
 * is in use until all have given it up, or have ended. page_free() is called in the
 * process that does so last, or that notices; so what the driver knows of its memory lies
 * where they all see it. What more than one process has is only read by the device:
 * uhmm_range_fault() does not say WRITE of it, and REQ_WRITE brings the caller's own copy
 * to memory; mirrors are told PROTECTION at fork(). 256 processes may share a device at a
 * time; the memory of a child beyond that is filled at fork(), and its space unusable.
 */
#define UHMM_PAGEMAP_SHARED 0x1u

struct uhmm_pagemap_config {
	size_t size;       /* sizeof(struct uhmm_pagemap_config) */
	uint64_t nr_pages; /* of the device, below UHMM_DEVICE_PAGE_LIMIT */
	const void *owner; /* not NULL; drivers that share their pages give the same */
	const struct uhmm_pagemap_ops *ops; /* copied */
	void *ctx;
	uint32_t type;  /* enum uhmm_pagemap_type; 0: PRIVATE */
	uint32_t flags; /* UHMM_PAGEMAP_SHARED, of a private one; or 0 */
};

/*
 * Makes the memory of a device known to a space. Its pages are named by their number, 0
 * to nr_pages - 1. -EINVAL: config. -ENOMEM. -ENOSPC: a space has 15 devices and page
 * maps together. Since 0.1.
 */
int uhmm_pagemap_register(struct uhmm_space *space,
			  const struct uhmm_pagemap_config *config,
			  struct uhmm_pagemap **pagemap);
/*
 * Brings every page back to memory, and forgets the page map. -EBUSY: a migration has
 * pages of it. -ENOMEM: memory did not suffice; it is registered still. -EIO: pages
 * were lost. Since 0.1.
 */
int uhmm_pagemap_unregister(struct uhmm_pagemap *pagemap);
/* Brings every page back to memory. As above; it stays registered. Since 0.1. */
int uhmm_pagemap_evict(struct uhmm_pagemap *pagemap);
/*
 * The memory of a coherent page map, nr_pages pages, for placing it; NULL if it is
 * private. Pages that the program has are not there but at its addresses. Since 0.1.
 */
void *uhmm_pagemap_memory(struct uhmm_pagemap *pagemap);

/*
 * A page of the device that nobody uses becomes one that a migration may have as a
 * destination: what is in dst is freed by finalize if it is not used. -EINVAL: no such
 * page. -EBUSY: it is in use. Since 0.1.
 */
int uhmm_page_get(struct uhmm_pagemap *pagemap, uint64_t page, uhmm_pfn_t *pfn);
/* Gives such a page, or folio, back: page_free() is called. Since 0.1. */
void uhmm_page_put(struct uhmm_pagemap *pagemap, uint64_t page);
/*
 * The same of UHMM_FOLIO_PAGES pages that are one, from head on, a multiple of that:
 * *pfn is COMPOUND. -EINVAL also of a page map that is coherent or SHARED. Since 0.1.
 */
int uhmm_folio_get(struct uhmm_pagemap *pagemap, uint64_t head, uhmm_pfn_t *pfn);
/* The page map of a pfn, and the page's number in it; NULL: not of one. Since 0.1. */
struct uhmm_pagemap *uhmm_pfn_pagemap(struct uhmm_space *space, uhmm_pfn_t pfn,
				      uint64_t *page);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
