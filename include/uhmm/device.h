/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/device.h>: for authors of devices.
 *
 * A device keeps the bytes of pages that are not in the program's memory. The
 * core hands it batches of pages to store, load or free; the device answers each
 * page with 0 or -errno. One page's failure never fails the batch.
 *
 * A page on a device is named by a device page number that the device chooses when
 * the page is stored. A number is below UHMM_DEVICE_PAGE_LIMIT, stays valid until it
 * is freed, and means nothing to anybody else.
 *
 * Devices stack: in `crypt+lz4+file:/swap`, crypt and lz4 are layers, each of which
 * drives the `next` device it was opened with. In `lz4:size=1G,file:/swap` the two are
 * tiers: uhmm moves pages from one to the other, and neither knows of it.
 *
 * Reclaim safety. Under `uhmm run` a device's functions resolve the faults of the
 * very process they run in: after open() returned they must not call malloc, free,
 * stdio, dlopen or anything that does, and must not touch memory that uhmm may
 * migrate. Memory comes from uhmm_host_map(). A driver whose library cannot promise
 * that leaves UHMM_DRIVER_RECLAIM_SAFE out of its flags.
 */
#ifndef UHMM_DEVICE_H
#define UHMM_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define UHMM_PAGE_SIZE 4096u

/* Device page numbers are below this: they share a 64-bit word with a page's state. */
#define UHMM_DEVICE_PAGE_LIMIT (UINT64_C(1) << 44)

/* The most pages in one batch: one io per bit of a word, 256 KiB of memory. */
#define UHMM_BATCH_MAX 64u

enum uhmm_op {
	/* buf[0..len) is stored; the device picks `page`. buf is only read. */
	UHMM_OP_STORE = 0,
	/* `page` is read into buf[0..len). The page stays stored. */
	UHMM_OP_LOAD = 1,
	/* `page` is forgotten; buf and len are ignored. Cannot fail: result is 0. */
	UHMM_OP_FREE = 2,
};

/*
 * One page of a batch. The core owns it and the memory behind buf until the batch
 * completes; buf is aligned to UHMM_PAGE_SIZE when len is UHMM_PAGE_SIZE.
 */
struct uhmm_io {
	uint64_t page;  /* STORE: out. LOAD, FREE: in. */
	void *buf;      /* STORE: source. LOAD: destination. */
	uint32_t len;   /* bytes; UHMM_PAGE_SIZE from the core, less from a layer above;
	                  * LOAD: what was stored */
	int32_t result; /* out: 0, or
	                  *   -ENOSPC  STORE: the device is full
	                  *   -ENOMEM  STORE: no memory for the copy
	                  *   -EIO     STORE: the medium failed
	                  *            LOAD: what came back is not what was stored, or
	                  *            the medium failed. buf's contents are undefined.
	                  */
};

/*
 * A batch. The submitter owns it until complete() is called, once, on any thread,
 * possibly before submit() returns. complete() does not block.
 */
/*
 * flags of a batch. FROZEN, for LOAD: until it completes nobody else uses the device, and
 * fork() may copy this process's memory in the middle of it. So it completes inside
 * submit(), takes no lock and leaves nothing half done that the child would find.
 */
#define UHMM_BATCH_FROZEN 0x1u

struct uhmm_batch {
	enum uhmm_op op;
	uint32_t nr; /* entries of io, 1..UHMM_BATCH_MAX */
	struct uhmm_io *io;
	void (*complete)(struct uhmm_batch *batch);
	void *cookie; /* the submitter's */
	uint32_t flags;
};

struct uhmm_device; /* an open device; opaque */

struct uhmm_device_stat {
	size_t size;                   /* sizeof, set by the caller */
	uint64_t pages;                /* stored now */
	uint64_t pages_same;           /* of those, zero or same-filled: kept as a word */
	uint64_t pages_raw;            /* of those, incompressible: kept as they are */
	uint64_t bytes_in;             /* bytes of the pages stored now, as they came */
	uint64_t bytes_stored;         /* bytes of the objects that hold them */
	uint64_t bytes_resident;       /* memory the device occupies for all of it */
	uint64_t bytes_metadata;       /* of bytes_resident, indexes and headers */
	uint64_t stores, loads, frees; /* pages ever */
	uint64_t store_failures;       /* pages refused, -ENOSPC and -ENOMEM */
	uint64_t load_failures; /* pages that did not verify or could not be read */
};

