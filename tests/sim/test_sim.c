/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library on a simulated machine, a random program for each seed.
 *
 *	test_sim                       two batches of seeds; where TEST_FULL or
 *	                               SOAK_SECONDS is set the second is always new
 *	test_sim --seed N [--trace]    that seed alone, and what happened in it
 *	test_sim --count N [--from N]  N seeds in a row
 *	test_sim --survey N [--from N] the same, but goes on after a failure and counts
 *
 * Batches run in child processes, so that a seed that ends its process is one failure. A
 * failing seed is run once more by itself: what it prints is what --seed prints.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/program.h"

#define FIXED_SEEDS 2000u
#define FRESH_SEEDS 1000u
/* Sanitizers cost ten times as much. */
#define SANITIZED_SHARE 10u
#define BATCH 250u
#define REPLAYS 40u

static uint64_t *running; /* the seed that a child is at; shared with it */

static void run_seed(uint64_t seed, bool trace)
{
	struct sim_config config = { .seed = seed, .trace = trace, .rss_late = 16 };

	if (seed % 4 != 0) {
		config.spurious = 40;
		config.short_move = 30;
		config.busy_move = seed % 4 == 1 ? 60 : 0;
		config.no_memory = seed % 4 == 2 ? 200 : 0;
	}
	program_run(&config);
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

static void run_seeds(uint64_t from, unsigned nr)
{
	unsigned i;

	for (i = 0; i < nr; i++) {
		*running = from + i;
		run_seed(from + i, false);
	}
}

/* True if the child ended as it should. What it says goes to log, if that is not -1. */
static bool in_child(uint64_t from, unsigned nr, int log)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (log >= 0)
			dup2(log, STDERR_FILENO);
		run_seeds(from, nr);
		_exit(0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
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
	if (!in_child(seed, 1, -1))
		return;
	printf("# it passes by itself: something outlived the seeds from %lu on\n",
	       first);
	print_log(log);
}

static bool run_batches(uint64_t from, unsigned nr)
{
	int log = memfd_create("batch", MFD_CLOEXEC);
	unsigned done, n;

	for (done = 0; done < nr; done += n) {
		n = nr - done < BATCH ? nr - done : BATCH;
		if (!in_child(from + done, n, log)) {
			report_failure(*running, from + done, log);
			break;
		}
	}
	close(log);
	return done >= nr;
}

/* The last line of what a failing seed has to say. */
static void print_reason(uint64_t seed, int log)
{
	char buf[4096], *line;
	off_t end = lseek(log, 0, SEEK_END);
	ssize_t n = pread(log, buf, sizeof(buf) - 1, end < 4095 ? 0 : end - 4095);

	buf[n > 0 ? n : 0] = 0;
	if (n > 0 && buf[n - 1] == '\n')
		buf[n - 1] = 0;
	line = strrchr(buf, '\n');
	printf("%lu %s\n", seed, line ? line + 1 : buf);
	fflush(stdout);
}

/* How many of these seeds fail, and each one's reason. */
static int survey(uint64_t from, unsigned nr)
{
	int log = memfd_create("survey", MFD_CLOEXEC);
	unsigned failed = 0, done = 0, n;

	while (done < nr) {
		n = nr - done < BATCH ? nr - done : BATCH;
		if (ftruncate(log, 0))
			return 1;
		lseek(log, 0, SEEK_SET);
		if (in_child(from + done, n, log)) {
			done += n;
			continue;
		}
		print_reason(*running, log);
		failed++;
		done = (unsigned)(*running - from) + 1;
	}
	close(log);
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
	bool good = run_batches(from, nr);

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
		run_seed(i, false);
		digest[i] = sim_digest();
		steps += sim_steps();
	}
	while (i-- > 0) {
		run_seed(i, false);
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

int main(int argc, char **argv)
{
	uint64_t seed = 0, from = 1;
	unsigned count = 0;
	bool one = false, trace = false, keep_on = false;
	int i;

	running = mmap(NULL, sizeof(*running), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (running == MAP_FAILED)
		return 1;
	catch_signals();
	for (i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "0";

		if (!strcmp(argv[i], "--trace")) {
			trace = true;
		} else if (!strcmp(argv[i], "--seed")) {
			one = true;
			seed = strtoull(value, NULL, 0);
			i++;
		} else if (!strcmp(argv[i], "--count") || !strcmp(argv[i], "--survey")) {
			keep_on = argv[i][2] == 's';
			count = (unsigned)strtoul(value, NULL, 0);
			i++;
		} else if (!strcmp(argv[i], "--from")) {
			from = strtoull(value, NULL, 0);
			i++;
		} else {
			fprintf(stderr,
				"usage: %s [--seed N [--trace]] "
				"[--count|--survey N [--from N]]\n",
				argv[0]);
			return 125;
		}
	}
	if (one) {
		run_seed(seed, trace);
		printf("seed %lu: %lu steps, digest %016lx\n", seed, sim_steps(),
		       sim_digest());
		return 0;
	}
	if (keep_on)
		return survey(from, count);
	if (count)
		return !report(1, "seeds", from, count);
	return run_all();
}
