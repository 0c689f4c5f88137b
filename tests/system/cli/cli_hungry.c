/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_hungry MIB [wait | late]: a program that knows nothing of uhmm, needs MIB, and uses
 * all of it in each way that there is: itself, by system calls, from threads, in children
 * of every kind. Prints a line for each; status 1: something was wrong. With wait:
 * threads are in calls that wait when memory runs short, and none of them may notice.
 * With late: one is in a call then that nothing can interrupt.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define STEP ((size_t)64 << 10)
#define STACK ((size_t)256 << 10)

extern char **environ;

static struct {
	unsigned char *p;
	size_t size;
} memory;

static unsigned char byte(size_t i)
{
	return (unsigned char)(i / 32 * 7 + (i >> 20));
}

static bool is_right(const unsigned char *p, size_t from, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != byte(from + i))
			return false;
	return true;
}

static bool all_right(void)
{
	return is_right(memory.p, 0, memory.size);
}

static void fill(void)
{
	size_t i;

	for (i = 0; i < memory.size; i++)
		memory.p[i] = byte(i);
}

/* The kernel reads what is elsewhere, and writes where nothing is. */
static bool through_a_file(void)
{
	char name[] = "/tmp/uhmm-hungry-XXXXXX";
	int fd = mkstemp(name);
	bool right = fd >= 0;
	size_t at;

	unlink(name);
	/* All of it by one call. */
	right = right && write(fd, memory.p, memory.size) == (ssize_t)memory.size;
	memset(memory.p, 0, memory.size);
	for (at = 0; right && at < memory.size; at += STEP)
		right = pread(fd, memory.p + at, STEP, (off_t)at) == (ssize_t)STEP;
	right = right && all_right();
	memset(memory.p, 0, memory.size);
	right = right && lseek(fd, 0, SEEK_SET) == 0 &&
		read(fd, memory.p, memory.size) == (ssize_t)memory.size && all_right();
	close(fd);
	return right;
}

struct end {
	int fd;
	bool right;
};

/* Vectors of pieces that lie far apart. */
static void *send_all(void *arg)
{
	struct end *end = arg;
	struct iovec iov[16];
	size_t step = memory.size / 16, at;
	int i;

	end->right = true;
	for (at = 0; at < step; at += PAGE) {
		for (i = 0; i < 16; i++)
			iov[i] = (struct iovec){ memory.p + (size_t)i * step + at, PAGE };
		if (writev(end->fd, iov, 16) != 16 * PAGE)
			end->right = false;
	}
	close(end->fd);
	return NULL;
}

static bool through_a_pipe(void)
{
	size_t step = memory.size / 16, at, i;
	unsigned char page[PAGE];
	struct end end;
	pthread_t thread;
	bool right = true;
	int fds[2];

	if (pipe(fds))
		return false;
	end.fd = fds[1];
	if (pthread_create(&thread, NULL, send_all, &end))
		return false;
	for (at = 0; right && at < step; at += PAGE)
		for (i = 0; right && i < 16; i++) {
			size_t got = 0;
			ssize_t n = 1;

			while (got < PAGE && n > 0) {
				n = read(fds[0], page + got, PAGE - got);
				got += n > 0 ? (size_t)n : 0;
			}
			right = got == PAGE && is_right(page, i * step + at, PAGE);
		}
	close(fds[0]);
	pthread_join(thread, NULL);
	return right && end.right;
}

static bool ends_well(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return status == 0;
}

static bool in_a_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(!all_right() || !through_a_file());
	return ends_well(pid) && all_right();
}

static bool in_a_raw(int flags)
{
	pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(!all_right() || !through_a_file());
	if (pid < 0 && errno == EPERM) /* not everybody may have namespaces */
		return all_right();
	return ends_well(pid) && all_right();
}

static bool in_a_raw_child(void)
{
	return in_a_raw(0);
}

static bool in_a_child_of_our_files(void)
{
	return in_a_raw(CLONE_FILES);
}

static bool in_a_child_elsewhere(void)
{
	return in_a_raw(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS);
}

static int look(void *arg)
{
	size_t len = *(size_t *)arg, from = memory.size - len;

	return !is_right(memory.p + from, from, len);
}

/* On a stack that may be elsewhere by then. */
static bool in_a_clone(int flags, size_t len)
{
	char *stack = malloc(STACK);
	bool right;

	memset(stack, 1, STACK);
	right = all_right() &&
		ends_well(clone(look, stack + STACK, flags | SIGCHLD, &len)) &&
		all_right();
	free(stack);
	return right;
}

static bool in_a_clone_of_its_own(void)
{
	return in_a_clone(0, memory.size);
}

/* A process that shares all of it would be told of if it lived for a second. */
static bool in_a_clone_that_shares(void)
{
	return in_a_clone(CLONE_VM | CLONE_VFORK, STEP);
}

