/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alone -m MIB: a program that must not notice uhmm's threads.
 *
 * It has functions of libc of its own, as allocators' and sanitizers' runtimes do, and
 * ends if a thread calls them that is not its own. It counts its threads where Python and
 * C++ programs do. Children of it, while it is small, make namespaces: one for users,
 * which only a process of one thread may, and one for pids.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stamp.h"

#define CHUNK 1024
#define ROUNDS 3

/* ---- its own libc ----------------------------------------------------------------- */

/* In the thread-local storage of threads that libc started; zero elsewhere. */
static __thread int own;

static void check(void)
{
	static const char text[] = "called on a thread that is not the program's\n";

	if (own)
		return;
	syscall(SYS_write, 2, text, sizeof(text) - 1);
	syscall(SYS_exit_group, 99);
}

void *memmove(void *to, const void *from, size_t n)
{
	volatile char *t = to;
	const char *f = from;

	check();
	for (size_t i = 0; i < n; i++) {
		size_t at = to < from ? i : n - 1 - i;

		t[at] = f[at];
	}
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	return memmove(to, from, n);
}

void *memset(void *to, int c, size_t n)
{
	volatile char *t = to;

	check();
	while (n--)
		t[n] = (char)c;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const volatile unsigned char *x = a, *y = b;

	check();
	for (; n--; x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

void *memchr(const void *s, int c, size_t n)
{
	const volatile unsigned char *at = s;

	check();
	for (; n--; at++)
		if (*at == (unsigned char)c)
			return (void *)(uintptr_t)at;
	return NULL;
}

size_t strlen(const char *s)
{
	const volatile char *at = s;

	check();
	while (*at)
		at++;
	return (size_t)(at - s);
}

int strncmp(const char *a, const char *b, size_t n)
{
	const volatile unsigned char *x = (const void *)a, *y = (const void *)b;

	check();
	for (; n-- && (*x || *y); x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	check();
	return (int)syscall(SYS_clock_gettime, clock, now);
}

int getcpu(unsigned *cpu, unsigned *node)
{
	check();
	return (int)syscall(SYS_getcpu, cpu, node, NULL);
}

/* ---- what it does ----------------------------------------------------------------- */

/* What the child does ends it. */
static int in_child(void (*what)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		what();
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		exit(1);
	return status;
}

static void end(void)
{
	_exit(0);
}

static void make_user_namespace(void)
{
	usleep(50000); /* uhmm's thread is there by then */
	_exit(unshare(CLONE_NEWUSER) ? errno : 0);
}

/* The child of the child has pid 1. */
static void make_pid_namespace(void)
{
	usleep(50000);
	_exit(unshare(CLONE_NEWPID) ? errno : in_child(end));
}

/* Under /proc/self. */
static int nr_threads(const char *name)
{
	char path[64], word[256];
	FILE *file;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	file = fopen(path, "re");
	if (!file)
		exit(1);
	if (name[4])
		while (fgets(word, sizeof(word), file) &&
		       sscanf(word, "Threads: %d", &n) != 1)
			;
	else if (fscanf(file,
			"%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
			"%*u %*u %*d %*d %*d %*d %d",
			&n) != 1)
		n = -1;
	fclose(file);
	return n;
}

static void count_threads(const char *name)
{
	printf("threads in %s: %d\n", name, nr_threads(name));
}

/* Two links of the directory are its own. */
static void count_links(void)
{
	struct stat st;

	if (fstatat(AT_FDCWD, "/proc/self/task/", &st, 0))
		exit(1);
	printf("threads in task: %ld\n", (long)st.st_nlink - 2);
}

static void *fill_and_sum(void *arg)
{
	size_t bytes = *(size_t *)arg, at;
	uint64_t line[CHUNK / 8], sum = 0;
	char *memory = malloc(bytes);
	int round;

	own = 1;
	if (!memory)
		exit(1);
	for (round = 0; round < ROUNDS; round++) {
		for (at = 0; at < bytes; at += CHUNK) {
			memset(line, round, sizeof(line));
			line[0] = at;
			memcpy(memory + at, line, CHUNK);
		}
		for (at = 0; at < bytes; at += CHUNK) {
			memcpy(line, memory + at, CHUNK);
			sum = sum * 31 + line[0] + line[CHUNK / 8 - 1];
		}
	}
	count_threads("stat");
	count_threads("status");
	count_links();
	printf("sum %016llx\n", (unsigned long long)sum);
	return NULL;
}

int main(int argc, char **argv)
{
	size_t bytes;
	pthread_t thread;
	int tries;

	own = 1;
	bytes = argc == 3 ? strtoull(argv[2], NULL, 10) * MIB : 0;
	if (!bytes) {
		fputs("usage: alone -m MIB\n", stderr);
		return 2;
	}
	printf("user namespace: status %x\n", in_child(make_user_namespace));
	printf("pid namespace: status %x\n", in_child(make_pid_namespace));
	if (pthread_create(&thread, NULL, fill_and_sum, &bytes))
		return 1;
	pthread_join(thread, NULL);
	/* The kernel wakes who joins it before it counts the thread out. */
	for (tries = 0; tries < 1000 && nr_threads("stat") != 1; tries++)
		usleep(1000);
	count_threads("stat");
	return 0;
}
