/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What our threads call of libc, from libc itself.
 *
 * A program may define functions of libc: its own memcpy(), a sanitizer's, a library's
 * clock_gettime() that turns the clock back. Calls from here would come to those, on a
 * thread that libc does not know, and they may use memory that is migrated: the reader
 * would wait for itself. So this file defines the functions for all of the preload
 * (the linker takes a definition in the same object first, as it is hidden), and passes
 * on to those of libc, which libc_find() looks up by their library and not by their name
 * alone. tests/lint/imports.py knows what else the preload may take from outside.
 *
 * Before libc_find() the plain loops here do the work: wrapped functions may be called by
 * constructors that come before ours.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <sched.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "lib/os/sys.h"

#define HIDDEN __attribute__((visibility("hidden"), used))
/* In a loop: or the compiler makes of it a call of what it is. */
#define NO_IDIOM() __asm__ volatile("" ::: "memory")

/* ---- until libc is found ---------------------------------------------------------- */

static void *plain_memmove(void *to, const void *from, size_t n)
{
	const char *f = from;
	char *t = to;
	size_t i;

	for (i = 0; i < n; i++) {
		size_t at = t < f ? i : n - 1 - i;

		t[at] = f[at];
		NO_IDIOM();
	}
	return to;
}

static void *plain_memset(void *to, int c, size_t n)
{
	char *t = to;

	while (n--) {
		t[n] = (char)c;
		NO_IDIOM();
	}
	return to;
}

static int plain_memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;
	size_t i;

	for (i = 0; i < n; i++) {
		if (x[i] != y[i])
			return x[i] - y[i];
		NO_IDIOM();
	}
	return 0;
}

static void *plain_memchr(const void *s, int c, size_t n)
{
	const unsigned char *at = s;

	for (; n--; at++) {
		if (*at == (unsigned char)c)
			return (void *)(uintptr_t)at;
		NO_IDIOM();
	}
	return NULL;
}

static int plain_clock_gettime(clockid_t clock, struct timespec *now)
{
	return (int)sys2(SYS_clock_gettime, clock, now);
}

static int plain_getcpu(unsigned *cpu, unsigned *node)
{
	return (int)sys3(SYS_getcpu, cpu, node, 0);
}

/* ---- libc's ----------------------------------------------------------------------- */

static struct {
	__typeof__(plain_memmove) *memcpy, *memmove;
	__typeof__(plain_memset) *memset;
	__typeof__(plain_memcmp) *memcmp;
	__typeof__(plain_memchr) *memchr;
	__typeof__(plain_clock_gettime) *clock_gettime;
	__typeof__(plain_getcpu) *getcpu;
} libc __attribute__((section(".data"))) = {
	plain_memmove, plain_memmove,       plain_memset, plain_memcmp,
	plain_memchr,  plain_clock_gettime, plain_getcpu,
};

#define FIND(handle, name)                                                               \
	do {                                                                             \
		void *found = dlsym(handle, #name);                                      \
		if (found)                                                               \
			libc.name = (__typeof__(libc.name))found;                        \
	} while (0)

void libc_find(void)
{
	void *handle = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);

	if (!handle)
		return;
	FIND(handle, memcpy);
	FIND(handle, memmove);
	FIND(handle, memset);
	FIND(handle, memcmp);
	FIND(handle, memchr);
	FIND(handle, clock_gettime);
	FIND(handle, getcpu);
}

HIDDEN void *memcpy(void *to, const void *from, size_t n)
{
	return libc.memcpy(to, from, n);
}

HIDDEN void *memmove(void *to, const void *from, size_t n)
{
	return libc.memmove(to, from, n);
}

HIDDEN void *memset(void *to, int c, size_t n)
{
	return libc.memset(to, c, n);
}

HIDDEN int memcmp(const void *a, const void *b, size_t n)
{
	return libc.memcmp(a, b, n);
}

/* What clang makes of memcmp() where the sign does not matter. */
HIDDEN int bcmp(const void *a, const void *b, size_t n)
{
	return libc.memcmp(a, b, n);
}

HIDDEN void *memchr(const void *s, int c, size_t n)
{
	return libc.memchr(s, c, n);
}

HIDDEN int clock_gettime(clockid_t clock, struct timespec *now)
{
	return libc.clock_gettime(clock, now);
}

HIDDEN int getcpu(unsigned *cpu, unsigned *node)
{
	return libc.getcpu(cpu, node);
}

/* ---- of short strings: a device's spec, lines of /proc ---------------------------- */

HIDDEN size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n]) {
		n++;
		NO_IDIOM();
	}
	return n;
}

HIDDEN int strncmp(const char *a, const char *b, size_t n)
{
	for (; n--; a++, b++) {
		if (*a != *b)
			return (unsigned char)*a - (unsigned char)*b;
		if (!*a)
			break;
		NO_IDIOM();
	}
	return 0;
}

HIDDEN int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, SIZE_MAX);
}

HIDDEN char *strchr(const char *s, int c)
{
	for (; *s != (char)c; s++) {
		if (!*s)
			return NULL;
		NO_IDIOM();
	}
	return (char *)(uintptr_t)s;
}
