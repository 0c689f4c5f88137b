/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run came to: the counters of all processes, those that have ended and those
 * that still run, as lines for people or as JSON for programs. uhmm-run(1) documents
 * the keys; they are only ever added to.
 */
#include "stats.h"

#include "cmd.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u

/* The keys of counters in JSON. */
static const char *const counter_name[] = {
	[CTL_FAULT_PROBATION] = "fault_probation",
	[CTL_FAULT_DEVICE] = "fault_device",
	[CTL_FAULT_ZERO] = "fault_zero",
	[CTL_FAULT_BUSY] = "fault_busy",
	[CTL_FAULT_PARKED] = "fault_parked",
	[CTL_REFAULT] = "refault",
	[CTL_PREFETCH] = "prefetch",
	[CTL_PREFETCH_VAIN] = "prefetch_vain",
	[CTL_ZERO_FILLED] = "zero_filled",
	[CTL_ISOLATED] = "isolated",
	[CTL_ISOLATED_FOLIO] = "isolated_folio",
	[CTL_RESTORED] = "restored",
	[CTL_STORED] = "stored",
	[CTL_LOADED] = "loaded",
	[CTL_STORE_FAILED] = "store_failed",
	[CTL_LOAD_FAILED] = "load_failed",
	[CTL_DROPPED] = "dropped",
	[CTL_SKIP_PINNED] = "skip_pinned",
	[CTL_UNSHARED] = "unshared",
	[CTL_EVENT_FORK] = "event_fork",
	[CTL_EVENT_REMAP] = "event_remap",
	[CTL_EVENT_REMOVE] = "event_remove",
	[CTL_EVENT_UNMAP] = "event_unmap",
	[CTL_FORK_HANDOVER] = "fork_handover",
	[CTL_FORK_FILLED] = "fork_filled",
	[CTL_ISOLATED_DIRECT] = "isolated_direct",
	[CTL_READER_LOWERED] = "reader_lowered",
	[CTL_READER_HELD_UP] = "reader_held_up",
	[CTL_CALL_UNKNOWN] = "call_unknown",
};
_Static_assert(sizeof(counter_name) / sizeof(counter_name[0]) == CTL_NR_COUNTERS,
	       "every counter has a key");

void summary_collect(struct summary *summary, const char *program,
		     const struct ending *ending, const struct tree *tree)
{
	const struct ctl *ctl = tree->ctl;
	uint32_t nr = CTL_LOAD(&ctl->nr_slots);

	*summary = (struct summary){ .program = program, .ending = ending, .ctl = ctl };
	for (int c = 0; c < CTL_NR_COUNTERS; c++)
		summary->counter[c] = CTL_LOAD(&ctl->ended[c]);
	summary->device_in = CTL_LOAD(&ctl->ended_fullest_in);
	summary->device_stored = CTL_LOAD(&ctl->ended_fullest_stored);
	summary->device_resident = CTL_LOAD(&ctl->ended_fullest_resident);
	summary->running = tree_live(tree);
	summary->processes = CTL_LOAD(&ctl->ended_processes) + summary->running;
	summary->migrated = CTL_LOAD(&ctl->ended_managed);
	summary->unable = CTL_LOAD(&ctl->ended_unable);
	summary->by_thread = CTL_LOAD(&ctl->by_thread);
	summary->outside = tree_strays(tree, &summary->outside_pages);
	for (uint32_t i = 0; i < nr && i < CTL_SLOTS; i++) {
		const struct ctl_slot *slot = &ctl->slot[i];

		for (int c = 0; c < CTL_NR_COUNTERS; c++)
			summary->counter[c] += CTL_LOAD(&slot->counter[c]);
		summary->device_in += CTL_LOAD(&slot->fullest_in);
		summary->device_stored += CTL_LOAD(&slot->fullest_stored);
		summary->device_resident += CTL_LOAD(&slot->fullest_resident);
		summary->migrated += CTL_LOAD(&slot->managed) == 1;
		summary->unable += CTL_LOAD(&slot->managed) == 2;
	}
}

