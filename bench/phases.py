# SPDX-License-Identifier: Apache-2.0
"""How long a program takes, phase by phase, so that what counts is told from the rest.

A program says on its standard output, a line each, unbuffered:

    phase NAME [SECONDS]   that a phase begins, and with it the one before ends;
                           seconds of processors that it has taken itself until then,
                           where it is not what is measured
    checksum WORD          of all that it has computed

Before its first line it is in phase "start", and with "phase end" what is measured is
over. By the clock, and of all processors for whatever was done: kernel threads that
compress or swap count, who looks on does not (this process, and a client of a server).
"""
import hashlib
import os
import time

from children import STATUS_WRONG, Child, Deadline, Failed

TICK = os.sysconf("SC_CLK_TCK")


def machine_worked():
    """Seconds: all but idle, waiting for disks, and other guests'."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICK


class Phases:
    """Those of a run: name -> (seconds by the clock, seconds of processors)."""

    def __init__(self):
        self.times, self.name, self.checksum, self.peak = {}, None, None, 0
        self.began, self.others = (0.0, 0.0), 0.0
        self.begin("start")

    def begin(self, name, others=None):
        """A phase; others: seconds of processors that count for nobody, until now."""
        self.others = self.others if others is None else others
        now = (time.monotonic(), machine_worked() - time.process_time() - self.others)
        if self.name:
            self.times[self.name] = tuple(b - a for a, b in zip(self.began, now))
        self.name, self.began = name, now

    def line(self, text):
        """One that the program has printed; False: it means nothing."""
        words = text.split()
        if words[:1] == ["phase"] and len(words) > 1:
            self.begin(words[1], float(words[2]) if len(words) > 2 else None)
        elif words[:1] == ["checksum"] and len(words) == 2:
            self.checksum = words[1]
        else:
            return False
        return True

    def end(self, child):
        """It is over, and a child is what was measured."""
        self.begin("")
        if self.checksum is None:
            raise Failed(f"{' '.join(child.command)}: it has printed no checksum")
        self.peak = child.peak()
        return self

    def sum(self, names):
        """Of some phases: seconds by the clock, and of processors."""
        return tuple(sum(self.times[name][i] for name in names) for i in (0, 1))

    def whole(self):
        """From the start to the end of the process."""
        return self.sum(self.times)


def run_program(command, place):
    """A program that says itself which phase it is in."""
    phases = Phases()
    with Child(place.command(command), place.enter) as child, Deadline(child):
        for line in child.popen.stdout:
            phases.line(line.decode())
        child.settle()
        return phases.end(child)


def run_filter(command, place, path):
    """One that reads a file and of which all that it prints is its result."""
    digest, phases = hashlib.sha256(), Phases()
    with open(path, "rb") as file:
        with Child(place.command(command), place.enter, stdin=file) as child, \
                Deadline(child):
            phases.begin("run")
            while block := child.popen.stdout.read1(1 << 20):
                digest.update(block)
            child.settle()
            phases.checksum = digest.hexdigest()[:16]
            return phases.end(child)


def run_server(command, place, client):
    """A server that is measured, and its client, which tells the phases and is not."""
    phases = Phases()
    with Child(place.command(command), place.enter) as server, Child(client) as asking, \
            Deadline(server, asking):
        for line in asking.popen.stdout:
            phases.line(line.decode())
        # A client whose server has gone says only that.
        status = asking.wait()
        if status == STATUS_WRONG or (status != 0 and not server.ends_within(5)):
            asking.settle()
        server.settle()
        asking.settle()
        return phases.end(server)
