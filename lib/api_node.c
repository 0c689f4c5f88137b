/* SPDX-License-Identifier: Apache-2.0 */
/* <uhmm/migrate.h>: memory of a node. */
#include "lib/migration.h"

int uhmm_page_alloc_on_node(struct uhmm_space *sp, int node, uhmm_pfn_t *pfns,
			    unsigned nr)
{
	struct os_node_policy saved;
	int r = os_node_set(node, &saved);

	if (r)
		return r;
	/* The pages are made by this thread. */
	r = migration_page_alloc(sp, pfns, nr, true);
	os_node_restore(&saved);
	return r;
}
