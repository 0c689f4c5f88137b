/* SPDX-License-Identifier: Apache-2.0 */
/*
 * treerss: runs a command and measures the memory of everything it starts.
 *
 *	treerss [-i MS] [-o FILE] [-l FILE] [-t SECONDS] [-g SECONDS] -- COMMAND [ARG...]
 *
 * Every interval (10 ms) it walks the process tree below itself and adds up what each
 * process holds of anonymous memory. Being a child subreaper, it also sees the processes
 * whose parents have gone. Two sums are kept:
 *
 *	rss	RssAnon of every process: a page that N processes share counts N times.
 *	pss	each page counts once, also that of processes which share all their
 *		memory. While all processes but the largest hold little
 *		(4 MiB, or a 64th), rss is taken: an upper bound that costs nothing.
 *		Otherwise Pss_Anon of smaps_rollup is read, which walks page tables and so
 *		is done only when rss exceeds the peak of pss, at most every 50 ms and a
 *		quarter of the time. The log has 0 where it was not read. A process that
 *		forks or ends between the first that is read and the last has its pages
 *		counted twice: such a sum is dropped and read again at once.
 *
 * The command's exit status is passed on, 128+N if signal N ended it. After it has ended,
 * descendants get the grace period (-g, 10 s) to end by themselves and are measured
 * meanwhile; those that are left are killed and counted. After the timeout (-t) what each
 * thread is doing is written to FILE.hang, everything is killed, and the status is 124.
 *
 * FILE gets key=value lines. CPU times are those of waited-for descendants, which is all
 * of them unless a process ignores SIGCHLD. stall_ms is for how long a processor stood
 * still shortly before the peak (stalls.h). One thread, no locks; processes that vanish
 * while they are looked at count as zero.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stalls.h"

#define PROCS_MAX 8192       /* more than a machine of ours starts at once */
#define BIG_KB 1024          /* a process below this is added by its rss */
#define LITTLE_KB 4096       /* that much may count twice without harm */
#define PSS_INTERVAL_MS 50   /* reading smaps_rollup holds the mmap lock */
#define SHMEM_INTERVAL_MS 50 /* /proc/PID/status costs 20 us a process */
#define DETAIL_MAX 8         /* processes named at the peak */
#define STALL_BEFORE_MS 250  /* what a stall lets grow is given up again by then */

struct proc {
	pid_t pid;
	uint64_t anon_kb;
};

static struct {
	long interval_ms, timeout_s, grace_s;
	const char *out, *log;
} opt = { .interval_ms = 10, .grace_s = 10 };

static struct proc procs[PROCS_MAX];
static int nr_procs;

static struct {
	uint64_t rss_kb, pss_kb, shmem_kb; /* peaks */
	uint64_t rss_at_ms, pss_at_ms;
	uint64_t samples, pss_samples, torn, gap_ms, pss_gap_ms;
	int procs, left;
	bool timed_out;
	char detail[DETAIL_MAX * 64];
} peak;

static pid_t command;
static int command_status;
static bool command_ended;
static uint64_t start_ms;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Reads a /proc file whole. Bytes, or -1 when the process has gone. */
static ssize_t slurp(const char *path, char *buf, size_t size)
{
	ssize_t got, len = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while ((got = read(fd, buf + len, size - 1 - (size_t)len)) > 0)
		len += got;
	close(fd);
	if (got < 0)
		return -1;
	buf[len] = '\0';
	return len;
}

static uint64_t field_kb(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* statm is RssAnon without the cost of formatting all of status. */
static uint64_t anon_kb(pid_t pid)
{
	unsigned long long size, resident, shared;
	char path[64], buf[256];

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	if (slurp(path, buf, sizeof(buf)) <= 0)
		return 0;
	if (sscanf(buf, "%llu %llu %llu", &size, &resident, &shared) != 3)
		return 0;
	return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

static void add_proc(pid_t pid)
{
	for (int i = 0; i < nr_procs; i++)
		if (procs[i].pid == pid)
			return; /* reparented while we walked */
	if (nr_procs < PROCS_MAX)
		procs[nr_procs++] = (struct proc){ .pid = pid };
}

static void add_children(pid_t pid)
{
	static char buf[PROCS_MAX * 8];
	char path[320], *at, *next;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/children", pid,
			 entry->d_name);
		if (slurp(path, buf, sizeof(buf)) <= 0)
			continue;
		for (at = buf;; at = next) {
			long child = strtol(at, &next, 10);

			if (next == at)
				break;
			add_proc((pid_t)child);
		}
	}
	closedir(dir);
}

