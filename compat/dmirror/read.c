/* SPDX-License-Identifier: Apache-2.0 */
/* What is loaded into a program, third part: reading of /proc/self/pagemap. */
#undef _FILE_OFFSET_BITS /* which makes one of pread() and pread64() */
#include <stddef.h>
#include <unistd.h>

#include "compat/dmirror/pagemap.h"
#include "compat/dmirror/real.h"

static ssize_t read_at(int fd, void *buf, size_t len, off_t offset)
{
	ssize_t n;

	real_bind();
	n = real.pread(fd, buf, len, offset);
	pagemap_read(fd, buf, n, offset);
	return n;
}

EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	return read_at(fd, buf, len, offset);
}

EXPORT ssize_t pread64(int fd, void *buf, size_t len, off64_t offset)
{
	return read_at(fd, buf, len, offset);
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	off_t offset = pagemap_offset(fd);
	ssize_t n;

	real_bind();
	n = real.read(fd, buf, len);
	if (offset >= 0)
		pagemap_read(fd, buf, n, offset);
	return n;
}

/* What _FORTIFY_SOURCE makes of them. */
ssize_t __pread_chk(int fd, void *buf, size_t len, off_t offset, size_t size);
ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t offset, size_t size);
ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
void __chk_fail(void) __attribute__((noreturn));

EXPORT ssize_t __pread_chk(int fd, void *buf, size_t len, off_t offset, size_t size)
{
	if (len > size)
		__chk_fail();
	return read_at(fd, buf, len, offset);
}

EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t offset, size_t size)
{
	if (len > size)
		__chk_fail();
	return read_at(fd, buf, len, offset);
}

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	if (len > size)
		__chk_fail();
	return read(fd, buf, len);
}
