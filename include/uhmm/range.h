/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/range.h>: mirrors. A device that has a page table of its own fills it from the
 * program's mappings with uhmm_range_fault(), and is told by interval notifiers when they
 * change. What hmm_range_fault() and mmu_interval_notifier are to drivers in the kernel
 * (mm/hmm.c, mm/mmu_notifier.c, Linux 6.1 to 7.2).
 *
 *	again:
 *		range.notifier_seq = uhmm_notifier_read_begin(notifier);
 *		r = uhmm_range_fault(&range);
 *		if (r == -EBUSY)
 *			goto again;       // with a new sequence
 *		lock(driver);
 *		if (uhmm_notifier_read_retry(notifier, range.notifier_seq)) {
 *			unlock(driver);
 *			goto again;
 *		}
 *		... fill the device's page table from range.pfns ...
 *		unlock(driver);
 *
 * and in the notifier's invalidate():
 *		lock(driver);
 *		uhmm_notifier_set_seq(notifier, seq);
 *		... drop what the device's page table has of the range ...
 *		unlock(driver);
 *
 * A driver may pass over the events of its own migrations. Then it drops the entries of
 * what moves itself, after uhmm_migrate_setup() and before it copies, and no migration of
 * its own begins from uhmm_notifier_read_begin() until the page table is filled. After
 * uhmm_migrate_pages() it may fill in what has moved, if a sequence that it read before
 * that is still good. examples/accel.c is a whole driver.
 *
 * The lock of the driver is taken on threads of the library and on those that fault, also
 * while the program's mappings change. Whoever holds it must not touch memory that
 * migrates (nor may a signal handler do so meanwhile), not fork, not wait for who does,
 * and call nothing of the library but uhmm_notifier_set_seq() and
 * uhmm_notifier_read_retry().
 *
 * userfaultfd tells what the program does to its mappings a moment after it has done it:
 * munmap() may have returned when notifiers are told. So a device whose work is ordered
 * with what the program does, one that is told to begin, calls
 * uhmm_notifier_read_begin() first: what the caller knows of has been told after that.
 *
 * Memory that no device has is in this process, where the device reads and writes it at
 * the program's own address. It may be gone in the next instant like any of the
 * program's: a driver that is not told in time copies with process_vm_readv() or the
 * like, which fails where a load would crash, and does so without its lock, for the page
 * may have gone elsewhere, and whoever brings it back needs that.
 */
#ifndef UHMM_RANGE_H
#define UHMM_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uhmm/migrate.h"
#include "uhmm/uhmm.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* ---- interval notifiers ----------------------------------------------------------- */

enum uhmm_event {
	UHMM_EVENT_UNMAP = 1,  /* munmap(); or mremap() has moved it away */
	UHMM_EVENT_CLEAR,      /* discarded, or reclaimed: the pages are elsewhere now */
	UHMM_EVENT_PROTECTION, /* uhmm_protection_changed(); a fork(): of everything */
	UHMM_EVENT_MIGRATE,   /* owner: of the migration; NULL: it comes back to memory */
	UHMM_EVENT_EXCLUSIVE, /* owner: who is to have it alone, elsewhere */
	UHMM_EVENT_RELEASE,   /* the space ends */
};

struct uhmm_invalidation {
	uintptr_t start, end;
	enum uhmm_event event;
	const void *owner; /* MIGRATE, EXCLUSIVE: a driver may pass over its own */
};

struct uhmm_notifier;

struct uhmm_notifier_ops {
	size_t size; /* sizeof(struct uhmm_notifier_ops) */
	/*
	 * When it returns the device uses nothing of the range any more. Under the lock
	 * of the driver it calls uhmm_notifier_set_seq(notifier, seq), always but for an
	 * event of its own that it passes over. Any thread, any number at a time.
	 */
	void (*invalidate)(struct uhmm_notifier *notifier, void *ctx,
			   const struct uhmm_invalidation *what, uint64_t seq);
};

/*
 * From now on ops->invalidate(ctx) is called for what happens to [start, start + len),
 * which need not be mapped, nor whole pages. What the program does itself, UNMAP and
 * CLEAR, is known of private anonymous memory of which uhmm_range_fault() has reported
 * something or a page was migrated; of files and shared memory the program tells, by
 * uhmm_protection_changed(). The notifier is to be removed also when the space has ended.
 * A child of fork() begins without any. -EINVAL: ops, or len is 0; -EOVERFLOW: the range
 * wraps; -ENOMEM. Since 0.1.
 */
int uhmm_notifier_insert(struct uhmm_space *space, uintptr_t start, size_t len,
			 const struct uhmm_notifier_ops *ops, void *ctx,
			 struct uhmm_notifier **notifier);
/*
 * No call is under way when this returns, and none comes later. Not to be called from
 * invalidate(), nor with a lock that it takes. Since 0.1.
 */
void uhmm_notifier_remove(struct uhmm_notifier *notifier);

/*
 * Waits while what concerns the notifier is being invalidated. What happened before, as
 * far as the caller can know of it, has been told when this returns. Not to be called
 * with a lock that invalidate() or copy_to_ram() takes. Since 0.1.
 */
