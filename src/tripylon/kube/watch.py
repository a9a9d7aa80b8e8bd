"""All kinds that we read, followed at the API server, and told as batches of decoded objects.

The invariants: an object that cannot be read costs its own news and nothing else; a kind that is missing or forbidden
is told and waited for while the others go on; what a busy reader missed is merged by object. `reflector.py` follows one
list, `inbox.py` merges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import structlog

from tripylon.api.kinds import KINDS, DecodeError, Kind, decode_as
from tripylon.api.meta import Resource
from tripylon.findings import Finding
from tripylon.kube.client import Client
from tripylon.kube.crds import CrdReport, Crds
from tripylon.kube.followed import Followed
from tripylon.kube.inbox import Change, Inbox
from tripylon.kube.reflector import Reflector, State, is_before
from tripylon.kube.watch_log import WatchLog
from tripylon.values import Name, Ref

FIELD_SELECTORS: Mapping[str, str] = {
    "ConfigMap": "metadata.name!=kube-root-ca.crt",
    "Secret": "type=kubernetes.io/tls",
}
"""Field selector by kind: the authority's certificate lies in every namespace; other Secrets are followed by name."""
BY_REFERENCE = frozenset({"Secret"})
"""Kinds of which objects that the selectors leave out are followed one by one, as `want` names them."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """News, each object at most once."""

    put: tuple[Resource, ...] = ()
    """Objects that are new or changed."""
    delete: tuple[Ref, ...] = ()
    """Objects that are gone; some may never have been told."""
    findings: tuple[Finding, ...] = ()
    """Objects whose new version cannot be read: the last one told serves on. The next `put` or `delete` settles it."""
    synced: bool = False
    """Whether, with this batch, all has been told that was there when each kind was listed, wanted objects included."""
    crds: CrdReport | None = None
    """What is installed of the definitions, when that changed."""
    withheld: Mapping[Name, str] | None = None
    """Wanted Secrets that may not be read, all of them, by what to grant; when that changed."""


class KindState(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with one list."""

    title: str
    """Such as `httproutes`, `services shop` or `secrets shop/cert`."""
    state: State
    message: str
    """What is wrong; empty when nothing is."""
    settled: bool
    """Whether nobody needs to wait for it."""
    objects: int


