/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processor a thread runs on, and is woken on.
 *
 * The scheduler puts a thread that is woken on an idle processor, if there is one. The
 * only thing that keeps it here is that it may run nowhere else while it is woken. Its
 * affinity is the program's, which must not find it changed: so it is back before the
 * thread can run. It is kept from running by us, on the same processor and of a real-time
 * class, which no ordinary thread preempts. Where that is not permitted nothing is done.
 */
#define _GNU_SOURCE
#include "lib/os/os.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "lib/os/os_linux.h"
#include "lib/os/sys.h"

static bool get(uint32_t tid, struct os_cpus *cpus)
{
	long n = sys3(SYS_sched_getaffinity, tid, sizeof(cpus->bits), cpus->bits);

	if (n <= 0)
		return false;
	memset((char *)cpus->bits + n, 0, sizeof(cpus->bits) - (size_t)n);
	return true;
}

static bool set(uint32_t tid, const struct os_cpus *cpus)
{
	return sys3(SYS_sched_setaffinity, tid, sizeof(cpus->bits), cpus->bits) == 0;
}

static struct os_cpus only(uint32_t cpu)
{
	struct os_cpus cpus = { { 0 } };

	cpus.bits[cpu / 64] = UINT64_C(1) << cpu % 64;
	return cpus;
}

static bool has(const struct os_cpus *cpus, uint32_t cpu)
{
	return cpu < 64 * OS_CPU_WORDS && cpus->bits[cpu / 64] >> cpu % 64 & 1;
}

bool os_stay(uint32_t cpu, struct os_cpus *was)
{
	struct os_cpus here;

	if (!get(0, was) || !has(was, cpu))
		return false;
	here = only(cpu);
	return set(0, &here);
}

void os_stray(const struct os_cpus *was)
{
	set(0, was);
}

/* Of a class that none of a real-time class has to wait for. */
static bool is_ordinary(uint32_t tid)
{
	long policy = sys1(SYS_sched_getscheduler, tid);

	return policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE;
}

bool os_pull(struct os_pull *pull, uint32_t tid)
{
	uint32_t cpu = os_cpu();
	struct os_cpus here;

	pull->tid = 0;
	/* Who faulted may be a thread of another process, that writes to our memory. */
	if (!get(tid, &pull->was) || !has(&pull->was, cpu) ||
	    sys3(SYS_tgkill, os_pid(), tid, 0) != 0 || !is_ordinary(tid))
		return false;
	here = only(cpu);
	if (!memcmp(&here, &pull->was, sizeof(here)) || !os_linux_realtime(true))
		return false;
	if (!set(tid, &here)) {
		os_linux_realtime(false);
		return false;
	}
	pull->tid = tid;
	pull->cpu = cpu;
	return true;
}

void os_let_go(struct os_pull *pull)
{
	struct os_cpus here, now;

	if (!pull->tid)
		return;
	here = only(pull->cpu);
	/* Unless somebody else has set it meanwhile, or the thread has gone. */
	if (get(pull->tid, &now) && !memcmp(&now, &here, sizeof(now)))
		set(pull->tid, &pull->was);
	os_linux_realtime(false);
}
