# SPDX-License-Identifier: Apache-2.0
"""What a program can be run in that does not fit: uhmm, and what the kernel has.

A system runs a command under a limit and says what memory it took besides:

    none       no limit
    zram       a memory cgroup, and a swap device of compressed memory (lz4)
    swapfile   a memory cgroup, and a swap file on the disk
    run        uhmm run --device lz4 --faults=thread
    guarded    uhmm run --device lz4 --faults=inline
    inline     the command makes a space itself (--explicit=inline --budget=N, or --cold)
    thread     the same, with delivery by thread

Those of the kernel need root, and memory cgroups of either version. What cannot be used
raises Skip with a word why.
"""
import contextlib
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from cgroup import Cgroup, NoCgroup  # noqa: E402
from children import Killed, Skip  # noqa: E402

MIB = 1 << 20
# Of a peer of the kernel's that is killed for want of memory.
TRIES = 5


def need_root(what):
    """Or Skip."""
    if os.geteuid() != 0:
        raise Skip(f"{what} needs root")


def tool(*command):
    """Runs one of the system's tools, or Skip."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        # A signal from the terminal is not for it: what was begun is finished.
        subprocess.run(command, check=True, env=dict(os.environ, PATH=path),
                       start_new_session=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skip(f"{' '.join(command)}: {getattr(error, 'stderr', '') or error}") \
            from error


def no_other_swap():
    """A peer is not measured with somebody else's swap beside it."""
    with open("/proc/swaps", encoding="ascii") as file:
        lines = file.read().splitlines()[1:]
    if lines:
        raise Skip(f"swap is in use: {lines[0].split()[0]} (swapoff it)")


class Zram:
    """A swap device of compressed memory, lz4; as a context."""

    CONTROL = Path("/sys/class/zram-control")

    def __init__(self, nr_bytes):
        need_root("zram")
        no_other_swap()
        try:
            number = (self.CONTROL / "hot_add").read_text(encoding="ascii").strip()
        except OSError as error:
            raise Skip(f"no zram: {error}") from error
        self.number, self.sys = number, Path(f"/sys/block/zram{number}")
        try:
            (self.sys / "comp_algorithm").write_text("lz4", encoding="ascii")
            (self.sys / "disksize").write_text(str(nr_bytes), encoding="ascii")
            tool("mkswap", f"/dev/zram{number}")
            tool("swapon", "-p", "100", f"/dev/zram{number}")
        except (OSError, Skip) as error:
            self.remove()
            raise Skip(f"zram{number}: {error}") from error

    def remove(self):
        """Gives the device back."""
        (self.sys / "reset").write_text("1", encoding="ascii")
        (self.CONTROL / "hot_remove").write_text(self.number, encoding="ascii")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        tool("swapoff", f"/dev/zram{self.number}")
        self.remove()

    def peak(self):
        """Bytes of memory that it took at most (mm_stat's mem_used_max)."""
        return int((self.sys / "mm_stat").read_text(encoding="ascii").split()[4])


class SwapFile:
    """A swap file on the disk of a folder; as a context."""

    def __init__(self, folder, nr_bytes):
        need_root("a swap file")
        no_other_swap()
        self.path = Path(folder) / "swapfile"
        with open(self.path, "wb") as file:
            self.path.chmod(0o600)
            os.posix_fallocate(file.fileno(), 0, nr_bytes)
        try:
            tool("mkswap", str(self.path))
            tool("swapon", str(self.path))
        except Skip:
            self.path.unlink()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        tool("swapoff", str(self.path))
        self.path.unlink()


class Place:
    """Where a command is run: in a system, with what is set up for it."""

    def __init__(self, before=(), after=(), enter=None, used=lambda: 0):
        self.before, self.after = list(before), list(after)
        self.enter, self.used = enter, used

    def command(self, words):
        """A command as it is run there."""
        return [*self.before, words[0], *self.after, *words[1:]]


@contextlib.contextmanager
def watched(cgroup):
    """A cgroup in which a command is run; says how many its limit has killed."""
    try:
        yield cgroup
    except Killed as error:
        raise Killed(f"{error} (its cgroup has killed {cgroup.kills()})") from error


class Systems:
    """Runs commands in each of the systems. limit, budget: bytes."""

    NAMES = ["none", "zram", "swapfile", "run", "guarded", "inline", "thread"]
    KERNELS = ["zram", "swapfile"]
    # Those of `uhmm run`, and what it is told.
    RUNS = {"run": ["--faults=thread"], "guarded": ["--faults=inline"]}

    def __init__(self, build, folder):
        self.uhmm, self.folder = Path(build) / "uhmm", Path(folder)
        # Runs that were killed, by system; and bytes that zram took in the last run.
        self.killed, self.zram_took = {}, 0

    def run(self, name, job, limit, budget, peak):
        """
        What job(place) returns, and the bytes that zram took. peak: of the command.
        A peer of the kernel's that is killed is run again, since its limits are not
        always kept by swapping; how often is counted in self.killed. Anybody else who is
        killed has failed.
        """
        for _ in range(TRIES - 1):
            try:
                return self.run_once(name, job, limit, budget, peak)
            except Killed:
                if name not in self.KERNELS:
                    raise
                self.killed[name] = self.killed.get(name, 0) + 1
        return self.run_once(name, job, limit, budget, peak)

    def run_once(self, name, job, limit, budget, peak):
        """One try of run()."""
        try:
            with self.place(name, limit, budget, peak) as place:
                return job(place), place.used()
        except NoCgroup as why:
            raise Skip(str(why)) from why

    @contextlib.contextmanager
    def place(self, name, limit, budget, peak):
        """A system of this name, set up."""
        if name == "none":
            yield Place()
        elif name == "zram":
            with Zram(4 * peak) as zram, Cgroup("bench", limit) as cgroup, \
                    watched(cgroup):
                try:
                    yield Place(enter=cgroup.enter, used=zram.peak)
                finally:
                    self.zram_took = zram.peak()
        elif name == "swapfile":
            with SwapFile(self.folder, 2 * peak) as _, \
                    Cgroup("bench", budget) as cgroup, watched(cgroup):
                yield Place(enter=cgroup.enter)
        elif name in self.RUNS:
            yield Place([self.uhmm, "run", "--memory", f"{budget // MIB}M", "--device",
                         "lz4", *self.RUNS[name], f"--stats=json:{self.stats()}", "--"])
        else:
            limit = f"--budget={budget // MIB}" if budget else "--cold"
            yield Place(after=[f"--explicit={name}", limit])

    def stats(self):
        """The file in which `uhmm run` says what it did; of the last run."""
        return self.folder / "run-stats.json"
