#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Torture on the real kernel, for a while: one seed after another, each in several ways.

    torture.py [--seconds N] [--seed N] [--jobs N] [--way WAY]... [--libc-forks] [--tap]
        BUILD

Three threads do to their memory whatever programs do, while others migrate it to several
devices and back (churn_moves.c); every page says itself what it should hold. Ways:

    thread   faults are delivered to a thread
    inline   and in the thread that has them
    run      under `uhmm run --faults=thread`, with half of the memory that it needs
    guarded  the same, with system calls guarded (--faults=inline)
    either   guarded until the program makes a ring (io_uring), then as run
    nobody   the same, as an ordinary user
    cgroup   as thread, in a memory cgroup with less room than all want: somebody is
             killed there all the time, and the kernel has no page when asked for one
    user     as inline, as an ordinary user, with children of libc's fork() alone

What a run prints last has to be what churn prints for the same seed with no library
about. A run that does not end is a failure too: where its threads were is printed. --seed
begins with that one; with --libc-forks no child is made by a raw clone. Exit status 0 if
and only if nothing failed.
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cgroup import Cgroup, NoCgroup  # noqa: E402

HERE = Path(__file__).resolve().parent
SIZE = ["-t", "3", "-m", "64", "-n", "1500"]
# A run takes some five seconds; on a machine that has much else to do, a minute.
HANGS_AFTER_S = 600
NOBODY = 65534
# A run wants some 130 MiB, the hog all that it can get.
CGROUP_BYTES = 256 << 20
COUNTS = re.compile(r"(\d+) pages (?:moved|stored)|(?:to|from) device +(\d+) pages")


class Broken(Exception):
    """What a run is compared with does not work either."""


class Skip(Exception):
    """This machine cannot do it that way, and why."""


def kernel_side(pid):
    """Where each thread of a process is."""
    lines = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        for name in ("comm", "syscall", "stack"):
            try:
                text = (task / name).read_text()
            except OSError:
                continue
            lines.append(f"{task.name} {name}: " + " < ".join(text.split("\n")[:6]))
    return "\n".join(lines)


def family(pid):
    """A process and its descendants."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            pids += family(child)
    return pids


class Hog:
    """Takes what is left in a cgroup, is killed for it, and comes again."""

    CODE = """
import mmap, time
open("/proc/self/oom_score_adj", "w").write("1000")
took = []
while True:
    took.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    took[-1].write(b"x" * (1 << 20))
    time.sleep(0.002)
"""

    def __init__(self, cgroup):
        self.stopped = False
        self.cgroup = cgroup
        self.killed = -1
        self.process = None

    def run(self):
        """Until stop(); in a thread."""
        while not self.stopped:
            self.killed += 1
            self.process = subprocess.Popen([sys.executable, "-c", self.CODE],
                                            preexec_fn=self.cgroup.enter,
                                            stderr=subprocess.DEVNULL)
            self.process.wait()

    def stop(self):
        """Once and for all."""
        self.stopped = True
        while self.process and self.process.poll() is None:
            self.process.kill()
            time.sleep(0.01)


class Torture:
    """What is the same for all runs."""

    def __init__(self, build, libc_forks):
        self.forks = ["-l"] if libc_forks else []
        self.bin = build / "tests" / "stress"
        self.build = build
        self.migrated = self.operations = self.killed = 0
        self.skipped = {}
        self.digests = {}

    def command(self, name, seed, *more):
        """A run of churn or torture."""
        return [str(self.bin / name), *SIZE, *self.forks, "-s", str(seed), *more]

    def go(self, command, **how):
        """Runs it; (status, what it printed, what it said)."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, \
                subprocess.Popen(command, stdout=out, stderr=err, cwd="/var/tmp",
                                 start_new_session=True, **how) as process:
            note = ""
            try:
                process.wait(HANGS_AFTER_S)
            except subprocess.TimeoutExpired:
                note = f"\nno end after {HANGS_AFTER_S} s\n"
                note += "\n".join(kernel_side(pid) for pid in family(process.pid))
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            out.seek(0)
            err.seek(0)
            return (process.returncode, out.read().decode(errors="replace"),
                    err.read().decode(errors="replace") + note)

    def digest(self, seed, *more):
        """What churn prints in the end, without any library."""
        key = (seed, more)
        if key not in self.digests:
            status, out, err = self.go(self.command("churn", seed, *more))
            if status:
                raise Broken(f"churn by itself, without uhmm: status {status}\n{err}")
            self.digests[key] = out.split("\n")[-2]
        return self.digests[key]

    def judge(self, seed, result, *more):
        """None, or what is wrong."""
        status, out, err = result
        if status == 77:
            raise Skip("this machine lets it have no userfaultfd")
        lines = out.split("\n")
        migrated = sum(int(a or b) for a, b in COUNTS.findall(err))
        self.migrated += migrated
        self.operations += 3 * int(SIZE[5])
        if status:
            return f"status {status}\n{out[-2000:]}{err[-4000:]}"
        if not migrated:
            return "nothing was migrated, so nothing is proved"
        if lines[-2:-1] != [self.digest(seed, *more)]:
            return f"not what churn prints:\n{out[-1000:]}"
        return None

    # ---- the ways ------------------------------------------------------------------

    def thread(self, seed):
        """Faults are delivered to a thread."""
        return self.judge(seed, self.go(self.command("torture", seed)))

    def inline(self, seed):
        """And in the thread that has them."""
        result = self.go(self.command("torture", seed, "-i"))
        return self.judge(seed, result, "-k")

    def under_uhmm(self, options, seed, *churn):
        """`uhmm run`, with half of the memory."""
        return [str(self.build / "uhmm"), "run", "--memory", "40M", "--device", "lz4",
                "--stats", *options, "--", *self.command("churn", seed, *churn)]

    def run(self, seed):
        """Under `uhmm run`, by thread."""
        return self.judge(seed, self.go(self.under_uhmm(["--faults=thread"], seed)))

    def either(self, seed):
        """Guarded until a ring is made: by thread from then on."""
        return self.judge(seed, self.go(self.under_uhmm(["--faults=either"], seed)))

    def guarded(self, seed, **how):
        """With system calls guarded: then there is no io_uring."""
        without = ["-x", "uring"]
        command = self.under_uhmm(["--faults=inline"], seed, *without)
        return self.judge(seed, self.go(command, **how), *without)

    def nobody(self, seed):
        """So that anybody can do it."""
        return self.guarded(seed, **self.ordinary(str(self.build / "uhmm")))

    @staticmethod
    def ordinary(path):
        """How to run what lies there as an ordinary user."""
        how = {}
        if os.getuid() == 0:
            how = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        try:
            asked = subprocess.run(["test", "-x", path], check=False, **how)
        except (OSError, subprocess.SubprocessError) as error:
            raise Skip(f"nobody can be an ordinary user here: {error}") from error
        if asked.returncode:
            raise Skip(f"an ordinary user may not execute {path}")
        return how

    def cgroup(self, seed):
        """Beside somebody who takes all memory, in a cgroup that has little."""
        try:
            cgroup = Cgroup("torture", CGROUP_BYTES)
        except NoCgroup as why:
            raise Skip(str(why)) from why
        hog = Hog(cgroup)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(hog.run)
            try:
                return self.judge(seed, self.go(self.command("torture", seed),
                                                preexec_fn=cgroup.enter))
            finally:
                hog.stop()
                self.killed += max(hog.killed, 0)
                cgroup.end()

    def user(self, seed):
        """As an ordinary user: the kernel does not fetch what is not there, nor tell of
        children that libc's fork() has not made."""
        command = self.command("torture", seed, "-i", "-l")
        how = self.ordinary(command[0])
        return self.judge(seed, self.go(command, **how), "-k", "-l")


