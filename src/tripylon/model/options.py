"""What the place of installation decides, not a user's object: the difference between a laptop and a cluster."""

from __future__ import annotations

import msgspec

CONTROLLER_NAME = "gateway.tripylon.dev/controller"


class Options(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Settings that the model depends on; constant for the life of a graph."""

    controller_name: str = CONTROLLER_NAME
    """The controllerName of GatewayClasses that are ours."""
    standalone: bool = True
    """One proxy serves all gateways and binds their addresses itself; GatewayClass objects may be left out."""
    bind_address: str = "0.0.0.0"  # noqa: S104 - a gateway is there to be reached; `--bind` narrows it
    """IP address that listeners of a gateway without `spec.addresses` bind, in standalone mode."""
    privileged_ports: bool = True
    """Whether ports below 1024 may be bound here."""
    reserved_ports: tuple[int, ...] = ()
    """Ports that no listener may have, since the proxy itself uses them."""
