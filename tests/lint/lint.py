#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the rules about the tree, and that each rule sees what it is there for.

usage: lint.py [ROOT]

Output is TAP: a point for each rule on the tree, and one for each violation planted in
a copy of the tree, which must be reported for the planted file and was not before.
"""
import os
import shutil
import sys
import tempfile

import rules
import tree

HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/* Planted. */\n"
UHMM_H = "include/uhmm/uhmm.h"


def append(text):
    return lambda old: old + text


def replace(what, by):
    def change(old):
        if what not in old:
            raise ValueError(f"'{what}' is not there to be replaced")
        return old.replace(what, by, 1)
    return change


# rule, what is planted, file (made if it is not there), how its text changes
PLANTED = [
    ("layers", "an include of a lower layer", "lib/page_planted.c",
     append(HEAD + '#include "lib/migrate.h"\n')),
    ("layers", "a system header in the core", "lib/frame_planted.c",
     append(HEAD + "#include <unistd.h>\n")),
    ("layers", "a system call in the core", "lib/reclaim_planted.c",
     append(HEAD + "void f(void)\n{\n\tmunmap(0, 0);\n}\n")),
    ("layers", "an include of the core in a driver", "devices/ram/planted.c",
     append(HEAD + '#include "lib/page.h"\n')),
    ("layers", "an include of the core in the command", "cmd/planted.c",
     append(HEAD + '#include "lib/os/os.h"\n')),
    ("layers", "an include of the core in an example", "examples/planted.c",
     append(HEAD + '#include "lib/types.h"\n')),
    ("layers", "a file without a layer", "lib/nowhere.c", append(HEAD)),
    ("spdx", "a source file without licence", "lib/page_planted.c",
     append("/* Planted. */\n")),
    ("spdx", "a script without licence", "scripts/planted.sh", append("#!/bin/sh\n:\n")),
    ("head_comment", "a file that does not say what it is", "cmd/planted.c",
     append(HEAD.split("\n")[0] + "\n\nint planted;\n")),
    ("unfinished", "a note that work is missing", "lib/page_planted.c",
     append(HEAD + "/* TO" "DO */\n")),
    ("own_paths", "a home directory", "README.md", append("See /ho" "me/me/uhmm.\n")),
    ("layout", "a line too wide", "lib/page_planted.c",
     append(HEAD + "\t/* " + "x" * 80 + " */\n")),
    ("layout", "a blank at a line's end", "Makefile", append("x: \n")),
    ("layout", "indentation by spaces", "lib/page_planted.c",
     append(HEAD + "void f(void)\n{\n        f();\n}\n")),
    ("layout", "no line end at the end", "README.md", append("planted")),
    ("length", "a file too long", "cmd/planted.c", append(HEAD + "\n" * 700)),
    ("documented", "a public function without Since", UHMM_H,
     replace("#pragma GCC visibility pop",
             "/* Planted. */\nint uhmm_planted(void);\n\n#pragma GCC visibility pop")),
    ("symbol_map", "a public function that is not exported", UHMM_H,
     replace("#pragma GCC visibility pop",
             "int uhmm_planted(void);\n\n#pragma GCC visibility pop")),
    ("symbol_map", "an export that is not public", "lib/libuhmm.map",
     replace("global:", "global:\n\tuhmm_planted;")),
    ("versions", "a version changed in one place", UHMM_H,
     replace("#define UHMM_VERSION_MINOR 1", "#define UHMM_VERSION_MINOR 97")),
    ("device_folders", "a driver without its man page", "devices/planted/planted.c",
     append(HEAD)),
]


class Tap:
    def __init__(self, plan):
        self.number = self.failed = 0
        print(f"TAP version 13\n1..{plan}")

    def point(self, name, why):
        self.number += 1
        self.failed += bool(why)
        print(f"{'not ' if why else ''}ok {self.number} - {name}")
        for line in why:
            print(f"# {line}")
        sys.stdout.flush()


def copy_tree(root, to):
    for f in tree.load(root):
        path = os.path.join(to, f.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(os.path.join(root, f.path), path)


def plant(copy, path, change):
    """Changes a file of the copy; returns a function that undoes it."""
    full = os.path.join(copy, path)
    old = None
    if os.path.exists(full):
        with open(full, encoding="utf-8") as f:
            old = f.read()
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as f:
        f.write(change(old or ""))

    def undo():
        os.remove(full)
        if old is not None:
            with open(full, "w", encoding="utf-8") as f:
                f.write(old)
    return undo


def sees(copy, rule, path, change):
    """What is wrong with how the rule takes the violation; empty if it reports it."""
    before = set(rule(tree.load(copy)))
    undo = plant(copy, path, change)
    try:
        new = set(rule(tree.load(copy))) - before
    finally:
        undo()
    name = path.split("/")[1] if path.startswith("devices/planted") else path
    if not any(name in violation for violation in new):
        return [f"nothing was reported for {path}, but: {sorted(new)}"]
    return []


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "..", "..")
    tap = Tap(len(rules.RULES) + len(PLANTED))
    files = tree.load(root)
    for name, rule in rules.RULES.items():
        tap.point(name, list(rule(files)))
    with tempfile.TemporaryDirectory(prefix="uhmm-lint-") as copy:
        copy_tree(root, copy)
        for name, what, path, change in PLANTED:
            tap.point(f"{name} sees {what}", sees(copy, rules.RULES[name], path, change))
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
