#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py [--short] [--only PATTERN] [--cache DIR] BUILD [SUITE]...

Other people's programs as judges of uhmm: stress-ng's stressors, and the tests that come
with the sources of zstd, lz4, sqlite3 and redis. See judge.py for how they judge. Output
is TAP, a point for each part of a suite; --short runs those that take little time.
"""
import argparse
import fnmatch
import os
import subprocess
import sys

import compressors
import judge
import redis
import sqlite
import stressors

SUITES = {"stress-ng": stressors, "zstd": compressors.ZSTD, "lz4": compressors.LZ4,
          "sqlite3": sqlite, "redis": redis}


def parts_of(suite, short, pattern):
    names = suite.SHORT if short else suite.PARTS
    return [name for name in names if fnmatch.fnmatch(name, pattern)]


def run(name, parts, bench, cache, tap):
    suite = SUITES[name]
    try:
        source = suite.prepare(cache)
    except judge.Skip as why:
        for part in parts:
            tap.skip(f"{name} {part}", why)
        return
    except (judge.Broken, OSError, subprocess.TimeoutExpired) as why:
        for part in parts:
            tap.point(f"{name} {part}", False, str(why), [])
        return
    for part in parts:
        judge.progress(f"{name} {part}")
        try:
            tap.point(f"{name} {part}", *bench.judge(name, suite.part(part, source)))
        except judge.Skip as why:
            tap.skip(f"{name} {part}", why)
        except OSError as why:  # the disk is full, say: the others may still pass
            tap.point(f"{name} {part}", False, f"could not be judged: {why}", [])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="of parts")
    parser.add_argument("--cache", help="where what is fetched is kept (UHMM_CACHE, "
                        "or below the build directory)")
    parser.add_argument("build")
    parser.add_argument("suite", nargs="*", help=", ".join(SUITES))
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    cache = os.path.abspath(args.cache or os.environ.get("UHMM_CACHE") or
                            f"{build}/judges")
    unknown = set(args.suite) - set(SUITES)
    if unknown:
        parser.error(f"no suite {unknown.pop()}; there are {', '.join(SUITES)}")

    chosen = {name: parts_of(SUITES[name], args.short, args.only)
              for name in args.suite or SUITES}
    tap = judge.Tap(sum(len(parts) for parts in chosen.values()))
    bench = judge.Bench(build)
    why = bench.forbidden()
    for name, parts in chosen.items():
        if why:
            for part in parts:
                tap.skip(f"{name} {part}", why)
        else:
            run(name, parts, bench, cache, tap)
    bench.close()
    return tap.failed > 0


sys.exit(main())
