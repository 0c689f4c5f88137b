#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_bench.py BUILD: do bench/programs.py and scale.py measure, and see what is wrong?

Both run small, in the systems that need no root (none, run), and their JSON must have
what the tables are made of. Then a sort that is not one is planted: that gives wrong
bytes, that fails under uhmm alone, that never ends.
"""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"
BUILD = Path(sys.argv[1]).resolve()
RUNS = ["run", "guarded"]
PROGRAMS = ["redis-uniform", "redis-zipf", "sqlite-oltp", "sqlite-scan", "sort",
            "cpython", "graph"]


def check(holds, *what):
    """Or the test fails."""
    if not holds:
        raise AssertionError(" ".join(map(str, what)))


def start(script, out, *args, path=None):
    """One of the scripts."""
    environment = dict(os.environ)
    if path:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    return subprocess.Popen(
        [sys.executable, BENCH / script, *args, "--rounds", "1", "--out", out, BUILD],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(script, out, *args, status=0, path=None):
    """What one of the scripts prints."""
    with start(script, out, *args, path=path) as done:
        text, _ = done.communicate()
    check(done.returncode == status, f"status {done.returncode}, not {status}:", text)
    return text


def results(out, name):
    """Its JSON; and the chart of it can be read."""
    check((out / f"{name}.md").stat().st_size > 0, "an empty table")
    svg = out / f"{name}.svg"
    subprocess.run([sys.executable, BENCH / "chart.py", out / f"{name}.json", svg],
                   check=True)
    check(sum(node.tag.endswith("rect") for node in xml.parse(svg).iter()) > 2,
          "a chart without bars")
    return json.loads((out / f"{name}.json").read_text(encoding="utf-8"))


def small(*names, scale="0.03", percent="50"):
    """Options of programs.py."""
    return ["--scale", scale, "--percent", percent, "--system", "none", *RUNS,
            "--program", *names]


def sort_that(folder, does):
    """A folder for PATH with another sort in it."""
    path = folder / "sort"
    path.write_text(f"#!/bin/sh\n{does}\n", encoding="ascii")
    path.chmod(0o755)
    return folder


def programs_measure(out):
    """Each program once, and nothing is missing."""
    run("programs.py", out, *small(*PROGRAMS, percent="100"))
    data = results(out, "programs")
    check([program["name"] for program in data["programs"]] == PROGRAMS, "programs")
    for program in data["programs"]:
        check(not program["skipped"], program["name"], program["skipped"])
        check(program["checksum"], program["name"], "has no checksum")
        check(program["peak_bytes"] > 8 << 20, program["name"], "has no peak")
        case, = program["cases"]
        check(case["percent"] == 100 and not case["missing"], case)
        check(list(case["results"]) == RUNS, "systems", list(case["results"]))
        for series in (program["none"], *case["results"].values()):
            for field in ("wall_s", "whole_wall_s", "cpu_s"):
                check(len(series[field]) == 1, field, series[field])
            check(0 < series["wall_s"][0] <= series["whole_wall_s"][0], series)
        for name in RUNS:
            check(case["slowdown"][name] > 0, case["slowdown"])
            check(case[f"{name}_to_zram"]["wall_s"] is None, "a ratio to nothing")


def programs_are_short_of_memory(out):
    """What is measured is migration."""
    run("programs.py", out, *small("sort", scale="0.15", percent="85"))
    program, = results(out, "programs")["programs"]
    for series in program["cases"][0]["results"].values():
        check(series["stats"]["stored"][0] > 1000, "stored", series["stats"])
    limit = program["peak_bytes"] * 85 // 100
    check(program["cases"][0]["budget_bytes"] == limit, program)


def scale_measures(out):
    """All parts."""
    run("scale.py", out, "--size", "64", "16000000", "--region", "64", "--scale",
        "0.03", "--program", "sort")
    parts = results(out, "scale")["parts"]
    keys = {(row["mib"], row["system"], row["pattern"]) for row in parts["size"]["rows"]}
    check(len(keys) == 3 * 3, "size", keys)
    check(list(parts["size"]["skipped"]) == ["16000000"], parts["size"]["skipped"])
    rows = {(row["begin"], row["delivery"], row["threads"]): row["values"][0]
            for row in parts["threads"]["rows"]}
    check(len(rows) == 8 and min(rows.values()) > 100, "threads", rows)
    ratios = parts["fits"]["ratios"]
    check(ratios["work"]["sort"] > 0 and ratios["whole"]["access"] > 0, ratios)
    for row in parts["metadata"]["pages"]:
        check(row["tables"] >= 8, row)
        check(row["memory"] > 100, row)
    check(0 < parts["metadata"]["tables_percent_of_budget"] < 10, parts["metadata"])


def wrong_bytes_end_it(out):
    """One letter, under uhmm alone."""
    path = sort_that(out, 'if [ -n "$UHMM_CTL" ]; then /usr/bin/sort | sed "1s/0/1/"; '
                     "else exec /usr/bin/sort; fi")
    text = run("programs.py", out, *small("sort"), path=path, status=1)
    check("WRONG BYTES" in text, text)


def failures_are_told(out):
    """Without a ratio, and the status says so where it was uhmm."""
    path = sort_that(out, 'if [ -n "$UHMM_CTL" ]; then echo planted >&2; exit 9; fi; '
                     "exec /usr/bin/sort")
    text = run("programs.py", out, *small("sort"), path=path, status=1)
    check("uhmm failed: sort at 50 %" in text, text)
    case = json.loads((out / "programs.json").read_text())["programs"][0]["cases"][0]
    check(case["missing"]["run"]["what"] == "failed", case)
    check("planted" in case["missing"]["run"]["why"], case)
    check(not case["results"] and not case["slowdown"], "numbers of a failure", case)


def it_can_be_interrupted(out):
    """It ends what it has started, and writes what it has."""
    mark = out / "started"
    # Its own child as well: a group of processes is ended, not a process.
    path = sort_that(out, f"/usr/bin/sleep 1000 & echo $! >{mark}.new; "
                     f"mv {mark}.new {mark}; wait")
    with start("programs.py", out, *small("sort"), path=path) as bench:
        while not mark.exists() and bench.poll() is None:
            time.sleep(0.02)
        bench.send_signal(signal.SIGTERM)
        text, _ = bench.communicate()
    check(bench.returncode == 128 + signal.SIGTERM, bench.returncode, text)
    left = Path("/proc") / mark.read_text().strip()
    for _ in range(100):
        # It may be a zombie until whoever has taken it over looks.
        with contextlib.suppress(OSError):
            if (left / "stat").read_text().split()[2] != "Z":
                time.sleep(0.02)
                continue
        break
    else:
        check(False, "what it had started was left running")
    check((out / "programs.json").exists(), "nothing was written")


def main():
    """TAP."""
    tests = [programs_measure, programs_are_short_of_memory, scale_measures,
             wrong_bytes_end_it, failures_are_told, it_can_be_interrupted]
    print(f"TAP version 13\n1..{len(tests)}")
    doctor = subprocess.run([BUILD / "uhmm", "run", "--memory", "16M", "true"],
                            stderr=subprocess.PIPE, text=True, check=False)
    failed = 0
    for i, test in enumerate(tests, 1):
        if doctor.returncode != 0:
            print(f"ok {i} - {test.__name__} # SKIP {doctor.stderr.strip()[:80]}")
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="uhmm-bench-") as folder:
            try:
                test(Path(folder))
                print(f"ok {i} - {test.__name__}")
            except AssertionError as why:
                failed += 1
                print(f"not ok {i} - {test.__name__}")
                print("".join(f"# {line}\n" for line in str(why).splitlines()))
        print(f"# {time.monotonic() - began:.1f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
