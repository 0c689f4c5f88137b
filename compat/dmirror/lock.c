/* SPDX-License-Identifier: Apache-2.0 */
/* See lock.h. */
#include "compat/dmirror/lock.h"

#include <pthread.h>

#define FREE PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP

static pthread_rwlock_t lock = FREE;

static void block(sigset_t *signals)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, signals);
}

void maps_lock_read(sigset_t *signals)
{
	block(signals);
	pthread_rwlock_rdlock(&lock);
}

void maps_lock_write(sigset_t *signals)
{
	block(signals);
	pthread_rwlock_wrlock(&lock);
}

void maps_unlock(const sigset_t *signals)
{
	pthread_rwlock_unlock(&lock);
	pthread_sigmask(SIG_SETMASK, signals, NULL);
}

void maps_fork_prepare(void)
{
	pthread_rwlock_wrlock(&lock);
}

void maps_fork_parent(void)
{
	pthread_rwlock_unlock(&lock);
}

void maps_fork_child(void)
{
	/* It knows its holder by a number that is not the child's. */
	lock = (pthread_rwlock_t)FREE;
}
