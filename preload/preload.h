/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `uhmm run` loads into each process of the tree; see preload.c.
 */
#ifndef UHMM_PRELOAD_H
#define UHMM_PRELOAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "preload/ctl.h"
#include "preload/guard.h"

/* What the program finds here before it finds libc's. */
#define EXPORT __attribute__((visibility("default")))
/* The next one behind that: libc's, or one of a library that the user preloads. */
#define BIND(name) (real.name = (__typeof__(real.name))dlsym(RTLD_NEXT, #name))
/* The last of several: who sees it bound sees the others. */
#define BIND_LAST(name)                                                                  \
	__atomic_store_n(&real.name, (__typeof__(real.name))dlsym(RTLD_NEXT, #name),     \
			 __ATOMIC_RELEASE)
#define IS_BOUND(name) (__atomic_load_n(&real.name, __ATOMIC_ACQUIRE) != NULL)

struct uhmm_space;

/* Starts the keeper if it has not been: in a moment it could not be any more. */
void preload_keep(void);
/* Something may keep the supervisor from ringing: from now on nobody waits for it. */
void preload_keep_all(void);

/* NULL: there is none. */
struct uhmm_space *preload_space(void);
/* A thread of this process that the program does not know. */
bool preload_is_ours(uint32_t tid);
/* This library's file, as LD_PRELOAD has it; NULL: this process is not of a tree. */
const char *preload_path(void);
/* The user preloads other libraries as well. */
bool preload_has_company(void);
/* Before this process ends or becomes another: what our reader has begun, it finishes. */
void preload_leave(void);
/* It is about to execute another program; true: guard_exec_failed() if it does not. */
bool preload_before_exec(void);
/* For the user to see, once. */
void preload_say(const char *message);
/* Whole pages that stay mapped as they are for as long as the process lives. */
void preload_seal(void *start, size_t len);

/* ---- alone.c: what a program would notice of our threads --------------------------- */

/* The process would stop our threads to look at its memory. */
bool preload_looks_for_leaks(void);
/* It is no process, but a program that valgrind interprets. */
bool preload_is_emulated(void);
/* Threads of this process that are ours. */
unsigned preload_threads(void);
/*
 * Ends the keeper, for as long as the process has to be one thread; what the process uses
 * is not looked at until preload_go_on(). false: there is none, or it has a space and
 * cannot end.
 */
bool preload_rest(void);
void preload_go_on(void);
/* Whether children of this process have pids that the supervisor understands. */
void preload_look_at_pids(void);

/* ---- task.c: how many threads a directory says there are --------------------------- */

/* When the process begins. */
void task_bind(void);

/* ---- loaded.c: what is loaded when the process begins ------------------------------ */

void loaded_find(void);
/* For a space: none of it is migrated. */
void loaded_exclude(struct uhmm_space *sp);
/* Reads all of our own data. */
void loaded_touch(void);

/* ---- expect.c: what is about to be filled at once ---------------------------------- */

/* Less is not worth waiting for. */
#define EXPECT_MIN ((size_t)4 << 20)

/* The program's thread is about to fill so much; returns when the fence is up. */
void expect_begin(size_t len);
void expect_end(size_t len);
/* The same for all that is mapped. */
void expect_begin_all(void);
void expect_end_all(void);

int64_t expect_pages(void);
/* The keeper has looked, and has done what there was to do. */
void expect_looked(void);
/* In the child. */
void expect_after_fork(void);
/* Makes the keeper look at the mappings now if it has a space. */
void preload_ring_worker(void);
/* Makes the keeper look now. false: there is none, and none is needed for so little. */
bool preload_ring_keeper(int64_t pages);

/* ---- libc.c: what our threads call of libc, whatever the program has defined ------- */

/* Where libc is loaded. */
void libc_found(uintptr_t start, uintptr_t end);
/* After that, before a thread of ours starts. */
void libc_bind(void);

/*
 * Around what makes a child that gets a copy of our memory, on the thread that does it;
 * the last of these in the child.
 */
void preload_before_fork(void);
/*
 * With system calls guarded these do nothing, but those do, around the call itself: libc
 * touches memory in the child before it runs handlers.
 */
bool preload_before_guarded_fork(uint64_t flags);
void preload_after_guarded_fork(long pid);
/* In between: the child's memory would not be complete. */
bool preload_refuses_fork(void);
void preload_after_fork_parent(void);
void preload_after_fork_child(void);

/*
 * A filter on system calls is about to be installed, for all threads or the caller's:
 * children begin with it.
 */
void preload_note_filter(bool all);
/* The caller has its system calls dispatched: there is one such of a thread. */
void preload_note_dispatch(void);
/*
 * What is migrated is brought back, for that reason; the process goes on without a space,
 * or by thread. -ENOMEM: it cannot.
 */
int preload_give_up(enum guard_leaves why);
/* So much at once might be too much, and calls are not guarded, but will be. */
bool preload_may_fill(size_t len);
/* A thread of ours may resolve the faults of who cannot be guarded. */
bool preload_may_go_by_thread(void);

/* Whether that thread, 0 is the caller's, has a filter that `uhmm run` had not. */
bool preload_has_filter(uint32_t tid);

/* ---- guarded.c --------------------------------------------------------------------- */

/* The system calls of this process are guarded; so are all that follow. */
extern bool preload_guarded;

/* When the process begins, if its faults will be resolved inline. */
void guarded_bind(void);
/*
 * By the sampler, before there is a space: -errno, and the process cannot be guarded.
 * -EAGAIN: a thread has not answered, which is in a system call that does not end, or
 * executes another program. Whatever comes of it, guard_go_on() is to follow.
 */
int guarded_start(void);
/* Nothing is migrated any more, or by thread: calls are made as they are. */
void guarded_end(void);
/* threads_hold(), and what system calls use. */
void guarded_hold(void *ctx, uintptr_t start, uintptr_t end,
		  void (*add)(void *to, uintptr_t addr, size_t len), void *to);

/* ---- hot.c ------------------------------------------------------------------------ */

/* As task_bind(). */
void hot_bind(void);

/* ---- clone.c ----------------------------------------------------------------------- */

/* As exec_bind(). */
void clone_bind(void);

/* ---- exec.c ------------------------------------------------------------------------ */

/* What it needs from the dynamic linker, whose lock may be held in a forked child. */
void exec_bind(void);

/* ---- threads.c: what is not taken while a thread lives ----------------------------- */

/*
 * For the worker, which is about to take what is in [start, end): calls add with what
 * must stay. What begins there waits until threads_release().
 */
void threads_hold(void *ctx, uintptr_t start, uintptr_t end,
		  void (*add)(void *to, uintptr_t addr, size_t len), void *to);
void threads_release(void *ctx);
/*
 * Returns when nothing is being taken there by a worker that has not seen what the caller
 * has published before.
 */
void threads_wait(uintptr_t at, size_t len);
/* In the child. */
void threads_after_fork(void);
/* There were more than the first one. */
bool threads_any(void);
/* Without a system call, which a filter may forbid. 0: it has ended. */
uint32_t preload_tid_of(pthread_t thread);

/* ---- leave.c, wrap.c -------------------------------------------------------------- */

/* As exec_bind(). */
void leave_bind(void);
void wrap_bind(void);

/* ---- segment.c -------------------------------------------------------------------- */

/* NULL: there is none, or not for us. */
struct ctl *segment_map(const char *path);

/* ---- door.c ----------------------------------------------------------------------- */

/* false: there are no doors on this machine. */
bool door_open(struct ctl_door *door, uint64_t claim);
/* Called by the thread that came in; it ends when this returns. */
__attribute__((visibility("hidden"))) void door_main(void);

/* ---- usage.c: what this process uses, published for the others -------------------- */

struct usage {
	int family;        /* pages may be shared with a relative: since a fork */
	int64_t pss_pages; /* last exact share, and the resident pages at that time */
	int64_t rss_pages;
	uint64_t faults;              /* up to then */
	uint32_t kin;                 /* ctl->kin then */
	uint64_t next_ns;             /* when the exact share may be asked for again */
	uint64_t again_ns;            /* the same where it may have grown */
	uint64_t hold_ns;             /* nobody is waited for any more; 0: nobody is */
	bool forks;                   /* this process has forked, and may again */
	uint32_t split;               /* children that have taken a part of this share */
	int64_t last_pages, last_rss; /* what usage_pages() said, and was told */
	/* From the thread that forked; all else is the keeper's. */
	uint32_t forked;        /* atomic: children since usage_pages() */
	uint64_t forked_faults; /* atomic: up to then */
};

/* After fork in the parent, on any thread. */
void usage_forked(struct usage *usage);
/*
 * In the child, which has no other thread yet: its account, and its parent's, if that has
 * the claim still. slot: NULL if it publishes none yet.
 */
void usage_born(struct usage *usage, struct ctl_slot *slot, struct ctl_slot *parent,
		uint64_t claim);
/*
 * This process's part of the tree's memory, each shared page counted by its share. For
 * one thread, the keeper.
 */
int64_t usage_pages(struct usage *usage, int64_t rss_pages, const struct ctl *ctl);

#endif
