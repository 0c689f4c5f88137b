# SPDX-License-Identifier: Apache-2.0
"""Which part of the tree may use which.

A layer uses itself and those above it in this list:

    util     lib/util                      libc only
    os       lib/os, lib/assert.h          the only system calls
    state    types, page, space, frame...  what the core knows
    device   registry, store, devices/
    policy   pure choice
    migrate  the only writer of page state
    fault    fault, reclaim, fork
    api      the public functions

devices/ sees <uhmm/device.h>, lib/util and its own library; everything outside lib/ and
devices/ sees the public headers, the preload also lib/os. The command lists devices that
it has not opened and asks the kernel about features: for that it sees the registry and
the kernel's numbers. Tests see what they test.
"""
import re

ORDER = ["util", "os", "state", "device", "policy", "migrate", "fault", "api"]

# lib/NAME.[ch], NAME up to the first underscore: "store_class" is part of "store".
LAYER = {
    "assert": "os",
    "types": "state", "page": "state", "space": "state", "frame": "state",
    "gate": "state", "notifier": "state", "stat": "state", "trace": "state",
    "budget": "state", "host": "state", "pin": "state", "range": "state",
    "device": "device", "registry": "device", "spec": "device", "store": "device",
    "policy": "policy", "stream": "policy",
    "isolate": "migrate", "migrate": "migrate",
    "fault": "fault", "reclaim": "fault", "fork": "fault", "event": "fault",
    "fence": "fault",
    "reader": "fault", "worker": "fault",
    "api": "api", "version": "api",
}

# All that the core may take from libc: nothing that calls the kernel or allocates.
PURE_HEADERS = {
    "errno.h", "inttypes.h", "limits.h", "stdalign.h", "stdarg.h", "stdatomic.h",
    "stdbool.h", "stddef.h", "stdint.h", "string.h",
    # a library of pure functions
    "xxhash.h",
}

# Functions that need no header to be called by mistake, or come with string.h.
IMPURE = re.compile(
    r"\b(syscall|mmap|mremap|munmap|mprotect|madvise|ioctl|read|write|open|close|poll|"
    r"fork|vfork|clone|execve|kill|raise|nanosleep|usleep|sleep|sched_yield|getpid|"
    r"gettid|time|clock_gettime|gettimeofday|rand|random|getrandom|rdtsc|__rdtsc|"
    r"pthread_\w+|sem_\w+|malloc|calloc|realloc|free|strdup|strndup|aligned_alloc|"
    r"printf|fprintf|sprintf|snprintf|puts|fputs|perror|exit|_exit|abort|strerror|"
    r"strsignal|dlopen|dlsym|getenv|__asm__|asm)\s*\(")


def layer_of(path):
    """The layer of a file below lib/, or None if it has none."""
    parts = path.split("/")
    if parts[1] in ("util", "os"):
        return parts[1]
    return LAYER.get(re.split(r"[_.]", parts[1])[0])


def lib_file(f):
    mine = layer_of(f.path)
    if mine is None:
        yield 1, "has no layer: give its name one in tests/lint/layers.py"
        return
    for line, name, quoted in f.includes():
        if name.startswith("lib/"):
            theirs = layer_of(name)
            if theirs is None:
                yield line, f"{name} has no layer"
            elif ORDER.index(theirs) > ORDER.index(mine):
                yield line, f"layer {mine} includes {name} of layer {theirs}"
        elif quoted and not name.startswith("uhmm/"):
            yield line, f"includes \"{name}\": lib/ includes from the root of the tree"
        elif not quoted and mine != "os" and name not in PURE_HEADERS:
            yield line, f"includes <{name}>: only lib/os calls the system"
    if mine != "os":
        for line, text in enumerate(f.code().split("\n"), 1):
            found = IMPURE.search(text)
            if found and not re.match(r"\s*#\s*define", text):
                yield line, f"calls {found[1]}(): only lib/os calls the system"


def outside(f, allowed):
    for line, name, quoted in f.includes():
        if quoted and "/" in name and not name.startswith(allowed):
            yield line, f"includes {name}; may include {', '.join(allowed)}"


def check(files):
    for f in files:
        if not f.is_c:
            continue
        top = f.path.split("/")[0]
        if top == "lib":
            found = lib_file(f)
        elif top == "devices":
            found = outside(f, ("uhmm/device.h", "lib/util/", "devices/"))
        elif top == "preload":
            found = outside(f, ("uhmm/", "lib/os/", "lib/util/", "preload/"))
        elif top == "cmd":
            found = outside(f, ("uhmm/", "preload/ctl.h", "cmd/", "lib/device.h",
                                "lib/os/uapi.h"))
        elif top in ("examples", "bench", "compat"):
            found = outside(f, ("uhmm/", top + "/"))
        elif top == "include":
            found = outside(f, ("uhmm/",))
        else:
            continue
        for line, why in found:
            yield f"{f.path}:{line}: {why}"
