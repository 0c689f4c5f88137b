/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappings that fork() leaves empty in the child (MADV_WIPEONFORK, MAP_DROPPABLE) or out
 * altogether (MADV_DONTFORK): what was migrated of them is forgotten there.
 */
#ifndef UHMM_WIPE_H
#define UHMM_WIPE_H

#include "lib/types.h"

/* The child, while it takes over. */
struct wiped {
	struct uhmm_space *sp;
	struct range_set *set; /* asked for when first needed */
};

/* Is the mapping around addr empty on purpose? */
bool wipe_is_wiped(struct wiped *wiped, uintptr_t addr);
/* Forgets what was migrated of wiped mappings, and of none. */
void wipe_apply(struct wiped *wiped);
void wipe_fini(struct wiped *wiped);

/* The set becomes those of a process; -errno: they are not known, or not all. */
int wipe_list(uint32_t pid, struct range_set *set);
/* Of this one; ends the process where that cannot be. */
void wipe_list_own(struct range_set *set);

#endif
