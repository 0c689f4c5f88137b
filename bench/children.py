# SPDX-License-Identifier: Apache-2.0
"""Programs that a bench starts, and what becomes of them when it is interrupted.

A bench holds swap devices and cgroups while a program runs. So a signal does not end it
wherever it happens to be: it ends the programs there are, each with all that it has
started, and whoever waits for one is told by Interrupted. What was set up is taken down
on the way out, and nothing else is started meanwhile.
"""
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time


class Interrupted(SystemExit):
    """The bench is to end, as a program ends by a signal."""


class Failed(Exception):
    """A run ended in another way than it should have."""


class Killed(Failed):
    """Somebody killed it: of those with a swap device, the kernel for want of memory."""


class Wrong(Exception):
    """A run's output is not what it should be. Nothing is measured after that."""


class Skip(Exception):
    """It cannot be run here, and why."""


# Exit statuses: of a program that cannot run here, and of one that has seen wrong bytes.
STATUS_SKIP, STATUS_WRONG = 77, 3
# A run that takes longer than this is given up: nobody would wait for it.
SECONDS = 1800


def shown(command):
    """For a message, which may come to lie in a table: without anybody's folders."""
    return " ".join(os.path.basename(word) if word.startswith("/") else word
                    for word in map(str, command))


class Children:
    """Those that run now."""

    def __init__(self):
        self.running, self.signal = set(), None

    def watch_signals(self):
        """Called once, by main()."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.note)

    def note(self, number, _):
        """A signal has come."""
        self.signal = number
        for child in list(self.running):
            child.kill()

    def check(self):
        """Between two programs, or when one has ended."""
        if self.signal is not None:
            raise Interrupted(128 + self.signal)


CHILDREN = Children()


class Child:
    """A program in a process group of its own; as a context, at whose end it is gone."""

    def __init__(self, command, enter=None, **more):
        CHILDREN.check()
        self.command = [str(word) for word in command]
        # What it complains of goes to a file: nobody reads two pipes at a time.
        self.errors, self.usage = tempfile.TemporaryFile(), None
        # pylint: disable=subprocess-popen-preexec-fn,consider-using-with
        self.popen = subprocess.Popen(
            self.command, preexec_fn=enter, start_new_session=True,
            stdout=subprocess.PIPE, stderr=self.errors,
            **{"stdin": subprocess.DEVNULL, **more})
        CHILDREN.running.add(self)
        # One that came before the child was among those that are killed.
        if CHILDREN.signal is not None:
            self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.wait()
        self.popen.stdout.close()
        self.errors.close()
        CHILDREN.running.discard(self)

    def kill(self):
        """It and all that it has started."""
        if self.usage is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, signal.SIGKILL)

    def wait(self):
        """Until it has ended; its exit status as subprocess has it."""
        if self.usage is None:
            _, status, self.usage = os.wait4(self.popen.pid, 0)
            self.popen.returncode = os.waitstatus_to_exitcode(status)
        return self.popen.returncode

    def ends_within(self, seconds):
        """Has it ended, or does it soon? It is not waited for then."""
        for _ in range(int(seconds * 50)):
            if os.waitid(os.P_PID, self.popen.pid,
                         os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
            time.sleep(0.02)
        return False

    def settle(self):
        """Waits for its end; then nothing if it did well, else one of the above."""
        status, name = self.wait(), shown(self.command)
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace").strip()
        CHILDREN.check()
        if status == STATUS_SKIP:
            raise Skip(words)
        if status == STATUS_WRONG:
            raise Wrong(f"{name}: {words}")
        if status == -signal.SIGKILL:
            raise Killed(f"{name}: killed: {words}")
        if status != 0:
            raise Failed(f"{name}: status {status}: {words}")

    def peak(self):
        """Bytes that were resident at most, once it has ended."""
        return self.usage.ru_maxrss * 1024

    def worked(self):
        """Seconds of processors that it has taken, once it has ended."""
        return self.usage.ru_utime + self.usage.ru_stime


class Deadline:
    """Kills programs that nobody would wait for any longer; as a context."""

    def __init__(self, *children, seconds=SECONDS):
        self.children, self.seconds, self.late = children, seconds, False

    def expire(self, *_):
        """They are late."""
        self.late = True
        for child in self.children:
            child.kill()

    def __enter__(self):
        signal.signal(signal.SIGALRM, self.expire)
        signal.alarm(self.seconds)
        return self

    def __exit__(self, *_):
        signal.alarm(0)
        if self.late:
            raise Failed(f"{shown(self.children[0].command)}: not done after "
                         f"{self.seconds} s")


def execute(command, enter=None):
    """What a command prints, or one of the above."""
    with Child(command, enter) as child:
        with Deadline(child):
            out = child.popen.stdout.read()
            child.settle()
    return out.decode()


def end_with(main, name):
    """Calls main(), and ends as it did."""
    CHILDREN.watch_signals()
    try:
        sys.exit(main())
    except (Failed, Wrong) as failure:
        sys.exit(f"{name}: {failure}")
