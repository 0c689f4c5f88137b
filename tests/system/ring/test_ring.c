/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ringing at a process's door must be noticed by nobody in that process.
 *
 * The target is a forked child with a door; what it does meanwhile is the test: it
 * computes, sleeps in each kind of system call, takes signals. The parent rings and
 * checks that each time a thread came in.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "cmd/probe.h"
#include "cmd/ring.h"
#include "cmd/tree.h"
#include "preload/preload.h"
#include "test.h"

#define CLAIM UINT64_C(0x1234567800000001)

static struct shared {
	struct ctl_door door;
	uint32_t visits, ready, stop, handled;
	int result;
} * sh;

/* What cmd/ring.c takes from the rest of the command. */
uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int probe_read(const char *path, char *buf, unsigned long size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return -errno;
	buf[n] = 0;
	return 0;
}

/* In the target, on the thread that came in. */
void door_main(void)
{
	__atomic_fetch_add(&sh->visits, 1, __ATOMIC_RELEASE);
}

static void sleep_ms(int ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&left, &left))
		;
}

static bool stopped(void)
{
	return __atomic_load_n(&sh->stop, __ATOMIC_ACQUIRE);
}

/* ---- the target -------------------------------------------------------------------- */

static pid_t start(void (*fn)(void))
{
	pid_t pid;

	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		  -1, 0);
	CHECK(sh != MAP_FAILED);
	if (!ring_is_possible())
		SKIP("ptrace is not permitted");
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(door_open(&sh->door, CLAIM));
		__atomic_store_n(&sh->ready, 1, __ATOMIC_RELEASE);
		fn();
		_exit(0);
	}
	while (!__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	return pid;
}

static void end(pid_t pid)
{
	int status;

	__atomic_store_n(&sh->stop, 1, __ATOMIC_RELEASE);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
}

static int nr_tasks(pid_t pid)
{
	char path[64];
	int nr = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	CHECK(dir);
	while (readdir(dir))
		nr++;
	nr -= 2; /* . and .. */
	closedir(dir);
	return nr;
}

/* The answer once there is one: who gets no processor does not stop at once. */
static enum ring ring_until(pid_t pid, uint64_t claim, uintptr_t door)
{
	enum ring result;

	do
		result = ring((uint32_t)pid, claim, door);
	while (result == RING_LATER);
	return result;
}

/* Rings, and waits until who came in has gone. */
static void ring_once(pid_t pid)
{
	uint32_t visits = __atomic_load_n(&sh->visits, __ATOMIC_ACQUIRE);
	int tasks = nr_tasks(pid);

	__atomic_store_n(&sh->door.magic, CTL_DOOR_MAGIC, __ATOMIC_RELEASE);
	CHECK_EQ(ring_until(pid, CLAIM, (uintptr_t)&sh->door), RING_DONE);
	CHECK_EQ(sh->door.magic, 0);
	while (__atomic_load_n(&sh->visits, __ATOMIC_ACQUIRE) == visits ||
	       nr_tasks(pid) > tasks)
		sched_yield();
	CHECK_EQ(sh->visits, visits + 1);
}

static void ring_often(pid_t pid, int times)
{
	for (int i = 0; i < times; i++)
		ring_once(pid);
}

/* ---- what computes ----------------------------------------------------------------- */

/* Full of values in registers of all kinds. */
static uint64_t __attribute__((noinline)) churn(void)
{
	uint64_t a = 1, b = 2, c = 3, d = 4, sum;
	double x = 1, y = 2, z = 3;
	float v[16];

	for (int i = 0; i < 16; i++)
		v[i] = (float)i;
	for (int i = 0; i < 20000; i++) {
		a = a * 6364136223846793005u + b;
		b ^= a >> 17 | c << 3;
		c += d * a;
		d = (d << 7 | d >> 57) + b;
		x = x * 1.000001 + y;
		y = y * 0.999999 + 1 / z;
		z += 0.5;
		for (int k = 0; k < 16; k++)
			v[k] = v[k] * 0.5f + (float)k;
	}
	sum = a ^ b ^ c ^ d;
	memcpy(&a, &x, 8);
	memcpy(&b, &y, 8);
	sum ^= a ^ b;
	for (int k = 0; k < 16; k++)
		sum += (uint64_t)v[k];
	return sum;
}

