"""Which definitions (CRDs) of our kinds are installed, of which version and channel, and what to say of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from tripylon.api.kinds import Kind
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.findings import Finding
from tripylon.kube.client import METADATA_ONLY, Client
from tripylon.kube.reflector import Reflector
from tripylon.values import Name, Ref

SUPPORTED = (1, 7)
"""Major and minor of the Gateway API that we implement; older minors of the same major are understood too."""

_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_VERSION = re.compile(r"v(\d+)\.(\d+)\.\d+.*")


class Crd(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An installed definition."""

    name: str
    """Such as `httproutes.gateway.networking.k8s.io`."""
    bundle_version: str = ""
    """Release of the Gateway API that it comes from, such as `v1.7.0`; empty: not of the Gateway API, or not told."""
    channel: str = ""
    """`standard` or `experimental`; empty as above."""


class CrdReport(msgspec.Struct, frozen=True, kw_only=True):
    """What there is, and what a user should know about it."""

    installed: tuple[Crd, ...] = ()
    """In the order of their names."""
    version: str = ""
    """Release of the Gateway API that the GatewayClass definition comes from; empty: unknown."""
    channel: str = ""
    """Channel of it; empty: unknown."""
    supported: bool = True
    """Whether the release is one that we know; what is unknown counts as supported."""
    notes: tuple[str, ...] = ()
    """What is odd, in sentences with what to do."""


class Crds:
    """Follows the definitions of some kinds; `changed` is called when the report did, `on_state` when the list did.

    Without the permission, definitions that appear are found only as each kind is looked for from time to time.
    """

    def __init__(
        self,
        client: Client,
        kinds: Iterable[Kind],
        changed: Callable[[], None],
        on_state: Callable[[Reflector], None] = lambda _: None,
    ) -> None:
        self.report = CrdReport()
        self._names = frozenset(f"{kind.plural}.{kind.group}" for kind in kinds if not kind.builtin)
        self._found: dict[str, Crd] = {}
        self._changed = changed
        self.reflector = Reflector(
            client,
            "customresourcedefinitions",
            self._locate,
            self,
            form=METADATA_ONLY,
            limit=100,
            remedy="grant list and watch of customresourcedefinitions.apiextensions.k8s.io cluster-wide",
            changed=on_state,
        )

    async def run(self) -> None:
        """Follow without end."""
        await self.reflector.run()

    async def put(self, name: Name, raw: bytes, version: str) -> None:
        """A definition is there or changed, be it only its state."""
        if name.name not in self._names:
            return
        annotations = msgspec.json.decode(raw, type=_Annotated).metadata.annotations or {}
        self._found[name.name] = Crd(
            name=name.name,
            bundle_version=annotations.get(f"{GATEWAY_GROUP}/bundle-version", ""),
            channel=annotations.get(f"{GATEWAY_GROUP}/channel", ""),
        )
        self._update()

    async def delete(self, name: Name) -> None:
        """A definition is gone."""
        if self._found.pop(name.name, None) is not None:
            self._update()

    def _update(self) -> None:
        self.report = judge(self._found.values())
        self._changed()

    async def _locate(self, *, fresh: bool) -> str | None:
        return _PATH


def judge(crds: Iterable[Crd]) -> CrdReport:
    """The report on some definitions."""
    installed = tuple(sorted(crds, key=lambda crd: crd.name))
    ours = [crd for crd in installed if crd.name.endswith(f".{GATEWAY_GROUP}")]
    first = next((crd for crd in ours if crd.name.startswith("gatewayclasses.")), ours[0] if ours else Crd(name=""))
    notes = []
    if odd := [crd.name for crd in ours if (crd.bundle_version, crd.channel) != (first.bundle_version, first.channel)]:
        notes.append(
            f"The definitions of the Gateway API are of several releases or channels: {first.name} is of "
            f"{_words(first)}, other than {', '.join(odd)}; install them all from one release"
        )
    if not (supported := all(_is_supported(crd.bundle_version) for crd in ours)):
        unknown = ", ".join(sorted({crd.bundle_version for crd in ours if not _is_supported(crd.bundle_version)}))
        notes.append(
            f"The definitions of the Gateway API are of {unknown}, while this release implements "
            f"v{SUPPORTED[0]}.{SUPPORTED[1]}; fields it does not know are left out of account"
        )
    return CrdReport(
        installed=installed,
        version=first.bundle_version,
        channel=first.channel,
        supported=supported,
        notes=tuple(notes),
    )


def about_class(report: CrdReport, class_: Ref) -> tuple[Finding, ...]:
    """What a GatewayClass has to say about the definitions (Gateway API, GatewayClass condition SupportedVersion)."""
    if report.supported:
        return ()
    unknown = ", ".join(sorted({each.bundle_version for each in report.installed if not _is_known(each)}))
    return (
        Finding(
            object=class_,
            condition="SupportedVersion",
            reason="UnsupportedVersion",
            message=f"The definitions of the Gateway API in this cluster are of {unknown}",
            hint=f"Gateways are served by what v{SUPPORTED[0]}.{SUPPORTED[1]} says of them; install its definitions, "
            "or a release of Tripylon that knows the others",
        ),
    )


def _is_known(crd: Crd) -> bool:
    return not crd.name.endswith(f".{GATEWAY_GROUP}") or _is_supported(crd.bundle_version)


class _Annotations(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Annotated(msgspec.Struct):
    metadata: _Annotations = msgspec.field(default_factory=_Annotations)


def _is_supported(bundle_version: str) -> bool:
    """A definition without the annotation is taken for one of ours, as it was made by hand."""
    if not bundle_version:
        return True
    found = _VERSION.fullmatch(bundle_version)
    return found is not None and int(found[1]) == SUPPORTED[0] and int(found[2]) <= SUPPORTED[1]


def _words(crd: Crd) -> str:
    return f"{crd.bundle_version or 'an unknown release'} ({crd.channel or 'no channel'})"