/* part/whole, 0 if there is no whole. */
static double ratio(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

static uint64_t page_bytes(int64_t pages)
{
	return pages > 0 ? (uint64_t)pages * PAGE : 0;
}

static void print_ending(const struct summary *s)
{
	double seconds = (double)s->ending->wall_ns / 1e9;
	int status = s->ending->status;

	if (WIFSIGNALED(status))
		fprintf(stderr, "uhmm: %s was ended by signal %d (%s) after %.2f s\n",
			s->program, WTERMSIG(status), strsignal(WTERMSIG(status)),
			seconds);
	else
		fprintf(stderr, "uhmm: %s exited with status %d after %.2f s\n",
			s->program, WEXITSTATUS(status), seconds);
}

/* Who resolves faults; of those whose system calls could not be guarded a thread. */
static const char *delivery(const struct summary *s)
{
	return s->ctl->faults == CTL_FAULTS_THREAD ? "thread" : "inline";
}

void summary_print(const struct summary *s)
{
	uint64_t tolerance = ctl_tolerance_pages(s->ctl->budget_pages), faults = 0;
	const uint64_t *n = s->counter;
	char a[32], b[32], c[32];

	for (int i = CTL_FAULT_PROBATION; i <= CTL_FAULT_PARKED; i++)
		faults += n[i];
	print_ending(s);
	fprintf(stderr, "  memory       peak %s, budget %s (and %s tolerance)\n",
		format_size(a, sizeof(a), page_bytes(s->ctl->peak_pages)),
		format_size(b, sizeof(b), s->ctl->budget_pages * PAGE),
		format_size(c, sizeof(c), tolerance * PAGE));
	if (s->ctl->over_ns)
		fprintf(stderr, "  above both   for %.2f s, by up to %s\n",
			(double)s->ctl->over_ns / 1e9,
			format_size(a, sizeof(a), page_bytes(s->ctl->over_pages)));
	fprintf(stderr, "  processes    %" PRIu64 ", %" PRIu64 " migrated", s->processes,
		s->migrated);
	if (s->unable)
		fprintf(stderr, ", %" PRIu64 " could not be", s->unable);
	if (s->by_thread)
		fprintf(stderr, ", %" PRIu64 " by thread", s->by_thread);
	if (s->running)
		fprintf(stderr, ", %u still running", s->running);
	if (s->outside)
		fprintf(stderr,
			"\n  outside      %" PRIu64 ", which held up to %s: neither "
			"migrated nor counted",
			s->outside,
			format_size(a, sizeof(a), page_bytes(s->outside_pages)));
	fprintf(stderr,
		"\n  faults       %" PRIu64 "%s: %" PRIu64 " probation, %" PRIu64
		" device, %" PRIu64 " zero, %" PRIu64 " busy, %" PRIu64 " parked\n"
		"  refaults     %" PRIu64 "\n"
		"  to device    %" PRIu64 " pages, %s",
		faults, s->ctl->faults == CTL_FAULTS_THREAD ? "" : ", inline",
		n[CTL_FAULT_PROBATION], n[CTL_FAULT_DEVICE], n[CTL_FAULT_ZERO],
		n[CTL_FAULT_BUSY], n[CTL_FAULT_PARKED], n[CTL_REFAULT], n[CTL_STORED],
		format_size(a, sizeof(a), n[CTL_STORED] * PAGE));
	if (n[CTL_STORE_FAILED])
		fprintf(stderr, "; %" PRIu64 " refused", n[CTL_STORE_FAILED]);
	fprintf(stderr, "\n  from device  %" PRIu64 " pages, %s", n[CTL_LOADED],
		format_size(a, sizeof(a), n[CTL_LOADED] * PAGE));
	if (n[CTL_PREFETCH])
		fprintf(stderr,
			"; %" PRIu64 " before they were asked for, %" PRIu64
			" maybe in vain",
			n[CTL_PREFETCH], n[CTL_PREFETCH_VAIN]);
	if (n[CTL_LOAD_FAILED])
		fprintf(stderr, "; %" PRIu64 " LOST", n[CTL_LOAD_FAILED]);
	if (n[CTL_CALL_UNKNOWN])
		fprintf(stderr,
			"\n  calls        %" PRIu64
			" that are not known, and were guarded by "
			"guesses",
			n[CTL_CALL_UNKNOWN]);
	fprintf(stderr, "\n  device       %s", s->ctl->device);
	if (s->device_stored)
		fprintf(stderr, ": %s in %s (%.2f to 1)",
			format_size(a, sizeof(a), s->device_in),
			format_size(b, sizeof(b), s->device_stored),
			ratio(s->device_in, s->device_stored));
	/* Where the pages are elsewhere it is what is remembered of them. */
	if (s->device_stored && s->device_resident >= s->device_stored)
		fprintf(stderr, ", overhead %.1f%%",
			100 * (ratio(s->device_resident, s->device_stored) - 1));
	else if (s->device_stored)
		fprintf(stderr, ", with %s of memory",
			format_size(c, sizeof(c), s->device_resident));
	fprintf(stderr, "\n");
}

/* cJSON keeps numbers as doubles; counts are printed as they are. */
static void add_count(cJSON *to, const char *key, uint64_t count)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, count);
	cJSON_AddRawToObject(to, key, text);
}

