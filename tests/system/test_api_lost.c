/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that a device cannot give back, and fork: a child has lost what its parent has
 * lost, and what could not be copied for it, and nothing else.
 */
#include "board.h"

#include <setjmp.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static sigjmp_buf back;

static void on_bus_error(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

static bool is_lost(const char *p)
{
	if (sigsetjmp(back, 1))
		return true;
	*(const volatile char *)p;
	return false;
}

/*
 * NR pages on a device that breaks. The first half is read before, the page at LOST then.
 */
#define HALF (NR / 2)
#define LOST (NR - 1)

static struct board *break_one(uint32_t delivery, char **p)
{
	struct sigaction sa = { .sa_handler = on_bus_error };
	struct board *b;

	if (api_fork_stops_threads())
		SKIP("%s", api_fork_stops_threads());
	/* Before the library's, which passes on what is not its own. */
	CHECK_EQ(sigaction(SIGBUS, &sa, NULL), 0);
	b = board_open(delivery);
	*p = api_map(NR);
	api_fill(*p, NR, 1);
	board_take(b, *p, NR);
	api_check(*p, HALF, 1);
	b->broken = true;
	CHECK(is_lost(*p + LOST * PAGE));
	return b;
}

static void check_child(pid_t pid)
{
	int status;

	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void end(struct board *b)
{
	CHECK_EQ(uhmm_space_destroy(b->space), -EIO);
	board_free(b);
}

/* The device works again when the child has begun: what was lost stays lost. */
API_TEST(what_is_lost_is_lost_in_a_child)
{
	char *p;
	struct board *b = break_one(delivery, &p);
	pid_t pid;

	b->broken = false;
	pid = fork();
	if (pid == 0) {
		CHECK(is_lost(p + LOST * PAGE));
		api_check(p, LOST, 1);
		_exit(0);
	}
	check_child(pid);
	CHECK(is_lost(p + LOST * PAGE));
	api_check(p, LOST, 1);
	end(b);
}

/* It is filled while the device is broken, so it has no page that was there. */
API_TEST(what_cannot_be_copied_is_lost_to_a_raw_clone)
{
	char *p;
	struct board *b = break_one(delivery, &p);
	unsigned i, lost = 0;
	pid_t pid;

	/* Of an instruction of its own: libc's syscall() may be the library's. */
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
	if (pid == 0) {
		api_check(p, HALF, 1);
		for (i = HALF; i < NR; i++) {
			lost += is_lost(p + i * PAGE);
			if (!is_lost(p + i * PAGE))
				api_check(p + i * PAGE, 1, 1 + i);
		}
		/* But for those that came along with the first half. */
		CHECK(lost > HALF / 2, "%u", lost);
		_exit(0);
	}
	check_child(pid);
	b->broken = false;
	CHECK(is_lost(p + LOST * PAGE));
	api_check(p, LOST, 1);
	end(b);
}

/* Nobody is told of it: it was lost before, and reads as zeros once it is discarded. */
API_TEST(a_lost_page_moves_with_its_mapping)
{
	char *p, *q = api_map(NR);
	struct board *b = break_one(delivery, &p);

	b->broken = false;
	CHECK(mremap(p + HALF * PAGE, HALF * PAGE, HALF * PAGE,
		     MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
	api_check(q, HALF - 1, 1 + HALF);
	CHECK(is_lost(q + (HALF - 1) * PAGE));
	CHECK_EQ(madvise(q, HALF * PAGE, MADV_DONTNEED), 0);
	CHECK(!is_lost(q + (HALF - 1) * PAGE));
	CHECK_EQ(q[(HALF - 1) * PAGE], 0);
	api_check(p, HALF, 1);
	api_destroy(b->space);
	board_free(b);
}
