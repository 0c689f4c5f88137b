#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hmm_tests.py [--repeat N] [--version V] [--cache DIR] BUILD

The kernel's own test of its HMM test device, unmodified, under `uhmm dmirror`: fetched
(fetch.sh), compiled, run, and judged. Output is TAP, a point for each of its tests.

A test of the kernel passes by its own account also where it could not open the device.
So each is judged by what it did as well: the trace of `uhmm dmirror` says what was opened
and called between the lines with which the harness begins and ends a test.

Skipped may be what needs huge pages of hugetlbfs, which are allocated for the run where
that is permitted, and what needs the kernel's gup_test.
"""
import argparse
import functools
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))

# The tests of Linux 6.1 and 6.12; each with private devices, and with coherent ones.
ONE_DEVICE = """
open_close anon_read anon_read_prot anon_write anon_write_prot anon_write_child
anon_write_child_shared anon_write_huge anon_write_hugetlbfs file_read file_write migrate
migrate_file_private migrate_fault migrate_release migrate_shared migrate_multiple
anon_read_multiple anon_teardown mixedmap compound exclusive exclusive_mprotect
exclusive_cow hmm_gup_test hmm_cow_in_device
""".split()
TWO_DEVICES = "migrate_mixed snapshot double_map".split()
# Linux 7.2 has these too. The last is no test, and takes a minute.
SINCE_7_2 = """
migrate_anon_huge_empty migrate_anon_huge_zero migrate_anon_huge_free
migrate_anon_huge_fault migrate_partial_unmap_fault migrate_remap_fault
migrate_anon_huge_err migrate_anon_huge_zero_err benchmark_thp_migration
""".split()
DEVICES = {"hmm.hmm_device_private": [0], "hmm.hmm_device_coherent": [2],
           "hmm2.hmm2_device_private": [0, 1], "hmm2.hmm2_device_coherent": [2, 3]}
# What it is compiled with besides.
SOURCES = {"7.2": ["vm_util.c", "hugepage_settings.c"]}

NEEDS_HUGETLB = ("anon_write_hugetlbfs", "compound")
NEEDS_GUP_TEST = ("hmm_gup_test",)
# What a test says that read a page that was never written, and found another there.
WANTS_ZERO_PAGE = "Expected m[2] (1) == HMM_DMIRROR_PROT_ZERO"
GUP_TEST = "/sys/kernel/debug/gup_test"
NR_HUGEPAGES = "/proc/sys/vm/nr_hugepages"
# What the two tests ask for, a few times over: another test may have some.
HUGEPAGES = 16

# Its own limit is 30 s a test, and none takes a second.
TIMEOUT_S = 600
LINES_MAX = 20000


def names_of(version):
    one = ONE_DEVICE + (SINCE_7_2 if version == "7.2" else [])
    return [f"{variant}.{test}" for variant in DEVICES
            for test in (one if variant.startswith("hmm.") else TWO_DEVICES)]


def compile_tests(source, version, out):
    selftests = f"{source}/tools/testing/selftests"
    folder = next(f"{selftests}/{f}" for f in ("mm", "vm") if os.path.exists(
        f"{selftests}/{f}/hmm-tests.c"))
    done = subprocess.run(
        ["cc", "-w", "-D_GNU_SOURCE=", "-I", source, "-I", selftests,
         "-isystem", f"{source}/tools/include/uapi", f"{folder}/hmm-tests.c",
         *(f"{folder}/{f}" for f in SOURCES.get(version, [])), "-o", out,
         "-lpthread"], capture_output=True, text=True)
    return done.stderr if done.returncode else None


class HugePages:
    """Some more for the time of the run, and back to what it was."""
    def __enter__(self):
        self.before = self.now = None
        try:
            with open(NR_HUGEPAGES) as f:
                self.before = int(f.read())
            self.set(self.before + HUGEPAGES)
            with open(NR_HUGEPAGES) as f:
                self.now = int(f.read())
        except OSError as e:
            self.why = f"huge pages cannot be allocated: {e.strerror}"
        else:
            self.why = f"the machine has no {HUGEPAGES} huge pages to spare"
        return self

    def set(self, n):
        with open(NR_HUGEPAGES, "w") as f:
            f.write(str(n))

    def there(self):
        return self.now is not None and self.now >= self.before + HUGEPAGES

    def __exit__(self, *exception):
        if self.now is not None:
            self.set(self.before)


def read(pipe, lines):
    """What comes out of it. A test that fails says so over and over, for 30 s, by a
    mistake of its harness: the same line twice in a row is kept once."""
    last = None
    for line in pipe:
        if line != last and len(lines) < LINES_MAX:
            lines.append(line.rstrip("\n"))
        last = line


def run(command):
    """The lines that it wrote, errors and trace in their order; and how it ended."""
    lines = []
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, errors="replace",
                             start_new_session=True)
    reader = threading.Thread(target=read, args=(child.stdout, lines))
    reader.start()
    try:
        status = child.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        status = "timeout"
    end_session(child.pid)
    child.wait()
    reader.join()
    return lines, status


def end_session(session):
    """Kills what is left of it. The harness makes a process group of each test."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            if int(fields[3]) == session:
                os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass


