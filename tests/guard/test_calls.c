/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that wait, and what calls and handlers leave of registers; see program.h. */
#include "program.h"

#include <fenv.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

/* ---- calls that wait ------------------------------------------------------------- */

static void send_later(int sig, int us)
{
	pid_t parent = getpid();

	if (fork() == 0) {
		usleep((useconds_t)us);
		kill(parent, sig);
		_exit(0);
	}
}

static void reap(void)
{
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
}

TEST(a_call_is_interrupted)
{
	struct timespec t = { .tv_sec = 20 }, left;
	struct epoll_event e;
	struct pollfd pfd;
	int fds[2], ep;
	char byte;

	CHECK_EQ(pipe(fds), 0);
	handle(SIGUSR1, 0);
	send_later(SIGUSR1, 20000);
	CHECK_EQ(read(fds[0], &byte, 1), -1);
	CHECK_EQ(errno, EINTR);
	CHECK_EQ(caught, SIGUSR1);
	send_later(SIGUSR1, 20000);
	CHECK_EQ(nanosleep(&t, &left), -1);
	CHECK_EQ(errno, EINTR);
	CHECK(left.tv_sec >= 10 && left.tv_sec < 20);
	handle(SIGUSR1, SA_RESTART);
	pfd = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	send_later(SIGUSR1, 20000);
	CHECK_EQ(poll(&pfd, 1, 10000), -1);
	CHECK_EQ(errno, EINTR);
	ep = epoll_create1(0);
	send_later(SIGUSR1, 20000);
	CHECK_EQ(epoll_wait(ep, &e, 1, 10000), -1);
	CHECK_EQ(errno, EINTR);
	reap();
}

static int write_to;

static void write_byte(int sig)
{
	caught = sig;
	CHECK_EQ(write(write_to, "x", 1), 1);
}

TEST(a_call_is_begun_again)
{
	struct sigaction sa = { .sa_handler = write_byte, .sa_flags = SA_RESTART };
	int fds[2], i;
	char byte;

	CHECK_EQ(pipe(fds), 0);
	write_to = fds[1];
	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	for (i = 0; i < 5; i++) {
		byte = caught = 0;
		send_later(SIGUSR1, 10000);
		CHECK_EQ(read(fds[0], &byte, 1), 1);
		CHECK_EQ(caught, SIGUSR1);
		CHECK_EQ(byte, 'x');
		reap();
	}
}

TEST(a_stopped_process_goes_on_where_it_was)
{
	pid_t parent = getpid();
	struct timespec t = { .tv_nsec = 300000000 };

	if (fork() == 0) {
		usleep(50000);
		kill(parent, SIGSTOP);
		usleep(50000);
		kill(parent, SIGCONT);
		_exit(0);
	}
	CHECK_EQ(nanosleep(&t, NULL), 0); /* restart_syscall() */
	reap();
}

TEST(who_waits_for_a_signal_gets_it)
{
	struct timespec t = { .tv_sec = 20 };
	struct itimerval timer = { .it_value.tv_usec = 20000 };
	struct epoll_event e;
	sigset_t all, but;
	int ep = epoll_create1(0), i;

	handle(SIGALRM, 0);
	sigfillset(&all);
	but = all;
	sigdelset(&but, SIGALRM);
	CHECK_EQ(sigprocmask(SIG_SETMASK, &all, NULL), 0);
	for (i = 0; i < 5; i++) {
		caught = 0;
		setitimer(ITIMER_REAL, &timer, NULL);
		CHECK_EQ(sigsuspend(&but), -1);
		CHECK_EQ(errno, EINTR);
		CHECK_EQ(caught, SIGALRM);
		CHECK(sigismember(&caught_blocked, SIGBUS));
		caught = 0;
		setitimer(ITIMER_REAL, &timer, NULL);
		CHECK_EQ(ppoll(NULL, 0, &t, &but), -1);
		CHECK_EQ(caught, SIGALRM);
		caught = 0;
		setitimer(ITIMER_REAL, &timer, NULL);
		CHECK_EQ(pselect(0, NULL, NULL, NULL, &t, &but), -1);
		CHECK_EQ(caught, SIGALRM);
		caught = 0;
		setitimer(ITIMER_REAL, &timer, NULL);
		CHECK_EQ(epoll_pwait(ep, &e, 1, 10000, &but), -1);
		CHECK_EQ(caught, SIGALRM);
		CHECK_EQ(errno, EINTR);
	}
	CHECK_EQ(sigprocmask(SIG_SETMASK, NULL, &but), 0);
	CHECK(sigismember(&but, SIGALRM));
	CHECK(sigismember(&but, SIGBUS));
	sigemptyset(&but);
	sigaddset(&but, SIGALRM);
	setitimer(ITIMER_REAL, &timer, NULL);
	CHECK_EQ(sigtimedwait(&but, NULL, &t), SIGALRM);
}

TEST(a_pending_signal_ends_the_wait)
{
	sigset_t bus, none;

	handle(SIGBUS, 0);
	sigemptyset(&none);
	sigemptyset(&bus);
	sigaddset(&bus, SIGBUS);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &bus, NULL), 0);
	raise(SIGBUS);
	CHECK_EQ(caught, 0);
	CHECK_EQ(sigsuspend(&none), -1);
	CHECK_EQ(errno, EINTR);
	CHECK_EQ(caught, SIGBUS);
	CHECK_EQ(sigprocmask(SIG_BLOCK, NULL, &none), 0);
	CHECK(sigismember(&none, SIGBUS));
}

