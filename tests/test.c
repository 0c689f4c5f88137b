/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner of test.h: forks a child for each test, waits for it, says what happened.
 *
 * The runner is a single thread and the reaper of everything a test starts. It believes
 * a report over an exit status, and an exit status only together with the report that
 * the test's body returned. It dies with its tests: they are killed when it is.
 */
#define _GNU_SOURCE
#include "pace.h"
#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

/* Out of the way of tests that count descriptors. */
#define PIPE_FD 900
/* Below PIPE_BUF, so that each report is one packet. */
#define REPORT_MAX 2048
#define TEXT_MAX 16384
/* What a group may take to end by itself after the test's child ended. */
#define GRACE_MS 2000

enum result { PASSED, FAILED, SKIPPED };

static struct test *tests, **tail = &tests, *running;
static int report_fd = -1;
static bool in_place;

__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);

void test_register(struct test *test)
{
	*tail = test;
	tail = &test->next;
}

const void *test_arg(void)
{
	return running->arg;
}

const char *test_instrument(void)
{
	const char *preload = getenv("LD_PRELOAD");

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return "a sanitizer";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	return "a sanitizer";
#endif
#endif
	return preload && strstr(preload, "vgpreload") ? "valgrind" : NULL;
}

void test_report(char kind, const char *format, ...)
{
	char text[REPORT_MAX] = { kind };
	va_list ap;

	va_start(ap, format);
	vsnprintf(text + 1, sizeof(text) - 1, format, ap);
	va_end(ap);
	if (in_place)
		fprintf(stderr, "# %s\n", text + 1);
	else if (write(report_fd, text, strlen(text) + 1) < 0)
		fprintf(stderr, "# lost report: %s\n", text);
}

void test_end(void)
{
	if (in_place)
		abort();
	kill(0, SIGKILL);
	_exit(1);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void run_body(struct test *test)
{
	running = test;
	/* A sanitizer's handler would turn the signal into an exit status. */
	if (test->signal)
		signal(test->signal, SIG_DFL);
	test->fn();
	fflush(NULL);
	if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
		test_report('F', "memory leaked, see above");
	test_report('P', "the body returned");
}

static void child(struct test *test, const int *fds, const sigset_t *signals)
{
	setpgid(0, 0);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, signals, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(2, 1);
	/* Not for programs that the test executes: they report by their status. */
	report_fd = fcntl(fds[1], F_DUPFD_CLOEXEC, PIPE_FD);
	close(fds[0]);
	close(fds[1]);
	run_body(test);
	_exit(0);
}

/* Waits for the group to end; false: it had to be killed. */
static bool reap_group(pid_t group, int64_t grace_ms)
{
	int64_t until = now_ms() + grace_ms;
	pid_t pid;

	while ((pid = waitpid(-group, NULL, WNOHANG)) >= 0 && now_ms() < until)
		if (pid == 0)
			usleep(1000);
	kill(-group, SIGKILL);
	while (waitpid(-group, NULL, 0) > 0)
		;
	return pid < 0;
}

/* What is wrong with how the child ended; NULL: nothing. */
static const char *verdict(const struct test *t, int status, bool finished)
{
	static char text[128];

	if (t->signal && WIFSIGNALED(status) && WTERMSIG(status) == t->signal)
		return NULL;
	if (t->exit_status && WIFEXITED(status) && WEXITSTATUS(status) == t->exit_status)
		return NULL;
	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "ended by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		snprintf(text, sizeof(text), "exited with status %d",
			 WEXITSTATUS(status));
	else if (t->signal)
		snprintf(text, sizeof(text), "was not ended by signal %d", t->signal);
	else if (t->exit_status)
		snprintf(text, sizeof(text), "did not exit with status %d",
			 t->exit_status);
	else if (!finished)
		return "exited before its end";
	else
		return NULL;
	return text;
}

/*
 * Follows the child until it has ended, failed or is late. Returns the report that
 * decides: 'F', 'S', 'L' late, 0 none. SIGCHLD is blocked but in ppoll().
 */
static char follow(pid_t pid, int fd, int64_t until, const sigset_t *signals,
		   bool *finished, char *text)
{
	char got[REPORT_MAX], kind = 0;
	bool ended = false;

	for (;;) {
		struct pollfd p = { fd, POLLIN, 0 };
		int64_t left = until - now_ms();
		struct timespec ts = { left / 1000, left % 1000 * 1000000 };
		siginfo_t info = { 0 };

		/* What was written before the child ended is read after it has. */
		if (read(fd, got, sizeof(got)) > 0) {
			*finished |= got[0] == 'P';
			if (got[0] != 'P' && kind == 0) {
				kind = got[0];
				memcpy(text, got + 1, sizeof(got) - 1);
			}
			if (kind == 'F')
				return kind;
			continue;
		}
		if (ended)
			return kind;
		if (left <= 0)
			return 'L';
		waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
		ended = info.si_pid == pid;
		if (!ended)
			ppoll(&p, 1, &ts, signals);
	}
}

