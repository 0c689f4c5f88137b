/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/migrate.h>: page maps come and go.
 */
#include <errno.h>

#include "lib/coherent.h"
#include "lib/device.h"
#include "lib/pagemap.h"
#include "lib/pagemap_fault.h"
#include "lib/space.h"

int uhmm_pagemap_register(struct uhmm_space *sp, const struct uhmm_pagemap_config *config,
			  struct uhmm_pagemap **pagemap)
{
	struct uhmm_pagemap *map;
	int r = pagemap_make(sp, config, &map);

	if (r)
		return r;
	r = space_add_pagemap(sp, map);
	if (r < 0) {
		device_close(map->dev);
		pagemap_free(map);
		return r;
	}
	r = map_faults_start(map);
	if (r) {
		uhmm_pagemap_unregister(map);
		return r;
	}
	*pagemap = map;
	return 0;
}

int uhmm_pagemap_evict(struct uhmm_pagemap *map)
{
	return space_bring_back(map->sp, map->number);
}

int uhmm_pagemap_unregister(struct uhmm_pagemap *map)
{
	int r = space_evict_device(map->sp, map->dev);

	if (r == 0 || r == -EIO) {
		map_faults_stop(map);
		pagemap_free(map);
	}
	return r;
}

int uhmm_page_get(struct uhmm_pagemap *map, uint64_t page, uhmm_pfn_t *pfn)
{
	int r = pagemap_get(map, page);

	if (r == 0 && map->memory) {
		r = coherent_make_present(map, page);
		if (r)
			uhmm_page_put(map, page);
	}
	if (r == 0)
		*pfn = pfn_make(map->number, page);
	return r;
}
