/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world does what Linux 6.18 does: each rule of userfaultfd that the
 * library relies on or has to live with, and each kind of damage the world is to find.
 */
#include <errno.h>
#include <string.h>

#include "lib/os/os.h"
#include "tests/sim/sim.h"
#include "tests/test.h"

#define EVENTS (OS_UFFD_EVENTS | OS_UFFD_FORK)
#define PAGE SIM_PAGE
#define FRAMES 1536u

static int uffd;
static char *frames;
static struct os_event seen[64];
static unsigned nr_seen;

static uintptr_t at(unsigned page)
{
	return ARENA_BASE + page * PAGE;
}

static uintptr_t frame(unsigned i)
{
	return (uintptr_t)frames + i * PAGE;
}

static void open_all(void)
{
	uffd = os_uffd_open(EVENTS);
	frames = os_reserve(FRAMES * PAGE);
	CHECK_EQ(os_commit(frames, FRAMES * PAGE), 0);
	CHECK_EQ(os_uffd_register(uffd, (uintptr_t)frames, FRAMES * PAGE), 0);
	nr_seen = 0;
}

static void close_all(void)
{
	os_uffd_close(uffd);
	os_release(frames, FRAMES * PAGE);
}

static void put(unsigned page, char value)
{
	CHECK_EQ(sim_write(at(page), &value, 1), 0);
}

static char get(unsigned page)
{
	char value;

	CHECK_EQ(sim_read(at(page), &value, 1), 0);
	return value;
}

static int64_t move_out(unsigned page, unsigned to, unsigned nr)
{
	return os_uffd_move(uffd, frame(to), at(page), nr * PAGE, 0);
}

static int64_t move_in(unsigned page, unsigned from, unsigned nr)
{
	return os_uffd_move(uffd, at(page), frame(from), nr * PAGE, 0);
}

/* Waits for one message. */
static const struct os_event *next(void)
{
	struct os_event *event = &seen[nr_seen++];

	while (!os_wait_fds(&uffd, 1, -1))
		;
	CHECK_EQ(os_uffd_read(uffd, event, 1), 1);
	return event;
}

static const struct os_event *next_is(enum os_event_kind kind, unsigned from,
				      unsigned end)
{
	const struct os_event *event = next();

	CHECK_EQ(event->kind, kind);
	CHECK_EQ(event->from, at(from));
	CHECK_EQ(kind == OS_EVENT_REMAP ? event->to : event->end, at(end));
	return event;
}

static void run(void (*fn)(void *))
{
	struct sim_config config = { .seed = 1 };

	for (; config.seed <= 200; config.seed++)
		sim_run(&config, fn, NULL);
}

