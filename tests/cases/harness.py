"""From the objects of a case to what Tripylon makes of them: a graph, and the facets of it that cases speak of.

Objects are written shortly: `apiVersion` follows from the kind, `name`, `namespace`, `created`, `generation` and
`labels` stand at the top, and `certificate` or `authorities` fill a Secret or ConfigMap with things made for the test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import yaml
from tests.cases.certificates import authorities, certificate

from tripylon.api.gateway import Gateway
from tripylon.api.kinds import KINDS, Kind, decode
from tripylon.api.meta import Resource
from tripylon.api.validate import validate
from tripylon.envoy import emit
from tripylon.envoy.options import EmitOptions
from tripylon.findings import Finding
from tripylon.graph import Graph, Table
from tripylon.model import pipeline
from tripylon.model.options import Options
from tripylon.status.conditions import Programming
from tripylon.values import Name, Ref
from tripylon.world import world
from tripylon.xds.snapshot import Resource as XdsResource

HERE = Path(__file__).parent
NOW = "2030-01-01T00:00:00Z"
_SHORT = {"created": "creationTimestamp", "labels": "labels", "generation": "generation", "annotations": "annotations"}


class Case(NamedTuple):
    """One file: objects, options, and what is expected."""

    path: Path
    title: str
    options: dict[str, Any]
    objects: tuple[dict[str, Any], ...]
    expect: dict[str, Any]
    proxies: dict[str, Any] = {}  # noqa: RUF012 - read only

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"


class Outcome(NamedTuple):
    """What became of a case's objects."""

    graph: Graph
    options: Options
    resources: tuple[Resource, ...]
    refused: tuple[str, ...]
    """What the schema refuses, as `Kind namespace/name message`; such objects do not get further."""
    programming: Programming | None = None
    """What proxies have acknowledged; None: there are none."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        subjects: dict[Ref, None] = dict.fromkeys(finding.object for finding in self.graph.all_findings())
        return tuple(finding for subject in sorted(subjects) for finding in self.graph.findings(subject))

    @property
    def xds(self) -> tuple[XdsResource, ...]:
        return tuple(each for named in emit.everything(self.graph).values() for each in named.values())


def paths() -> tuple[Path, ...]:
    return tuple(sorted(path for path in HERE.glob("*/*.yaml") if path.parent.name != "base"))


def load(path: Path) -> Case:
    written: dict[str, Any] = _yaml(path.read_text())
    unknown = written.keys() - {"title", "base", "options", "objects", "proxies", "expect"}
    assert not unknown, f"{path}: unknown keys {unknown}"
    base = tuple(each for name in written.get("base", ()) for each in _base(name))
    objects = (*base, *(written.get("objects") or ()))
    options, expect, proxies = written.get("options", {}), written.get("expect") or {}, written.get("proxies", {})
    return Case(path, written["title"], options, objects, expect, proxies)


@cache
def _base(name: str) -> tuple[dict[str, Any], ...]:
    objects: tuple[dict[str, Any], ...] = tuple(_yaml((HERE / "base" / f"{name}.yaml").read_text()))
    return objects


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


class _Loader(yaml.CSafeLoader):
    """YAML without dates: a creation time is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [pair for pair in resolvers if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def run(case: Case, *, system_ca: str = "/nowhere") -> Outcome:
    options = msgspec.convert(case.options, Options)
    graph = new_graph(options, system_ca=system_ca)
    resources: list[Resource] = []
    refused: list[str] = []
    for written in case.objects:
        kind, plain = full(written)
        metadata = plain["metadata"]
        place = Ref(kind.group, kind.name, metadata.get("namespace", ""), metadata["name"])
        problems = validate(kind, plain)
        if problems:
            refused.extend(f"{place} {problem.message}" for problem in problems)
            continue
        resource = decode(kind, plain)
        resources.append(resource)
        world.put(graph, resource)
        if isinstance(resource, Gateway) and not options.standalone:
            graph.put(world.REACHED, resource.key, world.Reached(tuple(_reached(case))))
    for told in case.proxies.get("told", ()):
        _tell(graph, told)
    graph.flush()
    programming = _Proxies(tuple(case.proxies["taken"])) if "taken" in case.proxies else None
    return Outcome(graph, options, tuple(resources), tuple(refused), programming)


def _reached(case: Case) -> Iterator[world.ReachedAddress]:
    """Addresses as a case has them: each a text, perhaps with its routability in front."""
    for each in case.proxies.get("addresses", ("192.0.2.1",)):
        routability, _, value = each.rpartition(" ")
        yield world.ReachedAddress(value, routability)


class _Proxies(NamedTuple):
    """Proxies that have taken the listeners of these ids, and no others."""

    taken: tuple[str, ...]

    def listener(self, gateway: Name, listener: str) -> Literal["programmed", "pending"]:
        return "programmed" if listener in self.taken else "pending"


def _tell(graph: Graph, told: dict[str, str]) -> None:
    """What those who run proxies say about an object, as a finding is written in `expect`."""
    kind, _, key = told["about"].partition(" ")
    condition, _, reason = told["is"].partition(" ")
    about = Ref(_kind(kind).group, kind, *Name(*key.rpartition("/")[::2]))
    finding = Finding(
        object=about, condition=condition, reason=reason, message=told["says"], listener=told.get("listener", "")
    )
    graph.put(world.TOLD, ("proxies", about), (finding,))


def new_graph(options: Options, *, system_ca: str = "/nowhere") -> Graph:
    """A graph from the World to xDS; a build function that raises fails the test."""
    return Graph(
        inputs=world.INPUTS,
        derives=(*pipeline.derives(options), *emit.derives(EmitOptions(system_ca=system_ca))),
        indexes=(*world.INDEXES, *pipeline.INDEXES, *emit.INDEXES),
        subject=lambda finding: finding.object,
        on_error=_raise,
    )


def _raise(table: Table[Any, Any], key: object, error: Exception) -> tuple[Any, ...]:
    raise AssertionError(f"building {table} at {key} failed") from error


def full(written: Mapping[str, Any]) -> tuple[Kind, dict[str, Any]]:
    """An object as it would stand in a cluster, out of its short form; one that is written in full stays."""
    rest = dict(written)
    if "metadata" in rest:
        return _kind(rest["kind"]), rest
    kind = _kind(rest.pop("kind"))
    metadata: dict[str, Any] = {"name": rest.pop("name")}
    if kind.namespaced:
        metadata["namespace"] = rest.pop("namespace", "default")
    metadata |= {_SHORT[key]: rest.pop(key) for key in tuple(rest) if key in _SHORT}
    made: dict[str, Any] = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}
    if "certificate" in rest:
        made |= {"type": "kubernetes.io/tls", "stringData": certificate(**rest.pop("certificate"))}
    if "authorities" in rest:
        made |= {"data" if kind.name == "ConfigMap" else "stringData": authorities(**rest.pop("authorities"))}
    return kind, made | rest


def _kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


def by_name(resources: tuple[Resource, ...]) -> Iterator[tuple[str, Resource]]:
    """Each object with `Kind namespace/name`, as cases name it."""
    for resource in resources:
        yield str(resource.ref), resource
