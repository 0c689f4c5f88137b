/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hot.c and hot_files.c have, by the names that programs call where they are built
 * with _FORTIFY_SOURCE, as distributions build theirs: with the size of the buffer, as
 * far as the compiler knew it, behind the arguments. Where less fits there than is asked
 * for it is libc's function that ends the program.
 */
#undef _FILE_OFFSET_BITS

#include "preload/preload.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/hot.h"

/* Declared only where this is built so itself. The names are libc's. */
ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __pread_chk(int fd, void *buf, size_t len, off_t at, size_t size);
ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t at, size_t size);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
int __poll_chk(struct pollfd *fds, nfds_t nr, int timeout, size_t size);
ssize_t __readlink_chk(const char *restrict path, char *restrict buf, size_t len,
		       size_t size);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int folder, const char *path, int flags);
int __openat64_2(int folder, const char *path, int flags);

static struct {
	__typeof__(__read_chk) *__read_chk;
	__typeof__(__pread64_chk) *__pread64_chk;
	__typeof__(__recv_chk) *__recv_chk;
	__typeof__(__poll_chk) *__poll_chk;
	__typeof__(__readlink_chk) *__readlink_chk;
	__typeof__(__open_2) *__open_2;
	__typeof__(__openat_2) *__openat_2;
} next __attribute__((section(".data")));

void hot_fortified_bind(void)
{
	NEXT(__read_chk);
	NEXT(__pread64_chk);
	NEXT(__recv_chk);
	NEXT(__poll_chk);
	NEXT(__readlink_chk);
	NEXT(__open_2);
	NEXT(__openat_2);
}

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	long r;

	if (len <= size && hot_call(SYS_read, fd, (uintptr_t)buf, len, 0, len, &r))
		return r;
	return OR_NEXT(__read_chk)(fd, buf, len, size);
}

static ssize_t pread_at(int fd, void *buf, size_t len, off64_t at, size_t size)
{
	long r;

	if (len <= size && hot_call(SYS_pread64, fd, (uintptr_t)buf, len, at, len, &r))
		return r;
	return OR_NEXT(__pread64_chk)(fd, buf, len, at, size);
}

EXPORT ssize_t __pread_chk(int fd, void *buf, size_t len, off_t at, size_t size)
{
	return pread_at(fd, buf, len, at, size);
}

EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t at, size_t size)
{
	return pread_at(fd, buf, len, at, size);
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
	long r;

	if (len <= size &&
	    hot_call(SYS_recvfrom, fd, (uintptr_t)buf, len, flags, len, &r))
		return r;
	return OR_NEXT(__recv_chk)(fd, buf, len, size, flags);
}

EXPORT int __poll_chk(struct pollfd *fds, nfds_t nr, int timeout, size_t size)
{
	long r;

	if (nr <= size / sizeof(*fds) &&
	    NAMED(SYS_poll, (uintptr_t)fds, nr, (uint64_t)timeout))
		return (int)r;
	return OR_NEXT(__poll_chk)(fds, nr, timeout, size);
}

EXPORT ssize_t __readlink_chk(const char *restrict path, char *restrict buf, size_t len,
			      size_t size)
{
	long r;

	if (len <= size && NAMED(SYS_readlink, (uintptr_t)path, (uintptr_t)buf, len))
		return r;
	return OR_NEXT(__readlink_chk)(path, buf, len, size);
}

/* Without a mode: who needs one is ended. */
static int open_here(const char *path, int flags)
{
	long r;

	if (!__OPEN_NEEDS_MODE(flags) &&
	    NAMED(SYS_openat, (uint64_t)AT_FDCWD, (uintptr_t)path, (uint64_t)flags))
		return (int)r;
	return OR_NEXT(__open_2)(path, flags);
}

EXPORT int __open_2(const char *path, int flags)
{
	return open_here(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
	return open_here(path, flags);
}

static int open_at(int folder, const char *path, int flags)
{
	long r;

	if (!__OPEN_NEEDS_MODE(flags) &&
	    NAMED(SYS_openat, (uint64_t)folder, (uintptr_t)path, (uint64_t)flags))
		return (int)r;
	return OR_NEXT(__openat_2)(folder, path, flags);
}

EXPORT int __openat_2(int folder, const char *path, int flags)
{
	return open_at(folder, path, flags);
}

EXPORT int __openat64_2(int folder, const char *path, int flags)
{
	return open_at(folder, path, flags);
}
