/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See stalls.h. Each thread writes its own ring; who reads looks at complete entries
 * only, for an entry is counted after it was written.
 */
#include "stalls.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_MS 2
#define LATE_MS 5      /* less is a time slice of somebody's */
#define WATCHED_MAX 64 /* processors; more are not looked at */
#define NOTES 1024     /* of each; later ones replace the oldest */

struct note {
	uint64_t from_ms, to_ms;
};

struct watched {
	int cpu;
	uint64_t nr; /* release */
	struct note note[NOTES];
};

static struct watched watched[WATCHED_MAX];
static int nr_watched;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void *watch(void *arg)
{
	struct watched *w = arg;
	const struct timespec period = { .tv_nsec = PERIOD_MS * 1000000 };
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(w->cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -10);
	for (;;) {
		uint64_t from = now_ms(), to;

		nanosleep(&period, NULL);
		to = now_ms();
		if (to - from < PERIOD_MS + LATE_MS)
			continue;
		w->note[w->nr % NOTES] = (struct note){ from, to };
		__atomic_store_n(&w->nr, w->nr + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

void stalls_watch(void)
{
	pthread_t thread;
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE && nr_watched < WATCHED_MAX; cpu++) {
		if (!CPU_ISSET(cpu, &cpus))
			continue;
		watched[nr_watched].cpu = cpu;
		if (pthread_create(&thread, NULL, watch, &watched[nr_watched]))
			return;
		nr_watched++;
	}
}

uint64_t stalls_longest_ms(uint64_t from_ms, uint64_t to_ms)
{
	uint64_t longest = 0;

	for (int i = 0; i < nr_watched; i++) {
		uint64_t nr = __atomic_load_n(&watched[i].nr, __ATOMIC_ACQUIRE);

		for (uint64_t n = nr > NOTES ? nr - NOTES : 0; n < nr; n++) {
			const struct note *note = &watched[i].note[n % NOTES];

			if (note->to_ms >= from_ms && note->from_ms <= to_ms &&
			    note->to_ms - note->from_ms > longest)
				longest = note->to_ms - note->from_ms;
		}
	}
	return longest;
}
