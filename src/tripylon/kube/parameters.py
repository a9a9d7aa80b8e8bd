"""What the parameters of a class and those of a Gateway say together.

Settings of the Gateway go before those of the class, field by field; maps and lists of named things are put together;
what only makes sense as a whole (a probe, a strategy) is taken whole. Overlays are not merged but applied one after the
other: all settings, then the class's overlays, then the Gateway's. Read `manifests.py` for what is made of it.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec

from tripylon.api.markers import Part
from tripylon.api.parameters import GatewayParameters, Image, KubeParameters, Overlay
from tripylon.api.schema import fields
from tripylon.kube.overlay import patched

P = TypeVar("P", bound=Part)

_WHOLE = {
    "json",
    "liveness_probe",
    "load_balancer_source_ranges",
    "ip_families",
    "log_format",
    "matcher",
    "readiness_probe",
    "startup_probe",
    "strategy",
    "topology_spread_constraints",
    "update_strategy",
}
"""Fields of which the Gateway's value replaces the class's as a whole."""
_NAMED_LISTS = {
    "env": "env",
    "extra_volume_mounts": "volumeMounts",
    "extra_volumes": "volumes",
    "image_pull_secrets": "imagePullSecrets",
}
"""Lists that are merged by a key, with the field of Kubernetes that says which."""


class Parameters(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How the proxies of one Gateway are run."""

    kube: KubeParameters = KubeParameters()
    """All settings; its overlays are not to be read."""
    layers: tuple[KubeParameters, ...] = ()
    """What was merged, the class's first: the overlays in the order in which they are applied."""
    self_managed: bool = False
    """Whether somebody else runs the proxies."""

    def overlays(self, field: str) -> tuple[Overlay, ...]:
        """The overlays under a field such as `deployment_overlay`, in order."""
        return tuple(found for layer in self.layers if (found := getattr(layer, field)) is not None)


DEFAULT = Parameters()
"""What holds when neither the class nor the Gateway has parameters."""


def merged(of_class: GatewayParameters | None, of_gateway: GatewayParameters | None) -> Parameters:
    """The parameters of a Gateway; who runs the proxies is said by the Gateway's, else by the class's."""
    given = [each.spec for each in (of_class, of_gateway) if each is not None]
    if not given:
        return DEFAULT
    if given[-1].self_managed is not None:
        return Parameters(self_managed=True)
    layers = tuple(each.kube for each in given if each.kube is not None)
    kube = KubeParameters()
    for layer in layers:
        kube = _merged_kube(kube, layer)
    return Parameters(kube=kube, layers=layers)


def _merged_kube(wide: KubeParameters, narrow: KubeParameters) -> KubeParameters:
    if narrow.daemon_set is not None:
        wide = msgspec.structs.replace(wide, deployment=None)
    elif narrow.deployment is not None:
        wide = msgspec.structs.replace(wide, daemon_set=None)
    return _merged(wide, narrow)


def _merged(wide: P, narrow: P) -> P:
    if isinstance(wide, Image) and isinstance(narrow, Image):
        wide = cast("P", _without_old_version(wide, narrow))
    changes: dict[str, Any] = {}
    for field in fields(type(wide)):
        value = getattr(narrow, field.name)
        if (value is not None) if field.default is None else bool(value):
            changes[field.name] = _value(field.name, getattr(wide, field.name), value)
    return msgspec.structs.replace(wide, **changes)


def _value(name: str, wide: Any, narrow: Any) -> Any:
    if name in _WHOLE or wide is None:
        return narrow
    if isinstance(narrow, Part):
        return _merged(wide, narrow)
    if isinstance(narrow, dict):
        return patched(wide, narrow)
    if name == "ports":
        mentioned = {each.port for each in narrow}
        return (*(each for each in wide if each.port not in mentioned), *narrow)
    if name in _NAMED_LISTS:
        field = _NAMED_LISTS[name]
        return tuple(patched({field: list(wide)}, {field: list(narrow)})[field])
    if name == "extra_args":
        return (*wide, *narrow)
    if isinstance(narrow, tuple):
        return (*wide, *(each for each in narrow if each not in wide))
    return narrow


def _without_old_version(wide: Image, narrow: Image) -> Image:
    """A new tag makes an inherited digest wrong, and the other way round, unless both are given."""
    if narrow.tag and narrow.digest is None:
        return msgspec.structs.replace(wide, digest=None)
    if narrow.digest and narrow.tag is None:
        return msgspec.structs.replace(wide, tag=None)
    return wide
