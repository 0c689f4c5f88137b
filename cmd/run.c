/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm run: everything is looked at before anything is started. After that there are
 * two outcomes: the program runs as if it had been started without uhmm, or nothing
 * was started, one line says why, and nothing is left behind.
 */
#include "cmd.h"
#include "probe.h"
#include "stats.h"
#include "supervise.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* What uhmm itself and a small program cannot do without. */
#define MEMORY_MIN (UINT64_C(16) << 20)
#define DEVICE_DEFAULT "lz4"
#define PAGE 4096u

static const char help[] =
	"Usage: uhmm run --memory SIZE [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
	"\n"
	"Runs PROGRAM and all that it starts in SIZE of memory. What does not fit is\n"
	"migrated to a device, and comes back when it is used.\n"
	"\n"
	"  --memory SIZE      what the tree may hold: 512M, 1.5G, or a part of RAM: "
	"50%;\n"
	"                     at least 16M\n"
	"  --device SPEC      where the rest goes (default: lz4, compressed memory);\n"
	"                     'uhmm devices' lists them\n"
	"  --faults WHO       who resolves faults: 'thread', one of uhmm's; 'inline',\n"
	"                     the one that faults, for any user; 'either', inline, and\n"
	"                     by thread what cannot be; default: thread, if permitted\n"
	"  --stats            a summary on stderr at the end\n"
	"  --stats=json:FILE  the same for programs, in FILE\n"
	"  -h, --help         this text\n"
	"\n"
	"Exit status: PROGRAM's; 125 uhmm refused, 126 PROGRAM cannot be run or not be\n"
	"migrated (static, 32-bit, setuid), 127 there is no PROGRAM.\n"
	"\n"
	"  uhmm run --memory 512M -- python3 analyse.py\n"
	"  uhmm run --memory 50% --stats make -j8\n"
	"\n"
	"'uhmm doctor' says what this machine allows. More: man uhmm-run\n";

enum { OPTION_MEMORY = 256, OPTION_DEVICE, OPTION_FAULTS, OPTION_STATS };

static const struct option options[] = {
	{ "memory", required_argument, NULL, OPTION_MEMORY },
	{ "device", required_argument, NULL, OPTION_DEVICE },
	{ "faults", required_argument, NULL, OPTION_FAULTS },
	{ "stats", optional_argument, NULL, OPTION_STATS },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

struct request {
	const char *memory, *device;
	const char *json; /* file for --stats=json; NULL: none */
	bool stats, help;
	bool faults_chosen; /* by the user */
	enum ctl_faults faults;
	char **program; /* and its arguments */
};

static bool parse_faults(const char *who, enum ctl_faults *faults)
{
	static const char *const name[] = {
		[CTL_FAULTS_THREAD] = "thread",
		[CTL_FAULTS_INLINE] = "inline",
		[CTL_FAULTS_EITHER] = "either",
	};

	for (unsigned i = 0; i < sizeof(name) / sizeof(name[0]); i++)
		if (!strcmp(who, name[i])) {
			*faults = i;
			return true;
		}
	complain("--faults: '%s' is none of 'thread', 'inline' and 'either'", who);
	return false;
}

static int parse(int argc, char **argv, struct request *request)
{
	int c;

	*request = (struct request){ .device = DEVICE_DEFAULT };
	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		switch (c) {
		case OPTION_MEMORY:
			request->memory = optarg;
			break;
		case OPTION_DEVICE:
			request->device = optarg;
			break;
		case OPTION_FAULTS:
			request->faults_chosen = true;
			if (!parse_faults(optarg, &request->faults))
				return STATUS_REFUSED;
			break;
		case OPTION_STATS:
			if (!optarg) {
				request->stats = true;
				break;
			}
			if (strncmp(optarg, "json:", 5) || !optarg[5]) {
				complain("--stats: '%s' is not a form: use --stats or "
					 "--stats=json:FILE",
					 optarg);
				return STATUS_REFUSED;
			}
			request->json = optarg + 5;
			break;
		case 'h':
			request->help = true;
			return 0;
		default:
			return option_error("run", c, argv, options);
		}
	}
	request->program = argv + optind;
	return 0;
}

