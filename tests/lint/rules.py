# SPDX-License-Identifier: Apache-2.0
"""The rules about the tree itself. A rule takes the files and yields violations."""
import re

import layers

COLUMNS = 90
LINES = 700
TAB = 8

# In pieces, so that this file obeys its own rules.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|WI" r"P)\b")
SOMEBODYS = re.compile(r"/(home/(?!\.\.\.)\w|ro" r"ot/|wo" r"rk/|Us" r"ers/)")
SPDX = "SPDX-License-Identifier: Apache-2.0"

NO_SPDX = re.compile(r"\.(md|txt|json|csv|png|svg)$|^LICENSE$")
TEXT_WIDTH = re.compile(r"\.([ch]|sh|py|map|build|scd)$|^Makefile$")


def spdx(files):
    for f in files:
        if NO_SPDX.search(f.path):
            continue
        # The first line, but where that is taken: #! of scripts, scdoc's title.
        taken = 2 if f.path.endswith(".scd") else f.lines[0].startswith("#!")
        if SPDX not in f.lines[min(taken, len(f.lines) - 1)]:
            yield f"{f.path}:1: begins without '{SPDX}'"


def head_comment(files):
    for f in files:
        if f.is_c and not (len(f.lines) > 1 and f.lines[1].startswith("/*")):
            yield f"{f.path}:2: no comment says what the file is"


def unfinished(files):
    for f in files:
        for number, line in enumerate(f.lines, 1):
            found = UNFINISHED.search(line)
            if found:
                yield f"{f.path}:{number}: {found[0]}"


def own_paths(files):
    for f in files:
        for number, line in enumerate(f.lines, 1):
            found = SOMEBODYS.search(line)
            if found:
                yield f"{f.path}:{number}: a path of somebody's machine: {found[0]}"


def width(line):
    return len(line.expandtabs(TAB))


def layout(files):
    for f in files:
        if f.path == "LICENSE":
            continue
        if f.text and not f.text.endswith("\n"):
            yield f"{f.path}: does not end with a line end"
        for number, line in enumerate(f.lines, 1):
            where = f"{f.path}:{number}"
            if line != line.rstrip():
                yield f"{where}: ends with a blank"
            if TEXT_WIDTH.search(f.path) and width(line) > COLUMNS:
                yield f"{where}: {width(line)} columns, at most {COLUMNS}"
            # What follows a comment's star may be set as it likes.
            if f.is_c and re.match(r" (?!\*)|\t* {8,}(?! *\*)", line):
                yield f"{where}: indented by spaces"


def length(files):
    for f in files:
        if f.path != "LICENSE" and len(f.lines) > LINES:
            yield f"{f.path}: {len(f.lines)} lines, at most {LINES}"


def public_headers(files):
    return [f for f in files if re.match(r"include/uhmm/[^/]+\.h$", f.path)]


FUNCTION = re.compile(r"^[a-z][\w \t*]*?\b(uhmm_\w+)\s*\(")


def functions(header):
    """(line number, name, the comment that covers it) of each function declared.

    A comment covers the declarations that follow it up to the next comment or blank line.
    """
    code = header.code().split("\n")
    comment = ""
    inside = False
    for number, line in enumerate(header.lines, 1):
        if inside or line.lstrip().startswith("/*"):
            comment = comment + line if inside else line
            inside = "*/" not in line
            continue
        if not line.strip():
            comment = ""
        found = FUNCTION.match(code[number - 1])
        # What is inline is no symbol.
        if found and not line.startswith("static inline"):
            yield number, found[1], comment


def documented(files):
    for header in public_headers(files):
        for number, name, comment in functions(header):
            if not re.search(r"\bSince \d+\.\d+", comment):
                yield f"{header.path}:{number}: {name}: no comment says since when"


def symbol_map(files):
    declared = {name: f"{h.path}:{number}" for h in public_headers(files)
                for number, name, _ in functions(h)}
    maps = [f for f in files if f.path == "lib/libuhmm.map"]
    mapped = set(re.findall(r"\b(uhmm_\w+);", maps[0].text)) if maps else set()
    for name in sorted(declared.keys() - mapped):
        yield f"{declared[name]}: {name} is not in lib/libuhmm.map"
    for name in sorted(mapped - declared.keys()):
        yield f"lib/libuhmm.map: {name} is in no public header"


def versions(files):
    texts = {f.path: f.text for f in files}
    said = {}
    found = re.search(r"^\tversion: '([\d.]+)'", texts.get("meson.build", ""), re.M)
    said["meson.build"] = found and found[1]
    said["include/uhmm/uhmm.h"] = ".".join(re.findall(
        r"#define UHMM_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)",
        texts.get("include/uhmm/uhmm.h", "")))
    found = re.search(r"^## \[([\d.]+)\]", texts.get("CHANGELOG.md", ""), re.M)
    said["CHANGELOG.md"] = found and found[1]
    if len(set(said.values())) != 1:
        yield "versions differ: " + ", ".join(f"{k} {v}" for k, v in said.items())


def device_folders(files):
    paths = {f.path for f in files}
    names = {p.split("/")[1] for p in paths if re.match(r"devices/[^/]+/", p)}
    for name in sorted(names):
        for want in (f"{name}.c", "meson.build", f"uhmm-{name}.7.scd"):
            if f"devices/{name}/{want}" not in paths:
                yield f"devices/{name}: has no {want}"


RULES = {
    "layers": layers.check,
    "spdx": spdx,
    "head_comment": head_comment,
    "unfinished": unfinished,
    "own_paths": own_paths,
    "layout": layout,
    "length": length,
    "documented": documented,
    "symbol_map": symbol_map,
    "versions": versions,
    "device_folders": device_folders,
}
