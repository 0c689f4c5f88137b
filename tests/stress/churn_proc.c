/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn: processes, signals and system calls.
 *
 * A forked child checks a sample of its parent's memory while the parent goes on changing
 * its own, writes to its copy, perhaps has a child itself, perhaps dies before that child
 * does. Everybody sends 8 bytes of digest to the parent; the order is not looked at.
 * A thread has at most one child, so processes stay below twice the threads.
 *
 * Signals come to every thread about a thousand times a second, on alternate stacks that
 * are ordinary memory; the handler only checks memory.
 */
#include "churn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "raw.h"

#define ALT_STACK ((size_t)64 << 10)
#define CHILD_CHECKS 64
#define SIGNAL_NS 700000 /* between two signals */

extern char **environ;

/* First thing in a child, after every fork. */
static void child_begin(struct churn *c, uint64_t seed)
{
	c->rng.state = seed;
	c->child.pid = 0;
	for (int i = 0; i < c->nr_regions; i++)
		if (c->region[i].flags & REGION_WIPE)
			pages_zero(&c->region[i], 0, c->region[i].nr);
}

/* One look at a random page, as it must be in a child. */
static void child_check(struct churn *c, uint64_t choice)
{
	struct region *r = pick_region(c);
	size_t i = (choice >> 32) % (r ? r->nr : 1);

	if (!r || r->flags & REGION_DONTFORK)
		return;
	page_check(c, r, i, choice);
	if (choice >> 63) {
		page_write(c, r, i, (uint32_t)choice >> 3);
		page_check(c, r, i, choice >> 1);
	}
}

static void child_work(struct churn *c, int fd) __attribute__((noreturn));

static void child_work(struct churn *c, int fd)
{
	c->digest = 0;
	for (int n = 0; n < CHILD_CHECKS; n++) {
		uint64_t choice = rng_next(&c->rng);

		child_check(c, choice);
		constants_check(choice >> 8);
	}
	if (write(fd, &c->digest, sizeof(c->digest)) != sizeof(c->digest))
		fail("writing a child's digest: %m");
	_exit(0);
}

/* In the child: with a child of its own, which it outlives or not. */
static void child_with_child(struct churn *c, int fd, bool orphan)
	__attribute__((noreturn));

static void child_with_child(struct churn *c, int fd, bool orphan)
{
	uint64_t seed = rng_next(&c->rng);
	pid_t pid = fork();
	int status;

	if (pid < 0)
		fail("fork in a child: %m");
	if (pid == 0) {
		child_begin(c, seed);
		child_work(c, fd);
	}
	if (orphan)
		_exit(0);
	for (int n = 0; n < CHILD_CHECKS / 2; n++)
		child_check(c, rng_next(&c->rng));
	if (waitpid(pid, &status, 0) != pid || status != 0)
		fail("a grandchild ended with status %x", (unsigned)status);
	child_work(c, fd);
}

static pid_t make_child(int kind)
{
	switch (kind) {
	case 3:
		return raw_fork();
	case 4:
		return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
	case 5:
		return _Fork();
	default:
		return fork();
	}
}

static const char *const fork_names[] = {
	"fork", "fork, grandchild", "fork, orphan", "raw clone", "clone()", "_Fork",
};

void op_fork(struct churn *c)
{
	uint64_t how = rng_next(&c->rng), seed = rng_next(&c->rng);
	int fds[2], kind = (int)(how % 6);
	pid_t pid;

	if (options.libc_forks && kind > 2)
		kind = 0;
	child_wait(c);
	if (pipe2(fds, O_CLOEXEC) != 0)
		fail("pipe2: %m");
	c->op_name = fork_names[kind];
	pid = make_child(kind);
	if (pid < 0)
		fail("fork: %m");
	if (pid == 0) {
		child_begin(c, seed);
		if (kind == 1 || kind == 2)
			child_with_child(c, fds[1], kind == 2);
		child_work(c, fds[1]);
	}
	close(fds[1]);
	c->child = (struct child){ .pid = pid,
				   .fd = fds[0],
				   .results = kind == 1 ? 2 : 1,
				   .due = c->op + (how >> 8 & 1 ? 0 : how >> 9 & 63) };
	if (c->child.due == c->op)
		child_wait(c);
}

void child_wait(struct churn *c)
{
	uint64_t sum = 0, result;
	int status;

	if (!c->child.pid)
		return;
	for (int n = 0; n < c->child.results; n++) {
		ssize_t got = read(c->child.fd, &result, sizeof(result));

		if (got != sizeof(result))
			fail("child %d sent %zd bytes of its digest", c->child.pid, got);
		sum += result;
	}
	close(c->child.fd);
	if (waitpid(c->child.pid, &status, 0) != c->child.pid || status != 0)
		fail("child %d ended with status %x", c->child.pid, (unsigned)status);
	c->child.pid = 0;
	fold(c, sum);
}

