"""`spec.addresses` of a Gateway: which of them can be had (Gateway API, GatewaySpecAddress).

The invariant: an address that cannot be had is told, and the others still serve. Read `gateways.py` next.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from tripylon.api.gateway import Gateway
from tripylon.findings import Finding
from tripylon.graph import Read
from tripylon.model.options import Options
from tripylon.values import is_address
from tripylon.world.world import REACHED


def addresses(gateway: Gateway, options: Options, findings: list[Finding]) -> tuple[str, ...]:
    """The IP addresses to bind; an address that cannot be one is a finding, and the others still serve."""
    if not gateway.spec.addresses:
        return (options.bind_address,)
    usable: list[str] = []
    for place, address in enumerate(gateway.spec.addresses):
        field = f"spec.addresses[{place}]"
        if (address.type or "IPAddress") != "IPAddress":
            findings.append(
                Finding(
                    object=gateway.ref,
                    condition="Accepted",
                    reason="UnsupportedAddress",
                    message=f"Gateway `{gateway.key}` asks for an address of type {address.type}, "
                    "which is not supported",
                    hint="Use type IPAddress, or leave `spec.addresses` out",
                    field=f"{field}.type",
                )
            )
        elif address.routability:
            what = f"an address with routability {address.routability}, which cannot be had"
            findings.append(_unusable(gateway, what, "Leave `routability` out", f"{field}.routability"))
        elif not address.value:
            usable.append(options.bind_address)
        elif is_address(address.value):
            usable.append(str(ipaddress.ip_address(address.value)))
        else:
            what = f"the address `{address.value}`, which is no IP address"
            findings.append(_unusable(gateway, what, "Write an IPv4 or IPv6 address of this machine", f"{field}.value"))
    return tuple(dict.fromkeys(usable))


def not_granted(read: Read, gateway: Gateway) -> Iterator[Finding]:
    """Addresses that the Gateway asks for and that whoever runs its proxies could not get."""
    reached = read.get(REACHED, gateway.key)
    for address in reached.unusable if reached is not None else ():
        what = f"the address `{address}`, which its Service does not get"
        hint = "Use an address that the cluster's load balancer hands out, or leave `spec.addresses` out"
        yield _unusable(gateway, what, hint, "spec.addresses")


def _unusable(gateway: Gateway, what: str, hint: str, field: str) -> Finding:
    return Finding(
        object=gateway.ref,
        condition="Programmed",
        reason="AddressNotUsable",
        message=f"Gateway `{gateway.key}` asks for {what}",
        hint=hint,
        field=field,
    )
