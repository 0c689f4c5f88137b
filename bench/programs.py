#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""programs.py [OPTION...] BUILD: whole programs in less memory than they need.

Runs each program of workloads.py without a limit, which tells what it needs (its peak),
and then at PERCENT of that in each system (peers.py), one after the other, ROUNDS times
over, so that what disturbs a machine disturbs all of them. All have the same memory:
zram's limit is PERCENT of the peak; what the limit and zram's compressed pages were
together in a run that does not count is the others' budget. That may be more than the
program needs, as zram keeps what it has compressed while the page is in memory again:
then it fits for the others, which the table says. Where zram fails, it is what zram had
when the last of its runs was killed.

Each run must end with the same checksum. If one does not, or a client has read a wrong
byte, that is the end of the bench, with exit status 1. A system in which a program fails
in another way has no numbers for it: the table says why. Where that is uhmm the exit
status is 1 as well.

The results go to OUT/programs.json, and as tables to OUT/programs.md.
"""
import argparse
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import workloads  # noqa: E402
from children import Failed, Skip, Wrong, end_with  # noqa: E402
from peers import Systems  # noqa: E402
from report import (MIB, described, geometric_mean, machine, markdown,  # noqa: E402
                    number, ratio, say, write)

NAMES = ["none", "zram", "swapfile", *Systems.RUNS]
# What `uhmm run` takes at least.
LEAST = 16 * MIB
FIELDS = ["wall_s", "cpu_s", "whole_wall_s", "whole_cpu_s"]
# Of what `uhmm run` says of itself.
STATS = ["peak_bytes", "over_bytes", "over_seconds", "stored", "loaded", "prefetch",
         "refault"]


class Series:
    """The numbers of a program in one system, a number a round."""

    def __init__(self):
        self.fields, self.phases, self.stats = {f: [] for f in FIELDS}, {}, {}

    def add(self, workload, phases):
        """A run."""
        numbers = workload.counts(phases) + phases.whole()
        for field, seconds in zip(FIELDS, numbers):
            self.fields[field].append(round(seconds, 3))
        for name, (wall, _) in phases.times.items():
            self.phases.setdefault(name, []).append(round(wall, 3))

    def add_stats(self, path):
        """What uhmm said of the run."""
        stats = json.loads(path.read_text(encoding="utf-8"))
        for key in STATS:
            self.stats.setdefault(key, []).append(stats[key])

    def as_json(self):
        """All of it."""
        more = {"stats": self.stats} if self.stats else {}
        return {**self.fields, "phases_wall_s": self.phases, **more}


class Case:
    """A program at a part of its peak."""

    def __init__(self, program, percent):
        self.program, self.percent = program, percent
        self.limit = max(program.peak * percent // 100, LEAST)
        self.budget, self.results, self.missing, self.killed = self.limit, {}, {}, {}

    def attempt(self, systems, name):
        """A run in one system, or None, and it is known why it is missing."""
        if name in self.missing:
            return None
        systems.killed.clear()
        try:
            return systems.run(name, self.program.job, self.limit, self.budget,
                               self.program.peak)
        except (Skip, Failed) as why:
            what = "skipped" if isinstance(why, Skip) else "failed"
            self.missing[name] = {"what": what, "why": str(why)}
            # Who fails in some rounds has no median of them all.
            self.results.pop(name, None)
            say(f"{self.title()}: {name} {what}: {why}")
            return None
        finally:
            for key, count in systems.killed.items():
                self.killed[key] = self.killed.get(key, 0) + count

    def calibrate(self, systems):
        """The budget that is as much memory as zram's limit and compressed pages."""
        systems.zram_took = 0
        self.attempt(systems, "zram")
        self.budget = self.limit + systems.zram_took
        say(f"{self.title()}: limit {self.limit / MIB:.0f} MiB, budget "
            f"{self.budget / MIB:.0f} MiB")

    def run(self, systems, name):
        """A round in one system."""
        done = self.attempt(systems, name)
        if done:
            series = self.results.setdefault(name, Series())
            series.add(self.program.workload, done[0])
            if name in Systems.RUNS:
                series.add_stats(systems.stats())

    def title(self):
        """For people."""
        return f"{self.program.workload.name} at {self.percent} %"

    def numbers(self, name, field):
        """Of all rounds, or None."""
        series = self.program.none if name == "none" else self.results.get(name)
        return series.fields[field] if series else None

    def slowdown(self, name):
        """Over none."""
        return ratio(self.numbers(name, "wall_s"), self.numbers("none", "wall_s"))

    def to_zram(self, name, field):
        """uhmm's slowdown by zram's: that of none is in both."""
        return ratio(self.numbers(name, field), self.numbers("zram", field))

    def fits(self):
        """What zram took is as much as the program needs."""
        return self.budget >= self.program.peak

    def as_json(self):
        """All figures."""
        return {"percent": self.percent, "limit_bytes": self.limit,
                "budget_bytes": self.budget, "fits": self.fits(), "missing": self.missing,
                "killed": self.killed,
                "slowdown": {name: self.slowdown(name) for name in self.results},
                **{f"{name}_to_zram": {field: self.to_zram(name, field)
                                       for field in FIELDS} for name in Systems.RUNS},
                "results": {n: series.as_json() for n, series in self.results.items()}}


