/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads, waiting and time on Linux.
 *
 * Two kinds of threads. Ordinary ones come from pthread_create(), for a library that is
 * one guest among others in its process. Hidden ones (os_hide_threads(), what the preload
 * uses) come from a bare clone(): libc does not know them. It keeps its single-threaded
 * fast paths, does not count them when the last thread of the program ends, and does not
 * wait for them in setuid(). The price is that they must not call libc: their
 * thread-local storage is a block of zeros that only satisfies stack protectors.
 *
 * Both kinds block every signal: the program's handlers never run on them.
 */
#include "lib/os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

/* -DDIE_SIGNAL=SIGSTOP leaves the process for a debugger to look at. */
#ifndef DIE_SIGNAL
#define DIE_SIGNAL SIGKILL
#endif

#define STACK_SIZE ((size_t)512 << 10)
/* Thread-local storage of a hidden thread: zeros on both sides of the thread pointer. */
#define TLS_SIZE ((size_t)16 << 10)

static bool hidden;

void (*os_on_die)(const char *message);

void os_hide_threads(void)
{
	hidden = true;
}

bool os_linux_are_hidden(void)
{
	return hidden;
}

int os_private_files(void)
{
	/* What was opened is not in the new table. CLOSE_RANGE_UNSHARE is 1 << 1. */
	os_detach();
	return (int)sys3(SYS_close_range, 0, ~0U, 1U << 1);
}

/* What the new thread starts from; lies at the top of its stack. */
struct launch {
	void (*fn)(void *arg);
	void *arg;
	char name[16];
	bool parts;       /* with its files */
	uint32_t *parted; /* futex, the starter's */
};

static void name_thread(const char *name)
{
	sys2(SYS_prctl, PR_SET_NAME, name);
}

static void block(uint64_t mask, uint64_t *old)
{
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, old, sizeof(mask));
}

#define BUS (UINT64_C(1) << (SIGBUS - 1))

uint64_t os_linux_unblocked = BUS;
uint64_t os_linux_accepted = BUS;

static void change(int how, uint64_t mask, uint64_t *old)
{
	sys4(SYS_rt_sigprocmask, how, &mask, old, sizeof(mask));
}

/* Only what was changed is changed back: the rest may be somebody else's by then. */
void os_block_signals(uint64_t *old)
{
	change(SIG_BLOCK, ~os_linux_unblocked, old);
	if (*old & os_linux_accepted)
		change(SIG_UNBLOCK, os_linux_accepted, NULL);
}

void os_restore_signals(const uint64_t *old)
{
	if (*old & os_linux_accepted)
		change(SIG_BLOCK, *old & os_linux_accepted, NULL);
	change(SIG_UNBLOCK, ~*old & ~os_linux_unblocked, NULL);
}

void os_accept_faults(void)
{
	block(~BUS, NULL);
}

/* ---- hidden ----------------------------------------------------------------------- */

/*
 * Ahead of the program's threads, if that is permitted: one of ours that waits for a
 * processor keeps one of theirs waiting for its page, or memory growing unwatched. A
 * short slice makes the scheduler prefer us when we wake up (EEVDF, Linux 6.12; nobody
 * needs permission for it).
 */
static void hurry_scheduler(void)
{
	struct sched_attr_v0 attr = { .size = sizeof(attr), .runtime = 100000 };

	if (sys3(SYS_setpriority, PRIO_PROCESS, 0, -10) == 0)
		attr.nice = -10;
	sys3(SYS_sched_setattr, 0, &attr, 0);
}

static void __attribute__((used)) hidden_main(struct launch *launch)
{
	bool apart = false;

	name_thread(launch->name);
	hurry_scheduler();
	sys1(SYS_chdir, "/"); /* what the program works in can be unmounted */
	if (launch->parts) {
		apart = os_linux_leave_files();
		__atomic_store_n(launch->parted, 1, __ATOMIC_RELEASE);
		os_wake(launch->parted, 1);
	}
	os_linux_thread_begins();
	launch->fn(launch->arg);
	os_linux_thread_ends();
	/* The kernel says that a thread has ended before it closes these. */
	if (apart)
		sys3(SYS_close_range, 0, ~0U, 0);
}

/* Returns the tid in the parent; the child calls hidden_main(launch) and exits. */
long hidden_clone(unsigned long flags, void *stack, uint32_t *tid, void *tls,
		  struct launch *launch);

#if defined(__x86_64__)
/*
 * rdi flags, rsi stack, rdx tid, rcx tls, r8 launch; clone wants r10 child_tid, r8 tls.
 */
__asm__(".text\n"
	".p2align 4\n"
	".hidden hidden_clone\n"
	".type hidden_clone, @function\n"
	"hidden_clone:\n"
	"	movq	%r8, %r9\n"
	"	movq	%rcx, %r8\n"
	"	movq	%rdx, %r10\n"
	"	movl	$56, %eax\n"
	"	syscall\n"
	"	testq	%rax, %rax\n"
	"	jnz	1f\n"
	"	xorl	%ebp, %ebp\n"
	"	movq	%r9, %rdi\n"
	"	call	hidden_main\n"
	"	xorl	%edi, %edi\n"
	"	movl	$60, %eax\n"
	"	syscall\n"
	"	hlt\n"
	"1:	ret\n"
	".size hidden_clone, .-hidden_clone\n");
