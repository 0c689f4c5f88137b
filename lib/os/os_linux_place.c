/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where threads of ours run, on Linux: on which processors, and whether only where nobody
 * else wants to.
 *
 * A thread under SCHED_IDLE may not leave that policy without the right to the nice value
 * it had (sched(7)), so none is put there without that right. And a program that has put
 * a filter on its system calls (seccomp), for all threads, may have it kill who makes one
 * that it does not expect: then nothing is done here any more.
 *
 * Nothing of libc's is called, not strstr() nor memset(), nor may the compiler call that:
 * where the program is built with a sanitizer it is that one's, which looks into memory
 * of its own. That is migrated, and it is the reader who comes here.
 */
#include "lib/os/os.h"

#include <errno.h>
#include <sched.h>

#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

/* Of what follows the name; proc(5) has them as 39 and 41. */
#define PROCESSOR 37
#define POLICY 39

/* A container's filter has been there before us, and says no without a kill. */
static bool is_filtered(const struct os_place *place)
{
	return place->filters < 0 || os_linux_filters(0) != place->filters;
}

#define WORDS (OS_PLACE_CPUS / 64)

/* One CPU alone. False: there is no such. */
static bool make_mask(uint64_t mask[WORDS], unsigned cpu)
{
	unsigned i;

	for (i = 0; i < WORDS; i++) {
		mask[i] = cpu / 64 == i ? UINT64_C(1) << cpu % 64 : 0;
		__asm__ volatile("" : : : "memory"); /* no memset() */
	}
	return cpu < OS_PLACE_CPUS;
}

/*
 * Those who do not run under real-time policies have a twentieth of each second at least,
 * unless that has been turned off.
 */
static bool may_starve(void)
{
	char text[32];

	return os_linux_read_text("/proc/sys/kernel/sched_rt_runtime_us", text,
				  sizeof(text)) > 0 &&
	       text[0] == '-';
}

static int set_policy(uint32_t tid, const struct os_place *place, bool lowered)
{
	struct sched_attr_v0 attr = {
		.size = sizeof(attr),
		.policy = lowered ? SCHED_IDLE : place->policy,
		.nice = place->nice,
		.runtime = place->slice_ns,
	};

	return (int)sys3(SYS_sched_setattr, tid, &attr, 0);
}

static int set_cpus(uint32_t tid, const uint64_t *mask)
{
	return (int)sys3(SYS_sched_setaffinity, tid, OS_PLACE_CPUS / 8, mask);
}

/*
 * Not of threads that have the program's descriptors: a file is opened here now and then,
 * and would have a number that the program has just closed.
 */
int os_place_get(struct os_place *place)
{
	struct sched_attr_v0 attr = { 0 };
	long n, r;

	if (!os_linux_are_hidden())
		return -EOPNOTSUPP;
	n = sys3(SYS_sched_getaffinity, 0, sizeof(place->cpus), place->cpus);
	r = sys4(SYS_sched_getattr, 0, &attr, sizeof(attr), 0);
	if (n < 0 || r < 0)
		return (int)(n < 0 ? n : r);
	place->filters = os_linux_filters(0);
	place->policy = attr.policy;
	place->nice = attr.nice;
	place->slice_ns = attr.runtime;
	return 0;
}

int os_thread_cpu(uint32_t tid)
{
	struct os_path path = { 0 };
	char text[1024];
	const char *at, *name_end = NULL;
	long n;

	os_linux_path_add(&path, "/proc/self/task/");
	os_linux_path_add_number(&path, tid);
	os_linux_path_add(&path, "/stat");
	n = os_linux_read_text(path.text, text, sizeof(text));
	if (n <= 0)
		return n ? (int)n : -EIO;
	/* The name may contain anything. */
	for (at = text; *at; at++)
		if (*at == ')')
			name_end = at;
	if (!name_end || !name_end[1])
		return -EIO;
	switch (os_linux_stat_field(name_end + 2, POLICY)) {
	case SCHED_OTHER:
	case SCHED_BATCH:
	case SCHED_IDLE:
		return (int)os_linux_stat_field(name_end + 2, PROCESSOR);
	default:
		return -EPERM;
	}
}

int os_lower(const struct os_place *place, uint32_t cpu, bool again)
{
	uint64_t mask[WORDS];
	int r;

	if (!make_mask(mask, cpu))
		return -ERANGE;
	if (!again && (is_filtered(place) || may_starve()))
		return -EPERM;
	r = set_cpus(0, mask);
	if (r >= 0 && !again)
		r = set_policy(0, place, true);
	if (r < 0)
		set_cpus(0, place->cpus);
	return r < 0 ? r : 0;
}

int os_raise(const struct os_place *place, uint32_t tid)
{
	int r;

	if (is_filtered(place))
		return -EPERM;
	r = set_policy(tid, place, false);
	set_cpus(tid, place->cpus);
	return r < 0 ? r : 0;
}

int os_may_raise(const struct os_place *place)
{
	int r;

	if (is_filtered(place))
		return -EPERM;
	if (place->policy != SCHED_OTHER && place->policy != SCHED_BATCH)
		return -EINVAL;
	r = set_policy(0, place, true);
	return r < 0 ? r : set_policy(0, place, false);
}

int os_gather(const struct os_place *place, uint32_t tid, int cpu)
{
	uint64_t mask[WORDS];

	if (cpu >= 0 && !make_mask(mask, (unsigned)cpu))
		return -ERANGE;
	return set_cpus(tid, cpu < 0 ? place->cpus : mask) < 0 ? -ESRCH : 0;
}