/* Breadth first: procs[] is the queue. */
static void walk_tree(void)
{
	nr_procs = 0;
	add_children(getpid());
	for (int i = 0; i < nr_procs; i++)
		add_children(procs[i].pid);
}

static int by_size(const void *a, const void *b)
{
	const struct proc *x = a, *y = b;

	return (x->anon_kb < y->anon_kb) - (x->anon_kb > y->anon_kb);
}

/* Who held how much at the peak. */
static void describe(void)
{
	size_t len = 0;

	qsort(procs, (size_t)nr_procs, sizeof(procs[0]), by_size);
	peak.detail[0] = '\0';
	for (int i = 0; i < nr_procs && i < DETAIL_MAX; i++) {
		char path[64], comm[64];

		snprintf(path, sizeof(path), "/proc/%d/comm", procs[i].pid);
		if (slurp(path, comm, sizeof(comm)) <= 0)
			continue;
		comm[strcspn(comm, "\n")] = '\0';
		len += (size_t)snprintf(peak.detail + len, sizeof(peak.detail) - len,
					"%s%s:%llu", len ? "," : "", comm,
					(unsigned long long)procs[i].anon_kb);
	}
}

/*
 * Whether an earlier process has the very same memory (vfork(), CLONE_VM): the kernel
 * counts it for each in full. Where it cannot be asked, or may not be, so do we.
 */
static bool is_counted(int i)
{
	for (int j = 0; j < i; j++)
		if (procs[j].anon_kb >= BIG_KB &&
		    syscall(SYS_kcmp, procs[i].pid, procs[j].pid, KCMP_VM, 0, 0) == 0)
			return true;
	return false;
}

static uint64_t sum_pss_kb(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < nr_procs; i++) {
		char path[64], buf[2048];

		if (procs[i].anon_kb < BIG_KB) {
			sum += procs[i].anon_kb;
			continue;
		}
		if (is_counted(i))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", procs[i].pid);
		if (slurp(path, buf, sizeof(buf)) > 0)
			sum += field_kb(buf, "Pss_Anon:");
	}
	return sum;
}

/* Whether the processes are still those of the sample; procs[] stays what it was. */
static bool same_tree(void)
{
	static struct proc before[PROCS_MAX];
	int nr = nr_procs;
	bool same;

	memcpy(before, procs, (size_t)nr * sizeof(procs[0]));
	walk_tree();
	same = nr == nr_procs;
	/* One that has ended may be in the tree until it is waited for. */
	for (int i = 0; same && i < nr; i++)
		same = procs[i].pid == before[i].pid &&
		       (before[i].anon_kb < BIG_KB ||
			anon_kb(procs[i].pid) >= before[i].anon_kb / 2);
	memcpy(procs, before, (size_t)nr * sizeof(procs[0]));
	nr_procs = nr;
	return same;
}

static void sample_shmem(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < nr_procs; i++) {
		char path[64], buf[4096];

		snprintf(path, sizeof(path), "/proc/%d/status", procs[i].pid);
		if (slurp(path, buf, sizeof(buf)) > 0)
			sum += field_kb(buf, "RssShmem:");
	}
	if (sum > peak.shmem_kb)
		peak.shmem_kb = sum;
}

