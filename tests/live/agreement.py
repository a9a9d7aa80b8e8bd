"""Random gateways with their routes, and requests that most likely hit something: the material of the agreement test.

A scene is one Gateway in a namespace of its own, perhaps with a ListenerSet, and the routes that attach to it. The
requests are made out of the scene's own matches and then, often, spoilt a little, so that they end near an edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from tests.laws.specified import Asked, Reading, covers

Manifest = dict[str, Any]

API = "gateway.networking.k8s.io"
SHARED = "shared"
"""Namespace of a Service that only some may use."""
BACKENDS = ("b0", "b1", "b2")
HOSTNAMES = (
    *("", "*.com", "*.example.com", "*.shop.example.com"),
    *("www.example.com", "shop.example.com", "cart.shop.example.com", "other.org"),
)
PREFIXES = ("/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/A")
EXACT = ("/", "/a", "/a/", "/a/b", "/ab", "/a/b/c")
REGEXES = ("/a.*", "/[ab]/b", "/a/(b|c)(/c)?", "/.")
TAILS = ("", "", "/", "/b", "/c", "x", "/b/c")
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD")
HEADERS = ("x-one", "X-One", "X-Two", "x-three")
PARAMETERS = ("q", "Q", "r")
VALUES = ("1", "2", "ab", "a.b")
VALUE_REGEXES = ("[12]", "a.*", "\\d", "a.b")
CALLS = (("shop.Cart", "shop.CartBig", "other.Service"), ("Add", "AddAll", "Get"))
AGES = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z")
REPLACED = ("/new", "/new/", "", "/", "/a/b")
CODES = (301, 302, 303, 307, 308)


class Ports(NamedTuple):
    """The ports of every scene: two for clear text, one of which TLS may take, and one for TLS."""

    http: int
    either: int
    https: int


class Scene(NamedTuple):
    """One gateway with everything that belongs to it, in the namespaces of its number."""

    number: int
    gateway: Manifest
    objects: tuple[Manifest, ...]

    @property
    def routes(self) -> list[Manifest]:
        return [each for each in self.objects if each["kind"] in ("HTTPRoute", "GRPCRoute")]

    @property
    def holders(self) -> list[Manifest]:
        return [self.gateway, *(each for each in self.objects if each["kind"] == "ListenerSet")]

    @property
    def address(self) -> str:
        return str(self.gateway["spec"]["addresses"][0]["value"])

    def beside(self, others: Sequence[Manifest]) -> Scene:
        """The same scene with more objects."""
        return Scene(self.number, self.gateway, (*self.objects, *others))

    def with_routes(self, routes: Sequence[Manifest]) -> Scene:
        """The same gateway with other routes."""
        others = tuple(each for each in self.objects if each["kind"] not in ("HTTPRoute", "GRPCRoute"))
        return Scene(self.number, self.gateway, (*others, *routes))


def spaces(number: int) -> tuple[str, str]:
    """The namespaces of a scene, the Gateway's first."""
    return f"s{number}", f"t{number}"


def scene(random: Random, number: int, address: str, ports: Ports, secret: tuple[str, str]) -> Scene:
    """Scene `number`, with its Gateway at a loopback address of its own."""
    space = spaces(number)[0]
    gateway = _object("Gateway", space, "edge", spec={"gatewayClassName": "tripylon"})
    gateway["spec"] |= {
        "addresses": [{"type": "IPAddress", "value": address}],
        "listeners": _listeners(random, ports, random.randint(2, 6)),
        "allowedListeners": {"namespaces": {"from": "All"}},
    }
    objects = [_secret(each, secret) for each in spaces(number)]
    for extra in range(random.choice((0, 0, 1, 2))):
        spec = {"parentRef": {"name": "edge", "namespace": space, "kind": "Gateway", "group": API}}
        more = _object("ListenerSet", random.choice(spaces(number)), f"set{extra}", random.choice(AGES), spec=spec)
        more["spec"]["listeners"] = _listeners(random, ports, random.randint(1, 3))
        objects.append(more)
    made = Scene(number, gateway, tuple(objects))
    return made.with_routes(routes(random, made))


