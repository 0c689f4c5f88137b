/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the library's own: what devices see as uhmm_host_map() and its like, and what
 * only the core needs besides.
 *
 * Runs of pages from large reservations ("regions") that are made as they are needed
 * and grow geometrically. A run takes address space for the next power of two of its
 * pages, is aligned to that (up to 2 MiB), and takes memory for what was written.
 * Mapping and unmapping cost about a microsecond, mostly the system call that gives
 * memory back, and no search is longer than the number of orders (powers of two),
 * however much is mapped.
 *
 * Any thread, also while a fault is being resolved.
 */
#ifndef UHMM_HOST_H
#define UHMM_HOST_H

#include <stddef.h>
#include <stdint.h>

#include "uhmm/device.h"

/*
 * Around fork(): between the two calls nobody is inside the allocator, so that the
 * child's copy of it is whole. The forking thread calls prepare before, and done
 * afterwards in the parent and in the child. Stores and devices are quiet by then: no
 * batch is in flight.
 */
void host_fork_prepare(void);
void host_fork_done(void);
/*
 * In a child that was made without that: what was mapped stays as it is and is never
 * unmapped, what is mapped from now on comes from elsewhere.
 */
void host_forget(void);

struct host_stat {
	uint64_t bytes_reserved; /* address space */
	uint64_t bytes_mapped;   /* of runs in use, rounded up to pages */
	uint64_t runs;           /* in use */
	uint32_t regions;
};
void host_stat(struct host_stat *stat);

/*
 * Calls fn for every part of the regions that can be read, in use or free (then: zeros).
 * Larger than one region may be: not. For tests that look for bytes; runs of more than
 * 1 GiB are not among them.
 */
void host_for_each(void (*fn)(void *ctx, void *addr, size_t size_bytes), void *ctx);

/* Is everything as it should be? Walks all regions. For tests. */
int host_is_valid(void);

/* Releases all regions. The caller sees to it that nothing is mapped. For tests. */
void host_reset(void);

#endif
