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

static struct uhmm_space *spaces[REGISTRY_SPACES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

struct uhmm_space *registry_get(int i)
{
	return __atomic_load_n(&spaces[i], __ATOMIC_ACQUIRE);
}

static void prepare(void)
{
	int i;

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
}

static void child(void)
{
	int i;

	host_fork_done();
	for (i = REGISTRY_SPACES - 1; i >= 0; i--)
		if (registry_get(i))
			fork_child(registry_get(i));
}

static void install(void)
{
	pthread_atfork(prepare, parent, child);
}

int registry_add(struct uhmm_space *sp)
{
	int i;

	pthread_once(&once, install);
	for (i = 0; i < REGISTRY_SPACES; i++) {
		struct uhmm_space *none = NULL;

		if (__atomic_compare_exchange_n(&spaces[i], &none, sp, false,
						__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return 0;
	}
	return -EMFILE;
}

void registry_remove(struct uhmm_space *sp)
{
	int i;

	for (i = 0; i < REGISTRY_SPACES; i++)
		if (registry_get(i) == sp)
			__atomic_store_n(&spaces[i], NULL, __ATOMIC_RELEASE);
}
