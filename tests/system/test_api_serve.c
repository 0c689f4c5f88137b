/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults that the driver serves itself, by migrate_to_ram(); and memory that may not be
 * written.
 */
#include "board.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

/* ---- migrate_to_ram() ------------------------------------------------------------- */

/* A migration to memory of nr pages from the one that was touched on. */
static int bring(struct board *b, const struct uhmm_fault *fault, size_t nr)
{
	struct steps *s = malloc(sizeof(*s));
	size_t left = (fault->end - fault->addr) / PAGE;

	CHECK(s);
	*s = (struct steps){ .board = b };
	s->m = (struct uhmm_migrate){
		.size = sizeof(s->m),
		.start = fault->addr,
		.end = fault->addr + (nr < left ? nr : left) * PAGE,
		.src = s->src,
		.dst = s->dst,
		.owner = board_owner,
		.flags = UHMM_SELECT_DEVICE_PRIVATE,
		.fault_page = fault->pfn,
	};
	CHECK_EQ(uhmm_migrate_setup(fault->space, &s->m), 0);
	steps_copy(s, true);
	steps_end(s);
	free(s);
	return 0;
}

static int bring_one(struct board *b, const struct uhmm_fault *fault)
{
	CHECK(fault->pagemap == b->map);
	return bring(b, fault, 1);
}

static int bring_sixteen(struct board *b, const struct uhmm_fault *fault)
{
	return bring(b, fault, 16);
}

API_TEST(a_driver_serves_its_faults)
{
	struct board *b = board_open_serving(delivery, bring_one);
	char *p = api_map(32);

	api_fill(p, 32, 1);
	board_take(b, p, 32);
	api_check(p, 32, 1);
	CHECK_EQ(board_faults(b), 32);
	CHECK_SOON(board_freed(b) == 32);
	board_close(b);
}

API_TEST(it_may_bring_more_along)
{
	struct board *b = board_open_serving(delivery, bring_sixteen);
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	board_take(b, p, NR);
	api_check(p, NR, 1);
	CHECK_EQ(board_faults(b), NR / 16);
	board_close(b);
}

static int refuse(struct board *b, const struct uhmm_fault *fault)
{
	(void)b;
	(void)fault;
	return -ENOMEM;
}

API_TEST(what_it_cannot_serve_is_fetched)
{
	struct board *b = board_open_serving(delivery, refuse);
	char *p = api_map(8);

	api_fill(p, 8, 1);
	board_take(b, p, 8);
	api_check(p, 8, 1);
	CHECK_GT(board_faults(b), 0);
	board_close(b);
}

/* The page stays for a while: the fault is repeated. */
static int later(struct board *b, const struct uhmm_fault *fault)
{
	return board_faults(b) < 20 ? 0 : bring(b, fault, 1);
}

API_TEST(a_page_may_stay_for_a_while)
{
	struct board *b = board_open_serving(delivery, later);
	char *p = api_map(1);

	api_fill(p, 1, 1);
	board_take(b, p, 1);
	api_check(p, 1, 1);
	CHECK_EQ(board_faults(b), 20);
	board_close(b);
}

static char *other;

/* The driver itself touches what is on its device. */
static int touch_another(struct board *b, const struct uhmm_fault *fault)
{
	api_check(other, 1, 2);
	return bring(b, fault, 1);
}

API_TEST(the_driver_may_touch_such_pages_itself)
{
	struct board *b = board_open_serving(delivery, touch_another);
	char *p = api_map(2);

	api_fill(p, 2, 1);
	other = p + PAGE;
	board_take(b, p, 2);
	api_check(p, 2, 1);
	CHECK_EQ(board_faults(b), 1);
	board_close(b);
}

static int unmap_it(struct board *b, const struct uhmm_fault *fault)
{
	(void)b;
	CHECK_EQ(madvise((void *)fault->addr, PAGE, MADV_DONTNEED), 0);
	return 0;
}

API_TEST(a_page_that_is_discarded_meanwhile_is_a_hole)
{
	struct board *b = board_open_serving(delivery, unmap_it);
	char *p = api_map(4);

	api_fill(p, 4, 1);
	board_take(b, p, 4);
	CHECK_EQ(*(volatile char *)p, 0);
	CHECK_SOON(board_freed(b) == 1);
	board_close(b);
}

static void *read_all(void *p)
{
	api_check(p, NR, 1);
	return NULL;
}

