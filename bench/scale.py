#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scale.py [OPTION...] BUILD: what becomes of the costs when something grows.

    size      an access in regions from 256 MiB to 16 GiB, at half of the memory: without
              a limit, under `uhmm run`, and with delivery inline (bench-access)
    threads   faults a second by one and by two threads, inline and with delivery by
              thread (bench-access in a space of its own, which counts its faults): of
              what is all on the device, and where something else has to leave for each
    fits      what `uhmm run` costs where everything fits: a budget of twice the peak.
              Programs of workloads.py, and bench-access, with what they do at start-up
              and at their end, and without
    metadata  memory that a migrated page takes besides its bytes (bench-metadata), and
              what tables are of a budget of half the region (bench-access)

Each part runs what it compares one after the other, ROUNDS times over. What there is no
memory for is left out, and said so. The results go to OUT/scale.json and OUT/scale.md.
"""
import argparse
import contextlib
import json
import statistics
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import programs  # noqa: E402
import workloads  # noqa: E402
from children import Failed, Skip, Wrong, end_with, execute  # noqa: E402
from peers import Systems  # noqa: E402
from phases import Phases  # noqa: E402
from report import (MIB, described, geometric_mean, machine, markdown,  # noqa: E402
                    number, ratio, say, write)

PARTS = ["size", "threads", "fits", "metadata"]
SIZES = [256, 512, 1024, 2048, 4096, 8192, 16384]
SYSTEMS = ["none", "run", "inline"]
PATTERNS = ["fill", "sequential", "uniform"]
# For what is not the region: the machine's own, and tables.
SPARE_MIB = 1024
FITTING = ["redis-uniform", "sqlite-oltp", "sort", "cpython", "graph"]


def available_mib():
    """What the kernel says that a program may take."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    raise Failed("/proc/meminfo has no MemAvailable")


class Access:
    """bench-access with these options; as a job, returns pattern -> its numbers."""

    def __init__(self, build, mib, patterns, threads=1):
        self.mib, self.patterns = mib, patterns
        self.command = [Path(build) / "bench" / "bench-access", f"--size={mib}",
                        "--content=2.5", f"--threads={threads}",
                        *(name for name in patterns if name not in ("fill", "whole"))]

    def __call__(self, place):
        found = {}
        for line in execute(place.command(self.command), place.enter).splitlines():
            row = json.loads(line)
            if row["wrong"]:
                raise Wrong(f"bench-access: {row['wrong']} words are wrong")
            found[row["pattern"]] = row
        return found


class Rows:
    """Numbers of all rounds under keys of some words; dense in JSON."""

    def __init__(self):
        self.rows = {}

    def add(self, value, *key):
        """One."""
        self.rows.setdefault(key, []).append(value)

    def median(self, *key):
        """Or None."""
        return statistics.median(self.rows[key]) if key in self.rows else None

    def ratio(self, over, under):
        """Of two keys."""
        return ratio(self.rows.get(over), self.rows.get(under))

    def as_json(self, *names):
        """A list of objects."""
        return [{**dict(zip(names, key)), "values": values}
                for key, values in self.rows.items()]


# ---- size ---------------------------------------------------------------------------

