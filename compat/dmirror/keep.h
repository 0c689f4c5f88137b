/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that does not migrate, whatever a program says: between setup and finalize the
 * thread that migrates would wait for it, or the library's threads would, and so for
 * ever. It is the shared libraries' (libc and this one among them), the thread's own
 * stack, as far as it is in use, and what lies around its thread pointer.
 */
#ifndef COMPAT_DMIRROR_KEEP_H
#define COMPAT_DMIRROR_KEEP_H

#include <stdbool.h>
#include <stdint.h>

/* What is loaded before the program starts, as a program may have it; more migrates. */
#define KEEP_OBJECTS_MAX 128

struct keep {
	uintptr_t stack, thread; /* addresses that the two are found at */
};

/* Before the program starts. */
void keep_init(void);
/* For calls of this thread that are made from here. */
void keep_begin(struct keep *k);
/*
 * May addr migrate? Then *end is made less if what follows may not; else it is made less
 * if what follows may.
 */
bool keep_clip(const struct keep *k, uintptr_t addr, uintptr_t *end);

#endif