static void *churn_until_stopped(void *arg)
{
	uint64_t first = churn();

	(void)arg;
	while (!stopped())
		CHECK_EQ(churn(), first);
	return NULL;
}

static void compute(void)
{
	churn_until_stopped(NULL);
}

static void compute_in_threads(void)
{
	pthread_t thread[4];

	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&thread[i], NULL, churn_until_stopped, NULL));
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
}

static void call(void)
{
	while (!stopped()) {
		CHECK_EQ(syscall(SYS_getppid), getppid());
		CHECK_EQ(lseek(12345, 0, SEEK_SET), -1);
		CHECK_EQ(errno, EBADF);
	}
}

static void fork_children(void)
{
	int status;
	pid_t pid;

	while (!stopped()) {
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0)
			_exit(3);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(WEXITSTATUS(status), 3);
	}
}

static void ring_under(void (*fn)(void), int times)
{
	pid_t pid = start(fn);

	ring_often(pid, times);
	end(pid);
}

TEST(what_computes_does_not_notice)
{
	ring_under(compute, 300);
}

TEST(threads_do_not_notice)
{
	pid_t pid = start(compute_in_threads);

	/* All of them: one that came later would be taken for who came in. */
	while (nr_tasks(pid) < 1 + 4)
		sleep_ms(1);
	ring_often(pid, 100);
	end(pid);
}

TEST(results_of_calls_are_kept)
{
	ring_under(call, 300);
}

TEST(a_process_that_forks_does_not_notice)
{
	ring_under(fork_children, 100);
}

/* ---- what sleeps ------------------------------------------------------------------- */

static int pipe_fds[2], socket_fds[2], epoll_fd, semaphore, queue;

struct message {
	long type;
	char text[1];
};

static int in_read(void)
{
	return read(pipe_fds[0], (char[1]){ 0 }, 1) == 1;
}

static int in_poll(void)
{
	return poll(&(struct pollfd){ pipe_fds[0], POLLIN, 0 }, 1, 20000) == 1;
}

static int in_ppoll(void)
{
	sigset_t none;

	sigemptyset(&none);
	return ppoll(&(struct pollfd){ pipe_fds[0], POLLIN, 0 }, 1,
		     &(struct timespec){ 20, 0 }, &none) == 1;
}

static int in_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(pipe_fds[0], &set);
	return select(pipe_fds[0] + 1, &set, NULL, NULL, &(struct timeval){ 20, 0 }) == 1;
}

static int in_epoll_wait(void)
{
	return epoll_wait(epoll_fd, &(struct epoll_event){ 0 }, 1, -1) == 1;
}

static int in_epoll_pwait(void)
{
	sigset_t none;

	sigemptyset(&none);
	return epoll_pwait(epoll_fd, &(struct epoll_event){ 0 }, 1, 20000, &none) == 1;
}

static int in_recv(void)
{
	return recv(socket_fds[0], (char[1]){ 0 }, 1, 0) == 1;
}

/* Of these two there may be none to be had: then they do not sleep. */
static int in_semop(void)
{
	return semaphore < 0 || semop(semaphore, &(struct sembuf){ 0, -1, 0 }, 1) == 0;
}

static int in_msgrcv(void)
{
	struct message message;

	return queue < 0 || msgrcv(queue, &message, 1, 0, 0) == 1;
}

static int in_sigtimedwait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return sigtimedwait(&set, NULL, &(struct timespec){ 20, 0 }) == SIGUSR1;
}

static int in_futex(void)
{
	return syscall(SYS_futex, &sh->stop, FUTEX_WAIT, 0,
		       &(struct timespec){ 20, 0 }) == 0 ||
	       errno == EAGAIN;
}

