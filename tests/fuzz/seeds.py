#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what fuzzing begins with: tests/fuzz/corpus/NAME/ of the targets whose inputs
are bytes. (Those of spec are text, written by hand.) To be run when the form of an input
has changed: what it means is at the head of tests/fuzz/NAME.c.

usage: tests/fuzz/seeds.py
"""
import os
import random

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def write(target, name, data):
    os.makedirs(os.path.join(HERE, target), exist_ok=True)
    with open(os.path.join(HERE, target, name), "wb") as f:
        f.write(data)


def le(number, size):
    return number.to_bytes(size, "little")


def world(seed, flags):
    return le(seed, 4) + bytes([flags])


# ---- api: records of operations, whichever they are ----------------------------------

RECORD = 16


def api():
    rng = random.Random(1)
    for i, (flags, operations) in enumerate(
            [(0, 0), (0, 1), (15, 6), (3, 16), (0, 32), (12, 64)]):
        records = bytes(rng.randrange(256) for _ in range(RECORD * (1 + operations)))
        write("api", f"seed{i}", world(i, flags) + records)


# ---- dmirror --------------------------------------------------------------------------

(READ, WRITE, TO_DEV, TO_SYS, SNAPSHOT, EXCLUSIVE, CHECK_EXCLUSIVE, RELEASE,
 FLAGS) = range(9)
HUGE = 16
ANY_REQUEST, ANY_ADDR, ANY_NPAGES, ANY_PTR, ANY_ARG, ARG_IN_ARENA = 1, 2, 4, 8, 16, 32


class Program:
    """Operations of dmirror.c; with huge pages a page has a longer number."""

    def __init__(self, seed, flags, device):
        self.size = 2 if flags & HUGE else 1
        self.data = world(seed, flags) + bytes([device])

    def page(self, number):
        return le(number, self.size)

    def read(self, page):
        self.data += bytes([0]) + self.page(page) + le(0, 2)

    def write(self, page, value):
        self.data += bytes([1]) + self.page(page) + le(0, 2) + le(value, 2)

    def open(self, file, device):
        self.data += bytes([8 | file << 4 | device << 6])

    def call(self, call, page, nr, buffer, file=0):
        self.data += (bytes([10 | file << 4, 0, call]) + self.page(page) +
                      bytes([nr - 1]) + self.page(buffer) + bytes([0, 1]))


def dmirror():
    for name, flags, device in (("private", 0, 0), ("coherent", 15, 2),
                                ("huge", HUGE, 0)):
        p = Program(1, flags, device)
        for i in range(6):
            p.write(i, 1000 + i)
        for call, page, nr, buffer in (
                (READ, 0, 4, 20), (TO_DEV, 0, 6, 20), (SNAPSHOT, 0, 8, 20),
                (WRITE, 1, 2, 20), (READ, 0, 6, 24)):
            p.call(call, page, nr, buffer)
        p.read(1)
        for call, page, nr in ((TO_SYS, 0, 6), (EXCLUSIVE, 2, 2),
                               (CHECK_EXCLUSIVE, 2, 2)):
            p.call(call, page, nr, 20)
        p.write(2, 7)
        p.call(CHECK_EXCLUSIVE, 2, 2, 20)
        p.open(1, 1)
        p.call(TO_DEV, 3, 4, 20, file=1)
        for call, page, nr in ((READ, 3, 4), (FLAGS, 0, 1), (TO_DEV, 0, 2),
                               (RELEASE, 0, 1)):
            p.call(call, page, nr, 20)
        p.read(0)
        write("dmirror", name, p.data)
    # An address that is none, all there is, and a request that nobody knows.
    write("dmirror", "pointers", world(2, 0) + bytes([0]) +
          bytes([10, ANY_ADDR | ANY_PTR | ANY_ARG, READ]) + le(0x7fffffff1000, 8) +
          bytes([1]) + le(2**64 - 1, 8) + le(0, 8) + bytes([1]) +
          bytes([10, ANY_NPAGES, WRITE, 0]) + le(2**52, 8) + bytes([20, 0, 1]) +
          bytes([10, ANY_REQUEST, 0]) + le(2**32 - 1, 4) + bytes([1, 1, 2, 3, 4]))
    # An answer to where nothing may be written any more.
    ask = bytes([10, ARG_IN_ARENA, READ, 0, 0, 20, 0, 3, 0])
    read_only = bytes([4, 0, 3, 0, 0, 1])
    write("dmirror", "answer", world(3, 0) + bytes([0]) + ask + read_only + ask)


# ---- store ----------------------------------------------------------------------------

ZEROS, WORD, NOISE, PART, NEARLY, PATTERN = range(6)
BYTES = 2  # of a driver that keeps more of a page than its bytes, those
COMPACT = bytes([7]) + le(65535, 3)


def put(page, kind, word=0, more=b"", whole=True):
    return (bytes([0, page, int(whole)]) + (b"" if whole else le(16, 2)) +
            bytes([kind]) + (le(word, 8) if kind else b"") + more)


def get(page):
    return bytes([3, page, 0x83, page])


def drop(page):
    return bytes([4, page])


def change(page, how, more, other=0):
    return bytes([5, page, other, BYTES * 4 + how]) + more


def store():
    pages = (put(0, ZEROS) + put(1, WORD, 0x1122334455667788) + put(2, NOISE, 77) +
             put(3, PART, 0x12345) + put(4, NEARLY, 9, le(32, 2) + bytes([7])) +
             put(5, PATTERN, 0xabcdef, bytes([9])) + put(6, NOISE, 5, whole=False))
    look = b"".join(get(i) for i in range(7))
    flips = b"".join(change(i, 0, le(3 * i, 2) + bytes([1 << i])) for i in range(7))
    for device in range(4):
        start = bytes([device]) + pages
        write("store", f"plain{device}",
              start + look + COMPACT + drop(1) + drop(3) + COMPACT + look)
        write("store", f"changed{device}",
              start + flips + look + COMPACT +
              change(2, 1, le(20, 2) + bytes([3]) + b"abc") +
              change(3, 2, le(30, 2) + bytes([0])) + change(4, 0x83, b"", 5) +
              change(2, 3, b"", 6) + look)


if __name__ == "__main__":
    api()
    dmirror()
    store()
