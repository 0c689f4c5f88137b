/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <uhmm/migrate.h>: page maps come and go.
 */
#include <errno.h>

#include "lib/device.h"
#include "lib/pagemap.h"
#include "lib/space.h"

int uhmm_pagemap_register(struct uhmm_space *sp, const struct uhmm_pagemap_config *config,
			  struct uhmm_pagemap **pagemap)
{
	struct uhmm_pagemap *map;
	int r = pagemap_make(config, &map);

	if (r)
		return r;
	map->sp = sp;
	r = space_add_pagemap(sp, map);
	if (r < 0) {
		device_close(map->dev);
		pagemap_free(map);
		return r;
	}
	*pagemap = map;
	return 0;
}

int uhmm_pagemap_unregister(struct uhmm_pagemap *map)
{
	int r = space_evict_device(map->sp, map->dev);

	if (r == 0 || r == -EIO)
		pagemap_free(map);
	return r;
}
