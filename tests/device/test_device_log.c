/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `log`: what its lines say of pages that are known. */
#define _GNU_SOURCE
#include "tests/device/subject.h"

#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/host.h"
#include "tests/device/folder.h"

#define NR 60u
#define LINE 64u

static uint8_t page[NR][PAGE] __attribute__((aligned(4096)));
static struct uhmm_io io[NR];

/* options: of the layer, behind a comma; below: what is put under it. */
static struct uhmm_device *open_log(const char *options, const char *below)
{
	char spec[256];
	uint32_t i;

	for (i = 0; i < NR; i++) {
		memset(page[i], (int)i + 1, PAGE);
		io[i].buf = page[i];
		io[i].len = PAGE;
	}
	snprintf(spec, sizeof(spec), "log:to=%s/l%s+%s", folder(), options, below);
	return open_spec(spec);
}

/* How many failed, of batches of n. */
static uint32_t run(struct uhmm_device *dev, enum uhmm_op op, uint32_t n)
{
	uint32_t at, failed = 0;

	for (at = 0; at < NR; at += n)
		failed += device_run(dev, op, io + at, n);
	return failed;
}

/* ---- lines ------------------------------------------------------------------------ */

/* What a line says. */
struct line {
	double seconds, us;
	unsigned tid, len;
	uint64_t page;
	bool numbered;
	char op[8], result[8];
};

struct lines {
	char *text;
	uint32_t room, nr; /* without the head; of those, written ones */
};

/* Each is of one length, and text. */
static struct lines read_lines(pid_t pid)
{
	struct lines l = { .nr = 0 };
	uint32_t i, blank = 0;
	size_t len, c;
	char *line;

	l.text = folder_read("l", pid, &len);
	CHECK_EQ(len % LINE, 0);
	CHECK_EQ(strlen(l.text), len);
	CHECK(!strncmp(l.text, "# seconds ", 10));
	l.room = (uint32_t)(len / LINE) - 1;
	for (i = 0; i <= l.room; i++) {
		line = l.text + i * LINE;
		for (c = 0; c < LINE - 1; c++)
			CHECK(line[c] >= ' ' && line[c] <= '~', "%u", i);
		CHECK_EQ(line[LINE - 1], '\n');
		if (i && strspn(line, " ") < LINE - 1)
			l.nr++;
		else
			blank += i > 0;
		/* Blank ones are behind those. */
		CHECK(!i || l.nr + blank == i);
		CHECK(!blank || l.nr == i - blank);
	}
	return l;
}

static struct line line_at(const struct lines *l, uint32_t i)
{
	char text[LINE + 1] = "", number[16] = "", rest[32] = "";
	struct line line = { .tid = 0 };

	CHECK_LT(i, l->nr);
	memcpy(text, l->text + (i + 1) * LINE, LINE);
	CHECK_EQ(sscanf(text, "%lf %u %7s %15s %31[^\n]", &line.seconds, &line.tid,
			line.op, number, rest),
		 5);
	line.numbered = strcmp(number, "-") != 0;
	line.page = strtoull(number, NULL, 16);
	if (strcmp(line.op, "free"))
		CHECK_EQ(sscanf(rest, "%u %7s %lf", &line.len, line.result, &line.us), 3);
	else
		CHECK_EQ(sscanf(rest, "%7s %lf", line.result, &line.us), 2);
	return line;
}

/* From the at-th line on: a batch of each n pages. */
static void check_lines(const struct lines *l, uint32_t at, const char *op, uint32_t n)
{
	struct line line, last = { .seconds = 0 };
	uint32_t i;

	for (i = 0; i < NR; i++, last = line) {
		line = line_at(l, at + i);
		CHECK_STR(line.op, op);
		CHECK_EQ(line.tid, syscall(SYS_gettid));
		CHECK_STR(line.result, "ok");
		CHECK(line.numbered && line.page == io[i].page);
		CHECK_EQ(line.len, strcmp(op, "free") ? PAGE : 0);
		CHECK(line.seconds >= last.seconds);
		if (i % n)
			CHECK(line.seconds == last.seconds && line.us == last.us);
	}
}

TEST(a_line_for_each_page)
{
	struct uhmm_device *dev = open_log("", "ram");
	double start = (double)uhmm_host_now_ns() / 1e9, end;
	struct uhmm_io again = io[0];
	struct lines l;

	CHECK_EQ(run(dev, UHMM_OP_STORE, 20), 0);
	l = read_lines(getpid());
	CHECK_EQ(l.room, 8191);
	CHECK_EQ(l.nr, NR);
	check_lines(&l, 0, "store", 20);
	free(l.text);
	CHECK_EQ(run(dev, UHMM_OP_LOAD, 1), 0);
	CHECK_EQ(run(dev, UHMM_OP_FREE, 60), 0);
	CHECK_EQ(device_run(dev, UHMM_OP_STORE, &again, 1), 0);
	/* Of that there is no trace. */
	CHECK_EQ(device_peek(dev, &again), 0);
	end = (double)uhmm_host_now_ns() / 1e9;
	device_close(dev);
	l = read_lines(getpid());
	CHECK_EQ(l.nr, 3 * NR + 1);
	check_lines(&l, NR, "load", 1);
	check_lines(&l, 2 * NR, "free", 60);
	/* It is cut to microseconds. */
	CHECK(line_at(&l, 0).seconds >= start - 1e-6);
	CHECK(line_at(&l, 3 * NR).seconds <= end);
	free(l.text);
}

