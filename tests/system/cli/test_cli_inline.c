/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm run --faults=inline, with the real preload: who has no permission at all runs a
 * program in less memory than it needs, and the program is none the wiser.
 */
#include "cli.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
/* What cli_hungry fills, and what it is given. */
#define NEEDS "96"
#define GIVEN "48M"

static struct cli cli;

static const char *beside_tests(const char *name)
{
	static char path[PATH_MAX];
	const char *prog = cli_prog();

	snprintf(path, sizeof(path), "%.*s/%s", (int)(strrchr(prog, '/') - prog), prog,
		 name);
	return path;
}

/* No user and no group that anything belongs to, no capability, and none to be had. */
static void become_nobody(void)
{
	int cap;

	for (cap = 0; cap < 64; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (geteuid() == 0 && (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY)))
		_exit(201);
	/* As a program that was executed after that. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

/* how: what more cli_hungry is told, or NULL; last: what it says when all went well. */
static void run(cli_prepare *prepare, const char *faults, const char *how,
		const char *last)
{
	const char *delivery = strchr(faults, '=') + 1;
	char *hungry = cli_copy(beside_tests("cli_hungry"), "hungry", 0755);
	char *uhmm = cli_public_uhmm();
	char summary[PATH_MAX], stats[PATH_MAX + 32];
	cJSON *json;
	int fd;

	snprintf(summary, sizeof(summary), "%s/summary", cli_scratch());
	snprintf(stats, sizeof(stats), "--stats=json:%s", summary);
	fd = open(summary, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	CHECK(fd >= 0 && fchmod(fd, 0666) == 0);
	close(fd);
	cli_run(&cli, prepare, uhmm, "run", "--memory", GIVEN, faults, stats, hungry,
		NEEDS, how, NULL);
	/* Refused, before anything was run: the kernel cannot do it. */
	if (WIFEXITED(cli.status) && WEXITSTATUS(cli.status) == 125 &&
	    strstr(cli.err_text, "system calls cannot be guarded here:"))
		SKIP("the kernel dispatches no system calls");
	CHECK_STR(cli.err_text, "");
	CHECK(!strstr(cli.out_text, "WRONG"));
	CHECK(strstr(cli.out_text, last));
	CHECK_EQ(cli_exit_status(&cli), 0);
	json = cli_json(summary);
	CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(json, "delivery")), delivery);
	CHECK(cli_number(json, "stored") > 10000);
	CHECK(cli_number(json, "processes_migrated") >= 1);
	CHECK_EQ((int)cli_number(json, "processes_unable"), 0);
	CHECK_EQ((int)cli_number(json, "call_unknown"),
		 !how && !strcmp(delivery, "inline"));
	CHECK_EQ((long)cli_number(json, "over_bytes"), 0);
	cJSON_Delete(json);
	free(hungry);
	free(uhmm);
	cli_scratch_remove();
}

TEST(nobody_runs_a_program_in_half_of_its_memory, .timeout_s = 120)
{
	run(become_nobody, "--faults=inline", NULL, "at the end: right\n");
}

TEST(so_does_whoever_runs_this, .timeout_s = 120)
{
	run(NULL, "--faults=inline", NULL, "at the end: right\n");
}

/* The same judge, for what is the default. */
TEST(by_thread_it_is_the_same, .timeout_s = 120)
{
	if (geteuid())
		SKIP("needs root");
	run(NULL, "--faults=thread", NULL, "at the end: right\n");
}

TEST(who_waits_when_calls_begin_to_be_guarded_is_not_interrupted, .timeout_s = 60)
{
	run(NULL, "--faults=inline", "wait", "while threads wait: right\n");
}

TEST(a_thread_that_answers_late_is_waited_for, .timeout_s = 60)
{
	run(NULL, "--faults=inline", "late", "while nothing interrupts: right\n");
}

/* ---- filters on system calls ------------------------------------------------------ */

static void run_saying(const char *program, const char *faults, const char *what,
		       const char *prints, const char *says)
{
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", GIVEN, faults,
		beside_tests(program), NEEDS, what, NULL);
	if (WIFEXITED(cli.status) && WEXITSTATUS(cli.status) == 125 &&
	    strstr(cli.err_text, "system calls cannot be guarded here:"))
		SKIP("the kernel dispatches no system calls");
	CHECK_STR(cli.out_text, prints);
	CHECK_EQ(cli_exit_status(&cli), 0);
	CHECK(strstr(cli.err_text, says), "%.500s", cli.err_text);
}

static void run_right(const char *program, const char *faults, const char *what,
		      const char *says)
{
	run_saying(program, faults, what, "right\n", says);
}

static void run_filtered(const char *faults, const char *when, const char *says)
{
	run_right("cli_filter", faults, when, says);
}

TEST(a_filter_kills_nobody_for_what_we_do, .timeout_s = 120)
{
	run_filtered("--faults=inline", "before", " (seccomp), and runs without a limit");
	run_filtered("--faults=inline", "after", "a process installs a filter on its ");
	run_filtered("--faults=inline", "child", "a process installs a filter on its ");
	run_filtered("--faults=inline", "threads", "a process installs a filter on its ");
}

/* Our threads are from before the filter, and not under it. */
TEST(by_thread_a_filter_is_no_matter, .timeout_s = 120)
{
	if (geteuid())
		SKIP("needs root");
	run_filtered("--faults=thread", "before", "");
	run_filtered("--faults=thread", "after", "");
	run_filtered("--faults=thread", "child", "");
}

