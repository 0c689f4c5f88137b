/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the table of system calls is written: rows of pieces. Arguments count from 0.
 *
 *	CALL(read, OUT(1, LEN(2)))		argument 2 says how long argument 1 is
 *	CALL(poll, INOUT(0, 8 * UINT(1)))	so many of 8 bytes
 *	CALL(fcntl, BY(1, FCNTL))		as the table FCNTL says of argument 1
 *
 * IN is what the kernel reads, OUT and INOUT what it may write. A length is a number, or
 * a number times one of the counts below; LEN and its like mean bytes where they stand
 * alone. A count that is in memory must lie in what a piece before has named.
 */
#ifndef UHMM_GUARD_TABLE_H
#define UHMM_GUARD_TABLE_H

#include "preload/guard_call.h"

/* At most this many pieces of a call, and of one thing out of many that it does. */
#define CALL_PIECES 6

enum piece_kind {
	PIECE_NONE,
	PIECE_MEMORY,  /* from the argument on; at most 1 << `ptr`, if it is not 0 */
	PIECE_PAST,    /* from `ptr` bytes after it on */
	PIECE_AT,      /* where the pointer points that is `ptr` bytes after it */
	PIECE_STRING,  /* at most `size` bytes */
	PIECE_STRINGS, /* a vector of pointers that ends with NULL */
	PIECE_IOVEC,   /* at most 1 << `at` of them */
	PIECE_MSGHDR,
	PIECE_MMSGHDR,
	PIECE_IOCBS,
	PIECE_CLONE,
	PIECE_CLONE3,
	PIECE_WAITV,  /* futex_waitv's, and the words */
	PIECE_FUTEX2, /* the word, argument `by` has the flags */
	PIECE_IOCTL,
	PIECE_BY,     /* as table `at` says of the argument */
	PIECE_PARTLY, /* there is more that is not named */
};

enum piece_count {
	COUNT_ONE,
	COUNT_LONG,  /* argument `by` */
	COUNT_UINT,  /* its lower half */
	COUNT_INT,   /* the same; nothing where it is negative */
	COUNT_BITS,  /* bytes of so many bits, in whole longs */
	COUNT_FDS,   /* the same of an int */
	COUNT_PAGES, /* pages of so many bytes */
	/* What is `at` bytes after argument `by`. */
	COUNT_AT8,
	COUNT_AT16,
	COUNT_AT32,
	COUNT_AT_INT,
	COUNT_AT64,
};

struct call_piece {
	uint16_t size; /* bytes, each */
	uint16_t kind : 5;
	uint16_t count : 4;
	uint16_t arg : 3;
	uint16_t by : 3;
	uint16_t write : 1;
	uint8_t at;
	uint8_t ptr;
};

struct call_row {
	char name[24]; /* "": there is no such call */
	uint8_t class;
	struct call_piece piece[CALL_PIECES];
};

/* One of the things, from op to last, that a call does by what it is asked. */
struct call_op {
	uint32_t op, last;
	struct call_piece piece[CALL_PIECES];
};

/* ---- lengths and counts ------------------------------------------------------------ */

#define LEN(arg_) 1, .count = COUNT_LONG, .by = (arg_)
#define UINT(arg_) 1, .count = COUNT_UINT, .by = (arg_)
#define INT(arg_) 1, .count = COUNT_INT, .by = (arg_)
#define BITS(arg_) 1, .count = COUNT_BITS, .by = (arg_)
#define FDS(arg_) 1, .count = COUNT_FDS, .by = (arg_)
#define PAGES(arg_) 1, .count = COUNT_PAGES, .by = (arg_)
#define AT8(arg_, at_) 1, .count = COUNT_AT8, .by = (arg_), .at = (at_)
#define AT16(arg_, at_) 1, .count = COUNT_AT16, .by = (arg_), .at = (at_)
#define AT32(arg_, at_) 1, .count = COUNT_AT32, .by = (arg_), .at = (at_)
#define AT_INT(arg_, at_) 1, .count = COUNT_AT_INT, .by = (arg_), .at = (at_)
#define AT64(arg_, at_) 1, .count = COUNT_AT64, .by = (arg_), .at = (at_)
/* After a length: 2 to the power of this at most, whatever the program says. */
#define MOST(log2_) .ptr = (log2_)

/* ---- pieces ------------------------------------------------------------------------ */

/* The length comes last: it brings designators of its own. */
#define PIECE_(kind_, arg_, write_, ...)                                                 \
	{                                                                                \
		.kind = (kind_), .arg = (arg_), .write = (write_), .size = __VA_ARGS__   \
	}
#define IN(arg_, ...) PIECE_(PIECE_MEMORY, arg_, 0, __VA_ARGS__)
#define OUT(arg_, ...) PIECE_(PIECE_MEMORY, arg_, 1, __VA_ARGS__)
#define INOUT(arg_, ...) PIECE_(PIECE_MEMORY, arg_, 1, __VA_ARGS__)
/* What follows a structure. */
#define IN_PAST(arg_, ptr_, ...) PIECE_(PIECE_PAST, arg_, 0, __VA_ARGS__, .ptr = (ptr_))
#define OUT_PAST(arg_, ptr_, ...) PIECE_(PIECE_PAST, arg_, 1, __VA_ARGS__, .ptr = (ptr_))
/* What a structure points to. */
#define IN_AT(arg_, ptr_, ...) PIECE_(PIECE_AT, arg_, 0, __VA_ARGS__, .ptr = (ptr_))
#define OUT_AT(arg_, ptr_, ...) PIECE_(PIECE_AT, arg_, 1, __VA_ARGS__, .ptr = (ptr_))

