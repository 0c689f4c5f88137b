/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of what system calls do with memory, and what walks it: against the headers'
 * list of calls, against what is expected for each kind of argument, and against
 * arguments that are garbage.
 */
#include "tests/unit/guard_pieces.h"

#include <asm/prctl.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

/* ---- the headers ------------------------------------------------------------------- */

/* name, number: made from what the compiler finds in <asm/unistd.h>. */
static const struct {
	const char *name;
	long nr;
} header[] = {
#define HEADER_CALL(name_) { #name_, __NR_##name_ },
#include "call_names.h"
};

TEST(each_call_of_the_headers_has_a_row)
{
	size_t i;

	CHECK_GT(sizeof(header) / sizeof(header[0]), 300);
	for (i = 0; i < sizeof(header) / sizeof(header[0]); i++) {
		const char *name = call_name(header[i].nr);

		CHECK(name, "%s, %ld, has none", header[i].name, header[i].nr);
		CHECK_STR(name, header[i].name);
	}
}

TEST(calls_have_a_class)
{
	CHECK_EQ(call_class(SYS_read), CALL_PLAIN);
	CHECK_EQ(call_class(SYS_rt_sigprocmask), CALL_SIGNALS);
	CHECK_EQ(call_class(SYS_ppoll), CALL_SIGNALS);
	CHECK_EQ(call_class(SYS_clone3), CALL_PROCESS);
	CHECK_EQ(call_class(SYS_exit_group), CALL_PROCESS);
	CHECK_EQ(call_class(SYS_rseq), CALL_THREAD);
	CHECK_EQ(call_class(SYS_munmap), CALL_MAPPING);
	CHECK_EQ(call_class(SYS_io_uring_enter), CALL_LATER);
	CHECK_EQ(call_class(-1), CALL_UNKNOWN);
	CHECK_EQ(call_class(LONG_MIN), CALL_UNKNOWN);
	CHECK_EQ(call_class(SYS_rseq + 20), CALL_UNKNOWN);
	CHECK_EQ(call_class(100000), CALL_UNKNOWN);
	CHECK(!call_name(-1));
	CHECK(!call_name(100000));
	CHECK_STR(call_name(469), "file_setattr");
}

TEST(what_is_not_walked_completely_says_so)
{
	CHECK(call_is_partly(SYS_bpf));
	CHECK(call_is_partly(SYS_ioctl));
	CHECK(call_is_partly(SYS_semctl)); /* one of the things that it does */
	CHECK(call_is_partly(100000));
	CHECK(!call_is_partly(SYS_read));
	CHECK(!call_is_partly(SYS_recvmmsg));
	CHECK(!call_is_partly(SYS_fcntl));
}

/* ---- what is named ----------------------------------------------------------------- */

static void check_pieces(const char *what, int line, const struct piece *want, size_t nr)
{
	size_t i;

	for (i = 0; i < nr && i < nr_named; i++)
		CHECK(named[i].addr == want[i].addr && named[i].len == want[i].len &&
			      named[i].write == want[i].write,
		      "line %d, %s: piece %zu is %#lx %zu %d, should be %#lx %zu %d",
		      line, what, i, (long)named[i].addr, named[i].len, named[i].write,
		      (long)want[i].addr, want[i].len, want[i].write);
	CHECK(nr == nr_named, "line %d, %s: %zu pieces, should be %zu", line, what,
	      nr_named, nr);
}