def sections(output):
    """{test: the lines between its RUN and its verdict}, {test: its verdict}"""
    lines, verdicts, current = {}, {}, None
    for line in output:
        begun = re.match(r"# +RUN +(\S+)", line)
        ended = re.match(r"# +(OK|FAIL) +(\S+)$", line)
        if begun:
            current = begun[1]
            lines[current] = []
        elif ended:
            verdicts[ended[2]] = ended[1]
            current = None
        elif current:
            lines[current].append(line)
    return lines, verdicts


@functools.cache
def has_zero_page():
    """Memory that is only read takes none: some virtual machines' kernels have no page
    of zeros that all share."""
    size = 32 << 20
    area = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)

    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * mmap.PAGESIZE

    before = resident()
    for at in range(0, size, mmap.PAGESIZE):
        assert area[at] == 0
    return resident() - before < size // 2


def judge(name, lines, verdict, huge):
    """(passed, skipped because or None, why not)"""
    if verdict is None:
        return False, None, "it was not run, or did not end"
    variant, test = name.rsplit(".", 1)
    opened = {int(n) for n in re.findall(r"^\d+ open /dev/hmm_dmirror(\d) = \d",
                                         "\n".join(lines), re.M)}
    called = sum(" ioctl " in line for line in lines)
    skip = next((line for line in lines if re.match(r"# +SKIP", line)), None)
    missing = set(DEVICES[variant]) - opened
    if verdict != "OK" and not has_zero_page() and any(WANTS_ZERO_PAGE in line
                                                       for line in lines):
        return True, "the kernel has no page of zeros for everybody", None
    if verdict != "OK":
        return False, None, "it says that it failed"
    if missing:
        return False, None, f"it has not opened device {min(missing)}"
    if skip:
        if test in NEEDS_HUGETLB and not huge.there():
            return True, huge.why, None
        if test in NEEDS_GUP_TEST and not os.path.exists(GUP_TEST):
            return True, f"the kernel has no {GUP_TEST}", None
        return False, None, f"skipped: {skip.lstrip('# ')}"
    if not called and test != "open_close":
        return False, None, "it has not called its device"
    return True, None, None


def forbidden(build):
    """Why nobody can have a space here, or None."""
    said = subprocess.run([f"{build}/uhmm", "doctor", "--json"], capture_output=True,
                          text=True).stdout
    if json.loads(said)["library_thread"]:
        return None
    return "this machine does not permit userfaultfd: see uhmm doctor"


def all_of(names, skip=None, wrong=None):
    """The same for each test. Whether that is a failure."""
    for number, name in enumerate(names, 1):
        if skip:
            print(f"ok {number} - {name} # SKIP {skip}")
        else:
            print(f"not ok {number} - {name}\n# {wrong}")
    return wrong is not None


def point(number, name, failures, skip):
    if failures:
        print(f"not ok {number} - {name}")
        for why, lines in failures:
            print(f"# {why}")
            for line in lines[-12:]:
                print(f"#   {line[:160]}")
    else:
        print(f"ok {number} - {name}" + (f" # SKIP {skip}" if skip else ""))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=1, metavar="N")
    parser.add_argument("--version", default="6.1", help="of Linux: 6.1, 6.12 or 7.2")
    parser.add_argument("--cache", help="where what is fetched is kept (UHMM_CACHE, "
                        "or below the build directory)")
    parser.add_argument("build")
    args = parser.parse_args()
    cache = os.path.abspath(args.cache or os.environ.get("UHMM_CACHE") or
                            os.path.join(args.build, "linux-source"))

    names = names_of(args.version)
    print(f"1..{len(names)}", flush=True)
    why = forbidden(args.build)
    if why:
        return all_of(names, skip=why)
    fetched = subprocess.run([f"{HERE}/fetch.sh", args.version, cache],
                             capture_output=True, text=True)
    said = (fetched.stdout + fetched.stderr).strip().split("\n")[-1]
    if fetched.returncode == 77:
        return all_of(names, skip=said)
    if fetched.returncode:
        return all_of(names, wrong=f"fetch.sh: {said}")
    source = f"{cache}/linux-source-{args.version}"
    tests = f"{source}/hmm-tests"
    wrong = compile_tests(source, args.version, tests)
    if wrong:
        return all_of(names, wrong=f"does not compile: {wrong[:500]!r}")

    failures = {name: [] for name in names}
    skips = {}
    with HugePages() as huge:
        for i in range(args.repeat):
            output, status = run([f"{args.build}/uhmm", "dmirror", "--trace",
                                "/dev/stderr", "--", tests])
            lines, verdicts = sections(output)
            if not lines or status == "timeout":
                print(f"# run {i + 1}: ended with {status}: {output[-3:]}")
            for name in sorted(set(lines) - set(names)):
                print(f"# {name}: a test that nobody knows")
            for name in names:
                passed, skip, why = judge(name, lines.get(name, []),
                                          verdicts.get(name), huge)
                if skip:
                    skips[name] = skip
                if not passed:
                    failures[name].append((f"run {i + 1}: {why}", lines.get(name, [])))
    for number, name in enumerate(names, 1):
        point(number, name, failures[name], skips.get(name))
    bad = sum(bool(f) for f in failures.values())
    print(f"# {args.repeat} runs of {len(names)} tests: {bad} failed, "
          f"{len(skips)} skipped")
    return bad > 0


sys.exit(main())