#elif defined(__aarch64__)
/*
 * x0 flags, x1 stack, x2 tid, x3 tls, x4 launch; clone wants x2 parent_tid, x3 tls, x4
 * child_tid.
 */
__asm__(".text\n"
	".p2align 4\n"
	".hidden hidden_clone\n"
	".type hidden_clone, %function\n"
	"hidden_clone:\n"
	"	mov	x5, x4\n"
	"	mov	x4, x2\n"
	"	mov	x8, #220\n"
	"	svc	#0\n"
	"	cbnz	x0, 1f\n"
	"	mov	x29, #0\n"
	"	mov	x0, x5\n"
	"	bl	hidden_main\n"
	"	mov	x0, #0\n"
	"	mov	x8, #93\n"
	"	svc	#0\n"
	"1:	ret\n"
	".size hidden_clone, .-hidden_clone\n");
#endif

static int start_hidden(struct os_thread *thread, const struct launch *launch)
{
	/*
	 * Untraced: a debugger that stops all threads it knows of leaves us to bring
	 * pages. Not CLONE_FS: setns() refuses who shares directories. Nor CLONE_SYSVSEM:
	 * the process would have a list that it has not made, which kcmp() sees.
	 */
	unsigned long flags = CLONE_VM | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			      CLONE_SETTLS | CLONE_UNTRACED | CLONE_CHILD_CLEARTID |
			      CLONE_PARENT_SETTID;
	char *stack = os_reserve(STACK_SIZE);
	struct launch *top;
	uint64_t old;
	void **tls;
	long tid;

	if (!stack)
		return -ENOMEM;
	if (os_commit(stack, STACK_SIZE)) {
		os_release(stack, STACK_SIZE);
		return -ENOMEM;
	}
	tls = (void **)(stack + STACK_SIZE - TLS_SIZE / 2);
	tls[0] = tls; /* the thread pointer points to itself: the ABI of both machines */
	tls[2] = tls;
	top = (struct launch *)(stack + STACK_SIZE - TLS_SIZE) - 1;
	top = (struct launch *)((uintptr_t)top & ~(uintptr_t)63);
	*top = *launch;
	thread->impl = stack;
	thread->impl_size = STACK_SIZE;
	block(~UINT64_C(0), &old);
	tid = hidden_clone(flags, top, &thread->tid, tls, top);
	block(old, NULL);
	if (tid < 0)
		os_thread_forget(thread);
	return tid < 0 ? (int)tid : 0;
}

/* ---- ordinary --------------------------------------------------------------------- */

/*
 * On a stack of our own, which glibc also puts the thread's area in: one of pthread's may
 * lie right below memory of the program and be one mapping with it. That is registered as
 * a whole, and a reader that touches a new page of its stack would wait for itself. A
 * sanitizer's runtime wants more of it than we do.
 */
#define ORDINARY_STACK ((size_t)2 << 20)

struct ordinary {
	pthread_t handle;
	struct launch launch;
	struct os_thread *thread;
	char stack[ORDINARY_STACK] __attribute__((aligned(4096)));
};

static void *ordinary_main(void *arg)
{
	struct ordinary *o = arg;
	uint64_t old;

	block(~UINT64_C(0), &old);
	name_thread(o->launch.name);
	os_linux_thread_begins();
	__atomic_store_n(&o->thread->begun, 1, __ATOMIC_RELEASE);
	os_wake(&o->thread->begun, INT_MAX);
	o->launch.fn(o->launch.arg);
	os_linux_thread_ends();
	return NULL;
}

static int start_ordinary(struct os_thread *thread, const struct launch *launch)
{
	struct ordinary *o = os_reserve(sizeof(*o));
	pthread_attr_t attr;
	uint64_t old;
	int r;

	if (!o)
		return -ENOMEM;
	if (os_commit(o, sizeof(*o)) || pthread_attr_init(&attr)) {
		os_release(o, sizeof(*o));
		return -ENOMEM;
	}
	o->launch = *launch;
	o->thread = thread;
	thread->impl = o;
	thread->impl_size = sizeof(*o);
	thread->tid = 1;
	thread->begun = 0;
	/* libc may fault here: it allocates for the thread from the program's memory. */
	os_block_signals(&old);
	r = pthread_attr_setstack(&attr, o->stack, sizeof(o->stack));
	if (!r)
		r = pthread_create(&o->handle, &attr, ordinary_main, o);
	os_restore_signals(&old);
	pthread_attr_destroy(&attr);
	if (r)
		os_thread_forget(thread);
	return -r;
}

static bool parts_files __attribute__((section(".data")));

void os_linux_part_files(bool parts)
{
	parts_files = parts;
}

bool os_linux_files_are_parted(void)
{
	return parts_files;
}