/* A call and its arguments, and then what has to be named for it, in this order. */
#define EXPECT(nr_, args_, ...)                                                          \
	do {                                                                             \
		const struct piece want_[] = { { 0, 0, false }, ##__VA_ARGS__ };         \
		CHECK(walk(&walk_own, nr_, args_, SIZE_MAX));                            \
		check_pieces(#nr_, __LINE__, want_ + 1,                                  \
			     sizeof(want_) / sizeof(want_[0]) - 1);                      \
	} while (0)
#define R(addr_, len_)                                                                   \
	{                                                                                \
		P(addr_), len_, false                                                    \
	}
#define W(addr_, len_)                                                                   \
	{                                                                                \
		P(addr_), len_, true                                                     \
	}

/* Addresses of which nothing is read. */
#define A 0x1000000
#define B 0x2000000
#define C 0x3000000
#define D 0x4000000

#define LEN_MAX 0x7ffff000
#define TIMESPEC sizeof(struct timespec)

TEST(lengths)
{
	EXPECT(SYS_getpid, ARGS(A, B, C));
	EXPECT(SYS_read, ARGS(3, A, 100), W(A, 100));
	EXPECT(SYS_write, ARGS(3, A, 100), R(A, 100));
	EXPECT(SYS_read, ARGS(3, A, 0));
	EXPECT(SYS_read, ARGS(3, 0, 100));
	EXPECT(SYS_read, ARGS(3, A, UINT64_MAX), W(A, LEN_MAX));
	EXPECT(SYS_read, ARGS(3, CALL_USER_END - 10, 100), W(CALL_USER_END - 10, 10));
	EXPECT(SYS_read, ARGS(3, CALL_USER_END, 100));
	EXPECT(SYS_read, ARGS(3, UINT64_MAX, 100));
	/* Ints have no upper half. */
	EXPECT(SYS_getdents64, ARGS(3, A, UINT64_C(0xabc00000040)), W(A, 64));
	EXPECT(SYS_poll, ARGS(A, 3, 1), W(A, 24));
	EXPECT(SYS_poll, ARGS(A, UINT64_MAX, 1), W(A, LEN_MAX));
	EXPECT(SYS_getgroups, ARGS(10, A), W(A, 40));
	EXPECT(SYS_getgroups, ARGS((uint64_t)-1, A));
	EXPECT(SYS_bind, ARGS(3, A, 16), R(A, 16));
	EXPECT(SYS_bind, ARGS(3, A, INT_MAX), R(A, 128));
	EXPECT(SYS_select, ARGS(64, A, B, 0, C), W(A, 8), W(B, 8), W(C, 16));
	EXPECT(SYS_select, ARGS(65, A), W(A, 16));
	EXPECT(SYS_select, ARGS((uint64_t)-1, A));
	EXPECT(SYS_mincore, ARGS(A, 4097, B), W(B, 2));
	EXPECT(SYS_mincore, ARGS(A, UINT64_MAX, B), W(B, LEN_MAX));
	EXPECT(SYS_set_mempolicy, ARGS(0, A, 65), R(A, 16));
	EXPECT(SYS_getcwd, ARGS(A, SIZE_MAX), W(A, 4096));
	EXPECT(SYS_move_pages, ARGS(0, 3, A, B, C), R(A, 24), R(B, 12), W(C, 12));
	EXPECT(SYS_move_pages, ARGS(0, UINT64_C(1) << 62, 0, A), R(A, LEN_MAX));
	EXPECT(SYS_msgsnd, ARGS(1, A, 100), R(A, 8), R(A + 8, 100));
	EXPECT(SYS_msgrcv, ARGS(1, A, 100), W(A, 8), W(A + 8, 100));
	EXPECT(SYS_semtimedop, ARGS(1, A, 2, B), R(A, 12), R(B, TIMESPEC));
	EXPECT(SYS_epoll_wait, ARGS(3, A, 10, 0), W(A, 10 * sizeof(struct epoll_event)));
	EXPECT(SYS_splice, ARGS(3, A, 4, B), W(A, 8), W(B, 8));
	EXPECT(SYS_mmap, ARGS(A, 4096));
	EXPECT(SYS_wait4, ARGS(0, A, 0, B), W(A, 4), W(B, 144));
}

TEST(lengths_that_are_in_memory)
{
	uint32_t room = 28, zero = 0, minus = (uint32_t)-1, huge = 1000;
	struct {
		uint32_t bytes, type;
		char handle[32];
	} handle = { .bytes = 32 };
	struct {
		uint32_t type, size;
	} perf = { 0, 128 };

	EXPECT(SYS_accept, ARGS(3, A, P(&room)), W(&room, 4), W(A, 28));
	EXPECT(SYS_accept, ARGS(3, A, P(&zero)), W(&zero, 4));
	EXPECT(SYS_accept, ARGS(3, A, P(&minus)), W(&minus, 4));
	EXPECT(SYS_accept, ARGS(3, A, P(&huge)), W(&huge, 4), W(A, 128));
	EXPECT(SYS_accept, ARGS(3, 0, 0));
	EXPECT(SYS_recvfrom, ARGS(3, A, 10, 0, B, P(&room)), W(A, 10), W(&room, 4),
	       W(B, 28));
	EXPECT(SYS_sendto, ARGS(3, A, 10, 0, B, 16), R(A, 10), R(B, 16));
	EXPECT(SYS_getsockopt, ARGS(3, SOL_SOCKET, SO_TYPE, A, P(&room)), W(&room, 4),
	       W(A, 28));
	EXPECT(SYS_getsockopt, ARGS(3, SOL_SOCKET, SO_GET_FILTER, A, P(&room)),
	       W(&room, 4), W(A, 28), W(A, 28 * 8));
	EXPECT(SYS_open_by_handle_at, ARGS(3, P(&handle)), R(&handle, 8),
	       R(handle.handle, 32));
	EXPECT(SYS_perf_event_open, ARGS(P(&perf)), W(&perf, 64), W(&perf, 128));
	EXPECT(461 /* lsm_list_modules */, ARGS(A, P(&room)), W(&room, 4), W(A, 28));
}

TEST(strings)
{
	char path[] = "/a/path", name[] = "user.name";
	char *argv[] = { path, name, NULL }, *envp[] = { NULL };
	static char forever[PATH_MAX + 10];

	memset(forever, 'x', sizeof(forever));
	EXPECT(SYS_openat, ARGS(3, P(path)), R(path, sizeof(path)));
	EXPECT(SYS_openat, ARGS(3, 0));
	EXPECT(SYS_openat, ARGS(3, CALL_USER_END));
	EXPECT(SYS_openat, ARGS(3, P(forever)), R(forever, PATH_MAX));
	EXPECT(SYS_renameat, ARGS(3, P(path), 4, P(name)), R(path, sizeof(path)),
	       R(name, sizeof(name)));
	EXPECT(SYS_getxattr, ARGS(P(path), P(name), A, 1 << 20), R(path, sizeof(path)),
	       R(name, sizeof(name)), W(A, 1 << 16));
	EXPECT(SYS_execve, ARGS(P(path), P(argv), P(envp)), R(path, sizeof(path)),
	       R(&argv[0], 8), R(path, sizeof(path)), R(&argv[1], 8),
	       R(name, sizeof(name)), R(&argv[2], 8), R(&envp[0], 8));
	EXPECT(SYS_execve, ARGS(P(path)), R(path, sizeof(path)));
	EXPECT(SYS_prctl, ARGS(PR_SET_NAME, P(forever)), R(forever, 16));
	EXPECT(SYS_mount, ARGS(P(path), P(name), 0, 0, A), R(path, sizeof(path)),
	       R(name, sizeof(name)), R(A, 4096));
}

TEST(vectors)
{
	struct iovec iov[10] = {
		{ (void *)A, 10 }, { (void *)B, 0 }, { NULL, 7 }, { (void *)C, 30 }
	};
	struct iovec huge[2] = { { (void *)A, LEN_MAX - 10 }, { (void *)D, 4096 } };
	struct iovec negative[2] = { { (void *)A, 10 }, { (void *)B, SIZE_MAX } };

	EXPECT(SYS_readv, ARGS(3, P(iov), 4), R(iov, 64), W(A, 10), W(C, 30));
	EXPECT(SYS_writev, ARGS(3, P(iov), 4), R(iov, 64), R(A, 10), R(C, 30));
	/* More than are read at once. */
	iov[9] = (struct iovec){ (void *)D, 5 };
	EXPECT(SYS_preadv2, ARGS(3, P(iov), 10), R(iov, 160), W(A, 10), W(C, 30),
	       W(D, 5));
	EXPECT(SYS_readv, ARGS(3, P(iov), 0));
	EXPECT(SYS_readv, ARGS(3, P(iov), 1025));
	EXPECT(SYS_readv, ARGS(3, P(iov), UINT64_MAX));
	EXPECT(SYS_readv, ARGS(3, P(huge), 2), R(huge, 32), W(A, LEN_MAX - 10), W(D, 10));
	EXPECT(SYS_readv, ARGS(3, P(negative), 2), R(negative, 32), W(A, 10));
	EXPECT(SYS_process_vm_readv, ARGS(1, P(iov), 1, B, 2), R(iov, 16), W(A, 10),
	       R(B, 32));
	EXPECT(SYS_vmsplice, ARGS(3, P(iov), 1), R(iov, 16), W(A, 10));
	EXPECT(SYS_io_uring_register, ARGS(3, 0, P(iov), 1), R(iov, 16), W(A, 10));
}

TEST(messages)
{
	struct iovec iov[2] = { { (void *)A, 10 }, { (void *)B, 20 } };
	struct msghdr msg = { .msg_name = (void *)C,
			      .msg_namelen = 16,
			      .msg_iov = iov,
			      .msg_iovlen = 2,
			      .msg_control = (void *)D,
			      .msg_controllen = 24 };
	struct mmsghdr many[2] = { { .msg_hdr = msg }, { .msg_hdr = { 0 } } };
	static struct mmsghdr empty[1025];

	empty[1024] = many[0];
	EXPECT(SYS_sendmsg, ARGS(3, P(&msg)), R(&msg, 56), R(C, 16), R(iov, 32), R(A, 10),
	       R(B, 20), R(D, 24));
	EXPECT(SYS_recvmsg, ARGS(3, P(&msg)), W(&msg, 56), W(C, 16), R(iov, 32), W(A, 10),
	       W(B, 20), W(D, 24));
	EXPECT(SYS_sendmmsg, ARGS(3, P(many), 2), W(many, 128), R(C, 16), R(iov, 32),
	       R(A, 10), R(B, 20), R(D, 24));
	EXPECT(SYS_recvmmsg, ARGS(3, P(many), 1, 0, D), W(many, 64), W(C, 16), R(iov, 32),
	       W(A, 10), W(B, 20), W(D, 24), W(D, TIMESPEC));
	EXPECT(SYS_recvmmsg, ARGS(3, P(empty), 1025), W(empty, 1024 * 64));
	msg.msg_namelen = 1000;
	msg.msg_iovlen = 1025;
	msg.msg_control = NULL;
	EXPECT(SYS_recvmsg, ARGS(3, P(&msg)), W(&msg, 56), W(C, 128));
	msg.msg_control = (void *)D;
	msg.msg_controllen = SIZE_MAX;
	EXPECT(SYS_sendmsg, ARGS(3, P(&msg)), R(&msg, 56), R(C, 128), R(D, LEN_MAX));
	msg.msg_namelen = (socklen_t)-1;
	EXPECT(SYS_recvmsg, ARGS(3, P(&msg)), W(&msg, 56));
}

TEST(structures_that_point_on)
{
	struct iovec iov = { (void *)C, 30 };
	struct iocb get = { .aio_lio_opcode = IOCB_CMD_PREAD,
			    .aio_buf = A,
			    .aio_nbytes = 10 };
	struct iocb put = { .aio_lio_opcode = IOCB_CMD_PWRITEV,
			    .aio_buf = P(&iov),
			    .aio_nbytes = 1 };
	struct iocb sync = { .aio_lio_opcode = IOCB_CMD_FSYNC,
			     .aio_buf = A,
			     .aio_nbytes = 10 };
	struct iocb *iocbs[] = { &get, &put, &sync };
	struct {
		uint64_t mask, size;
	} mask = { D, 8 };
	struct sock_fprog filter = { 3, (void *)A };
	struct {
		uint64_t value;
		uint32_t size, flags;
	} xattr = { B, 100, 0 };
	char path[] = "x";

	EXPECT(SYS_io_submit, ARGS(1, 3, P(iocbs)), R(iocbs, 24), W(&get, 64), W(A, 10),
	       W(&put, 64), R(&iov, 16), R(C, 30), W(&sync, 64));
	EXPECT(SYS_io_submit, ARGS(1, (uint64_t)-1, P(iocbs)));
	EXPECT(SYS_pselect6, ARGS(1, 0, A, 0, B, P(&mask)), W(A, 8), W(B, TIMESPEC),
	       R(&mask, 16), R(D, 8));
	EXPECT(SYS_ppoll, ARGS(A, 1, B, C, 8), W(A, 8), W(B, TIMESPEC), R(C, 8));
	EXPECT(SYS_seccomp, ARGS(SECCOMP_SET_MODE_FILTER, 0, P(&filter)), R(&filter, 16),
	       R(A, 24));
	EXPECT(SYS_setsockopt,
	       ARGS(3, SOL_SOCKET, SO_ATTACH_FILTER, P(&filter), sizeof(filter)),
	       R(&filter, 16), R(&filter, 16), R(A, 24));
	EXPECT(SYS_setsockopt, ARGS(3, 41, SO_ATTACH_FILTER, A, 4), R(A, 4));
	EXPECT(464 /* getxattrat */, ARGS(3, P(path), 0, P(path), P(&xattr), 16),
	       R(path, 2), R(path, 2), R(&xattr, 16), R(&xattr, 16), W(B, 100));
}

TEST(new_processes)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, signal, stack, stack_size;
		uint64_t tls, tids, nr_tids, cgroup;
	} args = { CLONE_CHILD_CLEARTID, A, B, C, 0, 0, 0, 0, D, 2, 0 };

	EXPECT(SYS_clone, ARGS(SIGCHLD, 0, A, B, C));
	EXPECT(SYS_clone, ARGS(CLONE_CHILD_CLEARTID, 0, A, B, C), W(B, 4));
	EXPECT(SYS_clone, ARGS(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, 0, A, B, C),
	       W(A, 4), W(B, 4));
	EXPECT(SYS_clone, ARGS(CLONE_PIDFD, 0, A, B, C), W(A, 4));
	EXPECT(SYS_clone3, ARGS(P(&args), sizeof(args)), R(&args, 88), R(D, 8), W(B, 4));
	args.flags = CLONE_PIDFD | CLONE_PARENT_SETTID;
	EXPECT(SYS_clone3, ARGS(P(&args), 64), R(&args, 64), W(A, 4), W(C, 4));
	args.nr_tids = UINT64_MAX;
	EXPECT(SYS_clone3, ARGS(P(&args), sizeof(args)), R(&args, 88), W(A, 4), W(C, 4));
	EXPECT(SYS_clone3, ARGS(P(&args), 8), R(&args, 8));
	EXPECT(SYS_set_tid_address, ARGS(A), W(A, 4));
}

