/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a process whose threads end one by one: by SYS_exit each, not by exit().
 * Without ours it would be over with the last of the program's; so ours have to see that,
 * and end it then.
 */
#include <fcntl.h>
#include <string.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

/* pid << 32 | threads of ours in that process: a forked child has none of them. */
static uint64_t ours __attribute__((section(".data")));

static void add_ours(uint32_t nr)
{
	uint64_t pid = (uint64_t)os_pid() << 32;
	uint64_t was = __atomic_load_n(&ours, __ATOMIC_RELAXED), now;

	do
		now = pid | (uint32_t)((was >> 32 == pid >> 32 ? (uint32_t)was : 0) + nr);
	while (!__atomic_compare_exchange_n(&ours, &was, now, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED));
}

/* The first thread was not the last. */
static bool outlived __attribute__((section(".data")));

void os_linux_thread_begins(void)
{
	add_ours(1);
}

void os_linux_thread_ends(void)
{
	add_ours((uint32_t)-1);
}

uint32_t os_linux_threads(void)
{
	uint64_t mine = __atomic_load_n(&ours, __ATOMIC_RELAXED);

	return mine >> 32 == os_linux_pid() ? (uint32_t)mine : 0;
}

#define NUM_THREADS 18 /* proc(5) has it as 20 */
#define EXIT_CODE 50   /* 52 */

bool os_threads_ended(int *code)
{
	char buf[1024], *at;
	uintptr_t robust = 0;
	size_t size;
	long fd, n, threads;

	/* The kernel forgets it with the thread. */
	if (sys3(SYS_get_robust_list, os_linux_pid(), &robust, &size) == 0 && robust)
		return false;
	fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	n = sys3(SYS_read, fd, buf, sizeof(buf) - 1);
	sys1(SYS_close, fd);
	buf[n > 0 ? n : 0] = 0;
	for (at = buf + (n > 0 ? n : 0); at > buf && *at != ')'; at--)
		;
	if (at == buf || at[2] != 'Z')
		return false;
	at += 2;
	threads = os_linux_stat_field(at, NUM_THREADS) - 1;
	if (threads > (long)(uint32_t)__atomic_load_n(&ours, __ATOMIC_RELAXED)) {
		outlived = true;
		return false;
	}
	*code = outlived ? 0 : (int)(os_linux_stat_field(at, EXIT_CODE) >> 8);
	return true;
}

void os_exit(int code)
{
	for (;;)
		sys1(SYS_exit_group, code);
}
