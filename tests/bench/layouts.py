"""Which layout of route tables is measured: as the program chooses, or one that is forced.

The program says by its settings what can be forced; a revision that knows no layouts has only its own.
"""

from __future__ import annotations

from typing import Any

from tripylon.settings import Settings

CHOICES = ("plain", "scoped")


def settings(layout: str) -> dict[str, Any]:
    """Further arguments of `Settings`; ValueError when that revision cannot be told."""
    if not layout:
        return {}
    if "route_layout" not in Settings.__struct_fields__:
        raise ValueError(f"this revision has one layout of routes only; it cannot be told to use {layout}")
    return {"route_layout": layout}


def flags(layout: str) -> tuple[str, ...]:
    """The same for the command line."""
    return tuple(word for name, value in settings(layout).items() for word in (f"--{name.replace('_', '-')}", value))