/* As long as asked for, though it is interrupted. */
static int in_nanosleep(void)
{
	uint64_t before = monotonic_ns();

	return nanosleep(&(struct timespec){ 0, 300000000 }, NULL) == 0 &&
	       monotonic_ns() - before >= 300000000;
}

static int (*const sleepers[])(void) = {
	in_read, in_poll,  in_ppoll,  in_select,       in_epoll_wait, in_epoll_pwait,
	in_recv, in_semop, in_msgrcv, in_sigtimedwait, in_futex,      in_nanosleep,
};
static unsigned which;

static void sleep_in_call(void)
{
	CHECK(sleepers[which](), "call %u", which);
}

static void wake_all(pid_t pid)
{
	struct message message = { 1, "x" };

	__atomic_store_n(&sh->stop, 1, __ATOMIC_RELEASE);
	CHECK_EQ(write(pipe_fds[1], "x", 1), 1);
	CHECK_EQ(write(socket_fds[1], "x", 1), 1);
	CHECK(semaphore < 0 || !semop(semaphore, &(struct sembuf){ 0, 1, 0 }, 1));
	CHECK(queue < 0 || !msgsnd(queue, &message, 1, 0));
	syscall(SYS_futex, &sh->stop, FUTEX_WAKE, 1);
	if (sleepers[which] == in_sigtimedwait)
		kill(pid, SIGUSR1);
}

TEST(calls_that_sleep_are_not_interrupted, .timeout_s = 60)
{
	struct timeval timeout = { 20, 0 };
	sigset_t set;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	unshare(CLONE_NEWIPC); /* others may have used up what there is */
	for (which = 0; which < sizeof(sleepers) / sizeof(sleepers[0]); which++) {
		struct epoll_event event = { .events = EPOLLIN };

		CHECK(!pipe(pipe_fds));
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, socket_fds));
		CHECK(!setsockopt(socket_fds[0], SOL_SOCKET, SO_RCVTIMEO, &timeout,
				  sizeof(timeout)));
		epoll_fd = epoll_create1(0);
		CHECK(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event));
		semaphore = semget(IPC_PRIVATE, 1, 0600);
		queue = msgget(IPC_PRIVATE, 0600);
		pid = start(sleep_in_call);
		sleep_ms(10);
		if ((semaphore >= 0 || sleepers[which] != in_semop) &&
		    (queue >= 0 || sleepers[which] != in_msgrcv))
			ring_often(pid, 5);
		wake_all(pid);
		end(pid);
		semctl(semaphore, 0, IPC_RMID);
		msgctl(queue, IPC_RMID, NULL);
	}
}

/* ---- signals ----------------------------------------------------------------------- */

#define SIGNALS_SENT 2000

static void count_signal(int sig)
{
	(void)sig;
	__atomic_fetch_add(&sh->handled, 1, __ATOMIC_RELAXED);
}

static void take_signals(void)
{
	struct sigaction action = { .sa_handler = count_signal };

	sigaction(SIGRTMIN, &action, NULL);
	__atomic_store_n(&sh->ready, 2, __ATOMIC_RELEASE);
	compute();
}

TEST(no_signal_is_lost)
{
	pid_t pid = start(take_signals);

	while (__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE) != 2)
		sleep_ms(1);
	for (int i = 0; i < SIGNALS_SENT; i++) {
		while (sigqueue(pid, SIGRTMIN, (union sigval){ 0 }))
			sleep_ms(1);
		if (i % 10 == 0)
			ring_once(pid);
	}
	while (__atomic_load_n(&sh->handled, __ATOMIC_RELAXED) < SIGNALS_SENT)
		sleep_ms(1);
	end(pid);
	CHECK_EQ(sh->handled, SIGNALS_SENT);
}

/* A call that the program's own signal interrupts says so. */
static void wait_for_signal(void)
{
	struct sigaction action = { .sa_handler = count_signal };
	int fd = epoll_create1(0);

	sigaction(SIGUSR1, &action, NULL);
	__atomic_store_n(&sh->ready, 2, __ATOMIC_RELEASE);
	CHECK_EQ(epoll_wait(fd, &(struct epoll_event){ 0 }, 1, -1), -1);
	CHECK_EQ(errno, EINTR);
	CHECK_EQ(__atomic_load_n(&sh->handled, __ATOMIC_RELAXED), 1);
}

