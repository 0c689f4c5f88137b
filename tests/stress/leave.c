/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leave MIB: a process that makes a child by a raw clone, and leaves at once.
 *
 * Such a child runs no fork handlers: what was migrated somebody has to fill in for it.
 * The process fills an eighth of MIB, then uses all of MIB for something else, so that
 * the first is migrated, then clones, and ends or executes another program. The child
 * looks at its memory then. Once for each way to leave.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORD sizeof(uint64_t)
#define PASSES 3

enum way { LEAVE_EXIT, LEAVE__EXIT, LEAVE__EXIT2, LEAVE_EXEC, LEAVE_VFORK, WAYS };

static const char *const names[] = { "exit", "_exit", "_Exit", "execv",
				     "exit after vfork" };

static void fail(const char *what)
{
	perror(what);
	_exit(1);
}

static uint64_t word(size_t i)
{
	return i / 16 * UINT64_C(0x9e3779b97f4a7c15) >> 40;
}

/* The first word that is not as it was written, or nr. */
static size_t wrong(const uint64_t *p, size_t nr)
{
	size_t i;

	for (i = 0; i < nr && p[i] == word(i); i++)
		;
	return i;
}

static void leave(enum way way)
{
	char *argv[] = { (char *)"true", NULL };

	switch (way) {
	case LEAVE_EXEC:
		execv("/bin/true", argv);
		fail("execv");
		break;
	case LEAVE__EXIT:
		_exit(0);
	case LEAVE__EXIT2:
		_Exit(0);
	default:
		exit(0);
	}
}

/* As a shell does that starts a program before it leaves: not our reader's exec. */
static void spawn(void)
{
	pid_t pid = vfork();
	int status;

	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		fail("vfork");
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

static void use(size_t size)
{
	uint64_t *p = fill(size);
	int i;

	for (i = 0; i < PASSES; i++)
		if (wrong(p, size / WORD) != size / WORD)
			fail("memory that was written is not there");
	munmap(p, size);
}

/* In the process that leaves; the child writes what it found. */
static void make_and_leave(size_t size, enum way way, int to)
{
	uint64_t *p = fill(size / 8);
	size_t found;
	pid_t pid;

	use(size);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, NULL, NULL, 0);
	if (pid < 0)
		fail("clone");
	if (pid > 0) {
		if (way == LEAVE_VFORK)
			spawn();
		leave(way);
	}
	found = wrong(p, size / 8 / WORD);
	if (write(to, &found, sizeof(found)) != sizeof(found))
		fail("write");
	_exit(0);
}

int main(int argc, char **argv)
{
	size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) << 20, found;
	int fd[2], way, status, bad = 0;
	pid_t pid;

	for (way = 0; way < WAYS; way++) {
		if (pipe2(fd, O_CLOEXEC))
			fail("pipe2");
		pid = fork();
		if (pid == 0)
			make_and_leave(size, (enum way)way, fd[1]);
		close(fd[1]);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			fail("fork");
		if (read(fd[0], &found, sizeof(found)) != sizeof(found))
			fail("read");
		close(fd[0]);
		bad |= found != size / 8 / WORD;
		printf("%s: %s\n", names[way],
		       found == size / 8 / WORD ? "all is there" : "LOST");
		fflush(stdout);
	}
	return bad;
}
