"""Request tables: objects, the requests that shall be answered by them, and the status that they shall get.

A table is one YAML file under `tables/<area>/`; `Table` is its schema. Objects are manifests in the short form of
`manifests.py`. This module only reads tables; `ask.py` compares answers with them, `test_tables.py` drives the gateway.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import yaml
from tests.live.fleet import Manifest
from tests.live.manifests import CLUSTER_KINDS, full_name

FOLDER = Path(__file__).with_name("tables")

Protocol = Literal["http1", "h2c", "https", "https2", "grpc", "websocket"]
Values = dict[str, str | list[str]]


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One request and what is expected of it.

    An expected `pod` also means that the pod saw the path and the Host that were sent, unless `seen_path` or
    `seen_host` say otherwise.
    """

    about: str = ""
    to: str = ""
    """Gateway to be asked; empty: the table's."""
    port: int = 0
    """Listener port as written in the manifests; 0: 443 for HTTPS, else 80."""
    over: Protocol = "http1"
    sni: str = ""
    """Server name of the TLS handshake; empty: the Host without its port."""
    host: str = "example.com"
    method: str = "GET"
    path: str = "/"
    headers: Values = {}
    call: str = ""
    """gRPC method, such as `Echo`."""
    times: int = 1
    """How often the request is sent; every answer must be the expected one."""

    status: int = 200
    code: str = "OK"
    """gRPC code."""
    pod: str = ""
    """Deployment of which a pod must answer; empty: no pod may, unless a share says otherwise."""
    any_pod: bool = False
    """Whether it matters not which pod answers."""
    seen_path: str = ""
    seen_host: str = ""
    seen_proto: str = ""
    seen_headers: dict[str, str] = {}
    """Headers that the pod must see; several lines of one name joined with commas."""
    unseen_headers: tuple[str, ...] = ()
    answer_headers: dict[str, str] = {}
    answer_lists: dict[str, tuple[str, ...]] = {}
    """Headers of the answer that list just these values, separated by commas, in any order."""
    answer_one_of: dict[str, tuple[str, ...]] = {}
    absent_headers: tuple[str, ...] = ()
    location: str = ""
    shares: dict[str, float] = {}
    """Percent of the answers by deployment; sends `times` requests over one connection, five points are tolerated."""
    pod_header: str = ""
    """A header that the pod must see and whose value must be its own deployment."""


class ParentStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one entry of `status.parents` shall say; conditions are written `True`, or `False BackendNotFound`."""

    gateway: str
    section: str = ""
    port: int = 0
    Accepted: str = "True Accepted"
    ResolvedRefs: str = "True ResolvedRefs"


class ListenerStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one entry of `status.listeners` shall say."""

    attached: int | None = None
    kinds: tuple[str, ...] | None = None
    conditions: dict[str, str] = {}


class ObjectStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the status of one object shall say. `listeners` names all of a Gateway, `parents` all of a route."""

    of: str
    """Kind and name, such as `HTTPRoute exact` or `Gateway apps/edge`."""
    conditions: dict[str, str] = {}
    listeners: dict[str, ListenerStatus] = {}
    parents: tuple[ParentStatus, ...] | None = None

    @property
    def identity(self) -> str:
        """`Kind namespace/name`."""
        kind, _, name = self.of.partition(" ")
        return self.of if kind in CLUSTER_KINDS else f"{kind} {full_name(name)}"


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change and what is expected after it."""

    about: str
    apply: list[Manifest] = []
    delete: tuple[str, ...] = ()
    """Objects to be deleted, written as in `ObjectStatus.of`."""
    broken: bool = False
    """Whether the objects are invalid on purpose."""
    requests: tuple[Row, ...] = ()
    status: tuple[ObjectStatus, ...] = ()


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test. Routes and Gateways of the table that `status` does not mention must be accepted and resolved."""

    about: str
    to: str = "edge"
    """Gateway that rows without one are sent to."""
    objects: list[Manifest]
    requests: tuple[Row, ...] = ()
    status: tuple[ObjectStatus, ...] = ()
    steps: tuple[Step, ...] = ()


def all_tables() -> list[str]:
    """`area/name` of every table, sorted."""
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))


def read_table(name: str) -> Table:
    """The table `area/name`; msgspec.ValidationError when it does not follow the schema."""
    return msgspec.convert(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()), type=Table)