def size(args, systems):
    """Microseconds an access, by size of the region."""
    rows, skipped = Rows(), {}
    for mib in args.size:
        if mib + SPARE_MIB > available_mib():
            skipped[str(mib)] = f"{available_mib()} MiB are available"
            say(f"size: {mib} MiB: left out: {skipped[str(mib)]}")
            continue
        job = Access(args.build, mib, PATTERNS)
        for i in range(args.rounds):
            for name in SYSTEMS:
                found, _ = systems.run(name, job, 0, mib * MIB // 2, mib * MIB)
                for pattern in PATTERNS:
                    rows.add(found[pattern]["wall_ns"], mib, name, pattern)
            say(f"size: {mib} MiB: round {i + 1} of {args.rounds}")
    return {"unit": "ns an access", "rows": rows.as_json("mib", "system", "pattern"),
            "skipped": skipped}, size_text(rows, skipped)


def size_text(rows, skipped):
    """In Markdown."""
    sizes = sorted({key[0] for key in rows.rows})
    body = []
    for name in SYSTEMS:
        for pattern in PATTERNS:
            cells = [number((rows.median(mib, name, pattern) or 0) / 1000)
                     for mib in sizes]
            grown = rows.ratio((sizes[-1], name, pattern), (sizes[0], name, pattern)) \
                if sizes else None
            body.append([f"{name}, {pattern}", *cells, number(grown)])
    head = ["microseconds an access", *(f"{mib} MiB" for mib in sizes), "last / first"]
    return ["### By size of the region, half of it in memory", "",
            *markdown(head, body), "",
            *(f"- {mib} MiB was left out: {why}" for mib, why in skipped.items())]


# ---- threads ------------------------------------------------------------------------

def threads(args, systems):
    """Faults a second, of one thread and of more."""
    rows, mib, skipped = Rows(), args.region, {}
    jobs = {nr: Access(args.build, mib, ["uniform"], nr) for nr in (1, 2)}
    budgets = {"all is on the device": 0, "half is in memory": mib * MIB // 2}
    order = [(what, delivery, nr) for what in budgets for delivery in ("inline", "thread")
             for nr in jobs]
    for what, delivery, nr in order * args.rounds:
        try:
            found, _ = systems.run(delivery, jobs[nr], 0, budgets[what], mib * MIB)
        except Skip as why:
            skipped[delivery] = str(why)
            continue
        row = found["uniform"]
        rows.add(row["faults"] / row["wall_ns"] * 1e9, what, delivery, nr)
    body = [[what, delivery, *(number(rows.median(what, delivery, nr), 0) for nr in jobs),
             number(rows.ratio((what, delivery, 2), (what, delivery, 1)))]
            for what, delivery in dict.fromkeys(key[:2] for key in order)]
    head = ["", "faults a second", *(f"{nr} thread{'s' * (nr > 1)}" for nr in jobs),
            "2 / 1"]
    text = [f"### By threads that fault, {mib} MiB, any page", "",
            *markdown(head, body), "",
            *(f"- {name} was skipped: {why}" for name, why in skipped.items())]
    return {"unit": "faults a second", "mib": mib, "skipped": skipped,
            "rows": rows.as_json("begin", "delivery", "threads")}, text


# ---- everything fits ----------------------------------------------------------------

def fits_access(args, systems, rows):
    """bench-access: each pattern, and the process from its start to its end."""
    mib = args.region
    patterns = ["fill", "sequential", "uniform", "modify", "whole"]
    job = Access(args.build, mib, patterns)

    def timed(place):
        phases = Phases()
        found = job(place)
        phases.begin("")
        return found, phases.whole()[0]
    for _ in range(args.rounds):
        for name in ("none", "run"):
            (found, whole), _ = systems.run(name, timed, 0, 2 * mib * MIB, mib * MIB)
            rows.add(whole, name, "access", "whole")
            for pattern in patterns:
                rows.add(found[pattern]["wall_ns"], name, f"access, {pattern}", "work")


def fits_programs(args, systems, rows):
    """Programs: the phases that count, and the process from its start to its end."""
    args = argparse.Namespace(percent=[200], system=["none", "run"], rounds=args.rounds,
                              program=args.program, scale=args.scale,
                              build=args.build, out=args.out)
    done = []
    for workload in workloads.workloads(args.build, args.out, args.scale):
        if workload.name not in args.program:
            continue
        program = programs.Program(workload)
        program.run(systems, args)
        done.append(program.as_json())
        for case in program.cases:
            for name in ("none", "run"):
                for field, what in (("wall_s", "work"), ("whole_wall_s", "whole")):
                    for value in case.numbers(name, field) or []:
                        rows.add(value, name, workload.name, what)
    return done


def fits(args, systems):
    """`uhmm run` to none, where the budget is twice what is needed."""
    rows = Rows()
    fits_access(args, systems, rows)
    done = fits_programs(args, systems, rows)
    names = list(dict.fromkeys(key[1] for key in rows.rows))
    ratios = {what: {name: rows.ratio(("run", name, what), ("none", name, what))
                     for name in names} for what in ("work", "whole")}
    body = [[name, number(ratios["work"][name]), number(ratios["whole"][name])]
            for name in names]
    body.append(["geometric mean",
                 *(number(geometric_mean(ratios[what].values()))
                   for what in ("work", "whole"))])
    text = ["### Where everything fits: a budget of twice the peak", "",
            *markdown(["run / none", "its work", "with start and end"], body), ""]
    text += [f"- {program['name']}: {what['what']}: {what['why']}" for program in done
             for case in program["cases"] for what in case["missing"].values()]
    text += [f"- {program['name']} was skipped: {program['skipped']}"
             for program in done if program["skipped"]]
    return {"ratios": ratios, "rows": rows.as_json("system", "program", "what"),
            "programs": done}, text


# ---- metadata -----------------------------------------------------------------------

def metadata(args, systems):
    """Bytes a page, and as a share of a budget."""
    mib = args.region
    lines = execute([Path(args.build) / "bench" / "bench-metadata", str(mib)])
    pages = [json.loads(line) for line in lines.splitlines()]
    job = Access(args.build, mib, ["uniform"])
    found, _ = systems.run("inline", job, 0, mib * MIB // 2, mib * MIB)
    share = 100 * found["uniform"]["tables_mib"] / (mib / 2)
    # What the device takes besides what it stores, of the same at half of the memory.
    systems.run("run", job, 0, mib * MIB // 2, mib * MIB)
    stats = json.loads(systems.stats().read_text(encoding="utf-8"))
    head = ["bytes a migrated page", "in memory", "device", "tables", "rest"]
    body = [[row["case"], *(number(row[key], 1) for key in
                            ("memory", "device", "tables", "rest"))] for row in pages]
    overhead = stats["overhead"]
    text = [f"### Memory besides the pages' bytes, {mib} MiB", "",
            *markdown(head, body), "",
            f"- Tables of a region of {mib} MiB at half of it: {share:.2f} % of the "
            "budget.",
            f"- lz4 takes {100 * overhead:.1f} % more than what it stores."
            if overhead is not None else "- Nothing was stored."]
    return {"mib": mib, "pages": pages, "tables_percent_of_budget": share,
            "device_overhead": overhead}, text


# ---- all of it ----------------------------------------------------------------------

def arguments():
    """Those of the command line."""
    parser = argparse.ArgumentParser(description="what becomes of costs that grow")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, nargs="+", default=SIZES, metavar="MIB",
                        help="of the regions of part size")
    parser.add_argument("--region", type=int, default=512, metavar="MIB",
                        help="of the region of the other parts")
    parser.add_argument("--program", nargs="*", choices=workloads.NAMES,
                        default=FITTING, help="of part fits")
    parser.add_argument("--scale", type=float, default=1.0, help="as of programs.py")
    parser.add_argument("--out", type=Path, help="default: BUILD/bench")
    parser.add_argument("build")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds is 1 or more")
    return args


def main():
    """See the head of the file."""
    args = arguments()
    args.out = args.out or Path(args.build) / "bench"
    args.out.mkdir(parents=True, exist_ok=True)
    systems, here = Systems(args.build, args.out), machine()
    done, text = {}, [described(here) + f" {args.rounds} rounds.", ""]
    with contextlib.ExitStack() as stack:
        # An interrupted bench has measured what it has measured.
        stack.callback(lambda: write(
            args.out, "scale", "\n".join(text).rstrip() + "\n",
            {"machine": here, "rounds": args.rounds, "scale": args.scale, "parts": done}))
        for name in PARTS:
            if name not in args.part:
                continue
            say(f"== {name}")
            try:
                done[name], lines = globals()[name](args, systems)
            except Skip as why:
                done[name], lines = {"skipped": str(why)}, [f"{name}: skipped: {why}"]
            print("\n".join(lines), flush=True)
            text += [*lines, ""]
    failed = [program["name"] for program in done.get("fits", {}).get("programs", [])
              for case in program["cases"] if case["missing"]]
    if failed:
        say(f"scale.py: uhmm failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    end_with(main, "scale.py")
