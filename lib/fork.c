/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork: the forking thread's side and the parent's reader's side. See fork.h for the
 * protocol, fork_child.c for the child's.
 */
#include "lib/fork.h"

#include <errno.h>
#include <limits.h>

#include "lib/event.h"
#include "lib/fault.h"
#include "lib/frozen.h"
#include "lib/gate.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/range.h"
#include "lib/reader.h"

/* How long the parent waits before it looks whether the child is still alive. */
#define LOOK_NS INT64_C(20000000)

static uint32_t phase_of(struct uhmm_space *sp)
{
	return __atomic_load_n(&sp->fork.phase, __ATOMIC_ACQUIRE);
}

static void set_phase(struct uhmm_space *sp, uint32_t phase)
{
	__atomic_store_n(&sp->fork.phase, phase, __ATOMIC_RELEASE);
	os_wake(&sp->fork.phase, INT_MAX);
}

static void wait_while(struct uhmm_space *sp, uint32_t phase)
{
	while (phase_of(sp) == phase)
		os_wait(&sp->fork.phase, phase, LOOK_NS);
}

/* The worker passes the kick on where our descriptors are not in this thread's table. */
static void ask(struct uhmm_space *sp, uint32_t phase)
{
	set_phase(sp, phase);
	if (!sp->private_files)
		reader_kick(sp);
}

/* ---- the forking thread ----------------------------------------------------------- */

void fork_prepare(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;

	uint64_t signals;

	if (sp->pid != os_pid() || sp->unusable)
		return;
	os_block_signals(&signals);
	gate_close(&sp->world);
	fs->signals = signals;
	fs->forker = os_tid();
	fs->ready = 0;
	fs->early_uffd = -1;
	fs->shared = os_map_shared(sizeof(*fs->shared));
	if (!fs->shared || os_lifeline(fs->lifeline))
		os_die("no memory or descriptors left to follow a fork()");
	__atomic_store_n(&fs->log->nr, 0, __ATOMIC_RELAXED);
	ask(sp, FORK_ASKED);
	wait_while(sp, FORK_ASKED);
}

/* Until the child has taken over, is gone, or never was. */
static void wait_for_child(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	uint32_t *outcome = &fs->shared->outcome;

	os_close(fs->lifeline[1]);
	while (sp->fork_events &&
	       __atomic_load_n(outcome, __ATOMIC_ACQUIRE) == FORK_PENDING)
		if (os_wait_fds(fs->lifeline, 1, LOOK_NS) > 0)
			break;
	while (__atomic_load_n(outcome, __ATOMIC_ACQUIRE) == FORK_UNABLE)
		os_wait(outcome, FORK_UNABLE, LOOK_NS);
	os_close(fs->lifeline[0]);
}

void fork_parent(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	uint64_t signals;

	if (sp->pid != os_pid() || sp->unusable)
		return;
	wait_for_child(sp);
	ask(sp, FORK_OVER);
	wait_while(sp, FORK_OVER);
	os_unmap_shared(fs->shared, sizeof(*fs->shared));
	fs->shared = NULL;
	signals = fs->signals;
	gate_open(&sp->world);
	os_restore_signals(&signals);
}

bool fork_frozen_inline(struct uhmm_space *sp, uintptr_t addr)
{
	struct fork_state *fs = &sp->fork;
	uint32_t phase = phase_of(sp);

	if (phase != FORK_FROZEN && phase != FORK_SEEN)
		return false;
	if (sp->pid == os_pid()) {
		/* Another thread waits until the world is open, and faults again. */
		if (fs->forker != os_tid())
			return false;
		frozen_fault(sp, sp->uffd, fs->log, addr);
		return true;
	}
	/* The child, before its handler ran: take the userfaultfd now. */
	if (fs->early_uffd < 0)
		fs->early_uffd = os_handover_receive(&fs->shared->name);
	if (fs->early_uffd < 0)
		os_die("a forked child could not get its userfaultfd");
	frozen_fault(sp, fs->early_uffd, &fs->shared->child, addr);
	return true;
}

/* ---- the reader, frozen ----------------------------------------------------------- */

/* What a child may do before it is filled; far more than it has time for. */
#define FILL_REMAPS 256
#define FILL_CHILDREN 64

struct fill {
	struct uhmm_space *sp;
	int uffd;
	uint64_t nr;
	const struct frozen_log *log; /* of which the child has seen the first nr_log */
	uint32_t nr_log;
	struct range_set *wiped; /* empty in the child, and meant to be */
	bool moved[EVENTS_MAX];  /* the child has seen this REMAP of sp->batch */
	/* What the child has done to its memory meanwhile; it runs while it is filled. */
	struct os_event remap[FILL_REMAPS];
	uint32_t nr_remaps;
	int grandchild[FILL_CHILDREN];
	uint32_t nr_grandchildren;
};

