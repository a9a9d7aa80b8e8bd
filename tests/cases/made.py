"""Worlds of made objects: all valid by the schema, otherwise of odd content, and tied together so that they are served.

The words are chosen to be at the edge of what the schema takes: escapes, substitutions, empty texts, limits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.cases.harness import Case, full

from tripylon.api.validate import validate

Plain = dict[str, Any]

PATHS = ("/", "/a", "/a/", "/a/b", "/%20", "/a;b=c", "/a.b", "/~x", "/a+b", "/(c)", "/a$b", "/*")
REGEXES = (
    "",
    "/.*",
    "/(",
    "/[a-z]{1,64}/x",
    "/a|b",
    "(?i)/x",
    "/\\d+",
    "/(?=x)",
    "\\",
    "/a{1001}",
    "^/x$",
    "/\\x{10FFFF}",
)
VALUES = ("v", "50% off", "%REQ(host)%", "a b", '"quoted"', "\\1", "a,b;c=d", "~", "{{x}}", "%%", "%")
NAMES = (
    "x-a",
    "X-B",
    "a_b",
    "!#$",
    "cookie",
    "content-length",
    "connection",
    "te",
    "host",
    "transfer-encoding",
    "grpc-a",
)
HOSTNAMES = ("a.example.com", "*.example.com", "*.com", "x.a.example.com", "a-b.example.org", "1.2.3.4.example")
DURATIONS = ("0s", "1ms", "500ms", "1s", "1h", "99999h")
REPLACED = ("", "/", "/new", "/new/", "new", "/a?b=c", "/%2F", "/\\1", "/a//b", "/ ü", "/%REQ(x)%")
ORIGINS = ("https://a.example.com", "http://*.example.com:8080", "https://*", "http://localhost:3000")


def world(seed: int) -> Case:
    """A gateway with services, Backends and routes; the same seed makes the same world."""
    random = Random(seed)
    objects = [_gateway(random), *_services(random), *_backends(random)]
    for number in range(random.randint(1, 5)):
        route = _grpc_route(random) if random.random() < 0.25 else _http_route(random)
        objects.append(route | {"name": f"route-{number}"})
    valid = [each for each in objects if not validate(*full(each))]
    return Case(Path(f"made/{seed}.yaml"), f"World {seed}", {"standalone": random.random() < 0.5}, tuple(valid), {})


def _some(random: Random, make: Callable[[Random], Any], most: int, *, least: int = 0) -> list[Any]:
    return [make(random) for _ in range(random.randint(least, most))]


def _gateway(random: Random) -> Plain:
    secret: Plain = {"certificateRefs": [{"name": random.choice(("tls", "nowhere"))}]}
    listeners: list[Plain] = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    for number, hostname in enumerate(random.sample(HOSTNAMES, random.randint(0, 4))):
        listeners.append(
            {"name": f"l{number}", "port": 80, "protocol": "HTTP", "hostname": hostname}
            if random.random() < 0.5
            else {"name": f"l{number}", "port": 443, "protocol": "HTTPS", "hostname": hostname, "tls": secret}
        )
    return {"kind": "Gateway", "name": "edge", "spec": {"gatewayClassName": "tripylon", "listeners": listeners}}


def _services(random: Random) -> list[Plain]:
    made: list[Plain] = [{"kind": "Secret", "name": "tls", "certificate": {"host": "*.example.com"}}]
    for name in ("a", "b"):
        ports = [{"port": 80, "name": "http"}, {"port": 81, "name": "x", "appProtocol": random.choice(("h2c", "grpc"))}]
        made.append({"kind": "Service", "name": name, "spec": {"ports": ports}})
        addresses = random.choice((["10.0.0.1"], ["2001:db8::1"], ["a.example.com"], ["300.1.1.1"], ["10.0.0.1", "x"]))
        made.append(
            {
                "kind": "EndpointSlice",
                "name": name,
                "labels": {"kubernetes.io/service-name": name},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": random.choice((0, 1, 3000, 65535, None))}, {"name": "x", "port": 1}],
                "endpoints": [{"addresses": addresses, "zone": random.choice(("", "z1"))}, {"addresses": ["10.0.0.9"]}],
            }
        )
    external = {"type": "ExternalName", "externalName": random.choice(("", "x y", "api.example.org", "10.0.0.1"))}
    return [*made, {"kind": "Service", "name": "c", "spec": {**external, "ports": [{"port": 80}, {"port": 81}]}}]


def _backends(random: Random) -> list[Plain]:
    hosts = random.sample(("10.1.1.1", "2001:db8::2", "api.example.org", "x y", "-"), random.randint(1, 2))
    static = {"static": {"hosts": [{"host": host, "port": random.choice((1, 80, 65535))} for host in hosts]}}
    dns = {"hostname": "api.example.org", "port": 443, "refreshRate": random.choice(DURATIONS)}
    tls: Plain = random.choice(
        ({}, {"sni": "x.example.com"}, {"insecureSkipVerify": True}, {"secretRef": {"name": "tls"}})
    )
    return [
        {"kind": "Backend", "name": "a", "spec": static | random.choice(({}, {"tls": tls}))},
        {"kind": "Backend", "name": "b", "spec": {"dns": dns} | random.choice(({}, {"tls": tls}))},
    ]


# --- Routes --------------------------------------------------------------------------------------------------------


def _http_route(random: Random) -> Plain:
    return {
        "kind": "HTTPRoute",
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "hostnames": random.sample(HOSTNAMES, random.randint(0, 3)),
            "rules": _some(random, _http_rule, 4, least=1),
        },
    }


def _http_rule(random: Random) -> Plain:
    rule: Plain = {"matches": _some(random, _http_match, 3, least=1)}
    filters = _filters(random, grpc=False)
    if any("ReplacePrefixMatch" in str(each) for each in filters):
        rule["matches"] = [{"path": {"value": random.choice(PATHS)}}]
    if filters:
        rule["filters"] = filters
    if not any("requestRedirect" in each for each in filters):
        rule["backendRefs"] = _some(random, lambda random: _reference(random, grpc=False), 3)
    if random.random() < 0.3:
        rule["timeouts"] = {"request": random.choice(DURATIONS)}
        rule["timeouts"] |= random.choice(({}, {"backendRequest": random.choice(DURATIONS)}))
    if random.random() < 0.3:
        retry: Plain = {"attempts": random.choice((0, 1, 2**31 - 1)), "backoff": random.choice(DURATIONS)}
        rule["retry"] = retry | {"codes": random.sample((400, 500, 503, 599), random.randint(0, 4))}
    return rule


def _http_match(random: Random) -> Plain:
    made: Plain = {}
    if random.random() < 0.7:
        kind = random.choice(("Exact", "PathPrefix", "RegularExpression"))
        words = REGEXES if kind == "RegularExpression" else PATHS
        made["path"] = {"type": kind, "value": random.choice(words)}
    if random.random() < 0.3:
        made["headers"] = [_value_match(random, name) for name in random.sample(NAMES, random.randint(1, 3))]
    if random.random() < 0.3:
        made["queryParams"] = [_value_match(random, name) for name in random.sample(NAMES, random.randint(1, 2))]
    if random.random() < 0.3:
        made["method"] = random.choice(("GET", "OPTIONS", "CONNECT", "TRACE"))
    return made


def _value_match(random: Random, name: str) -> Plain:
    kind = random.choice(("Exact", "RegularExpression"))
    return {"name": name, "type": kind, "value": random.choice(VALUES if kind == "Exact" else REGEXES[1:])}


def _grpc_route(random: Random) -> Plain:
    return {
        "kind": "GRPCRoute",
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "hostnames": random.sample(HOSTNAMES, random.randint(0, 2)),
            "rules": _some(random, _grpc_rule, 3),
        },
    }


def _grpc_rule(random: Random) -> Plain:
    kind = random.choice(("Exact", "RegularExpression"))
    words = ("S", "s_1", "") if kind == "Exact" else (*REGEXES, "")
    method = {key: word for key in ("service", "method") if (word := random.choice(words))}
    match: Plain = {"method": {"type": kind, **method}} if method else {}
    match["headers"] = [_value_match(random, name) for name in random.sample(NAMES, random.randint(0, 2))]
    return {
        "matches": [match],
        "filters": _filters(random, grpc=True),
        "backendRefs": _some(random, lambda random: _reference(random, grpc=True), 2),
    }


def _reference(random: Random, *, grpc: bool, filtered: bool = True) -> Plain:
    made: Plain = {"name": random.choice(("a", "b", "c", "nowhere")), "port": random.choice((80, 81, 82))}
    if random.random() < 0.3:
        made |= {"group": "gateway.tripylon.dev", "kind": "Backend"}
    if filtered:
        made["weight"] = random.choice((0, 1, 1, 7, 1_000_000))
        if random.random() < 0.3:
            made["filters"] = [each for each in _filters(random, grpc=grpc) if "ReplacePrefixMatch" not in str(each)]
    return made


# --- Filters -------------------------------------------------------------------------------------------------------


def _filters(random: Random, *, grpc: bool) -> list[Plain]:
    made: list[Plain] = []
    if random.random() < 0.3:
        made.append({"type": "RequestHeaderModifier", "requestHeaderModifier": _headers(random)})
    if random.random() < 0.3:
        made.append({"type": "ResponseHeaderModifier", "responseHeaderModifier": _headers(random)})
    for _ in range(random.choice((0, 0, 1, 2))):
        mirror: Plain = {"backendRef": _reference(random, grpc=grpc, filtered=False)}
        mirror |= random.choice(({}, {"percent": 0}, {"percent": 33}, {"fraction": {"numerator": 1, "denominator": 3}}))
        made.append({"type": "RequestMirror", "requestMirror": mirror})
    if grpc:
        return made
    if random.random() < 0.2:
        made.append({"type": "CORS", "cors": _cors(random)})
    if random.random() < 0.1:
        made.append({"type": "ExtensionRef", "extensionRef": {"group": "x.io", "kind": "X", "name": "x"}})
    if random.random() < 0.4:
        path = random.choice((("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")))
        change: Plain = {"hostname": random.choice(("x.example.com", "y"))} if random.random() < 0.5 else {}
        change["path"] = {"type": path[0], path[1]: random.choice(REPLACED)}
        if random.random() < 0.5:
            made.append({"type": "URLRewrite", "urlRewrite": change})
        else:
            change |= random.choice(({}, {"scheme": "https"}, {"port": 1}, {"statusCode": 308}))
            made.append({"type": "RequestRedirect", "requestRedirect": change})
    return made


def _headers(random: Random) -> Plain:
    names = random.sample(NAMES, 3)
    removed = random.choice(("", "a b", ":path", "x\ny")) if random.random() < 0.15 else names[2]
    return {
        "set": [{"name": names[0], "value": random.choice(VALUES)}],
        "add": [{"name": names[1], "value": random.choice(VALUES)}],
        "remove": [removed],
    }


def _cors(random: Random) -> Plain:
    return {
        "allowOrigins": random.choice((["*"], [], random.sample(ORIGINS, 2))),
        "allowMethods": random.choice((["*"], [], ["PUT", "DELETE"])),
        "allowHeaders": random.choice((["*"], [], ["x-a", "X-B"])),
        "exposeHeaders": random.choice((["*"], [], ["x-a"])),
        "allowCredentials": random.random() < 0.5,
        "maxAge": random.choice((1, 5, 2**31 - 1)),
    }
