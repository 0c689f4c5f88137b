#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""file.py [OPTION...] BUILD: the device `file` beside fio.

Stores pages on the device, and loads them in random order 16 at a time (bench-file); fio
writes a file of that size in blocks of 2 MiB, one after the other, and reads 4 KiB at
random, 16 at a time. Both past the kernel's cache, in one directory, in turns. Prints
megabytes a second (10^6 bytes), medians of the rounds, and the median of the rounds'
ratios.

fio writes twice: a file that does not exist (new), and over one that does. The device's
file does not exist either. It needs fio.
"""
import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True


def fio(where, mib, name, *options):
    """Bytes a second."""
    out = subprocess.run(
        ["fio", f"--name={name}", f"--filename={where}/fio", f"--size={mib}M",
         "--direct=1", "--ioengine=io_uring", "--output-format=json", *options],
        check=True, stdout=subprocess.PIPE).stdout
    job = json.loads(out)["jobs"][0]
    return (job["write"]["bw_bytes"] or job["read"]["bw_bytes"]) / 1e6


def device(build, where, mib, loads):
    """Megabytes a second of storing and of loading."""
    command = [str(build / "bench" / "bench-file"), where, str(mib), str(loads)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    words = dict(line.split() for line in out.splitlines())
    return float(words["store"]), float(words["load"])


def measure(args, where):
    """A round: name -> megabytes a second."""
    Path(where, "fio").unlink(missing_ok=True)
    row = {}
    row["write, new"] = fio(where, args.size, "w", "--rw=write", "--bs=2M", "--iodepth=1")
    row["store"], row["load"] = device(Path(args.build), where, args.size, args.loads)
    row["write, over"] = fio(where, args.size, "w", "--rw=write", "--bs=2M",
                             "--iodepth=1", "--overwrite=1")
    row["read"] = fio(where, args.size, "r", "--rw=randread", "--bs=4k", "--iodepth=16",
                      f"--io_size={args.loads * 4}k")
    return row


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--size", type=int, default=512, help="MiB (512)")
    parser.add_argument("--loads", type=int, default=16384, help="pages (16384)")
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--where", default="/var/tmp", help="a directory on a disk")
    parser.add_argument("build")
    args = parser.parse_args()
    if not shutil.which("fio"):
        sys.exit("file.py: there is no fio here (apt install fio)")
    with tempfile.TemporaryDirectory(dir=args.where, prefix="uhmm-bench-") as where:
        rows = [measure(args, where) for _ in range(args.rounds)]
    print(f"{'device':8} {'MB/s':>8}  {'fio':12} {'MB/s':>8} {'ratio':>6}")
    for ours, theirs in (("store", "write, new"), ("store", "write, over"),
                         ("load", "read")):
        ratio = statistics.median(r[ours] / r[theirs] for r in rows)
        print(f"{ours:8} {statistics.median(r[ours] for r in rows):8.0f}  {theirs:12} "
              f"{statistics.median(r[theirs] for r in rows):8.0f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
