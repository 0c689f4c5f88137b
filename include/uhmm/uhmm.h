/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/uhmm.h>: migrate memory of this process to devices and back.
 *
 * A space migrates private anonymous memory of the process it was created in: malloc'd,
 * mmap'd, anything but the stacks of running threads (which work, but pay for it), file
 * mappings, shared, locked and huge-page-filesystem memory. A page that is on a device
 * has no memory; it comes back, with its bytes, when anything touches it.
 *
 *	struct uhmm_space *space;
 *	struct uhmm_device *lz4;
 *	uhmm_space_create(NULL, &space);
 *	uhmm_device_open(space, "lz4", &lz4);
 *	uhmm_migrate(space, buf, len, lz4, NULL, &moved);
 *	... buf[i] ...  // comes back by itself
 *
 * Results are 0 or a count, or -errno; an out parameter is untouched on failure. Unless
 * said otherwise a function may be called from any thread, at the same time as any other,
 * but not from a signal handler.
 *
 * Lengths and addresses: ranges are given in bytes and cover every page that lies
 * entirely inside them (migrate, advise COLD) or that they touch (advise WILLNEED, PIN,
 * UNPIN): so nothing that shares a page with somebody else's data is moved by accident,
 * and everything asked to be resident is.
 *
 * MADV_GUARD_INSTALL (Linux 6.13) tells nobody that it has emptied pages: discard them
 * by MADV_DONTNEED too.
 *
 * mremap() of several mappings at once (Linux 6.17) is refused with EFAULT at the first
 * that a space has registered to migrate it; the ones before that have been moved.
 *
 * Fork. A child created by fork() has its own copy of the space, usable through the same
 * pointers. A child created otherwise (raw clone) finds its memory complete and must not
 * use the space. exec ends a space.
 */
#ifndef UHMM_UHMM_H
#define UHMM_UHMM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define UHMM_VERSION_MAJOR 0
#define UHMM_VERSION_MINOR 1
#define UHMM_VERSION_PATCH 0

/* The version of the library that is loaded, "0.1.0". Static. Since 0.1. */
const char *uhmm_version(void);

struct uhmm_space;
struct uhmm_device;

enum uhmm_delivery {
	/*
	 * Faults go to a thread of the space. System calls, O_DIRECT and io_uring on
	 * migrated memory work. Needs permission for a full userfaultfd (see uhmm
	 * doctor).
	 */
	UHMM_DELIVERY_THREAD = 0,
	/*
	 * The faulting thread resolves its own fault, in a SIGBUS handler of the library:
	 * several times faster, and any user may. A system call on a migrated page fails
	 * with EFAULT or comes up short: pin buffers first (UHMM_ADVISE_PIN). SIGBUS must
	 * not be blocked. A stack, one for signals too, must not be in a mapping of which
	 * anything is migrated, and the kernel makes one mapping of two that are adjacent
	 * and alike: a stack needs a page that cannot be read on both sides. A SIGBUS
	 * that is not ours goes to the handler that was installed before the space was
	 * created.
	 */
	UHMM_DELIVERY_INLINE = 1,
};

struct uhmm_space_config {
	size_t size;       /* sizeof(struct uhmm_space_config) */
	uint32_t delivery; /* enum uhmm_delivery */
	uint32_t flags;    /* 0 */
	/*
	 * Resident anonymous memory of the process, device copies in RAM included, in
	 * bytes; 0: no budget. The space reclaims from ranges given to uhmm_manage().
	 */
	uint64_t budget_bytes;
};

/*
 * Creates a space. config NULL: delivery by thread, no budget. At most 8 spaces; a page
 * belongs to the first one that migrates it.
 * -EPERM: no permission for userfaultfd. -ENOSYS: the kernel lacks it, or UFFDIO_MOVE
 * (Linux 6.8). -EINVAL: config. -ENOMEM. -EMFILE: too many spaces, or descriptors.
 * -EACCES: the process may not look at itself in /proc. Since 0.1.
 */
int uhmm_space_create(const struct uhmm_space_config *config, struct uhmm_space **space);

/*
 * Brings every migrated page back, closes the devices and frees the space. The caller
 * sees to it that nobody else uses the space or its devices. NULL is fine.
 * -ENOMEM: memory did not suffice for all pages; nothing was freed, the space lives on.
 * -EIO: pages were lost (their device failed); they stay poisoned, the space is gone.
 * -EBUSY: a migration (<uhmm/migrate.h>) is under way, or somebody holds the space
 * (uhmm_space_get(), <uhmm/range.h>); nothing was freed. Page maps end with the space.
 * Since 0.1.
 */
int uhmm_space_destroy(struct uhmm_space *space);

/*
 * Opens a device by its spec: NAME[:OPTION=VALUE[,OPTION=VALUE]...][+SPEC below], as in
 * "lz4", "lz4:size=1G". The space owns it. The space's first device is the one that has
 * been open longest.
 * -EINVAL: the spec; uhmm_strerror_spec() says what. -ENODEV: no such device. -ENOSPC: 15
 * are open. -ENOMEM. Since 0.1.
 */
int uhmm_device_open(struct uhmm_space *space, const char *spec,
		     struct uhmm_device **dev);

