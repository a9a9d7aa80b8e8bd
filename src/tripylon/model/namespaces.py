"""May a route of this namespace attach to this listener? (Gateway API, AllowedRoutes.namespaces)"""

from __future__ import annotations

from collections.abc import Mapping

from tripylon.graph import Read
from tripylon.model.plan import Namespaces
from tripylon.values import Name
from tripylon.world.world import NAMESPACES

NAME_LABEL = "kubernetes.io/metadata.name"


def allows(read: Read, allowed: Namespaces, gateway: str, route: str) -> bool:
    """Whether a route in namespace `route` may attach to a listener of a gateway in namespace `gateway`."""
    match allowed.mode:
        case "All":
            return True
        case "Same":
            return gateway == route
        case "None":
            return False
        case "Selector":
            return selects(allowed, _labels(read, route))


def selects(selector: Namespaces, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy a selector: every label and every expression of it (Kubernetes, LabelSelector)."""
    if any(labels.get(key) != value for key, value in selector.labels):
        return False
    return all(_holds(operator, labels.get(key), values) for key, operator, values in selector.expressions)


def _holds(operator: str, value: str | None, values: tuple[str, ...]) -> bool:
    match operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False


def _labels(read: Read, namespace: str) -> Mapping[str, str]:
    """A namespace's labels; the one with its name is there even when the object is not."""
    found = read.get(NAMESPACES, Name("", namespace))
    return {NAME_LABEL: namespace, **(found.metadata.labels if found is not None else {})}
