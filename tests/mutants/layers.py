# SPDX-License-Identifier: Apache-2.0
"""Layers of tests: what each has to say about a mutant.

`unit` is test programs of single files and of the drivers, and what fuzzers found; `sim`
seeds of the simulated machine; `system` what uses the real kernel. A layer builds what it
runs, runs it on all processors, and ends at the first failure: a test that fails, a
program that crashes, one that does not end. What a mutant has not changed is not run.
"""
import os
import queue
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

JOBS = os.cpu_count() or 1
# The harness ends tests that hang, after 30 s; this is for what has no harness.
HANGS_S = 300
# The simulated machine sees by itself that nothing goes on, unless nobody calls it.
SEEDS_S = 600
# Seeds that are tried first: most mutants are caught by one of them. A few, since those
# that hang take long.
FIRST_SEEDS = 4
MOST_SEEDS = 512
# Of a test program that has failed; two of them must.
FEWEST_RUNS = 3
MOST_RUNS = 5


class Caught(NamedTuple):
    """Who has caught a mutant, and how often it did."""

    layer: str
    by: str
    rate: str


def end_session(leader):
    """Ends a process and what it has started, in whatever process groups."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2]
            if int(rest.split()[3]) == leader:
                os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


class Run:
    """A program that runs. One failed test is enough: it is ended then."""

    def __init__(self, program, args=None):
        self.program = program
        self.process = subprocess.Popen(
            [str(program.path)] + (program.args if args is None else args),
            env=program.env, cwd=program.path.parent, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.timer = threading.Timer(HANGS_S, self.end)
        self.ended = False

    def end(self):
        """Whoever waits for it learns that it was ended."""
        self.ended = True
        end_session(self.process.pid)

    def failure(self):
        """Waits for it. What failed, or None."""
        failed = None
        self.timer.start()
        for line in self.process.stdout:
            failed = re.match(rb"not ok \d+ - (.*?)( #.*)?$", line)
            if failed:
                self.end()
                break
        status = self.process.wait()
        self.timer.cancel()
        self.process.stdout.close()
        # Also after a crash there may be something left.
        end_session(self.process.pid)
        if failed:
            return failed[1].decode()
        if self.ended:
            return "hang"
        return f"status {status}" if status else None


class Tests:
    """A layer of test programs."""

    loads = True  # what is built beside them

    def __init__(self, tree, name, suites):
        self.tree, self.name, self.suites = tree, name, suites

    def wanted(self, clean):
        """What is not as it was without the mutant; the quick first of what has it."""
        now = self.tree.digests()
        changed = {path for path in now if now[path] != clean.get(path)}
        programs = [p for p in self.tree.programs() if p.suite in self.suites]
        # What a program loads or runs does not show in it.
        if not self.loads or not any(path.parent == self.tree.build for path in changed):
            programs = [p for p in programs if p.path in changed]
        return sorted(programs, key=lambda p: (p.path not in changed,
                                               self.tree.seconds.get(p.name, 0)))

    def build(self):
        """Before a test of the system there is everything, as tests run programs."""
        self.tree.ninja([])

    def try_all(self, clean, runs):
        """The first program that fails, as Caught, or None."""
        self.build()
        programs = self.wanted(clean)
        while programs:
            passed, failed = self.run_some(programs)
            if not failed:
                return None
            program, how = failed[0]
            nr = max(FEWEST_RUNS, min(runs, MOST_RUNS))
            nr_failed = 1 + sum(Run(program).failure() is not None for _ in range(nr - 1))
            if nr_failed > 1:
                return Caught(self.name, f"{program.name}: {how}",
                              f"{nr_failed} of {nr} runs")
            # Once is no more than a busy machine does to what has a time limit.
            programs = [p for p in programs if p not in passed and p != program]
        return None

    def run_some(self, programs):
        """Programs that have passed, and (program, how) of the first that has failed."""
        todo, passed, failed, running = queue.Queue(), [], [], set()

        def work():
            while not failed and not todo.empty():
                try:
                    program = todo.get_nowait()
                except queue.Empty:
                    return
                run, start = Run(program), time.monotonic()
                running.add(run)
                how = run.failure()
                running.discard(run)
                if not how:
                    passed.append(program)
                    self.tree.seconds[program.name] = time.monotonic() - start
                elif not failed:
                    failed.append((program, how))
                    for other in list(running):
                        other.end()

        for program in programs:
            todo.put(program)
        workers = [threading.Thread(target=work) for _ in range(JOBS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return passed, failed


class Unit(Tests):
    """Tests that need nothing but themselves."""

    loads = False

    def build(self):
        paths = [p.path for p in self.tree.programs() if p.suite in self.suites]
        self.tree.ninja([str(path.relative_to(self.tree.build)) for path in paths])


class Sim(Unit):
    """Seeds of the simulated machine, in ascending order."""

    def __init__(self, tree, name, suites, seeds):
        super().__init__(tree, name, suites)
        self.seeds = seeds

    def try_all(self, clean, runs):
        self.build()
        if any(p.name == "sim" for p in self.wanted(clean)):
            return self.try_seeds(runs)
        return None

    def try_seeds(self, runs):
        """The least seed that fails."""
        first, size = 1, FIRST_SEEDS
        while first <= self.seeds:
            nr = min(size, self.seeds + 1 - first)
            failed, hangs = self.survey(first, nr)
            if failed:
                return self.caught(min(failed), runs)
            if hangs:
                return Caught(self.name, f"a seed from {first} on: hang",
                              f"run {first} or later")
            first, size = first + nr, min(2 * size, MOST_SEEDS)
        return None

    def caught(self, seed, runs):
        """And how many others do."""
        rate = f"run {seed}"
        if runs > 1:
            failed, hangs = self.survey(1, runs)
            rate += f"; {len(failed)}{'+' if hangs else ''} of {runs} seeds"
        return Caught(self.name, f"seed {seed}", rate)

    def survey(self, first, nr):
        """(The seeds that fail of these, whether it did not end)."""
        sim = next(p for p in self.tree.programs() if p.name == "sim")
        run = subprocess.Popen(
            [str(sim.path), "--survey", str(nr), "--from", str(first), "--jobs",
             str(JOBS)], env=sim.env, start_new_session=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL)
        try:
            out, _ = run.communicate(timeout=SEEDS_S)
            hangs = False
        except subprocess.TimeoutExpired:
            end_session(run.pid)
            out, _ = run.communicate()
            hangs = True
        seeds = re.findall(rb"^(\d+) (?!of )", out, re.M)
        return [int(seed) for seed in seeds], hangs


class Scenes(Unit):
    """What else runs on the simulated machine."""

    def wanted(self, clean):
        return [program for program in super().wanted(clean) if program.name != "sim"]


class One(Tests):
    """A test program by itself, of whatever layer."""

    def __init__(self, tree, program):
        super().__init__(tree, program.suite, [program.suite])
        self.program = program

    def wanted(self, clean):
        return [self.program]


def program_of(tree, name):
    """The program that Meson knows by this name, as a layer."""
    return One(tree, next(p for p in tree.programs() if p.name == name))


def layers_of(tree, seeds, names):
    """In the order they are tried in; only those with a name of these, if there are."""
    layers = [Unit(tree, "unit", ["unit", "device", "fuzz"]),
              Sim(tree, "sim", ["sim"], seeds),
              Scenes(tree, "sim", ["sim"]), Tests(tree, "system", ["system", "dmirror"])]
    return [layer for layer in layers if not names or layer.name in names]
