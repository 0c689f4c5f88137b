/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn [-t THREADS] [-m MIB] [-n OPERATIONS] [-s SEED] [-kl] [-x NAME,NAME...]: see
 * churn.h. torture [-i] [...]: the same, see churn_moves.c.
 *
 * With -k what hands memory to the kernel is left out: where faults are delivered inline
 * (-i) or to an ordinary user, the kernel cannot fetch what it is to read or write. With
 * -l each child is one of libc's fork(): an ordinary user is not told of others. Inline,
 * vfork() takes the place of posix_spawn(), which blocks SIGBUS.
 *
 * MIB is what all threads together keep mapped, OPERATIONS what each does; those named
 * after -x are left out, to find out which one it takes to make a failure. At the end
 * every page is compared whole, and the digest printed.
 */
#include "churn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options options = { .threads = 3, .bytes = 128 * MIB, .ops = 4000, .seed = 1 };
struct churn churns[THREADS_MAX];
_Thread_local struct churn *self;

/* Weights add up to 1,000. */
static const struct {
	const char *name;
	void (*fn)(struct churn *c);
	unsigned weight;
} ops[] = {
	{ "touch", op_touch, 364 },     { "map", op_map, 90 },
	{ "unmap", op_unmap, 40 },      { "remap", op_remap, 90 },
	{ "advise", op_advise, 105 },   { "protect", op_protect, 50 },
	{ "fixed", op_fixed, 20 },      { "lock", op_lock, 20 },
	{ "commons", commons_use, 80 }, { "syscall", op_syscall, 52 },
	{ "segv", op_segv, 25 },        { "fork", op_fork, 10 },
	{ "spawn", op_spawn, 3 },       { "inherit", op_inherit, 15 },
	{ "dio", op_dio, 15 },          { "memfd", op_memfd, 10 },
	{ "exhaust", op_exhaust, 1 },
#ifdef HAVE_LIBURING
	{ "uring", op_uring, 10 },
#else
	{ "touch", op_touch, 10 },
#endif
};

/*
 * Nobody unmaps anything before all have their stacks: those who migrate remember where
 * memory was, and a thread that begins blocks the signal of inline delivery.
 */
static pthread_barrier_t started;

/* What hands migrated memory to the kernel. */
static char by_the_kernel[] = "syscall,dio,uring,lock,exhaust";
static bool left_out[sizeof(ops) / sizeof(ops[0])];

static void leave_out(char *names)
{
	for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
		size_t i = 0;

		while (i < sizeof(ops) / sizeof(ops[0]) && strcmp(ops[i].name, name) != 0)
			i++;
		if (i == sizeof(ops) / sizeof(ops[0]))
			fail("there is no operation %s", name);
		left_out[i] = true;
		options.without_ring |= strcmp(name, "uring") == 0;
	}
}

static void one_op(struct churn *c)
{
	unsigned at = (unsigned)rng_below(&c->rng, 1000);
	size_t i = 0;

	while (at >= ops[i].weight)
		at -= ops[i++].weight;
	c->op_name = ops[i].name;
	if (!left_out[i])
		ops[i].fn(c);
	if (c->child.pid && c->op >= c->child.due)
		child_wait(c);
	fold(c, c->pages);
}

static void look_at_all(struct churn *c)
{
	for (int i = 0; i < c->nr_regions; i++)
		for (size_t n = 0; n < c->region[i].nr; n++)
			page_check(c, &c->region[i], n, (uint64_t)n << 8);
}

static void *run(void *arg)
{
	struct churn *c = arg;

	self = c;
	signals_start_thread();
	files_init(c);
	pthread_barrier_wait(&started);
	for (c->op = 0; c->op < options.ops; c->op++)
		one_op(c);
	c->op_name = "last look";
	child_wait(c);
	files_end(c);
	look_at_all(c);
	atomic_store(&c->ended, true);
	return NULL;
}

static void parse(int argc, char **argv)
{
	int o;

	while ((o = getopt(argc, argv, moves_start ? "t:m:n:s:x:kli" : "t:m:n:s:x:kl")) !=
	       -1) {
		uint64_t value = strtoull(optarg ? optarg : "0", NULL, 10);

		options.inline_delivery |= o == 'i';
		if (o == 't' && value >= 1 && value <= THREADS_MAX)
			options.threads = (int)value;
		else if (o == 'm' && value >= 8)
			options.bytes = value * MIB;
		else if (o == 'n' && value >= 1)
			options.ops = value;
		else if (o == 's')
			options.seed = value;
		else if (o == 'x')
			leave_out(optarg);
		else if (o == 'k' || o == 'i')
			options.without_kernel = true;
		else if (o == 'l')
			options.libc_forks = true;
		else
			fail("usage: churn [-t 1..16] [-m MIB] [-n OPS] [-s SEED] "
			     "[-kl] [-x NAME,NAME...]%s",
			     moves_start ? " [-i]" : "");
	}
	if (options.without_kernel)
		leave_out(by_the_kernel);
}

int main(int argc, char **argv)
{
	pthread_t pester;
	uint64_t digest = 0;

	parse(argc, argv);
	constants_init();
	signals_init();
	for (int t = 0; t < options.threads; t++) {
		churns[t].index = t;
		churns[t].rng.state = mix64(options.seed << 8 | (unsigned)t);
		churns[t].target = options.bytes / PAGE / (size_t)options.threads;
		churns[t].op_name = "start";
	}
	if (moves_start)
		moves_start(options.seed, options.inline_delivery);
	pthread_barrier_init(&started, NULL, (unsigned)options.threads + 1);
	for (int t = 0; t < options.threads; t++)
		if (pthread_create(&churns[t].thread, NULL, run, &churns[t]) != 0)
			fail("pthread_create");
	if (pthread_create(&pester, NULL, signals_pester, NULL) != 0)
		fail("pthread_create");
	pthread_barrier_wait(&started);
	pthread_join(pester, NULL);
	for (int t = 0; t < options.threads; t++)
		pthread_join(churns[t].thread, NULL);
	if (moves_stop)
		moves_stop();
	for (int t = 0; t < options.threads; t++) {
		self = &churns[t];
		look_at_all(self);
		printf("thread %d digest %016llx regions %d pages %zu stamps %u\n", t,
		       (unsigned long long)churns[t].digest, churns[t].nr_regions,
		       churns[t].pages, churns[t].serial);
		fprintf(stderr, "thread %d: %llu signals, %u mremaps, %u refused\n", t,
			(unsigned long long)churns[t].signals, churns[t].remapped,
			churns[t].refused);
		digest = mix64(digest ^ churns[t].digest);
	}
	printf("digest %016llx\n", (unsigned long long)digest);
	if (moves_report)
		moves_report();
	return 0;
}
