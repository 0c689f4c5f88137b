/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the compressing drivers are made of, and where it keeps a page: an object of the
 * packed store with its header, or a slot that is the page's word.
 */
#include "tests/fuzz/kept.h"

#include "devices/packed_store.c"
#include "lib/store_internal.h"

struct uhmm_store *kept_packed_store(void *impl)
{
	return ((struct packed *)impl)->store;
}

struct kept kept_packed(void *impl, uint64_t page, unsigned part, bool changed)
{
	struct uhmm_store *store = kept_packed_store(impl);
	uint64_t *slot = slot_at(store, page >> HANDLE_INDEX_SHIFT);
	struct store_object *object = slot_object(*slot);

	(void)part;
	if (page & HANDLE_VALUE)
		return (struct kept){ (unsigned char *)slot, sizeof(*slot) };
	/* What of its place the object does not need is nobody's. */
	return (struct kept){ (unsigned char *)object,
			      changed ? slot_home(store, *slot)->size :
					sizeof(*object) + object_len(object) };
}
