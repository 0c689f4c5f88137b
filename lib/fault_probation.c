/* SPDX-License-Identifier: Apache-2.0 */
/* Pages on probation that a stream comes to next. */
#include "lib/fault_internal.h"
#include "lib/gate.h"
#include "lib/migrate.h"

/* The frame of a page if it is in PROBATION as a page of its own. */
static bool on_probation(struct uhmm_space *sp, uintptr_t addr, entry_t *e)
{
	unsigned shard = gate_enter(&sp->gate);
	struct chunk *chunk;
	bool folio;
	entry_t *entry = find_entry(sp, addr, &chunk, &folio);

	*e = entry && !folio ? entry_load(entry) : 0;
	gate_leave(&sp->gate, shard);
	return entry_state(*e) == PAGE_PROBATION;
}

/*
 * Pages on probation from addr on, at most nr, that one move brings back: their frames
 * are in a row too, and they are as warm as each other.
 */
static unsigned run_on_probation(struct uhmm_space *sp, uintptr_t addr, unsigned nr,
				 entry_t *first)
{
	unsigned i;
	entry_t e;

	for (i = 0; i < nr && on_probation(sp, addr + i * PAGE_SIZE, &e); i++) {
		if (i == 0)
			*first = e;
		else if (entry_payload(e) != entry_payload(*first) + i ||
			 entry_payload(e) % GROUP_PAGES == 0 ||
			 entry_hot(e) != entry_hot(*first))
			break;
	}
	return i;
}

unsigned bring_probation(struct uhmm_space *sp, uintptr_t addr, unsigned nr)
{
	unsigned done = 0, run, back;
	entry_t e = 0;

	while (done < nr) {
		uintptr_t at = addr + done * PAGE_SIZE;

		run = run_on_probation(sp, at, nr - done, &e);
		back = run > 1 ?
			       restore_run(sp, at, entry_payload(e), run, entry_hot(e)) :
			       0;
		if (run && !back)
			back = !restore_page(sp, at, entry_payload(e), entry_hot(e));
		done += back;
		if (!back)
			break;
	}
	return done;
}
