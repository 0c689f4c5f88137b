/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm doctor: what this machine allows, what uhmm will therefore do, and for each
 * shortcoming the line that mends it. Exit status 0 if `uhmm run` works here, 1 if not.
 *
 * A finding is a fact with a verdict. FINDING_NO is kept for what stops `uhmm run`.
 */
#include "cmd.h"
#include "probe.h"

#include "lib/os/uapi.h"
#include "uhmm/uhmm.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static const char help[] =
	"Usage: uhmm doctor [--json]\n"
	"\n"
	"Says what this machine allows, what uhmm will therefore do, and for each\n"
	"shortcoming the line that mends it.\n"
	"\n"
	"  --json      the same for programs\n"
	"  -h, --help  this text\n"
	"\n"
	"Exit status: 0 if 'uhmm run' works here, 1 if not, 125 bad usage.\n";

enum { OPTION_JSON = 256 };

static const struct option options[] = {
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

enum verdict {
	FINDING_OK,
	FINDING_NOTE, /* works, but less well */
	FINDING_NO,   /* `uhmm run` does not work */
};
static const char *const verdict_name[] = { "ok", "note", "no" };

struct finding {
	const char *name;
	enum verdict verdict;
	char value[256];
	const char *fix; /* static; NULL: nothing to mend */
};

#define FINDINGS_MAX 24

struct report {
	struct probe probe;
	struct finding finding[FINDINGS_MAX];
	unsigned nr;
	/* To `uhmm run` with --faults=thread, and inline; NULL: it works. Ours. */
	struct obstacle {
		char *why, *fix;
	} by_thread, by_itself;
	const char *broken;       /* what neither can do without; NULL: all is there */
	bool thread, inline_mode; /* deliveries that a program may use */
};

static void found(struct report *report, const char *name, enum verdict verdict,
		  const char *fix, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

static void found(struct report *report, const char *name, enum verdict verdict,
		  const char *fix, const char *format, ...)
{
	struct finding *finding = &report->finding[report->nr];
	va_list args;

	if (report->nr == FINDINGS_MAX)
		return;
	report->nr++;
	*finding = (struct finding){ .name = name, .verdict = verdict, .fix = fix };
	va_start(args, format);
	vsnprintf(finding->value, sizeof(finding->value), format, args);
	va_end(args);
}

static bool runs(const struct report *report)
{
	return !report->broken && (!report->by_thread.why || !report->by_itself.why);
}

/* What stands in the way of delivery by thread alone. */
static enum verdict verdict_by_thread(const struct report *report)
{
	return report->by_itself.why ? FINDING_NO : FINDING_NOTE;
}

/* "yes", or why not. */
static const char *answer(int err)
{
	if (err == PROBE_NOT_ASKED)
		return "not asked";
	return err ? strerror(err) : "yes";
}

/* ---- what is looked at ------------------------------------------------------------- */

static void look_at_userfaultfd(struct report *report)
{
	const struct probe *p = &report->probe;
	char known[160] = "", missing[160] = "";
	enum verdict verdict = FINDING_OK;

	if (p->syscall == 0)
		found(report, "userfaultfd", FINDING_OK, NULL, "full, by %s",
		      p->has_cap ? "CAP_SYS_PTRACE" : "vm.unprivileged_userfaultfd");
	else if (p->dev == 0)
		found(report, "userfaultfd", FINDING_OK, NULL,
		      "full, by /dev/userfaultfd");
	else if (p->user_only == 0)
		found(report, "userfaultfd", verdict_by_thread(report), NULL,
		      "user mode only (full: %s)", answer(p->syscall));
	else
		found(report, "userfaultfd", FINDING_NO, NULL, "none (%s)",
		      answer(p->syscall));
	for (const struct probe_feature *f = probe_features; f->bit; f++) {
		bool has = p->features & f->bit;
		char *list = has ? known : missing;

		snprintf(list + strlen(list), sizeof(known) - strlen(list), " %s",
			 f->name);
		if (!has)
			verdict = f->needed             ? FINDING_NO :
				  verdict == FINDING_OK ? FINDING_NOTE :
							  verdict;
	}
	if (p->features)
		found(report, "features", verdict, verdict ? "boot a newer Linux" : NULL,
		      "%s%s%s", known + (*known == ' '), *missing ? "; missing:" : "",
		      missing);
	if (p->needed != PROBE_NOT_ASKED)
		found(report, "needed features",
		      p->needed ? verdict_by_thread(report) : FINDING_OK, NULL,
		      "permitted: %s", answer(p->needed));
	if (p->move != PROBE_NOT_ASKED)
		found(report, "UFFDIO_MOVE", p->move ? FINDING_NO : FINDING_OK, NULL,
		      "moved two pages: %s", answer(p->move));
	found(report, "/dev/userfaultfd", FINDING_OK, NULL, "%s", answer(p->dev));
	if (p->has_sysctl)
		found(report, "sysctl", FINDING_OK, NULL,
		      "vm.unprivileged_userfaultfd = %d", p->sysctl);
}

static void look_at_privileges(struct report *report)
{
	const struct probe *p = &report->probe;

	found(report, "CAP_SYS_PTRACE", FINDING_OK, NULL, "%s%s%s",
	      p->has_cap ? "yes" : "no", p->bounded ? "" : ", and not to be had here",
	      p->userns ? ", in a user namespace" : "");
	found(report, "seccomp", FINDING_OK, NULL, "%s",
	      p->filtered ? "a filter is installed" : "no filter");
}

static void look_at_kernel(struct report *report)
{
	const struct probe *p = &report->probe;

	/* Above 0: it was tried, and failed. */
	found(report, "PAGEMAP_SCAN", p->pagemap_scan > 0 ? FINDING_NO : FINDING_OK,
	      p->pagemap_scan > 0 ? "mount /proc, and boot Linux 6.8 or newer" : NULL,
	      "%s", answer(p->pagemap_scan));
	found(report, "PROCMAP_QUERY", p->procmap_query > 0 ? FINDING_NOTE : FINDING_OK,
	      p->procmap_query > 0 ?
		      "boot Linux 6.11 or newer: mappings are read as text until then" :
		      NULL,
	      "%s", answer(p->procmap_query));
	found(report, "dispatch", p->dispatch > 0 ? FINDING_NOTE : FINDING_OK,
	      p->dispatch > 0 ? "boot Linux 5.11 or newer, on x86-64" : NULL,
	      "of system calls to the program: %s", answer(p->dispatch));
	found(report, "io_uring", FINDING_OK, NULL, "%s (uhmm does not need it)",
	      answer(p->io_uring));
}

/* The word in brackets of "always [madvise] never". */
static void chosen(char *text)
{
	char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;

	if (!close)
		return;
	*close = 0;
	memmove(text, open + 1, strlen(open + 1) + 1);
}

static void look_at_memory(struct report *report)
{
	char value[128];
	long n;

	if (probe_read("/sys/kernel/mm/transparent_hugepage/enabled", value,
		       sizeof(value))) {
		found(report, "huge pages", FINDING_OK, NULL, "none");
	} else {
		chosen(value);
		found(report, "huge pages", FINDING_OK, NULL,
		      "%s (huge pages are migrated whole where a program has them)",
		      value);
	}
	if (!probe_read("/proc/sys/vm/max_map_count", value, sizeof(value))) {
		n = atol(value);
		found(report, "vm.max_map_count", n < 65530 ? FINDING_NOTE : FINDING_OK,
		      n < 65530 ? "sysctl vm.max_map_count=65530" : NULL, "%ld", n);
	}
	if (!probe_read("/proc/sys/vm/overcommit_memory", value, sizeof(value))) {
		n = atol(value);
		found(report, "vm.overcommit", n == 2 ? FINDING_NOTE : FINDING_OK,
		      n == 2 ? "sysctl vm.overcommit_memory=0: what is on devices counts "
			       "as "
			       "committed" :
			       NULL,
		      "%ld", n);
	}
	found(report, "/dev/shm", access("/dev/shm", W_OK) ? FINDING_NOTE : FINDING_OK,
	      access("/dev/shm", W_OK) ? "mount -t tmpfs tmpfs /dev/shm" : NULL, "%s",
	      access("/dev/shm", W_OK) ? strerror(errno) : "writable");
}

static void look_at_installation(struct report *report)
{
	const char *path;
	int err = preload_find(PRELOAD_RUN, &path);

	found(report, "preload", err ? FINDING_NO : FINDING_OK,
	      err ? "install uhmm again" : NULL, "%s%s%s", path, err ? ": " : "",
	      err ? strerror(-err) : "");
	if (err)
		report->broken = "the library that it loads into programs is missing";
}

/* What the probe says of it is there until it is asked again. */
static struct obstacle kept(const char *why, const char *fix)
{
	return (struct obstacle){ why ? strdup(why) : NULL, why ? strdup(fix) : NULL };
}

static void look_at_deliveries(struct report *report)
{
	const char *fix = "", *why = probe_inline_obstacle(&report->probe, &fix);

	report->by_itself = kept(why, fix);
	why = probe_obstacle(&report->probe, &fix);
	report->by_thread = kept(why, fix);
}

static void examine(struct report *report)
{
	struct utsname uts;

	*report = (struct report){ .nr = 0 };
	probe_machine(&report->probe);
	look_at_deliveries(report);
	uname(&uts);
	found(report, "kernel", FINDING_OK, NULL, "Linux %s, %s", uts.release,
	      uts.machine);
	look_at_userfaultfd(report);
	look_at_privileges(report);
	look_at_kernel(report);
	look_at_memory(report);
	look_at_installation(report);
	report->thread = (report->probe.syscall == 0 || report->probe.dev == 0) &&
			 report->probe.move == 0;
	report->inline_mode = report->probe.inline_mode == 0 && report->probe.move == 0;
}

/* ---- what is said ------------------------------------------------------------------ */

static void print_delivery(const char *name, const struct obstacle *obstacle)
{
	if (obstacle->why)
		printf("uhmm run --faults=%s does not work here: %s\n  mend: %s\n", name,
		       obstacle->why, obstacle->fix);
	else
		printf("uhmm run --faults=%s works here.\n", name);
}

static void print_run(const struct report *report)
{
	if (report->broken)
		printf("\nuhmm run does not work here: %s\n  mend: install uhmm again\n",
		       report->broken);
	else if (!runs(report))
		printf("\nuhmm run does not work here: %s\n  mend: %s\n",
		       report->by_thread.why, report->by_thread.fix);
	else
		printf("\nuhmm run works here; faults are %s.\n",
		       report->by_thread.why ? "resolved by the thread that has them" :
					       "delivered to a thread");
	if (report->by_thread.why && runs(report))
		print_delivery("thread", &report->by_thread);
	print_delivery("inline", &report->by_itself);
}

static void print(const struct report *report)
{
	printf("uhmm %d.%d.%d\n\n", UHMM_VERSION_MAJOR, UHMM_VERSION_MINOR,
	       UHMM_VERSION_PATCH);
	for (unsigned i = 0; i < report->nr; i++) {
		const struct finding *finding = &report->finding[i];

		printf("  %-4s  %-16s  %s\n", verdict_name[finding->verdict],
		       finding->name, finding->value);
		if (finding->fix)
			printf("        %-16s  mend: %s\n", "", finding->fix);
	}
	print_run(report);
	printf("The library can deliver faults %s.\n",
	       report->thread && report->inline_mode ? "to a thread, and inline" :
	       report->inline_mode ? "inline only: system calls on migrated memory fail" :
	       report->thread      ? "to a thread only" :
				     "in no way");
}

static void add_delivery(cJSON *root, const char *name, const struct obstacle *obstacle)
{
	char key[32];

	snprintf(key, sizeof(key), "run_%s", name);
	cJSON_AddBoolToObject(root, key, !obstacle->why);
	if (!obstacle->why)
		return;
	snprintf(key, sizeof(key), "obstacle_%s", name);
	cJSON_AddStringToObject(root, key, obstacle->why);
	snprintf(key, sizeof(key), "fix_%s", name);
	cJSON_AddStringToObject(root, key, obstacle->fix);
}

static void print_json(const struct report *report)
{
	cJSON *root = cJSON_CreateObject(), *findings, *features, *item;
	char version[32], *text;

	snprintf(version, sizeof(version), "%d.%d.%d", UHMM_VERSION_MAJOR,
		 UHMM_VERSION_MINOR, UHMM_VERSION_PATCH);
	cJSON_AddStringToObject(root, "version", version);
	cJSON_AddBoolToObject(root, "run", runs(report));
	if (report->broken) {
		cJSON_AddStringToObject(root, "obstacle", report->broken);
		cJSON_AddStringToObject(root, "fix", "install uhmm again");
	} else if (!runs(report)) {
		cJSON_AddStringToObject(root, "obstacle", report->by_thread.why);
		cJSON_AddStringToObject(root, "fix", report->by_thread.fix);
	}
	add_delivery(root, "thread", &report->by_thread);
	add_delivery(root, "inline", &report->by_itself);
	cJSON_AddBoolToObject(root, "library_thread", report->thread);
	cJSON_AddBoolToObject(root, "library_inline", report->inline_mode);
	features = cJSON_AddObjectToObject(root, "features");
	for (const struct probe_feature *f = probe_features; f->bit; f++)
		cJSON_AddBoolToObject(features, f->name,
				      (report->probe.features & f->bit) != 0);
	findings = cJSON_AddArrayToObject(root, "findings");
	for (unsigned i = 0; i < report->nr; i++) {
		const struct finding *finding = &report->finding[i];

		item = cJSON_CreateObject();
		cJSON_AddStringToObject(item, "name", finding->name);
		cJSON_AddStringToObject(item, "verdict", verdict_name[finding->verdict]);
		cJSON_AddStringToObject(item, "value", finding->value);
		if (finding->fix)
			cJSON_AddStringToObject(item, "fix", finding->fix);
		cJSON_AddItemToArray(findings, item);
	}
	text = cJSON_Print(root);
	if (text)
		puts(text);
	free(text);
	cJSON_Delete(root);
}

static int doctor_main(int argc, char **argv)
{
	struct report report;
	bool json = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		switch (c) {
		case OPTION_JSON:
			json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return finish_output(STATUS_OK);
		default:
			return option_error("doctor", c, argv, options);
		}
	}
	if (optind < argc) {
		complain("doctor: '%s': takes no arguments", argv[optind]);
		return STATUS_REFUSED;
	}
	examine(&report);
	if (json)
		print_json(&report);
	else
		print(&report);
	free(report.by_thread.why);
	free(report.by_thread.fix);
	free(report.by_itself.why);
	free(report.by_itself.fix);
	return finish_output(runs(&report) ? STATUS_OK : STATUS_NO);
}

const struct verb verb_doctor = {
	.name = "doctor",
	.summary = "what this machine allows, and how to mend what it does not",
	.help = help,
	.main = doctor_main,
};
