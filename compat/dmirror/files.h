/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which descriptors are of a device. Behind each is a real one, an empty file in memory:
 * so that it has a number, can be closed, duplicated, inherited and sent.
 *
 * A descriptor that was closed behind our back, and its number given to another file, is
 * told by the inode.
 */
#ifndef COMPAT_DMIRROR_FILES_H
#define COMPAT_DMIRROR_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What files in memory are called: of the descriptors, and of what is mapped of them. */
#define FILES_MEMORY_NAME "hmm_dmirror"

struct mirror;

/* The device that a path names, or -1. */
int files_number(const char *path);
/* A new descriptor, or -errno. flags: of open(). */
int files_open(unsigned number, int flags);
/* The mirror behind a descriptor, with a reference, or NULL. */
struct mirror *files_get(int fd);
/* One of a device that this process has opened, with a reference, or NULL. */
struct mirror *files_any(unsigned number);
/* NULL is fine. With the last one the device is evicted. */
void files_put(struct mirror *m);
/* `to` is what `from` is now; the result has to be put. */
struct mirror *files_copy(int from, int to);
/* Before `fd` is closed, or becomes another file; the result has to be put. */
struct mirror *files_forget(int fd);
/* Calls close for each that is of a device in first..last. */
void files_each(unsigned first, unsigned last, void (*fn)(int fd));

void files_fork_prepare(void);
void files_fork_parent(void);
void files_fork_child(void);

#endif
