/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See lock.h. Not libc's lock of this kind: that knows its holder by a number, which the
 * child of a fork() does not have.
 */
#include "compat/dmirror/lock.h"

#include <pthread.h>
#include <stdbool.h>

static struct {
	pthread_mutex_t mutex; /* of what follows */
	pthread_cond_t changed;
	unsigned readers, waiting; /* waiting: writers, before whom no reader comes */
	bool writer;
} lock = { .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void block(sigset_t *signals)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, signals);
}

void maps_lock_read(sigset_t *signals)
{
	block(signals);
	pthread_mutex_lock(&lock.mutex);
	while (lock.writer || lock.waiting)
		pthread_cond_wait(&lock.changed, &lock.mutex);
	lock.readers++;
	pthread_mutex_unlock(&lock.mutex);
}

/* With the mutex. */
static void become_writer(void)
{
	lock.waiting++;
	while (lock.writer || lock.readers)
		pthread_cond_wait(&lock.changed, &lock.mutex);
	lock.waiting--;
	lock.writer = true;
}

void maps_lock_write(sigset_t *signals)
{
	block(signals);
	pthread_mutex_lock(&lock.mutex);
	become_writer();
	pthread_mutex_unlock(&lock.mutex);
}

void maps_unlock(const sigset_t *signals)
{
	pthread_mutex_lock(&lock.mutex);
	if (lock.writer)
		lock.writer = false;
	else
		lock.readers--;
	pthread_cond_broadcast(&lock.changed);
	pthread_mutex_unlock(&lock.mutex);
	pthread_sigmask(SIG_SETMASK, signals, NULL);
}

void maps_fork_prepare(void)
{
	pthread_mutex_lock(&lock.mutex);
	become_writer();
}

void maps_fork_parent(void)
{
	lock.writer = false;
	pthread_cond_broadcast(&lock.changed);
	pthread_mutex_unlock(&lock.mutex);
}

void maps_fork_child(void)
{
	/* Who waited for it is not here. */
	lock.changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	lock.waiting = 0;
	lock.writer = false;
	pthread_mutex_unlock(&lock.mutex);
}
