/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recalling. While a structural event is unread, or who raised one has not run again, the
 * kernel fills no page. Threads that discard memory all the time leave moments of a
 * microsecond in between, and a thread that has to enter the gate first comes too late
 * for them: it may try for ever.
 *
 * The reader does not come too late. It holds the gate closed, reads, and tries to fill
 * after each read: that it succeeds says that nothing is unread. What was read by then is
 * in the batch and not applied yet, so a page is only filled if nothing in the batch is
 * about its addresses, and no child is to be given what the table has now; or the batch
 * is applied first, and the pages are looked at again.
 *
 * Where more threads discard than there are CPUs, none of them is ever seen in between:
 * each runs until it has raised its next event. So who asks again keeps them from
 * raising more (os_hold_mappings()): those whose events were read go on to the lock of
 * the address space and wait there, with nothing unread.
 *
 * Nobody is waited for but the device, and the program's faults wait for us no longer
 * than RECALL_NS and one load of a batch. A page that cannot be loaded is left to who
 * asked.
 */
#include "lib/recall.h"

#include <errno.h>
#include <limits.h>

#include "lib/assert.h"
#include "lib/device.h"
#include "lib/event.h"
#include "lib/fault_internal.h"
#include "lib/folio.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/reader.h"

/* How long the gate is closed for one recall: as long as a switch or two of threads. */
#define RECALL_NS UINT64_C(10000000)
/* Who asked looks for itself after that; the reader may have other things to do. */
#define ASK_NS UINT64_C(100000000)

/* Addresses whose protection takes some tenths of a millisecond to change. */
#define BALLAST_SIZE ((size_t)256 << 20)

/* Pages of one device in a row, loaded into reader_buf, their entries unchanged. */
struct run {
	uintptr_t addr;
	unsigned nr, device;
	bool told;
	entry_t *entry[UHMM_BATCH_MAX];
	entry_t seen[UHMM_BATCH_MAX];
	struct uhmm_io io[UHMM_BATCH_MAX];
};

/* ---- who asks --------------------------------------------------------------------- */

