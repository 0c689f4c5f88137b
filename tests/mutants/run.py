#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants bugs in the library (planted.py), one at a time, and looks who catches them.

    run.py [--work DIR] [--seeds N] [--all] [NAME...]
    run.py --check       only: can each of them be planted? (TAP)

Layers are tried in this order, until one catches the mutant: `unit`, tests of single files
and of the drivers; `sim`, seeds of the simulated machine; `system`, the API on the real
kernel. With --all each mutant goes through all of them. A mutant is caught when a test
fails, crashes, or does not end in time. Before that the code as it is has to pass.

Ends with a table and the line "N mutants: N caught". Exit status 1: one was not.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from planted import MUTANTS  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
UNIT = ["unit/test_host", "unit/test_store", "unit/test_store_memory", "unit/test_move",
        "device/test_device"]
SYSTEM = ["test_api_migrate", "test_api_fork", "test_api_steps", "test_api_mappings",
          "test_api_budget", "test_api_advise", "test_api_folio", "test_api_shared",
          "test_api_notifier", "test_api_range", "test_api_threads", "test_frame"]
# A test that takes longer hangs: the slowest takes 20 s on two processors.
UNIT_SECONDS = 120
SEEDS_SECONDS = 600
SYSTEM_SECONDS = 180


def say(text):
    """A line at once, however long the next takes."""
    print(text, flush=True)


class Tree:
    """A copy of the source, built; one file of it is changed at a time."""

    def __init__(self, work):
        self.source, self.build = work / "src", work / "build"
        self.env = dict(os.environ, UHMM_BUILD=str(self.build), UHMM_SOURCE=str(self.source))

    def make(self):
        """Copies what git knows of, with what was changed since, and builds it."""
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True,
                               stdout=subprocess.PIPE).stdout.decode().split("\0")
        for name in filter(None, names):
            to, new = self.source / name, ROOT / name
            if not new.is_file() or (to.exists() and to.read_bytes() == new.read_bytes()):
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(new, to)
            shutil.copymode(new, to)
        if not (self.build / "build.ninja").exists():
            self.quiet(["meson", "setup", str(self.build), str(self.source),
                        "-Dtests=true"], check=True)
        self.ninja()

    def quiet(self, command, check=False):
        """Runs it; what it says is shown only if it had to succeed and did not."""
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env=self.env, check=False)
        if check and run.returncode:
            sys.exit(f"{' '.join(command)}: status {run.returncode}\n"
                     + run.stdout.decode(errors="replace")[-2000:])
        return run.returncode == 0

    def ninja(self):
        """Builds the tests of all layers."""
        targets = [f"tests/{name}" for name in UNIT]
        targets += [f"tests/system/{name}" for name in SYSTEM] + ["tests/sim/test_sim"]
        self.quiet(["ninja", "-C", str(self.build)] + targets, check=True)

    def plant(self, mutant):
        """The text of the file as it was."""
        path = self.source / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            sys.exit(f"{mutant.name}: is to be planted anew: {mutant.file} has its text "
                     f"{text.count(mutant.old)} times")
        path.write_text(text.replace(mutant.old, mutant.new))
        return text

    def test(self, name, seconds):
        """None, or how it failed."""
        return self.outcome(self.start(name, []), seconds)

    def start(self, name, args):
        """In a session of its own: what it leaves behind can be ended."""
        return subprocess.Popen([str(self.build / "tests" / name)] + args, env=self.env,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                start_new_session=True)

    @staticmethod
    def outcome(process, seconds):
        """Waits for it. None, or how it failed."""
        try:
            out = process.communicate(timeout=seconds)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            end(process)
            return "hang"
        if process.returncode == 0:
            return None
        failed = re.search(r"^not ok \d+ - (\S+)", out, re.M)
        return failed.group(1) if failed else f"status {process.returncode}"


