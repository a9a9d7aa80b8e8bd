"""Twenty changes a second of every kind, and which answers were right meanwhile.

`python -m tests.live.churn SETTINGS` is a control plane with its Envoy that changes its own objects; it prints one line
(`Up`), changes things while it was last told `go`, and at `stop` writes what each host answered when and prints what it
did. It ends when its standard input closes. `Churning` is the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import structlog
from tests.bench import layouts
from tests.bench.start import free_port
from tests.live.echo import Deployment, Placed
from tests.live.fleet import ROOT, Fleet, Manifest, endpoint_slice
from tests.live.load import Load, LoadClient, Record

from tripylon.api.kinds import decode_json
from tripylon.api.meta import Resource
from tripylon.app import Standalone
from tripylon.envoy.layouts import LAYOUTS
from tripylon.files.state import open_state
from tripylon.pb.descriptors import envoy_binary
from tripylon.settings import Settings as Program
from tripylon.values import Ref
from tripylon.xds.server import XdsServer

NAMESPACE = "churn"
PODS = tuple(f"pod-{number}" for number in range(8))
DEPLOYMENTS = tuple(Deployment(NAMESPACE, pod, 1, "lean") for pod in PODS)
ABSENT = "404"
SETTLED_S = 0.25
"""How long after Envoy's acknowledgement a worker may still answer as before."""
KINDS = frozenset(
    ("swap_service", "add_or_remove", "move_endpoints", "replace_service", "replace_certificate"),
)
_PER_CONNECTION = 200
"""So that new connections are made, and with them handshakes with the certificate of the moment."""
_LIVE_S = 20.0
_SERVICES = 6
_CERTIFICATES = 4
_ROUTE_API = "gateway.networking.k8s.io"


class Settings(msgspec.Struct, frozen=True):
    """One run of the control plane."""

    folder: str
    pods: tuple[Placed, ...]
    certificates: tuple[tuple[str, str], ...]
    """Chains and keys of `*.example.com`, of which the listener has one after the other."""
    changed_hosts: int = 24
    still_hosts: int = 200
    """Hosts that nothing is done to; with a Service of their own."""
    changes_per_s: float = 20.0
    layout: str = ""
    seed: int = 20261125


class Up(msgspec.Struct, frozen=True):
    """Where it serves, and by which processes."""

    http: int
    https: int
    pid: int
    envoy_pid: int


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """An answer that a host gives: right from `from_s` on, the only right one some time after `live_s`."""

    outcome: str
    from_s: float
    live_s: float


class Done(msgspec.Struct, frozen=True):
    """What was changed since the last time: how many changes of each kind, and the seconds until each was live."""

    kinds: dict[str, int]
    moved_tables: int
    """How often a routing table went from plain to scoped or back."""
    live_s: list[float]
    story: dict[str, list[Shown]]


def hosts(settings: Settings) -> tuple[str, ...]:
    """The hosts that a client may ask for."""
    return tuple(f"host-{number}.example.com" for number in range(settings.changed_hosts + settings.still_hosts))


