/* SPDX-License-Identifier: Apache-2.0 */
/* The summary of `uhmm run --stats`; see stats.c. */
#ifndef UHMM_CMD_STATS_H
#define UHMM_CMD_STATS_H

#include "supervise.h"

/* What the tree did, from the control segment, when the program has ended. */
struct summary {
	const char *program;
	const struct ending *ending;
	const struct ctl *ctl;
	uint64_t counter[CTL_NR_COUNTERS];
	/* Of each process when its device held most, added up: */
	uint64_t device_in, device_stored, device_resident;
	/* migrated: had to and could; unable: had to and could not */
	uint64_t processes, migrated, unable, by_thread;
	unsigned running; /* of those, still alive */
	uint64_t outside; /* not of those: see strays.c; and what they held */
	int64_t outside_pages;
};

void summary_collect(struct summary *summary, const char *program,
		     const struct ending *ending, const struct tree *tree);

/* On stderr, for people. */
void summary_print(const struct summary *summary);

/* Into fd, as JSON; it begins where the file does. 0 or -errno. */
int summary_write_json(const struct summary *summary, int fd);

/* On stderr, whatever was asked for: what did not go as --memory promises. */
void summary_warn(const struct summary *summary);

#endif
