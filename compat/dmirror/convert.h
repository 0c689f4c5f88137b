/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a private mapping of a file that were written are anonymous memory to the
 * kernel, and migrate. userfaultfd knows no such mapping. So they are given one of their
 * own: an anonymous mapping takes their place, with their bytes. What was not written
 * stays the file's.
 *
 * A thread that wrote to such a page meanwhile would lose that: so it is done only where
 * the program has one thread, and else these pages stay, as pages may. And who discards
 * such a page (MADV_DONTNEED) finds zeros there and not the file.
 */
#ifndef COMPAT_DMIRROR_CONVERT_H
#define COMPAT_DMIRROR_CONVERT_H

#include <stdint.h>

struct work;

/* Within [start, end). Takes the lock of the mappings. */
void convert_range(struct work *w, uintptr_t start, uintptr_t end);

#endif