class World:
    """The objects as they are, and the next random change to them. Every change is one put and delete of objects."""

    def __init__(self, settings: Settings, http: int, https: int) -> None:
        self._settings = settings
        self._ports = (http, https)
        self._random = random.Random(settings.seed)
        self._pods = {placed.name: placed for placed in settings.pods}
        self._pod_of = [PODS[number % len(PODS)] for number in range(_SERVICES)]
        self._service_of: dict[str, int | None] = {
            host: None if number < settings.changed_hosts and number % 4 == 0 else number % (_SERVICES - 1)
            for number, host in enumerate(hosts(settings))
        }
        for host in hosts(settings)[settings.changed_hosts :]:
            self._service_of[host] = _SERVICES - 1
        self._generation = [0] * _SERVICES
        self._certificate = 0
        self._made = 0

    def first(self) -> list[Manifest]:
        """Everything at the start."""
        made = [self._gateway(), self._secret()]
        for service in range(_SERVICES):
            made += self._service(service)
        return [*made, *(self._route(host) for host, service in self._service_of.items() if service is not None)]

    def answers(self) -> dict[str, str]:
        """What each host answers now."""
        return {
            host: ABSENT if service is None else f"200 {self._pod_of[service]}-0"
            for host, service in self._service_of.items()
        }

    def change(self) -> tuple[str, list[Manifest], list[Ref]]:
        """The kind of the next change, what is put and what is deleted; kinds take turns so that all occur."""
        kinds: tuple[Callable[[], tuple[list[Manifest], list[Ref]]], ...] = (
            self._swap_service,
            self._add_or_remove,
            self._move_endpoints,
            self._replace_service,
            self._replace_certificate,
        )
        change = kinds[self._made % len(kinds)]
        self._made += 1
        return change.__name__.lstrip("_"), *change()

    def _changed_host(self, *, present: bool) -> str:
        changed = hosts(self._settings)[: self._settings.changed_hosts]
        return self._random.choice([host for host in changed if not present or self._service_of[host] is not None])

    def _swap_service(self) -> tuple[list[Manifest], list[Ref]]:
        host = self._changed_host(present=True)
        self._service_of[host] = self._random.randrange(_SERVICES - 1)
        return [self._route(host)], []

    def _add_or_remove(self) -> tuple[list[Manifest], list[Ref]]:
        host = self._changed_host(present=False)
        present = sum(self._service_of[each] is not None for each in hosts(self._settings))
        if self._service_of[host] is None:
            self._service_of[host] = self._random.randrange(_SERVICES - 1)
            return [self._route(host)], []
        if present - self._settings.still_hosts < self._settings.changed_hosts // 2:
            return [self._route(host)], []
        self._service_of[host] = None
        return [], [Ref(_ROUTE_API, "HTTPRoute", NAMESPACE, host.partition(".")[0])]

    def _move_endpoints(self) -> tuple[list[Manifest], list[Ref]]:
        service = self._random.randrange(_SERVICES)
        self._pod_of[service] = self._random.choice(PODS)
        return self._service(service)[1:], []

    def _replace_service(self) -> tuple[list[Manifest], list[Ref]]:
        """A new Service takes over all routes of an old one, which goes, in one change."""
        service = self._random.randrange(_SERVICES - 1)
        old = self._name(service)
        self._generation[service] += 1
        self._pod_of[service] = self._random.choice(PODS)
        routes = [self._route(host) for host, of in self._service_of.items() if of == service]
        gone = [Ref("", "Service", NAMESPACE, old), Ref("discovery.k8s.io", "EndpointSlice", NAMESPACE, f"{old}-1")]
        return [*self._service(service), *routes], gone

    def _replace_certificate(self) -> tuple[list[Manifest], list[Ref]]:
        self._certificate = (self._certificate + 1) % len(self._settings.certificates)
        return [self._secret()], []

    def _name(self, service: int) -> str:
        return f"service-{service}-{self._generation[service]}"

    def _service(self, service: int) -> list[Manifest]:
        placed = self._pods[self._pod_of[service]]
        spec = {"ports": [{"name": "http", "port": 80}]}
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(self._name(service)), "spec": spec},
            endpoint_slice(placed, ports=(("http", placed.ports["http"]),), service_name=self._name(service)),
        ]

    def _route(self, host: str) -> Manifest:
        service = self._service_of[host]
        assert service is not None
        return {
            "apiVersion": f"{_ROUTE_API}/v1",
            "kind": "HTTPRoute",
            "metadata": _metadata(host.partition(".")[0]),
            "spec": {
                "parentRefs": [{"name": "edge"}],
                "hostnames": [host],
                "rules": [{"backendRefs": [{"name": self._name(service), "port": 80}]}],
            },
        }

    def _gateway(self) -> Manifest:
        secure = {"name": "https", "port": self._ports[1], "protocol": "HTTPS", "hostname": "*.example.com"}
        secure_with = {**secure, "tls": {"certificateRefs": [{"name": "example-com"}]}}
        listeners = [{"name": "http", "port": self._ports[0], "protocol": "HTTP"}, secure_with]
        return {
            "apiVersion": f"{_ROUTE_API}/v1",
            "kind": "Gateway",
            "metadata": _metadata("edge"),
            "spec": {"gatewayClassName": "tripylon", "listeners": listeners},
        }

    def _secret(self) -> Manifest:
        chain, key = self._settings.certificates[self._certificate]
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _metadata("example-com"),
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": chain, "tls.key": key},
        }


