#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What was tried beside uhmm's policy, and what it would bring: geometric means over the
traces, in times of Belady's misses, and made-up touches. See docs/policy.md.

    bench/policy/tried.py
"""
import math
import random

import own
import policies
import trace


class Unlimited(own.Own):
    def takes_recent(self):
        return self.nr_recent * self.recent_share > self.used


class Half(own.Own):
    def target(self):
        return self.used // 2 + self.group


class Kept(own.Own):
    """Warmth is kept on the device: one more each time that a page is back soon."""

    def __init__(self, size, pages):
        super().__init__(size, pages)
        self.kept = bytearray(len(self.state))

    def warmth(self, page, asked):
        if not asked:
            return 0
        soon = self.stored - self.stored_at[page] < self.size / self.ghost
        kept = self.kept[page]
        self.kept[page] = min(3, kept + 1) if soon else kept // 2
        return self.kept[page]


def changed(kind=own.Own, **numbers):
    return type("Changed", (kind,), numbers)


TRIED = (
    ("before", own.Before),
    ("as it is", own.Own),
    ("single pages in the queue", changed(recent_run=1)),
    ("runs of 8 pages and more", changed(recent_run=8)),
    ("recent from a tenth on", changed(recent_share=10)),
    ("recent from a fortieth on", changed(recent_share=40)),
    ("the hand has no turn", changed(hands_turn=1 << 60)),
    ("nor has the queue a limit", Unlimited),
    ("cold unless back soon", changed(hot_asked=0)),
    ("and soon is half of memory", changed(hot_asked=0, ghost=2)),
    ("warmth is kept on the device", Kept),
    ("a quarter on probation", changed(share_max=64, share_start=32)),
    ("three 32nds", changed(share_max=24, share_start=24)),
    ("a sixteenth", changed(share_max=16, share_start=16)),
    ("a 32nd", changed(share_min=4, share_max=8, share_start=8)),
    ("half is on probation", Half),
)


def loop(pages, times, start=0):
    return [start + page for _ in range(times) for page in range(pages)]


def brought(kind, size, touches):
    model = kind(size, touches)
    return model.misses_of(touches) + model.ahead


def made_up(kind):
    """A loop over 3/2 of what fits: brought of each pass. A scan beside random touches of
    what fits: brought beyond the first time, of what fits. A loop that fits where 95 % is
    used no more: passes that are brought once more."""
    draw = random.Random(1)
    yield (brought(kind, 4000, loop(6000, 6)) - 6000) / 5 / 6000
    touches = loop(2000, 2)
    for page in range(6000):
        touches += [draw.randrange(2000) for _ in range(3)] + [3000 + page]
    yield (brought(kind, 2400, touches) - 8000) / 2000
    touches = loop(3800, 1) + loop(2400, 20, 4500)
    yield (brought(kind, 4000, touches) - 6200) / 2400


def mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def main():
    memories = []
    for name in trace.names():
        touches = trace.load_name(name)
        for budget in (30, 50, 75):
            size = len(set(touches)) * budget // 100
            memories.append((touches, size, policies.belady(touches, size)))
    print("| policy | misses | brought | moved | loop | scan | no more used |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for ahead in (own.STREAM_MAX, 1):
        own.STREAM_MAX = ahead
        for name, kind in TRIED if ahead > 1 else TRIED[:2]:
            row = []
            for touches, size, least in memories:
                model = kind(size, touches)
                misses = model.misses_of(touches)
                row.append((misses / least, (misses + model.ahead) / least,
                            model.restored / least))
            cells = [mean([r[i] for r in row]) for i in range(3)] + list(made_up(kind))
            print(f"| {name}{'' if ahead > 1 else ', nothing ahead'} |",
                  " | ".join(f"{cell:.2f}" for cell in cells), "|", flush=True)


main()
