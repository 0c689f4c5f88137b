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
 * the thread might be cancelled; it shares its thread-local storage, where its task is
 * remembered; much is to be transferred; EFAULT. And where the user preloads another
 * library, or the program has a sanitizer's, whose functions these may be, too, they come
 * next.
 */
#undef _FILE_OFFSET_BITS /* which makes one of pread() and pread64() */

#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/os/os.h"
#include "preload/guard.h"
#include "preload/guard_arch.h"

/* libc's, by names that nobody defines anew. */
ssize_t __read(int fd, void *buf, size_t len);
ssize_t __write(int fd, const void *buf, size_t len);
ssize_t __pread64(int fd, void *buf, size_t len, off64_t at);
ssize_t __pwrite64(int fd, const void *buf, size_t len, off64_t at);
int __poll(struct pollfd *fds, nfds_t nr, int timeout);

/* Of a library that comes after ours; NULL: libc's. */
static struct {
	__typeof__(read) *read;
	__typeof__(write) *write;
	__typeof__(pread64) *pread64;
	__typeof__(pwrite64) *pwrite64;
	__typeof__(recv) *recv;
	__typeof__(send) *send;
	__typeof__(poll) *poll;
	__typeof__(epoll_wait) *epoll_wait;
	__typeof__(pthread_cancel) *pthread_cancel;
} next __attribute__((section(".data")));

static bool chained __attribute__((section(".data")));
static bool cancels __attribute__((section(".data"))); /* atomic */

#define NEXT(name) (next.name = (__typeof__(next.name))dlsym(RTLD_NEXT, #name))

void hot_bind(void)
{
	/* Nor a sanitizer's, which all have a read(). */
	if (!preload_has_company() && NEXT(read) == __read) {
		next.read = NULL;
		return;
	}
	chained = true;
	NEXT(read);
	NEXT(write);
	NEXT(pread64);
	NEXT(pwrite64);
	NEXT(recv);
	NEXT(send);
	NEXT(poll);
	NEXT(epoll_wait);
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
	/* Who waits here would not hear of it if another thread cancelled it. */
	return preload_guarded && !chained && !threads_any() && len <= GUARD_WINDOW &&
	       !__atomic_load_n(&cancels, __ATOMIC_RELAXED) && !guard_tls_is_shared();
}

/* -EFAULT: libc shall see to it. */
static long hot(long nr, const uint64_t arg[6], uint64_t addr, size_t len)
{
	struct guard_task *task = mine ? mine : find_mine();
	uint32_t hold;
	long r;

	if (!task)
		return -EFAULT;
	do {
		if (task->lent || !may_be_hot(len))
			return -EFAULT;
		hold = hold_memory(task, addr, len);
		r = guard_hot(nr, arg, task, hold);
	} while (r == HOT_AGAIN);
	/* It may have been interrupted for that. */
	if (r == -EINTR && __atomic_load_n(&cancels, __ATOMIC_RELAXED))
		pthread_testcancel();
	return r;
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

static bool call(long nr, long a, uintptr_t buf, size_t len, long d, size_t bytes,
		 long *result)
{
	const uint64_t arg[6] = { (uint64_t)a, buf, len, (uint64_t)d };

	return may_be_hot(bytes) && made(hot(nr, arg, buf, bytes), result);
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	long r;

	if (call(SYS_read, fd, (uintptr_t)buf, len, 0, len, &r))
		return r;
	return next.read ? next.read(fd, buf, len) : __read(fd, buf, len);
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	long r;

	if (call(SYS_write, fd, (uintptr_t)buf, len, 0, len, &r))
		return r;
	return next.write ? next.write(fd, buf, len) : __write(fd, buf, len);
}

static ssize_t pread_at(int fd, void *buf, size_t len, off64_t at)
{
	long r;

	if (call(SYS_pread64, fd, (uintptr_t)buf, len, at, len, &r))
		return r;
	return next.pread64 ? next.pread64(fd, buf, len, at) :
			      __pread64(fd, buf, len, at);
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

	if (call(SYS_pwrite64, fd, (uintptr_t)buf, len, at, len, &r))
		return r;
	return next.pwrite64 ? next.pwrite64(fd, buf, len, at) :
			       __pwrite64(fd, buf, len, at);
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

	if (call(SYS_recvfrom, fd, (uintptr_t)buf, len, flags, len, &r))
		return r;
	return next.recv ? next.recv(fd, buf, len, flags) :
			   recvfrom(fd, buf, len, flags, NULL, NULL);
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	long r;

	if (call(SYS_sendto, fd, (uintptr_t)buf, len, flags, len, &r))
		return r;
	return next.send ? next.send(fd, buf, len, flags) :
			   sendto(fd, buf, len, flags, NULL, 0);
}

EXPORT int poll(struct pollfd *fds, nfds_t nr, int timeout)
{
	const uint64_t arg[6] = { (uintptr_t)fds, nr, (uint64_t)timeout };
	long r;

	if (nr < GUARD_WINDOW / sizeof(*fds) && may_be_hot(0) &&
	    made(hot(SYS_poll, arg, (uintptr_t)fds, nr * sizeof(*fds)), &r))
		return (int)r;
	return next.poll ? next.poll(fds, nr, timeout) : __poll(fds, nr, timeout);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	size_t len = max > 0 ? (size_t)max * sizeof(*events) : 0;
	long r;

	if (call(SYS_epoll_wait, epfd, (uintptr_t)events, (size_t)max, timeout, len, &r))
		return (int)r;
	return next.epoll_wait ? next.epoll_wait(epfd, events, max, timeout) :
				 epoll_pwait(epfd, events, max, timeout, NULL);
}

/* From now on calls are where a thread can be cancelled. */
EXPORT int pthread_cancel(pthread_t thread)
{
	__atomic_store_n(&cancels, true, __ATOMIC_RELAXED);
	if (!next.pthread_cancel)
		NEXT(pthread_cancel);
	return next.pthread_cancel(thread);
}
