/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_taken MIB WHO: a program that fills MIB, of which somebody else has what system
 * calls are guarded by. Prints "right" if all goes as it does without uhmm.
 *
 * dispatch: it has its system calls dispatched to a handler itself
 * dispatch-by-number: and has asked for that by syscall()
 * tracer: its parent traces it, and sees each of its signals
 * ring: the kernel uses memory for an io_uring, which is made when that is migrated; or
 *	cannot be: prints "no ring"
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif
#ifndef SYS_USER_DISPATCH
#define SYS_USER_DISPATCH 2
#endif

#define PAGE 4096

static unsigned char byte(size_t i)
{
	return (unsigned char)(i / PAGE * 7 + i);
}

static bool is_right(const unsigned char *memory, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (memory[i] != byte(i))
			return false;
	return true;
}

/* Twice, so that it goes out and comes back. */
static unsigned char *fill(size_t size)
{
	unsigned char *memory = malloc(size);

	for (size_t i = 0; memory && i < size; i++)
		memory[i] = byte(i);
	return memory && is_right(memory, size) && is_right(memory, size) ? memory : NULL;
}

static bool use(size_t size)
{
	unsigned char *memory = fill(size);

	free(memory);
	return memory;
}

/* ---- dispatch ---------------------------------------------------------------------- */

static volatile char selector; /* as the kernel has it: 0, calls are made */
static volatile int dispatched;

static void on_dispatch(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	selector = 0;
	if (info->si_code == SYS_USER_DISPATCH && info->si_syscall == SYS_getppid)
		dispatched++;
}

/* A call that is not made, as often as is asked for. */
static bool is_dispatched(int nr)
{
	dispatched = 0;
	for (int i = 0; i < nr; i++) {
		selector = 1;
		syscall(SYS_getppid);
		selector = 0;
	}
	return dispatched == nr;
}

static bool dispatches(size_t size, bool by_number)
{
	struct sigaction action = { .sa_sigaction = on_dispatch, .sa_flags = SA_SIGINFO };

	if (sigaction(SIGSYS, &action, NULL))
		return false;
	if (by_number ? syscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH,
				PR_SYS_DISPATCH_ON, 0, 0, &selector) :
			prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0,
			      &selector))
		return false;
	return is_dispatched(10) && use(size) && is_dispatched(10);
}

/* ---- tracer ------------------------------------------------------------------------ */

static bool trace(pid_t pid, bool *right)
{
	int status, sig;

	*right = true;
	while (waitpid(pid, &status, 0) == pid) {
		if (!WIFSTOPPED(status))
			return status == 0;
		sig = WSTOPSIG(status);
		*right = *right && sig == SIGSTOP;
		if (ptrace(PTRACE_CONT, pid, 0, sig == SIGSTOP ? 0 : sig))
			return false;
	}
	return false;
}

static bool is_traced(size_t size)
{
	pid_t pid = fork();
	bool right;

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
			_exit(1);
		_exit(!use(size));
	}
	return pid > 0 && trace(pid, &right) && right;
}

/* ---- ring -------------------------------------------------------------------------- */

struct ring {
	int fd;
	struct io_uring_params params;
	unsigned char *sq, *cq;
	struct io_uring_sqe *sqe;
};

static void *map(const struct ring *ring, size_t size, off_t at)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, at);
}

static bool ring_open(struct ring *ring)
{
	*ring = (struct ring){ 0 };
	ring->fd = (int)syscall(SYS_io_uring_setup, 1, &ring->params);
	if (ring->fd < 0)
		return false;
	ring->sq = map(ring, ring->params.sq_off.array + 4, IORING_OFF_SQ_RING);
	ring->cq = map(ring, ring->params.cq_off.cqes + 2 * sizeof(struct io_uring_cqe),
		       IORING_OFF_CQ_RING);
	ring->sqe = map(ring, sizeof(*ring->sqe), IORING_OFF_SQES);
	return ring->sq != MAP_FAILED && ring->cq != MAP_FAILED &&
	       ring->sqe != MAP_FAILED;
}

static unsigned *word(unsigned char *at, unsigned offset)
{
	return (unsigned *)(at + offset);
}

/* One call, and its result. */
static int ring_do(struct ring *ring, int op, int fd, const void *memory, unsigned len)
{
	unsigned *tail = word(ring->sq, ring->params.sq_off.tail);
	unsigned *head = word(ring->cq, ring->params.cq_off.head);
	const struct io_uring_cqe *cqe = (void *)(ring->cq + ring->params.cq_off.cqes);

	*ring->sqe = (struct io_uring_sqe){ .opcode = (unsigned char)op,
					    .fd = fd,
					    .addr = (uintptr_t)memory,
					    .len = len };
	*word(ring->sq, ring->params.sq_off.array) = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL,
		    0) != 1)
		return -errno;
	cqe += *head & (ring->params.cq_entries - 1);
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return cqe->res;
}

/* Pages from all over that memory go through a pipe, and others come back. */
static bool through(struct ring *ring, unsigned char *memory, size_t size)
{
	unsigned char *to = malloc(size / 16);
	size_t at = 0, done = 0;
	int fds[2];

	if (!to || pipe(fds))
		return false;
	for (; at + PAGE <= size && done + PAGE <= size / 16; at += (size_t)16 * PAGE) {
		if (ring_do(ring, IORING_OP_WRITE, fds[1], memory + at, PAGE) != PAGE ||
		    ring_do(ring, IORING_OP_READ, fds[0], to + done, PAGE) != PAGE ||
		    memcmp(to + done, memory + at, PAGE))
			return false;
		done += PAGE;
	}
	free(to);
	return done;
}

static const char *with_ring(size_t size)
{
	unsigned char *memory = fill(size);
	struct ring ring;
	bool right = memory;
	int i;

	if (memory && !ring_open(&ring))
		return errno == EPERM && is_right(memory, size) ? "no ring" : "WRONG";
	for (i = 0; right && i < 4; i++)
		right = is_right(memory, size) && through(&ring, memory, size) &&
			use(size / 8);
	return right ? "right" : "WRONG";
}

int main(int argc, char **argv)
{
	size_t size = strtoul(argc > 1 ? argv[1] : "64", NULL, 10) << 20;
	const char *who = argc > 2 ? argv[2] : "dispatch";
	const char *said;

	if (!strcmp(who, "ring"))
		said = with_ring(size);
	else if (!strcmp(who, "tracer"))
		said = is_traced(size) ? "right" : "WRONG";
	else
		said = dispatches(size, !strcmp(who, "dispatch-by-number")) ? "right" :
									      "WRONG";
	puts(said);
	return !strcmp(said, "WRONG");
}
