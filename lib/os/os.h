/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operating system, as far as uhmm needs one.
 *
 * Everything the core may do to the world is a function of this file: memory of our
 * own, userfaultfd, looking at mappings, threads, waiting, the clock, random numbers.
 * os_linux*.c makes it true on Linux; tests/sim/os_sim.c simulates it in one thread.
 * Every function here is a scheduling point of the simulation.
 *
 * Results are 0 or a count, or -errno. Addresses of the program are uintptr_t and are
 * never dereferenced by the core; memory of our own is a pointer.
 *
 * Reclaim safety: nothing here allocates from libc, takes a lock of libc, or touches
 * memory that can be migrated. All functions may run in a signal handler.
 */
#ifndef UHMM_OS_H
#define UHMM_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- memory of our own --------------------------------------------------------- */

/*
 * Reserves address space, aligned to 2 MiB, with unmapped pages around it so that the
 * kernel never merges it with a mapping of the program. Not readable until committed.
 * NULL when there is none. Never migrated; not part of a core dump.
 */
void *os_reserve(size_t size_bytes);
void os_release(void *addr, size_t size_bytes);
/*
 * Makes [addr, addr+size) of a reservation readable and writable: zeros, no memory yet.
 */
int os_commit(void *addr, size_t size_bytes);
/*
 * What was committed can be executed as well from now on, or no more. -errno where the
 * system does not have that. Empty blocks of frames only.
 */
int os_set_executable(void *addr, size_t size_bytes, bool executable);
/*
 * The pages read as zeros from now on and take no memory. Not for memory registered
 * with events: that would wait for our own reader.
 */
int os_discard(void *addr, size_t size_bytes);
/*
 * A whole reservation, committed, is in memory now and never written to swap. Until it is
 * released; not in a forked child. 0, or -errno: not permitted (RLIMIT_MEMLOCK).
 */
int os_lock(void *addr, size_t size_bytes);
/* What was committed is zeros in a forked child, however that is made. */
void os_wipe_on_fork(void *addr, size_t size_bytes);
/* After an mlockall() of the program's: then pages are there that were not asked for. */
void os_unlock(void *addr, size_t size_bytes);

/*
 * Writes to the page at addr, ours, without changing it. What the program has marked free
 * (MADV_FREE) and not written to since, the kernel may take away at any time, also after
 * UFFDIO_MOVE has brought it to us; not after this. If it has been taken this is a fault.
 * os_populate() keeps it too, and fails then.
 */
void os_keep(void *addr);
/*
 * The same for who must not wait: -EFAULT at once where there is no page, though the
 * memory is registered and its faults are delivered to a thread.
 */
int os_keep_now(void *addr);
/*
 * [addr, addr+size), whole huge pages of a reservation that are registered nowhere, is
 * empty, readable and writable afterwards, and its first touch brings a huge page where
 * the kernel has one. (Where there were small pages it does not: their table stays.)
 */
int os_prefer_huge(void *addr, size_t size_bytes);

/*
 * For about as long as it takes to change the protection of [addr, addr+size), some
 * tenths of a millisecond for 256 MiB, no thread of the process can change a mapping or
 * discard registered memory; pages can be filled meanwhile. Memory of our own, committed,
 * that nobody uses: it takes page tables. os_hold_prepare() makes those, again in each
 * forked child.
 */
void os_hold_prepare(void *addr, size_t size_bytes);
void os_hold_mappings(void *addr, size_t size_bytes);

/* Zeroed memory that a forked child shares with its parent; NULL when there is none. */
void *os_map_shared(size_t size_bytes);
void os_unmap_shared(void *addr, size_t size_bytes);

/*
 * Memory that the calling thread makes present from now on is of this node, where the
 * mapping has no policy of its own; until os_node_restore(). -EINVAL: no such node;
 * -ENOSYS.
 */
#define OS_NODES 1024
struct os_node_policy {
	int mode;
	unsigned long nodes[OS_NODES / (8 * sizeof(unsigned long))];
};
int os_node_set(int node, struct os_node_policy *saved);
void os_node_restore(const struct os_node_policy *saved);

/* ---- userfaultfd ----------------------------------------------------------------- */

