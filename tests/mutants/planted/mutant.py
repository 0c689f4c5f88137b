# SPDX-License-Identifier: Apache-2.0
"""What a mutant is."""
from typing import NamedTuple


class Mutant(NamedTuple):
    """A mistake that somebody could make, in the code as it is."""

    name: str
    file: str
    what: str  # what goes wrong
    text: str  # whole lines, begun by an empty one; in the file exactly once
    wrong: str  # the same, to take their place

    @property
    def old(self):
        """The lines that are to be replaced."""
        return self.text[1:]

    @property
    def new(self):
        """The lines that replace them."""
        return self.wrong[1:]