/* ---- registers ------------------------------------------------------------------- */

#if defined(__x86_64__)

struct call {
	uint64_t nr, a, d, e, f;
	double x, y;
	uint64_t carry, pc;
	uint64_t out[6];
	uint64_t red;
};

/* Whether a call has changed a register, a flag or the red zone. */
static bool changes(long nr, long a, long d, long e, long f)
{
	struct call c = { .nr = (uint64_t)nr,
			  .a = (uint64_t)a,
			  .d = (uint64_t)d,
			  .e = (uint64_t)e,
			  .f = (uint64_t)f,
			  .x = 1.5 };
	uint64_t in[6] = { c.a, 2, 3, c.d, c.e, c.f };

	__asm__ volatile("subq	$256, %%rsp\n" /* what the compiler may have there */
			 "	movsd	40(%%rbx), %%xmm9\n"
			 "	movq	$0x12345678, %%r12\n"
			 "	movq	%%r12, -8(%%rsp)\n"
			 "	movq	%%r12, -128(%%rsp)\n"
			 "	movq	8(%%rbx), %%rdi\n"
			 "	movq	$2, %%rsi\n"
			 "	movq	$3, %%rdx\n"
			 "	movq	16(%%rbx), %%r10\n"
			 "	movq	24(%%rbx), %%r8\n"
			 "	movq	32(%%rbx), %%r9\n"
			 "	movq	0(%%rbx), %%rax\n"
			 "	stc\n"
			 "	syscall\n"
			 "1:	setc	%%al\n"
			 "	movzbl	%%al, %%eax\n"
			 "	movq	%%rax, 56(%%rbx)\n"
			 "	leaq	1b(%%rip), %%rax\n"
			 "	subq	%%rcx, %%rax\n"
			 "	movq	%%rax, 64(%%rbx)\n"
			 "	movsd	%%xmm9, 48(%%rbx)\n"
			 "	movq	%%rdi, 72(%%rbx)\n"
			 "	movq	%%rsi, 80(%%rbx)\n"
			 "	movq	%%rdx, 88(%%rbx)\n"
			 "	movq	%%r10, 96(%%rbx)\n"
			 "	movq	%%r8, 104(%%rbx)\n"
			 "	movq	%%r9, 112(%%rbx)\n"
			 "	subq	-8(%%rsp), %%r12\n"
			 "	addq	-128(%%rsp), %%r12\n"
			 "	movq	%%r12, 120(%%rbx)\n"
			 "	addq	$256, %%rsp\n"
			 :
			 : "b"(&c)
			 : "rax", "rcx", "rdx", "rdi", "rsi", "r8", "r9", "r10", "r11",
			   "r12", "xmm9", "memory", "cc");
	return memcmp(in, c.out, sizeof(in)) || c.y != c.x || !c.carry || c.pc ||
	       c.red != 0x12345678;
}

TEST(a_call_changes_no_register)
{
	uint64_t mask = UINT64_MAX;
	struct {
		const uint64_t *mask;
		uint64_t size;
	} both = { &mask, 8 };

	CHECK(!changes(SYS_getppid, 1, 4, 5, 6));
	CHECK(!changes(SYS_write, -1, 4, 5, 6));
	CHECK(!changes(999, 1, 4, 5, 6));
	/* Those are given another mask. */
	CHECK(!changes(SYS_rt_sigsuspend, 8, 4, 5, 6));
	CHECK(!changes(SYS_epoll_pwait, -1, 4, (long)&mask, 8));
	CHECK(!changes(SYS_pselect6, -1, 4, 5, (long)&both));
	CHECK(!changes(SYS_ppoll, 8, (long)&mask, 8, 6));
}

#endif

static volatile double in_handler;

static void compute(int sig)
{
	volatile double x = sig;
	int i;

	CHECK_EQ(fegetround(), FE_TONEAREST);
	for (i = 0; i < 50; i++)
		x = x * 1.0001 + 1;
	in_handler = x;
	caught++;
}

TEST(floating_point_survives_signals)
{
	struct itimerval timer = { { 0, 1000 }, { 0, 1000 } };
	struct sigaction sa = { .sa_handler = compute, .sa_flags = SA_RESTART };
	double x = 0, y = 1;
	int i;

	CHECK_EQ(sigaction(SIGALRM, &sa, NULL), 0);
	fesetround(FE_UPWARD);
	caught = 0;
	setitimer(ITIMER_REAL, &timer, NULL);
	for (i = 0; caught < 200; i++) {
		x += 0.5;
		y += 0.25;
		if (x != 2 * (y - 1))
			break;
		if (i % 64 == 0)
			getppid();
		if (fegetround() != FE_UPWARD)
			break;
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	CHECK_EQ(fegetround(), FE_UPWARD);
	CHECK(x == 2 * (y - 1));
}

static void set_context(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	sigaddset(&uc->uc_sigmask, SIGUSR2);
	sigaddset(&uc->uc_sigmask, SIGBUS);
}

TEST(a_handler_may_change_what_it_returns_to)
{
	struct sigaction sa = { .sa_sigaction = set_context, .sa_flags = SA_SIGINFO };
	sigset_t now;

	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	raise(SIGUSR1);
	CHECK_EQ(sigprocmask(SIG_BLOCK, NULL, &now), 0);
	CHECK(sigismember(&now, SIGUSR2));
	CHECK(sigismember(&now, SIGBUS));
}
