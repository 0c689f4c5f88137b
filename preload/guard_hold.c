/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a call will touch is held, and brought.
 *
 * A piece of memory is published in the task first; then it is waited for whoever may
 * have looked before and takes something there (hooks->wait()); then each page is
 * touched. What had been taken comes back by that, and nobody takes it again while the
 * call is under way.
 *
 * A call that names more pieces than a task has room for holds all that lies between the
 * last of them, which is more than it needs.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "lib/os/uapi.h"
#include "lib/types.h"
#include "preload/guard.h"
#include "preload/guard_arch.h"
#include "preload/guard_call.h"

/* Below are numbers rather than addresses. */
#define FOLLOW_FROM UINT64_C(65536)
/* Of a piece that an argument names, so much is looked through for addresses. */
#define FOLLOW_MAX PAGE_SIZE

static void publish(struct guard_task *task, uintptr_t start, uintptr_t end)
{
	uint32_t nr = task->nr_pieces;
	struct range *last = &task->piece[HOLD_PIECES - 1];

	if (nr && start >= task->piece[nr - 1].start && end <= task->piece[nr - 1].end)
		return;
	if (nr < HOLD_PIECES) {
		task->piece[nr] = (struct range){ start, end };
		__atomic_store_n(&task->nr_pieces, nr + 1, __ATOMIC_RELEASE);
		return;
	}
	if (start < last->start)
		__atomic_store_n(&last->start, start, __ATOMIC_RELAXED);
	if (end > last->end)
		__atomic_store_n(&last->end, end, __ATOMIC_RELAXED);
}

static struct range pages_of(uintptr_t addr, size_t len)
{
	return (struct range){ addr & ~(PAGE_SIZE - 1),
			       (addr + len + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1) };
}