enum uhmm_option_type {
	UHMM_OPTION_SIZE, /* bytes, with K M G T suffixes */
	UHMM_OPTION_UINT,
	UHMM_OPTION_BOOL, /* on, off, true, false, 1, 0 */
	UHMM_OPTION_STRING,
	/* Names a file. A driver's first option: must be given, and needs no name. */
	UHMM_OPTION_PATH,
};

struct uhmm_option {
	const char *name;
	enum uhmm_option_type type;
	const char *fallback; /* what is used when the option is left out; NULL: unset */
	const char *help;     /* one line */
	uint64_t min, max;    /* SIZE and UINT; max 0 means no limit */
};

/* What an option was given. Lives until open() returns. */
struct uhmm_option_value {
	uint64_t number;    /* SIZE, UINT, BOOL */
	const char *string; /* STRING, PATH; NULL when unset */
};

struct uhmm_device_args {
	size_t size;                            /* sizeof */
	const struct uhmm_option_value *values; /* in the order of the driver's options */
	struct uhmm_device *next;               /* layers: the device below; else NULL */
};

/* flags of a driver */
#define UHMM_DRIVER_RECLAIM_SAFE 0x1u /* see the head of this file */
#define UHMM_DRIVER_LAYER 0x2u        /* needs a device below: `name+...` */
#define UHMM_DRIVER_MAY_LAYER 0x4u    /* can stand alone or on a device below */
#define UHMM_DRIVER_MEMORY 0x8u       /* keeps pages in RAM of this process */
#define UHMM_DRIVER_SECRET 0x10u      /* nobody below sees what a page holds */

enum uhmm_thread_model {
	UHMM_THREAD_SERIALIZE = 0, /* one submit at a time, the core sees to it */
	UHMM_THREAD_PARALLEL = 1,  /* submit from any number of threads at once */
};

/*
 * A driver. `size` first: a driver built against an older header has fewer members,
 * and the core looks at none beyond its size.
 */
struct uhmm_driver {
	size_t size;
	const char *name;                  /* [a-z][a-z0-9]*, what a spec calls it */
	const char *summary;               /* one line for `uhmm devices` */
	const struct uhmm_option *options; /* ends with a NULL name; NULL: none */
	uint32_t flags;
	uint32_t thread_model; /* enum uhmm_thread_model */
	uint32_t batch; /* pages per batch it likes best, 1..UHMM_BATCH_MAX: a batch's
	                 * pages cannot be faulted while it is stored */

	/* 0, or -errno and *error set to a static line that says what to change. */
	int (*open)(const struct uhmm_device_args *args, void **dev, const char **error);
	/* Every batch has completed. Pages still stored are forgotten. */
	void (*close)(void *dev);
	/* Takes the batch; 0 always: failures are per page, in result. */
	int (*submit)(void *dev, struct uhmm_batch *batch);
	/* Makes what was stored durable where that means something; may be NULL. */
	int (*flush)(void *dev);
	/*
	 * In a forked child, before anything else: memory of uhmm_host_map() has been
	 * copied by the kernel like any other and no batch is in flight. NULL: nothing to
	 * do. -errno: the child cannot use the device; its memory is filled in.
	 */
	int (*after_fork)(void *dev);
	/*
	 * A layer that passes pages through as they are says bytes_resident and
	 * bytes_metadata alone: what is stored is counted below. May be NULL.
	 */
	void (*stat)(void *dev, struct uhmm_device_stat *stat);
	/*
	 * For a driver whose pages are not memory of this process: before fork(), with no
	 * batch in flight, and in the parent if no child has come of it that uses the
	 * device. May be NULL. If the child cannot use the pages its after_fork() fails.
	 */
	void (*before_fork)(void *dev);
	void (*fork_failed)(void *dev);
};

/* ---- what a driver may use -------------------------------------------------- */

/*
 * Zeroed memory that is never migrated, rounded up to whole pages; NULL when there is
 * none. Any thread. Since 0.1.
 */
void *uhmm_host_map(size_t size_bytes);
void uhmm_host_unmap(void *addr, size_t size_bytes);
/* The pages read as zeros from now on and take no memory until written. Since 0.1. */
void uhmm_host_discard(void *addr, size_t size_bytes);

