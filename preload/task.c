/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many threads a directory says there are.
 *
 * /proc/self/task has a link for each thread, two for itself and its parent. Chromium,
 * and what is built on it, looks there before it forks or closes its sandbox, and ends
 * itself if there is a thread too many. It asks fstatat(); ours are taken off the result.
 *
 * fstatat() is a system call and nothing else, may be called in signal handlers, and is
 * called often; so it is made directly, unless the user preloads a library, which may
 * have a fstatat() of its own (fakeroot has).
 */
#undef _FILE_OFFSET_BITS /* which makes one of fstatat() and fstatat64() */

#include "preload/hot.h"
#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "they are the same here");

typedef int stat_fn(int dir, const char *path, struct stat *st, int flags);
typedef int xstat_fn(int version, int dir, const char *path, struct stat *st, int flags);

/* NULL: the kernel's. */
static stat_fn *next_fstatat __attribute__((section(".data")));
static xstat_fn *next_fxstatat __attribute__((section(".data")));

/* Programs that were built with glibc before 2.33 call these; no header has them now. */
int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags);
int __fxstatat64(int version, int dir, const char *path, struct stat64 *st, int flags);

void task_bind(void)
{
	if (!preload_has_company())
		return;
	next_fstatat = (stat_fn *)dlsym(RTLD_NEXT, "fstatat");
	next_fxstatat = (xstat_fn *)dlsym(RTLD_NEXT, "__fxstatat");
}

static bool names_task(const char *path)
{
	size_t len = strlen(path);

	while (len && path[len - 1] == '/')
		len--;
	return len >= 4 && !memcmp(path + len - 4, "task", 4) &&
	       (len == 4 || path[len - 5] == '/');
}

/* After a call that may have been about our directory. Returns its result. */
static int corrected(int r, const char *path, struct stat *st)
{
	struct stat own;
	unsigned threads;
	int saved;

	if (r || !S_ISDIR(st->st_mode) || !path || !names_task(path))
		return r;
	saved = errno;
	threads = preload_threads();
	if (threads && st->st_nlink > threads + 2 &&
	    syscall(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &own, 0) == 0 &&
	    own.st_dev == st->st_dev && own.st_ino == st->st_ino)
		st->st_nlink -= threads;
	errno = saved;
	return r;
}

static int look(int dir, const char *path, struct stat *st, int flags)
{
	int r;

	if (next_fstatat)
		r = next_fstatat(dir, path, st, flags);
	else if (!hot_stat(dir, path, st, flags, &r))
		r = (int)syscall(SYS_newfstatat, dir, path, st, flags);
	return corrected(r, path, st);
}

EXPORT int fstatat(int dir, const char *restrict path, struct stat *restrict st,
		   int flags)
{
	return look(dir, path, st, flags);
}

EXPORT int fstatat64(int dir, const char *restrict path, struct stat64 *restrict st,
		     int flags)
{
	return look(dir, path, (struct stat *)st, flags);
}

EXPORT int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags)
{
	int r = next_fxstatat ? next_fxstatat(version, dir, path, st, flags) :
				(int)syscall(SYS_newfstatat, dir, path, st, flags);

	return corrected(r, path, st);
}

EXPORT int __fxstatat64(int version, int dir, const char *path, struct stat64 *st,
			int flags)
{
	return __fxstatat(version, dir, path, (struct stat *)st, flags);
}