class Watcher:
    """Follows `kinds` in the `namespaces` named, none if there are none, or in all (None); cluster-scoped ones anyway.

    Selectors are by kind and replace the defaults as a whole. Secrets are listed in `secret_namespaces`, nowhere if
    that is empty and, with None, as `namespaces` says; elsewhere they are followed one by one, as `want` names them.
    `run` follows; one reader at a time takes batches by `next` or `async for`.
    """

    def __init__(
        self,
        client: Client,
        kinds: Sequence[Kind] = KINDS,
        *,
        namespaces: Iterable[str] | None = None,
        field_selectors: Mapping[str, str] = FIELD_SELECTORS,
        secret_namespaces: Iterable[str] | None = None,
        batch_objects: int = 500,
        max_waiting_bytes: int = 16 << 20,
    ) -> None:
        self._client = client
        self._kinds = tuple(kinds)
        self._namespaces = _sorted(namespaces)
        self._secret_namespaces = self._namespaces if secret_namespaces is None else _sorted(secret_namespaces)
        self._fields = field_selectors
        self._batch_objects = batch_objects
        self._inbox = Inbox(max_bytes=max_waiting_bytes)
        self._lists: dict[tuple[str, str], Followed] = {}
        self._singles: dict[Ref, Followed] = {}
        self._wanted: frozenset[Ref] = frozenset()
        self._owners: dict[Ref, tuple[Followed, str]] = {}
        self._crds = Crds(client, kinds, self._on_crds, self._note)
        self._told_synced = False
        self._told_crds = CrdReport()
        self._withheld: dict[Name, str] = {}
        self._told_withheld: dict[Name, str] = {}
        self._log = WatchLog()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow without end."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._crds.run())
            for kind in self._kinds:
                for namespace in self._places(kind):
                    self._lists[kind.name, namespace] = self._follow(kind, namespace)
            self._follow_wanted()

    async def next(self) -> Batch:
        """The next news; waits until there are some. The first batch with `synced` may hold nothing else."""
        while True:
            self._inbox.stirred.clear()
            changes = self._inbox.take(self._batch_objects)
            synced = not len(self._inbox) and self.synced
            crds = self._crds.report
            withheld = self._withheld
            news = (synced, crds, withheld) != (self._told_synced, self._told_crds, self._told_withheld)
            if changes or news:
                batch = Batch(
                    synced=synced,
                    crds=crds if crds != self._told_crds else None,
                    withheld=withheld if withheld != self._told_withheld else None,
                )
                self._told_synced, self._told_crds, self._told_withheld = synced, crds, withheld
                return _filled(batch, changes)
            await self._inbox.stirred.wait()

    def __aiter__(self) -> Watcher:
        """Batches without end."""
        return self

    async def __anext__(self) -> Batch:
        """The next batch."""
        return await self.next()

    @property
    def synced(self) -> bool:
        """Whether every list that can be had was read once. What it held may still wait to be taken."""
        return self._group is not None and all(each.reflector.settled for each in self._all())

    @property
    def crds(self) -> CrdReport:
        """What is installed of the definitions of the kinds."""
        return self._crds.report

    def states(self) -> tuple[KindState, ...]:
        """How it stands with each list, for health checks and people."""
        return tuple(
            KindState(
                title=each.reflector.title,
                state=each.reflector.state,
                message=each.reflector.message,
                settled=each.reflector.settled,
                objects=len(each.reflector.known),
            )
            for each in self._all()
        )

    def want(self, refs: Iterable[Ref]) -> None:
        """Follow these objects of kinds in `BY_REFERENCE`, and no other ones than these and those that are listed."""
        wanted = frozenset(ref for ref in refs if ref.kind in BY_REFERENCE)
        if wanted != self._wanted:
            self._wanted = wanted
            self._follow_wanted()

    def _places(self, kind: Kind) -> tuple[str, ...]:
        """The namespaces in which a kind is listed, each by itself; an empty one stands for all."""
        if not kind.namespaced:
            return ("",)
        namespaces = self._secret_namespaces if kind.name in BY_REFERENCE else self._namespaces
        return ("",) if namespaces is None else namespaces

    def _all(self) -> Iterable[Followed]:
        return (*self._lists.values(), *self._singles.values())

    def _follow_wanted(self) -> None:
        if self._group is None:
            return
        needed = {ref for ref in self._wanted if self._is_single(ref)}
        for ref in self._singles.keys() - needed:
            self._let_go(ref, self._singles.pop(ref))
        for kind in self._kinds:
            for ref in needed - self._singles.keys():
                if ref.kind == kind.name:
                    self._singles[ref] = self._follow(kind, ref.namespace, ref.name)
        self._inbox.stir()

    def _follow_if_wanted(self, kind: Kind, ref: Ref) -> None:
        """What `_follow_wanted` does, for the one object that a whole list told of."""
        needed = ref in self._wanted and self._is_single(ref)
        if needed == (ref in self._singles):
            return
        if needed:
            self._singles[ref] = self._follow(kind, ref.namespace, ref.name)
        else:
            self._let_go(ref, self._singles.pop(ref))
        self._inbox.stir()

    def _follow(self, kind: Kind, namespace: str, name: str = "") -> Followed:
        selector = f"metadata.name={name}" if name else self._fields.get(kind.name)
        params = {"fieldSelector": selector} if selector else {}
        followed = Followed(
            self._client, kind, namespace, name, params=params, take=self._take, changed=self._on_change
        )
        assert self._group is not None
        followed.start(self._group)
        return followed

    def _let_go(self, ref: Ref, single: Followed) -> None:
        """Follow an object no longer, and tell that it is gone unless a whole list has it."""
        single.stop()
        self._log.forget(single.reflector)
        self._note_withheld(single, withheld=False)
        if ref.key in single.reflector.known and self._owns(single, ref, "", gone=True):
            self._inbox.put_now(single.kind, ref, None)

    def _is_single(self, ref: Ref) -> bool:
        """Whether a wanted object is to be followed by itself: no list that we follow has or may yet have it."""
        if self._namespaces is not None and ref.namespace not in self._namespaces:
            return False
        whole = self._lists.get((ref.kind, "")) or self._lists.get((ref.kind, ref.namespace))
        return whole is None or (whole.reflector.settled and ref.key not in whole.reflector.known)

    # --- called by the lists ---------------------------------------------------------------------------------------

    async def _take(self, source: Followed, ref: Ref, raw: bytes | None, version: str) -> None:
        """A list tells of an object."""
        if ref.kind in BY_REFERENCE:
            if not self._owns(source, ref, version, gone=raw is None):
                return
            if not source.name:
                self._follow_if_wanted(source.kind, ref)
        await self._inbox.put(source.kind, ref, raw)

    def _owns(self, source: Followed, ref: Ref, version: str, *, gone: bool) -> bool:
        """Whether the news count: of an object that was made anew with another type, two lists tell in any order."""
        owner = self._owners.get(ref)
        if gone:
            if owner is not None and owner[0] is not source:
                return False
            self._owners.pop(ref, None)
            return True
        if owner is not None and owner[0] is not source and is_before(version, owner[1]):
            return False
        self._owners[ref] = (source, version)
        return True

    def _on_change(self, source: Followed) -> None:
        """A list's state changed."""
        self._note(source.reflector, may_be_absent=source.kind.builtin)
        if source.kind.name in BY_REFERENCE:
            if source.name:
                self._note_withheld(source, withheld=source.reflector.state == "forbidden")
            else:
                self._follow_wanted()
        self._inbox.stir()

    def _note(self, reflector: Reflector, *, may_be_absent: bool = False) -> None:
        """Log what changed; where one list gets through to a server that was away, the others may as well."""
        if self._log.note(reflector, may_be_absent=may_be_absent):
            for each in (*(each.reflector for each in self._all()), self._crds.reflector):
                if each.state in ("failing", "forbidden"):
                    each.wake()

    def _note_withheld(self, single: Followed, *, withheld: bool) -> None:
        """Keep up which wanted objects may not be read. Of those that we may not, nobody tells whether they exist."""
        key = Name(single.namespace, single.name)
        if withheld:
            self._withheld = {**self._withheld, key: single.remedy}
        elif key in self._withheld:
            self._withheld = {name: remedy for name, remedy in self._withheld.items() if name != key}

    def _on_crds(self) -> None:
        for each in self._all():
            if each.reflector.state == "absent":
                each.reflector.wake()
        for note in self._crds.report.notes:
            self._log.once(note)
        self._inbox.stir()


