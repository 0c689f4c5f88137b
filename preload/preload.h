/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `uhmm run` loads into each process of the tree; see preload.c.
 */
#ifndef UHMM_PRELOAD_H
#define UHMM_PRELOAD_H

#include <stdint.h>

#include "preload/ctl.h"

struct uhmm_space;

/* ---- usage.c: what this process uses, published for the others -------------------- */

struct usage {
	int family;          /* pages may be shared with a relative: since a fork */
	int64_t pss_pages;   /* last exact share, and the resident pages at that time */
	int64_t rss_pages;
	uint64_t next_ns;    /* when the exact share may be asked for again */
};

/* After fork, in parent and child. */
void usage_forked(struct usage *usage);
/* This process's part of the tree's memory, each shared page counted by its share. */
int64_t usage_pages(struct usage *usage, int64_t rss_pages);

#endif
