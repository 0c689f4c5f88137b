/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of what system calls do with memory against the kernel: it must be content
 * with a buffer that ends where the table says, and with no byte less.
 */
#include "tests/unit/guard_pieces.h"

#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

static char *limit; /* what lies from here on nobody may touch */
static unsigned nr_exact;

#define ROOM 65536

static void make_limit(void)
{
	const char *instrument = test_instrument();
	char *p = mmap(NULL, 2 * ROOM, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* It breaks down where the kernel would say no. */
	if (instrument && !strcmp(instrument, "valgrind"))
		SKIP("valgrind looks at what a system call names");
	CHECK(p != MAP_FAILED);
	limit = p + ROOM;
	CHECK(!mprotect(limit, ROOM, PROT_NONE));
}

static long make_call(long nr, const uint64_t *arg)
{
	long r = syscall(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);

	return r == -1 ? -errno : r;
}

static void put(char *at, const void *content, size_t len)
{
	memset(limit - ROOM, 0, ROOM);
	if (content)
		memcpy(at, content, len);
}

static bool is_as_put(const char *at, size_t len, const void *content, size_t content_len)
{
	size_t i;

	for (i = content_len; i < len; i++)
		if (at[i])
			return false;
	return !content || !memcmp(at, content, content_len);
}

/*
 * Argument `which` is put where what the table says of it just ends before the limit, and
 * then one byte behind that.
 */
static void exact(int line, int which, const void *content, size_t content_len, long nr,
		  const uint64_t *args)
{
	const char *name = call_name(nr);
	uint64_t arg[6];
	size_t i, len = 0;
	bool write = false;
	long r;

	memcpy(arg, args, sizeof(arg));
	put(limit - ROOM, content, content_len);
	arg[which] = P(limit - ROOM);
	CHECK(walk(&walk_own, nr, arg, SIZE_MAX));
	for (i = 0; i < nr_named; i++)
		if (named[i].addr == P(limit - ROOM) && named[i].len > len) {
			len = named[i].len;
			write = named[i].write;
		}
	CHECK(len > 0 && len < ROOM, "line %d: %s", line, name);
	CHECK(content_len <= len, "line %d: %s", line, name);

	arg[which] = P(limit - len);
	put(limit - len, content, content_len);
	r = make_call(nr, arg);
	if (r == -ENOSYS || r == -EPERM || r == -EACCES) {
		fprintf(stderr, "# line %d: %s: not here: %s\n", line, name,
			strerror((int)-r));
		return;
	}
	CHECK(r >= 0, "line %d: %s with %zu bytes: %s", line, name, len,
	      strerror((int)-r));
	CHECK(write || is_as_put(limit - len, len, content, content_len),
	      "line %d: %s writes", line, name);
	put(limit - len, NULL, 0);
	if (content)
		memcpy(limit - len + 1, content,
		       content_len < len ? content_len : len - 1);
	arg[which] = P(limit - len + 1);
	r = make_call(nr, arg);
	CHECK(r == -EFAULT, "line %d: %s with %zu bytes of %zu: %ld", line, name, len - 1,
	      len, r);
	nr_exact++;
}

#define EXACT(which_, nr_, ...) exact(__LINE__, which_, NULL, 0, nr_, ARGS(__VA_ARGS__))
/* With something in it. */
#define EXACT_WITH(which_, content_, nr_, ...)                                           \
	exact(__LINE__, which_, &(content_), sizeof(content_), nr_, ARGS(__VA_ARGS__))

TEST(the_kernel_writes_as_much)
{
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), status;
	struct __user_cap_header_struct cap = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];
	char root[] = "/", mine[4096] __attribute__((aligned(4096)));
	siginfo_t info;
	uint64_t a, b, range[2] = { 0, 0 };
	uint32_t room = sizeof(mine);
	struct stat st;
	pid_t child;

	make_limit();
	CHECK(file >= 0);
	EXACT(0, SYS_uname, 0);
	EXACT(0, SYS_sysinfo, 0);
	EXACT(1, SYS_getrusage, RUSAGE_SELF);
	EXACT(0, SYS_times, 0);
	EXACT(1, SYS_statfs, P(root));
	EXACT(1, SYS_fstatfs, file);
	EXACT(1, SYS_fstat, file);
	EXACT(1, SYS_stat, P(root));
	EXACT(1, SYS_lstat, P(root));
	EXACT(2, SYS_newfstatat, AT_FDCWD, P(root));
	EXACT(4, SYS_statx, AT_FDCWD, P(root), 0, STATX_BASIC_STATS);
	EXACT(1, SYS_getrlimit, RLIMIT_NOFILE);
	EXACT(3, SYS_prlimit64, 0, RLIMIT_NOFILE);
	EXACT(1, SYS_sched_getattr, 0, 0, 48);
	EXACT(1, SYS_sched_getparam, 0);
	EXACT(1, SYS_sched_rr_get_interval, 0);
	EXACT(1, SYS_clock_gettime, CLOCK_REALTIME);
	EXACT(1, SYS_clock_getres, CLOCK_REALTIME);
	EXACT(0, SYS_gettimeofday, 0);
	EXACT(1, SYS_gettimeofday, 0);
	EXACT(0, SYS_time, 0);
	EXACT(0, SYS_adjtimex, 0);
	EXACT(1, SYS_clock_adjtime, CLOCK_REALTIME);
	EXACT(1, SYS_getitimer, ITIMER_REAL);
	EXACT(0, SYS_rt_sigpending, 0, 8);
	EXACT(2, SYS_rt_sigprocmask, SIG_BLOCK, 0, 0, 8);
	EXACT(2, SYS_rt_sigaction, SIGUSR1, 0, 0, 8);
	EXACT(1, SYS_sigaltstack, 0);
	EXACT(1, SYS_get_robust_list, 0, 0, P(&a));
	EXACT(2, SYS_get_robust_list, 0, P(&a));
	EXACT_WITH(0, cap, SYS_capget, 0, P(caps));
	EXACT(1, SYS_capget, P(&cap));
	EXACT(0, SYS_getresuid, 0, P(&a), P(&b));
	EXACT(1, SYS_getresuid, P(&a), 0, P(&b));
	EXACT(2, SYS_getresgid, P(&a), P(&b));
	EXACT(0, SYS_getcpu, 0);
	EXACT(1, SYS_getcpu, 0);
	EXACT(1, SYS_arch_prctl, ARCH_GET_FS);
	EXACT(1, SYS_prctl, PR_GET_NAME);
	EXACT(1, SYS_prctl, PR_GET_PDEATHSIG);
	EXACT(1, SYS_prctl, PR_GET_CHILD_SUBREAPER);
	EXACT(1, SYS_prctl, PR_GET_TSC);
	EXACT(2, SYS_seccomp, SECCOMP_GET_NOTIF_SIZES);
	EXACT(2, SYS_shmctl, 0, IPC_INFO);
	EXACT(2, SYS_shmctl, 0, SHM_INFO);
	EXACT(2, SYS_msgctl, 0, IPC_INFO);
	EXACT(3, SYS_semctl, 0, 0, IPC_INFO);
	EXACT(2, SYS_mincore, P(mine), 1);
	EXACT(0, SYS_get_mempolicy, 0);
	EXACT(2, 451 /* cachestat */, file, P(range));

	child = fork();
	if (!child)
		_exit(0);
	EXACT(4, SYS_waitid, P_PID, child, P(&info), WEXITED | WNOWAIT);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(!stat(root, &st));
	EXACT(1, SYS_ustat, st.st_dev);
	EXACT_WITH(1, room, 461 /* lsm_list_modules */, P(mine));
	CHECK_GT(nr_exact, 35);
}

