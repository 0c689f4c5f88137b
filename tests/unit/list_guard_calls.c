/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list_guard_calls: the table of system calls as docs/guard-calls.md has it, by what the
 * guard does about them.
 */
#include <stdio.h>
#include <string.h>

#include "preload/guard_call.h"

#define COLUMNS 88
/* Higher than any number that Linux has given. */
#define NR_MAX 1024

static const struct {
	enum call_class class;
	const char *title;
	const char *text; /* lines */
} section[] = {
	{ CALL_PLAIN, "Made when their memory is there",
	  "What the arguments name is brought and held; then the call is made." },
	{ CALL_SIGNALS, "About signals",
	  "The guard answers; or the kernel does, of what the program sees rather than\n"
	  "of what there is." },
	{ CALL_PROCESS, "About processes and threads",
	  "Made by the guard, which follows into the child, or lets go of the process." },
	{ CALL_THREAD, "What the kernel keeps",
	  "The kernel writes there for as long as the thread lives: that stays." },
	{ CALL_MAPPING, "About mappings",
	  "The memory that they are about is not touched; what else they name is\n"
	  "brought." },
	{ CALL_LATER, "Used later",
	  "The kernel uses what they are given after they have returned. vmsplice() and\n"
	  "io_submit() pin it before they do; io_uring_setup() is refused, EPERM." },
};

static size_t at; /* columns */

static void word(const char *text)
{
	if (at && at + 1 + strlen(text) > COLUMNS) {
		putchar('\n');
		at = 0;
	}
	at += (size_t)printf("%s%s", at ? " " : "", text);
}

static void list(enum call_class class)
{
	char text[64];
	int n = 0;

	for (long nr = 0; nr < NR_MAX; nr++)
		n += call_name(nr) && call_class(nr) == class;
	snprintf(text, sizeof(text), "%d calls:", n);
	word(text);
	for (long nr = 0; nr < NR_MAX; nr++) {
		if (!call_name(nr) || call_class(nr) != class)
			continue;
		snprintf(text, sizeof(text), "%s%s%s", call_name(nr),
			 call_is_partly(nr) ? "\\*" : "", --n ? "," : ".");
		word(text);
	}
	putchar('\n');
	at = 0;
}

int main(void)
{
	puts("<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
	     "# System calls, and what the guard does about them\n"
	     "\n"
	     "All that Linux 6.18 has on x86-64, in the order of their numbers; printed\n"
	     "by `build/tests/unit/list_guard_calls`. [guard.md](guard.md) says what it\n"
	     "is about. Of those with a star not everything that structures lead to is\n"
	     "known: what is missing is found out when the kernel says EFAULT.");
	for (size_t i = 0; i < sizeof(section) / sizeof(section[0]); i++) {
		printf("\n## %s\n\n%s\n\n", section[i].title, section[i].text);
		list(section[i].class);
	}
	return 0;
}
