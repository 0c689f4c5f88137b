/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of threads.
 *
 * When a thread ends the kernel clears its tid, which pthread_join() waits for, and
 * cannot wait for a fault: were the page with a device then, who joins would wait for
 * ever. The kernel says of each thread where its robust list is, which libc keeps beside
 * the tid. But a thread can begin and end between our asking and our taking the page;
 * some move their robust list; and where many end together not all are listed. So what
 * starts a thread is wrapped: the thread itself notes where its memory is, before
 * anything else, and that is not taken until it has ended.
 *
 * The worker says what it is about to take, then reads the notes; the thread writes its
 * note, then reads what is being taken. One of them sees the other. The thread waits
 * then, and touches its memory: what had been taken before comes back.
 *
 * Nobody says when a thread has ended. A note is used again when the kernel does not know
 * its thread any more, which those that start one look at, going round; so there are at
 * most four times as many as there were threads at the same time, or the first few.
 *
 * A thread made by clone() without libc is kept as the kernel lists it, and so is the
 * first one.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <threads.h>
#include <time.h>

#include "lib/host.h"
#include "lib/os/os.h"
#include "lib/os/sys.h"

struct note {
	uint32_t tid; /* atomic */
	uintptr_t at; /* atomic */
	union {
		void *(*posix)(void *);
		thrd_start_t c11;
	} fn;
	void *arg;
};

/*
 * pthread_self() of glibc is the address of its struct; the tid lies at 720 of its first
 * 1024 bytes, the head of the robust list behind it (2.28 to 2.41).
 */
#define AREA 1024u

#define TID_NONE 0u
#define TID_STARTING UINT32_MAX

/* Notes in the first block; each of the others has as many as all before it. */
#define FIRST 64u
#define BLOCKS 17u

static struct {
	struct note first[FIRST];
	struct note *block[BLOCKS]; /* atomic; [1..] */
	uint32_t next;              /* atomic: the note looked at next */
	bool any;                   /* atomic: there were notes */
	/* What is being taken; odd while it is. */
	uint32_t taking; /* futex */
	uint32_t waiting;
	uintptr_t start, end;
} threads __attribute__((section(".data")));

static struct {
	__typeof__(pthread_create) *pthread_create;
	__typeof__(thrd_create) *thrd_create;
} real __attribute__((section(".data")));

/* It is in the number of the clock of the thread's time, as the kernel has that. */
uint32_t preload_tid_of(pthread_t thread)
{
	clockid_t clock;

	return pthread_getcpuclockid(thread, &clock) ? 0 : (uint32_t) ~(clock >> 3);
}

/* ---- the notes -------------------------------------------------------------------- */

static uint32_t block_size(unsigned i)
{
	return i ? FIRST << (i - 1) : FIRST;
}

static struct note *block(unsigned i)
{
	return i ? __atomic_load_n(&threads.block[i], __ATOMIC_ACQUIRE) : threads.first;
}

static unsigned nr_blocks(void)
{
	unsigned n = 1;

	while (n < BLOCKS && block(n))
		n++;
	return n;
}

/* The note at i, of nr blocks' notes, counted round. */
static struct note *note_at(uint32_t i, unsigned nr)
{
	unsigned b = 0;

	i %= FIRST << (nr - 1);
	if (i >= FIRST)
		b = 32 - (unsigned)__builtin_clz(i / FIRST);
	return block(b) + (b ? i - block_size(b) : i);
}

