/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers: a device that is several, of which each is roomier and slower than the one
 * before. What is stored goes to the first. Where that is full its oldest pages are moved
 * to the second, and so on; in the end a page is refused, as by any device.
 *
 * Old is what was stored long ago. Nobody has to say what is used: a page that is touched
 * is loaded and freed, and when it is stored again it goes to the first tier. What is
 * never touched sinks.
 *
 * A page's number is that of a *record*, which says which tier has it and what it is
 * called there. So pages move while nobody but this device knows. A record has its place
 * in the list of its tier, by age, and takes 16 bytes: 0.4 % of a page.
 *
 * Moving happens in a STORE that finds a tier full, TIER_MOVE_MAX pages at a time, so
 * that most stores move nothing. A page is loaded into memory of ours, stored below and
 * freed above. It has a good copy at any time, and its record names one:
 *
 *   a LOAD meanwhile      counts itself in the record, and is served where the record
 *                         says. The mover changes the record only while nobody is
 *                         counted; else it gives up, and frees the copy below: a page
 *                         that is loaded is wanted above in any case.
 *   a FREE meanwhile      leaves a mark, and the mover frees both copies.
 *   one cannot be loaded  It stays: who asks for it is told.
 *   one cannot be stored  It stays, and is the oldest again.
 *
 * A page that finds no room although pages were moved goes to the next tier at once.
 * Where nothing could be moved it is tried again after pages were freed, and where there
 * was no room anywhere all is refused until then: or each store would be slow.
 *
 * A page shorter than UHMM_PAGE_SIZE is not moved. The core has none; that is for tests.
 *
 * Any thread. The locks are: that of moving from a tier, taken from the first tier down,
 * and within it that of the records. A LOAD takes neither.
 */
#ifndef UHMM_TIER_H
#define UHMM_TIER_H

#include <stdbool.h>
#include <stdint.h>

#include "uhmm/device.h"

/*
 * nr devices, 2 to SPEC_TIERS_MAX, the first one first; *dev closes them when it is
 * closed. -ENOMEM: they are the caller's still.
 */
int tier_create(struct uhmm_device *const *tier, uint32_t nr, struct uhmm_device **dev);

/* Is this the driver of tiers? Then with its impl: the k-th, NULL behind the last. */
bool tier_is_driver(const struct uhmm_driver *driver);
struct uhmm_device *tier_at(void *impl, uint32_t k);

#endif
