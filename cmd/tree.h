/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of processes of one `uhmm run`, seen through its control segment.
 *
 * The supervisor creates the segment, looks at it ten times a second or more, and reaps
 * the slots of processes that were killed. It learns of their end from a pidfd per slot,
 * taken when it first sees the slot: so an end is seen at once, a zombie does not count
 * as alive, and a pid that is used again does not either.
 * The supervisor also looks at what those processes use that have no keeper, and makes
 * them start one when the tree's memory grows: sample.c. When it leaves, all have one.
 * If it is killed, those that have none never get one; else neither the supervisor nor
 * the janitor is needed for the tree to run on: only the slots of killed processes and,
 * at the end, the file are left behind. The next `uhmm run` of the same user removes
 * such files.
 *
 * One thread. Only the fork that calls tree_leave() shares a tree.
 */
#ifndef UHMM_TREE_H
#define UHMM_TREE_H

#include "preload/ctl.h"

#include <limits.h>
#include <stdbool.h>
#include <time.h>

/* Messages remembered, so that they are printed once. */
#define TREE_SAID 16

/*
 * Between two looks at the segment: short while processes come, long while none does. A
 * process that ended before it was seen counts as alive until the next look.
 */
#define TREE_TICK_MIN_MS 10
#define TREE_TICK_MAX_MS 100

struct tree_watch {
	int pidfd;      /* -1: none */
	uint64_t claim; /* whose end the pidfd shows */
};

/* What is known of a process without a keeper. */
struct tree_sample {
	uint64_t claim; /* whose this is */
	int statm;      /* descriptor of /proc/PID/statm plus 1, 0: not open */
	enum {
		SAMPLE_WATCHED,
		SAMPLE_RUNG,   /* it will have a keeper, or is another program now */
		SAMPLE_UNABLE, /* it never will have one */
	} state;
	int64_t pages; /* its part of the tree's memory */
	/* Its share of pages that relatives have too, and what it had in all then. */
	int64_t pss_pages, rss_pages;
	uint64_t share_ns;       /* when that may be asked for again */
	uint64_t again_share_ns; /* the same where relatives came or went */
	uint32_t kin;            /* ctl->kin when it was last asked for */
	uint32_t alone;          /* slot->forks when it had none in common */
	uint64_t rung_ns;        /* when it was rung first */
	uint64_t again_ns;       /* when it may be rung again */
	bool said;
};

struct tree {
	struct ctl *ctl;
	char path[PATH_MAX];
	int epoll;
	struct tree_watch *watch;   /* CTL_SLOTS of them */
	struct tree_sample *sample; /* CTL_SLOTS of them */
	uint64_t sample_ns;         /* when the next is due */
	int64_t room_pages;         /* with less left everyone has a keeper */
	int lock;                   /* the file, locked: there is somebody to ring */
	uint64_t looked_ns;         /* the last look */
	uint64_t look_ns, all_ns;   /* the next one, and the next at every process */
	unsigned tick_ms;           /* from the last of those to the next */
	uint64_t stuck_ns; /* since when the oldest message is incomplete; 0: it is not */
	char said[TREE_SAID][CTL_MESSAGE_MAX]; /* those printed first */
	struct tree_strays *strays;            /* NULL: they are not looked for */
};

/* Creates the segment in the first directory with room. 0, or -errno and a complaint. */
int tree_create(struct tree *tree, uint64_t budget_pages, const char *device,
		enum ctl_faults faults);

/* After the fork: descriptors to watch processes with. 0 or -errno. */
int tree_watch_start(struct tree *tree, int other_fd);

/*
 * Waits for the end of a process, for other_fd or for the next look, and does what is
 * due. 1 if other_fd can be read.
 */
int tree_wait(struct tree *tree);

/* Reaps whoever has ended by now. */
void tree_settle(struct tree *tree);

/* Prints messages; last: also those behind one whose writer died. */
void tree_print_messages(struct tree *tree, bool last);

/* Processes that have a slot. */
unsigned tree_live(const struct tree *tree);

/*
 * sample.c: looks at the processes that have no keeper, and rings them when they should
 * have one; everyone: at any rate.
 */
void tree_sample_init(struct tree *tree); /* before there are any */
int tree_sample_start(struct tree *tree);
void tree_sample(struct tree *tree, bool everyone);
/* Nobody will ring any more for a while, or for ever. */
void tree_sample_stop(struct tree *tree);

/*
 * strays.c: processes below the program that are neither migrated nor counted. They are
 * told of once they are known; how many there were, and what they held at most.
 */
void tree_strays_start(struct tree *tree, uint32_t program);
void tree_strays_look(struct tree *tree); /* if it is time */
uint64_t tree_strays(const struct tree *tree, int64_t *peak_pages);

/* Removes the file, or leaves a janitor behind that will when the tree has ended. */
void tree_leave(struct tree *tree);
/* Removes the file now. */
void tree_remove(struct tree *tree);

uint64_t clock_ns(clockid_t clock);
uint64_t monotonic_ns(void);

#endif