/*
 * A child that takes address space until there is none: what it has must stay what it is,
 * and what it cannot have must be refused.
 */
static void child_exhausts(struct churn *c) __attribute__((noreturn));

static void child_exhausts(struct churn *c)
{
	struct rlimit limit;
	size_t chunk = 4 * MIB;
	unsigned long pages = 0;
	char *p, *last = NULL;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f || fscanf(f, "%lu", &pages) != 1 || getrlimit(RLIMIT_AS, &limit) != 0)
		fail("statm, getrlimit: %m");
	limit.rlim_cur = pages * PAGE + 32 * MIB;
	if (setrlimit(RLIMIT_AS, &limit) != 0)
		fail("setrlimit: %m");
	while (chunk >= PAGE) {
		p = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
		if (p == MAP_FAILED && errno != ENOMEM)
			fail("mmap, when there is no address space: %m");
		if (p == MAP_FAILED) {
			chunk /= 4;
			continue;
		}
		stamp_fill(p, (uintptr_t)p);
		if (last && stamp_check(last, (uintptr_t)last) != PAGE_WORDS)
			fail("wrong bytes in what was mapped last");
		last = p;
	}
	for (int n = 0; n < CHILD_CHECKS; n++)
		child_check(c, rng_next(&c->rng) >> 1);
	_exit(0);
}

void op_exhaust(struct churn *c)
{
	uint64_t seed = rng_next(&c->rng);
	pid_t pid = fork();
	int status;

	if (pid < 0)
		fail("fork: %m");
	if (pid == 0) {
		child_begin(c, seed);
		child_exhausts(c);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		fail("a child without address space ended with status %x",
		     (unsigned)status);
}

/* The child runs in our memory until it execs: what it writes is ours. */
static pid_t __attribute__((noinline))
spawn_vfork(struct churn *c, struct region *r, size_t i, uint32_t choice)
{
	static char *const argv[] = { (char *)"true", NULL };
	pid_t pid = vfork();

	if (pid == 0) {
		if (r)
			page_write(c, r, i, choice);
		execve("/bin/true", argv, environ);
		_exit(127);
	}
	return pid;
}

void op_spawn(struct churn *c)
{
	static char *const argv[] = { (char *)"true", NULL };
	struct region *r = pick_region(c);
	uint64_t how = rng_next(&c->rng), at = rng_next(&c->rng);
	int status, error = 0;
	pid_t pid;

	at %= r ? r->nr : 1;
	if (how & 1)
		pid = spawn_vfork(c, r, at, (uint32_t)(how >> 8));
	else if (options.inline_delivery)
		pid = spawn_vfork(c, NULL, 0, 0); /* posix_spawn() blocks SIGBUS */
	else if ((error = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ)) != 0)
		fail("posix_spawn: %s", strerror(error));
	if (pid < 0)
		fail("vfork: %m");
	if (waitpid(pid, &status, 0) != pid || status != 0)
		fail("/bin/true ended with status %x", (unsigned)status);
	if (r)
		page_check(c, r, at, how & ~UINT64_C(3));
}

/* A page of r that can be read (and written), at or after a random one; nr: none. */
static size_t find_page(const struct region *r, uint64_t at, uint8_t flags, uint8_t not )
{
	for (size_t n = 0; n < r->nr; n++) {
		size_t i = (at + n) % r->nr;

		if ((r->page[i].flags & flags) == flags && !(r->page[i].flags & not ))
			return i;
	}
	return r->nr;
}

/* 16 pages through a pipe, or by process_vm_writev: the kernel reads and writes them. */
void op_syscall(struct churn *c)
{
	struct region *from = pick_region(c), *to = pick_region(c);
	uint64_t how = rng_next(&c->rng);
	struct iovec in[16], out[16];
	ssize_t sent, got;
	int fds[2], nr = 0;

	for (int n = 0; n < 16; n++) {
		uint64_t at = rng_next(&c->rng), at2 = rng_next(&c->rng);
		size_t i = from ? find_page(from, at, PAGE_R, PAGE_MAYBE) : 0;
		size_t j = to ? find_page(to, at2, PAGE_R | PAGE_W, 0) : 0;

		if (!from || !to || from == to || i == from->nr || j == to->nr)
			return;
		in[nr] = (struct iovec){ from->base + i * PAGE, PAGE };
		out[nr++] = (struct iovec){ to->base + j * PAGE, PAGE };
		to->page[j].serial = from->page[i].serial;
		to->page[j].patch = from->page[i].patch;
		to->page[j].flags &= (uint8_t)~PAGE_MAYBE;
	}
	if (how & 1) {
		got = sent = process_vm_writev(getpid(), in, (unsigned long)nr, out,
					       (unsigned long)nr, 0);
	} else {
		if (pipe2(fds, O_CLOEXEC) != 0)
			fail("pipe2: %m");
		sent = writev(fds[1], in, nr);
		got = readv(fds[0], out, nr);
		close(fds[0]);
		close(fds[1]);
	}
	if (sent != nr * (ssize_t)PAGE || got != sent)
		fail("%s of %d pages: %zd sent, %zd received: %m",
		     how & 1 ? "process_vm_writev" : "writev and readv", nr, sent, got);
	for (int n = 0; n < nr; n++)
		page_check(c, to, (size_t)((char *)out[n].iov_base - to->base) / PAGE,
			   how & ~UINT64_C(3));
}