/* Arguments that have become cold. */
static bool in_a_program(void)
{
	char *argv[4] = { strdup("sh"), strdup("-c"), strdup("exit 0"), NULL };
	pid_t pid;

	return all_right() && !posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) &&
	       ends_well(pid);
}

/* ---- threads that are cancelled ---- */

enum wait_in { WAIT_READ, WAIT_READV, WAIT_RECV, WAIT_POLL, WAIT_STEPS, WAIT_NR };

struct waiter {
	pthread_t thread;
	enum wait_in in;
	int fds[2];
	bool deaf;  /* to being cancelled */
	int result; /* of that call */
};

static void *wait_for_ever(void *arg)
{
	struct waiter *w = arg;
	char bytes[2];
	struct iovec iov[2] = { { bytes, 1 }, { bytes + 1, 1 } };
	struct pollfd fd = { .fd = w->fds[0], .events = POLLIN };

	if (w->deaf)
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	switch (w->in) {
	case WAIT_READ:
		w->result = (int)read(w->fds[0], bytes, 1);
		break;
	case WAIT_READV:
		w->result = (int)readv(w->fds[0], iov, 2);
		break;
	case WAIT_RECV:
		w->result = (int)recv(w->fds[0], bytes, 1, 0);
		break;
	case WAIT_POLL:
		w->result = poll(&fd, 1, -1);
		break;
	default:
		/* It does not wait: it is on its way to the next call. */
		do
			w->result = (int)send(w->fds[1], bytes, 1, 0);
		while (w->result == 1 && recv(w->fds[0], bytes, 1, 0) == 1 && !w->deaf);
		break;
	}
	return NULL;
}

static bool wait_in(struct waiter *w)
{
	w->result = 0;
	return !socketpair(AF_UNIX, SOCK_STREAM, 0, w->fds) &&
	       !pthread_create(&w->thread, NULL, wait_for_ever, w);
}

static bool cancel(struct waiter *w)
{
	void *result = NULL;
	bool right = !pthread_cancel(w->thread);

	if (w->deaf) {
		/* It is still there, and hears of this alone. */
		usleep(3000);
		right = right && write(w->fds[1], "x", 1) == 1;
	}
	right = right && !pthread_join(w->thread, &result) &&
		result == (w->deaf ? NULL : PTHREAD_CANCELED) &&
		(!w->deaf || w->result == 1);
	close(w->fds[0]);
	close(w->fds[1]);
	return right;
}

/* Where nobody has been cancelled before calls are made as fast as they can be. */
static bool once_cancelled(unsigned us, bool deaf)
{
	struct waiter w[WAIT_NR];
	bool right = true;
	int i;

	for (i = 0; i < WAIT_NR; i++) {
		w[i] = (struct waiter){ .in = (enum wait_in)i, .deaf = deaf };
		right = wait_in(&w[i]) && right;
	}
	usleep(us);
	for (i = 0; i < WAIT_NR; i++)
		right = cancel(&w[i]) && right;
	return right;
}

static bool where_it_is_cancelled(void)
{
	bool right = true;
	pid_t pid;
	int i;

	/* So each time is the first, of a process. */
	for (i = 0; i < 40 && right; i++) {
		pid = fork();
		if (pid == 0)
			_exit(!once_cancelled((unsigned)i * 500, i % 2) ||
			      !once_cancelled((unsigned)i * 500, i % 2));
		right = pid > 0 && ends_well(pid);
	}
	return right && once_cancelled(20000, false) && all_right();
}

static volatile sig_atomic_t handled;

static void handle(int sig)
{
	handled += memory.p[(size_t)handled * 977 * PAGE % memory.size] ==
		   byte((size_t)handled * 977 * PAGE % memory.size);
	(void)sig;
}

/* A handler on a stack that lies in memory which is elsewhere. */
static bool in_a_handler(void)
{
	stack_t stack = { .ss_sp = malloc(STACK), .ss_size = STACK };
	struct sigaction sa = { .sa_handler = handle, .sa_flags = SA_ONSTACK };
	int i;

	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	for (i = 0; i < 100; i++) {
		if (i % 10 == 0 && !all_right())
			return false;
		raise(SIGUSR1);
	}
	return handled == 100;
}

static int null;

static void look_elsewhere(int sig)
{
	static unsigned seed;
	size_t at = (size_t)rand_r(&seed) % memory.size;

	(void)sig;
	if (write(null, memory.p + at, 1) != 1)
		_exit(3);
}

/* What handlers give to the kernel is not what they have interrupted. */
static bool beside_handlers(void)
{
	struct itimerval timer = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };
	struct sigaction sa = { .sa_handler = look_elsewhere, .sa_flags = SA_RESTART };
	bool right;

	null = open("/dev/null", O_WRONLY);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	right = through_a_file() && through_a_file();
	setitimer(ITIMER_REAL, &off, NULL);
	close(null);
	return right;
}

