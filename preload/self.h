/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What preload.c and forked.c know of this process.
 */
#ifndef UHMM_PRELOAD_SELF_H
#define UHMM_PRELOAD_SELF_H

#include "preload/preload.h"

#include "lib/types.h"

struct self {
	struct ctl *ctl;
	struct ctl_slot *slot;
	uint64_t claim; /* of the slot: ours */
	struct uhmm_device *device;
	struct uhmm_space *space; /* set by the keeper, under lock */
	/*
	 * Starting the keeper and creating the space, against fork. A program's thread
	 * takes it with signals blocked: a handler may fork.
	 */
	struct uhmm_lock lock;
	uint64_t signals;  /* of the thread that forks; under lock */
	bool prepared;     /* it does not leave it to the reader; under lock */
	bool far;          /* the child cannot take our place; under lock */
	bool shares_files; /* it has our table of descriptors; under lock */
	bool foreign;      /* it is the child of a raw clone; under lock */
	bool guarded;     /* each thread is, and forks are heard of by that; under lock */
	uintptr_t forker; /* the thread that forks; it has the lock. 0: none */
	bool fork_guarded; /* it is heard of by the guard; under lock */
	bool filtered;     /* there is a filter, which children have as well */
	bool dispatches;   /* atomic: system calls of its own; no child does */
	uint32_t pid;      /* whose threads these are: not those of a vfork() child */
	struct os_thread keeper;
	struct os_thread sampler; /* before there is a space, if faults are inline */
	bool armed;               /* what it has come to: the lock is the keeper's then */
	bool looked;              /* whether it is traced, when it began */
	bool by_thread;           /* it cannot be guarded, and need not be; under lock */
	uint32_t bell;            /* futex: the keeper's, while there is no space */
	bool kept;                /* there is a keeper; under lock */
	bool rest;                /* it shall end, or has; under lock */
	struct usage usage;
	uint64_t device_look_ns;
	bool hopeless;        /* a space cannot be created here */
	bool far_children;    /* in another pid namespace */
	bool looks_for_leaks; /* preload_looks_for_leaks() at start */
	struct ctl_door door; /* the supervisor zeroes its magic */
};

extern struct self self;

/* Of a child when there are more processes than slots: it is counted nowhere. */
extern struct ctl_slot self_nowhere;

/* With signals blocked; which were before. */
uint64_t lock_self(void);
void unlock_self(uint64_t signals);
/* The process has just begun: by exec or by fork. */
void self_begin(void);
/* Who faults resolves it; else a thread of ours. */
bool self_is_inline(void);
/*
 * From now on a thread of ours resolves faults, in forked children as well. false: it may
 * not. Under lock; nothing is migrated.
 */
bool go_by_thread(void);
/* It is known already, before it is asked for: nothing is to be lost of the time then. */
bool cannot_be_guarded(void);
/* The same without opening a file: for who has the program's descriptors. */
bool is_told_already(void);
/* Why the process is not migrated, whoever would resolve faults; or NULL. */
const char *obstacle(void);
extern const char has_ring[];
/* Takes it over; why it does not, or NULL: it has, or will *later. */
const char *inline_obstacle(bool *later);
/* self.slot: NULL, there is none left. */
void self_claim_slot(void);

#endif
