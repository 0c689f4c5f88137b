# SPDX-License-Identifier: Apache-2.0
"""What side.py, programs.py and scale.py print and write in the same way."""
import json
import math
import os
import platform
import re
import statistics
import sys
import time

MIB = 1 << 20


COLUMNS = 90


def say(text):
    """At once: a run takes long."""
    print(text, file=sys.stderr, flush=True)


def dense(value):
    """As JSON, with as much on a line as there is room for."""
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]",
                  lambda numbers: "[" + " ".join(numbers[1].split()) + "]",
                  json.dumps(value, indent=1))
    return re.sub(r"^( *)(.*)\{\n([^{}]*?)\n\s*\}", fill, text, flags=re.MULTILINE)


def fill(found):
    """An object in which there is no other, on one line or on as few as it takes."""
    members = [line.strip() for line in found[3].split("\n")]
    line = f"{found[1]}{found[2]}{{{' '.join(members)}}}"
    if len(line) < COLUMNS:
        return line
    lines = [f"{found[1]}{found[2]}{{", found[1]]
    for member in members:
        if len(lines[-1]) + len(member) + 1 > COLUMNS and lines[-1].strip():
            lines.append(found[1])
        lines[-1] += " " + member
    return "\n".join(lines) + "}"


def machine():
    """This machine in a few words."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file
                  if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"kernel": platform.release(), "processor": models[0] if models else "?",
            "processors": os.cpu_count(), "memory_mib": pages // MIB,
            "load": os.getloadavg()[0], "when": time.strftime("%Y-%m-%d")}


def described(here):
    """What machine() has, as a sentence of Markdown."""
    return (f"Linux {here['kernel']}, {here['processors']} x {here['processor']}, "
            f"{here['memory_mib'] / 1024:.0f} GiB, {here['when']}.")


def markdown(head, rows):
    """A table; the first column is words, the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return lines + ["| " + " | ".join(cells) + " |" for cells in rows]


def ratio(ours, theirs):
    """The median of the ratios of each round; None: there is none to be had."""
    ratios = [a / b for a, b in zip(ours or [], theirs or []) if b > 0]
    return statistics.median(ratios) if ratios else None


def geometric_mean(ratios):
    """Of those there are; None if there is none."""
    there = [ratio for ratio in ratios if ratio]
    return math.exp(sum(map(math.log, there)) / len(there)) if there else None


def number(value, digits=2):
    """As a cell of a table; empty if there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def write(folder, name, text, data):
    """NAME.md and NAME.json."""
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / f"{name}.json").write_text(dense(data) + "\n", encoding="utf-8")
