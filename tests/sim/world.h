/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the simulated world share; tests use sim.h.
 *
 *	os_sim_run.c    scheduler, clock, os_wait, os_thread, trace, failing
 *	os_sim_switch.c coroutines
 *	os_sim_choice.c the seed's numbers, or somebody's choices
 *	os_sim_fork.c   fork, exit, and what passes between parent and child
 *	os_sim_own.c    memory of the library's own
 *	os_sim_image.c  where that of each process is
 *	os_sim_vma.c    address spaces: mappings and pages
 *	os_sim_mm.c     what the application does to them
 *	os_sim_uffd.c   userfaultfd: faults, events, registering, and descriptors
 *	os_sim_move.c   userfaultfd: move, copy, zeros
 *	os_sim_name.c   which process a child is
 *	os_sim_file.c   files that pages are kept in
 *	os_sim.c        the rest of os.h: looking at the program's memory
 *
 * Everything runs in one thread, so nothing is locked; state may change across every
 * call of sim_point() and sim_block(), and nowhere else.
 */
#ifndef WORLD_H
#define WORLD_H

#include "lib/os/os.h"
#include "tests/sim/sim.h"

/* Of one seed at a time; more are refused, which tells of a leak. */
#define MAX_THREADS 64
/* Numbers of descriptors are not used twice: a stale one is found out. */
#define MAX_FILES 2048
#define MAX_MMS 8

#define MAX_WAIT_FDS 8

#define NO_DEADLINE UINT64_MAX

/* ---- threads -------------------------------------------------------------------- */

enum thread_state {
	T_FREE,
	T_READY,
	T_WORD,  /* in os_wait() */
	T_FDS,   /* in os_wait_fds() */
	T_FAULT, /* touched a page that userfaultfd answers for */
	T_EVENT, /* changed a mapping; its event has not been read */
	T_SLEEP,
};

struct thread {
	void *sp;
	void *stack;
	void *fake_stack; /* of AddressSanitizer */
	void *fiber;      /* of ThreadSanitizer */
	enum thread_state state;
	uint32_t tid;
	uint32_t copied; /* the thread that was copied, or its own tid */
	uint32_t weight; /* how likely it is chosen */
	uint64_t stream; /* of the numbers that what runs in it is given */
	/* Choices that come before those of the stream; used so far. */
	uint8_t record[SIM_RECORD];
	uint32_t chosen;
	char name[16];
	bool ended;
	bool leads;     /* its process ends with it */
	unsigned apart; /* sim_apart_begin() */
	void (*fn)(void *arg);
	void *arg;
	struct os_thread *handle;
	struct mm *mm;
	uint64_t since, deadline;
	bool timed_out;
	uint32_t *word;
	int fds[MAX_WAIT_FDS], nr_fds;
	/* T_FAULT */
	struct file *uffd;
	uintptr_t addr;
	bool write, unread;
	uint64_t seq; /* order of faults */
};

extern struct thread *sim_current;
extern struct sim_config sim_config;

struct thread *sim_thread_start(const char *name, void (*fn)(void *), void *arg,
				struct mm *mm, struct os_thread *handle);
struct thread *sim_thread_at(unsigned i); /* NULL after the last */
/* Sleeps in `state` until sim_ready(); false after the deadline. */
bool sim_block(enum thread_state state, uint64_t deadline);
void sim_ready(struct thread *t);
uint64_t sim_now(void);
uint64_t mix(uint64_t *state);
/* Where a new world begins, and a thread. */
void choices_reset(void);
void choices_begin(struct thread *t, uint64_t stream);
/* Numbers for the world's own choices: the schedule, and what the kernel does. */
uint64_t world_random(void);
uint32_t world_below(uint32_t n);
/* Is this call to fail, of those that fail_at counts? */
bool world_fails(void);
/*
 * The same where the kernel would kill somebody if it failed for ever: a single page, and
 * the tables to it.
 */
bool world_fails_now(void);
bool sim_chance(uint32_t one_in); /* 0: never */

/* A stack for t, of the slot'th thread, on which entry() begins; it must not return. */
void coroutine_make(struct thread *t, unsigned slot, void (*entry)(void));
/* For the thread that this is called in, on the host's own stack. */
void coroutine_host(struct thread *host);
/* What a coroutine begins with. */
void coroutine_begun(void);
/* From one to the other; returns when somebody switches to `from` again. */
void coroutine_switch(struct thread *from, struct thread *to);

/* ---- pages and mappings ---------------------------------------------------------- */