static cJSON *as_json(const struct summary *s)
{
	cJSON *root = cJSON_CreateObject();
	int status = s->ending->status;

	cJSON_AddStringToObject(root, "program", s->program);
	add_count(root, "pid", s->ending->pid);
	if (WIFSIGNALED(status)) {
		cJSON_AddNullToObject(root, "exit_status");
		cJSON_AddNumberToObject(root, "signal", WTERMSIG(status));
	} else {
		cJSON_AddNumberToObject(root, "exit_status", WEXITSTATUS(status));
		cJSON_AddNullToObject(root, "signal");
	}
	cJSON_AddNumberToObject(root, "wall_seconds", (double)s->ending->wall_ns / 1e9);
	cJSON_AddStringToObject(root, "device", s->ctl->device);
	cJSON_AddStringToObject(root, "delivery", delivery(s));
	add_count(root, "budget_bytes", s->ctl->budget_pages * PAGE);
	add_count(root, "tolerance_bytes",
		  ctl_tolerance_pages(s->ctl->budget_pages) * PAGE);
	add_count(root, "peak_bytes", page_bytes(s->ctl->peak_pages));
	cJSON_AddNumberToObject(root, "over_seconds", (double)s->ctl->over_ns / 1e9);
	add_count(root, "over_bytes", page_bytes(s->ctl->over_pages));
	add_count(root, "processes", s->processes);
	add_count(root, "processes_migrated", s->migrated);
	add_count(root, "processes_unable", s->unable);
	add_count(root, "processes_by_thread", s->by_thread);
	add_count(root, "processes_running", s->running);
	add_count(root, "processes_outside", s->outside);
	add_count(root, "outside_peak_bytes", page_bytes(s->outside_pages));
	for (int i = 0; i < CTL_NR_COUNTERS; i++)
		add_count(root, counter_name[i], s->counter[i]);
	add_count(root, "to_device_bytes", s->counter[CTL_STORED] * PAGE);
	add_count(root, "from_device_bytes", s->counter[CTL_LOADED] * PAGE);
	add_count(root, "device_in_bytes", s->device_in);
	add_count(root, "device_stored_bytes", s->device_stored);
	add_count(root, "device_resident_bytes", s->device_resident);
	if (s->device_stored) {
		cJSON_AddNumberToObject(root, "ratio",
					ratio(s->device_in, s->device_stored));
		cJSON_AddNumberToObject(root, "overhead",
					ratio(s->device_resident, s->device_stored) - 1);
	} else {
		cJSON_AddNullToObject(root, "ratio");
		cJSON_AddNullToObject(root, "overhead");
	}
	return root;
}

int summary_write_json(const struct summary *summary, int fd)
{
	cJSON *root = as_json(summary);
	char *text = cJSON_Print(root);
	size_t len, done = 0;
	int err = 0;

	cJSON_Delete(root);
	if (!text)
		return -ENOMEM;
	len = strlen(text);
	text[len++] = '\n'; /* in the place of the terminator */
	/* What was in a regular file goes; a pipe or a terminal has no length. */
	if (ftruncate(fd, 0) && errno != EINVAL)
		err = -errno;
	while (!err && done < len) {
		ssize_t n = write(fd, text + done, len - done);

		if (n < 0 && errno != EINTR)
			err = -errno;
		else if (n > 0)
			done += (size_t)n;
	}
	free(text);
	return err;
}

/* What the device takes of each byte, if with all on it the budget would be exceeded. */
static double too_much(const struct summary *s)
{
	double in = (double)s->device_in, resident = (double)s->device_resident;
	double all = (double)page_bytes(s->ctl->peak_pages) - resident + in;

	if (!(in > 0) || all * resident / in <= (double)page_bytes(s->ctl->budget_pages))
		return 0;
	return resident / in;
}

void summary_warn(const struct summary *s)
{
	const uint64_t *n = s->counter;
	const char *why = "it was used faster than it could be migrated";
	double part = too_much(s);
	char by[32], to[64];

	if (!s->processes) {
		complain("%s ran without being migrated: it did not load "
			 "libuhmm-preload.so",
			 s->program);
		return;
	}
	if (n[CTL_LOAD_FAILED])
		complain("%" PRIu64
			 " pages of %s were lost: the device could not give them "
			 "back",
			 n[CTL_LOAD_FAILED], s->program);
	if (!s->ctl->over_ns)
		return;
	if (part > 0) {
		snprintf(to, sizeof(to), "it takes %.0f%% of its size on the device",
			 100.0 * part);
		why = to;
	}
	if (n[CTL_STORE_FAILED])
		why = "the device refused pages";
	else if (s->unable)
		why = "not all of its processes could be migrated";
	else if (n[CTL_SKIP_PINNED] > (uint64_t)s->ctl->over_pages)
		why = "pages were pinned for input and output";
	complain("%s held up to %s more memory than --memory and its tolerance, for %.2f "
		 "s: %s",
		 s->program, format_size(by, sizeof(by), page_bytes(s->ctl->over_pages)),
		 (double)s->ctl->over_ns / 1e9, why);
}
