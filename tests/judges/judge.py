# SPDX-License-Identifier: Apache-2.0
"""What all judges share: a program with tests of its own is run plain, which says what it
finds on this machine anyway and what memory it takes; then under `uhmm run` with half of
that. Each of its tests must end as it did before.

A judge is a Suite. It has parts, each a command and one point of TAP; their names are
known before anything is fetched, so that the plan is the same where nothing can be. What
is fetched and built is kept in the cache.

The budget is not judged here: tests/stress does that, and these programs are free to
hold what cannot be compressed. But it must have mattered: a part that takes no more than
its budget, or under which nothing was migrated, is a failure.
"""
import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# The least that `uhmm run` takes.
BUDGET_MIN_MB = 16
# How many of the tests that differ are printed; the log has all.
SHOWN = 8
BUILD_LIMIT_S = 3600
# For what a program leaves running: servers end within seconds of their client.
GRACE_S = 60


class Skip(Exception):
    """This machine cannot run the suite; says why."""


class Broken(Exception):
    """The suite should have been there, and is not; says why."""


@dataclasses.dataclass
class Part:
    """command is run in cwd, or in an empty directory. verdicts makes {test: how it
    ended} of what it wrote. clean: unless it ends with 0 without uhmm, this machine is
    none to run it on; otherwise only that is skipped of which there are no verdicts."""
    name: str
    command: list
    verdicts: object
    cwd: str = None
    limit_s: int = 1800
    clean: bool = False


@dataclasses.dataclass
class Run:
    status: int
    verdicts: dict
    numbers: dict

    def peak_mb(self):
        return self.numbers["peak_pss_anon_kb"] // 1024

    def wall_s(self):
        return max(self.numbers["wall_ms"], 1) / 1000


def fetch(package, cache):
    """The directory of its source."""
    done = subprocess.run([f"{HERE}/fetch.sh", package, cache], capture_output=True,
                          text=True)
    said = (done.stdout + done.stderr).strip().split("\n")[-1]
    if done.returncode == 77:
        raise Skip(said)
    if done.returncode:
        raise Broken(f"fetch.sh {package}: {said}")
    return f"{cache}/source-{package}/src"


def build(source, commands, products):
    """Runs them there, unless all products are there already."""
    if all(os.path.exists(f"{source}/{product}") for product in products):
        return
    log = f"{os.path.dirname(source)}/build.log"
    with open(log, "w") as out:
        for command in commands:
            done = subprocess.run(command, cwd=source, stdin=subprocess.DEVNULL,
                                  stdout=out, stderr=subprocess.STDOUT,
                                  timeout=BUILD_LIMIT_S)
            if done.returncode:
                raise Broken(f"{' '.join(command)} failed, see {log}")


