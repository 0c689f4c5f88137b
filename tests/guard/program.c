/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of program.h have in common. */
#include "program.h"

#include <dlfcn.h>
#include <sys/wait.h>

volatile sig_atomic_t caught, caught_code;
void *volatile caught_addr;
sigset_t caught_blocked;
char *volatile caught_sp;

void on(int sig)
{
	char here;

	caught = sig;
	caught_sp = &here;
	pthread_sigmask(SIG_SETMASK, NULL, &caught_blocked);
}

void on_info(int sig, siginfo_t *info, void *context)
{
	on(sig);
	caught_code = info->si_code;
	caught_addr = info->si_addr;
	(void)context;
}

void handle(int sig, int flags)
{
	struct sigaction sa = { .sa_flags = flags };

	sigemptyset(&sa.sa_mask);
	if (flags & SA_SIGINFO)
		sa.sa_sigaction = on_info;
	else
		sa.sa_handler = on;
	CHECK_EQ(sigaction(sig, &sa, NULL), 0);
	caught = 0;
}

int end_of(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		CHECK_EQ(errno, EINTR);
	return status;
}

/* The guard says how many calls it has seen, where the environment says it is there. */
TEST(calls_go_where_they_should)
{
	unsigned long (*calls)(void);
	unsigned long before;
	int i;

	*(void **)&calls = dlsym(RTLD_DEFAULT, "guard_alone_calls");
	CHECK_EQ(calls != NULL, getenv("GUARDED") != NULL);
	if (!calls)
		return;
	before = calls();
	for (i = 0; i < 100; i++)
		getppid();
	CHECK_EQ(calls() - before, 100);
}
