/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the program locks.
 *
 * mlock() fills what it locks, so it waits as MAP_POPULATE does (expect.c). mlockall()
 * would lock and fill our memory as well, gigabytes of which are only reserved: pages
 * would lie where others are to be moved, and could not be given back. So it becomes what
 * it stands for, but for us: everything is marked as locked when it is filled, ours is
 * unlocked, and then each mapping of the program is locked. What we reserve later is
 * unlocked at once (os_reserve()).
 *
 * Errors are those of mlockall(), which fails before anything is changed. The program's
 * threads only.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/os/os_linux.h"
#include "preload/preload.h"

static int lock(const void *addr, size_t len, unsigned flags)
{
	bool much = len >= EXPECT_MIN && !(flags & MLOCK_ONFAULT);
	int r;

	if (much)
		expect_begin(len);
	r = (int)(flags ? syscall(SYS_mlock2, addr, len, flags) :
			  syscall(SYS_mlock, addr, len));
	if (much)
		expect_end(len);
	return r;
}

EXPORT int mlock(const void *addr, size_t len)
{
	return lock(addr, len, 0);
}

EXPORT int mlock2(const void *addr, size_t len, unsigned flags)
{
	return lock(addr, len, flags);
}

/* ---- mlockall() ------------------------------------------------------------------- */

/* Reads "START-END ..." lines, a byte at a time from a small buffer. */
struct maps {
	int fd;
	long at, nr;
	char buf[1024];
};

static int next_byte(struct maps *maps)
{
	if (maps->at == maps->nr) {
		maps->at = 0;
		maps->nr = syscall(SYS_read, maps->fd, maps->buf, sizeof(maps->buf));
		if (maps->nr <= 0)
			return maps->nr = 0, -1;
	}
	return maps->buf[maps->at++];
}

/* A number, and the byte behind it is read too. */
static uintptr_t next_number(struct maps *maps)
{
	uintptr_t n = 0;
	int c;

	while ((c = next_byte(maps)) >= 0) {
		if (c >= '0' && c <= '9')
			n = n << 4 | (uintptr_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (uintptr_t)(c - 'a' + 10);
		else
			break;
	}
	return n;
}

/* As with mlockall(): what cannot be filled is no error. */
static void lock_each(void)
{
	struct maps maps = { 0 };
	uintptr_t start, end;
	int c;

	maps.fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/maps",
			       O_RDONLY | O_CLOEXEC);
	if (maps.fd < 0)
		return;
	while ((start = next_number(&maps)) && (end = next_number(&maps)) > start) {
		if (!os_is_reserved(start) && !os_is_reserved(end - 1))
			syscall(SYS_mlock, start, end - start);
		do
			c = next_byte(&maps);
		while (c >= 0 && c != '\n');
	}
	syscall(SYS_close, maps.fd);
}

EXPORT int mlockall(int flags)
{
	bool fill = flags & MCL_CURRENT && !(flags & MCL_ONFAULT);
	int r, saved = errno;

	if (fill)
		expect_begin_all();
	r = (int)syscall(SYS_mlockall, fill ? flags | MCL_ONFAULT : flags);
	if (r == 0) {
		os_linux_unlock_all();
		if (fill)
			lock_each();
		if (fill && flags & MCL_FUTURE)
			syscall(SYS_mlockall, MCL_FUTURE);
		errno = saved;
	}
	if (fill)
		expect_end_all();
	return r;
}
