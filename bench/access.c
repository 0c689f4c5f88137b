/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to touch a page of a region that does not fit: the program that side.py
 * runs in various ways. It fills a region page by page and then touches its pages in
 * various orders, looks at each word that it reads, and at the end at all bytes.
 *
 * By itself it knows of no limit: that is a cgroup's or `uhmm run`'s. With --explicit it
 * makes a space with a budget and gives the region to it.
 *
 * Prints a line of JSON for each order: nanoseconds an access by the clock, of the
 * processors for this process, and of all processors for whatever was done, the kernel's
 * threads included (/proc/stat, ticks of 10 ms). Exit status 1: a word was wrong.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <uhmm/uhmm.h>

#include "bench/access.h"

#define MAX_THREADS 64u
/* Before as many accesses as there are pages, which count: one in so many that do not. */
#define WARM_UP 4u

enum act { ACT_FILL, ACT_READ, ACT_MODIFY, ACT_WHOLE };

static const struct pattern {
	const char *name;
	enum order order;
	enum act act;
} patterns[] = {
	{ "fill", ORDER_SEQUENTIAL, ACT_FILL },
	{ "sequential", ORDER_SEQUENTIAL, ACT_READ },
	{ "strided", ORDER_STRIDED, ACT_READ },
	{ "uniform", ORDER_UNIFORM, ACT_READ },
	{ "zipf", ORDER_ZIPF, ACT_READ },
	{ "modify", ORDER_UNIFORM, ACT_MODIFY },
	{ "hotset", ORDER_HOT_SET, ACT_READ },
	{ "whole", ORDER_SEQUENTIAL, ACT_WHOLE },
};

#define NR_PATTERNS (sizeof(patterns) / sizeof(patterns[0]))

static struct options {
	size_t nr_pages;
	enum content content;
	unsigned threads;
	bool explicit, inline_delivery, cold;
	uint64_t budget, seed;
	const char *device;
} opt = {
	.nr_pages = 131072,
	.threads = 1,
	.seed = 1,
	.inline_delivery = true,
	.device = "lz4",
};

static struct pages pages;
static struct uhmm_space *space;
static struct uhmm_device *device;

/* ---- one pattern ------------------------------------------------------------------- */

static struct worker {
	pthread_t thread;
	const struct pattern *pattern;
	struct walk walk;
	size_t nr;
	uint64_t wrong;
} workers[MAX_THREADS];

static bool act_on(enum act act, size_t i)
{
	switch (act) {
	case ACT_FILL:
		page_fill(&pages, i);
		return true;
	case ACT_READ:
		return page_read(&pages, i);
	case ACT_MODIFY:
		return page_modify(&pages, i);
	case ACT_WHOLE:
		return page_whole(&pages, i);
	}
	return false;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	size_t i;

	for (i = 0; i < w->nr; i++)
		w->wrong += !act_on(w->pattern->act, walk_next(&w->walk));
	return NULL;
}

/* Each thread has a part of the region. Returns how many words were wrong. */
static uint64_t work_all(unsigned divisor)
{
	uint64_t wrong = 0;
	unsigned t;

	for (t = 0; t < opt.threads; t++) {
		workers[t].nr = workers[t].walk.nr / divisor;
		workers[t].wrong = 0;
		if (t > 0 && pthread_create(&workers[t].thread, NULL, work, &workers[t]))
			err(2, "no thread");
	}
	work(&workers[0]);
	for (t = 1; t < opt.threads; t++)
		pthread_join(workers[t].thread, NULL);
	for (t = 0; t < opt.threads; t++)
		wrong += workers[t].wrong;
	return wrong;
}

struct clocks {
	double wall, process, machine; /* ns */
};

static double of_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* What all processors have worked: all but idle, waiting for disks, and other guests'. */
static double of_machine(void)
{
	unsigned long long user, nice, system, idle, iowait, irq, softirq;
	FILE *file = fopen("/proc/stat", "re");

	if (!file || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice,
			    &system, &idle, &iowait, &irq, &softirq) != 7)
		err(2, "cannot read /proc/stat");
	fclose(file);
	return (double)(user + nice + system + irq + softirq) * 1e9 /
	       (double)sysconf(_SC_CLK_TCK);
}