/* Of terminals, timers, sockets. */
TEST(and_as_much_of_what_is_open)
{
	int pair[2], queue, terminal, timer = timerfd_create(CLOCK_MONOTONIC, 0), id;
	struct sigevent none = { .sigev_notify = SIGEV_NONE };
	struct epoll_event event = { .events = EPOLLOUT };
	struct ifreq loopback = { .ifr_name = "lo" };
	struct flock lock = { .l_type = F_RDLCK };
	struct f_owner_ex owner = { F_OWNER_PID, getpid() };
	socklen_t room = 128, four = 4;
	char name[128], word[4];

	make_limit();
	CHECK(timer >= 0 && !socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	queue = epoll_create1(0);
	CHECK(queue >= 0 && !epoll_ctl(queue, EPOLL_CTL_ADD, pair[0], &event));
	CHECK(!syscall(SYS_timer_create, CLOCK_MONOTONIC, &none, &id));

	EXACT(0, SYS_pipe, 0);
	EXACT(0, SYS_pipe2, 0);
	EXACT(3, SYS_socketpair, AF_UNIX, SOCK_STREAM, 0);
	EXACT(1, SYS_epoll_wait, queue, 0, 1, 0);
	EXACT(1, SYS_epoll_pwait, queue, 0, 1, 0);
	EXACT(2, SYS_getsockname, pair[0], P(name));
	EXACT_WITH(2, room, SYS_getsockname, pair[0], P(name));
	EXACT_WITH(4, four, SYS_getsockopt, pair[0], SOL_SOCKET, SO_TYPE, P(word));
	EXACT(3, SYS_getsockopt, pair[0], SOL_SOCKET, SO_TYPE, 0, P(&four));
	EXACT(1, SYS_timer_gettime, id);
	EXACT_WITH(1, none, SYS_timer_create, CLOCK_MONOTONIC, 0, P(&id));
	EXACT(2, SYS_timer_create, CLOCK_MONOTONIC, P(&none));
	EXACT(1, SYS_timerfd_gettime, timer);
	EXACT(3, SYS_timerfd_settime, timer, 0,
	      P(&(struct itimerspec){ .it_value = { 0 } }));
	EXACT_WITH(2, lock, SYS_fcntl, timer, F_GETLK);
	EXACT(2, SYS_fcntl, timer, F_GETOWN_EX);
	EXACT(2, SYS_fcntl, timer, 17 /* F_GETOWNER_UIDS */);
	EXACT_WITH(2, owner, SYS_fcntl, timer, F_SETOWN_EX);
	EXACT(2, SYS_ioctl, pair[0], FIONREAD);
	EXACT(2, SYS_ioctl, pair[0], FIONBIO);
	EXACT(2, SYS_ioctl, pair[0], FIOASYNC);
	EXACT(2, SYS_ioctl, pair[0], SIOCGIFCONF);
	EXACT_WITH(2, loopback, SYS_ioctl, pair[0], SIOCGIFINDEX);
	EXACT_WITH(2, loopback, SYS_ioctl, pair[0], SIOCGIFFLAGS);
	EXACT(1, SYS_io_setup, 1);

	terminal = posix_openpt(O_RDWR | O_NOCTTY);
	if (terminal >= 0) {
		EXACT(2, SYS_ioctl, terminal, 0x5401 /* TCGETS */);
		EXACT(2, SYS_ioctl, terminal, 0x5405 /* TCGETA */);
		EXACT(2, SYS_ioctl, terminal, TIOCGWINSZ);
		EXACT(2, SYS_ioctl, terminal, TIOCSWINSZ);
		EXACT(2, SYS_ioctl, terminal, TIOCGETD);
		EXACT(2, SYS_ioctl, terminal, TIOCOUTQ);
		EXACT(2, SYS_ioctl, terminal, TIOCPKT);
		EXACT(2, SYS_ioctl, terminal, TIOCGPTN);
		EXACT(2, SYS_ioctl, terminal, TIOCSPTLCK);
	}
	CHECK_GT(nr_exact, 18);
}

TEST(and_of_queues_semaphores_and_shared_memory)
{
	int queue, set, memory;

	make_limit();
	queue = msgget(IPC_PRIVATE, 0600);
	if (queue < 0)
		SKIP("no System V queues: %s", strerror(errno));
	set = semget(IPC_PRIVATE, 1, 0600);
	memory = shmget(IPC_PRIVATE, 4096, 0600);
	EXACT(2, SYS_msgctl, queue, IPC_STAT);
	EXACT(3, SYS_semctl, set, 0, IPC_STAT);
	EXACT(2, SYS_shmctl, memory, IPC_STAT);
	EXACT(1, SYS_semop, set, 0, 1); /* waits until it is zero, which it is */
	msgctl(queue, IPC_RMID, NULL);
	semctl(set, 0, IPC_RMID);
	shmctl(memory, IPC_RMID, NULL);
	CHECK_EQ(nr_exact, 4);
}

TEST(the_kernel_reads_as_much)
{
	int queue = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0), pair[2];
	struct pollfd nothing = { .fd = -1 };
	stack_t stack = { .ss_flags = SS_DISABLE };
	struct timespec times[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };
	struct sched_param param = { 0 };
	struct iovec iov = { NULL, 0 };
	struct msghdr msg = { .msg_iov = NULL };
	struct rlimit limits;
	char mask[8] = { 0 };
	struct epoll_event event = { .events = EPOLLIN };
	struct __user_cap_header_struct cap = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];
	uint64_t list[3] = { 24, UINT64_MAX }, mounts[5];
	uint32_t action = SECCOMP_RET_ALLOW, attr[12] = { sizeof(attr) };
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	make_limit();
	CHECK(queue >= 0 && timer >= 0 && !socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	CHECK(!getrlimit(RLIMIT_NOFILE, &limits));
	/* Or select() would not look at so many. */
	CHECK_EQ(dup2(queue, 100), 100);
	EXACT(0, SYS_nanosleep, 0);
	EXACT(2, SYS_clock_nanosleep, CLOCK_MONOTONIC, 0);
	EXACT(1, SYS_setitimer, ITIMER_REAL);
	EXACT(2, SYS_timerfd_settime, timer, 0);
	EXACT_WITH(1, limits, SYS_setrlimit, RLIMIT_NOFILE);
	EXACT_WITH(2, limits, SYS_prlimit64, 0, RLIMIT_NOFILE);
	EXACT_WITH(0, stack, SYS_sigaltstack, 0);
	EXACT(1, SYS_rt_sigaction, SIGUSR1, 0, 0, 8);
	EXACT(1, SYS_rt_sigprocmask, SIG_BLOCK, 0, 0, 8);
	EXACT_WITH(0, nothing, SYS_poll, 0, 1, 0);
	EXACT_WITH(0, nothing, SYS_ppoll, 0, 1, P(&(struct timespec){ 0 }));
	EXACT(2, SYS_ppoll, P(&nothing), 1);
	EXACT_WITH(3, mask, SYS_ppoll, P(&nothing), 1, P(&(struct timespec){ 0 }), 0, 8);
	EXACT(1, SYS_select, 1, 0, 0, 0, P(&(struct timeval){ 0 }));
	EXACT(4, SYS_select, 0);
	EXACT(2, SYS_select, 65, 0, 0, 0, P(&(struct timeval){ 0 }));
	EXACT_WITH(2, times, SYS_utimensat, AT_FDCWD, P("/"));
	EXACT_WITH(1, param, SYS_sched_setparam, 0);
	EXACT_WITH(2, param, SYS_sched_setscheduler, 0, SCHED_OTHER);
	EXACT_WITH(1, iov, SYS_writev, pair[0], 0, 1);
	EXACT_WITH(1, msg, SYS_sendmsg, pair[0]);
	EXACT(1, SYS_write, pair[0], 0, 10);
	CHECK(!epoll_ctl(queue, EPOLL_CTL_ADD, pair[0], &event));
	EXACT_WITH(3, event, SYS_epoll_ctl, queue, EPOLL_CTL_MOD, pair[0]);
	CHECK(!syscall(SYS_capget, &cap, caps));
	EXACT_WITH(1, caps, SYS_capset, P(&cap));
	EXACT_WITH(0, cap, SYS_capset, 0, P(caps));
	EXACT_WITH(2, action, SYS_seccomp, SECCOMP_GET_ACTION_AVAIL);
	EXACT_WITH(1, attr, SYS_sched_setattr, 0);
	EXACT(1, 451 /* cachestat */, file, 0, P(mounts), 0);
	EXACT_WITH(0, list, 458 /* listmount */, 0, P(mounts), 4);
	CHECK_GT(nr_exact, 20);
}
