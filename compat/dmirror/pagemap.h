/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/self/pagemap: the kernel shows a page on a private device as one that is swapped
 * out. Ours are nowhere, as far as it knows. So what a program reads there is completed.
 */
#ifndef COMPAT_DMIRROR_PAGEMAP_H
#define COMPAT_DMIRROR_PAGEMAP_H

#include <sys/types.h>

/* A file was opened by this path; fd may be -1. */
void pagemap_opened(const char *path, int fd);
/* n bytes, or none, were read from it at an offset, if it is such a file. */
void pagemap_read(int fd, void *buf, ssize_t n, off_t offset);
/* The offset at which the next read() will be, or -1: it is no such file. */
off_t pagemap_offset(int fd);

#endif
