/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `uhmm run` and the program: what it is started with, the signals it gets, how it ends,
 * what is said and left behind. The preload's part is played by cli_prog.
 */
#include "cli.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* `uhmm run --memory 64M PROG ARGS...` */
#define RUN cli_uhmm(), "run", "--memory", "64M", "--", cli_prog()
#define RUN_WITH(...) cli_uhmm(), "run", "--memory", "64M", __VA_ARGS__, "--", cli_prog()

static struct cli cli;

/* ---- how it ends ------------------------------------------------------------------- */

TEST(the_exit_status_passes_through)
{
	static const char *const statuses[] = { "0", "1", "42", "125", "127", "255" };

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		cli_run(&cli, NULL, RUN, "exit", statuses[i], NULL);
		CHECK_EQ(cli_exit_status(&cli), atoi(statuses[i]));
	}
}

TEST(a_signal_that_ends_the_program_ends_uhmm)
{
	const int signals[] = { SIGHUP,  SIGINT,  SIGKILL, SIGSEGV,     SIGPIPE,
				SIGTERM, SIGUSR1, SIGABRT, SIGRTMIN + 3 };
	char number[8];

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		snprintf(number, sizeof(number), "%d", signals[i]);
		cli_run(&cli, NULL, RUN, "kill", number, NULL);
		CHECK(WIFSIGNALED(cli.status), "signal %s, status %x", number,
		      cli.status);
		CHECK_EQ(WTERMSIG(cli.status), signals[i]);
		CHECK(!WCOREDUMP(cli.status));
	}
}

static void dump_into_scratch(void)
{
	struct rlimit limit = { 1 << 20, RLIM_INFINITY };

	if (setrlimit(RLIMIT_CORE, &limit) || chdir(cli_scratch()))
		_exit(201);
}

TEST(a_core_is_the_programs_and_not_ours)
{
	static struct cli direct;

	cli_scratch();
	cli_run(&direct, dump_into_scratch, cli_prog(), "kill", "11", NULL);
	cli_run(&cli, dump_into_scratch, RUN, "kill", "11", NULL);
	CHECK(WIFSIGNALED(cli.status) && WTERMSIG(cli.status) == SIGSEGV);
	CHECK(!WCOREDUMP(cli.status));
	cli_scratch_remove();
	if (!WCOREDUMP(direct.status))
		SKIP("no core dumps here");
}

TEST(without_slots_one_line_says_so)
{
	cli_run(&cli, NULL, RUN, "exit", "0", NULL);
	CHECK(strstr(cli.err_text, "ran without being migrated"), "%.300s", cli.err_text);
	cli_run(&cli, NULL, RUN, "lose-child", NULL);
	CHECK_STR(cli.err_text, "");
}

/* ---- what it is started with ------------------------------------------------------- */

