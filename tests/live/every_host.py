"""Features on every kind of hostname: an exact one, a wildcard and none, each written as clients may write it.

A `Feature` is one rule, mounted at a path of its own under each kind of hostname, and what a visitor of it must find.
The invariant: what is expected depends on neither hostname, spelling, protocol nor layout of the routes.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import NamedTuple

from tests.live import clients
from tests.live.auth_servers import GrpcAuth, HttpAuth
from tests.live.collectors import HttpCollector
from tests.live.echo import Logged
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway

MOST_RULES = 16
"""Of one HTTPRoute."""
COPIED_S = 30.0
"""How long a copy may take."""
AT_ONCE = 32
"""Visitors of one feature that ask at the same time."""


class Place(NamedTuple):
    """A kind of hostname: what routes state, and how clients write hosts that it takes."""

    name: str
    hostnames: tuple[str, ...]
    hosts: tuple[str, ...]


PLACES = (
    Place("exact", ("exact.example.com",), ("exact.example.com", "EXACT.Example.COM", "exact.example.com:8080")),
    Place(
        "wildcard", ("*.wild.example.com",), ("a.wild.example.com", "A.Wild.Example.COM", "b.a.wild.example.com:8080")
    ),
    Place("none", (), ("nobody.example.org", "Nobody.EXAMPLE.org", "127.0.0.1:8080")),
)


class Stage:
    """A gateway of one layout, and the services that it asks and tells."""

    def __init__(
        self, gateway: LiveGateway, fleet: Fleet, by_http: HttpAuth, by_grpc: GrpcAuth, collector: HttpCollector
    ) -> None:
        self.gateway, self.fleet = gateway, fleet
        self.by_http, self.by_grpc, self.collector = by_http, by_grpc, collector
        self._copies: dict[str, list[Logged]] = {}
        self._read = fleet.next_number()
        self._reading = threading.Lock()

    def copies(self, mark: str, number: int) -> list[Logged]:
        """What echo-v2 got with an X-Mark, as soon as it is so much; what there is when time is over."""
        deadline = time.monotonic() + COPIED_S
        while len(found := self._copies.get(mark, [])) < number and time.monotonic() < deadline:
            with self._reading:
                for each in self.fleet.log_since(self._read):
                    self._read = each.number + 1
                    if each.pod.startswith("echo-v2"):
                        self._copies.setdefault("".join(each.headers.get("X-Mark", ())), []).append(each)
        return found

    def asked(self, path: str) -> tuple[int, int]:
        """How often the services were asked about a path, by HTTP and by gRPC."""
        by_http = [each for each in self.by_http.asked if each[1] == path]
        by_grpc = [each for each in self.by_grpc.asked if each.attributes.request.http.path == path]
        return len(by_http), len(by_grpc)


class Visitor(NamedTuple):
    """Asks for one feature by one spelling of a hostname over one protocol."""

    stage: Stage
    place: Place
    host: str
    protocol: str
    """`http1` or `http2`."""
    feature: str
    gateway: str = "edge"
    port: int = 80
    sni: str = ""

    @property
    def base(self) -> str:
        """The path under which the feature is."""
        return f"/{self.place.name}/{self.feature}"

    @property
    def target(self) -> clients.Target:
        """Where to dial."""
        return self.stage.gateway.target(self.gateway, self.port, sni=self.sni)

    def get(self, more: str = "", *headers: tuple[str, str], method: str = "GET") -> clients.Answer:
        """The answer to one request."""
        return self.ask(self.base + more, *headers, method=method)

    def ask(self, path: str, *headers: tuple[str, str], method: str = "GET") -> clients.Answer:
        """The answer to one request for any path."""
        client = clients.http1 if self.protocol == "http1" else clients.http2
        return client(self.target, clients.Call(host=self.host, path=path, headers=headers, method=method))

    def unique(self) -> str:
        """The rest of a path that nobody else asks for."""
        return f"/{uuid.uuid4()}"


Check = Callable[[Visitor], None]


class Feature(NamedTuple):
    """One rule without its matches, and what a visitor of it must find."""

    name: str
    rule: Manifest
    check: Check
    filters: tuple[str, ...] = ()
    """The HTTP filters of Envoy that its routes set up."""
    matches: tuple[Manifest, ...] = ({},)
    """What they match besides the path."""


def header_at_pod(answer: clients.Answer, name: str) -> list[str]:
    """All values of a header that the pod saw."""
    headers = answer.seen["headers"]
    assert isinstance(headers, dict)
    return [str(value) for key, values in headers.items() if key.lower() == name.lower() for value in values]


def deployment(answer: clients.Answer) -> str:
    """The name of the deployment of which a pod answered; empty: none did."""
    return answer.pod.rpartition("-")[0].partition("/")[2]


def routes(features: Iterable[Feature], gateway: str = "edge") -> Iterator[Manifest]:
    """All features under each kind of hostname."""
    listed = list(features)
    for place in PLACES:
        for first in range(0, len(listed), MOST_RULES):
            rules = [
                {
                    "name": each.name,
                    **({} if _redirects(each.rule) else {"backendRefs": [backend()]}),
                    **each.rule,
                    "matches": [{"path": {"value": f"/{place.name}/{each.name}"}, **more} for more in each.matches],
                }
                for each in listed[first : first + MOST_RULES]
            ]
            yield {
                "kind": "HTTPRoute",
                "metadata": {"name": f"{gateway}-{place.name}-{first // MOST_RULES}"},
                "spec": {"parentRefs": [{"name": gateway}], "hostnames": list(place.hostnames), "rules": rules},
            }


def _redirects(rule: Manifest) -> bool:
    filters = rule.get("filters", [])
    assert isinstance(filters, list)
    return any(each["type"] == "RequestRedirect" for each in filters)


def backend(name: str = "echo-v1", **more: object) -> Manifest:
    """A reference to a Service."""
    return {"name": name, "port": 8080, **more}


def visit(stage: Stage, feature: str, check: Check, *, gateway: str = "edge", port: int = 80) -> None:
    """Has everybody visit a feature; AssertionError with all that did not find what they must."""
    everybody = [
        Visitor(stage, place, host, protocol, feature, gateway, port)
        for place in PLACES
        for host in place.hosts
        for protocol in ("http1", "http2")
    ]
    send(everybody, check)


def send(visitors: Iterable[Visitor], check: Check) -> None:
    """Has these visitors look at the same time."""

    def found(visitor: Visitor) -> str:
        try:
            check(visitor)
        except (AssertionError, OSError, *clients.ProtocolError) as error:
            return f"{visitor.host} over {visitor.protocol} {visitor.sni}: {type(error).__name__} {error}"
        return ""

    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        problems = [problem for problem in pool.map(found, visitors) if problem]
    assert not problems, "\n".join(problems)