TEST(how_long_it_took)
{
	struct uhmm_device *dev = open_log("", "delay:store=3000+ram");
	uint64_t start = uhmm_host_now_ns();
	double us, sum = 0;
	struct lines l;
	uint32_t i;

	CHECK_EQ(run(dev, UHMM_OP_STORE, 6), 0);
	us = (double)(uhmm_host_now_ns() - start) / 1e3;
	l = read_lines(getpid());
	for (i = 0; i < NR; i += 6) {
		CHECK(line_at(&l, i).us >= 3000);
		sum += line_at(&l, i).us;
	}
	CHECK(sum <= us);
	device_close(dev);
	free(l.text);
}

TEST(what_failed)
{
	struct uhmm_device *dev = open_log("", "error:every=3,op=both+ram");
	struct lines l;
	struct line line;
	uint32_t i;

	CHECK_EQ(run(dev, UHMM_OP_STORE, 60), 20);
	l = read_lines(getpid());
	for (i = 0; i < NR; i++) {
		line = line_at(&l, i);
		CHECK_STR(line.result, (i + 1) % 3 ? "ok" : "ENOSPC");
		CHECK_EQ(line.numbered, (i + 1) % 3 != 0);
	}
	free(l.text);
	for (i = 0; i < 6; i++)
		device_run(dev, UHMM_OP_LOAD, &io[0], 1);
	l = read_lines(getpid());
	for (i = 0; i < 6; i++) {
		line = line_at(&l, NR + i);
		CHECK_STR(line.result, (i + 1) % 3 ? "ok" : "EIO");
		CHECK_EQ(line.page, io[0].page);
	}
	device_close(dev);
	free(l.text);
}

/* Of batches of each size, and with any room: the newest are there, and nothing else. */
TEST(the_oldest_are_overwritten)
{
	static const uint32_t room[] = { 64, 65, 127, 199, 1023, 1025 };
	struct line line;
	struct lines l;
	uint32_t r, n, i;
	char options[32];

	for (r = 0; r < sizeof(room) / sizeof(room[0]); r++) {
		struct uhmm_device *dev;
		uint32_t came = 0, first;

		snprintf(options, sizeof(options), ",lines=%u", room[r]);
		dev = open_log(options, "ram");
		/* A line's number is how long its page is. */
		for (n = 1; came < 2 * room[r]; n = n % NR + 1) {
			for (i = 0; i < n; i++)
				io[i].len = ++came;
			CHECK_EQ(device_run(dev, UHMM_OP_STORE, io, n), 0);
		}
		l = read_lines(getpid());
		CHECK_EQ(l.room, room[r]);
		CHECK_EQ(l.nr, room[r]);
		first = came - room[r];
		for (i = first; i < came; i++) {
			line = line_at(&l, i % room[r]);
			CHECK_EQ(line.len, i + 1);
		}
		device_close(dev);
		free(l.text);
		CHECK_EQ(unlink(folder_file("l", getpid())), 0);
	}
}

/* ---- threads, processes ----------------------------------------------------------- */

#define THREADS 4u
#define ROUNDS 100u

static void *store_much(void *arg)
{
	struct uhmm_io mine[7];
	uint32_t i;

	memcpy(mine, io, sizeof(mine));
	for (i = 0; i < ROUNDS; i++)
		CHECK_EQ(device_run(arg, UHMM_OP_STORE, mine, 7), 0);
	return (void *)(uintptr_t)syscall(SYS_gettid);
}

TEST(threads_share_no_line)
{
	struct uhmm_device *dev = open_log("", "ram");
	uint32_t i, t, seen[THREADS] = { 0 };
	pthread_t thread[THREADS];
	void *tid[THREADS];
	struct lines l;

	for (t = 0; t < THREADS; t++)
		CHECK_EQ(pthread_create(&thread[t], NULL, store_much, dev), 0);
	for (t = 0; t < THREADS; t++)
		CHECK_EQ(pthread_join(thread[t], &tid[t]), 0);
	l = read_lines(getpid());
	CHECK_EQ(l.nr, THREADS * ROUNDS * 7);
	for (i = 0; i < l.nr; i++)
		for (t = 0; t < THREADS; t++)
			seen[t] += line_at(&l, i).tid == (uintptr_t)tid[t];
	for (t = 0; t < THREADS; t++)
		CHECK_EQ(seen[t], ROUNDS * 7);
	device_close(dev);
	free(l.text);
}

TEST(a_forked_child_has_its_own)
{
	struct uhmm_device *dev = open_log("", "ram");
	struct lines l;
	int status;
	pid_t pid;

	CHECK_EQ(run(dev, UHMM_OP_STORE, 60), 0);
	host_fork_prepare();
	pid = fork();
	host_fork_done();
	CHECK_GE(pid, 0);
	if (pid == 0) {
		CHECK_EQ(device_after_fork(dev), 0);
		CHECK_EQ(run(dev, UHMM_OP_LOAD, 60), 0);
		l = read_lines(getpid());
		CHECK_EQ(l.nr, NR);
		check_lines(&l, 0, "load", 60);
		/* However it ends. */
		kill(getpid(), SIGKILL);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	l = read_lines(pid);
	CHECK_EQ(l.nr, NR);
	CHECK_EQ(line_at(&l, 0).tid, pid);
	free(l.text);
	CHECK_EQ(run(dev, UHMM_OP_FREE, 60), 0);
	l = read_lines(getpid());
	CHECK_EQ(l.nr, 2 * NR);
	check_lines(&l, 0, "store", 60);
	check_lines(&l, NR, "free", 60);
	device_close(dev);
	free(l.text);
}

TEST(what_it_is_told_has_to_make_sense)
{
	static const char *const bad[] = { "log:to=/tmp/l", "log:to=/tmp/l,lines=63+ram",
					   "log:to=/tmp/l,lines=16777216+ram",
					   "log:to=+ram" };
	char error[DEVICE_ERROR_MAX];
	struct uhmm_device *dev;
	uint32_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(device_open(bad[i], &dev, error, sizeof(error)) < 0);
}
