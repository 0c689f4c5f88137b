/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a program is started with a library of ours loaded into it: what the verbs that do
 * so have in common.
 */
#include "cmd.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Puts name in the place of the last part of path, in a buffer of PATH_MAX. */
static bool beside(char *path, const char *name)
{
	char *last = strrchr(path, '/');
	size_t at = last ? (size_t)(last + 1 - path) : 0;

	if (at + strlen(name) >= PATH_MAX)
		return false;
	strcpy(path + at, name);
	return true;
}

int preload_find(const char *name, const char **path)
{
	static char here[PATH_MAX], installed[PATH_MAX] = UHMM_PRELOAD_INSTALLED;
	ssize_t n = readlink("/proc/self/exe", here, sizeof(here) - 1);

	here[n > 0 ? n : 0] = 0;
	beside(installed, name);
	*path = installed;
	if (n > 0 && beside(here, name) && !access(here, R_OK))
		*path = here;
	if (access(*path, R_OK))
		return -errno;
	/* The dynamic linker takes these for the end of the name. */
	return strpbrk(*path, ": \t\n") ? -EINVAL : 0;
}

int preload_check(const char *name, const char **path)
{
	int err = preload_find(name, path);

	if (err == -EINVAL)
		complain("%s: a library whose path has a space or a colon cannot be "
			 "preloaded: "
			 "install uhmm elsewhere",
			 *path);
	else if (err)
		complain("%s: %s: it belongs to uhmm: install uhmm again", *path,
			 strerror(-err));
	return err ? STATUS_REFUSED : 0;
}

void preload_set(const char *library)
{
	const char *theirs = getenv("LD_PRELOAD");
	size_t len = strlen(library);
	char *both = NULL;

	/* Within another uhmm it is there already. */
	if (theirs && !strncmp(theirs, library, len) && strchr(": ", theirs[len]))
		return;
	if (theirs && *theirs && asprintf(&both, "%s:%s", library, theirs) < 0)
		return;
	setenv("LD_PRELOAD", both ? both : library, 1);
}

void program_execute(const char *path, char **program)
{
	int nr = 0;
	char **argv;

	execv(path, program);
	if (errno != ENOEXEC)
		return;
	/* No magic number: a shell script, as for execvp. */
	while (program[nr])
		nr++;
	argv = calloc((size_t)nr + 2, sizeof(*argv));
	if (!argv)
		return;
	argv[0] = (char *)"/bin/sh";
	argv[1] = (char *)path;
	if (nr > 1)
		memcpy(argv + 2, program + 1, (size_t)(nr - 1) * sizeof(*argv));
	execv("/bin/sh", argv);
}
