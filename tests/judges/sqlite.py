# SPDX-License-Identifier: Apache-2.0
"""SQLite: the tests in Tcl of its sources, in the interpreter that is built for them.
veryquick, which its authors want passed before each commit, is a quarter of a million
tests in one process."""
import os
import re

import judge

SUITES = {"veryquick": ["veryquick.test"]}
PARTS = list(SUITES)
# In one process too: the longer it lives the more of its memory is old.
FILES = "select1 sort sort2 sort4 bigsort window1 fts3rnd wal malloc5 mmap1 join"
SUITES["files"] = ["permutations.test", "veryquick", *(f"{name}.test" for name in
                                                       FILES.split())]
SHORT = ["files"]


def prepare(cache):
    judge.tools_missing("make", "cc", "tclsh")
    source = judge.fetch("sqlite3", cache)
    judge.build(source, [["./configure"],
                         ["make", f"-j{os.cpu_count()}", "testfixture",
                          "CFLAGS=-O1 -g0"]], ["testfixture"])
    return source


def verdicts(output):
    """A test that is right is `NAME... Ok`; one that is wrong has lines with `!`."""
    bad = set(re.findall(r"^! (\S+) (?:expected|got)", output, re.M))
    pairs = [(name, "failed" if name in bad else "ok")
             for name in re.findall(r"^(\S+)\.\.\.", output, re.M)]
    total = re.search(r"^(\d+) errors out of (\d+) tests", output, re.M)
    pairs.append(("all of them", f"{total[1]} errors" if total else "did not end"))
    return judge.once_each(pairs)


def unprivileged():
    """attach.test ends everything where root may write what nobody may."""
    if os.geteuid():
        return []
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


def part(name, source):
    script, *arguments = SUITES[name]
    command = [*unprivileged(), f"{source}/testfixture", f"{source}/test/{script}"]
    return judge.Part(name, command + arguments, verdicts, limit_s=3600)
