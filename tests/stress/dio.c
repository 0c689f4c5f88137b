/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dio [-t THREADS] [-m MIB] [-n OPERATIONS] [-s SEED] [-d DIRECTORY]: lets the kernel and
 * the disk read and write buffers that nobody has touched for a while.
 *
 * Each thread has its share of MIB in buffers of 16 pages and picks among all of them
 * alike, so that under a budget most have gone cold. It reads into them from a file of
 * stamps and writes them to a file of its own, with O_DIRECT (preadv, pwritev), with
 * io_uring (several at a time, inline and by worker), with io_uring on registered buffers
 * (pinned while the thread works on others), through vmsplice, and buffered. What each
 * page of memory and of the file must hold is known; every operation ends with a check of
 * a cold buffer, and the run with a check of all of them and of the files.
 *
 * A short count or an error from any of these calls is a failure. Without liburing, or
 * where io_uring is forbidden, that part is left out, and the output says so; the same
 * goes for O_DIRECT. Prints a digest; ends with 1 at the first wrong byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

#include "stamp.h"

#define THREADS_MAX 8
#define BUF_PAGES 16
#define BUF_BYTES (BUF_PAGES * PAGE)
#define IN_BUFS 256  /* the file of stamps, in buffers: 16 MiB */
#define OUT_BUFS 128 /* a thread's file */
#define DEPTH 8      /* io_uring operations at a time */
#define FIXED 8      /* buffers registered at a time: 512 KiB, below RLIMIT_MEMLOCK */

struct buf {
	char *addr;
	uint64_t key[BUF_PAGES];
};

struct dio {
	int index;
	pthread_t thread;
	struct rng rng;
	struct buf *buf;
	size_t nr;
	int in, out,
		plain; /* files: shared and direct, own and direct, own and buffered */
	uint64_t out_key[OUT_BUFS][BUF_PAGES];
	uint64_t keys, digest;
#ifdef HAVE_LIBURING
	struct io_uring ring;
#endif
};

static struct {
	int threads;
	size_t bytes;
	uint64_t ops, seed;
	const char *dir;
} opt = { .threads = 2, .bytes = 96 * MIB, .ops = 1500, .seed = 1, .dir = "." };

static struct dio dios[THREADS_MAX];
static bool direct = true, uring;

