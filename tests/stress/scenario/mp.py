# SPDX-License-Identifier: Apache-2.0
"""mp.py MIB: a parent with MIB of data, and children that read it without exec.

What each child must find is computed by the parent. One chain of processes outlives its
parents; the last one writes orphan.txt when it has read everything.
"""
import gc
import multiprocessing
import os
import random
import sys
import time
import zlib

BLOCK = 1 << 16
blocks = []
table = {}


def build(mib):
    for i in range(mib * 12):
        text = f"block {i} holds text that repeats, and {i * 2654435761} ".encode()
        blocks.append((text * (BLOCK // len(text) + 1))[:BLOCK])
    for i in range(mib * 800):
        table[i * 31] = (i, str(i) * 3)


def crc_of(i):
    return zlib.crc32(blocks[i])


def sum_of(keys):
    return sum(table[k][0] + len(table[k][1]) for k in keys)


def in_child(work):
    """Runs work in a forked child; its result comes through a pipe."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 1
        try:
            os.write(writer, str(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)

    def result():
        with os.fdopen(reader) as file:
            text = file.read()
        if os.waitpid(pid, 0)[1] != 0:
            raise SystemExit(f"mp: a child failed after {text!r}")
        return text

    return result


def all_blocks():
    return zlib.crc32(b"".join(str(crc_of(i)).encode() for i in range(len(blocks))))


def change_and_read():
    """A child's changes are its own."""
    for i in range(0, len(blocks), 3):
        blocks[i] = blocks[i].replace(b"block", b"BLOCK")
    for key in list(table)[::5]:
        table[key] = (1, "x")
    return all_blocks() + sum_of(list(table)[::7])


def generations(depth):
    """Each generation reads a part and has the rest read by its child."""
    if depth == 0:
        return all_blocks()
    deeper = in_child(lambda: generations(depth - 1))
    mine = sum(crc_of(i) for i in range(depth, len(blocks), 5))
    return mine + int(deeper())


def orphan():
    """The middle process ends at once; the last one goes on without it."""
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    for _ in range(500):
        if os.getppid() != parent:
            break
        time.sleep(0.01)
    checked = all_blocks() + sum_of(list(table)[::3])
    with open("orphan.tmp", "w") as file:
        file.write(f"orphan {checked}\n")
    os.rename("orphan.tmp", "orphan.txt")
    os._exit(0)


def main(mib):
    build(mib)
    gc.freeze()
    draw = random.Random(1)
    print("blocks", len(blocks), "entries", len(table))
    alone = [crc_of(i) for i in range(len(blocks))]
    print("alone", zlib.crc32(str(alone).encode()))

    with multiprocessing.get_context("fork").Pool(2) as pool:
        crcs = pool.map(crc_of, range(len(blocks)), chunksize=64)
        keys = [[draw.randrange(mib * 800) * 31 for _ in range(4000)] for _ in range(16)]
        sums = pool.map(sum_of, keys)
    print("pool", crcs == alone, sums == [sum_of(k) for k in keys])

    readers = [in_child(all_blocks) for _ in range(2)]
    changer = in_child(change_and_read)
    for i in range(0, len(blocks), 4):  # the parent changes its own meanwhile
        blocks[i] = blocks[i].replace(b"holds", b"HOLDS")
    print("readers", [r() for r in readers])
    print("changer", changer())
    print("parent", all_blocks())
    print("generations", generations(3))

    middle = os.fork()
    if middle == 0:
        orphan()
    if os.waitpid(middle, 0)[1] != 0:
        raise SystemExit("mp: the middle process failed")
    sys.stdout.flush()


main(int(sys.argv[1]))