/* flags of os_uffd_open */
#define OS_UFFD_EVENTS 0x1u    /* unmap, remap, remove */
#define OS_UFFD_FORK 0x2u      /* fork; needs CAP_SYS_PTRACE */
#define OS_UFFD_SIGBUS 0x4u    /* faults arrive as SIGBUS in the faulting thread */
#define OS_UFFD_USER_ONLY 0x8u /* faults of the kernel in system calls are not served */

/* A descriptor, or -errno: -EPERM, -ENOSYS, -EINVAL (the kernel lacks a feature). */
int os_uffd_open(unsigned flags);
void os_uffd_close(int uffd);

/*
 * For missing pages. Idempotent. -EBUSY: somebody else's. -EINVAL: cannot be registered.
 */
int os_uffd_register(int uffd, uintptr_t start, size_t len);
/* Wakes who waits there. */
int os_uffd_unregister(int uffd, uintptr_t start, size_t len);

/*
 * Moves pages to an empty destination that is registered on uffd. The bytes moved,
 * possibly fewer than asked (ask again for the rest to learn why), or, nothing moved:
 * -EAGAIN  an event has not been read yet: give way to the reader
 * -EBUSY   the page is pinned, or shared by fork
 * -ENOENT  a hole
 * -EEXIST  the destination is not empty, nor is the source (if that is, it has moved)
 * -EINVAL  not both writable, one of them executable or locked
 * Nobody else may fill the source or empty the destination meanwhile.
 */
#define OS_MOVE_NOWAKE 0x1u
#define OS_MOVE_HOLES 0x2u /* of our own memory: -ENOENT is no surprise */
int64_t os_uffd_move(int uffd, uintptr_t dst, uintptr_t src, size_t len, unsigned flags);
/*
 * Fills pages from our memory, wakes who waits for them. Bytes, or -EAGAIN -EEXIST
 * -ENOENT.
 */
int64_t os_uffd_copy(int uffd, uintptr_t dst, const void *src, size_t len);
/* Maps the zero page. As above. */
int64_t os_uffd_zero(int uffd, uintptr_t dst, size_t len);
/*
 * Could pages be filled there, is [addr, addr+len) of one mapping? Changes nothing. 0;
 * -ENOENT: no mapping, or not registered; -EAGAIN: as above; -EBADF, -ENOTTY: no
 * userfaultfd.
 */
int os_uffd_probe(int uffd, uintptr_t addr, size_t len);
int os_uffd_wake(int uffd, uintptr_t start, size_t len);
/* From now on whoever touches the pages gets SIGBUS. */
int os_uffd_poison(int uffd, uintptr_t start, size_t len);

enum os_event_kind {
	OS_EVENT_FAULT,  /* addr, write, tid */
	OS_EVENT_FORK,   /* child: its uffd */
	OS_EVENT_REMAP,  /* from, to, len */
	OS_EVENT_REMOVE, /* from..end: contents discarded, mapping stays */
	OS_EVENT_UNMAP,  /* from..end */
};

struct os_event {
	enum os_event_kind kind;
	bool write;
	uint32_t tid;
	int child;
	uintptr_t addr; /* FAULT: page aligned */
	uintptr_t from, to, end;
	size_t len;
};

/* Never blocks. Number of events, 0 when there is none, or -errno: the uffd is dead. */
int os_uffd_read(int uffd, struct os_event *events, int nr);

/*
 * Waits until one of the descriptors can be read. A mask of those that can, 0 after
 * the timeout or os_kick(), -errno. timeout_ns < 0: for ever.
 */
int os_wait_fds(const int *fds, int nr, int64_t timeout_ns);
/* A descriptor that os_wait_fds() can wait on, and that os_kick() makes readable once. */
int os_kicker_open(void);
void os_kick(int kicker);
void os_kick_clear(int kicker);
void os_close(int fd);

/* ---- files that pages are kept in ------------------------------------------------- */

struct uhmm_file_part; /* <uhmm/device.h> has them, and what is meant by them */
struct uhmm_file_read;

struct os_file {
	int fd; /* -1: there is none */
	bool direct;
	uint64_t start, end; /* what may be used of it */
	uint64_t dev, ino;   /* whose the descriptor is to be */
};

/* Most of them that a process has open. */
#define OS_FILES_MAX 8u
#define OS_READS_MAX 64u

