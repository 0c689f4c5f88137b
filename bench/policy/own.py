# SPDX-License-Identifier: Apache-2.0
"""A model of uhmm's reclaim: what lib/policy, hand, recent, stream, fault and reclaim do
to pages, without threads and without time. The worker runs whenever a fault has been
resolved.

It sees what uhmm sees, faults and nothing else. Counted are touches that nothing was in
memory for, a page's first one always; pages that streams loaded ahead of a touch, used or
not; and pages that came back from probation, which costs a fault but no load.

Real budgets are some ten times as large as these. Sizes that are fixed there are in the
same proportion to the budget here: a group is a 256th of it and not 64 pages, and the
probation's share is looked at after a quarter of it.
"""
import collections

ABSENT, MEMORY, PROBATION, DEVICE = range(4)
CHUNK = 512
WINDOW = 64         # pages that the hand looks at together
LOOKS = 64
STREAMS = 32
STREAM_MAX = 16     # pages brought at a time
STRIDE_MAX = 128


class Stream:
    __slots__ = ("last", "next", "stride", "window", "stamp")

    def __init__(self):
        self.last = self.next = -1
        self.stride = self.window = self.stamp = 0


class Streams:
    """lib/stream.c"""

    def __init__(self, here):
        self.all = [Stream() for _ in range(STREAMS)]
        self.clock = 0
        self.here = here

    def _continues(self, stream, page):
        ahead = page - stream.next
        if ahead == 0:
            return True
        if stream.window <= 1 or ahead % stream.stride:
            return False
        steps = ahead // stream.stride
        return 0 < steps <= stream.window and all(
            self.here(at) for at in range(stream.next, page, stream.stride))

    def _in_stride(self, page):
        for stream in self.all:
            stride = page - stream.last
            if stream.window != 1 or not stride or abs(stride) > STRIDE_MAX:
                continue
            for first in self.all:
                if first.last == stream.last - stride and first.window == 1:
                    first.__init__()
                    stream.stride = stride
                    return stream
        return None

    def window(self, page, most):
        found = next((s for s in self.all if self._continues(s, page)), None)
        found = found or self._in_stride(page)
        if found:
            found.window = min(found.window * 2, 64)
        else:
            found = min(self.all, key=lambda s: (s.stride != 0, s.stamp))
            found.stride, found.window = 1, 1
        self.clock += 1
        found.last = found.next = page
        found.stamp = self.clock
        return found, min(found.window, most)