/*
 * Single pages, for a driver whose pages come and go. They hold any bytes, of whatever
 * page was there before, and are not taken from and given to the kernel each time: so
 * they cost less than pages of uhmm_host_map(), and are not given to uhmm_host_unmap().
 * Up to nr of them into page[]: how many, fewer if there is no memory. Any thread.
 * Since 0.1.
 */
uint32_t uhmm_host_pages_get(void **page, uint32_t nr);
void uhmm_host_pages_put(void *const *page, uint32_t nr);

/*
 * A checksum of bytes, to notice that memory or a medium has changed them: XXH3, 64 bits,
 * the same on every machine. Any thread. Since 0.1.
 */
uint64_t uhmm_checksum(const void *buf, size_t len);

/*
 * A small number that threads running at the same time seldom share: which of several
 * copies of a structure to use. A hint only: threads change CPUs at any
 * time. Since 0.1.
 */
uint32_t uhmm_host_cpu(void);

/* Nanoseconds, of a clock that only goes forward. Any thread. Since 0.1. */
uint64_t uhmm_host_now_ns(void);
/* Not in a frozen batch, nor with a lock that somebody waits for. Since 0.1. */
void uhmm_host_sleep_ns(uint64_t ns);

/* Bytes that nobody can guess. 0, or -errno. Any thread. Since 0.1. */
int uhmm_host_random(void *buf, size_t len);

/*
 * Memory for keys: zeroed, never written to swap nor to a core dump, and wiped when it is
 * unmapped. NULL where there is none, or RLIMIT_MEMLOCK does not permit to lock it. A
 * forked child has a copy that may be swapped: after_fork() locks it again, 0 or -errno.
 * Any thread. Since 0.1.
 */
void *uhmm_host_secret_map(size_t size_bytes);
void uhmm_host_secret_unmap(void *addr, size_t size_bytes);
int uhmm_host_secret_lock(void *addr, size_t size_bytes);

/*
 * A lock that may be taken on any thread, also while a fault is being resolved, with
 * all signals blocked. Since 0.1.
 */
struct uhmm_lock {
	uint32_t word; /* zeroed is unlocked */
};
/* Spins for a moment, then sleeps until it is free. Since 0.1. */
void uhmm_lock(struct uhmm_lock *lock);
/* 1: taken; 0: somebody has it. Since 0.1. */
int uhmm_trylock(struct uhmm_lock *lock);
void uhmm_unlock(struct uhmm_lock *lock);

/* Memory that a forked child shares, zeroed; NULL: none. Any thread. Since 0.1. */
void *uhmm_host_shared_map(size_t size_bytes);
/* Here alone: who else has it keeps it. Any thread. Since 0.1. */
void uhmm_host_shared_unmap(void *addr, size_t size_bytes);
/* This process; and whether another one is known to be over. Any thread. Since 0.1. */
uint32_t uhmm_host_process(void);
int uhmm_host_process_is_over(uint32_t process);

/*
 * A file that pages are kept in: nobody else's, and gone when all processes that have it
 * are. What was written is in the hands of the kernel. Descriptors are where faults are
 * resolved, also in a forked child when it has its own space.
 *
 * path: of a directory, or a name in one: the file has no name there. Of an empty file,
 * or of a block device that holds a swap area or nothing: it is locked.
 */
struct uhmm_file;

enum uhmm_file_direct {
	UHMM_FILE_BUFFERED = 0, /* by way of the kernel's cache */
	UHMM_FILE_DIRECT = 1,   /* not by way of it, or not at all */
	UHMM_FILE_EITHER = 2,   /* not by way of it where that is possible */
};

/* Where it is direct, all of these are whole blocks, of UHMM_FILE_BLOCK bytes. */
#define UHMM_FILE_BLOCK 4096u

/* As struct iovec. */
struct uhmm_file_part {
	void *buf;
	size_t len;
};

#define UHMM_FILE_PARTS 64u

struct uhmm_file_read {
	const struct uhmm_file_part *part; /* where it goes, one after the other */
	uint32_t nr;                       /* 1..UHMM_FILE_PARTS */
	int32_t result; /* out: 0, or -errno; -EIO: there is less in the file */
	uint64_t offset;
};

