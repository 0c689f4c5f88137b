/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program that the command's tests run: says what it was started with, takes
 * signals, or plays the preload's part in the control segment. Its first argument says
 * which. It ends by itself after a while, whatever happens to the test.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preload/ctl.h"

#define LIFETIME_S 30

extern char **environ;

static void sleep_ms(int ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL);
}

static void wait_for_eof(void)
{
	char c;

	while (read(0, &c, 1) > 0)
		;
}

/* ---- what it was started with ------------------------------------------------------ */

static int show_args(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		printf("%d=%s\n", i, argv[i]);
	return 0;
}

static int show_env(void)
{
	for (char **e = environ; *e; e++)
		puts(*e);
	return 0;
}

/* Signals, descriptors, limits: all that exec passes on. */
static int show_state(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	struct rlimit limit;
	char line[256];

	while (fgets(line, sizeof(line), status))
		if (!strncmp(line, "SigBlk", 6) || !strncmp(line, "SigIgn", 6) ||
		    !strncmp(line, "SigCgt", 6) || !strncmp(line, "Umask", 5) ||
		    !strncmp(line, "Threads", 7))
			fputs(line, stdout);
	fclose(status);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(dir))
			printf("fd %s\n", entry->d_name);
	closedir(dir);
	for (int i = 0; i < RLIM_NLIMITS; i++)
		if (!getrlimit((__rlimit_resource_t)i, &limit))
			printf("limit %d %ju %ju\n", i, (uintmax_t)limit.rlim_cur,
			       (uintmax_t)limit.rlim_max);
	printf("nice %d session %d\n", getpriority(PRIO_PROCESS, 0),
	       getsid(0) == getsid(getppid()));
	return 0;
}

static int show_maps(const char *part)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[4352];
	int nr = 0;

	while (fgets(line, sizeof(line), maps))
		nr += strstr(line, part) != NULL;
	fclose(maps);
	printf("%s\n", nr ? "mapped" : "not mapped");
	return 0;
}

/* ---- signals ----------------------------------------------------------------------- */

/* Prints each signal it gets, until its stdin ends. */
static int take_signals(const char *what)
{
	struct timespec tick = { .tv_nsec = 10000000 };
	struct pollfd in = { .fd = 0, .events = POLLIN };
	siginfo_t info;
	sigset_t all;
	int sig;

	sigfillset(&all);
	sigdelset(&all, SIGALRM);
	/* These stop it, as they stop any program. */
	sigdelset(&all, SIGTSTP);
	if (!strcmp(what, "alarm"))
		sigaddset(&all, SIGALRM);
	sigprocmask(SIG_SETMASK, &all, NULL);
	puts("ready");
	if (!strcmp(what, "group"))
		kill(0, SIGRTMIN + 7); /* queued: two of them stay two */
	for (;;) {
		fflush(stdout);
		sig = sigtimedwait(&all, &info, &tick);
		if (sig > 0)
			printf("signal %d value %d\n", sig,
			       info.si_code == SI_QUEUE ? info.si_value.sival_int : 0);
		else if (poll(&in, 1, 0) > 0 && read(0, (char[1]){ 0 }, 1) <= 0)
			break;
	}
	puts("end");
	return 7;
}

/* ---- the preload's part ------------------------------------------------------------ */

static struct ctl *map_ctl(void)
{
	const char *path = getenv(CTL_ENV);
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	struct ctl *ctl = MAP_FAILED;
	struct stat st;

	if (fd >= 0 && !fstat(fd, &st) && st.st_size == sizeof(*ctl) &&
	    (st.st_mode & 07777) == 0600)
		ctl = mmap(NULL, sizeof(*ctl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ctl == MAP_FAILED || ctl->magic != CTL_MAGIC || ctl->version != CTL_VERSION) {
		puts("no control segment");
		exit(99);
	}
	close(fd);
	return ctl;
}

static void release(struct ctl *ctl, struct ctl_slot *slot)
{
	ctl_reap(ctl, slot, CTL_LOAD(&slot->claim));
}

static struct ctl_slot *claim(struct ctl *ctl)
{
	struct ctl_slot *slot = ctl_claim(ctl, (uint32_t)getpid());

