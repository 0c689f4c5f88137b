/* SPDX-License-Identifier: Apache-2.0 */
/* See ask.h. */
#include "lib/ask.h"

#include <errno.h>

enum { ASK_NONE, ASK_OUT, ASK_OPEN, ASK_DONE };

#define MS UINT64_C(1000000)

/*
 * So long somebody is waited for who takes the first, and so long for each that follows;
 * and so long nobody is asked after that was in vain.
 */
#define FIRST_NS (MS / 5)
#define NEXT_NS MS
#define ALONE_MAX_NS (50 * MS)

static uint32_t state(const struct ask *ask)
{
	return __atomic_load_n(&ask->is, __ATOMIC_ACQUIRE);
}

void ask_init(struct ask *ask)
{
	*ask = (struct ask){ .alone_ns = FIRST_NS };
}

bool ask_is_open(const struct ask *ask)
{
	return state(ask) == ASK_OPEN;
}

bool ask_take(struct ask *ask, int r)
{
	if (r > 0 && __atomic_add_fetch(&ask->taken, (unsigned)r, __ATOMIC_RELAXED) <
			     __atomic_load_n(&ask->wanted, __ATOMIC_RELAXED))
		return false;
	__atomic_store_n(&ask->is, ASK_DONE, __ATOMIC_RELEASE);
	return true;
}

bool ask_is_out(const struct ask *ask)
{
	return state(ask) != ASK_NONE;
}

bool ask_is_useless(const struct ask *ask, uint64_t now)
{
	return now < ask->alone_until;
}

/* Whether there is nobody, or nobody any more. */
static bool is_vain(struct ask *ask, uint64_t now)
{
	uint32_t taken = __atomic_load_n(&ask->taken, __ATOMIC_RELAXED);

	if (taken != ask->seen_taken) {
		ask->seen_taken = taken;
		ask->since_ns = now;
		ask->wait_ns = NEXT_NS;
	}
	return now >= ask->since_ns + ask->wait_ns;
}

int ask_answer(struct ask *ask, uint64_t now)
{
	if (state(ask) == ASK_DONE) {
		__atomic_store_n(&ask->is, ASK_NONE, __ATOMIC_RELAXED);
		ask->alone_ns = FIRST_NS;
		return (int)__atomic_exchange_n(&ask->taken, 0, __ATOMIC_RELAXED);
	}
	if (!is_vain(ask, now))
		return -EAGAIN;
	ask->alone_until = now + ask->alone_ns;
	ask->alone_ns *= ask->alone_ns < ALONE_MAX_NS ? 2 : 1;
	__atomic_store_n(&ask->is, ASK_NONE, __ATOMIC_RELAXED);
	return -ETIMEDOUT;
}

void ask_cancel(struct ask *ask)
{
	__atomic_store_n(&ask->is, ASK_NONE, __ATOMIC_RELAXED);
	__atomic_store_n(&ask->taken, 0, __ATOMIC_RELAXED);
}

void ask_for(struct ask *ask, int64_t pages, uint64_t now)
{
	pages = pages < ASK_MAX ? pages : ASK_MAX;
	__atomic_store_n(&ask->wanted, (uint32_t)pages, __ATOMIC_RELAXED);
	ask->seen_taken = __atomic_load_n(&ask->taken, __ATOMIC_RELAXED);
	ask->since_ns = now;
	ask->wait_ns = FIRST_NS;
	__atomic_store_n(&ask->is, ASK_OUT, __ATOMIC_RELAXED);
}

void ask_open(struct ask *ask)
{
	uint32_t out = ASK_OUT;

	__atomic_compare_exchange_n(&ask->is, &out, ASK_OPEN, false, __ATOMIC_RELEASE,
				    __ATOMIC_RELAXED);
}
