/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `uhmm run` and processes of the tree that it can neither migrate nor count: it says so.
 * cli_prog plays one that has a slot, and its child one that has none.
 */
#include "cli.h"

#include <cjson/cJSON.h>

static struct cli cli;

/* What a stray of mib MiB comes to; the JSON is the caller's. */
static cJSON *run_with_stray(const char *how, const char *mib)
{
	char *prog = cli_copy(cli_prog(), "stray", 0755);
	char option[128];

	snprintf(option, sizeof(option), "--stats=json:%s/new", cli_scratch());
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", option, "--", prog,
		"stray", how, mib, NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	free(prog);
	return cli_json(strchr(option, ':') + 1);
}

TEST(processes_that_are_not_migrated_are_told, .timeout_s = 60)
{
	static const char *const how[][2] = {
		{ "environment", "it was started with an environment of its own" },
		{ "unknown", "it is statically linked, 32-bit, setuid" },
		{ "user", "it runs as another user" },
	};
	char text[160];
	cJSON *json;

	for (size_t i = 0; i < 3 - (geteuid() != 0); i++) {
		json = run_with_stray(how[i][0], "8");
		snprintf(text, sizeof(text),
			 "uhmm: stray is neither migrated nor counted: %s", how[i][1]);
		CHECK(strstr(cli.err_text, text), "%.300s", cli.err_text);
		CHECK_EQ((int)cli_number(json, "processes_outside"), 1);
		CHECK(cli_number(json, "outside_peak_bytes") >= 8 << 20);
		CHECK(cli_number(json, "outside_peak_bytes") < 10 << 20);
		cJSON_Delete(json);
		cli_scratch_remove();
	}
}

TEST(small_processes_that_are_not_migrated_do_not_matter)
{
	cJSON *json = run_with_stray("unknown", "0");

	CHECK_STR(cli.err_text, "");
	CHECK_EQ((int)cli_number(json, "processes_outside"), 0);
	CHECK_EQ((int)cli_number(json, "outside_peak_bytes"), 0);
	cJSON_Delete(json);
	cli_scratch_remove();
}
