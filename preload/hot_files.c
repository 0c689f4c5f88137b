/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls about files that programs make often; see hot.c. (fstatat() is in task.c.)
 */
#undef _FILE_OFFSET_BITS /* which makes one of stat() and stat64() */

#include "preload/preload.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/os/os_linux.h"
#include "preload/hot.h"

static struct {
	__typeof__(open) *open;
	__typeof__(openat) *openat;
	__typeof__(stat) *stat;
	__typeof__(lstat) *lstat;
	__typeof__(fstat) *fstat;
	__typeof__(access) *access;
	__typeof__(readlink) *readlink;
	__typeof__(lseek) *lseek;
	__typeof__(close) *close;
} next __attribute__((section(".data")));

void hot_files_bind(void)
{
	NEXT(open);
	NEXT(openat);
	NEXT(stat);
	NEXT(lstat);
	NEXT(fstat);
	NEXT(access);
	NEXT(readlink);
	NEXT(lseek);
	NEXT(close);
}

/* Of a machine of 64 bits those for large files are no others. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64) &&
		       sizeof(off_t) == sizeof(off64_t),
	       "the same");

/* ---- opened and closed ------------------------------------------------------------ */

static int open_at(int folder, const char *path, int flags, mode_t mode)
{
	long r;

	if (NAMED(SYS_openat, (uint64_t)folder, (uintptr_t)path, (uint64_t)flags, mode))
		return (int)r;
	return OR_NEXT(openat)(folder, path, flags, mode);
}

static int open_here(const char *path, int flags, mode_t mode)
{
	long r;

	if (NAMED(SYS_openat, (uint64_t)AT_FDCWD, (uintptr_t)path, (uint64_t)flags, mode))
		return (int)r;
	return OR_NEXT(open)(path, flags, mode);
}

/* What follows the flags; who makes no file gives none. */
static mode_t mode_of(int flags, va_list ap)
{
	return __OPEN_NEEDS_MODE(flags) ? va_arg(ap, mode_t) : 0;
}

#define MODE(flags)                                                                      \
	va_list ap;                                                                      \
	mode_t mode;                                                                     \
	va_start(ap, flags);                                                             \
	mode = mode_of(flags, ap);                                                       \
	va_end(ap)

EXPORT int open(const char *path, int flags, ...)
{
	MODE(flags);
	return open_here(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
	MODE(flags);
	return open_here(path, flags, mode);
}

EXPORT int openat(int folder, const char *path, int flags, ...)
{
	MODE(flags);
	return open_at(folder, path, flags, mode);
}

EXPORT int openat64(int folder, const char *path, int flags, ...)
{
	MODE(flags);
	return open_at(folder, path, flags, mode);
}

EXPORT int close(int fd)
{
	long r;

	/* Of what is ours the guard says that it is not open. */
	if (!os_linux_is_own(fd) && NAMED(SYS_close, (uint64_t)fd))
		return (int)r;
	return OR_NEXT(close)(fd);
}

static off64_t seek(int fd, off64_t at, int whence)
{
	long r;

	if (NAMED(SYS_lseek, (uint64_t)fd, (uint64_t)at, (uint64_t)whence))
		return r;
	return OR_NEXT(lseek)(fd, at, whence);
}

EXPORT off_t lseek(int fd, off_t at, int whence)
{
	return seek(fd, at, whence);
}

EXPORT off64_t lseek64(int fd, off64_t at, int whence)
{
	return seek(fd, at, whence);
}

/* ---- looked at -------------------------------------------------------------------- */

bool hot_stat(int folder, const char *path, void *st, int flags, int *result)
{
	long r;

	if (!NAMED(SYS_newfstatat, (uint64_t)folder, (uintptr_t)path, (uintptr_t)st,
		   (uint64_t)flags))
		return false;
	*result = (int)r;
	return true;
}

static int stat_here(const char *path, void *st)
{
	int r;

	return hot_stat(AT_FDCWD, path, st, 0, &r) ? r : OR_NEXT(stat)(path, st);
}

EXPORT int stat(const char *restrict path, struct stat *restrict st)
{
	return stat_here(path, st);
}

EXPORT int stat64(const char *restrict path, struct stat64 *restrict st)
{
	return stat_here(path, st);
}

static int stat_link(const char *path, void *st)
{
	int r;

	return hot_stat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW, &r) ?
		       r :
		       OR_NEXT(lstat)(path, st);
}

EXPORT int lstat(const char *restrict path, struct stat *restrict st)
{
	return stat_link(path, st);
}

EXPORT int lstat64(const char *restrict path, struct stat64 *restrict st)
{
	return stat_link(path, st);
}

static int stat_open(int fd, void *st)
{
	long r;

	if (hot_call(SYS_fstat, fd, (uintptr_t)st, 0, 0, sizeof(struct stat), &r))
		return (int)r;
	return OR_NEXT(fstat)(fd, st);
}

EXPORT int fstat(int fd, struct stat *st)
{
	return stat_open(fd, st);
}

EXPORT int fstat64(int fd, struct stat64 *st)
{
	return stat_open(fd, st);
}

EXPORT int access(const char *path, int mode)
{
	long r;

	if (NAMED(SYS_access, (uintptr_t)path, (uint64_t)mode))
		return (int)r;
	return OR_NEXT(access)(path, mode);
}

EXPORT ssize_t readlink(const char *restrict path, char *restrict buf, size_t len)
{
	long r;

	if (NAMED(SYS_readlink, (uintptr_t)path, (uintptr_t)buf, len))
		return r;
	return OR_NEXT(readlink)(path, buf, len);
}
