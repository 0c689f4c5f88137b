/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors of ours in a table that the program uses as well.
 *
 * Where faults are resolved on its threads they must be there. A program that closes what
 * it does not know must not close ours: so they lie together, far up, and who sees all
 * system calls (preload/guard.c) leaves them out.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

/*
 * Below a soft limit as it usually is. A table of descriptors is as long as the highest
 * that is in use, so they do not lie at the end of what may be a million.
 */
#define FILES_AT 960u
#define FILES_MAX 64u

static struct {
	uint32_t base; /* 0: they are as they come */
	uint64_t used; /* atomic */
} files __attribute__((section(".data")));

/*
 * A table that others use as well gets longer only after an RCU grace period, which is
 * some milliseconds (Linux 6.18). So this one does before there are others.
 */
static void lengthen(void)
{
	long fd = sys2(SYS_eventfd2, 0, EFD_CLOEXEC), at;

	if (fd < 0)
		return;
	at = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, files.base);
	if (at >= 0)
		sys1(SYS_close, at);
	sys1(SYS_close, fd);
}

static void choose(void)
{
	struct rlimit limit;

	if (sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &limit))
		return;
	if (limit.rlim_cur >= FILES_AT + FILES_MAX)
		files.base = FILES_AT;
	else if (limit.rlim_cur > FILES_MAX)
		files.base = (uint32_t)limit.rlim_cur - FILES_MAX;
}

void os_linux_hide_files(void)
{
	if (!files.base)
		choose();
	if (files.base)
		lengthen();
}

static uint64_t bit_of(int fd)
{
	uint32_t at = (uint32_t)fd - files.base;

	return files.base && fd >= 0 && at < FILES_MAX ? UINT64_C(1) << at : 0;
}

int os_linux_own(int fd)
{
	long at;

	if (fd < 0 || !files.base)
		return fd;
	at = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, files.base);
	/* Where there is no room it stays where it is, and may be closed by somebody. */
	if (at < 0)
		return fd;
	sys1(SYS_close, fd);
	__atomic_fetch_or(&files.used, bit_of((int)at), __ATOMIC_RELAXED);
	return (int)at;
}

bool os_linux_is_own(int fd)
{
	return __atomic_load_n(&files.used, __ATOMIC_RELAXED) & bit_of(fd);
}

bool os_linux_files_left(unsigned nr)
{
	int fd[FILES_MAX];
	unsigned i = 0, opened;

	if (nr > FILES_MAX)
		nr = FILES_MAX;
	while (i < nr && (fd[i] = (int)sys2(SYS_eventfd2, 0, EFD_CLOEXEC)) >= 0)
		i++;
	opened = i;
	while (i)
		sys1(SYS_close, fd[--i]);
	return opened == nr;
}

void os_close(int fd)
{
	__atomic_fetch_and(&files.used, ~bit_of(fd), __ATOMIC_RELAXED);
	sys1(SYS_close, fd);
}
