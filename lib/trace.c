/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of trace events; see trace.h. */
#include "lib/trace.h"

#ifdef UHMM_TRACE
struct trace_record uhmm_trace_ring[TRACE_RECORDS];
uint64_t uhmm_trace_seq;

void trace_page(struct uhmm_space *sp, uintptr_t addr, entry_t from, entry_t to)
{
	uint64_t seq = __atomic_fetch_add(&uhmm_trace_seq, 1, __ATOMIC_RELAXED);
	struct trace_record *r = &uhmm_trace_ring[seq % TRACE_RECORDS];

	(void)sp;
	*r = (struct trace_record){
		.seq = seq,
		.tid = os_tid(),
		.addr = addr,
		.from = from,
		.to = to,
	};
}
#endif
