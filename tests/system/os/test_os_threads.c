/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/os/os_linux_thread.c and os_linux_end.c: threads of both kinds, where they cannot
 * be started, and the ways in which the library ends a process.
 *
 * The process that is ended shares the test's memory: so the test sees what it did.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "lib/assert.h"
#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "tests/system/os/refuse.h"

#define STACK (256 << 10)

static uint32_t runs;
static char name_seen[16];

static void run(void *arg)
{
	CHECK(arg == &runs);
	prctl(PR_GET_NAME, name_seen);
	__atomic_fetch_add(&runs, 1, __ATOMIC_RELAXED);
}

/* What was begun is undone: nothing to join, nothing reserved. */
static void check_refused(int error)
{
	struct os_thread thread = { 0 };

	CHECK_EQ(os_thread_start(&thread, run, &runs, "refused"), error);
	CHECK(!thread.impl && thread.tid == 0);
	os_thread_join(&thread);
	os_thread_await(&thread);
	CHECK_EQ(runs, 0);
}

static void check_starts(void)
{
	struct os_thread thread = { 0 };

	runs = 0;
	CHECK_EQ(os_thread_start(&thread, run, &runs, "a name that is too long"), 0);
	os_thread_await(&thread);
	os_thread_join(&thread);
	CHECK(!thread.impl && thread.tid == 0 && runs == 1);
	CHECK_STR(name_seen, "a name that is ");
}

static void without_address_space(void)
{
	struct rlimit limit, none;

	CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
	none = limit;
	none.rlim_cur = 1 << 20;
	CHECK_EQ(setrlimit(RLIMIT_AS, &none), 0);
	check_refused(-ENOMEM);
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	check_starts();
	runs = 0;
}

TEST(an_ordinary_thread_that_cannot_be_started)
{
	if (test_instrument())
		SKIP("%s cannot do without memory or threads", test_instrument());
	without_address_space();
	refuse(SYS_clone3, REFUSE_ANY, 0, EAGAIN);
	refuse(SYS_clone, REFUSE_ANY, 0, EAGAIN);
	check_refused(-EAGAIN);
	refuse(SYS_mprotect, 2, PROT_READ | PROT_WRITE, ENOMEM);
	check_refused(-ENOMEM);
}

TEST(a_hidden_thread_that_cannot_be_started)
{
	if (test_instrument())
		SKIP("%s wants to know all threads", test_instrument());
	os_hide_threads();
	without_address_space();
	refuse(SYS_clone, REFUSE_ANY, 0, EAGAIN);
	check_refused(-EAGAIN);
	refuse(SYS_mprotect, 2, PROT_READ | PROT_WRITE, ENOMEM);
	check_refused(-ENOMEM);
}

TEST(a_hidden_thread_without_permission_to_hurry)
{
	if (test_instrument())
		SKIP("%s wants to know all threads", test_instrument());
	os_hide_threads();
	refuse(SYS_setpriority, REFUSE_ANY, 0, EACCES);
	refuse(SYS_sched_setattr, REFUSE_ANY, 0, EPERM);
	check_starts();
}

TEST(waiting_ends_by_time_and_by_a_changed_word)
{
	uint32_t word = 1;

	CHECK_EQ(os_wait(&word, 1, 1000), -ETIMEDOUT);
	CHECK_EQ(os_wait(&word, 2, -1), -EAGAIN);
	os_wake(&word, 1);
}

TEST(random_numbers_differ_where_there_are_none)
{
	uint64_t a = os_random(), b;

	CHECK_NE(a, os_random());
	refuse(SYS_getrandom, REFUSE_ANY, 0, ENOSYS);
	a = os_random();
	b = os_random();
	CHECK(a && b && a != b);
}

TEST(processors_that_cannot_be_counted_are_one)
{
	CHECK(os_nr_cpus() >= 1);
	refuse(SYS_sched_getaffinity, REFUSE_ANY, 0, EINVAL);
	CHECK_EQ(os_nr_cpus(), 1);
}

/* ---- ends ------------------------------------------------------------------------- */