class Own:
    recent_share = 20   # one of so many pages that are used
    recent_run = 4      # pages
    hands_turn = 4
    group_of = 256
    ghost = 4           # a quarter of the budget in stores
    hot_asked, hot_ahead, hot_back = 1, 0, 2    # policy_warmth()
    share_min, share_max, share_start = 8, 48, 48
    use_recent = True

    def __init__(self, size, pages):
        self.size = size
        self.known = set(pages)
        top = max(pages) + 2 * CHUNK
        self.state = bytearray(top)
        self.hot = bytearray(top)
        self.stored_at = [0] * top
        self.group = max(4, min(64, size // self.group_of))
        self.high = size - max(1, size // 64)
        self.low = self.high - max(1, size // 128)
        self.period = max(32, size // 4)
        self.at = 0
        self.used = self.nr_probation = 0
        self.groups = collections.deque()
        self.group_at = {}
        self.share = self.share_start
        self.isolated = self.restored = self.stored = 0
        self.seen = (0, 0)
        self.misses = 0
        self.ahead = self.taken_recent = 0
        self.recent = collections.deque()
        self.nr_recent = self.turn = 0
        self.streams = Streams(lambda page: self.state[page] in (ABSENT, MEMORY))
        self.entered = {}

    # ---- lib/fault.c

    def fill(self, page, hot, asked):
        if asked or self.state[page] == ABSENT:
            self.misses += 1
        else:
            self.ahead += 1
        self.state[page] = MEMORY
        self.hot[page] = hot
        self.used += 1

    def restore(self, page, hot):
        self.group_at.pop(page).discard(page)
        self.state[page] = MEMORY
        self.hot[page] = hot
        self.nr_probation -= 1
        self.restored += 1

    def warmth(self, page, asked):
        """Of what is loaded from the device."""
        if not asked:
            return self.hot_ahead
        soon = self.stored - self.stored_at[page] < self.size / self.ghost
        return self.hot_back if soon else self.hot_asked

    def run(self, page, window, state):
        """Pages in a row, in one chunk, in the same state."""
        nr = 1
        while (nr < window and (page + nr) % CHUNK and self.state[page + nr] == state
               and page + nr in self.known):
            nr += 1
        return nr

    def touch(self, page):
        state = self.state[page]
        stream, window = self.streams.window(page, STREAM_MAX)
        if state == PROBATION:
            self.restore(page, min(3, self.hot[page] + 1))
            nr = 1
            while nr < window:
                at = page + nr * stream.stride
                if stream.stride != 1:
                    if not self.bring_ahead(at):
                        break
                elif self.state[at] == PROBATION:
                    self.restore(at, self.hot[at])
                else:
                    break
                nr += 1
        elif stream.stride != 1 and window > 1 and state == DEVICE:
            nr = 1
            while nr < window and self.bring_ahead(page + nr * stream.stride):
                nr += 1
            self.fill(page, self.warmth(page, True), True)
        else:
            nr = self.run(page, window if stream.stride == 1 else 1, state)
            for at in range(page, page + nr):
                hot = self.warmth(at, at == page) if state == DEVICE else 0
                self.fill(at, hot, at == page)
            self.note(page, nr)
        stream.next = page + nr * stream.stride

    def bring_ahead(self, page):
        if not 0 <= page < len(self.state) or page not in self.known:
            return False
        state = self.state[page]
        if state == DEVICE:
            self.fill(page, self.hot_ahead, False)
        elif state == PROBATION:
            self.restore(page, self.hot[page])
        return state != ABSENT

    # ---- lib/recent.c

    def note(self, page, nr):
        if not self.use_recent or nr < self.recent_run:
            return
        self.recent.append((page, nr))
        self.nr_recent += nr

    # ---- lib/hand.c

    def take(self, page, taken):
        if self.hot[page]:
            self.hot[page] -= 1
            return
        self.state[page] = PROBATION
        taken.add(page)
        self.group_at[page] = taken

    def close(self, taken):
        if taken:
            self.groups.append(taken)
            self.nr_probation += len(taken)
            self.isolated += len(taken)
        return len(taken)

    def walk(self):
        taken, looked, state = set(), 0, self.state
        while len(taken) < self.group and looked < LOOKS:
            looked += 1
            start = state.find(MEMORY, self.at)
            if start < 0:
                self.at = 0
                break
            end = min(start + WINDOW, start - start % CHUNK + CHUNK)
            page, room = start, self.group - len(taken)
            while page < end and room:
                if state[page] == MEMORY:
                    self.take(page, taken)
                    room -= 1
                page += 1
            self.at = page
        return self.close(taken)

    def take_recent(self):
        taken = set()
        while self.recent and len(taken) < self.group:
            page, nr = self.recent.popleft()
            self.nr_recent -= nr
            done = 0
            while done < nr and len(taken) < self.group:
                if self.state[page + done] == MEMORY:
                    self.take(page + done, taken)
                done += 1
            if done < nr:
                self.recent.appendleft((page + done, nr - done))
                self.nr_recent += nr - done
        return self.close(taken)

    # ---- lib/policy.c, lib/reclaim.c

    def target(self):
        isolated = self.isolated - self.seen[0]
        back = self.restored - self.seen[1]
        if isolated >= self.period:
            if back * 4 > isolated and self.share < self.share_max:
                self.share += 4
            elif back * 16 < isolated and self.share > self.share_min:
                self.share -= 4
            self.seen = (self.isolated, self.restored)
        return self.used * self.share // 256 + self.group

    def takes_recent(self):
        while self.nr_recent * self.recent_share > 2 * self.used:
            self.nr_recent -= self.recent.popleft()[1]
        if self.nr_recent * self.recent_share <= self.used:
            return False
        self.turn += 1
        return self.turn % self.hands_turn != 0

    def store_oldest(self):
        while self.groups:
            group = self.groups.popleft()
            if not group:
                continue
            for page in group:
                del self.group_at[page]
                self.state[page] = DEVICE
                self.stored_at[page] = self.stored
            self.stored += len(group)
            self.used -= len(group)
            self.nr_probation -= len(group)
            return

    def reclaim(self):
        idle = 0
        while self.used > self.low:
            target, probation, taken = self.target(), self.nr_probation, 1
            if probation < target:
                taken = self.take_recent() if self.takes_recent() else self.walk()
            idle = 0 if taken else idle + 1
            if probation >= target or idle > 16:
                self.store_oldest()

    def misses_of(self, trace):
        state = self.state
        for page in trace:
            if state[page] != MEMORY:
                self.touch(page)
                if self.used > self.high:
                    self.reclaim()
        return self.misses


class Before(Own):
    """As it was before lib/recent.c: all that was loaded is as warm."""
    use_recent = False
    hot_asked, hot_ahead, hot_back = 1, 1, 1


def own(trace, size):
    return Own(size, trace).misses_of(trace)


def before(trace, size):
    return Before(size, trace).misses_of(trace)
