/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compat/dmirror on the simulated machine: what it has of the system otherwise, of the
 * one process there is. For dmirror.c.
 */
#ifndef FUZZ_DMIRROR_SIM_H
#define FUZZ_DMIRROR_SIM_H

#include <stddef.h>
#include <stdint.h>

#include "compat/dmirror/abi.h"

struct uhmm_space;

/* The space that devices are opened in; none of them is there yet. */
void dmirror_sim_begin(struct uhmm_space *space);
/* As in a child of fork(): what was opened before is nothing any more. */
void dmirror_sim_forked(void);
/* All devices give back what they have, and are gone. No file is open. */
void dmirror_sim_end(void);
/* What the last call was, and had done when it came to an end. */
extern struct dmirror_cmd dmirror_sim_last;
/* Copies memory of the arena, whatever is there: 0 or -EFAULT. */
int dmirror_sim_read(void *to, uintptr_t addr, size_t len);
int dmirror_sim_write(uintptr_t addr, const void *from, size_t len);

#endif