TEST(futexes)
{
	struct {
		uint64_t value, word;
		uint32_t flags, reserved;
	} waiters[2] = { { 0, A, 2, 0 }, { 0, B, 2 | 4, 0 } };

	EXPECT(SYS_futex, ARGS(A, FUTEX_WAIT_PRIVATE, 0, B), R(A, 4), R(B, TIMESPEC));
	EXPECT(SYS_futex, ARGS(A, FUTEX_WAKE_PRIVATE, 1, 0x12345678, 0x12345678));
	EXPECT(SYS_futex, ARGS(A, FUTEX_WAKE, 1, B, C), R(A, 4));
	EXPECT(SYS_futex, ARGS(A, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, B),
	       R(A, 4), R(B, TIMESPEC));
	EXPECT(SYS_futex, ARGS(A, FUTEX_CMP_REQUEUE, 1, 0x12345678, C), R(A, 4), R(C, 4));
	EXPECT(SYS_futex, ARGS(A, FUTEX_WAKE_OP, 1, 0x12345678, C), R(A, 4), W(C, 4));
	EXPECT(SYS_futex, ARGS(A, FUTEX_LOCK_PI_PRIVATE, 0, B), W(A, 4), R(B, TIMESPEC));
	EXPECT(SYS_futex_waitv, ARGS(P(waiters), 2, 0, C), R(waiters, 48), R(A, 4),
	       W(B, 8), R(C, TIMESPEC));
	EXPECT(SYS_futex_waitv, ARGS(P(waiters), 129, 0, C), R(C, TIMESPEC));
	EXPECT(454 /* futex_wake */, ARGS(A, 1, 1, 2), R(A, 4));
	EXPECT(456 /* futex_requeue */, ARGS(P(waiters), 0, 1, 1), R(waiters, 48),
	       R(A, 4), W(B, 8));
}

