"""A proxy that somebody else runs: the objects that Tripylon would make, as a start for their own.

The same as `manifests.py` makes for a Gateway without parameters, but under another name, with labels of their own and
without an owner. The invariant: no controller takes them for something that it has made.
"""

from __future__ import annotations

from typing import Any

from tripylon.api.gateway import Gateway, GatewaySpec
from tripylon.api.meta import ObjectMeta
from tripylon.envoy.bootstrap_kubernetes import AUTHORITY_FILE, bootstrap_kubernetes, sds_files
from tripylon.kube import names
from tripylon.kube.manifests import Object, manifests
from tripylon.kube.parameters import DEFAULT
from tripylon.kube.pod import ProxySettings
from tripylon.kube.shutdown import KEY_FILE
from tripylon.settings import Address
from tripylon.values import Name

SUFFIX = "self-managed"
"""What follows the Gateway's name in that of the objects."""
INSTANCE_LABEL = "app.kubernetes.io/instance"
_LEFT_OUT = frozenset(
    (
        "ownerReferences",
        "app.kubernetes.io/managed-by",
        names.CONTROLLER_LABEL,
        names.GATEWAY_CLASS_LABEL,
        names.HASH_ANNOTATION,
    )
)


def proxy_manifests(gateway: Name, xds: Address, *, authority: str, key: str, image: str = "") -> tuple[Object, ...]:
    """ServiceAccount, ConfigMap and Deployment of a proxy of a Gateway that is `selfManaged`.

    `xds` is DNS name and port of the controllers, `authority` the certificates (PEM) by which these are known, `key`
    opens Envoy's administration, an empty `image` is stock Envoy's. How the proxy is reached is left to its owner.
    """
    made = manifests(
        Gateway(
            metadata=ObjectMeta(name=gateway.name, namespace=gateway.namespace),
            spec=GatewaySpec(gateway_class_name=SUFFIX, listeners=()),
        ),
        SUFFIX,
        DEFAULT,
        ports=(),
        bootstrap=bootstrap_kubernetes(str(gateway), ads=(xds.host, xds.port), server_name=xds.host, key=key),
        files={**sds_files(), AUTHORITY_FILE: authority, KEY_FILE: f"{key}\n"},
        settings=ProxySettings(image=image) if image else ProxySettings(),
    )
    own: list[Object] = [_own(each, names.proxy_name(gateway.name, SUFFIX)) for each in made]
    return tuple(own)


def _own(value: Any, name: str) -> Any:
    """A copy without what would tie it to a Gateway; labels that name the Gateway name the proxy instead."""
    if isinstance(value, dict):
        kept = {key: _own(each, name) for key, each in value.items() if key not in _LEFT_OUT}
        if kept.pop(names.GATEWAY_NAME_LABEL, None) is not None:
            kept[INSTANCE_LABEL] = name
        return kept
    return [_own(each, name) for each in value] if isinstance(value, list) else value
