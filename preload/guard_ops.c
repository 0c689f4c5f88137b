/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that do one of many things: what each of them does with memory. What has
 * none is here as well: what is not here is taken for one that nobody knows.
 *
 * Numbers stand for names that headers of 2022 do not have.
 */
#include "preload/guard_table.h"

#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/ptrace.h>
#include <linux/quota.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <time.h>
#ifdef __x86_64__
#include <asm/prctl.h>
#endif

#define TIMESPEC sizeof(struct timespec)

static const struct call_op epoll_ctl_ops[] = {
	OP(EPOLL_CTL_ADD, IN(3, sizeof(struct epoll_event))),
	OP(EPOLL_CTL_MOD, IN(3, sizeof(struct epoll_event))),
	OP(EPOLL_CTL_DEL),
};

static const struct call_op fcntl_ops[] = {
	OPS(F_DUPFD, F_SETFL),
	OP(F_GETLK, INOUT(2, sizeof(struct flock))),
	OPS(F_SETLK, F_SETLKW, IN(2, sizeof(struct flock))),
	OPS(F_SETOWN, F_GETSIG),
	OP(F_SETOWN_EX, IN(2, sizeof(struct f_owner_ex))),
	OP(F_GETOWN_EX, OUT(2, sizeof(struct f_owner_ex))),
	OP(17, OUT(2, 8)), /* F_GETOWNER_UIDS */
	OP(F_OFD_GETLK, INOUT(2, sizeof(struct flock))),
	OPS(F_OFD_SETLK, F_OFD_SETLKW, IN(2, sizeof(struct flock))),
	OPS(F_SETLEASE, F_GET_SEALS), /* from F_LINUX_SPECIFIC_BASE on */
	OP(F_GET_RW_HINT, OUT(2, 8)),
	OP(F_SET_RW_HINT, IN(2, 8)),
	OP(F_GET_FILE_RW_HINT, OUT(2, 8)),
	OP(F_SET_FILE_RW_HINT, IN(2, 8)),
};

static const struct call_op fsconfig_ops[] = {
	OP(0, STRING(2)),                /* FSCONFIG_SET_FLAG */
	OP(1, STRING(2), STRING(3)),     /* FSCONFIG_SET_STRING */
	OP(2, STRING(2), IN(3, INT(4))), /* FSCONFIG_SET_BINARY */
	OPS(3, 4, STRING(2), STRING(3)), /* FSCONFIG_SET_PATH, _PATH_EMPTY */
	OP(5, STRING(2)),                /* FSCONFIG_SET_FD */
	OPS(6, 8),                       /* FSCONFIG_CMD_... */
};

/*
 * A private futex is known by its address; of the words only those are touched whose
 * value matters. Others are known by their page, for which it must be there.
 */
static const struct call_op futex_ops[] = {
	OP(FUTEX_WAIT_PRIVATE, IN(0, 4), IN(3, TIMESPEC)),
	OP(FUTEX_WAKE_PRIVATE),
	OP(FUTEX_WAIT_BITSET_PRIVATE, IN(0, 4), IN(3, TIMESPEC)),
	OP(FUTEX_WAKE_BITSET_PRIVATE),
	OP(FUTEX_WAIT, IN(0, 4), IN(3, TIMESPEC)),
	OP(FUTEX_WAKE, IN(0, 4)),
	OP(FUTEX_WAIT_BITSET, IN(0, 4), IN(3, TIMESPEC)),
	OP(FUTEX_WAKE_BITSET, IN(0, 4)),
	OP(FUTEX_FD),
	OP(FUTEX_REQUEUE_PRIVATE),
	OP(FUTEX_REQUEUE, IN(0, 4), IN(4, 4)),
	OP(FUTEX_CMP_REQUEUE_PRIVATE, IN(0, 4)),
	OP(FUTEX_CMP_REQUEUE, IN(0, 4), IN(4, 4)),
	OP(FUTEX_WAKE_OP_PRIVATE, INOUT(4, 4)),
	OP(FUTEX_WAKE_OP, IN(0, 4), INOUT(4, 4)),
	OP(FUTEX_LOCK_PI_PRIVATE, INOUT(0, 4), IN(3, TIMESPEC)),
	OP(FUTEX_LOCK_PI, INOUT(0, 4), IN(3, TIMESPEC)),
	OP(FUTEX_LOCK_PI2_PRIVATE, INOUT(0, 4), IN(3, TIMESPEC)),
	OP(FUTEX_LOCK_PI2, INOUT(0, 4), IN(3, TIMESPEC)),
	OP(FUTEX_UNLOCK_PI_PRIVATE, INOUT(0, 4)),
	OP(FUTEX_UNLOCK_PI, INOUT(0, 4)),
	OP(FUTEX_TRYLOCK_PI_PRIVATE, INOUT(0, 4)),
	OP(FUTEX_TRYLOCK_PI, INOUT(0, 4)),
	OP(FUTEX_WAIT_REQUEUE_PI_PRIVATE, IN(0, 4), IN(3, TIMESPEC), INOUT(4, 4)),
	OP(FUTEX_WAIT_REQUEUE_PI, IN(0, 4), IN(3, TIMESPEC), INOUT(4, 4)),
	OP(FUTEX_CMP_REQUEUE_PI_PRIVATE, IN(0, 4), INOUT(4, 4)),
	OP(FUTEX_CMP_REQUEUE_PI, IN(0, 4), INOUT(4, 4)),
};

