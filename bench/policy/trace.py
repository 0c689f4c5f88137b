# SPDX-License-Identifier: Apache-2.0
"""Page traces: which pages a program touched, in order.

A file is xz of numbers, each 7 bits at a time, lowest first, the eighth bit set where
more follow. First how many touches there are; then for each the difference to the page
touched before, zigzag (0, -1, 1, -2, ... as 0, 1, 2, 3, ...).

Pages are numbered by address, but where nothing is for more than GAP pages the gap is as
long as that: what matters is which are neighbours.
"""
import array
import collections
import lzma
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parent / "traces"
GAP = 256


def _put(out, number):
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def _numbers(data):
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0


def compact(pages):
    """The same touches, with large gaps between addresses closed."""
    new, at, last = {}, 0, None
    for page in sorted(set(pages)):
        if last is not None:
            at += min(page - last, GAP)
        new[page] = at
        last = page
    return [new[page] for page in pages]


def thin(pages, near):
    """Without touches of the pages, so many, that were touched last: no policy with room
    for many more would have given those up."""
    latest, kept = collections.OrderedDict(), []
    for page in pages:
        if page in latest:
            latest.move_to_end(page)
            continue
        kept.append(page)
        latest[page] = True
        if len(latest) > near:
            latest.popitem(last=False)
    return kept


def read_raw(name):
    """What record.c wrote."""
    numbers = array.array("Q")
    numbers.frombytes(pathlib.Path(name).read_bytes())
    return list(numbers)


def save(pages, path):
    out, last = bytearray(), 0
    _put(out, len(pages))
    for page in pages:
        delta = page - last
        _put(out, delta * 2 if delta >= 0 else -delta * 2 - 1)
        last = page
    path.write_bytes(lzma.compress(bytes(out), preset=9 | lzma.PRESET_EXTREME))


def load(path):
    numbers = _numbers(lzma.decompress(path.read_bytes()))
    nr, page, pages = next(numbers), 0, []
    for number in numbers:
        page += -(number + 1 >> 1) if number & 1 else number >> 1
        pages.append(page)
    if len(pages) != nr:
        raise ValueError(f"{path}: {len(pages)} touches, and not {nr}")
    return pages


def names():
    return sorted(path.name[:-3] for path in FOLDER.glob("*.xz"))


def load_name(name):
    return load(FOLDER / (name + ".xz"))
