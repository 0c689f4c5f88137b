/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control segment: what the processes of one `uhmm run` share.
 *
 * `uhmm run` creates it as a file that only its user can open, names it in the
 * environment (UHMM_CTL), and every process that loads the preload maps it. It holds the
 * budget, a slot per process with what that process uses and has counted, and messages
 * that the supervisor prints. There is no lock in it: a process may be killed anywhere.
 * Each slot has one writer, the process that owns it; everybody reads.
 *
 * Fields are accessed with the __atomic builtins, relaxed unless said otherwise.
 */
#ifndef UHMM_CTL_H
#define UHMM_CTL_H

#include <stdint.h>

#define CTL_ENV     "UHMM_CTL"
#define CTL_MAGIC   UINT64_C(0x31304c54436d6875) /* "uhmCTL01" */
#define CTL_VERSION 1u

/* Processes alive at the same time; more run without being migrated. 1 KiB each. */
#define CTL_SLOTS 4096u
#define CTL_SPEC_MAX 256u
/* Messages kept until the supervisor prints them; later ones are dropped and counted. */
#define CTL_MESSAGES 64u
#define CTL_MESSAGE_MAX 256u

/* What every process counts. Order is the order of --stats=json. */
enum ctl_counter {
	CTL_FAULT_PROBATION,  /* faults resolved by moving the frame back */
	CTL_FAULT_DEVICE,     /* faults resolved by loading */
	CTL_FAULT_ZERO,       /* faults on memory never written */
	CTL_FAULT_BUSY,       /* faults that met a page in transition */
	CTL_FAULT_PARKED,     /* faults that waited for memory to be freed */
	CTL_REFAULT,          /* pages that came back soon after they had been stored */
	CTL_PREFETCH,         /* pages loaded without being asked for */
	CTL_ZERO_FILLED,      /* pages zero-filled */
	CTL_ISOLATED,         /* pages moved out of the page table */
	CTL_ISOLATED_FOLIO,   /* of those, as part of a 2 MiB folio */
	CTL_RESTORED,         /* pages moved back from probation */
	CTL_STORED,           /* pages stored on a device */
	CTL_LOADED,           /* pages loaded from a device */
	CTL_STORE_FAILED,     /* pages the device refused: they stayed in memory */
	CTL_LOAD_FAILED,      /* pages that were lost: poisoned */
	CTL_DROPPED,          /* migrated pages the program unmapped or discarded */
	CTL_SKIP_PINNED,      /* pages skipped because they were pinned */
	CTL_UNSHARED,         /* pages made exclusive after fork so that they could move */
	CTL_EVENT_FORK,
	CTL_EVENT_REMAP,
	CTL_EVENT_REMOVE,
	CTL_EVENT_UNMAP,
	CTL_FORK_HANDOVER,    /* forked children that took over their own pages */
	CTL_FORK_FILLED,      /* pages filled in for children that could not */
	CTL_NR_COUNTERS,
};

struct ctl_slot {
	uint32_t pid;        /* 0: free. Claimed by compare-and-swap, acquire. */
	uint32_t generation; /* counts claims, exec included */
	uint32_t managed;    /* 1 once the process migrates; 2: it cannot, see messages */
	uint32_t pad;
	uint64_t start_ns;   /* CLOCK_MONOTONIC */
	/* Resident anonymous pages, shared pages counted once in the tree: its part. */
	int64_t usage_pages;
	/* Now, of the process's device: */
	uint64_t device_pages, device_bytes_in, device_bytes_stored, device_bytes_resident;
	uint64_t metadata_bytes;  /* tables, frame owners, this process */
	uint64_t probation_pages; /* now */
	char name[16];            /* comm of the program */
	uint64_t counter[CTL_NR_COUNTERS];
	uint64_t reserve[128 - 13 - CTL_NR_COUNTERS];
};

struct ctl_message {
	uint32_t ready; /* 1 after text was written, release */
	uint32_t pid;
	char text[CTL_MESSAGE_MAX - 8];
};

struct ctl {
	uint64_t magic;          /* written last, release */
	uint32_t version;
	uint32_t size;           /* sizeof(struct ctl) */
	/* set by the supervisor before any other process sees the segment */
	uint64_t budget_pages;
	uint32_t supervisor_pid;
	uint32_t debug;          /* UHMM_DEBUG level for messages */
	char device[CTL_SPEC_MAX];
	/* shared */
	uint32_t pressure;       /* counts; a futex that sleeping workers wait on */
	uint32_t nr_slots;       /* slots ever used are below this */
	int64_t peak_pages;      /* largest sum of usage_pages seen */
	uint64_t over_ns;        /* time the tree was above budget and tolerance */
	int64_t over_pages;      /* by how much at most */
	/* counters and device totals of processes that have ended; see ctl_fold() */
	uint64_t ended[CTL_NR_COUNTERS];
	uint64_t ended_processes;
	uint64_t ended_managed;
	uint32_t next_message;   /* fetch-and-add claims one */
	uint32_t pad;
	struct ctl_message message[CTL_MESSAGES];
	struct ctl_slot slot[CTL_SLOTS] __attribute__((aligned(1024)));
};

_Static_assert(sizeof(struct ctl_slot) == 1024, "a slot is 1 KiB");

/* --memory + max(16 MiB, 5%): what the tree may hold. */
static inline uint64_t ctl_tolerance_pages(uint64_t budget_pages)
{
	uint64_t share = budget_pages / 20;

	return share > 4096 ? share : 4096;
}

#endif
