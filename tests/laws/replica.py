"""One replica without a network: lines of watches in, status patches and xDS responses out, all in one thread.

Everything on the way of a change is the product's own: the reading of watch lines, the inbox, decoding, the graph, the
group of each Gateway, one subscription for each of them, the marks and patches of status. What a status patch made is
told back by the watch, as an API server would. Used to count work (`test_growth.py`) and to measure it (`tests/bench`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable
from typing import Any, cast

import msgspec
from tests.kube.statuses import Object, patched

from tripylon.api.gateway import Gateway
from tripylon.api.kinds import decode_json, find
from tripylon.api.listener_sets import ListenerSet
from tripylon.envoy.options import EmitOptions
from tripylon.kube.client import Client
from tripylon.kube.inbox import Inbox
from tripylon.kube.reflector import Reflector
from tripylon.kube.report import Reporter
from tripylon.kube.secret_wants import SecretWants
from tripylon.kube.watch import Batch, _filled, joined
from tripylon.loop import Applied, Engine
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.options import Options
from tripylon.pb.messages import DeltaDiscoveryRequest
from tripylon.values import Name, Ref
from tripylon.world.world import Reached, ReachedAddress
from tripylon.xds.cache import Group, Session
from tripylon.xds.snapshot import CDS, EDS, LDS, SRDS, TYPES, VHDS

OPTIONS = Options(standalone=False)
EMIT_OPTIONS = EmitOptions(access_log="stdout", route_layout="scoped", system_ca="/etc/ssl/certs/ca-certificates.crt")
_AT_ONCE = 500


class Line:
    """One event of a watch, as an API server writes it: the object's JSON, or its end."""

    __slots__ = ("kind", "raw", "ref")

    def __init__(self, obj: Object, version: int, type: str = "MODIFIED") -> None:
        kind = find(obj["apiVersion"], obj["kind"])
        assert kind is not None
        metadata = {**obj["metadata"], "resourceVersion": str(version)}
        metadata.setdefault("uid", f"uid-{metadata['name']}")
        metadata.setdefault("generation", 1)
        self.kind, self.ref = kind, Ref(kind.group, kind.name, metadata.get("namespace", ""), metadata["name"])
        self.raw = json.dumps({"type": type, "object": {**obj, "metadata": metadata}}).encode()


def _defaulted(obj: Object) -> Object:
    """An object as the API server keeps it, which knows what a status says before anybody writes one."""
    if obj["kind"] not in ("Gateway", "ListenerSet") or "status" in obj:
        return obj
    decoded = decode_json(json.dumps(obj).encode())
    assert isinstance(decoded, Gateway | ListenerSet)
    return obj | {"status": json.loads(msgspec.json.encode(decoded.status))}


class Proxy:
    """One subscription that asks for what Envoy asks for, and takes all."""

    def __init__(self, group: Group, number: int) -> None:
        self.received = 0
        """Bytes of responses."""
        self.sent = 0
        """Responses."""
        self._group = group
        self.woken = False
        self.session: Session = group.connect(number, f"node-{number}", self._wake)
        for kind in TYPES:
            self._ask(kind.url, self._names(kind.url))
        self.pump()

    def _wake(self) -> None:
        self.woken = True

    def _names(self, url: str) -> tuple[str, ...]:
        if url in (CDS, LDS, SRDS, VHDS):
            return ()
        return tuple(self._group.resources(url))

    def _ask(self, url: str, names: Iterable[str] = (), nonce: str = "") -> None:
        self.session.receive(
            DeltaDiscoveryRequest(type_url=url, resource_names_subscribe=list(names), response_nonce=nonce)
        )

    def pump(self) -> None:
        """Reads and acknowledges until nothing comes any more; new clusters' endpoints are asked for, and so on."""
        while self.woken:
            self.woken = False
            for response in self.session.responses(0.0):
                self.received += len(response.payload)
                self.sent += 1
                names = [resource.name for resource in response.batch.resources]
                self._ask(response.type_url, nonce=response.nonce)
                if response.type_url == CDS:
                    self._ask(EDS, names)

    def follow(self, url: str) -> None:
        """Asks for all that there is of a type now."""
        self._ask(url, self._names(url))
        self.pump()