static void die(const char *format, ...)
{
	int error = errno;
	va_list args;

	fputs("dio: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, " (%s)\n", strerror(error));
	_exit(1);
}

static uint64_t in_key(size_t page)
{
	return page + 1;
}

static void check(struct dio *d, const struct buf *b, const char *when)
{
	for (size_t p = 0; p < BUF_PAGES; p++) {
		const char *addr = b->addr + p * PAGE;
		size_t word = stamp_check(addr, b->key[p]);
		uint64_t found;

		d->digest = mix64(d->digest ^ b->key[p]);
		if (word == PAGE_WORDS)
			continue;
		memcpy(&found, addr + word * 8, 8);
		errno = 0;
		die("thread %d %s: buffer %td page %zu at %p: word %zu should be %016llx "
		    "and is %016llx",
		    d->index, when, b - d->buf, p, (const void *)addr, word,
		    (unsigned long long)stamp_word(b->key[p], word),
		    (unsigned long long)found);
	}
}

static void restamp(struct dio *d, struct buf *b)
{
	for (size_t p = 0; p < BUF_PAGES; p++) {
		b->key[p] = (uint64_t)(d->index + 1) << 40 | ++d->keys;
		stamp_fill(b->addr + p * PAGE, b->key[p]);
	}
}

static struct buf *pick(struct dio *d)
{
	return &d->buf[rng_below(&d->rng, d->nr)];
}

static void must_move(ssize_t got, size_t want, const char *what)
{
	if (got != (ssize_t)want)
		die("%s of %zu bytes: %zd", what, want, got);
}

static void came_in(struct buf *b, size_t slot)
{
	for (size_t p = 0; p < BUF_PAGES; p++)
		b->key[p] = in_key(slot * BUF_PAGES + p);
}

/* Several different buffers, first one cold or not like the others. */
static void pick_several(struct dio *d, struct buf **some, int nr)
{
	size_t first = rng_below(&d->rng, d->nr), step = 1 + rng_below(&d->rng, 7);

	for (int i = 0; i < nr; i++)
		some[i] = &d->buf[(first + step * (size_t)i) % d->nr];
}

static void op_readv(struct dio *d)
{
	struct buf *some[4];
	struct iovec iov[4];
	size_t slot = rng_below(&d->rng, IN_BUFS - 4);

	pick_several(d, some, 4);
	for (size_t i = 0; i < 4; i++) {
		iov[i] = (struct iovec){ some[i]->addr, BUF_BYTES };
		came_in(some[i], slot + i);
	}
	must_move(preadv(d->in, iov, 4, (off_t)(slot * BUF_BYTES)), 4 * BUF_BYTES,
		  "preadv");
	check(d, some[3], "after preadv");
}

static void op_writev(struct dio *d)
{
	struct buf *some[4];
	struct iovec iov[4];
	size_t slot = rng_below(&d->rng, OUT_BUFS - 4);

	pick_several(d, some, 4);
	for (size_t i = 0; i < 4; i++) {
		iov[i] = (struct iovec){ some[i]->addr, BUF_BYTES };
		memcpy(d->out_key[slot + i], some[i]->key, sizeof(some[i]->key));
	}
	must_move(pwritev(d->out, iov, 4, (off_t)(slot * BUF_BYTES)), 4 * BUF_BYTES,
		  "pwritev");
}

static void op_read_back(struct dio *d)
{
	struct buf *b = pick(d);
	size_t slot = rng_below(&d->rng, OUT_BUFS);

	if (!d->out_key[slot][0])
		return;
	must_move(pread(d->out, b->addr, BUF_BYTES, (off_t)(slot * BUF_BYTES)), BUF_BYTES,
		  "pread of what we wrote");
	memcpy(b->key, d->out_key[slot], sizeof(b->key));
	check(d, b, "after pread of what we wrote");
}

/* write() and read() of one buffer through a file in the page cache. */
static void op_plain(struct dio *d)
{
	struct buf *from = pick(d), *to = pick(d);

	if (lseek(d->plain, 0, SEEK_SET) != 0)
		die("lseek");
	must_move(write(d->plain, from->addr, BUF_BYTES), BUF_BYTES, "write");
	if (lseek(d->plain, 0, SEEK_SET) != 0)
		die("lseek");
	must_move(read(d->plain, to->addr, BUF_BYTES), BUF_BYTES, "read");
	memmove(to->key, from->key, sizeof(to->key));
	check(d, to, "after write and read");
}

/* The pages themselves wait in the pipe, pinned, while others are touched. */
static void op_splice(struct dio *d)
{
	struct buf *from = pick(d), *to = pick(d), *other = pick(d);
	struct iovec iov = { from->addr, BUF_BYTES };
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) != 0)
		die("pipe2");
	must_move(vmsplice(fds[1], &iov, 1, 0), BUF_BYTES, "vmsplice");
	check(d, other, "beside vmsplice");
	if (to != from) {
		must_move(read(fds[0], to->addr, BUF_BYTES), BUF_BYTES, "read of a pipe");
		memcpy(to->key, from->key, sizeof(to->key));
		check(d, to, "after vmsplice");
	}
	close(fds[0]);
	close(fds[1]);
}

#ifdef HAVE_LIBURING
static struct io_uring_sqe *get_sqe(struct dio *d)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&d->ring);

	if (!sqe)
		die("io_uring_get_sqe: none");
	return sqe;
}

static void finish(struct dio *d, int nr, const char *what)
{
	for (int i = 0; i < nr; i++) {
		struct io_uring_cqe *cqe;
		int result = io_uring_wait_cqe(&d->ring, &cqe);

		if (result == -EINTR) {
			i--;
			continue;
		}
		if (result != 0)
			die("io_uring_wait_cqe: %s", strerror(-result));
		if (cqe->res != (int)BUF_BYTES)
			die("%s of %zu bytes: %d", what, BUF_BYTES, cqe->res);
		io_uring_cqe_seen(&d->ring, cqe);
	}
}