API_TEST(several_threads_touch_the_same_pages, .timeout_s = 60)
{
	struct board *b = board_open_serving(delivery, bring_sixteen);
	char *pages = api_map(10 * NR), *p;
	pthread_t thread[4];
	int round, i;

	for (round = 0; round < 10; round++) {
		/* Others each time: a fault may be read late, and is of before. */
		p = pages + round * NR * PAGE;
		api_fill(p, NR, 1);
		board_take(b, p, NR);
		for (i = 0; i < 4; i++)
			CHECK_EQ(pthread_create(&thread[i], NULL, read_all, p), 0);
		for (i = 0; i < 4; i++)
			pthread_join(thread[i], NULL);
		CHECK_SOON(api_stats(b->space).now_device == 0);
	}
	board_close(b);
}

static uint32_t busy; /* is the driver with the first page? Until it is let go. */
static uint32_t let_go;

static int first_is_slow(struct board *b, const struct uhmm_fault *fault)
{
	if (fault->addr == (uintptr_t)other) {
		__atomic_store_n(&busy, 1, __ATOMIC_RELEASE);
		while (!__atomic_load_n(&let_go, __ATOMIC_ACQUIRE))
			sched_yield();
	}
	return bring(b, fault, 1);
}

static void *touch(void *p)
{
	api_check(p, 1, p == other ? 1 : 2);
	return NULL;
}

/* The program itself brings nr pages from p on into memory. */
static void bring_back(struct board *b, char *p, size_t nr)
{
	struct steps s;

	CHECK_EQ(steps_setup(&s, b, p, nr, UHMM_SELECT_DEVICE_PRIVATE), 0);
	steps_copy(&s, true);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), nr);
}

/*
 * A page is touched while the driver has another to serve. Until it comes to that one,
 * the page has been in memory, where it was read, and is on the device again.
 */
API_TEST(a_touch_that_was_answered_brings_nothing_back, .timeout_s = 60)
{
	struct board *b = board_open_serving(delivery, first_is_slow);
	char *p = api_map(3);
	pthread_t thread[2];
	struct steps s;

	api_fill(p, 3, 1);
	other = p;
	busy = let_go = 0;
	board_take(b, p, 3);
	CHECK_EQ(pthread_create(&thread[0], NULL, touch, p), 0);
	CHECK_SOON(__atomic_load_n(&busy, __ATOMIC_ACQUIRE));
	CHECK_EQ(pthread_create(&thread[1], NULL, touch, p + PAGE), 0);
	usleep(50000); /* that the driver was asked is not to be seen */
	/* The reader comes to this when it is done with the faults that it has read. */
	CHECK_EQ(munmap(p + 2 * PAGE, PAGE), 0);
	bring_back(b, p + PAGE, 1);
	pthread_join(thread[1], NULL);
	CHECK_EQ(api_stats(b->space).now_device, 1);
	CHECK_EQ(steps_setup(&s, b, p + PAGE, 1, UHMM_SELECT_SYSTEM), 0);
	steps_copy(&s, false);
	steps_end(&s);
	__atomic_store_n(&let_go, 1, __ATOMIC_RELEASE);
	pthread_join(thread[0], NULL);
	usleep(20000);
	CHECK_EQ(api_stats(b->space).now_device, 1);
	CHECK_EQ(board_faults(b), 1);
	api_check(p, 2, 1);
	CHECK_EQ(board_faults(b), 2);
	board_close(b);
}

API_TEST(a_child_has_a_driver_that_serves)
{
	struct board *b = board_open_serving(delivery, bring_one);
	const char *why = api_fork_stops_threads();
	char *p = api_map(16);
	int status;
	pid_t pid;

	if (why)
		SKIP("%s", why);
	api_fill(p, 16, 1);
	board_take(b, p, 16);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		api_check(p, 16, 1);
		_exit(board_faults(b) == 16 ? 0 : 1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(board_faults(b), 0);
	api_check(p, 16, 1);
	board_close(b);
}

API_TEST(a_fault_page_is_a_page_of_a_private_device)
{
	struct board *b = board_open(delivery);
	char *p = api_map(1);
	struct steps s = { .board = b };

	api_fill(p, 1, 1);
	s.m = (struct uhmm_migrate){ .size = sizeof(s.m),
				     .start = (uintptr_t)p,
				     .end = (uintptr_t)p + PAGE,
				     .src = s.src,
				     .dst = s.dst,
				     .flags = UHMM_SELECT_SYSTEM,
				     .fault_page = UHMM_PFN_VALID };
	CHECK_EQ(uhmm_migrate_setup(b->space, &s.m), -EINVAL);
	s.m.fault_page = 64;
	CHECK_EQ(uhmm_migrate_setup(b->space, &s.m), -EINVAL);
	CHECK(!s.m.migration);
	board_close(b);
}

/* ---- memory that may not be written ----------------------------------------------- */

static void take_readonly(struct board *b, char *p, size_t nr, size_t expected)
{
	struct steps s;
	size_t i;

	CHECK_EQ(steps_setup(&s, b, p, nr, UHMM_SELECT_SYSTEM | UHMM_SELECT_READONLY), 0);
	CHECK_EQ(s.m.cpages, expected);
	for (i = 0; i < nr; i++)
		CHECK_EQ(s.src[i] & UHMM_PFN_WRITE, 0);
	steps_copy(&s, false);
	steps_end(&s);
	CHECK_EQ(steps_moved(&s), expected);
}

API_TEST(without_being_asked_it_stays)
{
	struct board *b = board_open(delivery);
	char *p = api_map(8);
	struct steps s;

	api_fill(p, 8, 1);
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_READ), 0);
	CHECK_EQ(steps_setup(&s, b, p, 8, UHMM_SELECT_SYSTEM), 0);
	CHECK_EQ(s.m.cpages, 0);
	steps_end(&s);
	api_check(p, 8, 1);
	board_close(b);
}