/* The same program without uhmm, then with. */
static void compare(cli_prepare *prepare, const char *mode)
{
	static struct cli direct;

	cli_run(&direct, prepare, cli_prog(), mode, NULL);
	CHECK_EQ(cli_exit_status(&direct), 0);
	cli_run(&cli, prepare, RUN, mode, NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	CHECK(strlen(direct.out_text) > 20);
	CHECK_STR(cli.out_text, direct.out_text);
}

TEST(descriptors_signals_and_limits_are_kept)
{
	compare(NULL, "state");
}

static void odd_state(void)
{
	sigset_t set;

	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	umask(0123);
	dup2(1, 17);
	dup2(0, 200);
	close(0);
	(void)!nice(3);
}

TEST(an_odd_state_is_kept)
{
	compare(odd_state, "state");
}

static void close_standard(void)
{
	/* Its answer comes through 5. */
	dup2(1, 5);
	close(0);
	close(2);
}

TEST(closed_standard_descriptors_stay_closed)
{
	compare(close_standard, "state");
}

TEST(arguments_are_kept)
{
	static const char *const odd[] = {
		"", "-x", "--", "--memory", "a b", "\n", "\xff"
	};
	const char *name;
	char *link;

	cli_run(&cli, NULL, RUN, "args", odd[0], odd[1], odd[2], odd[3], odd[4], odd[5],
		odd[6], NULL);
	CHECK(strstr(cli.out_text,
		     "1=args\n2=\n3=-x\n4=--\n5=--memory\n6=a b\n7=\n\n8=\xff\n"),
	      "%.500s", cli.out_text);
	/* argv[0] is what was typed, not where it was found. */
	link = cli_copy(cli_prog(), "by-name", 0755);
	setenv("PATH", cli_scratch(), 1);
	name = strrchr(link, '/') + 1;
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", name, "args", NULL);
	CHECK_STR(cli.out_text, "0=by-name\n1=args\n");
	free(link);
	cli_scratch_remove();
}

TEST(nothing_but_two_variables_changes)
{
	static struct cli direct;
	char *ours, *ctl, *end, kept[4096];

	unsetenv("LD_PRELOAD");
	cli_run(&direct, NULL, cli_prog(), "env", NULL);
	cli_run(&cli, NULL, RUN, "env", NULL);
	ctl = strstr(cli.out_text, "UHMM_CTL=");
	ours = strstr(cli.out_text, "LD_PRELOAD=");
	CHECK(ctl && ours && ctl < ours);
	/* New ones come behind all others, whose order stays. */
	CHECK_EQ((size_t)(ctl - cli.out_text), strlen(direct.out_text));
	CHECK_MEM(cli.out_text, direct.out_text, direct.out_len);
	end = strchr(ours, '\n');
	CHECK(end && !end[1]);
	snprintf(kept, sizeof(kept), "%s", strchr(ctl, '=') + 1);
	*strchr(kept, '\n') = 0;
	CHECK(access(kept, F_OK) && errno == ENOENT, "%.400s is removed", kept);
}

TEST(a_users_own_preload_is_kept)
{
	char other[PATH_MAX], want[2 * PATH_MAX];

	snprintf(other, sizeof(other), "%.*s/libcli_other.so",
		 (int)(strrchr(cli_uhmm(), '/') - cli_uhmm()), cli_uhmm());
	CHECK_EQ(access(other, R_OK), 0);
	setenv("LD_PRELOAD", other, 1);
	cli_permit_preload();
	cli_run(&cli, NULL, RUN, "maps", "libcli_other.so", NULL);
	CHECK_STR(cli.out_text, "mapped\n");
	cli_run(&cli, NULL, RUN, "maps", "libuhmm-preload.so", NULL);
	CHECK_STR(cli.out_text, "mapped\n");
	cli_run(&cli, NULL, RUN, "env", NULL);
	snprintf(want, sizeof(want), "LD_PRELOAD=%.*s/libuhmm-preload.so:%s\n",
		 (int)(strrchr(cli_uhmm(), '/') - cli_uhmm()), cli_uhmm(), other);
	CHECK(strstr(cli.out_text, want), "%.400s", cli.out_text);
}

TEST(uhmm_within_uhmm_preloads_once)
{
	const char *first, *second;

	unsetenv("LD_PRELOAD");
	cli_permit_preload();
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", RUN, "env", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	first = strstr(cli.out_text, "libuhmm-preload.so");
	CHECK(first);
	second = strstr(first + 1, "libuhmm-preload.so");
	CHECK(!second, "%.400s", cli.out_text);
}

TEST(the_segment_says_what_was_asked_for)
{
	cli_run(&cli, NULL, RUN_WITH("--device", "lz4"), "ctl", NULL);
	CHECK_STR(cli.out_text, "budget 16384 device lz4 supervisor 1 pid_ns 1\n");
}

TEST(scripts_run_as_without_uhmm)
{
	static const char with[] = "#!/bin/sh\necho \"$0 $*\"\nexit 4\n";
	static const char without[] = "echo \"$0 $*\"\nexit 5\n";
	char *path, want[256];

	path = cli_write("with", with, strlen(with), 0755);
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", path, "a", "b", NULL);
	snprintf(want, sizeof(want), "%s a b\n", path);
	CHECK_STR(cli.out_text, want);
	CHECK_EQ(cli_exit_status(&cli), 4);
	free(path);
	path = cli_write("without", without, strlen(without), 0755);
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", path, "a", "b", NULL);
	snprintf(want, sizeof(want), "%s a b\n", path);
	CHECK_STR(cli.out_text, want);
	CHECK_EQ(cli_exit_status(&cli), 5);
	free(path);
	cli_scratch_remove();
}

/* ---- its pipes --------------------------------------------------------------------- */

TEST(input_and_output_are_the_programs_own)
{
	static const char *const argv[] = { NULL, "run", "--memory", "64M", "cat", NULL };
	const char *args[6];

	memcpy(args, argv, sizeof(args));
	args[0] = cli_uhmm();
	cli_start(&cli, NULL, args);
	CHECK_EQ(write(cli.in, "one\ntwo\n", 8), 8);
	cli_expect_out(&cli, "two\n");
	cli_finish(&cli);
	CHECK_STR(cli.out_text, "one\ntwo\n");
	CHECK_EQ(cli_exit_status(&cli), 0);
}

TEST(a_pipe_ends_when_the_program_closes_it)
{
	const char *args[] = { RUN, "close-stdout", NULL };

	cli_start(&cli, NULL, args);
	cli_expect_out(&cli, "before\n");
	/* The program waits for the end of its stdin; uhmm must not hold its pipe. */
	while (cli.out >= 0) {
		char c;

		CHECK_EQ(read(cli.out, &c, 1), 0);
		close(cli.out);
		cli.out = -1;
	}
	cli_finish(&cli);
	CHECK_EQ(cli_exit_status(&cli), 5);
}

/* ---- signals ----------------------------------------------------------------------- */

static void start_signals(cli_prepare *prepare, const char *what)
{
	const char *args[] = { RUN, "signals", what, NULL };

	cli_start(&cli, prepare, args);
	cli_expect_out(&cli, "ready\n");
}

TEST(signals_sent_to_uhmm_reach_the_program_once)
{
	const int signals[] = { SIGHUP,  SIGINT,  SIGQUIT,  SIGUSR1, SIGUSR2,
				SIGTERM, SIGSEGV, SIGWINCH, SIGRTMAX };
	char want[512] = "ready\n";

	start_signals(NULL, "none");
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		CHECK_EQ(kill(cli.pid, signals[i]), 0);
		snprintf(want + strlen(want), sizeof(want) - strlen(want),
			 "signal %d value 0\n", signals[i]);
		cli_expect_out(&cli, want);
	}
	/* One more of each would come before this one. */
	CHECK_EQ(sigqueue(cli.pid, SIGRTMIN + 5, (union sigval){ .sival_int = 4711 }), 0);
	snprintf(want + strlen(want), sizeof(want) - strlen(want),
		 "signal %d value 4711\n", SIGRTMIN + 5);
	cli_expect_out(&cli, want);
	cli_finish(&cli);
	strcat(want, "end\n");
	CHECK_STR(cli.out_text, want);
	CHECK_EQ(cli_exit_status(&cli), 7);
}