class Program:
    """A workload, what it takes without a limit, and its cases."""

    def __init__(self, workload):
        self.workload, self.none, self.peak, self.checksum = workload, Series(), 0, None
        self.cases, self.skipped = [], None

    def job(self, place):
        """Runs it, and looks at what it has printed."""
        phases = self.workload(place)
        if self.checksum is None:
            self.checksum = phases.checksum
        if phases.checksum != self.checksum:
            raise Wrong(f"{self.workload.name}: WRONG BYTES: checksum {phases.checksum} "
                        f"where there was {self.checksum}")
        return phases

    def measure(self, systems):
        """What it needs. The run warms the machine up, and does not count."""
        phases, _ = systems.run("none", self.job, 0, 0, 0)
        self.peak = phases.peak
        say(f"{self.workload.name}: {self.peak / MIB:.0f} MiB, "
            f"{phases.whole()[0]:.1f} s")

    def run(self, systems, args):
        """All rounds."""
        try:
            self.measure(systems)
        except Skip as why:
            self.skipped = str(why)
            say(f"{self.workload.name}: skipped: {why}")
            return
        self.cases = [Case(self, percent) for percent in args.percent]
        names = [name for name in NAMES if name in args.system and name != "none"]
        for case in self.cases:
            if "zram" in names:
                case.calibrate(systems)
        for i in range(args.rounds):
            start = time.monotonic()
            self.none.add(self.workload, systems.run("none", self.job, 0, 0, 0)[0])
            for case in self.cases:
                for name in names:
                    case.run(systems, name)
            say(f"{self.workload.name}: round {i + 1} of {args.rounds}: "
                f"{time.monotonic() - start:.0f} s")

    def as_json(self):
        """All figures."""
        return {"name": self.workload.name, "words": self.workload.words,
                "counted": self.workload.counted or "all", "skipped": self.skipped,
                "peak_bytes": self.peak, "checksum": self.checksum,
                "none": self.none.as_json(),
                "cases": [case.as_json() for case in self.cases]}


def ours(names):
    """Those of uhmm."""
    return [name for name in names if name in Systems.RUNS]


def row(case, names):
    """Of the table."""
    program = case.program
    cells = [program.workload.name, f"{program.peak / MIB:.0f}",
             f"{case.limit / MIB:.0f}", f"{case.budget / MIB:.0f}",
             number(statistics.median(program.none.fields["wall_s"]))]
    for name in names:
        missing = case.missing.get(name)
        cells.append(missing["what"] if missing else number(case.slowdown(name)))
    return cells + [number(case.to_zram(name, field)) for name in ours(names)
                    for field in ("wall_s", "cpu_s")]


def notes(case):
    """What a row of the table does not have room for."""
    for name, missing in case.missing.items():
        yield f"{case.title()}, {name} {missing['what']}: {missing['why']}"
    for name, count in case.killed.items():
        yield (f"{case.title()}, {name}: the kernel killed {count} runs for want of "
               "memory, and each was run again")
    if case.fits():
        yield (f"{case.title()}: zram took as much memory as the program needs, so that "
               "for the others it fits")
    for name in ours(case.results):
        over = case.results[name].stats["over_bytes"]
        if any(over):
            yield (f"{case.title()}, {name}: was above budget and tolerance by "
                   f"{max(over) / MIB:.0f} MiB at most")


