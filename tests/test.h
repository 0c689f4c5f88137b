/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A test harness.
 *
 *	#include "test.h"
 *	TEST(a_page_comes_back) { CHECK_EQ(uhmm_migrate(...), 0); CHECK(p[0] == 7); }
 *	TEST(a_lost_page_kills, .signal = SIGBUS, .timeout_s = 5) { ... }
 *
 * and test.c, which has main(). Each test is a forked child in a process group of its
 * own, under a timeout. A check may be made in any thread and in any process that the
 * child forks: a failing one reports what it saw through a pipe that all of them inherit
 * and kills the group. A test passes only if its body returned (or ended as .signal or
 * .exit_status say), nothing failed anywhere, nothing leaked and no process is left: so
 * neither a lost grandchild nor an exit(0) in the middle looks like success.
 *
 * SKIP("why") ends a test that cannot run here; to exit 77 without a reason is to fail.
 * Output is TAP; the child's stdout goes to stderr. Arguments choose tests by a part of
 * their name; -l lists them; -n runs them in this process, for a debugger.
 * TEST_TIMEOUT_FACTOR in the environment stretches the timeouts (valgrind, sanitizers),
 * and so does a slow machine (pace.h).
 */
#ifndef TEST_H
#define TEST_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct test {
	const char *name;
	void (*fn)(void);
	const void *arg; /* what test_arg() returns in the test */
	int signal;      /* the signal that must end the child */
	int exit_status; /* the status it must exit with; 0: its body must return */
	int timeout_s;   /* 0: 30 */
	struct test *next;
};

/* Tests run in the order they are registered in; TEST does it before main(). */
void test_register(struct test *test);
const void *test_arg(void);
/* What watches this process's every access ("valgrind", "a sanitizer"), or NULL. */
const char *test_instrument(void);
/* How many times longer than elsewhere one may have to wait here: for limits on hangs. */
int test_stretch(void);
/* Memory that is only read takes none: the kernel has a page of zeros for everybody. */
bool test_has_zero_page(void);
/* 'F': the running test has failed, 'S': it is skipped. Any thread, any fork. */
void test_report(char kind, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Where the threads of a process group are: lines for a test that hangs. */
void test_where(FILE *out, pid_t group);
/* Ends the running test and everything it started. */
void test_end(void) __attribute__((noreturn));

#define TEST(name_, ...)                                                                 \
	static void name_(void);                                                         \
	__attribute__((constructor)) static void name_##_register(void)                  \
	{                                                                                \
		static struct test t_ = { .name = #name_, .fn = name_, __VA_ARGS__ };    \
		test_register(&t_);                                                      \
	}                                                                                \
	static void name_(void)

#define SKIP(...)                                                                        \
	do {                                                                             \
		test_report('S', __VA_ARGS__);                                           \
		_exit(77);                                                               \
	} while (0)

#define test_fail(format_, ...)                                                          \
	do {                                                                             \
		test_report('F', "%s:%d: " format_, __FILE__, __LINE__, __VA_ARGS__);    \
		test_end();                                                              \
	} while (0)

/* CHECK(expression) or CHECK(expression, "format", values...) */
#define CHECK(expr_, ...)                                                                \
	do {                                                                             \
		if (!(expr_)) {                                                          \
			int errno_ = errno;                                              \
			char more_[512];                                                 \
			snprintf(more_, sizeof(more_), " " __VA_ARGS__);                 \
			test_fail("CHECK(%s) failed:%s (errno %d)", #expr_, more_,       \
				  errno_);                                               \
		}                                                                        \
	} while (0)

struct test_value {
	uintmax_t bits;
	bool negative;
};

static inline struct test_value test_value(uintmax_t bits, bool is_signed)
{
	return (struct test_value){ bits, is_signed && (intmax_t)bits < 0 };
}

/* The order of the values, not of their types: -1 < 1u. */
static inline int test_compare(struct test_value a, struct test_value b)
{
	if (a.negative != b.negative)
		return a.negative ? -1 : 1;
	return (a.bits > b.bits) - (a.bits < b.bits);
}

#define TEST_VALUE(x_)                                                                   \
	test_value((uintmax_t)(x_),                                                      \
		   _Generic((x_), char                                                   \
			    : (char)-1 < 0, signed char : 1, short : 1, int : 1,         \
			      long : 1, long long : 1, default : 0))

/* Integers and pointers, each evaluated once. */
#define CHECK_OP(a_, op_, b_)                                                            \
	do {                                                                             \
		struct test_value va_ = TEST_VALUE(a_), vb_ = TEST_VALUE(b_);            \
		if (!(test_compare(va_, vb_) op_ 0))                                     \
			test_fail("CHECK(%s %s %s) failed: %jd (0x%jx) and %jd (0x%jx)", \
				  #a_, #op_, #b_, (intmax_t)va_.bits, va_.bits,          \
				  (intmax_t)vb_.bits, vb_.bits);                         \
	} while (0)
#define CHECK_EQ(a_, b_) CHECK_OP(a_, ==, b_)
#define CHECK_NE(a_, b_) CHECK_OP(a_, !=, b_)
#define CHECK_LT(a_, b_) CHECK_OP(a_, <, b_)
#define CHECK_LE(a_, b_) CHECK_OP(a_, <=, b_)
#define CHECK_GT(a_, b_) CHECK_OP(a_, >, b_)
#define CHECK_GE(a_, b_) CHECK_OP(a_, >=, b_)

#define CHECK_STR(a_, b_)                                                                \
	do {                                                                             \
		const char *sa_ = (a_), *sb_ = (b_);                                     \
		if (!sa_ || !sb_ || strcmp(sa_, sb_))                                    \
			test_fail("CHECK_STR(%s, %s) failed: \"%.700s\" and \"%.700s\"", \
				  #a_, #b_, sa_ ? sa_ : "(null)", sb_ ? sb_ : "(null)"); \
	} while (0)

#define CHECK_MEM(a_, b_, len_)                                                          \
	do {                                                                             \
		const unsigned char *ma_ = (const void *)(a_);                           \
		const unsigned char *mb_ = (const void *)(b_);                           \
		size_t ml_ = (len_);                                                     \
		for (size_t mi_ = 0; mi_ < ml_; mi_++)                                   \
			if (ma_[mi_] != mb_[mi_])                                        \
				test_fail("CHECK_MEM(%s, %s, %s) failed: byte %zu of "   \
					  "%zu is 0x%02x and 0x%02x",                    \
					  #a_, #b_, #len_, mi_, ml_, ma_[mi_],           \
					  mb_[mi_]);                                     \
	} while (0)

#endif
