/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_filter MIB WHEN: a program that fills MIB and gets a filter on its system calls
 * (seccomp), which kills it for what it does not do itself: before it fills its memory,
 * afterwards, or in a child. After that it uses all of it, by itself, by system calls,
 * from a thread, in handlers of signals and in another child. Prints "right" at the end.
 *
 * before | after | child | threads: as after, for all of its threads
 */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
/* More than the guard transfers at a time. */
#define MUCH ((size_t)3 << 20)

static unsigned char *memory;
static size_t size;

static unsigned char byte(size_t i)
{
	return (unsigned char)(i / 16 * 7 + (i >> 20));
}

static bool all_right(void)
{
	for (size_t i = 0; i < size; i++)
		if (memory[i] != byte(i))
			return false;
	return true;
}

/* ---- the filter -------------------------------------------------------------------- */

#define KILL(call)                                                                       \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1),                               \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

/* What uhmm would do, and this program does not. */
static bool install(bool all)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		KILL(SYS_ioctl),
		KILL(SYS_prctl),
		KILL(SYS_arch_prctl),
		KILL(SYS_userfaultfd),
		KILL(SYS_sigaltstack),
		KILL(SYS_sched_yield),
		KILL(SYS_gettid),
		KILL(SYS_tgkill),
		KILL(SYS_rt_tgsigqueueinfo),
		KILL(SYS_fstat),
		KILL(SYS_openat),
		KILL(SYS_pread64),
		KILL(SYS_mincore),
		KILL(SYS_process_vm_readv),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			all ? SECCOMP_FILTER_FLAG_TSYNC : 0, &program);
}

/* ---- what is done with it ---------------------------------------------------------- */

static volatile sig_atomic_t handled;

static void handle(int sig)
{
	size_t at = (size_t)handled * 977 * PAGE % size;

	handled += memory[at] == byte(at);
	(void)sig;
}

static bool in_handlers(void)
{
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { 0 };

	handled = 0;
	if (setitimer(ITIMER_REAL, &often, NULL))
		return false;
	while (handled < 20)
		if (!all_right())
			return false;
	return !setitimer(ITIMER_REAL, &never, NULL);
}

static void *write_much(void *arg)
{
	size_t done = 0;
	ssize_t n = 1;

	while (done < MUCH && n > 0) {
		n = write(*(int *)arg, memory + done, MUCH - done);
		done += n > 0 ? (size_t)n : 0;
	}
	return done == MUCH ? arg : NULL;
}

static bool through_a_pipe(const int fds[2], unsigned char *to)
{
	int out = fds[1];
	pthread_t thread;
	void *result;
	size_t done = 0;
	ssize_t n = 1;

	if (pthread_create(&thread, NULL, write_much, &out))
		return false;
	while (done < MUCH && n > 0) {
		n = read(fds[0], to + done, MUCH - done);
		done += n > 0 ? (size_t)n : 0;
	}
	return !pthread_join(thread, &result) && result == &out && done == MUCH &&
	       !memcmp(to, memory, MUCH);
}

static bool in_a_child(bool (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(!fn());
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool use(bool before, bool all)
{
	struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };
	unsigned char *to = malloc(MUCH);
	int fds[2];

	/* All that has to be there is made before. */
	if (!to || pipe(fds) || sigaction(SIGALRM, &action, NULL))
		return false;
	memset(to, 0, MUCH);
	if (!before && !install(all))
		return false;
	return all_right() && in_handlers() && through_a_pipe(fds, to) &&
	       in_a_child(all_right) && all_right();
}

static bool use_filtered(void)
{
	return use(false, false);
}

int main(int argc, char **argv)
{
	const char *when = argc == 3 ? argv[2] : "after";
	bool before = !strcmp(when, "before"), right;
	static char out[64];

	/* stdio would look at what it writes to. */
	setvbuf(stdout, out, _IOFBF, sizeof(out));
	size = strtoul(argc > 1 ? argv[1] : "64", NULL, 10) << 20;
	memory = malloc(size);
	if (!memory || size < MUCH || (before && !install(false)))
		return 1;
	for (size_t i = 0; i < size; i++)
		memory[i] = byte(i);
	if (!all_right())
		return 1;
	right = !strcmp(when, "child") ? in_a_child(use_filtered) && all_right() :
					 use(before, !strcmp(when, "threads"));
	puts(right ? "right" : "WRONG");
	return !right;
}
