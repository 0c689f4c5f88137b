/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leave MIB: a process that makes a child without fork(), and leaves at once.
 *
 * No fork handlers of libc run for such a child: what was migrated somebody has to hand
 * over to it, or to fill in. The process fills an eighth of MIB, then uses all of MIB for
 * something else, so that the first is migrated, then makes the child, and ends or
 * executes another program. The child looks at its memory then.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw.h"
#include "words.h"

#define STACK ((size_t)256 << 10)

enum maker { RAW, SYSCALL, CLONE, _FORK };
enum way { EXIT, _EXIT, _EXIT2, EXEC, EXIT_AFTER_VFORK };

static const struct {
	const char *name;
	enum maker maker;
	enum way way;
} runs[] = {
	{ "bare clone, exit()", RAW, EXIT },
	{ "bare clone, _exit()", RAW, _EXIT },
	{ "bare clone, _Exit()", RAW, _EXIT2 },
	{ "bare clone, execv()", RAW, EXEC },
	{ "bare clone, vfork(), exit()", RAW, EXIT_AFTER_VFORK },
	{ "syscall(SYS_clone), _exit()", SYSCALL, _EXIT },
	{ "syscall(SYS_clone), execv()", SYSCALL, EXEC },
	{ "clone(), _exit()", CLONE, _EXIT },
	{ "clone(), execv()", CLONE, EXEC },
	{ "_Fork(), _exit()", _FORK, _EXIT },
};

/* What the child looks at, and where it says what it found. */
struct look {
	uint64_t *p;
	size_t size;
	int to;
};

static void leave(enum way way)
{
	char *argv[] = { (char *)"true", NULL };

	switch (way) {
	case EXEC:
		execv("/bin/true", argv);
		words_fail("execv");
		break;
	case _EXIT:
		_exit(0);
	case _EXIT2:
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
		words_fail("vfork");
}

static int child(void *arg)
{
	const struct look *look = arg;
	char found = words_wrong(look->p, look->size) ? 'n' : 'y';

	if (write(look->to, &found, 1) != 1)
		words_fail("write");
	_exit(0);
}

static pid_t make_child(enum maker maker, struct look *look)
{
	switch (maker) {
	case RAW:
		return raw_fork();
	case SYSCALL:
		return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
	case CLONE:
		return clone(child, (char *)malloc(STACK) + STACK, SIGCHLD, look);
	default:
		return _Fork();
	}
}

static void make_and_leave(size_t size, enum maker maker, enum way way, int to)
{
	struct look look = { words_fill(size / 8), size / 8, to };
	pid_t pid;

	words_use(size);
	pid = make_child(maker, &look);
	if (pid < 0)
		words_fail("a child");
	if (pid == 0)
		child(&look);
	if (way == EXIT_AFTER_VFORK)
		spawn();
	leave(way);
}

int main(int argc, char **argv)
{
	size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) << 20, i;
	int fd[2], status, bad = 0;
	char found;
	pid_t pid;

	for (i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		if (pipe2(fd, O_CLOEXEC))
			words_fail("pipe2");
		pid = fork();
		if (pid == 0)
			make_and_leave(size, runs[i].maker, runs[i].way, fd[1]);
		close(fd[1]);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			words_fail("fork");
		if (read(fd[0], &found, 1) != 1)
			words_fail("read");
		close(fd[0]);
		bad |= found != 'y';
		printf("%s: %s\n", runs[i].name, found == 'y' ? "all is there" : "LOST");
		fflush(stdout);
	}
	return bad;
}
