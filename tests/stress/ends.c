/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ends MIB: processes that do not end by exit().
 *
 * Each fills MIB and looks at it. Then its first thread ends and leaves the rest to
 * another one, or there is none left; or the child of a clone() returns. The status is
 * that of who was last.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK ((size_t)256 << 10)
#define PAUSE_US 200000
#define ROUNDS 3

static struct {
	uint64_t *word;
	size_t nr;
} memory;

static void fill(uint64_t round)
{
	size_t i;

	for (i = 0; i < memory.nr; i++)
		memory.word[i] = i / 8 * round;
}

static void look(uint64_t round)
{
	size_t i;

	for (i = 0; i < memory.nr; i++)
		if (memory.word[i] != i / 8 * round)
			_exit(99);
}

static void use(void)
{
	uint64_t round;

	for (round = 1; round <= ROUNDS; round++) {
		fill(round);
		look(round);
	}
}

static void *rest(void *arg)
{
	(void)arg;
	usleep(PAUSE_US); /* the first thread has ended */
	use();
	return NULL;
}

static void first_ends(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, rest, NULL))
		_exit(98);
	pthread_exit(NULL);
}

static void only_one_ends(void)
{
	use();
	syscall(SYS_exit, 3);
}

static int returns(void *arg)
{
	(void)arg;
	look(ROUNDS);
	return 4;
}

static void clone_returns(void)
{
	char *stack = malloc(STACK);
	int status = 0;
	pid_t pid;

	use();
	pid = clone(returns, stack + STACK, SIGCHLD, NULL);
	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 97);
}

static const struct {
	const char *name;
	void (*fn)(void);
} ways[] = {
	{ "the first thread ends before another", first_ends },
	{ "the only thread ends by SYS_exit", only_one_ends },
	{ "the child of a clone() returns", clone_returns },
};

int main(int argc, char **argv)
{
	size_t i;
	int status;
	pid_t pid;

	memory.nr = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) << 20 >> 3;
	memory.word = malloc(memory.nr * sizeof(*memory.word));
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		pid = fork();
		if (pid == 0) {
			ways[i].fn();
			_exit(96);
		}
		waitpid(pid, &status, 0);
		printf("%s: status %x\n", ways[i].name, (unsigned)status);
		fflush(stdout);
	}
	return 0;
}
