/* SPDX-License-Identifier: Apache-2.0 */
/* Paths of files in /proc, what they say, and numbers in text. */
#include <fcntl.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

void os_linux_path_add(struct os_path *path, const char *text)
{
	/* Nothing of libc, which may be a sanitizer's: the reader comes here. */
	while ((path->text[path->len] = *text++))
		path->len++;
}

void os_linux_path_add_number(struct os_path *path, uint32_t number)
{
	char digits[11], *s = digits + sizeof(digits) - 1;

	*s = 0;
	do
		*--s = (char)('0' + number % 10);
	while (number /= 10);
	os_linux_path_add(path, s);
}

void os_linux_path_of(struct os_path *path, uint32_t pid, const char *name)
{
	path->len = 0;
	os_linux_path_add(path, "/proc/");
	if (pid)
		os_linux_path_add_number(path, pid);
	else
		os_linux_path_add(path, "thread-self");
	os_linux_path_add(path, "/");
	os_linux_path_add(path, name);
}

long os_linux_stat_field(const char *at, int n)
{
	long value = 0;

	for (; n > 1 && *at; at++)
		n -= *at == ' ';
	for (; *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (*at - '0');
	return value;
}

uint32_t os_linux_number(const char *s)
{
	uint32_t number = 0;

	for (; *s >= '0' && *s <= '9'; s++)
		number = number * 10 + (uint32_t)(*s - '0');
	return number;
}

uintptr_t os_linux_hex(const char **s)
{
	uintptr_t v = 0;

	for (;; (*s)++) {
		if (**s >= '0' && **s <= '9')
			v = v * 16 + (uintptr_t)(**s - '0');
		else if (**s >= 'a' && **s <= 'f')
			v = v * 16 + (uintptr_t)(**s - 'a' + 10);
		else
			return v;
	}
}

/* ---- files ------------------------------------------------------------------------- */

long os_linux_read_text(const char *path, char *text, size_t size)
{
	int fd = os_linux_open_self(path, 0);
	long n;

	if (fd < 0)
		return fd;
	n = sys3(SYS_read, fd, text, size - 1);
	os_close(fd);
	text[n > 0 ? n : 0] = 0;
	return n;
}

int os_linux_for_each_number(const char *path, int (*fn)(void *ctx, uint32_t number),
			     void *ctx)
{
	char buf[1024] __attribute__((aligned(8)));
	int fd = os_linux_open_self(path, O_DIRECTORY), r = 0;
	long n = 0, at;

	if (fd < 0)
		return fd;
	while (!r && (n = sys3(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
		for (at = 0; !r && at < n;) {
			const struct dirent_header *d = (const void *)(buf + at);

			at += d->reclen;
			if (d->name[0] >= '0' && d->name[0] <= '9')
				r = fn(ctx, os_linux_number(d->name));
		}
	os_close(fd);
	return n < 0 ? (int)n : r;
}
