/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of the tree's memory is this process's.
 *
 * Resident anonymous pages, but a page that fork() left shared between parent and child
 * is one page of memory: each counts its share (what the kernel calls Pss). The kernel
 * finds shares by walking all resident pages, so they are asked for rarely enough to cost
 * at most a twentieth of the worker's time; in between, what became resident since counts
 * in full.
 *
 * A page that is written for the first time since the fork becomes the process's own, and
 * what is resident does not change. But each is a fault. While there were as many as make
 * a difference the exact share is asked for more often. And shares change when a relative
 * forks, executes or ends: half a page for each of two is a third for each of three, and
 * until all have looked again some of it is counted twice, or by nobody. By nobody would
 * be taken for room: so the child begins with the share that will be its own, at the
 * moment when it has a slot to put that in, its parent comes down to the same, and until
 * then nobody looks. Others who share the pages come down when they look: until then they
 * count too much.
 */
#include "preload/preload.h"

#include "lib/os/os.h"

/* Time between two walks, in units of what one took. */
#define REST 20
#define REST_CHANGED 3
/* Pages: 2 MiB. */
#define FAULTS_MATTER 512
/* A child that is not there by then does not come: it was killed, or fork() failed. */
#define HOLD_NS UINT64_C(100000000)

/* At most: each fault since may have made a shared page ours. */
static int64_t estimate(const struct usage *usage, int64_t rss, uint64_t faults)
{
	int64_t pages = usage->pss_pages + rss - usage->rss_pages +
			(int64_t)(faults - usage->faults);

	return pages < 0 ? 0 : pages < rss ? pages : rss;
}

/*
 * What stays ours of `pages` in a share of `rss` resident ones, when one more process has
 * them all: 1/m of each becomes 1/(m + 1).
 */
static int64_t left_to_us(int64_t pages, int64_t rss)
{
	return pages > 0 ? pages * rss / (pages + rss) : 0;
}

static void set(struct usage *usage, int64_t pages, int64_t rss, uint64_t faults)
{
	usage->pss_pages = pages;
	usage->rss_pages = rss;
	usage->faults = faults;
}

static void begin_family(struct usage *usage, uint64_t faults)
{
	if (!usage->family)
		set(usage, usage->last_pages, usage->last_rss, faults);
	usage->family = 1;
	usage->next_ns = usage->again_ns = 0;
}

void usage_forked(struct usage *usage)
{
	__atomic_store_n(&usage->forked_faults, os_minor_faults(), __ATOMIC_RELAXED);
	__atomic_fetch_add(&usage->forked, 1, __ATOMIC_RELEASE);
}

static void see_fork(struct usage *usage, uint64_t now)
{
	uint32_t forked = __atomic_exchange_n(&usage->forked, 0, __ATOMIC_ACQUIRE);

	if (!forked)
		return;
	begin_family(usage, __atomic_load_n(&usage->forked_faults, __ATOMIC_RELAXED));
	usage->forks = true;
	usage->split += forked;
	usage->hold_ns = now + HOLD_NS;
}

/*
 * From now on each of the two counts the same share of what the parent counted. The
 * parent's keeper, which writes there, comes to that by itself; if the parent has ended
 * meanwhile it is somebody else's account.
 */
void usage_born(struct usage *usage, struct ctl_slot *slot, struct ctl_slot *parent,
		uint64_t claim)
{
	bool known = slot && __atomic_load_n(&parent->claim, __ATOMIC_ACQUIRE) == claim;
	int64_t whole = known ? CTL_LOAD(&parent->usage_pages) : usage->last_pages;
	int64_t part = left_to_us(whole, usage->last_rss);
	uint64_t faults = os_minor_faults();

	usage->forked = usage->split = 0;
	usage->forks = false;
	begin_family(usage, faults);
	set(usage, part, usage->last_rss, faults);
	usage->last_pages = part;
	if (!slot)
		return;
	CTL_STORE(&slot->usage_pages, part);
	if (!known)
		return;
	__atomic_fetch_sub(&parent->usage_pages, whole - part, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&parent->claim, __ATOMIC_SEQ_CST) != claim)
		__atomic_fetch_add(&parent->usage_pages, whole - part, __ATOMIC_SEQ_CST);
}

static void look(struct usage *usage, int64_t rss, uint64_t faults, uint64_t before)
{
	int64_t pss = os_pss_anon_pages();
	uint64_t after = os_now_ns();

	usage->hold_ns = 0;
	usage->next_ns = after + (after - before) * REST;
	usage->again_ns = after + (after - before) * REST_CHANGED;
	set(usage, pss < 0 ? rss : pss, rss, faults);
	/* Alone again: the others have ended, or have copies of their own. */
	if (pss >= rss - rss / 256)
		usage->family = 0;
}

/* A fork is under way somewhere, and its child's part is on nobody's account yet. */
static bool held(struct usage *usage, const struct ctl *ctl, uint64_t now)
{
	if (!__atomic_load_n(&ctl->forking, __ATOMIC_ACQUIRE))
		return false;
	if (!usage->hold_ns)
		usage->hold_ns = now + HOLD_NS;
	return now < usage->hold_ns;
}

int64_t usage_pages(struct usage *usage, int64_t rss, const struct ctl *ctl)
{
	uint64_t now = os_now_ns(), faults = os_minor_faults();
	uint32_t kin = CTL_LOAD(&ctl->kin);
	bool changed;

	see_fork(usage, now);
	if (usage->family && !held(usage, ctl, now)) {
		for (; usage->split; usage->split--)
			set(usage, left_to_us(estimate(usage, rss, faults), rss), rss,
			    faults);
		changed = kin != usage->kin || faults - usage->faults >= FAULTS_MATTER;
		if (now >= usage->next_ns || (now >= usage->again_ns && changed)) {
			usage->kin = kin;
			look(usage, rss, faults, now);
		}
	}
	usage->last_rss = rss;
	usage->last_pages = usage->family ? estimate(usage, rss, faults) : rss;
	return usage->last_pages;
}
