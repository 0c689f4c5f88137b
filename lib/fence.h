/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence: near the budget, mappings are registered before they are touched, so that a
 * thread that fills fresh memory faults to us and pays for what it takes (fault.c grants
 * pages out of the budget's room). Without it the kernel would hand out memory as fast as
 * it can be touched, gigabytes in the time the worker needs to notice.
 *
 * What was read but never written before it was registered has the kernel's zero page,
 * and would be written without a fault: the worker makes holes of such pages (hand.h).
 *
 * Mappings made after the last pass are not fenced yet: the worker makes a pass whenever
 * the address space has changed, as often as the room left demands.
 */
#ifndef UHMM_FENCE_H
#define UHMM_FENCE_H

#include "lib/types.h"

int fence_init(struct uhmm_space *sp);
void fence_fini(struct uhmm_space *sp);
/*
 * Registers every mapping of the program that is not known yet, and adds to news what was
 * not before. The worker's. True: the fence has no gap; false: an event was unread, or
 * mappings went away meanwhile, and it is to be raised again.
 */
bool fence_raise(struct uhmm_space *sp, struct range_set *news);
/*
 * Is all that the program did to its mappings before this call known and applied? Waits
 * while the reader applies.
 */
bool fence_is_current(struct uhmm_space *sp);
/* Was anything forgotten since the last walk began? */
bool fence_has_gaps(const struct uhmm_space *sp);
/* The program unmapped or moved [start, end): what is there next is not registered. */
void fence_forget(struct uhmm_space *sp, uintptr_t start, uintptr_t end);

#endif