enum {
	P_PRESENT = 1,
	P_HUGE = 2,     /* part of a huge page, mapped as one */
	P_SHARED = 4,   /* shared by fork, or once was, and not written since */
	P_ZERO = 8,     /* the zero page */
	P_POISON = 16,  /* not present, and never will be */
	P_GARBAGE = 32, /* not present, and its bytes were overwritten */
};

/* inherited: a discard (zeros, or not), a move that cannot be told (anything) */
enum { I_DISCARD = 1, I_MOVE };

struct page {
	uint16_t flags;
	uint16_t pins;
	uint64_t hash; /* frames, P_SHARED: of the bytes when it became so */
};

struct chunk {
	struct page page[512];
	bool table;   /* has a table of small pages, even if empty: no huge page fits */
	bool counted; /* pages that count as memory: `pages`, since anybody had one */
	uint16_t pages;
};

struct vma {
	uintptr_t start, end;
	unsigned prot; /* SIM_RW, SIM_THP */
	uint32_t id;   /* of the mmap(): neighbours of different ones do not merge */
	struct file *uffd;
};

/* Where a child's name is written (os_find_child()), of each userfaultfd. */
#define MAX_NAMES 8

struct names {
	uintptr_t start;
	uint64_t present; /* a bit for each page */
};

struct mm {
	bool used, dead;
	bool whole;   /* the library is in it */
	bool forking; /* locked; mappings below `copied` cannot be touched either */
	uintptr_t copied;
	unsigned index;
	uint32_t maker; /* the thread that forked it */
	uint32_t pid, maker_pid;
	struct names names[MAX_NAMES];
	struct vma *vma;
	unsigned nr, cap;
	struct chunk arena[ARENA_PAGES / 512];
	char *bytes, *shadow; /* ARENA_PAGES pages each; of main_mm: at ARENA_BASE */
	/* Per page: discards under way (it may read as zeros), writes under way. */
	uint16_t flux[ARENA_PAGES], writers[ARENA_PAGES];
	struct mm *parent; /* while the event of the fork has not been read */
	/* Calls of mremap(MREMAP_DONTUNMAP) under way. */
	uint16_t keeping[ARENA_PAGES];
	/* What was under way here at the fork; the first look tells how it is. */
	unsigned char inherited[ARENA_PAGES];
	/* Pages of the library's own when they were counted last; calls since then. */
	int64_t own_pages;
	uint32_t own_asked;
	bool dirty[ARENA_PAGES]; /* bytes or shadow are not as in a new world */
};

/* Memory of the library's own: reservations are handed out from here. */
#ifdef SIM_TSAN
#define OWN_BASE 0x2000000000ul
#define OWN_SPAN 0x4000000000ul
#else
#define OWN_BASE 0x210000000000ul
#define OWN_SPAN 0x100000000000ul
#endif

#define GARBAGE 0xdb

/* Operations that took mappings away and have to tell somebody. */
struct unmaps {
	struct {
		struct file *uffd;
		struct os_event msg;
	} e[8];
	unsigned nr;
};

extern struct mm *main_mm;

struct mm *mm_create(void);
void mm_reset_all(void);
struct mm *mm_at(unsigned i); /* NULL after the last */
static inline bool in_arena(uintptr_t addr)
{
	return addr - ARENA_BASE < ARENA_PAGES * SIM_PAGE;
}
struct vma *vma_next(struct mm *mm, uintptr_t addr); /* first that ends above, or NULL */
struct vma *vma_at(struct mm *mm, uintptr_t addr);
void vma_insert(struct mm *mm, struct vma vma);
void vma_cut(struct mm *mm, uintptr_t start,
	     uintptr_t end); /* removes, without a trace */