def _metadata(name: str) -> Manifest:
    return {"namespace": NAMESPACE, "name": name}


def decoded(manifests: Iterable[Manifest]) -> list[Resource]:
    """Objects as an API server sends them."""
    return [decode_json(msgspec.json.encode(manifest)) for manifest in manifests]


class Plane:
    """The control plane and what changes it."""

    def __init__(self, gateway: Standalone, world: World, changes_per_s: float) -> None:
        self._gateway = gateway
        self._world = world
        self._pause_s = 1 / changes_per_s
        self._story = {host: [Shown(answer, 0.0, 0.0)] for host, answer in world.answers().items()}
        self._kinds: Counter[str] = Counter()
        self._live_s: list[float] = []
        self._moved_tables = 0

    async def run(self, stopped: asyncio.Event) -> None:
        """Changes at the pace that was asked for, each once the one before it is live."""
        due_s = time.monotonic()
        while not stopped.is_set():
            due_s = max(due_s + self._pause_s, time.monotonic() - 1.0)
            await asyncio.sleep(due_s - time.monotonic())
            await self._change()

    async def _change(self) -> None:
        began_s = time.monotonic()
        kind, put, gone = self._world.change()
        applied = self._gateway.engine.apply(decoded(put), gone)
        assert await self._gateway.group.live(applied.flight, timeout_s=_LIVE_S), f"{kind} was not live in time"
        now_s = time.monotonic()
        self._kinds[kind] += 1
        self._moved_tables += len(applied.changes.keys(LAYOUTS))
        self._live_s.append(now_s - began_s)
        for host, answer in self._world.answers().items():
            if self._story[host][-1].outcome != answer:
                self._story[host].append(Shown(answer, began_s, now_s))

    def done(self) -> Done:
        """What was done since the last time; only the last answer of each host is kept for the next."""
        story = {host: list(shown) for host, shown in self._story.items()}
        found = Done(dict(self._kinds), self._moved_tables, self._live_s, story)
        for shown in self._story.values():
            del shown[:-1]
        self._kinds, self._moved_tables, self._live_s = Counter(), 0, []
        return found


async def serve(settings: Settings) -> None:
    """The process."""
    http, https = free_port(), free_port()
    world = World(settings, http, https)
    program = Program(
        paths=(),
        bind="127.0.0.1",
        admin=None,
        state=Path(settings.folder, "state"),
        concurrency=1,
        access_log="off",
        **layouts.settings(settings.layout),
    )
    with open_state(program.state) as state:
        gateway = Standalone(program, decoded(world.first()), state, envoy_binary())
        gateway.load()
        server = XdsServer(lambda _: gateway.group)
        await server.start_unix(state.ads_socket)
        try:
            await gateway.envoy.start()
            assert await gateway.group.live(gateway.group.flight, timeout_s=_LIVE_S)
            _say(msgspec.json.encode(Up(http, https, os.getpid(), gateway.envoy.pid or 0)))
            await _obey(Plane(gateway, world, settings.changes_per_s), Path(settings.folder, "done.msgpack"))
        finally:
            await gateway.envoy.drain_and_stop(0.0)
            await server.stop()


