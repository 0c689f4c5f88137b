/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that programs make often, by way of libc: where system calls are guarded these
 * need no SIGSYS. What they touch is held as for any other, then the call is made from
 * here.
 *
 * A handler that comes in between may make calls of its own, which hold other memory. So
 * each hold has a number, and the call is made only if it is still the last; a handler
 * that interrupts between that and the call, or a call that begins anew, goes back to the
 * beginning (guard_x86_64.c).
 *
 * Where anything is unusual libc's function is called, whose call is guarded as all are:
 * the thread shares its thread-local storage, where its task is remembered; much is to
 * be transferred; EFAULT. And where the user preloads another library, or the program has
 * a sanitizer's, whose functions these may be, too, they come next.
 *
 * In libc these calls are where a thread can be cancelled, which it sees to there. So
 * from the first pthread_cancel() on all go that way. Who is on its way to a call of ours
 * then, or waits in one, is interrupted, and comes to libc's.
 */
#undef _FILE_OFFSET_BITS /* which makes one of pread() and pread64() */

#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/os/os.h"
#include "preload/guard.h"
#include "preload/guard_arch.h"
#include "preload/hot.h"

#undef fread_unlocked /* a macro of libc's */

/* libc's, by a name that nobody defines anew. */
ssize_t __read(int fd, void *buf, size_t len);

/* Of the library that comes after ours: as a rule libc. */
static struct {
	__typeof__(read) *read;
	__typeof__(write) *write;
	__typeof__(pread64) *pread64;
	__typeof__(pwrite64) *pwrite64;
	__typeof__(readv) *readv;
	__typeof__(writev) *writev;
	__typeof__(preadv64) *preadv64;
	__typeof__(pwritev64) *pwritev64;
	__typeof__(recv) *recv;
	__typeof__(send) *send;
	__typeof__(recvfrom) *recvfrom;
	__typeof__(sendto) *sendto;
	__typeof__(recvmsg) *recvmsg;
	__typeof__(sendmsg) *sendmsg;
	__typeof__(poll) *poll;
	__typeof__(fread) *fread;
	__typeof__(fread_unlocked) *fread_unlocked;
	__typeof__(epoll_wait) *epoll_wait;
	__typeof__(pthread_cancel) *pthread_cancel;
} next __attribute__((section(".data")));

static bool chained __attribute__((section(".data"))); /* that is not libc */
static bool cancels __attribute__((section(".data"))); /* atomic */

void hot_bind(void)
{
	NEXT(read);
	NEXT(write);
	NEXT(pread64);
	NEXT(pwrite64);
	NEXT(readv);
	NEXT(writev);
	NEXT(preadv64);
	NEXT(pwritev64);
	NEXT(recv);
	NEXT(send);
	NEXT(recvfrom);
	NEXT(sendto);
	NEXT(recvmsg);
	NEXT(sendmsg);
	NEXT(poll);
	NEXT(fread);
	NEXT(fread_unlocked);
	NEXT(epoll_wait);
	NEXT(pthread_cancel);
	/* Nor a sanitizer's, which all have a read(). */
	chained = preload_has_company() || next.read != __read;
	hot_files_bind();
	hot_fortified_bind();
}

/* ---- the calls ------------------------------------------------------------------- */

/* This thread's, or NULL: not known yet. */
static __thread struct guard_task *mine __attribute__((tls_model("initial-exec")));

static struct guard_task *find_mine(void)
{
	mine = task_find(os_tid());
	return mine;
}

static bool may_be_hot(size_t len)
{
	return preload_guarded && !chained && len <= GUARD_WINDOW &&
	       !guard_tls_is_shared();
}

/* One piece of memory that a call touches; ALL_NAMED: the table knows what it touches. */
struct touched {
	uintptr_t addr;
	size_t len;
};
#define ALL_NAMED ((struct touched){ 0, SIZE_MAX })

/*
 * One attempt, of which hot() says that it is under way. HOT_AGAIN: it was interrupted
 * before the call. -EFAULT: libc shall see to it.
 */
static long attempt(struct guard_task *task, long nr, const uint64_t arg[6],
		    struct touched t)
{
	uint32_t hold, handled = task->handled;
	long r;

