/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads that are under way at the same time, by io_uring.
 *
 * A ring is used by one thread at a time, which submits and waits in one system call. All
 * are made when the first file is opened: later a descriptor would appear in a table
 * that the program uses (os_linux_files.c). Writes do without: what would have to wait
 * for a block of the file system is given to a thread of the kernel's, and the program
 * would see that among its own.
 *
 * What a forked child has of a ring is the parent's, the memory of it even shared. So
 * that memory is not mapped in a child, and what we know of the rings is wiped there
 * (os_wipe_on_fork()), however it was made; only their numbers are left, to be closed.
 */
#include <errno.h>
#include <liburing.h>

#include "lib/os/os.h"
#include "lib/os/os_linux.h"
#include "lib/os/os_linux_ring.h"
#include "uhmm/device.h"

/* That many threads read several pages at the same time; others, one after the other. */
#define RINGS 4u

struct ring {
	struct uhmm_lock lock;
	bool works;
	struct io_uring io;
} __attribute__((aligned(64)));

/* Memory that a child has wiped; NULL: not yet made. */
static struct ring *rings __attribute__((section(".data")));
/* Descriptors, and whether there are any. */
static int ring_fd[RINGS] __attribute__((section(".data")));
static bool opened __attribute__((section(".data")));

static int ring_open(struct ring *ring)
{
	int r = io_uring_queue_init(OS_READS_MAX, &ring->io, 0);

	if (r)
		return r;
	r = io_uring_ring_dontfork(&ring->io);
	if (r) {
		io_uring_queue_exit(&ring->io);
		return r;
	}
	ring->io.ring_fd = ring->io.enter_ring_fd = os_linux_own(ring->io.ring_fd);
	return 0;
}

void os_linux_rings_open(void)
{
	unsigned i;

	if (!rings) {
		rings = os_reserve(RINGS * sizeof(*rings));
		if (rings && os_commit(rings, RINGS * sizeof(*rings))) {
			os_release(rings, RINGS * sizeof(*rings));
			rings = NULL;
		}
		if (!rings)
			return;
		os_wipe_on_fork(rings, RINGS * sizeof(*rings));
	}
	if (opened)
		return;
	opened = true;
	for (i = 0; i < RINGS; i++) {
		ring_fd[i] = -1;
		if (ring_open(&rings[i]))
			continue;
		ring_fd[i] = rings[i].io.ring_fd;
		__atomic_store_n(&rings[i].works, true, __ATOMIC_RELEASE);
	}
}

void os_files_forget(bool inherited)
{
	unsigned i;

	for (i = 0; opened && i < RINGS; i++)
		if (inherited && ring_fd[i] >= 0)
			os_close(ring_fd[i]);
	opened = false;
}

void os_files_after_fork(bool inherited)
{
	bool were = opened;

	os_files_forget(inherited);
	if (were)
		os_linux_rings_open();
}

/* ---- reading --------------------------------------------------------------------- */

static struct ring *ring_take(void)
{
	uint32_t cpu = os_cpu(), i;

	for (i = 0; rings && i < RINGS; i++) {
		struct ring *ring = &rings[(cpu + i) % RINGS];

		if (__atomic_load_n(&ring->works, __ATOMIC_ACQUIRE) &&
		    uhmm_trylock(&ring->lock))
			return ring;
	}
	return NULL;
}

static void ask_for(struct ring *ring, int fd, struct uhmm_file_read *read)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->io);

	io_uring_prep_readv(sqe, fd, (const struct iovec *)read->part, read->nr,
			    read->offset);
	io_uring_sqe_set_data(sqe, read);
}

static int64_t length(const struct uhmm_file_read *read)
{
	int64_t len = 0;
	unsigned i;

	for (i = 0; i < read->nr; i++)
		len += (int64_t)read->part[i].len;
	return len;
}

/* What came of those that are done. How many. */
static unsigned reap(struct ring *ring)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&ring->io, head, cqe)
	{
		struct uhmm_file_read *read = io_uring_cqe_get_data(cqe);

		read->result = cqe->res < 0             ? cqe->res :
			       cqe->res == length(read) ? 0 :
							  -EIO;
		n++;
	}
	io_uring_cq_advance(&ring->io, n);
	return n;
}

/*
 * The kernel takes nothing any more: the program has closed the ring. What was taken
 * before that comes all the same.
 */
static void give_up(struct ring *ring, unsigned in_flight)
{
	__atomic_store_n(&ring->works, false, __ATOMIC_RELAXED);
	in_flight -= io_uring_sq_ready(&ring->io);
	while (in_flight) {
		os_yield();
		in_flight -= reap(ring);
	}
}

/* Not a result: nobody has read that. */
#define UNREAD INT32_MIN

static void read_all(struct ring *ring, int fd, struct uhmm_file_read *read, unsigned nr,
		     unsigned depth)
{
	unsigned asked = 0, done = 0;
	int r;

	while (done < nr) {
		for (; asked < nr && asked - done < depth; asked++)
			ask_for(ring, fd, &read[asked]);
		r = io_uring_submit_and_wait(&ring->io, 1);
		if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
			give_up(ring, asked - done);
			return;
		}
		done += reap(ring);
	}
}

bool os_linux_ring_read(int fd, struct uhmm_file_read *read, unsigned nr, unsigned depth)
{
	struct ring *ring = ring_take();
	unsigned i;

	if (!ring)
		return false;
	for (i = 0; i < nr; i++)
		read[i].result = UNREAD;
	read_all(ring, fd, read, nr, depth < OS_READS_MAX ? depth : OS_READS_MAX);
	uhmm_unlock(&ring->lock);
	/* What does not go so may go by itself. */
	for (i = 0; i < nr; i++)
		if (read[i].result)
			os_linux_file_read(fd, &read[i]);
	return true;
}
