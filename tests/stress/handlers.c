/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handlers SECONDS MIB: signal handlers that fork, also in the middle of a fork.
 *
 * fork() may be called in a handler, whatever that interrupts: memory that is just
 * written, another fork(). A timer goes off at all times; its handler makes a child,
 * which looks at some memory, and waits for it. The program does the same outside.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define LOOKS 64
#define ROUND_US 3000
#define FORK_PAGES 1024

static struct {
	unsigned char *p;
	size_t nr;            /* pages */
	unsigned char *value; /* what each page is filled with */
	uint64_t random;
} memory;

static void fail(const char *what)
{
	static const char colon[] = "handlers: ";
	ssize_t n = write(2, colon, sizeof(colon) - 1);

	n += write(2, what, strlen(what));
	n += write(2, "\n", 1);
	_exit(n > 0 ? 1 : 2);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A page that is being written when we look may have either value. */
static int is_right(size_t page)
{
	unsigned char now = __atomic_load_n(&memory.value[page], __ATOMIC_RELAXED);
	unsigned char before = (unsigned char)(now - 1);
	const unsigned char *p = memory.p + page * PAGE;

	return (p[0] == now || p[0] == before) &&
	       (p[PAGE - 1] == now || p[PAGE - 1] == before);
}

static void make_child(void)
{
	uint64_t random = next_random(&memory.random);
	pid_t pid = fork();
	int status, i;

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		for (i = 0; i < LOOKS; i++)
			if (!is_right(next_random(&random) % memory.nr))
				_exit(1);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) != pid)
		if (errno != EINTR)
			fail("waitpid");
	if (status)
		fail("a child found memory that is not as it was written");
}

static void arm(void)
{
	struct itimerval when = { 0 };

	when.it_value.tv_usec = 1 + (long)(next_random(&memory.random) % ROUND_US);
	setitimer(ITIMER_REAL, &when, NULL);
}

static void on_alarm(int signo)
{
	int saved = errno;

	(void)signo;
	make_child();
	arm();
	errno = saved;
}

static void write_page(size_t page)
{
	unsigned char value = (unsigned char)(memory.value[page] + 1);

	__atomic_store_n(&memory.value[page], value, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	memset(memory.p + page * PAGE, value, PAGE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 2);
	size_t page = 0;

	memory.nr = (argc > 2 ? strtoul(argv[2], NULL, 10) : 64) << 20 >> 12;
	memory.p = calloc(memory.nr, PAGE);
	memory.value = calloc(memory.nr, 1);
	memory.random = 88172645463325252u;
	if (!memory.p || !memory.value)
		fail("malloc");
	if (signal(SIGALRM, on_alarm) == SIG_ERR)
		fail("signal");
	arm();
	while (time(NULL) < end) {
		if (!is_right(page))
			fail("memory is not as it was written");
		write_page(page);
		if (page % FORK_PAGES == 0)
			make_child();
		page = (page + 1) % memory.nr;
	}
	for (page = 0; page < memory.nr; page++)
		write_page(page);
	puts("1..1\nok 1 - handlers fork, whatever they interrupt");
	return 0;
}
