/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals ROUNDS MIB: signals of every kind, all the time; pages may be elsewhere.
 *
 * Each of three threads has a timer that goes off a thousand times a second; its handler
 * runs on the stack that it interrupts, or on one of its own in memory which may have
 * been migrated, and looks at the thread's pages while those are written. In each round:
 *
 * - signals that are blocked are queued with numbers, and come in their order when they
 *   are not blocked any more; or are waited for, and come so;
 * - pselect() with a mask of its own lets one through, once, and says EINTR;
 * - a page that may not be written is made writable by the handler of SIGSEGV; one behind
 *   the end of a file is left by siglongjmp() from that of SIGBUS.
 *
 * Prints what is the same in every run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define THREADS 3
#define QUEUED 8
#define STACK ((size_t)64 << 10)
#define LOOKS 4
#define FRAME 6000 /* bytes of stack that a handler writes */

#define SIGTICK (SIGRTMIN + 1)
#define SIGQUEUED (SIGRTMIN + 2)
#define SIGAWAITED (SIGRTMIN + 3)

struct thread {
	pthread_t handle;
	int nr, rounds;
	unsigned char *p; /* its pages: each begins and ends with its value */
	unsigned char *value;
	size_t pages;
	uint64_t random, random_of_handler;
	unsigned char *fenced, *cut; /* not writable; behind the end of a file */
	volatile sig_atomic_t next, late, fenced_hit, ticks;
	sigjmp_buf back;
	uint64_t sum;
};

static __thread struct thread *self;

static void fail(const char *what)
{
	char text[200];
	int len = snprintf(text, sizeof(text), "signals: %s\n", what);

	_exit(write(2, text, (size_t)len) == len ? 1 : 2);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A page that is just being written has its value, or the one before. */
static bool is_right(const struct thread *t, size_t page)
{
	unsigned char now = __atomic_load_n(&t->value[page], __ATOMIC_RELAXED);
	unsigned char before = (unsigned char)(now - 1);
	const volatile unsigned char *p = t->p + page * PAGE;

	return (p[0] == now || p[0] == before) &&
	       (p[PAGE - 1] == now || p[PAGE - 1] == before);
}

/* ---- handlers ---------------------------------------------------------------------- */

static void use_stack(void)
{
	volatile unsigned char frame[FRAME];
	size_t i;

	for (i = 0; i < sizeof(frame); i += 64)
		frame[i] = (unsigned char)i;
	for (i = 0; i < sizeof(frame); i += 64)
		if (frame[i] != (unsigned char)i)
			fail("the stack of a handler is not what it has written");
}

static void on_tick(int sig, siginfo_t *info, void *context)
{
	struct thread *t = self;
	int saved = errno, i;

	(void)sig, (void)context;
	if (info->si_code != SI_TIMER || info->si_value.sival_ptr != t)
		fail("a timer is not this thread's");
	use_stack();
	for (i = 0; i < LOOKS; i++)
		if (!is_right(t, next_random(&t->random_of_handler) % t->pages))
			fail("a page that a handler looks at is wrong");
	t->ticks++;
	errno = saved;
}

static void on_queued(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	if (info->si_code != SI_QUEUE || info->si_value.sival_int != self->next)
		fail("a queued signal is not the next one");
	use_stack();
	self->next++;
}

static void on_late(int sig)
{
	(void)sig;
	self->late++;
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	if (info->si_code != SEGV_ACCERR || info->si_addr != self->fenced)
		fail("SIGSEGV of an address that is not fenced");
	use_stack();
	self->fenced_hit++;
	if (mprotect(self->fenced, PAGE, PROT_READ | PROT_WRITE))
		fail("mprotect() in a handler");
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	if (info->si_code != BUS_ADRERR || info->si_addr != self->cut)
		fail("SIGBUS of an address that is not behind the end of the file");
	siglongjmp(self->back, 1);
}

static void handle(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = flags };

	sigemptyset(&action.sa_mask);
	if (sig == SIGQUEUED)
		sigaddset(&action.sa_mask, SIGTICK);
	if (sigaction(sig, &action, NULL))
		fail("sigaction()");
}

static void set_handlers(void)
{
	handle(SIGTICK, on_tick, SA_SIGINFO | SA_RESTART | SA_ONSTACK);
	handle(SIGQUEUED, on_queued, SA_SIGINFO | SA_RESTART);
	handle(SIGSEGV, on_segv, SA_SIGINFO | SA_ONSTACK);
	handle(SIGBUS, on_bus, SA_SIGINFO);
	signal(SIGUSR1, on_late);
}

/* ---- a round ----------------------------------------------------------------------- */

static void write_pages(struct thread *t)
{
	size_t page = next_random(&t->random) % t->pages, i;

	for (i = 0; i < 16; i++, page = (page + 1) % t->pages) {
		unsigned char value = (unsigned char)(t->value[page] + 1);

		if (!is_right(t, page))
			fail("a page is wrong");
		__atomic_store_n(&t->value[page], value, __ATOMIC_RELAXED);
		memset(t->p + page * PAGE, value, PAGE);
		t->sum = t->sum * 31 + value;
	}
}

static void mask(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	if (pthread_sigmask(how, &set, NULL))
		fail("pthread_sigmask()");
}

