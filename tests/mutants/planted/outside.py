# SPDX-License-Identifier: Apache-2.0
"""Bugs around the core: lib/os, the preloads. The simulated machine has neither."""
from .mutant import Mutant

MUTANTS = [
]
