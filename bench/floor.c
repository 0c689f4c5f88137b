/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-floor [PAGES]: what a fault costs that a thread answers, without uhmm.
 *
 * One thread touches missing pages in order, another reads the userfaultfd and answers
 * each with one UFFDIO_COPY. Nothing that delivers faults to a thread can be faster. Each
 * line is a placement of the two; the microseconds a page are the lowest, the median and
 * the highest of ROUNDS runs, the placements in turn. Compare lines of one output, never
 * of two: neighbours on the machine change them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define ROUNDS 7

static const struct placement {
	const char *name;
	int reader_cpu, thread_cpu; /* -1: left to the scheduler */
} placements[] = {
	{ "pinned to one CPU", 0, 0 },
	{ "left to the scheduler", -1, -1 },
	{ "pinned apart", 1, 0 },
};

#define NR (sizeof(placements) / sizeof(placements[0]))

static int uffd;
static size_t pages = 8192;

static void die(const char *what)
{
	fprintf(stderr, "bench-floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void pin(int cpu)
{
	cpu_set_t set;
	long c, nr = sysconf(_SC_NPROCESSORS_CONF);

	CPU_ZERO(&set);
	for (c = 0; c < nr; c++)
		if (cpu < 0 || c == cpu)
			CPU_SET(c, &set);
	if (sched_setaffinity(0, sizeof(set), &set) && cpu >= 0)
		die("sched_setaffinity");
}

static void *reader(void *arg)
{
	static char zeros[4096];
	struct pollfd p = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;
	size_t n;

	pin(((const struct placement *)arg)->reader_cpu);
	for (n = 0; n < pages;) {
		struct uffdio_copy copy = { .src = (uintptr_t)zeros, .len = PAGE };

		poll(&p, 1, -1);
		if (read(uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		copy.dst = msg.arg.pagefault.address & ~(PAGE - 1);
		n += ioctl(uffd, UFFDIO_COPY, &copy) == 0;
	}
	return NULL;
}

static double run(const struct placement *placement)
{
	volatile char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, pages * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct timespec from, to;
	pthread_t thread;
	size_t i;

	if (p == MAP_FAILED || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("registering memory");
	pin(placement->thread_cpu);
	if (pthread_create(&thread, NULL, reader, (void *)(uintptr_t)placement))
		die("pthread_create");
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (i = 0; i < pages; i++)
		p[i * PAGE] = 1;
	clock_gettime(CLOCK_MONOTONIC, &to);
	pthread_join(thread, NULL);
	munmap((void *)(uintptr_t)p, pages * PAGE);
	return ((double)(to.tv_sec - from.tv_sec) * 1e6 +
		(double)(to.tv_nsec - from.tv_nsec) / 1e3) /
	       (double)pages;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	struct uffdio_api api = { .api = UFFD_API };
	double us[NR][ROUNDS];
	size_t i, round;

	if (argc > 2 || (argc == 2 && (pages = strtoul(argv[1], NULL, 10)) == 0)) {
		fprintf(stderr, "usage: bench-floor [PAGES]\n");
		return 2;
	}
	uffd = (int)syscall(SYS_userfaultfd,
			    O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		die("userfaultfd");
	for (round = 0; round < ROUNDS; round++)
		for (i = 0; i < NR; i++)
			us[i][round] = placements[i].reader_cpu >=
						       sysconf(_SC_NPROCESSORS_ONLN) ?
					       0 :
					       run(&placements[i]);
	for (i = 0; i < NR; i++) {
		qsort(us[i], ROUNDS, sizeof(us[i][0]), compare);
		printf("%-22s %6.1f %6.1f %6.1f\n", placements[i].name, us[i][0],
		       us[i][ROUNDS / 2], us[i][ROUNDS - 1]);
	}
	return 0;
}