static void sample(FILE *log)
{
	static uint64_t last_ms, last_pss_ms, next_pss_ms, next_shmem_ms;
	uint64_t at = now_ms(), rss = 0, pss = 0, largest = 0;

	if (last_ms && at - last_ms > peak.gap_ms)
		peak.gap_ms = at - last_ms;
	last_ms = at;
	walk_tree();
	for (int i = 0; i < nr_procs; i++) {
		procs[i].anon_kb = anon_kb(procs[i].pid);
		rss += procs[i].anon_kb;
		if (procs[i].anon_kb > largest)
			largest = procs[i].anon_kb;
	}
	peak.samples++;
	if (nr_procs > peak.procs)
		peak.procs = nr_procs;
	if (rss - largest <= LITTLE_KB || rss - largest <= rss / 64) {
		pss = rss;
	} else if (rss > peak.pss_kb && at >= next_pss_ms) {
		uint64_t end;

		pss = sum_pss_kb();
		end = now_ms();
		next_pss_ms = end + PSS_INTERVAL_MS + 3 * (end - at);
		if (!same_tree()) {
			pss = 0;
			peak.torn++;
			next_pss_ms = end;
		}
		if (last_pss_ms &&
		    end - last_pss_ms < 2 * PSS_INTERVAL_MS + 4 * (end - at) &&
		    end - last_pss_ms > peak.pss_gap_ms)
			peak.pss_gap_ms = end - last_pss_ms;
		last_pss_ms = end;
		peak.pss_samples++;
	}
	if (at >= next_shmem_ms) {
		sample_shmem();
		next_shmem_ms = at + SHMEM_INTERVAL_MS;
	}
	if (log)
		fprintf(log, "%llu %llu %llu %d\n", (unsigned long long)(at - start_ms),
			(unsigned long long)rss, (unsigned long long)pss, nr_procs);
	if (rss > peak.rss_kb) {
		peak.rss_kb = rss;
		peak.rss_at_ms = at - start_ms;
	}
	if (pss > peak.pss_kb) {
		peak.pss_kb = pss;
		peak.pss_at_ms = at - start_ms;
		describe();
	}
}

/* Collects who has ended. True when nothing is left below us. */
static bool reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == command) {
			command_ended = true;
			command_status = status;
		}
	}
	return pid < 0 && errno == ECHILD;
}

static void kill_tree(void)
{
	for (int round = 0; round < 1000 && !reap(); round++) {
		walk_tree();
		if (!round)
			peak.left = nr_procs;
		for (int i = 0; i < nr_procs; i++)
			kill(procs[i].pid, SIGKILL);
		usleep(10000);
	}
}

/* What each thread is doing, for whoever has to find out why nothing moves. */
static void describe_hang(void)
{
	static const char *const files[] = { "comm", "wchan", "syscall", "stack" };
	char path[512], buf[8192];
	FILE *out;

	if (!opt.out)
		return;
	snprintf(path, sizeof(path), "%s.hang", opt.out);
	out = fopen(path, "we");
	if (!out)
		return;
	walk_tree();
	for (int i = 0; i < nr_procs; i++) {
		struct dirent *entry;
		DIR *dir;

		snprintf(path, sizeof(path), "/proc/%d/task", procs[i].pid);
		dir = opendir(path);
		while (dir && (entry = readdir(dir))) {
			if (entry->d_name[0] == '.')
				continue;
			fprintf(out, "== process %d thread %s\n", procs[i].pid,
				entry->d_name);
			for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
				snprintf(path, sizeof(path), "/proc/%d/task/%.20s/%s",
					 procs[i].pid, entry->d_name, files[f]);
				if (slurp(path, buf, sizeof(buf)) > 0)
					fprintf(out, "%s: %s%s", files[f], buf,
						strchr(buf, '\n') ? "" : "\n");
			}
		}
		if (dir)
			closedir(dir);
	}
	fclose(out);
}

static int exit_code(void)
{
	if (peak.timed_out)
		return 124;
	if (WIFSIGNALED(command_status))
		return 128 + WTERMSIG(command_status);
	return WEXITSTATUS(command_status);
}

static void report(FILE *out, uint64_t wall_ms)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	fprintf(out, "exit=%d\n", exit_code());
	fprintf(out, "signal=%d\n",
		WIFSIGNALED(command_status) ? WTERMSIG(command_status) : 0);
	fprintf(out, "timed_out=%d\n", peak.timed_out);
	fprintf(out, "left=%d\n", peak.left);
	fprintf(out, "wall_ms=%llu\n", (unsigned long long)wall_ms);
	fprintf(out, "user_ms=%ld\n",
		usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000);
	fprintf(out, "sys_ms=%ld\n",
		usage.ru_stime.tv_sec * 1000 + usage.ru_stime.tv_usec / 1000);
	fprintf(out, "minor_faults=%ld\n", usage.ru_minflt);
	fprintf(out, "switches=%ld\n", usage.ru_nvcsw + usage.ru_nivcsw);
	fprintf(out, "peak_rss_anon_kb=%llu\n", (unsigned long long)peak.rss_kb);
	fprintf(out, "peak_rss_at_ms=%llu\n", (unsigned long long)peak.rss_at_ms);
	fprintf(out, "peak_pss_anon_kb=%llu\n", (unsigned long long)peak.pss_kb);
	fprintf(out, "peak_pss_at_ms=%llu\n", (unsigned long long)peak.pss_at_ms);
	fprintf(out, "stall_ms=%llu\n",
		(unsigned long long)stalls_longest_ms(start_ms + peak.pss_at_ms -
							      STALL_BEFORE_MS,
						      start_ms + peak.pss_at_ms));
	fprintf(out, "peak_who=%s\n", peak.detail);
	fprintf(out, "peak_shmem_kb=%llu\n", (unsigned long long)peak.shmem_kb);
	fprintf(out, "peak_procs=%d\n", peak.procs);
	fprintf(out, "samples=%llu\n", (unsigned long long)peak.samples);
	fprintf(out, "longest_gap_ms=%llu\n", (unsigned long long)peak.gap_ms);
	fprintf(out, "pss_samples=%llu\n", (unsigned long long)peak.pss_samples);
	fprintf(out, "pss_torn=%llu\n", (unsigned long long)peak.torn);
	fprintf(out, "longest_pss_gap_ms=%llu\n", (unsigned long long)peak.pss_gap_ms);
}

