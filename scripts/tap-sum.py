#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sums the TAP points in meson's test logs (testlog.json, a JSON object a line).

usage: tap-sum.py LOG...

Lists what failed and what was skipped, with reasons, then one line:

    N passed, N failed, N skipped

Exits 1 if anything failed or nothing ran. A program that did not end well although
none of its points failed, or that ran another number of tests than its plan says,
counts as one failure more.
"""
import json
import os
import re
import sys

POINT = re.compile(
    r"(not )?ok\b(?: +\d+)?(?: +-? ?(.*?))?(?:\s*#\s*SKIP\S*\s*(.*))?$", re.I)
PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*SKIP\s*(.*))?$", re.I)


class Sum:
    def __init__(self):
        self.passed = 0
        self.failures = []
        self.skips = {}

    def skip(self, name, where, reason):
        self.skips.setdefault((name, reason), []).append(where)

    def program(self, where, test):
        """Counts one test program's points."""
        name = test["name"].split(":")[-1].strip()
        points = failed = 0
        plan = None
        why = []
        for line in test.get("stdout", "").splitlines():
            found = PLAN.match(line)
            if found:
                plan = int(found[1])
                if plan == 0:
                    self.skip(name, where, found[2] or "no reason given")
                continue
            found = POINT.match(line)
            if found:
                points += 1
                label = f"{name}: {found[2] or points}"
                if found[3] is not None:
                    self.skip(label, where, found[3] or "no reason given")
                elif found[1]:
                    failed += 1
                    why = [f"{where}: {label}"]
                    self.failures.append(why)
                else:
                    self.passed += 1
                    why = []
            elif line.startswith("#") and failed and len(why) < 40:
                why.append("    " + line[1:].strip())
        result = test["result"]
        if plan is not None and points != plan:
            self.failures.append(
                [f"{where}: {name}: ran {points} of {plan} tests ({result})"])
        elif plan is None and points == 0 or result not in ("OK", "SKIP") and not failed:
            tail = ["    " + t for t in test.get("stderr", "").splitlines()[-20:]]
            self.failures.append([f"{where}: {name}: {result}"] + tail)


def main(logs):
    total = Sum()
    for log in logs:
        where = os.path.basename(log).rsplit(".", 1)[0]
        with open(log, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                total.program(where, json.loads(line))
    for (name, reason), where in sorted(total.skips.items()):
        print(f"skipped: {name} ({', '.join(where)}): {reason}")
    for failure in total.failures:
        print("failed: " + "\n".join(failure))
    failed = len(total.failures)
    skipped = sum(len(where) for where in total.skips.values())
    print(f"{total.passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or total.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