async def _obey(plane: Plane, out: Path) -> None:
    while command := await asyncio.to_thread(sys.stdin.readline):
        assert command == "go\n"
        stopped = asyncio.Event()
        running = asyncio.create_task(plane.run(stopped))
        _say(b"going")
        command = await asyncio.to_thread(sys.stdin.readline)
        stopped.set()
        await running
        if command:
            out.write_bytes(msgspec.msgpack.encode(plane.done()))
            _say(b"stopped")


def _say(line: bytes) -> None:
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


class Churning:
    """A control plane that changes all the time, in a process of its own; its pods are those of `fleet`."""

    def __init__(self, folder: Path, fleet: Fleet, **settings: object) -> None:
        self._folder = folder
        self.authority = folder / "authority.pem"
        folder.mkdir(parents=True, exist_ok=True)
        self.authority.write_text(fleet.authority.pem)
        certificates = tuple(fleet.authority.issue("*.example.com") for _ in range(_CERTIFICATES))
        pods = tuple(fleet.placed(f"{NAMESPACE}/{pod}") for pod in PODS)
        plain = {"folder": str(folder), "pods": pods, "certificates": certificates, **settings}
        self.settings = msgspec.convert(msgspec.to_builtins(plain), Settings)

    def __enter__(self) -> Churning:
        with Path(self._folder, "churn.log").open("wb") as log:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "tests.live.churn", msgspec.json.encode(self.settings).decode()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                text=True,
            )
        self.up = msgspec.json.decode(self._line(), type=Up)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def go(self) -> None:
        """Begins to change things."""
        assert self._tell("go") == "going"

    def stop(self) -> Done:
        """Lets everything rest; what was done since `go`."""
        assert self._tell("stop") == "stopped"
        return msgspec.msgpack.decode(Path(self._folder, "done.msgpack").read_bytes(), type=Done)

    def _tell(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, Path(self._folder, "churn.log").read_text()[-4000:]
        return line


class Found(msgspec.Struct, frozen=True):
    """What came of some time under load."""

    done: Done
    requests: int
    requests_per_s: float
    wrong: list[str]


def loaded(
    churning: Churning, folder: Path, *, rates: Mapping[str, float], seconds: float, settled_s: float = SETTLED_S
) -> Found:
    """Changes for some seconds under so many requests a second by each of `http` and `https`."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(LoadClient(_load(churning, folder / f"records-{scheme}", scheme, rate)))
            for scheme, rate in rates.items()
        ]
        churning.go()
        began_s = time.monotonic()
        time.sleep(seconds)
        done = churning.stop()
        took_s = time.monotonic() - began_s
        records = [record for client in clients for record in client.finish()]
    made = sum(record.sent_s >= began_s for record in records)
    return Found(done, len(records), made / took_s, wrong(records, done.story, settled_s=settled_s))


def _load(churning: Churning, out: Path, scheme: str, rate: float) -> Load:
    secure = scheme == "https"
    return Load(
        "127.0.0.1",
        churning.up.https if secure else churning.up.http,
        hosts(churning.settings),
        str(out),
        rate=rate,
        authority=str(churning.authority) if secure else "",
        requests_per_connection=_PER_CONNECTION,
    )


def wrong(records: Iterable[Record], story: dict[str, list[Shown]], *, settled_s: float = SETTLED_S) -> list[str]:
    """Every answer that was not right at any moment of its request, nor within `settled_s` seconds before."""
    begins = {host: [shown.from_s for shown in shows] for host, shows in story.items()}
    ends = {host: [*(after.live_s + settled_s for after in shows[1:]), float("inf")] for host, shows in story.items()}
    found = []
    for record in records:
        first = bisect_left(ends[record.host], record.sent_s)
        last = bisect_right(begins[record.host], record.done_s)
        right = {shown.outcome for shown in story[record.host][first:last]}
        if record.outcome not in right:
            when = f"{record.sent_s:.4f}-{record.done_s:.4f}"
            found.append(f"{record.host} answered {record.outcome!r} at {when}; right were {sorted(right)}")
    return found


if __name__ == "__main__":
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(30),
    )
    asyncio.run(serve(msgspec.json.decode(sys.argv[1], type=Settings)))
