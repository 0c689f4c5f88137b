#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""many.py [OPTION...] BUILD: short programs, as many as there is time for.

What begins and ends is where most can go wrong: a process is taken over while its threads
start, its handlers change, its children execute something else. So here are ordinary
programs that do little else, again and again, several at a time, under `uhmm run` while
everything that may be migrated is evicted each few ms (UHMM_EVICT). What each prints and
how it ends has to be the same as without uhmm.

With TEST_SECONDS in the environment, that long. Prints a line for each that is not right
and a summary, or TAP; status 1 if there was one.
"""
import argparse
import collections
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

LIMIT_S = 120  # longer than that to end, and it hangs

MAKEFILE = """all: a b c d
a b c d:
\t@expr 1 + 2 >/dev/null; echo $@ >/dev/null
"""
SIGNALS_AND_CHILDREN = """
import os, signal, subprocess, threading
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
for _ in range(5):
    os.kill(os.getpid(), signal.SIGUSR1)
    thread = threading.Thread(target=lambda: got.append(2))
    thread.start()
    thread.join()
print(got, subprocess.check_output(['echo', 'x']))
"""
THREADS = """
import threading
sums = []
threads = [threading.Thread(target=lambda: sums.append(sum(range(2000))))
           for _ in range(12)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(sums), set(sums))
"""
PERL = """
$SIG{USR1} = sub { print 'u' };
for (1 .. 6) {
    kill USR1 => $$;
    my $pid = fork;
    exit 3 if !$pid;
    waitpid $pid, 0;
    print $? >> 8;
}
print "\\n";
exec 'echo', 'e';
"""
WORKER = """
const {Worker} = require('worker_threads');
const code = "require('worker_threads').parentPort.postMessage(42)";
new Worker(code, {eval: true}).on('message', m => console.log(m));
"""
SQL = """
create table t(a, b);
with recursive c(x) as (select 1 union all select x + 1 from c where x < 3000)
insert into t select x, x * x from c;
select sum(a), sum(b) from t;
"""
TRAPS = "trap 'echo usr' USR1; kill -USR1 $$; "

PROGRAMS = {
    "bash": ["bash", "-c", "for i in $(seq 8); do echo $i | tr 0-9 a-j; (echo sub $i); "
             "x=$(ls / | wc -l); done; " + TRAPS + "echo end"],
    "sh": ["sh", "-c", "for i in 1 2 3 4 5 6; do echo $i | cat; done; " + TRAPS +
           "exec echo end"],
    "execs": ["sh", "-c", "exec sh -c 'exec sh -c \"exec sh -c exec\\ echo\\ done\"'"],
    "python": ["python3", "-c", SIGNALS_AND_CHILDREN],
    "threads": ["python3", "-c", THREADS],
    "perl": ["perl", "-e", PERL],
    "git": ["git", "--git-dir={folder}/.git", "log", "--stat", "-3"],
    "gcc": ["sh", "-c", "echo 'int main(){return 0;}' | gcc -O2 -x c -S -o - - | md5sum"],
    "sqlite": ["sqlite3", ":memory:", SQL],
    "node": ["node", "-e", WORKER],
    "sort": ["sh", "-c", "seq 20000 | sort -r --parallel=3 | md5sum"],
    "xargs": ["sh", "-c", "seq 12 | xargs -n1 -P4 true; echo ok"],
    "make": ["make", "-s", "-C", "{folder}", "-B", "-j3"],
    "find": ["sh", "-c", "find {folder} -type f -name '[A-Z]*' -exec wc -c {{}} +"],
    "tar": ["sh", "-c", "tar -C {folder} -cf - --exclude .git . | gzip -1 | gzip -d | "
            "tar -tf - | sort | md5sum"],
    "timeout": ["timeout", "5", "env", "true"],
}


def parse():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("--faults", choices=["thread", "inline"], default="inline")
    parser.add_argument("--seconds", type=float,
                        default=float(os.environ.get("TEST_SECONDS", 20)))
    parser.add_argument("--evict", type=int, default=3, help="ms; 0: do not")
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--jobs", type=int, default=6, help="at a time")
    parser.add_argument("--only", action="append", choices=PROGRAMS)
    parser.add_argument("--tap", action="store_true")
    return parser.parse_args()


def prepare(folder):
    """What the programs read: a Makefile and some history."""
    (folder / "Makefile").write_text(MAKEFILE)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    if shutil.which("git"):
        subprocess.run(git + ["init", "-q"], check=True)
        for i in range(4):
            (folder / f"File{i}").write_text(f"{i}\n" * 500)
            subprocess.run(git + ["add", "."], check=True)
            subprocess.run(git + ["commit", "-q", "-m", f"File {i}"], check=True)


def run(command, environment):
    """How it ends, and what it prints."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, timeout=LIMIT_S, check=False,
                              env=environment)
    except subprocess.TimeoutExpired:
        return "no end", b""
    return done.returncode, done.stdout


class Runner:
    def __init__(self, args, programs, expected):
        self.args, self.programs, self.expected = args, programs, expected
        self.uhmm = [str(args.build / "uhmm"), "run", "--memory", args.memory,
                     "--faults", args.faults, "--"]
        self.environment = dict(os.environ)
        if args.evict:
            self.environment["UHMM_EVICT"] = str(args.evict)
        self.lock = threading.Lock()
        self.done = collections.Counter()
        self.wrong = []
        self.end = time.monotonic() + args.seconds

    def work(self, seed):
        choose = random.Random(seed)
        while time.monotonic() < self.end:
            name = choose.choice(sorted(self.programs))
            got = run(self.uhmm + self.programs[name], self.environment)
            with self.lock:
                self.done[name] += 1
                if got != self.expected[name]:
                    text = got[1][-500:].decode(errors="replace")
                    self.wrong.append(f"{name}: {got[0]} instead of "
                                      f"{self.expected[name][0]}: {text!r}")

    def run(self):
        threads = [threading.Thread(target=self.work, args=(seed,))
                   for seed in range(self.args.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def stable(programs):
    """What each that is here does by itself, twice over."""
    expected = {}
    for name, command in programs.items():
        if not shutil.which(command[0]):
            continue
        first = run(command, None)
        if first != run(command, None) or first[0] != 0:
            sys.exit(f"many.py: {name} does not do the same twice: {first}")
        expected[name] = first
    return expected


def main():
    args = parse()
    with tempfile.TemporaryDirectory(prefix="uhmm-many-", dir="/var/tmp") as folder:
        prepare(Path(folder))
        programs = {name: [word.format(folder=folder) if "{folder}" in word else word
                           for word in command]
                    for name, command in PROGRAMS.items()
                    if not args.only or name in args.only}
        expected = stable(programs)
        runner = Runner(args, {name: programs[name] for name in expected}, expected)
        runner.run()
    total = sum(runner.done.values())
    said = f"{total} runs of {len(expected)} programs, {args.faults}"
    failed = bool(runner.wrong) or not total
    for line in runner.wrong[:20]:
        print(("# " if args.tap else "") + line)
    if args.tap:
        print("1..1")
    print(f"{'not ok' if failed else 'ok'} 1 - {said}" if args.tap else
          f"{said}: {len(runner.wrong)} wrong " + str(dict(sorted(runner.done.items()))))
    sys.exit(failed)


main()
