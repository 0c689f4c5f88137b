/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappings that fork() leaves empty in the child (MADV_WIPEONFORK, MAP_DROPPABLE): what was
 * migrated of them must read as zeros there too. The kernel does not say cheaply which they
 * are, so a *witness* does: before the fork every mapping with migrated pages has a page
 * that is present; a mapping in which the child finds none was wiped.
 */
#ifndef UHMM_WIPE_H
#define UHMM_WIPE_H

#include "lib/types.h"

/* The parent's reader, before the space freezes: sees to it that there are witnesses. */
void wipe_witness(struct uhmm_space *sp);
/* The child: forgets what was migrated of wiped mappings. */
void wipe_apply(struct uhmm_space *sp);

#endif