struct first_entry {
	uintptr_t addr;
};

static int find_entry(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		      bool folio)
{
	struct first_entry *found = ctx;

	(void)chunk;
	(void)entry;
	(void)folio;
	found->addr = addr;
	return 1;
}

static void read_events_of(struct fill *fill);

static int copy_to_child(struct fill *fill, uintptr_t addr, uintptr_t source)
{
	int r;

	while ((r = frozen_copy(fill->sp, fill->uffd, addr, source)) == -EAGAIN)
		read_events_of(fill);
	return r;
}

/* A move that frees its old place raises UNMAP too; MREMAP_DONTUNMAP does not. */
static bool stays_mapped(const struct event_batch *b, uint32_t i)
{
	const struct os_event *ev = &b->event[i];

	while (++i < b->nr)
		if (b->event[i].kind == OS_EVENT_UNMAP &&
		    ev->from - b->event[i].from < b->event[i].end - b->event[i].from)
			return false;
	return true;
}

/*
 * Had the child's memory been moved? Then there is nothing to fill at the old place. A
 * page is filled to find out: where it is right if the answer is the one that lets it be.
 */
static void look_at_remaps(struct fill *fill)
{
	struct event_batch *b = fill->sp->batch;
	struct first_entry found;
	uint32_t i;

	for (i = 0; i < b->nr; i++) {
		const struct os_event *ev = &b->event[i];

		if (b->applied[i] || ev->kind != OS_EVENT_REMAP ||
		    !page_walk(fill->sp, ev->from, ev->from + ev->len, find_entry,
			       &found))
			continue;
		if (found.addr < ev->from)
			found.addr = ev->from;
		if (stays_mapped(b, i))
			fill->moved[i] = copy_to_child(fill, found.addr - ev->from +
							     ev->to,
						       found.addr) != -ENOENT;
		else
			fill->moved[i] = copy_to_child(fill, found.addr, found.addr) ==
					 -ENOENT;
	}
}

/* Where the child has the page that is at addr here; false: nowhere. */
static bool child_address(struct fill *fill, uintptr_t *addr)
{
	struct event_batch *b = fill->sp->batch;
	uint32_t i;

	for (i = 0; i < b->nr; i++) {
		const struct os_event *ev = &b->event[i];

		if (!fill->moved[i])
			continue;
		if (*addr - ev->from < ev->len) {
			*addr = *addr - ev->from + ev->to;
			return true;
		}
	}
	for (i = 0; i < b->nr; i++)
		if (fill->moved[i] && *addr - b->event[i].to < b->event[i].len)
			return false; /* something else was moved there */
	return true;
}

static void add_wiped(void *ctx, uintptr_t start, uintptr_t end)
{
	range_add(ctx, start, end);
}

static void note_event(struct fill *fill, const struct os_event *ev)
{
	if (ev->kind == OS_EVENT_REMOVE || ev->kind == OS_EVENT_UNMAP)
		add_wiped(fill->wiped, ev->from, ev->end);
	if (ev->kind == OS_EVENT_REMAP && fill->nr_remaps < FILL_REMAPS)
		fill->remap[fill->nr_remaps++] = *ev;
	if (ev->kind == OS_EVENT_FORK && fill->nr_grandchildren < FILL_CHILDREN)
		fill->grandchild[fill->nr_grandchildren++] = ev->child;
}

/* The child has changed its memory: until we have read of it we cannot fill any. */
static void read_events_of(struct fill *fill)
{
	struct os_event ev[32];
	int n = os_uffd_read(fill->uffd, ev, 32), i;

	if (n <= 0)
		os_yield();
	for (i = 0; i < n; i++)
		note_event(fill, &ev[i]);
}

/* Where the page is now in the child; false: discarded, or meant to be empty. */
static bool follow_child(struct fill *fill, uintptr_t *addr)
{
	struct range piece;
	uint32_t i;

	if (range_clip(fill->wiped, true, *addr, *addr + PAGE_SIZE, &piece))
		return false;
	for (i = 0; i < fill->nr_remaps; i++)
		if (*addr - fill->remap[i].from < fill->remap[i].len)
			*addr = *addr - fill->remap[i].from + fill->remap[i].to;
	return true;
}

static void fill_page(struct fill *fill, uintptr_t source)
{
	uintptr_t addr = source;
	uintptr_t at;
	int r;

	if (!frozen_follow(fill->log, fill->nr_log, &addr) ||
	    !child_address(fill, &addr))
		return;
	at = addr;
	for (;;) {
		addr = at;
		if (!follow_child(fill, &addr))
			return;
		r = frozen_copy(fill->sp, fill->uffd, addr, source);
		if (r != -EAGAIN)
			break;
		read_events_of(fill);
	}
	fill->nr += r == 0;
	/*
	 * Not mapped there (MADV_DONTFORK), or there already; else better lost than
	 * wrong.
	 */
	if (r < 0 && r != -ENOENT && r != -EEXIST)
		os_uffd_poison(fill->uffd, addr, PAGE_SIZE);
}

