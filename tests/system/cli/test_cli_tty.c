/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `uhmm run` at a terminal, under a shell with job control.
 *
 * The shell is a process of the test: it leads the session of a pseudo terminal, starts
 * uhmm in a process group of its own, and tells the test through a pipe what waitpid()
 * says of it: "stopped", "exit N", "signal N". The test types at the other end.
 */
#include "cli.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#define PATIENCE_MS 10000

enum { BACKGROUND, FOREGROUND };

static int terminal; /* the test's end */
static int news;     /* what the shell says */
static int orders;   /* to the shell: 'f' puts the job into the foreground */
static pid_t shell;
static pid_t job_pid;  /* uhmm, which leads its group */
static bool signalled; /* the program told of a signal that was not awaited */
static char screen[8192];
static size_t screen_len;

static void shell_main(int ground, const char *const *argv, int say, int hear)
{
	int status;
	char order;
	pid_t job;

	signal(SIGTTOU, SIG_IGN);
	alarm(20);
	job = fork();
	if (job == 0) {
		setpgid(0, 0);
		if (ground == FOREGROUND)
			tcsetpgrp(0, getpid());
		signal(SIGTTOU, SIG_DFL);
		execv(argv[0], (char **)(uintptr_t)argv);
		_exit(200);
	}
	setpgid(job, job);
	dprintf(say, "%d\n", job);
	for (;;) {
		if (waitpid(job, &status, WUNTRACED) != job)
			_exit(201);
		if (WIFEXITED(status))
			dprintf(say, "exit %d\n", WEXITSTATUS(status));
		else if (WIFSIGNALED(status))
			dprintf(say, "signal %d\n", WTERMSIG(status));
		else
			dprintf(say, "stopped\n");
		if (!WIFSTOPPED(status))
			_exit(0);
		if (read(hear, &order, 1) != 1)
			_exit(202);
		tcsetpgrp(0, job);
		kill(-job, SIGCONT);
	}
}

/* The first line that the shell says. Nothing behind it may be read here. */
static void await_job(void)
{
	char number[16] = "";
	size_t len = 0;

	while (len < sizeof(number) - 1 && read(news, number + len, 1) == 1 &&
	       number[len] != '\n')
		len++;
	job_pid = atoi(number);
	CHECK_GT(job_pid, 1);
}

static void start(int ground, const char *const *argv)
{
	int say[2], hear[2];
	struct termios mode;

	CHECK(!pipe2(say, O_CLOEXEC) && !pipe2(hear, O_CLOEXEC));
	shell = forkpty(&terminal, NULL, NULL, NULL);
	CHECK(shell >= 0);
	if (shell == 0)
		shell_main(ground, argv, say[1], hear[0]);
	close(say[1]);
	close(hear[0]);
	news = say[0];
	orders = hear[1];
	CHECK_EQ(tcgetattr(terminal, &mode), 0);
	mode.c_lflag &= ~(tcflag_t)ECHO;
	CHECK_EQ(tcsetattr(terminal, TCSANOW, &mode), 0);
	await_job();
}

/* Waits until fd has given text, which is taken out of buf. */
static void await(int fd, char *buf, size_t size, size_t *len, const char *text)
{
	struct pollfd p = { fd, POLLIN, 0 };
	char *found;
	ssize_t n;

	while (!(found = strstr(buf, text))) {
		CHECK(poll(&p, 1, PATIENCE_MS * test_stretch()) > 0,
		      "no '%s' but: %.300s", text, buf);
		n = read(fd, buf + *len, size - 1 - *len);
		CHECK(n > 0, "no '%s' but: %.300s", text, buf);
		*len += (size_t)n;
		buf[*len] = 0;
	}
	*found = 0;
	signalled = signalled || strstr(buf, "signal ");
	*len -= (size_t)(found - buf) + strlen(text);
	memmove(buf, found + strlen(text), *len + 1);
}

static void await_screen(const char *text)
{
	await(terminal, screen, sizeof(screen), &screen_len, text);
}

static void await_news(const char *text)
{
	static char buf[256];
	static size_t len;

	await(news, buf, sizeof(buf), &len, text);
}

static void type(const char *keys)
{
	CHECK_EQ(write(terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
}

static void finish(void)
{
	CHECK_EQ(waitpid(shell, NULL, 0), shell);
	close(terminal);
}

#define SIGNALS                                                                          \
	(const char *[])                                                                 \
	{                                                                                \
		cli_uhmm(), "run", "--memory", "64M", cli_prog(), "signals", "none",     \
			NULL                                                             \
	}
#define CAT                                                                              \
	(const char *[])                                                                 \
	{                                                                                \
		cli_uhmm(), "run", "--memory", "64M", "cat", NULL                        \
	}

/*
 * Gives the program time to take a signal before the supervisor sees it: were it passed
 * on at once, the two could be one to the program.
 */
static void hold_supervisor(void)
{
	CHECK_EQ(kill(job_pid, SIGSTOP), 0);
	await_news("stopped\n");
}

static void let_supervisor_go(void)
{
	CHECK_EQ(write(orders, "f", 1), 1);
	await_screen("signal 18 value 0");
	cli_sleep_ms(100);
}

TEST(control_c_reaches_the_program_once)
{
	start(FOREGROUND, SIGNALS);
	await_screen("ready");
	hold_supervisor();
	type("\003");
	await_screen("signal 2 value 0");
	type("\034");
	await_screen("signal 3 value 0");
	let_supervisor_go();
	type("\004");
	await_news("exit 7\n");
	await_screen("\nend");
	CHECK(!signalled);
	finish();
}

TEST(control_c_ends_a_program_that_does_not_mind)
{
	start(FOREGROUND, CAT);
	type("hello\n");
	await_screen("hello");
	type("\003");
	await_news("signal 2\n");
	finish();
}

TEST(a_resized_terminal_is_told_once)
{
	struct winsize size = { .ws_row = 50, .ws_col = 100 };

	start(FOREGROUND, SIGNALS);
	await_screen("ready");
	hold_supervisor();
	CHECK_EQ(ioctl(terminal, TIOCSWINSZ, &size), 0);
	await_screen("signal 28 value 0");
	let_supervisor_go();
	type("\004");
	await_news("exit 7\n");
	await_screen("\nend");
	CHECK(!signalled);
	finish();
}

TEST(control_z_stops_and_fg_continues)
{
	start(FOREGROUND, SIGNALS);
	await_screen("ready");
	for (int i = 0; i < 3; i++) {
		type("\032");
		await_news("stopped\n");
		CHECK_EQ(write(orders, "f", 1), 1);
		await_screen("signal 18 value 0");
	}
	/* The program has got each SIGCONT once. */
	cli_sleep_ms(200);
	type("\004");
	await_news("exit 7\n");
	await_screen("\nend");
	CHECK(!signalled);
	finish();
}

TEST(reading_in_the_background_stops)
{
	start(BACKGROUND, CAT);
	await_news("stopped\n");
	CHECK_EQ(write(orders, "f", 1), 1);
	type("now\n");
	await_screen("now");
	type("\004");
	await_news("exit 0\n");
	finish();
}
