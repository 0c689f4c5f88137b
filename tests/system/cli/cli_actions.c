/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_actions TIMES [CHAIN]: a program that is executed so many times, and each time
 * changes what it does on signals as fast as it can while it is taken over. What it did
 * last must be what happens then, whoever has told the kernel. After that it executes
 * itself CHAIN times, about when it is taken over, having forked. Prints "right" at the
 * end.
 *
 * What it is told of before, while it is taken over, may be neither of its handlers. That
 * is as good as the one which it stands for: it can be given back, and called.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define SIZE ((size_t)4 << 20)
#define SPIN_MS 150
#define SIGNALS 5

static const int sigs[SIGNALS] = { SIGBUS, SIGSEGV, SIGSYS, SIGUSR1, SIGHUP };

struct of_signal {
	struct sigaction set;     /* last */
	struct sigaction strange; /* that it was told of */
	struct sigaction instead; /* of that one */
	unsigned strangers;
};

static struct of_signal state[SIGNALS];
static volatile sig_atomic_t ran[2];
static struct of_signal *chained;

static void on_even(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	ran[0]++;
}

static void on_odd(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	ran[1]++;
}

static void on_chain(int sig, siginfo_t *info, void *context)
{
	chained->strange.sa_sigaction(sig, info, context);
}

static struct sigaction action(unsigned long i)
{
	struct sigaction a = { .sa_flags = SA_SIGINFO };

	a.sa_sigaction = i % 2 ? on_odd : on_even;
	sigemptyset(&a.sa_mask);
	if (i % 3 == 0)
		sigaddset(&a.sa_mask, SIGUSR2);
	return a;
}

static double ms_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static bool same(const struct sigaction *a, const struct sigaction *b)
{
	return a->sa_sigaction == b->sa_sigaction &&
	       sigismember(&a->sa_mask, SIGUSR2) == sigismember(&b->sa_mask, SIGUSR2);
}

static bool wrong(const char *what, int sig)
{
	printf("WRONG: %s, signal %d\n", what, sig);
	return false;
}

static bool change(int i, unsigned long round)
{
	struct of_signal *s = &state[i];
	struct sigaction new = action(round), old;

	if (sigaction(sigs[i], &new, &old))
		return wrong("cannot be set", sigs[i]);
	if (old.sa_sigaction != on_even && old.sa_sigaction != on_odd) {
		s->strange = old;
		s->instead = s->set;
		s->strangers++;
	} else if (!same(&old, &s->set)) {
		return wrong("was another before", sigs[i]);
	}
	s->set = new;
	return true;
}

static bool runs(int sig, const struct sigaction *expected)
{
	int odd = expected->sa_sigaction == on_odd;
	int before[2] = { ran[0], ran[1] };

	raise(sig);
	return ran[odd] == before[odd] + 1 && ran[!odd] == before[!odd];
}

static bool strangers_are_good(int i)
{
	struct sigaction chain = { .sa_sigaction = on_chain, .sa_flags = SA_SIGINFO };
	struct of_signal *s = &state[i];
	struct sigaction now;

	chained = s;
	sigaction(sigs[i], &chain, NULL);
	if (!runs(sigs[i], &s->instead))
		return wrong("called, does not do what it stands for", sigs[i]);
	sigaction(sigs[i], &s->strange, NULL);
	sigaction(sigs[i], NULL, &now);
	if (!same(&now, &s->instead))
		return wrong("given back, is not what it stands for", sigs[i]);
	return runs(sigs[i], &s->instead) || wrong("given back, does not run", sigs[i]);
}

static bool all_right(void)
{
	struct sigaction now;
	int i;

	for (i = 0; i < SIGNALS; i++) {
		sigaction(sigs[i], NULL, &now);
		if (!same(&now, &state[i].set))
			return wrong("is not what was set last", sigs[i]);
		if (!runs(sigs[i], &now))
			return wrong("does not run what was set last", sigs[i]);
		if (state[i].strangers == 1 && !strangers_are_good(i))
			return false;
	}
	return true;
}

static unsigned char byte(size_t i)
{
	return (unsigned char)(i / 32 * 7 + (i >> 20));
}

/* Those that a program may be executed with, blocked; and more than that is not. */
static void blocked_by_parent(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGBUS);
	sigaddset(set, SIGSEGV);
	sigaddset(set, SIGTERM);
}