/* Reads what is left in the pipe; a failure found there outweighs everything else. */
static bool failed_late(int fd, char *text)
{
	char got[REPORT_MAX];

	while (read(fd, got, sizeof(got)) > 0)
		if (got[0] == 'F') {
			memcpy(text, got + 1, sizeof(got) - 1);
			return true;
		}
	return false;
}

/* What is said of a test that hangs: where it does. */
static void late(pid_t group, int timeout_ms, char *text)
{
	FILE *out = fmemopen(text, TEXT_MAX, "w");

	if (!out)
		return;
	fprintf(out, "timeout after %d ms\n", timeout_ms);
	test_where(out, group);
	fclose(out);
	text[TEXT_MAX - 1] = 0;
}

static enum result run(struct test *test, int timeout_ms, const sigset_t *signals,
		       char *text)
{
	int fds[2], status = 0;
	bool finished = false, left_alone;
	const char *wrong;
	pid_t pid = -1;
	char kind;

	fflush(NULL);
	/* A packet a report: O_DIRECT. */
	if (pipe2(fds, O_DIRECT | O_NONBLOCK) || (pid = fork()) < 0) {
		snprintf(text, REPORT_MAX, "cannot start: %s", strerror(errno));
		return FAILED;
	}
	if (pid == 0)
		child(test, fds, signals);
	setpgid(pid, pid);
	close(fds[1]);
	kind = follow(pid, fds[0], now_ms() + timeout_ms, signals, &finished, text);
	if (kind == 'L')
		late(pid, timeout_ms, text);
	if (kind == 'F' || kind == 'L')
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	/* A grandchild may yet fail: it is waited for before the verdict. */
	left_alone = reap_group(pid, kind == 'F' || kind == 'L' ? 0 : GRACE_MS);
	if (kind != 'F' && failed_late(fds[0], text))
		kind = 'F';
	close(fds[0]);
	if (kind == 'F' || kind == 'L')
		return FAILED;
	if (kind == 'S' && WIFEXITED(status) && WEXITSTATUS(status) == 77)
		return SKIPPED;
	wrong = verdict(test, status, finished);
	if (wrong)
		snprintf(text, REPORT_MAX, "%s", wrong);
	else if (!left_alone)
		snprintf(text, REPORT_MAX, "left a process running");
	else
		return PASSED;
	return FAILED;
}

static bool chosen(const struct test *test, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (strstr(test->name, *names))
			return true;
	return false;
}

static void ignore(int signo)
{
	(void)signo;
}

/* nohup and shells start what is in the background with some signals ignored. */
static void listen_to_all(void)
{
	struct sigaction sa;
	int signo;

	for (signo = 1; signo < 32; signo++)
		if (sigaction(signo, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN)
			signal(signo, SIG_DFL);
}

static void print_result(const struct test *test, int nr, enum result result,
			 const char *text, int64_t took_ms)
{
	printf("%sok %d - %s%s%s\n", result == FAILED ? "not " : "", nr, test->name,
	       result == SKIPPED ? " # SKIP " : "", result == SKIPPED ? text : "");
	/* Line by line: what a check quotes must not look like TAP. */
	if (result == FAILED)
		for (size_t at = 0, len; text[at]; at += len + (text[at + len] == '\n')) {
			len = strcspn(text + at, "\n");
			printf("# %s: %.*s\n", test->name, (int)len, text + at);
		}
	printf("# %s took %lld ms\n", test->name, (long long)took_ms);
	fflush(stdout);
}

int test_stretch(void)
{
	const char *factor = getenv("TEST_TIMEOUT_FACTOR");

	return (factor && atoi(factor) > 0 ? atoi(factor) : 1) * (int)test_pace();
}

int main(int argc, char **argv)
{
	bool list = argc > 1 && !strcmp(argv[1], "-l");
	static char text[TEXT_MAX];
	int nr = 0, failed = 0;
	sigset_t block, signals;

	in_place = argc > 1 && !strcmp(argv[1], "-n");
	argv += 1 + (list || in_place);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	listen_to_all();
	signal(SIGCHLD, ignore); /* with a function: SIG_IGN would reap */
	sigemptyset(&block);
	sigaddset(&block, SIGCHLD);
	sigprocmask(SIG_BLOCK, &block, &signals);
	for (struct test *t = tests; t; t = t->next)
		nr += chosen(t, argv);
	if (!list)
		printf("TAP version 13\n1..%d\n", nr);
	nr = 0;
	for (struct test *t = tests; t; t = t->next) {
		int timeout_ms = (t->timeout_s ? t->timeout_s : 30) * 1000 *
				 test_stretch();
		int64_t start = now_ms();
		enum result result = PASSED;

		if (!chosen(t, argv))
			continue;
		if (list) {
			puts(t->name);
			continue;
		}
		text[0] = 0;
		if (in_place)
			run_body(t);
		else
			result = run(t, timeout_ms, &signals, text);
		failed += result == FAILED;
		print_result(t, ++nr, result, text, now_ms() - start);
	}
	return failed ? 1 : 0;
}
