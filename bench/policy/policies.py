# SPDX-License-Identifier: Apache-2.0
"""Policies that are known, each as a function of a trace and of how many pages fit:
how many touches met a page that was not in memory. They see each touch, as a processor
with access bits would let them; uhmm (own.py) does not.
"""
import collections
import heapq


def fifo(trace, size):
    here, queue, misses = set(), collections.deque(), 0
    for page in trace:
        if page in here:
            continue
        misses += 1
        if len(here) == size:
            here.remove(queue.popleft())
        here.add(page)
        queue.append(page)
    return misses


def lru(trace, size):
    here, misses = collections.OrderedDict(), 0
    for page in trace:
        if page in here:
            here.move_to_end(page)
            continue
        misses += 1
        if len(here) == size:
            here.popitem(last=False)
        here[page] = True
    return misses


def clock(trace, size):
    """A ring of pages, a bit each: touched since the hand was there."""
    place, ring, touched, at, misses = {}, [], [], 0, 0
    for page in trace:
        i = place.get(page)
        if i is not None:
            touched[i] = True
            continue
        misses += 1
        if len(ring) < size:
            place[page] = len(ring)
            ring.append(page)
            touched.append(False)
            continue
        while touched[at]:
            touched[at] = False
            at = (at + 1) % size
        del place[ring[at]]
        place[page] = at
        ring[at] = page
        at = (at + 1) % size
    return misses


def arc(trace, size):
    """Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", 2003."""
    once, often = collections.OrderedDict(), collections.OrderedDict()
    gone_once, gone_often = collections.OrderedDict(), collections.OrderedDict()
    target, misses = 0.0, 0

    def replace(was_often):
        if once and (len(once) > target or (was_often and len(once) == target)):
            gone_once[once.popitem(last=False)[0]] = True
        else:
            gone_often[often.popitem(last=False)[0]] = True

    for page in trace:
        if page in once:
            del once[page]
            often[page] = True
            continue
        if page in often:
            often.move_to_end(page)
            continue
        misses += 1
        if page in gone_once:
            target = min(size, target + max(1, len(gone_often) / len(gone_once)))
            replace(False)
            del gone_once[page]
            often[page] = True
            continue
        if page in gone_often:
            target = max(0, target - max(1, len(gone_once) / len(gone_often)))
            replace(True)
            del gone_often[page]
            often[page] = True
            continue
        total = len(once) + len(often) + len(gone_once) + len(gone_often)
        if len(once) + len(gone_once) == size:
            if len(once) < size:
                gone_once.popitem(last=False)
                replace(False)
            else:
                once.popitem(last=False)
        elif total >= size:
            if total == 2 * size:
                gone_often.popitem(last=False)
            replace(False)
        once[page] = True
    return misses


def s3fifo(trace, size):
    """Yang et al., "FIFO queues are all you need for cache eviction", 2023."""
    small_size = max(1, size // 10)
    small, main = collections.deque(), collections.deque()
    ghost = collections.OrderedDict()
    count, misses = {}, 0

    def evict_main():
        while True:
            page = main.popleft()
            if not count[page]:
                del count[page]
                return
            count[page] -= 1
            main.append(page)

    def evict():
        while len(small) >= small_size or not main:
            page = small.popleft()
            if count[page] > 1:
                count[page] = 0
                main.append(page)
                continue
            del count[page]
            ghost[page] = True
            if len(ghost) > size - small_size:
                ghost.popitem(last=False)
            return
        evict_main()

    for page in trace:
        if page in count:
            count[page] = min(3, count[page] + 1)
            continue
        misses += 1
        while len(count) >= size:
            evict()
        if ghost.pop(page, None):
            main.append(page)
        else:
            small.append(page)
        count[page] = 0
    return misses


def belady(trace, size):
    """Gives up what is needed last: nobody can do better. It sees the future."""
    never = len(trace)
    following, last = [never] * never, {}
    for i in range(never - 1, -1, -1):
        following[i] = last.get(trace[i], never)
        last[trace[i]] = i
    need, heap, misses = {}, [], 0
    for i, page in enumerate(trace):
        if page not in need:
            misses += 1
            if len(need) == size:
                while True:
                    at, victim = heapq.heappop(heap)
                    if need.get(victim) == -at:
                        break
                del need[victim]
        need[page] = following[i]
        heapq.heappush(heap, (-following[i], page))
    return misses


ALL = {"fifo": fifo, "lru": lru, "clock": clock, "arc": arc, "s3fifo": s3fifo,
       "belady": belady}
