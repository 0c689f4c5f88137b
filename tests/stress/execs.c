/* SPDX-License-Identifier: Apache-2.0 */
/*
 * execs: executes itself in every way there is, each time with an LD_PRELOAD of its own,
 * and at last fills memory. Each must still be one of the tree's processes: the library
 * that makes it one is loaded, as is the one it named itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stamp.h"

#define OTHER "libutil.so.1"

static bool loaded(const char *library)
{
	char line[4096];
	FILE *maps = fopen("/proc/self/maps", "re");
	bool found = false;

	while (maps && fgets(line, sizeof(line), maps))
		found |= strstr(line, library) != NULL;
	if (maps)
		fclose(maps);
	return found;
}

static void finish(size_t mib)
{
	size_t bytes = mib * MIB, at;
	uint64_t sum = 0;
	char *memory = malloc(bytes);

	if (!memory)
		exit(1);
	for (at = 0; at < bytes; at += PAGE)
		stamp_fill(memory + at, at / PAGE + 1);
	for (at = 0; at < bytes; at += PAGE)
		sum = sum * 31 + *(uint64_t *)(memory + at + 64);
	printf("sum %016llx\n", (unsigned long long)sum);
	exit(0);
}

static void spawned(int error, const pid_t *pid)
{
	int status;

	if (error || waitpid(*pid, &status, 0) != *pid || !WIFEXITED(status))
		exit(1);
	exit(WEXITSTATUS(status));
}

static void execute(int step, char **argv)
{
	char *file = argv[0], *next = argv[1], *mib = argv[2];
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	pid_t pid = 0;

	switch (step) {
	case 0:
		execve(file, argv, environ);
		break;
	case 1:
		execv(file, argv);
		break;
	case 2:
		execvp(file, argv);
		break;
	case 3:
		execvpe(file, argv, environ);
		break;
	case 4:
		execl(file, file, next, mib, NULL);
		break;
	case 5:
		execlp(file, file, next, mib, NULL);
		break;
	case 6:
		execle(file, file, next, mib, NULL, environ);
		break;
	case 7:
		fexecve(fd, argv, environ);
		break;
	case 8:
		execveat(fd, "", argv, environ, AT_EMPTY_PATH);
		break;
	case 9:
		spawned(posix_spawn(&pid, file, NULL, NULL, argv, environ), &pid);
		break;
	case 10:
		spawned(posix_spawnp(&pid, file, NULL, NULL, argv, environ), &pid);
		break;
	default:
		finish(strtoul(mib, NULL, 10));
	}
	perror("exec");
	exit(1);
}

int main(int argc, char **argv)
{
	char next[16];
	int step;

	if (argc != 3) {
		fputs("usage: execs 0 MIB\n", stderr);
		return 2;
	}
	step = atoi(argv[1]);
	printf("step %d\n", step);
	if (step && !loaded(OTHER))
		printf("step %d: " OTHER " is missing\n", step);
	if (getenv("UHMM_CTL") && !loaded("libuhmm-preload"))
		printf("step %d: not of the tree\n", step);
	fflush(stdout);
	setenv("LD_PRELOAD", OTHER, 1);
	snprintf(next, sizeof(next), "%d", step + 1);
	argv[1] = next;
	execute(step, argv);
}
