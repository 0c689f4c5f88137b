#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints what of each file was executed, from gcovr's JSON: lines, branches, the sums.

usage: coverage-table.py [--uncovered] [--at-least LINES BRANCHES] REPORT [FILE...]

--uncovered adds the lines that nothing executed, and those whose branches were not all
taken, with what they say; FILE names parts of paths, all if none. --at-least: exit
status 1 if a sum, in percent, is less.

The branches of an assertion are not counted: that the other one is not taken is what it
says (lib/assert.h). Nor are those of a line, nor a line, that ends in a comment

    /* uncovered: REASON */

which is for what a test can provoke nowhere.
"""
import argparse
import json
import re

ASSERTION = re.compile(r"\bassert_(always|result)\(")
MARKED = re.compile(r"/\* uncovered: \S.* \*/$")


class File:
    def __init__(self, entry):
        self.path = entry["file"]
        with open(self.path, encoding="utf-8") as f:
            source = [""] + f.read().split("\n")
        self.lines = self.lines_hit = self.branches = self.branches_taken = 0
        self.missing = []
        for line in entry["lines"]:
            text = source[line["line_number"]]
            if not line.get("gcovr/noncode") and not MARKED.search(text):
                self.count(line, text)

    def count(self, line, text):
        number = line["line_number"]
        branches = [] if ASSERTION.search(text) else line["branches"]
        taken = sum(b["count"] > 0 for b in branches)
        self.lines += 1
        self.branches += len(branches)
        self.branches_taken += taken
        if line["count"] == 0:
            self.missing.append((number, "####", text))
            return
        self.lines_hit += 1
        if taken < len(branches):
            self.missing.append((number, f"{taken}/{len(branches)}", text))


def percent(part, whole):
    return 100.0 * part / whole if whole else 100.0


def row(name, lines_hit, lines, taken, branches):
    return (f"{name:<32} {percent(lines_hit, lines):5.1f} % of {lines:5} lines "
            f"{percent(taken, branches):6.1f} % of {branches:5} branches")


def main():
    options = argparse.ArgumentParser(usage=__doc__.split("\n")[2][7:])
    options.add_argument("--uncovered", action="store_true")
    options.add_argument("--at-least", nargs=2, type=float, default=(0, 0))
    options.add_argument("report")
    options.add_argument("names", nargs="*")
    options = options.parse_args()
    with open(options.report, encoding="utf-8") as f:
        files = [File(entry) for entry in json.load(f)["files"]]
    files = [f for f in files if f.lines and
             (not options.names or any(n in f.path for n in options.names))]
    for f in files:
        print(row(f.path, f.lines_hit, f.lines, f.branches_taken, f.branches))
        for number, what, text in f.missing if options.uncovered else ():
            print(f"    {number:4} {what:>5} {text.expandtabs(4)}")
    sums = [sum(getattr(f, name) for f in files)
            for name in ("lines_hit", "lines", "branches_taken", "branches")]
    print(row("all", *sums))
    enough = (percent(*sums[:2]) >= options.at_least[0] and
              percent(*sums[2:]) >= options.at_least[1])
    return 0 if enough else 1


if __name__ == "__main__":
    raise SystemExit(main())
