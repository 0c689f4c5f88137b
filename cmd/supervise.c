/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor.
 *
 * The program runs in our process group, so that the terminal's signals and job control
 * reach it without us. What was sent to us alone is passed on: every signal is blocked
 * and read from a signalfd, which says who sent it.
 * - From the terminal (the kernel): the program has got it too. Nothing to do.
 * - From the program's tree: it was meant for the group or for the parent. Nothing.
 * - A timer or limit that was set before uhmm was executed: the program's. Passed on.
 * - From anybody else: passed on. A sender that signals the whole group, as the shell's
 *   `kill %1` does, reaches the program twice; nothing tells that from kill(pid).
 * When the program stops we stop, so that the shell sees it; while we are stopped a
 * small process watches the program, and wakes us if somebody lets it go on without us.
 *
 * We keep none of the descriptors that we were given, stderr aside: whoever reads from
 * the program's pipe must see its end when the program closes it.
 * If we are killed the program runs on, and is not told.
 */
#include "supervise.h"

#include "cmd.h"
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long a SIGCONT that was sent to the whole group may take to reach the program. */
#define CONTINUE_GRACE_MS 20
/* How often the waker looks whether the stopped program runs again. */
#define WAKER_TICK_MS 50

static void sleep_ms(int ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000L }, NULL);
}

/* ---- start ------------------------------------------------------------------------- */

static void set_environment(const struct tree *tree, const struct launch *launch)
{
	setenv(CTL_ENV, tree->path, 1);
	preload_set(launch->preload);
}

struct signals {
	sigset_t mask; /* what we were started with */
	struct sigaction on_child;
};

static void signals_block(struct signals *old)
{
	struct sigaction normal = { .sa_handler = SIG_DFL };
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old->mask);
	/* Ignored (by an unusual parent), it would take the program's status away. */
	sigaction(SIGCHLD, &normal, &old->on_child);
}

static void signals_restore(const struct signals *old)
{
	sigaction(SIGCHLD, &old->on_child, NULL);
	sigprocmask(SIG_SETMASK, &old->mask, NULL);
}

/* Forks and executes. The pid; or minus a status after a complaint. */
static pid_t start(const struct tree *tree, const struct launch *launch,
		   const struct signals *old)
{
	int failure[2], err = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(failure, O_CLOEXEC)) {
		complain("run: no pipe: %s", strerror(errno));
		return -STATUS_REFUSED;
	}
	pid = fork();
	if (pid == 0) {
		set_environment(tree, launch);
		signals_restore(old);
		program_execute(launch->path, launch->argv);
		err = errno;
		(void)!write(failure[1], &err, sizeof(err));
		_exit(STATUS_CANNOT_RUN);
	}
	close(failure[1]);
	if (pid < 0) {
		complain("run: cannot fork: %s", strerror(errno));
		close(failure[0]);
		return -STATUS_REFUSED;
	}
	/* Ends with nothing read when exec closes the other end. */
	do
		n = read(failure[0], &err, sizeof(err));
	while (n < 0 && errno == EINTR);
	close(failure[0]);
	if (n == sizeof(err)) {
		waitpid(pid, NULL, 0);
		complain("%s: cannot be executed: %s", launch->path, strerror(err));
		return err == ENOENT ? -STATUS_NOT_FOUND : -STATUS_CANNOT_RUN;
	}
	return pid;
}

/* Lets go of the descriptors that belong to the program. */
static void drop_descriptors(int keep_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	if (keep_fd < 0) {
		close_range(STDERR_FILENO + 1, ~0u, 0);
		return;
	}
	if (keep_fd > STDERR_FILENO + 1)
		close_range(STDERR_FILENO + 1, (unsigned)keep_fd - 1, 0);
	close_range((unsigned)keep_fd + 1, ~0u, 0);
}

/* ---- signals ----------------------------------------------------------------------- */

static bool in_tree(const struct tree *tree, uint32_t pid, pid_t program)
{
	uint32_t nr = CTL_LOAD(&tree->ctl->nr_slots);

	if ((pid_t)pid == program)
		return true;
	for (uint32_t i = 0; i < nr && i < CTL_SLOTS; i++)
		if (CTL_LOAD(&tree->ctl->slot[i].pid) == pid)
			return true;
	return false;
}

/* Whether the kernel sends this signal to the terminal's foreground group. */
static bool is_terminals(int sig)
{
	switch (sig) {
	case SIGINT:
	case SIGQUIT:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
	case SIGWINCH:
		return true;
	case SIGHUP:
		/* When the terminal goes, only the leader of its session is told. */
		return getsid(0) != getpid();
	default:
		return false;
	}
}

/* The state letter of /proc/PID/stat, 0 if there is no such process. */
static char process_state(pid_t pid)
{
	char path[64], stat[512], *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (probe_read(path, stat, sizeof(stat)))
		return 0;
	/* The name before it may contain anything. */
	end = strrchr(stat, ')');
	return end && end[1] ? end[2] : 0;
}

