/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is loaded into a program, first part: files. A device's descriptor is opened,
 * duplicated, closed and called here; everything else is libc's.
 *
 * What libc does inside of itself (fopen(), posix_spawn()) is not seen.
 */
#undef _FILE_OFFSET_BITS /* which makes one of open() and open64() */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "compat/dmirror/files.h"
#include "compat/dmirror/lock.h"
#include "compat/dmirror/mirror.h"
#include "compat/dmirror/pagemap.h"
#include "compat/dmirror/process.h"
#include "compat/dmirror/real.h"
#include "compat/dmirror/trace.h"

__attribute__((constructor)) static void start(void)
{
	real_bind();
	trace_init();
	keep_init();
	process_init();
}

static int result(int r)
{
	if (r >= 0)
		return r;
	errno = -r;
	return -1;
}

/* ---- open ------------------------------------------------------------------------- */

/* True: it was a device, and *fd is the answer. */
static bool open_device(const char *path, int flags, int *fd)
{
	int number = files_number(path), r;

	real_bind();
	if (number < 0)
		return false;
	r = files_open((unsigned)number, flags);
	trace_open((unsigned)number, r);
	*fd = result(r);
	return true;
}

#define MODE(flags_)                                                                     \
	({                                                                               \
		mode_t mode_ = 0;                                                        \
		va_list ap_;                                                             \
		if ((flags_) & (O_CREAT | __O_TMPFILE)) {                                \
			va_start(ap_, flags_);                                           \
			mode_ = va_arg(ap_, mode_t);                                     \
			va_end(ap_);                                                     \
		}                                                                        \
		mode_;                                                                   \
	})

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
	int fd;

	if (open_device(path, flags, &fd))
		return fd;
	fd = real.openat(dir, path, flags, mode);
	pagemap_opened(path, fd);
	return fd;
}

EXPORT int open(const char *path, int flags, ...)
{
	return open_at(AT_FDCWD, path, flags, MODE(flags));
}

EXPORT int open64(const char *path, int flags, ...)
{
	return open_at(AT_FDCWD, path, flags, MODE(flags));
}

EXPORT int openat(int dir, const char *path, int flags, ...)
{
	return open_at(dir, path, flags, MODE(flags));
}

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
	return open_at(dir, path, flags, MODE(flags));
}

/* What _FORTIFY_SOURCE makes of open() without a mode. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

EXPORT int __open_2(const char *path, int flags)
{
	return open(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
	return open(path, flags);
}

EXPORT int __openat_2(int dir, const char *path, int flags)
{
	return openat(dir, path, flags);
}

EXPORT int __openat64_2(int dir, const char *path, int flags)
{
	return openat(dir, path, flags);
}

/* ---- close and duplicates --------------------------------------------------------- */

EXPORT int close(int fd)
{
	struct mirror *m = files_forget(fd);
	int r;

	real_bind();
	r = real.close(fd);
	files_put(m);
	return r;
}

static void close_one(int fd)
{
	close(fd);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	real_bind();
	/* Flags that leave them open, here or elsewhere: they are not our business. */
	if (!flags && process_is_ours())
		files_each(first, last, close_one);
	return real.close_range(first, last, flags);
}

static int duplicated(int from, int to)
{
	if (to >= 0 && process_is_ours())
		files_put(files_copy(from, to));
	return to;
}

EXPORT int dup(int fd)
{
	real_bind();
	return duplicated(fd, real.dup(fd));
}

EXPORT int dup2(int fd, int to)
{
	real_bind();
	return duplicated(fd, real.dup2(fd, to));
}

EXPORT int dup3(int fd, int to, int flags)
{
	real_bind();
	return duplicated(fd, real.dup3(fd, to, flags));
}

static int control(int fd, int op, void *arg)
{
	int r;

	real_bind();
	r = real.fcntl(fd, op, arg);
	return op == F_DUPFD || op == F_DUPFD_CLOEXEC ? duplicated(fd, r) : r;
}

/* As libc does: whatever the argument is, it fits a pointer. */
EXPORT int fcntl(int fd, int op, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, op);
	arg = va_arg(ap, void *);
	va_end(ap);
	return control(fd, op, arg);
}

EXPORT int fcntl64(int fd, int op, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, op);
	arg = va_arg(ap, void *);
	va_end(ap);
	return control(fd, op, arg);
}

/* ---- ioctl ------------------------------------------------------------------------ */

/* What is answered before a driver is asked. */
static bool is_any_files(unsigned long request)
{
	return request == FIOCLEX || request == FIONCLEX || request == FIONBIO ||
	       request == FIOASYNC;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	struct mirror *m;
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	real_bind();
	m = is_any_files(request) ? NULL : files_get(fd);
	if (!m)
		return real.ioctl(fd, request, arg);
	r = mirror_ioctl(m, (unsigned)request, (uintptr_t)arg);
	files_put(m);
	return result(r);
}