/* direct: enum uhmm_file_direct. -errno: *why is a static line. */
int os_file_open(const char *path, int direct, struct os_file *file, const char **why);
void os_file_close(struct os_file *file);
/* -ENOSPC, -EIO: also where the descriptor is another file's by now. */
int os_file_write(const struct os_file *file, const struct uhmm_file_part *part,
		  unsigned nr, uint64_t offset);
/* depth 0: one after the other, without a lock. At most OS_READS_MAX. */
void os_file_read(const struct os_file *file, struct uhmm_file_read *read, unsigned nr,
		  unsigned depth);
void os_file_punch(const struct os_file *file, uint64_t offset, uint64_t len);
/*
 * In a forked child: what reads several at a time is made anew. inherited: the child has
 * a copy of the table of descriptors.
 */
void os_files_after_fork(bool inherited);
/* The same, and it is not made anew before there is a file. */
void os_files_forget(bool inherited);

/* Is a process over? False also if somebody has its number by now. */
bool os_is_over(uint32_t pid);

/* ---- the program's memory ---------------------------------------------------------- */

enum os_vma_kind {
	OS_VMA_ANON,  /* private anonymous: what can be migrated */
	OS_VMA_HEAP,  /* the same, grown by brk */
	OS_VMA_STACK, /* the initial thread's */
	OS_VMA_FILE,
	OS_VMA_SHARED,
	OS_VMA_SPECIAL, /* vdso and the like */
};

struct os_vma {
	uintptr_t start, end;
	enum os_vma_kind kind;
	bool readable, writable, executable;
	unsigned page_shift; /* of its pages: 12, or more of hugetlb; 12 if not known */
};

/*
 * The first mapping that ends above addr, or the first such that is writable; what was
 * reserved with os_reserve() is OS_VMA_SPECIAL. 0, -ENOENT after the last one.
 */
int os_vma_next(uintptr_t addr, bool writable_only, struct os_vma *vma);

/* Contiguous pages of the program that take memory. */
struct os_extent {
	uintptr_t start;
	uint32_t nr_pages;
	bool huge; /* whole huge pages, mapped as such */
};

/*
 * Finds present anonymous pages in [start, end), at most max_pages of them; the cost is
 * proportional to what is present. Holes that were read, and have the zero page, take no
 * memory and are not found; OS_SCAN_ZEROS finds nothing else. Returns how many extents
 * were written; *walked is how far the search came.
 */
enum os_scan_what { OS_SCAN_MEMORY, OS_SCAN_ZEROS };
int os_scan(uintptr_t start, uintptr_t end, enum os_scan_what what, uint32_t max_pages,
	    struct os_extent *extents, int nr, uintptr_t *walked);

/* What the page tables say of a page; 0: there is none. */
#define OS_PAGE_PRESENT 0x1u
#define OS_PAGE_ZERO 0x2u      /* the kernel's page of zeros, small or huge */
#define OS_PAGE_FILE 0x4u      /* of a file, or of shared memory */
#define OS_PAGE_EXCLUSIVE 0x8u /* nobody else maps it */
#define OS_PAGE_HUGE 0x10u     /* mapped by an entry for a huge page */

#define OS_LOOK_PAGES 512
/* That of nr pages, at most OS_LOOK_PAGES, each looked at for itself. 0, or -errno. */
int os_look(uintptr_t start, unsigned nr, uint8_t *pages);

/*
 * Bytes from start on, at most len, that have no page and nothing that the kernel keeps
 * in the place of one, as the guards of MADV_GUARD_INSTALL are; 0 if it is not known.
 */
size_t os_empty(uintptr_t start, size_t len);

/*
 * Resident anonymous memory of the process, our own included, in pages; *mapped_pages
 * (may be NULL) is all its address space, which changes when mappings come or grow.
 * -errno.
 */
int64_t os_rss_anon_pages(int64_t *mapped_pages);
/*
 * The same with each page that other processes map too counted by its share. Costs a walk
 * over all resident pages.
 */
int64_t os_pss_anon_pages(void);
/* Faults of this process so far that needed no I/O. Cheap. */
uint64_t os_minor_faults(void);

#define OS_MAPPED_ONCE_PAGES 512
/*
 * Bit i % 64 of which[i / 64]: the i-th page from start on, of at most
 * OS_MAPPED_ONCE_PAGES, is in memory and no other process has it. What fork() shared once
 * may have one owner again.
 */
