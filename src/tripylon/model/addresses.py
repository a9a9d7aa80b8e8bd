"""`spec.addresses` of a Gateway: which of them can be had, and which have been (GatewaySpecAddress, GEP-5093).

The invariant: an address that cannot be had is told, is not replaced by one of another kind, and the others still
serve. Read `gateways.py` next; `kube/addresses.py` says which addresses there are in a cluster.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from tripylon.api.gateway import Gateway, GatewaySpecAddress
from tripylon.findings import Finding
from tripylon.graph import Read
from tripylon.model.options import Options
from tripylon.values import is_address
from tripylon.world.world import REACHED, ReachedAddress

CLUSTER = "Cluster"
"""The routability of an address of the cluster's Service range."""
SENTINEL = "testing.x-k8s.io/sentinel"
"""A routability without meaning: whoever supports the field gives any address for it, and reports it so."""
_TAKEN_FOR = {"": ("", CLUSTER), CLUSTER: (CLUSTER,), SENTINEL: (SENTINEL, "", CLUSTER)}
"""Routability of an entry → that of the addresses that meet it; no others can be had."""


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
            findings.extend(_unroutable(gateway, address, options, f"{field}.routability"))
        elif not address.value:
            usable.append(options.bind_address)
        elif is_address(address.value):
            usable.append(str(ipaddress.ip_address(address.value)))
        else:
            what = f"the address `{address.value}`, which is no IP address"
            findings.append(_unusable(gateway, what, "Write an IPv4 or IPv6 address of this machine", f"{field}.value"))
    return tuple(dict.fromkeys(usable))


def _unroutable(gateway: Gateway, address: GatewaySpecAddress, options: Options, field: str) -> Iterator[Finding]:
    """What is wrong with a routability: standalone none can be had, in a cluster only those that we know."""
    what = f"an address with routability {address.routability}, which cannot be had"
    if options.standalone:
        yield _unusable(gateway, what, "Leave `routability` out", field)
    elif address.routability not in (CLUSTER, SENTINEL):
        yield _not_assigned(gateway, what, f"Use `{CLUSTER}`, or leave `routability` out", field)


def not_granted(read: Read, gateway: Gateway) -> Iterator[Finding]:
    """Addresses that the Gateway asks for and that whoever runs its proxies could not get."""
    reached = read.get(REACHED, gateway.key)
    if reached is None:
        return
    for address in reached.unusable:
        what = f"the address `{address}`, which its Service does not get"
        hint = "Use an address that the cluster's load balancer hands out, or leave `spec.addresses` out"
        yield _unusable(gateway, what, hint, "spec.addresses")
    entries = gateway.spec.addresses
    for place, given in enumerate(assigned(entries, reached.addresses)):
        if given is None and entries[place].routability == CLUSTER and entries[place].value:
            what = f"the address `{entries[place].value}` within the cluster, which it does not get"
            hint = "Use a free address of the cluster's Service range, or leave `value` out"
            yield _not_assigned(gateway, what, hint, f"spec.addresses[{place}].value")


# --- Which entry gets which address --------------------------------------------------------------------------------


def assigned(
    entries: Sequence[GatewaySpecAddress], found: Iterable[ReachedAddress]
) -> tuple[ReachedAddress | None, ...]:
    """The address that each entry gets, no two the same one; None: the entry is not satisfied.

    Entries that want most choose first. The same comes out when the addresses found are those that came out before.
    """
    free = list(dict.fromkeys(found))
    given: list[ReachedAddress | None] = [None] * len(entries)
    for place in sorted(range(len(entries)), key=lambda place: _modesty(entries[place])):
        entry = entries[place]
        fitting = [each for each in free if _meets(each, entry)]
        if fitting:
            best = next((each for each in fitting if each.routability == entry.routability), fitting[0])
            free.remove(best)
            given[place] = best
    return tuple(
        ReachedAddress(each.value, SENTINEL) if each is not None and entry.routability == SENTINEL else each
        for entry, each in zip(entries, given, strict=True)
    )


def canonical(text: str) -> str:
    """An IP address in the one way to write it; other texts as they are."""
    return str(ipaddress.ip_address(text)) if is_address(text) else text


def _modesty(entry: GatewaySpecAddress) -> tuple[bool, bool, bool]:
    return not entry.value, entry.routability != CLUSTER, not entry.routability


def _meets(address: ReachedAddress, entry: GatewaySpecAddress) -> bool:
    """Whether an address is what an entry asks for."""
    if (entry.type or "IPAddress") != "IPAddress" or not is_address(address.value):
        return False
    if entry.value and canonical(entry.value) != canonical(address.value):
        return False
    return address.routability in _TAKEN_FOR.get(entry.routability, ())


# --- Findings ------------------------------------------------------------------------------------------------------


def _unusable(gateway: Gateway, what: str, hint: str, field: str) -> Finding:
    return _finding(gateway, "Programmed", "AddressNotUsable", what, hint=hint, field=field)


def _not_assigned(gateway: Gateway, what: str, hint: str, field: str) -> Finding:
    """An entry that is not satisfied and keeps the others from nothing."""
    return _finding(gateway, "AddressesAssigned", "NotAssigned", what, hint=hint, field=field)


def _finding(gateway: Gateway, condition: str, reason: str, what: str, *, hint: str, field: str) -> Finding:
    return Finding(
        object=gateway.ref,
        condition=condition,
        reason=reason,
        message=f"Gateway `{gateway.key}` asks for {what}",
        hint=hint,
        field=field,
    )
