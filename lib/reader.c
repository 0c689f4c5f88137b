/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader. It waits without the gate, closes it, reads and applies, opens it, and only
 * then resolves the faults that came along: so no thread isolates or fills pages between
 * the moment an event was read (when the program goes on) and the moment it was applied.
 *
 * A thread that faults hard raises its next fault some microseconds after the last one
 * was resolved. To sleep in between costs two switches through the scheduler, or waking
 * an idle CPU twice. So after a fault the reader first *lingers*: it gives way to whoever
 * wants the CPU, and looks again. docs/fault-path.md has what that is worth.
 *
 * Where the reader shares the thread's processor (lib/placement.h) there is no need for
 * any of it: when it comes to run the thread sleeps, or has gone elsewhere. So it reads
 * without asking first whether there is something to read; and it isolates pages if the
 * worker asks for that.
 *
 * A reader that cannot read ends the process: without it missing pages would be zeros.
 */
#include "lib/reader.h"

#include <errno.h>

#include "lib/budget.h"
#include "lib/event.h"
#include "lib/fault.h"
#include "lib/fork.h"
#include "lib/migrate.h"
#include "lib/placement.h"
#include "lib/recall.h"
#include "lib/reclaim.h"

/* Looks, each about a microsecond where nobody else wants the CPU. */
#define LINGER_LOOKS 32
/* If giving way took so long somebody computes. Then sleep: who is woken goes first. */
#define LINGER_LONG_NS UINT64_C(100000)
/* Faults after which lingering is not tried again when it was in vain again and again. */
#define LINGER_SKIP_MAX 64u

/* Lowered: reads without a look at the kicker; and such in vain, before it sleeps. */
#define READS_UNASKED 16u
#define READS_IN_VAIN 2u

/* For as long it may have lost its processor to who made the child. */
#define READ_NS INT64_C(20000000)

/* Nobody wakes who waits for it to finish. */
#define FINISH_NS INT64_C(100000)

struct linger {
	bool worth;              /* what was read last was a fault */
	unsigned skip;           /* times not to try */
	unsigned vain;           /* times not to try next time it is in vain */
	unsigned unasked, empty; /* lowered: reads; and those that found nothing */
};

void reader_kick(struct uhmm_space *sp)
{
	os_kick(sp->kicker);
}

bool reader_fills(struct uhmm_space *sp)
{
	uint32_t serving = __atomic_load_n(&sp->serving, __ATOMIC_SEQ_CST);
	uint64_t until = serving & 1 ? os_now_ns() + READ_NS : 0;

	while (serving & 1 && !__atomic_load_n(&sp->filling, __ATOMIC_RELAXED)) {
		if (os_now_ns() > until)
			return false;
		serving = __atomic_load_n(&sp->serving, __ATOMIC_ACQUIRE);
	}
	return serving & 1;
}

void reader_finish(struct uhmm_space *sp)
{
	uint32_t serving = __atomic_load_n(&sp->serving, __ATOMIC_SEQ_CST);

	while (serving & 1 && __atomic_load_n(&sp->serving, __ATOMIC_ACQUIRE) == serving)
		os_wait(&sp->serving, serving, FINISH_NS);
}

static void serve(struct uhmm_space *sp)
{
	struct fault_buf buf = { .bytes = sp->reader_buf, .nr_pages = UHMM_BATCH_MAX };
	uint32_t i;

	__atomic_fetch_add(&sp->serving, 1, __ATOMIC_SEQ_CST);
	if (event_read_and_apply(sp) < 0)
		os_die("the userfaultfd cannot be read any more");
	for (i = 0; i < sp->batch->nr_faults; i++)
		fault_deliver(sp, &sp->batch->fault[i], &buf);
	placement_answered(sp);
	__atomic_store_n(&sp->filling, false, __ATOMIC_RELAXED);
	__atomic_fetch_add(&sp->serving, 1, __ATOMIC_RELEASE);
	budget_watch(sp);
}

void reader_drain(struct uhmm_space *sp)
{
	while (event_unread(sp)) {
		serve(sp);
		os_yield();
	}
}

