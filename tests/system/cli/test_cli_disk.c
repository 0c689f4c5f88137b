/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm run with pages on a disk, and the real preload: programs that fork, and that go
 * elsewhere before there is anything to be stored. The disk is named from here.
 */
#include "cli.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Counts, as its children do, and looks at four megabytes; all that may be migrated is,
 * each 5 ms.
 */
#define PROGRAM                                                                          \
	"x=$(head -c 4000000 /dev/zero | tr '\\0' x); "                                  \
	"count() { i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done; echo $i ${#x}; }" \
	"; cd /; count; (count; (count)); count"
#define LINE "60000 4000000\n"

static struct cli cli;

static void run(const char *faults, const char *device)
{
	char summary[PATH_MAX], stats[PATH_MAX + 32];
	cJSON *json;

	snprintf(summary, sizeof(summary), "%s/summary", cli_scratch());
	snprintf(stats, sizeof(stats), "--stats=json:%s", summary);
	setenv("UHMM_EVICT", "5", 1);
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "1G", faults, stats,
		"--device", device, "--", "sh", "-c", PROGRAM, NULL);
	if (WIFEXITED(cli.status) && WEXITSTATUS(cli.status) == 125 &&
	    strstr(cli.err_text, "system calls cannot be guarded here:"))
		SKIP("the kernel dispatches no system calls");
	CHECK_STR(cli.out_text, LINE LINE LINE LINE);
	CHECK_STR(cli.err_text, "");
	CHECK_EQ(cli_exit_status(&cli), 0);
	json = cli_json(summary);
	CHECK_GT(cli_number(json, "stored"), 100);
	CHECK_GT(cli_number(json, "loaded"), 50);
	CHECK_EQ(cli_number(json, "load_failed"), 0);
	cJSON_Delete(json);
	cli_scratch_remove();
}

/* On a disk, which the directory of the test need not be. */
static void run_from_there(const char *faults, const char *device)
{
	CHECK_EQ(chdir("/var"), 0);
	run(faults, device);
}

TEST(inline_in_a_file)
{
	run_from_there("--faults=inline", "file:tmp");
}

TEST(inline_in_tiers)
{
	run_from_there("--faults=inline", "lz4:size=1M,zstd+crypt+file:tmp");
}

TEST(by_thread_in_a_file)
{
	if (geteuid())
		SKIP("needs root");
	run_from_there("--faults=thread", "file:tmp");
}

TEST(by_thread_in_tiers)
{
	if (geteuid())
		SKIP("needs root");
	run_from_there("--faults=thread", "lz4:size=1M,zstd+crypt+file:tmp");
}

TEST(a_bad_path_is_told_before_the_program_starts)
{
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "1G", "--device",
		"lz4+file:/nowhere/at/all", "--", "echo", "started", NULL);
	CHECK_STR(cli.out_text, "");
	CHECK(strstr(cli.err_text, "file: there is no such directory"));
	CHECK_EQ(cli_exit_status(&cli), 125);
}
