/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running the program: start it, stand in for it towards whoever started uhmm, end as
 * it ended.
 */
#ifndef UHMM_SUPERVISE_H
#define UHMM_SUPERVISE_H

#include "tree.h"

struct launch {
	const char *path;    /* what to execute */
	char **argv;         /* of the program, as the user typed it */
	const char *preload; /* the library to load into it */
	int keep_fd;         /* stays open in the supervisor; -1: none */
};

/* How the program ended. */
struct ending {
	int status; /* as from wait() */
	uint32_t pid;
	uint64_t wall_ns;
};

/*
 * Starts the program and returns when it has ended. 0, or a status after a complaint:
 * nothing runs then.
 * Afterwards all signals are blocked, and stdin and stdout are /dev/null.
 */
int supervise(struct tree *tree, const struct launch *launch, struct ending *ending);

/* Ends this process as the program ended. */
void end_like(const struct ending *ending) __attribute__((noreturn));

#endif