TEST(one_call_of_many)
{
	char path[] = "x";

	EXPECT(SYS_fcntl, ARGS(3, F_DUPFD, A));
	EXPECT(SYS_fcntl, ARGS(3, F_GETLK, A), W(A, 32));
	EXPECT(SYS_fcntl, ARGS(3, F_SETLKW, A), R(A, 32));
	EXPECT(SYS_prctl, ARGS(PR_SET_PDEATHSIG, A, B));
	EXPECT(SYS_prctl, ARGS(PR_GET_PDEATHSIG, A, B), W(A, 4));
	EXPECT(SYS_arch_prctl, ARGS(ARCH_SET_FS, A));
	EXPECT(SYS_arch_prctl, ARGS(ARCH_GET_FS, A), W(A, 8));
	EXPECT(SYS_shmctl, ARGS(1, IPC_STAT, A), W(A, 112));
	EXPECT(SYS_semctl, ARGS(1, 0, SETVAL, A));
	EXPECT(SYS_semctl, ARGS(1, 0, IPC_SET, A), R(A, 104));
	EXPECT(SYS_msgctl, ARGS(1, IPC_STAT, A), W(A, 120));
	EXPECT(SYS_epoll_ctl, ARGS(3, EPOLL_CTL_DEL, 4, A));
	EXPECT(SYS_epoll_ctl, ARGS(3, EPOLL_CTL_ADD, 4, A),
	       R(A, sizeof(struct epoll_event)));
	EXPECT(SYS_quotactl, ARGS(0x80000701, P(path), 0, A), R(path, 2), W(A, 72));
	EXPECT(SYS_keyctl, ARGS(11, 1, A, 10), W(A, 10)); /* KEYCTL_READ */
	EXPECT(SYS_bpf, ARGS(1, A, 32), W(A, 32));
	/* What nobody knows. */
	CHECK(call_is_known(SYS_prctl, ARGS(PR_SET_PDEATHSIG)));
	CHECK(!call_is_known(SYS_prctl, ARGS(4711)));
	EXPECT(SYS_prctl, ARGS(4711, 1, 0xffff, A), W(A, 4096));
}

