#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program that `make demo` runs: keeps a text in memory and answers queries about it.

usage: demo-table.py TEXT

A dict of every line of TEXT under its place ("line 4711"), then queries as a server
sees them: most are for a small part of the table, one in thirty for any of it. What was
found is printed, so that two runs can be compared byte by byte. It knows nothing of
uhmm.
"""
import random
import sys

QUERIES = 300000
HOT = 0.05


def main():
    table = {}
    with open(sys.argv[1], encoding="latin-1") as text:
        for number, line in enumerate(text):
            table[f"line {number}"] = line
    choose = random.Random(7)
    for _ in range(QUERIES):
        part = 1 if choose.random() < 1 / 30 else HOT
        number = int(choose.random() * len(table) * part)
        print(number, table[f"line {number}"], end="")
    print(len(table), "lines")


main()
