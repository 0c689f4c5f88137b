#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records the traces anew: four programs under valgrind, some minutes each.

    bench/policy/record-all.py [--near 32] [--max 150000] [NAME...]

A touch of one of the --near pages that were touched last is left out (record.c). Where
more than --max touches are left it is done again with twice as many, up to a sixteenth of
the pages there are; and what is too many even then is cut off at the end. The traces are
not the same on another machine: other versions of the programs, other addresses.
"""
import argparse
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import trace

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / "tests/stress/scenario/cpython.py"

# Rows of some 800 bytes: to touch many pages takes few instructions.
TABLE = """PRAGMA temp_store = memory;
CREATE TABLE item (id INTEGER PRIMARY KEY, owner INTEGER, body TEXT, price INTEGER);
WITH RECURSIVE n(i, r) AS (SELECT 1, 12345 UNION ALL
    SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < {rows})
INSERT INTO item SELECT i, r % 503, 'the quick brown fox jumps over ' || r ||
    ' and comes back again for the lazy dog, which sleeps until the morning comes '
    || (r % 9176) || {filler}, r % 100000 FROM n;
CREATE INDEX item_owner ON item (owner, price);
"""

FILLER = "'" + "0123456789abcdef" * 42 + "'"

# Keys of which some are asked for much more often, spread over the table.
PICK = """WITH RECURSIVE q(i, r, s) AS (SELECT 1, {seed}, {seed} * 7 UNION ALL
    SELECT i + 1, (r * 1103515245 + 12345) % 2147483648,
    (s * 1664525 + 1013904223) % 4294967296 FROM q WHERE i < {nr}),
  k(id) AS (SELECT 1 + ((r / 16 % {rows}) * (s / 16 % {rows}) / {rows} * 7919) % {rows}
    FROM q)
"""


def oltp(rows, batches):
    """Look-ups and changes of single rows, some new ones, some reports."""
    draw = random.Random(1)
    script = [TABLE.format(rows=rows, filler=FILLER)]
    for batch in range(batches):
        pick = PICK.format(seed=draw.randrange(1 << 30), rows=rows, nr=130)
        script.append(pick + "SELECT sum(price), sum(length(body)) FROM k JOIN item "
                             "USING (id);")
        pick = PICK.format(seed=draw.randrange(1 << 30), rows=rows, nr=30)
        script.append(pick + "UPDATE item SET price = price + 1 FROM k "
                             "WHERE item.id = k.id;")
        script.append(f"INSERT INTO item SELECT NULL, {draw.randrange(503)}, body, price "
                      f"FROM item WHERE id > {draw.randrange(rows - 20)} LIMIT 6;")
        script.append("SELECT count(*), max(price) FROM item WHERE owner = "
                      f"{draw.randrange(503)};")
    return "\n".join(script)


def scan(rows):
    """Reports over all of a table, by way of its index too, and look-ups between."""
    script = [TABLE.format(rows=rows, filler=FILLER)]
    for seed in (11, 12, 13):
        pick = PICK.format(seed=seed, rows=rows, nr=1200)
        script.append("SELECT count(*), sum(price) FROM item WHERE body LIKE '%9%7%';")
        script.append(pick + "SELECT sum(length(body)) FROM k JOIN item USING (id);")
        script.append("SELECT owner, max(price) FROM item GROUP BY owner;")
    script.append("SELECT sum(length(body)) FROM item WHERE owner < 100;")
    return "\n".join(script)


def run(name, folder):
    text = folder / "input"
    if name == "cpython":
        return [sys.executable, "-I", str(PYTHON), "14000"]
    if name == "sort":
        draw = random.Random(1)
        text.write_text("".join(f"{draw.getrandbits(128):032x} {i:06d}\n"
                                for i in range(45000)))
        return ["sort", "-S", "64M", "--parallel=1", "-o", "/dev/null", str(text)]
    text.write_text(oltp(4500, 50) if name == "oltp" else scan(4500))
    return ["sqlite3", "-batch", "-init", "/dev/null", ":memory:", f".read {text}"]


def record(name, near, most):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tool, raw = folder / "record", folder / "raw"
        subprocess.run(["cc", "-O2", "-o", tool, HERE / "record.c"], check=True)
        subprocess.run([tool, f"--near={near}", raw, "--", *run(name, folder)],
                       env={**os.environ, "LC_ALL": "C", "PYTHONHASHSEED": "1"},
                       stdout=subprocess.DEVNULL, check=True)
        pages = trace.compact(trace.read_raw(raw))
    footprint, path = len(set(pages)), trace.FOLDER / (name + ".xz")
    while len(pages) > most and near * 2 <= footprint // 16:
        near *= 2
        pages = trace.thin(pages, near)
    trace.save(pages[:most], path)
    print(f"{name}: {len(pages)} touches of {footprint} pages, {near} near; "
          f"{path.stat().st_size} bytes", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--near", type=int, default=32)
    parser.add_argument("--max", type=int, default=150000)
    parser.add_argument("name", nargs="*", default=["oltp", "scan", "sort", "cpython"])
    args = parser.parse_args()
    trace.FOLDER.mkdir(exist_ok=True)
    for name in args.name:
        record(name, args.near, args.max)


main()