static int start(struct os_thread *thread, void (*fn)(void *arg), void *arg,
		 const char *name, bool parts)
{
	uint32_t parted = 0;
	struct launch launch = {
		.fn = fn, .arg = arg, .parts = parts, .parted = &parted
	};
	int i, r;

	for (i = 0; name[i] && i < 15; i++)
		launch.name[i] = name[i];
	os_linux_thread_starts(true);
	r = hidden ? start_hidden(thread, &launch) : start_ordinary(thread, &launch);
	if (r)
		os_linux_thread_starts(false);
	while (!r && parts && !__atomic_load_n(&parted, __ATOMIC_ACQUIRE))
		os_wait(&parted, 0, -1);
	return r;
}

int os_thread_start(struct os_thread *thread, void (*fn)(void *arg), void *arg,
		    const char *name)
{
	return start(thread, fn, arg, name, hidden && parts_files);
}

int os_linux_thread_start(struct os_thread *thread, void (*fn)(void *arg), void *arg,
			  const char *name)
{
	return start(thread, fn, arg, name, false);
}

void os_thread_wait(struct os_thread *thread)
{
	uint32_t tid;

	while (hidden && thread->impl &&
	       (tid = __atomic_load_n(&thread->tid, __ATOMIC_ACQUIRE)))
		os_wait(&thread->tid, tid, -1);
}

void os_thread_join(struct os_thread *thread)
{
	if (!thread->impl)
		return;
	if (hidden)
		os_thread_wait(thread);
	else
		pthread_join(((struct ordinary *)thread->impl)->handle, NULL);
	os_thread_forget(thread);
}

/* A hidden thread has no code but ours. */
void os_thread_await(struct os_thread *thread)
{
	while (!hidden && __atomic_load_n(&thread->impl, __ATOMIC_ACQUIRE) &&
	       !__atomic_load_n(&thread->begun, __ATOMIC_ACQUIRE))
		os_wait(&thread->begun, 0, -1);
}

void os_thread_forget(struct os_thread *thread)
{
	/* Taken first: a child forked meanwhile must not release what is another's. */
	void *impl = __atomic_exchange_n(&thread->impl, NULL, __ATOMIC_ACQ_REL);

	if (impl)
		os_release(impl, thread->impl_size);
	thread->tid = 0;
}

uint32_t os_tid(void)
{
	return (uint32_t)sys0(SYS_gettid);
}

uintptr_t (*os_linux_thread_pointer)(uintptr_t current);

/* A copy has the thread pointer of its original. */
uintptr_t os_thread_copied(void)
{
	uintptr_t current = (uintptr_t)__builtin_thread_pointer();

	return os_linux_thread_pointer ? os_linux_thread_pointer(current) : current;
}

uint32_t os_pid(void)
{
	return (uint32_t)sys0(SYS_getpid);
}

uint32_t os_parent_pid(void)
{
	return (uint32_t)sys0(SYS_getppid);
}

int os_nr_cpus(void)
{
	uint64_t mask[128] = { 0 }; /* 8,192 CPUs */
	long n = sys3(SYS_sched_getaffinity, 0, sizeof(mask), mask);
	int i, cpus = 0;

	for (i = 0; i < n / 8; i++)
		cpus += __builtin_popcountll(mask[i]);
	return cpus > 0 ? cpus : 1;
}

void os_yield(void)
{
	sys0(SYS_sched_yield);
}

/* ---- waiting ---------------------------------------------------------------------- */

/* Not PRIVATE: the kernel's wake of an ended thread's tid is not either. */
int os_wait(uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
	struct timespec ts, *tsp = NULL;
	long r;

	if (timeout_ns >= 0) {
		ts.tv_sec = timeout_ns / 1000000000;
		ts.tv_nsec = timeout_ns % 1000000000;
		tsp = &ts;
	}
	r = sys4(SYS_futex, word, FUTEX_WAIT, expected, tsp);
	return r == -EINTR ? 0 : (int)r;
}

void os_wake(uint32_t *word, int nr)
{
	sys3(SYS_futex, word, FUTEX_WAKE, nr);
}

uint64_t os_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts); /* the vdso: no thread-local storage */
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t os_random(void)
{
	uint64_t v = 0;

	if (sys3(SYS_getrandom, &v, sizeof(v), 0) != sizeof(v))
		v = os_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
	return v;
}

int os_random_bytes(void *buf, size_t len)
{
	size_t at = 0;

	while (at < len) {
		long n = sys3(SYS_getrandom, (char *)buf + at, len - at, 0);

		if (n < 0 && n != -EINTR)
			return (int)n;
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

void os_die(const char *message)
{
	size_t n = 0;

	if (os_on_die)
		os_on_die(message);
	while (message[n])
		n++;
	sys3(SYS_write, 2, "uhmm: ", 6);
	sys3(SYS_write, 2, message, n);
	sys3(SYS_write, 2, "\n", 1);
	for (;;)
		sys2(SYS_kill, os_pid(), DIE_SIGNAL);
}
