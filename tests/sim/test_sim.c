/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library on a simulated machine, a random program for each seed.
 *
 *	test_sim                       two batches of seeds; where TEST_FULL or
 *	                               SOAK_SECONDS is set the second is always new
 *	test_sim --seed N [--trace]    that seed alone, and what happened in it
 *	    [--schedule N] [--only IDS]  with another schedule, and of its operations
 *	                               only these
 *	test_sim --shrink N            that seed fails: which operations are enough
 *	test_sim --count N [--from N]  N seeds in a row
 *	test_sim --survey N [--from N] the same, but goes on after a failure and counts
 *	    [--jobs N]                 N processes at a time
 *
 * A failing seed is run once more by itself: what it prints is what --seed prints, and
 * then what --shrink prints.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/program.h"

#define FIXED_SEEDS 2000u
#define FRESH_SEEDS 1000u
/* Sanitizers cost ten times as much. */
#define SANITIZED_SHARE 10u
#define REPLAYS 40u

static struct {
	uint64_t seed, from;
	uint32_t schedule;
	unsigned count, jobs;
	bool one, trace, keep_on, shrink;
} options = { .from = 1, .jobs = 1 };

static void run_one(uint64_t seed, uint32_t schedule, bool trace)
{
	struct sim_config config = {
		.seed = seed, .schedule = schedule, .trace = trace, .rss_late = 16
	};

	if (seed % 4 != 0) {
		config.spurious = 40;
		config.short_move = 30;
		config.busy_move = seed % 4 == 1 ? 60 : 0;
		config.no_memory = seed % 4 == 2 ? 200 : 0;
		config.late_event = seed % 4 == 3 ? 20 : 0;
	}
	program_run(&config);
}

static void run_seed(uint64_t seed)
{
	run_one(seed, 0, false);
}

static void run_quietly(uint64_t seed, uint32_t schedule)
{
	run_one(seed, schedule, false);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(SIM_TSAN)
static void on_signal(int sig)
{
	sim_fail("signal %d (%s)", sig, strsignal(sig));
}

static void catch_signals(void)
{
	static char stack[64 << 10];
	stack_t alt = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	sigaltstack(&alt, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGILL, &action, NULL);
}
#else
/* The sanitizer says more than we could. */
static void catch_signals(void)
{
}
#endif

/* Does the seed fail by itself? */
static bool fails_alone(uint64_t seed)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		run_seed(seed);
		_exit(0);
	}
	return pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
	       WEXITSTATUS(status);
}