static const struct call_op kcmp_ops[] = {
	OPS(0, 6),
	/* KCMP_EPOLL_TFD: a struct kcmp_epoll_slot. */
	OP(7, IN(4, 12)),
};

static const struct call_op keyctl_ops[] = {
	OP(KEYCTL_GET_KEYRING_ID),
	OP(KEYCTL_JOIN_SESSION_KEYRING, STRING(1)),
	OP(KEYCTL_UPDATE, IN(2, LEN(3))),
	OPS(KEYCTL_REVOKE, KEYCTL_SETPERM),
	OP(KEYCTL_DESCRIBE, OUT(2, LEN(3))),
	OPS(KEYCTL_CLEAR, KEYCTL_UNLINK),
	OP(KEYCTL_SEARCH, STRING(2), STRING(3)),
	OP(KEYCTL_READ, OUT(2, LEN(3))),
	OP(KEYCTL_INSTANTIATE, IN(2, LEN(3))),
	OPS(KEYCTL_NEGATE, KEYCTL_ASSUME_AUTHORITY),
	OP(KEYCTL_GET_SECURITY, OUT(2, LEN(3))),
	OPS(KEYCTL_SESSION_TO_PARENT, KEYCTL_REJECT),
	OP(KEYCTL_INSTANTIATE_IOV, IOVEC_IN(2, UINT(3))),
	OPS(KEYCTL_INVALIDATE, KEYCTL_GET_PERSISTENT),
	/* The name of a hash, and what is hashed besides. */
	OP(KEYCTL_DH_COMPUTE, IN(1, sizeof(struct keyctl_dh_params)), OUT(2, LEN(3)),
	   IN(4, sizeof(struct keyctl_kdf_params)), PARTLY),
	OP(KEYCTL_PKEY_QUERY, STRING(3), OUT(4, sizeof(struct keyctl_pkey_query))),
	/* A struct keyctl_pkey_params: the lengths of the two that follow. */
	OPS(KEYCTL_PKEY_ENCRYPT, KEYCTL_PKEY_SIGN, IN(1, 40), STRING(2),
	    IN(3, AT32(1, 4)), OUT(4, AT32(1, 8))),
	OP(KEYCTL_PKEY_VERIFY, IN(1, 40), STRING(2), IN(3, AT32(1, 4)),
	   IN(4, AT32(1, 8))),
	OP(KEYCTL_RESTRICT_KEYRING, STRING(2), STRING(3)),
	OP(KEYCTL_MOVE),
	OP(KEYCTL_CAPABILITIES, OUT(1, LEN(2))),
	OP(KEYCTL_WATCH_KEY),
};

static const struct call_op landlock_ops[] = {
	OP(LANDLOCK_RULE_PATH_BENEATH, IN(2, 12)),
	OP(2, IN(2, 16)), /* LANDLOCK_RULE_NET_PORT */
};

