# SPDX-License-Identifier: Apache-2.0
"""Bugs around the core: lib/os, the preloads. The simulated machine has neither."""
from .mutant import Mutant

MUTANTS = [
    # ---- lib/os -----------------------------------------------------------------------
    Mutant("uncounted_pages_are_lost", "lib/os/os_linux_uffd.c",
           "pages that the kernel has moved and not counted are lost", """
	more = uncounted(uffd, &move, done > 0 ? (size_t)done : 0);
""", """
	more = 0;
	(void)uncounted;
"""),
    Mutant("some_is_all", "lib/os/os_linux_uffd.c",
           "what was moved or copied in part is taken for all of it", """
	if (ret == -EAGAIN && field > 0)
		return field;
""", """
	if (ret == -EAGAIN && field > 0)
		return (int64_t)len;
"""),
    Mutant("unregistered_under_a_fault", "lib/os/os_linux_uffd.c",
           "who faults while a registration ends is forgotten, as the kernel does", """
	os_uffd_wake(uffd, start, len);
	return r;
""", """
	return r;
"""),
    Mutant("deaf_to_discards", "lib/os/os_linux_uffd.c",
           "the kernel is not asked to tell of MADV_DONTNEED", """
		api.features |= UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
				UFFD_FEATURE_EVENT_UNMAP;
""", """
		api.features |= UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP;
"""),
    Mutant("remap_reversed", "lib/os/os_linux_uffd.c",
           "mremap() is read as if it went the other way", """
		ev->from = (uintptr_t)msg->arg.remap.from;
		ev->to = (uintptr_t)msg->arg.remap.to;
""", """
		ev->from = (uintptr_t)msg->arg.remap.to;
		ev->to = (uintptr_t)msg->arg.remap.from;
"""),
    # ---- the preload ------------------------------------------------------------------
    Mutant("preloaded_twice", "preload/exec.c",
           "the preload is put before programs that have it", """
	return ours && !has(theirs(envp, lack), us);
""", """
	return ours;
"""),
    Mutant("childs_part_is_nobodys", "preload/usage.c",
           "what a forked child shares is on nobody's account until it looks", """
	CTL_STORE(&slot->usage_pages, part);
""", """
	CTL_STORE(&slot->usage_pages, 0);
"""),
    Mutant("notes_outlive_a_fork", "preload/threads.c",
           "a forked child waits for threads that it does not have", """
		memset(block(b), 0, block_size(b) * sizeof(struct note));
""", """
		(void)b;
"""),
]