TEST(requests_of_ioctl)
{
	struct ifconf conf = { .ifc_len = 80, .ifc_buf = (void *)A };
	uint32_t fiemap[8] = { [6] = 3 };

	EXPECT(SYS_ioctl, ARGS(0, TIOCGWINSZ, A), W(A, 8));
	EXPECT(SYS_ioctl, ARGS(0, 0x5401 /* TCGETS */, A), W(A, 36));
	EXPECT(SYS_ioctl, ARGS(0, TIOCSPGRP, A), R(A, 4));
	EXPECT(SYS_ioctl, ARGS(0, UINT64_C(0xabc00000000) | FIONREAD, A), W(A, 4));
	EXPECT(SYS_ioctl, ARGS(0, FIOCLEX, A));
	EXPECT(SYS_ioctl, ARGS(0, SIOCGIFINDEX, A), W(A, 40));
	EXPECT(SYS_ioctl, ARGS(0, SIOCGIFCONF, P(&conf)), W(&conf, 16), W(A, 80));
	EXPECT(SYS_ioctl, ARGS(0, FICLONE, A));
	/* A struct fiemap, which says how many extents follow. */
	EXPECT(SYS_ioctl, ARGS(0, 0xc020660b, P(fiemap)), W(fiemap, 32),
	       W(fiemap + 8, 3 * 56));
	/* What says itself how much it takes. */
	EXPECT(SYS_ioctl, ARGS(0, _IOR('?', 1, int[25]), A), W(A, 100));
	EXPECT(SYS_ioctl, ARGS(0, _IOW('?', 1, int[25]), A), R(A, 100));
	EXPECT(SYS_ioctl, ARGS(0, _IOWR('?', 1, int[25]), A), W(A, 100));
	CHECK(call_is_known(SYS_ioctl, ARGS(0, _IOR('?', 1, int), A)));
	/* And what does not. */
	CHECK(!call_is_known(SYS_ioctl, ARGS(0, 0x3f01, A)));
	EXPECT(SYS_ioctl, ARGS(0, 0x3f01, A), W(A, 4096));
	EXPECT(SYS_ioctl, ARGS(0, 0x3f01, 0xffff));
}

