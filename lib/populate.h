/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Touching pages for the program, before a device or the kernel does.
 */
#ifndef UHMM_POPULATE_H
#define UHMM_POPULATE_H

#include "lib/types.h"

/*
 * As if the program touched each page of [start, end). That may take as long as any of
 * its faults: the world is not entered, and no lock is held. 0, or -EFAULT: one cannot be
 * touched.
 */
int populate(struct uhmm_space *sp, uintptr_t start, uintptr_t end, bool write);

/*
 * Is the mapping at addr registered with this space, or can it be? The world is entered,
 * the gate is not. 0; -EAGAIN: not to be told now; -EINVAL: no.
 */
int populate_owns(struct uhmm_space *sp, uintptr_t addr);

#endif
