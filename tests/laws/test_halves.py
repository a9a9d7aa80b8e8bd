"""Objects taken in by halves, what routes lead to first: it comes out as if all had been built at once."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.laws import worlds
from tests.laws.worlds import EMIT_OPTIONS, OPTIONS, World

from tripylon.loop import Engine
from tripylon.world.world import SERVICES
from tripylon.xds.cache import Refusal
from tripylon.xds.snapshot import BY_URL, CDS, TYPES, Resource


def published(engine: Engine) -> dict[str, dict[str, Resource]]:
    return {kind.short: dict(engine.group.resources(kind.url)) for kind in TYPES}


@given(worlds.worlds(), st.randoms())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_two_halves_are_a_whole(world: World, chance: random.Random) -> None:
    whole, halves = Engine(OPTIONS, EMIT_OPTIONS), Engine(OPTIONS, EMIT_OPTIONS)
    told = whole.apply(world.values())
    halves.prepare(world.values())
    first = published(halves)
    assert halves.group.flight == 0
    assert all(BY_URL[kind.url].held for kind in TYPES if first[kind.short]), "nothing that refers to others"
    while chance.random() < 0.9 and halves.advance():
        pass
    last = halves.apply(())
    assert (last.subjects, last.changed, last.flight) == (told.subjects, told.changed, told.flight)
    assert published(halves) == published(whole)
    assert {name: first[name] for name in ("CDS", "EDS", "SDS")} == {
        name: published(whole)[name] for name in ("CDS", "EDS", "SDS")
    }
    assert list(map(str, sorted(halves.graph.all_findings(), key=str))) == list(
        map(str, sorted(whole.graph.all_findings(), key=str))
    )


def test_a_refusal_between_the_halves_takes_nothing_with_it() -> None:
    world = worlds.base()
    whole, halves = Engine(OPTIONS, EMIT_OPTIONS), Engine(OPTIONS, EMIT_OPTIONS)
    whole.apply(world)
    halves.prepare(world)
    name = next(iter(published(halves)["CDS"]))
    halves.group.refusals[CDS, name] = Refusal("1", "no such thing")
    assert halves.advance()
    halves.heed_refusals()
    halves.apply(())
    assert published(halves) == published(whole)
    assert published(halves)["LDS"]


def test_a_first_half_takes_nothing_from_routes_that_are_still_as_they_were() -> None:
    world = worlds.base()
    engine = Engine(OPTIONS, EMIT_OPTIONS)
    engine.apply(world)
    before = published(engine)
    [gone] = [each for each in world if each.ref.kind == "Service" and each.ref.name == "web"]
    engine.graph.delete(SERVICES, gone.key)
    engine.prepare(())
    between = published(engine)
    assert all(before[kind].keys() <= between[kind].keys() for kind in before)
    engine.apply(())
    assert published(engine)["CDS"].keys() < before["CDS"].keys()
    fresh = Engine(OPTIONS, EMIT_OPTIONS)
    fresh.apply([each for each in world if each is not gone])
    assert published(engine) == published(fresh)
