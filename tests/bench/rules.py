"""One host with many rules: what a request to the first, the 500th and the last costs Envoy, as list and as tree."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.load import processor_s
from tests.bench.measures import Measure, measure
from tests.bench.start import Client, free_port
from tests.bench.table import Table, megabytes

from tripylon.envoy import route_trees
from tripylon.pb import pack
from tripylon.pb.descriptors import envoy_binary
from tripylon.pb.messages import Bootstrap, HttpConnectionManager, HttpFilter, Router, VirtualHost

_COUNTS = (100, 500, 5_000)
_FORMS = ("list", "tree")
_ROUNDS = 5
_REQUESTS = 1_500


def host(count: int, form: str) -> VirtualHost:
    """A host with so many prefixes, each answered at once; a list of up to 100 stays one in either form."""
    made = VirtualHost(name="many", domains=["*"])
    for number in range(count):
        route = made.routes.add(name=f"HTTPRoute/bench/many/{number}")
        route.match.path_separated_prefix = f"/service-{number}"
        route.direct_response.status = 200
    if form == "tree":
        route_trees.plant(made)
    return made


@contextlib.contextmanager
def serving(folder: Path, made: VirtualHost) -> Iterator[tuple[int, int]]:
    """An Envoy with one worker that serves the host: its port and process id."""
    folder.mkdir(parents=True)
    port = free_port()
    manager = HttpConnectionManager(stat_prefix="rules")
    manager.route_config.virtual_hosts.append(made)
    manager.http_filters.append(HttpFilter(name="router", typed_config=pack(Router())))
    config = Bootstrap()
    listener = config.static_resources.listeners.add(name="rules")
    listener.address.socket_address.address = "127.0.0.1"
    listener.address.socket_address.port_value = port
    listener.filter_chains.add().filters.add(name="http", typed_config=pack(manager))
    file = folder / "config.pb"
    file.write_bytes(pack(config).value)
    command = [str(envoy_binary()), "--config-path", str(file), "--disable-hot-restart", "--concurrency", "1"]
    with (folder / "envoy.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            client = Client(port)
            client.wait("any.example.com", "/service-0")
            client.close()
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGKILL)


def spent_s(port: int, pid: int, path: str) -> float:
    """Processor time of Envoy for one request, over one connection, one request after the other."""
    request = f"GET {path} HTTP/1.1\r\nHost: any.example.com\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before_s = processor_s(pid)
        for _ in range(_REQUESTS):
            connection.sendall(request)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
        return (processor_s(pid) - before_s) / _REQUESTS


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    line = next(each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def table(folder: Path, _: int) -> Table:
    """Both forms at each number, the two in turns."""
    rows: list[tuple[str, ...]] = []
    measures: list[Measure] = []
    for count in _COUNTS:
        places = sorted({0, min(499, count - 1), count - 1})
        with contextlib.ExitStack() as stack:
            running, made_in = {}, {}
            for form in _FORMS:
                began_s = time.perf_counter()
                made = host(count, form)
                made_in[form] = time.perf_counter() - began_s
                running[form] = (stack.enter_context(serving(folder / f"{form}-{count}", made)), made.ByteSize())
            found: dict[tuple[str, int], list[float]] = {(form, place): [] for form in _FORMS for place in places}
            for _round in range(_ROUNDS):
                for (form, place), values in found.items():
                    values.append(spent_s(*running[form][0], f"/service-{place}"))
            for form in _FORMS:
                (_port, pid), size = running[form]
                taken = {
                    place: measure(f"rules.{count}.{form}.{place}.processor", "s", found[form, place])
                    for place in places
                }
                measures += taken.values()
                spent = {place: f"{each.statistic('median') * 1e6:.1f}" for place, each in taken.items()}
                cells = (spent[0], spent[places[-2]] if len(places) == 3 else "", spent[places[-1]])
                sizes = (f"{size / 1e3:,.0f}", megabytes(resident_bytes(pid)), f"{made_in[form] * 1e3:.1f}")
                rows.append((f"{count:,}", form, *sizes, *cells))
    return Table(
        "One host with many rules (processor time of Envoy per request in us, medians)",
        ("rules", "as", "kB", "Envoy MB", "made in ms", "first", "500th", "last"),
        tuple(rows),
        measures=tuple(measures),
    )
