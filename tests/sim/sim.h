/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated world: the real library on an operating system that does not exist.
 *
 * os_sim*.c implements lib/os/os.h in one real thread. Threads are coroutines; a seed
 * decides who runs after each call of os.h and each access to memory, so one seed is one
 * interleaving, and the same seed is the same run. Time is a counter that jumps to the
 * next timer when nobody can run. Nothing here allocates by the clock or by an address
 * that the host chose.
 *
 * The application's memory is the arena: ARENA_PAGES pages at a fixed address. The bytes
 * of a page lie at its address, but only sim_read() and sim_write() may look: they do
 * what the hardware and the kernel would (protection, zero pages, faults that sleep).
 * Pages that are not present hold garbage.
 *
 * The oracle. Beside the arena lies a shadow with what each byte must be. The shadow
 * changes in the same instant as the page table does, so every fill of a page and every
 * read is compared exactly. Only while a discard (MADV_DONTNEED) is on its way may a page
 * read as either, and nobody may write to it: such calls return -EBUSY.
 *
 * Whatever is wrong ends the process through sim_fail(), with the seed and the last
 * operations. All functions are for coroutines, sim_run() excepted.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_PAGE 4096ul
#define SIM_HUGE (512 * SIM_PAGE)
#define ARENA_PAGES 1536u /* three huge pages' worth: room to move two around */

#if defined(__SANITIZE_THREAD__)
#define SIM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIM_TSAN 1
#endif
#endif

/* Free on Linux, and left alone by each sanitizer's shadow. */
#ifdef SIM_TSAN
#define ARENA_BASE 0x1000000000ul
#else
#define ARENA_BASE 0x200000000000ul
#endif

/* Bytes of choices that an operation has. */
#define SIM_RECORD 16u

enum sim_end { SIM_ENDED = 0, SIM_FAILED = 3 /* exit status of the process */ };

struct sim_config {
	uint64_t seed;
	uint32_t schedule;   /* another one, of the same program; 0: the seed's own */
	bool trace;          /* print operations as they happen */
	uint32_t max_steps;  /* more is taken for a hang; 0: a default */
	uint32_t spurious;   /* 1 in so many waits wakes for no reason; 0: none */
	uint32_t short_move; /* 1 in so many batches ends early; 0: none */
	uint32_t busy_move;  /* 1 in so many MOVEs finds its page busy; 0: none */
	uint32_t no_memory;  /* 1 in so many has no memory for a page table; 0: none */
	uint32_t late_event; /* 1 in so many changes is told of late; 0: none */
	uint32_t rss_late;   /* the library's own memory is counted each so manyth time */
	/*
	 * The so many-th call of those that may fail for want of memory, descriptors or
	 * threads does; 0: none. And all behind it, if it persists.
	 */
	uint64_t fail_at;
	bool fail_on;
	/*
	 * The program's choices, if they are somebody's and not the seed's: SIM_RECORD
	 * bytes for the first thread, and as many for each operation. NULL: none.
	 */
	const uint8_t *choices;
	size_t nr_choices;
	bool small; /* a world that takes a millisecond, if the program heeds it */
	void (*on_failure)(
		void); /* instead of SIM_FAILED, when all is said; may be NULL */
};

/* Makes a world, runs fn as its first thread until all have ended, looks for leaks. */
void sim_run(const struct sim_config *config, void (*fn)(void *arg), void *arg);
/* What happened in the last world: the same for the same seed. */
uint64_t sim_digest(void);
uint64_t sim_steps(void);
/* Calls so far that fail_at counts; and from now on none fails. */
uint64_t sim_fallible(void);
void sim_stop_failing(void);

/*
 * Numbers for the program, from a stream of each thread: what it does depends on neither
 * the schedule nor on what others do. A thread's stream comes of the one that made it.
 */
uint64_t sim_random(void);
uint32_t sim_below(uint32_t n);
/* The calling thread goes on with this stream. */
void sim_stream(uint64_t stream);
/*
 * The calling thread's next operation: with this stream, or with what has been chosen for
 * it. False: no more have been chosen.
 */
