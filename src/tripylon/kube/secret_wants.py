"""Which Secrets are needed: those that Backends name, Gateways of ours, ListenerSets and Ingresses that such a Gateway
lets in, and BackendTLSPolicies and XBackends that concern one.

Where not all Secrets may be listed, these are followed one by one. Kept up by what changes, so that a change costs as
much as the objects in it. The invariant: nobody else's object has a Secret read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tripylon.api.gateway import Gateway
from tripylon.api.ingress import INGRESS_GROUP, Ingress
from tripylon.api.listener_sets import ListenerSet
from tripylon.api.meta import GATEWAY_GROUP, Resource
from tripylon.api.own import OWN_GROUP, Backend, BackendCAReference
from tripylon.api.policies import BackendTLSPolicy
from tripylon.api.refs import LocalObjectReference, ObjectReference, SecretObjectReference
from tripylon.api.x_backends import X_GROUP, XBackend
from tripylon.graph import Changes, Graph
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.gateways import LISTENERS
from tripylon.model.ingress_places import INGRESS_PLACES
from tripylon.model.listener_sets import LISTENER_SET_PLANS
from tripylon.model.plan import HolderKey
from tripylon.model.policy_ancestors import ANCESTORS, X_BACKEND_ANCESTORS
from tripylon.values import Name, Ref
from tripylon.world.world import BACKEND_TLS_POLICIES, BACKENDS, GATEWAYS, INGRESSES, LISTENER_SETS, X_BACKENDS

_Reference = SecretObjectReference | ObjectReference | LocalObjectReference | BackendCAReference


class SecretWants:
    """The Secrets that are named now, by how many objects each."""

    def __init__(self) -> None:
        self._named: dict[Ref, frozenset[Ref]] = {}
        self._counts: Counter[Ref] = Counter()

    @property
    def refs(self) -> frozenset[Ref]:
        """All of them."""
        return frozenset(self._counts)

    def changed(self, graph: Graph, changes: Changes) -> bool:
        """Take in a change; whether other Secrets are named now."""
        differs = False
        for name in changes.keys(GATEWAYS) | changes.keys(GATEWAY_HEADS):
            resource = graph.get(GATEWAYS, name) if graph.get(GATEWAY_HEADS, name) is not None else None
            differs |= self._take(Ref(GATEWAY_GROUP, "Gateway", *name), resource)
        for name in changes.keys(LISTENER_SETS) | changes.keys(LISTENER_SET_PLANS):
            plan = graph.get(LISTENER_SET_PLANS, name)
            set_ = graph.get(LISTENER_SETS, name) if plan is not None and plan.admitted else None
            differs |= self._take(Ref(GATEWAY_GROUP, "ListenerSet", *name), set_)
        for name in changes.keys(BACKEND_TLS_POLICIES) | changes.keys(ANCESTORS):
            policy = graph.get(BACKEND_TLS_POLICIES, name) if graph.get(ANCESTORS, name) else None
            differs |= self._take(Ref(GATEWAY_GROUP, "BackendTLSPolicy", *name), policy)
        for name in changes.keys(X_BACKENDS) | changes.keys(X_BACKEND_ANCESTORS):
            reached = graph.get(X_BACKENDS, name) if graph.get(X_BACKEND_ANCESTORS, name) else None
            differs |= self._take(Ref(X_GROUP, "XBackend", *name), reached)
        for name, ingress in _ingresses(graph, changes):
            differs |= self._take(Ref(INGRESS_GROUP, "Ingress", *name), ingress)
        for name in changes.keys(BACKENDS):
            differs |= self._take(Ref(OWN_GROUP, "Backend", *name), graph.get(BACKENDS, name))
        return differs

    def _take(self, source: Ref, resource: Resource | None) -> bool:
        """Take in what an object names now; whether one is named for the first time, or no longer."""
        now = frozenset(_named(resource)) if resource is not None else frozenset()
        before = self._named.pop(source, frozenset())
        if now:
            self._named[source] = now
        differs = False
        for ref in now - before:
            differs |= not self._counts[ref]
            self._counts[ref] += 1
        for ref in before - now:
            self._counts[ref] -= 1
            if not self._counts[ref]:
                del self._counts[ref]
                differs = True
        return differs


def _ingresses(graph: Graph, changes: Changes) -> Iterator[tuple[Name, Ingress | None]]:
    """Every Ingress that a change may concern; None for one that adds no listener to a gateway of ours."""
    names = set(changes.keys(INGRESSES) | changes.keys(INGRESS_PLACES))
    names |= {key.holder.key for key in changes.keys(LISTENERS) if key.holder.kind == "Ingress"}
    for name in names:
        place, source = graph.get(INGRESS_PLACES, name), Ref(INGRESS_GROUP, "Ingress", *name)
        gateways = place.gateways if place is not None else ()
        adds = any(graph.get(LISTENERS, HolderKey(gateway, source)) is not None for gateway in gateways)
        yield name, graph.get(INGRESSES, name) if adds else None


def _named(resource: Resource) -> Iterator[Ref]:
    namespace = resource.metadata.namespace
    for ref in _references(resource):
        if (ref.group, ref.kind or "Secret") == ("", "Secret"):
            elsewhere = ref.namespace if isinstance(ref, SecretObjectReference | ObjectReference) else ""
            yield Ref("", "Secret", elsewhere or namespace, ref.name)
    if isinstance(resource, Ingress):
        yield from (Ref("", "Secret", namespace, each.secret_name) for each in resource.spec.tls if each.secret_name)
    if isinstance(resource, Backend) and resource.spec.tls is not None and resource.spec.tls.secret_ref is not None:
        yield Ref("", "Secret", namespace, resource.spec.tls.secret_ref.name)


def _references(resource: Resource) -> Iterator[_Reference]:
    """What an object names as certificate or as authority, of whatever kind."""
    if isinstance(resource, Gateway | ListenerSet):
        for listener in resource.spec.listeners:
            yield from listener.tls.certificate_refs if listener.tls is not None else ()
    if isinstance(resource, Gateway) and resource.spec.tls is not None and resource.spec.tls.backend is not None:
        client = resource.spec.tls.backend.client_certificate_ref
        yield from (client,) if client is not None else ()
    if isinstance(resource, Gateway) and resource.spec.tls is not None and resource.spec.tls.frontend is not None:
        frontend = resource.spec.tls.frontend
        for config in (frontend.default, *(each.tls for each in frontend.per_port)):
            yield from config.validation.ca_certificate_refs if config.validation is not None else ()
    if isinstance(resource, XBackend):
        shown, validation = resource.spec.tls.client_certificate_ref, resource.spec.tls.validation
        yield from (shown,) if shown is not None else ()
        yield from validation.ca_certificate_refs if validation is not None else ()
    if isinstance(resource, BackendTLSPolicy):
        yield from resource.spec.validation.ca_certificate_refs
    if isinstance(resource, Backend) and resource.spec.tls is not None:
        yield from resource.spec.tls.ca_certificate_refs
