/* SPDX-License-Identifier: Apache-2.0 */
/* For os_linux_file.c: reads of a file that are under way at the same time. */
#ifndef UHMM_OS_LINUX_RING_H
#define UHMM_OS_LINUX_RING_H

#include <stdbool.h>

struct uhmm_file_read;

/* Makes what it takes, once; where io_uring is not permitted, nothing. */
void os_linux_rings_open(void);
/* False: no ring is free, and nothing was read. */
bool os_linux_ring_read(int fd, struct uhmm_file_read *read, unsigned nr, unsigned depth);

/* One of them by itself. */
void os_linux_file_read(int fd, struct uhmm_file_read *read);

#endif