void vma_split(struct mm *mm, uintptr_t addr);
void vma_merge(struct mm *mm);
struct page *page_at(struct mm *mm, uintptr_t addr);
/* To change its pages, before the next scheduling point. */
struct chunk *chunk_at(struct mm *mm, uintptr_t addr);
/* To look at them only. */
static inline struct chunk *arena_chunk(struct mm *mm, uintptr_t addr)
{
	return &mm->arena[(addr - ARENA_BASE) / SIM_HUGE];
}
/* NULL: never used */
struct chunk *own_chunk(struct mm *mm, uintptr_t addr, bool create);
/* The first that ends above *addr, which becomes its start if that is above. */
struct chunk *own_chunk_next(struct mm *mm, uintptr_t *addr);
void *page_bytes(struct mm *mm, uintptr_t addr);
/* The page becomes present, with the bytes that are there; they are compared. */
void page_fill(struct mm *mm, uintptr_t addr, uint16_t flags, const char *how);
void page_gone(struct mm *mm, uintptr_t addr);
void page_split(struct mm *mm, uintptr_t addr);     /* a huge page becomes small ones */
bool page_untouched(struct mm *mm, uintptr_t addr); /* absent, and nobody wrote to it */
bool page_is(const void *bytes, unsigned char value);
/* 0: the page can be read (written) until the next scheduling point. */
int page_access(struct mm *mm, uintptr_t addr, bool write);
/* -EFAULT where there is no page: that is no fault. */
int page_access_now(struct mm *mm, uintptr_t addr, bool write);
/* A child's pages against what they were when it was made. */
void mm_check(struct mm *mm, const char *when);
void mm_wait(struct mm *mm); /* until it is not being copied */
/* Is it being copied, or was it, and the event of a raw clone has not been read? */
bool fork_pending(const struct mm *mm);
/* Children that are being made cannot be told to be from before this or after it. */
void unsettle(struct mm *mm, uintptr_t start, size_t len, unsigned char how);
void flux_settle(struct mm *mm, uintptr_t addr);
void page_fork_frame(struct page *page, const void *bytes);

/* ---- descriptors and userfaultfd ------------------------------------------------- */

enum file_kind { F_CLOSED, F_UFFD, F_KICKER, F_PIPE, F_LISTENER, F_STORAGE };

struct event {
	struct os_event msg;
	struct thread *caller;
	struct file *child; /* FORK */
	bool read;
	struct event *next;
};

struct file {
	enum file_kind kind;
	unsigned flags;
	struct mm *mm;
	unsigned changing;    /* operations whose event has not been read */
	struct event *events; /* oldest first */
	bool readable;        /* F_KICKER, F_LISTENER */
	unsigned open_in;     /* a bit for each process that has it open */
	struct file *peer;    /* F_PIPE */
	int receiver, answer; /* F_LISTENER: who asks, what it was sent */
};

int file_fd(const struct file *file);
struct file *file_open(enum file_kind kind);
struct file *file_get(int fd, enum file_kind kind); /* open here, and of that kind */
struct file *file_at(int fd);                       /* whoever has it open */
void files_fork(struct mm *parent, struct mm *child);
void files_exit(struct mm *mm);
bool files_name(const struct mm *mm); /* is a userfaultfd of it open? */
void files_reset(void);
void files_check_closed(void);
bool file_readable(int fd);
/* Queues the event and waits until it was read; then the mapping no longer changes. */
void uffd_event(struct file *uffd, struct os_event msg, struct file *child);
/* Who sleeps there, for a fault of this one. */
void uffd_wake(const struct file *uffd, uintptr_t start, uintptr_t end);
/* The descriptor, if all of the range is in its process; NULL: it is not. */
struct file *uffd_range(int fd, uintptr_t start, size_t len);
void uffd_fault(struct file *uffd, uintptr_t addr, bool write);
struct file *uffd_fork(struct file *parent, struct mm *child);
bool uffd_has(const struct file *uffd, unsigned flag);

/* os_sim_file.c */
void storage_reset(void);

/* os_sim_name.c */
void names_register(struct mm *mm, uintptr_t start);
void names_release(struct mm *mm, uintptr_t start);
/* 1: addr is of a name, and now there is a page (zero), or could be; 0: it is not. */
int names_fill(struct mm *mm, uintptr_t addr, bool zero);

/* ---- processes ------------------------------------------------------------------- */

void own_reset(void);
void own_fork(struct mm *parent, struct mm *child);
void own_share(struct mm *mm);
void own_exit(struct mm *mm);
bool own_is_shared(const void *addr);
void own_check_released(void);
/* os_sim_image.c */
void image_reset(void);
void image_begin(struct mm *mm); /* the first process */
void image_enter(struct mm *mm);
void image_fork(struct mm *parent, struct mm *child);
void image_exit(struct mm *mm);
void image_check_mapped(const struct mm *mm);
/* Of the process that was entered last. */
void image_reserve(uintptr_t start, size_t len); /* above all that were before */
void image_commit(uintptr_t start, size_t len);
void image_discard(uintptr_t start, size_t len);
void image_release(uintptr_t start, size_t len);
int64_t image_resident(uintptr_t start, uintptr_t stop); /* pages */
void process_exit(struct mm *mm);
void threads_exit(struct mm *mm); /* but the one that runs */
static inline struct mm *here(void)
{
	return sim_current->mm;
}

#endif
