# SPDX-License-Identifier: Apache-2.0
"""Memory cgroups, of either version, for those who may make them."""
import contextlib
import itertools
import os
import sys
import time
from pathlib import Path


class NoCgroup(Exception):
    """None can be made here, and why."""


class Cgroup:
    """A memory cgroup of our own with a limit, or NoCgroup; as a context."""

    FILES = {"/sys/fs/cgroup": ("memory.max", "memory.peak"),
             "/sys/fs/cgroup/memory": ("memory.limit_in_bytes",
                                       "memory.max_usage_in_bytes")}

    numbers = itertools.count(1)

    def __init__(self, name, nr_bytes):
        tries, number = [], f"{os.getpid()}-{next(self.numbers)}"
        for root, (limit, peak) in self.FILES.items():
            self.path = Path(root) / f"uhmm-{name}-{number}"
            self.peak_file = self.path / peak
            try:
                self.path.mkdir()
            except OSError as error:
                tries.append(f"{root}: {error.strerror}")
                continue
            try:
                # Not created: the folder may be one of an ordinary file system.
                with open(self.path / limit, "r+", encoding="ascii") as file:
                    file.write(str(nr_bytes))
                return
            except OSError as error:
                tries.append(f"{self.path / limit}: {error.strerror}")
                self.path.rmdir()
        raise NoCgroup("no memory cgroup can be made: " + "; ".join(tries))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def enter(self):
        """In a child, before it executes what is to be in there."""
        (self.path / "cgroup.procs").write_text("0", encoding="ascii")

    def end(self):
        """There is nobody in it any more, or will not be in a moment."""
        for _ in range(100):
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.05)
        print(f"{self.path} is still in use, and left", file=sys.stderr)

    def peak(self):
        """Bytes that were in memory at most; None: this kernel does not say."""
        with contextlib.suppress(OSError):
            return int(self.peak_file.read_text(encoding="ascii"))
        return None

    def kills(self):
        """How often its limit has killed; None: this kernel does not say."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                words = (self.path / name).read_text(encoding="ascii").split()
                if "oom_kill" in words:
                    return int(words[words.index("oom_kill") + 1])
        return None
