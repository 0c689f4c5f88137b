/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd on Linux: the ioctls with their results made sane, and the decoding of
 * messages.
 *
 * The result fields of MOVE, COPY and ZEROPAGE hold either bytes done or -errno, and the
 * ioctl itself fails with EAGAIN in both cases when not all was done (Linux 6.18): only
 * the field tells a partial success from an event that waits to be read.
 */
#include "lib/os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "lib/os/os_linux.h"
#include "lib/os/sys.h"
#include "lib/os/uapi.h"

/* Messages decoded per read: one system call's worth, 32 bytes each on the stack. */
#define MESSAGES 32

static int open_descriptor(unsigned flags)
{
	int how = O_CLOEXEC | O_NONBLOCK;
	int fd, dev;

	if (flags & OS_UFFD_USER_ONLY)
		return (int)sys1(SYS_userfaultfd, how | UFFD_USER_MODE_ONLY);
	fd = (int)sys1(SYS_userfaultfd, how);
	if (fd != -EPERM && fd != -ENOSYS)
		return fd;
	dev = (int)sys4(SYS_openat, AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
	if (dev < 0)
		return fd;
	fd = (int)sys3(SYS_ioctl, dev, USERFAULTFD_IOC_NEW, how);
	os_close(dev);
	return fd;
}

int os_uffd_open(unsigned flags)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = os_linux_own(open_descriptor(flags));
	int r;

	if (fd < 0)
		return fd;
	api.features = UFFD_FEATURE_MOVE | UFFD_FEATURE_POISON;
	if (flags & OS_UFFD_EVENTS)
		api.features |= UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
				UFFD_FEATURE_EVENT_UNMAP;
	if (flags & OS_UFFD_FORK)
		api.features |= UFFD_FEATURE_EVENT_FORK;
	if (flags & OS_UFFD_SIGBUS)
		api.features |= UFFD_FEATURE_SIGBUS;
	else
		api.features |= UFFD_FEATURE_THREAD_ID;
	r = (int)sys3(SYS_ioctl, fd, UFFDIO_API, &api);
	if (r < 0) {
		os_close(fd);
		return r;
	}
	return fd;
}

void os_uffd_close(int uffd)
{
	os_close(uffd);
}