def joined(batches: Iterable[Batch]) -> Batch:
    """Batches that came one after the other as one: of each object what was told last."""
    put: dict[Ref, Resource] = {}
    delete: dict[Ref, None] = {}
    findings: dict[Ref, Finding] = {}
    withheld: Mapping[Name, str] | None = None
    for batch in batches:
        withheld = batch.withheld if batch.withheld is not None else withheld
        for ref in batch.delete:
            put.pop(ref, None)
            findings.pop(ref, None)
            delete[ref] = None
        for resource in batch.put:
            delete.pop(resource.ref, None)
            findings.pop(resource.ref, None)
            put[resource.ref] = resource
        findings |= {finding.object: finding for finding in batch.findings}
    return Batch(put=tuple(put.values()), delete=tuple(delete), findings=tuple(findings.values()), withheld=withheld)


def _sorted(namespaces: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if namespaces is None else tuple(sorted(set(namespaces)))


def _filled(batch: Batch, changes: list[tuple[Ref, Change]]) -> Batch:
    """A batch with what was taken, decoded."""
    put: list[Resource] = []
    findings: list[Finding] = []
    for ref, change in changes:
        if change.raw is not None:
            try:
                put.append(_decoded(change.kind, change.raw))
            except DecodeError as error:
                findings.append(_unreadable(ref, error))
    delete = tuple(ref for ref, change in changes if change.raw is None)
    return msgspec.structs.replace(batch, put=tuple(put), delete=delete, findings=tuple(findings))


def _decoded(kind: Kind, raw: bytes) -> Resource:
    """The object; in lists of built-in kinds it lacks the words that say what it is."""
    resource = decode_as(kind, raw)
    if resource.kind:
        return resource
    return msgspec.structs.replace(resource, api_version=kind.api_version, kind=kind.name)


def _unreadable(ref: Ref, error: DecodeError) -> Finding:
    structlog.get_logger().warning("an object cannot be read; its last version serves on", object=str(ref), error=error)
    return Finding(
        object=ref,
        condition="Accepted",
        reason="Unreadable",
        message=f"{ref} cannot be read: {error}",
        hint="mend the object; until then its last version serves on",
    )
