/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of system calls: all that Linux 6.18 has. Those that do one of many things
 * have tables of their own in guard_ops.c.
 *
 * Sizes are the kernel's. Where libc's type is not the same the size stands here as a
 * number. A structure that may grow has an argument, or a field, that says how long it
 * is; as long as it was at first it always is.
 */
#include "preload/guard_table.h"

#include <asm/unistd.h>
#include <linux/aio_abi.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

/* Newer than the headers of some. From 424 on all machines have the same numbers. */
#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif
#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif
#ifndef __NR_map_shadow_stack
#define __NR_map_shadow_stack 453
#endif
#ifndef __NR_futex_wake
#define __NR_futex_wake 454
#define __NR_futex_wait 455
#define __NR_futex_requeue 456
#endif
#ifndef __NR_statmount
#define __NR_statmount 457
#define __NR_listmount 458
#endif
#ifndef __NR_lsm_get_self_attr
#define __NR_lsm_get_self_attr 459
#define __NR_lsm_set_self_attr 460
#define __NR_lsm_list_modules 461
#endif
#ifndef __NR_mseal
#define __NR_mseal 462
#endif
#ifndef __NR_setxattrat
#define __NR_setxattrat 463
#define __NR_getxattrat 464
#define __NR_listxattrat 465
#define __NR_removexattrat 466
#endif
#ifndef __NR_open_tree_attr
#define __NR_open_tree_attr 467
#endif
#ifndef __NR_file_getattr
#define __NR_file_getattr 468
#define __NR_file_setattr 469
#endif
#ifdef __x86_64__
#ifndef __NR_uretprobe
#define __NR_uretprobe 335
#endif
#ifndef __NR_uprobe
#define __NR_uprobe 336
#endif
#endif

#define SIGSET 8     /* not libc's sigset_t */
#define SIGACTION 32 /* and sigaction */
/* What may grow has a page at most; also a path, and a set of processors or nodes. */
#define PAGE MOST(12)
#define VALUE MOST(16) /* XATTR_SIZE_MAX */
/* Of what has no limit. */
#define LONGEST 65535

