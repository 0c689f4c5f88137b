/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of libc that this library stands in front of. real_bind() finds them; it
 * is called before the program starts, and by whoever is called even earlier.
 */
#ifndef COMPAT_DMIRROR_REAL_H
#define COMPAT_DMIRROR_REAL_H

#include <stddef.h>
#include <sys/types.h>

struct real {
	int (*open)(const char *path, int flags, ...);
	int (*openat)(int dir, const char *path, int flags, ...);
	int (*close)(int fd);
	int (*close_range)(unsigned first, unsigned last, int flags);
	int (*dup)(int fd);
	int (*dup2)(int fd, int to);
	int (*dup3)(int fd, int to, int flags);
	int (*fcntl)(int fd, int op, ...);
	int (*ioctl)(int fd, unsigned long request, ...);
	ssize_t (*read)(int fd, void *buf, size_t len);
	ssize_t (*pread)(int fd, void *buf, size_t len, off_t offset);
	void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
	int (*munmap)(void *addr, size_t len);
	int (*mprotect)(void *addr, size_t len, int prot);
	int (*pkey_mprotect)(void *addr, size_t len, int prot, int pkey);
	void *(*mremap)(void *addr, size_t len, size_t new_len, int flags, ...);
	int (*madvise)(void *addr, size_t len, int advice);
};

extern struct real real;
void real_bind(void);

/* What a program sees of this library. */
#define EXPORT __attribute__((visibility("default")))

#endif