	task->poked = false;
	hold = t.len == SIZE_MAX ? hold_call(task, nr, arg) :
				   hold_memory(task, t.addr, t.len);
	/* Pairs with pthread_cancel(): one of the two sees the other. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (task->is_bad || __atomic_load_n(&cancels, __ATOMIC_RELAXED)) {
		hold_end(task);
		return -EFAULT;
	}
	r = guard_hot(nr, arg, task, hold);
	/* It was pthread_cancel(), and no handler of the program's. */
	return r == -EINTR && task->poked && task->handled == handled ? -EFAULT : r;
}

static long hot(long nr, const uint64_t arg[6], struct touched t)
{
	struct guard_task *task = mine ? mine : find_mine();
	long r;

	if (!task || task->lent)
		return -EFAULT;
	do {
		/* Each time: a handler may have made calls of its own. */
		__atomic_store_n(&task->hot, true, __ATOMIC_RELAXED);
		r = attempt(task, nr, arg, t);
	} while (r == HOT_AGAIN && !task->lent);
	__atomic_store_n(&task->hot, false, __ATOMIC_RELAXED);
	return r == HOT_AGAIN ? -EFAULT : r;
}

/* A result as libc has it; false: libc's is to be called. */
static bool made(long r, long *result)
{
	if (r == -EFAULT)
		return false;
	if (r < 0)
		errno = (int)-r;
	*result = r < 0 ? -1 : r;
	return true;
}

bool hot_call(long nr, long a, uintptr_t buf, size_t len, long d, size_t bytes,
	      long *result)
{
	const uint64_t arg[6] = { (uint64_t)a, buf, len, (uint64_t)d };

	return may_be_hot(bytes) &&
	       made(hot(nr, arg, (struct touched){ buf, bytes }), result);
}

bool hot_named(long nr, const uint64_t arg[6], long *result)
{
	return may_be_hot(0) && made(hot(nr, arg, ALL_NAMED), result);
}

/*
 * What one call fills before calls are guarded nobody could take meanwhile. So whoever is
 * about to read so much is guarded first, if it might be too much.
 */
static bool expects(size_t len)
{
	if (!preload_may_fill(len))
		return false;
	expect_begin(len);
	return true;
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	bool much;
	long r;

	if (hot_call(SYS_read, fd, (uintptr_t)buf, len, 0, len, &r))
		return r;
	much = expects(len);
	r = OR_NEXT(read)(fd, buf, len);
	if (much)
		expect_end(len);
	return r;
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	long r;

	if (hot_call(SYS_write, fd, (uintptr_t)buf, len, 0, len, &r))
		return r;
	return OR_NEXT(write)(fd, buf, len);
}

static ssize_t pread_at(int fd, void *buf, size_t len, off64_t at)
{
	bool much;
	long r;

	if (hot_call(SYS_pread64, fd, (uintptr_t)buf, len, at, len, &r))
		return r;
	much = expects(len);
	r = OR_NEXT(pread64)(fd, buf, len, at);
	if (much)
		expect_end(len);
	return r;
}

EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t at)
{
	return pread_at(fd, buf, len, at);
}

EXPORT ssize_t pread64(int fd, void *buf, size_t len, off64_t at)
{
	return pread_at(fd, buf, len, at);
}

static ssize_t pwrite_at(int fd, const void *buf, size_t len, off64_t at)
{
	long r;

	if (hot_call(SYS_pwrite64, fd, (uintptr_t)buf, len, at, len, &r))
		return r;
	return OR_NEXT(pwrite64)(fd, buf, len, at);
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	return pwrite_at(fd, buf, len, at);
}

EXPORT ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at)
{
	return pwrite_at(fd, buf, len, at);
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	long r;

	if (hot_call(SYS_recvfrom, fd, (uintptr_t)buf, len, flags, len, &r))
		return r;
	return OR_NEXT(recv)(fd, buf, len, flags);
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	long r;

	if (hot_call(SYS_sendto, fd, (uintptr_t)buf, len, flags, len, &r))
		return r;
	return OR_NEXT(send)(fd, buf, len, flags);
}

EXPORT int poll(struct pollfd *fds, nfds_t nr, int timeout)
{
	const uint64_t arg[6] = { (uintptr_t)fds, nr, (uint64_t)timeout };
	long r;

	if (nr < GUARD_WINDOW / sizeof(*fds) && may_be_hot(0) &&
	    made(hot(SYS_poll, arg,
		     (struct touched){ (uintptr_t)fds, nr * sizeof(*fds) }),
		 &r))
		return (int)r;
	return OR_NEXT(poll)(fds, nr, timeout);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	size_t len = max > 0 ? (size_t)max * sizeof(*events) : 0;
	long r;

	if (hot_call(SYS_epoll_wait, epfd, (uintptr_t)events, (size_t)max, timeout, len,
		     &r))
		return (int)r;
	return OR_NEXT(epoll_wait)(epfd, events, max, timeout);
}

