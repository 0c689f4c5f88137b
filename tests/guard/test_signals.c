/* SPDX-License-Identifier: Apache-2.0 */
/* Masks, handlers and stacks of signals; see program.h. */
#include "program.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static volatile char *volatile nowhere = (volatile char *)8;

/* ---- masks and handlers ---------------------------------------------------------- */

TEST(an_action_is_told_as_it_was_set)
{
	struct sigaction sa = { .sa_sigaction = on_info, .sa_flags = SA_SIGINFO }, old;
	int sig;

	for (sig = 1; sig < 32; sig++) {
		if (sig == SIGKILL || sig == SIGSTOP)
			continue;
		sigemptyset(&sa.sa_mask);
		sigaddset(&sa.sa_mask, SIGBUS);
		sigaddset(&sa.sa_mask, SIGUSR2);
		CHECK_EQ(sigaction(sig, NULL, &old), 0);
		CHECK(old.sa_handler == SIG_DFL || sig == SIGPIPE);
		CHECK_EQ(sigaction(sig, &sa, NULL), 0);
		CHECK_EQ(sigaction(sig, NULL, &old), 0);
		CHECK(old.sa_sigaction == on_info);
		CHECK_EQ(old.sa_flags & ~0x04000000, SA_SIGINFO);
		CHECK(sigismember(&old.sa_mask, SIGBUS));
		CHECK(sigismember(&old.sa_mask, SIGUSR2));
		CHECK(!sigismember(&old.sa_mask, SIGSYS));
	}
	CHECK_EQ(sigaction(SIGKILL, &sa, NULL), -1);
	CHECK_EQ(errno, EINVAL);
	CHECK_EQ(syscall(SYS_rt_sigaction, SIGUSR1, 8, NULL, 8), -1);
	CHECK_EQ(errno, EFAULT);
	CHECK_EQ(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), -1);
	CHECK_EQ(errno, EINVAL);
}

TEST(a_mask_is_told_as_it_was_set)
{
	sigset_t all, got;
	int sig;

	sigfillset(&all);
	CHECK_EQ(pthread_sigmask(SIG_BLOCK, &all, &got), 0);
	CHECK(!sigismember(&got, SIGBUS));
	CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &got), 0);
	for (sig = 1; sig < 32; sig++)
		CHECK_EQ(sigismember(&got, sig), sig != SIGKILL && sig != SIGSTOP);
	sigemptyset(&all);
	sigaddset(&all, SIGBUS);
	CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &all, &got), 0);
	CHECK(sigismember(&got, SIGBUS));
	CHECK_EQ(pthread_sigmask(SIG_SETMASK, &all, &got), 0);
	CHECK(!sigismember(&got, SIGBUS));
	CHECK(sigismember(&got, SIGSEGV));
	CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &got), 0);
	CHECK(sigismember(&got, SIGBUS));
	CHECK(!sigismember(&got, SIGSEGV));
	CHECK_EQ(syscall(SYS_rt_sigprocmask, 17, &all, NULL, 8), -1);
	CHECK_EQ(errno, EINVAL);
	CHECK_EQ(syscall(SYS_rt_sigprocmask, 17, NULL, &got, 8), 0);
	CHECK_EQ(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 16, NULL, 8), -1);
	CHECK_EQ(errno, EFAULT);
}

TEST(a_handler_runs_with_its_mask)
{
	struct sigaction sa = { .sa_handler = on };
	sigset_t now;

	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGBUS);
	sigaddset(&sa.sa_mask, SIGUSR2);
	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	CHECK_EQ(raise(SIGUSR1), 0);
	CHECK_EQ(caught, SIGUSR1);
	CHECK(sigismember(&caught_blocked, SIGUSR1));
	CHECK(sigismember(&caught_blocked, SIGUSR2));
	CHECK(sigismember(&caught_blocked, SIGBUS));
	CHECK(!sigismember(&caught_blocked, SIGSYS));
	CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	CHECK(!sigismember(&now, SIGUSR1));
	CHECK(!sigismember(&now, SIGBUS));
	sa.sa_flags = SA_NODEFER;
	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	CHECK_EQ(raise(SIGUSR1), 0);
	CHECK(!sigismember(&caught_blocked, SIGUSR1));
}

TEST(a_handler_may_be_for_once)
{
	struct sigaction old;

	handle(SIGUSR1, (int)SA_RESETHAND);
	raise(SIGUSR1);
	CHECK_EQ(caught, SIGUSR1);
	CHECK_EQ(sigaction(SIGUSR1, NULL, &old), 0);
	CHECK(old.sa_handler == SIG_DFL);
	handle(SIGBUS, (int)SA_RESETHAND);
	raise(SIGBUS);
	CHECK_EQ(caught, SIGBUS);
	CHECK_EQ(sigaction(SIGBUS, NULL, &old), 0);
	CHECK(old.sa_handler == SIG_DFL);
}