	CTL_STORE(&slot->managed, 1);
	return slot;
}

static int show_ctl(void)
{
	struct ctl *ctl = map_ctl();
	struct stat st;

	printf("budget %ju device %s supervisor %d pid_ns %d\n",
	       (uintmax_t)ctl->budget_pages, ctl->device,
	       ctl->supervisor_pid == (uint32_t)getppid(),
	       !stat("/proc/self/ns/pid", &st) && ctl->pid_ns == st.st_ino);
	return 0;
}

/* What --stats is to show. */
static int count(void)
{
	struct ctl *ctl = map_ctl();
	struct ctl_slot *slot = claim(ctl);

	for (int i = 0; i < CTL_NR_COUNTERS; i++)
		CTL_STORE(&slot->counter[i], (uint64_t)(1000 + i));
	CTL_STORE(&slot->usage_pages, 3000);
	ctl_note_peak(ctl, ctl_usage_pages(ctl));
	ctl_publish_device(slot, 100, 409600, 100000, 110000);
	ctl_publish_device(slot, 1, 4096, 1000, 5000);
	release(ctl, slot);
	return 3;
}

/* Each time another text: its number is behind it, from the second on. */
static int say(const char *text, int times)
{
	struct ctl *ctl = map_ctl();
	char numbered[CTL_MESSAGE_MAX];

	ctl_message_put(ctl, (uint32_t)getpid(), text);
	for (int i = 1; i < times; i++) {
		snprintf(numbered, sizeof(numbered), "%s %d", text, i);
		ctl_message_put(ctl, (uint32_t)getpid(), numbered);
	}
	wait_for_eof();
	return 0;
}

static int say_twice(const char *text)
{
	struct ctl *ctl = map_ctl();

	for (int i = 0; i < 2; i++) {
		ctl_message_put(ctl, (uint32_t)getpid(), text);
		ctl_message_put(ctl, (uint32_t)getpid(), "that");
	}
	wait_for_eof();
	return 0;
}

/* A message whose writer is killed half way, and one behind it. */
static int say_half(void)
{
	struct ctl *ctl = map_ctl();

	__atomic_fetch_add(&ctl->next_message, 1, __ATOMIC_RELAXED);
	ctl_message_put(ctl, (uint32_t)getpid(), "behind the half one");
	wait_for_eof();
	return 0;
}

/* More than budget and tolerance, for a while. */
static int exceed(void)
{
	struct ctl *ctl = map_ctl();
	struct ctl_slot *slot = claim(ctl);

	CTL_STORE(&slot->usage_pages, ctl_allowed_pages(ctl) + 512);
	sleep_ms(600);
	/* This process was to be migrated, and could not. */
	CTL_STORE(&slot->managed, 2);
	release(ctl, slot);
	return 0;
}

/* Near the budget, and then above all that is allowed for a moment. */
static int exceed_shortly(void)
{
	struct ctl *ctl = map_ctl();
	struct ctl_slot *slot = claim(ctl);

	CTL_STORE(&slot->usage_pages, (int64_t)(ctl->budget_pages / 8 * 7));
	sleep_ms(250);
	CTL_STORE(&slot->usage_pages, ctl_allowed_pages(ctl) + 512);
	sleep_ms(60);
	CTL_STORE(&slot->usage_pages, (int64_t)(ctl->budget_pages / 8 * 7));
	sleep_ms(250);
	release(ctl, slot);
	return 0;
}

/* As after exec of a program without the preload: 0 when the slot was cleared away. */
static int be_replaced(void)
{
	struct ctl *ctl = map_ctl();
	struct ctl_slot *slot = claim(ctl);

	CTL_STORE(&slot->counter[CTL_STORED], 77);
	CTL_STORE(&slot->usage_pages, 5000);
	CTL_STORE(&slot->writer, (uint32_t)getpid());
	sleep_ms(500);
	if (CTL_LOAD(&slot->pid) != (uint32_t)getpid())
		return 4; /* its writer was there */
	/* A thread of another process. */
	CTL_STORE(&slot->writer, (uint32_t)getppid());
	for (int i = 0; i < 100 && CTL_LOAD(&slot->pid); i++)
		sleep_ms(20);
	if (CTL_LOAD(&slot->pid) || CTL_LOAD(&slot->usage_pages))
		return 5;
	return CTL_LOAD(&ctl->ended[CTL_STORED]) == 77 ? 0 : 6;
}

/* A child counts and is killed; who clears its slot away? leave_zombie: nobody waits. */
static int lose_child(int leave_zombie)
{
	struct ctl *ctl = map_ctl();
	struct ctl_slot *slot;
	pid_t pid = fork();

	if (pid == 0) {
		slot = claim(ctl);
		CTL_STORE(&slot->counter[CTL_STORED], 77);
		CTL_STORE(&slot->usage_pages, 5000);
		pause();
	}
	while (ctl_usage_pages(ctl) != 5000)
		sleep_ms(1);
	kill(pid, SIGKILL);
	if (!leave_zombie)
		waitpid(pid, NULL, 0);
	for (int ms = 0; ctl_usage_pages(ctl) && ms < 5000; ms++)
		sleep_ms(1);
	printf("usage %jd stored %ju ended %ju\n", (intmax_t)ctl_usage_pages(ctl),
	       (uintmax_t)ctl->ended[CTL_STORED], (uintmax_t)ctl->ended_processes);
	return 0;
}

/* Processes that end before anybody has seen them. */
static int churn(void)
{
	struct ctl *ctl = map_ctl();
	pid_t pid;

	for (int i = 0; i < 20; i++) {
		pid = fork();
		if (pid == 0) {
			CTL_STORE(&claim(ctl)->usage_pages, 5000);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		for (int ms = 0; ctl_usage_pages(ctl) && ms < 5000; ms++)
			sleep_ms(1);
	}
	return 0;
}

/* Is killed, with a slot. */
static int die_counting(void)
{
	struct ctl_slot *slot = claim(map_ctl());

	CTL_STORE(&slot->counter[CTL_LOADED], 55);
	kill(getpid(), SIGKILL);
	return 0;
}

/* Leaves a process behind that has a slot and ends when told by a signal. */
static int leave_process(void)
{
	struct ctl *ctl = map_ctl();

	if (fork() == 0) {
		claim(ctl);
		for (int fd = 0; fd < 3; fd++)
			close(fd);
		alarm(LIFETIME_S);
		pause();
		_exit(0);
	}
	while (!CTL_LOAD(&ctl->slot[0].pid))
		sleep_ms(1);
	printf("%u %s\n", CTL_LOAD(&ctl->slot[0].pid), getenv(CTL_ENV));
	return 0;
}

/* Holds MiB of memory for longer than it takes to be seen twice. */
static int hold(int mib)
{
	size_t bytes = (size_t)mib << 20;
	char *memory = malloc(bytes + 1);

	if (!memory)
		return 1;
	memset(memory, 1, bytes + 1);
	sleep_ms(2500);
	return memory[bytes] == 1 ? 0 : 1;
}

/* Has a slot, and a child that has none, in one of the ways that there are. */
static int have_stray(const char *how, const char *mib, char *self)
{
	char *const argv[] = { self, (char *)"hold", (char *)mib, NULL };
	char *const empty[] = { NULL };
	int status;
	pid_t pid;

	claim(map_ctl());
	pid = fork();
	if (pid == 0) {
		if (!strcmp(how, "user") && setuid(65534))
			_exit(97);
		execve(self, argv, strcmp(how, "environment") ? environ : empty);
		_exit(96);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 95;
	return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	const char *what = argc > 2 ? argv[2] : "";

	if (strcmp(what, "alarm"))
		alarm(LIFETIME_S);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(mode, "exit"))
		return atoi(what);
	if (!strcmp(mode, "args"))
		return show_args(argc, argv);
	if (!strcmp(mode, "env"))
		return show_env();
	if (!strcmp(mode, "state"))
		return show_state();
	if (!strcmp(mode, "maps"))
		return show_maps(what);
	if (!strcmp(mode, "signals"))
		return take_signals(what);
	if (!strcmp(mode, "ctl"))
		return show_ctl();
	if (!strcmp(mode, "count"))
		return count();
	if (!strcmp(mode, "say"))
		return say(what, argc > 3 ? atoi(argv[3]) : 1);
	if (!strcmp(mode, "say-twice"))
		return say_twice(what);
	if (!strcmp(mode, "say-half"))
		return say_half();
	if (!strcmp(mode, "exceed"))
		return exceed();
	if (!strcmp(mode, "exceed-shortly"))
		return exceed_shortly();
	if (!strcmp(mode, "be-replaced"))
		return be_replaced();
	if (!strcmp(mode, "lose-child"))
		return lose_child(!strcmp(what, "zombie"));
	if (!strcmp(mode, "churn"))
		return churn();
	if (!strcmp(mode, "die-counting"))
		return die_counting();
	if (!strcmp(mode, "hold"))
		return hold(atoi(what));
	if (!strcmp(mode, "stray") && argc > 3)
		return have_stray(what, argv[3], argv[0]);
	if (!strcmp(mode, "leave"))
		return leave_process();
	if (!strcmp(mode, "kill")) {
		kill(getpid(), atoi(what));
		pause();
	}
	if (!strcmp(mode, "close-stdout")) {
		puts("before");
		fclose(stdout);
		wait_for_eof();
		return 5;
	}
	if (!strcmp(mode, "stop")) {
		puts("stopping");
		raise(SIGSTOP);
		puts("continued");
		return 6;
	}
	fprintf(stderr, "cli_prog: no such mode: '%s'\n", mode);
	return 98;
}