static void start(char **argv, const sigset_t *mask)
{
	command = fork();
	if (command < 0) {
		perror("treerss: fork");
		exit(125);
	}
	if (command == 0) {
		sigprocmask(SIG_SETMASK, mask, NULL);
		execvp(argv[0], argv);
		fprintf(stderr, "treerss: %s: %s\n", argv[0], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	/* After the fork, so that it is ours alone: samples must come in time. */
	setpriority(PRIO_PROCESS, 0, -10);
	stalls_watch();
}

/* Sleeps until the next sample is due, or somebody ended. The signal, or 0. */
static int nap(const sigset_t *signals, uint64_t until_ms)
{
	uint64_t now = now_ms(), rest = until_ms > now ? until_ms - now : 0;
	struct timespec ts = { (time_t)(rest / 1000), (long)(rest % 1000) * 1000000 };
	int sig = sigtimedwait(signals, NULL, &ts);

	return sig > 0 ? sig : 0;
}

static void watch(const sigset_t *signals, FILE *log)
{
	uint64_t next_ms = start_ms, ended_ms = 0;

	while (!reap()) {
		uint64_t now = now_ms();
		int sig;

		if (command_ended && !ended_ms)
			ended_ms = now;
		if (now >= next_ms) {
			sample(log);
			next_ms += (uint64_t)opt.interval_ms;
			if (next_ms < now_ms())
				next_ms = now_ms() + 1;
		}
		sig = nap(signals, next_ms);
		if (sig && sig != SIGCHLD) {
			kill_tree();
			command_status = sig;
			return;
		}
		if (opt.timeout_s && now - start_ms > (uint64_t)opt.timeout_s * 1000) {
			peak.timed_out = true;
			describe_hang();
			kill_tree();
			return;
		}
		if (ended_ms && now - ended_ms > (uint64_t)opt.grace_s * 1000) {
			kill_tree();
			return;
		}
	}
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "+i:o:l:t:g:")) != -1) {
		switch (c) {
		case 'i':
			opt.interval_ms = strtol(optarg, NULL, 10);
			break;
		case 'o':
			opt.out = optarg;
			break;
		case 'l':
			opt.log = optarg;
			break;
		case 't':
			opt.timeout_s = strtol(optarg, NULL, 10);
			break;
		case 'g':
			opt.grace_s = strtol(optarg, NULL, 10);
			break;
		default:
			optind = argc;
			break;
		}
	}
	if (optind >= argc || opt.interval_ms < 1) {
		fputs("usage: treerss [-i MS] [-o FILE] [-l FILE] [-t SECONDS] "
		      "[-g SECONDS] -- COMMAND [ARG...]\n",
		      stderr);
		exit(125);
	}
}

int main(int argc, char **argv)
{
	FILE *out = stderr, *log = NULL;
	sigset_t signals, mask;
	uint64_t wall_ms;

	parse(argc, argv);
	if (opt.out && !(out = fopen(opt.out, "we"))) {
		perror(opt.out);
		return 125;
	}
	if (opt.log && !(log = fopen(opt.log, "we"))) {
		perror(opt.log);
		return 125;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, &mask);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	start_ms = now_ms();
	start(argv + optind, &mask);
	watch(&signals, log);
	wall_ms = now_ms() - start_ms;
	report(out, wall_ms);
	if (fclose(out) != 0 || (log && fclose(log) != 0)) {
		perror("treerss: writing results");
		return 125;
	}
	return exit_code();
}
