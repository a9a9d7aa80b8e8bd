"""Headless Services for XBackends that select pods: Kubernetes makes EndpointSlices for them, which are followed.

Only the leader makes them, and only for XBackends that some Gateway of ours reaches (GEP-4894). The slices carry the
Service's labels, one of which says for which XBackend they stand; nobody needs the Service's own name, so the API
server makes it up, and other labels are asked for by another Service. The invariants: what an XBackend owns goes with
it, and nothing is deleted that it does not own.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import msgspec
import structlog

from tripylon.api.core import X_BACKEND_LABEL
from tripylon.api.x_backends import XBackend
from tripylon.graph import Changes, Graph
from tripylon.kube import names
from tripylon.kube.deploy import FIELD_MANAGER
from tripylon.kube.failures import ApiError, Backoff
from tripylon.kube.manifests import Object
from tripylon.model.policy_ancestors import X_BACKEND_ANCESTORS
from tripylon.values import Name, label_value
from tripylon.world.world import SERVICES, X_BACKENDS

_log = structlog.get_logger("tripylon.kube.selectors")

_KIND = ("v1", "Service")
_PORT_NAME = "backend"
_MANAGED_BY = "tripylon-x-backend"
"""Another word than that of what is made for Gateways, which is removed when no Gateway wants it."""


class Cluster(Protocol):
    """What is asked of the API server; all raise ApiError."""

    async def create(self, obj: Object, *, field_manager: str = "") -> Object:
        """Make an object; its name may be left to the API server."""

    async def list_objects(
        self, api_version: str, kind: str, *, namespace: str = "", labels: str = ""
    ) -> tuple[Object, ...]:
        """The objects of a kind that a label selector chooses."""

    async def delete(self, api_version: str, kind: str, name: str, *, namespace: str = "", uid: str = "") -> bool:
        """Delete the object with this uid; False when it is not there."""


class SelectorServices:
    """Keeps a Service for each XBackend that selects pods and is reached. Tell it by `changed`; `run` while leading.

    `grace_s`: how long the Service before stays beside a new one, until that has its slices.
    """

    def __init__(self, graph: Graph, cluster: Cluster, *, controller_name: str, grace_s: float = 5.0) -> None:
        self._graph, self._cluster, self._controller_name = graph, cluster, controller_name
        self._grace_s = grace_s
        self._made_at: dict[Name, float] = {}
        self._due: dict[Name, None] = {}
        self._stirred = asyncio.Event()
        self._backoffs: dict[Name, Backoff] = {}

    def changed(self, changes: Changes) -> None:
        """Something changed: XBackends, who reaches them, or Services that were made for them."""
        names_ = changes.keys(X_BACKENDS) | changes.keys(X_BACKEND_ANCESTORS)
        if changes.keys(SERVICES) and self._graph.rows(X_BACKENDS):
            names_ |= self._selecting()
        self._mark(names_)

    async def run(self) -> None:
        """Work until cancelled; begins with a look at all."""
        self._mark(self._graph.rows(X_BACKENDS))
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            for name in list(self._due):
                del self._due[name]
                await self._work(name)

    def _selecting(self) -> set[Name]:
        rows = self._graph.rows(X_BACKENDS).items()
        return {name for name, backend in rows if backend.spec.endpoint_selector is not None}

    def _mark(self, found: Any) -> None:
        self._due.update(dict.fromkeys(found))
        if self._due:
            self._stirred.set()

    async def _work(self, name: Name) -> None:
        """One XBackend once; what failed is tried again later and later."""
        try:
            await self._bring_about(name)
        except ApiError as error:
            backoff = self._backoffs.setdefault(name, Backoff(first=1.0, most=60.0))
            _log.warning("a Service for an XBackend cannot be had", xbackend=str(name), error=str(error))
            asyncio.get_running_loop().call_later(backoff.next(error.retry_after), self._mark, (name,))
        else:
            self._backoffs.pop(name, None)

    async def _bring_about(self, name: Name) -> None:
        backend = self._graph.get(X_BACKENDS, name)
        if backend is None:
            return  # the garbage collector takes what it owned
        wanted = self.wanted(backend) if self._graph.get(X_BACKEND_ANCESTORS, name) else None
        labels = ",".join(f"{key}={value}" for key, value in self._labels(backend).items())
        found = await self._cluster.list_objects(*_KIND, namespace=name.namespace, labels=labels)
        owned = [each for each in found if _owner(each) == backend.metadata.uid]
        right = [each for each in owned if wanted is not None and _hash(each) == _hash(wanted)]
        loop = asyncio.get_running_loop()
        if wanted is not None and not right:
            await self._cluster.create(wanted, field_manager=FIELD_MANAGER)
            self._made_at[name] = loop.time()
            loop.call_later(self._grace_s, self._mark, (name,))
        elif wanted is None or self._made_at.get(name, -self._grace_s) + self._grace_s <= loop.time():
            self._made_at.pop(name, None)
            kept = min((each["metadata"]["name"] for each in right), default="")
            for metadata in [each["metadata"] for each in owned if each["metadata"]["name"] != kept]:
                uid = metadata["uid"]
                await self._cluster.delete(*_KIND, metadata["name"], namespace=name.namespace, uid=uid)

    def wanted(self, backend: XBackend) -> Object | None:
        """The Service of an XBackend; None when it selects no pods."""
        selector, port = backend.spec.endpoint_selector, backend.spec.port.number
        if selector is None or port is None:
            return None
        spec = {
            "clusterIP": "None",
            "selector": dict(sorted(selector.match_labels.items())),
            "ports": [{"name": _PORT_NAME, "port": port, "targetPort": port, "protocol": "TCP"}],
        }
        owner = {
            "apiVersion": f"{XBackend.GROUP}/v1alpha1",
            "kind": "XBackend",
            "name": backend.metadata.name,
            "uid": backend.metadata.uid,
            "controller": True,
        }
        metadata = {
            "generateName": f"x-{backend.metadata.name[:50].rstrip('-.').replace('.', '-')}-",
            "namespace": backend.metadata.namespace,
            "labels": self._labels(backend),
            "annotations": {names.HASH_ANNOTATION: names.digest(msgspec.json.encode(spec))},
            "ownerReferences": [owner],
        }
        return {"apiVersion": _KIND[0], "kind": _KIND[1], "metadata": metadata, "spec": spec}

    def _labels(self, backend: XBackend) -> dict[str, str]:
        return {
            "app.kubernetes.io/managed-by": _MANAGED_BY,
            names.CONTROLLER_LABEL: label_value(self._controller_name),
            X_BACKEND_LABEL: label_value(backend.metadata.name),
        }


def _owner(obj: Object) -> str:
    return next((str(each["uid"]) for each in obj["metadata"].get("ownerReferences", ()) if each.get("controller")), "")


def _hash(obj: Object) -> str:
    return str(obj["metadata"].get("annotations", {}).get(names.HASH_ANNOTATION, ""))