int os_uffd_register(int uffd, uintptr_t start, size_t len)
{
	struct uffdio_register reg = {
		.range = { .start = start, .len = len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return (int)sys3(SYS_ioctl, uffd, UFFDIO_REGISTER, &reg);
}

/*
 * Linux 6.18 wakes who waits there and gives the mapping up afterwards. Who faults in
 * between, holding the lock of the mapping alone, is told of the userfaultfd and waits
 * for ever (fs/userfaultfd.c, userfaultfd_unregister(): no vma_start_write() before
 * wake_userfault(); tests/system/os/test_os_files sees it within seconds). So they are
 * woken again when nobody can come any more.
 */
int os_uffd_unregister(int uffd, uintptr_t start, size_t len)
{
	struct uffdio_range range = { .start = start, .len = len };
	int r = (int)sys3(SYS_ioctl, uffd, UFFDIO_UNREGISTER, &range);

	os_uffd_wake(uffd, start, len);
	return r;
}

/* Bytes done, or why nothing was. */
static int64_t outcome(long ret, int64_t field, size_t len)
{
	if (ret == 0)
		return (int64_t)len;
	if (ret == -EAGAIN && field > 0)
		return field;
	return ret;
}

/*
 * Linux 6.18 can move pages and not count them. When a page is touched while it is to be
 * moved, the kernel tries again; the second attempt succeeds, the error of the first one
 * is still in a variable, and a third attempt finds the destination filled: EEXIST, or a
 * count that is short by what the second attempt moved (mm/userfaultfd.c, move_pages():
 * err is not reset). With ALLOW_SRC_HOLES it would go round for ever where the third
 * attempt meets a hole: that mode is not used, and what was moved has no gaps.
 *
 * Where both have a page none was moved. Where the source has none, what the destination
 * has came from there; or else (a debugger looked at it while it was empty) it is zeros,
 * which is what the source, a hole, would have read as.
 */
static int64_t uncounted(int uffd, const struct uffdio_move *move, size_t done)
{
	uintptr_t dst = move->dst + done, src = move->src + done;
	size_t filled;

	if (os_empty(dst, OS_PAGE_SIZE))
		return 0;
	filled = os_linux_filled(dst, os_empty(src, move->len - done));
	if (filled && !(move->mode & UFFDIO_MOVE_MODE_DONTWAKE))
		os_uffd_wake(uffd, dst, filled);
	return (int64_t)filled;
}

int64_t os_uffd_move(int uffd, uintptr_t dst, uintptr_t src, size_t len, unsigned flags)
{
	struct uffdio_move move = { .dst = dst, .src = src, .len = len };
	int64_t done, more;
	long ret;

	if (flags & OS_MOVE_NOWAKE)
		move.mode |= UFFDIO_MOVE_MODE_DONTWAKE;
	ret = sys3(SYS_ioctl, uffd, UFFDIO_MOVE, &move);
	done = outcome(ret, move.move, len);
	if (done == (int64_t)len || (done < 0 && done != -EEXIST))
		return done;
	more = uncounted(uffd, &move, done > 0 ? (size_t)done : 0);
	if (done > 0)
		return done + more;
	return more ? more : done;
}

int64_t os_uffd_copy(int uffd, uintptr_t dst, const void *src, size_t len)
{
	struct uffdio_copy copy = { .dst = dst, .src = (uintptr_t)src, .len = len };
	long ret = sys3(SYS_ioctl, uffd, UFFDIO_COPY, &copy);

	return outcome(ret, copy.copy, len);
}

int64_t os_uffd_zero(int uffd, uintptr_t dst, size_t len)
{
	struct uffdio_zeropage zero = { .range = { .start = dst, .len = len } };
	long ret = sys3(SYS_ioctl, uffd, UFFDIO_ZEROPAGE, &zero);

	return outcome(ret, zero.zeropage, len);
}

/*
 * CONTINUE is for shared memory: where anonymous memory is registered the kernel says
 * EINVAL, after it has looked for a reason to say something else.
 */
int os_uffd_probe(int uffd, uintptr_t addr, size_t len)
{
	struct uffdio_continue arg = { .range = { addr, len } };
	int r = (int)sys3(SYS_ioctl, uffd, UFFDIO_CONTINUE, &arg);

	return r == -EINVAL || r == -EEXIST ? 0 : r;
}

int os_uffd_wake(int uffd, uintptr_t start, size_t len)
{
	struct uffdio_range range = { .start = start, .len = len };

	return (int)sys3(SYS_ioctl, uffd, UFFDIO_WAKE, &range);
}

int os_uffd_poison(int uffd, uintptr_t start, size_t len)
{
	struct uffdio_poison poison = { .range = { .start = start, .len = len } };

	return (int)sys3(SYS_ioctl, uffd, UFFDIO_POISON, &poison);
}

static void decode(const struct uffd_msg *msg, struct os_event *ev)
{
	memset(ev, 0, sizeof(*ev));
	switch (msg->event) {
	case UFFD_EVENT_PAGEFAULT:
		ev->kind = OS_EVENT_FAULT;
		ev->addr = (uintptr_t)msg->arg.pagefault.address & ~(uintptr_t)4095;
		ev->write = msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE;
		ev->tid = msg->arg.pagefault.feat.ptid;
		break;
	case UFFD_EVENT_FORK:
		ev->kind = OS_EVENT_FORK;
		ev->child = (int)msg->arg.fork.ufd;
		break;
	case UFFD_EVENT_REMAP:
		ev->kind = OS_EVENT_REMAP;
		ev->from = (uintptr_t)msg->arg.remap.from;
		ev->to = (uintptr_t)msg->arg.remap.to;
		ev->len = (size_t)msg->arg.remap.len;
		break;
	case UFFD_EVENT_REMOVE:
	default:
		ev->kind = msg->event == UFFD_EVENT_REMOVE ? OS_EVENT_REMOVE :
							     OS_EVENT_UNMAP;
		ev->from = (uintptr_t)msg->arg.remove.start;
		ev->end = (uintptr_t)msg->arg.remove.end;
		break;
	}
}

int os_uffd_read(int uffd, struct os_event *events, int nr)
{
	struct uffd_msg msg[MESSAGES];
	long ret;
	int i, n;

	if (nr > MESSAGES)
		nr = MESSAGES;
	do
		ret = sys3(SYS_read, uffd, msg, nr * sizeof(msg[0]));
	while (ret == -EINTR);
	if (ret == -EAGAIN)
		return 0;
	if (ret <= 0)
		return ret ? (int)ret : -EBADF;
	n = (int)((unsigned long)ret / sizeof(msg[0]));
	for (i = 0; i < n; i++)
		decode(&msg[i], &events[i]);
	return n;
}

int os_wait_fds(const int *fds, int nr, int64_t timeout_ns)
{
	struct pollfd p[8];
	struct timespec ts, *tsp = NULL;
	long ret;
	int i, mask = 0;

	if (nr > 8)
		return -EINVAL;
	for (i = 0; i < nr; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	if (timeout_ns >= 0) {
		ts.tv_sec = timeout_ns / 1000000000;
		ts.tv_nsec = timeout_ns % 1000000000;
		tsp = &ts;
	}
	ret = sys5(SYS_ppoll, p, nr, tsp, 0, 0);
	if (ret == -EINTR)
		return 0;
	if (ret < 0)
		return (int)ret;
	for (i = 0; i < nr; i++)
		if (p[i].revents)
			mask |= 1 << i;
	return mask;
}

int os_kicker_open(void)
{
	return os_linux_own((int)sys2(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void os_kick(int kicker)
{
	uint64_t one = 1;

	sys3(SYS_write, kicker, &one, sizeof(one));
}

void os_kick_clear(int kicker)
{
	uint64_t count;

	sys3(SYS_read, kicker, &count, sizeof(count));
}
