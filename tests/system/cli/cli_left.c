/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_left MIB WHY: a program that is guarded until it makes a ring (io_uring), and
 * starts threads and children before, meanwhile and after that. Each looks whether
 * signals are what they are without uhmm: handlers, masks, stacks of signals. Prints
 * "right" if so.
 *
 * ring | filter: it gets a filter (seccomp) instead, which allows everything
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define STARTERS 3
#define AFTER_MS 300

static unsigned char *memory;
static size_t size;
static char *closed; /* a page that nobody may use */
static _Atomic bool left, over;
static _Atomic unsigned started;
static _Atomic(const char *) wrong;

static bool right(bool is, const char *what)
{
	if (!is && !wrong)
		wrong = what;
	return is;
}

static unsigned char byte(size_t i)
{
	return (unsigned char)(i / PAGE * 7 + i);
}

static bool all_right(void)
{
	for (size_t i = 0; i < size; i++)
		if (memory[i] != byte(i))
			return false;
	return true;
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* ---- what a thread looks at -------------------------------------------------------- */

static __thread sigjmp_buf before;
static __thread volatile int faults, usrs;

static void on_segv(int sig)
{
	(void)sig;
	faults++;
	siglongjmp(before, 1);
}

static void on_usr(int sig)
{
	(void)sig;
	usrs++;
}

static bool mask_is(const sigset_t *expected)
{
	sigset_t now;

	if (pthread_sigmask(SIG_BLOCK, NULL, &now))
		return false;
	for (int sig = 1; sig < SIGRTMIN; sig++)
		if (sigismember(&now, sig) != sigismember(expected, sig))
			return false;
	return true;
}

static bool faults_once(void)
{
	int was = faults;

	if (sigsetjmp(before, 1) == 0)
		*(volatile char *)closed = 1;
	return faults == was + 1;
}

static bool is_told(void)
{
	int was = usrs;

	return raise(SIGUSR1) == 0 && usrs == was + 1;
}

/* Again and again: what one leaves behind another finds. */
static bool signals_are_right(const sigset_t *mask)
{
	for (int i = 0; i < 3; i++)
		if (!right(mask_is(mask), "mask") || !right(faults_once(), "SIGSEGV") ||
		    !right(mask_is(mask), "mask after SIGSEGV") ||
		    !right(is_told(), "SIGUSR1") ||
		    !right(mask_is(mask), "mask after SIGUSR1"))
			return false;
	return true;
}

static void *thread_main(void *arg)
{
	stack_t alt;

	right(sigaltstack(NULL, &alt) == 0 && alt.ss_flags == SS_DISABLE,
	      "stack of a thread");
	signals_are_right(arg);
	return NULL;
}

/* The handler that was there is told, comes back, and runs. */
static bool handler_is_kept(void)
{
	struct sigaction none = { .sa_handler = SIG_IGN }, was;
	int told = usrs;

	return right(sigaction(SIGUSR1, &none, &was) == 0 && was.sa_handler == on_usr,
		     "the handler that was there") &&
	       raise(SIGUSR1) == 0 && right(usrs == told, "SIG_IGN") &&
	       sigaction(SIGUSR1, &was, NULL) == 0 && is_told();
}

static int child_main(const sigset_t *mask, const stack_t *stack)
{
	stack_t alt;

	right(sigaltstack(NULL, &alt) == 0 && alt.ss_sp == stack->ss_sp &&
		      alt.ss_flags == stack->ss_flags,
	      "stack of a child");
	signals_are_right(mask);
	handler_is_kept();
	right(all_right(), "memory of a child");
	if (wrong)
		fprintf(stderr, "in a child: %s\n", wrong);
	return wrong ? 1 : 0;
}

/* ---- who starts them --------------------------------------------------------------- */

static bool start_thread(sigset_t *mask)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, thread_main, mask) == 0 &&
	       pthread_join(thread, NULL) == 0;
}

static bool start_child(const sigset_t *mask, const stack_t *stack)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(child_main(mask, stack));
	return right(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "child");
}

static bool begin(sigset_t *mask, stack_t *stack)
{
	*stack = (stack_t){ .ss_sp = malloc(1 << 16), .ss_size = 1 << 16 };
	sigemptyset(mask);
	sigaddset(mask, SIGBUS);
	sigaddset(mask, SIGUSR2);
	return stack->ss_sp && sigaltstack(stack, NULL) == 0 &&
	       pthread_sigmask(SIG_SETMASK, mask, NULL) == 0;
}

static void *starter_main(void *arg)
{
	stack_t stack;
	sigset_t mask;

	(void)arg;
	right(begin(&mask, &stack), "start");
	while (!over && !wrong && start_thread(&mask)) {
		started++;
		/* What is left is to go out and come back meanwhile. */
		if (left)
			sleep_ms(2);
	}
	return NULL;
}

/* ---- leaving ----------------------------------------------------------------------- */

static bool make_ring(void)
{
	struct io_uring_params params = { 0 };

	return syscall(SYS_io_uring_setup, 1, &params) >= 0;
}

static bool install_filter(void)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { .len = 1, .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

static bool prepare(void)
{
	struct sigaction segv = { .sa_handler = on_segv, .sa_flags = SA_ONSTACK };
	struct sigaction usr = { .sa_handler = on_usr };

	memory = malloc(size);
	closed = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; memory && i < size; i++)
		memory[i] = byte(i);
	return memory && closed != MAP_FAILED && sigaction(SIGSEGV, &segv, NULL) == 0 &&
	       sigaction(SIGUSR1, &usr, NULL) == 0;
}

static bool leaves(bool (*leave)(void))
{
	pthread_t starter[STARTERS];
	stack_t stack;
	sigset_t mask;
	int i;

	if (!prepare() || !begin(&mask, &stack))
		return false;
	for (i = 0; i < STARTERS; i++)
		if (pthread_create(&starter[i], NULL, starter_main, NULL))
			return false;
	while (started < 100 && !wrong)
		sleep_ms(1);
	start_child(&mask, &stack);
	right(leave(), "leaving");
	left = true;
	for (i = 0; i < 3 && !wrong; i++)
		start_child(&mask, &stack);
	sleep_ms(AFTER_MS);
	over = true;
	for (i = 0; i < STARTERS; i++)
		pthread_join(starter[i], NULL);
	start_thread(&mask);
	return right(all_right(), "memory") && signals_are_right(&mask);
}

int main(int argc, char **argv)
{
	bool (*leave)(void) = make_ring;

	size = strtoul(argc > 1 ? argv[1] : "64", NULL, 10) << 20;
	if (argc > 2 && !strcmp(argv[2], "filter"))
		leave = install_filter;
	if (leaves(leave) && !wrong)
		puts("right");
	else
		printf("WRONG: %s\n", wrong ? wrong : "start");
	return wrong ? 1 : 0;
}