/* What was wrong with the last spec that this thread had refused; one line. Since 0.1. */
const char *uhmm_strerror_spec(void);

/*
 * Brings the device's pages back and closes it. Who migrates to it meanwhile gets
 * UHMM_FULL or UHMM_BUSY for the pages. -EINVAL: not open. -ENOMEM: it stays open; -EIO:
 * pages were lost, it is closed. Since 0.1.
 */
int uhmm_device_close(struct uhmm_space *space, struct uhmm_device *dev);

/* Per page: what uhmm_migrate() did. */
enum uhmm_result {
	UHMM_MOVED = 0,   /* it is now where it was asked to be */
	UHMM_ALREADY = 1, /* it was there before */
	UHMM_HOLE = 2,    /* never written (or discarded): nothing to move */
	/* pinned by the kernel (O_DIRECT, io_uring) or by uhmm_advise */
	UHMM_PINNED = 3,
	UHMM_BUSY = 4, /* in transition, or the program was changing the mapping */
	/*
	 * not private anonymous memory that can be read and written; or locked, or
	 * another space's
	 */
	UHMM_UNMOVABLE = 5,
	UHMM_FULL = 6, /* the device (or, moving back, memory) has no room */
	UHMM_LOST = 7, /* the device cannot give it back: poisoned, SIGBUS */
};

/*
 * Migrates the pages of [addr, addr+len) to dev, or back to memory if dev is NULL. Works
 * through all of them: one page's failure does not end it. results: NULL, or one byte
 * (enum uhmm_result) for each page entirely inside the range, first page first. nr_moved:
 * NULL, or how many are UHMM_MOVED.
 * The program may use the memory meanwhile. Pages come back when touched, so touching
 * results or the range while it runs is safe.
 * 0 however many moved; -EINVAL: empty or wrapping range, foreign device. Since 0.1.
 */
int uhmm_migrate(struct uhmm_space *space, void *addr, size_t len,
		 struct uhmm_device *dev, uint8_t *results, size_t *nr_moved);

enum uhmm_advice {
	UHMM_ADVISE_COLD = 1,     /* migrate to the space's first device soon */
	UHMM_ADVISE_WILLNEED = 2, /* bring back now */
	/* bring back and keep: counted, each PIN needs an UNPIN */
	UHMM_ADVISE_PIN = 3,
	UHMM_ADVISE_UNPIN = 4, /* undo one PIN of exactly these pages */
};

/*
 * 0, -EINVAL: range, advice, or UNPIN of a page that is not pinned (nothing changed).
 * PIN: -EIO a page was lost, -ENOMEM, -EOVERFLOW 65,535 pins of a page, -EBUSY a page is
 * in a migration (<uhmm/migrate.h>); what was pinned before is unpinned again. An
 * munmap() ends the pins of what it unmaps.
 * COLD: -ENODEV no device is open. Since 0.1.
 */
int uhmm_advise(struct uhmm_space *space, void *addr, size_t len,
		enum uhmm_advice advice);

/*
 * Gives [addr, addr+len) to reclaim: while the process is above the budget, cold pages
 * of it go to the space's first device. uhmm_unmanage() takes it back (migrated pages
 * stay where they are). -EINVAL range; -ENOSPC more than 1,024 ranges. Since 0.1.
 */
int uhmm_manage(struct uhmm_space *space, void *addr, size_t len);
int uhmm_unmanage(struct uhmm_space *space, void *addr, size_t len);

/* Changes the budget; 0: none. Returns before reclaim has caught up. Since 0.1. */
int uhmm_budget_set(struct uhmm_space *space, uint64_t budget_bytes);

/* Pages unless the name says otherwise. All since the space was created, or now. */
struct uhmm_stats {
	size_t size;              /* sizeof(struct uhmm_stats), set by the caller */
	uint64_t fault_probation; /* faults that found the page still in its frame */
	uint64_t fault_device;    /* faults that loaded from a device */
	uint64_t fault_zero;      /* faults on memory never written */
	uint64_t fault_busy;      /* faults that met a page in transition */
	/*
	 * of fault_device, those on pages stored a short time ago: since then fewer pages
	 * were stored than a quarter of the budget that the space was created with (of
	 * 1 GiB if it had none)
	 */
	uint64_t refault;
	uint64_t prefetch; /* pages loaded without being asked for */
	uint64_t isolated, isolated_folio, restored, stored, loaded;
	uint64_t store_failed, load_failed, dropped, skip_pinned, unshared;
	uint64_t now_device;            /* pages on devices */
	uint64_t now_probation;         /* pages isolated and still in frames */
	uint64_t metadata_bytes;        /* memory of tables and frame owners */
	uint64_t device_bytes_in;       /* bytes of the pages on devices */
	uint64_t device_bytes_resident; /* memory that devices take for them */
	uint64_t rss_anon_bytes;        /* of the process */
	/*
	 * of prefetch, the last of each stream of faults that went on no further: some of
	 * them were used, or none
	 */
	uint64_t prefetch_vain;
};

/* -EINVAL: size. Since 0.1. */
int uhmm_stats_get(struct uhmm_space *space, struct uhmm_stats *stats);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
