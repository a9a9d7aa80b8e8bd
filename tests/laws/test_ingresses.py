"""Ingresses: which backend a request gets, by the words of their specification, and that their history leaves no trace.

The reading is plain: the most specific host that fits, in it the longest path, exact before prefix, behind them the
default backend, then the same for wider hosts. Nothing in it is taken from the product.
"""

from __future__ import annotations

import random
import re
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.laws.test_engine import content, findings, resources
from tests.laws.worlds import PATHS, Manifest, few, one, settled, some

from tripylon.api.kinds import decode, find
from tripylon.api.meta import Resource
from tripylon.graph import Graph
from tripylon.model.hosts import HOSTS
from tripylon.model.plan import HostKey, Match, RouteTable
from tripylon.values import Name, hostname_matches, hostname_specificity
from tripylon.world import world as tables

law = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
VERSIONS = {"Ingress": "networking.k8s.io/v1", "IngressClass": "networking.k8s.io/v1"}
EDGE = Name("a", "edge")
HOSTS_WRITTEN = ("", "*.com", "*.example.com", "*.shop.example.com", "www.example.com", "a.shop.example.com")
HOSTS_ASKED = (
    "www.example.com",
    "WWW.example.com",
    "shop.example.com",
    "a.shop.example.com",
    "a.b.com",
    "b.com",
    "x.org",
)
PATHS_ASKED = ("/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/b")
SERVICES = ("one", "two", "three")


def made(kind: str, name: str, spec: Manifest, namespace: str = "a", **metadata: Any) -> Resource:
    found = find(VERSIONS.get(kind, "v1" if kind == "Service" else "gateway.networking.k8s.io/v1"), kind)
    assert found is not None
    place = {"namespace": namespace} if namespace else {}
    return decode(
        found,
        {"apiVersion": found.api_version, "kind": kind, "metadata": {"name": name, **place, **metadata}, "spec": spec},
    )


BACKENDS = one(*({"service": {"name": name, "port": {"number": 80}}} for name in SERVICES))
RULES = st.fixed_dictionaries(
    {"host": one(*HOSTS_WRITTEN)},
    optional={
        "http": st.fixed_dictionaries(
            {
                "paths": few(
                    st.fixed_dictionaries(
                        {
                            "path": one(*PATHS),
                            "pathType": one("Exact", "Prefix", "ImplementationSpecific"),
                            "backend": BACKENDS,
                        }
                    ),
                    1,
                    3,
                )
            }
        )
    },
)
SPECS = st.builds(
    lambda rules, more: {"rules": rules, **more},
    few(RULES, 0, 4),
    some(defaultBackend=BACKENDS),
)


def gateway(**more: Any) -> Resource:
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}]
    return made("Gateway", "edge", {"gatewayClassName": "c", "defaultScope": "All", "listeners": listeners, **more})


@given(SPECS)
@law
def test_every_request_gets_the_backend_that_the_specification_names(spec: Manifest) -> None:
    services = [made("Service", name, {"ports": [{"port": 80}]}) for name in SERVICES]
    graph = settled([gateway(), *services, made("Ingress", "shop", spec)])
    for host in HOSTS_ASKED:
        for path in PATHS_ASKED:
            assert served(graph, host, path) == expected(spec, host, path), (host, path)


# --- By the specification ---------------------------------------------------------------------------------------------


def expected(spec: Manifest, host: str, path: str) -> str:
    """The Service that a request goes to; empty: 404."""
    written = sorted({rule["host"] for rule in spec["rules"]} | {""}, key=lambda each: (each == "", each[:1] == "*"))
    for each in written:
        if not is_host(each, host.lower()):
            continue
        paths = [one for rule in spec["rules"] if rule["host"] == each for one in rule.get("http", {}).get("paths", ())]
        fitting = [one for one in paths if fits(one, path)]
        if fitting:
            return service(
                max(fitting, key=lambda one: (len(one["path"].rstrip("/")), one["pathType"] == "Exact"))["backend"]
            )
        if "defaultBackend" in spec:
            return service(spec["defaultBackend"])
    return ""


def is_host(written: str, host: str) -> bool:
    if written.startswith("*."):
        label, _, rest = host.partition(".")
        return bool(label) and rest == written[2:]
    return written in ("", host)


def fits(written: Manifest, path: str) -> bool:
    if written["pathType"] == "Exact":
        return bool(written["path"] == path)
    wanted = [part for part in written["path"].split("/") if part]
    return [part for part in path.split("/") if part][: len(wanted)] == wanted


