/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhmm dmirror: becomes the program, with a library in LD_PRELOAD. What that library does
 * is tested in tests/dmirror.
 */
#include "cli.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sys/wait.h>

#define NOBODY 65534

static struct cli cli;

/* Skips where `uhmm dmirror` is right to refuse. */
static void need_userfaultfd(void)
{
	cli_run(&cli, NULL, cli_uhmm(), "dmirror", "true", NULL);
	if (cli_exit_status(&cli) == 125)
		SKIP("%.200s", cli.err_text);
	CHECK_EQ(cli_exit_status(&cli), 0);
}

static const char *library(void)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.*s/libuhmm-dmirror.so",
		 (int)(strrchr(cli_uhmm(), '/') - cli_uhmm()), cli_uhmm());
	return path;
}

TEST(it_becomes_the_program)
{
	need_userfaultfd();
	cli_run(&cli, NULL, cli_uhmm(), "dmirror", "--", "sh", "-c", "exit $#", "x", "a",
		"--trace", "c", NULL);
	CHECK_EQ(cli_exit_status(&cli), 3);
	cli_run(&cli, NULL, cli_uhmm(), "dmirror", "sh", "-c", "kill -TERM $$", NULL);
	CHECK(WIFSIGNALED(cli.status) && WTERMSIG(cli.status) == SIGTERM);
	cli_run(&cli, NULL, cli_uhmm(), "dmirror", "cat", "/proc/self/comm", NULL);
	CHECK_STR(cli.out_text, "cat\n");
}

TEST(a_script_without_a_first_line_is_one_of_the_shells)
{
	char *path = cli_write("script", "exit 7\n", 7, 0755);

	need_userfaultfd();
	cli_run(&cli, NULL, cli_uhmm(), "dmirror", path, NULL);
	CHECK_EQ(cli_exit_status(&cli), 7);
	free(path);
	cli_scratch_remove();
}

static void preload_something(void)
{
	cli_permit_preload();
	setenv("LD_PRELOAD", "libc.so.6", 1);
}

TEST(the_library_comes_before_what_was_preloaded)
{
	char want[PATH_MAX + 32];

	need_userfaultfd();
	snprintf(want, sizeof(want), "%s:libc.so.6\n", library());
	cli_run(&cli, preload_something, cli_uhmm(), "dmirror", "sh", "-c",
		"echo $LD_PRELOAD", NULL);
	CHECK_STR(cli.out_text, want);
	/* Within itself it is there already. */
	cli_run(&cli, preload_something, cli_uhmm(), "dmirror", cli_uhmm(), "dmirror",
		"sh", "-c", "echo $LD_PRELOAD", NULL);
	CHECK_STR(cli.out_text, want);
}

static void go_to_scratch(void)
{
	if (chdir(cli_scratch()))
		_exit(201);
}

TEST(the_trace_is_named_by_its_whole_path)
{
	char want[PATH_MAX + 32];

	need_userfaultfd();
	snprintf(want, sizeof(want), "%s/trace\n", cli_scratch());
	cli_run(&cli, go_to_scratch, cli_uhmm(), "dmirror", "--trace", "trace", "sh",
		"-c", "echo $UHMM_DMIRROR_TRACE", NULL);
	CHECK_STR(cli.out_text, want);
	cli_scratch_remove();
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
		_exit(201);
}

TEST(without_permission_it_says_what_would_help)
{
	char *uhmm;
	int fd;

	if (geteuid())
		SKIP("needs root");
	fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		char value = '0';

		CHECK_EQ(read(fd, &value, 1), 1);
		close(fd);
		if (value != '0')
			SKIP("everybody may use userfaultfd here");
	}
	uhmm = cli_copy(cli_uhmm(), "uhmm", 0755);
	free(cli_copy(library(), "libuhmm-dmirror.so", 0644));
	cli_run(&cli, become_nobody, uhmm, "dmirror", "true", NULL);
	cli_check_refused(&cli, 125, "is not permitted: as root: sysctl vm.");
	free(uhmm);
	cli_scratch_remove();
}
