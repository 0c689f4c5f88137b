#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""chart.py RESULTS.json OUT.svg: a chart of what side.py, programs.py or scale.py found.

Panels, in each groups of bars, a bar for a system: the median of all rounds, and from
the quickest to the slowest round as a line. The scale is logarithmic, as what is in
memory and what is not lie three powers of ten apart. Of access.json a panel is a case
and a group a pattern, of programs.json a percentage and a program, and of scale.json a
pattern and a size.
"""
import json
import math
import statistics
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

COLOURS = {"none": "#9aa0a6", "zram": "#d98324", "swapfile": "#b3563b",
           "run": "#1f6f8b", "guarded": "#6a994e", "inline": "#2a9d6f",
           "thread": "#7a5ea8"}
LEFT, BAR, GAP, WIDTH, HEAD = 100, 11, 9, 560, 44


class Scale:
    """Numbers to a place, by powers of ten."""

    def __init__(self, numbers):
        self.low = math.floor(math.log10(min(numbers)))
        self.high = math.ceil(math.log10(max(numbers)))

    def x(self, value):
        """In pixels."""
        share = (math.log10(max(value, 10 ** self.low)) - self.low)
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


def times(factor):
    """A ratio as people write it."""
    return f"{factor:g} times"


class Panel:
    """title; named: a number in words; groups: group -> system -> numbers."""

    def __init__(self, title, named_as, groups):
        self.title, self.named = title, named_as
        # A system is left out of a panel that has nothing of it, a group likewise.
        self.groups = {group: systems for group, systems in groups.items() if systems}
        self.systems = [name for name in COLOURS
                        if any(name in systems for systems in self.groups.values())]

    def numbers(self):
        """All."""
        return [max(number, 1e-3) for systems in self.groups.values()
                for numbers in systems.values() for number in numbers]


def of_access(data):
    """side.py's."""
    for case in data["cases"]:
        title = (f"{case['size_mib']} MiB, content {case['content']}, "
                 f"{case['threads']} thread(s); {case['limit_bytes'] >> 20} MiB of pages "
                 f"in memory, {case['budget_bytes'] >> 20} MiB with the compressed ones")
        groups = {}
        for system, patterns in case["results"].items():
            for pattern, fields in patterns.items():
                groups.setdefault(pattern, {})[system] = [
                    max(ns, 1.0) for ns in fields["wall_ns"]]
        yield Panel(title, named, groups)


def of_programs(data):
    """programs.py's: each round's time by the time without a limit in that round."""
    percents = dict.fromkeys(case["percent"] for program in data["programs"]
                             for case in program["cases"])
    for percent in percents:
        groups = {}
        for program in data["programs"]:
            none = program["none"]["wall_s"]
            for case in program["cases"]:
                if case["percent"] == percent:
                    groups[program["name"]] = {
                        name: [a / b for a, b in zip(series["wall_s"], none) if b > 0]
                        for name, series in case["results"].items()}
        yield Panel(f"Whole programs at {percent} % of their peak: times as long as "
                    "without a limit", times, groups)


def of_scale(data):
    """scale.py's part size."""
    patterns = {}
    for row in data["parts"].get("size", {}).get("rows", []):
        patterns.setdefault(row["pattern"], {}).setdefault(
            f"{row['mib']} MiB", {})[row["system"]] = [max(ns, 1.0)
                                                       for ns in row["values"]]
    for pattern, groups in patterns.items():
        yield Panel(f"{pattern}, half of the region in memory", named, groups)


def panels(data):
    """Of whichever file it is; those that have something in them."""
    of = of_access if "cases" in data else of_programs if "programs" in data else of_scale
    return [panel for panel in of(data) if panel.numbers()]


def draw_panel(parent, panel, top):
    """One; returns where it ends."""
    systems, scale = panel.systems, Scale(panel.numbers())
    height = len(panel.groups) * (len(systems) * BAR + GAP)
    text(parent, LEFT, top + 14, panel.title)
    x = LEFT
    for name in systems:
        xml.SubElement(parent, "rect", x=f"{x}", y=f"{top + 22}", width="10",
                       height="10", fill=COLOURS[name])
        text(parent, x + 14, top + 31, name)
        x += 80
    y = top + HEAD
    for tick in scale.ticks():
        line(parent, scale.x(tick), scale.x(tick), y, y + height, "#dddddd")
        text(parent, scale.x(tick) - 12, y + height + 12, panel.named(tick))
    for group, by_system in panel.groups.items():
        text(parent, LEFT - 8, y + (len(systems) * BAR + GAP) / 2, group,
             **{"text-anchor": "end"})
        for name in systems:
            if numbers := by_system.get(name):
                middle = y + BAR / 2
                bar = scale.x(statistics.median(numbers)) - LEFT
                xml.SubElement(parent, "rect", x=f"{LEFT}", y=f"{y}", height=f"{BAR - 1}",
                               width=f"{max(bar, 1):.1f}", fill=COLOURS[name])
                line(parent, scale.x(min(numbers)), scale.x(max(numbers)), middle,
                     middle, "#222222")
            y += BAR
        y += GAP
    return y + 36


def draw(data):
    """The whole chart."""
    root = xml.Element("svg", xmlns="http://www.w3.org/2000/svg",
                       **{"font-family": "sans-serif", "font-size": "11"})
    back = xml.SubElement(root, "rect", width="100%", height="100%", fill="#ffffff")
    here = data["machine"]
    text(root, 12, 18, f"Median of {data['rounds']} rounds; Linux "
         f"{here['kernel']}, {here['processors']} x {here['processor']}, {here['when']}")
    top = 32
    for panel in panels(data):
        top = draw_panel(root, panel, top)
    root.set("viewBox", f"0 0 {LEFT + WIDTH + 60} {top}")
    back.set("height", str(top))
    return xml.ElementTree(root)


def main():
    """See the head of the file."""
    if len(sys.argv) != 3:
        sys.exit("usage: chart.py RESULTS.json OUT.svg")
    tree = draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    xml.indent(tree)
    with open(sys.argv[2], "wb") as file:
        tree.write(file, encoding="utf-8", xml_declaration=True)
        file.write(b"\n")


if __name__ == "__main__":
    main()