static void *ring_beside(void *arg)
{
	pid_t pid = *(pid_t *)arg;

	for (int i = 0; i < 50 && !stopped(); i++) {
		__atomic_store_n(&sh->door.magic, CTL_DOOR_MAGIC, __ATOMIC_RELEASE);
		if (ring((uint32_t)pid, CLAIM, (uintptr_t)&sh->door) == RING_DONE)
			break;
	}
	return NULL;
}

TEST(a_signal_still_interrupts)
{
	pthread_t thread;
	pid_t pid;

	for (int i = 0; i < 30; i++) {
		pid = start(wait_for_signal);
		while (__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE) != 2)
			sched_yield();
		sleep_ms(2);
		CHECK(!pthread_create(&thread, NULL, ring_beside, &pid));
		kill(pid, SIGUSR1);
		pthread_join(thread, NULL);
		end(pid);
	}
}

/* ---- who is left alone ------------------------------------------------------------- */

static void be_filtered(void)
{
	struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { 1, all };

	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	__atomic_store_n(&sh->ready, 2, __ATOMIC_RELEASE);
	compute();
}

TEST(a_filtered_process_is_left_alone)
{
	pid_t pid = start(be_filtered);

	while (__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE) != 2)
		sleep_ms(1);
	CHECK_EQ(ring_until(pid, CLAIM, (uintptr_t)&sh->door), RING_UNABLE);
	end(pid);
	CHECK_EQ(sh->visits, 0);
}

TEST(another_program_is_left_alone)
{
	pid_t pid = start(compute);

	for (int i = 0; i < 50; i++) {
		CHECK_EQ(ring_until(pid, CLAIM + 1, (uintptr_t)&sh->door), RING_NOBODY);
		CHECK_EQ(ring_until(pid, CLAIM, 0x1000), RING_NOBODY);
	}
	end(pid);
	CHECK_EQ(sh->visits, 0);
	CHECK_EQ(ring((uint32_t)pid, CLAIM, (uintptr_t)&sh->door), RING_LATER);
}

TEST(a_traced_process_is_left_alone)
{
	pid_t pid = start(compute);

	CHECK(!ptrace(PTRACE_SEIZE, pid, NULL, NULL));
	CHECK_EQ(ring((uint32_t)pid, CLAIM, (uintptr_t)&sh->door), RING_LATER);
	CHECK(!ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	CHECK(!ptrace(PTRACE_DETACH, pid, NULL, NULL));
	ring_once(pid);
	end(pid);
}

TEST(a_stopped_process_stays_stopped)
{
	pid_t pid = start(compute);
	int status;

	CHECK(!kill(pid, SIGSTOP));
	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	CHECK_EQ(ring((uint32_t)pid, CLAIM, (uintptr_t)&sh->door), RING_LATER);
	sleep_ms(20);
	CHECK_EQ(waitpid(pid, &status, WNOHANG | WCONTINUED), 0);
	CHECK(!kill(pid, SIGCONT));
	ring_once(pid);
	end(pid);
}

/* A stop that comes while somebody comes in is kept for the time after. */
TEST(a_stop_is_not_lost, .timeout_s = 60)
{
	pid_t pid = start(compute);
	pthread_t thread;
	int status;

	for (int i = 0; i < 100; i++) {
		uint32_t visits = sh->visits;

		CHECK(!pthread_create(&thread, NULL, ring_beside, &pid));
		kill(pid, SIGSTOP);
		pthread_join(thread, NULL);
		CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
		CHECK(WIFSTOPPED(status), "status %#x", status);
		kill(pid, SIGCONT);
		if (sh->door.magic == 0)
			while (__atomic_load_n(&sh->visits, __ATOMIC_ACQUIRE) == visits ||
			       nr_tasks(pid) > 1)
				sched_yield();
	}
	end(pid);
}
