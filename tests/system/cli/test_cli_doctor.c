/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `uhmm` says when it is asked: doctor, devices, help, version. The JSON of doctor
 * and devices is held against the text.
 */
#include "cli.h"

#include <cjson/cJSON.h>
#include <fcntl.h>

#include "uhmm/uhmm.h"

static struct cli cli;

static const char *string(const cJSON *json, const char *key)
{
	const char *value =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));

	CHECK(value, "%s", key);
	return value;
}

static bool truth(const cJSON *json, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

	CHECK(cJSON_IsBool(item), "%s", key);
	return cJSON_IsTrue(item);
}

static cJSON *json_of(const char *verb)
{
	cJSON *json;

	cli_run(&cli, NULL, cli_uhmm(), verb, "--json", NULL);
	CHECK_STR(cli.err_text, "");
	json = cJSON_Parse(cli.out_text);
	CHECK(json, "%.400s", cli.out_text);
	return json;
}

TEST(doctor_says_the_same_twice)
{
	char line[512];
	cJSON *json = json_of("doctor");
	int status = cli_exit_status(&cli);
	const cJSON *item;
	bool no = false;

	CHECK_EQ(status, truth(json, "run") ? 0 : 1);
	cli_run(&cli, NULL, cli_uhmm(), "doctor", NULL);
	CHECK_EQ(cli_exit_status(&cli), status);
	CHECK(strstr(cli.out_text,
		     status ? "uhmm run does not work here: " : "uhmm run works here"));
	cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "findings"))
	{
		snprintf(line, sizeof(line), "  %-4s  %-16s  %s\n",
			 string(item, "verdict"), string(item, "name"),
			 string(item, "value"));
		CHECK(strstr(cli.out_text, line), "%.300s", line);
		no = no || !strcmp(string(item, "verdict"), "no");
	}
	CHECK(no == (status != 0), "the verdicts agree with the conclusion");
	if (status)
		CHECK(strstr(cli.out_text, string(json, "fix")));
	cJSON_Delete(json);
}

/* What doctor promises is so: `uhmm run` works, or is refused for the same reason. */
TEST(doctor_and_run_agree)
{
	cJSON *json = json_of("doctor");

	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "64M", cli_prog(), "exit", "0",
		NULL);
	if (truth(json, "run"))
		CHECK_EQ(cli_exit_status(&cli), 0);
	else
		cli_check_refused(&cli, 125, string(json, "obstacle"));
	cJSON_Delete(json);
}

TEST(devices_are_listed_with_their_options)
{
	cJSON *json = json_of("devices"), *device, *option, *size = NULL;
	char want[64];

	CHECK_EQ(cli_exit_status(&cli), 0);
	cli_run(&cli, NULL, cli_uhmm(), "devices", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	CHECK_GE(cJSON_GetArraySize(json), 2);
	cJSON_ArrayForEach(device, json)
	{
		/* At the beginning of a line: completion looks for it there. */
		snprintf(want, sizeof(want), "%s%s ",
			 strncmp(cli.out_text, string(device, "name"),
				 strlen(string(device, "name"))) ?
				 "\n" :
				 "",
			 string(device, "name"));
		CHECK(strstr(cli.out_text, want), "%s", want);
		CHECK(strstr(cli.out_text, string(device, "summary")));
		cJSON_ArrayForEach(option, cJSON_GetObjectItem(device, "options"))
		{
			snprintf(want, sizeof(want), "\n  %s=", string(option, "name"));
			CHECK(strstr(cli.out_text, want), "%s", want);
			CHECK(strstr(cli.out_text, string(option, "help")));
			if (!strcmp(string(device, "name"), "lz4") &&
			    !strcmp(string(option, "name"), "size"))
				size = option;
		}
		if (!strcmp(string(device, "name"), "lz4"))
			CHECK(truth(device, "run") && truth(device, "memory"));
	}
	CHECK(size);
	CHECK_STR(string(size, "type"), "size");
	cJSON_Delete(json);
}

static int lines_of(const char *text)
{
	int lines = 0;

	for (; *text; text++)
		lines += *text == '\n';
	return lines;
}

TEST(help_fits_one_screen)
{
	static const char *const verbs[] = { "run", "doctor", "devices", "dmirror" };
	static struct cli by_verb;

	cli_run(&cli, NULL, cli_uhmm(), "--help", NULL);
	CHECK_EQ(cli_exit_status(&cli), 0);
	CHECK_LE(lines_of(cli.out_text), 24);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		CHECK(strstr(cli.out_text, verbs[i]));
		cli_run(&by_verb, NULL, cli_uhmm(), verbs[i], "--help", NULL);
		CHECK_EQ(cli_exit_status(&by_verb), 0);
		CHECK_LE(lines_of(by_verb.out_text), 24);
		CHECK(!strncmp(by_verb.out_text, "Usage: uhmm ", 12));
		CHECK_STR(by_verb.err_text, "");
	}
	cli_run(&by_verb, NULL, cli_uhmm(), "help", "devices", NULL);
	CHECK(strstr(by_verb.out_text, "Usage: uhmm devices"));
	/* Nothing at all is a mistake: the same text, but not as an answer. */
	cli_run(&by_verb, NULL, cli_uhmm(), NULL);
	CHECK_EQ(cli_exit_status(&by_verb), 125);
	CHECK_STR(by_verb.err_text, cli.out_text);
	CHECK_STR(by_verb.out_text, "");
}

TEST(the_version_is_the_headers)
{
	char want[64];

	snprintf(want, sizeof(want), "uhmm %d.%d.%d\n", UHMM_VERSION_MAJOR,
		 UHMM_VERSION_MINOR, UHMM_VERSION_PATCH);
	cli_run(&cli, NULL, cli_uhmm(), "--version", NULL);
	CHECK_STR(cli.out_text, want);
	cli_run(&cli, NULL, cli_uhmm(), "version", NULL);
	CHECK_STR(cli.out_text, want);
	CHECK_EQ(cli_exit_status(&cli), 0);
}

static void full_stdout(void)
{
	dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), 1);
}

TEST(an_answer_that_cannot_be_written_is_an_error)
{
	static const char *const questions[] = { "--version", "--help", "doctor",
						 "devices" };

	for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++) {
		cli_run(&cli, full_stdout, cli_uhmm(), questions[i], NULL);
		cli_check_refused(&cli, 125, "standard output: No space left on device");
	}
}