/* Which of fds can be read, 0 if it is time to sleep. */
static int linger(struct linger *l, const int *fds)
{
	uint64_t before, after = os_now_ns();
	unsigned i;
	int ready;

	if (!l->worth)
		return 0;
	l->worth = false;
	if (l->skip) {
		l->skip--;
		return 0;
	}
	for (i = 0; i < LINGER_LOOKS; i++) {
		before = after;
		os_yield();
		ready = os_wait_fds(fds, 2, 0);
		if (ready) {
			l->vain = 1;
			return ready;
		}
		after = os_now_ns();
		if (after - before > LINGER_LONG_NS)
			break;
	}
	l->skip = l->vain;
	l->vain = l->vain < LINGER_SKIP_MAX / 2 ? l->vain * 2 : LINGER_SKIP_MAX;
	return 0;
}

/* The same of one that is lowered: the first is read without asking. */
static int linger_low(struct uhmm_space *sp, struct linger *l, const int *fds)
{
	reclaim_read(sp);
	l->empty = l->worth ? 0 : l->empty + 1;
	if (++l->unasked % READS_UNASKED == 0)
		return os_wait_fds(fds, 2, 0);
	if (l->empty < READS_IN_VAIN) {
		if (l->empty)
			os_yield();
		return 1;
	}
	if (l->empty == READS_IN_VAIN)
		placement_missed(sp);
	return 0;
}

static int sleep_until_ready(struct uhmm_space *sp, const int *fds)
{
	bool *asleep = &sp->placement.asleep;
	int ready;

	__atomic_store_n(asleep, true, __ATOMIC_RELAXED);
	ready = os_wait_fds(fds, 2, -1);
	__atomic_store_n(asleep, false, __ATOMIC_RELAXED);
	return ready;
}

/* Which of fds can be read, or may be; waits for that. */
static int wait_for_work(struct uhmm_space *sp, struct linger *l, const int *fds)
{
	bool low = placement_is_low(sp);
	int ready;

	placement_beat(sp);
	ready = low ? linger_low(sp, l, fds) : linger(l, fds);
	return ready ? ready : sleep_until_ready(sp, fds);
}

void reader_main(void *arg)
{
	struct uhmm_space *sp = arg;
	int fds[2] = { sp->uffd, sp->kicker };
	struct linger l = { .vain = 1 };

	placement_begin(sp);
	while (__atomic_load_n(&sp->stop, __ATOMIC_ACQUIRE) != STOP_BOTH) {
		int ready = wait_for_work(sp, &l, fds);

		if (ready < 0 && ready != -EINTR)
			os_die("the userfaultfd cannot be waited for any more");
		if (ready & 2) {
			os_kick_clear(sp->kicker);
			if (__atomic_load_n(&sp->fork.phase, __ATOMIC_ACQUIRE) ==
			    FORK_ASKED)
				fork_serve(sp);
		}
		if (ready & 1 || recall_asked(sp))
			serve(sp);
		l.worth = ready & 1 && sp->batch->nr_faults;
	}
	reader_leave(sp);
}

int reader_start(struct uhmm_space *sp, void (*fn)(void *arg))
{
	int r;

	__atomic_store_n(&sp->reading, 1, __ATOMIC_RELEASE);
	r = os_thread_start(&sp->reader, fn, sp, "uhmm-reader");
	if (r)
		reader_leave(sp);
	return r;
}

void reader_leave(struct uhmm_space *sp)
{
	__atomic_store_n(&sp->reading, 0, __ATOMIC_RELEASE);
	os_wake(&sp->reading, 1);
}

void reader_end(struct uhmm_space *sp)
{
	reader_kick(sp);
	while (__atomic_load_n(&sp->reading, __ATOMIC_ACQUIRE))
		os_wait(&sp->reading, 1, -1);
	if (sp->uffd >= 0)
		os_uffd_close(sp->uffd);
	sp->uffd = -1;
	os_thread_join(&sp->reader);
}
