"""Which listeners a gateway has: its own, those of the ListenerSets that it admits, those of Ingresses' certificates.

The order is the one in which they are merged (Gateway API, ListenerSet): the Gateway's own, then older sets before
younger ones, then sets by name, then Ingresses likewise. The invariant: everything that is judged by order is judged
along this list. Read `conflicts.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tripylon.api.gateway import Gateway, Listener, ListenerNamespaces, RouteNamespaces
from tripylon.api.listener_sets import ListenerSet
from tripylon.findings import Finding, Severity
from tripylon.graph import Read
from tripylon.model.ingress_places import CERTIFICATES_BY_GATEWAY, IngressListeners, IngressPlace, listeners_of
from tripylon.model.namespaces import allows
from tripylon.model.plan import Namespaces
from tripylon.values import Name
from tripylon.world.world import LISTENER_SETS_BY_GATEWAY

HTTPS_PORT = 443
"""Where certificates of Ingresses are presented if a Gateway has no HTTPS listener of its own."""


class Entry(NamedTuple):
    """One listener as its author wrote it, and where it stands."""

    holder: Gateway | ListenerSet
    spec: Listener
    place: int
    """Index in the holder's `spec.listeners`."""

    @property
    def id(self) -> str:
        """Unique in the gateway: the listener's name, behind `namespace/set/` if a ListenerSet states it."""
        return self.spec.name if isinstance(self.holder, Gateway) else f"{self.holder.key}/{self.spec.name}"

    @property
    def hostname(self) -> str:
        """The host name that it serves, in lower case; empty: all."""
        return self.spec.hostname.lower()

    @property
    def terminates(self) -> bool:
        """Whether it ends TLS itself."""
        return self.spec.protocol == "HTTPS" or (self.spec.protocol == "TLS" and self.tls_mode == "Terminate")

    @property
    def tls_mode(self) -> str:
        """`Terminate` or `Passthrough`, where the protocol has TLS."""
        return (self.spec.tls.mode if self.spec.tls is not None else None) or "Terminate"


def entries(read: Read, gateway: Gateway) -> tuple[Entry, ...]:
    """Every listener of a gateway, in the order of merging."""
    holders: tuple[Gateway | ListenerSet, ...] = (gateway, *admitted(read, gateway))
    written = [Entry(holder, spec, place) for holder in holders for place, spec in enumerate(holder.spec.listeners)]
    return (*written, *_of_ingresses(read, gateway, written))


def _of_ingresses(read: Read, gateway: Gateway, written: list[Entry]) -> Iterator[Entry]:
    """HTTPS listeners for the certificates of Ingresses, on the port of the Gateway's own; the oldest has a host."""
    there = [each for each in written if each.spec.protocol in ("HTTPS", "TLS")]
    port = next((each.spec.port for each in there if each.spec.protocol == "HTTPS"), HTTPS_PORT)
    taken = {each.hostname for each in there if each.spec.port == port}
    for place in sorted(read.lookup(CERTIFICATES_BY_GATEWAY, gateway.key), key=_age_of_ingress):
        if not admits_from(read, gateway, place.name.namespace):
            continue
        holder = listeners_of(place, gateway.key, port, without=frozenset(taken))
        if holder is not None:
            yield from (Entry(holder, spec, index) for index, spec in enumerate(holder.spec.listeners))
            taken |= {spec.hostname for spec in holder.spec.listeners}


def _age_of_ingress(place: IngressPlace) -> tuple[bool, str, Name]:
    return (not place.created, place.created, place.name)


def admitted(read: Read, gateway: Gateway) -> tuple[ListenerSet, ...]:
    """The ListenerSets that a Gateway lets in, in the order of merging."""
    if gateway.spec.allowed_listeners is None:
        return ()
    found = [each for each in read.lookup(LISTENER_SETS_BY_GATEWAY, gateway.key) if admits(read, gateway, each)]
    return tuple(sorted(found, key=_age))


def admits(read: Read, gateway: Gateway, set_: ListenerSet) -> bool:
    """Whether a Gateway lets a ListenerSet in (Gateway API, Gateway.spec.allowedListeners)."""
    return admits_from(read, gateway, set_.metadata.namespace)


def admits_from(read: Read, gateway: Gateway, namespace: str) -> bool:
    """Whether a Gateway lets in listeners of a namespace: those of ListenerSets, and of Ingresses' certificates."""
    if gateway.spec.allowed_listeners is None:
        return False
    namespaces = chosen(gateway.spec.allowed_listeners.namespaces)
    return allows(read, namespaces, gateway.metadata.namespace, namespace)


def chosen(namespaces: RouteNamespaces | ListenerNamespaces) -> Namespaces:
    """What a choice of namespaces means; a mode that is not known, or a selector that is missing, lets none in."""
    selector = namespaces.selector
    match namespaces.from_:
        case "All":
            return Namespaces("All")
        case "Same":
            return Namespaces("Same")
        case "Selector" if selector is not None:
            return Namespaces(
                "Selector",
                tuple(sorted(selector.match_labels.items())),
                tuple((item.key, item.operator, item.values) for item in selector.match_expressions),
            )
    return Namespaces("None")


def _age(set_: ListenerSet) -> tuple[bool, str, str, str]:
    created = set_.metadata.creation_timestamp
    return (not created, created, *set_.key)


def about_listener(
    entry: Entry,
    condition: str,
    reason: str,
    what: str,
    *,
    hint: str = "",
    field: str = "",
    severity: Severity = "error",
) -> Finding:
    """A finding on one listener; `what` follows the listener's name in the sentence, `field` is below the listener."""
    holder = entry.holder
    return Finding(
        object=holder.ref,
        severity=severity,
        condition=condition,
        reason=reason,
        message=f"Listener `{entry.spec.name}` of {holder.ref.kind} `{holder.key}` {what}",
        hint=hint,
        field=_field(entry, field),
        listener=entry.spec.name,
    )


def _field(entry: Entry, field: str) -> str:
    """A field of a listener in its holder; of an Ingress it is the certificate that the listener is there for."""
    if isinstance(entry.holder, IngressListeners):
        return f"spec.tls[{entry.holder.places[entry.place]}]"
    return f"spec.listeners[{entry.place}]" + (f".{field}" if field else "")


def by_port(listeners: tuple[Entry, ...]) -> Iterator[tuple[Entry, ...]]:
    """The listeners that share a port and a transport, in the order of merging."""
    ports: dict[tuple[int, bool], list[Entry]] = {}
    for entry in listeners:
        ports.setdefault((entry.spec.port, entry.spec.protocol == "UDP"), []).append(entry)
    return (tuple(each) for each in ports.values())