void os_mapped_once(uintptr_t start, unsigned nr, uint64_t *which);
/*
 * Makes each page one that UFFDIO_MOVE takes unless it is pinned: as if the program wrote
 * to it without changing it, which breaks sharing after fork.
 */
int os_make_exclusive(uintptr_t start, size_t len);
/*
 * mprotect(): [start, start+len) of a mapping may be read and written, as far as it can
 * be executed too; or has its own access again. -errno.
 */
int os_set_writable(uintptr_t start, size_t len, const struct os_vma *vma, bool writable);
/*
 * As if the program touched each page: with what comes of it, and as long as it takes.
 * 0, or -errno: some were touched, if any.
 */
int os_populate(uintptr_t start, size_t len, bool write);
/*
 * Calls fn with the memory the kernel itself writes when a thread ends: not to be
 * migrated.
 */
void os_for_each_thread_area(void (*fn)(void *ctx, uintptr_t addr, size_t len),
			     void *ctx);

/*
 * Could the program have a huge page at addr, as the system, the process and the mapping
 * are set? Slow: walks the resident pages of all mappings up to that one.
 */
bool os_huge_allowed(uintptr_t addr);

/*
 * Calls fn for each mapping of this process (pid 0) that a forked child of it finds empty
 * (MADV_WIPEONFORK). Of a process that was just forked, whose pages are filled by us and
 * not yet: for each that it has found empty, which has no pages. Slow: walks all resident
 * pages. -errno: it is not known of all.
 */
int os_for_each_wiped(uint32_t pid, void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
		      void *ctx);

/*
 * Calls fn for each mapping of a process (0: of this one) that is registered with some
 * userfaultfd. Slow: walks all resident pages. -errno: not for all.
 */
int os_for_each_registered(uint32_t pid,
			   void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
			   void *ctx);

/* Opens what looking takes; in a forked child it is opened again. Any number of times. */
int os_attach(void);

/* ---- threads, waiting, time ------------------------------------------------------- */

struct os_thread {
	uint32_t tid; /* becomes 0 when the thread has ended */
	uint32_t begun;
	void *impl;
	size_t impl_size;
};

/*
 * Starts a thread that blocks all signals. The struct stays where it is until joined. The
 * name begins with "uhmm-": os_threads_ended() knows ours by that.
 */
int os_thread_start(struct os_thread *thread, void (*fn)(void *arg), void *arg,
		    const char *name);
void os_thread_join(struct os_thread *thread);
/*
 * Returns when a hidden thread has ended, and its table of descriptors with it;
 * os_thread_join() is to follow, which unmaps its stack.
 */
void os_thread_wait(struct os_thread *thread);
/*
 * Returns when a thread that was started runs our code. Until then it is in the code of
 * libc, or of a sanitizer's runtime, and may hold a lock of an allocator there that takes
 * no heed of fork(): a child that is made meanwhile would wait for that lock for ever.
 */
void os_thread_await(struct os_thread *thread);
/* In a forked child: the thread does not exist here. */
void os_thread_forget(struct os_thread *thread);
/* Called on a thread of ours: an empty file table for it and the threads it starts. */
int os_private_files(void);
/*
 * Blocks every signal but SIGBUS, by which faults arrive, for the calling thread; what
 * was blocked before is kept in *saved.
 */
void os_block_signals(uint64_t *saved);
void os_restore_signals(const uint64_t *saved);
/* A thread of ours may fault where faults arrive by SIGBUS. */
void os_accept_faults(void);
uint32_t os_tid(void);
/* Tells threads apart; in a child it is that of the thread that was copied into it. */
uintptr_t os_thread_copied(void);
/*
 * Did this thread of ours make that process, which has one thread? True also where the
 * system does not say.
 */
bool os_is_child_of(uint32_t maker, uint32_t child);
/*
 * By how many bytes the mremap() that a thread of ours is asleep in makes a mapping
 * longer. 0: it is asleep elsewhere, or there is none; -EAGAIN: it is not asleep; or
 * another -errno: the system does not say.
 */
int64_t os_thread_grows(uint32_t tid);
/*
 * The process that `maker` (0: this one) has made last, of those that have of
 * OS_NAME_PAGES pages from addr on those of `name`, and no others but of `inherited`: its
 * pid. 0: there is none, or not yet. -errno: of some that is not known.
 */
