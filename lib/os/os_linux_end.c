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
/* Likewise: those that are there, or about to be, and have not run yet. */
static uint64_t starting __attribute__((section(".data")));

static void add(uint64_t *to, uint32_t nr)
{
	uint64_t pid = (uint64_t)os_pid() << 32;
	uint64_t was = __atomic_load_n(to, __ATOMIC_RELAXED), now;

	do
		now = pid | (uint32_t)((was >> 32 == pid >> 32 ? (uint32_t)was : 0) + nr);
	while (!__atomic_compare_exchange_n(to, &was, now, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_RELAXED));
}

static uint32_t count(const uint64_t *of)
{
	uint64_t nr = __atomic_load_n(of, __ATOMIC_SEQ_CST);

	return nr >> 32 == os_linux_pid() ? (uint32_t)nr : 0;
}

/* The first thread was not the last. */
static bool outlived __attribute__((section(".data")));

void os_linux_thread_starts(bool starts)
{
	add(&starting, starts ? 1 : (uint32_t)-1);
}

void os_linux_thread_begins(void)
{
	add(&ours, 1);
	os_linux_thread_starts(false);
}

void os_linux_thread_ends(void)
{
	add(&ours, (uint32_t)-1);
}

uint32_t os_linux_threads(void)
{
	return count(&ours);
}

/* ---- who outlives the first -------------------------------------------------------- */

/* Ours have their names as long as they live. */
static bool is_ours(uint32_t tid)
{
	static const char prefix[] = "uhmm-";
	char name[16] = "";
	struct os_path path;

	os_linux_path_of(&path, 0, "../");
	os_linux_path_add_number(&path, tid);
	os_linux_path_add(&path, "/comm");
	if (os_linux_read_text(path.text, name, sizeof(name)) < 0)
		return true; /* it is nobody's any more */
	return !memcmp(name, prefix, sizeof(prefix) - 1);
}

static int is_another(void *ctx, uint32_t tid)
{
	(void)ctx;
	return tid != os_linux_pid() && !is_ours(tid);
}

/*
 * Is there one of the program's but the first, which has ended? One of ours that is about
 * to end is not counted any more, and may be there for as long as the machine likes.
 */
static bool others_live(void)
{
	struct os_path path;

	/* Who may not look does not end the process: others may live. */
	os_linux_path_of(&path, 0, "..");
	return os_linux_for_each_number(path.text, is_another, NULL) != 0;
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
	/* How many of ours there are may change meanwhile; so that alone ends nobody. */
	if (outlived && threads > (long)count(&ours))
		return false;
	/* Who has not run yet has the name of who has made it. */
	if (count(&starting))
		return false;
	if (others_live()) {
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