static void print_log(int log)
{
	char buf[4096];
	ssize_t n;

	lseek(log, 0, SEEK_SET);
	while ((n = read(log, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, stderr);
}

static void report_failure(uint64_t seed, uint64_t first, int log)
{
	printf("# seed %lu failed; replay: test_sim --seed %lu --trace\n", seed, seed);
	fflush(stdout);
	if (fails_alone(seed)) {
		shrink(seed, run_quietly);
		return;
	}
	printf("# it passes by itself: something outlived the seeds from %lu on\n",
	       first);
	print_log(log);
}

/* The last line of what a failing seed has to say. */
static void print_reason(uint64_t seed, uint64_t first, int log)
{
	char buf[4096];

	(void)first;
	printf("%lu %s\n", seed, batch_last_line(log, buf, sizeof(buf)));
	fflush(stdout);
}

static unsigned run_batches(uint64_t from, unsigned nr, bool go_on)
{
	struct batch batch = { .from = from,
			       .nr = nr,
			       .jobs = options.jobs,
			       .go_on = go_on,
			       .run = run_seed,
			       .failed = go_on ? print_reason : report_failure };

	return batch_run(&batch);
}

/* How many of these seeds fail, and each one's reason. */
static int survey(uint64_t from, unsigned nr)
{
	unsigned failed = run_batches(from, nr, true);

	printf("%u of %u seeds failed\n", failed, nr);
	return failed != 0;
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool report(int number, const char *name, uint64_t from, unsigned nr)
{
	double start = seconds();
	bool good = !run_batches(from, nr, false);

	printf("%sok %d - %s\n# %u seeds from %lu, %.1f s\n", good ? "" : "not ", number,
	       name, nr, from, seconds() - start);
	fflush(stdout);
	return good;
}

/* A seed does the same whatever ran before it in the process. */
static bool same_twice(void)
{
	uint64_t digest[REPLAYS], steps = 0;
	unsigned i;

	for (i = 0; i < REPLAYS; i++) {
		run_seed(i);
		digest[i] = sim_digest();
		steps += sim_steps();
	}
	while (i-- > 0) {
		run_seed(i);
		if (digest[i] != sim_digest()) {
			printf("# seed %u was different the second time\n", i);
			return false;
		}
	}
	printf("# %lu steps a seed\n", steps / REPLAYS);
	return true;
}

static int run_all(void)
{
	const char *sanitized = getenv("UHMM_SANITIZED");
	unsigned share = sanitized && *sanitized == '1' ? SANITIZED_SHARE : 1;
	uint64_t fresh = (uint64_t)time(NULL) << 20;
	bool good;

	/* A failure that is new is for those who look for one. */
	if (!getenv("TEST_FULL") && !getenv("SOAK_SECONDS"))
		fresh = FIXED_SEEDS + 1;
	printf("1..3\n");
	fflush(stdout);
	good = report(1, "seeds_that_stay_the_same", 1, FIXED_SEEDS / share);
	good &= report(2, "more_seeds", fresh, FRESH_SEEDS / share);
	if (good && same_twice()) {
		printf("ok 3 - a_seed_replays\n");
		return 0;
	}
	printf("not ok 3 - a_seed_replays\n");
	return 1;
}

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seed", 1, NULL, 's' },   { "schedule", 1, NULL, 'S' },
		{ "only", 1, NULL, 'o' },   { "trace", 0, NULL, 't' },
		{ "count", 1, NULL, 'c' },  { "survey", 1, NULL, 'C' },
		{ "shrink", 1, NULL, 'k' }, { "from", 1, NULL, 'f' },
		{ "jobs", 1, NULL, 'j' },   { NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'k':
			options.shrink = true;
			/* fallthrough */
		case 's':
			options.one = true;
			options.seed = strtoull(optarg, NULL, 0);
			break;
		case 'S':
			options.schedule = (uint32_t)strtoul(optarg, NULL, 0);
			break;
		case 'o':
			if (!shrink_only(optarg))
				return false;
			break;
		case 't':
			options.trace = true;
			break;
		case 'C':
			options.keep_on = true;
			/* fallthrough */
		case 'c':
			options.count = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'j':
			options.jobs = (unsigned)strtoul(optarg, NULL, 0);
			if (!options.jobs)
				return false;
			break;
		case 'f':
			options.from = strtoull(optarg, NULL, 0);
			break;
		default:
			return false;
		}
	}
	return optind == argc;
}

static int run_alone(void)
{
	if (options.shrink) {
		shrink(options.seed, run_quietly);
		return 0;
	}
	run_one(options.seed, options.schedule, options.trace);
	printf("seed %lu: %lu steps, digest %016lx\n", options.seed, sim_steps(),
	       sim_digest());
	return 0;
}

int main(int argc, char **argv)
{
	catch_signals();
	if (!parse(argc, argv)) {
		fprintf(stderr,
			"usage: %s [--seed N [--schedule N] [--only IDS] [--trace]] "
			"[--shrink N] [--count|--survey N [--from N] [--jobs N]]\n",
			argv[0]);
		return 125;
	}
	if (options.one)
		return run_alone();
	if (options.keep_on)
		return survey(options.from, options.count);
	if (options.count) {
		printf("1..1\n");
		fflush(stdout);
		return !report(1, "seeds", options.from, options.count);
	}
	return run_all();
}
