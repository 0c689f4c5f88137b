#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""chart.py access.json OUT.svg: a chart of what side.py has measured.

A panel for each case and in it a group of bars for each pattern: the median time of an
access in each system, and from the quickest to the slowest round as a line. The scale
is logarithmic, as what is in memory and what is not lie three powers of ten apart.
"""
import json
import math
import statistics
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

COLOURS = {"none": "#9aa0a6", "zram": "#d98324", "swapfile": "#b3563b",
           "run": "#1f6f8b", "inline": "#2a9d6f", "thread": "#7a5ea8"}
LEFT, BAR, GAP, WIDTH, HEAD = 90, 11, 9, 560, 44


class Scale:
    """Nanoseconds to a place, by powers of ten."""

    def __init__(self, numbers):
        self.low = math.floor(math.log10(min(numbers)))
        self.high = math.ceil(math.log10(max(numbers)))

    def x(self, ns):
        """In pixels."""
        share = (math.log10(max(ns, 10 ** self.low)) - self.low)
        return LEFT + WIDTH * share / max(self.high - self.low, 1)

    def ticks(self):
        """Powers of ten."""
        return [10 ** n for n in range(self.low, self.high + 1)]


def text(parent, x, y, words, **more):
    """A line of text."""
    node = xml.SubElement(parent, "text", x=f"{x:.1f}", y=f"{y:.1f}", **more)
    node.text = words


def line(parent, x1, x2, y1, y2, colour):
    """A line."""
    xml.SubElement(parent, "line", x1=f"{x1:.1f}", x2=f"{x2:.1f}", y1=f"{y1:.1f}",
                   y2=f"{y2:.1f}", stroke=colour)


def named(ns):
    """A time as people write it."""
    return f"{ns:g} ns" if ns < 1000 else f"{ns / 1000:g} us"


def panel(parent, case, top):
    """One case; returns where it ends."""
    results = case["results"]
    systems = [name for name in COLOURS if name in results]
    patterns = list(results[systems[0]])
    times = {(s, p): results[s][p]["wall_ns"] for s in systems for p in patterns}
    scale = Scale([max(ns, 1.0) for all_ns in times.values() for ns in all_ns])
    height = len(patterns) * (len(systems) * BAR + GAP)
    text(parent, LEFT, top + 14, f"{case['size_mib']} MiB, content {case['content']}, "
         f"{case['threads']} thread(s); {case['limit_bytes'] >> 20} MiB of pages in "
         f"memory, {case['budget_bytes'] >> 20} MiB with the compressed ones")
    x = LEFT
    for name in systems:
        xml.SubElement(parent, "rect", x=f"{x}", y=f"{top + 22}", width="10",
                       height="10", fill=COLOURS[name])
        text(parent, x + 14, top + 31, name)
        x += 80
    y = top + HEAD
    for tick in scale.ticks():
        line(parent, scale.x(tick), scale.x(tick), y, y + height, "#dddddd")
        text(parent, scale.x(tick) - 12, y + height + 12, named(tick))
    for pattern in patterns:
        text(parent, LEFT - 8, y + (len(systems) * BAR + GAP) / 2, pattern,
             **{"text-anchor": "end"})
        for name in systems:
            all_ns, middle = times[name, pattern], y + BAR / 2
            bar = scale.x(statistics.median(all_ns)) - LEFT
            xml.SubElement(parent, "rect", x=f"{LEFT}", y=f"{y}", height=f"{BAR - 1}",
                           width=f"{max(bar, 1):.1f}", fill=COLOURS[name])
            line(parent, scale.x(min(all_ns)), scale.x(max(all_ns)), middle, middle,
                 "#222222")
            y += BAR
        y += GAP
    return y + 36


def draw(data):
    """The whole chart."""
    root = xml.Element("svg", xmlns="http://www.w3.org/2000/svg",
                       **{"font-family": "sans-serif", "font-size": "11"})
    back = xml.SubElement(root, "rect", width="100%", height="100%", fill="#ffffff")
    here = data["machine"]
    text(root, 12, 18, f"Time of an access, median of {data['rounds']} rounds; Linux "
         f"{here['kernel']}, {here['processors']} x {here['processor']}, {here['when']}")
    top = 32
    for case in data["cases"]:
        if case["results"]:
            top = panel(root, case, top)
    root.set("viewBox", f"0 0 {LEFT + WIDTH + 60} {top}")
    back.set("height", str(top))
    return xml.ElementTree(root)


def main():
    """See the head of the file."""
    if len(sys.argv) != 3:
        sys.exit("usage: chart.py access.json OUT.svg")
    tree = draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    xml.indent(tree)
    with open(sys.argv[2], "wb") as file:
        tree.write(file, encoding="utf-8", xml_declaration=True)
        file.write(b"\n")


if __name__ == "__main__":
    main()