class _Tasks:
    """What writes of status are given to: each is done at once, since nothing here ever waits."""

    def create_task(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            work.send(None)
        except StopIteration:
            return
        raise AssertionError("a write of status waited for something")


class _Sink:
    """Where one list tells its objects: see `watch.Watcher`."""

    def __init__(self, kind: Any, inbox: Inbox) -> None:
        self._kind, self._inbox = kind, inbox

    async def put(self, name: Name, raw: bytes, version: str) -> None:
        await self._inbox.put(self._kind, Ref(self._kind.group, self._kind.name, *name), raw)

    async def delete(self, name: Name) -> None:
        await self._inbox.put(self._kind, Ref(self._kind.group, self._kind.name, *name), None)


class Replica:
    """The replica. `tell` is to be called within a running event loop."""

    def __init__(self) -> None:
        self.engine = Engine(OPTIONS, EMIT_OPTIONS, on_applied=self._on_applied)
        self.reporter = Reporter(self.engine, self, OPTIONS, interval_s=0.0)
        self.secrets = SecretWants()
        self.proxies: dict[Name, Proxy] = {}
        self.patches: list[tuple[Ref, int]] = []
        """Objects whose status was written, each with the size of the patch."""
        self._inbox = Inbox(max_bytes=1 << 40)
        self._lists: dict[str, Reflector] = {}
        self._documents: dict[Ref, Object] = {}
        self._echo: list[Line] = []
        self._version = 1_000_000

    async def fill(self, objects: Iterable[Object]) -> None:
        """Takes in what there is at the start, without a word about status, and connects a proxy for each Gateway."""
        await self.start(self.line(each, "ADDED") for each in objects)

    async def start(self, lines: Iterable[Line]) -> None:
        """The same for lines that are made already, or are made one by one."""
        await self._read(lines)
        self._apply()
        gateways = list(self.engine.graph.rows(GATEWAY_PLANS))
        self.engine.reach({name: Reached((ReachedAddress("192.0.2.1"),)) for name in gateways})
        for number, name in enumerate(gateways):
            group = self.engine.gateways.of(name)
            assert group is not None
            self.proxies[name] = Proxy(group, number)
        self.engine.rest()

    async def lead(self, objects: Iterable[Object]) -> None:
        """Begins to lead as if the status of all but these objects had been written by another replica."""
        self.reporter._leading = True
        await self.tell(objects)

    def line(self, obj: Object, type: str = "MODIFIED") -> Line:
        """An event of a watch."""
        obj = _defaulted(obj)
        line = Line(obj, self._next(), type)
        self._documents[line.ref] = obj
        return line

    async def tell(self, objects: Iterable[Object], *, gone: Iterable[Object] = ()) -> None:
        """Objects are new or changed, others are gone; all comes to rest."""
        lines = [*(self.line(each) for each in objects), *(self.line(each, "DELETED") for each in gone)]
        await self.take(lines)

    async def take(self, lines: list[Line]) -> None:
        """The same for lines that are made already."""
        while lines:
            await self._read(lines)
            self._apply()
            for proxy in self.proxies.values():
                if proxy.woken:
                    proxy.pump()
            while self.reporter._judge_some(cast("asyncio.TaskGroup", _Tasks())):
                pass
            self.reporter._busy.clear()
            lines, self._echo = self._echo, []

    async def _read(self, lines: Iterable[Line]) -> None:
        for each in lines:
            reflector = self._lists.get(each.kind.name)
            if reflector is None:
                sink = _Sink(each.kind, self._inbox)
                reflector = self._lists[each.kind.name] = Reflector(
                    cast("Client", None), each.kind.plural, cast("Any", None), sink
                )
            await reflector._take(each.raw, "")

    def _apply(self) -> None:
        batches: list[Batch] = []
        while changes := self._inbox.take(_AT_ONCE):
            batches.append(_filled(Batch(), changes))
        batch = joined(batches)
        assert not batch.findings
        if batch.put or batch.delete:
            self.engine.apply(batch.put, batch.delete)

    def _on_applied(self, applied: Applied) -> None:
        self.secrets.changed(self.engine.graph, applied.changes)
        self.reporter.changed(applied)

    def _next(self) -> int:
        self._version += 1
        return self._version

    # --- The API server, as far as status is concerned --------------------------------------------------------------

    async def read(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> Object | None:
        raise AssertionError("nothing is read again")

    async def patch_status(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: list[Object],
        *,
        namespace: str = "",
        resource_version: str = "",
    ) -> Object:
        ref = Ref(api_version.rpartition("/")[0], kind, namespace, name)
        self.patches.append((ref, len(json.dumps(patch))))
        made = patched(self._documents[ref], patch)
        self._documents[ref] = made
        self._echo.append(self.line(made))
        return cast("Object", json.loads(self._echo[-1].raw)["object"])