def end(process):
    """Ends it and all it has started."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.communicate()


def unit(tree, _):
    """(How it was caught, of how many runs), or None."""
    for name in UNIT:
        how = tree.test(name, UNIT_SECONDS)
        if how:
            return f"{name.rsplit('/', 1)[-1]}: {how}", 1
    return None


def system(tree, _):
    """The same by tests of the API."""
    for name in SYSTEM:
        how = tree.test(f"system/{name}", SYSTEM_SECONDS)
        if how:
            return f"{name}: {how}", 1
    return None


def sim(tree, seeds):
    """The same by seeds: a slice for each processor, until the first that fails."""
    nr = os.cpu_count() or 1
    each = (seeds + nr - 1) // nr
    slices = [(1 + i * each, tree.start("sim/test_sim", ["--count", str(each), "--from",
                                                         str(1 + i * each)]))
              for i in range(nr)]
    until = time.monotonic() + SEEDS_SECONDS
    caught = None
    while slices and not caught:
        time.sleep(0.1)
        for first, process in slices[:]:
            if process.poll() is None and time.monotonic() < until:
                continue
            slices.remove((first, process))
            if process.poll() is None:
                end(process)
                caught = "hang", seeds
            elif process.returncode:
                out = process.communicate()[0].decode(errors="replace")
                seed = re.search(r"# seed (\d+) failed", out)
                seed = int(seed.group(1)) if seed else first
                caught = f"seed {seed}", seed - first + 1
    for _, process in slices:
        end(process)
    return caught


LAYERS = {"unit": unit, "sim": sim, "system": system}


def look(tree, mutant, seeds, all_layers):
    """Rows of the table for one mutant; empty: nobody has caught it."""
    before = tree.plant(mutant)
    rows = []
    try:
        tree.ninja()
        for layer, run in LAYERS.items():
            caught = run(tree, seeds)
            if caught:
                rows.append((mutant.name, layer, caught[0], caught[1]))
                if not all_layers:
                    break
    finally:
        (tree.source / mutant.file).write_text(before)
    return rows


def check():
    """A point of TAP for each mutant."""
    bad = 0
    print(f"1..{len(MUTANTS)}")
    for i, mutant in enumerate(MUTANTS, 1):
        nr = (ROOT / mutant.file).read_text().count(mutant.old)
        same = mutant.old == mutant.new
        bad += nr != 1 or same
        print(f"{'ok' if nr == 1 and not same else 'not ok'} {i} - {mutant.name}")
        if nr != 1:
            print(f"# {mutant.file} has its text {nr} times: it is to be planted anew")
    return 1 if bad else 0


def chosen(names):
    """The mutants of these names, or all."""
    unknown = set(names) - {m.name for m in MUTANTS}
    if unknown:
        sys.exit(f"run.py: no such mutant: {', '.join(sorted(unknown))}")
    return [m for m in MUTANTS if not names or m.name in names]


def main():
    """See the head of the file."""
    parser = argparse.ArgumentParser(description="plant bugs, see them caught")
    parser.add_argument("--work", type=Path, default=ROOT / "build-check" / "mutants")
    parser.add_argument("--seeds", type=int, default=3000)
    parser.add_argument("--all", action="store_true", help="try every layer")
    parser.add_argument("--check", action="store_true", help="can they be planted?")
    parser.add_argument("name", nargs="*")
    args = parser.parse_args()
    if args.check:
        return check()
    mutants = chosen(args.name)
    tree = Tree(args.work.resolve())
    tree.make()
    for layer, run in LAYERS.items():
        caught = run(tree, args.seeds)
        if caught:
            sys.exit(f"run.py: {layer} fails without any mutant: {caught[0]}")
    say(f"| {'mutant':26} | layer  | caught by | runs |\n|{'-' * 28}|--------|---|-----:|")
    missed = []
    for mutant in mutants:
        rows = look(tree, mutant, args.seeds, args.all)
        for row in rows:
            say(f"| {row[0]:26} | {row[1]:6} | {row[2]} | {row[3]} |")
        if not rows:
            missed.append(mutant.name)
            say(f"| {mutant.name:26} | none   | NOT CAUGHT |  |")
    tree.ninja()
    say(f"{len(mutants)} mutants: {len(mutants) - len(missed)} caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