def service(backend: Manifest) -> str:
    return str(backend["service"]["name"])


# --- By the plan ------------------------------------------------------------------------------------------------------


def served(graph: Graph, host: str, path: str) -> str:
    """The Service that Envoy would send a request to, by the hosts that it is told."""
    table = RouteTable(EDGE, 80, secure=False)
    hosts = [key.hostname for key in graph.rows(HOSTS) if key.table == table]
    best = max((each for each in hosts if hostname_matches(each, host.lower())), key=hostname_specificity)
    plan = graph.get(HOSTS, HostKey(table, best))
    for entry in plan.entries if plan is not None else ():
        if matches(entry.match, host, path):
            cluster = entry.rule.destinations[0].cluster
            return cluster.name if cluster is not None else "nowhere"
    return ""


def matches(match: Match, host: str, path: str) -> bool:
    if not all(re.fullmatch(header.value, host) for header in match.headers):
        return False
    if match.path_kind == "Exact":
        return path == match.path
    return path == match.path or path.startswith(match.path + "/")


# --- History ----------------------------------------------------------------------------------------------------------

TLS = some(
    tls=few(
        st.fixed_dictionaries({"hosts": few(one(*HOSTS_WRITTEN[1:]), 0, 2)}, optional={"secretName": one("s", "t")})
    )
)
CLASSED = some(ingressClassName=one("mine", "other", "nobodys"))
INGRESSES = st.builds(
    lambda space, name, spec, tls, of, created: made(
        "Ingress", name, {**spec, **tls, **of}, space, creationTimestamp=created
    ),
    one("a", "b"),
    one("x", "y"),
    SPECS,
    TLS,
    CLASSED,
    one("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
)
PARAMETERS = {"apiGroup": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "a", "name": "edge"}
CLASSES = st.builds(
    lambda name, controller, more, default: made(
        "IngressClass",
        name,
        {"controller": controller, **more},
        "",
        annotations={"ingressclass.kubernetes.io/is-default-class": default},
    ),
    one("mine", "other"),
    one("gateway.tripylon.dev/controller", "example.com/other"),
    some(parameters=one(PARAMETERS, PARAMETERS | {"name": "nowhere"}, PARAMETERS | {"kind": "Pod"})),
    one("true", "false"),
)
HTTPS = {
    "name": "https",
    "port": 443,
    "protocol": "HTTPS",
    "hostname": "www.example.com",
    "tls": {"certificateRefs": [{"name": "s"}]},
}
PLAIN = {"name": "http", "port": 80, "protocol": "HTTP"}
GATEWAYS = st.builds(
    lambda more, listeners: gateway(listeners=listeners, **more),
    some(
        defaultScope=one("All", "None"),
        allowedListeners=one({"namespaces": {"from": "All"}}, {"namespaces": {"from": "Same"}}),
    ),
    one([PLAIN], [PLAIN, HTTPS], [PLAIN | {"allowedRoutes": {"namespaces": {"from": "All"}}}]),
)
ROUTES = st.builds(
    lambda host: made(
        "HTTPRoute",
        "r",
        {
            "parentRefs": [{"name": "edge"}],
            "hostnames": [host],
            "rules": [{"backendRefs": [{"name": "one", "port": 80}]}],
        },
    ),
    one(*HOSTS_WRITTEN[1:]),
)
SERVED = st.builds(lambda name: made("Service", name, {"ports": [{"port": 80}]}), one(*SERVICES))
OBJECTS = st.one_of(INGRESSES, INGRESSES, CLASSES, GATEWAYS, ROUTES, SERVED)


@given(few(OBJECTS, 0, 12), few(st.one_of(OBJECTS, st.integers(0, 20)), 0, 10), st.randoms(use_true_random=False))
@law
def test_any_history_of_ingresses_ends_as_if_its_last_state_had_come_at_once(
    start: list[Resource], history: list[Resource | int], chance: random.Random
) -> None:
    graph, state = settled(start), {each.ref: each for each in start}
    for step in history:
        if isinstance(step, msgspec.Struct):
            tables.put(graph, step)
            state[step.ref] = step
        elif state:
            ref = sorted(state)[step % len(state)]
            tables.delete(graph, ref)
            del state[ref]
        if chance.random() < 0.5:
            graph.flush()
    graph.flush()
    shuffled = list(state.values())
    chance.shuffle(shuffled)
    fresh = settled(shuffled)
    assert content(graph) == content(fresh)
    assert resources(graph) == resources(fresh)
    assert findings(graph) == findings(fresh)