/* Published before. What cannot be touched is left to the kernel, which says so. */
static bool bring(const struct range *pages)
{
	uintptr_t at;

	/* Pairs with who begins to take: one of the two sees the other. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	guard_wait(pages->start, pages->end - pages->start);
	for (at = pages->start; at < pages->end; at += PAGE_SIZE)
		if (!guard_peek(at))
			return false;
	return true;
}

static bool memory(void *ctx, uintptr_t addr, size_t len, bool write)
{
	struct range pages = pages_of(addr, len);

	(void)write;
	publish(ctx, pages.start, pages.end);
	if (!bring(&pages))
		((struct guard_task *)ctx)->is_bad = true;
	return true;
}

void hold_note(struct guard_task *task, enum guard_kept what, uintptr_t addr, size_t len)
{
	struct range pages = pages_of(addr, len);

	if (!addr)
		pages.end = 0;
	__atomic_store_n(&task->kept[what].end, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&task->kept[what].start, pages.start, __ATOMIC_RELEASE);
	__atomic_store_n(&task->kept[what].end, pages.end, __ATOMIC_RELEASE);
}

void hold_keep(struct guard_task *task, enum guard_kept what, uintptr_t addr, size_t len)
{
	struct range pages = pages_of(addr, len);

	hold_note(task, what, addr, len);
	if (addr)
		bring(&pages);
}

static bool read_memory(void *ctx, void *to, uintptr_t from, size_t len)
{
	(void)ctx;
	return !guard_copy(to, (const void *)from, len);
}

/* By blocks that lie in one page each. */
#define STRING_BLOCK 64u

static size_t string(void *ctx, uintptr_t addr, size_t max)
{
	char block[STRING_BLOCK];
	size_t done = 0, n;
	const char *zero;

	(void)ctx;
	while (done < max) {
		n = STRING_BLOCK - ((addr + done) & (STRING_BLOCK - 1));
		n = n < max - done ? n : max - done;
		if (guard_copy(block, (const void *)(addr + done), n))
			return 0;
		zero = memchr(block, 0, n);
		if (zero)
			return done + (size_t)(zero - block) + 1;
		done += n;
	}
	return max;
}

/* What a call touches that is not its arguments' in the table. */
static void call_more(struct guard_task *task, long nr, const uint64_t arg[6],
		      const struct call_walk *walk)
{
	const uint64_t remote[6] = { 0, arg[3], arg[4] };

	switch (nr) {
	case SYS_process_vm_readv:
	case SYS_process_vm_writev:
		/* What another process has is not ours to hold. */
		if (arg[0] == os_pid())
			call_memory(SYS_writev, remote, walk);
		break;
	case SYS_madvise:
		if (arg[2] != MADV_POPULATE_READ && arg[2] != MADV_POPULATE_WRITE)
			break;
		/* fallthrough */
	case SYS_mlock:
#ifdef SYS_mlock2
	case SYS_mlock2:
#endif
		/* The kernel has it filled, and fails where it is not. */
		if (arg[0] < CALL_USER_END && arg[1] && arg[1] < CALL_USER_END - arg[0])
			memory(task, arg[0], arg[1], true);
		break;
	default:
		break;
	}
}

/*
 * The number of what is held from now on. Not what is read back: outside of a handler of
 * ours, one of the program's may have held something since.
 */
static uint32_t begin(struct guard_task *task)
{
	uint32_t hold = task->hold + 1;

	__atomic_store_n(&task->hold, hold, __ATOMIC_RELAXED);
	__atomic_store_n(&task->nr_pieces, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&task->busy, 1, __ATOMIC_RELEASE);
	task->is_bad = false;
	return hold;
}

uint32_t hold_call(struct guard_task *task, long nr, const uint64_t arg[6])
{
	const struct call_walk walk = {
		.ctx = task, .memory = memory, .read = read_memory, .string = string
	};
	uint32_t hold = begin(task);
	uint64_t some[6];

	/* Whoever says that there is room for all that comes: no more does at a time. */
	if (nr == SYS_recvfrom && arg[2] > GUARD_WINDOW && !(arg[3] & MSG_WAITALL)) {
		memcpy(some, arg, sizeof(some));
		some[2] = GUARD_WINDOW;
		arg = some;
	}
	call_memory(nr, arg, &walk);
	call_more(task, nr, arg, &walk);
	return hold;
}

void hold_piece(struct guard_task *task, uintptr_t addr, size_t len)
{
	begin(task);
	memory(task, addr, len, true);
}

uint32_t hold_memory(struct guard_task *task, uintptr_t addr, size_t len)
{
	uint32_t hold = begin(task);

	if (addr && len && len < CALL_USER_END - addr)
		memory(task, addr, len, true);
	return hold;
}

/* Where a word might lead, if it is an address. */
static void follow(struct guard_task *task, uint64_t word)
{
	struct range page = pages_of(word, 1);

	if (word < FOLLOW_FROM || word >= CALL_USER_END)
		return;
	publish(task, page.start, page.end);
	bring(&page);
}

static void follow_all(struct guard_task *task, const struct range *piece)
{
	uint64_t word[64];
	uintptr_t at;
	size_t i;

	for (at = piece->start; at < piece->end && at < piece->start + FOLLOW_MAX;
	     at += sizeof(word)) {
		if (guard_copy(word, (const void *)at, sizeof(word)))
			return;
		for (i = 0; i < sizeof(word) / sizeof(word[0]); i++)
			follow(task, word[i]);
	}
}

bool hold_more(struct guard_task *task, long nr, const uint64_t arg[6])
{
	struct range piece[HOLD_PIECES];
	uint32_t i, n;

	hold_call(task, nr, arg);
	if (task->is_bad)
		return false;
	n = task->nr_pieces;
	memcpy(piece, task->piece, n * sizeof(piece[0]));
	for (i = 0; i < 6; i++)
		follow(task, arg[i]);
	for (i = 0; i < n; i++)
		follow_all(task, &piece[i]);
	return true;
}

void hold_end(struct guard_task *task)
{
	__atomic_store_n(&task->busy, 0, __ATOMIC_RELEASE);
}

static void list(const struct range *held, const struct range *within,
		 void (*add)(void *to, uintptr_t addr, size_t len), void *to)
{
	uintptr_t end = __atomic_load_n(&held->end, __ATOMIC_ACQUIRE);
	uintptr_t start = __atomic_load_n(&held->start, __ATOMIC_RELAXED);

	start = start > within->start ? start : within->start;
	end = end < within->end ? end : within->end;
	if (start < end)
		add(to, start, end - start);
}

void hold_list(const struct guard_task *task, uintptr_t start, uintptr_t end,
	       void (*add)(void *to, uintptr_t addr, size_t len), void *to)
{
	struct range within = { start, end };
	uint32_t i, nr;

	for (i = 0; i < KEPT_NR; i++)
		list(&task->kept[i], &within, add, to);
	if (!__atomic_load_n(&task->busy, __ATOMIC_ACQUIRE))
		return;
	nr = __atomic_load_n(&task->nr_pieces, __ATOMIC_ACQUIRE);
	for (i = 0; i < nr; i++)
		list(&task->piece[i], &within, add, to);
}
