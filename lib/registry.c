/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spaces of this process, and pthread_atfork(). The handlers are installed before any
 * other thread of the program could have installed its own as a rule, so ours come last
 * before the fork and first after it.
 */
#include "lib/registry.h"

#include <errno.h>
#include <pthread.h>

#include "lib/fork.h"
#include "lib/host.h"
#include "lib/inline.h"

static struct uhmm_space *spaces[REGISTRY_SPACES];
static pthread_once_t once = PTHREAD_ONCE_INIT;
/* No space comes or goes while fork() is at work: what was prepared is ended. */
static struct uhmm_lock lock;
static uint64_t nr_created;

struct uhmm_space *registry_get(int i)
{
	return __atomic_load_n(&spaces[i], __ATOMIC_ACQUIRE);
}

static void prepare(void)
{
	int i;

	uhmm_lock(&lock);
	for (i = 0; i < REGISTRY_SPACES; i++)
		if (registry_get(i))
			fork_prepare(registry_get(i));
	host_fork_prepare();
}

static void parent(void)
{
	int i;

	host_fork_done();
	for (i = REGISTRY_SPACES - 1; i >= 0; i--)
		if (registry_get(i))
			fork_parent(registry_get(i));
	uhmm_unlock(&lock);
}

static void child(void)
{
	int i;

	host_fork_done();
	lock = (struct uhmm_lock){ 0 };
	inline_after_fork();
	for (i = REGISTRY_SPACES - 1; i >= 0; i--)
		if (registry_get(i))
			fork_child(registry_get(i));
}

static void install(void)
{
	pthread_atfork(prepare, parent, child);
}

void registry_lock(uint64_t *signals)
{
	pthread_once(&once, install);
	/* A handler of the program may fork. */
	os_block_signals(signals);
	uhmm_lock(&lock);
}

void registry_unlock(const uint64_t *signals)
{
	uhmm_unlock(&lock);
	os_restore_signals(signals);
}

int registry_add(struct uhmm_space *sp)
{
	int i;

	for (i = 0; i < REGISTRY_SPACES && registry_get(i); i++)
		;
	if (i < REGISTRY_SPACES) {
		sp->serial = ++nr_created;
		__atomic_store_n(&spaces[i], sp, __ATOMIC_RELEASE);
	}
	return i < REGISTRY_SPACES ? 0 : -EMFILE;
}

void registry_remove(struct uhmm_space *sp)
{
	int i;

	for (i = 0; i < REGISTRY_SPACES; i++)
		if (registry_get(i) == sp)
			__atomic_store_n(&spaces[i], NULL, __ATOMIC_RELEASE);
}

struct uhmm_space *registry_hold(struct uhmm_space *sp)
{
	struct uhmm_space *found = NULL, *at;
	int i;

	for (i = 0; i < REGISTRY_SPACES; i++) {
		at = registry_get(i);
		if (at && (!sp || at == sp) && !at->ending && at->pid == os_pid() &&
		    (!found || at->serial < found->serial))
			found = at;
	}
	if (found)
		found->holds++;
	return found;
}

int registry_end(struct uhmm_space *sp)
{
	if (sp->holds)
		return -EBUSY;
	sp->ending = true;
	return 0;
}

void registry_go_on(struct uhmm_space *sp)
{
	sp->ending = false;
}