/* DEPTH reads and writes at a time; while they are under way others are touched. */
static void op_uring(struct dio *d)
{
	uint64_t how = rng_next(&d->rng);
	struct buf *some[DEPTH], *other;

	pick_several(d, some, DEPTH);
	for (unsigned i = 0; i < DEPTH; i++) {
		struct io_uring_sqe *sqe = get_sqe(d);
		size_t slot = (how >> 16) % (OUT_BUFS - DEPTH) + i;

		if (how >> i & 1) {
			io_uring_prep_read(sqe, d->in, some[i]->addr, BUF_BYTES,
					   slot * BUF_BYTES);
			came_in(some[i], slot);
		} else {
			io_uring_prep_write(sqe, d->out, some[i]->addr, BUF_BYTES,
					    slot * BUF_BYTES);
			memcpy(d->out_key[slot], some[i]->key, sizeof(some[i]->key));
		}
		if (how >> (32 + i) & 1)
			sqe->flags |= IOSQE_ASYNC;
	}
	if (io_uring_submit(&d->ring) != DEPTH)
		die("io_uring_submit");
	other = &d->buf[(size_t)(some[0] - d->buf + 1 + (long)(how >> 40 & 3)) % d->nr];
	for (unsigned i = 0; i < DEPTH; i++)
		if (some[i] == other)
			other = NULL;
	if (other)
		check(d, other, "beside io_uring");
	finish(d, DEPTH, "io_uring");
	for (unsigned i = 0; i < DEPTH; i++)
		check(d, some[i], "after io_uring");
}

/*
 * Registers buffers that have gone cold, works on others until reclaim has come by, and
 * then lets the kernel read into, and write out of, what it pinned.
 */
static void op_fixed(struct dio *d)
{
	uint64_t how = rng_next(&d->rng);
	struct buf *some[FIXED];
	struct iovec iov[FIXED];
	int result;

	pick_several(d, some, FIXED);
	for (unsigned i = 0; i < FIXED; i++)
		iov[i] = (struct iovec){ some[i]->addr, BUF_BYTES };
	result = io_uring_register_buffers(&d->ring, iov, FIXED);
	if (result != 0)
		die("io_uring_register_buffers: %s", strerror(-result));
	for (unsigned i = 0; i < 64; i++)
		check(d, pick(d), "beside registered buffers");
	for (unsigned i = 0; i < FIXED; i++) {
		struct io_uring_sqe *sqe = get_sqe(d);
		size_t slot = (how >> 16) % (OUT_BUFS - FIXED) + i;

		if (how >> i & 1) {
			io_uring_prep_read_fixed(sqe, d->in, some[i]->addr, BUF_BYTES,
						 slot * BUF_BYTES, (int)i);
			came_in(some[i], slot);
		} else {
			io_uring_prep_write_fixed(sqe, d->out, some[i]->addr, BUF_BYTES,
						  slot * BUF_BYTES, (int)i);
			memcpy(d->out_key[slot], some[i]->key, sizeof(some[i]->key));
		}
	}
	if (io_uring_submit(&d->ring) != FIXED)
		die("io_uring_submit");
	finish(d, FIXED, "io_uring on registered buffers");
	for (unsigned i = 0; i < FIXED; i++)
		check(d, some[i], "after io_uring on registered buffers");
	result = io_uring_unregister_buffers(&d->ring);
	if (result != 0)
		die("io_uring_unregister_buffers: %s", strerror(-result));
}

static bool uring_start(struct dio *d)
{
	return io_uring_queue_init(DEPTH, &d->ring, 0) == 0;
}
#else
static void op_uring(struct dio *d)
{
	(void)d;
}

static void op_fixed(struct dio *d)
{
	(void)d;
}

static bool uring_start(struct dio *d)
{
	(void)d;
	return false;
}
#endif

static void one_op(struct dio *d)
{
	uint64_t how = rng_next(&d->rng);

	switch (how % 16) {
	case 0:
	case 1:
	case 2:
		op_readv(d);
		break;
	case 3:
	case 4:
	case 5:
		op_writev(d);
		break;
	case 6:
	case 7:
		op_read_back(d);
		break;
	case 8:
		op_plain(d);
		break;
	case 9:
		op_splice(d);
		break;
	case 10:
	case 11:
	case 12:
		if (uring)
			op_uring(d);
		break;
	case 13:
		if (uring && how >> 32 & 1)
			op_fixed(d);
		break;
	default:
		restamp(d, pick(d));
	}
	check(d, pick(d), "in passing");
}

