/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the program fills by one system call.
 *
 * MAP_POPULATE, MADV_POPULATE_*, MAP_LOCKED and mlock() (lock.c) fill as much as they are
 * told, faster than any fault could, and hold the lock that registering a mapping needs.
 * So the fence must be up before: the program's thread says how much is expected, wakes
 * the keeper and waits until that has looked. What is then filled without having been
 * registered is within the budget. mmap() that fills becomes the calls that the kernel
 * makes of it.
 *
 * Small sizes are left alone: they are within the tolerance, and waiting would cost more
 * than filling. The wait is bounded, because nobody knows that the keeper can run. A
 * program that calls the kernel by itself is not seen, nor is what mmap() fills after
 * mlockall(MCL_FUTURE).
 */
#undef _FILE_OFFSET_BITS /* which makes one of mmap() and mmap64() */

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/os/os.h"
#include "lib/types.h"
#include "preload/preload.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/* For one look of the keeper, which may have much to do before it comes to that. */
#define LOOK_NS INT64_C(500000000)

/* .data, as all that is touched late: .bss may become one mapping with the program's. */
static struct {
	int64_t pages;
	uint32_t all; /* calls of mlockall() under way: all that is mapped is expected */
	uint32_t looks; /* futex: times that the keeper looked at what is expected */
} expect __attribute__((section(".data")));

int64_t expect_pages(void)
{
	int64_t pages = __atomic_load_n(&expect.pages, __ATOMIC_SEQ_CST), mapped, rss;

	if (__atomic_load_n(&expect.all, __ATOMIC_SEQ_CST)) {
		rss = os_rss_anon_pages(&mapped);
		if (rss >= 0 && mapped > rss)
			pages += mapped - rss;
	}
	return pages;
}

void expect_looked(void)
{
	__atomic_fetch_add(&expect.looks, 1, __ATOMIC_SEQ_CST);
	os_wake(&expect.looks, INT_MAX);
}

void expect_after_fork(void)
{
	expect.pages = 0;
	expect.all = 0;
}

/* Until the keeper has looked at what is expected. Returns with errno as it was. */
static void wait_for_look(int64_t pages)
{
	int saved = errno, i;
	uint32_t seen;

	/* The first look may have begun before. */
	for (i = 0; i < 2; i++) {
		seen = __atomic_load_n(&expect.looks, __ATOMIC_SEQ_CST);
		if (!preload_ring_keeper(pages))
			break;
		os_wait(&expect.looks, seen, LOOK_NS);
	}
	errno = saved;
}

void expect_begin(size_t len)
{
	int64_t pages = (int64_t)(len / PAGE_SIZE);

	__atomic_fetch_add(&expect.pages, pages, __ATOMIC_SEQ_CST);
	wait_for_look(pages);
}

void expect_end(size_t len)
{
	__atomic_fetch_sub(&expect.pages, (int64_t)(len / PAGE_SIZE), __ATOMIC_SEQ_CST);
}

void expect_begin_all(void)
{
	__atomic_fetch_add(&expect.all, 1, __ATOMIC_SEQ_CST);
	wait_for_look(INT64_MAX);
}

void expect_end_all(void)
{
	__atomic_fetch_sub(&expect.all, 1, __ATOMIC_SEQ_CST);
}

EXPORT int madvise(void *addr, size_t len, int advice)
{
	bool much = len >= EXPECT_MIN &&
		    (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE);
	int r, saved;

	if (much)
		expect_begin(len);
	r = (int)syscall(SYS_madvise, addr, len, advice);
	if (much)
		expect_end(len);
	/*
	 * What was there is gone, and nobody was told. A discard is told of, and leaves
	 * the guards.
	 */
	if (advice == MADV_GUARD_INSTALL && r == 0 && preload_space()) {
		saved = errno;
		syscall(SYS_madvise, addr, len, MADV_DONTNEED);
		errno = saved;
	}
	return r;
}

/* ---- mmap() ----------------------------------------------------------------------- */

/* Much private anonymous memory that can be used. */
static bool is_much(size_t len, int prot, int flags)
{
	return len >= EXPECT_MIN && prot & (PROT_READ | PROT_WRITE) &&
	       (flags & (MAP_ANONYMOUS | MAP_TYPE)) == (MAP_ANONYMOUS | MAP_PRIVATE) &&
	       !(flags & MAP_HUGETLB);
}

/* Where it is not locked: then it is filled in any case. */
static bool fills(int flags)
{
	return (flags & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE;
}

static void *map_plain(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}

/* As with mmap(): it has succeeded, whatever becomes of this. */
static void fill(void *p, size_t len, int prot, bool lock)
{
	int saved = errno;

	expect_begin(len);
	syscall(SYS_madvise, p, len,
		prot & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	if (lock)
		syscall(SYS_mlock, p, len);
	expect_end(len);
	errno = saved;
}

/*
 * Locked when it is filled, page by page, for the fence cannot be put around what is not
 * there yet. If it may not be locked mmap() would have failed, and does: only the kernel
 * knows that before, so what MAP_FIXED replaces is left to it.
 */
static void *map_locked(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	void *p;

	if (flags & MAP_FIXED) {
		expect_begin(len);
		p = map_plain(addr, len, prot, flags, fd, offset);
		expect_end(len);
		return p;
	}
	p = map_plain(addr, len, prot, flags & ~(MAP_LOCKED | MAP_POPULATE), fd, offset);
	if (p == MAP_FAILED)
		return p;
	if (syscall(SYS_mlock2, p, len, MLOCK_ONFAULT)) {
		syscall(SYS_munmap, p, len);
		return map_plain(addr, len, prot, flags, fd, offset);
	}
	fill(p, len, prot, true);
	return p;
}

static void *map(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	int saved = errno;
	void *p;

	if (!is_much(len, prot, flags))
		return map_plain(addr, len, prot, flags, fd, offset);
	if (flags & MAP_LOCKED)
		return map_locked(addr, len, prot, flags, fd, offset);
	if (fills(flags)) {
		p = map_plain(addr, len, prot, flags & ~MAP_POPULATE, fd, offset);
		if (p != MAP_FAILED)
			fill(p, len, prot, false);
		return p;
	}
	p = map_plain(addr, len, prot, flags, fd, offset);
	/* It may be filled at once even so: the fence is not waited for. */
	if (p != MAP_FAILED) {
		preload_ring_worker();
		errno = saved;
	}
	return p;
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return map(addr, len, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
{
	return map(addr, len, prot, flags, fd, offset);
}
