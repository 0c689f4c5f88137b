/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors of ours in a table that the program uses as well.
 *
 * Where faults are resolved on its threads they must be there. A program that closes what
 * it does not know must not close ours: so they lie together, far up, and who sees all
 * system calls (preload/guard.c) leaves them out.
 *
 * The kernel gives out the lowest number that is free, and programs rely on it: one that
 * closes 0 and opens a file has it as 0. So a thread of ours opens nothing in that table
 * while the program runs. It has one of its own, with copies of what is ours. (Where no
 * more than 64 are allowed there is no room to lie far up, and all is in one table.)
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
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
	uint32_t base;  /* 0: they are as they come */
	uint64_t used;  /* atomic */
	uint32_t apart; /* tid */
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
	files.apart = 0; /* who was, is not in a forked child */
	if (!files.base)
		choose();
	if (files.base)
		lengthen();
}

void os_linux_show_files(void)
{
	files.base = 0;
	os_linux_part_files(false);
}

static uint64_t bit_of(int fd)
{
	uint32_t at = (uint32_t)fd - files.base;

	return files.base && fd >= 0 && at < FILES_MAX ? UINT64_C(1) << at : 0;
}

int os_linux_own(int fd)
{
	long at;

	if (fd < 0 || !files.base || files.apart == os_tid())
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

static int another(uint64_t used)
{
	if (!used)
		return (int)sys2(SYS_eventfd2, 0, EFD_CLOEXEC);
	return (int)sys3(SYS_fcntl, files.base + (uint32_t)__builtin_ctzll(used),
			 F_DUPFD_CLOEXEC, files.base);
}

bool os_linux_files_left(unsigned nr)
{
	uint64_t used = __atomic_load_n(&files.used, __ATOMIC_RELAXED);
	int fd[FILES_MAX];
	unsigned i = 0, opened;

	if (nr > FILES_MAX)
		nr = FILES_MAX;
	while (i < nr && (fd[i] = another(used)) >= 0)
		i++;
	opened = i;
	while (i)
		sys1(SYS_close, fd[--i]);
	return opened == nr;
}

void os_linux_stay_apart(bool apart)
{
	files.apart = apart ? os_tid() : 0;
}

bool os_linux_leave_files(void)
{
	uint64_t used = __atomic_load_n(&files.used, __ATOMIC_RELAXED);
	uint32_t at;

	if (!files.base)
		return false;
	/* Since Linux 6.12 those are not copied, so they are not open for longer. */
	if (sys3(SYS_close_range, 0, files.base - 1, CLOSE_RANGE_UNSHARE))
		return false;
	for (at = 0; at < FILES_MAX; at++)
		if (!(used & UINT64_C(1) << at))
			sys1(SYS_close, files.base + at);
	sys3(SYS_close_range, files.base + FILES_MAX, ~0U, 0);
	return true;
}

uint64_t os_linux_files_of_program(void)
{
	return __atomic_load_n(&files.used, __ATOMIC_RELAXED);
}

void os_linux_drop_files(uint64_t files_of_program)
{
	uint32_t at;

	for (at = 0; at < FILES_MAX; at++)
		if (files_of_program & UINT64_C(1) << at)
			os_close((int)(files.base + at));
}

void os_close(int fd)
{
	__atomic_fetch_and(&files.used, ~bit_of(fd), __ATOMIC_RELAXED);
	sys1(SYS_close, fd);
}
