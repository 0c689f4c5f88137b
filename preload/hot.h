/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of libc whose system call is made from here, where calls are guarded; see
 * hot.c. Of each file: what comes next is in its `next`, which has a member for each
 * function, of that name.
 */
#ifndef UHMM_PRELOAD_HOT_H
#define UHMM_PRELOAD_HOT_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOK_UP(name) ((__typeof__(next.name))dlsym(RTLD_NEXT, #name))
#define NEXT(name) (next.name = LOOK_UP(name))
/* Of a constructor of another library, a call comes before that. */
#define OR_NEXT(name) (next.name ? next.name : LOOK_UP(name))

/*
 * Makes the call; *result: as libc says it, with errno. false: it is libc's function that
 * is to be called. One buffer of `bytes` is touched: its address is the second argument,
 * `len` the third, `d` the fourth.
 */
bool hot_call(long nr, long a, uintptr_t buf, size_t len, long d, size_t bytes,
	      long *result);
/* The same for a call of which the table knows what it touches (guard_call.h). */
bool hot_named(long nr, const uint64_t arg[6], long *result);

/* Into `r`. */
#define NAMED(nr, ...) hot_named(nr, (const uint64_t[6]){ __VA_ARGS__ }, &r)

/* fstatat(); path may be anything. */
bool hot_stat(int folder, const char *path, void *st, int flags, int *result);

/* Of hot_bind(). */
void hot_files_bind(void);
void hot_fortified_bind(void);

#endif