/* A path, and no name is longer. */
#define STRING(arg_) PIECE_(PIECE_STRING, arg_, 0, 4096)
#define STRING_MAX(arg_, max_) PIECE_(PIECE_STRING, arg_, 0, max_)
#define STRINGS(arg_) PIECE_(PIECE_STRINGS, arg_, 0, 0)
#define IOVEC_IN(arg_, ...) PIECE_(PIECE_IOVEC, arg_, 0, __VA_ARGS__, .at = 10)
#define IOVEC_OUT(arg_, ...) PIECE_(PIECE_IOVEC, arg_, 1, __VA_ARGS__, .at = 10)
/* io_uring takes more of them. */
#define IOVEC_MANY(arg_, ...) PIECE_(PIECE_IOVEC, arg_, 1, __VA_ARGS__, .at = 14)
#define MSGHDR_IN(arg_) PIECE_(PIECE_MSGHDR, arg_, 0, 1)
#define MSGHDR_OUT(arg_) PIECE_(PIECE_MSGHDR, arg_, 1, 1)
#define MMSGHDR_IN(arg_, ...) PIECE_(PIECE_MMSGHDR, arg_, 0, __VA_ARGS__)
#define MMSGHDR_OUT(arg_, ...) PIECE_(PIECE_MMSGHDR, arg_, 1, __VA_ARGS__)
/*
 * An address of a socket. Its length is an int in memory, which says first how much room
 * there is.
 */
#define SOCKADDR(arg_, len_) INOUT(len_, 4), OUT(arg_, AT_INT(len_, 0), MOST(7))
/* A struct sock_fprog. */
#define FILTER(arg_) IN(arg_, 16), IN_AT(arg_, 8, 8 * AT16(arg_, 0))
/* What only the walker knows. */
#define OWN(kind_, arg_) PIECE_(PIECE_##kind_, arg_, 0, 1)
#define WAITV(arg_, ...) PIECE_(PIECE_WAITV, arg_, 0, __VA_ARGS__)
#define FUTEX2(arg_, flags_) PIECE_(PIECE_FUTEX2, arg_, 0, 1, .by = (flags_))

/* Of the argument, bits 0 to 15 as the mask says; 0xffff: all 32. */
#define BY_MASK(arg_, table_, mask_) PIECE_(PIECE_BY, arg_, 0, mask_, .at = OPS_##table_)
#define BY(arg_, table_) BY_MASK(arg_, table_, 0xffff)
/* Without its lowest bits. */
#define BY_SHIFT(arg_, table_, shift_)                                                   \
	PIECE_(PIECE_BY, arg_, 0, 0xffff, .at = OPS_##table_, .ptr = (shift_))
/* Of two, OP_PAIR(); what is not in the table does nothing more. */
#define BY_PAIR(high_, low_, table_)                                                     \
	PIECE_(PIECE_BY, low_, 0, 0xffff, .at = OPS_##table_, .by = (high_), .count = 1)
#define PARTLY                                                                           \
	{                                                                                \
		.kind = PIECE_PARTLY                                                     \
	}

/* ---- rows of what a call does by what it is asked ---------------------------------- */

#define OP(op_, ...)                                                                     \
	{                                                                                \
		.op = (op_), .last = (op_), .piece = { __VA_ARGS__ }                     \
	}
#define OPS(op_, last_, ...)                                                             \
	{                                                                                \
		.op = (op_), .last = (last_), .piece = { __VA_ARGS__ }                   \
	}
#define OP_PAIR(high_, low_, ...) OP((uint32_t)(high_) << 16 | (low_), __VA_ARGS__)

/* ---- the tables -------------------------------------------------------------------- */

enum call_table {
	OPS_NONE,
	OPS_ARCH_PRCTL,
	OPS_EPOLL_CTL,
	OPS_FCNTL,
	OPS_FSCONFIG,
	OPS_FUTEX,
	OPS_GETSOCKOPT,
	OPS_IOCTL,
	OPS_KCMP,
	OPS_KEYCTL,
	OPS_LANDLOCK,
	OPS_MODIFY_LDT,
	OPS_MSGCTL,
	OPS_PRCTL,
	OPS_PTRACE,
	OPS_QUOTACTL,
	OPS_SECCOMP,
	OPS_SEMCTL,
	OPS_SETSOCKOPT,
	OPS_SHMCTL,
	OPS_SYSFS,
	OPS_SYSLOG,
	OPS_URING_ENTER,
	OPS_URING_REGISTER,
	OPS_TABLES
};

/* NULL: there is no such call. */
const struct call_row *call_row(long nr);
/* The rows of a table; nr: how many. */
const struct call_op *call_ops(enum call_table table, size_t *nr);
const struct call_op *call_ioctl_ops(size_t *nr);

#endif
