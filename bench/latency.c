/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-latency [PAGES]: how long a touch takes, by what it meets, and how long the least
 * that can be done takes in the same process: the *floor*, without uhmm. A fault is
 * answered with one UFFDIO_COPY of a page that lies ready, by a thread that reads the
 * userfaultfd, or inline, by the handler of SIGBUS.
 *
 * Pages are touched one by one in random order, so that nothing comes along with another.
 * Microseconds: the median, 90, 99 and 99.9 in a hundred, and the longest; then how many
 * times the median of the floor of the same delivery. Compare lines of one output, never
 * of two: neighbours on the machine change them.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <uhmm/device.h>
#include <uhmm/uhmm.h>

#define PAGE ((size_t)UHMM_PAGE_SIZE)

static size_t nr_pages = 16384;
static uint32_t *order;
static double *us;

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static char *map_pages(void)
{
	char *p = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(1, "memory for %zu pages", nr_pages);
	/* Small pages: what is measured is one of them. */
	madvise(p, nr_pages * PAGE, MADV_NOHUGEPAGE);
	return p;
}

/* Half of each page is noise, half is text: compressible about 2 to 1. */
static void fill(char *pages)
{
	uint64_t x = 1;
	size_t i;

	for (i = 0; i < nr_pages * PAGE; i += sizeof(x)) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		memcpy(pages + i, i / 512 % 2 ? "a page. " : (char *)&x, sizeof(x));
	}
}

static void shuffle(void)
{
	size_t i, j;

	for (i = 0; i < nr_pages; i++)
		order[i] = (uint32_t)i;
	for (i = nr_pages - 1; i > 0; i--) {
		uint32_t swap = order[i];

		j = (size_t)random() % (i + 1);
		order[i] = order[j];
		order[j] = swap;
	}
}

/* ---- what is printed --------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double at(double part)
{
	return us[(size_t)((double)(nr_pages - 1) * part)];
}

/* Touches all pages and prints the line. floor: 0, or that of this delivery. */
static double touch(const char *delivery, const char *what, volatile char *pages,
		    double floor)
{
	size_t i;

	shuffle();
	for (i = 0; i < nr_pages; i++) {
		double start = now_us();

		pages[order[i] * PAGE] += 1;
		us[i] = now_us() - start;
	}
	qsort(us, nr_pages, sizeof(*us), compare);
	printf("%-7s %-6s %8.2f %8.2f %8.2f %8.2f %9.1f", delivery, what, at(0.5),
	       at(0.9), at(0.99), at(0.999), at(1));
	if (floor > 0)
		printf(" %8.2f", at(0.5) / floor);
	putchar('\n');
	return at(0.5);
}

/* ---- the floor --------------------------------------------------------------------- */

static int uffd;
static char ready[UHMM_PAGE_SIZE];

static int copy_to(uintptr_t addr)
{
	struct uffdio_copy copy = { .dst = addr & ~(PAGE - 1),
				    .src = (uintptr_t)ready,
				    .len = PAGE };

	return ioctl(uffd, UFFDIO_COPY, &copy);
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (copy_to((uintptr_t)info->si_addr)) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
}

/* Until the userfaultfd says that the first page is to be unmapped. */
static void *reader(void *arg)
{
	struct uffd_msg msg;

	(void)arg;
	while (read(uffd, &msg, sizeof(msg)) == sizeof(msg) &&
	       msg.event == UFFD_EVENT_PAGEFAULT)
		copy_to(msg.arg.pagefault.address);
	return NULL;
}

static void open_uffd(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0)
		uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		err(1, "userfaultfd");
}

static double floor_of(const char *delivery, bool is_inline)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO },
			 before;
	char *pages = map_pages();
	struct uffdio_register reg = {
		.range = { (uintptr_t)pages, nr_pages * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	pthread_t thread;
	double median;

	open_uffd(is_inline ? UFFD_FEATURE_SIGBUS : UFFD_FEATURE_EVENT_UNMAP);
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		err(1, "registering memory");
	sigfillset(&sa.sa_mask);
	if (is_inline)
		sigaction(SIGBUS, &sa, &before);
	else if (pthread_create(&thread, NULL, reader, NULL))
		errx(1, "no thread");
	median = touch(delivery, "floor", pages, 0);
	munmap(pages, nr_pages * PAGE);
	if (is_inline)
		sigaction(SIGBUS, &before, NULL);
	else
		pthread_join(thread, NULL);
	close(uffd);
	return median;
}

/* ---- the library ------------------------------------------------------------------- */

static struct uhmm_space *make_space(bool is_inline)
{
	struct uhmm_space_config config = {
		.size = sizeof(config),
		.delivery = is_inline ? UHMM_DELIVERY_INLINE : UHMM_DELIVERY_THREAD,
	};
	struct uhmm_space *space;
	int error = uhmm_space_create(&config, &space);

	if (error)
		errx(1, "cannot create a space: %s", strerror(-error));
	return space;
}

static void migrate(struct uhmm_space *space, char *pages, size_t nr,
		    struct uhmm_device *device)
{
	size_t moved = 0;

	if (uhmm_migrate(space, pages, nr * PAGE, device, NULL, &moved) || moved != nr)
		errx(1, "only %zu of %zu pages migrated", moved, nr);
}

static void measure(const char *delivery, bool is_inline, const char *spec, double floor)
{
	struct uhmm_space *space = make_space(is_inline);
	struct uhmm_device *device;
	char *pages = map_pages();
	int error = uhmm_device_open(space, spec, &device);

	if (error)
		errx(1, "%s: %s", spec, strerror(-error));
	fill(pages);
	migrate(space, pages, nr_pages, device);
	touch(delivery, spec, pages, floor);
	munmap(pages, nr_pages * PAGE);
	uhmm_space_destroy(space);
}

/* Memory never written, in a mapping that is known: one of its pages was migrated. */
static void measure_holes(const char *delivery, bool is_inline, double floor)
{
	struct uhmm_space *space = make_space(is_inline);
	struct uhmm_device *device;
	char *pages = map_pages();

	if (uhmm_device_open(space, "ram", &device))
		errx(1, "ram");
	pages[0] = 1;
	migrate(space, pages, 1, device);
	touch(delivery, "zeros", pages, floor);
	munmap(pages, nr_pages * PAGE);
	uhmm_space_destroy(space);
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "thread", "inline" };
	int i;

	if (argc > 2 || (argc == 2 && (nr_pages = strtoul(argv[1], NULL, 10)) == 0)) {
		fprintf(stderr, "usage: bench-latency [PAGES]\n");
		return 2;
	}
	order = calloc(nr_pages, sizeof(*order));
	us = calloc(nr_pages, sizeof(*us));
	if (!order || !us)
		err(1, "memory for %zu pages", nr_pages);
	printf("%-7s %-6s %8s %8s %8s %8s %9s %8s\n", "faults", "meet", "median", "90 %",
	       "99 %", "99.9 %", "longest", "floors");
	for (i = 0; i < 2; i++) {
		double floor = floor_of(names[i], i);

		measure(names[i], i, "ram", floor);
		measure(names[i], i, "lz4", floor);
		measure_holes(names[i], i, floor);
	}
	return 0;
}
