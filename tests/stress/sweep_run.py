#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The failure sweep of `uhmm run`: its n-th system call fails, for n = 1, 2, 3 ...

    sweep_run.py [--call NAME]... [--jobs N] [--step N] BUILD

A pipe of small programs runs under `uhmm run` and strace, which makes a system call fail,
the n-th of each process and thread, until a run is through without one. It is the same
for the supervisor, for what is loaded into the programs, and for the programs: so a run
may fail. But it must

    say what it should and end with 0; or say something on standard error and end with an
    exit status, not by a signal
    come to an end
    leave no process behind

--step looks at each N-th n only. Prints TAP, a point for each call. Exit status 0 if and
only if nothing failed.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# What the kernel says where it has none left of what the call is for. Not brk(), which
# never fails but says where the end is; not dup2(), whose failure the shell overlooks.
CALLS = {
    "mmap": "ENOMEM", "mprotect": "ENOMEM", "munmap": "ENOMEM", "madvise": "ENOMEM",
    "mlock": "ENOMEM", "memfd_create": "EMFILE", "fallocate": "ENOSPC",
    "openat": "EMFILE", "pread64": "EIO", "pipe2": "EMFILE", "socketpair": "EMFILE",
    "sendmsg": "ENOMEM", "recvmsg": "ENOMEM", "fcntl": "EMFILE",
    "epoll_create1": "EMFILE", "epoll_ctl": "ENOMEM", "signalfd4": "EMFILE",
    "eventfd2": "EMFILE", "timerfd_create": "EMFILE", "pidfd_open": "EMFILE",
    "userfaultfd": "EMFILE", "ioctl": "ENOMEM", "clone": "EAGAIN", "clone3": "EAGAIN",
    "prctl": "EINVAL", "prlimit64": "EPERM", "setpriority": "EPERM",
    "sigaltstack": "ENOMEM", "rt_sigaction": "EINVAL", "sched_getaffinity": "EINVAL",
    "io_uring_setup": "ENOMEM", "close_range": "EINVAL", "ftruncate": "ENOSPC",
    "process_vm_readv": "EPERM", "getrandom": "EAGAIN", "readlink": "ENOMEM",
}
# Some seconds with strace; a minute and more on a machine that does much else.
HANGS_AFTER_S = 120
# Far more than a process makes.
N_MAX = 2000
# bash ends by SIGHUP where it cannot make a pipe.
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE,
           signal.SIGSYS, signal.SIGTRAP, signal.SIGKILL)
# Enough to be seen to end.
ENDS_AFTER_S = 10
PIPE = """set -o pipefail; seq 60000 | awk '{a[NR] = $1 * 7919 % 60011}
END {for (i = NR; i; i--) print a[i]}' | sort -n | cksum"""


class Sweep:
    """What is the same for all runs."""

    def __init__(self, build, folder):
        self.uhmm = [str(build / "uhmm"), "run", "--memory", "16M", "--device", "lz4",
                     "--", "bash", "-c", PIPE]
        self.nothing = [str(build / "uhmm"), "--version"]
        self.folder = folder
        self.right = subprocess.run(["bash", "-c", PIPE], stdout=subprocess.PIPE,
                                    check=True).stdout

    @staticmethod
    def strace(log, call, n, command):
        """The command, and its n-th call fails."""
        return ["strace", "-f", "-qqq", "-o", str(log), "-e", "signal=none",
                "-e", f"trace={call}", "-e",
                f"inject={call}:error={CALLS[call]}:when={n}", *command]

    def run(self, call, n):
        """(was a call made to fail?, what is wrong or None)"""
        log = self.folder / f"{call}-{n}"
        command = self.strace(log, call, n, self.uhmm)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              start_new_session=True) as process:
            try:
                out, err = process.communicate(timeout=HANGS_AFTER_S)
                wrong = self.judge(process.returncode, out, err)
                if self.crashed(process.returncode) and self.is_loaders(call, n):
                    wrong = None
            except subprocess.TimeoutExpired:
                wrong = f"no end after {HANGS_AFTER_S} s"
            if self.end_group(process.pid) and not wrong:
                wrong = "a process is left"
        injected = "INJECTED" in log.read_text(errors="replace")
        if not wrong:
            log.unlink()
        return injected, wrong

    def judge(self, status, out, err):
        """Of a run that has ended."""
        said = err.decode(errors="replace")[-600:]
        if status == 0 and out != self.right:
            return f"status 0, but printed {out[:200]!r}\n{said}"
        if self.crashed(status):
            return f"ended by a signal, status {status}\n{said}"
        if status and not err:
            return f"status {status} and no word of why"
        return None

    @staticmethod
    def crashed(status):
        """Of uhmm, or of the program that it ran."""
        return status < 0 or status - 128 in CRASHES

    def is_loaders(self, call, n):
        """Does libc's dynamic loader die of it, where there is nothing of ours?"""
        traced = [self.strace("/dev/null", call, n, command)
                  for command in (self.nothing, ["bash", "-c", PIPE])]
        return any(self.crashed(subprocess.run(command, check=False,
                                               stdout=subprocess.DEVNULL,
                                               stderr=subprocess.DEVNULL).returncode)
                   for command in traced)

    @staticmethod
    def end_group(group):
        """Ends who is left of a session; was there somebody who does not end?"""
        try:
            for _ in range(10 * ENDS_AFTER_S):
                os.killpg(group, 0)
                time.sleep(0.1)
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def sweep(what, call, options):
    """(runs that had a failure, [what was wrong])"""
    wrongs, runs, n = [], 0, 1
    with ThreadPoolExecutor(options.jobs) as pool:
        while n <= N_MAX:
            some = range(n, n + options.jobs * options.step, options.step)
            results = list(pool.map(lambda at: what.run(call, at), some))
            wrongs += [f"{call} {at}: {wrong}" for at, (_, wrong) in zip(some, results)
                       if wrong]
            runs += sum(injected for injected, _ in results)
            if not all(injected for injected, _ in results):
                break
            n = some[-1] + options.step
    return runs, wrongs


def why_not():
    """Why it cannot be done here; None: it can."""
    if os.environ.get("UHMM_SANITIZED") == "1":
        return "a sanitizer's runtime ends where it has no memory"
    if not shutil.which("strace"):
        return "there is no strace"
    traced = subprocess.run(["strace", "-o", "/dev/null", "true"], check=False,
                            stderr=subprocess.PIPE)
    if traced.returncode:
        return "strace: " + traced.stderr.decode(errors="replace").strip()
    return None


def main():
    """As the head of this file says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--call", action="append", choices=CALLS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("build", type=Path)
    options = parser.parse_args()
    reason = why_not()
    if reason:
        print(f"1..0 # SKIP {reason}")
        return 0
    calls = options.call or list(CALLS)
    print(f"1..{len(calls)}")
    failed = False
    with tempfile.TemporaryDirectory(prefix="uhmm-sweep-") as folder:
        what = Sweep(options.build.resolve(), Path(folder))
        for i, call in enumerate(calls):
            runs, wrongs = sweep(what, call, options)
            failed |= bool(wrongs)
            for wrong in wrongs:
                print("# " + wrong.replace("\n", "\n# "))
            skip = "" if runs else " # SKIP nobody makes that call here"
            print(f"{'not ' if wrongs else ''}ok {i + 1} - {call}_fails{skip}\n"
                  f"# {runs} runs with {CALLS[call]}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