static void default_signal(void)
{
	signal(SIGRTMIN + 7, SIG_DFL);
}

TEST(a_signal_from_the_program_to_its_group_is_not_doubled)
{
	char want[64];

	/* We are in the group too. */
	signal(SIGRTMIN + 7, SIG_IGN);
	start_signals(default_signal, "group");
	snprintf(want, sizeof(want), "signal %d value 0\n", SIGRTMIN + 7);
	cli_expect_out(&cli, want);
	cli_sleep_ms(200);
	cli_finish(&cli);
	CHECK(!strstr(strstr(cli.out_text, want) + 1, want), "%.200s", cli.out_text);
}

static void set_alarm(void)
{
	alarm(1);
}

TEST(an_alarm_set_before_reaches_the_program)
{
	char want[64];

	start_signals(set_alarm, "alarm");
	snprintf(want, sizeof(want), "signal %d value 0\n", SIGALRM);
	cli_expect_out(&cli, want);
	cli_finish(&cli);
	CHECK_EQ(cli_exit_status(&cli), 7);
}

static void wait_stopped(pid_t pid)
{
	int status = 0;

	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	CHECK(WIFSTOPPED(status), "status %x", status);
}

TEST(stop_and_continue_sent_to_uhmm)
{
	int status;

	start_signals(NULL, "none");
	CHECK_EQ(kill(cli.pid, SIGTSTP), 0);
	wait_stopped(cli.pid);
	/* Nothing is lost meanwhile. */
	CHECK_EQ(kill(cli.pid, SIGUSR2), 0);
	CHECK_EQ(kill(cli.pid, SIGCONT), 0);
	CHECK_EQ(waitpid(cli.pid, &status, WCONTINUED), cli.pid);
	CHECK(WIFCONTINUED(status));
	cli_expect_out(&cli, "signal 12 value 0\n");
	cli_finish(&cli);
	CHECK_EQ(cli_exit_status(&cli), 7);
}

/* The pid of uhmm's only child. */
static pid_t program_pid(void)
{
	char path[64];
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", cli.pid, cli.pid);
	f = fopen(path, "re");
	CHECK(f && fscanf(f, "%d", &pid) == 1);
	fclose(f);
	return pid;
}

