/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm dmirror: becomes a program that finds the kernel's test device, /dev/hmm_dmirror0
 * to 3, where there is none. Everything is looked at before, as for `uhmm run`.
 */
#include "cmd.h"
#include "probe.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"Usage: uhmm dmirror [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
	"\n"
	"Runs PROGRAM with the devices of the kernel's test of heterogeneous memory\n"
	"management (CONFIG_TEST_HMM), made by uhmm, without a kernel module:\n"
	"/dev/hmm_dmirror0 and 1 are private, 2 and 3 coherent.\n"
	"\n"
	"  --trace FILE  appends a line to FILE each time that a device is opened or\n"
	"                called\n"
	"  -h, --help    this text\n"
	"\n"
	"Exit status: PROGRAM's; 125 uhmm refused, 126 PROGRAM cannot be run or nothing\n"
	"be loaded into it (static, 32-bit, setuid), 127 there is no PROGRAM.\n"
	"\n"
	"  uhmm dmirror -- ./hmm-tests\n"
	"\n"
	"More: man uhmm-dmirror\n";

enum { OPTION_TRACE = 256 };

static const struct option options[] = {
	{ "trace", required_argument, NULL, OPTION_TRACE },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* What compat/dmirror looks for. */
#define TRACE_VARIABLE "UHMM_DMIRROR_TRACE"

static int check_machine(void)
{
	struct probe probe;
	const char *why, *fix;

	probe_machine(&probe);
	why = probe_library_obstacle(&probe, &fix);
	if (!why)
		return 0;
	complain("dmirror: %s: %s", why, fix);
	return STATUS_REFUSED;
}

/* The program may change its directory. */
static int set_trace(const char *name)
{
	char path[PATH_MAX], here[PATH_MAX];
	FILE *file;

	if (!name)
		return 0;
	file = fopen(name, "ae");
	if (!file) {
		complain("--trace: cannot write '%s': %s", name, strerror(errno));
		return STATUS_REFUSED;
	}
	fclose(file);
	if (name[0] == '/')
		snprintf(path, sizeof(path), "%s", name);
	else if (!getcwd(here, sizeof(here)) ||
		 snprintf(path, sizeof(path), "%s/%s", here, name) >= (int)sizeof(path)) {
		complain("--trace: '%s': its path is too long", name);
		return STATUS_REFUSED;
	}
	setenv(TRACE_VARIABLE, path, 1);
	return 0;
}

static int start(char **program, const char *trace)
{
	const char *preload;
	char *path = NULL;
	int status = program_find(program[0], &path);

	if (!status)
		status = program_check(path);
	if (!status)
		status = preload_check(PRELOAD_DMIRROR, &preload);
	if (!status)
		status = check_machine();
	if (!status)
		status = set_trace(trace);
	if (!status) {
		preload_set(preload);
		program_execute(path, program);
		complain("%s: cannot be executed: %s", path, strerror(errno));
		status = STATUS_CANNOT_RUN;
	}
	free(path);
	return status;
}

static int dmirror_main(int argc, char **argv)
{
	const char *trace = NULL;
	int c;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		switch (c) {
		case OPTION_TRACE:
			trace = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return finish_output(STATUS_OK);
		default:
			return option_error("dmirror", c, argv, options);
		}
	}
	if (optind == argc) {
		complain(
			"dmirror: no program given: uhmm dmirror -- PROGRAM ARGUMENT...");
		return STATUS_REFUSED;
	}
	return start(argv + optind, trace);
}

const struct verb verb_dmirror = {
	.name = "dmirror",
	.summary = "run a program with the kernel's HMM test device",
	.help = help,
	.main = dmirror_main,
};
