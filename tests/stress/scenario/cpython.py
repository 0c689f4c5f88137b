# SPDX-License-Identifier: Apache-2.0
"""cpython.py N [READS]: a dict of N entries: built, N times read at random, changed,
scanned. Prints checksums."""
import random
import sys
import zlib


def main(nr, reads):
    table = {}
    for i in range(nr):
        table[f"key-{i:08d}"] = (i, f"value {i} of {nr}")
    print("entries", len(table))

    draw = random.Random(1)
    hot = nr // 10  # most reads go to a tenth, as in most tables

    def pick():
        return draw.randrange(hot if draw.randrange(16) else nr)

    crc = 0
    for _ in range(reads):
        i, text = table[f"key-{pick():08d}"]
        crc = zlib.crc32(text.encode(), crc ^ i & 0xFFFFFFFF)
    print("random reads", crc)

    for _ in range(reads // 4):
        key = f"key-{pick():08d}"
        if draw.random() < 0.5:
            table.pop(key, None)
        else:
            table[key] = (draw.randrange(nr), "changed " + key)
    print("entries", len(table))

    crc = 0
    for key, (i, text) in table.items():
        crc = zlib.crc32(f"{key} {i} {text}".encode(), crc)
    print("scan", crc)

    ordered = sorted(list(table)[::8])
    print("sorted", zlib.crc32("".join(ordered).encode()))


main(int(sys.argv[1]), int(sys.argv[-1]))
