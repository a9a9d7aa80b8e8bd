"""Every reason of every condition has a case that shows it, or cannot occur here and says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.cases import facets
from tests.cases.harness import Case, load, paths
from tests.house.reasons import ADDED, IMPOSSIBLE, LISTENER, POLICY, ROUTE, Shown, every

_SIMPLE = ("GatewayClass", "Gateway", "ListenerSet")
_ROUTES = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")


def test_every_reason_has_a_case(record_property: Callable[[str, object], None]) -> None:
    cases = Counter(shown for path in paths() for shown in set(shown_by(load(path))))
    table = list(every())
    missing = [shown for shown in table if not cases[shown] and shown not in IMPOSSIBLE]
    found = [shown for shown in table if cases[shown]]
    told = f"reasons of conditions: {len(found)} of {len(table)} have cases, {len(IMPOSSIBLE)} cannot occur"
    record_property("totals", f"{told}; without: {', '.join(map(str, missing)) or 'none'}")
    assert [str(shown) for shown in missing] == [], "write a case for each, or say in reasons.py why it cannot occur"


def test_what_cannot_occur_is_in_the_table_and_does_not_occur() -> None:
    table = set(every())
    assert [str(shown) for shown in IMPOSSIBLE if shown not in table] == []
    cases = {shown for path in paths() for shown in shown_by(load(path))}
    assert [str(shown) for shown in IMPOSSIBLE if shown in cases] == []
    assert all(IMPOSSIBLE.values())


def shown_by(case: Case) -> Iterator[Shown]:
    """The conditions that a case expects, each with its status and reason."""
    statuses: dict[str, Any] = case.expect.get("status") or {}
    for name, status in statuses.items():
        kind = name.partition(" ")[0]
        if kind in _SIMPLE:
            yield from _whole(kind, status)
        elif (kind in _ROUTES or kind == POLICY) and isinstance(status, dict):
            for entry in status.values():
                yield from _conditions(ROUTE if kind in _ROUTES else POLICY, entry, facets.GOOD)


def _whole(kind: str, status: Any) -> Iterator[Shown]:
    good = {"Accepted": "True Accepted", "Programmed": "True Programmed"}
    yield from _conditions(kind, status, good | facets.GOOD if kind == "Gateway" else good)
    listeners = status.get("listeners") if isinstance(status, dict) else None
    for listener in (listeners or {}).values():
        for shown in _conditions(LISTENER, listener, facets.GOOD_LISTENER):
            yield shown
            if kind == "ListenerSet":
                yield shown._replace(holder=ADDED)


def _conditions(holder: str, written: Any, good: dict[str, str]) -> Iterator[Shown]:
    """The conditions of one list; `good` stands for all of them as they should be."""
    if written == "good":
        written = good
    for condition, said in written.items() if isinstance(written, dict) else ():
        words = str(said).split()
        if len(words) == 2 and words[0] in ("True", "False", "Unknown"):
            yield Shown(holder, condition, *words)
