/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See process.h.
 *
 * Fork. Handlers of fork() run before it in the reverse order that they were installed
 * in. Ours must run before the library's: what they wait for (a migration, for one) needs
 * the library at work. So they are installed after it, when there is a space; and once
 * more before the program starts, for processes that have none: those do their work only
 * where the others are not there yet.
 */
#include "compat/dmirror/process.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "compat/dmirror/device.h"
#include "compat/dmirror/files.h"
#include "compat/dmirror/lock.h"
#include "compat/dmirror/table.h"
#include "uhmm/range.h"

static struct {
	pthread_mutex_t lock;
	pid_t pid;
	unsigned generation;      /* atomic */
	struct uhmm_space *space; /* atomic */
	struct device device[DMIRROR_DEVICES];
	bool there[DMIRROR_DEVICES];
	bool hooked;   /* the later handlers are installed */
	bool prepared; /* they have run before this fork */
} process = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- fork ------------------------------------------------------------------------- */

static void prepare(void)
{
	pthread_mutex_lock(&process.lock);
	maps_fork_prepare();
	files_fork_prepare();
}

static void parent(void)
{
	files_fork_parent();
	maps_fork_parent();
	pthread_mutex_unlock(&process.lock);
}

static void child(void)
{
	files_fork_child();
	maps_fork_child();
	pthread_mutex_unlock(&process.lock);
}

static void prepare_early(void)
{
	if (!process.hooked)
		prepare();
}

static void parent_early(void)
{
	if (!process.hooked)
		parent();
}

/* Before the library's threads run: from now on no mirror is of this process. */
static void child_early(void)
{
	process.pid = getpid();
	__atomic_fetch_add(&process.generation, 1, __ATOMIC_RELEASE);
	if (!process.hooked)
		child();
}

static void prepare_late(void)
{
	prepare();
	process.prepared = true;
}

static void parent_late(void)
{
	process.prepared = false;
	parent();
}

/* The library may not have been able to go on here. */
static void child_late(void)
{
	struct uhmm_space *space = process.prepared ? uhmm_space_find(0) : NULL;
	unsigned i;

	process.prepared = false;
	if (space != process.space) {
		__atomic_store_n(&process.space, NULL, __ATOMIC_RELEASE);
		for (i = 0; i < DMIRROR_DEVICES; i++)
			process.there[i] = false;
	}
	if (space)
		uhmm_space_put(space);
	child();
}

void process_init(void)
{
	process.pid = getpid();
	pthread_atfork(prepare_early, parent_early, child_early);
}

/* ---- the space -------------------------------------------------------------------- */

static int create(void)
{
	struct uhmm_space *space;
	int r = uhmm_space_create(NULL, &space);

	if (r)
		return r;
	if (!process.hooked)
		pthread_atfork(prepare_late, parent_late, child_late);
	process.hooked = true;
	__atomic_store_n(&process.space, space, __ATOMIC_RELEASE);
	return 0;
}

int process_device(unsigned number, struct device **device)
{
	int r = 0;

	/* A child that fork() has not made, or that has its parent's memory (vfork). */
	if (process.pid != getpid())
		return -ENODEV;
	pthread_mutex_lock(&process.lock);
	if (!process.space)
		r = create();
	if (!r && !process.there[number]) {
		r = device_init(&process.device[number], process.space, number);
		process.there[number] = r == 0;
	}
	pthread_mutex_unlock(&process.lock);
	*device = &process.device[number];
	return r;
}

struct uhmm_space *process_space(void)
{
	return __atomic_load_n(&process.space, __ATOMIC_ACQUIRE);
}

unsigned process_generation(void)
{
	return __atomic_load_n(&process.generation, __ATOMIC_ACQUIRE);
}

bool process_is_current(unsigned generation)
{
	return generation == process_generation();
}

bool process_is_ours(void)
{
	return process.pid == getpid();
}

void process_mappings_changed(uintptr_t addr, size_t len)
{
	struct uhmm_space *space = process_space();
	uintptr_t start = addr & ~(PAGE - 1), end = (addr + len + PAGE - 1) & ~(PAGE - 1);

	if (space && start < end && process_is_ours())
		uhmm_protection_changed(space, start, end);
}