uint64_t uhmm_notifier_read_begin(struct uhmm_notifier *notifier);
/* Was something invalidated since? Under the lock of the driver. Since 0.1. */
bool uhmm_notifier_read_retry(struct uhmm_notifier *notifier, uint64_t seq);
/* For invalidate(), under the lock of the driver. Since 0.1. */
void uhmm_notifier_set_seq(struct uhmm_notifier *notifier, uint64_t seq);

/*
 * Says that the protection of [start, end) has changed, or something that is not told
 * otherwise. userfaultfd does not tell that, so who makes an mprotect() of memory that a
 * device mirrors, or interposes it, calls this after it. uhmm_range_fault() looks at the
 * mapping each time. Since 0.1.
 */
void uhmm_protection_changed(struct uhmm_space *space, uintptr_t start, uintptr_t end);

/* ---- range fault ------------------------------------------------------------------ */

/* Flags of a page of the program as a device may see it; 0: not there. */
#define UHMM_RANGE_VALID (UINT64_C(1) << 63) /* it can be read */
#define UHMM_RANGE_WRITE (UINT64_C(1) << 62) /* and be written, without a fault */
#define UHMM_RANGE_ERROR (UINT64_C(1) << 61) /* no mapping, not readable, special, lost */
#define UHMM_RANGE_ZERO (UINT64_C(1) << 60)  /* with VALID: the kernel's page of zeros */
#define UHMM_RANGE_ORDER_SHIFT 54            /* 5 bits, see uhmm_range_order() */
/* In: what is wanted of a page. */
#define UHMM_RANGE_REQ_FAULT UHMM_RANGE_VALID
#define UHMM_RANGE_REQ_WRITE UHMM_RANGE_WRITE /* with REQ_FAULT */

/* The mapping of the page is a part of one of so many pages, a power of 2. */
static inline unsigned uhmm_range_order(uint64_t pfn)
{
	return (unsigned)(pfn >> UHMM_RANGE_ORDER_SHIFT) & 31;
}

struct uhmm_range {
	size_t size; /* sizeof(struct uhmm_range) */
	struct uhmm_notifier *notifier;
	uint64_t notifier_seq; /* of uhmm_notifier_read_begin() */
	uintptr_t start, end;  /* within the notifier's interval; whole pages */
	uint64_t *pfns;        /* one a page, in and out */
	/* What is wanted of page i is (pfns[i] & pfn_flags_mask) | default_flags. */
	uint64_t default_flags, pfn_flags_mask;
	/* Private device pages of this owner are reported as they are, others fetched. */
	const void *dev_private_owner;
};

/*
 * What the device may map of each page. Without a request for a page nothing happens to
 * it (a snapshot); with REQ_FAULT it is brought back or filled if it is not there, with
 * REQ_WRITE it is made writable as if the program wrote. Where a private page of
 * dev_private_owner may not be written it is reported without WRITE all the same. Other
 * pages may be brought along. Mappings of private anonymous memory are registered with
 * userfaultfd, as for migrating them.
 * 0. -EBUSY: something was invalidated since notifier_seq: begin anew, with requests
 * written anew, for elements of pfns may have been overwritten. -EFAULT: a page
 * was asked for that cannot be had: no mapping, not readable, special, lost. -EPERM:
 * REQ_WRITE, and the mapping cannot be written. -EINVAL: the struct. -ENOMEM. The space
 * ends: -EFAULT. Since 0.1.
 */
int uhmm_range_fault(struct uhmm_range *range);

/*
 * The page map that a VALID page of uhmm_range_fault() lives on, private or coherent, and
 * its number there. NULL: memory at the program's own address. Since 0.1.
 */
struct uhmm_pagemap *uhmm_range_pagemap(struct uhmm_space *space, uint64_t pfn,
					uint64_t *page);

/* ---- exclusive access ------------------------------------------------------------- */

/*
 * The page at addr becomes one that only the device uses, for what a device calls atomic:
 * it is in memory still, but no thread of the program can reach it. Whoever touches it
 * gets it back, after the notifiers were told: CLEAR for the page. So does a fork(), and
 * whatever unmaps, discards or moves it. *pfn is good for uhmm_pfn_bytes() until then.
 *
 * As with any page that is mirrored: the driver uses it if, under its lock,
 * uhmm_notifier_read_retry() says that nothing has happened since before this was called.
 * Notifiers are told EXCLUSIVE with this owner, the driver's own too; when it calls
 * again, for a page that is this owner's still, nothing is told, and it is the same page.
 * 0; -EBUSY: pinned, shared, in transition: try again; -EOPNOTSUPP: not private anonymous
 * memory; -EFAULT: no mapping, lost; -EPERM: it may not be written; -EINVAL: not a page's
 * address; -ENOMEM. Since 0.1.
 */
int uhmm_make_exclusive(struct uhmm_space *space, uintptr_t addr, const void *owner,
			uhmm_pfn_t *pfn);

/* ---- finding a space --------------------------------------------------------------- */

/*
 * The space of a process, that was created first if it has several. A space can be used
 * in its process only: pid is 0, or the caller's own. It is not destroyed until
 * uhmm_space_put(): uhmm_space_destroy() says -EBUSY. NULL: it has none. Since 0.1.
 */
struct uhmm_space *uhmm_space_find(int pid);
/* One more put is needed. NULL: it is ending. Since 0.1. */
struct uhmm_space *uhmm_space_get(struct uhmm_space *space);
void uhmm_space_put(struct uhmm_space *space);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