/* NULL: no addresses left; then it may take longer. */
static void *ballast(struct recall *rc)
{
	void *mine, *theirs = __atomic_load_n(&rc->ballast, __ATOMIC_ACQUIRE);

	if (theirs)
		return theirs;
	mine = os_reserve(BALLAST_SIZE);
	if (mine && !os_commit(mine, BALLAST_SIZE) &&
	    __atomic_compare_exchange_n(&rc->ballast, &theirs, mine, false,
					__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return mine;
	if (mine)
		os_release(mine, BALLAST_SIZE);
	return theirs;
}

void recall_fini(struct uhmm_space *sp)
{
	if (sp->recall.ballast)
		os_release(sp->recall.ballast, BALLAST_SIZE);
}

/* Until the reader has served, or ASK_NS are over. */
static void wait_served(struct recall *rc, uint32_t served, bool again)
{
	uint64_t until = os_now_ns() + ASK_NS;
	void *hold = again ? ballast(rc) : NULL;

	if (hold)
		os_hold_prepare(hold, BALLAST_SIZE);
	while (__atomic_load_n(&rc->served, __ATOMIC_ACQUIRE) == served &&
	       os_now_ns() < until) {
		if (hold)
			os_hold_mappings(hold, BALLAST_SIZE);
		else
			os_wait(&rc->served, served, (int64_t)ASK_NS);
	}
}

void recall_ask(struct uhmm_space *sp, uintptr_t start, uintptr_t end, bool again)
{
	struct recall *rc = &sp->recall;
	uint32_t served;

	uhmm_lock(&rc->lock);
	rc->range = (struct range){ start, end };
	served = __atomic_load_n(&rc->served, __ATOMIC_RELAXED);
	__atomic_store_n(&rc->asked, 1, __ATOMIC_RELEASE);
	uhmm_unlock(&rc->lock);
	reader_kick(sp);
	wait_served(rc, served, again);
	/* Who has left the world asks for nothing; if it was another's it asks again. */
	if (__atomic_load_n(&rc->served, __ATOMIC_ACQUIRE) == served)
		__atomic_store_n(&rc->asked, 0, __ATOMIC_RELAXED);
}

bool recall_asked(struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->recall.asked, __ATOMIC_ACQUIRE);
}

/* ---- the reader ------------------------------------------------------------------- */

/* Must the batch be applied before [start, end) is filled? Looks at events from *i on. */
static bool concerned(const struct event_batch *b, uint32_t *i, uintptr_t start,
		      uintptr_t end)
{
	for (; *i < b->nr; ++*i)
		if (event_concerns(&b->event[*i], start, end))
			return true;
	return b->nr_children || event_is_due(b);
}

static void load_run(struct uhmm_space *sp, struct run *run, uintptr_t end)
{
	struct chunk *chunk = page_chunk(sp, run->addr);
	uintptr_t at = run->addr;
	unsigned n = 0;

	for (; n < UHMM_BATCH_MAX && at < end &&
	       at >> CHUNK_SHIFT == run->addr >> CHUNK_SHIFT;
	     n++, at += PAGE_SIZE) {
		entry_t *entry = page_entry(chunk, at), e = entry_load(entry);

		if (entry_state(e) != PAGE_DEVICE ||
		    (n && entry_device(e) != run->device))
			break;
		run->device = entry_device(e);
		run->entry[n] = entry;
		run->seen[n] = e;
		run->io[n] = (struct uhmm_io){
			.page = entry_payload(e),
			.buf = sp->reader_buf + n * PAGE_SIZE,
			.len = PAGE_SIZE,
		};
	}
	run->told = tell_load(sp, run->device, run->addr, n);
	device_run(sp->device[run->device], UHMM_OP_LOAD, run->io, n);
	for (run->nr = 0; run->nr < n && run->io[run->nr].result == 0; run->nr++)
		;
}

/* The first nr pages of the run are in memory: their copies are not needed any more. */
static void settle_run(struct uhmm_space *sp, struct run *run, unsigned nr)
{
	unsigned i;

	for (i = 0; i < nr; i++)
		assert_always(page_change(
			sp, run->entry[i], run->addr + i * PAGE_SIZE, &run->seen[i],
			entry_with_hot(entry_make(PAGE_NONE, 0, 0), 1)));
	device_run(sp->device[run->device], UHMM_OP_FREE, run->io, nr);
	count(sp, COUNT_LOADED, nr);
}

/* How many pages are settled: 0, none can be; or -EAGAIN. */
static int fill_run(struct uhmm_space *sp, struct run *run)
{
	int64_t r = os_uffd_copy(sp->uffd, run->addr, sp->reader_buf,
				 run->nr * PAGE_SIZE);
	unsigned nr = r > 0 ? (unsigned)(r >> PAGE_SHIFT) : 0;

	/* A run across two mappings is refused whole. */
	if (r == -ENOENT && run->nr > 1) {
		run->nr = 1;
		return fill_run(sp, run);
	}
	if (r == -EAGAIN)
		return -EAGAIN;
	if (r == -EEXIST) {
		/* Filled while the space was frozen by fork: that is current. */
		os_uffd_wake(sp->uffd, run->addr, PAGE_SIZE);
		nr = 1;
	}
	if (nr)
		settle_run(sp, run, nr);
	return (int)nr;
}

/*
 * Tries fill() until it says something other than -EAGAIN, or until the batch has to be
 * applied first (-ESTALE), or the time is up (-EAGAIN).
 */
static int patiently(struct uhmm_space *sp, struct run *run, uintptr_t start,
		     uintptr_t end, uint64_t until,
		     int (*fill)(struct uhmm_space *sp, struct run *run))
{
	uint32_t looked = 0;
	int r;

	for (;;) {
		if (concerned(sp->batch, &looked, start, end))
			return -ESTALE;
		r = fill(sp, run);
		if (r != -EAGAIN || os_now_ns() >= until)
			return r;
		event_read_or_yield(sp);
	}
}

static int fill_page(struct uhmm_space *sp, struct run *run)
{
	entry_t e = run->seen[0];
	int r = restore_page_inside(sp, run->addr, entry_payload(e), entry_hot(e));

	return r == -EAGAIN ? r : 0;
}

static int fill_folio(struct uhmm_space *sp, struct run *run)
{
	int r = restore_folio_inside(sp, run->addr);

	return r == -EAGAIN ? r : 0;
}

/* What is at `at`, and behind it. Pages done with, 0: again; or -errno as patiently(). */
static int recall_at(struct uhmm_space *sp, uintptr_t at, uintptr_t end, uint64_t until)
{
	struct chunk *chunk = page_chunk(sp, at);
	bool folio = entry_state(entry_load(&chunk->folio)) != PAGE_NONE;
	entry_t *entry = folio ? &chunk->folio : page_entry(chunk, at);
	struct run run = { .addr = folio ? chunk_start(at) : at };
	int r;

	while (entry_busy(run.seen[0] = entry_load(entry)))
		page_wait(sp, entry);
	switch (entry_state(run.seen[0])) {
	case PAGE_DEVICE:
		if (folio) {
			/* Page by page: there is no time for all of it. */
			folio_split_device(sp, at);
			return 0;
		}
		load_run(sp, &run, end);
		r = run.nr ? patiently(sp, &run, at, at + run.nr * PAGE_SIZE, until,
				       fill_run) :
			     0;
		notifier_end(sp, run.told);
		break;
	case PAGE_PROBATION:
		r = patiently(sp, &run, run.addr,
			      run.addr + (folio ? CHUNK_SIZE : PAGE_SIZE), until,
			      folio ? fill_folio : fill_page);
		break;
	default:
		r = 0;
		break;
	}
	return r ? r : 1;
}

static void apply(struct uhmm_space *sp)
{
	event_gather(sp);
	event_apply_batch(sp);
}

void recall_serve(struct uhmm_space *sp)
{
	struct recall *rc = &sp->recall;
	uint64_t until = os_now_ns() + RECALL_NS;
	struct range range;
	uintptr_t at;
	int r = 0;

	uhmm_lock(&rc->lock);
	range = rc->range;
	__atomic_store_n(&rc->asked, 0, __ATOMIC_RELAXED);
	uhmm_unlock(&rc->lock);
	while (r != -EAGAIN && os_now_ns() < until &&
	       page_first(sp, range.start, range.end, &at)) {
		r = recall_at(sp, at, range.end, until);
		if (r == -ESTALE)
			apply(sp);
		range.start = at + (r > 0 ? (unsigned)r * PAGE_SIZE : 0);
	}
	apply(sp);
	__atomic_fetch_add(&rc->served, 1, __ATOMIC_RELEASE);
	os_wake(&rc->served, INT_MAX);
}
