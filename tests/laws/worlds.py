"""Random worlds: objects of every kind out of a small vocabulary, so that names meet, references hit and rules clash.

Each strategy makes plain manifests, as users write them, and decodes them like any other source. `World` is the state
that a history of edits leads to; `settled` is the graph of such a state, made in one go.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from hypothesis import strategies as st
from tests.live.certificates import Authority

from tripylon import loop
from tripylon.api.kinds import decode, find
from tripylon.api.meta import Resource
from tripylon.envoy.options import EmitOptions
from tripylon.graph import Graph, Table
from tripylon.model.options import Options
from tripylon.values import Ref
from tripylon.world import world as tables

Manifest = dict[str, Any]
World = dict[Ref, Resource]

GATEWAY_API = "gateway.networking.k8s.io"
OWN = "gateway.tripylon.dev"
VERSIONS = {
    "GatewayClass": f"{GATEWAY_API}/v1",
    "Gateway": f"{GATEWAY_API}/v1",
    "ListenerSet": f"{GATEWAY_API}/v1",
    "HTTPRoute": f"{GATEWAY_API}/v1",
    "GRPCRoute": f"{GATEWAY_API}/v1",
    "TLSRoute": f"{GATEWAY_API}/v1",
    "TCPRoute": f"{GATEWAY_API}/v1",
    "UDPRoute": f"{GATEWAY_API}/v1",
    "ReferenceGrant": f"{GATEWAY_API}/v1",
    "BackendTLSPolicy": f"{GATEWAY_API}/v1",
    **dict.fromkeys(("XBackend", "XBackendTrafficPolicy", "XTelemetryPolicy"), "gateway.networking.x-k8s.io/v1alpha1"),
    "ServiceImport": "multicluster.x-k8s.io/v1alpha1",
    "Backend": f"{OWN}/v1alpha1",
    "EndpointSlice": "discovery.k8s.io/v1",
}
SPACES = ("a", "b", "c")
HOSTNAMES = (
    *("", "*.com", "*.example.com", "*.shop.example.com"),
    *("www.example.com", "shop.example.com", "cart.shop.example.com", "other.org"),
)
PORTS = (8080, 8443)
PATHS = ("/", "/a", "/a/", "/a/b", "/ab", "/a/b/c")
AGES = ("", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
SERVICES = ("web", "api")


# --- Objects ------------------------------------------------------------------------------------------------


def make(kind: str, namespace: str, name: str, *, created: str = "", labels: Any = None, **rest: Any) -> Resource:
    """One object; what is empty is left out."""
    metadata: Manifest = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if created:
        metadata["creationTimestamp"] = created
    if labels:
        metadata["labels"] = labels
    version = VERSIONS.get(kind, "v1")
    found = find(version, kind)
    assert found is not None
    return decode(found, {"apiVersion": version, "kind": kind, "metadata": metadata, **rest})


def some(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Manifest]:
    """A map that may lack any of its entries."""
    return st.fixed_dictionaries({}, optional=optional)


def few(items: st.SearchStrategy[Any], least: int = 0, most: int = 2, key: Any = None) -> st.SearchStrategy[list[Any]]:
    """A short list; with `key`, without two items of the same key."""
    return st.lists(items, min_size=least, max_size=most, unique_by=key)


def one(*words: Any) -> st.SearchStrategy[Any]:
    """One of these."""
    return st.sampled_from(words)


# --- Gateways -----------------------------------------------------------------------------------------------


@cache
def certificates() -> tuple[tuple[str, str], ...]:
    """Two real certificates with their keys in PEM, and what is none: keys exchanged, nonsense, an empty text."""
    authority = Authority()
    first, second = authority.issue("www.example.com"), authority.issue("*.example.com", "shop.example.com")
    return first, second, (first[0], second[1]), ("nonsense", first[1]), ("", "")


SECRETS = st.builds(
    lambda space, name, pair: make(
        "Secret",
        space,
        name,
        type="kubernetes.io/tls",
        stringData={key: text for key, text in zip(("tls.crt", "tls.key"), pair, strict=True) if text},
    ),
    one(*SPACES[:2]),
    one("cert", "spare"),
    st.integers(0, 4).map(lambda index: certificates()[index]),
)

_SECRET_REFS = st.fixed_dictionaries(
    {"name": one("cert", "spare", "missing")}, optional={"namespace": one(*SPACES), "kind": one("Secret", "ConfigMap")}
)
_NAMESPACES = one(
    *({"from": "All"}, {"from": "All"}, {"from": "Same"}),
    {"from": "Selector", "selector": {"matchLabels": {"team": "red"}}},
    {"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]}},
)


def _listener(name: str, port: int, protocol: str, hostname: str, secrets: Any, allowed: Any, kinds: Any) -> Manifest:
    listener: Manifest = {"name": name, "port": port, "protocol": protocol, "allowedRoutes": {"namespaces": allowed}}
    if kinds:
        listener["allowedRoutes"]["kinds"] = kinds
    if hostname:
        listener["hostname"] = hostname
    if protocol == "HTTPS":
        listener["tls"] = {"certificateRefs": secrets}
    return listener


LISTENERS = st.builds(
    _listener,
    one("one", "two", "three", "four"),
    one(*PORTS),
    one("HTTP", "HTTP", "HTTP", "HTTPS", "HTTPS", "TCP"),
    one(*HOSTNAMES),
    few(_SECRET_REFS),
    _NAMESPACES,
    one([], [], [], [{"kind": "HTTPRoute"}], [{"kind": "GRPCRoute"}, {"kind": "TCPRoute"}]),
)
GATEWAYS = st.builds(
    lambda space, name, class_, listeners, addresses, created, shown: make(
        "Gateway",
        space,
        name,
        created=created,
        spec={"gatewayClassName": class_, "listeners": listeners, "addresses": addresses, **shown},
    ),
    one(*SPACES[:2]),
    one("edge", "inner"),
    one("ours", "ours", "ours", "foreign"),
    few(LISTENERS, 1, 4, key=lambda listener: listener["name"]),
    one([], [], [{"value": "127.0.0.2"}], [{"type": "Hostname", "value": "x.org"}]),
    one(*AGES),
    st.one_of(st.just({}), st.builds(lambda ref: {"tls": {"backend": {"clientCertificateRef": ref}}}, _SECRET_REFS)),
)
CLASSES = st.builds(
    lambda name, controller: make("GatewayClass", "", name, spec={"controllerName": controller}),
    one("ours", "foreign"),
    one("gateway.tripylon.dev/controller", "example.com/other"),
)

# --- Backends -----------------------------------------------------------------------------------------------

_PORT = st.fixed_dictionaries(
    {"port": one(80, 81)},
    optional={
        "name": one("http", "more"),
        "protocol": one("TCP", "TCP", "TCP", "UDP"),
        "appProtocol": one("http", "kubernetes.io/h2c", "kubernetes.io/ws", "odd"),
    },
)
SERVICE_OBJECTS = st.builds(
    lambda space, name, ports, external: make("Service", space, name, spec={"ports": ports, **external}),
    one(*SPACES[:2]),
    one(*SERVICES),
    few(_PORT, 0, 2, key=lambda port: port["port"]),
    one({}, {}, {}, {"type": "ExternalName", "externalName": "out.example.net"}),
)
_ENDPOINT = st.fixed_dictionaries(
    {"addresses": one(["10.0.0.1"], ["10.0.0.2"], ["10.0.0.3"])},
    optional={
        "conditions": one({"ready": True}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}),
        "zone": one("east", "west"),
    },
)
SLICES = st.builds(
    lambda space, name, label, service, endpoints, ports: make(
        "EndpointSlice",
        space,
        name,
        labels={label: service},
        addressType="IPv4",
        endpoints=endpoints,
        ports=ports,
    ),
    one(*SPACES[:2]),
    one("s1", "s2", "s3"),
    one(
        *["kubernetes.io/service-name"] * 3,
        *("multicluster.kubernetes.io/service-name", "gateway.tripylon.dev/x-backend"),
    ),
    one(*SERVICES, "pods"),
    few(_ENDPOINT),
    few(some(name=one("http", "more"), port=one(8000, 8001), protocol=one("TCP", "TCP", "TCP", "UDP")), 0, 2),
)
_DESTINATION = st.one_of(
    st.builds(
        lambda hosts: {"static": {"hosts": [{"host": host, "port": 9000} for host in hosts]}},
        few(one("10.1.0.1", "10.1.0.2", "host.example.net"), 0, 2, key=str),
    ),
    st.just({"dns": {"hostname": "dns.example.net", "port": 443}}),
)
_BACKEND_TLS = one(
    *({}, {}, {"tls": {}}, {"tls": {"insecureSkipVerify": True}}),
    *(
        {"tls": {"sni": "x.org", "caCertificateRefs": [{"name": "authority"}]}},
        {"tls": {"secretRef": {"name": "cert"}}},
    ),
)
BACKENDS = st.builds(
    lambda space, name, destination, tls: make("Backend", space, name, spec={**destination, **tls}),
    one(*SPACES[:2]),
    one("remote", "cloud"),
    _DESTINATION,
    _BACKEND_TLS,
)
CONFIG_MAPS = st.builds(
    lambda space, index: make("ConfigMap", space, "authority", data={"ca.crt": certificates()[index][0]}),
    one(*SPACES[:2]),
    one(0, 1, 3),
)
_X_TLS = one(
    *({}, {}, {"tls": {"mode": "None"}}),
    {
        "tls": {
            "mode": "ServerOnly",
            "validation": {
                "hostname": "x.org",
                "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "authority"}],
            },
        }
    },
)
_PODS: Manifest = {"type": "EndpointSelector", "endpointSelector": {"matchLabels": {"app": "web"}}}
X_BACKENDS = st.builds(
    lambda space, name, place, protocol, tls: make(
        "XBackend", space, name, spec={"port": {"number": 8000}, **place, **protocol, **tls}
    ),
    one(*SPACES[:2]),
    one("pods", "far"),
    one(
        _PODS,
        {**_PODS, "sessionPersistence": {"cookie": {}}},
        {"type": "ExternalHostname", "externalHostname": {"hostname": "out.example.net"}},
    ),
    one({}, {"protocol": "HTTP"}, {"protocol": "GRPC"}, {"protocol": "TCP"}),
    _X_TLS,
)
IMPORTS = st.builds(
    lambda space, ports: make("ServiceImport", space, "web", spec={"ports": ports}),
    one(*SPACES[:2]),
    few(_PORT, 0, 2, key=lambda port: port["port"]),
)
_AUTHORITIES = one(
    *({"caCertificateRefs": [{"group": "", "kind": kind, "name": "authority"}]} for kind in ("ConfigMap", "Secret")),
    {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": name} for name in ("missing", "authority")]},
    *({"wellKnownCACertificates": "System"}, {"wellKnownCACertificates": "example.com/odd"}),
)
POLICIES = st.builds(
    lambda space, name, targets, authorities, names, created: make(
        "BackendTLSPolicy",
        space,
        name,
        created=created,
        spec={
            "targetRefs": [{"group": "", "kind": "Service", **target} for target in targets],
            "validation": {"hostname": "in.example.net", **authorities, **names},
        },
    ),
    one(*SPACES[:2]),
    one("p1", "p2", "p3"),
    few(one({"name": "web"}, {"name": "api"}, {"name": "web", "sectionName": "http"}), 1, 2, key=str),
    _AUTHORITIES,
    one({}, {"subjectAltNames": [{"type": "URI", "uri": "spiffe://x.org/web"}]}),
    one(*AGES),
)
NAMESPACES = st.builds(
    lambda name, labels: make("Namespace", "", name, labels=labels), one(*SPACES), one({}, {"team": "red"})
)
GRANTS = st.builds(
    lambda space, name, kind, origin, to: make(
        "ReferenceGrant",
        space,
        name,
        spec={"from": [{"group": GATEWAY_API, "kind": kind, "namespace": origin}], "to": [to]},
    ),
    one(*SPACES),
    one("g1", "g2"),
    one("HTTPRoute", "HTTPRoute", "GRPCRoute", "TCPRoute", "Gateway"),
    one(*SPACES),
    one(
        *({"group": "", "kind": "Service"}, {"group": "", "kind": "Service", "name": "web"}),
        *({"group": "", "kind": "Secret"}, {"group": OWN, "kind": "Backend"}),
    ),
)

# --- Routes -------------------------------------------------------------------------------------------------

_PARENTS = st.builds(
    lambda name, section: {**name, **section},
    one(*[{"name": "edge", "namespace": "a"}] * 4, {"name": "edge"}, {"name": "inner"}, {"name": "missing"}),
    one({}, {}, {}, {"sectionName": "one"}, {"sectionName": "two"}, {"sectionName": "five"}, {"port": 8443}),
)
_TARGETS = st.builds(
    lambda target, space: {**target, **space},
    one(
        *({"name": "web", "port": 80}, {"name": "web", "port": 80}, {"name": "web", "port": 81}),
        *({"name": "api", "port": 80}, {"name": "api", "port": 80}, {"name": "missing", "port": 80}),
        *({"group": OWN, "kind": "Backend", "name": name} for name in ("remote", "cloud", "missing")),
        *({"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": name} for name in ("pods", "far")),
        {"group": "multicluster.x-k8s.io", "kind": "ServiceImport", "name": "web", "port": 80},
        {"group": "example.com", "kind": "Odd", "name": "odd"},
    ),
    one({}, {}, {"namespace": "a"}, {"namespace": "a"}, {"namespace": "b"}, {"namespace": "c"}),
)
_CHANGE = {"set": [{"name": "X-Set", "value": "1"}], "add": [{"name": "X-Add", "value": "2"}], "remove": ["X-Gone"]}
_COMMON_FILTERS = (
    {"type": "RequestHeaderModifier", "requestHeaderModifier": _CHANGE},
    {"type": "ResponseHeaderModifier", "responseHeaderModifier": _CHANGE},
    {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["Host"]}},
    {"type": "ExtensionRef", "extensionRef": {"group": "example.com", "kind": "Odd", "name": "odd"}},
    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "api", "port": 80}, "percent": 10}},
)
_HTTP_FILTERS = (
    *_COMMON_FILTERS,
    {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}},
    {
        "type": "URLRewrite",
        "urlRewrite": {"hostname": "in.org", "path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}},
    },
    {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/y"}}},
    {"type": "CORS", "cors": {"allowOrigins": ["https://x.org"], "allowCredentials": True}},
)
PATH_MATCHES = st.one_of(
    st.builds(lambda type_, value: {"type": type_, "value": value}, one("Exact", "PathPrefix"), one(*PATHS)),
    one({"type": "RegularExpression", "value": "/a.*"}, {"type": "RegularExpression", "value": "/(a|ab)/b"}),
)
_BROKEN_PATH = st.just({"type": "RegularExpression", "value": "("})
_HEADER = st.builds(
    lambda name, value: {"name": name, **value},
    one("X-One", "x-two"),
    one({"value": "1"}, {"value": "2"}, {"type": "RegularExpression", "value": "[12]"}),
)
_QUERY = st.builds(
    lambda name, value: {"name": name, **value},
    one("q", "Q"),
    one({"value": "1"}, {"type": "RegularExpression", "value": ".*"}),
)


def http_matches(paths: st.SearchStrategy[Manifest]) -> st.SearchStrategy[Manifest]:
    """One match of an HTTPRoute."""
    return st.fixed_dictionaries(
        {"path": paths},
        optional={
            "method": one("GET", "POST"),
            "headers": few(_HEADER, 0, 2, key=lambda each: each["name"].lower()),
            "queryParams": few(_QUERY, 0, 2, key=lambda each: each["name"]),
        },
    )


_GRPC_METHODS = one(
    *({"service": "shop.Cart"}, {"service": "shop.Cart", "method": "Add"}, {"method": "Add"}),
    *({"service": "shop.Cart", "method": "Drop"}, {"type": "RegularExpression", "service": "shop\\..*"}),
    {"service": "shop.CartBig", "method": "Add"},
)
GRPC_MATCHES = some(method=_GRPC_METHODS, headers=few(_HEADER, 0, 2, key=lambda each: each["name"].lower()))


def _backends(filters: tuple[Manifest, ...]) -> st.SearchStrategy[list[Any]]:
    own = few(one(*filters), 1, 1)
    ref = st.builds(lambda target, rest: {**target, **rest}, _TARGETS, some(weight=one(0, 1, 7), filters=own))
    return few(ref, 1, 2)


def http_rules(matches: st.SearchStrategy[Manifest]) -> st.SearchStrategy[Manifest]:
    """One rule of an HTTPRoute."""
    return st.fixed_dictionaries(
        {"backendRefs": _backends(_HTTP_FILTERS), "matches": few(matches, 1, 2)},
        optional={
            "filters": few(one(*_HTTP_FILTERS), 1, 2, key=lambda each: each["type"]),
            "timeouts": one({"request": "10s"}, {"request": "0s", "backendRequest": "1s"}),
            "retry": one({"attempts": 2, "codes": [503, 500]}, {"attempts": 0}),
        },
    )


GRPC_RULES = st.fixed_dictionaries(
    {"backendRefs": _backends(_COMMON_FILTERS), "matches": few(GRPC_MATCHES, 0, 2)},
    optional={"filters": few(one(*_COMMON_FILTERS), 1, 1)},
)


def routes(kind: str, rules: st.SearchStrategy[Manifest]) -> st.SearchStrategy[Resource]:
    """Routes of one kind."""
    return st.builds(
        lambda space, name, parents, hostnames, rules, created: make(
            kind,
            space,
            name,
            created=created,
            spec={"parentRefs": parents, "hostnames": [each for each in hostnames if each], "rules": rules},
        ),
        one("a", "a", "b"),
        one("r1", "r2", "r3", "r4"),
        few(_PARENTS, 1, 2, key=str),
        few(one(*HOSTNAMES), 0, 2, key=str),
        few(rules, 1, 2),
        one(*AGES),
    )


HTTP_ROUTES = routes("HTTPRoute", http_rules(http_matches(st.one_of(PATH_MATCHES, PATH_MATCHES, _BROKEN_PATH))))
GRPC_ROUTES = routes("GRPCRoute", GRPC_RULES)

# --- Streams ------------------------------------------------------------------------------------------------


def _passing(name: str, port: int, protocol: str, hostname: str, mode: str) -> Manifest:
    listener: Manifest = {"name": name, "port": port, "protocol": protocol, "allowedRoutes": {"namespaces": _ALL}}
    if protocol in ("TLS", "HTTPS"):
        listener["hostname"] = hostname
        listener["tls"] = {"mode": mode} if mode == "Passthrough" else {"certificateRefs": [{"name": "cert"}]}
    return listener


_ALL = {"from": "All"}
_NAMES = one("*.example.com", "www.example.com", "*.shop.example.com", "other.org")
PIPES = st.builds(
    lambda listeners, created: make(
        "Gateway", "a", "pipes", created=created, spec={"gatewayClassName": "ours", "listeners": listeners}
    ),
    few(
        st.one_of(
            st.builds(_passing, one("tcp"), one(5432), one("TCP"), st.just(""), st.just("")),
            st.builds(_passing, one("udp", "datagrams"), one(5432, 5433), one("UDP"), st.just(""), st.just("")),
            st.builds(_passing, one("tls", "more"), one(8444), one("TLS"), _NAMES, one("Passthrough", "Terminate")),
            st.builds(_passing, one("web"), one(8444), one("HTTPS"), _NAMES, st.just("Terminate")),
        ),
        1,
        4,
        key=lambda listener: listener["name"],
    ),
    one(*AGES),
)
"""A gateway that passes streams on."""
STREAM_ROUTES = st.builds(
    lambda kind, space, name, parents, hostnames, backends, created: make(
        kind,
        space,
        name,
        created=created,
        spec={
            "parentRefs": parents,
            "rules": [{"backendRefs": backends}],
            **({"hostnames": hostnames} if kind == "TLSRoute" else {}),
        },
    ),
    one("TLSRoute", "TLSRoute", "TCPRoute", "UDPRoute"),
    one("a", "a", "b"),
    one("s1", "s2", "s3"),
    few(one(*[{"name": "pipes", "namespace": "a"}] * 3, {"name": "edge", "namespace": "a"}), 1, 2, key=str),
    few(_NAMES, 1, 2, key=str),
    few(st.builds(lambda target, rest: {**target, **rest}, _TARGETS, some(weight=one(0, 1, 7))), 1, 2),
    one(*AGES),
)

# --- Policies of the experimental group ----------------------------------------------------------------------

TRAFFIC_POLICIES = st.builds(
    lambda space, name, targets, asked, created: make(
        "XBackendTrafficPolicy",
        space,
        name,
        created=created,
        spec={"targetRefs": [{"group": "", "kind": "Service", "name": target} for target in targets], **asked},
    ),
    one(*SPACES[:2]),
    one("t1", "t2"),
    few(one(*SERVICES), 1, 2, key=str),
    one({}, {"retryConstraint": {}}, {"sessionPersistence": {"cookie": {"name": "s"}}}),
    one(*AGES),
)
TELEMETRY_POLICIES = st.builds(
    lambda space, name, targets, collector, created: make(
        "XTelemetryPolicy",
        space,
        name,
        created=created,
        spec={
            "targetRefs": [{"group": GATEWAY_API, "kind": "Gateway", "name": target} for target in targets],
            "tracing": {"mode": "Enabled", "provider": {"backendRef": collector}} if collector else {},
        },
    ),
    one(*SPACES[:2]),
    one("t1", "t2"),
    few(one("edge", "inner", "pipes"), 1, 2, key=str),
    st.one_of(st.none(), _TARGETS),
    one(*AGES),
)

# --- Worlds -------------------------------------------------------------------------------------------------

_LESS = st.one_of(CLASSES, SECRETS, CONFIG_MAPS, NAMESPACES, GRANTS)
_MORE = st.one_of(
    SERVICE_OBJECTS, SLICES, GATEWAYS, BACKENDS, POLICIES, X_BACKENDS, IMPORTS, TRAFFIC_POLICIES, TELEMETRY_POLICIES
)
ROUTES = st.one_of(HTTP_ROUTES, HTTP_ROUTES, GRPC_ROUTES)
OTHERS = st.one_of(_MORE, _LESS, PIPES, STREAM_ROUTES)
OBJECTS = st.one_of(HTTP_ROUTES, HTTP_ROUTES, GRPC_ROUTES, PIPES, STREAM_ROUTES, STREAM_ROUTES, _MORE, _LESS)
"""Any object, routes more often than others."""

EDGE = make(
    "Gateway",
    "a",
    "edge",
    spec={
        "gatewayClassName": "ours",
        "listeners": [
            _listener("one", 8080, "HTTP", "", None, {"from": "All"}, []),
            _listener("two", 8080, "HTTP", "*.example.com", None, {"from": "All"}, []),
            _listener("three", 8443, "HTTPS", "*.example.com", [{"name": "cert"}], {"from": "All"}, []),
        ],
    },
)
"""A gateway that works."""


@cache
def base() -> tuple[Resource, ...]:
    """What every world begins with, so that none is empty: a gateway, a certificate, backends and a route."""
    chain, key = certificates()[0]
    targets = [{"name": "web", "port": 80}, {"group": OWN, "kind": "Backend", "name": "remote"}]
    slice_: Manifest = {
        "addressType": "IPv4",
        "endpoints": [{"addresses": [f"10.0.0.{number}"]} for number in (9, 7, 8)],
        "ports": [{"name": "http", "port": 8000}],
        "labels": {"kubernetes.io/service-name": "web"},
    }
    return (
        EDGE,
        make("Secret", "a", "cert", type="kubernetes.io/tls", stringData={"tls.crt": chain, "tls.key": key}),
        make("Service", "a", "web", spec={"ports": [{"port": 80, "name": "http"}]}),
        make("EndpointSlice", "a", "s0", **slice_),
        make("Backend", "a", "remote", spec={"static": {"hosts": [{"host": "10.1.0.1", "port": 9000}]}}),
        make("HTTPRoute", "a", "r0", spec={"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": targets}]}),
    )


def by_ref(objects: Iterable[Resource]) -> World:
    """The state that these objects come to: of several with one name the last counts."""
    return {each.ref: each for each in objects}


def worlds(
    routes: st.SearchStrategy[Resource] = ROUTES, others: st.SearchStrategy[Resource] = OTHERS
) -> st.SearchStrategy[World]:
    """The base, and some routes and other objects more, of which some replace those of the base."""
    return st.builds(
        lambda others, routes: by_ref([*base(), *others, *routes]), few(others, 1, 8), few(routes, 3, 7, key=_ref)
    )


def _ref(resource: Resource) -> Ref:
    return resource.ref


Step = tuple[str, Any]
HISTORIES = st.lists(
    st.one_of(
        *[st.tuples(st.just("put"), OBJECTS)] * 3,
        st.tuples(st.just("put"), OTHERS),
        st.tuples(st.just("delete"), st.integers(0, 30)),
        st.tuples(st.just("flush"), st.none()),
    ),
    min_size=6,
    max_size=30,
)
"""Edits: objects put, the n-th of those that are there deleted, changes flushed."""


def victim(world: World, number: int) -> Ref | None:
    """The object that a deletion means; None when there is none."""
    return list(world)[number % len(world)] if world else None


# --- Graphs -------------------------------------------------------------------------------------------------

OPTIONS = Options()
EMIT_OPTIONS = EmitOptions(access_log="stdout", system_ca="/etc/ssl/certs/ca-certificates.crt")


def new_graph() -> Graph:
    """An empty graph with all steps; a step that raises fails the test."""
    graph = loop.new_graph(OPTIONS, EMIT_OPTIONS)
    graph._on_error = _fail
    return graph


def _fail(table: Table[Any, Any], key: Any, error: Exception) -> tuple[Any, ...]:
    raise AssertionError(f"building {table} at {key} failed") from error


def settled(objects: Iterable[Resource]) -> Graph:
    """The graph of a state, made in one go."""
    graph = new_graph()
    for each in objects:
        tables.put(graph, each)
    graph.flush()
    return graph
