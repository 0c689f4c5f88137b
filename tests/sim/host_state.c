/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's own host.c, with a way to its state: a forked child has its own copy of
 * it, at the same address. It takes the place of the archive's.
 */
#include "lib/host.c"

#include "tests/sim/world.h"

void *sim_host_state(size_t *size)
{
	*size = sizeof(host);
	return &host;
}
