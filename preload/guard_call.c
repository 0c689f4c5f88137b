/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks what a row of the table says of a system call, down to what structures point to
 * where the kernel looks there; see guard_call.h.
 *
 * A structure is named before it is read. Each walk_...() returns false where it has been
 * told that it is enough, and true where something is not as the kernel would have it:
 * that the kernel will say.
 */
#include "preload/guard_call.h"

#include "preload/guard_table.h"

#include <linux/aio_abi.h>
#include <linux/ioctl.h>
#include <linux/sched.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* The kernel transfers no more at once: MAX_RW_COUNT. */
#define LEN_MAX UINT64_C(0x7ffff000)
/* Of an argument of a program: MAX_ARG_STRLEN. And of all together, pointers as well. */
#define ARG_LEN_MAX ((size_t)128 << 10)
#define ARGS_MAX (UINT64_C(6) << 20)
/* UIO_MAXIOV. */
#define IOVECS_MAX 1024u
/* So many the kernel sends at once. It might take more, as long as there are any. */
#define MESSAGES_MAX 1024u
/* fs.aio-max-nr, if nobody has changed it. */
#define IOCBS_MAX 65536u
/* FUTEX_WAITV_MAX, and what tells that a word has a node behind it. */
#define WAITERS_MAX 128u
#define WAITER_NUMA 4u
/* MAX_PID_NS_LEVEL. */
#define PIDS_MAX 32u
/* A signal's handler has not much stack. */
#define CHUNK 8u

/* An unknown argument is no address below, and one of so much above. */
#define GUESS_MIN UINT64_C(0x10000)
#define GUESS_LEN 4096u

struct waiter {
	uint64_t value, word;
	uint32_t flags, reserved;
};

/* Those of a struct clone_args that matter; newer kernels know more of it. */
struct process {
	uint64_t flags, pidfd, child_tid, parent_tid, signal, stack, stack_size, tls;
	uint64_t pids, nr_pids;
};

/* The kernel's: libc has lengths of other types in it. */
struct message {
	uint64_t name;
	int32_t name_len, pad;
	uint64_t iovec, nr_iovec, control, control_len;
	uint32_t flags, pad2;
};

struct many_message {
	struct message message;
	uint32_t len, pad;
};

static bool walk_memory(const struct call_walk *walk, uint64_t addr, uint64_t len,
			bool write)
{
	if (!addr || !len || addr >= CALL_USER_END)
		return true;
	if (len > LEN_MAX)
		len = LEN_MAX;
	if (len > CALL_USER_END - addr)
		len = CALL_USER_END - addr;
	return walk->memory(walk->ctx, addr, len, write);
}

static bool read_memory(const struct call_walk *walk, void *to, uint64_t from, size_t len)
{
	return from && from < CALL_USER_END && len <= CALL_USER_END - from &&
	       walk->read(walk->ctx, to, from, len);
}

/* Of a structure, which may not be there. */
static bool read_memory_at(const struct call_walk *walk, void *to, uint64_t addr,
			   unsigned at, size_t len)
{
	return addr && addr < CALL_USER_END && read_memory(walk, to, addr + at, len);
}

/* len, if it is asked for: with its zero; 0: none. */
static bool walk_string(const struct call_walk *walk, uint64_t addr, size_t max,
			size_t *len_)
{
	size_t len = 0;

	if (addr && addr < CALL_USER_END) {
		if (max > CALL_USER_END - addr)
			max = CALL_USER_END - addr;
		len = walk->string(walk->ctx, addr, max);
	}
	if (len_)
		*len_ = len;
	return walk_memory(walk, addr, len, false);
}

/* ---- arrays and structures that point on ------------------------------------------- */

/* Arguments or the environment of a program. */
static bool walk_strings(const struct call_walk *walk, uint64_t addr)
{
	uint64_t string, room = ARGS_MAX;
	size_t len;

	while (room >= sizeof(string)) {
		room -= sizeof(string);
		if (!walk_memory(walk, addr, sizeof(string), false))
			return false;
		if (!read_memory(walk, &string, addr, sizeof(string)) || !string)
			return true;
		if (!walk_string(walk, string, ARG_LEN_MAX, &len))
			return false;
		if (!len || len > room)
			return true;
		room -= len;
		addr += sizeof(string);
	}
	return true;
}

static bool walk_iovec(const struct call_walk *walk, uint64_t addr, uint64_t nr,
		       uint64_t max, bool write)
{
	struct iovec some[CHUNK];
	uint64_t left = LEN_MAX;
	size_t i, n;

	if (nr > max)
		return true;
	if (!walk_memory(walk, addr, nr * sizeof(*some), false))
		return false;
	for (; nr; nr -= n, addr += n * sizeof(*some)) {
		n = nr < CHUNK ? nr : CHUNK;
		if (!read_memory(walk, some, addr, n * sizeof(*some)))
			return true;
		for (i = 0; i < n; i++) {
			uint64_t len = some[i].iov_len;

			if ((int64_t)len < 0)
				return true;
			if (len > left)
				len = left;
			/* io_uring's are not one transfer. */
			if (max <= IOVECS_MAX)
				left -= len;
			if (!walk_memory(walk, (uintptr_t)some[i].iov_base, len, write))
				return false;
		}
	}
	return true;
}

