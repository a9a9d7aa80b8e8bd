"""The whole installation as objects: what the charts would install, for those who do not use Helm.

The chart is the one source. `tools/charts.py` renders it with its default values into `install.json`, which is part of
the package; here only what `tripylon gen install` lets one choose is put in. A test renders the chart with the same
choices and finds no difference.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import msgspec

from tripylon.api.crd import crd, own_kinds

Object = dict[str, Any]

NAMESPACE = "tripylon-system"
"""Where the rendered installation lives until it is told otherwise."""
RELEASE = "tripylon"
_RENDERED = "install.json"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123, as namespaces are named."""
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")


def install_manifests(
    namespace: str = NAMESPACE,
    image: str = "",
    *,
    proxy_image: str = "",
    replicas: int = 2,
    definitions: bool = True,
) -> tuple[Object, ...]:
    """All objects in the order in which they are to be applied: the controller last, when all that it needs is there.

    `image` and `proxy_image` are whole references; empty: those of the chart. `definitions` are the
    CustomResourceDefinitions of our own kinds; the Gateway API's come from that project. ValueError, with what to
    write instead, for a negative number of replicas and for what cannot be a namespace or an image.
    """
    _check(namespace, (image, proxy_image), replicas)
    made: list[Object] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}]
    if definitions:
        made += [crd(kind) for kind in own_kinds()]
    for obj in rendered():
        placed = _in_namespace(obj, namespace)
        if placed["kind"] == "Deployment":
            _choose(placed, image, proxy_image, replicas)
        # A budget for a single replica would only keep its node from being drained.
        if placed["kind"] != "PodDisruptionBudget" or replicas > 1:
            made.append(placed)
    return tuple(sorted(made, key=lambda obj: obj["kind"] == "Deployment"))


def rendered() -> list[Object]:
    """The chart's objects with its default values; new ones each time."""
    text = (files("tripylon.kube") / _RENDERED).read_bytes()
    return msgspec.json.decode(text, type=list[Object])


def _check(namespace: str, images: tuple[str, ...], replicas: int) -> None:
    if not _LABEL.fullmatch(namespace):
        raise ValueError(f"{namespace!r} cannot be a namespace: up to 63 of a-z, 0-9 and -, none of them - at an end")
    for image in images:
        if image and not _IMAGE.fullmatch(image):
            raise ValueError(f"{image!r} cannot be an image: write it like registry.example.com/name:tag")
    if replicas < 0:
        raise ValueError(f"{replicas} replicas cannot be had; write 0 or more")


def _in_namespace(value: Any, namespace: str) -> Any:
    """A copy in which the rendered namespace is another, wherever it stands within texts."""
    if isinstance(value, dict):
        return {key: _in_namespace(each, namespace) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_namespace(each, namespace) for each in value]
    return value.replace(NAMESPACE, namespace) if isinstance(value, str) else value


def _choose(deployment: Object, image: str, proxy_image: str, replicas: int) -> None:
    deployment["spec"]["replicas"] = replicas
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    if image:
        container["image"] = image
    for variable in container["env"]:
        if variable["name"] == "TRIPYLON_PROXY_IMAGE" and proxy_image:
            variable["value"] = proxy_image
