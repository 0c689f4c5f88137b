#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""side.py [OPTION...] BUILD: what it costs to touch a page, side by side.

Runs bench-access in each system (peers.py), one after the other, ROUNDS times over, so
that what disturbs a machine disturbs all of them, and prints medians and the ratios to
zram of the same round. All have the same memory: zram's limit is PERCENT of the region;
what the limit and zram's compressed pages were together in a run that does not count is
the others' budget.

The results go to OUT/access.json, and as a table to OUT/access.md.
"""
import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from children import Failed, Skip, end_with, execute  # noqa: E402
from peers import Systems  # noqa: E402
from report import MIB, machine, markdown, number, ratio, say, write  # noqa: E402

CASES = ["512:50:1.26:1", "512:50:2.5:1", "512:50:zeros:1", "512:75:2.5:1",
         "512:50:2.5:2", "4096:50:2.5:1"]
FIELDS = ("wall_ns", "process_ns", "machine_ns")


class Case:
    """A size of region, how it compresses, and how much of it may be in memory."""

    def __init__(self, args, words):
        try:
            size, percent, self.content, threads = words.split(":")
            self.size, self.percent = int(size), int(percent)
            self.threads = int(threads)
        except ValueError:
            sys.exit(f"side.py: --case {words}: not MIB:PERCENT:CONTENT:THREADS")
        self.patterns = args.pattern or []
        self.build = Path(args.build)
        self.limit = self.size * MIB * self.percent // 100
        self.budget = self.limit
        self.results = {}  # system -> pattern -> field -> a number a round
        self.skipped = {}

    def title(self):
        """For people."""
        return (f"{self.size} MiB, {self.percent} %, content {self.content}, "
                f"{self.threads} thread{'s' if self.threads > 1 else ''}")

    def command(self):
        """What is run."""
        return [str(self.build / "bench" / "bench-access"), f"--size={self.size}",
                f"--content={self.content}", f"--threads={self.threads}",
                *self.patterns]

    def job(self, place):
        """Runs it."""
        return execute(place.command(self.command()), place.enter)

    def calibrate(self, systems):
        """The budget that is as much memory as zram's limit and compressed pages."""
        try:
            _, used = systems.run("zram", self.job, self.limit, 0, self.size * MIB)
        except Skip as why:
            self.skipped["zram"] = str(why)
            say(f"zram: {why}; the others' budget is the limit alone")
            return
        self.budget = self.limit + used
        say(f"zram took {used / MIB:.0f} MiB: the budget is {self.budget / MIB:.0f} MiB")

    def run_one(self, systems, name):
        """A run in one system, its figures added to the others."""
        if name in self.skipped:
            return
        try:
            text, _ = systems.run(name, self.job, self.limit, self.budget,
                                  self.size * MIB)
        except Skip as why:
            self.skipped[name] = str(why)
            say(f"{name}: skipped: {why}")
            return
        for line in text.splitlines():
            row = json.loads(line)
            if row["wrong"]:
                raise Failed(f"{name}: {row['wrong']} words are wrong")
            fields = self.results.setdefault(name, {}).setdefault(
                row["pattern"], {field: [] for field in FIELDS})
            for field in FIELDS:
                fields[field].append(row[field])

    def run(self, systems, names, rounds):
        """All rounds."""
        say(f"== {self.title()}")
        self.calibrate(systems)
        for i in range(rounds):
            start = time.monotonic()
            for name in names:
                self.run_one(systems, name)
            say(f"round {i + 1} of {rounds}: {time.monotonic() - start:.0f} s")

    def ratio(self, name, pattern, field):
        """To zram, the median of the rounds' ratios; None: not to be had."""
        numbers = [self.results.get(one, {}).get(pattern, {}).get(field)
                   for one in (name, "zram")]
        return ratio(*numbers)

    def table(self):
        """In Markdown."""
        names = [name for name in Systems.NAMES if name in self.results]
        ours = [name for name in names if name in (*Systems.RUNS, "inline", "thread")]
        head = ["pattern"] + [f"{name}, us" for name in names] + [
            f"{name} / zram{what}" for name in ours for what in ("", ", CPU")]
        rows = []
        for pattern in next(iter(self.results.values()), []):
            cells = [pattern]
            for name in names:
                wall = statistics.median(self.results[name][pattern]["wall_ns"])
                cells.append(f"{wall / 1000:.2f}")
            cells += [number(self.ratio(name, pattern, field)) for name in ours
                      for field in ("wall_ns", "machine_ns")]
            rows.append(cells)
        lines = [f"### {self.title()}", "",
                 f"Limit {self.limit // MIB} MiB, budget {self.budget // MIB} MiB.", "",
                 *markdown(head, rows)]
        lines += [f"\n{name} was skipped: {why}" for name, why in self.skipped.items()]
        return "\n".join(lines) + "\n"

    def as_json(self):
        """All figures."""
        return {"size_mib": self.size, "percent": self.percent,
                "content": self.content, "threads": self.threads,
                "limit_bytes": self.limit, "budget_bytes": self.budget,
                "skipped": self.skipped, "results": self.results}


def arguments():
    """Those of the command line."""
    parser = argparse.ArgumentParser(description="what it costs to touch a page")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", action="append", metavar="MIB:PERCENT:CONTENT:THREADS",
                        help="content: 1.26, 2.5 or zeros; default: "
                        + ", ".join(CASES))
    parser.add_argument("--system", action="append", choices=Systems.NAMES)
    parser.add_argument("--pattern", action="append", help="all")
    parser.add_argument("--out", type=Path, help="default: BUILD/bench")
    parser.add_argument("build")
    return parser.parse_args()


def main():
    """See the head of the file."""
    args = arguments()
    out = args.out or Path(args.build) / "bench"
    out.mkdir(parents=True, exist_ok=True)
    systems, cases, here = Systems(args.build, out), [], machine()
    for words in args.case or CASES:
        case = Case(args, words)
        case.run(systems, args.system or Systems.NAMES[:-1], args.rounds)
        cases.append(case)
        print(case.table(), flush=True)
    for name, count in systems.killed.items():
        print(f"{name}: the kernel killed {count} runs for want of memory; they were "
              "run again")
    write(out, "access", "\n".join(case.table() for case in cases),
          {"machine": here, "rounds": args.rounds, "killed": systems.killed,
           "cases": [case.as_json() for case in cases]})
    return 0


if __name__ == "__main__":
    end_with(main, "side.py")
