# SPDX-License-Identifier: Apache-2.0
"""stress-ng with --verify: its stressors of memory and of processes, one at a time, each
beside a process that fills memory and looks at it again, so that half of what both take
is little for either. Those that this version of stress-ng does not have are skipped.

Left out:
  userfaultfd            has one of its own; tests/stress has it (stress-many)
  pthread                reads the stack of a function that has returned (stress-fork)
  mmapfork, vma          take half of the machine's free memory, whatever they are told
  memhotplug, swap       change the machine: memory off line, swap on
  numa, physpage         want more than one node, /dev/mem
  mlockmany              stress-ng's authors say that it may hang the machine
  vforkmany              leaves no processor to the one that fills memory
  secretmem, mmaphuge    memory that cannot be migrated: the kernel's, huge pages
  oom-pipe, rlimit       judge by limits of the process, not by bytes
"""
import re
import subprocess

import judge

FILLER = "--vm 1 --vm-bytes 64M --vm-method walk-0a --vm-keep".split()
SECONDS = 5
# What bounds those that would take all there is, or more than the filler by far.
OPTIONS = {
    "bigheap": "--bigheap-growth 64K --bigheap-ops 600",
    "brk": "--brk-ops 12000",
    "malloc": "--malloc-bytes 1M --malloc-max 64 --malloc-touch --malloc-pthreads 2",
    "memfd": "--memfd-bytes 32M",
    "memrate": "--memrate-bytes 32M",
    "mmap": "--mmap-bytes 64M --mmap-mprotect",
    "mremap": "--mremap-bytes 32M",
    "shm": "--shm-bytes 1M",
    "shm-sysv": "--shm-sysv-bytes 4M --shm-sysv-segs 4",
    "forkheavy": "--forkheavy-procs 16",
    "clone": "--clone-max 16",
    "resources": "--resources-ops 200",
    "stack": "--stack-fill",
    "stream": "--stream-l3-size 4M",
    "zombie": "--zombie-max 64",
    "vm-rw": "--vm-rw-bytes 16M",
    "radixsort": "--radixsort-size 65536",
}
# Maps memory, or changes how it is mapped.
MAPS = """
bigheap brk fault madvise malloc memfd mincore misaligned mlock mmap mmapaddr
mmapcow mmapfiles mmapfixed mmapmany mmaprandom mmaptorture mprotect mremap mseal msync
msyncmany munmap pagemove pageswap pkey remap resources rmap shm shm-sysv stack stackmmap
sysbadaddr tlb-shootdown vm-addr vm-rw vm-segv vm-splice
""".split()
# Reads and writes it, from many threads or with many patterns.
USES = """
atomic cache cacheline full hsearch judy list lockbus lsearch mcontend memcpy memrate
memthrash mergesort prefetch qsort radixsort randlist readahead skiplist splice stream
str tree tsearch vm wcs zero zlib
""".split()
# Starts and ends processes, or is interrupted.
PROCESSES = """
bad-altstack clone daemon exec fork forkheavy kill longjmp pipe ptrace
sigabrt sigfpe sigio signest sigrt sigsegv sigsuspend spawn switch vfork wait
zombie aiol io-uring aio
""".split()
PARTS = MAPS + USES + PROCESSES
SHORT = ["mmap", "mremap", "madvise", "brk", "vm-rw", "memthrash", "mmapmany", "vfork"]


def prepare(cache):
    judge.tools_missing("stress-ng")
    said = subprocess.run(["stress-ng", "--stressors"], capture_output=True, text=True)
    return set(said.stdout.split())


def verdicts(output):
    """One test: whether it complained."""
    complaints = re.findall(r"^stress-ng: (?:fail|error): *\[\d+\] (.*)", output, re.M)
    skipped = "skipped" in output
    said = complaints[0] if complaints else "skipped" if skipped else "ok"
    return {"verify": re.sub(r"\d+|0x[0-9a-f]+", "N", said)}


def part(name, there):
    if name not in there:
        raise judge.Skip("this version of stress-ng does not have it")
    return judge.Part(name, [
        "stress-ng", "--verify", "--oomable", "--timeout", f"{SECONDS}s", *FILLER,
        *(["--" + name, "1"] if name != "vm" else []),
        *OPTIONS.get(name, "").split()], verdicts, limit_s=180, clean=True)
