/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trace events: every change of a page's state is one. A build with -DUHMM_TRACE keeps
 * the last TRACE_RECORDS of them in memory (uhmm_trace_ring, found by a debugger or a
 * failing test); otherwise they cost nothing.
 */
#ifndef UHMM_TRACE_H
#define UHMM_TRACE_H

#include "lib/types.h"

#ifdef UHMM_TRACE
#define TRACE_RECORDS 65536u

struct trace_record {
	uint64_t seq;
	uint32_t tid;
	uint32_t pad;
	uintptr_t addr;
	entry_t from, to;
};

extern struct trace_record uhmm_trace_ring[TRACE_RECORDS];
extern uint64_t uhmm_trace_seq;
void trace_page(struct uhmm_space *sp, uintptr_t addr, entry_t from, entry_t to);
#else
static inline void trace_page(struct uhmm_space *sp, uintptr_t addr, entry_t from,
			      entry_t to)
{
	(void)sp;
	(void)addr;
	(void)from;
	(void)to;
}
#endif

#endif
