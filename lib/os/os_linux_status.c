/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a thread's file `status` in /proc says of it.
 *
 * As in os_linux_place.c nothing of libc's is called, nor may the compiler call it.
 */
#include <limits.h>
#include <linux/seccomp.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"

/* It is longer if the user is in a thousand groups. */
struct status {
	char text[8192];
};

static bool read_status(struct status *status, uint32_t tid)
{
	struct os_path path;

	os_linux_path_of(&path, tid, "status");
	return os_linux_read_text(path.text, status->text, sizeof(status->text)) > 0;
}

/* What follows the first `what`, or NULL. */
static const char *after(const struct status *status, const char *what)
{
	const char *text;
	unsigned i;

	for (text = status->text; *text; text++) {
		for (i = 0; what[i] && text[i] == what[i]; i++)
			;
		if (!what[i])
			return text + i;
	}
	return NULL;
}

int os_linux_filters(uint32_t tid)
{
	struct status status;
	const char *mode, *nr;

	if (!read_status(&status, tid))
		return -1;
	mode = after(&status, "\nSeccomp:\t");
	nr = after(&status, "\nSeccomp_filters:\t"); /* Linux 5.9 */
	if (mode && os_linux_number(mode) == SECCOMP_MODE_STRICT)
		return INT_MAX;
	nr = nr ? nr : mode;
	return nr ? (int)os_linux_number(nr) : -1;
}

uint32_t os_linux_tracer(uint32_t tid)
{
	struct status status;
	const char *tracer;

	if (!read_status(&status, tid))
		return 0;
	tracer = after(&status, "\nTracerPid:\t");
	return tracer ? os_linux_number(tracer) : 0;
}
