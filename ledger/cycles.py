"""Whether tasks wait for each other in a circle. Pure.

A task that is accepted alone can only name tasks that are there already, so that no circle can arise. Tasks that are
accepted together may name each other, and there it can.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter


def circle(waits_for: Mapping[str, Collection[str]]) -> Sequence[str]:
    """Some circle, each member waiting for the next and the last being the first again; empty when there is none."""
    try:
        TopologicalSorter(waits_for).prepare()
    except CycleError as error:
        # It is told in the order in which the members may start.
        return list(reversed(error.args[1]))
    return []
