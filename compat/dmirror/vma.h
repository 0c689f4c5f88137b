/* SPDX-License-Identifier: Apache-2.0 */
/* The program's mappings, as /proc/self/maps has them. */
#ifndef COMPAT_DMIRROR_VMA_H
#define COMPAT_DMIRROR_VMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vma_kind {
	VMA_ANON,  /* private, of no file: what migrates */
	VMA_STACK, /* of the first thread, which the library leaves alone */
	VMA_FILE,  /* private, of a file: pages that were written are as anonymous ones */
	VMA_SHARED,  /* nothing of it migrates */
	VMA_SPECIAL, /* nor can it be asked for: huge pages of hugetlbfs, devices */
};

struct vma {
	uintptr_t start, end;
	bool read, write, exec;
	enum vma_kind kind;
};

/* A file that is read line by line. */
struct vma_text {
	int fd; /* -1: nothing is open */
	size_t at, filled;
	char text[8192];
};

/* Goes on where it stopped as long as it is asked for higher addresses. */
struct vma_cursor {
	struct vma vma; /* the last that was read */
	struct vma_text maps, smaps;
};

void vma_begin(struct vma_cursor *c);
void vma_end(struct vma_cursor *c);
/* The mapping at addr. False: there is none. */
bool vma_find(struct vma_cursor *c, uintptr_t addr, struct vma *vma);

#endif
