"""Names, labels and annotations of what is made for a Gateway.

Names follow GEP-1762, `<gateway>-<class>`; what is longer than Kubernetes allows is cut, with a hash of the whole so
that two Gateways never share one by being cut. The invariant: the same Gateway always gets the same names, whatever
else there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from tripylon.api.gateway import Gateway
from tripylon.api.own import OWN_GROUP
from tripylon.values import MAX_NAME, cut, label_value

GATEWAY_NAME_LABEL = "gateway.networking.k8s.io/gateway-name"
GATEWAY_CLASS_LABEL = "gateway.networking.k8s.io/gateway-class-name"
CONTROLLER_LABEL = f"{OWN_GROUP}/controller-name"
"""Which installation made an object, so that two in one cluster leave each other's alone."""
HASH_ANNOTATION = f"{OWN_GROUP}/content-hash"
"""Hash of what we asked for, so that nothing is asked for twice."""
ROUTABILITY_LABEL = f"{OWN_GROUP}/routability"
"""On Services that give an address of a routability that a Gateway asks for; its value is that, `Cluster`."""
BOOTSTRAP_ANNOTATION = f"{OWN_GROUP}/bootstrap-hash"
"""On pods: another bootstrap makes other pods."""
GATEWAY_ANNOTATION = f"{OWN_GROUP}/gateway"
"""The Gateway's whole name, which a label may not hold."""

MANAGED_BY = "tripylon"
APP_NAME = "tripylon-proxy"


def proxy_name(gateway: str, class_name: str) -> str:
    """The name of everything made for a Gateway: Deployment, Service, ServiceAccount, ConfigMap."""
    whole = f"{gateway}-{class_name}"
    name = whole.replace(".", "-")
    if not name[0].isalpha():
        name = f"gw-{name}"
    # A dot that became a dash could meet another Gateway's name: the hash tells them apart.
    return name if name == whole and len(name) <= MAX_NAME else cut(name, whole)


def within_cluster(proxies: str, which: str = "") -> str:
    """The name of a Service that gives the proxies of that name an address within the cluster; `which` of several."""
    whole = "-".join(part for part in (proxies, "cluster", which) if part)
    return whole if len(whole) <= MAX_NAME else cut(whole, whole)


def selector_labels(gateway: Gateway) -> dict[str, str]:
    """Labels by which the pods of a Gateway are found; they never change, as a Deployment's selector cannot."""
    return {"app.kubernetes.io/name": APP_NAME, GATEWAY_NAME_LABEL: label_value(gateway.metadata.name)}


def managed_labels(gateway: Gateway, class_name: str, controller_name: str) -> dict[str, str]:
    """Labels of everything made for a Gateway; nobody may override them."""
    return {
        **selector_labels(gateway),
        "app.kubernetes.io/component": "proxy",
        "app.kubernetes.io/instance": proxy_name(gateway.metadata.name, class_name),
        "app.kubernetes.io/managed-by": MANAGED_BY,
        GATEWAY_CLASS_LABEL: label_value(class_name),
        CONTROLLER_LABEL: label_value(controller_name),
    }


def managed_selector(controller_name: str) -> str:
    """The label selector of everything that an installation has made."""
    return f"app.kubernetes.io/managed-by={MANAGED_BY},{CONTROLLER_LABEL}={label_value(controller_name)}"


def infrastructure(gateway: Gateway) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Labels and annotations that a Gateway wants on everything made for it."""
    wanted = gateway.spec.infrastructure
    return (wanted.labels, wanted.annotations) if wanted is not None else ({}, {})


def digest(content: bytes) -> str:
    """A hash as it stands in annotations."""
    return hashlib.sha256(content).hexdigest()[:16]