/* It reads much at a time, into that memory itself. */
static size_t fread_by(__typeof__(fread) *libc, void *to, size_t size, size_t nr, FILE *f)
{
	size_t len, done;
	bool much = !__builtin_mul_overflow(size, nr, &len) && expects(len);

	done = libc(to, size, nr, f);
	if (much)
		expect_end(len);
	return done;
}

EXPORT size_t fread(void *restrict to, size_t size, size_t nr, FILE *restrict f)
{
	return fread_by(OR_NEXT(fread), to, size, nr, f);
}

EXPORT size_t fread_unlocked(void *restrict to, size_t size, size_t nr, FILE *restrict f)
{
	return fread_by(OR_NEXT(fread_unlocked), to, size, nr, f);
}

/* ---- more than one buffer -------------------------------------------------------- */

static ssize_t vector(long nr, __typeof__(readv) *libc, int fd, const struct iovec *iov,
		      int n)
{
	long r;

	if (NAMED(nr, (uint64_t)fd, (uintptr_t)iov, (uint64_t)n))
		return r;
	return libc(fd, iov, n);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
	return vector(SYS_readv, OR_NEXT(readv), fd, iov, n);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	return vector(SYS_writev, OR_NEXT(writev), fd, iov, n);
}

static ssize_t vector_at(long nr, __typeof__(preadv64) *libc, int fd,
			 const struct iovec *iov, int n, off64_t at)
{
	long r;

	if (NAMED(nr, (uint64_t)fd, (uintptr_t)iov, (uint64_t)n, (uint64_t)at))
		return r;
	return libc(fd, iov, n, at);
}

EXPORT ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at)
{
	return vector_at(SYS_preadv, OR_NEXT(preadv64), fd, iov, n, at);
}

EXPORT ssize_t preadv64(int fd, const struct iovec *iov, int n, off64_t at)
{
	return vector_at(SYS_preadv, OR_NEXT(preadv64), fd, iov, n, at);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	return vector_at(SYS_pwritev, OR_NEXT(pwritev64), fd, iov, n, at);
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t at)
{
	return vector_at(SYS_pwritev, OR_NEXT(pwritev64), fd, iov, n, at);
}

EXPORT ssize_t recvfrom(int fd, void *restrict buf, size_t len, int flags,
			struct sockaddr *restrict from, socklen_t *restrict from_len)
{
	long r;

	if (NAMED(SYS_recvfrom, (uint64_t)fd, (uintptr_t)buf, len, (uint64_t)flags,
		  (uintptr_t)from, (uintptr_t)from_len))
		return r;
	return OR_NEXT(recvfrom)(fd, buf, len, flags, from, from_len);
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags,
		      const struct sockaddr *to, socklen_t to_len)
{
	long r;

	if (NAMED(SYS_sendto, (uint64_t)fd, (uintptr_t)buf, len, (uint64_t)flags,
		  (uintptr_t)to, to_len))
		return r;
	return OR_NEXT(sendto)(fd, buf, len, flags, to, to_len);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	long r;

	if (NAMED(SYS_recvmsg, (uint64_t)fd, (uintptr_t)msg, (uint64_t)flags))
		return r;
	return OR_NEXT(recvmsg)(fd, msg, flags);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	long r;

	if (NAMED(SYS_sendmsg, (uint64_t)fd, (uintptr_t)msg, (uint64_t)flags))
		return r;
	return OR_NEXT(sendmsg)(fd, msg, flags);
}

/* ---- cancellation ---------------------------------------------------------------- */

/* From now on calls are where a thread can be cancelled. */
EXPORT int pthread_cancel(pthread_t thread)
{
	struct guard_task *task = NULL;
	uint32_t tid = 0;
	int r;

	__atomic_store_n(&cancels, true, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (preload_guarded) {
		/* Before: it may be gone afterwards. */
		tid = preload_tid_of(thread);
		task = tid ? task_find(tid) : NULL;
	}
	r = OR_NEXT(pthread_cancel)(thread);
	if (task && __atomic_load_n(&task->hot, __ATOMIC_RELAXED))
		guard_poke(tid);
	return r;
}