def means(cases, name="run"):
    """Geometric means of uhmm's over zram's, over the programs that have both."""
    there = [case for case in cases if case.to_zram(name, "wall_s")]
    return {"programs": len(there),
            "wall": geometric_mean(case.to_zram(name, "wall_s") for case in there),
            "cpu": geometric_mean(case.to_zram(name, "cpu_s") for case in there)}


def table(cases, names):
    """At one percentage, in Markdown."""
    head = ["program", "peak, MiB", "limit", "budget", "none, s",
            *(f"{name}, times" for name in names),
            *(f"{name} / zram{what}" for name in ours(names) for what in ("", ", CPU"))]
    rows = [row(case, names) for case in cases]
    for which, some in (("", cases),
                        (" that do not fit", [c for c in cases if not c.fits()])):
        mean = [means(some, name) for name in ours(names)]
        nr = "/".join(str(m["programs"]) for m in mean)
        rows.append([f"geometric mean of {nr}{which}", *[""] * (4 + len(names)),
                     *(number(m[what]) for m in mean for what in ("wall", "cpu"))])
    lines = [f"### At {cases[0].percent} % of the peak", "", *markdown(head, rows), ""]
    lines += [f"- {note}" for case in cases for note in notes(case)]
    return "\n".join(lines).rstrip() + "\n"


def arguments():
    """Those of the command line."""
    parser = argparse.ArgumentParser(description="whole programs in little memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--percent", type=int, nargs="+", default=[75, 50, 30])
    parser.add_argument("--program", nargs="+", choices=workloads.NAMES,
                        default=workloads.NAMES)
    parser.add_argument("--system", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--scale", type=float, default=1.0,
                        help="of what the programs hold, 1: 300 to 400 MiB")
    parser.add_argument("--out", type=Path, help="default: BUILD/bench")
    parser.add_argument("build")
    args = parser.parse_args()
    if args.rounds < 1 or not all(0 < percent < 1000 for percent in args.percent):
        parser.error("--rounds and --percent are 1 and more")
    return args


def main():
    """See the head of the file."""
    args = arguments()
    out = args.out or Path(args.build) / "bench"
    out.mkdir(parents=True, exist_ok=True)
    systems, here, programs = Systems(args.build, out), machine(), []
    with contextlib.ExitStack() as stack:
        # An interrupted bench has measured what it has measured.
        stack.callback(lambda: finish(out, here, args, programs))
        for workload in workloads.workloads(args.build, out, args.scale):
            if workload.name in args.program:
                programs.append(Program(workload))
                programs[-1].run(systems, args)
    failed = [case.title() for program in programs for case in program.cases
              if any(case.missing.get(name, {}).get("what") == "failed"
                     for name in Systems.RUNS)]
    if failed:
        say(f"programs.py: uhmm failed: {', '.join(failed)}")
    return 1 if failed else 0


def finish(out, here, args, programs):
    """Tables and JSON."""
    names = [name for name in NAMES[1:] if name in args.system]
    by_percent = {percent: [case for program in programs for case in program.cases
                            if case.percent == percent and program.none.fields["wall_s"]]
                  for percent in args.percent}
    tables = [table(cases, names) for cases in by_percent.values() if cases]
    tables += [f"{program.workload.name} was skipped: {program.skipped}\n"
               for program in programs if program.skipped]
    text = "\n".join([described(here) + f" {args.rounds} rounds.\n", *tables])
    print(text, flush=True)
    write(out, "programs", text,
          {"machine": here, "rounds": args.rounds, "scale": args.scale,
           "systems": args.system,
           "means": {str(percent): {name: means(cases, name) for name in Systems.RUNS}
                     for percent, cases in by_percent.items()},
           "programs": [program.as_json() for program in programs]})


if __name__ == "__main__":
    end_with(main, "programs.py")
