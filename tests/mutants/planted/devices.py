# SPDX-License-Identifier: Apache-2.0
"""Bugs in devices and in what they are given."""
from .mutant import Mutant

MUTANTS = [
    # ---- devices ----------------------------------------------------------------------
    Mutant("do_not_compare", "devices/ram/ram.c",
           "a page whose bytes have changed on the device is handed out", """
	return uhmm_checksum(io->buf, io->len) == entry->check ? 0 : -EIO;
""", """
	return 0;
"""),
    Mutant("one_entry_too_many", "devices/ram/ram.c",
           "the device takes more than its size", """
	if (i == ram->max_pages)
""", """
	if (i == ram->max_pages + 1)
"""),
    Mutant("page_is_kept_and_unmapped", "lib/host_pages.c",
           "a page that is kept for the next is given back too", """
	for (; done < nr; done++)
""", """
	for (done = 0; done < nr; done++)
"""),
]
