"""One listener as its author wrote it, and what is told about it.

Which listeners a gateway has is worked out in `holders.py`, which of them are refused in `conflicts.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tripylon.api.gateway import Listener, ListenerNamespaces, RouteNamespaces
from tripylon.api.ingress import INGRESS_GROUP
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.findings import Finding, Severity
from tripylon.model.plan import Namespaces
from tripylon.values import Name, Ref


class Entry(NamedTuple):
    """One listener as its author wrote it, and where it stands."""

    holder: Ref
    """The Gateway or ListenerSet that states it, or the Ingress whose certificate it presents."""
    spec: Listener
    place: int
    """Index in the holder's `spec.listeners`; of an Ingress, among the hosts that it has certificates for."""
    field: str
    """Where its holder states it."""

    @property
    def id(self) -> str:
        """Unique in the gateway: the listener's name, behind `namespace/set/` if a ListenerSet states it."""
        return self.spec.name if self.holder.kind == "Gateway" else f"{self.holder.key}/{self.spec.name}"

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

    @property
    def is_udp(self) -> bool:
        """Whether it takes datagrams, so that it shares its port with none that takes connections."""
        return self.spec.protocol == "UDP"


def holder_of(gateway: Name, listener: str) -> Ref:
    """The object that states a listener of a gateway, by the listener's id."""
    namespace, _, rest = listener.partition("/")
    if not rest:
        return Ref(GATEWAY_GROUP, "Gateway", *gateway)
    name, _, listener = rest.partition("/")
    # Names of listeners that Ingresses add have a colon, which those of others cannot have.
    if ":" in listener:
        return Ref(INGRESS_GROUP, "Ingress", namespace, name)
    return Ref(GATEWAY_GROUP, "ListenerSet", namespace, name)


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
        object=holder,
        severity=severity,
        condition=condition,
        reason=reason,
        message=f"Listener `{entry.spec.name}` of {holder.kind} `{holder.key}` {what}",
        hint=hint,
        field=_field(entry, field),
        listener=entry.spec.name,
    )


def _field(entry: Entry, field: str) -> str:
    """A field of a listener in its holder; of an Ingress it is the certificate that the listener is there for."""
    return entry.field + (f".{field}" if field and entry.holder.kind != "Ingress" else "")


def by_port(listeners: Iterable[Entry]) -> Iterator[tuple[Entry, ...]]:
    """The listeners that share a port and a transport, in the order in which they came."""
    ports: dict[tuple[int, bool], list[Entry]] = {}
    for entry in listeners:
        ports.setdefault((entry.spec.port, entry.is_udp), []).append(entry)
    return (tuple(each) for each in ports.values())