TEST(uhmm_stops_and_goes_on_with_the_program)
{
	const char *args[] = { RUN, "stop", NULL };
	pid_t program;

	cli_start(&cli, NULL, args);
	cli_expect_out(&cli, "stopping\n");
	program = program_pid();
	wait_stopped(cli.pid);
	/* Somebody lets the program go on, and does not know of uhmm. */
	CHECK_EQ(kill(program, SIGCONT), 0);
	cli_expect_out(&cli, "continued\n");
	cli_finish(&cli);
	CHECK_EQ(cli_exit_status(&cli), 6);
}

/* UHMM_CTL of the program. */
static void find_ctl(char *ctl, size_t size)
{
	char path[64], buf[8192], *value;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/environ", program_pid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	n = read(fd, buf, sizeof(buf) - 1);
	CHECK(n > 0);
	close(fd);
	buf[n] = 0;
	value = memmem(buf, (size_t)n, "UHMM_CTL=", 9);
	CHECK(value);
	snprintf(ctl, size, "%s", value + 9);
}

TEST(a_killed_supervisor_leaves_the_program_alone)
{
	/* Anybody else's run would clear up as well. */
	bool alone = cli_private_shm(NULL);
	char ctl[PATH_MAX];

	/* We reap what it leaves, as init would. */
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	start_signals(NULL, "none");
	find_ctl(ctl, sizeof(ctl));
	CHECK_EQ(kill(cli.pid, SIGKILL), 0);
	CHECK_EQ(waitpid(cli.pid, &cli.status, 0), cli.pid);
	cli_sleep_ms(50);
	close(cli.in);
	cli.in = -1;
	cli_expect_out(&cli, "end\n");
	CHECK(wait(&cli.status) > 0);
	CHECK_EQ(WEXITSTATUS(cli.status), 7);
	/* The next run clears up. */
	CHECK(!alone || access(ctl, F_OK) == 0);
	cli_run(&cli, NULL, RUN, "exit", "0", NULL);
	CHECK(access(ctl, F_OK) && errno == ENOENT, "%.400s is removed", ctl);
}

TEST(a_run_leaves_the_segments_of_others_alone)
{
	static struct cli other;
	char ctl[PATH_MAX];

	/* No process of it has a slot: only its supervisor speaks for it. */
	start_signals(NULL, "none");
	find_ctl(ctl, sizeof(ctl));
	cli_run(&other, NULL, RUN, "exit", "0", NULL);
	CHECK_EQ(access(ctl, F_OK), 0);
	cli_finish(&cli);
	CHECK(access(ctl, F_OK) && errno == ENOENT, "%.400s is removed", ctl);
}

/* ---- messages ---------------------------------------------------------------------- */

TEST(messages_are_printed_as_they_come)
{
	const char *args[] = { RUN, "say", "hello\033[31m\nworld", NULL };

	cli_start(&cli, NULL, args);
	cli_expect_err(&cli, "uhmm: hello?[31m?world\n");
	cli_finish(&cli);
}

TEST(what_several_processes_say_is_printed_once)
{
	cli_run(&cli, NULL, RUN, "say-twice", "this", NULL);
	/* The last line is that the program had no preload. */
	CHECK(strstr(cli.err_text, "uhmm: this\nuhmm: that\nuhmm: /") == cli.err_text,
	      "stderr is: %.400s", cli.err_text);
}

TEST(too_many_messages_are_counted)
{
	int nr = 0, dropped = 0;

	cli_run(&cli, NULL, RUN, "say", "again", "1000", NULL);
	for (char *at = cli.err_text; (at = strstr(at, "uhmm: again")); at++)
		nr++;
	for (char *at = cli.err_text; (at = strstr(at, "uhmm: ")); at++) {
		unsigned more;

		if (sscanf(at, "uhmm: %u more messages", &more) == 1)
			dropped += (int)more;
	}
	CHECK_GE(nr, 64);
	CHECK_EQ(nr + dropped, 1000);
}

TEST(a_message_whose_writer_died_does_not_stop_the_others)
{
	const char *args[] = { RUN, "say-half", NULL };

	cli_start(&cli, NULL, args);
	cli_expect_err(&cli, "uhmm: behind the half one\n");
	cli_finish(&cli);
}

/* ---- processes that end badly, or live on ------------------------------------------ */

