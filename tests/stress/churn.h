/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn: a program that does to its memory whatever programs do, and knows what must be
 * in every page at any time.
 *
 * Threads work independently. Each owns regions: mappings with, for every page, a model
 * of what it holds (which stamp, see stamp.h), how it is protected, and whether it was
 * given to MADV_FREE (then any word of it may be zero). An operation draws all its random
 * numbers before it looks at any result, and the model never depends on an address or on
 * time: so the digest, which folds in what was read, is the same for the same seed
 * wherever the program runs.
 *
 *	churn.c		options, threads, which operation next
 *	churn_model.c	regions, pages, checking, the report about a wrong byte
 *	churn_ops.c	what is done to mappings
 *	churn_proc.c	fork, raw clone, vfork, posix_spawn, signals, system calls
 *	churn_files.c	O_DIRECT, io_uring, memfds
 *	churn_moves.c	of `torture` only: migrates all of it back and forth meanwhile
 *
 * A wrong byte, or a call that fails and should not, is reported on stderr and ends the
 * process (children included) with status 1.
 */
#ifndef STRESS_CHURN_H
#define STRESS_CHURN_H

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "stamp.h"

#define REGIONS_MAX 48    /* a thread's; with partial mprotect far below max_map_count */
#define REGION_PAGES 4096 /* largest, 16 MiB: spans several huge pages */
#define THREADS_MAX 16

enum page_flag {
	PAGE_R = 1,
	PAGE_W = 2,
	PAGE_MAYBE = 4, /* MADV_FREE since the last write: each word old, or zero */
};

struct page {
	uint32_t serial; /* 0: zeros */
	uint16_t patch;  /* not 0: one word differs from the stamp, see patch_value() */
	uint8_t flags;
};

enum region_flag {
	REGION_MIXED = 1,    /* may be several mappings: mremap would refuse */
	REGION_DONTFORK = 2, /* not there in a child */
	REGION_WIPE = 4,     /* zeros in a child */
};

struct region {
	char *base;
	size_t nr;
	struct page *page; /* nr of them, malloc'd */
	uint32_t id;
	uint32_t flags;
};

struct child {
	pid_t pid;    /* 0: none */
	int fd;       /* its results arrive here */
	int results;  /* how many */
	uint64_t due; /* the operation at which it is waited for */
};

struct churn {
	int index;
	pthread_t thread;
	struct rng rng;
	struct region region[REGIONS_MAX];
	int nr_regions;
	size_t pages, target;
	uint32_t serial, next_id;
	uint64_t op, digest;
	const char *op_name;
	struct child child;
	sigjmp_buf fault;
	volatile sig_atomic_t fault_expected;
	volatile uintptr_t fault_addr;
	uint64_t signals;
	unsigned remapped, refused;
	atomic_bool ended;
};

struct options {
	int threads;
	size_t bytes;
	uint64_t ops, seed;
	bool inline_delivery, without_kernel, libc_forks;
	bool without_ring; /* none is made, where no operation needs it */
};

extern struct options options;
extern struct churn churns[THREADS_MAX];
extern _Thread_local struct churn *self;

/* churn_model.c */
uint64_t page_key(const struct churn *c, uint32_t serial);
void fold(struct churn *c, uint64_t value);
struct region *region_new(struct churn *c, char *base, size_t nr);
void region_forget(struct churn *c, struct region *r);
/* [first, first+nr) becomes a region of its own; what is left of it and right stay. */
struct region *region_split(struct churn *c, struct region *r, size_t first, size_t nr);
void page_write(struct churn *c, struct region *r, size_t i, uint32_t choice);
void page_check(struct churn *c, struct region *r, size_t i, uint64_t choice);
/* Of a page that is in no region. */
void page_write_at(struct churn *c, char *addr, struct page *p, uint32_t choice);
void page_check_at(struct churn *c, const char *what, uint32_t id, const char *addr,
		   const struct page *p, uint64_t choice);
void pages_zero(struct region *r, size_t first, size_t nr);
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* The line of /proc/self/maps that has addr; empty if there is none. */
void mapping_of(uintptr_t addr, char *text, size_t size);
/* Of /proc/self/pagemap. */
uint64_t pagemap_of(uintptr_t addr);
void constants_init(void);
void constants_check(uint64_t choice);
void commons_use(struct churn *c);

/* churn_ops.c */
void op_map(struct churn *c);
void op_unmap(struct churn *c);
void op_touch(struct churn *c);
void op_remap(struct churn *c);
void op_advise(struct churn *c);
void op_inherit(struct churn *c);
void op_protect(struct churn *c);
void op_fixed(struct churn *c);
void op_lock(struct churn *c);
struct region *pick_region(struct churn *c);

/* churn_files.c */
void files_init(struct churn *c);
void files_end(struct churn *c);
void op_dio(struct churn *c);
void op_memfd(struct churn *c);
#ifdef HAVE_LIBURING
void op_uring(struct churn *c);
#endif

/* churn_moves.c, which `churn` is made without */
void moves_start(uint64_t seed, bool inline_delivery) __attribute__((weak));
/* That there is memory: any thread, at any time. */
void moves_see(const char *base, size_t nr) __attribute__((weak));
/* All of it is back. */
void moves_stop(void) __attribute__((weak));
void moves_report(void) __attribute__((weak));

/* churn_proc.c */
void op_exhaust(struct churn *c);
void op_fork(struct churn *c);
void op_spawn(struct churn *c);
void op_syscall(struct churn *c);
void op_segv(struct churn *c);
void child_wait(struct churn *c);
void signals_init(void);
void signals_start_thread(void);
void *signals_pester(void *arg);

#endif
