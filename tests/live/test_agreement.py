"""The real Envoy and a plain reading of the specification agree on ten thousand random requests.

One `tripylon run` with one Envoy serves many random scenes at once (`agreement.py`), each a Gateway with an address of
its own; `tests/laws/specified.py` says what may answer. Between the rounds of requests every route is exchanged for
another one while Envoy runs. `python -m tests.live.test_agreement SEED [LAYOUT]` asks another ten thousand.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from tests.laws.specified import Asked, Reading
from tests.live import agreement
from tests.live.agreement import Ports, Scene
from tests.live.agreement_wire import Client, backends
from tests.live.certificates import Authority
from tests.live.fleet import Fleet, Manifest, loopback
from tests.live.gateway import LiveGateway
from tests.live.manifests import Places, identity

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

SEED = 20261
SCENES = 100
ROUNDS = 4
"""How often every route of every scene is another one."""
REQUESTS = 10_000
SHOWN = 5
"""Disagreements that are shown in full."""
AT_ONCE = 8
"""Connections that are in use at one time."""


class Difference(NamedTuple):
    """A request that was answered as the specification does not allow."""

    scene: Scene
    asked: Asked
    allowed: frozenset[str]
    answered: str


class Found(NamedTuple):
    """What a run came to."""

    answers: Counter[str]
    differences: list[Difference]


def test_envoy_and_the_specification_agree(
    layout: str, fleet: Fleet, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    found = asyncio.run(compare(Random(SEED), fleet, tmp_path, layout))
    told = totals(found, layout, time.monotonic() - started)
    record_property("totals", told)
    assert not found.differences, "\n".join([told, *map(explained, found.differences[:SHOWN])])
    assert found.answers.total() == REQUESTS
    assert found.answers["a backend"] > REQUESTS // 4
    assert all(found.answers[kind] > REQUESTS // 100 for kind in ("404", "421", "500", "503", "a redirect")), told


async def compare(random: Random, fleet: Fleet, folder: Path, layout: str) -> Found:
    """Serves random scenes, and sends requests in rounds, between which their routes are exchanged."""
    places = Places(fleet)
    ports = Ports(*(places.port(port) for port in (80, 8080, 443)))
    first = ipaddress.ip_address(loopback(6))
    pair = Authority().issue("*.example.com", "other.org")
    found = Found(Counter(), [])
    async with backends((*agreement.BACKENDS, "b3"), str(first)) as port_of:
        grants = agreement.shared(str(first), port_of["b3"], [f"s{number}" for number in range(0, SCENES, 16)])
        scenes = [
            agreement.scene(random, number, str(first + number), ports, pair).beside(
                [*agreement.services(number, str(first), port_of), *grants]
            )
            for number in range(SCENES)
        ]
        gateway = LiveGateway(folder / "gateway", places, "--route-layout", layout)
        _write(gateway, [each for scene in scenes for each in (scene.gateway, *scene.objects)])
        try:
            await asyncio.to_thread(gateway.start)
            for number in range(ROUNDS):
                if number:
                    scenes = await asyncio.to_thread(_exchange, random, gateway, scenes)
                await ask_all(random, scenes, REQUESTS // ROUNDS, found)
        finally:
            await asyncio.to_thread(gateway.stop)
            places.close()
    return found


def _write(gateway: LiveGateway, manifests: Iterable[Manifest]) -> None:
    for each in manifests:
        gateway.write(each)


def _exchange(random: Random, gateway: LiveGateway, scenes: list[Scene]) -> list[Scene]:
    """Gives every scene other routes; some of the old ones are edited thereby, the others deleted."""
    exchanged = [scene.with_routes(agreement.routes(random, scene)) for scene in scenes]
    before, after = ({identity(route) for each in group for route in each.routes} for group in (scenes, exchanged))
    for name in before - after:
        gateway.path(name).unlink()
    _write(gateway, [route for scene in exchanged for route in scene.routes])
    gateway.wait_live()
    return exchanged


# --- Asking --------------------------------------------------------------------------------------------------------


async def ask_all(random: Random, scenes: list[Scene], count: int, found: Found) -> None:
    """Sends so many requests to the scenes, and compares each answer with the specification's."""
    readings = [Reading(scene.gateway, scene.objects) for scene in scenes]
    connections: dict[tuple[str, int, str | None], list[tuple[Scene, Reading, Asked]]] = {}
    asked_of = [pair for pair in zip(scenes, readings, strict=True) if pair[1].listeners]
    for number in range(count):
        scene, reading = asked_of[number % len(asked_of)]
        asked = agreement.request(random, reading)
        connections.setdefault((scene.address, asked.port, asked.sni), []).append((scene, reading, asked))
    limit = asyncio.Semaphore(AT_ONCE)

    async def converse(address: str, port: int, sni: str | None) -> None:
        async with limit:
            client = Client(address, port, sni)
            for scene, reading, asked in connections[address, port, sni]:
                allowed, answered = reading.answers(asked), await client.ask(asked)
                found.answers[_sort(answered)] += 1
                if not agrees(asked, allowed, answered):
                    found.differences.append(Difference(scene, asked, allowed, answered))
            client.close()

    await asyncio.gather(*(converse(*place) for place in connections))