static struct clocks clocks_now(void)
{
	return (struct clocks){ of_clock(CLOCK_MONOTONIC),
				of_clock(CLOCK_PROCESS_CPUTIME_ID), of_machine() };
}

static uint64_t faults_of(const struct uhmm_stats *stats)
{
	return stats->fault_device + stats->fault_probation + stats->fault_zero +
	       stats->fault_busy;
}

/* What uhmm did meanwhile, an access; and what it has now. */
static void print_stats(const struct uhmm_stats *from, double nr)
{
	struct uhmm_stats to = { .size = sizeof(to) };

	uhmm_stats_get(space, &to);
	printf(", \"faults\": %.4f, \"loaded\": %.4f, \"prefetched\": %.4f, "
	       "\"in_vain\": %.4f, \"restored\": %.4f, \"isolated\": %.4f, "
	       "\"stored\": %.4f, \"zeros\": %.4f, \"rss_mib\": %.1f, "
	       "\"device_mib\": %.1f, \"tables_mib\": %.2f",
	       (double)(faults_of(&to) - faults_of(from)) / nr,
	       (double)(to.loaded - from->loaded) / nr,
	       (double)(to.prefetch - from->prefetch) / nr,
	       (double)(to.prefetch_vain - from->prefetch_vain) / nr,
	       (double)(to.restored - from->restored) / nr,
	       (double)(to.isolated - from->isolated) / nr,
	       (double)(to.stored - from->stored) / nr,
	       (double)(to.fault_zero - from->fault_zero) / nr,
	       (double)to.rss_anon_bytes / (1 << 20),
	       (double)to.device_bytes_resident / (1 << 20),
	       (double)to.metadata_bytes / (1 << 20));
}

/* Some may be busy, and stay. */
static void migrate_all(void)
{
	size_t len = pages.nr * PAGE, moved = 0;
	int error = uhmm_migrate(space, pages.base, len, device, NULL, &moved);

	if (error)
		errx(2, "cannot migrate the region: %s", strerror(-error));
}

static uint64_t run_pattern(const struct pattern *p)
{
	struct uhmm_stats before = { .size = sizeof(before) };
	size_t part = pages.nr / opt.threads, nr = part * opt.threads;
	struct clocks from, to;
	uint64_t wrong = 0;
	unsigned t;

	for (t = 0; t < opt.threads; t++) {
		workers[t].pattern = p;
		walk_begin(&workers[t].walk, p->order, t * part, part,
			   opt.seed * MAX_THREADS + t);
	}
	if (p->act == ACT_READ || p->act == ACT_MODIFY)
		wrong += work_all(WARM_UP);
	if (opt.cold)
		migrate_all();
	if (space)
		uhmm_stats_get(space, &before);
	from = clocks_now();
	wrong += work_all(1);
	to = clocks_now();
	printf("{\"pattern\": \"%s\", \"accesses\": %zu, \"wall_ns\": %.1f, "
	       "\"process_ns\": %.1f, \"machine_ns\": %.1f, \"wrong\": %llu",
	       p->name, nr, (to.wall - from.wall) / (double)nr,
	       (to.process - from.process) / (double)nr,
	       (to.machine - from.machine) / (double)nr, (unsigned long long)wrong);
	if (space)
		print_stats(&before, (double)nr);
	puts("}");
	return wrong;
}

/* ---- what it is told --------------------------------------------------------------- */

static void make_space(void)
{
	struct uhmm_space_config config = {
		.size = sizeof(config),
		.delivery = opt.inline_delivery ? UHMM_DELIVERY_INLINE :
						  UHMM_DELIVERY_THREAD,
		.budget_bytes = opt.budget,
	};
	int error = uhmm_space_create(&config, &space);

	if (error)
		errx(77, "cannot create a space: %s", strerror(-error));
	error = uhmm_device_open(space, opt.device, &device);
	if (error)
		errx(2, "%s: %s", opt.device,
		     error == -EINVAL ? uhmm_strerror_spec() : strerror(-error));
	error = uhmm_manage(space, pages.base, pages.nr * PAGE);
	if (error)
		errx(2, "cannot manage the region: %s", strerror(-error));
}

static uint64_t mib(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (end == text || *end != '\0' || n == 0 || n > 1u << 24)
		errx(2, "'%s' is no number of MiB", text);
	return (uint64_t)n << 20;
}

