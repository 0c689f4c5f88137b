/* SPDX-License-Identifier: Apache-2.0 */
/* Processes and threads; see program.h. */
#include "program.h"

#include <linux/kcmp.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

extern char **environ;

/* ---- processes and threads ------------------------------------------------------- */

TEST(fork_makes_a_child)
{
	int i;

	for (i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(getppid() > 1 ? i : 99);
		CHECK_EQ(WEXITSTATUS(end_of(pid)), i);
	}
}

static volatile int in_child;

TEST(vfork_lends_its_memory)
{
	int i;

	for (i = 0; i < 20; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			in_child = i + 1;
			getppid();
			_exit(i);
		}
		CHECK_EQ(in_child, i + 1);
		CHECK_EQ(WEXITSTATUS(end_of(pid)), i);
	}
}

TEST(vfork_and_exec)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "exit 7", NULL);
		_exit(99);
	}
	CHECK_EQ(end_of(pid), 7 << 8);
}

TEST(programs_are_spawned)
{
	char name[] = "sh", c[] = "-c", script[] = "exit 5";
	char *argv[] = { name, c, script, NULL };
	pid_t pid;
	int i;

	for (i = 0; i < 10; i++) {
		CHECK_EQ(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
		CHECK_EQ(end_of(pid), 5 << 8);
	}
	CHECK_EQ(posix_spawn(&pid, "/no/such", NULL, NULL, argv, environ), ENOENT);
	CHECK_EQ(WEXITSTATUS(system("exit 6")), 6);
}

static char child_stack[65536] __attribute__((aligned(16)));

static int child_main(void *arg)
{
	in_child = *(int *)arg;
	getppid();
	return 9;
}

TEST(clone_with_a_stack_of_its_own)
{
	int number = 77;
	char *top = child_stack + sizeof(child_stack);
	pid_t pid = clone(child_main, top, SIGCHLD, &number);

	in_child = 0;
	CHECK_EQ(end_of(pid), 9 << 8);
	CHECK_EQ(in_child, 0);
	pid = clone(child_main, top, CLONE_VM | SIGCHLD, &number);
	CHECK_EQ(end_of(pid), 9 << 8);
	CHECK_EQ(in_child, 77);
	in_child = 0;
	pid = clone(child_main, top, CLONE_VM | CLONE_VFORK | SIGCHLD, &number);
	CHECK_EQ(in_child, 77);
	CHECK_EQ(end_of(pid), 9 << 8);
}

/* A process with threads has such a list, and its child none. */
TEST(what_is_not_the_programs_is_not_seen)
{
	pid_t pid = fork();
	int err;
	long r;

	if (pid == 0) {
		pause();
		_exit(1);
	}
	r = syscall(SYS_kcmp, getpid(), pid, KCMP_SYSVSEM, 0, 0);
	err = errno;
	kill(pid, SIGKILL);
	CHECK_EQ(end_of(pid), SIGKILL);
	if (r < 0)
		SKIP("the kernel compares no processes: %s", strerror(err));
	CHECK_EQ(r, 0);
}

/* What a program begins with that is executed: its mask, and what is ignored. */
TEST(exec_passes_signals_on)
{
	char line[] = "^SigBlk:.*0000000000000c40$", file[] = "/proc/self/status";
	char name[] = "grep", quiet[] = "-q", *argv[] = { name, quiet, line, file, NULL };
	sigset_t some;
	pid_t pid;

	sigemptyset(&some);
	sigaddset(&some, SIGBUS);
	sigaddset(&some, SIGSEGV);
	sigaddset(&some, SIGUSR2);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &some, NULL), 0);
	pid = fork();
	if (pid == 0) {
		/* With the guard loaded again it would say that it blocks nothing. */
		char *envp[] = { NULL };

		execve("/bin/grep", argv, envp);
		_exit(99);
	}
	CHECK_EQ(end_of(pid), 0);
	CHECK_EQ(execve("/no/such", argv, environ), -1);
	CHECK_EQ(errno, ENOENT);
}

static void *count(void *arg)
{
	int i;

	for (i = 0; i < 1000; i++)
		syscall(SYS_gettid);
	__atomic_fetch_add((int *)arg, 1, __ATOMIC_RELAXED);
	return arg;
}

TEST(threads_come_and_go, .timeout_s = 60)
{
	pthread_t thread[8];
	int counter = 0, i, k;

	for (k = 0; k < 50; k++) {
		for (i = 0; i < 8; i++)
			CHECK_EQ(pthread_create(&thread[i], NULL, count, &counter), 0);
		for (i = 0; i < 8; i++)
			CHECK_EQ(pthread_join(thread[i], NULL), 0);
	}
	CHECK_EQ(counter, 400);
}

static void *wait_for_ever(void *arg)
{
	char byte;

	while (read(*(int *)arg, &byte, 1) < 0)
		;
	return NULL;
}

TEST(a_thread_is_cancelled)
{
	pthread_t thread;
	void *result;
	int fds[2], i;

	CHECK_EQ(pipe(fds), 0);
	for (i = 0; i < 10; i++) {
		CHECK_EQ(pthread_create(&thread, NULL, wait_for_ever, &fds[0]), 0);
		usleep(i * 2000u);
		CHECK_EQ(pthread_cancel(thread), 0);
		CHECK_EQ(pthread_join(thread, &result), 0);
		CHECK(result == PTHREAD_CANCELED);
	}
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn;

static void *take_turns(void *arg)
{
	int me = *(int *)arg, i;

	for (i = 0; i < 500; i++) {
		pthread_mutex_lock(&mutex);
		while (turn != me)
			pthread_cond_wait(&cond, &mutex);
		turn = !me;
		pthread_cond_signal(&cond);
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

TEST(threads_wait_for_each_other)
{
	static int number[2] = { 0, 1 };
	pthread_t thread[2];
	int i;

	for (i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, take_turns, &number[i]), 0);
	for (i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

static volatile double in_handler;

static void compute(int sig)
{
	in_handler = in_handler * 1.0001 + sig;
}

TEST(signals_and_threads_at_once, .timeout_s = 60)
{
	struct itimerval timer = { { 0, 500 }, { 0, 500 } };
	struct sigaction sa = { .sa_handler = compute, .sa_flags = SA_RESTART };
	pthread_t thread[4];
	int counter = 0, i, k;

	CHECK_EQ(sigaction(SIGALRM, &sa, NULL), 0);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (k = 0; k < 50; k++) {
		pid_t pid;

		for (i = 0; i < 4; i++)
			CHECK_EQ(pthread_create(&thread[i], NULL, count, &counter), 0);
		pid = fork();
		if (pid == 0)
			_exit(3);
		for (i = 0; i < 4; i++)
			CHECK_EQ(pthread_join(thread[i], NULL), 0);
		CHECK_EQ(end_of(pid), 3 << 8);
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}
