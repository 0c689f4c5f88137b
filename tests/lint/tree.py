# SPDX-License-Identifier: Apache-2.0
"""The tree as the rules see it: its files, and C without comments and strings."""
import os
import re

SKIP_DIRS = re.compile(r"^(\.git|\.cache|build|build-.*|__pycache__)$")
# Inputs of fuzz targets and recorded traces are bytes, and no source.
SKIP_PATHS = re.compile(r"^(tests/fuzz/(corpus|found)|bench/policy/traces)/")
C_TOKEN = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)


def blank(text):
    """Spaces for everything but line ends, so that places stay where they were."""
    return re.sub(r"[^\n]", " ", text)


class File:
    def __init__(self, root, path):
        self.path = path
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
            self.text = f.read()
        self.lines = self.text.split("\n")

    @property
    def is_c(self):
        return self.path.endswith((".c", ".h"))

    def code(self):
        """The text without comments, and without what stands in quotes."""
        def replace(token):
            if token[0][0] == "/":
                return blank(token[0])
            return token[0][0] + blank(token[0][1:-1]) + token[0][0]
        return C_TOKEN.sub(replace, self.text)

    def includes(self):
        """(line number, text between the quotes or brackets, whether quoted)"""
        for number, line in enumerate(self.lines, 1):
            found = re.match(r'\s*#\s*include\s+(["<])([^">]+)', line)
            if found:
                yield number, found[2], found[1] == '"'


def load(root):
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(d for d in folders if not SKIP_DIRS.match(d))
        for name in sorted(names):
            if name == ".git":  # of a second working tree
                continue
            path = os.path.join(folder, name)
            if SKIP_PATHS.match(os.path.relpath(path, root)):
                continue
            if os.path.isfile(path) and not name.endswith(("~", ".swp", ".pyc")):
                files.append(File(root, os.path.relpath(path, root)))
    return files
