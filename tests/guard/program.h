/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program may rely on of system calls and signals, run twice: as it is, and with
 * all its calls going through the guard (alone.c). But for one test nothing here knows of
 * the guard.
 */
#ifndef TESTS_GUARD_PROGRAM_H
#define TESTS_GUARD_PROGRAM_H

#include "test.h"

#include <sys/types.h>

/* By the handlers below. */
extern volatile sig_atomic_t caught, caught_code;
extern void *volatile caught_addr;
extern sigset_t caught_blocked; /* while it ran */
extern char *volatile caught_sp;

void on(int sig);
void on_info(int sig, siginfo_t *info, void *context);
/* Installs one of them, by SA_SIGINFO; nothing is caught yet. */
void handle(int sig, int flags);
/* How a child has ended. */
int end_of(pid_t pid);

#endif
