"""Every request table against the real gateway: objects in, real requests, their answers and the status.

All tables share one gateway; each brings its objects, and takes them away in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import pytest
from tests.live.ask import ask, judge
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places, identity
from tests.live.table import ObjectStatus, ParentStatus, Row, Step, all_tables, read_table

from tripylon.api.kinds import find
from tripylon.api.validate import validate

ROUTES = ("HTTPRoute", "GRPCRoute")


@pytest.fixture(scope="module")
def places(fleet: Fleet) -> Iterator[Places]:
    places = Places(fleet)
    yield places
    places.close()


@pytest.fixture(scope="module")
def gateway(places: Places, layout: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    with running(
        tmp_path_factory.mktemp("gateway"), places, places.base(), "--concurrency", "1", "--route-layout", layout
    ) as gateway:
        yield gateway


@pytest.mark.parametrize("name", all_tables())
def test_the_objects_of_a_table_are_valid(name: str, places: Places) -> None:
    table = read_table(name)
    steps = [table.objects, *(step.apply for step in table.steps if not step.broken)]
    for manifest in places.complete([manifest for objects in steps for manifest in objects]):
        kind = find(str(manifest["apiVersion"]), str(manifest["kind"]))
        assert kind is not None, identity(manifest)
        assert validate(kind, manifest) == (), identity(manifest)


@pytest.mark.live
@pytest.mark.parametrize("name", all_tables())
def test_table(name: str, gateway: LiveGateway) -> None:
    table = read_table(name)
    first = Step(about=table.about, apply=table.objects, requests=table.requests, status=table.status)
    present: dict[str, Manifest] = {}
    problems = []
    try:
        for step in (first, *table.steps):
            problems += _take(step, table.to, gateway, present)
    finally:
        gateway.delete(present)
    assert not problems, "\n".join([table.about, *problems])


def _take(step: Step, to: str, gateway: LiveGateway, present: dict[str, Manifest]) -> list[str]:
    """One step: the change, its requests, its status; what was not as expected."""
    whole = gateway.places.complete(step.apply)
    present |= {identity(manifest): manifest for manifest in whole}
    gateway.apply(whole)
    if step.delete:
        deleted = [ObjectStatus(of=name).identity for name in step.delete]
        gateway.delete(deleted)
        for name in deleted:
            del present[name]
    problems = []
    for row in step.requests:
        told = ask(row, gateway.places, lambda *where: gateway.target(where[0], where[1], sni=where[2]), to)
        problems += [f"[{step.about}] {_short(row)}: {problem}" for problem in told]
    found = gateway.objects()
    expected = [*step.status, *_by_default(present.values(), step.status)]
    return problems + [
        f"[{step.about}] {problem}" for one in expected for problem in judge(one, found.get(one.identity))
    ]


def _by_default(present: Iterable[Manifest], told: tuple[ObjectStatus, ...]) -> list[ObjectStatus]:
    """Routes of which the table says nothing must be accepted and resolved by every parent."""
    silent = []
    for manifest in present:
        name = identity(manifest)
        if manifest["kind"] in ROUTES and name not in {one.identity for one in told}:
            spec = msgspec.convert(manifest["spec"], type=dict[str, object])
            refs = msgspec.convert(spec["parentRefs"], type=list[dict[str, object]])
            parents = tuple(
                ParentStatus(gateway=str(ref["name"]), section=str(ref.get("sectionName", ""))) for ref in refs
            )
            silent.append(ObjectStatus(of=name, parents=parents))
    return silent


def _short(row: Row) -> str:
    return msgspec.json.encode(row).decode()
