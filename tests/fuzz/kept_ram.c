/* SPDX-License-Identifier: Apache-2.0 */
/* The driver ram, and where it keeps a page: its bytes, and the entry of its table. */
#include "tests/fuzz/kept.h"

#include "devices/ram/ram.c"

struct kept kept_ram(void *impl, uint64_t page, unsigned part, bool changed)
{
	struct entry *e = entry_at(impl, page);

	(void)changed;
	switch (part % 4) {
	case 0:
		return (struct kept){ (unsigned char *)&e->check, sizeof(e->check) };
	case 1:
		return (struct kept){ (unsigned char *)&e->len, sizeof(e->len) };
	default:
		return (struct kept){ e->data, UHMM_PAGE_SIZE };
	}
}
