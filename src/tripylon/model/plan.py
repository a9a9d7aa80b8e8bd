"""The Plan: what each gateway shall do, in words that are neither Kubernetes' nor Envoy's wire format.

Frozen values only; `gateways.py`, `routes.py`, `hosts.py` and `tls.py` make them, `envoy/` turns them into bytes,
`status/` reads them for conditions. The invariant: a plan holds everything that emitting needs, already checked, so an
emitter never looks back at a user's object. How backends are reached is in `cluster_plans.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from tripylon.values import Name, Ref

PathKind = Literal["Exact", "PathPrefix", "RegularExpression"]
Protocol = Literal["http1", "http2", "tcp", "udp"]


class RouteTable(NamedTuple):
    """One routing table of a gateway: all HTTP listeners of a port share one, and all HTTPS listeners of a port."""

    gateway: Name
    port: int
    secure: bool
    """Whether it is that of the HTTPS listeners."""


class HostKey(NamedTuple):
    """One hostname within a routing table; the empty hostname stands for every host."""

    table: RouteTable
    hostname: str


class ClusterKey(NamedTuple):
    """One destination as a gateway reaches it. Two ways to speak to it are two clusters, so that a change from one to
    the other is made before the old one is broken, and no address is spoken to in the wrong way meanwhile."""

    kind: Literal["Service", "ServiceImport", "Backend", "XBackend", "Collector"]
    """`Collector`: where the gateway of this name sends its spans, whatever that is, so that its listeners can name it
    and stay as they are when it changes, or cannot be reached."""
    namespace: str
    name: str
    port: int
    """Service port; 0 for a Backend or XBackend, which has ports of its own."""
    protocol: Protocol
    tls: bool = False
    gateway: Name | None = None
    """The gateway that shows a certificate of its own to the destination; None: all gateways reach it alike."""


class Value(msgspec.Struct, frozen=True, gc=False):
    """A named value to be matched: a header (name in lower case) or a query parameter."""

    name: str
    value: str
    regex: bool = False


class Match(msgspec.Struct, frozen=True, gc=False):
    """The conditions of one match; all must hold. A prefix has no trailing slash, so the root is empty."""

    path_kind: PathKind
    path: str
    method: str = ""
    headers: tuple[Value, ...] = ()
    query: tuple[Value, ...] = ()
    rank: tuple[int, ...] = ()
    """Precedence by the kind's own rules, greater first; see `order.py`."""


