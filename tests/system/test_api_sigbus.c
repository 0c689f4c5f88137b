/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGBUS that is not the library's, where faults are delivered inline: who had a handler
 * before gets it as if the library were not there, and who had none ends by it.
 */
#include "api.h"

#include <setjmp.h>
#include <sys/wait.h>

static struct uhmm_space *space;
static char *migrated;
static sigjmp_buf back;
static void *volatile seen_addr;
static volatile sig_atomic_t seen;

/* A mapping of a file that has no such page. */
static char *beyond_the_end(void)
{
	FILE *f = tmpfile();
	char *p;

	CHECK(f != NULL);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fileno(f), 0);
	CHECK(p != MAP_FAILED);
	fclose(f);
	return p;
}

/* Installs the library's handler over what there is; four pages are migrated. */
static void begin(void)
{
	space = api_space(UHMM_DELIVERY_INLINE, 0);
	migrated = api_map(4);
	api_fill(migrated, 4, 1);
	api_move(space, migrated, 4, api_device(space, "ram"), UHMM_MOVED);
}

/* Its own faults are served still. */
static void end(void)
{
	api_check(migrated, 4, 1);
	api_destroy(space);
}

static void with_info(int sig, siginfo_t *info, void *ucontext)
{
	(void)sig;
	(void)ucontext;
	seen++;
	seen_addr = info->si_addr;
	siglongjmp(back, 1);
}

static void without_info(int sig)
{
	(void)sig;
	seen++;
	siglongjmp(back, 1);
}

static void touch(char *p)
{
	if (!sigsetjmp(back, 1))
		*(volatile char *)p;
}

TEST(a_handler_is_told_the_address)
{
	struct sigaction sa = { .sa_sigaction = with_info, .sa_flags = SA_SIGINFO };
	char *p = beyond_the_end();

	CHECK_EQ(sigaction(SIGBUS, &sa, NULL), 0);
	begin();
	touch(p + 5);
	CHECK_EQ(seen, 1);
	CHECK((char *)seen_addr == p + 5);
	end();
}

TEST(a_handler_of_the_old_kind_is_called)
{
	struct sigaction sa = { .sa_handler = without_info };

	CHECK_EQ(sigaction(SIGBUS, &sa, NULL), 0);
	begin();
	touch(beyond_the_end());
	CHECK_EQ(seen, 1);
	if (!sigsetjmp(back, 1))
		raise(SIGBUS);
	CHECK_EQ(seen, 2);
	end();
}

/* How a child ends in which fn runs, after SIGBUS was set to this. */
static int status_of(void (*disposition)(int), void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGBUS, disposition);
		begin();
		fn();
		end();
		_exit(0);
	}
	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("userfaultfd is not permitted");
	return status;
}

static void touch_beyond(void)
{
	*(volatile char *)beyond_the_end();
}

static void send_it(void)
{
	CHECK_EQ(kill(getpid(), SIGBUS), 0);
}

static void send_it_and_leave(void)
{
	send_it();
	_exit(3);
}

TEST(a_bus_error_ends_who_has_no_handler)
{
	int status = status_of(SIG_DFL, touch_beyond);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "%#x", status);
}

/* As the kernel has it: a fault cannot be ignored. */
TEST(a_bus_error_ends_who_ignores_it)
{
	int status = status_of(SIG_IGN, touch_beyond);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "%#x", status);
}

TEST(a_signal_that_is_sent_ends_who_has_no_handler)
{
	int status = status_of(SIG_DFL, send_it_and_leave);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "%#x", status);
}

TEST(a_signal_that_is_sent_can_be_ignored)
{
	int status = status_of(SIG_IGN, send_it);

	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%#x", status);
}