WAYS = ["thread", "inline", "run", "guarded", "either", "nobody", "cgroup", "user"]


class Report:
    """What is said meanwhile and in the end."""

    def __init__(self, torture, options):
        self.torture, self.options = torture, options
        self.start = self.said = time.monotonic()
        self.done = dict.fromkeys(options.way, 0)
        self.failures = []

    def note(self, way, seed, wrong):
        """A run has ended."""
        self.done[way] += 1
        if wrong:
            self.failures.append((way, seed))
            print(f"# {way}, seed {seed} (again: torture.py --way {way} --seed {seed} "
                  f"--seconds 1 BUILD): {wrong}".replace("\n", "\n# "), flush=True)
        if time.monotonic() - self.said >= 15:
            self.said = time.monotonic()
            print(f"# {self.summary()}", flush=True)

    def seconds(self):
        """Since the beginning."""
        return time.monotonic() - self.start

    def summary(self):
        """In one line."""
        runs = ", ".join(f"{way} {n}" for way, n in self.done.items() if n)
        t = self.torture
        return (f"{self.seconds():.0f} of {self.options.seconds} s: "
                f"{sum(self.done.values())} runs ({runs}), {len(self.failures)} failed; "
                f"{t.operations} operations, {t.migrated} pages migrated"
                + (f", {t.killed} killed for memory" if t.killed else ""))


def one(torture, report, way, seed):
    """A run, and what became of it."""
    if way in torture.skipped:
        return
    try:
        wrong = getattr(torture, way)(seed)
    except Skip as skip:
        torture.skipped[way] = str(skip)
        return
    except Broken as broken:
        wrong = str(broken)
    report.note(way, seed, wrong)


def main():
    """As the head of this file says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--libc-forks", action="store_true")
    parser.add_argument("--tap", action="store_true")
    parser.add_argument("build", type=Path)
    options = parser.parse_args()
    options.way = options.way or WAYS
    options.build = options.build.resolve()
    for name in ("tests/stress/torture", "tests/stress/churn", "uhmm"):
        if not (options.build / name).is_file():
            parser.error(f"{options.build / name} is not there: build it first")
    seed = options.seed or int(time.time())
    torture = Torture(options.build, options.libc_forks)
    report = Report(torture, options)
    if options.tap:
        print(f"1..{len(options.way)}")
    with ThreadPoolExecutor(options.jobs) as pool:
        while True:
            runs = [pool.submit(one, torture, report, way, seed) for way in options.way]
            for run in runs:
                run.result()
            seed += 1
            left = set(options.way) - set(torture.skipped)
            if report.seconds() >= options.seconds or report.failures or not left:
                break
    print(f"# {report.summary()}")
    for i, way in enumerate(options.way):
        bad = any(failed == way for failed, _ in report.failures)
        skip = f" # SKIP {torture.skipped[way]}" if way in torture.skipped else ""
        if options.tap:
            print(f"{'not ' if bad else ''}ok {i + 1} - {way}{skip}")
        elif skip:
            print(f"left out: {way}: {torture.skipped[way]}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