static enum content content_of(const char *name)
{
	if (strcmp(name, "1.26") == 0)
		return CONTENT_POOR;
	if (strcmp(name, "2.5") == 0)
		return CONTENT_GOOD;
	if (strcmp(name, "zeros") == 0)
		return CONTENT_ZEROS;
	errx(2, "--content=%s: 1.26, 2.5 or zeros", name);
}

static int usage(FILE *to)
{
	fputs("usage: bench-access [--size=MIB] [--content=1.26|2.5|zeros]\n"
	      "           [--threads=N] [--explicit=inline|thread --budget=MIB|--cold\n"
	      "           [--device=SPEC]] [--seed=N] [PATTERN...]\n"
	      "--cold: no budget, and all is on the device before each pattern.\n"
	      "Patterns: fill (first, always), sequential, strided, uniform, zipf,\n"
	      "modify, hotset, whole (last, always); in the order named, by default "
	      "all.\n",
	      to);
	return to == stdout ? 0 : 2;
}

static void delivery_of(const char *name)
{
	opt.explicit = true;
	opt.inline_delivery = strcmp(name, "inline") == 0;
	if (!opt.inline_delivery && strcmp(name, "thread") != 0)
		errx(2, "--explicit=%s: inline or thread", name);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "content", required_argument, NULL, 'c' },
		{ "threads", required_argument, NULL, 't' },
		{ "explicit", required_argument, NULL, 'e' },
		{ "budget", required_argument, NULL, 'b' },
		{ "cold", no_argument, NULL, 'o' },
		{ "device", required_argument, NULL, 'd' },
		{ "seed", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			opt.nr_pages = (size_t)(mib(optarg) / PAGE);
		else if (c == 'c')
			opt.content = content_of(optarg);
		else if (c == 't')
			opt.threads = (unsigned)atoi(optarg);
		else if (c == 'e')
			delivery_of(optarg);
		else if (c == 'b')
			opt.budget = mib(optarg);
		else if (c == 'o')
			opt.cold = true;
		else if (c == 'd')
			opt.device = optarg;
		else if (c == 'r')
			opt.seed = strtoull(optarg, NULL, 10);
		else
			exit(usage(c == 'h' ? stdout : stderr));
	}
	if (opt.threads < 1 || opt.threads > MAX_THREADS)
		errx(2, "--threads: 1 to %u", MAX_THREADS);
	if (opt.explicit && (opt.budget == 0) != opt.cold)
		errx(2, "--explicit wants a --budget, or --cold");
	if (opt.cold && !opt.explicit)
		errx(2, "--cold: of a range that is --explicit");
}

static const struct pattern *pattern_of(const char *name)
{
	size_t i;

	for (i = 0; i < NR_PATTERNS; i++)
		if (strcmp(name, patterns[i].name) == 0)
			return &patterns[i];
	return NULL;
}

static void check_names(char **names)
{
	for (; *names; names++)
		if (!pattern_of(*names))
			errx(2, "'%s' is no pattern; see --help", *names);
}

static bool is_end(const struct pattern *p)
{
	return p->act == ACT_FILL || p->act == ACT_WHOLE;
}

/* Fills; the patterns in the order in which they are named; reads and compares all. */
static uint64_t run_patterns(char **names)
{
	uint64_t wrong = run_pattern(pattern_of("fill"));
	size_t i;

	for (i = 0; !*names && i < NR_PATTERNS; i++)
		if (!is_end(&patterns[i]))
			wrong += run_pattern(&patterns[i]);
	for (; *names; names++)
		if (!is_end(pattern_of(*names)))
			wrong += run_pattern(pattern_of(*names));
	return wrong + run_pattern(pattern_of("whole"));
}

int main(int argc, char **argv)
{
	uint64_t wrong;

	parse(argc, argv);
	check_names(argv + optind);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!pages_map(&pages, opt.nr_pages, opt.content))
		err(2, "no memory for %zu pages", opt.nr_pages);
	if (opt.explicit)
		make_space();
	wrong = run_patterns(argv + optind);
	if (space && uhmm_space_destroy(space))
		errx(1, "the space was not destroyed");
	if (wrong)
		errx(1, "%llu words or pages are wrong", (unsigned long long)wrong);
	return 0;
}
