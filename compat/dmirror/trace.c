/* SPDX-License-Identifier: Apache-2.0 */
/* See trace.h. */
#include "compat/dmirror/trace.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/dmirror/real.h"

static char file[PATH_MAX];

static const char *const names[DMIRROR_NR_CALLS] = {
	[DMIRROR_READ] = "READ",
	[DMIRROR_WRITE] = "WRITE",
	[DMIRROR_MIGRATE_TO_DEV] = "MIGRATE_TO_DEV",
	[DMIRROR_MIGRATE_TO_SYS] = "MIGRATE_TO_SYS",
	[DMIRROR_SNAPSHOT] = "SNAPSHOT",
	[DMIRROR_EXCLUSIVE] = "EXCLUSIVE",
	[DMIRROR_CHECK_EXCLUSIVE] = "CHECK_EXCLUSIVE",
	[DMIRROR_RELEASE] = "RELEASE",
	[DMIRROR_FLAGS] = "FLAGS",
};

void trace_init(void)
{
	const char *name = getenv(TRACE_VARIABLE);

	if (name && strlen(name) < sizeof(file))
		strcpy(file, name);
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "%d ", (int)getpid()), fd;
	va_list args;

	va_start(args, format);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
	va_end(args);
	fd = real.open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
	if (fd < 0)
		return;
	(void)!write(fd, line, (size_t)n);
	real.close(fd);
}

void trace_open(unsigned number, int result)
{
	if (file[0])
		say("open /dev/hmm_dmirror%u = %d\n", number, result);
}

void trace_call(unsigned number, unsigned call, const struct dmirror_cmd *cmd, int result)
{
	if (file[0])
		say("ioctl /dev/hmm_dmirror%u %s addr=0x%" PRIx64 " npages=%" PRIu64
		    " = %d cpages=%" PRIu64 " faults=%" PRIu64 "\n",
		    number, call < DMIRROR_NR_CALLS ? names[call] : "?", cmd->addr,
		    cmd->npages, result, cmd->cpages, cmd->faults);
}