/* Runs fn in a process with our memory. Its status; what it wrote to stderr in text. */
static int end_of(int (*fn)(void *arg), char *text, size_t size)
{
	static char stack[STACK] __attribute__((aligned(64)));
	int fds[2], keep = dup(2), status;
	ssize_t n;
	pid_t pid;

	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(dup2(fds[1], 2), 2);
	pid = clone(fn, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	dup2(keep, 2);
	close(fds[1]);
	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	n = read(fds[0], text, size - 1);
	CHECK(n >= 0);
	text[n] = 0;
	close(fds[0]);
	close(keep);
	return status;
}

static const char *told;

static void tell(const char *message)
{
	told = message;
}

static int die(void *arg)
{
	(void)arg;
	os_die("what went wrong");
}

static int die_of_a_result(void *arg)
{
	(void)arg;
	die_of_result("lib/x.c:1: what should be", -2147483657);
}

static int die_of_a_long_text(void *arg)
{
	static char text[400];

	(void)arg;
	memset(text, 'x', sizeof(text) - 1);
	die_of_result(text, 0);
}

TEST(dying_says_why_and_cannot_be_caught)
{
	char text[600];
	int status;

	if (test_instrument())
		SKIP("%s has no process within another", test_instrument());
	status = end_of(die, text, sizeof(text));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK_STR(text, "uhmm: what went wrong\n");
	os_on_die = tell;
	status = end_of(die_of_a_result, text, sizeof(text));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK_STR(text, "uhmm: lib/x.c:1: what should be -2147483657\n");
	CHECK(told != NULL);
	/* Cut off, with the number. */
	status = end_of(die_of_a_long_text, text, sizeof(text));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK_LE(strlen(text), 256 + sizeof("uhmm: \n"));
	CHECK_STR(text + strlen(text) - 5, "x +0\n");
}

static int exit_with(void *arg)
{
	(void)arg;
	os_exit(41);
}

TEST(an_exit_has_its_status_and_says_nothing)
{
	char text[64];
	int status;

	if (test_instrument())
		SKIP("%s has no process within another", test_instrument());
	status = end_of(exit_with, text, sizeof(text));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 41);
	CHECK_STR(text, "");
}

/* ---- the end of a process whose threads end one by one ---------------------------- */

static struct {
	struct os_thread keeper, other;
	uint32_t looks, release, lingers, looked_at;
	bool early;
	int code;
} ends;

/* A thread of ours: it looks until the others have ended, and ends the process. */
static void keep(void *arg)
{
	int code = -1;

	(void)arg;
	ends.early = os_threads_ended(&code);
	__atomic_store_n(&ends.looks, 1, __ATOMIC_RELEASE);
	while (!os_threads_ended(&code))
		sched_yield();
	ends.code = code;
	os_exit(code);
}

static int first_thread_is_the_last(void *arg)
{
	(void)arg;
	if (os_thread_start(&ends.keeper, keep, NULL, "uhmm-keeper"))
		return 99;
	while (!__atomic_load_n(&ends.looks, __ATOMIC_ACQUIRE))
		sched_yield();
	syscall(SYS_exit, 17);
	return 99;
}

/* A thread of the program's: libc knows nothing of it, no more than of its first one. */
static int program_thread(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&ends.release, __ATOMIC_ACQUIRE))
		sched_yield();
	syscall(SYS_exit, 5);
	return 0;
}

static bool first_has_ended(void)
{
	char line[64];
	FILE *f = fopen("/proc/self/stat", "r");
	bool ended = false;

	if (f && fgets(line, sizeof(line), f))
		ended = strchr(line, ')') && strchr(line, ')')[2] == 'Z';
	if (f)
		fclose(f);
	return ended;
}

static void keep_beside_another(void *arg)
{
	int code = -1;

	(void)arg;
	while (!first_has_ended())
		sched_yield();
	ends.early = os_threads_ended(&code);
	__atomic_store_n(&ends.release, 1, __ATOMIC_RELEASE);
	while (!os_threads_ended(&code))
		sched_yield();
	ends.code = code;
	os_exit(code);
}

