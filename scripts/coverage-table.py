#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints what of each file of lib/ was executed: lines, branches, the sums.

usage: coverage-table.py [--uncovered] [--at-least LINES BRANCHES] DIR [FILE...]

DIR has builds with what they have counted; the working directory is that of the source.
--uncovered adds the lines that nothing executed, and those whose branches were not all
taken, with what they say; FILE names parts of paths, all if none. --at-least: exit
status 1 if a sum, in percent, is less.

The branches of an assertion are not counted: that the other one is not taken is what it
says (lib/assert.h). Nor is a line that ends in a comment, for what a test can provoke
nowhere,

    /* uncovered: REASON */

Counters are written while threads go on, one after the other. So what gcov works out of
two of them can be less than nothing; gcovr does not take that.
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys

ASSERTION = re.compile(r"\bassert_(always|result)\(")
MARKED = re.compile(r"/\* uncovered: \S.* \*/$")


def add(counts, more):
    """Of the same line in another build, or of a header's in another file."""
    longer, shorter = sorted((counts, more), key=len, reverse=True)
    return [c + (max(shorter[i], 0) if i < len(shorter) else 0)
            for i, c in enumerate(longer)]


def gcov(folder):
    """{path: {line number: (executed, [taken, of each branch])}}"""
    counted = {}
    notes = []
    for note in sorted(glob.glob(os.path.join(glob.escape(folder), "**/*.gcno"),
                                 recursive=True)):
        data = note[:-len("gcno")] + "gcda"
        # Made empty, for whoever comes first, and nobody came.
        if os.path.exists(data) and not os.path.getsize(data):
            os.unlink(data)
        notes.append(note)
    found = subprocess.run(["gcov", "--json-format", "--stdout", "-b"] + notes,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           check=False)
    if found.returncode:
        sys.exit(f"gcov: {found.stderr[:1000]}")
    for report in filter(None, found.stdout.split("\n")):
        report = json.loads(report)
        for entry in report["files"]:
            path = os.path.relpath(os.path.join(report["current_working_directory"],
                                                entry["file"]))
            if not path.startswith("lib/"):
                continue
            lines = counted.setdefault(path, {})
            for line in entry["lines"]:
                count, branches = lines.get(line["line_number"], (0, []))
                lines[line["line_number"]] = (
                    count + max(line["count"], 0),
                    add(branches, [max(b["count"], 0) for b in line["branches"]]))
    return counted


class File:
    def __init__(self, path, lines):
        self.path = path
        with open(path, encoding="utf-8") as f:
            source = [""] + f.read().split("\n")
        self.lines = self.lines_hit = self.branches = self.branches_taken = 0
        self.missing = []
        for number, (count, branches) in sorted(lines.items()):
            text = source[number]
            if not MARKED.search(text):
                self.count(number, count, [] if ASSERTION.search(text) else branches,
                           text)

    def count(self, number, count, branches, text):
        taken = sum(b > 0 for b in branches)
        self.lines += 1
        self.lines_hit += count > 0
        self.branches += len(branches)
        self.branches_taken += taken
        if count == 0:
            self.missing.append((number, "####", text))
        elif taken < len(branches):
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
    options.add_argument("folder")
    options.add_argument("names", nargs="*")
    options = options.parse_args()
    files = [File(path, lines) for path, lines in sorted(gcov(options.folder).items())
             if not options.names or any(n in path for n in options.names)]
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
    sys.exit(main())
