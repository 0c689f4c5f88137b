/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of address ranges: what an application gave to uhmm_manage(), what the preload
 * excludes; and which mappings a space takes pages from.
 */
#ifndef UHMM_LIB_RANGE_H
#define UHMM_LIB_RANGE_H

#include "lib/types.h"

/* -ENOSPC when full. */
int range_add(struct range_set *set, uintptr_t start, uintptr_t end);
/* Where there is no room to say which: all addresses. */
void range_add_or_all(struct range_set *set, uintptr_t start, uintptr_t end);
int range_remove(struct range_set *set, uintptr_t start, uintptr_t end);
/*
 * Empty, and nobody at it: of a set that the calling thread alone uses, or that fork()
 * has copied while somebody was.
 */
void range_reset(struct range_set *set);
/*
 * The first piece of [start, end) that is inside the set (or outside it). False: none.
 */
bool range_clip(struct range_set *set, bool inside, uintptr_t start, uintptr_t end,
		struct range *piece);
/* Is any of [start, end) inside? */
bool range_touches(struct range_set *set, uintptr_t start, uintptr_t end);

/* Is this a mapping whose pages can migrate, and may some of them? */
bool space_manages(struct uhmm_space *sp, const struct os_vma *vma);
/* The first piece of [start, end) that may be reclaimed. */
bool space_clip(struct uhmm_space *sp, uintptr_t start, uintptr_t end,
		struct range *piece);

#endif
