"""Which gateways take an Ingress: a table of its own, since both gateways and routes ask for it.

How it comes about is worked out in `ingress_classes.py`. Read `ingresses.py` next.
"""

from __future__ import annotations

import msgspec

from tripylon.graph import Index, Table
from tripylon.values import Name


class IngressPlace(msgspec.Struct, frozen=True, gc=False):
    """An Ingress of a class of ours, as gateways see it."""

    name: Name
    created: str
    """RFC 3339 creation time; empty in files that do not state one."""
    gateways: tuple[Name, ...]
    """The gateways that its class leads to, sorted, whether they are there or not."""


INGRESS_PLACES: Table[Name, IngressPlace] = Table("ingress places")
"""Every Ingress of a class of ours."""
INGRESSES_BY_GATEWAY: Index[Name, Name, IngressPlace] = Index(
    "ingresses by gateway", INGRESS_PLACES, lambda _, place: place.gateways
)
