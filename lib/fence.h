/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence: near the budget, mappings are registered before they are touched, so that a
 * thread that fills fresh memory faults to us and pays for what it takes (fault.c grants
 * pages out of the budget's room). Without it the kernel would hand out memory as fast as
 * it can be touched, gigabytes in the time the worker needs to notice.
 *
 * Mappings made after the last pass are not fenced yet: the worker makes a pass whenever
 * the address space has changed, as often as the room left demands.
 */
#ifndef UHMM_FENCE_H
#define UHMM_FENCE_H

#include "lib/types.h"

int fence_init(struct uhmm_space *sp);
void fence_fini(struct uhmm_space *sp);
/* Registers every mapping of the program that is not known yet. The worker's. */
void fence_raise(struct uhmm_space *sp);
/* The program unmapped or moved [start, end): what is there next is not registered. */
void fence_forget(struct uhmm_space *sp, uintptr_t start, uintptr_t end);

#endif
