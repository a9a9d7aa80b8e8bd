"""What the place of installation decides about Envoy's configuration."""

from __future__ import annotations

import msgspec

from tripylon.settings import RouteLayout


class EmitOptions(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Settings of the emitters; constant for the life of a graph."""

    access_log: str = ""
    """Where the access log goes: a file's path, `stdout`, or empty for none."""
    route_layout: RouteLayout = "auto"
    """How routing tables are sent: see `scopes.py`."""
    system_ca: str = ""
    """File with the system's CA certificates; empty: there is none, and what needs it cannot be reached."""