#define SCENE(name_, ...)                                                                \
	static void name_##_scene(void *arg);                                            \
	TEST(name_, __VA_ARGS__)                                                         \
	{                                                                                \
		run(name_##_scene);                                                      \
	}                                                                                \
	static void name_##_scene(void *arg __attribute__((unused)))

/* ---- threads and time ------------------------------------------------------------ */

static uint32_t word;

static void set_word(void *arg)
{
	os_yield();
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
	os_wake(&word, 1);
	CHECK(os_tid() == *(uint32_t *)arg);
}

SCENE(a_thread_starts_and_wakes_another)
{
	struct os_thread thread = { 0 };

	word = 0;
	CHECK_EQ(os_thread_start(&thread, set_word, &thread.tid, "other"), 0);
	while (word == 0)
		os_wait(&word, 0, -1);
	os_thread_join(&thread);
	CHECK_EQ(thread.tid, 0);
	CHECK_EQ(os_wait(&word, 0, -1), -EAGAIN);
}

SCENE(waiting_ends_after_the_timeout)
{
	uint64_t before = os_now_ns();

	word = 0;
	CHECK_EQ(os_wait(&word, 0, 1000000), -ETIMEDOUT);
	CHECK_GE(os_now_ns() - before, 1000000);
}

SCENE(a_kicker_ends_waiting_for_descriptors)
{
	int fds[2] = { os_uffd_open(EVENTS), os_kicker_open() };

	CHECK_EQ(os_wait_fds(fds, 2, 1000), 0);
	os_kick(fds[1]);
	CHECK_EQ(os_wait_fds(fds, 2, -1), 2);
	os_kick_clear(fds[1]);
	CHECK_EQ(os_wait_fds(fds, 2, 0), 0);
	os_uffd_close(fds[0]);
	os_close(fds[1]);
}

static void touch_all(void *arg __attribute__((unused)))
{
	unsigned i;

	for (i = 0; i < 8; i++)
		put(i, (char)sim_random());
}

static void two_threads(void *arg __attribute__((unused)))
{
	CHECK_EQ(sim_mmap(at(0), 8 * PAGE, SIM_RW), 0);
	sim_spawn("a", touch_all, NULL);
	sim_spawn("b", touch_all, NULL);
}

TEST(a_seed_is_one_run)
{
	uint64_t digest[3];
	int i;

	for (i = 0; i < 3; i++) {
		struct sim_config config = { .seed = i == 2 ? 7 : 5 };

		sim_run(&config, two_threads, NULL);
		digest[i] = sim_digest();
	}
	CHECK(digest[0] == digest[1]);
	CHECK(digest[0] != digest[2]);
}

/* ---- touching, registering ------------------------------------------------------- */

SCENE(memory_appears_when_touched)
{
	struct os_extent extent[4];
	uintptr_t walked;
	char byte = 1;

	CHECK_EQ(sim_mmap(at(3), 4 * PAGE, SIM_RW), 0);
	CHECK_EQ(sim_read(at(2), &byte, 1), -EFAULT);
	CHECK(!sim_present(at(3)));
	CHECK_EQ(get(3), 0); /* the zero page: not in a scan */
	put(4, 9);
	put(5, 9);
	CHECK_EQ(os_scan(at(0), at(64), OS_SCAN_MEMORY, 64, extent, 4, &walked), 1);
	CHECK_EQ(extent[0].start, at(4));
	CHECK_EQ(extent[0].nr_pages, 2);
	CHECK_EQ(walked, at(64));
	CHECK_EQ(sim_mprotect(at(4), PAGE, SIM_READ), 0);
	CHECK_EQ(sim_write(at(4), &byte, 1), -EFAULT);
	CHECK_EQ(get(4), 9);
}

SCENE(registering_is_idempotent_and_takes_what_is_there)
{
	int other;

	open_all();
	other = os_uffd_open(0);
	CHECK_EQ(sim_mmap(at(0), 16 * PAGE, SIM_RW), 0);
	CHECK_EQ(sim_munmap(at(4), 8 * PAGE), 0);
	CHECK_EQ(os_uffd_register(uffd, at(5), 2 * PAGE), -EINVAL);
	CHECK_EQ(os_uffd_register(uffd, at(0), 14 * PAGE), 0);
	CHECK_EQ(os_uffd_register(uffd, at(0), 14 * PAGE), 0);
	CHECK_EQ(os_uffd_register(other, at(13), PAGE), -EBUSY);
	CHECK_EQ(os_uffd_register(other, at(14), PAGE), 0);
	CHECK_EQ(os_uffd_unregister(uffd, at(0), 14 * PAGE), 0);
	CHECK_EQ(os_uffd_register(other, at(13), PAGE), 0);
	os_uffd_close(other);
	close_all();
}

static void reads_zero(void *arg)
{
	CHECK_EQ(get((unsigned)(uintptr_t)arg), 0);
}

static void reads_seven(void *arg)
{
	CHECK_EQ(get((unsigned)(uintptr_t)arg), 7);
}

SCENE(a_missing_page_is_asked_for_until_it_is_there)
{
	const struct os_event *event;

	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	put(1, 7);
	CHECK_EQ(os_uffd_register(uffd, at(0), 4 * PAGE), 0);
	CHECK_EQ(move_out(1, 0, 1), PAGE);
	CHECK(!sim_present(at(1)));
	CHECK_EQ(frames[0], 7);
	sim_spawn("reader", reads_seven, (void *)1);
	event = next();
	CHECK_EQ(event->kind, OS_EVENT_FAULT);
	CHECK_EQ(event->addr, at(1));
	CHECK(!event->write);
	/* A wake that changed nothing, also of a message that was not read. */
	CHECK_EQ(os_uffd_wake(uffd, at(1), PAGE), 0);
	CHECK_EQ(next()->addr, at(1));
	CHECK_EQ(move_in(1, 0, 1), PAGE);
	sim_spawn("zero", reads_zero, (void *)2);
	CHECK_EQ(next()->addr, at(2));
	CHECK_EQ(os_uffd_zero(uffd, at(2), PAGE), PAGE);
	sim_sleep(1000000);
	close_all();
}

SCENE(a_closed_userfaultfd_answers_with_zeros)
{
	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	CHECK_EQ(os_uffd_register(uffd, at(0), 4 * PAGE), 0);
	sim_spawn("zero", reads_zero, (void *)2);
	next();
	close_all();
}

static void reads_poison(void *arg __attribute__((unused)))
{
	char byte;

	CHECK_EQ(sim_read(at(2), &byte, 1), -EIO);
}

SCENE(poison_is_told_to_sleepers_and_goes_with_a_discard)
{
	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	CHECK_EQ(os_uffd_register(uffd, at(0), 4 * PAGE), 0);
	sim_spawn("poison", reads_poison, NULL);
	next();
	CHECK_EQ(os_uffd_poison(uffd, at(2), PAGE), 0);
	CHECK_EQ(os_uffd_poison(uffd, at(2), PAGE), -EEXIST);
	CHECK_EQ(os_uffd_zero(uffd, at(2), PAGE), -EEXIST);
	sim_sleep(1000000);
	CHECK_EQ(os_uffd_unregister(uffd, at(0), 4 * PAGE), 0);
	CHECK_EQ(sim_dontneed(at(2), PAGE), 0);
	CHECK_EQ(get(2), 0);
	close_all();
}

/* ---- moving and filling ---------------------------------------------------------- */

SCENE(what_move_refuses)
{
	unsigned i;

	open_all();
	CHECK_EQ(sim_mmap(at(0), 32 * PAGE, SIM_RW), 0);
	CHECK_EQ(sim_mmap(at(8), 2 * PAGE, SIM_RW), 0);
	for (i = 0; i < 24; i++)
		if (i != 4)
			put(i, (char)(i + 1));
	CHECK_EQ(move_out(4, 0, 1), -ENOENT);  /* a hole */
	CHECK_EQ(move_out(2, 0, 4), 2 * PAGE); /* up to the hole */
	CHECK_EQ(move_out(5, 3, 1), PAGE);
	CHECK_EQ(frames[3 * PAGE], 6);
	CHECK_EQ(move_out(5, 3, 1), PAGE); /* it has moved */
	CHECK_EQ(move_out(6, 3, 1), -EEXIST);
	CHECK_EQ(move_out(7, 4, 2), -EINVAL);                          /* two mappings */
	CHECK_EQ(move_out(40, 4, 1), -ENOENT);                         /* no mapping */
	CHECK_EQ(os_uffd_move(uffd, at(30), at(6), PAGE, 0), -EINVAL); /* no uffd */
	CHECK_EQ(sim_mprotect(at(12), PAGE, SIM_READ), 0);
	CHECK_EQ(move_out(12, 4, 1), -EINVAL);
	CHECK_EQ(move_out(11, 4, 2), -EINVAL);
	CHECK_EQ(sim_pin(at(15)), 0);
	CHECK_EQ(move_out(14, 4, 3), PAGE);
	CHECK_EQ(move_out(15, 5, 1), -EBUSY);
	sim_unpin(at(15));
	CHECK_EQ(move_out(15, 5, 2), 2 * PAGE);
	CHECK_EQ(get(20), 21);
	CHECK_EQ(os_uffd_register(uffd, at(0), 32 * PAGE), 0);
	CHECK_EQ(move_in(14, 4, 3), 3 * PAGE);
	CHECK_EQ(move_in(2, 0, 2), 2 * PAGE);
	CHECK_EQ(move_in(5, 3, 1), PAGE);
	close_all();
}

SCENE(what_copy_and_zero_refuse)
{
	static char page[2 * PAGE];

	open_all();
	CHECK_EQ(sim_mmap(at(0), 8 * PAGE, SIM_RW), 0);
	CHECK_EQ(os_uffd_copy(uffd, at(0), page, PAGE), -ENOENT);
	CHECK_EQ(os_uffd_register(uffd, at(0), 4 * PAGE), 0);
	CHECK_EQ(os_uffd_copy(uffd, at(0), page, PAGE), PAGE);
	CHECK_EQ(os_uffd_copy(uffd, at(0), page, PAGE), -EEXIST);
	CHECK_EQ(os_uffd_copy(uffd, at(3), page, 2 * PAGE), -ENOENT);
	CHECK_EQ(os_uffd_copy(uffd, at(9), page, PAGE), -ENOENT);
	CHECK_EQ(os_uffd_zero(uffd, at(0), PAGE), -EEXIST);
	/* A read-only page can still be filled. */
	CHECK_EQ(sim_mprotect(at(1), PAGE, SIM_READ), 0);
	CHECK_EQ(os_uffd_copy(uffd, at(1), page, PAGE), PAGE);
	close_all();
}

SCENE(the_short_ways_are_taken)
{
	CHECK_EQ(os_nr_cpus() > 0, 1);
	open_all();
	CHECK_EQ(sim_mmap(at(0), 600 * PAGE, SIM_RW | SIM_THP), 0);
	put(3, 4);
	CHECK(sim_huge(at(0)) && sim_huge(at(511)));
	put(512, 5);
	CHECK(!sim_huge(at(512)));
	CHECK_EQ(move_out(0, 0, 512), SIM_HUGE);
	CHECK(!sim_present(at(0)));
	CHECK_EQ(os_uffd_register(uffd, at(0), 600 * PAGE), 0);
	CHECK_EQ(move_in(0, 0, 512), SIM_HUGE);
	CHECK(sim_huge(at(0)));
	/* One page of it splits it; so does a destination that has a page table. */
	CHECK_EQ(move_out(3, 512, 1), PAGE);
	CHECK(!sim_huge(at(0)));
	CHECK_EQ(move_in(3, 512, 1), PAGE);
	close_all();
}

SCENE(a_huge_page_is_split_by_a_destination_with_a_table)
{
	open_all();
	CHECK_EQ(sim_mmap(at(0), 1024 * PAGE, SIM_RW | SIM_THP), 0);
	put(0, 1);
	put(512, 1);
	CHECK(sim_huge(at(512)));
	CHECK_EQ(move_out(0, 0, 1), PAGE);
	CHECK_EQ(os_uffd_register(uffd, at(0), 512 * PAGE), 0);
	CHECK_EQ(move_in(0, 0, 1), PAGE);
	CHECK_EQ(move_out(512, 0, 512), SIM_HUGE);
	CHECK_EQ(os_uffd_register(uffd, at(512), 512 * PAGE), 0);
	CHECK_EQ(move_in(512, 0, 512), SIM_HUGE);
	CHECK(!sim_huge(at(512)));
	close_all();
}

/* ---- events ---------------------------------------------------------------------- */

static bool done;

static void unmaps_2_to_6(void *arg __attribute__((unused)))
{
	CHECK_EQ(sim_munmap(at(2), 4 * PAGE), 0);
	done = true;
}

static void maps_again(void *arg __attribute__((unused)))
{
	CHECK_EQ(sim_mmap(at(2), 4 * PAGE, SIM_RW), 0);
	put(3, 33);
}

SCENE(unmapping_waits_for_its_reader_and_stops_moves)
{
	open_all();
	done = false;
	CHECK_EQ(sim_mmap(at(0), 8 * PAGE, SIM_RW), 0);
	put(0, 1);
	put(3, 2);
	CHECK_EQ(os_uffd_register(uffd, at(0), 8 * PAGE), 0);
	sim_spawn("unmapper", unmaps_2_to_6, NULL);
	while (sim_mapped(at(3)))
		os_yield();
	CHECK_EQ(move_out(0, 0, 1), -EAGAIN);
	CHECK_EQ(os_uffd_zero(uffd, at(1), PAGE), -EAGAIN);
	/* The place is free, and somebody takes it before we know. */
	sim_join(sim_spawn("mapper", maps_again, NULL));
	CHECK_EQ(move_out(3, 0, 1), -EAGAIN);
	CHECK(!done);
	next_is(OS_EVENT_UNMAP, 2, 6);
	while (!done)
		os_yield();
	CHECK_EQ(os_uffd_zero(uffd, at(3), PAGE), -ENOENT);
	CHECK_EQ(get(3), 33);
	CHECK_EQ(move_out(0, 0, 1), PAGE);
	CHECK_EQ(move_in(0, 0, 1), PAGE);
	close_all();
}

static void faults_at_3(void *arg __attribute__((unused)))
{
	char byte;

	CHECK_EQ(sim_read(at(3), &byte, 1), -EFAULT);
}

SCENE(faults_come_before_events_and_outlive_their_mapping)
{
	open_all();
	done = false;
	CHECK_EQ(sim_mmap(at(0), 8 * PAGE, SIM_RW), 0);
	CHECK_EQ(os_uffd_register(uffd, at(0), 8 * PAGE), 0);
	sim_spawn("faulter", faults_at_3, NULL);
	os_wait_fds(&uffd, 1, -1);
	sim_spawn("unmapper", unmaps_2_to_6, NULL);
	while (sim_mapped(at(3)))
		os_yield();
	sim_sleep(100000);
	CHECK_EQ(next()->kind, OS_EVENT_FAULT);
	next_is(OS_EVENT_UNMAP, 2, 6);
	sim_sleep(100000);
	CHECK(done);
	CHECK_EQ(os_uffd_wake(uffd, at(3), PAGE), 0);
	close_all();
}

static void remaps(void *arg __attribute__((unused)))
{
	CHECK_EQ(sim_mremap(at(0), 4 * PAGE, at(16), 2 * PAGE, false), 0);
	CHECK_EQ(sim_mremap(at(8), 4 * PAGE, at(24), 6 * PAGE, true), 0);
	CHECK_EQ(sim_mremap(at(24), 6 * PAGE, at(24), 3 * PAGE, false), 0);
	CHECK_EQ(sim_mremap(at(24), 3 * PAGE, at(24), 5 * PAGE, false), 0);
	done = true;
}

SCENE(a_moved_mapping_takes_its_registration_along)
{
	open_all();
	done = false;
	CHECK_EQ(sim_mmap(at(0), 12 * PAGE, SIM_RW), 0);
	CHECK_EQ(sim_mmap(at(16), 4 * PAGE, SIM_RW), 0);
	put(1, 5);
	put(9, 6);
	CHECK_EQ(os_uffd_register(uffd, at(0), 12 * PAGE), 0);
	CHECK_EQ(os_uffd_register(uffd, at(16), 4 * PAGE), 0);
	CHECK_EQ(move_out(1, 0, 1), PAGE);
	sim_spawn("remapper", remaps, NULL);
	next_is(OS_EVENT_UNMAP, 16, 18); /* what was there */
	CHECK_EQ(next_is(OS_EVENT_REMAP, 0, 16)->len, 2 * PAGE);
	next_is(OS_EVENT_UNMAP, 2, 4); /* the part cut off */
	next_is(OS_EVENT_UNMAP, 0, 2);
	CHECK_EQ(next_is(OS_EVENT_REMAP, 8, 24)->len, 4 * PAGE);
	next_is(OS_EVENT_UNMAP, 27, 30); /* shrunk in place */
	while (!done)
		os_yield();
	CHECK_EQ(move_in(17, 0, 1), PAGE);
	CHECK_EQ(get(17), 5);
	CHECK_EQ(get(25), 6);
	CHECK(sim_mapped(at(8)) && !sim_mapped(at(0)));
	/* What grew in place is registered, and so is what was kept. */
	CHECK_EQ(os_uffd_zero(uffd, at(28), PAGE), PAGE);
	CHECK_EQ(os_uffd_zero(uffd, at(8), PAGE), PAGE);
	close_all();
}

static void discards_1_to_3(void *arg __attribute__((unused)))
{
	CHECK_EQ(sim_dontneed(at(1), 2 * PAGE), 0);
	done = true;
}

static unsigned escaped;

static void escape_scene(void *arg __attribute__((unused)))
{
	int64_t r;

	open_all();
	done = false;
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	put(1, 8);
	CHECK_EQ(os_uffd_register(uffd, at(0), 4 * PAGE), 0);
	sim_spawn("discarder", discards_1_to_3, NULL);
	next_is(OS_EVENT_REMOVE, 1, 3);
	do
		r = move_out(1, 0, 1);
	while (r == -EAGAIN);
	CHECK(r == (int64_t)PAGE || r == -ENOENT, "%ld", (long)r);
	escaped += r > 0;
	while (!done)
		os_yield();
	CHECK(!sim_present(at(1)));
	if (r < 0)
		CHECK_EQ(os_uffd_zero(uffd, at(1), PAGE), PAGE);
	close_all();
}

/* Between the event and the discard a page can be moved out: it survives. */
TEST(a_page_can_escape_from_a_discard)
{
	run(escape_scene);
	CHECK_GT(escaped, 0);
	CHECK_LT(escaped, 200);
}

/* ---- fork ------------------------------------------------------------------------ */

static void child_reads(void *arg __attribute__((unused)))
{
	CHECK_EQ(get(0), 7);
	CHECK_EQ(get(1), 8);
	CHECK_EQ(get(2), 0);
}

static void forks(void *arg __attribute__((unused)))
{
	CHECK_EQ(sim_fork(child_reads, NULL), 0);
	put(2, 9);
}

SCENE(a_child_is_filled_by_its_parents_reader)
{
	const struct os_event *event;

	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	put(0, 7);
	put(1, 8);
	CHECK_EQ(move_out(0, 0, 1), PAGE);
	CHECK_EQ(os_uffd_register(uffd, at(0), 2 * PAGE), 0);
	sim_spawn("forker", forks, NULL);
	event = next();
	CHECK_EQ(event->kind, OS_EVENT_FORK);
	CHECK_EQ(os_uffd_copy(event->child, at(0), frames, PAGE), PAGE);
	os_uffd_close(event->child);
	sim_sleep(1000000);
	/* Shared until written, also in the frame. */
	CHECK_EQ(move_out(1, 1, 1), -EBUSY);
	CHECK_EQ(move_in(0, 0, 1), -EBUSY);
	CHECK_EQ(os_make_exclusive(at(1), PAGE), 0);
	CHECK_EQ(move_out(1, 1, 1), PAGE);
	CHECK_EQ(os_uffd_copy(uffd, at(0), frames, PAGE), PAGE);
	CHECK_EQ(get(0), 7);
	frames[1] = 1; /* no longer the page, but exclusive */
	CHECK_EQ(os_uffd_move(uffd, frame(2), frame(0), PAGE, 0), PAGE);
	close_all();
}

static uint32_t clone_tid, stray_tid;
static void stray(void *arg __attribute__((unused)))
{
	stray_tid = os_tid();
}

static void clones(void *arg __attribute__((unused)))
{
	clone_tid = os_tid();
	sim_spawn("stray", stray, NULL);
	sim_sleep(1000000);
}

SCENE(a_process_is_the_child_of_the_thread_that_made_it)
{
	CHECK_EQ(sim_mmap(at(0), PAGE, SIM_RW), 0);
	CHECK_EQ(sim_fork(clones, NULL), 0);
	while (!stray_tid)
		sim_sleep(100000);
	CHECK(os_is_child_of(os_tid(), clone_tid));
	CHECK(!os_is_child_of(os_tid(), stray_tid));
}

/* ---- what is found --------------------------------------------------------------- */

SCENE(a_forgotten_page_of_a_child_is_found, .exit_status = SIM_FAILED)
{
	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	put(0, 7);
	CHECK_EQ(move_out(0, 0, 1), PAGE);
	CHECK_EQ(os_uffd_register(uffd, at(0), 4 * PAGE), 0);
	sim_spawn("forker", forks, NULL);
	os_uffd_close(next()->child);
}

SCENE(wrong_bytes_are_found, .exit_status = SIM_FAILED)
{
	static char page[PAGE] = { 6 };

	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	put(0, 7);
	CHECK_EQ(move_out(0, 0, 1), PAGE);
	CHECK_EQ(os_uffd_register(uffd, at(0), 4 * PAGE), 0);
	os_uffd_copy(uffd, at(0), page, PAGE);
}

SCENE(a_page_moved_out_of_an_unregistered_mapping_is_found, .exit_status = SIM_FAILED)
{
	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	put(0, 7);
	CHECK_EQ(move_out(0, 0, 1), PAGE);
	get(0);
}

SCENE(a_write_to_a_frame_that_is_not_there_is_found, .exit_status = SIM_FAILED)
{
	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	put(0, 7);
	frames[5] = 1;
	move_out(0, 0, 1);
}

SCENE(a_read_of_a_frame_that_is_not_there_is_found, .exit_status = SIM_FAILED)
{
	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	CHECK_EQ(os_uffd_register(uffd, at(0), 4 * PAGE), 0);
	os_uffd_copy(uffd, at(0), frames, PAGE);
}

SCENE(a_deadlock_is_found, .exit_status = SIM_FAILED)
{
	word = 0;
	os_wait(&word, 0, -1);
}

SCENE(a_fault_that_nobody_answers_is_found, .exit_status = SIM_FAILED)
{
	unsigned i;

	open_all();
	CHECK_EQ(sim_mmap(at(0), 4 * PAGE, SIM_RW), 0);
	CHECK_EQ(os_uffd_register(uffd, at(0), 4 * PAGE), 0);
	sim_spawn("forgotten", reads_zero, (void *)1);
	for (i = 0; i < 10000; i++)
		sim_sleep(10000000);
	close_all();
}

SCENE(a_livelock_is_found, .exit_status = SIM_FAILED)
{
	for (;;)
		os_now_ns();
}

SCENE(a_leak_is_found, .exit_status = SIM_FAILED)
{
	os_reserve(PAGE);
}

SCENE(an_open_descriptor_is_found, .exit_status = SIM_FAILED)
{
	os_kicker_open();
}

SCENE(a_pinned_page_that_is_taken_away_is_found, .exit_status = SIM_FAILED)
{
	CHECK_EQ(sim_mmap(at(0), PAGE, SIM_RW), 0);
	CHECK_EQ(sim_pin(at(0)), 0);
	sim_unpin(at(0));
	sim_dma(at(0), "x", 1);
}
