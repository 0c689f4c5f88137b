#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a fault goes: runs bench-access under perf, and sorts its samples.

    steps.py BUILD [PATTERN]   a build with -Dc_args='-fno-omit-frame-pointer'; one of
                               bench-access's patterns, uniform if not said

Pages of 512 MiB are touched, at random for one, in 363 MiB. What is sorted are samples
of the thread that resolves the faults while they are touched: by the first line of the
table below of which the stack has one of the functions. Microseconds a fault are that
share of the thread's time on a processor, by the faults of this time. The rate of perf
is that of a clock: no counter of cycles is needed, and virtual machines have none.
"""
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

RATE = 4999
BENCH = ["--size=512", "--content=2.5", "--budget=363"]

# Step, functions of which one is on the stack, others of which none is.
INLINE = [
    ("isolating other pages", "reclaim_direct|isolate_asked|hand_isolate", ""),
    ("moving back from probation", "restore_page_inside|restore_page", ""),
    ("UFFDIO_COPY", "os_uffd_copy", ""),
    ("load: decompress and check", "lz4_submit", "uhmm_store_free"),
    ("free the copy", "uhmm_store_free|free_copies", ""),
    ("streams", "stream_window|stream_filled", ""),
    ("gate, world", "gate_enter|gate_try_enter|gate_leave|fork_enter_inline", ""),
    ("lookup", "find_entry|page_chunk|page_entry|page_is_known", ""),
    ("bookkeeping, the rest of the handler", "on_sigbus", ""),
    ("return from the signal", "__x64_sys_rt_sigreturn", ""),
    ("delivery of the signal", "arch_do_signal_or_restart|irqentry_exit_to_user_mode",
     ""),
    ("trap, up to the signal", "asm_exc_page_fault", ""),
]
THREAD = [
    ("waiting for a message, giving way", "os_wait_fds|os_yield|linger", ""),
    ("read the message", "os_uffd_read", ""),
    ("how many threads there are", "os_is_single_threaded", ""),
    ("moving back from probation", "restore_page_inside|restore_page", ""),
    ("UFFDIO_COPY and its wake", "os_uffd_copy", ""),
    ("load: decompress and check", "lz4_submit", "uhmm_store_free"),
    ("free the copy", "uhmm_store_free|free_copies", ""),
    ("streams", "stream_window|stream_filled", ""),
    ("gate", "gate_\\w+", ""),
    ("waking the worker", "os_wake", ""),
    ("lookup", "find_entry|page_chunk|page_entry", ""),
    ("bookkeeping, the rest of the reader", "reader_main", ""),
]


def samples(data):
    """(command, seconds, functions from the innermost on) of each sample."""
    out = subprocess.run(["perf", "script", "-i", data, "--no-inline", "-F",
                          "comm,time,ip,sym"], check=True, text=True, errors="replace",
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    for block in out.split("\n\n"):
        head, *frames = block.strip().split("\n")
        found = re.match(r"(\S+)\s+([\d.]+):", head)
        if found:
            yield found[1], float(found[2]), [f.split()[-1] for f in frames if f.split()]


def on_stack(names, frames):
    """Is one of these functions on the stack?"""
    return bool(names) and any(re.fullmatch(names, f) for f in frames)


def step_of(table, frames):
    """The first line that the stack belongs to."""
    for step, has, lacks in table:
        if on_stack(has, frames) and not on_stack(lacks, frames):
            return step
    return "the program itself"


def run(build, delivery, table, thread, pattern):
    """One delivery's table."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        out = subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", str(RATE),
                              "-g", "-o", data, build / "bench" / "bench-access",
                              f"--explicit={delivery}", *BENCH, pattern], check=True,
                             text=True, stdout=subprocess.PIPE).stdout
        all_of = list(samples(data))
    line = next(json.loads(text) for text in out.splitlines()
                if f'"{pattern}"' in text)
    faults = line["loaded"] - line["prefetched"] + line["restored"]
    ns_fault = line["wall_ns"] / faults
    touched = [at for _, at, frames in all_of
               if {"page_read", "page_modify"} & set(frames)]
    start, end = min(touched), max(touched)
    steps = Counter(step_of(table, frames) for comm, at, frames in all_of
                    if comm == thread and start <= at <= end)
    us_each = 1e6 / RATE / ((end - start) * 1e9 / ns_fault)
    print(f"\ndelivery {delivery}: a fault each {ns_fault / 1000:.1f} us, of which "
          f"{thread} runs {sum(steps.values()) * us_each:.1f} us")
    for step in [name for name, *_ in table] + ["the program itself"]:
        if steps[step]:
            print(f"{step:38} {steps[step] * us_each:6.2f} us "
                  f"{steps[step] * 100 / sum(steps.values()):5.1f} %")


def main():
    """Both deliveries."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    build, pattern = Path(sys.argv[1]), (*sys.argv[2:], "uniform")[0]
    run(build, "inline", INLINE, "bench-access", pattern)
    run(build, "thread", THREAD, "uhmm-reader", pattern)


if __name__ == "__main__":
    main()