static bool mask_is(const sigset_t *expected, const char *when)
{
	sigset_t now;
	int sig;

	sigprocmask(SIG_BLOCK, NULL, &now);
	for (sig = 1; sig <= SIGRTMAX; sig++)
		if (sigismember(&now, sig) != sigismember(expected, sig))
			return wrong(when, sig);
	return true;
}

/* The lowest number that is free, always: nobody else opens anything here. */
static bool files_are_ours(void)
{
	static int lowest = -1;
	int fd = dup(1), again = dup(1);

	if (lowest < 0)
		lowest = fd;
	if (fd != lowest || again <= fd || dup2(1, fd) != fd)
		return wrong("a descriptor is not the lowest", 0);
	close(fd);
	close(again);
	return true;
}

static bool once(bool blocked)
{
	unsigned char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	double end = ms_now() + SPIN_MS;
	unsigned long round;
	sigset_t mask;
	size_t at;
	int i;

	sigemptyset(&mask);
	if (blocked)
		blocked_by_parent(&mask);
	if (!mask_is(&mask, "is blocked at the start, or is not"))
		return false;
	if (memory == MAP_FAILED)
		return wrong("no memory", 0);
	for (at = 0; at < SIZE; at++)
		memory[at] = byte(at);
	for (i = 0; i < SIGNALS; i++) {
		state[i].set = action(0);
		sigaction(sigs[i], &state[i].set, NULL);
	}
	for (round = 1; ms_now() < end; round++) {
		for (i = 0; i < SIGNALS; i++)
			if (!change(i, round) || !files_are_ours())
				return false;
	}
	if (ran[0] || ran[1])
		return wrong("ran, and nobody had sent it", 0);
	for (at = 0; at < SIZE; at++)
		if (memory[at] != byte(at))
			return wrong("memory", 0);
	if (!mask_is(&mask, "is blocked at the end, or is not"))
		return false;
	sigemptyset(&mask);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	return all_right();
}

/* Some have tried to execute something else first. */
static bool in_child(char *self, int nr)
{
	static char x[] = "x", word[] = "blocked";
	char *plain[] = { self, NULL }, *blocked[] = { self, x, word, NULL };
	sigset_t mask;
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		blocked_by_parent(&mask);
		if (nr % 2)
			sigprocmask(SIG_BLOCK, &mask, NULL);
		if (nr % 4 > 1)
			execv("/nothing/is/here", plain);
		execv(self, nr % 2 ? blocked : plain);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || status == 0)
		return status == 0;
	printf("WRONG: status %#x\n", (unsigned)status);
	return false;
}

/* ---- who executes itself ----------------------------------------------------------- */

#define EXEC_MS 2.5

/* When a process is taken over: a few milliseconds after it began. */
static bool spin(int nr)
{
	double end = ms_now() + EXEC_MS * (nr * 37 % 100) / 100.0;
	bool right = true;

	while (right && ms_now() < end)
		right = files_are_ours();
	return right;
}

static bool next_in_chain(char *self, int left)
{
	static char word[] = "chain", number[16];
	char *argv[] = { self, number, word, word, NULL };
	sigset_t none;
	int status = 0;
	pid_t pid;

	sigemptyset(&none);
	if (!mask_is(&none, "is blocked by who executes itself"))
		return false;
	if (!left)
		return true;
	if (!spin(left))
		return false;
	pid = fork();
	if (!pid)
		_exit(!mask_is(&none, "is blocked in a child"));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		return wrong("fork", 0);
	if (!spin(left / 3))
		return false;
	snprintf(number, sizeof(number), "%d", left - 1);
	execv("/nothing/is/here", argv);
	execv(self, argv);
	return wrong("exec", 0);
}

static bool chain(char *self, int length)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0)
		exit(!next_in_chain(self, length));
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0)
		return true;
	printf("WRONG: status %#x of a chain\n", (unsigned)status);
	return false;
}

int main(int argc, char **argv)
{
	int i;

	if (argc == 4)
		return !next_in_chain(argv[0], atoi(argv[1]));
	if (argc == 1 || !strcmp(argv[1], "x"))
		return !once(argc == 3);
	for (i = 0; i < atoi(argv[1]); i++)
		if (!in_child(argv[0], i))
			return 1;
	if (argc == 3 && !chain(argv[0], atoi(argv[2])))
		return 1;
	puts("right");
	return 0;
}
