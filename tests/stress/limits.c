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
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORD sizeof(uint64_t)
#define CHILDREN 3
#define FILES 64
#define NOBODY 54321 /* has no other process */

static void fail(const char *what)
{
	perror(what);
	_exit(1);
}

static uint64_t word(size_t i)
{
	return i / 16 * UINT64_C(0x9e3779b97f4a7c15) >> 40;
}

static uint64_t *fill(size_t size)
{
	uint64_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	if (p == MAP_FAILED)
		fail("mmap");
	for (i = 0; i < size / WORD; i++)
		p[i] = word(i);
	return p;
}

static int wrong(const uint64_t *p, size_t size)
{
	size_t i;

	for (i = 0; i < size / WORD; i++)
		if (p[i] != word(i))
			return 1;
	return 0;
}

static void no_files(void)
{
	struct rlimit limit = { FILES, FILES };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		fail("setrlimit");
	while (open("/dev/null", O_RDONLY) >= 0)
		;
}

/* Root may have any number. */
static void no_threads(void)
{
	struct rlimit limit = { 2, 2 };

	if (setuid(NOBODY) || setrlimit(RLIMIT_NPROC, &limit))
		fail("setuid");
}

static void no_root(void)
{
	if (setuid(NOBODY))
		fail("setuid");
}

/* As servers do that want to leave a core. */
static void no_root_dumpable(void)
{
	no_root();
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		fail("prctl");
}

static void run(size_t size, const char *name, void (*limit)(void))
{
	uint64_t *p = fill(size / 8), *more = fill(size);
	int status, i;
	pid_t pid;

	if (wrong(more, size))
		fail("memory that was written is not there");
	munmap(more, size);
	limit();
	for (i = 0; i < CHILDREN; i++) {
		pid = fork();
		if (pid == 0)
			_exit(wrong(p, size / 8));
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			fail("fork");
		printf("%s: status %x\n", name, (unsigned)status);
	}
	printf("%s: %s\n", name, wrong(p, size / 8) ? "LOST" : "all is there");
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