TEST(calls_that_nobody_knows)
{
	CHECK(!call_is_known(1000, ARGS(0)));
	EXPECT(1000, ARGS(0, 0xffff, 0x10000, A, CALL_USER_END, CALL_USER_END - 1),
	       W(0x10000, 4096), W(A, 4096), W(CALL_USER_END - 1, 1));
	EXPECT(-1, ARGS(A), W(A, 4096));
}

TEST(it_ends_when_told_to)
{
	struct iovec iov[2] = { { (void *)A, 10 }, { (void *)B, 20 } };
	struct msghdr msg = { .msg_name = (void *)C,
			      .msg_namelen = 16,
			      .msg_iov = iov,
			      .msg_iovlen = 2,
			      .msg_control = (void *)D,
			      .msg_controllen = 24 };
	struct mmsghdr many = { .msg_hdr = msg };
	size_t i;

	for (i = 1; i <= 7; i++) {
		CHECK(!walk(&walk_own, SYS_recvmmsg, ARGS(3, P(&many), 1, 0, D), i));
		CHECK_EQ(nr_named, i);
	}
	CHECK(walk(&walk_own, SYS_recvmmsg, ARGS(3, P(&many), 1, 0, D), 8));
}

/* ---- garbage ----------------------------------------------------------------------- */