TEST(the_slot_of_a_replaced_program_is_folded)
{
	cli_run(&cli, NULL, RUN, "be-replaced", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
}

TEST(the_slot_of_a_killed_process_is_folded)
{
	cli_run(&cli, NULL, RUN, "lose-child", NULL);
	CHECK_STR(cli.out_text, "usage 0 stored 77 ended 1\n");
	cli_run(&cli, NULL, RUN, "lose-child", "zombie", NULL);
	CHECK_STR(cli.out_text, "usage 0 stored 77 ended 1\n");
}

TEST(short_lived_processes_do_not_count_for_long)
{
	char option[128];
	cJSON *json;

	snprintf(option, sizeof(option), "--stats=json:%s/new", cli_scratch());
	cli_run(&cli, NULL, RUN_WITH(option), "churn", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	json = cli_json(strchr(option, ':') + 1);
	CHECK_EQ((int)cli_number(json, "processes"), 20);
	/* Each held its memory until the next look. If that came every 100 ms: 2 s. */
	CHECK(cli_number(json, "wall_seconds") < 1.5);
	cJSON_Delete(json);
	cli_scratch_remove();
}

TEST(a_janitor_waits_for_the_rest_of_the_tree, .timeout_s = 60)
{
	char ctl[PATH_MAX];
	int pid;

	/* The janitor is nobody's child; here it is ours, so that we see it end. */
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	cli_run(&cli, NULL, RUN, "leave", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	CHECK_EQ(sscanf(cli.out_text, "%d %4000s", &pid, ctl), 2);
	cli_sleep_ms(300);
	CHECK_EQ(access(ctl, F_OK), 0);
	CHECK_EQ(kill(pid, SIGTERM), 0);
	/* Both: the process, and the janitor behind it. */
	CHECK(wait(NULL) > 0);
	CHECK(wait(NULL) > 0);
	CHECK(access(ctl, F_OK) && errno == ENOENT, "%.400s is removed", ctl);
}

/* ---- the summary ------------------------------------------------------------------- */

TEST(the_summary_for_programs)
{
	char *path = cli_write("stats", "{ old and much longer }", 23, 0644), *option;
	cJSON *json;

	CHECK(asprintf(&option, "--stats=json:%s", path) > 0);
	cli_run(&cli, NULL, RUN_WITH(option), "count", NULL);
	CHECK_EQ(cli_exit_status(&cli), 3);
	/* It counts 1015 lost pages; nobody may miss that. */
	CHECK(strstr(cli.err_text, "1015 pages of "), "%.300s", cli.err_text);
	json = cli_json(path);
	CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(json, "program")), cli_prog());
	CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(json, "device")), "lz4");
	CHECK_EQ((int)cli_number(json, "exit_status"), 3);
	CHECK(cJSON_IsNull(cJSON_GetObjectItem(json, "signal")));
	CHECK_EQ((long)cli_number(json, "budget_bytes"), 64l << 20);
	CHECK_EQ((long)cli_number(json, "tolerance_bytes"), 16l << 20);
	CHECK_EQ((long)cli_number(json, "peak_bytes"), 3000l * 4096);
	CHECK(cli_number(json, "wall_seconds") > 0 &&
	      cli_number(json, "wall_seconds") < 15);
	CHECK_EQ((int)cli_number(json, "processes"), 1);
	CHECK_EQ((int)cli_number(json, "processes_migrated"), 1);
	CHECK_EQ((int)cli_number(json, "processes_unable"), 0);
	CHECK_EQ((int)cli_number(json, "processes_running"), 0);
	/* cli_prog counts 1000, 1001, ... in the order of enum ctl_counter. */
	CHECK_EQ((int)cli_number(json, "fault_probation"), 1000);
	CHECK_EQ((int)cli_number(json, "stored"), 1012);
	CHECK_EQ((int)cli_number(json, "fork_filled"), 1024);
	CHECK_EQ((long)cli_number(json, "to_device_bytes"), 1012l * 4096);
	CHECK_EQ((long)cli_number(json, "from_device_bytes"), 1013l * 4096);
	/* When the device held most, not at the end. */
	CHECK_EQ((long)cli_number(json, "device_in_bytes"), 409600);
	CHECK(cli_number(json, "ratio") == 4.096);
	CHECK(cli_number(json, "overhead") > 0.0999 &&
	      cli_number(json, "overhead") < 0.1001);
	cJSON_Delete(json);
	free(option);
	free(path);
	cli_scratch_remove();
}