static const struct call_op msgctl_ops[] = {
	OP(IPC_RMID),
	OP(IPC_SET, IN(2, sizeof(struct msqid_ds))),
	OP(IPC_STAT, OUT(2, sizeof(struct msqid_ds))),
	OP(IPC_INFO, OUT(2, sizeof(struct msginfo))),
	OP(MSG_STAT, OUT(2, sizeof(struct msqid_ds))),
	OP(MSG_INFO, OUT(2, sizeof(struct msginfo))),
	OP(MSG_STAT_ANY, OUT(2, sizeof(struct msqid_ds))),
};

static const struct call_op shmctl_ops[] = {
	OP(IPC_RMID),
	OP(IPC_SET, IN(2, sizeof(struct shmid_ds))),
	OP(IPC_STAT, OUT(2, sizeof(struct shmid_ds))),
	OP(IPC_INFO, OUT(2, sizeof(struct shminfo))),
	OPS(SHM_LOCK, SHM_UNLOCK),
	OP(SHM_STAT, OUT(2, sizeof(struct shmid_ds))),
	OP(SHM_INFO, OUT(2, sizeof(struct shm_info))),
	OP(SHM_STAT_ANY, OUT(2, sizeof(struct shmid_ds))),
};

/* How many there are in a set only the kernel knows: those of one page are named. */
static const struct call_op semctl_ops[] = {
	OP(IPC_RMID),
	OP(IPC_SET, IN(3, sizeof(struct semid_ds))),
	OP(IPC_STAT, OUT(3, sizeof(struct semid_ds))),
	OP(IPC_INFO, OUT(3, sizeof(struct seminfo))),
	OPS(GETPID, GETVAL),
	OP(GETALL, OUT(3, 4096), PARTLY),
	OPS(GETNCNT, SETVAL),
	OP(SETALL, IN(3, 4096), PARTLY),
	OP(SEM_STAT, OUT(3, sizeof(struct semid_ds))),
	OP(SEM_INFO, OUT(3, sizeof(struct seminfo))),
	OP(SEM_STAT_ANY, OUT(3, sizeof(struct semid_ds))),
};

static const struct call_op prctl_ops[] = {
	OP(PR_SET_NAME, STRING_MAX(1, 16)),
	OP(PR_GET_NAME, OUT(1, 16)),
	OP(PR_SET_VMA, STRING_MAX(4, 80)),
	OP(PR_SET_PDEATHSIG),
	OP(PR_GET_PDEATHSIG, OUT(1, 4)),
	OPS(PR_GET_DUMPABLE, PR_SET_DUMPABLE),
	OP(PR_GET_UNALIGN, OUT(1, 4)),
	OPS(PR_SET_UNALIGN, PR_SET_KEEPCAPS),
	OP(PR_GET_FPEMU, OUT(1, 4)),
	OP(PR_SET_FPEMU),
	OP(PR_GET_FPEXC, OUT(1, 4)),
	OPS(PR_SET_FPEXC, PR_SET_TIMING),
	OP(PR_GET_ENDIAN, OUT(1, 4)),
	OPS(PR_SET_ENDIAN, PR_GET_SECCOMP),
	OP(PR_SET_SECCOMP, FILTER(2)),
	OPS(PR_CAPBSET_READ, PR_CAPBSET_DROP),
	OP(PR_GET_TSC, OUT(1, 4)),
	OPS(PR_SET_TSC, PR_MCE_KILL_GET),
	/* A map, or the auxiliary vector; or where the size of a map is wanted. */
	OP(PR_SET_MM, IN(2, LEN(3)), OUT(2, 4), PARTLY),
	OP(PR_SET_CHILD_SUBREAPER),
	OP(PR_GET_CHILD_SUBREAPER, OUT(1, 4)),
	OPS(PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS),
	OP(PR_GET_TID_ADDRESS, OUT(1, 8)),
	OPS(PR_SET_THP_DISABLE, PR_GET_IO_FLUSHER),
	/* Read at each call from then on. */
	OP(PR_SET_SYSCALL_USER_DISPATCH, IN(4, 1), PARTLY),
	OPS(PR_PAC_SET_ENABLED_KEYS, PR_PAC_GET_ENABLED_KEYS),
	OP(PR_SCHED_CORE, OUT(4, 8)),
	OPS(63, 73),                    /* from PR_SME_SET_VL on */
	OP(74, OUT(1, 8)),              /* PR_GET_SHADOW_STACK_STATUS */
	OPS(75, 78),                    /* ... to PR_FUTEX_HASH */
	OP(0x41555856, OUT(1, LEN(2))), /* PR_GET_AUXV */
	OP(PR_SET_PTRACER),
};

