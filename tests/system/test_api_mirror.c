/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/range.h>: the program and a device use the same memory at the same time, while
 * pages move and mappings change. Nothing that either writes is lost, and the device sees
 * nothing that is gone.
 */
#include "mirror.h"

#include <pthread.h>

#define NR 64u

struct party {
	struct mirror *m;
	struct uhmm_device *ram;
	uint64_t by_program, by_device, moved;
	bool stop;
};

static bool goes_on(const struct party *y)
{
	return !__atomic_load_n(&y->stop, __ATOMIC_RELAXED);
}

static void *of_thread(pthread_t *thread, void *(*fn)(void *arg), struct party *y)
{
	CHECK_EQ(pthread_create(thread, NULL, fn, y), 0);
	return NULL;
}

static unsigned seed_of(const void *p)
{
	return (unsigned)((uintptr_t)p >> 4);
}

/* ---- counting ---------------------------------------------------------------------- */

/*
 * A counter at the beginning of each page. Relaxed: for any other order ThreadSanitizer
 * holds a lock of its own across the access, and the reader needs that to answer it.
 */
static void add(void *page)
{
	__atomic_fetch_add((uint64_t *)page, 1, __ATOMIC_RELAXED);
}

static void *program_adds(void *arg)
{
	struct party *y = arg;
	unsigned seed = seed_of(&seed);

	while (goes_on(y)) {
		add(y->m->p + (unsigned)rand_r(&seed) % NR * PAGE);
		__atomic_fetch_add(&y->by_program, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* With the lock of the driver: what its page table has stays until that is let go of. */
static bool device_add(struct mirror *m, unsigned page)
{
	void *bytes = NULL;

	if (m->exclusive[page])
		bytes = uhmm_pfn_bytes(m->space, m->exclusive[page]);
	else if (m->table[page] & UHMM_RANGE_WRITE)
		bytes = mirror_bytes(m, m->table[page]);
	if (bytes)
		add(bytes);
	return bytes;
}

static void device_gets(struct mirror *m, unsigned page, unsigned *seed)
{
	unsigned nr = 1 + (unsigned)rand_r(seed) % (NR - page);
	int r;

	if (rand_r(seed) % 2) {
		CHECK_EQ(mirror_map(m, m->p + page * PAGE, nr,
				    UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE),
			 0);
	} else {
		r = mirror_make_exclusive(m, page);
		CHECK(r == 0 || r == -EBUSY, "%d", r);
	}
}

static void *device_adds(void *arg)
{
	struct party *y = arg;
	struct mirror *m = y->m;
	unsigned seed = seed_of(&seed), page;
	bool done;

	while (goes_on(y)) {
		page = (unsigned)rand_r(&seed) % NR;
		uhmm_lock(&m->lock);
		done = device_add(m, page);
		uhmm_unlock(&m->lock);
		__atomic_fetch_add(&y->by_device, done, __ATOMIC_RELAXED);
		if (!done)
			device_gets(m, page, &seed);
	}
	return NULL;
}

static void move(struct party *y, char *p, size_t nr, unsigned how)
{
	uhmm_pfn_t src[NR], dst[NR];
	struct uhmm_migrate migrate = { .src = src, .dst = dst };
	size_t moved = 0, i;

	switch (how) {
	case 0:
		uhmm_migrate(y->m->space, p, nr * PAGE, y->ram, NULL, &moved);
		break;
	case 1:
		uhmm_migrate(y->m->space, p, nr * PAGE, NULL, NULL, &moved);
		break;
	default:
		mirror_setup(y->m, p, nr, &migrate);
		CHECK_EQ(uhmm_migrate_finalize(y->m->space, &migrate), 0);
		for (i = 0; i < nr; i++)
			moved += (src[i] & UHMM_PFN_MIGRATE) != 0;
		break;
	}
	y->moved += moved;
}

static void *pages_move(void *arg)
{
	struct party *y = arg;
	unsigned seed = seed_of(&seed), page, nr;

	while (goes_on(y)) {
		page = (unsigned)rand_r(&seed) % NR;
		nr = 1 + (unsigned)rand_r(&seed) % (NR - page);
		move(y, y->m->p + page * PAGE, nr, (unsigned)rand_r(&seed) % 4);
		mirror_clear(y->m);
	}
	return NULL;
}

API_TEST(nothing_is_lost_between_program_and_device)
{
	struct party y = { .m = mirror_open(delivery, api_map(NR), NR) };
	pthread_t thread[5];
	uint64_t sum = 0;
	unsigned i;

	y.ram = api_device(y.m->space, "ram");
	of_thread(&thread[0], program_adds, &y);
	of_thread(&thread[1], program_adds, &y);
	of_thread(&thread[2], device_adds, &y);
	of_thread(&thread[3], device_adds, &y);
	of_thread(&thread[4], pages_move, &y);
	sleep(2);
	__atomic_store_n(&y.stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 5; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < NR; i++)
		sum += *(uint64_t *)(y.m->p + i * PAGE);
	printf("# %ju by the program, %ju by the device, %ju pages moved\n",
	       (uintmax_t)y.by_program, (uintmax_t)y.by_device, (uintmax_t)y.moved);
	CHECK_EQ(sum, y.by_program + y.by_device);
	CHECK_GT(y.by_program, 100);
	CHECK_GT(y.by_device, 100);
	CHECK_GT(y.moved, 100);
	mirror_close(y.m);
}

/* ---- what is gone ------------------------------------------------------------------ */

static void *device_maps(void *arg)
{
	struct party *y = arg;
	struct mirror *m = y->m;
	unsigned seed = seed_of(&seed), page, nr;
	int r;

	while (goes_on(y)) {
		page = (unsigned)rand_r(&seed) % NR;
		nr = 1 + (unsigned)rand_r(&seed) % (NR - page);
		r = mirror_map(m, m->p + page * PAGE, nr,
			       rand_r(&seed) % 2 ? UHMM_RANGE_REQ_FAULT : 0);
		CHECK(r == 0 || r == -EFAULT, "%d", r);
		__atomic_fetch_add(&y->by_device, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Pages that this thread has just made inaccessible. */
static void check_gone(struct mirror *m, unsigned page, unsigned nr)
{
	unsigned i;

	mirror_clear(m); /* begins to read, as who is told to work does */
	uhmm_lock(&m->lock);
	for (i = page; i < page + nr; i++)
		CHECK(!(m->table[i] & UHMM_RANGE_VALID), "page %u", i);
	uhmm_unlock(&m->lock);
}

/* Discarded: zeros may be there by now, but none of what the device had. */
static void check_not_on_device(struct mirror *m, unsigned page, unsigned nr)
{
	uint64_t number;
	unsigned i;

	mirror_clear(m);
	uhmm_lock(&m->lock);
	for (i = page; i < page + nr; i++)
		CHECK(!uhmm_range_pagemap(m->space, m->table[i], &number), "page %u", i);
	uhmm_unlock(&m->lock);
}

static void map_again(char *p, size_t len)
{
	CHECK(mmap(p, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
}

static void change(struct party *y, unsigned page, unsigned nr, char *elsewhere,
		   unsigned how)
{
	struct mirror *m = y->m;
	char *p = m->p + page * PAGE;
	size_t len = nr * PAGE;
	unsigned i;

	switch (how) {
	case 0:
		CHECK_EQ(munmap(p, len), 0);
		check_gone(m, page, nr);
		break;
	case 1:
		if (mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) !=
		    elsewhere)
			CHECK_EQ(munmap(p, len), 0); /* several mappings */
		check_gone(m, page, nr);
		break;
	case 2:
		CHECK_EQ(mprotect(p, len, PROT_NONE), 0);
		uhmm_protection_changed(m->space, (uintptr_t)p, (uintptr_t)p + len);
		check_gone(m, page, nr);
		CHECK_EQ(mprotect(p, len, PROT_READ | PROT_WRITE), 0);
		return;
	case 3:
		CHECK_EQ(madvise(p, len, MADV_DONTNEED), 0);
		check_not_on_device(m, page, nr);
		return;
	case 4:
		move(y, p, nr, 0);
		return;
	default:
		for (i = 0; i < nr; i++) /* they may be several mappings */
			move(y, p + i * PAGE, 1, 2);
		return;
	}
	map_again(p, len);
}

API_TEST(the_device_sees_nothing_that_is_gone)
{
	struct party y = { .m = mirror_open(delivery, api_map(NR), NR) };
	char *elsewhere = api_map(NR);
	unsigned seed = 1, page, nr, i, round;
	pthread_t thread[2];

	y.ram = api_device(y.m->space, "ram");
	of_thread(&thread[0], device_maps, &y);
	of_thread(&thread[1], device_maps, &y);
	for (round = 0; round < 1000; round++) {
		page = (unsigned)rand_r(&seed) % NR;
		nr = 1 + (unsigned)rand_r(&seed) % (NR - page);
		for (i = page; i < page + nr; i++)
			if (rand_r(&seed) % 2)
				y.m->p[i * PAGE] = 1;
		change(&y, page, nr, elsewhere, (unsigned)rand_r(&seed) % 6);
	}
	__atomic_store_n(&y.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	printf("# mapped %ju times\n", (uintmax_t)y.by_device);
	CHECK_GT(y.by_device, 10);
	mirror_close(y.m);
}