/* Not by way of one macro: that would expand the name, and libc has macros for some. */
#define CALL(name_, ...)                                                                 \
	[__NR_##name_] = { .name = #name_, .class = CALL_PLAIN, .piece = { __VA_ARGS__ } }
#define SIGNALS(name_, ...)                                                              \
	[__NR_##name_] = { .name = #name_,                                               \
			   .class = CALL_SIGNALS,                                        \
			   .piece = { __VA_ARGS__ } }
#define PROCESS(name_, ...)                                                              \
	[__NR_##name_] = { .name = #name_,                                               \
			   .class = CALL_PROCESS,                                        \
			   .piece = { __VA_ARGS__ } }
#define THREAD(name_, ...)                                                               \
	[__NR_##name_] = { .name = #name_,                                               \
			   .class = CALL_THREAD,                                         \
			   .piece = { __VA_ARGS__ } }
#define MAPPING(name_, ...)                                                              \
	[__NR_##name_] = { .name = #name_,                                               \
			   .class = CALL_MAPPING,                                        \
			   .piece = { __VA_ARGS__ } }
#define LATER(name_, ...)                                                                \
	[__NR_##name_] = { .name = #name_, .class = CALL_LATER, .piece = { __VA_ARGS__ } }

static const struct call_row rows[] = {
	/* ---- files: what is in them ------------------------------------------------ */
	CALL(read, OUT(1, LEN(2))),
	CALL(write, IN(1, LEN(2))),
	CALL(pread64, OUT(1, LEN(2))),
	CALL(pwrite64, IN(1, LEN(2))),
	CALL(readv, IOVEC_OUT(1, UINT(2))),
	CALL(writev, IOVEC_IN(1, UINT(2))),
	CALL(preadv, IOVEC_OUT(1, UINT(2))),
	CALL(pwritev, IOVEC_IN(1, UINT(2))),
	CALL(preadv2, IOVEC_OUT(1, UINT(2))),
	CALL(pwritev2, IOVEC_IN(1, UINT(2))),
	CALL(lseek),
	CALL(sendfile, INOUT(2, sizeof(off_t))),
	CALL(splice, INOUT(1, sizeof(loff_t)), INOUT(3, sizeof(loff_t))),
	CALL(tee),
	/* The pages themselves go into the pipe, and may be written by who reads it. */
	LATER(vmsplice, IOVEC_OUT(1, UINT(2))),
	CALL(copy_file_range, INOUT(1, sizeof(loff_t)), INOUT(3, sizeof(loff_t))),
	CALL(readahead),
	CALL(fadvise64),
	CALL(fallocate),
	CALL(ftruncate),
	CALL(fsync),
	CALL(fdatasync),
	CALL(sync_file_range),
	CALL(sync),
	CALL(syncfs),
	CALL(flock),
	CALL(cachestat, IN(1, 16), OUT(2, 40)),

	/* ---- files: descriptors ---------------------------------------------------- */
	CALL(openat, STRING(1)),
	CALL(openat2, STRING(1), IN(2, LEN(3), PAGE)),
	CALL(open_by_handle_at, IN(1, 8), IN_PAST(1, 8, AT32(1, 0))),
	CALL(name_to_handle_at, STRING(1), INOUT(2, 8), OUT_PAST(2, 8, AT32(2, 0)),
	     OUT(3, 8)), /* 4 without AT_HANDLE_MNT_ID_UNIQUE */
	CALL(close),
	CALL(close_range),
	CALL(dup),
	CALL(dup3),
	CALL(pipe2, OUT(0, 8)),
	CALL(fcntl, BY(1, FCNTL)),
	CALL(ioctl, OWN(IOCTL, 2)),
	CALL(eventfd2),
	CALL(memfd_create, STRING(0)),
	CALL(memfd_secret),
	CALL(userfaultfd),
	CALL(inotify_init1),
	CALL(inotify_add_watch, STRING(1)),
	CALL(inotify_rm_watch),
	CALL(fanotify_init),
	CALL(fanotify_mark, STRING(4)),

	/* ---- files: names and attributes ------------------------------------------- */
	CALL(newfstatat, STRING(1), OUT(2, sizeof(struct stat))),
	CALL(fstat, OUT(1, sizeof(struct stat))),
	CALL(statx, STRING(1), OUT(4, sizeof(struct statx))),
	CALL(statfs, STRING(0), OUT(1, sizeof(struct statfs))),
	CALL(fstatfs, OUT(1, sizeof(struct statfs))),
	CALL(file_getattr, STRING(1), OUT(2, LEN(3), PAGE)),
	CALL(file_setattr, STRING(1), IN(2, LEN(3), PAGE)),
	CALL(faccessat, STRING(1)),
	CALL(faccessat2, STRING(1)),
	CALL(truncate, STRING(0)),
	CALL(getdents64, OUT(1, UINT(2))),
	CALL(getcwd, OUT(0, LEN(1), PAGE)),
	CALL(chdir, STRING(0)),
	CALL(fchdir),
	CALL(chroot, STRING(0)),
	CALL(mkdirat, STRING(1)),
	CALL(mknodat, STRING(1)),
	CALL(unlinkat, STRING(1)),
	CALL(renameat, STRING(1), STRING(3)),
	CALL(renameat2, STRING(1), STRING(3)),
	CALL(linkat, STRING(1), STRING(3)),
	CALL(symlinkat, STRING(0), STRING(2)),
	CALL(readlinkat, STRING(1), OUT(2, INT(3), PAGE)),
	CALL(fchmod),
	CALL(fchmodat, STRING(1)),
	CALL(fchmodat2, STRING(1)),
	CALL(fchown),
	CALL(fchownat, STRING(1)),
	CALL(umask),
	CALL(utimensat, STRING(1), IN(2, 2 * sizeof(struct timespec))),
	CALL(setxattr, STRING(0), STRING(1), IN(2, LEN(3), VALUE)),
	CALL(lsetxattr, STRING(0), STRING(1), IN(2, LEN(3), VALUE)),
	CALL(fsetxattr, STRING(1), IN(2, LEN(3), VALUE)),
	CALL(getxattr, STRING(0), STRING(1), OUT(2, LEN(3), VALUE)),
	CALL(lgetxattr, STRING(0), STRING(1), OUT(2, LEN(3), VALUE)),
	CALL(fgetxattr, STRING(1), OUT(2, LEN(3), VALUE)),
	CALL(listxattr, STRING(0), OUT(1, LEN(2), VALUE)),
	CALL(llistxattr, STRING(0), OUT(1, LEN(2), VALUE)),
	CALL(flistxattr, OUT(1, LEN(2), VALUE)),
	CALL(removexattr, STRING(0), STRING(1)),
	CALL(lremovexattr, STRING(0), STRING(1)),
	CALL(fremovexattr, STRING(1)),
	/* A struct xattr_args: the value's address, and its size. */
	CALL(setxattrat, STRING(1), STRING(3), IN(4, 16), IN(4, LEN(5), PAGE),
	     IN_AT(4, 0, AT32(4, 8))),
	CALL(getxattrat, STRING(1), STRING(3), IN(4, 16), IN(4, LEN(5), PAGE),
	     OUT_AT(4, 0, AT32(4, 8))),
	CALL(listxattrat, STRING(1), OUT(3, LEN(4), VALUE)),
	CALL(removexattrat, STRING(1), STRING(3)),
	CALL(lookup_dcookie, OUT(1, LEN(2))),

	/* ---- file systems ---------------------------------------------------------- */
	/* As much of a page as can be read; some file systems make a string of it. */
	CALL(mount, STRING(0), STRING(1), STRING(2), IN(4, 4096)),
	CALL(umount2, STRING(0)),
	CALL(pivot_root, STRING(0), STRING(1)),
	CALL(open_tree, STRING(1)),
	CALL(open_tree_attr, STRING(1), IN(3, LEN(4), PAGE)),
	CALL(move_mount, STRING(1), STRING(3)),
	CALL(mount_setattr, STRING(1), IN(3, LEN(4), PAGE)),
	CALL(fsopen, STRING(0)),
	CALL(fspick, STRING(1)),
	CALL(fsconfig, BY(1, FSCONFIG)),
	CALL(fsmount),
	CALL(statmount, IN(0, 24), IN(0, AT32(0, 0), PAGE), OUT(1, LEN(2))),
	CALL(listmount, IN(0, 24), IN(0, AT32(0, 0), PAGE), OUT(1, 8 * LEN(2))),
	CALL(quotactl, STRING(1), BY_SHIFT(0, QUOTACTL, 8)),
	CALL(quotactl_fd, BY_SHIFT(1, QUOTACTL, 8)),
	CALL(swapon, STRING(0)),
	CALL(swapoff, STRING(0)),
	CALL(nfsservctl),

	/* ---- waiting for descriptors ----------------------------------------------- */
	SIGNALS(ppoll, INOUT(0, sizeof(struct pollfd) * UINT(1)),
		INOUT(2, sizeof(struct timespec)), IN(3, LEN(4), MOST(3))),
	/* The mask's address and length are in memory. */
	SIGNALS(pselect6, INOUT(1, FDS(0)), INOUT(2, FDS(0)), INOUT(3, FDS(0)),
		INOUT(4, sizeof(struct timespec)), IN(5, 16), IN_AT(5, 0, AT64(5, 8))),
	CALL(epoll_create1),
	CALL(epoll_ctl, BY(1, EPOLL_CTL)),
	SIGNALS(epoll_pwait, OUT(1, sizeof(struct epoll_event) * INT(2)),
		IN(4, LEN(5), MOST(3))),
	SIGNALS(epoll_pwait2, OUT(1, sizeof(struct epoll_event) * INT(2)),
		IN(3, sizeof(struct timespec)), IN(4, LEN(5), MOST(3))),

	/* ---- asynchronous input and output ----------------------------------------- */
	CALL(io_setup, OUT(1, sizeof(aio_context_t))),
	CALL(io_destroy),
	LATER(io_submit, OWN(IOCBS, 2)),
	CALL(io_cancel, IN(1, sizeof(struct iocb)), OUT(2, sizeof(struct io_event))),
	CALL(io_getevents, OUT(3, sizeof(struct io_event) * LEN(2)),
	     IN(4, sizeof(struct timespec))),
	SIGNALS(io_pgetevents, OUT(3, sizeof(struct io_event) * LEN(2)),
		IN(4, sizeof(struct timespec)), IN(5, 16), IN_AT(5, 0, AT64(5, 8))),
	LATER(io_uring_setup, INOUT(1, sizeof(struct io_uring_params)), PARTLY),
	LATER(io_uring_enter, BY_MASK(3, URING_ENTER, 0x48), PARTLY),
	LATER(io_uring_register, BY_MASK(1, URING_REGISTER, 0x7fff), PARTLY),

	/* ---- sockets --------------------------------------------------------------- */
	CALL(socket),
	CALL(socketpair, OUT(3, 8)),
	CALL(bind, IN(1, INT(2), MOST(7))),
	CALL(listen),
	CALL(accept, SOCKADDR(1, 2)),
	CALL(accept4, SOCKADDR(1, 2)),
	CALL(connect, IN(1, INT(2), MOST(7))),
	CALL(getsockname, SOCKADDR(1, 2)),
	CALL(getpeername, SOCKADDR(1, 2)),
	CALL(sendto, IN(1, LEN(2)), IN(4, INT(5), MOST(7))),
	CALL(recvfrom, OUT(1, LEN(2)), SOCKADDR(4, 5)),
	CALL(sendmsg, MSGHDR_IN(1)),
	CALL(recvmsg, MSGHDR_OUT(1)),
	CALL(sendmmsg, MMSGHDR_IN(1, UINT(2))),
	CALL(recvmmsg, MMSGHDR_OUT(1, UINT(2)), INOUT(4, sizeof(struct timespec))),
	CALL(setsockopt, IN(3, INT(4)), BY_PAIR(1, 2, SETSOCKOPT), PARTLY),
	CALL(getsockopt, INOUT(4, 4), INOUT(3, AT_INT(4, 0)), BY_PAIR(1, 2, GETSOCKOPT),
	     PARTLY),
	CALL(shutdown),

	/* ---- queues, semaphores, shared memory ------------------------------------- */
	CALL(msgget),
	CALL(msgsnd, IN(1, 8), IN_PAST(1, 8, LEN(2))),
	CALL(msgrcv, OUT(1, 8), OUT_PAST(1, 8, LEN(2))),
	CALL(msgctl, BY(1, MSGCTL)),
	CALL(semget),
	CALL(semop, IN(1, sizeof(struct sembuf) * UINT(2))),
	CALL(semtimedop, IN(1, sizeof(struct sembuf) * UINT(2)),
	     IN(3, sizeof(struct timespec))),
	CALL(semctl, BY(2, SEMCTL)),
	CALL(shmget),
	MAPPING(shmat),
	MAPPING(shmdt),
	CALL(shmctl, BY(1, SHMCTL)),
	CALL(mq_open, STRING(0), IN(3, sizeof(struct mq_attr))),
	CALL(mq_unlink, STRING(0)),
	CALL(mq_timedsend, IN(1, LEN(2), MOST(24)), IN(4, sizeof(struct timespec))),
	CALL(mq_timedreceive, OUT(1, LEN(2), MOST(24)), OUT(3, 4),
	     IN(4, sizeof(struct timespec))),
	/* What SIGEV_THREAD sends to a socket: 32 bytes that the value points to. */
	CALL(mq_notify, IN(1, sizeof(struct sigevent)), IN_AT(1, 0, 32)),
	CALL(mq_getsetattr, IN(1, sizeof(struct mq_attr)),
	     OUT(2, sizeof(struct mq_attr))),

	/* ---- memory ---------------------------------------------------------------- */
	MAPPING(mmap),
	MAPPING(munmap),
	MAPPING(mremap),
	MAPPING(mprotect),
	MAPPING(pkey_mprotect),
	CALL(pkey_alloc),
	CALL(pkey_free),
	MAPPING(madvise),
	MAPPING(process_madvise, IN(1, sizeof(struct iovec) * LEN(2), MOST(14))),
	CALL(process_mrelease),
	MAPPING(brk),
	MAPPING(msync),
	MAPPING(mincore, OUT(2, PAGES(1))),
	MAPPING(mlock),
	MAPPING(mlock2),
	MAPPING(munlock),
	MAPPING(mlockall),
	MAPPING(munlockall),
	MAPPING(mseal),
	MAPPING(map_shadow_stack),
	MAPPING(remap_file_pages),
	MAPPING(mbind, IN(3, BITS(4), PAGE)),
	/* With MPOL_F_ADDR and MPOL_F_NODE the page at the address is looked for. */
	CALL(get_mempolicy, OUT(0, 4), OUT(1, BITS(2), PAGE), IN(3, 1)),
	CALL(set_mempolicy, IN(1, BITS(2), PAGE)),
	MAPPING(set_mempolicy_home_node),
	CALL(migrate_pages, IN(2, BITS(1), PAGE), IN(3, BITS(1), PAGE)),
	MAPPING(move_pages, IN(2, 8 * LEN(1)), IN(3, 4 * LEN(1)), OUT(4, 4 * LEN(1))),
	/* Of the other process's pieces only where they are; it may be this one. */
	CALL(process_vm_readv, IOVEC_OUT(1, UINT(2)),
	     IN(3, sizeof(struct iovec) * LEN(4), MOST(14)), PARTLY),
	CALL(process_vm_writev, IOVEC_IN(1, UINT(2)),
	     IN(3, sizeof(struct iovec) * LEN(4), MOST(14)), PARTLY),
	CALL(membarrier),

	/* ---- futexes --------------------------------------------------------------- */
	CALL(futex, BY_MASK(1, FUTEX, 0xfeff)), /* without FUTEX_CLOCK_REALTIME */
	CALL(futex_waitv, WAITV(0, UINT(1)), IN(3, sizeof(struct timespec))),
	CALL(futex_wake, FUTEX2(0, 3)),
	CALL(futex_wait, FUTEX2(0, 3), IN(4, sizeof(struct timespec))),
	CALL(futex_requeue, WAITV(0, 2)),

	/* ---- time ------------------------------------------------------------------ */
	CALL(nanosleep, IN(0, sizeof(struct timespec)), OUT(1, sizeof(struct timespec))),
	CALL(clock_nanosleep, IN(2, sizeof(struct timespec)),
	     OUT(3, sizeof(struct timespec))),
	CALL(clock_gettime, OUT(1, sizeof(struct timespec))),
	CALL(clock_settime, IN(1, sizeof(struct timespec))),
	CALL(clock_getres, OUT(1, sizeof(struct timespec))),
	CALL(clock_adjtime, INOUT(1, sizeof(struct timex))),
	CALL(adjtimex, INOUT(0, sizeof(struct timex))),
	CALL(gettimeofday, OUT(0, sizeof(struct timeval)),
	     OUT(1, sizeof(struct timezone))),
	CALL(settimeofday, IN(0, sizeof(struct timeval)), IN(1, sizeof(struct timezone))),
	CALL(times, OUT(0, sizeof(struct tms))),
	CALL(getitimer, OUT(1, sizeof(struct itimerval))),
	CALL(setitimer, IN(1, sizeof(struct itimerval)),
	     OUT(2, sizeof(struct itimerval))),
	CALL(timer_create, IN(1, sizeof(struct sigevent)), OUT(2, 4)),
	CALL(timer_settime, IN(2, sizeof(struct itimerspec)),
	     OUT(3, sizeof(struct itimerspec))),
	CALL(timer_gettime, OUT(1, sizeof(struct itimerspec))),
	CALL(timer_getoverrun),
	CALL(timer_delete),
	CALL(timerfd_create),
	CALL(timerfd_settime, IN(2, sizeof(struct itimerspec)),
	     OUT(3, sizeof(struct itimerspec))),
	CALL(timerfd_gettime, OUT(1, sizeof(struct itimerspec))),

	/* ---- signals --------------------------------------------------------------- */
	SIGNALS(rt_sigaction, IN(1, SIGACTION), OUT(2, SIGACTION)),
	SIGNALS(rt_sigprocmask, IN(1, SIGSET), OUT(2, SIGSET)),
	SIGNALS(rt_sigpending, OUT(0, LEN(1), MOST(3))),
	SIGNALS(rt_sigsuspend, IN(0, SIGSET)),
	SIGNALS(rt_sigtimedwait, IN(0, SIGSET), OUT(1, sizeof(siginfo_t)),
		IN(2, sizeof(struct timespec))),
	/* Reads the frame on the stack, which is no argument. */
	SIGNALS(rt_sigreturn, PARTLY),
	SIGNALS(sigaltstack, IN(0, sizeof(stack_t)), OUT(1, sizeof(stack_t))),
	SIGNALS(signalfd4, IN(1, LEN(2), MOST(3))),
	CALL(rt_sigqueueinfo, IN(2, sizeof(siginfo_t))),
	CALL(rt_tgsigqueueinfo, IN(3, sizeof(siginfo_t))),
	CALL(pidfd_send_signal, IN(2, sizeof(siginfo_t))),
	CALL(kill),
	CALL(tkill),
	CALL(tgkill),
	/* What it goes on with has arguments that nobody sees any more. */
	CALL(restart_syscall, PARTLY),

	/* ---- processes and threads ------------------------------------------------- */
	PROCESS(clone, OWN(CLONE, 0)),
	PROCESS(clone3, OWN(CLONE3, 0)),
	PROCESS(execve, STRING(0), STRINGS(1), STRINGS(2)),
	PROCESS(execveat, STRING(1), STRINGS(2), STRINGS(3)),
	/* The word of set_tid_address(), and what the robust list has. */
	PROCESS(exit, PARTLY),
	PROCESS(exit_group, PARTLY),
	CALL(wait4, OUT(1, 4), OUT(3, sizeof(struct rusage))),
	CALL(waitid, OUT(2, sizeof(siginfo_t)), OUT(4, sizeof(struct rusage))),
	THREAD(set_tid_address, OUT(0, 4)),
	/* And each mutex that is in the list when the thread ends. */
	THREAD(set_robust_list, INOUT(0, LEN(1), PAGE), PARTLY),
	CALL(get_robust_list, OUT(1, 8), OUT(2, 8)),
	/* And the struct rseq_cs that it points to, when the thread is interrupted. */
	THREAD(rseq, INOUT(0, UINT(1), PAGE), PARTLY),
	CALL(pidfd_open),
	CALL(pidfd_getfd),
	CALL(prctl, BY(0, PRCTL)),
	CALL(ptrace, BY(0, PTRACE), PARTLY),
	CALL(kcmp, BY(2, KCMP)),
	CALL(unshare),
	CALL(setns),
	CALL(personality),
	CALL(getpid),
	CALL(gettid),
	CALL(getppid),
	CALL(getpgid),
	CALL(setpgid),
	CALL(getsid),
	CALL(setsid),
	CALL(getcpu, OUT(0, 4), OUT(1, 4)),
	CALL(sched_yield),
	CALL(sched_setparam, IN(1, sizeof(struct sched_param))),
	CALL(sched_getparam, OUT(1, sizeof(struct sched_param))),
	CALL(sched_setscheduler, IN(2, sizeof(struct sched_param))),
	CALL(sched_getscheduler),
	CALL(sched_get_priority_max),
	CALL(sched_get_priority_min),
	CALL(sched_rr_get_interval, OUT(1, sizeof(struct timespec))),
	CALL(sched_setaffinity, IN(2, UINT(1), PAGE)),
	CALL(sched_getaffinity, OUT(2, UINT(1), PAGE)),
	/* Where it is too long for the kernel, that says so in it. */
	CALL(sched_setattr, INOUT(1, 48), INOUT(1, AT32(1, 0), PAGE)),
	CALL(sched_getattr, OUT(1, UINT(2), PAGE)),
	CALL(getpriority),
	CALL(setpriority),
	CALL(ioprio_set),
	CALL(ioprio_get),
	CALL(getrlimit, OUT(1, sizeof(struct rlimit))),
	CALL(setrlimit, IN(1, sizeof(struct rlimit))),
	CALL(prlimit64, IN(2, sizeof(struct rlimit)), OUT(3, sizeof(struct rlimit))),
	CALL(getrusage, OUT(1, sizeof(struct rusage))),

	/* ---- who may do what ------------------------------------------------------- */
	CALL(getuid),
	CALL(getgid),
	CALL(geteuid),
	CALL(getegid),
	CALL(setuid),
	CALL(setgid),
	CALL(setreuid),
	CALL(setregid),
	CALL(setresuid),
	CALL(setresgid),
	CALL(getresuid, OUT(0, 4), OUT(1, 4), OUT(2, 4)),
	CALL(getresgid, OUT(0, 4), OUT(1, 4), OUT(2, 4)),
	CALL(setfsuid),
	CALL(setfsgid),
	CALL(getgroups, OUT(1, 4 * INT(0), MOST(18))),
	CALL(setgroups, IN(1, 4 * INT(0), MOST(18))),
	/* As much as since version 2; the header gets the version that is wanted. */
	CALL(capget, INOUT(0, sizeof(struct __user_cap_header_struct)),
	     OUT(1, 2 * sizeof(struct __user_cap_data_struct))),
	CALL(capset, INOUT(0, sizeof(struct __user_cap_header_struct)),
	     IN(1, 2 * sizeof(struct __user_cap_data_struct))),
	CALL(seccomp, BY(0, SECCOMP)),
	CALL(landlock_create_ruleset, IN(0, LEN(1), PAGE)),
	CALL(landlock_add_rule, BY(1, LANDLOCK)),
	CALL(landlock_restrict_self),
	CALL(lsm_get_self_attr, INOUT(2, 4), INOUT(1, AT32(2, 0))),
	CALL(lsm_set_self_attr, IN(1, UINT(2))),
	CALL(lsm_list_modules, INOUT(1, 4), OUT(0, AT32(1, 0))),
	CALL(add_key, STRING(0), STRING(1), IN(2, LEN(3), MOST(20))),
	CALL(request_key, STRING(0), STRING(1), STRING(2)),
	CALL(keyctl, BY(0, KEYCTL)),

	/* ---- the system ------------------------------------------------------------ */
	CALL(uname, OUT(0, sizeof(struct utsname))),
	CALL(sysinfo, OUT(0, sizeof(struct sysinfo))),
	CALL(getrandom, OUT(0, LEN(1))),
	CALL(syslog, BY(0, SYSLOG)),
	CALL(sethostname, IN(0, INT(1), MOST(6))),
	CALL(setdomainname, IN(0, INT(1), MOST(6))),
	CALL(acct, STRING(0)),
	CALL(vhangup),
	CALL(reboot, STRING_MAX(3, 256)),
	CALL(init_module, IN(0, LEN(1)), STRING_MAX(2, LONGEST)),
	CALL(finit_module, STRING_MAX(1, LONGEST)),
	CALL(delete_module, STRING(0)),
	CALL(kexec_load, IN(2, 32 * LEN(1), MOST(9)), PARTLY),
	CALL(kexec_file_load, IN(3, LEN(2))),
	CALL(bpf, INOUT(1, UINT(2), PAGE), PARTLY),
	CALL(perf_event_open, INOUT(0, PERF_ATTR_SIZE_VER0), INOUT(0, AT32(0, 4), PAGE)),

/* ---- what newer machines do not have ----------------------------------------------- */
#ifdef __NR_open
	CALL(open, STRING(0)),
	CALL(creat, STRING(0)),
	CALL(stat, STRING(0), OUT(1, sizeof(struct stat))),
	CALL(lstat, STRING(0), OUT(1, sizeof(struct stat))),
	CALL(access, STRING(0)),
	CALL(rename, STRING(0), STRING(1)),
	CALL(mkdir, STRING(0)),
	CALL(rmdir, STRING(0)),
	CALL(link, STRING(0), STRING(1)),
	CALL(unlink, STRING(0)),
	CALL(symlink, STRING(0), STRING(1)),
	CALL(readlink, STRING(0), OUT(1, INT(2), PAGE)),
	CALL(chmod, STRING(0)),
	CALL(chown, STRING(0)),
	CALL(lchown, STRING(0)),
	CALL(mknod, STRING(0)),
	CALL(utime, STRING(0), IN(1, 16)),
	CALL(utimes, STRING(0), IN(1, 2 * sizeof(struct timeval))),
	CALL(futimesat, STRING(1), IN(2, 2 * sizeof(struct timeval))),
	CALL(getdents, OUT(1, UINT(2))),
	CALL(ustat, OUT(1, 32)),
	CALL(uselib, STRING(0)),
	CALL(sysfs, BY(0, SYSFS)),
	CALL(dup2),
	CALL(pipe, OUT(0, 8)),
	CALL(poll, INOUT(0, sizeof(struct pollfd) * UINT(1))),
	CALL(select, INOUT(1, FDS(0)), INOUT(2, FDS(0)), INOUT(3, FDS(0)),
	     INOUT(4, sizeof(struct timeval))),
	CALL(epoll_create),
	CALL(epoll_wait, OUT(1, sizeof(struct epoll_event) * INT(2))),
	CALL(eventfd),
	CALL(inotify_init),
	SIGNALS(signalfd, IN(1, LEN(2), MOST(3))),
	CALL(pause),
	CALL(alarm),
	CALL(time, OUT(0, sizeof(time_t))),
	CALL(getpgrp),
	PROCESS(fork),
	PROCESS(vfork),
#endif
#ifdef __x86_64__
	CALL(arch_prctl, BY(0, ARCH_PRCTL)),
	CALL(modify_ldt, BY(0, MODIFY_LDT)),
	CALL(iopl),
	CALL(ioperm),
	/* The kernel's own code in the program makes them; they work on its stack. */
	CALL(uretprobe, PARTLY),
	CALL(uprobe, PARTLY),
	/* Numbers of what is not there, or no more since before userfaultfd. */
	CALL(_sysctl),
	CALL(create_module),
	CALL(get_kernel_syms),
	CALL(query_module),
	CALL(getpmsg),
	CALL(putpmsg),
	CALL(afs_syscall),
	CALL(tuxcall),
	CALL(security),
	CALL(vserver),
	CALL(set_thread_area),
	CALL(get_thread_area),
	CALL(epoll_ctl_old),
	CALL(epoll_wait_old),
#endif
};

const struct call_row *call_row(long nr)
{
	if (nr < 0 || (size_t)nr >= sizeof(rows) / sizeof(rows[0]) || !rows[nr].name[0])
		return NULL;
	return &rows[nr];
}
