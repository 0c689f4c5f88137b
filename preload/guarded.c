/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard, embedded: what it needs to know of this process's space.
 *
 * With faults resolved inline (ctl->faults) it is the program's threads that use what is
 * open of ours: so it is in their table of descriptors, and the guard keeps the program
 * from closing it. How it comes there: lib/os/os_linux_files.c.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>

#include "lib/inline.h"
#include "lib/migrate.h"
#include "lib/os/os_linux.h"
#include "preload/guard.h"

/* Read by syscall(), in clone.c, too. */
__attribute__((visibility("hidden"))) bool preload_guarded
	__attribute__((section(".data")));
__attribute__((visibility("hidden"))) long (*preload_libc_syscall)(long nr, ...)
	__attribute__((section(".data")));

void guarded_bind(void)
{
	/*
	 * Who waits for what the keeper has could not answer it; and is to come back with
	 * those of the guard as the program has them.
	 */
	os_linux_unblocked = SIGNALS_OURS | SIGNAL_BIT(SIGARM);
	os_linux_accepted = 0;
	os_linux_part_files(true);
	*(void **)&preload_libc_syscall = dlsym(RTLD_NEXT, "syscall");
}

static bool fault(uintptr_t addr)
{
	struct uhmm_space *sp = preload_space();

	return sp && inline_fault(sp, addr);
}

static void unknown(void)
{
	struct uhmm_space *sp = preload_space();

	if (sp)
		count(sp, COUNT_CALL_UNKNOWN, 1);
}

/* After what is taken was published, by the former. */
void guarded_hold(void *ctx, uintptr_t start, uintptr_t end,
		  void (*add)(void *to, uintptr_t addr, size_t len), void *to)
{
	threads_hold(ctx, start, end, add, to);
	tasks_list_held(start, end, add, to);
}

/*
 * A thread that does not answer is in a call that nothing interrupts: a read of much, or
 * vfork(). It has been asked, and answers when that is over.
 */
#define PAUSE_MIN_NS UINT64_C(50000000)
#define PAUSE_MAX_NS (PAUSE_MIN_NS << 6)

static struct {
	uint64_t at_ns;    /* when to look again; 0: now */
	uint64_t pause_ns; /* before that */
	bool told;
} again;

static int start_again(void)
{
	if (!again.pause_ns)
		again.pause_ns = PAUSE_MIN_NS;
	else if (again.pause_ns < PAUSE_MAX_NS)
		again.pause_ns *= 2;
	else if (!again.told) {
		preload_say("a thread of a process is in a system call that does not "
			    "end: the process runs without a limit until it does");
		again.told = true;
	}
	again.at_ns = os_now_ns() + again.pause_ns;
	return -EAGAIN;
}

/* A filter may forbid what faults are resolved by. */
static int leave(enum guard_leaves why)
{
	int r = preload_give_up(why);

	if (r)
		return r;
	preload_guarded = false;
	if (why == GUARD_LEAVES_FILTER_OF_ALL)
		preload_rest();
	return 0;
}

void guarded_end(void)
{
	guard_finish();
	preload_guarded = false;
	/* As in a process that has never been. */
	os_linux_accepted = SIGNAL_BIT(SIGBUS);
	os_linux_show_files();
}

int guarded_start(void)
{
	struct guard_hooks hooks = {
		.is_ours = preload_is_ours,
		.fault = fault,
		.wait = threads_wait,
		.is_our_file = os_linux_is_own,
		.fork_begin = preload_before_guarded_fork,
		.fork_end = preload_after_guarded_fork,
		.fork_refused = preload_refuses_fork,
		.unknown = unknown,
		.has_filter = preload_has_filter,
		.leave = leave,
		.ring = preload_may_go_by_thread(),
	};

	static const struct guard_hooks none;
	int r;

	if (os_now_ns() < again.at_ns)
		return -EAGAIN;
	/* Before a thread is guarded: its calls of ours would not be. */
	preload_guarded = preload_libc_syscall != NULL;
	r = preload_guarded ? guard_start(&hooks) : -ENOSYS;
	if (r) {
		/* Nothing will be migrated. Who is guarded stays so, forks as before. */
		guard_set_hooks(&none);
		preload_guarded = false;
	}
	return r == -ETIMEDOUT ? start_again() : r;
}
