/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-call [MIB]: what a system call costs that waits for nothing.
 *
 * By syscall(), and by a function of libc that reads a byte. MIB of memory are used
 * before: with less than that under `uhmm run --faults=inline` calls are guarded by then.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CALLS 200000
#define ROUNDS 7
#define PAGE 4096

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int zero;

static void ask(void)
{
	syscall(SYS_getppid);
}

static void read_byte(void)
{
	char byte;

	if (read(zero, &byte, 1) != 1)
		exit(1);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const char *name, void (*call)(void))
{
	double us[ROUNDS], begin;
	int i, round;

	for (round = 0; round < ROUNDS; round++) {
		begin = now_us();
		for (i = 0; i < CALLS; i++)
			call();
		us[round] = (now_us() - begin) / CALLS;
	}
	qsort(us, ROUNDS, sizeof(us[0]), compare);
	printf("%-24s %6.2f %6.2f %6.2f\n", name, us[0], us[ROUNDS / 2], us[ROUNDS - 1]);
}

static void use(size_t size)
{
	volatile char *p = malloc(size ? size : 1);
	size_t i, pass;

	for (pass = 0; p && pass < 2; pass++)
		for (i = 0; i < size; i += PAGE)
			p[i]++;
}

int main(int argc, char **argv)
{
	use((size_t)(argc > 1 ? strtoul(argv[1], NULL, 10) : 0) << 20);
	zero = open("/dev/zero", O_RDONLY);
	if (zero < 0)
		return 1;
	printf("microseconds a call: lowest, median, highest of %d rounds\n", ROUNDS);
	measure("syscall(SYS_getppid)", ask);
	measure("read() of a byte", read_byte);
	return 0;
}