static void queue(int sig, int nr)
{
	union sigval value = { .sival_int = nr };

	if (pthread_sigqueue(pthread_self(), sig, value))
		fail("pthread_sigqueue()");
}

static void queued_in_order(struct thread *t)
{
	int i, before = t->next;

	mask(SIG_BLOCK, SIGQUEUED);
	for (i = 0; i < QUEUED; i++)
		queue(SIGQUEUED, before + i);
	if (t->next != before)
		fail("a blocked signal has come");
	mask(SIG_UNBLOCK, SIGQUEUED);
	if (t->next != before + QUEUED)
		fail("a queued signal has not come");
}

static void awaited_in_order(void)
{
	struct timespec second = { 1, 0 };
	siginfo_t info;
	sigset_t set;
	int i;

	sigemptyset(&set);
	sigaddset(&set, SIGAWAITED);
	for (i = 0; i < QUEUED; i++)
		queue(SIGAWAITED, i);
	for (i = 0; i < QUEUED; i++) {
		while (sigtimedwait(&set, &info, &second) != SIGAWAITED)
			if (errno != EINTR)
				fail("sigtimedwait()");
		if (info.si_value.sival_int != i || info.si_code != SI_QUEUE)
			fail("an awaited signal is not the next one");
	}
}

static void let_through_once(struct thread *t)
{
	struct timespec second = { 1, 0 };
	int before = t->late;
	sigset_t set;

	mask(SIG_BLOCK, SIGUSR1);
	pthread_kill(pthread_self(), SIGUSR1);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	sigdelset(&set, SIGUSR1);
	if (pselect(0, NULL, NULL, NULL, &second, &set) != -1 || errno != EINTR)
		fail("pselect() says something else");
	/* Or a timer had interrupted it first. */
	mask(SIG_UNBLOCK, SIGUSR1);
	if (t->late != before + 1)
		fail("a signal has come not once");
}

static void fence(struct thread *t)
{
	int before = t->fenced_hit;

	if (mprotect(t->fenced, PAGE, PROT_READ))
		fail("mprotect()");
	*(volatile unsigned char *)t->fenced = (unsigned char)before;
	if (t->fenced_hit != before + 1 || *t->fenced != (unsigned char)before)
		fail("a fenced page was not written, or not told of");
}

static void cut(struct thread *t)
{
	static const char what[] = "a byte behind the end of a file was read";

	if (!sigsetjmp(t->back, 1)) {
		if (*(volatile unsigned char *)t->cut == 0)
			fail(what);
		fail(what);
	}
}

/* ---- threads ----------------------------------------------------------------------- */

static void *get(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		fail("mmap()");
	return p;
}

static unsigned char *behind_a_file(void)
{
	char name[] = "/tmp/uhmm-signals-XXXXXX";
	int fd = mkstemp(name);
	unsigned char *p;

	if (fd < 0 || ftruncate(fd, PAGE))
		fail("mkstemp()");
	p = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	unlink(name);
	close(fd);
	if (p == MAP_FAILED)
		fail("mmap() of a file");
	return p + PAGE;
}

static timer_t tick(struct thread *t)
{
	struct itimerspec every = { { 0, 1000000 }, { 0, 1000000 } };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID,
				  .sigev_signo = SIGTICK };
	timer_t timer;

	event.sigev_value.sival_ptr = t;
	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) ||
	    timer_settime(timer, 0, &every, NULL))
		fail("timer_create()");
	return timer;
}

static void *run(void *arg)
{
	struct thread *t = arg;
	stack_t stack = { .ss_sp = get(STACK), .ss_size = STACK };
	timer_t timer;
	int i;

	self = t;
	t->fenced = get(PAGE);
	t->cut = behind_a_file();
	/* One of them has none, and its handlers run where it runs. */
	if (t->nr && sigaltstack(&stack, NULL))
		fail("sigaltstack()");
	timer = tick(t);
	for (i = 0; i < t->rounds; i++) {
		write_pages(t);
		queued_in_order(t);
		if (i % 4 == 0)
			awaited_in_order();
		if (i % 4 == 1)
			let_through_once(t);
		if (i % 4 == 2)
			fence(t);
		if (i % 4 == 3)
			cut(t);
	}
	timer_delete(timer);
	if (!t->ticks)
		fail("no timer went off");
	return NULL;
}

int main(int argc, char **argv)
{
	static struct thread thread[THREADS];
	int i;

	if (argc != 3) {
		fprintf(stderr, "usage: signals ROUNDS MIB\n");
		return 2;
	}
	set_handlers();
	mask(SIG_BLOCK, SIGAWAITED);
	for (i = 0; i < THREADS; i++) {
		struct thread *t = &thread[i];

		t->nr = i;
		t->rounds = atoi(argv[1]);
		t->pages = ((size_t)atoi(argv[2]) << 20) / PAGE / THREADS;
		t->p = get(t->pages * PAGE);
		t->value = get(t->pages);
		t->random = t->random_of_handler = 88172645463325252u + (uint64_t)i;
		memset(t->p, 0, t->pages * PAGE);
		if (pthread_create(&t->handle, NULL, run, t))
			fail("pthread_create()");
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(thread[i].handle, NULL);
		printf("thread %d: %d rounds, sum %016llx\n", i, thread[i].rounds,
		       (unsigned long long)thread[i].sum);
	}
	return 0;
}