#define SPACE_START UINT64_C(0x7f0000000000)
#define SPACE_SIZE 65536u

static uint64_t space[SPACE_SIZE / 8];
static uint64_t seed;

static uint64_t draw(uint64_t below)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % below;
}

/* What a program might pass, rightly or not. */
static uint64_t draw_argument(void)
{
	uint64_t any = draw(UINT64_C(1) << 31) << 33 ^ draw(UINT64_C(1) << 31) << 8;

	switch (draw(10)) {
	case 0:
		return 0;
	case 1:
		return draw(16);
	case 2:
		return draw(2048);
	case 3:
		return any;
	case 4:
		return -draw(4096);
	case 5:
		return CALL_USER_END - draw(4096);
	case 6:
		return any >> draw(64);
	default:
		return SPACE_START + draw(SPACE_SIZE);
	}
}

static bool read_space(void *ctx, void *to, uintptr_t from, size_t len)
{
	(void)ctx;
	CHECK(is_named(from, len), "%zu bytes at %#lx are read before they are named",
	      len, (long)from);
	if (from < SPACE_START || from - SPACE_START > SPACE_SIZE - len || !draw(64))
		return false;
	memcpy(to, (char *)space + (from - SPACE_START), len);
	return true;
}

static size_t string_space(void *ctx, uintptr_t addr, size_t max)
{
	(void)ctx;
	CHECK(addr && max && max <= CALL_USER_END - addr);
	return draw(16) ? draw(max) + 1 : 0;
}

static const struct call_walk walk_space = { NULL, note, read_space, string_space };

TEST(garbage, .timeout_s = 120)
{
	size_t i, most = 0;
	uint64_t arg[6];
	unsigned round;

	for (round = 0; round < 300000; round++) {
		long nr = round % 480 - 2;

		if (round % 1000 == 0)
			for (i = 0; i < SPACE_SIZE / 8; i++)
				space[i] = draw_argument();
		for (i = 0; i < 6; i++)
			arg[i] = draw_argument();
		/* Of those that do many things, the things. */
		if (draw(2))
			arg[draw(3)] = draw(128);
		if (nr == SYS_ioctl && draw(2))
			arg[1] = draw(256) | 0x0100 * draw(256) | draw(2) << 31;
		walk(&walk_space, nr, arg, SIZE_MAX);
		if (nr_named > most)
			most = nr_named;
		if (nr_named) {
			size_t end = 1 + draw(nr_named);

			seed = round;
			CHECK(!walk(&walk_space, nr, arg, end) || nr_named < end);
		}
		call_is_known(nr, arg);
	}
	fprintf(stderr, "# at most %zu pieces\n", most);
	CHECK_GT(most, 10);
}
