/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters on system calls (seccomp), which may have it killed who makes another.
 *
 * Filters are never taken away, and each thread has at least those that it began with. So
 * who has more than `uhmm run` had (ctl->filters) has some of its own.
 */
#include "preload/preload.h"

#include <string.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

/* The file is longer where the user is in thousands of groups, of which it has a line. */
#define TEXT_MAX 8192

/* The number in the line that begins with name and a tab; 0: there is none. */
static uint32_t value_of(const char *text, const char *name)
{
	size_t len = strlen(name);
	const char *line;

	for (line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, len) && line[len] == '\t')
			return os_linux_number(line + len + 1);
	}
	return 0;
}

bool preload_has_filter(const struct ctl *ctl, uint32_t tid)
{
	char text[TEXT_MAX];
	struct os_path path;
	long n, len = 0;
	int fd;

	os_linux_path_of(&path, tid, "status");
	fd = os_linux_open_self(path.text, 0);
	if (fd < 0)
		return false;
	while (len < (long)sizeof(text) - 1 &&
	       (n = sys3(SYS_read, fd, text + len, sizeof(text) - 1 - (size_t)len)) > 0)
		len += n;
	os_close(fd);
	text[len] = 0;
	/* 1: a thread that may do next to nothing. */
	return value_of(text, "Seccomp:") == 1 ||
	       value_of(text, "Seccomp_filters:") > ctl->filters;
}