API_TEST(readonly_pages_go_and_come_back)
{
	struct board *b = board_open(delivery);
	char *p = api_map(NR);

	api_fill(p, NR, 1);
	CHECK_EQ(mprotect(p, NR * PAGE, PROT_READ), 0);
	take_readonly(b, p, NR, NR);
	CHECK_EQ(api_resident(p, NR), 0);
	api_check(p, NR, 1);
	CHECK_SOON(board_freed(b) == NR);
	take_readonly(b, p, NR, NR);
	/* As the program has it still. */
	CHECK_EQ(mprotect(p, NR * PAGE, PROT_READ | PROT_WRITE), 0);
	api_fill(p, NR, 1000);
	api_check(p, NR, 1000);
	board_close(b);
}

API_TEST(what_was_never_written_and_may_not_be)
{
	struct board *b = board_open(delivery);
	char *p = api_map(8);

	p[2 * PAGE] = 2;
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_READ), 0);
	CHECK_EQ(*(volatile char *)&p[PAGE], 0); /* the page of zeros */
	take_readonly(b, p, 8, 8);
	CHECK_EQ(api_stats(b->space).now_device, 8);
	CHECK_EQ(p[0], 0);
	CHECK_EQ(p[PAGE], 0);
	CHECK_EQ(p[2 * PAGE], 2);
	board_close(b);
}

API_TEST(what_may_not_be_read_either)
{
	struct board *b = board_open(delivery);
	char *p = api_map(8);

	api_fill(p, 8, 1);
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_NONE), 0);
	take_readonly(b, p, 8, 8);
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_READ | PROT_WRITE), 0);
	api_check(p, 8, 1);
	board_close(b);
}

API_TEST(code_goes_and_comes_back)
{
	struct board *b = board_open(delivery);
	char *p = api_map(8);

	api_fill(p, 8, 1);
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_READ | PROT_EXEC), 0);
	take_readonly(b, p, 8, 8);
	api_check(p, 8, 1);
	board_close(b);
}

API_TEST(a_rollback_of_readonly_pages)
{
	struct board *b = board_open(delivery);
	char *p = api_map(8);
	struct steps s;

	api_fill(p, 8, 1);
	CHECK_EQ(mprotect(p, 8 * PAGE, PROT_READ), 0);
	CHECK_EQ(steps_setup(&s, b, p, 8, UHMM_SELECT_SYSTEM | UHMM_SELECT_READONLY), 0);
	CHECK_EQ(s.m.cpages, 8);
	CHECK_EQ(uhmm_migrate_finalize(b->space, &s.m), 0);
	api_check(p, 8, 1);
	board_close(b);
}

static void write_to(uint32_t delivery)
{
	struct board *b = board_open(delivery);
	char *p = api_map(4);

	api_fill(p, 4, 1);
	CHECK_EQ(mprotect(p, 4 * PAGE, PROT_READ), 0);
	take_readonly(b, p, 4, 4);
	api_check(p, 4, 1);
	*(volatile char *)p = 1;
}

TEST(it_may_not_be_written_afterwards_thread, .signal = SIGSEGV)
{
	write_to(UHMM_DELIVERY_THREAD);
}

TEST(it_may_not_be_written_afterwards_inline, .signal = SIGSEGV)
{
	write_to(UHMM_DELIVERY_INLINE);
}
