/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion in bash, at a terminal: types a line, lets readline insert all completions
 * of the last word (Meta-*), and reads the line back.
 */
#include "cli.h"

#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>

#define PATIENCE_MS 10000

static int terminal;
static pid_t bash;
static char screen[16384];
static size_t screen_len;

/* Reads until the screen shows text, and returns what stands behind it. */
static const char *await(const char *text)
{
	struct pollfd p = { terminal, POLLIN, 0 };
	char *found;
	ssize_t n;

	while (!(found = strstr(screen, text))) {
		CHECK(poll(&p, 1, PATIENCE_MS * test_stretch()) > 0,
		      "no '%s' but: %.300s", text, screen);
		n = read(terminal, screen + screen_len, sizeof(screen) - 1 - screen_len);
		CHECK(n > 0, "no '%s' but: %.300s", text, screen);
		screen_len += (size_t)n;
		screen[screen_len] = 0;
	}
	return found + strlen(text);
}

static void type(const char *keys)
{
	screen_len = 0;
	screen[0] = 0;
	CHECK_EQ(write(terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
}

static void start_bash(void)
{
	struct winsize size = { .ws_row = 50, .ws_col = 500 };
	const char *source = getenv("UHMM_SOURCE");
	char path[PATH_MAX], line[3 * PATH_MAX];

	CHECK(source, "UHMM_SOURCE names the source directory");
	snprintf(path, sizeof(path), "%.*s:/usr/bin:/bin",
		 (int)(strrchr(cli_uhmm(), '/') - cli_uhmm()), cli_uhmm());
	bash = forkpty(&terminal, NULL, NULL, &size);
	CHECK(bash >= 0);
	if (bash == 0) {
		setenv("TERM", "dumb", 1);
		setenv("PATH", path, 1);
		unsetenv("PROMPT_COMMAND");
		execl("/bin/bash", "bash", "--norc", "--noprofile", "-i", NULL);
		_exit(200);
	}
	/* The line as it is, between marks that it does not have itself when typed. */
	type("PS1='$ '; bind 'set enable-bracketed-paste off'; "
	     "bind -x '\"\\C-t\": echo \"<$READLINE_LINE\"\">\"'; echo be''gin\n");
	await("begin");
	snprintf(line, sizeof(line),
		 "source '%s/completion/uhmm'; cd '%s'; echo rea''dy\n", source,
		 cli_scratch());
	type(line);
	await("ready");
	await("$ ");
}

static void check(const char *typed, const char *completed)
{
	char keys[512], want[512];

	snprintf(keys, sizeof(keys), "%s\033*\024", typed);
	type(keys);
	await(">");
	snprintf(want, sizeof(want), "<%s>", completed);
	CHECK(strstr(screen, want), "no %.200s but: %.250s", want, screen);
	/* Away with the line. */
	type("\025\024");
	await("<>");
}

static void end_bash(void)
{
	type("exit\n");
	CHECK_EQ(waitpid(bash, NULL, 0), bash);
	cli_scratch_remove();
}

TEST(verbs_and_options_are_completed)
{
	start_bash();
	check("uhmm r", "uhmm run ");
	check("uhmm d", "uhmm devices dmirror doctor ");
	check("uhmm dmirror --t", "uhmm dmirror --trace ");
	check("uhmm --v", "uhmm --version ");
	check("uhmm doctor --j", "uhmm doctor --json ");
	check("uhmm help doc", "uhmm help doctor ");
	check("uhmm run --me", "uhmm run --memory ");
	check("uhmm run --memory 25", "uhmm run --memory 25% 256M ");
	check("uhmm run --memory=25", "uhmm run --memory=25% 256M ");
	check("uhmm run --fa", "uhmm run --faults ");
	check("uhmm run --faults e", "uhmm run --faults either ");
	check("uhmm run --faults in", "uhmm run --faults inline ");
	check("uhmm run --faults=th", "uhmm run --faults=thread ");
	check("uhmm run --st", "uhmm run --stats --stats=json: ");
	check("uhmm run --nonsen", "uhmm run --nonsen");
	end_bash();
}

TEST(devices_and_their_options_are_completed)
{
	start_bash();
	check("uhmm run --device lz", "uhmm run --device lz4 ");
	check("uhmm run --memory 1G --device=r", "uhmm run --memory 1G --device=ram ");
	check("uhmm run --device lz4:", "uhmm run --device lz4:acceleration= size= ");
	check("uhmm run --device lz4:s", "uhmm run --device lz4:size= ");
	check("uhmm run --device=lz4:acceleration=2,si",
	      "uhmm run --device=lz4:acceleration=2,size= ");
	check("uhmm run --device lz4+r", "uhmm run --device lz4+ram ");
	check("uhmm run --device crypt+lz4:s", "uhmm run --device crypt+lz4:size= ");
	/* The next tier, and its options. */
	check("uhmm run --device lz4,r", "uhmm run --device lz4,ram ");
	check("uhmm run --device lz4:size=1M,r", "uhmm run --device lz4:size=1M,ram ");
	check("uhmm run --device ram:size=1M,lz4:a",
	      "uhmm run --device ram:size=1M,lz4:acceleration= ");
	check("uhmm run --device ram:size=1M,lz4,q",
	      "uhmm run --device ram:size=1M,lz4,q");
	end_bash();
}

TEST(the_command_behind_is_completed)
{
	start_bash();
	free(cli_write("some-file", "", 0, 0644));
	check("uhmm run --memory 64M -- cli_pr", "uhmm run --memory 64M -- cli_prog ");
	check("uhmm run --memory=64M --stats cli_pr",
	      "uhmm run --memory=64M --stats cli_prog ");
	check("uhmm run --stats=json:x --device lz4:size=1G cli_pr",
	      "uhmm run --stats=json:x --device lz4:size=1G cli_prog ");
	check("uhmm run --memory 64M -- cli_prog some-f",
	      "uhmm run --memory 64M -- cli_prog some-file ");
	check("uhmm run --memory 64M cli_prog --device some-f",
	      "uhmm run --memory 64M cli_prog --device some-file ");
	check("uhmm run --stats=json:some-f", "uhmm run --stats=json:some-file ");
	check("uhmm dmirror --trace=some-f", "uhmm dmirror --trace=some-file ");
	check("uhmm dmirror --trace some-f", "uhmm dmirror --trace some-file ");
	check("uhmm dmirror --trace some-file cli_pr",
	      "uhmm dmirror --trace some-file cli_prog ");
	check("uhmm dmirror -- cli_prog some-f", "uhmm dmirror -- cli_prog some-file ");
	end_bash();
}