/* ---- what others have ------------------------------------------------------------- */

TEST(who_dispatches_calls_itself_is_let_be, .timeout_s = 120)
{
	run_right("cli_taken", "--faults=inline", "dispatch",
		  "a process dispatches its system calls itself, and runs without a ");
	run_right("cli_taken", "--faults=inline", "dispatch-by-number",
		  "a process dispatches its system calls itself, and runs without a ");
}

TEST(who_is_traced_is_let_be, .timeout_s = 120)
{
	run_right("cli_taken", "--faults=inline", "tracer",
		  "a process is traced, by a debugger or the like, which would see ");
}

TEST(without_permission_there_is_no_ring, .timeout_s = 120)
{
	run_saying("cli_taken", "--faults=inline", "ring", "no ring\n", "");
}

/*
 * With it they are all migrated, by a thread. over: what was migrated by then is brought
 * first, which is more than there should be, and is told.
 */
static void run_by_thread(const char *program, const char *what, bool over)
{
	char *option;
	cJSON *json;

	CHECK(asprintf(&option, "--stats=json:%s/summary", cli_scratch()) > 0);
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", GIVEN, "--faults=either",
		option, beside_tests(program), NEEDS, what, NULL);
	CHECK_STR(cli.out_text, "right\n");
	CHECK(!cli.err_text[0] || (over && strstr(cli.err_text, "more memory than")),
	      "%.500s", cli.err_text);
	CHECK_EQ(cli_exit_status(&cli), 0);
	json = cli_json(strchr(option, ':') + 1);
	CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(json, "delivery")), "inline");
	CHECK(cli_number(json, "processes_by_thread") >= 1, "%s", what);
	CHECK_EQ((int)cli_number(json, "processes_unable"), 0);
	CHECK(cli_number(json, "stored") > 10000, "%s", what);
	cJSON_Delete(json);
	free(option);
	cli_scratch_remove();
}

TEST(who_cannot_be_guarded_goes_on_by_thread, .timeout_s = 240)
{
	if (geteuid())
		SKIP("needs root");
	run_by_thread("cli_taken", "dispatch", false);
	run_by_thread("cli_taken", "tracer", false);
	run_by_thread("cli_taken", "ring", true);
	/* Under MALLOC_PERTURB_ it is malloc() that fills, before there is a filter. */
	run_by_thread("cli_filter", "before", true);
	run_by_thread("cli_filter", "after", true);
}

/* Threads and children that are started then, too, have signals as without uhmm. */
TEST(signals_are_right_when_a_process_goes_on_by_thread, .timeout_s = 240)
{
	if (geteuid())
		SKIP("needs root");
	run_by_thread("cli_left", "ring", true);
	run_by_thread("cli_left", "filter", true);
}

/* ---- while a process is taken over ------------------------------------------------- */

TEST(signals_and_programs_change_while_a_process_is_taken_over, .timeout_s = 120)
{
	cli_run(&cli, NULL, "/usr/bin/env", "UHMM_EVICT=5", cli_uhmm(), "run", "--memory",
		"1G", "--faults=inline", beside_tests("cli_actions"), "12", "200", NULL);
	CHECK_STR(cli.err_text, "");
	CHECK_STR(cli.out_text, "right\n");
	CHECK_EQ(cli_exit_status(&cli), 0);
}

/* What other tests rely on: where all fits all is taken, and comes back. */
static void run_evicted(const char *faults)
{
	char *option;
	cJSON *json;

	CHECK(asprintf(&option, "--stats=json:%s/summary", cli_scratch()) > 0);
	cli_run(&cli, NULL, "/usr/bin/env", "UHMM_EVICT=5", cli_uhmm(), "run", "--memory",
		"1G", faults, option, beside_tests("cli_hungry"), "24", NULL);
	CHECK_STR(cli.err_text, "");
	CHECK_EQ(cli_exit_status(&cli), 0);
	json = cli_json(strchr(option, ':') + 1);
	CHECK(cli_number(json, "isolated") > 50000);
	CHECK(cli_number(json, "stored") > 10000);
	cJSON_Delete(json);
	free(option);
	cli_scratch_remove();
}

TEST(what_is_to_be_evicted_is, .timeout_s = 120)
{
	run_evicted("--faults=inline");
	if (!geteuid())
		run_evicted("--faults=thread");
}

/* They stay in memory: the budget may be exceeded, but nothing is wrong. */
TEST(pages_that_cannot_be_stored_are_no_matter, .timeout_s = 120)
{
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "32M", "--faults=inline",
		"--device=error:ppm=200000,seed=3+lz4", beside_tests("cli_hungry"), "48",
		NULL);
	CHECK(!strstr(cli.out_text, "WRONG"));
	CHECK(strstr(cli.out_text, "at the end: right\n"), "%.400s", cli.err_text);
	CHECK_EQ(cli_exit_status(&cli), 0);
}

TEST(there_are_three_ways)
{
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", "--faults=sideways",
		"true", NULL);
	cli_check_refused(&cli, 125,
			  "'sideways' is none of 'thread', 'inline' and "
			  "'either'");
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", "--faults", NULL);
	cli_check_refused(&cli, 125, "--faults");
}
