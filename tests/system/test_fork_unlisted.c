/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A raw clone's child has memory wiped for its own child (MADV_WIPEONFORK), and what that
 * finds empty cannot be read in /proc, for a moment or at all. It must not find what the
 * other wanted to keep from it.
 */
#include "api.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR 64u
#define WIPED 8u

int __wrap_os_for_each_wiped(uint32_t pid,
			     void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
			     void *ctx);
int __real_os_for_each_wiped(uint32_t pid,
			     void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
			     void *ctx);

int __wrap_os_for_each_registered(uint32_t pid,
				  void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
				  void *ctx);
int __real_os_for_each_registered(uint32_t pid,
				  void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
				  void *ctx);

static uint32_t failures; /* to come, of looks at others */
static uint32_t failed;

int __wrap_os_for_each_wiped(uint32_t pid,
			     void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
			     void *ctx)
{
	if (pid && failures) {
		failures--;
		failed++;
		return -EMFILE;
	}
	return __real_os_for_each_wiped(pid, fn, ctx);
}

#define LATER_US 2000

/* What is to be given for each mapping of another process, and a while after it. */
static struct {
	bool slow;
	void (*fn)(void *ctx, uintptr_t start, uintptr_t end);
} given;

static void give_slowly(void *ctx, uintptr_t start, uintptr_t end)
{
	given.fn(ctx, start, end);
	usleep(LATER_US);
}

int __wrap_os_for_each_registered(uint32_t pid,
				  void (*fn)(void *ctx, uintptr_t start, uintptr_t end),
				  void *ctx)
{
	if (!pid || !given.slow)
		return __real_os_for_each_registered(pid, fn, ctx);
	given.fn = fn;
	return __real_os_for_each_registered(pid, give_slowly, ctx);
}

/* It has nothing of what was wiped, and of the rest all. */
static void look(const char *p)
{
	static const char zeros[PAGE];
	unsigned i;

	CHECK_EQ(p[0], 0); /* the kernel's doing: this page has not migrated */
	for (i = 1; i < WIPED; i++)
		CHECK(memcmp(p + i * PAGE, zeros, PAGE) == 0, "page %u", i);
	api_check(p + WIPED * PAGE, NR - WIPED, 1 + WIPED);
}

/* 1: it came to a page that is lost. */
static int end_of(pid_t pid)
{
	int status;

	CHECK_GT(pid, 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS)
		return 1;
	CHECK(WIFEXITED(status), "status %#x", status);
	return WEXITSTATUS(status);
}

static pid_t raw_clone(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
}

/* Its child's, that of a child that wipes memory at once, or when all was filled in. */
static int in_the_child(char *p, bool filled)
{
	pid_t second;
	int end;

	if (filled)
		api_check(p, NR, 1);
	CHECK_EQ(madvise(p, WIPED * PAGE, MADV_WIPEONFORK), 0);
	second = raw_clone();
	if (second == 0) {
		look(p);
		_exit(0);
	}
	end = end_of(second);
	api_check(p, NR, 1);
	return end;
}

/*
 * The child is asked first: its look fails too, where all do. How many of its children
 * have lost pages: some are made when the child has been filled already, and have all.
 */
static unsigned losses(uint32_t delivery, uint32_t times, bool filled)
{
	struct uhmm_space *space;
	struct uhmm_device *ram;
	char *p = api_map(NR);
	unsigned round, lost = 0;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	signal(SIGBUS, SIG_DFL); /* not a sanitizer's, before the library's comes */
	space = api_space(delivery, 0);
	ram = api_device(space, "ram");
	api_fill(p, NR, 1);
	for (round = 0; round < 20; round++) {
		pid_t pid;
		int end;

		/* The first page stays. */
		CHECK_EQ(uhmm_migrate(space, p + PAGE, (NR - 1) * PAGE, ram, NULL, NULL),
			 0);
		failures = times;
		failed = 0;
		pid = raw_clone();
		if (pid == 0)
			_exit(in_the_child(p, filled));
		end = end_of(pid);
		CHECK(end == 0 || end == 1, "exit status %d", end);
		lost += end == 1;
		CHECK(!times || failed);
	}
	failures = 0;
	api_check(p, NR, 1);
	api_destroy(space);
	return lost;
}

API_TEST(what_cannot_be_read_for_a_moment_is_read_again, .timeout_s = 60)
{
	CHECK_EQ(losses(delivery, 8, false), 0);
}

API_TEST(what_cannot_be_read_is_not_filled_in, .timeout_s = 60)
{
	CHECK_GT(losses(delivery, UINT32_MAX, false), 0);
}

/* It has a name until nothing else of it is registered. */
API_TEST(who_is_made_while_a_child_is_let_go_of_is_found, .timeout_s = 60)
{
	given.slow = true;
	CHECK_EQ(losses(delivery, 0, true), 0);
}
