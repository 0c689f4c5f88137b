/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program says to /dev/hmm_dmirrorN, as Linux 6.1 to 7.2 have it: the numbers are
 * those of the kernel's test driver, the words are ours.
 *
 * Each call takes the same struct. It is written back only where the call succeeds.
 */
#ifndef COMPAT_DMIRROR_ABI_H
#define COMPAT_DMIRROR_ABI_H

#include <stdint.h>
#include <sys/ioctl.h>

struct dmirror_cmd {
	uint64_t addr;   /* of the memory that is mirrored; a page's */
	uint64_t ptr;    /* where what the device has read goes, or what it writes is */
	uint64_t npages; /* at least 1; FLAGS: the flags */
	uint64_t cpages; /* out: how many pages it was done to */
	uint64_t faults; /* out: how often the device had to fault */
};

#define DMIRROR_CALL(nr_) _IOWR('H', nr_, struct dmirror_cmd)

enum dmirror_call {
	DMIRROR_READ = 0,
	DMIRROR_WRITE,
	DMIRROR_MIGRATE_TO_DEV,
	DMIRROR_MIGRATE_TO_SYS,
	DMIRROR_SNAPSHOT, /* ptr: a byte a page, enum dmirror_prot */
	DMIRROR_EXCLUSIVE,
	DMIRROR_CHECK_EXCLUSIVE,
	DMIRROR_RELEASE, /* evicts the device, and takes its memory away */
	DMIRROR_FLAGS,   /* Linux 7.2 */
	DMIRROR_NR_CALLS,
};

/* The next page that is allocated for a migration cannot be had. */
#define DMIRROR_FLAG_FAIL_ALLOC 0x1u

enum dmirror_prot {
	DMIRROR_PROT_NONE = 0x00,
	DMIRROR_PROT_READ = 0x01,
	DMIRROR_PROT_WRITE = 0x02,
	DMIRROR_PROT_PMD = 0x04, /* mapped as 2 MiB */
	DMIRROR_PROT_PUD = 0x08, /* as 1 GiB */
	DMIRROR_PROT_ZERO = 0x10,
	DMIRROR_PROT_PRIVATE_LOCAL = 0x20,
	DMIRROR_PROT_PRIVATE_REMOTE = 0x30,
	DMIRROR_PROT_COHERENT_LOCAL = 0x40,
	DMIRROR_PROT_COHERENT_REMOTE = 0x50,
	DMIRROR_PROT_ERROR = 0xff,
};

#define DMIRROR_DEVICES 4 /* 0, 1: private; 2, 3: coherent */

#endif