TEST(for_once_means_that, .signal = SIGUSR1)
{
	handle(SIGUSR1, (int)SA_RESETHAND);
	raise(SIGUSR1);
	raise(SIGUSR1);
}

TEST(what_was_sent_while_blocked_is_pending)
{
	static const int sigs[] = { SIGUSR1, SIGBUS, SIGSEGV, SIGSYS };
	unsigned i;

	for (i = 0; i < 4; i++) {
		sigset_t one, pending;

		handle(sigs[i], SA_SIGINFO);
		sigemptyset(&one);
		sigaddset(&one, sigs[i]);
		CHECK_EQ(sigprocmask(SIG_BLOCK, &one, NULL), 0);
		kill(getpid(), sigs[i]);
		sched_yield();
		CHECK_EQ(caught, 0);
		CHECK_EQ(sigpending(&pending), 0);
		CHECK(sigismember(&pending, sigs[i]));
		CHECK_EQ(sigprocmask(SIG_UNBLOCK, &one, NULL), 0);
		CHECK_EQ(caught, sigs[i]);
		CHECK_EQ(caught_code, SI_USER);
		CHECK_EQ(sigpending(&pending), 0);
		CHECK(!sigismember(&pending, sigs[i]));
	}
}

static void *sends_later(void *arg)
{
	pthread_t *to = arg;

	usleep(20000);
	pthread_kill(*to, SIGSEGV);
	return NULL;
}

TEST(a_blocked_signal_is_waited_for)
{
	static const int sigs[] = { SIGUSR1, SIGBUS, SIGSEGV, SIGSYS };
	struct timespec none = { 0, 0 }, second = { 1, 0 };
	pthread_t self = pthread_self(), other;
	siginfo_t info;
	sigset_t set;
	unsigned i;

	sigemptyset(&set);
	for (i = 0; i < 4; i++) {
		handle(sigs[i], SA_SIGINFO);
		sigaddset(&set, sigs[i]);
	}
	CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	for (i = 0; i < 4; i++) {
		CHECK_EQ(sigtimedwait(&set, &info, &none), -1);
		CHECK_EQ(errno, EAGAIN);
		kill(getpid(), sigs[i]);
		CHECK_EQ(sigtimedwait(&set, &info, &second), sigs[i]);
		CHECK_EQ(info.si_signo, sigs[i]);
		CHECK_EQ(info.si_code, SI_USER);
		CHECK_EQ(info.si_pid, getpid());
	}
	CHECK_EQ(pthread_create(&other, NULL, sends_later, &self), 0);
	CHECK_EQ(sigtimedwait(&set, &info, &second), SIGSEGV);
	CHECK_EQ(info.si_code, SI_USER); /* libc says so instead of SI_TKILL */
	pthread_join(other, NULL);
	CHECK_EQ(caught, 0);
}