static void *run(void *arg)
{
	struct dio *d = arg;

	for (size_t i = 0; i < d->nr; i++)
		restamp(d, &d->buf[i]);
	for (uint64_t n = 0; n < opt.ops; n++)
		one_op(d);
	for (size_t i = 0; i < d->nr; i++)
		check(d, &d->buf[i], "at the end");
	for (size_t slot = 0; slot < OUT_BUFS; slot++) {
		struct buf *b = &d->buf[slot % d->nr];

		if (!d->out_key[slot][0])
			continue;
		must_move(pread(d->out, b->addr, BUF_BYTES, (off_t)(slot * BUF_BYTES)),
			  BUF_BYTES, "pread at the end");
		memcpy(b->key, d->out_key[slot], sizeof(b->key));
		check(d, b, "from the file at the end");
	}
	return NULL;
}

static int open_file(const char *name, int index, int flags)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/dio.%s.%d", opt.dir, name, index);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
	if (fd < 0 && errno == EINVAL && flags & O_DIRECT) {
		direct = false;
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	}
	if (fd < 0)
		die("%s", path);
	return fd;
}

static void remove_file(const char *name, int index)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/dio.%s.%d", opt.dir, name, index);
	unlink(path);
}

static void write_input(void)
{
	static char page[4096];
	int fd = open_file("in", 0, O_TRUNC);

	for (size_t i = 0; i < IN_BUFS * BUF_PAGES; i++) {
		stamp_fill(page, in_key(i));
		must_move(write(fd, page, PAGE), PAGE, "write of the input");
	}
	if (fsync(fd) != 0 || close(fd) != 0)
		die("fsync of the input");
}

static void start(struct dio *d, int index)
{
	char *arena;

	d->index = index;
	d->rng.state = mix64(opt.seed << 8 | (unsigned)index);
	d->nr = opt.bytes / BUF_BYTES / (size_t)opt.threads;
	d->buf = calloc(d->nr, sizeof(struct buf));
	arena = mmap(NULL, d->nr * BUF_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!d->buf || arena == MAP_FAILED)
		die("%zu bytes of buffers", opt.bytes);
	for (size_t i = 0; i < d->nr; i++)
		d->buf[i].addr = arena + i * BUF_BYTES;
	d->in = open_file("in", 0, O_DIRECT);
	d->out = open_file("out", index, O_DIRECT | O_TRUNC);
	d->plain = open_file("plain", index, O_TRUNC);
	uring = uring_start(d);
}

static void parse(int argc, char **argv)
{
	int o;

	while ((o = getopt(argc, argv, "t:m:n:s:d:")) != -1) {
		switch (o) {
		case 't':
			opt.threads = atoi(optarg);
			break;
		case 'm':
			opt.bytes = strtoull(optarg, NULL, 10) * MIB;
			break;
		case 'n':
			opt.ops = strtoull(optarg, NULL, 10);
			break;
		case 's':
			opt.seed = strtoull(optarg, NULL, 10);
			break;
		case 'd':
			opt.dir = optarg;
			break;
		default:
			exit(2);
		}
	}
	if (opt.threads < 1 || opt.threads > THREADS_MAX || opt.bytes < 16 * MIB) {
		fputs("dio: 1 to 8 threads, 16 MiB or more\n", stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	uint64_t digest = 0;

	parse(argc, argv);
	write_input();
	for (int t = 0; t < opt.threads; t++)
		start(&dios[t], t);
	printf("O_DIRECT %s, io_uring %s\n", direct ? "yes" : "no", uring ? "yes" : "no");
	for (int t = 0; t < opt.threads; t++)
		if (pthread_create(&dios[t].thread, NULL, run, &dios[t]) != 0)
			die("pthread_create");
	for (int t = 0; t < opt.threads; t++) {
		pthread_join(dios[t].thread, NULL);
		digest = mix64(digest ^ dios[t].digest);
		remove_file("out", t);
		remove_file("plain", t);
	}
	remove_file("in", 0);
	printf("digest %016llx\n", (unsigned long long)digest);
	return 0;
}
