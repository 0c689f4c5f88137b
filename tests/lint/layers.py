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
    space    a space's life: what those who embed the core create and start
    api      the public functions

devices/ sees <uhmm/device.h>, lib/util, how the kernel is called, and its own library.
The preload embeds the core in a program as lib/api.c does in an application, and may see
all of lib/. The command sees the public headers; it lists devices that it has not opened
and asks the kernel about features, and for that sees the registry and the kernel's
numbers; and it looks at processes as often as policy says. Everything else outside lib/
sees the public headers, but tests see what they test.
"""
import re

ORDER = ["util", "os", "state", "device", "policy", "migrate", "fault",
         "space", "api"]

# lib/NAME.[ch]; a name that is not here goes by its part before the underscore, as
# "store_class" by "store".
LAYER = {
    "assert": "os", "checksum": "os",
    "types": "state", "limits": "state", "counter": "state",
    "page": "state", "frame": "state",
    "gate": "state", "notifier": "state", "stat": "state", "trace": "state",
    "budget": "state", "host": "state", "pin": "state", "range": "state",
    "zap": "state", "landed": "state", "grown": "state",
    "device": "device", "store": "device", "pagemap": "device", "tier": "device",
    "policy": "policy", "stream": "policy", "recent": "policy", "ask": "policy",
    "isolate": "migrate", "migrate": "migrate", "unshare": "migrate",
    "register": "migrate",
    "folio": "migrate", "huge": "migrate",
    "fault": "fault", "reclaim": "fault", "fork": "fault", "event": "fault",
    "fence": "fault", "wipe": "fault", "hand": "fault", "frozen": "fault",
    "inline": "fault", "reader": "fault", "registry": "fault", "migrate_range": "fault",
    "recall": "fault", "retire": "fault", "migration": "fault", "coherent": "fault",
    "pagemap_fault": "fault", "populate": "fault", "range_fault": "fault",
    "exclusive": "fault", "placement": "fault", "transfer": "fault", "message": "fault",
    "space": "space", "fork_child": "space",
    "api": "api", "version": "api",
}

# All that the core may take from libc: nothing that calls the kernel or allocates.
PURE_HEADERS = {
    "errno.h", "inttypes.h", "limits.h", "stdalign.h", "stdarg.h", "stdatomic.h",
    "stdbool.h", "stddef.h", "stdint.h", "string.h",
    # a library of pure functions
    "xxhash.h",
}

# What a file may include besides, and why.
ALLOWED = {
    # errors in a spec, formatted on an application's thread
    "lib/api.c": {"stdio.h"},
    # libc runs handlers around its own fork() only for those who ask it
    "lib/registry.c": {"pthread.h"},
    # the SIGBUS handler is the process's, and is never installed in a simulated world
    "lib/inline.c": {"signal.h"},
}

# Functions that need no header to be called by mistake, or come with string.h; not
# members of that name, as a driver has them.
IMPURE = re.compile(
    r"(?<!->)(?<!\.)\b(syscall|mmap|mremap|munmap|mprotect|madvise|ioctl|read|write|"
    r"open|close|poll|fork|vfork|clone|execve|kill|raise|sigaction|signal|sigprocmask|"
    r"nanosleep|usleep|sleep|sched_yield|getpid|gettid|time|clock_gettime|"
    r"gettimeofday|rand|random|getrandom|rdtsc|__rdtsc|"
    r"pthread_\w+|sem_\w+|malloc|calloc|realloc|free|strdup|strndup|aligned_alloc|"
    r"printf|fprintf|sprintf|snprintf|puts|fputs|perror|exit|_exit|abort|strerror|"
    r"strsignal|dlopen|dlsym|getenv|__asm__|asm)\s*\(")


def layer_of(path):
    """The layer of a file below lib/, or None if it has none."""
    parts = path.split("/")
    if parts[1] in ("util", "os"):
        return parts[1]
    name = parts[1].split(".")[0]
    return LAYER.get(name) or LAYER.get(name.split("_")[0])


def lib_file(f):
    mine = layer_of(f.path)
    if mine is None:
        yield 1, "has no layer: give its name one in tests/lint/layers.py"
        return
    allowed = ALLOWED.get(f.path, set())
    for line, name, quoted in f.includes():
        if name.startswith("lib/"):
            theirs = layer_of(name)
            if theirs is None:
                yield line, f"{name} has no layer"
            elif ORDER.index(theirs) > ORDER.index(mine):
                yield line, f"layer {mine} includes {name} of layer {theirs}"
        elif quoted and not name.startswith("uhmm/"):
            yield line, f"includes \"{name}\": lib/ includes from the root of the tree"
        elif not quoted and mine != "os" and name not in PURE_HEADERS | allowed:
            yield line, f"includes <{name}>: only lib/os calls the system"
    # Where a header is allowed, so are its functions.
    if mine != "os" and not allowed:
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
            found = outside(f, ("uhmm/device.h", "lib/util/", "lib/os/sys.h",
                                "devices/"))
        elif top == "preload":
            found = outside(f, ("uhmm/", "lib/", "preload/"))
        elif top == "cmd":
            found = outside(f, ("uhmm/", "preload/ctl.h", "cmd/", "lib/device.h",
                                "lib/os/uapi.h", "lib/policy.h"))
        elif top in ("examples", "bench", "compat"):
            found = outside(f, ("uhmm/", top + "/"))
        elif top == "include":
            found = outside(f, ("uhmm/",))
        else:
            continue
        for line, why in found:
            yield f"{f.path}:{line}: {why}"