#define USER_REGS sizeof(struct user_regs_struct)
#define USER_FPREGS sizeof(struct user_fpregs_struct)

/* Memory of the tracer; for that of the tracee the kernel does not ask us. */
static const struct call_op ptrace_ops[] = {
	OP(PTRACE_TRACEME),
	OPS(PTRACE_PEEKTEXT, PTRACE_PEEKUSR, OUT(3, 8)),
	OPS(PTRACE_POKETEXT, PTRACE_SINGLESTEP),
#ifdef __x86_64__
	OP(PTRACE_GETREGS, OUT(3, USER_REGS)),
	OP(PTRACE_SETREGS, IN(3, USER_REGS)),
	OP(PTRACE_GETFPREGS, OUT(3, USER_FPREGS)),
	OP(PTRACE_SETFPREGS, IN(3, USER_FPREGS)),
	OP(PTRACE_GET_THREAD_AREA, OUT(3, 16)),
	OP(PTRACE_SET_THREAD_AREA, IN(3, 16)),
	OP(PTRACE_ARCH_PRCTL, OUT(2, 8)),
#endif
	OPS(PTRACE_ATTACH, PTRACE_DETACH),
	OP(PTRACE_SYSCALL),
	/* PTRACE_SYSEMU and its like. */
	OPS(31, 33),
	OP(PTRACE_SETOPTIONS),
	OP(PTRACE_GETEVENTMSG, OUT(3, 8)),
	OP(PTRACE_GETSIGINFO, OUT(3, sizeof(siginfo_t))),
	OP(PTRACE_SETSIGINFO, IN(3, sizeof(siginfo_t))),
	OP(PTRACE_GETREGSET, INOUT(3, sizeof(struct iovec)), OUT_AT(3, 0, AT64(3, 8))),
	OP(PTRACE_SETREGSET, INOUT(3, sizeof(struct iovec)), IN_AT(3, 0, AT64(3, 8))),
	OPS(PTRACE_SEIZE, PTRACE_LISTEN),
	OP(PTRACE_PEEKSIGINFO, IN(2, sizeof(struct ptrace_peeksiginfo_args)),
	   OUT(3, sizeof(siginfo_t) * AT_INT(2, 12))),
	OP(PTRACE_GETSIGMASK, OUT(3, LEN(2))),
	OP(PTRACE_SETSIGMASK, IN(3, LEN(2))),
	/* As long as the filter is. */
	OP(PTRACE_SECCOMP_GET_FILTER, OUT(3, 4096), PARTLY),
	OP(PTRACE_SECCOMP_GET_METADATA, INOUT(3, LEN(2))),
	OP(PTRACE_GET_SYSCALL_INFO, OUT(3, LEN(2))),
	OP(PTRACE_GET_RSEQ_CONFIGURATION, OUT(3, LEN(2))),
	/* PTRACE_SET_ and _GET_SYSCALL_USER_DISPATCH_CONFIG, PTRACE_SET_SYSCALL_INFO. */
	OP(0x4210, IN(3, LEN(2))),
	OP(0x4211, OUT(3, LEN(2))),
	OP(0x4212, IN(3, LEN(2))),
};

/* By the subcommand: the type of the quota is below it. */
#define XFS_QUOTA sizeof(struct fs_disk_quota)
#define QUOTA_OP(op_) ((uint32_t)(op_)&0xffffff)

