/* SPDX-License-Identifier: Apache-2.0 */
/* See pagemap.h. Where the pages are, the mirrors of open files say. */
#include "compat/dmirror/pagemap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/dmirror/files.h"
#include "compat/dmirror/mirror.h"

#define PM_SWAP (UINT64_C(1) << 62)

/* Files of this kind that a program has open at a time; of more we know nothing. */
#define OPEN_MAX 16

static struct {
	int fd; /* 0: none, for that is never one of ours */
	uint64_t inode;
} opened[OPEN_MAX];

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

void pagemap_opened(const char *path, int fd)
{
	char mine[32];
	unsigned i;

	if (fd <= 0 || strncmp(path, "/proc/", 6))
		return;
	snprintf(mine, sizeof(mine), "/proc/%d/pagemap", (int)getpid());
	if (strcmp(path, "/proc/self/pagemap") && strcmp(path, mine) &&
	    strcmp(path, "/proc/thread-self/pagemap"))
		return;
	for (i = 0; i < OPEN_MAX; i++) {
		int known = __atomic_load_n(&opened[i].fd, __ATOMIC_ACQUIRE);

		/* One that was closed is found by its number, or its inode. */
		if (known && known != fd && inode_of(known) == opened[i].inode)
			continue;
		opened[i].inode = inode_of(fd);
		__atomic_store_n(&opened[i].fd, fd, __ATOMIC_RELEASE);
		return;
	}
}

static bool is_known(int fd)
{
	unsigned i;

	for (i = 0; i < OPEN_MAX; i++)
		if (__atomic_load_n(&opened[i].fd, __ATOMIC_ACQUIRE) == fd)
			return fd && inode_of(fd) == opened[i].inode;
	return false;
}

off_t pagemap_offset(int fd)
{
	int error = errno;
	off_t offset = is_known(fd) ? lseek(fd, 0, SEEK_CUR) : -1;

	errno = error;
	return offset;
}

/* Pages from addr on that are on this mirror's device. */
static void complete(struct mirror *m, uintptr_t addr, uint64_t *entry, size_t nr)
{
	struct work *w = uhmm_host_map(sizeof(*w));
	uint64_t page;
	size_t i;

	if (!w)
		return;
	w->mirror = m;
	if (mirror_look(w, addr, addr + nr * PAGE) == 0)
		for (i = 0; i < nr; i++)
			if (w->pfns[i] & UHMM_RANGE_VALID &&
			    uhmm_range_pagemap(m->space, w->pfns[i], &page) ==
				    m->device->pagemap)
				entry[i] |= PM_SWAP;
	uhmm_host_unmap(w, sizeof(*w));
}

void pagemap_read(int fd, void *buf, ssize_t n, off_t offset)
{
	uint64_t *entry = buf, nr, done, left;
	int error = errno;
	struct mirror *m;
	unsigned device;

	if (n <= 0 || offset < 0 || (uintptr_t)buf % sizeof(*entry) || !is_known(fd))
		return;
	nr = (uint64_t)n / sizeof(*entry);
	for (device = 0; device < DMIRROR_DEVICES / 2; device++) {
		m = files_any(device);
		for (done = 0; m && done < nr; done += left) {
			left = nr - done < WINDOW_PAGES ? nr - done : WINDOW_PAGES;
			complete(m,
				 ((uint64_t)offset / sizeof(*entry) + done) << PAGE_SHIFT,
				 entry + done, left);
		}
		files_put(m);
	}
	errno = error;
}