def agrees(asked: Asked, allowed: frozenset[str], answered: str) -> bool:
    """Whether an answer is one of the allowed ones. A gRPC call is told of an error by a code of gRPC's own."""
    return answered in {form for each in allowed for form in _forms(each, grpc=asked.grpc)}


def _forms(allowed: str, *, grpc: bool) -> tuple[str, ...]:
    status, mark, rest = allowed.partition(" ")
    if not grpc or not status.isdigit():
        return (allowed,)
    return tuple(f"grpc {code}{mark}{rest}" for code in _codes(int(status), rest))


def _codes(status: int, rest: str) -> tuple[int, ...]:
    """gRPC's words for a status: UNIMPLEMENTED, UNAVAILABLE; the text has none for what an HTTPRoute or 421 say."""
    if status == 404:
        return (12,)
    return (14,) if status == 503 or "by GRPCRoute" in rest else (2, 14)


def _sort(answered: str) -> str:
    if " to " in answered:
        return "a redirect"
    return "a backend" if " got " in answered else answered.partition(" by ")[0]


# --- Telling -------------------------------------------------------------------------------------------------------


def totals(found: Found, layout: str, seconds: float) -> str:
    """One line for the end of the test run."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.answers.most_common())
    return (
        f"agreement of Envoy with the specification: {found.answers.total()} random requests to {SCENES} gateways "
        f"with {ROUNDS} sets of {layout} routes each, "
        f"{len(found.differences)} disagreements, {seconds:.0f} s ({kinds})"
    )


def explained(one: Difference) -> str:
    """A disagreement in short: the request, both answers, the listeners, and the routes that come into question."""
    said = " ".join((one.answered, *one.allowed))
    reading = Reading(one.scene.gateway, one.scene.objects)
    host = one.asked.host.partition(":")[0].lower()
    lines = [f"\n{one.asked}\n  answered {one.answered}, allowed {sorted(one.allowed)}"]
    for listener in reading.listeners:
        if listener.spec["port"] == one.asked.port:
            winners = [winner.name for winner in reading.winners(listener, host, one.asked)]
            lines.append(f"  {listener.holder['metadata']['name']} {json.dumps(listener.spec)} -> {winners}")
    for route in one.scene.routes:
        metadata = route["metadata"]
        if f"{route['kind']} {metadata['namespace']}/{metadata['name']} " in said:
            lines.append(f"  {route['kind']} {json.dumps(metadata)} {json.dumps(route['spec'])}")
    return "\n".join(lines)


def main(seed: int, layout: str) -> None:
    """One run with another seed."""
    with tempfile.TemporaryDirectory() as folder, Fleet(Path(folder)) as fleet:
        started = time.monotonic()
        found = asyncio.run(compare(Random(seed), fleet, Path(folder), layout))
        print(totals(found, layout, time.monotonic() - started), *map(explained, found.differences[:SHOWN]), sep="\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), *(sys.argv[2:] or ["auto"]))
