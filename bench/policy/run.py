#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges uhmm's reclaim policy: replays recorded traces in memories of 30, 50 and 75 % of
the pages they touch, and prints how many touches met a page that was not there, in times
of the least that is possible (Belady's).

    bench/policy/run.py             the table of docs/policy.md
    bench/policy/run.py --check     TAP: the policies are what they are said to be, and
                                    uhmm's is no worse than it was

uhmm loads pages ahead of a touch and the others do not, so that counts too in the columns
"brought"; "moved" are pages that came back from probation, without a load; "faults" are
both, for a thread waits for either. "before" is uhmm's policy without lib/recent.c.
"""
import argparse
import math
import pathlib
import random
import re
import sys

import own
import policies
import trace

BUDGETS = (30, 50, 75)
LIB = pathlib.Path(__file__).resolve().parents[2] / "lib"
# What --check holds uhmm's policy to: geometric means in times of Belady's, and how much
# worse than LRU it may be anywhere. A little above what run.py prints.
MISSES, BROUGHT, FAULTS, BEYOND_LRU = 1.42, 2.0, 2.14, 1.09


class Row:
    """One trace in one memory."""

    def __init__(self, name, budget):
        touches = trace.load_name(name)
        self.name, self.budget = name, budget
        self.size = len(set(touches)) * budget // 100
        self.misses = {n: f(touches, self.size) for n, f in policies.ALL.items()}
        for column, kind in (("before", own.Before), ("uhmm", own.Own)):
            model = kind(self.size, touches)
            self.misses[column] = model.misses_of(touches)
            self.misses[column + "+"] = model.misses + model.ahead
            self.misses[column + " moved"] = model.restored
            self.misses[column + " faults"] = model.misses + model.restored

    def times(self, column):
        return self.misses[column] / self.misses["belady"]


def mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


COLUMNS = ("fifo", "lru", "clock", "arc", "s3fifo", "before", "uhmm", "before+", "uhmm+",
           "before moved", "uhmm moved", "before faults", "uhmm faults")
TITLES = ("FIFO", "LRU", "clock", "ARC", "S3-FIFO", "before", "uhmm", "before, brought",
          "uhmm, brought", "before, moved", "uhmm, moved", "before, faults",
          "uhmm, faults")


def rows():
    return [Row(name, budget) for name in trace.names() for budget in BUDGETS]


def table():
    print("| trace | memory | pages | Belady |", " | ".join(TITLES), "|")
    print("|---|" + "---:|" * (len(TITLES) + 3))
    all_rows = rows()
    for row in all_rows:
        print(f"| {row.name} | {row.budget}% | {row.size} | {row.misses['belady']} |",
              " | ".join(f"{row.times(c):.2f}" for c in COLUMNS), "|")
    print("| *geometric mean* | | | |",
          " | ".join(f"{mean([r.times(c) for r in all_rows]):.2f}" for c in COLUMNS), "|")


# ---- check ---------------------------------------------------------------------------

def numbers(text):
    return [int(letter, 36) for letter in text]


# Worked out by hand: touches, pages that fit, and what each policy misses.
BY_HAND = (
    ("123412512345", 3, {"fifo": 9, "lru": 10, "belady": 7, "clock": 10}),
    ("123412512345", 4, {"fifo": 10, "lru": 8, "belady": 6, "clock": 8}),
    ("1212341212", 3, {"fifo": 6, "lru": 6, "belady": 4}),
    ("121314151", 2, {"fifo": 7, "lru": 5, "belady": 5, "clock": 5}),
    ("1234512345", 5, {n: 5 for n in policies.ALL}),
    ("1111", 1, {n: 1 for n in policies.ALL}),
    # What was touched twice is kept apart; what has been given up is known for a while.
    ("1213123", 2, {"arc": 4, "lru": 5}),
    ("12131", 2, {"arc": 3, "lru": 3, "s3fifo": 4}),
    ("1112321", 2, {"s3fifo": 4, "fifo": 4}),
    # A loop one page too long: whoever keeps what was used last has nothing.
    ("123123123", 2, {"fifo": 9, "lru": 9, "belady": 6}),
)


def by_hand():
    for text, size, expected in BY_HAND:
        for name, misses in expected.items():
            got = policies.ALL[name](numbers(text), size)
            if got != misses:
                yield f"{name} of {text} in {size}: {got} misses, not {misses}"


def random_traces():
    draw = random.Random(7)
    for _ in range(60):
        pages = draw.randrange(4, 60)
        yield [int(pages * draw.random() ** draw.choice((1, 2, 3)))
               for _ in range(draw.randrange(50, 800))], draw.randrange(2, pages)


def nobody_beats_belady():
    """Nor meets a page less than once; and LRU never misses more in a larger memory."""
    for touches, size in random_traces():
        least = policies.belady(touches, size)
        for name, function in policies.ALL.items():
            misses = function(touches, size)
            if not least <= misses <= len(touches):
                yield f"{name}: {misses} of {len(touches)} in {size}, Belady {least}"
        if policies.lru(touches, size + 1) > policies.lru(touches, size):
            yield f"LRU misses more in {size + 1} pages than in {size}"


def model_errors(model, touches):
    """What cannot be, of the model's state."""
    state = model.state
    here, frames = state.count(own.MEMORY), state.count(own.PROBATION)
    if here + frames != model.used or frames != model.nr_probation:
        yield f"{here} pages and {frames} frames, but {model.used} used"
    if sum(len(group) for group in model.groups) != frames:
        yield "groups do not hold what is on probation"
    if sum(nr for _, nr in model.recent) != model.nr_recent:
        yield "runs do not hold what is recent"
    if model.used > model.high:
        yield f"{model.used} pages used, and {model.high} are high"
    if state.count(own.ABSENT) != len(state) - len(set(touches)):
        yield "a page that was touched is nowhere"
    if not model.share_min <= model.share <= model.share_max:
        yield f"probation has a share of {model.share}"


def model_is_sound():
    draw = random.Random(3)
    for _ in range(20):
        touches, at = [], 0
        for _ in range(4000):
            at = at + 1 if draw.random() < 0.8 else draw.randrange(1500)
            touches.append(at % 1500)
        size = draw.randrange(200, 1400)
        model = own.Own(size, touches)
        misses = model.misses_of(touches)
        yield from model_errors(model, touches)
        if misses + model.ahead - model.stored > model.used:
            yield "pages came from nowhere"
        large = own.Own(2000, touches)
        if large.misses_of(touches) != len(set(touches)) or large.isolated:
            yield "a memory that is large enough gave pages up"


def loop(pages, times):
    return [page for _ in range(times) for page in range(pages)]


def both(size, touches):
    """Pages brought in now, and before."""
    models = own.Own(size, touches), own.Before(size, touches)
    return [model.misses_of(touches) + model.ahead for model in models]


def streams_do_not_flush():
    """A loop over more than fits keeps a part of it, as it did not before; what is used
    all the time stays better while a scan goes by; what is used no more leaves, though
    streams bring all that there is."""
    size = 4000
    now, past = both(size, loop(6000, 6))
    if now > 0.75 * past or past != 6 * 6000:
        yield f"a loop brings {now} pages, before {past}"
    draw, touches = random.Random(1), loop(2000, 2)
    for page in range(6000):
        touches += [draw.randrange(2000) for _ in range(3)] + [3000 + page]
    now, past = both(2400, touches)
    first = len(set(touches))
    if now - first > 0.9 * (past - first):
        yield f"a scan beside what is hot brings {now} pages, before {past}"
    touches = loop(3800, 1) + [page + 4500 for page in loop(2400, 20)]
    now, past = both(size, touches)
    if past != 3800 + 2400 or now > past + 3 * 2400:
        yield f"beside what is used no more a loop brings {now} pages, before {past}"


def no_worse_than_it_was():
    all_rows = rows()
    for row in all_rows:
        for name in policies.ALL:
            if row.times(name) < 1:
                yield f"{row.name} {row.budget} %: {name} misses less than Belady's"
        beyond = row.times("uhmm") / row.times("lru")
        if beyond > BEYOND_LRU:
            yield f"{row.name} {row.budget} %: {beyond:.2f} times what LRU misses"
    for column, bound in (("uhmm", MISSES), ("uhmm+", BROUGHT), ("uhmm faults", FAULTS)):
        got = mean([row.times(column) for row in all_rows])
        if got > bound:
            yield f"{column}: {got:.3f} times Belady's, {bound} at most"
        past = mean([row.times(column.replace("uhmm", "before")) for row in all_rows])
        if column != "uhmm faults" and got >= past:
            yield f"{column}: {got:.3f} times Belady's, no better than before"


def numbers_are_the_librarys():
    """What the model counts by is what lib/ says."""
    text = "".join((LIB / name).read_text() for name in
                   ("policy.c", "policy.h", "types.h", "stream.c", "hand.c"))
    said = {name: value for name, value in
            re.findall(r"^#define (\w+) \(?(\d+)", text, re.M)}
    model = own.Own
    for name, value in (("RECENT_PART", model.recent_share),
                        ("POLICY_RECENT_RUN", model.recent_run),
                        ("HANDS_TURN", model.hands_turn), ("STREAMS", own.STREAMS),
                        ("SHARE_MIN", model.share_min), ("SHARE_MAX", model.share_max),
                        ("SHARE_START", model.share_start), ("LOOKS", own.LOOKS),
                        ("STRIDE_MAX", own.STRIDE_MAX), ("GROUP_PAGES", own.WINDOW),
                        ("FAULT_BUF_PAGES", own.STREAM_MAX)):
        if int(said[name]) != value:
            yield f"{name} is {said[name]} in lib/, and {value} in the model"
    if int(said["GENERATIONS"]) != model.ghost * int(said["GENERATIONS_SHORT"]):
        yield "a short time is not a quarter of what may be isolated"


CHECKS = (by_hand, nobody_beats_belady, model_is_sound, streams_do_not_flush,
          no_worse_than_it_was, numbers_are_the_librarys)


def check():
    failed = 0
    print("TAP version 13")
    print(f"1..{len(CHECKS)}")
    for number, function in enumerate(CHECKS, 1):
        errors = list(function())
        failed += bool(errors)
        print("not ok" if errors else "ok", number, "-", function.__name__)
        for error in errors:
            print("#", error)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        sys.exit(check())
    table()


main()
