"""How many routes each listener has: a table of its own, so that a flush tells which counts differ.

A Gateway's status shows the counts, but a route that leaves a Gateway no longer names it: without this table nobody
would know whose status is out of date. Only built where status is written.
"""

from __future__ import annotations

from tripylon.findings import Finding
from tripylon.graph import Derive, Graph, Read, Table
from tripylon.model.routes import ROUTES_BY_LISTENER
from tripylon.model.stream_plans import STREAMS_BY_LISTENER
from tripylon.values import Built, Name

ATTACHED: Table[tuple[Name, str], int] = Table("attached routes")
"""By gateway and listener; no row stands for none."""


def derives() -> tuple[Derive[tuple[Name, str], int], ...]:
    """The step that counts."""
    return (Derive(ATTACHED, (ROUTES_BY_LISTENER, STREAMS_BY_LISTENER), _count),)


def _count(read: Read, listener: tuple[Name, str]) -> Built[int, Finding] | None:
    return Built(read.count(ROUTES_BY_LISTENER, listener) + read.count(STREAMS_BY_LISTENER, listener))


def attached(graph: Graph, listener: tuple[Name, str]) -> int:
    """The same, where the table is not built."""
    return graph.group_size(ROUTES_BY_LISTENER, listener) + graph.group_size(STREAMS_BY_LISTENER, listener)