TEST(an_ignored_signal_is_ignored)
{
	signal(SIGBUS, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	CHECK_EQ(raise(SIGBUS), 0);
	CHECK_EQ(raise(SIGUSR1), 0);
}

TEST(a_signal_kills, .signal = SIGUSR2)
{
	raise(SIGUSR2);
}

TEST(sigbus_kills, .signal = SIGBUS)
{
	raise(SIGBUS);
}

TEST(sigsys_kills, .signal = SIGSYS)
{
	raise(SIGSYS);
}

TEST(a_bad_access_kills, .signal = SIGSEGV)
{
	*nowhere = 1;
}

TEST(a_bad_access_kills_who_has_it_blocked, .signal = SIGSEGV)
{
	sigset_t all;

	handle(SIGSEGV, 0);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	*nowhere = 1;
}

/* ---- faults of the program's own ------------------------------------------------- */

static sigjmp_buf back;

static void jump(int sig, siginfo_t *info, void *context)
{
	on_info(sig, info, context);
	siglongjmp(back, 1);
}

static void jump_on(int sig, int flags)
{
	struct sigaction sa = { .sa_sigaction = jump, .sa_flags = SA_SIGINFO | flags };

	sigemptyset(&sa.sa_mask);
	CHECK_EQ(sigaction(sig, &sa, NULL), 0);
	caught = 0;
}

TEST(a_truncated_file_is_the_programs_sigbus)
{
	char name[] = "/tmp/uhmm-guard-XXXXXX";
	int fd = mkstemp(name), i;
	char *p;

	CHECK(fd >= 0);
	unlink(name);
	CHECK_EQ(ftruncate(fd, 8192), 0);
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	CHECK_EQ(ftruncate(fd, 4096), 0);
	for (i = 0; i < 100; i++) {
		jump_on(SIGBUS, 0);
		if (!sigsetjmp(back, 1))
			p[4096] = 1;
		CHECK_EQ(caught, SIGBUS);
		CHECK_EQ(caught_code, BUS_ADRERR);
		CHECK(caught_addr == p + 4096);
	}
	/* A call that is given such memory says so. */
	CHECK_EQ(write(fd, p + 4096, 10), -1);
	CHECK_EQ(errno, EFAULT);
}

static volatile char *wall;

static void open_wall(int sig, siginfo_t *info, void *context)
{
	on_info(sig, info, context);
	mprotect((void *)wall, 4096, PROT_READ | PROT_WRITE);
}

TEST(a_handler_may_mend_what_faulted)
{
	struct sigaction sa = { .sa_sigaction = open_wall, .sa_flags = SA_SIGINFO };
	int i;

	wall = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_EQ(sigaction(SIGSEGV, &sa, NULL), 0);
	for (i = 0; i < 100; i++) {
		mprotect((void *)wall, 4096, PROT_NONE);
		wall[5] = (char)i;
		CHECK_EQ(wall[5], (char)i);
		CHECK(caught_addr == wall + 5);
	}
}

TEST(other_faults_have_their_handlers)
{
	volatile int zero = 0;

	jump_on(SIGFPE, 0);
	if (!sigsetjmp(back, 1))
		zero = 7 / zero;
	CHECK_EQ(caught, SIGFPE);
	CHECK_EQ(caught_code, FPE_INTDIV);
	jump_on(SIGILL, 0);
	if (!sigsetjmp(back, 1))
		__builtin_trap();
	CHECK_EQ(caught, SIGILL);
}

/* ---- stacks ---------------------------------------------------------------------- */

static char alt[65536];

static bool on_alt(void)
{
	return caught_sp >= alt && caught_sp < alt + sizeof(alt);
}

static void look_at_stack(int sig)
{
	stack_t now;

	on(sig);
	CHECK_EQ(sigaltstack(NULL, &now), 0);
	CHECK_EQ(now.ss_flags, SS_ONSTACK);
	CHECK_EQ(sigaltstack(&now, NULL), -1);
	CHECK_EQ(errno, EPERM);
}

TEST(a_handler_runs_on_the_stack_it_was_given)
{
	stack_t st = { .ss_sp = alt, .ss_size = sizeof(alt) }, old;
	struct sigaction sa = { .sa_handler = look_at_stack, .sa_flags = SA_ONSTACK };

	CHECK_EQ(sigaltstack(NULL, &old), 0);
	CHECK_EQ(old.ss_flags, SS_DISABLE);
	CHECK_EQ(sigaltstack(&st, &old), 0);
	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	raise(SIGUSR1);
	CHECK(on_alt());
	handle(SIGUSR1, 0);
	raise(SIGUSR1);
	CHECK(!on_alt());
	CHECK_EQ(sigaltstack(NULL, &old), 0);
	CHECK(old.ss_sp == alt);
	CHECK_EQ(old.ss_size, sizeof(alt));
	CHECK_EQ(old.ss_flags, 0);
	st.ss_size = 100;
	CHECK_EQ(sigaltstack(&st, NULL), -1);
	CHECK_EQ(errno, ENOMEM);
	st.ss_flags = 77;
	CHECK_EQ(sigaltstack(&st, NULL), -1);
	CHECK_EQ(errno, EINVAL);
	st.ss_flags = SS_DISABLE;
	CHECK_EQ(sigaltstack(&st, NULL), 0);
	handle(SIGUSR1, SA_ONSTACK);
	raise(SIGUSR1);
	CHECK(!on_alt());
}

static int deeper(int depth)
{
	volatile char fill[4096];

	fill[depth & 4095] = 1;
	return depth > 1 << 24 ? fill[0] : deeper(depth + 1) + fill[1];
}

TEST(a_stack_that_is_full_has_its_handler)
{
	stack_t st = { .ss_sp = alt, .ss_size = sizeof(alt) };
	int i;

	CHECK_EQ(sigaltstack(&st, NULL), 0);
	for (i = 0; i < 5; i++) {
		jump_on(SIGSEGV, SA_ONSTACK);
		if (!sigsetjmp(back, 1))
			deeper(0);
		CHECK_EQ(caught, SIGSEGV);
		CHECK(on_alt());
	}
}
