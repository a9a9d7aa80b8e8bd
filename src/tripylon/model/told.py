"""What somebody outside the build has to tell becomes findings like any other, so that status has one source."""

from __future__ import annotations

from tripylon.findings import Finding
from tripylon.graph import Derive, Read, Table
from tripylon.values import Built, Ref
from tripylon.world.world import TOLD

HEARD: Table[tuple[str, Ref], int] = Table("heard from outside")


def derives() -> tuple[Derive[tuple[str, Ref], int], ...]:
    """The step from what is told to findings."""
    return (Derive(HEARD, (TOLD,), _heard),)


def _heard(read: Read, key: tuple[str, Ref]) -> Built[int, Finding] | None:
    findings = read.get(TOLD, key) or ()
    return Built(len(findings), findings)