static int fill_one(void *ctx, struct chunk *chunk, entry_t *entry, uintptr_t addr,
		    bool folio)
{
	struct fill *fill = ctx;
	unsigned i, nr = folio ? CHUNK_PAGES : 1;

	(void)chunk;
	while (entry_busy(entry_load(entry)))
		page_wait(fill->sp, entry);
	/* Stored meanwhile: its pages are met one by one after this. */
	if (entry_state(entry_load(entry)) == PAGE_NONE)
		return 0;
	for (i = 0; i < nr; i++)
		fill_page(fill, addr + i * PAGE_SIZE);
	return 0;
}

/* Its memory was mapped before: the forking thread holds the allocator's lock. */
static struct fill *fill_begin(struct uhmm_space *sp, int uffd, uint32_t nr_log)
{
	struct fill *fill = sp->fork.fill;
	struct range_set *wiped = (struct range_set *)(fill + 1);

	*fill = (struct fill){ .sp = sp, .uffd = uffd, .wiped = wiped,
			       .log = sp->fork.log, .nr_log = nr_log };
	wiped->nr = 0;
	os_for_each_wiped(add_wiped, wiped);
	return fill;
}

static void fill_all(struct fill *fill)
{
	struct uhmm_space *sp = fill->sp;

	look_at_remaps(fill);
	page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, fill_one, fill);
	os_uffd_close(fill->uffd);
	/* Children of the child: what it lacked they lack. */
	while (fill->nr_grandchildren) {
		fill->uffd = fill->grandchild[--fill->nr_grandchildren];
		page_walk(sp, 0, (uintptr_t)1 << ADDRESS_BITS, fill_one, fill);
		os_uffd_close(fill->uffd);
	}
	count(sp, COUNT_FORK_FILLED, fill->nr);
}

static void fill_child(struct uhmm_space *sp, int uffd, uint32_t nr_log)
{
	fill_all(fill_begin(sp, uffd, nr_log));
}

int fork_init(struct uhmm_space *sp)
{
	sp->fork.fill = uhmm_host_map(sizeof(struct fill) + sizeof(struct range_set));
	sp->fork.log = uhmm_host_map(sizeof(*sp->fork.log));
	return sp->fork.fill && sp->fork.log ? 0 : -ENOMEM;
}

void fork_fini(struct uhmm_space *sp)
{
	if (sp->fork.fill)
		uhmm_host_unmap(sp->fork.fill,
				sizeof(struct fill) + sizeof(struct range_set));
	if (sp->fork.log)
		uhmm_host_unmap(sp->fork.log, sizeof(*sp->fork.log));
}

void fork_fill(struct uhmm_space *sp, int child_uffd)
{
	count(sp, COUNT_EVENT_FORK, 1);
	fill_child(sp, child_uffd, 0);
}

static void set_outcome(struct uhmm_space *sp, uint32_t outcome)
{
	__atomic_store_n(&sp->fork.shared->outcome, outcome, __ATOMIC_RELEASE);
	os_wake(&sp->fork.shared->outcome, INT_MAX);
}

static void child_appeared(struct uhmm_space *sp, int uffd)
{
	struct fork_state *fs = &sp->fork;
	uint32_t seen = fs->log->nr;

	count(sp, COUNT_EVENT_FORK, 1);
	if (phase_of(sp) == FORK_FROZEN)
		set_phase(sp, FORK_SEEN);
	fs->nr_children++;
	if (fs->nr_children == 1) {
		fs->child_uffd = uffd;
		fs->child_seen = seen;
		fs->child_known = false;
		return;
	}
	/* A raw clone at the same time: which is which cannot be told. Both get all. */
	fill_child(sp, uffd, seen);
	if (fs->child_uffd >= 0) {
		fill_child(sp, fs->child_uffd, fs->child_seen);
		fs->child_uffd = -1;
		set_outcome(sp, FORK_FILLED);
	}
}

/* The program's own events and faults. */
static void read_parent(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	struct os_event ev[32];
	int n = os_uffd_read(sp->uffd, ev, 32), i;
	bool structural = false;

	if (n < 0)
		os_die("the userfaultfd cannot be read any more");
	for (i = 0; i < n; i++) {
		if (ev[i].kind == OS_EVENT_FORK) {
			child_appeared(sp, ev[i].child);
		} else if (ev[i].kind != OS_EVENT_FAULT) {
			frozen_event(fs->log, &ev[i]);
			frozen_event(&fs->shared->suspect, &ev[i]);
			structural = true;
		} else {
			frozen_fault(sp, sp->uffd, fs->log, ev[i].addr);
		}
	}
	if (structural && !event_unread(sp))
		frozen_quiet(fs->log);
}

