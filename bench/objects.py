# SPDX-License-Identifier: Apache-2.0
"""objects.py NUMBER REQUESTS: a CPython program with many small objects.

A dictionary of NUMBER records, each an object with a string, a list and a tuple. Then
REQUESTS of them are looked up in a random order and some replaced, the garbage collector
goes over all of them, and all are added up. Seeded; see phases.py for what it prints.
"""
import gc
import random
import sys
import zlib


class Record:
    """One of them."""

    __slots__ = ("name", "numbers", "pair")

    def __init__(self, i):
        self.name = f"record {i} of a longer list of records"
        self.numbers = [i, i * 7 % 1009, float(i)]
        self.pair = (i ^ 0x5555, str(i * 31))


def phase(name):
    """Tells that it begins."""
    print("phase", name, flush=True)


def look_up(records, requests, choose):
    """Reads, and one time of eight replaces; returns a sum of what was read."""
    total = 0
    for n in range(requests):
        i = choose.randrange(len(records))
        record = records[f"key {i}"]
        total += record.numbers[1] + len(record.name) + record.pair[0]
        record.numbers[0] += 1
        if n % 8 == 0:
            records[f"key {i}"] = Record(i + n)
    return total


def add_up(records):
    """Of all that there is."""
    total = 0
    for key, record in records.items():
        words = f"{key} {record.name} {record.numbers} {record.pair}"
        total = zlib.crc32(words.encode(), total)
    return total


def main():
    """See the head of the file."""
    number, requests = int(sys.argv[1]), int(sys.argv[2])
    phase("fill")
    records = {f"key {i}": Record(i) for i in range(number)}
    phase("lookup")
    total = look_up(records, requests, random.Random(1))
    phase("collect")
    gc.collect()
    phase("walk")
    total = total * 0x100000000 + add_up(records)
    phase("end")
    print("checksum", f"{total:x}", flush=True)


if __name__ == "__main__":
    main()