/* What it points to. */
static bool walk_message(const struct call_walk *walk, const struct message *message,
			 bool write)
{
	size_t len = sizeof(struct sockaddr_storage);

	if (message->name_len < 0)
		return true;
	if ((size_t)message->name_len < len)
		len = (size_t)message->name_len;
	return walk_memory(walk, message->name, len, write) &&
	       walk_iovec(walk, message->iovec, message->nr_iovec, IOVECS_MAX, write) &&
	       walk_memory(walk, message->control, message->control_len, write);
}

static bool walk_msghdr(const struct call_walk *walk, uint64_t addr, bool write)
{
	struct message message;

	if (!walk_memory(walk, addr, sizeof(message), write))
		return false;
	return !read_memory(walk, &message, addr, sizeof(message)) ||
	       walk_message(walk, &message, write);
}

/* How long each was is written there also where they are sent. */
static bool walk_mmsghdr(const struct call_walk *walk, uint64_t addr, uint64_t nr,
			 bool write)
{
	struct message message;

	if (nr > MESSAGES_MAX)
		nr = MESSAGES_MAX;
	if (!walk_memory(walk, addr, nr * sizeof(struct many_message), true))
		return false;
	for (; nr; nr--, addr += sizeof(struct many_message)) {
		if (!read_memory(walk, &message, addr, sizeof(message)))
			return true;
		if (!walk_message(walk, &message, write))
			return false;
	}
	return true;
}

static bool walk_iocb(const struct call_walk *walk, uint64_t addr)
{
	struct iocb iocb;

	/* It gets a key. */
	if (!walk_memory(walk, addr, sizeof(iocb), true))
		return false;
	if (!read_memory(walk, &iocb, addr, sizeof(iocb)))
		return true;
	switch (iocb.aio_lio_opcode) {
	case IOCB_CMD_PREAD:
	case IOCB_CMD_PWRITE:
		return walk_memory(walk, iocb.aio_buf, iocb.aio_nbytes,
				   iocb.aio_lio_opcode == IOCB_CMD_PREAD);
	case IOCB_CMD_PREADV:
	case IOCB_CMD_PWRITEV:
		return walk_iovec(walk, iocb.aio_buf, (uint32_t)iocb.aio_nbytes,
				  IOVECS_MAX, iocb.aio_lio_opcode == IOCB_CMD_PREADV);
	default:
		return true;
	}
}

static bool walk_iocbs(const struct call_walk *walk, uint64_t addr, uint64_t nr)
{
	uint64_t iocb;

	if ((int64_t)nr < 0)
		return true;
	if (nr > IOCBS_MAX)
		nr = IOCBS_MAX;
	if (!walk_memory(walk, addr, nr * sizeof(iocb), false))
		return false;
	for (; nr; nr--, addr += sizeof(iocb)) {
		if (!read_memory(walk, &iocb, addr, sizeof(iocb)))
			return true;
		if (!walk_iocb(walk, iocb))
			return false;
	}
	return true;
}

/* The kernel looks for a node itself where none is given, and says which. */
static bool walk_word(const struct call_walk *walk, uint64_t addr, uint32_t flags)
{
	bool numa = flags & WAITER_NUMA;

	return walk_memory(walk, addr, numa ? 8 : 4, numa);
}

static bool walk_waiters(const struct call_walk *walk, uint64_t addr, uint64_t nr)
{
	struct waiter waiter;

	if (nr > WAITERS_MAX)
		return true;
	if (!walk_memory(walk, addr, nr * sizeof(waiter), false))
		return false;
	for (; nr; nr--, addr += sizeof(waiter)) {
		if (!read_memory(walk, &waiter, addr, sizeof(waiter)))
			return true;
		if (!walk_word(walk, waiter.word, waiter.flags))
			return false;
	}
	return true;
}

/* ---- clone(), clone3() ------------------------------------------------------------- */

/* Whether it is an address that is there depends on the flags. */
static bool walk_tids(const struct call_walk *walk, uint64_t flags, uint64_t parent_tid,
		      uint64_t child_tid)
{
	if (flags & CLONE_PARENT_SETTID && !walk_memory(walk, parent_tid, 4, true))
		return false;
	return !(flags & (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID)) ||
	       walk_memory(walk, child_tid, 4, true);
}

