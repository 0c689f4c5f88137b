#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""verify.py [OPTION...] BUILD: stress-ng's system calls, under constant migration.

Each stressor of the classes below runs by itself, with --verify, plain and then under
`uhmm run` while everything that may be migrated is evicted, each other 10 ms
(UHMM_EVICT). What it says and how it ends has to be the same: one that fails, or does
not end, where it does not without uhmm, is a failure. One that fails plain, or is skipped
there, proves nothing and is not counted; nor is one of which no page was taken out of
memory.

Ways, of which root takes thread and nobody, and others guarded if --way does not say:
    thread   faults resolved by a thread of uhmm's
    guarded  faults resolved inline, system calls guarded
    nobody   the same, as nobody, without privilege

Prints a line for each that is not right, and a summary; status 1 if there was one.
"""
import argparse
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

CLASSES = ["filesystem", "interrupt", "io", "memory", "network", "os", "pipe",
           "scheduler", "signal", "vm"]
# What would change the machine, takes all of its memory, or has no end.
NEVER = {
    "binderfs", "cpu-online", "memhotplug", "netlink-proc", "oom-pipe", "ramfs", "reboot",
    "softlockup", "watchdog", "bind-mount", "umount", "klog", "sysinval", "swap",
}
# What uhmm says that it cannot do (docs/guard.md).
UNABLE = {
    "io-uring": "a guarded process has no ring",
    "usersyscall": "dispatches system calls itself",
    "vm-rw": "reads the memory of another process",
}
# What stress-ng says of one that it does not run; it ends with status 0 then.
SKIPPED = re.compile(r"will be skipped|No stress workers invoked|not implemented")
# Longer than that to end, and it hangs.
GRACE_S = 60


def parse():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("--way", choices=["thread", "guarded", "nobody"],
                        action="append")
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--evict", type=int, default=10, help="ms; 0: do not")
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--only", action="append", metavar="STRESSOR")
    parser.add_argument("--logs", type=Path, help="keep what failed there")
    args = parser.parse_args()
    args.way = args.way or (["guarded"] if os.geteuid() else ["thread", "nobody"])
    return args


def stressors():
    names = set()
    for name in CLASSES:
        out = subprocess.run(["stress-ng", "--class", name + "?"], capture_output=True,
                             text=True, check=False).stdout
        names |= set(out.partition(":")[2].split())
    return sorted(names - NEVER)


class Run:
    """One stressor, once."""

    def __init__(self, args, name, way, under):
        self.folder = Path(tempfile.mkdtemp(prefix="uhmm-verify-", dir="/var/tmp"))
        os.chmod(self.folder, 0o777)
        command = ["stress-ng", f"--{name}", "1", "--timeout", f"{args.seconds}s",
                   "--verify", "--temp-path", str(self.folder)]
        if under:
            command = [str(args.build / "uhmm"), "run", "--memory", args.memory,
                       "--faults", "thread" if way == "thread" else "inline",
                       f"--stats=json:{self.folder}/stats", "--", *command]
        if way == "nobody":
            who = pwd.getpwnam("nobody")
            command = ["setpriv", "--reuid", str(who.pw_uid), "--regid", str(who.pw_gid),
                       "--clear-groups", "--inh-caps=-all", "--bounding-set=-all",
                       *command]
        environment = dict(os.environ)
        if args.evict:
            environment["UHMM_EVICT"] = str(args.evict)
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment,
                                 stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                 text=True, errors="replace", start_new_session=True,
                                 cwd=self.folder)
        self.hangs = False
        try:
            self.text = child.communicate(timeout=args.seconds + GRACE_S)[0]
        except subprocess.TimeoutExpired:
            self.hangs = True
            os.killpg(child.pid, signal.SIGKILL)
            subprocess.run(["pkill", "-9", "stress-ng"], check=False)
            self.text = child.communicate()[0]
        self.status = child.returncode
        self.taken = self.count("isolated") if under else 0
        shutil.rmtree(self.folder, ignore_errors=True)

    def count(self, name):
        """A number of the summary; 0: there is none."""
        try:
            return json.loads((self.folder / "stats").read_text())[name]
        except (OSError, ValueError):
            return 0

    def complaints(self):
        """What it says is wrong, without what differs from run to run."""
        found = re.findall(r"(?:fail|error):? *\[\d+\] (.*)", self.text)
        return sorted({re.sub(r"\d+", "N", line) for line in found})


def judge(args, name, way):
    """None: the same; "": it proves nothing; else what is wrong, and the log."""
    plain = Run(args, name, way, False)
    if plain.hangs or plain.status or plain.complaints() or SKIPPED.search(plain.text):
        return "", plain
    run = Run(args, name, way, True)
    if run.hangs:
        return f"no end after {args.seconds + GRACE_S:.0f} s", run
    if run.status != plain.status:
        return f"status {run.status} instead of {plain.status}", run
    if run.complaints():
        return "; ".join(run.complaints())[:300], run
    return None if run.taken else "", run


def verify(args, way):
    """How many were wrong."""
    right = wrong = idle = taken = 0
    names = args.only or stressors()
    for name in names:
        if name in UNABLE and not args.only and way != "thread":
            print(f"{way}: {name}: left out: {UNABLE[name]}", flush=True)
            continue
        said, run = judge(args, name, way)
        taken += run.taken
        right += said is None
        idle += said == ""
        if not said:
            continue
        wrong += 1
        print(f"{way}: {name}: {said}", flush=True)
        if args.logs:
            args.logs.mkdir(parents=True, exist_ok=True)
            (args.logs / f"{way}-{name}").write_text(run.text)
    print(f"{way}: {len(names)} stressors: {right} right, {wrong} wrong, {idle} that "
          f"prove nothing; {taken} pages taken out of memory", flush=True)
    return wrong or not right


def main():
    args = parse()
    sys.exit(1 if sum([verify(args, way) for way in args.way]) else 0)


main()
