/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement.
 *
 * A page that is taken out of a page table, the program's or that of the frames, is
 * flushed from every processor that runs a thread of the process: an interrupt, and the
 * wait until it was answered. And a thread that is woken on an idle processor waits until
 * that has woken up. Both may cost more than what a second processor gains by storing
 * pages meanwhile; on virtual machines, several times more. docs/fault-path.md has
 * figures.
 *
 * So there are two ways to work. Apart: everybody runs where the scheduler puts them.
 * Together: reader and worker keep to one processor, and who faults is woken there. What
 * is better depends on the machine and on the program, and is found out by trying: while
 * faults come fast the other way is tried for WINDOW, and kept if more faults were
 * resolved in it. The next attempt comes after a while, a longer one each time that
 * nothing has changed. A program that seldom faults is left alone.
 */
#include "lib/place.h"

#define MS UINT64_C(1000000)
#define WINDOW (16 * MS)
/* Faults in a WINDOW from which on it matters, and below which it does not any more. */
#define FAST 320
#define SLOW 80
/* By so much, in percent, has the other way to be better. */
#define BETTER 115
#define REST_MIN (500 * MS)
#define REST_MAX (8000 * MS)

void place_init(struct uhmm_space *sp)
{
	sp->place = (struct place){ .cpu = -1, .worker_cpu = -1, .rest_ns = REST_MIN };
}

static void together(struct place *p)
{
	uint32_t cpu = os_cpu();

	if (os_stay(cpu, &p->reader_cpus))
		__atomic_store_n(&p->cpu, (int)cpu, __ATOMIC_RELAXED);
}

static void apart(struct place *p)
{
	os_stray(&p->reader_cpus);
	__atomic_store_n(&p->cpu, -1, __ATOMIC_RELAXED);
}

static void change(struct place *p)
{
	if (p->cpu < 0)
		together(p);
	else
		apart(p);
}

/* A window has ended, in which so many faults were resolved in WINDOW's time. */
static void judge(struct place *p, uint64_t rate, uint64_t now)
{
	if (p->trying) {
		p->trying = false;
		if (rate * 100 > p->before * BETTER) {
			p->rest_ns = REST_MIN;
		} else {
			change(p);
			p->rest_ns *= p->rest_ns < REST_MAX ? 2 : 1;
		}
		p->until_ns = now + p->rest_ns;
	} else if (rate < SLOW) {
		if (p->cpu >= 0)
			apart(p);
		p->rest_ns = REST_MIN;
	} else if (rate >= FAST && now >= p->until_ns) {
		p->before = rate;
		p->trying = true;
		change(p);
	}
}

void place_note(struct uhmm_space *sp, uint32_t faults)
{
	struct place *p = &sp->place;
	uint64_t now, took;

	if (!sp->may_place || !faults)
		return;
	now = os_now_ns();
	took = now - p->start_ns;
	p->faults += faults;
	if (took < WINDOW)
		return;
	judge(p, took < 8 * WINDOW ? p->faults * WINDOW / took : 0, now);
	p->start_ns = now;
	p->faults = 0;
}

void place_follow(struct uhmm_space *sp)
{
	struct place *p = &sp->place;
	int cpu = __atomic_load_n(&p->cpu, __ATOMIC_RELAXED);

	if (cpu == p->worker_cpu)
		return;
	if (p->worker_cpu >= 0)
		os_stray(&p->worker_cpus);
	p->worker_cpu = cpu >= 0 && os_stay((uint32_t)cpu, &p->worker_cpus) ? cpu : -1;
}

void place_pull(struct uhmm_space *sp, uint32_t tid, struct os_pull *pull)
{
	pull->tid = 0;
	if (tid && sp->place.cpu >= 0)
		os_pull(pull, tid);
}
