"""Worlds of large clusters as an API server would tell them: what there is, and changes of each kind to it.

A change is told by a number: each number is another change of its kind, and no two of them undo each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.kube.statuses import Object
from tests.laws.replica import OPTIONS
from tests.live.certificates import Authority

GATEWAY_API = "gateway.networking.k8s.io/v1"
SPACE = "shop"
PER_SET = 16
"""Listeners of one ListenerSet."""
PER_SERVICE = 100
"""Endpoints of one Service where there are many."""

Change = Callable[[int], tuple[list[Object], list[Object]]]
"""What is put and what goes, by a number."""


class World(NamedTuple):
    """What there is, the changes to measure, and some hundreds of changes at once."""

    objects: Iterator[Object]
    changes: dict[str, Change]
    burst: Callable[[int], list[Object]]
    """So many objects that change at once."""


def gateways(count: int, routes: int) -> World:
    """Many Gateways with some routes each, every route with a Service of its own."""

    def at(number: int) -> str:
        return f"edge-{number % count}"

    def objects() -> Iterator[Object]:
        yield CLASS
        for number in range(count):
            yield gateway(at(number), [http()])
        for number in range(routes):
            yield from (route(number, at(number)), service(number), slice_(number))

    return World(
        objects(),
        {
            "a changed route": lambda number: ([route(number, at(number), path=f"/{number}")], []),
            "a new Gateway": lambda number: ([gateway(f"new-{number}", [http()])], []),
            "a Gateway with one listener more": lambda number: (
                [gateway(at(number), [http(), http(8080)])],
                [],
            ),
            "a Gateway that goes": lambda number: ([], [gateway(at(count - 1 - number), [])]),
        },
        lambda many: [route(number, at(number), path="/burst") for number in range(many)],
    )


def routes(count: int) -> World:
    """One Gateway with many routes, every route with a Service of its own."""

    def objects() -> Iterator[Object]:
        yield from (CLASS, gateway("edge", [http()]))
        for number in range(count):
            yield from whole(number)

    def whole(number: int) -> list[Object]:
        return [route(number, "edge"), service(number), slice_(number)]

    return World(
        objects(),
        {
            "a changed route": lambda number: ([route(number, "edge", path=f"/{number}")], []),
            "a new route with its Service": lambda number: (whole(count + number), []),
            "a route that goes, and its Service": lambda number: ([], whole(count - 1 - number)),
            "a moved endpoint": lambda number: ([slice_(number, "10.0.1.1")], []),
        },
        lambda many: [each for number in range(many) for each in whole(count + 1_000 + number)],
    )


def listener_sets(count: int, ports: tuple[int, int] = (80, 443)) -> World:
    """One Gateway whose HTTPS listeners come from ListenerSets; a route and a certificate for each set."""
    authority, port = Authority(), ports[1]

    def objects() -> Iterator[Object]:
        yield from (CLASS, gateway("edge", [http(ports[0])], admits=True))
        for number in range(count):
            yield from whole(number)

    def whole(number: int) -> list[Object]:
        return [
            listener_set(number, [f"certificate-{number}"] * PER_SET, port),
            certificate(f"certificate-{number}", authority, f"*.set-{number:05}.example.com"),
            set_route(number),
            service(number),
            slice_(number),
        ]

    return World(
        objects(),
        {
            "a changed route": lambda number: ([set_route(number, path=f"/{number}")], []),
            "a ListenerSet more, with its route": lambda number: (whole(count + number), []),
            "a ListenerSet with one listener less": lambda number: (
                [listener_set(number, [f"certificate-{number}"] * (PER_SET - 1), port)],
                [],
            ),
            "a ListenerSet that goes": lambda number: ([], [whole(count - 1 - number)[0]]),
            "a renewed certificate": lambda number: ([whole(number)[1]], []),
        },
        lambda many: [each for number in range(many // 5) for each in whole(count + 1_000 + number)],
    )


def certificates(count: int) -> World:
    """One Gateway with a certificate for each of its listeners."""
    authority, sets = Authority(), count // PER_SET

    def names(number: int) -> list[str]:
        return [f"certificate-{number}-{place}" for place in range(PER_SET)]

    def secret(number: int, place: int) -> Object:
        return certificate(names(number)[place], authority, host_of_set(number, place))

    def objects() -> Iterator[Object]:
        yield from (CLASS, gateway("edge", [http()], admits=True))
        for number in range(sets):
            yield listener_set(number, names(number))
            yield from (secret(number, place) for place in range(PER_SET))

    return World(
        objects(),
        {
            "a renewed certificate": lambda number: ([secret(number % sets, 3)], []),
            "a certificate that goes": lambda number: ([], [secret(number % sets, 4)]),
        },
        lambda many: [secret(number // PER_SET, number % PER_SET) for number in range(many)],
    )


def endpoints(count: int) -> World:
    """One Gateway whose routes lead to Services of many endpoints each."""
    services = count // PER_SERVICE

    def objects() -> Iterator[Object]:
        yield from (CLASS, gateway("edge", [http()]))
        for number in range(services):
            yield from (route(number, "edge"), service(number), moved(number, 0))

    def moved(number: int, step: int) -> Object:
        """Endpoints of one Service of which one has moved so many times."""
        number %= services
        rest = [f"10.{number // 250}.{number % 250}.{each}" for each in range(1, PER_SERVICE)]
        return slice_(number, f"10.200.{step // 250 % 250}.{step % 250}", *rest)

    return World(
        objects(),
        {"a moved endpoint": lambda number: ([moved(number, number + 1)], [])},
        lambda many: [moved(number, 3) for number in range(many)],
    )


# --- Objects -------------------------------------------------------------------------------------------------------

CLASS: Object = {
    "apiVersion": GATEWAY_API,
    "kind": "GatewayClass",
    "metadata": {"name": "tripylon"},
    "spec": {"controllerName": OPTIONS.controller_name},
}


def named(api_version: str, kind: str, name: str, **rest: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": SPACE}, **rest}


def http(port: int = 80) -> Object:
    return {"name": f"http-{port}", "port": port, "protocol": "HTTP"}


def gateway(name: str, listeners: list[Object], *, admits: bool = False) -> Object:
    allowed = {"allowedListeners": {"namespaces": {"from": "Same"}}} if admits else {}
    spec = {"gatewayClassName": "tripylon", "listeners": listeners, **allowed}
    return named(GATEWAY_API, "Gateway", name, spec=spec)


def listener_set(number: int, secrets: list[str], port: int = 443) -> Object:
    listeners = [
        {
            "name": f"https-{place}",
            "port": port,
            "protocol": "HTTPS",
            "hostname": host_of_set(number, place),
            "tls": {"certificateRefs": [{"name": secret}]},
        }
        for place, secret in enumerate(secrets)
    ]
    return named(GATEWAY_API, "ListenerSet", set_(number), spec={"parentRef": {"name": "edge"}, "listeners": listeners})


def set_(number: int) -> str:
    return f"set-{number:05}"


def host_of_set(number: int, place: int) -> str:
    return f"host-{place:02}.{set_(number)}.example.com"


def route(number: int, parent: str, *, path: str = "/") -> Object:
    return _route(number, {"name": parent}, path, hostnames=[f"host-{number:05}.example.com"])


def set_route(number: int, *, path: str = "/") -> Object:
    """A route of all hosts of a ListenerSet."""
    return _route(number, {"kind": "ListenerSet", "name": set_(number)}, path)


def _route(number: int, parent: Object, path: str, **rest: Any) -> Object:
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [{"name": f"service-{number:05}", "port": 80}],
    }
    return named(GATEWAY_API, "HTTPRoute", f"route-{number:05}", spec={"parentRefs": [parent], "rules": [rule], **rest})


def service(number: int) -> Object:
    return named("v1", "Service", f"service-{number:05}", spec={"ports": [{"port": 80}]})


def slice_(number: int, *addresses: str) -> Object:
    made = named("discovery.k8s.io/v1", "EndpointSlice", f"service-{number:05}", addressType="IPv4")
    made["metadata"]["labels"] = {"kubernetes.io/service-name": f"service-{number:05}"}
    there = [{"addresses": [address]} for address in addresses or ("10.0.0.1",)]
    return made | {"endpoints": there, "ports": [{"port": 8000, "protocol": "TCP"}]}


def certificate(name: str, authority: Authority, *hosts: str) -> Object:
    chain, key = authority.issue(*hosts)
    return named("v1", "Secret", name, type="kubernetes.io/tls", stringData={"tls.crt": chain, "tls.key": key})
