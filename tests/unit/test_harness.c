/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The harness tested by itself: this program holds tests that must fail, each with a
 * planted fault, and tests that run this very program to see each of them reported.
 * The planted ones are registered only when UHMM_TEST_PLANTED is set, so that they
 * never count as tests of uhmm.
 */
#define _GNU_SOURCE
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* ---- the planted faults ------------------------------------------------------ */

static void check_in_child(void)
{
	int seven = 7;

	CHECK_EQ(seven, 8);
}

static void check_in_grandchild(void)
{
	if (fork() == 0) {
		if (fork() == 0) {
			size_t big = 3;

			CHECK_LT(big, 2);
			_exit(0);
		}
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
}

static void *check_in_thread_body(void *arg)
{
	CHECK(arg != NULL, "arg is %p", arg);
	return NULL;
}

static void check_in_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, check_in_thread_body, NULL);
	pthread_join(thread, NULL);
}

/* The grandchild leaves the group, and fails after the child has ended. */
static void check_after_the_end(void)
{
	if (fork() == 0) {
		usleep(300000);
		CHECK(!"late");
		_exit(0);
	}
}

static void check_in_another_session(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		setsid();
		CHECK_STR("one", "two");
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void bytes_differ(void)
{
	CHECK_MEM("abcd", "abxd", 4);
}

static void hangs(void)
{
	for (;;)
		pause();
}

static void crashes(void)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void returns_instead_of_dying(void)
{
}

static void dies_otherwise(void)
{
	signal(SIGILL, SIG_DFL);
	raise(SIGILL);
}

static void exits_in_the_middle(void)
{
	_exit(0);
}

static void exits_77_without_reason(void)
{
	_exit(77);
}

static void leaves_a_process(void)
{
	if (fork() == 0)
		hangs();
}

static void *volatile leaked;

static void leaks(void)
{
	leaked = malloc(4321);
	leaked = NULL;
}

static void skips(void)
{
	SKIP("because of %d", 42);
}

static void passes(void)
{
	CHECK(1);
	CHECK_OP(-1, <, 1u);
	CHECK_EQ((unsigned char)200, 200);
	CHECK_EQ((void *)0, NULL);
	CHECK_GT(UINT64_MAX, INT64_MAX);
}

static void exits_3(void)
{
	_exit(3);
}

#define PLANTED(fn_, ...)                                                                \
	{                                                                                \
		.name = "planted_" #fn_, .fn = fn_, __VA_ARGS__                          \
	}

static struct test planted[] = {
	PLANTED(check_in_child),
	PLANTED(check_in_grandchild),
	PLANTED(check_in_thread),
	PLANTED(check_after_the_end),
	PLANTED(check_in_another_session),
	PLANTED(bytes_differ),
	PLANTED(hangs, .timeout_s = 1),
	PLANTED(crashes),
	PLANTED(returns_instead_of_dying, .signal = SIGBUS),
	PLANTED(dies_otherwise, .signal = SIGBUS),
	PLANTED(exits_in_the_middle),
	PLANTED(exits_77_without_reason),
	PLANTED(leaves_a_process),
	PLANTED(leaks),
	PLANTED(skips),
	PLANTED(passes),
	PLANTED(exits_3, .exit_status = 3),
};

__attribute__((constructor)) static void register_planted(void)
{
	if (getenv("UHMM_TEST_PLANTED"))
		for (size_t i = 0; i < sizeof(planted) / sizeof(planted[0]); i++)
			test_register(&planted[i]);
}

/* ---- the tests ------------------------------------------------------------------ */

#define OUTPUT_MAX 65536

/* Runs one planted test; its TAP output, and the runner's exit status. */
static int run_planted(const char *name, char *output)
{
	size_t len = 0;
	int fds[2], status;
	char self[4096] = "";
	ssize_t n;
	pid_t pid;

	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	CHECK(pipe(fds) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		dup2(fds[1], 1);
		close(fds[0]);
		close(fds[1]);
		setenv("UHMM_TEST_PLANTED", "1", 1);
		unsetenv("TEST_TIMEOUT_FACTOR");
		setenv("TEST_PACE", "1", 1);
		execl(self, self, name, (char *)NULL);
		_exit(126);
	}
	close(fds[1]);
	while (len < OUTPUT_MAX - 1 &&
	       (n = read(fds[0], output + len, OUTPUT_MAX - 1 - len)) > 0)
		len += (size_t)n;
	output[len] = 0;
	close(fds[0]);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void expect(const char *name, int status, const char *line, const char *reason)
{
	static char output[OUTPUT_MAX];
	int got = run_planted(name, output);

	CHECK(got == status, "status %d, output:\n%.400s", got, output);
	CHECK(strstr(output, "1..1\n"), "output:\n%.400s", output);
	CHECK(strstr(output, line), "no \"%s\" in:\n%.400s", line, output);
	CHECK(strstr(output, reason), "no \"%s\" in:\n%.400s", reason, output);
}

#define EXPECT_FAILURE(name_, reason_)                                                   \
	TEST(sees_##name_)                                                               \
	{                                                                                \
		expect("planted_" #name_, 1, "not ok 1 - planted_" #name_ "\n",          \
		       reason_);                                                         \
	}

EXPECT_FAILURE(check_in_child, "CHECK(seven == 8) failed: 7 (0x7) and 8 (0x8)")
EXPECT_FAILURE(check_in_grandchild, "CHECK(big < 2) failed: 3 (0x3) and 2 (0x2)")
EXPECT_FAILURE(check_in_thread, "CHECK(arg != NULL) failed: arg is (nil)")
EXPECT_FAILURE(check_after_the_end, "failed: ")
EXPECT_FAILURE(check_in_another_session, "failed: \"one\" and \"two\"")
EXPECT_FAILURE(bytes_differ, "byte 2 of 4 is 0x63 and 0x78")
EXPECT_FAILURE(hangs, "timeout after 1000 ms")
/* Its one thread is named, and what it waits for. */
TEST(says_where_a_test_hangs)
{
	expect("planted_hangs", 1, "# planted_hangs: process ", " test_harness: ");
}

EXPECT_FAILURE(crashes, "ended by signal 11")
EXPECT_FAILURE(returns_instead_of_dying, "was not ended by signal 7")
EXPECT_FAILURE(dies_otherwise, "ended by signal 4")
EXPECT_FAILURE(exits_in_the_middle, "exited before its end")
EXPECT_FAILURE(exits_77_without_reason, "exited with status 77")
EXPECT_FAILURE(leaves_a_process, "left a process running")

TEST(failure_names_its_place)
{
	expect("planted_check_in_child", 1, "not ok 1", "test_harness.c:");
}

__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);

TEST(sees_leaks)
{
	if (!__lsan_do_recoverable_leak_check)
		SKIP("built without LeakSanitizer");
	expect("planted_leaks", 1, "not ok 1 - planted_leaks\n", "memory leaked");
}

TEST(sees_a_skip_and_its_reason)
{
	expect("planted_skips", 0, "ok 1 - planted_skips # SKIP because of 42\n", "");
}

TEST(sees_a_pass)
{
	expect("planted_passes", 0, "\nok 1 - planted_passes\n", "");
}

TEST(sees_an_expected_status)
{
	expect("planted_exits_3", 0, "\nok 1 - planted_exits_3\n", "");
}

TEST(an_expected_signal_passes, .signal = SIGBUS)
{
	raise(SIGBUS);
}

TEST(an_expected_fault_passes, .signal = SIGSEGV)
{
	volatile char *p = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
				0);

	CHECK(p != MAP_FAILED);
	*p = 1;
}