bool sim_operation(uint64_t stream);
/* Starts a thread of the application in the caller's address space. */
uint32_t sim_spawn(const char *name, void (*fn)(void *arg), void *arg);
void sim_join(uint32_t tid);
void sim_point(void);
void sim_sleep(uint64_t ns);
/*
 * Between these the calling thread uses nothing of the library: switching to it is
 * cheaper then. They nest.
 */
void sim_apart_begin(void);
void sim_apart_end(void);

void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* One record of what happened; printed only when asked for. `what` is a literal. */
void sim_trace(const char *what, int64_t a, int64_t b, int64_t c, int64_t result);

/* ---- the application's memory: 0 or -errno, -EFAULT for SIGSEGV, -EIO for SIGBUS - */

#define SIM_READ 1u
#define SIM_WRITE 2u
#define SIM_RW 3u
#define SIM_THP 4u /* sim_mmap: transparent huge pages */
#define SIM_EXEC 8u
#define SIM_ACCESS (SIM_RW | SIM_EXEC)

/* [addr, addr+len) lies inside one page. What was read has been checked. */
int sim_read(uintptr_t addr, void *buf, size_t len);
int sim_write(uintptr_t addr, const void *buf, size_t len);
/* Maps fresh memory, over whatever was there. prot: SIM_RW etc., SIM_THP. */
int sim_mmap(uintptr_t addr, size_t len, unsigned prot);
int sim_munmap(uintptr_t addr, size_t len);
/* Moves, grows or shrinks; to == from: in place. */
int sim_mremap(uintptr_t from, size_t old_len, uintptr_t to, size_t new_len,
	       bool keep_old);
int sim_dontneed(uintptr_t addr, size_t len);
int sim_mprotect(uintptr_t addr, size_t len, unsigned prot);
/* The kernel's hold on a page, as for O_DIRECT; sim_dma() is the device writing. */
int sim_pin(uintptr_t addr);
void sim_dma(uintptr_t addr, const void *buf, size_t len);
void sim_unpin(uintptr_t addr);
/*
 * A device writes at this place of the page at addr, whose bytes are here; NULL: where
 * the program has it, if it can without a fault.
 */
void sim_device_write(uintptr_t addr, void *bytes, size_t at, const void *buf,
		      size_t len);
/* A child as raw clone makes it: fn runs in a copy of the memory. -EAGAIN: enough. */
int sim_fork(void (*fn)(void *arg), void *arg);
/* What fork() of libc runs: on the forking thread, and before fn in the child. */
struct sim_atfork {
	void (*prepare)(void *ctx);
	void (*parent)(void *ctx);
	void (*child)(void *ctx);
	void *ctx;
};
/* A child as fork() of libc makes it. */
int sim_fork_libc(const struct sim_atfork *handlers, void (*fn)(void *arg), void *arg);
/* What the library has in .bss and a child has its own copy of; library_state.c. */
struct own_state {
	void *addr; /* NULL: the last one */
	size_t size;
};
const struct own_state *sim_library_state(void);
/* Which process this is: 0 is the first. */
unsigned sim_process(void);
/* Does nobody's memory wait to be filled by this process? */
bool sim_children_filled(void);
/* For so long from now on nobody lists a process's children. 0: everybody does. */
void sim_list_no_children(uint64_t ns);

/* ---- looking without touching: no scheduling point ------------------------------- */

bool sim_present(uintptr_t addr);
bool sim_huge(uintptr_t addr);
bool sim_mapped(uintptr_t addr);
unsigned sim_prot(uintptr_t addr);
bool sim_pinned(uintptr_t addr);
/* Is it being discarded, or was it when this process was made? Then zeros will do too. */
bool sim_unsettled(uintptr_t addr);
/* What the page must hold. */
const void *sim_shadow(uintptr_t addr);

#endif
