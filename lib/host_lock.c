/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock of devices and of the store: one word, 0 free, 1 taken, 2 taken and somebody
 * sleeps.
 *
 * Whoever finds it taken spins for about as long as a short critical section lasts, then
 * sleeps. It has no owner and no memory beyond its word, needs nothing of libc, and may
 * be taken by a thread that resolves a fault; such a thread has all signals blocked, so
 * that no handler comes in between and wants the same lock.
 *
 * A thread that had to sleep takes the lock as 2, because it cannot know whether it was
 * the only sleeper: one wake too many at the end, never one too few.
 */
#include "lib/os/os.h"
#include "uhmm/device.h"

/* Some microseconds: longer than any lock of the store is held without a page fault. */
#define SPINS 100

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

int uhmm_trylock(struct uhmm_lock *lock)
{
	uint32_t expected = 0;

	return __atomic_compare_exchange_n(&lock->word, &expected, 1, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static __attribute__((noinline)) void lock_slow(struct uhmm_lock *lock)
{
	int i;

	for (i = 0; i < SPINS; i++) {
		relax();
		/* Somebody sleeps already: spinning would only overtake them. */
		if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 2)
			break;
		if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 0 &&
		    uhmm_trylock(lock))
			return;
	}
	while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0)
		os_wait(&lock->word, 2, -1);
}

void uhmm_lock(struct uhmm_lock *lock)
{
	if (!uhmm_trylock(lock))
		lock_slow(lock);
}

void uhmm_unlock(struct uhmm_lock *lock)
{
	if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)
		os_wake(&lock->word, 1);
}

uint32_t uhmm_host_cpu(void)
{
	return os_cpu();
}
