# SPDX-License-Identifier: Apache-2.0
"""Bugs to plant, by the part of the source that they are in.

Each is a mistake that somebody could make, in the code as it is: its lines are in the
file exactly once. Where the code has changed so that they are not, the lint says so
(`run.py --check`), and the mutant is to be planted anew. A change that nobody could tell
from the right code (it costs time, or undoes what is done again elsewhere) is none.
"""
from . import devices, drivers, events, fork, guard, outside, pages

MUTANTS = pages.MUTANTS + events.MUTANTS + fork.MUTANTS + drivers.MUTANTS \
    + devices.MUTANTS + outside.MUTANTS + guard.MUTANTS
