# SPDX-License-Identifier: Apache-2.0
"""Redis: the tests in Tcl of its sources. The interpreter, its clients and every server
they start are below `uhmm run`, with one budget: servers fork to save their data, are
killed, and read it back.

Left out are tests that judge what the kernel says of the memory of a server, which is
what uhmm changes (memefficiency, dismiss-mem, oom-score-adj), and those that judge by the
time that it takes: expire, dump, and those of replication and clusters.
"""
import os
import re

import judge

UNITS = {
    "types": """unit/type/string unit/type/incr unit/type/list unit/type/list-2
        unit/type/list-3 unit/type/set unit/type/zset unit/type/hash unit/type/stream""",
    "commands": """unit/scan unit/sort unit/multi unit/bitops unit/bitfield
        unit/pubsub unit/scripting unit/functions unit/acl unit/protocol""",
    "files": """integration/rdb integration/aof integration/aof-multi-part unit/aofrw
        unit/lazyfree unit/other integration/convert-zipmap-hash-on-load
        integration/corrupt-dump""",
}
SHORT_UNITS = {
    "short": "unit/type/list unit/type/hash unit/type/set unit/sort unit/aofrw"}
PARTS = list(UNITS)
SHORT = list(SHORT_UNITS)
# As many servers at a time as make up some memory; the default is 16.
CLIENTS = 8
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def prepare(cache):
    judge.tools_missing("make", "cc", "tclsh")
    source = judge.fetch("redis", cache)
    judge.build(source, [["make", f"-j{os.cpu_count()}", "MALLOC=libc"]],
                ["src/redis-server", "src/redis-cli", "src/redis-benchmark",
                 "src/redis-check-aof"])
    return source


def verdicts(output):
    """[ok]: what it does (3 ms). The same name comes from several units."""
    pairs = re.findall(r"^\[(ok|err|exception|skip|ignore|timeout)\]: (.*)$",
                       COLOUR.sub("", output), re.M)
    return judge.once_each(sorted(
        (re.sub(r" \(\d+ ms\)$", "", name), verdict) for verdict, name in pairs))


def part(name, source):
    units = {**UNITS, **SHORT_UNITS}[name].split()
    return judge.Part(name, [
        "./runtest", "--durable", "--clients", str(CLIENTS), "--baseport", "24111",
        *(word for unit in units for word in ("--single", unit))], verdicts, cwd=source)