static const struct call_op quotactl_ops[] = {
	OP(Q_SYNC),
	OP(Q_QUOTAON, STRING(3)),
	OP(Q_QUOTAOFF),
	OP(Q_GETFMT, OUT(3, 4)),
	OP(Q_GETINFO, OUT(3, sizeof(struct if_dqinfo))),
	OP(Q_SETINFO, IN(3, sizeof(struct if_dqinfo))),
	OP(Q_GETQUOTA, OUT(3, sizeof(struct if_dqblk))),
	OP(Q_SETQUOTA, IN(3, sizeof(struct if_dqblk))),
	OP(Q_GETNEXTQUOTA, OUT(3, sizeof(struct if_nextdqblk))),
	OPS(Q_XQUOTAON, Q_XQUOTAOFF, IN(3, 4)),
	OP(Q_XGETQUOTA, OUT(3, XFS_QUOTA)),
	OP(Q_XSETQLIM, IN(3, XFS_QUOTA)),
	OP(Q_XGETQSTAT, OUT(3, sizeof(struct fs_quota_stat))),
	OP(Q_XQUOTARM, IN(3, 4)),
	OP(Q_XQUOTASYNC),
	OP(Q_XGETQSTATV, INOUT(3, sizeof(struct fs_quota_statv))),
	OP(Q_XGETNEXTQUOTA, OUT(3, XFS_QUOTA)),
};

static const struct call_op seccomp_ops[] = {
	OP(SECCOMP_SET_MODE_STRICT),
	OP(SECCOMP_SET_MODE_FILTER, FILTER(2)),
	OP(SECCOMP_GET_ACTION_AVAIL, IN(2, 4)),
	OP(SECCOMP_GET_NOTIF_SIZES, OUT(2, sizeof(struct seccomp_notif_sizes))),
};

/* What is more than the option itself. */
static const struct call_op setsockopt_ops[] = {
	OP_PAIR(SOL_SOCKET, SO_ATTACH_FILTER, FILTER(3)),
	OP_PAIR(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, FILTER(3)),
};

static const struct call_op getsockopt_ops[] = {
	/* The length counts instructions. */
	OP_PAIR(SOL_SOCKET, SO_GET_FILTER, OUT(3, 8 * AT_INT(4, 0))),
};

static const struct call_op sysfs_ops[] = {
	OP(1, STRING(1)),
	OP(2, OUT(2, 32)), /* the name of a file system */
	OP(3),
};

static const struct call_op syslog_ops[] = {
	OPS(0, 1),
	OPS(2, 4, OUT(1, INT(2))), /* SYSLOG_ACTION_READ, _READ_ALL, _READ_CLEAR */
	OPS(5, 10),
};

/* By IORING_ENTER_EXT_ARG and _EXT_ARG_REG; with the latter it is no address. */
static const struct call_op uring_enter_ops[] = {
	OP(0, IN(4, LEN(5))),
	OP(IORING_ENTER_EXT_ARG, IN(4, 24), IN_AT(4, 0, AT32(4, 8)),
	   IN_AT(4, 16, TIMESPEC)),
	OPS(0x40, 0x48),
};

static const struct call_op uring_register_ops[] = {
	/* They are held for as long as they are registered. */
	OP(IORING_REGISTER_BUFFERS, IOVEC_MANY(2, UINT(3))),
	OP(IORING_UNREGISTER_BUFFERS),
	OP(IORING_REGISTER_FILES, IN(2, 4 * UINT(3))),
	OP(IORING_UNREGISTER_FILES),
	OP(IORING_REGISTER_EVENTFD, IN(2, 4)),
	OP(IORING_UNREGISTER_EVENTFD),
	OP(IORING_REGISTER_FILES_UPDATE, IN(2, 16), IN_AT(2, 8, 4 * UINT(3))),
	OP(IORING_REGISTER_EVENTFD_ASYNC, IN(2, 4)),
	OP(IORING_REGISTER_PROBE, INOUT(2, 16), OUT_PAST(2, 16, 8 * UINT(3))),
	OPS(IORING_REGISTER_PERSONALITY, IORING_UNREGISTER_PERSONALITY),
	OP(IORING_REGISTER_RESTRICTIONS, IN(2, 16 * UINT(3))),
	OP(IORING_REGISTER_ENABLE_RINGS),
	/* From IORING_REGISTER_FILES2 on: the argument's size, and arrays behind it. */
	OPS(13, 16, IN(2, UINT(3)), PARTLY),
	OP(IORING_REGISTER_IOWQ_AFF, IN(2, UINT(3))),
	OP(IORING_UNREGISTER_IOWQ_AFF),
	OP(IORING_REGISTER_IOWQ_MAX_WORKERS, INOUT(2, 8)),
	/* IORING_REGISTER_RING_FDS, IORING_REGISTER_PBUF_RING, and against them. */
	OPS(20, 21, INOUT(2, 16 * UINT(3))),
	OPS(22, 23, INOUT(2, 40), PARTLY),
	/* IORING_REGISTER_SYNC_CANCEL, _FILE_ALLOC_RANGE, _PBUF_STATUS. */
	OP(24, IN(2, 64)),
	OP(25, IN(2, 16)),
	OP(26, INOUT(2, 40)),
	/* IORING_REGISTER_NAPI, and against it; IORING_REGISTER_CLOCK. */
	OPS(27, 28, INOUT(2, 16)),
	OP(29, IN(2, 16)),
};

