/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn: memory that the kernel holds on to, and memory that has other names.
 *
 * Each thread has a file that it reads and writes past the page cache: the kernel pins
 * the pages while the device works on them, and a pager that moved one of them meanwhile
 * would lose what arrives. By io_uring the same goes on while the thread does other
 * things; its buffers are registered, so they stay pinned for good. And each has a memfd
 * that is mapped twice, shared, and once more, private: what a page of the private one
 * holds is the file's until it is written.
 *
 * Called by the thread that owns it; no child uses any of it.
 */
#include "churn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

#define FILE_PAGES 256
#define RUN_MAX 16 /* pages read or written at once */
#define BUFFERS 16 /* registered, RUN_MAX pages each */
#define CANCELLED_MAX 100u

struct files {
	int fd;
	struct page stored[FILE_PAGES];
	/* The memfd. */
	char *shared[2], *own;
	struct page of_file[FILE_PAGES], of_own[FILE_PAGES];
	bool written[FILE_PAGES]; /* own has a page of its own */
#ifdef HAVE_LIBURING
	struct io_uring ring;
	bool has_ring;
	char *buffer;
	struct page in_buffer[BUFFERS * RUN_MAX];
	int in_flight; /* the buffer that is read into or written, or -1 */
	bool reading;
	size_t slot, nr;
#endif
};

static struct files files[THREADS_MAX];

static char *map(size_t nr, int flags, int fd)
{
	char *p = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		fail("mmap of %zu pages, flags %x: %m", nr, (unsigned)flags);
	return p;
}

static void open_file(struct files *f)
{
	static const char *const where[] = { "/var/tmp", "/tmp", "." };
	size_t i;

	f->fd = -1;
	for (i = 0; f->fd < 0 && i < 2 * sizeof(where) / sizeof(where[0]); i++)
		f->fd = open(where[i / 2],
			     O_TMPFILE | O_RDWR | O_CLOEXEC | (i % 2 ? 0 : O_DIRECT),
			     0600);
	if (f->fd < 0)
		fail("no file in /var/tmp, /tmp or here: %m");
	if (ftruncate(f->fd, FILE_PAGES * PAGE) != 0)
		fail("ftruncate: %m");
}

static void open_memfd(struct files *f)
{
	int fd = memfd_create("churn", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, FILE_PAGES * PAGE) != 0)
		fail("memfd: %m");
	f->shared[0] = map(FILE_PAGES, MAP_SHARED, fd);
	f->shared[1] = map(FILE_PAGES, MAP_SHARED, fd);
	f->own = map(FILE_PAGES, MAP_PRIVATE, fd);
	close(fd);
}

