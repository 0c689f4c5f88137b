/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line for each call of the program, in the file that UHMM_DMIRROR_TRACE names: so that
 * nobody takes a program for one that used a device when it could not open it.
 *
 *	PID open /dev/hmm_dmirror0 = 3
 *	PID ioctl /dev/hmm_dmirror0 READ addr=0x7f0000000000 npages=4 = 0 cpages=4
 *	faults=1
 *
 * A result below 0 is -errno. The file is opened for each line, which is appended by one
 * write: a program may close what it does not know, and have children.
 */
#ifndef COMPAT_DMIRROR_TRACE_H
#define COMPAT_DMIRROR_TRACE_H

#include "compat/dmirror/abi.h"

#define TRACE_VARIABLE "UHMM_DMIRROR_TRACE"

/* Before the program starts. */
void trace_init(void);
void trace_open(unsigned number, int result);
void trace_call(unsigned number, unsigned call, const struct dmirror_cmd *cmd,
		int result);

#endif
