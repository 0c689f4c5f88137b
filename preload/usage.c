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
 * until all have looked again some of it is counted twice, or by nobody.
 */
#include "preload/preload.h"

#include "lib/os/os.h"

/* Time between two walks, in units of what one took. */
#define REST 20
#define REST_CHANGED 3
/* Pages: 2 MiB. */
#define FAULTS_MATTER 512

void usage_forked(struct usage *usage)
{
	usage->family = 1;
	usage->next_ns = usage->again_ns = 0;
}

int64_t usage_pages(struct usage *usage, int64_t rss, uint32_t kin)
{
	uint64_t before, after, faults;
	int64_t pss;

	if (!usage->family)
		return rss;
	before = os_now_ns();
	faults = os_minor_faults();
	if (before >= usage->next_ns ||
	    (before >= usage->again_ns &&
	     (kin != usage->kin || faults - usage->faults >= FAULTS_MATTER))) {
		pss = os_pss_anon_pages();
		if (pss < 0)
			return rss;
		after = os_now_ns();
		usage->next_ns = after + (after - before) * REST;
		usage->again_ns = after + (after - before) * REST_CHANGED;
		usage->faults = faults;
		usage->kin = kin;
		usage->pss_pages = pss;
		usage->rss_pages = rss;
		/* Alone again: the others have ended, or have copies of their own. */
		if (pss >= rss - rss / 256)
			usage->family = 0;
	}
	pss = usage->pss_pages + rss - usage->rss_pages + (int64_t)(faults - usage->faults);
	return pss < 0 ? 0 : pss < rss ? pss : rss;
}