static int another_outlives_the_first(void *arg)
{
	static char stack[STACK] __attribute__((aligned(64)));

	(void)arg;
	if (clone(program_thread, stack + sizeof(stack),
		  CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_FILES, NULL) < 0 ||
	    os_thread_start(&ends.keeper, keep_beside_another, NULL, "uhmm-keeper"))
		return 99;
	syscall(SYS_exit, 17);
	return 99;
}

static void check_end(int (*fn)(void *), int code)
{
	char text[64];
	int status;

	if (test_instrument())
		SKIP("%s has no process within another", test_instrument());
	os_hide_threads();
	status = end_of(fn, text, sizeof(text));
	CHECK(WIFEXITED(status), "status 0x%x", status);
	CHECK_EQ(WEXITSTATUS(status), code);
	CHECK(!ends.early && ends.code == code);
	CHECK_STR(text, "");
}

TEST(the_status_of_the_last_thread_is_that_of_the_process)
{
	check_end(first_thread_is_the_last, 17);
}

/* It is not counted any more, and is there for as long as it likes. */
static void linger(void *arg)
{
	(void)arg;
	os_linux_thread_ends();
	__atomic_store_n(&ends.lingers, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&ends.looked_at, __ATOMIC_ACQUIRE))
		sched_yield();
	usleep(50000);
}

static int one_of_ours_is_about_to_end(void *arg)
{
	static struct os_thread lingering;

	(void)arg;
	if (os_thread_start(&lingering, linger, NULL, "uhmm-linger"))
		return 99;
	while (!__atomic_load_n(&ends.lingers, __ATOMIC_ACQUIRE))
		sched_yield();
	if (os_thread_start(&ends.keeper, keep, NULL, "uhmm-keeper"))
		return 99;
	while (!__atomic_load_n(&ends.looks, __ATOMIC_ACQUIRE))
		sched_yield();
	__atomic_store_n(&ends.looked_at, 1, __ATOMIC_RELEASE);
	syscall(SYS_exit, 18);
	return 99;
}

TEST(a_thread_of_ours_that_is_about_to_end_outlives_nobody)
{
	check_end(one_of_ours_is_about_to_end, 18);
}

/* Whose status that is nobody tells. */
TEST(a_thread_that_outlives_the_first_is_waited_for)
{
	check_end(another_outlives_the_first, 0);
}

/* ---- where threads run ------------------------------------------------------------ */

static struct os_place mine;
static uint32_t lowered_tid, lowered; /* futex: 1 lowered, 2 may end */

static void be_lowered(void *arg)
{
	cpu_set_t set;

	CHECK_EQ(os_place_get(&mine), 0);
	CHECK_EQ(os_lower(&mine, *(uint32_t *)arg, false), 0);
	CHECK_EQ(sched_getscheduler(0), SCHED_IDLE);
	CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	CHECK(CPU_COUNT(&set) == 1 && CPU_ISSET(*(uint32_t *)arg, &set));
	CHECK_EQ(os_thread_cpu(os_tid()), (int)*(uint32_t *)arg);
	lowered_tid = os_tid();
	__atomic_store_n(&lowered, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&lowered, __ATOMIC_ACQUIRE) != 2)
		os_wait(&lowered, 1, 1000000);
	CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
}

