/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A space's life. Embedders (api.c for applications, the preload for whole programs)
 * create one, open its devices and start it.
 */
#ifndef UHMM_SPACE_H
#define UHMM_SPACE_H

#include "lib/types.h"

struct space_config {
	uint32_t delivery;     /* enum uhmm_delivery */
	bool whole;            /* manage all private anonymous memory */
	bool private_files;    /* see os_private_files() */
	/* fork() fails where fork_prepare() does */
	bool may_refuse;
	/* For tests: each other so many ns all that may be is evicted; 0: what must. */
	uint64_t evict_ns;
	bool need_fork_events; /* fail with -EPERM rather than do without */
	/* do without: the embedder sees each fork, and its child */
	bool no_fork_events;
	int64_t limit_pages;   /* budget; 0: none */
	uint64_t frame_pages;  /* at most this many isolated at a time; 0: a default */
	uint64_t *counter;     /* where counters live, [COUNT_NR]; NULL: in the space */
	struct space_hooks hooks;
};

/* How the space's userfaultfd is opened. */
unsigned space_uffd_flags(const struct uhmm_space *sp);

/* -EPERM, -ENOSYS, -ENOMEM. Nothing runs yet. */
int space_create(const struct space_config *config, struct uhmm_space **space);
/* Takes a device that was opened by a spec. Its number, 1.., or -ENOSPC. */
int space_add_device(struct uhmm_space *sp, struct uhmm_device *dev);
/* The same; it has its number then. */
int space_add_pagemap(struct uhmm_space *sp, struct uhmm_pagemap *map);
/* Its number, or -EINVAL: not a device of this space. */
int space_find_device(struct uhmm_space *sp, const struct uhmm_device *dev);
/* Starts the reader and the worker. */
int space_start(struct uhmm_space *sp);
/* The same for an embedder whose own thread is to be the worker (reclaim_main). */
int space_start_reader(struct uhmm_space *sp);
/*
 * Brings everything back; nothing goes out again. -ENOMEM: the space lives on as before.
 */
int space_destroy_prepare(struct uhmm_space *sp);
/*
 * Brings the device's pages back and closes it. -EINVAL: not open, or somebody else is
 * closing it. -EBUSY: a page map of which pages are in use still.
 */
int space_evict_device(struct uhmm_space *sp, struct uhmm_device *dev);
/* The first half of that: what comes there meanwhile stays. -ENOMEM. */
int space_bring_back(struct uhmm_space *sp, unsigned device);
/* Stops and frees. -EIO: pages were lost, and stay poisoned. */
int space_destroy(struct uhmm_space *sp);

#endif