class HeaderChange(msgspec.Struct, frozen=True, gc=False):
    """Header fields to set (replace), to add (append) and to remove."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class PathChange(msgspec.Struct, frozen=True, gc=False):
    """A new path: the whole of it, or of the prefix that the rule matched (empty prefix: the root)."""

    kind: Literal["full", "prefix"]
    value: str


class Rewrite(msgspec.Struct, frozen=True, gc=False):
    """What the backend shall see as Host and as path."""

    hostname: str = ""
    path: PathChange | None = None


class Redirect(msgspec.Struct, frozen=True, gc=False):
    """An answer with a Location header; what is left out is taken from the request (port: by HTTPRoute's rules)."""

    status: int = 302
    scheme: str = ""
    hostname: str = ""
    port: int = 0
    path: PathChange | None = None


class Cors(msgspec.Struct, frozen=True, gc=False):
    """Cross-origin policy; origins and lists as the HTTPRoute CORS filter writes them."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    expose: tuple[str, ...]
    credentials: bool
    max_age_s: int


class AuthService(msgspec.Struct, frozen=True, gc=False):
    """A service that is asked whether a request may pass."""

    grpc: bool
    """Whether it speaks Envoy's ext_authz; else it is asked by HTTP, and 200 lets the request pass."""
    cluster: ClusterKey
    path: str
    """What is put before the request's own path when it is asked by HTTP; empty: nothing."""
    asked_headers: tuple[str, ...]
    """Further headers that it gets (by HTTP), or the only ones (by gRPC; empty: all), in lower case."""
    answered_headers: tuple[str, ...]
    """Headers of its answer that the backend gets, in lower case; empty: all that say nothing of the answer itself."""
    max_body_bytes: int
    """Largest body that it gets; a larger one is refused; 0: it gets none."""


class ListenerAuth(msgspec.Struct, frozen=True, gc=False):
    """What a listener asks before a route is chosen."""

    listener: str
    """Id of the listener."""
    services: tuple[AuthService, ...]
    closed: bool
    """A service that should be asked cannot be: every request is answered with 500."""


class Mirror(msgspec.Struct, frozen=True, gc=False):
    """A share of the requests to be copied to a second destination, whose answers are dropped."""

    cluster: ClusterKey
    numerator: int = 100
    denominator: int = 100


class Retry(msgspec.Struct, frozen=True, gc=False):
    """When and how often a failed try is repeated. `attempts` counts repetitions; connection failures always count."""

    attempts: int
    codes: tuple[int, ...] = ()
    backoff_ms: int = 0


class Filters(msgspec.Struct, frozen=True, gc=False):
    """The filters of a rule, or of one of its destinations."""

    request_headers: HeaderChange | None = None
    response_headers: HeaderChange | None = None
    rewrite: Rewrite | None = None
    redirect: Redirect | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    auth: tuple[AuthService, ...] = ()
    """Services that must let a request pass, in this order."""
    closed: bool = False
    """A service that should be asked cannot be: the requests concerned are answered with 500."""


NO_FILTERS = Filters()


class Session(msgspec.Struct, frozen=True, gc=False):
    """By what a session is known, whose requests stay at one endpoint of a destination."""

    kind: Literal["cookie", "header"]
    name: str
    """Name of the cookie, or of the header in lower case."""
    path: str = "/"
    """Path of the cookie."""
    lasts_s: int = 0
    """How long the cookie is good; 0: until the browser is closed."""


class Destination(msgspec.Struct, frozen=True, gc=False):
    """One backend of a rule and its share of the requests."""

    weight: int
    cluster: ClusterKey | None
    """None: a reference that cannot be followed; its share of the requests is answered with 500."""
    filters: Filters = NO_FILTERS
    broken: bool = False
    """A filter of this destination cannot be built: its share of the requests is answered with 500."""
    session: Session | None = None
    """None: each request goes to any endpoint."""


class RulePlan(msgspec.Struct, frozen=True, gc=False):
    """One rule of a route."""

    index: int
    name: str
    matches: tuple[Match, ...]
    destinations: tuple[Destination, ...]
    filters: Filters = NO_FILTERS
    request_timeout_ms: int | None = None
    """Bound on all tries together; None or 0: no bound."""
    backend_timeout_ms: int | None = None
    """Bound on each try; None or 0: no bound."""
    retry: Retry | None = None
    broken: bool = False
    """The rule cannot be built as written: every request that it matches is answered with 500."""
    hostname: str | None = None
    """The only one of the route's own hostnames that the rule is for, as an Ingress has it; None: it is for all."""


class Attachment(msgspec.Struct, frozen=True, gc=False):
    """One hostname under which a route is reachable through one listener."""

    host: HostKey
    listener: str
    """Id of the listener."""
    own_hostname: str
    """The route's own hostname of which `host` is the intersection with the listener; empty: the route names none."""


def attachment_order(attachment: Attachment) -> tuple[HostKey, str, str]:
    """Sort key of a route's attachments: those to one host stand together, and are found quickly."""
    return attachment.host, attachment.listener, attachment.own_hostname


class ParentPlan(msgspec.Struct, frozen=True, gc=False):
    """What became of one entry of `spec.parentRefs` that names a gateway of ours, or a ListenerSet of one."""

    index: int
    gateway: Name
    listeners: tuple[str, ...]
    """Ids of the listeners that the route is attached to by this entry."""


class RoutePlan(msgspec.Struct, frozen=True, gc=False):
    """One HTTPRoute, GRPCRoute or Ingress, resolved."""

    ref: Ref
    created: str
    """RFC 3339 creation time, which decides between equals; empty in files that do not state one."""
    grpc: bool
    rules: tuple[RulePlan, ...]
    parents: tuple[ParentPlan, ...]
    attachments: tuple[Attachment, ...]
    """Sorted by `attachment_order`."""
    clusters: tuple[ClusterKey, ...]
    """Every cluster that some rule uses, once."""
    accepted: bool = True
    """False: no rule can be built as written, so no listener counts the route as attached."""


class RouteEntry(msgspec.Struct, frozen=True, gc=False):
    """One match of one rule in the order of one host."""

    route: Ref
    grpc: bool
    rule: RulePlan
    match: Match


class HostPlan(msgspec.Struct, frozen=True, gc=False):
    """All that one hostname of a routing table answers, in order of precedence: the first match serves."""

    key: HostKey
    entries: tuple[RouteEntry, ...]
    auth: ListenerAuth | None = None
    """What the listener asks before a route is chosen; None: nothing."""
    rightful: str = ""
    """Id of the HTTPS listener that serves this hostname, where the port has others: who asks by a connection that
    another one took is told to connect anew (421). Empty: it does not matter who took the connection."""


class Namespaces(msgspec.Struct, frozen=True, gc=False):
    """From which namespaces routes may attach."""

    mode: Literal["All", "Same", "Selector", "None"]
    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """(key, operator, values) of a label selector's matchExpressions."""


class Listener(msgspec.Struct, frozen=True, gc=False):
    """One listener as routes see it."""

    id: str
    """Unique in the gateway: the name of a listener of its own, `namespace/set/name` of one that a ListenerSet adds,
    `namespace/ingress/tls:host` of one that presents the certificate of an Ingress."""
    name: str
    """Name within the object that states it, by which routes name it."""
    holder: Ref
    """The Gateway, ListenerSet or Ingress that states it."""
    place: int
    """Index in the holder's `spec.listeners`; of an Ingress, among the hosts that it has certificates for."""
    port: int
    protocol: str
    hostname: str
    kinds: tuple[tuple[str, str], ...]
    """(group, kind) of the routes that may attach: allowed, supported and fitting the protocol."""
    namespaces: Namespaces
    usable: bool
    """False: refused (conflict, unknown protocol); routes may attach, but nothing is served."""
    terminates: bool = False
    """Whether it ends TLS itself, so that it cannot serve without a certificate."""
    filtered: bool = False
    """Whether every request passes filters before a route is chosen; see `listener_auth.py`."""

    @property
    def http(self) -> bool:
        """Whether requests are understood, so that there is a routing table; else connections or datagrams pass."""
        return self.protocol in ("HTTP", "HTTPS")

    def table(self, gateway: Name) -> RouteTable:
        """The routing table that serves this listener, if it is one for HTTP."""
        return route_table(gateway, self.port, secure=self.protocol == "HTTPS")


@lru_cache(maxsize=1024)
def route_table(gateway: Name, port: int, *, secure: bool) -> RouteTable:
    """One object for all routes, since each of them holds on to it."""
    return RouteTable(gateway, port, secure)


class HolderKey(NamedTuple):
    """An object that states listeners of a gateway: the Gateway itself, a ListenerSet, or an Ingress."""

    gateway: Name
    holder: Ref


class MergeOrder(NamedTuple):
    """Where the listeners of an object stand among all of their gateway, least first (Gateway API, ListenerSet)."""

    rank: int
    """0 for the Gateway itself, 1 for ListenerSets, 2 for Ingresses."""
    undated: bool
    created: str
    name: Name


class HolderListeners(msgspec.Struct, frozen=True, gc=False):
    """The listeners that one object adds to a gateway, in the order in which it states them."""

    key: HolderKey
    order: MergeOrder
    listeners: tuple[Listener, ...]
    sockets: frozenset[tuple[int, bool]]
    """Their ports, each with whether it is one of UDP."""
    tables: frozenset[RouteTable]
    """The routing tables of the usable ones."""


def merge_order(holder: HolderListeners | HolderTls) -> MergeOrder:
    """Sort key of the parts of a gateway."""
    return holder.order


class GatewayHead(msgspec.Struct, frozen=True, gc=False):
    """One gateway of ours without its listeners."""

    name: Name
    created: str
    """RFC 3339 creation time; empty in files that do not state one."""
    addresses: tuple[str, ...]
    """IP addresses that its listeners bind."""
    accepted: bool
    admits: Namespaces
    """From which namespaces it takes listeners of others."""


class GatewayPlan(msgspec.Struct, frozen=True, gc=False):
    """One gateway of ours with all of its listeners: what a proxy gets. Whom one listener concerns reads that alone."""

    name: Name
    addresses: tuple[str, ...]
    """IP addresses that its listeners bind."""
    listeners: tuple[Listener, ...]
    """Its own, then those of the ListenerSets that it admits, the earlier before the later."""
    accepted: bool
    sockets: frozenset[tuple[int, bool]]
    """The ports of all listeners, each with whether it is one of UDP."""
    tables: frozenset[RouteTable]
    """The routing tables of the usable ones."""


class ListenerSetPlan(msgspec.Struct, frozen=True, gc=False):
    """One ListenerSet whose parent is a gateway of ours."""

    name: Name
    gateway: Name
    admitted: bool
    """Whether the gateway has its listeners."""


class Certificate(msgspec.Struct, frozen=True, gc=False):
    """A certificate chain and its key in PEM, parsed and matched once; or the fault that forbids their use."""

    name: Name
    chain: bytes = b""
    key: bytes = b""
    not_before: int = 0
    """Begin of the leaf certificate's validity, in seconds since 1970."""
    not_after: int = 0
    """End of the leaf certificate's validity, in seconds since 1970."""
    hostnames: tuple[str, ...] = ()
    """DNS names that the leaf certificate is for, in lower case."""
    fault: str = ""
    """What is wrong with the Secret, as the end of a sentence about it; empty: nothing."""
    last_good: bool = False
    """Whether, in spite of the fault, there is a certificate: the one that the Secret held before."""


class SpanAttribute(msgspec.Struct, frozen=True, gc=False):
    """An attribute of each span."""

    name: str
    source: Literal["header", "literal", "attribute"]
    value: str
    """The request's header in lower case, the text itself, or the attribute's OpenTelemetry name."""


class TracingPlan(msgspec.Struct, frozen=True, gc=False):
    """Which requests of a gateway are traced, and where their spans go."""

    policy: Name
    """The XTelemetryPolicy that says so."""
    cluster: ClusterKey
    """The gateway's own name for the collector, which takes OTLP by gRPC if HTTP/2 is spoken to it, else by HTTP."""
    collector: ClusterKey | None
    """The collector; None: it cannot be reached, and spans are lost."""
    authority: str
    """What the collector sees as its own name."""
    headers: tuple[tuple[str, str], ...]
    """Headers that go with what is sent."""
    numerator: int
    denominator: int
    """Of so many requests of which nobody has decided `numerator` are traced."""
    follows: bool
    """Whether the decision of who sent the request holds; else all requests are as if nobody had decided."""
    service: str
    span: str
    """Name of each span; empty: the proxy's own."""
    attributes: tuple[SpanAttribute, ...] = ()


class FrontendKey(NamedTuple):
    """The settings towards clients of one port of a gateway, or of all ports without settings of their own."""

    gateway: Name
    port: int
    """0: the default settings."""


class ClientAuthorities(msgspec.Struct, frozen=True, gc=False):
    """By whom certificates of clients must be signed."""

    key: FrontendKey
    bundle: bytes
    """Certificates in PEM."""
    insecure: bool
    """Let in also those whose certificate somebody else signed."""


class ClientValidation(msgspec.Struct, frozen=True, gc=False):
    """How a listener checks its clients."""

    authorities: FrontendKey
    required: bool
    """Refuse those who show no certificate."""


class TlsPlan(msgspec.Struct, frozen=True, gc=False):
    """The TLS side of one listener that ends TLS: the Secrets whose certificates it presents."""

    listener: str
    """Id of the listener."""
    certificates: tuple[Name, ...]
    clients: ClientValidation | None = None
    """None: clients need no certificate, and none is asked for."""


class Presented(NamedTuple):
    """A usable listener with the names that its certificates are for."""

    listener: str
    """Id of the listener."""
    port: int
    hostname: str
    names: frozenset[str]


class HolderTls(msgspec.Struct, frozen=True, gc=False):
    """The TLS side of the listeners that one object adds to a gateway."""

    key: HolderKey
    order: MergeOrder
    listeners: tuple[TlsPlan, ...]
    """Those that have what they need to end TLS."""
    presented: tuple[Presented, ...]
    """The same with the names of their certificates."""
    valid: bool
    """Whether any of the object's listeners, of whatever protocol, can be served."""
    tables: frozenset[RouteTable]
    """The routing tables of those that can."""


class GatewayTls(msgspec.Struct, frozen=True, gc=False):
    """The TLS side of a gateway: listeners without a usable certificate are missing here and are not served."""

    name: Name
    listeners: tuple[TlsPlan, ...]


class ClientCertificate(msgspec.Struct, frozen=True, gc=False):
    """What a gateway shows to the backends that a BackendTLSPolicy has it reach by TLS."""

    gateway: Name
    secret: Name | None
    """None: it cannot be had, so backends that would be shown it are not reached."""
