/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file in which a layer tells what it sees, of one process: PATH.PID.
 *
 * It lives in somebody's program, which may come to no harm by it. So:
 *
 * - No descriptor is kept. The file is made, mapped and closed where the program waits:
 *   in open() and in a forked child. Later it would be seen: the program gets the lowest
 *   number that is free, and closes numbers that it does not know.
 * - The mapping is never touched. Somebody may make the file shorter, and the disk may be
 *   full; then a touch is SIGBUS. The kernel is asked to copy into it instead
 *   (process_vm_writev() to ourselves), and where there is no page it says so: what was
 *   to be written is lost, and nothing else.
 * - No file is written to that was there before: if there is one of that name (of a
 *   process that has run another program since) it is PATH.PID.2, and so on.
 *
 * What is written is in the file at once, however the program ends. A forked child has a
 * file of its own; where it cannot make one it has none. Any thread.
 */
#ifndef UHMM_DEVICES_RECORD_H
#define UHMM_DEVICES_RECORD_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How often the same bytes are written at once. */
#define RECORD_TIMES_MAX 16u

struct record {
	char path[PATH_MAX]; /* absolute; behind `base` bytes the process's */
	uint32_t base;
	size_t size;
	char *at; /* the mapping; NULL: there is no file */
	/* Who maps it, in a page of its own: 0 in a child, however that was made. */
	uint32_t *pid;
	uint64_t dev, ino;
};

/*
 * Of so many bytes, which read as zeros. 0, or -errno and a line for the user, who has
 * said `to`: a path, from the working directory if it is not absolute.
 */
int record_open(struct record *record, const char *to, size_t size, const char **error);
/* keep: the file stays. What nothing was written to would only be in the way. */
void record_close(struct record *record, bool keep);
/* In the child, before anything is written there: another file, of zeros again. */
void record_after_fork(struct record *record);
/*
 * The bytes are written there, `times` times one after the other. False: there is no
 * file, or no such place in it any more.
 */
bool record_write(const struct record *record, size_t at, const void *bytes, size_t len,
		  uint32_t times);

#endif
