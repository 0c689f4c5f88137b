# SPDX-License-Identifier: Apache-2.0
"""A copy of the source, built, of which one file at a time is changed."""
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Program(NamedTuple):
    """A test program, as Meson has it registered."""

    name: str
    suite: str
    path: Path
    args: list
    env: dict


class Tree:
    """Source and build, in the folder `work`; both stay there for the next time."""

    def __init__(self, work):
        self.source, self.build = work / "src", work / "build"
        self.env = dict(os.environ, UHMM_BUILD=str(self.build),
                        UHMM_SOURCE=str(self.source))

        self.notes = work / "seconds.json"
        self.seconds = {}  # how long each program took when it last passed

    def make(self):
        """Copies what is not ignored by git, and builds all of it."""
        names = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"],
                               cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        for name in filter(None, names.decode().split("\0")):
            self.copy(ROOT / name, self.source / name)
        if not (self.build / "build.ninja").exists():
            self.quiet(["meson", "setup", str(self.build), str(self.source),
                        "-Dtests=true"])
        self.ninja([])
        if self.notes.exists():
            self.seconds = json.loads(self.notes.read_text())

    def note(self):
        """For the next time."""
        self.notes.write_text(json.dumps(self.seconds, indent=1))

    @staticmethod
    def copy(new, to):
        """What is the same keeps its time, and is not compiled again."""
        if not new.is_file():
            to.unlink(missing_ok=True)
        elif not to.exists() or to.read_bytes() != new.read_bytes():
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(new, to)
            shutil.copymode(new, to)

    def quiet(self, command):
        """Runs what has to succeed; says nothing if it does. What it has printed."""
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env=self.env, check=False)
        out = run.stdout.decode(errors="replace")
        if run.returncode:
            sys.exit(f"{' '.join(command)}: status {run.returncode}\n{out[-2000:]}")
        return out

    def ninja(self, targets):
        """Builds these, or everything."""
        self.quiet(["ninja", "-C", str(self.build)] + targets)

    def programs(self):
        """The compiled test programs. Scripts fetch things, or look at the source."""
        found = []
        for test in json.loads(self.quiet(["meson", "introspect", "--tests",
                                           str(self.build)])):
            path = Path(test["cmd"][0])
            suite = test["suite"][0].split(":")[-1]
            if self.build in path.parents:
                found.append(Program(test["name"], suite, path, test["cmd"][1:],
                                     dict(self.env, **test["env"])))
        return found

    def digests(self):
        """Of each test program, and of what there is beside them: what it is now."""
        paths = [p.path for p in self.programs()] + list(self.build.glob("*.so*"))
        paths.append(self.build / "uhmm")
        return {path: hashlib.sha256(path.read_bytes()).digest() for path in paths
                if path.is_file()}

    @contextlib.contextmanager
    def planted(self, mutant):
        """With this bug in the source, which is not built yet."""
        path = self.source / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            sys.exit(f"{mutant.name}: is to be planted anew: {mutant.file} has its text "
                     f"{text.count(mutant.old)} times")
        path.write_text(text.replace(mutant.old, mutant.new))
        try:
            yield
        finally:
            path.write_text(text)
