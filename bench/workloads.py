# SPDX-License-Identifier: Apache-2.0
"""The programs that programs.py runs: each some hundred MiB, seeded, with a checksum.

A workload is a job for Systems.run(): it gets a place, runs there, and returns its
Phases. At scale 1 each holds 300 to 400 MiB; a smaller scale makes all of it smaller.
"""
import os
import random
import shutil
import sys
from pathlib import Path

from children import Skip
from phases import run_filter, run_program, run_server

HERE = Path(__file__).resolve().parent
# Debian's server is the same program as this one, in a package that starts no service.
REDIS = ("redis-server", "redis-check-rdb")


class Workload:
    """name; words: what it is; counted: the phases that are its work, None: all."""

    def __init__(self, name, words, counted, job):
        self.name, self.words, self.counted, self.job = name, words, counted, job

    def __call__(self, place):
        return self.job(place)

    def counts(self, phases):
        """Seconds of what counts: by the clock, and of processors."""
        return phases.sum(self.counted) if self.counted else phases.whole()


def found(*names):
    """The first program of these that there is, or Skip."""
    for name in names:
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
        if path:
            return path
    raise Skip(f"no {' or '.join(names)} here")


class Redis:
    """A server, and bench-redis as its client, which is not limited."""

    def __init__(self, build, folder, scale, order):
        self.folder = folder
        self.client = [build / "bench" / "bench-redis", f"--order={order}",
                       f"--keys={max(int(270000 * scale), 16)}",
                       f"--requests={max(int(400000 * scale), 16)}"]

    def server(self):
        """It looks at the name that it is called by."""
        link = self.folder / "redis-server"
        link.unlink(missing_ok=True)
        link.symlink_to(found(*REDIS))
        return link

    def __call__(self, place):
        # Short: the name of a socket has 107 bytes.
        socket = os.path.relpath(self.folder / "redis.socket")
        Path(socket).unlink(missing_ok=True)
        # Its title would be written over its environment, by which it can be told whose
        # it is.
        command = [self.server(), "--port", "0", "--unixsocket", socket, "--save", "",
                   "--appendonly", "no", "--loglevel", "warning",
                   "--set-proc-title", "no"]
        return run_server(command, place, [*self.client, socket])


class Sort:
    """GNU sort, with all of its input in memory: it has nowhere else to put it."""

    def __init__(self, folder, scale):
        self.lines = max(int(3000000 * scale), 1000)
        self.folder, self.path = folder, folder / f"sort-{self.lines}.txt"

    def make(self):
        """Lines as of a log, in no order; made once."""
        choose, new = random.Random(1), self.path.with_suffix(".new")
        with open(new, "w", encoding="ascii") as file:
            for i in range(self.lines):
                a = choose.getrandbits(40)
                file.write(f"{a:010x} user{a % 5003} GET /page/{i % 977}/{a % 89} 200\n")
        new.rename(self.path)

    def __call__(self, place):
        command = [found("sort"), "-S", "4G", "--parallel=2", "-T",
                   self.folder / "there-is-no-such-folder"]
        if not self.path.exists():
            self.make()
        # Who compares as the user's language does would measure that.
        before, os.environ["LC_ALL"] = os.environ.get("LC_ALL"), "C"
        try:
            return run_filter(command, place, self.path)
        finally:
            del os.environ["LC_ALL"]
            if before is not None:
                os.environ["LC_ALL"] = before


class Python:
    """A script of this folder, in the Python that this one runs in."""

    def __init__(self, script, *args):
        self.command = [sys.executable, "-B", HERE / script, *args]

    def __call__(self, place):
        return run_program(self.command, place)


class Graph:
    """bench-graph."""

    def __init__(self, build, scale):
        size = 20
        # A graph of half the vertices has half the edges.
        while scale <= 0.5 and size > 12:
            scale, size = scale * 2, size - 1
        self.command = [build / "bench" / "bench-graph", f"--scale={size}",
                        f"--degree={max(int(38 * scale), 1)}"]

    def __call__(self, place):
        return run_program(self.command, place)


def workloads(build, folder, scale):
    """All of them."""
    build, folder = Path(build).resolve(), Path(folder).resolve()

    def many(number):
        return str(max(int(number * scale), 10))
    return [
        Workload("redis-uniform", "redis, GET and SET, any key", ["run"],
                 Redis(build, folder, scale, "uniform")),
        Workload("redis-zipf", "redis, GET and SET, some keys most of the time", ["run"],
                 Redis(build, folder, scale, "zipf")),
        Workload("sqlite-oltp", "sqlite3 in memory, transactions", ["run"],
                 Python("database.py", "oltp", many(1200000), many(12000))),
        Workload("sqlite-scan", "sqlite3 in memory, scans", ["run"],
                 Python("database.py", "scan", many(1200000), "3")),
        Workload("sort", "GNU sort of a log", None, Sort(folder, scale)),
        Workload("cpython", "CPython, a dictionary of objects",
                 ["lookup", "collect", "walk"],
                 Python("objects.py", many(600000), many(300000))),
        Workload("graph", "breadth-first search and PageRank", ["bfs", "pagerank"],
                 Graph(build, scale)),
    ]


NAMES = [workload.name for workload in workloads(".", ".", 1)]