#define OS_NAME_PAGES 64u
int64_t os_find_child(uint32_t maker, uintptr_t addr, uint64_t name, uint64_t inherited);
uint32_t os_pid(void);
uint32_t os_parent_pid(void); /* another one when the parent has ended */
int os_nr_cpus(void);
/*
 * The CPU this thread runs on, or any number that threads running at the same time
 * seldom share: a hint for choosing a shard. A few nanoseconds, no system call.
 */
uint32_t os_cpu(void);
void os_yield(void);

/*
 * Where a thread of ours runs, and how it stands against others: what os_place_get()
 * finds of the calling thread, to go back to.
 */
#define OS_PLACE_CPUS 8192
struct os_place {
	uint64_t cpus[OS_PLACE_CPUS / 64]; /* bits */
	uint32_t policy;
	int32_t nice;
	uint64_t slice_ns;
	int32_t filters; /* of system calls: if there are more, nothing is done */
};
/* -EOPNOTSUPP: our threads have the program's descriptors. */
int os_place_get(struct os_place *place);
/*
 * The calling thread runs on that CPU only, and there only when nobody else wants to run:
 * whoever wakes up goes ahead of it at once, and the CPU counts as idle. again: it was
 * lowered, elsewhere. -errno: it is where it was, or anywhere; -EPERM: it may not be
 * raised, or real-time threads may have a CPU for ever.
 */
int os_lower(const struct os_place *place, uint32_t cpu, bool again);
/* A thread of ours runs again as it did before it was lowered. -EPERM: it may not. */
int os_raise(const struct os_place *place, uint32_t tid);
/* 0: threads of ours that are lowered may be raised again. Tried on the calling one. */
int os_may_raise(const struct os_place *place);
/* A thread of ours runs on that CPU only; -1: on all of `place`. */
int os_gather(const struct os_place *place, uint32_t tid, int cpu);
/*
 * The CPU that a thread of this process runs on, or ran on last. -errno; -EPERM: it is of
 * a real-time class, and whoever shares a CPU with it may have to wait for long.
 */
int os_thread_cpu(uint32_t tid);

/*
 * Sleeps while *word == expected, until os_wake() or the timeout (< 0: for ever).
 * 0 woken, -EAGAIN the word differs, -ETIMEDOUT. May wake for no reason.
 */
int os_wait(uint32_t *word, uint32_t expected, int64_t timeout_ns);
void os_wake(uint32_t *word, int nr);

uint64_t os_now_ns(void); /* monotonic */
uint64_t os_random(void);
/* Bytes that nobody can guess: for keys. 0, or -errno, and buf holds anything. */
int os_random_bytes(void *buf, size_t len);

/*
 * Has the program just one thread, of this process, at this moment? False also where the
 * system does not say.
 */
bool os_is_single_threaded(void);
/*
 * For a thread of ours: have all threads of the program ended? Without us the process
 * would have ended with the last of them, with *code as its status.
 */
bool os_threads_ended(int *code);
/* Ends the process, without a word. */
void os_exit(int code) __attribute__((noreturn));
/* Ends the process at once: it must not run on without us. */
void os_die(const char *message) __attribute__((noreturn));

/* ---- handing a child its userfaultfd after fork ----------------------------------- */

/*
 * The reader of the parent receives the child's uffd; the child asks for it by the name
 * of a listening socket. See lib/fork.c.
 */
struct os_handover_name {
	char bytes[32];
	uint32_t len;
};
int os_handover_listen(struct os_handover_name *name); /* a descriptor */
/* To the one who asks: the uffd, and whatever else it is to have. */
int os_handover_send(int listener, const int *fds, unsigned nr);
/* 0, or -errno: it has not received as many. */
int os_handover_receive(const struct os_handover_name *name, int *fds, unsigned nr);
#define OS_HANDOVER_MAX (1 + OS_FILES_MAX)
/* A pipe: [0] can be read once every copy of [1] is closed. */
int os_lifeline(int fds[2]);

/*
 * In memory shared with other processes: whether one of them lives. A life is had by a
 * thread, and is free again when that thread ends, however that comes about, or becomes
 * another program. Not for hidden threads.
 */
struct os_life {
	uint64_t impl[8];
};
void os_life_init(struct os_life *life);
void os_life_begin(struct os_life *life); /* waits while somebody else has it */
bool os_life_try(struct os_life *life);   /* the same if nobody has it */
void os_life_end(struct os_life *life);   /* by the thread that has it */

#endif
