/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program does to mappings whose pages are migrated behaves as without uhmm:
 * munmap, mremap, madvise, mprotect; and system calls on their bytes.
 */
#include "api.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define NR 512u

static struct uhmm_space *space;
static struct uhmm_device *dev;

/* NR pages with key, all of them on a device. */
static char *stored(uint32_t delivery, uint64_t key)
{
	char *p = api_map(NR);

	if (!space) {
		space = api_space(delivery, 0);
		dev = api_device(space, "lz4");
	}
	api_fill(p, NR, key);
	api_move(space, p, NR, dev, UHMM_MOVED);
	return p;
}

static void check_zeros(const char *p, size_t nr)
{
	size_t i;

	for (i = 0; i < nr * PAGE; i++)
		CHECK(p[i] == 0, "page %zu byte %zu", i / PAGE, i % PAGE);
}

API_TEST(pages_that_are_unmapped_leave_the_device)
{
	char *p = stored(delivery, 1);
	void *again;

	CHECK_EQ(munmap(p + 128 * PAGE, 256 * PAGE), 0);
	CHECK_SOON(api_stats(space).now_device == NR - 256);
	CHECK_SOON(api_stats(space).dropped == 256);
	/* What is mapped there next is new. */
	again = mmap(p + 128 * PAGE, 256 * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK_EQ(again, (void *)(p + 128 * PAGE));
	check_zeros(p + 128 * PAGE, 256);
	api_fill(p + 128 * PAGE, 256, 9000);
	api_check(p, 128, 1);
	api_check(p + 384 * PAGE, 128, 385);
	api_move(space, p + 128 * PAGE, 256, dev, UHMM_MOVED);
	/* Mapped over, without munmap(). */
	CHECK(mmap(p, NR * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	check_zeros(p, NR);
	CHECK_SOON(api_stats(space).now_device == 0);
	api_destroy(space);
}

API_TEST(pages_that_are_discarded_read_as_zeros)
{
	char *p = stored(delivery, 1);

	CHECK_EQ(madvise(p + 10 * PAGE, 100 * PAGE, MADV_DONTNEED), 0);
	check_zeros(p + 10 * PAGE, 100);
	api_check(p, 10, 1);
	api_check(p + 110 * PAGE, NR - 110, 111);
	CHECK_SOON(api_stats(space).dropped == 100);
	api_fill(p, NR, 7000);
	api_move(space, p, NR, dev, UHMM_MOVED);
	CHECK_EQ(madvise(p, NR * PAGE, MADV_DONTNEED), 0);
	check_zeros(p, NR);
	CHECK_SOON(api_stats(space).now_device == 0);
	api_destroy(space);
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

static void check_guard(char *p)
{
	int out[2];

	CHECK_EQ(pipe(out), 0);
	errno = 0;
	CHECK(write(out[1], p, 1) == -1 && errno == EFAULT);
	close(out[0]);
	close(out[1]);
}

/* UFFDIO_COPY would take a guard away. */
API_TEST(guards_stay_where_pages_around_them_are_filled)
{
	char *p = stored(delivery, 1), *guard = p + 20 * PAGE;
	uint8_t results[NR];
	size_t moved;

	if (madvise(guard, PAGE, MADV_GUARD_INSTALL))
		SKIP("no guards before Linux 6.13");
	CHECK_EQ(madvise(guard, PAGE, MADV_DONTNEED), 0);
	/* Loaded ahead of who reads in sequence; then filled for who writes. */
	api_check(p, 20, 1);
	api_check(guard + PAGE, NR - 21, 22);
	check_guard(guard);
	CHECK_EQ(madvise(p, NR * PAGE, MADV_DONTNEED), 0);
	api_fill(p, 20, 500);
	api_fill(guard + PAGE, NR - 21, 521);
	check_guard(guard);
	CHECK_EQ(uhmm_migrate(space, p, NR * PAGE, dev, results, &moved), 0);
	CHECK_EQ(moved, NR - 1);
	CHECK_EQ(results[20], UHMM_UNMOVABLE);
	check_guard(guard);
	CHECK_EQ(uhmm_migrate(space, p, NR * PAGE, NULL, results, &moved), 0);
	CHECK_EQ(moved, NR - 1);
	check_guard(guard);
	CHECK_EQ(madvise(guard, PAGE, MADV_GUARD_REMOVE), 0);
	check_zeros(guard, 1);
	api_check(p, 20, 500);
	api_check(guard + PAGE, NR - 21, 521);
	api_destroy(space);
}

/* The kernel fills what is new before it tells of the move; until then we may not. */
TEST(what_is_locked_grows_while_it_moves)
{
	char *p = stored(UHMM_DELIVERY_THREAD, 1), *there = api_map(5 * NR), *q;

	/* Sanitizers let mlock() do nothing. */
	if (syscall(SYS_mlock, p, NR * PAGE))
		SKIP("so much may not be locked here");
	q = mremap(p, NR * PAGE, 2 * NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   there + 64 * PAGE);
	CHECK_EQ((void *)q, (void *)(there + 64 * PAGE));
	api_check(q, NR, 1);
	CHECK_EQ(api_resident(q + NR * PAGE, NR), NR);
	check_zeros(q + NR * PAGE, NR);
	/* It is one mapping still: else it could not be moved. */
	p = mremap(q, 2 * NR * PAGE, 2 * NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   there + 64 * PAGE + 2 * NR * PAGE);
	CHECK_EQ((void *)p, (void *)(q + 2 * NR * PAGE));
	api_fill(p + NR * PAGE, NR, NR + 1);
	CHECK_EQ(syscall(SYS_munlock, p, 2 * NR * PAGE), 0);
	api_move(space, p, 2 * NR, dev, UHMM_MOVED);
	api_check(p, 2 * NR, 1);
	api_destroy(space);
}

API_TEST(pages_move_with_mremap)
{
	char *p = stored(delivery, 1), *there = api_map(2 * NR), *q;

	q = mremap(p, NR * PAGE, NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   there + 64 * PAGE);
	CHECK_EQ((void *)q, (void *)(there + 64 * PAGE));
	CHECK_EQ(api_resident(q, NR), 0);
	api_check(q, NR / 2, 1);
	api_move(space, q, NR / 2, dev, UHMM_MOVED);
	/* Smaller, then larger: what was cut off is new. */
	CHECK_EQ((void *)mremap(q, NR * PAGE, NR / 2 * PAGE, 0), (void *)q);
	q = mremap(q, NR / 2 * PAGE, 2 * NR * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED);
	api_check(q, NR / 2, 1);
	check_zeros(q + NR / 2 * PAGE, 2 * NR - NR / 2);
	CHECK_SOON(api_stats(space).now_device == 0);
	/* The old place is not there any more; the pages of the new one go out again. */
	api_fill(q, 2 * NR, 4000);
	api_move(space, q, 2 * NR, dev, UHMM_MOVED);
	api_check(q, 2 * NR, 4000);
	api_destroy(space);
}

/*
 * What was cut off grows again, of which nobody is told, and is moved: it is empty. On
 * one processor no reader gets between the three.
 */
API_TEST(what_grew_again_is_moved_empty)
{
	cpu_set_t one, all;
	unsigned rounds;
	char *p, *there;

	CHECK_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
	for (rounds = 0; !CPU_ISSET(rounds, &all); rounds++)
		;
	CPU_ZERO(&one);
	CPU_SET(rounds, &one);
	CHECK_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
	for (rounds = 0; rounds < 10; rounds++) {
		p = stored(delivery, 1);
		there = api_map(NR);
		CHECK_EQ((void *)mremap(p, NR * PAGE, PAGE, 0), (void *)p);
		CHECK_EQ((void *)mremap(p, PAGE, NR * PAGE, 0), (void *)p);
		CHECK_EQ((void *)mremap(p + PAGE, (NR - 1) * PAGE, (NR - 1) * PAGE,
					MREMAP_MAYMOVE | MREMAP_FIXED, there),
			 (void *)there);
		check_zeros(there, NR - 1);
		api_check(p, 1, 1);
	}
	api_destroy(space);
}

API_TEST(mremap_that_leaves_the_old_mapping_leaves_it_empty)
{
	char *p = stored(delivery, 1), *q;

	/* libc leaves the fifth argument to chance. */
	q = (char *)syscall(SYS_mremap, p, NR * PAGE, NR * PAGE,
			    MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	if (q == MAP_FAILED)
		SKIP("MREMAP_DONTUNMAP: %s", strerror(errno));
	api_check(q, NR, 1);
	check_zeros(p, NR);
	api_destroy(space);
}

static sigjmp_buf on_fault;

static void caught(int signo)
{
	siglongjmp(on_fault, signo);
}

/* The signal that a write to p raises, 0: none. */
static int write_signal(char *p)
{
	struct sigaction sa = { .sa_handler = caught }, before;
	int signo;

	sigaction(SIGSEGV, &sa, &before);
	signo = sigsetjmp(on_fault, 1);
	if (!signo)
		*(volatile char *)p = *(volatile char *)p;
	sigaction(SIGSEGV, &before, NULL);
	return signo;
}

API_TEST(protection_holds_for_migrated_pages)
{
	char *p = stored(delivery, 1);

	CHECK_EQ(mprotect(p, 64 * PAGE, PROT_READ), 0);
	api_check(p, 32, 1);
	CHECK_EQ(write_signal(p + 5 * PAGE), SIGSEGV);
	/* Not even loaded yet. */
	CHECK_EQ(write_signal(p + 50 * PAGE), SIGSEGV);
	CHECK_EQ(mprotect(p + 64 * PAGE, 64 * PAGE, PROT_NONE), 0);
	CHECK_EQ(write_signal(p + 70 * PAGE), SIGSEGV);
	CHECK_EQ(api_resident(p + 64 * PAGE, 64), 0);
	/* Back while they may not be touched. */
	api_move(space, p + 96 * PAGE, 32, NULL, UHMM_MOVED);
	CHECK_EQ(mprotect(p, 128 * PAGE, PROT_READ | PROT_WRITE), 0);
	CHECK_EQ(write_signal(p + 5 * PAGE), 0);
	api_check(p, NR, 1);
	api_destroy(space);
}

/* ---- system calls ------------------------------------------------------------------ */

static int scratch(int flags)
{
	char name[] = "/var/tmp/uhmm-api-XXXXXX";
	int fd = mkostemp(name, flags | O_CLOEXEC);

	if (fd < 0 && errno == EINVAL)
		SKIP("O_DIRECT does not work in /var/tmp");
	CHECK(fd >= 0);
	unlink(name);
	return fd;
}

/* Writes NR pages of p to fd, reads them into q, in pieces of some pages. */
static void through_file(int fd, char *p, char *q)
{
	size_t at, len = 8 * PAGE;

	for (at = 0; at < NR * PAGE; at += len)
		CHECK_EQ(pwrite(fd, p + at, len, (off_t)at), len);
	for (at = 0; at < NR * PAGE; at += len)
		CHECK_EQ(pread(fd, q + at, len, (off_t)at), len);
}

TEST(system_calls_work_on_migrated_pages)
{
	char *p = stored(UHMM_DELIVERY_THREAD, 1);
	char *q = stored(UHMM_DELIVERY_THREAD, 9000);
	int fds[2], fd = scratch(0);
	size_t at;

	through_file(fd, p, q);
	api_check(q, NR, 1);
	close(fd);
	api_move(space, p, NR, dev, UHMM_MOVED);
	api_move(space, q, NR, dev, UHMM_MOVED);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	for (at = 0; at < NR * PAGE; at += PAGE) {
		CHECK_EQ(write(fds[0], p + at, PAGE), PAGE);
		CHECK_EQ(recv(fds[1], q + at, PAGE, MSG_WAITALL), PAGE);
	}
	api_check(q, NR, 1);
	api_check(p, NR, 1);
	api_destroy(space);
}

TEST(direct_io_works_on_migrated_pages)
{
	char *p = stored(UHMM_DELIVERY_THREAD, 1);
	char *q = stored(UHMM_DELIVERY_THREAD, 9000);
	int fd = scratch(O_DIRECT);

	through_file(fd, p, q);
	api_check(q, NR, 1);
	api_check(p, NR, 1);
	api_destroy(space);
}

TEST(inline_system_calls_work_on_pinned_pages)
{
	char *p = stored(UHMM_DELIVERY_INLINE, 1), *q = api_map(NR);
	int fd = scratch(0);

	/* As the header says: not without a pin. */
	CHECK_EQ(pwrite(fd, p, PAGE, 0), -1);
	CHECK_EQ(errno, EFAULT);
	/* q has one page that was migrated, so it is registered; the rest are holes. */
	api_fill(q, 1, 3);
	api_move(space, q, 1, dev, UHMM_MOVED);
	CHECK_EQ(uhmm_advise(space, p, NR * PAGE, UHMM_ADVISE_PIN), 0);
	CHECK_EQ(uhmm_advise(space, q, NR * PAGE, UHMM_ADVISE_PIN), 0);
	through_file(fd, p, q);
	api_check(q, NR, 1);
	api_move(space, q, NR, dev, UHMM_PINNED);
	CHECK_EQ(uhmm_advise(space, q, NR * PAGE, UHMM_ADVISE_UNPIN), 0);
	api_move(space, q, NR, dev, UHMM_MOVED);
	api_check(q, NR, 1);
	CHECK_EQ(uhmm_advise(space, p, NR * PAGE, UHMM_ADVISE_UNPIN), 0);
	api_destroy(space);
}