#ifdef HAVE_LIBURING
/* Where there is no io_uring, or none for us, the rest goes on without. */
static void open_ring(struct files *f)
{
	struct iovec iov[BUFFERS];
	int i;

	f->in_flight = -1;
	if (options.without_ring || io_uring_queue_init(4, &f->ring, 0) != 0)
		return;
	f->buffer = map(BUFFERS * RUN_MAX, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	for (i = 0; i < BUFFERS; i++)
		iov[i] = (struct iovec){ f->buffer + (size_t)i * RUN_MAX * PAGE,
					 RUN_MAX * PAGE };
	/* Half of them is pinned for good, the other half as long as it takes. */
	f->has_ring = io_uring_register_buffers(&f->ring, iov, BUFFERS / 2) == 0;
	if (!f->has_ring)
		io_uring_queue_exit(&f->ring);
}

static void prepare(struct files *f, struct io_uring_sqe *sqe)
{
	char *addr = f->buffer + (size_t)f->in_flight * RUN_MAX * PAGE;
	unsigned len = (unsigned)(f->nr * PAGE);
	uint64_t at = f->slot * PAGE;
	int i = f->in_flight;

	if (i < BUFFERS / 2 && f->reading)
		io_uring_prep_read_fixed(sqe, f->fd, addr, len, at, i);
	else if (i < BUFFERS / 2)
		io_uring_prep_write_fixed(sqe, f->fd, addr, len, at, i);
	else if (f->reading)
		io_uring_prep_read(sqe, f->fd, addr, len, at);
	else
		io_uring_prep_write(sqe, f->fd, addr, len, at);
}

static void submit(struct files *f)
{
	prepare(f, io_uring_get_sqe(&f->ring));
	if (io_uring_submit(&f->ring) != 1)
		fail("io_uring_submit: %m");
}

static int wait_for_result(struct files *f)
{
	struct io_uring_cqe *cqe;
	int r;

	do
		r = io_uring_wait_cqe(&f->ring, &cqe);
	while (r == -EINTR);
	if (r != 0)
		fail("io_uring_wait_cqe: %s", strerror(-r));
	r = cqe->res;
	io_uring_cqe_seen(&f->ring, cqe);
	return r;
}

static void ring_end(struct files *f)
{
	struct page *in_buffer = f->in_buffer + f->in_flight * RUN_MAX;
	unsigned cancelled = 0;
	int r;

	if (f->in_flight < 0)
		return;
	/*
	 * The kernel cancels what waits for a worker of its own that signals have kept it
	 * from starting a few times (io_uring/io-wq.c, WORKER_INIT_LIMIT), uhmm or not.
	 */
	while ((r = wait_for_result(f)) == -ECANCELED && ++cancelled < CANCELLED_MAX)
		submit(f);
	if (r != (int)(f->nr * PAGE))
		fail("io_uring: %s of %zu pages: %d", f->reading ? "read" : "write",
		     f->nr, r);
	if (f->reading)
		memcpy(in_buffer, f->stored + f->slot, f->nr * sizeof(*in_buffer));
	else
		memcpy(f->stored + f->slot, in_buffer, f->nr * sizeof(*in_buffer));
	f->in_flight = -1;
}

static void ring_begin(struct files *f, uint64_t how, uint64_t at)
{
	f->in_flight = (int)(how % BUFFERS);
	f->reading = how >> 8 & 1;
	f->nr = 1 + (how >> 16) % RUN_MAX;
	f->slot = at % (FILE_PAGES - f->nr + 1);
	submit(f);
}

/* What was begun the last time ends; all is checked, some written; something begins. */
void op_uring(struct churn *c)
{
	struct files *f = &files[c->index];
	uint64_t how = rng_next(&c->rng), at = rng_next(&c->rng);
	size_t i, n;

	if (!f->has_ring)
		return;
	ring_end(f);
	for (n = 0; n < RUN_MAX; n++) {
		uint64_t choice = rng_next(&c->rng);

		i = choice % (BUFFERS * RUN_MAX);
		if (n == 0 && moves_see)
			moves_see(f->buffer, BUFFERS * RUN_MAX);
		page_check_at(c, "registered buffer", (uint32_t)i, f->buffer + i * PAGE,
			      &f->in_buffer[i], choice >> 16);
		if (choice >> 62 == 0)
			page_write_at(c, f->buffer + i * PAGE, &f->in_buffer[i],
				      (uint32_t)(choice >> 24));
	}
	ring_begin(f, how, at);
}
#endif

void files_init(struct churn *c)
{
	struct files *f = &files[c->index];

	open_file(f);
	open_memfd(f);
#ifdef HAVE_LIBURING
	open_ring(f);
#endif
}

/* Nothing is to arrive any more; what is in the file is looked at. */
void files_end(struct churn *c)
{
	struct files *f = &files[c->index];
	char *page = map(1, MAP_PRIVATE | MAP_ANONYMOUS, -1);

#ifdef HAVE_LIBURING
	ring_end(f);
	if (f->has_ring)
		io_uring_queue_exit(&f->ring);
#endif
	for (size_t i = 0; i < FILE_PAGES; i++) {
		if (pread(f->fd, page, PAGE, (off_t)(i * PAGE)) != (ssize_t)PAGE)
			fail("pread: %m");
		page_check_at(c, "file", (uint32_t)i, page, &f->stored[i], 0);
	}
	munmap(page, PAGE);
	close(f->fd);
}

/* ---- past the page cache ---------------------------------------------------------- */

/* As many pages of r behind first as have all of flags and none of MAYBE. */
static size_t run_of(const struct region *r, size_t first, size_t max, uint8_t flags)
{
	size_t nr = 0;

	while (nr < max && first + nr < r->nr &&
	       (r->page[first + nr].flags & (flags | PAGE_MAYBE)) == flags)
		nr++;
	return nr;
}

static void contents_of(struct page *to, const struct page *from)
{
	to->serial = from->serial;
	to->patch = from->patch;
}

void op_dio(struct churn *c)
{
	struct files *f = &files[c->index];
	struct region *r = pick_region(c);
	uint64_t how = rng_next(&c->rng), at = rng_next(&c->rng);
	bool reading = how & 1;
	size_t first, slot, nr, i;
	ssize_t done;

#ifdef HAVE_LIBURING
	/* A model of two writers to one page would be needed. */
	ring_end(f);
#endif
	if (!r)
		return;
	first = at % r->nr;
	slot = (at >> 32) % (FILE_PAGES - RUN_MAX + 1);
	nr = run_of(r, first, 1 + (how >> 8) % RUN_MAX,
		    reading ? PAGE_R | PAGE_W : PAGE_R);
	if (!nr)
		return;
	done = reading ? pread(f->fd, r->base + first * PAGE, nr * PAGE,
			       (off_t)(slot * PAGE)) :
			 pwrite(f->fd, r->base + first * PAGE, nr * PAGE,
				(off_t)(slot * PAGE));
	if (done != (ssize_t)(nr * PAGE))
		fail("%s of %zu pages at %p: %zd: %m", reading ? "pread" : "pwrite", nr,
		     (void *)(r->base + first * PAGE), done);
	for (i = 0; i < nr; i++) {
		if (reading)
			contents_of(&r->page[first + i], &f->stored[slot + i]);
		else
			contents_of(&f->stored[slot + i], &r->page[first + i]);
		page_check(c, r, first + i, how >> 16 << 2);
	}
}

/* ---- a memfd ---------------------------------------------------------------------- */

static void memfd_one(struct churn *c, struct files *f, size_t i, uint64_t how)
{
	static const struct page nothing;
	char *own = f->own + i * PAGE;
	int side = how & 1;

	switch (how >> 1 & 7) {
	case 0:
	case 1:
		page_write_at(c, f->shared[side] + i * PAGE, &f->of_file[i],
			      (uint32_t)(how >> 16));
		break;
	case 2:
		if (!f->written[i])
			f->of_own[i] = f->of_file[i];
		f->written[i] = true;
		page_write_at(c, own, &f->of_own[i], (uint32_t)(how >> 16));
		break;
	case 3:
		if (madvise(own, PAGE, MADV_DONTNEED) != 0)
			fail("madvise(DONTNEED) of a private file mapping: %m");
		f->written[i] = false;
		break;
	case 4: /* the file's page is gone; what a private mapping wrote is not */
		if (how >> 8 & 1) {
			if (madvise(f->shared[side] + i * PAGE, PAGE, MADV_REMOVE) != 0)
				fail("madvise(REMOVE): %m");
			f->of_file[i] = nothing;
		}
		break;
	default:
		break;
	}
	page_check_at(c, "memfd", (uint32_t)i, f->shared[!side] + i * PAGE,
		      &f->of_file[i], how >> 32);
	page_check_at(c, "private mapping of a memfd", (uint32_t)i, own,
		      f->written[i] ? &f->of_own[i] : &f->of_file[i], how >> 40);
}

void op_memfd(struct churn *c)
{
	struct files *f = &files[c->index];

	if (moves_see)
		moves_see(f->own, FILE_PAGES);
	for (int n = 0; n < 8; n++) {
		uint64_t how = rng_next(&c->rng), at = rng_next(&c->rng);

		memfd_one(c, f, at % FILE_PAGES, how);
	}
}
