/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this machine lets a process of this user do, found by doing it.
 *
 * The probes run in a forked child, because a seccomp filter may answer a system call
 * by killing its caller, and because they register and move memory. `uhmm run` asks
 * before it starts anything; `uhmm doctor` shows all of it.
 */
#ifndef UHMM_PROBE_H
#define UHMM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/* An answer: 0, or the errno it failed with, or one of these. */
enum {
	PROBE_NOT_ASKED = -1,
};

struct probe {
	/* The way to a userfaultfd: */
	int syscall;   /* userfaultfd(0): faults of system calls served too */
	int dev;       /* /dev/userfaultfd: the same by file permission */
	int user_only; /* UFFD_USER_MODE_ONLY: any user may, where it is not filtered */
	uint64_t features; /* what the kernel knows, 0 if no descriptor was had */
	int needed;        /* UFFDIO_API with all that `uhmm run` needs */
	int inline_mode;   /* UFFDIO_API with what delivery inline needs */
	int move;          /* two pages moved, and found intact */
	int pagemap_scan, procmap_query, io_uring;
	int dispatch;    /* Syscall User Dispatch */
	int failed;      /* errno with which there was no child; else 0 */
	int killed;      /* signal that ended the child before it had finished; else 0 */
	bool has_sysctl; /* vm.unprivileged_userfaultfd: the kernel has userfaultfd */
	int sysctl;      /* its value */
	bool has_cap, bounded; /* CAP_SYS_PTRACE effective; in the bounding set */
	bool filtered;         /* a seccomp filter is installed */
	bool userns;           /* not in the initial user namespace */
};

/* Features of userfaultfd, in the order doctor shows them. */
struct probe_feature {
	uint64_t bit;
	bool needed; /* `uhmm run` does not work without */
	const char *name;
	const char *since; /* Linux version */
	const char *use;
};
extern const struct probe_feature probe_features[]; /* ends with bit 0 */

void probe_machine(struct probe *probe);

/*
 * NULL if `uhmm run` can work, else what is in the way, as a clause. *fix is the line
 * that mends it. Both are static until the next call.
 */
const char *probe_obstacle(const struct probe *probe, const char **fix);
/* The same for `uhmm run --faults=inline`. */
const char *probe_inline_obstacle(const struct probe *probe, const char **fix);
/* The same for a program that has a space of the library, with delivery by thread. */
const char *probe_library_obstacle(const struct probe *probe, const char **fix);

/* Filters on the system calls of this process (seccomp); 0 also: it is not known. */
int probe_filters(void);
/* Reads a whole small file without its last newline. 0 or -errno. */
int probe_read(const char *path, char *buf, unsigned long size);

#endif
