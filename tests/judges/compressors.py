# SPDX-License-Identifier: Apache-2.0
"""zstd and lz4: the fuzzers that come with their sources, which first run their unit
tests. Each compresses and decompresses random data, with a fixed seed, by every function
of the library, and compares what comes out."""
import os
import re

import judge

# test 12 : what it does : OK (with some numbers)
TEST = re.compile(r"^ *test *(\d+) *: *(.*?) *: *(.*)$", re.I)


def verdicts(output):
    pairs = []
    for line in re.split(r"[\r\n]", output):
        found = TEST.match(line)
        if found:
            bad = re.search(r"error|fail|not ok", found[3], re.I)
            pairs.append((f"{found[1]} {found[2]}", found[3] if bad else "ok"))
        elif re.search(r"completed", line):
            pairs.append((re.sub(r" +", " ", line.strip()), "ok"))
        elif re.search(r"^ *(error|fail)", line, re.I):
            pairs.append((line.strip(), "failed"))
    return judge.once_each(pairs)


class Compressor:
    def __init__(self, package, parts, short):
        self.package = package
        self.commands = parts
        self.PARTS = list(parts)
        self.SHORT = short

    def prepare(self, cache):
        judge.tools_missing("make", "cc")
        source = judge.fetch(self.package, cache)
        programs = sorted({words.split()[0] for words in self.commands.values()})
        judge.build(source, [["make", f"-j{os.cpu_count()}", "-C", "tests", *programs,
                              "MOREFLAGS=-O1 -g0"]],
                    [f"tests/{program}" for program in programs])
        return source

    def part(self, name, source):
        program, *arguments = self.commands[name].split()
        return judge.Part(name, [f"{source}/tests/{program}", *arguments], verdicts)


ZSTD = Compressor("libzstd", {
    "fuzzer": "fuzzer -v -s1 -i200",
    "zstreamtest": "zstreamtest -v -s1 -i200",
    "zstreamtest newapi": "zstreamtest -v --newapi -s1 -i200",
}, ["fuzzer", "zstreamtest"])
LZ4 = Compressor("lz4", {
    "frametest": "frametest -v -s1 -i2000",
}, ["frametest"])