def shared(address: str, port: int, granted: Sequence[str]) -> list[Manifest]:
    """A Service that HTTPRoutes of some namespaces may use, in a namespace of its own."""
    sources = [{"group": API, "kind": "HTTPRoute", "namespace": space} for space in granted]
    to = [{"group": "", "kind": "Service"}]
    grant = _object("ReferenceGrant", SHARED, "some", spec={"from": sources, "to": to})
    return [grant, *_service(SHARED, "b3", address, port)]


def services(number: int, address: str, port_of: Mapping[str, int]) -> list[Manifest]:
    """The backends of a scene, in both of its namespaces, and one that has no endpoints."""
    made: list[Manifest] = []
    for space in spaces(number):
        made += [each for name in BACKENDS for each in _service(space, name, address, port_of[name])]
        empty = _service(space, "empty", address, 1)
        empty[1]["endpoints"] = []
        made += empty
    return made


def _object(kind: str, space: str, name: str, created: str = "", **rest: Any) -> Manifest:
    version = {"Service": "v1", "Secret": "v1", "EndpointSlice": "discovery.k8s.io/v1"}.get(kind, f"{API}/v1")
    metadata = {"namespace": space, "name": name} | ({"creationTimestamp": created} if created else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _secret(space: str, pair: tuple[str, str]) -> Manifest:
    data = dict(zip(("tls.crt", "tls.key"), pair, strict=True))
    return _object("Secret", space, "cert", type="kubernetes.io/tls", stringData=data)


def _service(space: str, name: str, address: str, port: int) -> list[Manifest]:
    slice_ = _object("EndpointSlice", space, f"{name}-1", addressType="IPv4", ports=[{"name": "main", "port": port}])
    slice_["endpoints"] = [{"addresses": [address], "conditions": {"ready": True}}]
    slice_["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    return [_object("Service", space, name, spec={"ports": [{"name": "main", "port": 80}]}), slice_]


# --- Listeners and routes ------------------------------------------------------------------------------------------


def _listeners(random: Random, ports: Ports, count: int) -> list[Manifest]:
    made: dict[tuple[int, str, str], Manifest] = {}  # no two alike, which the schema would not let pass
    for number in range(count):
        port = random.choice((*ports, ports.http, ports.https))
        protocol = {ports.http: "HTTP", ports.https: "HTTPS"}.get(port) or random.choice(("HTTP", "HTTP", "HTTPS"))
        listener: Manifest = {"name": f"l{number}", "port": port, "protocol": protocol}
        hostname = random.choice(HOSTNAMES)
        if hostname:
            listener["hostname"] = hostname
        if protocol == "HTTPS":
            listener["tls"] = {"certificateRefs": [{"name": "cert"}]}
        listener["allowedRoutes"] = {"namespaces": {"from": random.choice(("Same", "Same", "All"))}}
        if random.random() < 0.2:
            listener["allowedRoutes"]["kinds"] = [{"kind": random.choice(("HTTPRoute", "HTTPRoute", "GRPCRoute"))}]
        made[port, protocol, hostname] = listener
    return list(made.values())


def routes(random: Random, around: Scene) -> list[Manifest]:
    """Some routes for a scene."""
    return [_route(random, around, place) for place in range(random.randint(3, 9))]


def _route(random: Random, around: Scene, number: int) -> Manifest:
    """A route of the scene, of either kind; most are in the Gateway's namespace."""
    space = spaces(around.number)[random.random() < 0.25]
    grpc = random.random() < 0.25
    made = _object("GRPCRoute" if grpc else "HTTPRoute", space, f"r{number}", random.choice(AGES))
    made["spec"] = {
        "parentRefs": [
            _parent(random, holder)
            for holder in around.holders
            if random.random() < (0.8 if holder is around.gateway else 0.5)
        ]
        or [_parent(random, around.gateway)],
        "hostnames": random.sample(HOSTNAMES[1:], random.choice((0, 1, 1, 2, 3))),
    }
    name = f"{made['kind']} {space}/r{number}"
    rule = _grpc_rule if grpc else _http_rule
    made["spec"]["rules"] = [rule(random, f"{name} {index}") for index in range(random.randint(1, 3))]
    return made


def _parent(random: Random, holder: Manifest) -> Manifest:
    named = {word: holder["metadata"][word] for word in ("namespace", "name")}
    parent: Manifest = {**named, "kind": holder["kind"], "group": API}
    one = random.choice(holder["spec"]["listeners"])
    if random.random() < 0.25:
        parent["sectionName"] = one["name"]
    if random.random() < 0.15:
        parent["port"] = one["port"]
    return parent


def _http_rule(random: Random, name: str) -> Manifest:
    rule: Manifest = {"matches": [_http_match(random) for _ in range(random.choice((1, 1, 1, 2, 3)))]}
    if random.random() < 0.15:
        host = name.lower().replace(" ", "-").replace("/", "-") + ".example.net"
        redirect = {"hostname": host, "statusCode": random.choice(CODES)}
        return rule | {"filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]}
    rule |= _answered(random, name)
    if random.random() < 0.25:
        rule["filters"] = [*rule["filters"], _rewrite(random, rule["matches"])]
    return rule


def _rewrite(random: Random, matches: list[Manifest]) -> Manifest:
    """Another path for the backend; a prefix can only be replaced where one is matched."""
    whole = {"type": "ReplaceFullPath", "replaceFullPath": random.choice(("/new", "/a/b/"))}
    one = matches[0].get("path", {}) if len(matches) == 1 else {}
    if one.get("type") == "PathPrefix" and random.random() < 0.8:
        whole = {"type": "ReplacePrefixMatch", "replacePrefixMatch": random.choice(REPLACED)}
    return {"type": "URLRewrite", "urlRewrite": {"path": whole}}


def _http_match(random: Random) -> Manifest:
    made: Manifest = {}
    if random.random() < 0.85:
        kind, words = random.choice(
            [*[("PathPrefix", PREFIXES)] * 5, *[("Exact", EXACT)] * 3, ("RegularExpression", REGEXES)]
        )
        made["path"] = {"type": kind, "value": random.choice(words)}
    if random.random() < 0.35:
        made["headers"] = [_condition(random, name) for name in random.sample(HEADERS, random.randint(1, 2))]
    if random.random() < 0.3:
        made["queryParams"] = [_condition(random, name) for name in random.sample(PARAMETERS, random.randint(1, 2))]
    if random.random() < 0.25:
        made["method"] = random.choice(METHODS)
    return made


def _grpc_rule(random: Random, name: str) -> Manifest:
    made = [_grpc_match(random) for _ in range(random.choice((0, 1, 1, 2)))]
    return ({"matches": made} if made else {}) | _answered(random, name)


def _grpc_match(random: Random) -> Manifest:
    made: Manifest = {}
    method = {
        word: random.choice(words)
        for word, words in zip(("service", "method"), CALLS, strict=True)
        if random.random() < 0.6
    }
    if method:
        made["method"] = {"type": "Exact", **method}
    if random.random() < 0.4:
        made["headers"] = [_condition(random, name) for name in random.sample(HEADERS, random.randint(1, 2))]
    return made or {"method": {"service": CALLS[0][0]}}


def _condition(random: Random, name: str) -> Manifest:
    if random.random() < 0.2:
        return {"name": name, "type": "RegularExpression", "value": random.choice(VALUE_REGEXES)}
    return {"name": name, "value": random.choice(VALUES)}


def _answered(random: Random, name: str) -> Manifest:
    """Backends, and a header by which the answer tells the rule."""
    mark = {"set": [{"name": "x-rule", "value": name}]}
    made: Manifest = {"filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": mark}]}
    count = random.choice((0, 1, 1, 1, 1, 1, 2, 3))
    if count:
        made["backendRefs"] = [_backend(random) for _ in range(count)]
    return made


def _backend(random: Random) -> Manifest:
    name = random.choice((*BACKENDS, *BACKENDS, *BACKENDS, "empty", "missing", "odd", "b3"))
    made: Manifest = {"name": name, "port": 80, "weight": random.choice((0, 1, 1, 1, 7, 1000))}
    if name == "odd":
        made |= {"group": "example.com", "kind": "Odd"}
    if name == "b3":
        made["namespace"] = SHARED
    return made


# --- Requests ------------------------------------------------------------------------------------------------------


def request(random: Random, reading: Reading) -> Asked:
    """A request that some match has inspired, to a listener that its route is attached to, if there is one."""
    attached = [(route, listener) for route in reading.routes for listener in reading.attached_to(route)]
    if attached and random.random() < 0.9:
        one, listener = random.choice(attached)
    else:
        one, listener = random.choice(reading.routes), random.choice(reading.listeners)
    match = random.choice(random.choice(one["spec"]["rules"]).get("matches") or [{}])
    names = sorted({*(one["spec"]["hostnames"] or [""]), *(each.hostname for each in reading.listeners)})
    fitting = [name for name in (listener.hostname, *(one["spec"]["hostnames"])) if covers(listener.hostname, name)]
    host = _precise(random, random.choice(fitting or names))
    secure = listener.spec["protocol"] == "HTTPS"
    grpc = one["kind"] == "GRPCRoute"
    method = match.get("method", {})
    if grpc:
        words = zip(("service", "method"), CALLS, strict=True)
        path = "".join(f"/{method.get(word) or random.choice(each)}" for word, each in words)
        method = "POST"
    else:
        path = _path(random, match.get("path", {"type": "PathPrefix", "value": random.choice(PREFIXES)}))
        method = method or random.choice(METHODS[:2])
    headers = _once(_given(random, each) for each in match.get("headers", ()))
    query = [] if grpc else [_given(random, each) for each in match.get("queryParams", ())]
    sni = random.choice((*[host] * 24, "")) if secure else None
    asked = Asked(listener.spec["port"], host, path, method, headers, tuple(query), sni, grpc)
    return _spoilt(random, asked, names) if random.random() < 0.5 else asked


def _once(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Headers without a second one of any name, of which the text does not say what it means."""
    first: dict[str, tuple[str, str]] = {}
    for each in headers:
        first.setdefault(each[0].lower(), each)
    return tuple(first.values())


def _spoilt(random: Random, asked: Asked, names: Sequence[str]) -> Asked:
    """The request with one thing changed."""
    match random.choice((0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 7)):
        case 0:
            return asked._replace(headers=asked.headers[1:])
        case 1:
            return asked._replace(query=asked.query[1:])
        case 2:
            more = ((random.choice(HEADERS).upper(), random.choice(VALUES)),)
            kept = tuple(each for each in asked.headers if each[0].lower() != more[0][0].lower())
            return asked._replace(headers=(*kept, *more))
        case 3 if not asked.grpc:
            return asked._replace(query=(*asked.query, (random.choice(PARAMETERS), random.choice(VALUES))))
        case 4 if not asked.grpc:
            return asked._replace(method=random.choice(METHODS))
        case 5:
            return asked._replace(host=_precise(random, random.choice(names)))
        case 6:
            return asked._replace(host=random.choice((f"{asked.host}:{asked.port}", asked.host.upper(), "nobody.net")))
        case 7 if not asked.grpc:
            return asked._replace(path=_path(random, {"type": "PathPrefix", "value": asked.path}))
    return asked


def _precise(random: Random, hostname: str) -> str:
    if hostname.startswith("*."):
        return random.choice(("x", "y", "deep.x")) + hostname[1:]
    return hostname or random.choice(("nobody.net", "www.example.com", "x.other.com"))


def _path(random: Random, path: Manifest) -> str:
    value = str(path["value"])
    match path["type"]:
        case "Exact":
            return value
        case "RegularExpression":
            return random.choice(("/a", "/b/b", "/a/b", "/a/c/c", "/ab"))
    value = value.rstrip("/") + random.choice(TAILS)
    return value if value.startswith("/") else f"/{value}"


def _given(random: Random, condition: Manifest) -> tuple[str, str]:
    value = random.choice(VALUES) if condition.get("type") == "RegularExpression" else condition["value"]
    return condition["name"], value
