/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices, one of each number in a process: their memory, page by page.
 *
 * Memory comes in chunks, as many as are needed. That of a private device is the shim's,
 * and a forked child has a copy of it; that of a coherent one is its page map's. Who
 * allocates or takes chunks away holds the lock of the mappings, for reading or writing;
 * pages become free at any time, on any thread.
 */
#ifndef COMPAT_DMIRROR_DEVICE_H
#define COMPAT_DMIRROR_DEVICE_H

#include <stdbool.h>

#include "compat/dmirror/abi.h"
#include "uhmm/device.h"
#include "uhmm/migrate.h"

/* As in the kernel. */
#define CHUNK_PAGES (UINT64_C(256) << (20 - 12))
/* 4 GiB a device: it is a test's device, and its memory is the machine's. */
#define DEVICE_CHUNKS_MAX 16
#define DEVICE_PAGES_MAX (DEVICE_CHUNKS_MAX * CHUNK_PAGES)

#define BLOCK_PAGES UHMM_FOLIO_PAGES
#define CHUNK_BLOCKS (CHUNK_PAGES / BLOCK_PAGES)
#define NR_BLOCKS (DEVICE_CHUNKS_MAX * CHUNK_BLOCKS)

/* As many pages as a folio has, where one may be. */
struct block {
	uint64_t used[BLOCK_PAGES / 64];
	uint32_t nr_used;
	bool folio; /* all of them are one */
};

struct chunk {
	char *memory;        /* of a private device; else NULL */
	struct block *block; /* CHUNK_BLOCKS; NULL: the device has no such chunk */
	uint64_t nr_used;
};

struct device {
	struct uhmm_space *space;
	struct uhmm_pagemap *pagemap;
	unsigned number;
	bool coherent;
	struct uhmm_lock bytes; /* of pages that mirrors read and write */
	struct uhmm_lock lock;  /* of all that follows; a leaf */
	struct chunk chunk[DEVICE_CHUNKS_MAX];
	unsigned last; /* block that a page was taken from */
};

/* -errno: it is not there. */
int device_init(struct device *d, struct uhmm_space *space, unsigned number);
/* Pages that a migration may have as destinations: how many of nr there were. */
size_t device_alloc(struct device *d, size_t nr, uhmm_pfn_t *pfns);
/* A folio. False: there is none, or the device is coherent, which has none. */
bool device_alloc_folio(struct device *d, uhmm_pfn_t *pfn);
/* The bytes of a page of a private device. */
void *device_bytes(const struct device *d, uint64_t page);
/* Of a destination, or of a source of a migration; of a folio all of them. */
void *device_pfn_bytes(const struct device *d, uhmm_pfn_t pfn);
/*
 * Everything goes back to memory; chunks that are empty then are taken away. With the
 * lock of the mappings held for writing, so that no migration is under way.
 */
int device_evict(struct device *d);

#endif