static bool walk_clone(const struct call_walk *walk, const uint64_t *arg)
{
#ifdef __x86_64__
	uint64_t child_tid = arg[3];
#else
	uint64_t child_tid = arg[4];
#endif
	uint64_t flags = arg[0];

	/* Where the pidfd goes there is none for the tid. */
	if (flags & CLONE_PIDFD)
		flags |= CLONE_PARENT_SETTID;
	return walk_tids(walk, flags, arg[2], child_tid);
}

static bool walk_clone3(const struct call_walk *walk, uint64_t addr, uint64_t size)
{
	struct process process = { .flags = 0 };

	if (!walk_memory(walk, addr, size, false))
		return false;
	if (size < CLONE_ARGS_SIZE_VER0)
		return true;
	if (size > sizeof(process))
		size = sizeof(process);
	if (!read_memory(walk, &process, addr, size))
		return true;
	if (process.flags & CLONE_PIDFD && !walk_memory(walk, process.pidfd, 4, true))
		return false;
	if (process.nr_pids <= PIDS_MAX &&
	    !walk_memory(walk, process.pids, process.nr_pids * 4, false))
		return false;
	return walk_tids(walk, process.flags, process.parent_tid, process.child_tid);
}

/* ---- pieces ------------------------------------------------------------------------ */

/* false: it cannot be read, or is less than none. */
static bool count_of(const struct call_walk *walk, const uint64_t *arg,
		     const struct call_piece *piece, uint64_t *count)
{
	static const uint8_t width[] = {
		[COUNT_AT8] = 1,    [COUNT_AT16] = 2, [COUNT_AT32] = 4,
		[COUNT_AT_INT] = 4, [COUNT_AT64] = 8,
	};
	uint64_t n = arg[piece->by];

	if (piece->count >= COUNT_AT8) {
		uint64_t from = n;

		n = 0;
		/* What is lower comes first. */
		if (!read_memory_at(walk, &n, from, piece->at, width[piece->count]))
			return false;
	}
	switch ((enum piece_count)piece->count) {
	case COUNT_ONE:
		n = 1;
		break;
	case COUNT_UINT:
		n = (uint32_t)n;
		break;
	case COUNT_INT:
	case COUNT_AT_INT:
		if ((int32_t)n < 0)
			return false;
		n = (uint32_t)n;
		break;
	case COUNT_FDS:
		if ((int32_t)n < 0)
			return false;
		n = ((uint32_t)n + UINT64_C(63)) / 64 * 8;
		break;
	case COUNT_BITS:
		n = n / 64 * 8 + (n % 64 ? 8 : 0);
		break;
	case COUNT_PAGES:
		n = n / 4096 + (n % 4096 != 0);
		break;
	default:
		break;
	}
	*count = n;
	return true;
}

static uint64_t multiply(uint64_t count, uint64_t size)
{
	return size && count > LEN_MAX / size ? LEN_MAX : count * size;
}

/* NULL: the table does not have it. */
static const struct call_op *find_op(const struct call_piece *piece, const uint64_t *arg)
{
	uint32_t op = (uint32_t)arg[piece->arg];
	const struct call_op *ops;
	size_t i, nr;

	if (piece->count)
		op = (uint32_t)arg[piece->by] << 16 | (op & 0xffff);
	else if (piece->size != UINT16_MAX)
		op &= piece->size;
	op >>= piece->ptr;
	ops = call_ops((enum call_table)piece->at, &nr);
	for (i = 0; i < nr; i++)
		if (op >= ops[i].op && op <= ops[i].last)
			return &ops[i];
	return NULL;
}

static const struct call_piece any_ioctl = BY(1, IOCTL);

/* An argument that may be an address. */
static bool walk_guess(const struct call_walk *walk, uint64_t addr)
{
	return addr < GUESS_MIN || walk_memory(walk, addr, GUESS_LEN, true);
}

static bool walk_guesses(const struct call_walk *walk, const uint64_t *arg)
{
	int i;

	for (i = 0; i < 6; i++)
		if (!walk_guess(walk, arg[i]))
			return false;
	return true;
}

static bool walk_pieces(const struct call_walk *walk, const uint64_t *arg,
			const struct call_piece *piece);

static bool ioctl_says_size(uint32_t request)
{
	return _IOC_DIR(request) != _IOC_NONE && _IOC_SIZE(request);
}

static bool walk_ioctl(const struct call_walk *walk, const uint64_t *arg)
{
	const struct call_op *op = find_op(&any_ioctl, arg);
	uint32_t request = (uint32_t)arg[1];

	if (op)
		return walk_pieces(walk, arg, op->piece);
	if (!ioctl_says_size(request))
		return walk_guess(walk, arg[2]);
	return walk_memory(walk, arg[2], _IOC_SIZE(request),
			   _IOC_DIR(request) & _IOC_READ);
}

