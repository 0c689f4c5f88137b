/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the program fills by one system call.
 *
 * MAP_POPULATE and MADV_POPULATE_* fill as much as they are told, faster than any fault
 * could, and hold the lock that registering a mapping needs. So the fence must be up
 * before: the program's thread says how much is expected, wakes the keeper and waits
 * until that has looked. What is then filled without having been registered is within the
 * budget. mmap() with MAP_POPULATE becomes the two calls that the kernel makes of it.
 *
 * Small sizes are left alone: they are within the tolerance, and waiting would cost more
 * than filling. The wait is bounded, because nobody knows that the keeper can run. A
 * program that calls the kernel by itself is not seen.
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

#define EXPECT_MIN ((size_t)4 << 20)
/* For one look of the keeper, which may have much to do before it comes to that. */
#define LOOK_NS INT64_C(500000000)

/* .data, as all that is touched late: .bss may become one mapping with the program's. */
static struct {
	int64_t pages;
	uint32_t looks; /* futex: times that the keeper looked at what is expected */
} expect __attribute__((section(".data")));

int64_t expect_pages(void)
{
	return __atomic_load_n(&expect.pages, __ATOMIC_SEQ_CST);
}

void expect_looked(void)
{
	__atomic_fetch_add(&expect.looks, 1, __ATOMIC_SEQ_CST);
	os_wake(&expect.looks, INT_MAX);
}

void expect_after_fork(void)
{
	expect.pages = 0;
}

/* Returns with errno as it was. */
static void begin(size_t len)
{
	int saved = errno, i;
	uint32_t seen;

	__atomic_fetch_add(&expect.pages, (int64_t)(len / PAGE_SIZE), __ATOMIC_SEQ_CST);
	/* The first look may have begun before. */
	for (i = 0; i < 2; i++) {
		seen = __atomic_load_n(&expect.looks, __ATOMIC_SEQ_CST);
		if (!preload_ring_keeper((int64_t)(len / PAGE_SIZE)))
			break;
		os_wait(&expect.looks, seen, LOOK_NS);
	}
	errno = saved;
}

static void end(size_t len)
{
	__atomic_fetch_sub(&expect.pages, (int64_t)(len / PAGE_SIZE), __ATOMIC_SEQ_CST);
}

EXPORT int madvise(void *addr, size_t len, int advice)
{
	bool much = len >= EXPECT_MIN && (advice == MADV_POPULATE_READ ||
					  advice == MADV_POPULATE_WRITE);
	int r;

	if (much)
		begin(len);
	r = (int)syscall(SYS_madvise, addr, len, advice);
	if (much)
		end(len);
	return r;
}

/* Much private anonymous memory that can be used, and is not locked. */
static bool is_much(size_t len, int prot, int flags)
{
	return len >= EXPECT_MIN && prot & (PROT_READ | PROT_WRITE) &&
	       (flags & (MAP_ANONYMOUS | MAP_TYPE)) == (MAP_ANONYMOUS | MAP_PRIVATE) &&
	       !(flags & (MAP_LOCKED | MAP_HUGETLB | MAP_NONBLOCK));
}

static void *map(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	bool much = is_much(len, prot, flags), fill = much && flags & MAP_POPULATE;
	int saved = errno;
	void *p;

	if (fill)
		flags &= ~MAP_POPULATE;
	p = (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
	if (!much || p == MAP_FAILED)
		return p;
	if (!fill) {
		/* It may be filled at once even so: the fence is not waited for. */
		preload_ring_worker();
		errno = saved;
		return p;
	}
	begin(len);
	/* As with mmap(): it has succeeded, whatever becomes of this. */
	syscall(SYS_madvise, p, len,
		prot & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	end(len);
	errno = saved;
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