TEST(a_thread_that_is_lowered_is_raised_as_it_was)
{
	struct os_thread thread = { 0 };
	cpu_set_t all, set;
	uint32_t cpu = 0;

	CHECK_EQ(os_place_get(&mine), -EOPNOTSUPP);
	if (test_instrument())
		SKIP("code for %s needs a thread of libc's", test_instrument());
	os_hide_threads();
	CHECK_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CHECK_EQ(os_place_get(&mine), 0);
	if (os_may_raise(&mine))
		SKIP("a thread may not be raised again here");
	CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
	CHECK_EQ(os_lower(&mine, OS_PLACE_CPUS, false), -ERANGE);
	CHECK_EQ(os_lower(&mine, OS_PLACE_CPUS - 1, false), -EINVAL);
	CHECK_EQ(os_thread_start(&thread, be_lowered, &cpu, "lowered"), 0);
	while (!__atomic_load_n(&lowered, __ATOMIC_ACQUIRE))
		os_yield();
	CHECK_EQ(os_raise(&mine, lowered_tid), 0);
	CHECK_EQ(sched_getaffinity((pid_t)lowered_tid, sizeof(set), &set), 0);
	CHECK(CPU_EQUAL(&all, &set));
	CHECK_EQ(os_gather(&mine, lowered_tid, (int)cpu), 0);
	CHECK_EQ(sched_getaffinity((pid_t)lowered_tid, sizeof(set), &set), 0);
	CHECK(CPU_COUNT(&set) == 1 && CPU_ISSET(cpu, &set));
	CHECK_EQ(os_gather(&mine, lowered_tid, OS_PLACE_CPUS), -ERANGE);
	CHECK_EQ(os_gather(&mine, lowered_tid, -1), 0);
	CHECK_EQ(sched_getaffinity((pid_t)lowered_tid, sizeof(set), &set), 0);
	CHECK(CPU_EQUAL(&all, &set));
	__atomic_store_n(&lowered, 2, __ATOMIC_RELEASE);
	os_thread_join(&thread);
	CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	CHECK(CPU_EQUAL(&all, &set));
}

/* A filter may kill who makes a call that it does not expect. */
TEST(where_system_calls_are_filtered_nothing_is_done)
{
	os_hide_threads();
	CHECK_EQ(os_place_get(&mine), 0);
	refuse(SYS_sched_setaffinity, 0, 0, EPERM);
	CHECK_EQ(os_may_raise(&mine), -EPERM);
	CHECK_EQ(os_lower(&mine, 0, false), -EPERM);
	CHECK_EQ(os_raise(&mine, os_tid()), -EPERM);
}

/* ---- how many threads the program has ---------------------------------------------- */

static uint32_t go_on;

static void *sit(void *arg)
{
	while (!__atomic_load_n(&go_on, __ATOMIC_ACQUIRE))
		sched_yield();
	return arg;
}

static void sit_hidden(void *arg)
{
	sit(arg);
}

/* In a copy of a process that has attached: that knows of nobody, until it has too. */
static void check_copy(pid_t pid)
{
	bool knew, knows;
	int status;

	CHECK_GE(pid, 0);
	if (pid == 0) {
		knew = os_is_single_threaded() || os_linux_threads() ||
		       os_empty((uintptr_t)&go_on & ~(OS_PAGE_SIZE - 1), OS_PAGE_SIZE) ||
		       os_linux_pid() != (uint32_t)getpid();
		knows = os_attach() == 0 && os_is_single_threaded() &&
			os_linux_pid() == (uint32_t)getpid();
		_exit(knew ? 1 : !knows ? 2 : 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

TEST(threads_of_the_program_are_counted_by_who_has_attached)
{
	struct os_thread ours = { 0 };
	pthread_t thread;

	if (test_instrument())
		SKIP("%s has threads of its own", test_instrument());
	CHECK(!os_is_single_threaded());
	CHECK_EQ(os_linux_pid(), getpid());
	CHECK_EQ(os_attach(), 0);
	CHECK(os_is_single_threaded());
	CHECK_EQ(os_linux_pid(), getpid());
	CHECK_EQ(os_thread_start(&ours, sit_hidden, NULL, "ours"), 0);
	os_thread_await(&ours);
	CHECK(os_is_single_threaded());
	CHECK_EQ(pthread_create(&thread, NULL, sit, NULL), 0);
	CHECK(!os_is_single_threaded());
	check_copy(fork());
	check_copy((pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	CHECK_EQ(os_linux_threads(), 1);
	__atomic_store_n(&go_on, 1, __ATOMIC_RELEASE);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	os_thread_join(&ours);
	while (!os_is_single_threaded()) /* who was joined is a moment from its end */
		sched_yield();
	os_detach();
	CHECK(!os_is_single_threaded());
}
