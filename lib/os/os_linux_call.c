/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a thread is asleep in: /proc/self/task/TID/syscall has the number of a system
 * call, its six arguments and two registers, or "running".
 */
#include <errno.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

#define PAGE UINT64_C(4096)

static uint64_t pages(uint64_t bytes)
{
	return bytes / PAGE + (bytes % PAGE != 0);
}

/* "25 0x7f0000000000 0x1000 0x2000 ...": old address, old length, new length. */
static int64_t growth(const char *text)
{
	uint64_t argument[3];
	unsigned i;

	if (*text == 'r')
		return -EAGAIN;
	if (*text == '-' || os_linux_number(text) != SYS_mremap)
		return 0;
	for (i = 0; i < 3; i++) {
		while (*text && *text != 'x')
			text++;
		if (!*text++)
			return -EIO;
		argument[i] = os_linux_hex(&text);
	}
	if (pages(argument[2]) <= pages(argument[1]))
		return 0;
	return (int64_t)((pages(argument[2]) - pages(argument[1])) * PAGE);
}

int64_t os_thread_grows(uint32_t tid)
{
	struct os_path path = { 0 };
	char text[256];
	long n;

	os_linux_path_add(&path, "/proc/self/task/");
	os_linux_path_add_number(&path, tid);
	os_linux_path_add(&path, "/syscall");
	n = os_linux_read_text(path.text, text, sizeof(text));
	if (n <= 0)
		return n == -ESRCH || n == -ENOENT ? 0 : n ? n : -EIO;
	return growth(text);
}
