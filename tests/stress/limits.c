/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits MIB: fork() where the process may have nothing more.
 *
 * No descriptor is left to it, or its user may have no thread beside it and its child, or
 * it was root and is not any more. fork() needs nothing of that. The process fills an
 * eighth of MIB, then uses all of MIB for something else, so that the first is migrated,
 * and its children look at that.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "words.h"

#define CHILDREN 3
#define FILES 64
#define NOBODY 54321 /* has no other process */

static void no_files(void)
{
	struct rlimit limit = { FILES, FILES };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		words_fail("setrlimit");
	while (open("/dev/null", O_RDONLY) >= 0)
		;
}

/* Root may have any number. */
static void no_threads(void)
{
	struct rlimit limit = { 2, 2 };

	if (setuid(NOBODY) || setrlimit(RLIMIT_NPROC, &limit))
		words_fail("setuid");
}

static void no_root(void)
{
	if (setuid(NOBODY))
		words_fail("setuid");
}

/* As servers do that want to leave a core. */
static void no_root_dumpable(void)
{
	no_root();
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		words_fail("prctl");
}

static void run(size_t size, const char *name, void (*limit)(void))
{
	uint64_t *p = words_fill(size / 8);
	int status, i;
	pid_t pid;

	words_use(size);
	limit();
	for (i = 0; i < CHILDREN; i++) {
		pid = fork();
		if (pid == 0)
			_exit(words_wrong(p, size / 8));
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			words_fail("fork");
		printf("%s: status %x\n", name, (unsigned)status);
	}
	printf("%s: %s\n", name, words_wrong(p, size / 8) ? "LOST" : "all is there");
	fflush(stdout);
	_exit(0);
}

static const struct {
	const char *name;
	void (*fn)(void);
} limits[] = {
	{ "no descriptors", no_files },
	{ "no threads", no_threads },
	{ "not root", no_root },
	{ "not root, dumpable", no_root_dumpable },
};

int main(int argc, char **argv)
{
	size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) << 20;

	size_t i;

	for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		if (i && getuid()) {
			printf("%s: only root can try\n", limits[i].name);
			fflush(stdout);
			continue;
		}
		if (fork() == 0)
			run(size, limits[i].name, limits[i].fn);
		wait(NULL);
	}
	return 0;
}
