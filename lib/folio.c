/* SPDX-License-Identifier: Apache-2.0 */
/* See folio.h. */
#include "lib/folio.h"

#include "lib/assert.h"
#include "lib/frame.h"
#include "lib/migrate.h"
#include "lib/page.h"
#include "lib/pagemap.h"

entry_t folio_page(entry_t f, unsigned index)
{
	return entry_make(entry_state(f), entry_payload(f) + index, entry_device(f)) |
	       (f & ENTRY_FROM_FRAME);
}

/* Nobody else changes entries below a folio. */
static void set_page(struct uhmm_space *sp, entry_t *entry, uintptr_t addr, entry_t to)
{
	entry_t none = entry_load(entry);

	if (entry_state(to) == PAGE_DEVICE) {
		assert_always(page_change(sp, entry, addr, &none, to));
		return;
	}
	assert_always(
		page_change(sp, entry, addr, &none, entry_make(PAGE_ISOLATING, 0, 0)));
	page_settle(sp, entry, addr, to);
}

void folio_split(struct uhmm_space *sp, struct chunk *chunk, uintptr_t addr, entry_t f,
		 unsigned from, unsigned to)
{
	unsigned device = entry_device(f), i;

	if (device)
		pagemap_split(pagemap_at(sp, device), entry_payload(f), addr);
	else
		frame_folio_split(sp, (uint32_t)(entry_payload(f) / GROUP_PAGES), addr,
				  from, to);
	for (i = from; i < to; i++)
		set_page(sp, &chunk->page[i], addr + i * PAGE_SIZE, folio_page(f, i));
}

void folio_split_device(struct uhmm_space *sp, uintptr_t addr)
{
	struct chunk *chunk = page_chunk(sp, addr);
	entry_t f = chunk ? entry_load(&chunk->folio) : 0, was = f;

	addr = chunk_start(addr);
	if (entry_state(f) != PAGE_DEVICE ||
	    !page_change(sp, &chunk->folio, addr, &f,
			 entry_make(PAGE_LOADING, entry_payload(f), entry_device(f))))
		return;
	folio_split(sp, chunk, addr, was, 0, CHUNK_PAGES);
	if (page_settle(sp, &chunk->folio, addr, entry_make(PAGE_NONE, 0, 0)) &
	    ENTRY_WANTED)
		os_uffd_wake(sp->uffd, addr, CHUNK_SIZE);
}
