#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants bugs (planted/), one at a time, and looks which layer of tests catches each.

    run.py [--work DIR] [--seeds N] [--rate N] [--all] [--trust] [--layer L]... [NAME...]
    run.py --check       only: can each of them be planted? (TAP)

Before that the code as it is has to pass (--trust: it does). The test program that has
caught it before is tried first (planted/seen.py), then the layers in the order of
layers.py until one catches the mutant; with --all each goes through all of them.
--rate N then tells in how many of N seeds, or of up to 5 runs of the test, it is caught.

Says a line for each mutant when it is done with it, and at the end a table and the line
"N mutants: N caught". Exit status 1: one was not.
"""
import argparse
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from layers import layers_of, program_of  # noqa: E402
from planted import MUTANTS  # noqa: E402
from planted.seen import SEEN  # noqa: E402
from tree import ROOT, Tree  # noqa: E402


def say(text):
    """A line at once, however long the next takes."""
    print(text, flush=True)


def check():
    """A point of TAP for each mutant."""
    bad = 0
    print(f"1..{len(MUTANTS) + 1}")
    for i, mutant in enumerate(MUTANTS, 1):
        file = ROOT / mutant.file
        nr = file.read_text().count(mutant.old) if file.is_file() else 0
        good = nr == 1 and mutant.old != mutant.new
        bad += not good
        print(f"{'ok' if good else 'not ok'} {i} - {mutant.name}")
        if nr != 1:
            print(f"# {mutant.file} has its text {nr} times: it is to be planted anew")
    unique = len({m.name for m in MUTANTS}) == len(MUTANTS)
    print(f"{'ok' if unique else 'not ok'} {len(MUTANTS) + 1} - names_are_unique")
    unknown = set(SEEN) - {m.name for m in MUTANTS}
    if unknown:
        print("# planted/seen.py names what is not planted: " + ", ".join(unknown))
    return 1 if bad or not unique or unknown else 0


def chosen(names):
    """The mutants of these names, or all."""
    unknown = set(names) - {m.name for m in MUTANTS}
    if unknown:
        sys.exit(f"run.py: no such mutant: {', '.join(sorted(unknown))}")
    return [m for m in MUTANTS if not names or m.name in names]


def try_clean(layers):
    """The code as it is. How long each program takes is noted by the way."""
    for layer in layers:
        start = time.monotonic()
        caught = layer.try_all({}, 1)
        if caught:
            sys.exit(f"run.py: {layer.name} fails without any mutant: {caught.by}")
        say(f"{layer.name}: passes without a mutant ({time.monotonic() - start:.0f} s)")


def look(tree, layers, mutant, args, clean):
    """Who has caught it: the first, or with --all everybody."""
    found = []
    with tree.planted(mutant):
        if mutant.name in SEEN and not args.all:
            caught = program_of(tree, SEEN[mutant.name]).try_all(clean, args.rate)
            if caught:
                return [caught]
        for layer in layers:
            caught = layer.try_all(clean, args.rate)
            if caught:
                found.append(caught)
                if not args.all:
                    break
    return found


def table(rows):
    """In Markdown."""
    say("\n| mutant | what goes wrong | layer | caught by | how often |\n"
        "|--------|-----------------|-------|-----------|-----------|")
    for mutant, found in rows:
        for c in found:
            say(f"| {mutant.name} | {mutant.what} | {c.layer} | {c.by} | {c.rate} |")
        if not found:
            say(f"| {mutant.name} | {mutant.what} | **none** | | |")


def arguments():
    """Those of the command line."""
    parser = argparse.ArgumentParser(description="plant bugs, see them caught")
    parser.add_argument("--work", type=Path, default=ROOT / "build-check" / "mutants")
    parser.add_argument("--seeds", type=int, default=4000)
    parser.add_argument("--rate", type=int, default=1, help="try so many seeds")
    parser.add_argument("--all", action="store_true", help="try every layer")
    parser.add_argument("--layer", action="append", help="only this one")
    parser.add_argument("--trust", action="store_true", help="without mutants it passes")
    parser.add_argument("--check", action="store_true", help="can they be planted?")
    parser.add_argument("name", nargs="*")
    return parser.parse_args()


def main():
    """See the head of the file."""
    args = arguments()
    if args.check:
        return check()
    mutants, rows, start = chosen(args.name), [], time.monotonic()
    tree = Tree(args.work.resolve())
    tree.make()
    layers, clean = layers_of(tree, args.seeds, args.layer), tree.digests()
    if not args.trust:
        try_clean(layers)
    for i, mutant in enumerate(mutants, 1):
        begun = time.monotonic()
        found = look(tree, layers, mutant, args, clean)
        how = "; ".join(f"{c.layer}, {c.by} ({c.rate})" for c in found) or "NOT CAUGHT"
        say(f"[{i}/{len(mutants)}] {mutant.name}: {how}, "
            f"{time.monotonic() - begun:.0f} s")
        rows.append((mutant, found))
        tree.note()
    table(rows)
    caught = sum(bool(found) for _, found in rows)
    say(f"\n{len(mutants)} mutants: {caught} caught, "
        f"in {(time.monotonic() - start) / 60:.0f} min")
    return 0 if caught == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