def tools_missing(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise Skip(f"needs {', '.join(missing)}: scripts/deps.sh judges")


class Bench:
    """Runs parts; work keeps the logs of those that failed."""
    def __init__(self, build_dir):
        self.uhmm = f"{build_dir}/uhmm"
        self.treerss = f"{build_dir}/tests/stress/treerss"
        self.work = tempfile.mkdtemp(prefix="uhmm-judges.",
                                     dir=os.environ.get("TMPDIR", "/var/tmp"))

    def forbidden(self):
        """Why nobody can have a space here, or None."""
        if os.environ.get("UHMM_SANITIZED") == "1":
            return "real programs do not load a sanitizer's runtime"
        said = subprocess.run([self.uhmm, "doctor", "--json"], capture_output=True,
                              text=True).stdout
        if json.loads(said)["library_thread"]:
            return None
        return "this machine does not permit userfaultfd: see uhmm doctor"

    def run(self, part, folder, wrap):
        os.makedirs(folder)
        cwd = part.cwd or f"{folder}/cwd"
        os.makedirs(cwd, exist_ok=True)
        results = f"{folder}/results"
        with open(f"{folder}/output", "w") as out:
            status = subprocess.run(
                [self.treerss, "-t", str(part.limit_s), "-g", str(GRACE_S),
                 "-o", results, "--", *wrap, *part.command],
                cwd=cwd, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT).returncode
        with open(f"{folder}/output", errors="replace") as out:
            verdicts = part.verdicts(out.read())
        with open(results) as f:
            pairs = [line.strip().split("=", 1) for line in f]
        if not part.cwd:
            shutil.rmtree(cwd, ignore_errors=True)
        return Run(status, verdicts, {key: int(value) for key, value in pairs
                                      if value.lstrip("-").isdigit()})

    def judge(self, suite, part):
        """(True, False or None for a skip; the line; more lines)"""
        folder = f"{self.work}/{suite}-{part.name.replace(' ', '-')}"
        plain = self.run(part, f"{folder}/plain", [])
        if plain.numbers["timed_out"]:
            return None, f"without uhmm it takes more than {part.limit_s} s here", []
        if plain.status and (part.clean or not plain.verdicts):
            return None, (f"without uhmm it ends with {plain.status}: "
                          f"{last_line(f'{folder}/plain/output')}"), []
        budget = max(plain.peak_mb() // 2, BUDGET_MIN_MB)
        stats = f"{folder}/stats.json"
        # As long a name as the first: SQLite tries names as long as the system takes.
        under = self.run(part, f"{folder}/under",
                         [self.uhmm, "run", "--memory", f"{budget}M", "--device", "lz4",
                          f"--stats=json:{stats}", "--"])
        wrong, lines = differences(plain, under)
        if not migrated(stats):
            wrong.append("nothing was migrated: proves nothing")
        if plain.peak_mb() <= budget:
            wrong.append(f"it takes no more than {budget}M: proves nothing")
        line = (f"{len(plain.verdicts)} tests, {others(plain)} not ok without uhmm, "
                f"{len(lines)} differ; peak {plain.peak_mb()}M budget {budget}M "
                f"observed {under.peak_mb()}M, "
                f"wall {under.wall_s() / plain.wall_s():.2f}x of {plain.wall_s():.1f} s")
        if wrong:
            return False, f"{line}: {'; '.join(wrong)}; logs in {folder}", lines
        shutil.rmtree(folder)
        return True, line, []

    def close(self):
        if not os.listdir(self.work):
            os.rmdir(self.work)


def migrated(stats):
    """How many pages left memory, by the account of `uhmm run`."""
    try:
        with open(stats) as f:
            return json.load(f)["isolated"]
    except (OSError, ValueError):
        return 0


def last_line(path):
    with open(path, errors="replace") as f:
        lines = f.read().strip().split("\n")
    return lines[-1][:120]


def others(run):
    return sum(verdict != "ok" for verdict in run.verdicts.values())


def differences(plain, under):
    """([what is wrong], [test: before -> after])"""
    wrong = []
    if under.numbers["timed_out"]:
        wrong.append("no end under uhmm (results.hang says where)")
    if under.status != plain.status:
        wrong.append(f"status {under.status} instead of {plain.status}")
    if under.numbers["left"] != plain.numbers["left"]:
        wrong.append(f"{under.numbers['left']} processes left behind")
    if not plain.verdicts:
        wrong.append("it ran no tests")
    lines = [f"{test}: {plain.verdicts.get(test, 'not run')} -> "
             f"{under.verdicts.get(test, 'not run')}"
             for test in [*plain.verdicts, *(under.verdicts.keys() -
                                             plain.verdicts.keys())]
             if plain.verdicts.get(test) != under.verdicts.get(test)]
    if lines:
        wrong.append(f"{len(lines)} tests end differently")
    return wrong, lines


def once_each(pairs):
    """A dictionary of them; a name that comes again gets a number."""
    verdicts, seen = {}, {}
    for name, verdict in pairs:
        seen[name] = seen.get(name, 0) + 1
        verdicts[name if seen[name] == 1 else f"{name} ({seen[name]})"] = verdict
    return verdicts


class Tap:
    def __init__(self, plan):
        self.number = 0
        self.failed = 0
        print(f"1..{plan}", flush=True)

    def skip(self, name, why):
        self.number += 1
        print(f"ok {self.number} - {name} # SKIP {why}", flush=True)

    def point(self, name, passed, line, more):
        if passed is None:
            self.skip(name, line)
            return
        self.number += 1
        self.failed += not passed
        print(f"{'ok' if passed else 'not ok'} {self.number} - {name}: {line}")
        for text in more[:SHOWN]:
            print(f"#   {text[:160]}")
        if len(more) > SHOWN:
            print(f"#   and {len(more) - SHOWN} more")
        print(end="", flush=True)


def progress(name):
    print(f"# {time.strftime('%H:%M:%S')} {name}", flush=True)
