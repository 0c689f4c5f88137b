/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-zeros [PAGES]: what it costs to take pages out of a mapping that were only read.
 *
 * Such a page is the kernel's zero page. UFFDIO_MOVE takes it as it is, and flushes it
 * from the translation caches of every processor that runs the program, page by page; so
 * it does once more when the frame is emptied. To write to the page first is such a flush
 * too, but what comes of it is memory, and is moved with others under one flush. Each
 * line is a way to do it, moved twice, in microseconds a page, with the program's other
 * thread asleep and with it computing. Compare lines of one output, never of two.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* Debian 12's headers are older than this call (Linux 6.8). */
struct move {
	uint64_t dst, src, len, mode;
	int64_t moved;
};
#define MOVE _IOWR(UFFDIO, 0x05, struct move)

#define PAGE ((size_t)4096)
#define GROUP (64 * PAGE)

static int computing, uffd;
static size_t size = 8192 * PAGE;

static void die(const char *what)
{
	fprintf(stderr, "bench-zeros: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void *compute(void *arg)
{
	while (__atomic_load_n(&computing, __ATOMIC_RELAXED))
		;
	return arg;
}

/* Registered: also where pages are moved away, nobody touches what is missing. */
static char *map(void)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED || madvise(p, size, MADV_NOHUGEPAGE))
		die("mmap");
	reg.range.start = (uintptr_t)p;
	reg.range.len = size;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER");
	return p;
}

static char *from, *frames, *trash;

static void move_group(char *to, const char *src)
{
	size_t at = 0;

	while (at < GROUP) {
		struct move m = { (uintptr_t)to + at, (uintptr_t)src + at, GROUP - at, 0,
				  0 };

		if (ioctl(uffd, MOVE, &m) && m.moved <= 0)
			die("UFFDIO_MOVE");
		at += (size_t)m.moved;
	}
}

/* Microseconds a page. */
static double move_all(int write_first)
{
	double start;
	size_t at;

	if (madvise(from, size, MADV_POPULATE_READ))
		die("MADV_POPULATE_READ");
	start = now_us();
	for (at = 0; at < size; at += GROUP) {
		if (write_first && madvise(from + at, GROUP, MADV_POPULATE_WRITE))
			die("MADV_POPULATE_WRITE");
		move_group(frames + at, from + at);
		move_group(trash + at, frames + at);
	}
	start = now_us() - start;
	madvise(trash, size, MADV_DONTNEED);
	return start / (double)(size / PAGE);
}

static void measure(const char *name, int write_first)
{
	double alone = move_all(write_first), beside;
	pthread_t thread;

	computing = 1;
	if (pthread_create(&thread, NULL, compute, NULL))
		die("pthread_create");
	usleep(10000);
	beside = move_all(write_first);
	__atomic_store_n(&computing, 0, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("%-28s %6.2f %6.2f\n", name, alone, beside);
}

int main(int argc, char **argv)
{
	struct uffdio_api api = { .api = UFFD_API };

	if (argc > 2 || (argc == 2 && !(size = strtoul(argv[1], NULL, 0) * GROUP / 64))) {
		fprintf(stderr, "usage: bench-zeros [PAGES]\n");
		return 2;
	}
	size = (size + GROUP - 1) / GROUP * GROUP;
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		die("userfaultfd");
	from = mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (from == MAP_FAILED || madvise(from, size, MADV_NOHUGEPAGE))
		die("mmap");
	frames = map();
	trash = map();
	printf("%-28s %6s %6s\n", "us a page", "alone", "beside");
	measure("the zero page", 0);
	measure("written to first", 1);
	return 0;
}