static void pass_on(const struct tree *tree, pid_t program,
		    const struct signalfd_siginfo *info)
{
	int sig = (int)info->ssi_signo;

	/* While we run the program runs: SIGCONT is of the past. See stop_with(). */
	if (sig == SIGCHLD || sig == SIGCONT)
		return;
	if (info->ssi_code > 0 && is_terminals(sig))
		return;
	if (info->ssi_code <= 0 && info->ssi_pid &&
	    ((pid_t)info->ssi_pid == getpid() || in_tree(tree, info->ssi_pid, program)))
		return;
	if (info->ssi_code == SI_QUEUE)
		sigqueue(program, sig,
			 (union sigval){ .sival_ptr = (void *)info->ssi_ptr });
	else
		kill(program, sig);
}

/* ---- stop and go on ---------------------------------------------------------------- */

/*
 * Wakes the supervisor when the program it stopped with no longer is: again and again,
 * because one SIGCONT might come just before it stops. It ends us when it is awake.
 */
static void waker(pid_t supervisor, pid_t program)
{
	prctl(PR_SET_NAME, "uhmm-waker", 0, 0, 0);
	while (getppid() == supervisor) {
		if (process_state(program) != 'T')
			kill(supervisor, SIGCONT);
		sleep_ms(WAKER_TICK_MS);
	}
	_exit(0);
}

/*
 * Somebody let us go on. If it was meant for the group, the program goes on as well, or
 * did and has stopped again; else it is told.
 */
static void continue_program(pid_t program)
{
	siginfo_t info;

	for (int ms = 0; ms < CONTINUE_GRACE_MS; ms++) {
		info.si_pid = 0;
		if (waitid(P_PID, (id_t)program, &info,
			   WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT))
			return;
		if (info.si_pid && info.si_code != CLD_CONTINUED)
			return;
		if (info.si_pid) {
			waitid(P_PID, (id_t)program, &info, WCONTINUED | WNOHANG);
			return;
		}
		sleep_ms(1);
	}
	kill(program, SIGCONT);
}

static void stop_with(struct tree *tree, pid_t program)
{
	pid_t self = getpid(), pid = fork();

	if (pid == 0) {
		close_range(0, ~0u, 0);
		waker(self, program);
	}
	/* Without a waker nobody would let us go on if the program went on alone. */
	if (pid < 0)
		return;
	/* Not all of the tree need have stopped. */
	tree_sample_stop(tree);
	kill(self, SIGSTOP);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	continue_program(program);
}

/* 1 when the program has ended. */
static int changes(struct tree *tree, pid_t program, struct ending *ending)
{
	int status;

	while (waitpid(program, &status, WNOHANG | WUNTRACED) == program) {
		if (!WIFSTOPPED(status)) {
			ending->status = status;
			return 1;
		}
		/* It may go on already; then we have missed nothing. */
		if (process_state(program) == 'T')
			stop_with(tree, program);
	}
	return 0;
}

/* ---- the whole --------------------------------------------------------------------- */

int supervise(struct tree *tree, const struct launch *launch, struct ending *ending)
{
	struct signalfd_siginfo info;
	struct signals old;
	uint64_t started_ns;
	sigset_t all;
	pid_t program;
	int fd, err;

	signals_block(&old);
	started_ns = monotonic_ns();
	program = start(tree, launch, &old);
	if (program < 0) {
		signals_restore(&old);
		return -program;
	}
	drop_descriptors(launch->keep_fd);
	tree_strays_start(tree, (uint32_t)program);
	sigfillset(&all);
	fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	err = fd < 0 ? -errno : tree_watch_start(tree, fd);
	/* Who looks late at memory that grows is of no use. Not all may do this. */
	setpriority(PRIO_PROCESS, 0, -10);
	if (err) {
		CTL_STORE(&tree->ctl->eager, CTL_EAGER_NOBODY);
		/* It runs already: better unattended than not. */
		complain("signals are not passed on to the program: %s", strerror(-err));
		while (waitpid(program, &ending->status, 0) < 0 && errno == EINTR)
			;
	} else {
		while (!changes(tree, program, ending))
			if (tree_wait(tree))
				while (read(fd, &info, sizeof(info)) == sizeof(info))
					pass_on(tree, program, &info);
	}
	ending->wall_ns = monotonic_ns() - started_ns;
	ending->pid = (uint32_t)program;
	if (!err)
		tree_settle(tree);
	tree_print_messages(tree, true);
	return 0;
}

void end_like(const struct ending *ending)
{
	int sig = WTERMSIG(ending->status);
	sigset_t one;

	if (!WIFSIGNALED(ending->status))
		_exit(WEXITSTATUS(ending->status));
	/* The program has dumped its core, if it was to; ours would take its place. */
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	signal(sig, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, sig);
	kill(getpid(), sig);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	/* Only if the signal cannot end us. */
	_exit(128 + sig);
}
