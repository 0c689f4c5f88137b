/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mirror: what an open file of a device is. It has a page table of the device's own,
 * filled by faults and migrations, and emptied by a notifier over all addresses.
 *
 * Locks, in the order they are taken:
 * 1. process (process.h)
 * 2. the lock of the mappings (lock.h)
 * 3. the files (files.h)
 * 4. a mirror's lock: the lock of the driver that <uhmm/range.h> speaks of. Threads of
 *    the library take it. Whoever holds it touches no memory of the program, and calls
 *    nothing but what range.h permits.
 * 5. a device's locks, of the bytes of its pages and of its memory
 *
 * Everything that is touched under 4 and 5 is memory of uhmm_host_map() or of this
 * library, for it must not migrate.
 */
#ifndef COMPAT_DMIRROR_MIRROR_H
#define COMPAT_DMIRROR_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/dmirror/abi.h"
#include "compat/dmirror/device.h"
#include "compat/dmirror/keep.h"
#include "compat/dmirror/table.h"
#include "compat/dmirror/vma.h"
#include "uhmm/range.h"

/* Pages that are faulted, copied or migrated at once: 2 MiB. */
#define WINDOW_PAGES 512u
#define WINDOW (WINDOW_PAGES * PAGE)

/* As long as the kernel's driver tries. */
#define TRY_MS 1000

struct mirror {
	struct uhmm_space *space;
	struct device *device;
	struct uhmm_notifier *notifier;
	unsigned generation; /* of the process that opened it, see process.h */
	unsigned refs;       /* files, and calls under way; the files' lock */
	uint64_t inode;      /* of what the descriptors are really of */
	uint32_t flags;      /* DMIRROR_FLAG_*; atomic */
	struct uhmm_lock lock;
	struct table table;
	/*
	 * Counts changes of the table that no notifier tells of, because they are the
	 * mirror's own: a fault that began before one must not overwrite it.
	 */
	uint64_t own_seq;
};

/*
 * What a call needs besides: not on the stack, which may itself migrate, and where a
 * thread may not have much of it.
 */
struct work {
	struct mirror *mirror;
	struct uhmm_range range;
	struct uhmm_migrate migrate;
	uint64_t pfns[WINDOW_PAGES];
	entry_t entries[WINDOW_PAGES];
	uhmm_pfn_t src[WINDOW_PAGES], dst[WINDOW_PAGES];
	struct vma_cursor cursor;
	struct keep keep;
	/* What the device has read, or writes: as long as the call's range. */
	char *bounce;
	size_t bounce_size;
	size_t done; /* pages of it */
};

/* 0 and the mirror of an open file, with one reference; -errno. */
int mirror_open(unsigned number, struct mirror **mirror);
/* Nobody has it any more: the device is evicted. */
void mirror_release(struct mirror *m);

/*
 * A call, as the program says it: arg is the address of a struct dmirror_cmd of its own,
 * if it is one. 0 or -errno.
 */
int mirror_ioctl(struct mirror *m, unsigned request, uint64_t arg);

/* ---- fault.c ---------------------------------------------------------------------- */

/*
 * Makes the table have [start, end), for writing if asked. 0 or what uhmm_range_fault()
 * says; -EBUSY after TRY_MS.
 */
int mirror_fault(struct work *w, uintptr_t start, uintptr_t end, bool write);
/*
 * Puts pages of the range that are on the mirror's device into the table; at most a
 * window. With the lock of the mappings. As above.
 */
int mirror_adopt(struct work *w, uintptr_t start, uintptr_t end);
/* What the program has there, without any fault: w->pfns. At most a window. */
int mirror_look(struct work *w, uintptr_t start, uintptr_t end);
/* Nodes for so many entries. */
int mirror_reserve(struct mirror *m, size_t nr_pages);

/* ---- copy.c ----------------------------------------------------------------------- */

/* The program's memory, as a system call sees it: 0 or -EFAULT. */
int copy_from_program(void *to, uint64_t from, size_t size);
int copy_to_program(uint64_t to, const void *from, size_t size);

/* -ENOMEM: no bounce buffer of that size. */
int bounce_map(struct work *w, uint64_t npages);
/*
 * Copies pages from the table to w->bounce, from addr + w->done on. -ENOENT: the table
 * does not have the next one (any more).
 */
int bounce_read(struct work *w, uintptr_t addr, uintptr_t end);
/* The other way, where the device may write. */
int bounce_write(struct work *w, uintptr_t addr, uintptr_t end);

/* ---- a file a call ---------------------------------------------------------------- */

int call_read(struct work *w, struct dmirror_cmd *cmd);
int call_write(struct work *w, struct dmirror_cmd *cmd);
int call_migrate_to_dev(struct work *w, struct dmirror_cmd *cmd);
int call_migrate_to_sys(struct work *w, struct dmirror_cmd *cmd);
int call_snapshot(struct work *w, struct dmirror_cmd *cmd);
int call_exclusive(struct work *w, struct dmirror_cmd *cmd);
int call_check_exclusive(struct work *w, struct dmirror_cmd *cmd);

/* ---- time ------------------------------------------------------------------------- */

int64_t now_ms(void);

#endif
