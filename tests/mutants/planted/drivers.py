# SPDX-License-Identifier: Apache-2.0
"""Bugs in what drivers of devices are promised: notifiers, migrations, folios."""
from .mutant import Mutant

MUTANTS = [
    # ---- drivers ----------------------------------------------------------------------
    Mutant("do_not_tell", "lib/notifier.c",
           "who mirrors memory is told, but its sequence stays what it was", """
	if (ns->root)
		ns->seq |= 1;
""", """
"""),
    Mutant("destination_twice", "lib/migration_end.c",
           "two pages go to one page of the device", """
		return map && pagemap_is_spare(map, pfn_page(dst));
""", """
		return map != NULL;
"""),
    Mutant("taken_is_settled", "lib/migration.c",
           "a page that was unmapped during a migration comes back at its end", """
	return entry && is_source(entry_load(entry), src) ? entry : NULL;
""", """
	(void)is_source;
	return entry;
"""),
    Mutant("end_without_waking", "lib/notifier.c",
           "who waits for the end of an invalidation sleeps on", """
		ns->seq++;
		progress(ns);
""", """
		ns->seq++;
"""),
    Mutant("notifier_below_unseen", "lib/notifier.c",
           "a notifier is not told because of one to its left in the tree", """
	if (n->left && n->left->max_last > n->max_last)
		n->max_last = n->left->max_last;
""", """
"""),
    Mutant("load_is_not_told", "lib/fault.c",
           "a device is not told that a page of its memory is fetched", """
	bool told = tell_load(sp, ld->device, ld->addr, ld->nr);
""", """
	bool told = false && tell_load(sp, ld->device, ld->addr, ld->nr);
"""),
    Mutant("migration_is_not_told", "lib/migration.c",
           "nobody is told that a driver takes pages from where they are mapped", """
	if (!mg->told)
		mg->told = notifier_begin(mg->sp, mg->start,
					  mg->start + mg->nr * PAGE_SIZE,
					  UHMM_EVENT_MIGRATE, mg->owner);
""", """
	(void)mg;
"""),
    Mutant("exclusive_is_not_told", "lib/exclusive.c",
           "a device is not told that its exclusive page is the program's again", """
	bool told = notifier_begin(sp, addr, addr + PAGE_SIZE, UHMM_EVENT_CLEAR, NULL);
""", """
	bool told = false;
"""),
    Mutant("split_folio_has_one_owner", "lib/pagemap_folio.c",
           "pages of a device's folio that is split do not know whose they are", """
		pagemap_set_owner(map, head + i, addr + i * PAGE_SIZE);
""", """
		(void)addr;
"""),
    Mutant("shared_page_is_writable", "lib/pagemap_share.c",
           "a device writes to a page that parent and child share", """
	return map->share && __atomic_load_n(refs(map, page), __ATOMIC_ACQUIRE) > 1;
""", """
	return map->share && __atomic_load_n(refs(map, page), __ATOMIC_ACQUIRE) > 2;
"""),
    Mutant("read_only_is_writable", "lib/range_fault.c",
           "a device is told that it may write what the program may not", """
	if (!w->vma.writable || w->seen[i] & OS_PAGE_ZERO)
		return false;
""", """
	if (w->seen[i] & OS_PAGE_ZERO)
		return false;
"""),
    Mutant("served_touch_is_served_again", "lib/pagemap_fault.c",
           "a driver brings back what was touched before it took the page", """
			*request(mf, i) |= IS_STALE;
""", """
			*request(mf, i) |= 0;
"""),
]