#ifdef __x86_64__
static const struct call_op arch_prctl_ops[] = {
	OPS(ARCH_SET_GS, ARCH_SET_FS),
	OPS(ARCH_GET_FS, ARCH_GET_GS, OUT(1, 8)),
	OPS(ARCH_GET_CPUID, ARCH_SET_CPUID),
	OPS(0x1021, 0x1022, OUT(1, 8)), /* ARCH_GET_XCOMP_SUPP, _PERM */
	OP(0x1023),
	OP(0x1024, OUT(1, 8)), /* ARCH_GET_XCOMP_GUEST_PERM */
	OP(0x1025),
	OPS(ARCH_MAP_VDSO_X32, ARCH_MAP_VDSO_64),
	OP(0x4001, OUT(1, 8)), /* ARCH_GET_UNTAG_MASK */
	OP(0x4002),
	OP(0x4003, OUT(1, 8)), /* ARCH_GET_MAX_TAG_BITS */
	OP(0x4004),
	OPS(0x5001, 0x5004),   /* ARCH_SHSTK_ENABLE and so on */
	OP(0x5005, OUT(1, 8)), /* ARCH_SHSTK_STATUS */
};

static const struct call_op modify_ldt_ops[] = {
	OP(0, OUT(1, LEN(2))),
	OP(1, IN(1, LEN(2))),
	OP(2, OUT(1, LEN(2))),
	OP(0x11, IN(1, LEN(2))),
};
#endif

#define TABLE(name_)                                                                     \
	*nr = sizeof(name_##_ops) / sizeof(name_##_ops[0]);                              \
	return name_##_ops

/* No array of pointers: those would be relocated in every process that starts. */
const struct call_op *call_ops(enum call_table table, size_t *nr)
{
	switch (table) {
	case OPS_EPOLL_CTL:
		TABLE(epoll_ctl);
	case OPS_FCNTL:
		TABLE(fcntl);
	case OPS_FSCONFIG:
		TABLE(fsconfig);
	case OPS_FUTEX:
		TABLE(futex);
	case OPS_GETSOCKOPT:
		TABLE(getsockopt);
	case OPS_IOCTL:
		return call_ioctl_ops(nr);
	case OPS_KCMP:
		TABLE(kcmp);
	case OPS_KEYCTL:
		TABLE(keyctl);
	case OPS_LANDLOCK:
		TABLE(landlock);
	case OPS_MSGCTL:
		TABLE(msgctl);
	case OPS_PRCTL:
		TABLE(prctl);
	case OPS_PTRACE:
		TABLE(ptrace);
	case OPS_QUOTACTL:
		TABLE(quotactl);
	case OPS_SECCOMP:
		TABLE(seccomp);
	case OPS_SEMCTL:
		TABLE(semctl);
	case OPS_SETSOCKOPT:
		TABLE(setsockopt);
	case OPS_SHMCTL:
		TABLE(shmctl);
	case OPS_SYSFS:
		TABLE(sysfs);
	case OPS_SYSLOG:
		TABLE(syslog);
	case OPS_URING_ENTER:
		TABLE(uring_enter);
	case OPS_URING_REGISTER:
		TABLE(uring_register);
#ifdef __x86_64__
	case OPS_ARCH_PRCTL:
		TABLE(arch_prctl);
	case OPS_MODIFY_LDT:
		TABLE(modify_ldt);
#endif
	default:
		*nr = 0;
		return NULL;
	}
}
