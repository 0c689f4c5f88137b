#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/tap-sum.py decides whether `make check` passed: is it right? TAP out.

usage: tap_sum.py SOURCE
"""
import json
import os
import subprocess
import sys
import tempfile

# what is tested, a test's result in meson's log, its output, exit status, last line
CASES = [
    ("all pass", "OK", "1..2\nok 1 - a\n# a note\nok 2 - b\n", 0, (2, 0, 0)),
    ("a point fails", "ERROR", "1..2\nok 1 - a\nnot ok 2 - b\n# why\n", 1, (1, 1, 0)),
    ("a skip is not a pass", "OK", "1..2\nok 1 - a\nok 2 - b # SKIP why\n", 0, (1, 0, 1)),
    ("nothing but skips", "OK", "1..1\nok 1 - b # SKIP why\n", 1, (0, 0, 1)),
    ("a whole program skips", "SKIP", "1..0 # SKIP why\n", 1, (0, 0, 1)),
    ("tests that did not run", "ERROR", "1..3\nok 1 - a\n", 1, (1, 1, 0)),
    ("tests that nobody announced", "ERROR", "1..1\nok 1 - a\nok 2 - b\n", 1, (2, 1, 0)),
    ("a crash after the last test", "ERROR", "1..1\nok 1 - a\n", 1, (1, 1, 0)),
    ("a timeout", "TIMEOUT", "1..2\nok 1 - a\nok 2 - b\n", 1, (2, 1, 0)),
    ("no output at all", "OK", "", 1, (0, 1, 0)),
    ("a failure without number or name", "ERROR", "1..1\nnot ok\n", 1, (0, 1, 0)),
]


def wrong(script, scratch, result, output, status, sums):
    """What is wrong with what the script makes of it; empty: nothing."""
    log = os.path.join(scratch, "log.json")
    with open(log, "w", encoding="utf-8") as f:
        f.write(json.dumps({"name": "t", "result": result, "stdout": output}) + "\n")
    ran = subprocess.run([sys.executable, script, log], capture_output=True, text=True,
                         check=False)
    last = ran.stdout.splitlines()[-1] if ran.stdout else ran.stderr
    expected = "{} passed, {} failed, {} skipped".format(*sums)
    if (last, ran.returncode) == (expected, status):
        return ""
    return f"expected '{expected}', status {status}; got '{last}', {ran.returncode}"


def main():
    script = os.path.join(sys.argv[1], "scripts", "tap-sum.py")
    failed = 0
    print(f"TAP version 13\n1..{len(CASES)}")
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, *case) in enumerate(CASES, 1):
            why = wrong(script, scratch, *case)
            failed += bool(why)
            print(f"{'not ' if why else ''}ok {number} - {name}")
            if why:
                print(f"# {why}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