/* Protection holds, whether the page is in memory or not. */
void op_segv(struct churn *c)
{
	struct region *r = pick_region(c);
	uint64_t how = rng_next(&c->rng);
	volatile uint64_t *word;
	size_t i;

	if (!r)
		return;
	i = find_page(r, how >> 16, 0, PAGE_W);
	if (i == r->nr)
		return;
	word = (volatile uint64_t *)(r->base + i * PAGE) + (how >> 8) % PAGE_WORDS;
	c->fault_addr = 0;
	c->fault_expected = 1;
	if (sigsetjmp(c->fault, 1) == 0) {
		if (how & 1 && !(r->page[i].flags & PAGE_R))
			(void)*word;
		else
			*word = 0;
		fail("%p can be used although it is protected (flags %u)",
		     (void *)(uintptr_t)word, r->page[i].flags);
	}
	if (c->fault_addr != (uintptr_t)word)
		fail("SIGSEGV names %p, not %p", (void *)c->fault_addr,
		     (void *)(uintptr_t)word);
	page_check(c, r, i, how & ~UINT64_C(3));
}

/* The instruction that a signal has interrupted. */
static uintptr_t instruction(const void *context)
{
	const ucontext_t *u = context;

#if defined(__x86_64__)
	return (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return (uintptr_t)u->uc_mcontext.pc;
#endif
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	char mapping[256], code[256];

	if (sig == SIGSEGV && self && self->fault_expected) {
		self->fault_expected = 0;
		self->fault_addr = (uintptr_t)info->si_addr;
		siglongjmp(self->fault, 1);
	}
	mapping_of((uintptr_t)info->si_addr, mapping, sizeof(mapping));
	mapping_of(instruction(context), code, sizeof(code));
	fail("unexpected signal %d, code %d, at %p; mapping %s, pagemap %016llx; by the "
	     "instruction at %#lx of %s",
	     sig, info->si_code, info->si_addr, mapping,
	     (unsigned long long)pagemap_of((uintptr_t)info->si_addr),
	     (unsigned long)instruction(context), code);
}

static void on_pester(int sig)
{
	(void)sig;
	if (self)
		constants_check(mix64(++self->signals ^ (uint64_t)self->index << 32));
}

void signals_init(void)
{
	struct sigaction fault = { .sa_sigaction = on_fault,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct sigaction pester = { .sa_handler = on_pester,
				    .sa_flags = SA_RESTART | SA_ONSTACK };

	if (sigaction(SIGSEGV, &fault, NULL) || sigaction(SIGBUS, &fault, NULL) ||
	    sigaction(SIGUSR1, &pester, NULL))
		fail("sigaction: %m");
}

/* A mapping of its own, between pages that nobody may touch: see UHMM_DELIVERY_INLINE. */
void signals_start_thread(void)
{
	stack_t stack = { .ss_size = ALT_STACK };
	char *p = mmap(NULL, ALT_STACK + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	stack.ss_sp = p + PAGE;
	if (p == MAP_FAILED ||
	    mprotect(stack.ss_sp, ALT_STACK, PROT_READ | PROT_WRITE) != 0 ||
	    sigaltstack(&stack, NULL) != 0)
		fail("sigaltstack: %m");
}

/* Ends when everybody else has. They are joined after it, so their ids are good. */
void *signals_pester(void *arg)
{
	struct timespec pause = { 0, SIGNAL_NS };
	int ended = 0;

	(void)arg;
	for (int n = 0; ended < options.threads; n++) {
		struct churn *c = &churns[n % options.threads];

		ended = n % options.threads ? ended : 0;
		ended += atomic_load(&c->ended);
		pthread_kill(c->thread, SIGUSR1);
		nanosleep(&pause, NULL);
	}
	return NULL;
}