/*
 * On an ordinary thread: 0, or -errno and *error set to a static line. 8 files of a
 * process at most. Since 0.1.
 */
int uhmm_host_file_open(const char *path, enum uhmm_file_direct direct,
			struct uhmm_file **file, const char **error);
void uhmm_host_file_close(struct uhmm_file *file);
/* The first byte that may be used, and the one after the last. Since 0.1. */
void uhmm_host_file_bounds(const struct uhmm_file *file, uint64_t *start, uint64_t *end);
/*
 * All parts one after the other. 0; -ENOSPC: there is no room; -EIO, or another -errno.
 * Any thread. Since 0.1.
 */
int uhmm_host_file_write(struct uhmm_file *file, const struct uhmm_file_part *part,
			 uint32_t nr, uint64_t offset);
/*
 * Several reads, up to `depth` of them at a time; each has its result. depth 0: one after
 * the other, with no lock and no trace, as for a frozen batch. Any thread. Since 0.1.
 */
void uhmm_host_file_read(struct uhmm_file *file, struct uhmm_file_read *read, uint32_t nr,
			 uint32_t depth);
/* The bytes take no room any more, if the file system can do that. Since 0.1. */
void uhmm_host_file_punch(struct uhmm_file *file, uint64_t offset, uint64_t len);

/* Hands a batch to a device: what a layer does with the one below it. Since 0.1. */
int uhmm_device_submit(struct uhmm_device *dev, struct uhmm_batch *batch);

/*
 * The packed store: memory for many objects of 1..UHMM_PAGE_SIZE bytes, for devices
 * that keep pages in RAM in fewer bytes than they had. Objects are named by handles
 * that stay the same while the store moves the bytes to keep itself dense.
 * All functions on any thread at once.
 */
struct uhmm_store;

struct uhmm_store_stat {
	uint64_t objects;         /* stored now */
	uint64_t bytes_requested; /* sum of the objects' sizes */
	uint64_t bytes_objects;   /* memory in spans that hold objects */
	uint64_t bytes_metadata;  /* handles, headers, indexes */
	uint64_t bytes_resident;  /* all of it */
};

/* limit_bytes: bytes_resident never exceeds it; 0: no limit. Since 0.1. */
int uhmm_store_create(uint64_t limit_bytes, struct uhmm_store **store);
void uhmm_store_destroy(struct uhmm_store *store);
/*
 * Copies [data, data+len), with a checksum of `check` kept beside it. 0, -ENOSPC,
 * -ENOMEM. Since 0.1.
 */
int uhmm_store_put(struct uhmm_store *store, const void *data, uint32_t len,
		   uint64_t check, uint64_t *handle);
/*
 * Calls fn with the object's bytes where they lie; fn's result is returned. The bytes
 * are valid only inside fn, which must not call the store. Since 0.1.
 */
int uhmm_store_view(struct uhmm_store *store, uint64_t handle,
		    int (*fn)(void *ctx, const void *data, uint32_t len, uint64_t check),
		    void *ctx);
/*
 * The same for a caller that knows that nobody else uses the store until fn returns:
 * leaves no trace in it (see UHMM_BATCH_FROZEN). Since 0.1.
 */
int uhmm_store_peek(struct uhmm_store *store, uint64_t handle,
		    int (*fn)(void *ctx, const void *data, uint32_t len, uint64_t check),
		    void *ctx);
/*
 * An object that is nothing but one 64-bit value: takes a handle and no bytes. 0,
 * -ENOSPC, -ENOMEM. Since 0.1.
 */
int uhmm_store_put_value(struct uhmm_store *store, uint64_t value, uint64_t *handle);
/*
 * 1 and *value set if the handle names such a value, else 0. A value whose memory has
 * been overwritten is noticed if one bit has changed, and else 127 times of 128: who
 * knows what values there can be should look. Since 0.1.
 */
int uhmm_store_get_value(struct uhmm_store *store, uint64_t handle, uint64_t *value);
void uhmm_store_free(struct uhmm_store *store, uint64_t handle);
/*
 * Moves objects together and gives empty memory back, until it was max_bytes or there is
 * no more to be had. Returns bytes given back. Since 0.1.
 */
uint64_t uhmm_store_compact(struct uhmm_store *store, uint64_t max_bytes);
void uhmm_store_stat(struct uhmm_store *store, struct uhmm_store_stat *stat);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