static bool walk_by(const struct call_walk *walk, const uint64_t *arg,
		    const struct call_piece *piece)
{
	const struct call_op *op = find_op(piece, arg);

	if (op)
		return walk_pieces(walk, arg, op->piece);
	return piece->count ? true : walk_guesses(walk, arg);
}

static bool walk_piece(const struct call_walk *walk, const uint64_t *arg,
		       const struct call_piece *piece)
{
	uint64_t addr = arg[piece->arg], count = 0, pointer;

	switch ((enum piece_kind)piece->kind) {
	case PIECE_STRING:
		return walk_string(walk, addr, piece->size, NULL);
	case PIECE_STRINGS:
		return walk_strings(walk, addr);
	case PIECE_MSGHDR:
		return walk_msghdr(walk, addr, piece->write);
	case PIECE_IOCBS:
		return walk_iocbs(walk, addr, arg[1]);
	case PIECE_CLONE:
		return walk_clone(walk, arg);
	case PIECE_CLONE3:
		return walk_clone3(walk, addr, arg[1]);
	case PIECE_FUTEX2:
		return walk_word(walk, addr, (uint32_t)arg[piece->by]);
	case PIECE_IOCTL:
		return walk_ioctl(walk, arg);
	case PIECE_BY:
		return walk_by(walk, arg, piece);
	case PIECE_NONE:
	case PIECE_PARTLY:
		return true;
	default:
		break;
	}
	/* These have a length. */
	if (!count_of(walk, arg, piece, &count))
		return true;
	count = multiply(count, piece->size);
	switch ((enum piece_kind)piece->kind) {
	case PIECE_IOVEC:
		return walk_iovec(walk, addr, count, UINT64_C(1) << piece->at,
				  piece->write);
	case PIECE_MMSGHDR:
		return walk_mmsghdr(walk, addr, count, piece->write);
	case PIECE_WAITV:
		return walk_waiters(walk, addr, count);
	case PIECE_PAST:
		if (!addr || addr >= CALL_USER_END)
			return true;
		addr += piece->ptr;
		break;
	case PIECE_AT:
		if (!read_memory_at(walk, &pointer, addr, piece->ptr, sizeof(pointer)))
			return true;
		addr = pointer;
		break;
	default:
		/* The kernel does not go beyond, or would refuse it. */
		if (piece->ptr && count > UINT64_C(1) << piece->ptr)
			count = UINT64_C(1) << piece->ptr;
		break;
	}
	return walk_memory(walk, addr, count, piece->write);
}

static bool walk_pieces(const struct call_walk *walk, const uint64_t *arg,
			const struct call_piece *piece)
{
	int i;

	for (i = 0; i < CALL_PIECES; i++)
		if (!walk_piece(walk, arg, &piece[i]))
			return false;
	return true;
}

/* ---- what others ask --------------------------------------------------------------- */

enum call_class call_class(long nr)
{
	const struct call_row *row = call_row(nr);

	return row ? (enum call_class)row->class : CALL_UNKNOWN;
}

const char *call_name(long nr)
{
	const struct call_row *row = call_row(nr);

	return row ? row->name : NULL;
}

static bool has_partly(const struct call_piece *piece)
{
	int i;

	for (i = 0; i < CALL_PIECES; i++)
		if (piece[i].kind == PIECE_PARTLY)
			return true;
	return false;
}

/* Whether it is one of the things that a call can do. */
static bool can_be_partly(const struct call_piece *piece)
{
	const struct call_op *ops;
	size_t nr, i;

	if (piece->kind == PIECE_IOCTL)
		return true;
	if (piece->kind != PIECE_BY)
		return false;
	ops = call_ops((enum call_table)piece->at, &nr);
	for (i = 0; i < nr; i++)
		if (has_partly(ops[i].piece))
			return true;
	return false;
}

bool call_is_partly(long nr)
{
	const struct call_row *row = call_row(nr);
	int i;

	if (!row || has_partly(row->piece))
		return true;
	for (i = 0; i < CALL_PIECES; i++)
		if (can_be_partly(&row->piece[i]))
			return true;
	return false;
}

bool call_is_known(long nr, const uint64_t arg[6])
{
	const struct call_row *row = call_row(nr);
	int i;

	if (!row)
		return false;
	for (i = 0; i < CALL_PIECES; i++) {
		const struct call_piece *piece = &row->piece[i];

		if (piece->kind == PIECE_IOCTL)
			return ioctl_says_size((uint32_t)arg[1]) ||
			       find_op(&any_ioctl, arg);
		if (piece->kind == PIECE_BY && !piece->count)
			return find_op(piece, arg);
	}
	return true;
}

bool call_memory(long nr, const uint64_t arg[6], const struct call_walk *walk)
{
	const struct call_row *row = call_row(nr);

	return row ? walk_pieces(walk, arg, row->piece) : walk_guesses(walk, arg);
}