static int check_memory(const char *memory, uint64_t *pages)
{
	struct sysinfo info;
	uint64_t bytes;
	int err;

	if (!memory) {
		complain("--memory is missing: say how much the program may hold, as in "
			 "--memory "
			 "512M or --memory 50%% (of RAM); half of its usual peak is a "
			 "good start");
		return STATUS_REFUSED;
	}
	sysinfo(&info);
	err = parse_size(memory, (uint64_t)info.totalram * info.mem_unit, &bytes);
	if (err == -ERANGE) {
		complain("--memory: '%s' is more than any machine has", memory);
		return STATUS_REFUSED;
	}
	if (err) {
		complain("--memory: '%s' is not a size: use a number with K, M, G or T, "
			 "as in "
			 "512M, or a part of RAM, as in 50%%",
			 memory);
		return STATUS_REFUSED;
	}
	if (bytes < MEMORY_MIN) {
		complain("--memory: '%s' is less than 16M, the least that a program can "
			 "be run in",
			 memory);
		return STATUS_REFUSED;
	}
	*pages = bytes / PAGE;
	return 0;
}

/*
 * By thread where that is permitted: then system calls and other processes find all
 * memory there, whatever they do. Else inline. If neither works the user hears of what
 * stands in the way of the first, or of what was asked for.
 */
static int check_machine(struct request *request)
{
	const char *why, *fix, *why_inline, *fix_inline, *other = "";
	struct probe probe;

	probe_machine(&probe);
	why = probe_obstacle(&probe, &fix);
	why_inline = probe_inline_obstacle(&probe, &fix_inline);
	if (request->faults == CTL_FAULTS_EITHER && why_inline)
		request->faults = CTL_FAULTS_THREAD;
	else if ((request->faults == CTL_FAULTS_EITHER || !request->faults_chosen) &&
		 why && !why_inline)
		request->faults = CTL_FAULTS_INLINE;
	if (request->faults == CTL_FAULTS_INLINE) {
		why = why_inline;
		fix = fix_inline;
	} else if (why && !why_inline) {
		other = "; or use --faults=inline, which needs no permission";
	}
	if (!why)
		return 0;
	complain("run: %s: %s%s", why, fix, other);
	return STATUS_REFUSED;
}

/* Opens the file without touching what is in it. */
static int open_stats(const char *path, int *fd, bool *created)
{
	if (!path)
		return 0;
	*fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (*fd < 0 && errno == ENOENT) {
		*fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		*created = *fd >= 0;
	}
	if (*fd >= 0)
		return 0;
	complain("--stats: cannot write '%s': %s", path, strerror(errno));
	return STATUS_REFUSED;
}

static void report(const struct request *request, const struct tree *tree,
		   const struct ending *ending, int stats_fd)
{
	struct summary summary;
	int err;

	summary_collect(&summary, request->program[0], ending, tree);
	summary_warn(&summary);
	if (request->stats)
		summary_print(&summary);
	if (!request->json)
		return;
	err = summary_write_json(&summary, stats_fd);
	if (err)
		complain("--stats: cannot write '%s': %s", request->json, strerror(-err));
}

static int run(struct request *request)
{
	struct launch launch = { .argv = request->program, .keep_fd = -1 };
	struct ending ending;
	struct tree tree;
	char device[CTL_SPEC_MAX];
	bool created = false;
	uint64_t pages;
	char *path = NULL;
	int status;

	status = check_memory(request->memory, &pages);
	if (!status)
		status = check_device(request->device, device);
	if (!status && !request->program[0]) {
		complain("run: no program given: uhmm run --memory SIZE -- PROGRAM "
			 "ARGUMENT...");
		status = STATUS_REFUSED;
	}
	if (!status)
		status = program_find(request->program[0], &path);
	if (!status)
		status = program_check(path);
	if (!status)
		status = preload_check(PRELOAD_RUN, &launch.preload);
	if (!status)
		status = check_machine(request);
	if (!status)
		status = open_stats(request->json, &launch.keep_fd, &created);
	if (!status && tree_create(&tree, pages, device, request->faults))
		status = STATUS_REFUSED;
	else if (!status) {
		launch.path = path;
		status = supervise(&tree, &launch, &ending);
		if (status) {
			tree_remove(&tree);
		} else {
			report(request, &tree, &ending, launch.keep_fd);
			tree_leave(&tree);
			end_like(&ending);
		}
	}
	if (created)
		unlink(request->json);
	free(path);
	return status;
}

static int run_main(int argc, char **argv)
{
	struct request request;
	int status = parse(argc, argv, &request);

	if (status)
		return status;
	if (request.help) {
		fputs(help, stdout);
		return finish_output(STATUS_OK);
	}
	return run(&request);
}

const struct verb verb_run = {
	.name = "run",
	.summary = "run a program in less memory than it needs",
	.help = help,
	.main = run_main,
};