TEST(the_summary_of_a_killed_program)
{
	char option[128];
	cJSON *json;

	snprintf(option, sizeof(option), "--stats=json:%s/new", cli_scratch());
	cli_run(&cli, NULL, RUN_WITH(option), "die-counting", NULL);
	CHECK(WIFSIGNALED(cli.status) && WTERMSIG(cli.status) == SIGKILL);
	json = cli_json(strchr(option, ':') + 1);
	CHECK(cJSON_IsNull(cJSON_GetObjectItem(json, "exit_status")));
	CHECK_EQ((int)cli_number(json, "signal"), SIGKILL);
	CHECK_EQ((int)cli_number(json, "loaded"), 55);
	CHECK_EQ((int)cli_number(json, "processes"), 1);
	cJSON_Delete(json);
	cli_scratch_remove();
}

static void close_stderr(void)
{
	close(2);
}

TEST(messages_do_not_get_into_files)
{
	char option[128];
	cJSON *json;

	/* The first descriptor that uhmm opens would be 2. */
	snprintf(option, sizeof(option), "--stats=json:%s/new", cli_scratch());
	cli_run(&cli, close_stderr, RUN_WITH(option), "say", "hello", "20", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	json = cli_json(strchr(option, ':') + 1);
	CHECK_EQ((int)cli_number(json, "exit_status"), 0);
	cJSON_Delete(json);
	cli_scratch_remove();
}

TEST(the_summary_for_people)
{
	cli_run(&cli, NULL, RUN_WITH("--stats"), "count", NULL);
	CHECK(strstr(cli.err_text, "exited with status 3 after "), "%.500s",
	      cli.err_text);
	CHECK(strstr(cli.err_text,
		     "peak 11.7 MiB, budget 64.0 MiB (and 16.0 MiB tolerance)"));
	CHECK(strstr(cli.err_text, "processes    1, 1 migrated"));
	CHECK(strstr(cli.err_text, "faults       5010"));
	CHECK(strstr(cli.err_text, ": 1000 probation, 1001 device, 1002 zero"));
	CHECK(strstr(cli.err_text, "to device    1012 pages, 4.0 MiB; 1014 refused"));
	CHECK(strstr(cli.err_text,
		     "1006 before they were asked for, 1007 maybe in vain"));
	CHECK(strstr(cli.err_text, "1015 LOST"));
	CHECK(strstr(cli.err_text,
		     "lz4: 400.0 KiB in 97.7 KiB (4.10 to 1), overhead 10.0%"),
	      "%.400s", cli.err_text);
	CHECK_STR(cli.out_text, "");
}

/* A budget is not a matter of how long. */
TEST(a_budget_that_did_not_hold_for_a_moment_is_said)
{
	char option[128];
	cJSON *json;

	snprintf(option, sizeof(option), "--stats=json:%s/new", cli_scratch());
	cli_run(&cli, NULL, RUN_WITH(option), "exceed-shortly", NULL);
	CHECK(strstr(cli.err_text, "held up to 2.0 MiB more memory than --memory"),
	      "%.300s", cli.err_text);
	json = cli_json(strchr(option, ':') + 1);
	CHECK(cli_number(json, "over_seconds") > 0);
	/* Most of the time it was below. */
	CHECK(cli_number(json, "over_seconds") < cli_number(json, "wall_seconds") / 2);
	cJSON_Delete(json);
	cli_scratch_remove();
}

TEST(a_budget_that_did_not_hold_is_said)
{
	char option[128];
	cJSON *json;

	snprintf(option, sizeof(option), "--stats=json:%s/new", cli_scratch());
	cli_run(&cli, NULL, RUN_WITH(option), "exceed", NULL);
	CHECK(strstr(cli.err_text, "held up to 2.0 MiB more memory than --memory"),
	      "%.300s", cli.err_text);
	json = cli_json(strchr(option, ':') + 1);
	CHECK(strstr(cli.err_text, ": not all of its processes could be migrated\n"));
	CHECK_EQ((int)cli_number(json, "processes_unable"), 1);
	CHECK_EQ((int)cli_number(json, "processes_migrated"), 0);
	CHECK_EQ((long)cli_number(json, "over_bytes"), 2l << 20);
	CHECK(cli_number(json, "over_seconds") > 0.3);
	CHECK(cli_number(json, "over_seconds") <= cli_number(json, "wall_seconds"));
	cJSON_Delete(json);
	cli_scratch_remove();
}
