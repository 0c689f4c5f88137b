/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What our threads call of libc, from libc itself.
 *
 * A program may define functions of libc: its own memcpy(), a sanitizer's, a library's
 * clock_gettime() that turns the clock back. Calls from here would come to those, on a
 * thread that libc does not know, and they may use memory that is migrated: the reader
 * would wait for itself. So the linker makes of each call of such a function one of
 * __wrap_...() here (ld's --wrap, see meson.build), and that goes on to what the dynamic
 * linker found, if it lies in libc, or else to what libc has of that name.
 * tests/lint/imports.py knows what else the preload takes from outside.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <sched.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define HIDDEN __attribute__((visibility("hidden"), used))

/* explicit_bzero() of whoever checks sizes. */
void __explicit_bzero_chk(void *to, size_t n, size_t size);

/* As in meson.build. bcmp() is what clang makes of a memcmp() that is compared to 0. */
#define EACH(X)                                                                          \
	X(__explicit_bzero_chk)                                                          \
	X(bcmp)                                                                          \
	X(clock_gettime)                                                                 \
	X(explicit_bzero)                                                                \
	X(getcpu)                                                                        \
	X(memchr) X(memcmp) X(memcpy) X(memmove) X(memset) X(strchr) X(strcmp) X(strlen) \
		X(strncmp)

#define REAL(name) extern __typeof__(name) __real_##name, __wrap_##name;
#define FIELD(name) __typeof__(name) *name;
#define FOUND(name) .name = __real_##name,
#define LIBC(name)                                                                       \
	if (!in_libc((uintptr_t)libc.name) && (at = dlsym(handle, #name)))               \
		libc.name = (__typeof__(libc.name))at;

EACH(REAL)

static struct {
	EACH(FIELD)
} libc __attribute__((section(".data"))) = { EACH(FOUND) };

static uintptr_t libc_start __attribute__((section(".data")));
static uintptr_t libc_end __attribute__((section(".data")));

static bool in_libc(uintptr_t at)
{
	return at >= libc_start && at < libc_end;
}

void libc_found(uintptr_t start, uintptr_t end)
{
	libc_start = start;
	libc_end = end;
}

#define OUTSIDE(name) || !in_libc((uintptr_t)libc.name)

void libc_bind(void)
{
	void *handle, *at;

	/* To ask is a third of what it costs to start a process with us. */
	if (!(false EACH(OUTSIDE)))
		return;
	handle = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	if (!handle)
		return;
	EACH(LIBC)
}

HIDDEN void __wrap___explicit_bzero_chk(void *to, size_t n, size_t size)
{
	libc.__explicit_bzero_chk(to, n, size);
}

HIDDEN int __wrap_bcmp(const void *a, const void *b, size_t n)
{
	return libc.bcmp(a, b, n);
}

HIDDEN int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	return libc.clock_gettime(clock, now);
}

HIDDEN void __wrap_explicit_bzero(void *to, size_t n)
{
	libc.explicit_bzero(to, n);
}

HIDDEN int __wrap_getcpu(unsigned *cpu, unsigned *node)
{
	return libc.getcpu(cpu, node);
}

HIDDEN void *__wrap_memchr(const void *s, int c, size_t n)
{
	return libc.memchr(s, c, n);
}

HIDDEN int __wrap_memcmp(const void *a, const void *b, size_t n)
{
	return libc.memcmp(a, b, n);
}

HIDDEN void *__wrap_memcpy(void *to, const void *from, size_t n)
{
	return libc.memcpy(to, from, n);
}

HIDDEN void *__wrap_memmove(void *to, const void *from, size_t n)
{
	return libc.memmove(to, from, n);
}

HIDDEN void *__wrap_memset(void *to, int c, size_t n)
{
	return libc.memset(to, c, n);
}

HIDDEN char *__wrap_strchr(const char *s, int c)
{
	return libc.strchr(s, c);
}

HIDDEN int __wrap_strcmp(const char *a, const char *b)
{
	return libc.strcmp(a, b);
}

HIDDEN size_t __wrap_strlen(const char *s)
{
	return libc.strlen(s);
}

HIDDEN int __wrap_strncmp(const char *a, const char *b, size_t n)
{
	return libc.strncmp(a, b, n);
}
