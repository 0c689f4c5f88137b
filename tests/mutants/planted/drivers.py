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
    Mutant("disowned_is_settled", "lib/event.c",
           "a page that was unmapped during a migration comes back at its end", """
	migration_disown(sp, e);
""", """
"""),
]