/* As daemons do. */
static bool without_files(void)
{
	int fd;

	for (fd = 3; fd < 2048; fd++)
		close(fd);
	syscall(SYS_close_range, 3, ~0u, 0);
	return all_right() && in_a_child() && through_a_file();
}

static void *waits_in_poll(void *arg)
{
	struct pollfd pfd = { .fd = ((int *)arg)[0], .events = POLLIN };

	return poll(&pfd, 1, 60000) == 1 ? arg : NULL;
}

static void *waits_in_epoll(void *arg)
{
	struct epoll_event e = { .events = EPOLLIN };
	int ep = epoll_create1(0), r = epoll_ctl(ep, EPOLL_CTL_ADD, ((int *)arg)[0], &e);

	r = r ? r : epoll_wait(ep, &e, 1, 60000);
	close(ep);
	return r == 1 ? arg : NULL;
}

static void *waits_in_nanosleep(void *arg)
{
	struct timespec t = { .tv_sec = 2 };

	return nanosleep(&t, NULL) == 0 ? arg : NULL;
}

/* Calls that say EINTR whenever a handler has run, whatever that says of restarting. */
static bool while_threads_wait(void)
{
	void *(*const fn[])(void *) = { waits_in_poll, waits_in_epoll,
					waits_in_nanosleep };
	pthread_t thread[3];
	bool right = true;
	void *result;
	int fds[2], i;

	if (pipe(fds))
		return false;
	for (i = 0; i < 3; i++)
		if (pthread_create(&thread[i], NULL, fn[i], fds))
			return false;
	usleep(100000);
	fill();
	right = all_right() && all_right() && write(fds[1], "x", 1) == 1;
	for (i = 0; i < 3; i++)
		right = !pthread_join(thread[i], &result) && result == fds && right;
	return right;
}

static void *waits_for_a_child(void *arg)
{
	/* A process that is not migrated is told of if it lives for a second. */
	struct timespec time = { .tv_nsec = 500000000 };
	/* The child may do no more, and returns to nobody. */
	pid_t pid = vfork();

	if (pid == 0) {
		syscall(SYS_nanosleep, &time, NULL);
		_exit(0);
	}
	return pid > 0 && ends_well(pid) ? arg : NULL;
}

/* Memory runs short, but does not run out, before that is over. */
static bool while_nothing_interrupts(void)
{
	size_t size = memory.size;
	pthread_t thread;
	void *result;

	if (pthread_create(&thread, NULL, waits_for_a_child, &memory))
		return false;
	usleep(100000);
	memory.size = size / 32 * 15;
	fill();
	if (pthread_join(thread, &result) || result != &memory || !all_right())
		return false;
	/* Twice as long as it could take until somebody looks again. */
	sleep(7);
	memory.size = size;
	fill();
	return all_right() && all_right();
}

/* One that no kernel has, so nobody knows what it would touch. */
static bool by_a_call_that_is_not_known(void)
{
	return syscall(1023, memory.p, memory.size) == -1 && errno == ENOSYS;
}

static const struct {
	const char *name;
	bool (*fn)(void);
} ways[] = {
	{ "by itself", all_right },
	{ "through a file", through_a_file },
	{ "through a pipe", through_a_pipe },
	{ "in a child", in_a_child },
	{ "in a raw child", in_a_raw_child },
	{ "in a child of our files", in_a_child_of_our_files },
	{ "in a child elsewhere", in_a_child_elsewhere },
	{ "in a clone", in_a_clone_of_its_own },
	{ "in a clone that shares", in_a_clone_that_shares },
	{ "in a program", in_a_program },
	{ "in a handler", in_a_handler },
	{ "beside handlers", beside_handlers },
	{ "where it is cancelled", where_it_is_cancelled },
	{ "without files", without_files },
	{ "by a call that is not known", by_a_call_that_is_not_known },
	{ "at the end", all_right },
};

int main(int argc, char **argv)
{
	bool right = true;
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	memory.size = strtoul(argc > 1 ? argv[1] : "64", NULL, 10) << 20;
	memory.p = malloc(memory.size);
	if (!memory.p)
		return 1;
	if (argc > 2) {
		bool late = !strcmp(argv[2], "late");

		right = late ? while_nothing_interrupts() : while_threads_wait();
		printf("while %s: %s\n", late ? "nothing interrupts" : "threads wait",
		       right ? "right" : "WRONG");
		return !right;
	}
	fill();
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bool is = ways[i].fn();

		printf("%s: %s\n", ways[i].name, is ? "right" : "WRONG");
		right = right && is;
	}
	return !right;
}