/*
 * The child that we have been serving comes from a raw clone: it runs no handler that
 * would take over. ev: what it has said since, of which faults need no answer: they end
 * when its userfaultfd is closed.
 */
static void fill_impostor(struct uhmm_space *sp, const struct os_event *ev, int n)
{
	struct fork_state *fs = &sp->fork;
	struct fill *fill = fill_begin(sp, fs->child_uffd, fs->child_seen);
	struct os_event before;
	uint32_t i;

	for (i = 0; i < fs->shared->child.nr; i++)
		if (frozen_to_event(&fs->shared->child.record[i], &before))
			note_event(fill, &before);
	for (i = 0; i < (uint32_t)n; i++)
		note_event(fill, &ev[i]);
	fill_all(fill);
	fs->shared->child.nr = 0;
	fs->child_uffd = -1;
	fs->nr_children = 0;
}

/* Does this fault show that the child is not the one that the forking thread makes? */
static bool betrays_impostor(struct fork_state *fs, const struct os_event *ev)
{
	if (ev->kind != OS_EVENT_FAULT || fs->child_known)
		return false;
	fs->child_known = os_is_child_of(fs->forker, ev->tid);
	return !fs->child_known;
}

static void read_child(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	struct os_event ev[32];
	int n = os_uffd_read(fs->child_uffd, ev, 32), i;

	for (i = 0; i < n; i++) {
		if (betrays_impostor(fs, &ev[i])) {
			fill_impostor(sp, &ev[i], n - i);
			return;
		}
		if (ev[i].kind == OS_EVENT_FAULT)
			frozen_fault(sp, fs->child_uffd, &fs->shared->child, ev[i].addr);
		else if (ev[i].kind == OS_EVENT_FORK)
			fill_child(sp, ev[i].child, fs->child_seen);
		else
			frozen_event(&fs->shared->child, &ev[i]);
	}
	if (n < 0) {
		os_uffd_close(fs->child_uffd);
		fs->child_uffd = -1;
	}
}

/*
 * The child must learn of every structural event that came before its memory was copied.
 */
static void hand_over(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;

	while (event_unread(sp)) {
		read_parent(sp);
		os_yield();
	}
	if (os_handover_send(fs->listener, fs->child_uffd) == 0 && fs->child_uffd >= 0) {
		os_uffd_close(fs->child_uffd);
		fs->child_uffd = -1;
		count(sp, COUNT_FORK_HANDOVER, 1);
	}
}

static void serve_once(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;
	int fds[4] = { sp->uffd, sp->kicker, fs->listener, fs->child_uffd };
	int ready = os_wait_fds(fds, 4, LOOK_NS);

	if (ready < 0)
		os_die("the userfaultfd cannot be waited for any more");
	if (ready & 2)
		os_kick_clear(sp->kicker);
	if (ready & 1)
		read_parent(sp);
	if (ready & 8 && fs->child_uffd >= 0)
		read_child(sp);
	if (ready & 4)
		hand_over(sp);
	if (fs->child_uffd >= 0 &&
	    __atomic_load_n(&fs->shared->outcome, __ATOMIC_ACQUIRE) == FORK_UNABLE) {
		fill_child(sp, fs->child_uffd, fs->child_seen);
		fs->child_uffd = -1;
		set_outcome(sp, FORK_FILLED);
	}
}

void fork_serve(struct uhmm_space *sp)
{
	struct fork_state *fs = &sp->fork;

	/*
	 * Nothing is registered from here on. So a mapping that the child finds where an
	 * event of the frozen time took one away is either the old one, or not
	 * registered.
	 */
	reader_drain(sp);
	fs->listener = sp->fork_events ? os_handover_listen(&fs->shared->name) : -1;
	fs->child_uffd = -1;
	fs->nr_children = 0;
	set_phase(sp, FORK_FROZEN);
	/* Who waits for room may hold a lock of libc that the forking thread needs. */
	fault_unpark(sp);
	while (phase_of(sp) != FORK_OVER)
		serve_once(sp);
	if (fs->child_uffd >= 0)
		os_uffd_close(fs->child_uffd);
	if (fs->listener >= 0)
		os_close(fs->listener);
	gate_close(&sp->gate);
	frozen_apply(sp, fs->log, NULL);
	gate_open(&sp->gate);
	fault_unpark(sp);
	set_phase(sp, FORK_NONE);
}
