/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm run with layers that tell what they saw, and the real preload: the program is none
 * the wiser, and what they say is what uhmm itself has counted.
 */
#include "cli.h"

#include <cjson/cJSON.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Counts, as its child does; all that may be migrated is, each 5 ms. */
#define PROGRAM                                                                          \
	"count() { i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; echo $i; }; "    \
	"count; (count); count"

static struct cli cli;

/* Pages that were stored, loaded and freed by all processes. */
struct told {
	uint64_t pages[3];
	unsigned files;
};

static void add_table(struct told *told, const char *path)
{
	uint64_t n[3];
	char line[256];
	FILE *file = fopen(path, "re");
	bool found = false;
	int i;

	CHECK(file != NULL);
	while (fgets(line, sizeof(line), file))
		found |= sscanf(line, "pages %" SCNu64 " %" SCNu64 " %" SCNu64, &n[0],
				&n[1], &n[2]) == 3;
	fclose(file);
	told->files++;
	/* One that was ended while it made the file. */
	for (i = 0; found && i < 3; i++)
		told->pages[i] += n[i];
}

/* How many lines there are in a log, each of which is one. */
static void add_log(struct told *told, const char *path)
{
	static const char *const op[] = { " store ", " load  ", " free  " };
	char line[256];
	FILE *file = fopen(path, "re");
	int i;

	CHECK(file != NULL);
	while (fgets(line, sizeof(line), file)) {
		/* A file that nothing was written to is of zeros. */
		if (line[0] < '0' || line[0] > '9')
			continue;
		CHECK_EQ(strlen(line), 64);
		for (i = 0; i < 3 && strncmp(line + 23, op[i], 7); i++)
			;
		CHECK_LT(i, 3);
		told->pages[i]++;
	}
	fclose(file);
	told->files++;
}

static struct told told_in(const char *name, void (*add)(struct told *, const char *))
{
	struct told told = { .files = 0 };
	char pattern[PATH_MAX];
	glob_t found;
	size_t i;

	snprintf(pattern, sizeof(pattern), "%s/%s.*", cli_scratch(), name);
	CHECK_EQ(glob(pattern, 0, NULL, &found), 0);
	for (i = 0; i < found.gl_pathc; i++)
		add(&told, found.gl_pathv[i]);
	globfree(&found);
	return told;
}

static void run(const char *faults)
{
	char device[PATH_MAX], summary[PATH_MAX], stats[PATH_MAX + 32];
	struct told table, lines;
	uint64_t stored, loaded;
	cJSON *json;

	snprintf(summary, sizeof(summary), "%s/summary", cli_scratch());
	snprintf(stats, sizeof(stats), "--stats=json:%s", summary);
	snprintf(device, sizeof(device), "stats:to=%s/s+log:to=%s/l,lines=1000+lz4",
		 cli_scratch(), cli_scratch());
	setenv("UHMM_EVICT", "5", 1);
	cli_run(&cli, NULL, cli_uhmm(), "run", "--memory", "1G", faults, stats,
		"--device", device, "--", "sh", "-c", PROGRAM, NULL);
	if (WIFEXITED(cli.status) && WEXITSTATUS(cli.status) == 125 &&
	    strstr(cli.err_text, "system calls cannot be guarded here:"))
		SKIP("the kernel dispatches no system calls");
	CHECK_STR(cli.out_text, "100000\n100000\n100000\n");
	CHECK_STR(cli.err_text, "");
	CHECK_EQ(cli_exit_status(&cli), 0);
	json = cli_json(summary);
	stored = (uint64_t)cli_number(json, "stored");
	loaded = (uint64_t)cli_number(json, "loaded");
	table = told_in("s", add_table);
	lines = told_in("l", add_log);
	/* Of a page that was touched while it was stored uhmm says nothing. */
	CHECK_GT(stored, 50);
	CHECK_GE(table.pages[0], stored);
	CHECK_LE(table.pages[0], stored + stored / 10 + 16);
	/* Nor are others that are loaded for a forked child told here. */
	CHECK_GE(table.pages[1] + loaded / 10 + 16, loaded);
	CHECK_LE(table.pages[1], loaded + loaded / 10 + 16);
	CHECK_GT(table.pages[2], 0);
	/* The child has its own. */
	CHECK_GE(table.files, 2);
	CHECK_EQ(lines.files, table.files);
	CHECK_GT(lines.pages[0] + lines.pages[1] + lines.pages[2], 50);
	CHECK_LE(lines.pages[0] + lines.pages[1] + lines.pages[2], lines.files * 1000);
	cJSON_Delete(json);
	cli_scratch_remove();
}

TEST(inline_it_is_what_was_counted)
{
	run("--faults=inline");
}

TEST(by_thread_it_is_the_same)
{
	if (geteuid())
		SKIP("needs root");
	run("--faults=thread");
}