/* Whether it was free, or its thread has ended. Then it is the caller's. */
static bool claim_note(struct note *note)
{
	uint32_t tid = __atomic_load_n(&note->tid, __ATOMIC_RELAXED);

	if (tid == TID_STARTING ||
	    (tid != TID_NONE && sys3(SYS_tgkill, os_pid(), tid, 0) != -ESRCH))
		return false;
	return __atomic_compare_exchange_n(&note->tid, &tid, TID_STARTING, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static bool add_block(unsigned i)
{
	size_t size = block_size(i) * sizeof(struct note);
	struct note *none = NULL, *notes;
	uint64_t signals;

	/* A handler may fork, and waits then for who is inside the allocator. */
	os_block_signals(&signals);
	notes = uhmm_host_map(size);
	if (notes && !__atomic_compare_exchange_n(&threads.block[i], &none, notes, false,
						  __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		uhmm_host_unmap(notes, size);
	os_restore_signals(&signals);
	return notes;
}

/* NULL: no memory, or more threads than any machine starts. */
static struct note *get_note(void)
{
	unsigned nr = nr_blocks(), i;

	for (;;) {
		/* Half of them in a row are of threads that live: there are too few. */
		for (i = 0; i < FIRST << (nr - 1) >> 1; i++) {
			uint32_t at = __atomic_fetch_add(&threads.next, 1,
							 __ATOMIC_RELAXED);
			struct note *note = note_at(at, nr);

			if (claim_note(note))
				return note;
		}
		if (nr == BLOCKS || !add_block(nr))
			return NULL;
		/* The first of the new ones. */
		__atomic_store_n(&threads.next, FIRST << (nr - 1), __ATOMIC_RELAXED);
		nr++;
	}
}

/* NULL: none is needed, or can be had. */
static struct note *new_note(void)
{
	return preload_path() ? get_note() : NULL;
}

static void put_note(struct note *note)
{
	__atomic_store_n(&note->tid, TID_NONE, __ATOMIC_RELEASE);
}

/* ---- the thread's side ------------------------------------------------------------ */

static bool is_taken(uintptr_t at, size_t len)
{
	return __atomic_load_n(&threads.start, __ATOMIC_RELAXED) < at + len &&
	       at < __atomic_load_n(&threads.end, __ATOMIC_RELAXED);
}

/*
 * Where the range that is read is not that of the number read before it, what that number
 * stood for is over, and who begins now sees the note.
 */
void threads_wait(uintptr_t at, size_t len)
{
	uint32_t taking = __atomic_load_n(&threads.taking, __ATOMIC_SEQ_CST);

	if (!(taking & 1) || !is_taken(at, len))
		return;
	__atomic_fetch_add(&threads.waiting, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&threads.taking, __ATOMIC_SEQ_CST) == taking)
		os_wait(&threads.taking, taking, INT64_C(10000000));
	__atomic_fetch_sub(&threads.waiting, 1, __ATOMIC_RELAXED);
}

/* By the thread itself, before all else. The note stays its own until it has ended. */
static void begin(struct note *note)
{
	/* pthread_self(), also where a handler has a thread pointer of its own. */
	const volatile char *mine = (void *)os_thread_copied();

	__atomic_store_n(&threads.any, true, __ATOMIC_RELAXED);
	__atomic_store_n(&note->at, (uintptr_t)mine, __ATOMIC_RELAXED);
	__atomic_store_n(&note->tid, preload_tid_of(pthread_self()), __ATOMIC_SEQ_CST);
	threads_wait(note->at, AREA);
	(void)mine[0];
	(void)mine[AREA - 1];
}

static void *begin_posix(void *arg)
{
	struct note *note = arg;
	void *(*fn)(void *) = note->fn.posix;

	arg = note->arg;
	begin(note);
	return fn(arg);
}

static int begin_c11(void *arg)
{
	struct note *note = arg;
	thrd_start_t fn = note->fn.c11;

	arg = note->arg;
	begin(note);
	return fn(arg);
}

/*
 * The dynamic linker's lock may be held in the forked child of a process with threads;
 * but to have them it came here.
 */
static void bind_real(void)
{
	if (IS_BOUND(pthread_create))
		return;
	BIND(thrd_create);
	BIND_LAST(pthread_create);
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*fn)(void *), void *arg)
{
	struct note *note = new_note();
	int r;

	bind_real();
	if (!note)
		return real.pthread_create(thread, attr, fn, arg);
	note->fn.posix = fn;
	note->arg = arg;
	r = real.pthread_create(thread, attr, begin_posix, note);
	if (r)
		put_note(note);
	return r;
}

EXPORT int thrd_create(thrd_t *thread, thrd_start_t fn, void *arg)
{
	struct note *note = new_note();
	int r;

	bind_real();
	if (!note)
		return real.thrd_create(thread, fn, arg);
	note->fn.c11 = fn;
	note->arg = arg;
	r = real.thrd_create(thread, begin_c11, note);
	if (r != thrd_success)
		put_note(note);
	return r;
}

bool threads_any(void)
{
	return __atomic_load_n(&threads.any, __ATOMIC_RELAXED);
}

/* Of the threads there were, the one that forked is left. */
void threads_after_fork(void)
{
	unsigned b, nr = nr_blocks();

	if (!threads.any)
		return;
	for (b = 0; b < nr; b++)
		memset(block(b), 0, block_size(b) * sizeof(struct note));
	threads.taking = threads.waiting = 0;
	begin(get_note());
}

/* ---- the worker's side ------------------------------------------------------------ */

void threads_hold(void *ctx, uintptr_t start, uintptr_t end,
		  void (*add)(void *to, uintptr_t addr, size_t len), void *to)
{
	unsigned b, nr;
	uint32_t i;

	(void)ctx;
	__atomic_store_n(&threads.start, start, __ATOMIC_RELAXED);
	__atomic_store_n(&threads.end, end, __ATOMIC_RELAXED);
	__atomic_fetch_add(&threads.taking, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&threads.any, __ATOMIC_RELAXED))
		return;
	for (b = 0, nr = nr_blocks(); b < nr; b++) {
		const struct note *note = block(b);

		for (i = 0; i < block_size(b); i++, note++) {
			uint32_t tid = __atomic_load_n(&note->tid, __ATOMIC_ACQUIRE);
			uintptr_t at = __atomic_load_n(&note->at, __ATOMIC_RELAXED);

			if (tid != TID_NONE && tid != TID_STARTING && at < end &&
			    start < at + AREA)
				add(to, at, AREA);
		}
	}
}

void threads_release(void *ctx)
{
	(void)ctx;
	__atomic_fetch_add(&threads.taking, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&threads.waiting, __ATOMIC_SEQ_CST))
		os_wake(&threads.taking, INT_MAX);
}
