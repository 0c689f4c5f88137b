/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libuhmm-preload.so: what `uhmm run` loads into each process of the tree.
 *
 * The constructor maps the control segment, claims a slot and opens a *door*: a place
 * where the supervisor, which looks at what the process uses, can make it start a thread
 * of ours (cmd/ring.c). It does so when not so much is left of the tree's budget that
 * what processes do in between could not use it up. So, while the budget is ample, a
 * process costs next to nothing: no thread, no memory but that of this file's data.
 *
 * The thread that comes in by the door starts one hidden thread, the *keeper*, and ends.
 * The keeper looks now and then at how much memory the process and the tree use, and says
 * so in the slot. Only when the tree comes near its budget, and the process is large
 * enough to matter, does it open the device and create a space; it is that space's worker
 * from then on. Where the budget is small, or nobody could ring (ctl->eager, a seccomp
 * filter, another machine than x86-64), the constructor starts the keeper.
 *
 * Reclaim safety. Any private anonymous memory of the program may be migrated, so the
 * keeper and the reader use nothing of it: not libc's heap, no thread-local storage, no
 * lock of libc. What they do use is excluded from migration: everything that is loaded
 * when the constructor runs (the libraries with their data, libc's own); and everything
 * that os_reserve() made.
 *
 * Files. The keeper and the reader have a file table of their own: a program that closes
 * all descriptors it does not know does not close ours. Where faults are inline they have
 * copies there of what the program's threads use (create_inline()); and until there is a
 * space it is the *sampler* that looks, for the keeper.
 */
#include "preload/self.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/device.h"
#include "lib/frame.h"
#include "lib/host.h"
#include "lib/os/os_linux.h"
#include "lib/os/sys.h"
#include "lib/page.h"
#include "lib/policy.h"
#include "lib/range.h"
#include "lib/reader.h"
#include "lib/reclaim.h"
#include "lib/retire.h"
#include "lib/space.h"
#include "preload/guard.h"

_Static_assert((int)COUNT_NR == (int)CTL_NR_COUNTERS,
	       "counters are published as they are");
_Static_assert((int)COUNT_FORK_FILLED == (int)CTL_FORK_FILLED, "in the same order");

/* How often the device is asked for what it holds. */
#define DEVICE_LOOK_NS UINT64_C(20000000)
/*
 * How long a process is left alone: it cannot fill more than the tolerance in that time.
 */
#define START_NS INT64_C(2000000)

/* In a page that is written to in any case. */
struct self self __attribute__((section(".data")));

uint64_t lock_self(void)
{
	uint64_t signals;

	os_block_signals(&signals);
	uhmm_lock(&self.lock);
	return signals;
}

void unlock_self(uint64_t signals)
{
	uhmm_unlock(&self.lock);
	os_restore_signals(&signals);
}

/* ---- what the tree sees ----------------------------------------------------------- */

static void say(void *ctx, const char *message)
{
	(void)ctx;
	ctl_message_put(self.ctl, os_pid(), message);
}

void preload_say(const char *message)
{
	say(NULL, message);
}

static void publish_device(void)
{
	struct uhmm_device_stat d = { .size = sizeof(d) };
	uint64_t now = os_now_ns();

	if (now < self.device_look_ns)
		return;
	self.device_look_ns = now + DEVICE_LOOK_NS;
	device_stat(self.device, &d);
	ctl_publish_device(self.slot, d.pages, d.bytes_in, d.bytes_stored,
			   d.bytes_resident);
	CTL_STORE(&self.slot->metadata_bytes, page_table_bytes(self.space));
	CTL_STORE(&self.slot->probation_pages, self.space->frames.nr_probation);
}

static int64_t share(void *ctx, struct uhmm_space *space, int64_t rss)
{
	/* Who lives as long as the process does: not the sampler. */
	uint32_t keeper = CTL_LOAD(&self.keeper.tid);
	int64_t total;

	(void)ctx;
	if (!CTL_LOAD(&self.slot->writer))
		CTL_STORE(&self.slot->writer, keeper ? keeper : os_tid());
	CTL_STORE(&self.slot->usage_pages, usage_pages(&self.usage, rss, self.ctl));
	total = ctl_usage_pages(self.ctl);
	ctl_note_usage(self.ctl, total);
	if (space && self.space)
		publish_device();
	return total;
}

static int64_t sharers(void *ctx)
{
	uint32_t i, nr = CTL_LOAD(&self.ctl->nr_slots);
	int64_t n = 0;

	(void)ctx;
	for (i = 0; i < nr; i++)
		n += CTL_LOAD(&self.ctl->slot[i].managed) == 1;
	return n;
}

static bool related(void *ctx)
{
	(void)ctx;
	return self.usage.family || self.usage.forks;
}

static int64_t expected(void *ctx)
{
	(void)ctx;
	return expect_pages();
}

static void fenced(void *ctx)
{
	(void)ctx;
	expect_looked();
}

/* ---- the keeper ------------------------------------------------------------------- */

static int open_device(void)
{
	char error[DEVICE_ERROR_MAX];

	/* A forked child may have its parent's, which nothing was stored on. */
	if (self.device)
		return 0;
	return device_open(self.ctl->device, &self.device, error, sizeof(error));
}

/* What keeps it from being created is told once, and the program goes on. */
static struct uhmm_space *create_space(void)
{
	struct space_config config = {
		.delivery = self_is_inline() ? UHMM_DELIVERY_INLINE :
					       UHMM_DELIVERY_THREAD,
		.whole = true,
		.private_files = !self_is_inline(),
		.may_refuse = self_is_inline(),
		.need_fork_events = !self_is_inline(),
		.no_fork_events = self_is_inline(),
		.limit_pages = (int64_t)self.ctl->budget_pages,
		.evict_ns = self.ctl->evict_ms * UINT64_C(1000000),
		.counter = self.slot->counter,
		.hooks = { .share = share,
			   .sharers = sharers,
			   .related = related,
			   .say = say,
			   .expected = expected,
			   .fenced = fenced,
			   .hold_threads = guarded_hold,
			   .release_threads = threads_release },
	};
	struct uhmm_space *sp;

	if (open_device()) {
		say(NULL, "a process could not open the device and runs without a limit");
		return NULL;
	}
	if (space_create(&config, &sp)) {
		say(NULL, "a process cannot use userfaultfd and runs without a limit "
			  "(see uhmm doctor)");
		return NULL;
	}
	loaded_exclude(sp);
	sp->worker = self.keeper;
	space_add_device(sp, self.device);
	if (space_start_reader(sp)) {
		say(NULL, "a process could not start a thread and runs without a limit");
		return NULL;
	}
	return sp;
}

/* Near the budget, and large enough to matter. */
static bool space_is_due(int64_t total, int64_t mine, const struct watermarks *wm)
{
	return self.ctl->evict_ms || (mine > wm->floor && total > wm->fence);
}

static void note_space(bool later)
{
	self.guarded = preload_guarded;
	self.hopeless = !self.space && !later;
	CTL_STORE(&self.slot->managed, self.space ? 1 : later ? 0 : 2);
}

/*
 * By the sampler, which has the lock. true: it is done with, and the keeper shall go on,
 * with the lock if the process is armed.
 */
static bool begin_inline(void)
{
	const char *why = obstacle();
	bool later = false, done = false;

	loaded_touch();
	if (!why) {
		why = inline_obstacle(&later);
		self.armed = !why && !later;
		if (self.armed)
			return true;
		done = why && go_by_thread();
	}
	if (why && !done)
		say(NULL, why);
	note_space(later || done);
	guard_go_on();
	return done;
}

/* By the keeper, which has the lock. */
static void begin(void)
{
	const char *why = obstacle();

	loaded_touch();
	if (why)
		say(NULL, why);
	else
		self.space = create_space();
	note_space(false);
}

/* Creates the space if it is due. false: the thread shall end. */
static bool keep(bool due)
{
	bool ends;

	uhmm_lock(&self.lock);
	ends = self.rest;
	if (self_is_inline() && !self.space && !self.hopeless && cannot_be_guarded())
		ends = go_by_thread();
	if (due && !ends && !self.hopeless && !self.space) {
		if (self_is_inline())
			ends = begin_inline();
		else
			begin();
	}
	if (!self.armed)
		uhmm_unlock(&self.lock);
	return !ends;
}

/* Who has asked for that closes what the program's threads had, with the lock. */
static void end_retired(struct uhmm_space *sp)
{
	uhmm_lock(&self.lock);
	uhmm_unlock(&self.lock);
	retire_end(sp);
}

static void keeper_loop(void)
{
	struct uhmm_space *sp;
	struct watermarks wm;
	int64_t total, mine, more;
	int code;

	policy_watermarks((int64_t)self.ctl->budget_pages, false, &wm);
	for (;;) {
		uint32_t seen = __atomic_load_n(&self.bell, __ATOMIC_SEQ_CST);

		mine = os_rss_anon_pages(NULL);
		total = share(NULL, NULL, mine > 0 ? mine : 0);
		more = expect_pages();
		if (!keep(space_is_due(total + more, mine + more, &wm)))
			return;
		sp = self.space;
		if (sp) {
			reclaim_main(sp);
			end_retired(sp);
		}
		if (more)
			expect_looked();
		if (os_threads_ended(&code))
			os_exit(code);
		os_wait(&self.bell, seen, (int64_t)policy_sleep_ns(&wm, total));
	}
}

static void no_thread(void)
{
	say(NULL, "a process could not start a thread and runs without a limit");
	CTL_STORE(&self.slot->managed, 2);
}

/*
 * Faults are to be inline: before there is a space another thread looks, one that has
 * nothing of the program's table of descriptors. The keeper has, and opens in it what the
 * program's threads will use, while all of them wait.
 */
static void sampler_main(void *arg)
{
	(void)arg;
	os_linux_stay_apart(true);
	if (os_private_files() || os_attach())
		self.hopeless = true;
	keeper_loop();
	os_close_attached();
	os_linux_stay_apart(false);
}

static bool sample_first(void)
{
	uint32_t tid;

	if (os_linux_thread_start(&self.sampler, sampler_main, NULL, "uhmm-sampler")) {
		no_thread();
		return false;
	}
	tid = CTL_LOAD(&self.sampler.tid);
	os_thread_join(&self.sampler);
	/* It has left its memory, but maybe not yet the process. */
	while (tid && sys3(SYS_tgkill, os_pid(), tid, 0) == 0)
		os_yield();
	return true;
}

/* With the sampler's lock, while the program waits. */
static void create_inline(void)
{
	int rings = guard_sees_ring(0);
	bool changes = rings > 0 && go_by_thread();

	self.armed = false;
	if (changes)
		;
	else if (rings > 0)
		say(NULL, has_ring);
	else if (rings < 0 || os_attach())
		say(NULL, "a process may not look at itself in /proc, or has no "
			  "descriptors left, and runs without a limit");
	else
		self.space = create_space();
	if (!changes)
		os_linux_leave_files();
	note_space(changes);
	guard_go_on();
	uhmm_unlock(&self.lock);
}

static void keeper_main(void *arg)
{
	bool sampled;

	/* Most processes of a build or a shell script are gone by then. */
	if (!arg)
		os_wait(&self.bell, 0, START_NS);
	uhmm_lock(&self.lock);
	if (self_is_inline() && is_told_already())
		go_by_thread();
	uhmm_unlock(&self.lock);
	sampled = self_is_inline() && sample_first();
	if (self.armed)
		create_inline();
	else if (sampled && self_is_inline())
		return;
	if (self_is_inline() ? !sampled : os_private_files() || os_attach())
		self.hopeless = true;
	keeper_loop();
}

/* Under lock. */
static void start_keeper(bool at_once)
{
	if (self.kept)
		return;
	self.kept = true;
	os_on_die = preload_say;
	os_hide_threads();
	CTL_STORE(&self.slot->door, 0);
	CTL_STORE(&self.door.magic, 0);
	if (os_linux_thread_start(&self.keeper, keeper_main, at_once ? &self : NULL,
				  "uhmm-keeper"))
		no_thread();
}

void preload_keep(void)
{
	uint64_t signals;

	if (!CTL_LOAD(&self.door.magic) || self.pid != os_pid())
		return;
	signals = lock_self();
	start_keeper(true);
	unlock_self(signals);
}

struct uhmm_space *preload_space(void)
{
	return __atomic_load_n(&self.space, __ATOMIC_ACQUIRE);
}

bool preload_is_ours(uint32_t tid)
{
	struct uhmm_space *sp = preload_space();

	return tid == CTL_LOAD(&self.keeper.tid) || tid == CTL_LOAD(&self.sampler.tid) ||
	       (sp &&
		(tid == CTL_LOAD(&sp->worker.tid) || tid == CTL_LOAD(&sp->reader.tid) ||
		 tid == CTL_LOAD(&sp->placement.warden.tid)));
}

unsigned preload_threads(void)
{
	struct uhmm_space *sp = __atomic_load_n(&self.space, __ATOMIC_ACQUIRE);

	if (!sp)
		return !!CTL_LOAD(&self.keeper.tid) + !!CTL_LOAD(&self.sampler.tid);
	return !!CTL_LOAD(&sp->worker.tid) + !!CTL_LOAD(&sp->reader.tid) +
	       !!CTL_LOAD(&sp->placement.warden.tid);
}

static void ring_keeper(void)
{
	__atomic_fetch_add(&self.bell, 1, __ATOMIC_SEQ_CST);
	os_wake(&self.bell, 1);
}

bool preload_rest(void)
{
	uint64_t signals;
	uint32_t tid;
	bool rest;

	if (self.pid != os_pid())
		return false;
	signals = lock_self();
	tid = CTL_LOAD(&self.keeper.tid);
	rest = self.kept && !self.rest && !self.space && tid;
	if (rest)
		self.rest = true;
	unlock_self(signals);
	if (!rest)
		return false;
	ring_keeper();
	os_thread_join(&self.keeper);
	/* It has left its memory, but maybe not yet the process. */
	while (sys3(SYS_tgkill, os_pid(), tid, 0) == 0)
		os_yield();
	return true;
}

void preload_go_on(void)
{
	uint64_t signals = lock_self();

	self.kept = self.rest = false;
	start_keeper(true);
	unlock_self(signals);
}

/* What a process without a keeper may fill: half of what is left when it is rung for. */
#define UNKEPT_PAGES ((int64_t)1 << (30 - PAGE_SHIFT))

void preload_ring_worker(void)
{
	struct uhmm_space *sp = __atomic_load_n(&self.space, __ATOMIC_ACQUIRE);

	if (sp)
		reclaim_ring(sp);
}

bool preload_ring_keeper(int64_t pages)
{
	/* In a child of a raw clone nobody would answer. */
	if (!self.ctl || self.pid != os_pid())
		return false;
	if (pages >= UNKEPT_PAGES)
		preload_keep();
	if (!__atomic_load_n(&self.kept, __ATOMIC_ACQUIRE))
		return false;
	ring_keeper();
	preload_ring_worker();
	return true;
}

void preload_keep_all(void)
{
	if (self.slot)
		__atomic_fetch_or(&self.ctl->eager, CTL_EAGER_NOBODY, __ATOMIC_RELAXED);
}

void preload_leave(void)
{
	struct uhmm_space *sp = __atomic_load_n(&self.space, __ATOMIC_ACQUIRE);

	/* In a child of vfork() or of a raw clone it is not our reader. */
	if (sp && reader_fills(sp) &&
	    sys3(SYS_tgkill, os_pid(), CTL_LOAD(&sp->reader.tid), 0) == 0)
		reader_finish(sp);
}

bool preload_before_exec(void)
{
	/* In a child of vfork() it is not the process whose threads are asked. */
	if (!self.ctl || !self_is_inline() || self.pid != os_pid())
		return false;
	guard_exec_begin();
	return true;
}

/* ---- the door --------------------------------------------------------------------- */

void door_main(void)
{
	uint64_t signals = lock_self();

	start_keeper(true);
	unlock_self(signals);
}

/* There is somebody to ring, and nothing in the way of who is rung. */
static bool may_wait(void)
{
	return self.slot != &self_nowhere && self.ctl->pid_ns &&
	       !CTL_LOAD(&self.ctl->eager) &&
	       sys2(SYS_kill, CTL_LOAD(&self.ctl->supervisor_pid), 0) != -ESRCH &&
	       sys1(SYS_prctl, PR_GET_SECCOMP) == 0;
}

void self_begin(void)
{
	uint64_t signals = lock_self();

	self.kept = self.rest = self.looked = self.dispatches = false;
	if (self_is_inline())
		os_linux_hide_files();
	if (may_wait() && door_open(&self.door, CTL_LOAD(&self.slot->claim)))
		__atomic_store_n(&self.slot->door, (uintptr_t)&self.door,
				 __ATOMIC_RELEASE);
	else
		start_keeper(false);
	unlock_self(signals);
}

/* ---- start ------------------------------------------------------------------------ */

void preload_look_at_pids(void)
{
	struct stat st;

	if (self.ctl && self.ctl->pid_ns)
		self.far_children = stat("/proc/self/ns/pid_for_children", &st) ||
				    (uint64_t)st.st_ino != self.ctl->pid_ns;
}

static bool set_up(const char *path)
{
	self.ctl = segment_map(path);
	if (!self.ctl)
		return false;
	self.pid = os_pid();
	self_claim_slot();
	if (!self.slot)
		return false;
	loaded_find();
	return true;
}

static void __attribute__((constructor)) start(void)
{
	const char *path = getenv(CTL_ENV);
	int saved = errno;

	if (!path || preload_is_emulated() || !set_up(path))
		return;
	libc_bind();
	task_bind();
	hot_bind();
	if (self_is_inline())
		guarded_bind();
	self.looks_for_leaks = preload_looks_for_leaks();
	if (pthread_atfork(preload_before_fork, preload_after_fork_parent,
			   preload_after_fork_child) == 0)
		self_begin();
	errno = saved;
}
