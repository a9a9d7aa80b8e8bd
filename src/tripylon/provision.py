"""From what is planned for Gateways to what runs for them, and from there to where they are reached.

Told of each change of the graph, it hands the deployer the objects of the Gateways concerned and gives the graph the
addresses that their Services got. The invariant: the deployer knows what is wanted of every Gateway of ours, whether
or not this replica leads, so that a new leader can begin at once. Read `kube/manifests.py` for what is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from tripylon.api.core import Service
from tripylon.api.gateway import Gateway
from tripylon.api.own import OWN_GROUP
from tripylon.api.parameters import GatewayParameters
from tripylon.envoy import series
from tripylon.envoy.bootstrap_kubernetes import AUTHORITY_FILE, bootstrap_kubernetes, sds_files
from tripylon.findings import Finding
from tripylon.graph import Changes
from tripylon.kube import addresses, manifests, names, parameters
from tripylon.kube.deploy import Deployer
from tripylon.kube.pod import ProxySettings
from tripylon.kube.shutdown import KEY_FILE
from tripylon.loop import Engine
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.plan import GatewayPlan
from tripylon.settings import Address
from tripylon.values import Name, Ref
from tripylon.world.world import GATEWAY_CLASSES, GATEWAY_PARAMETERS, GATEWAYS, SERVICES, Reached

_TELLER = "provisioner"


class ControlPlane(msgspec.Struct, frozen=True, gc=False):
    """Where and by what proxies find the control plane."""

    xds: Address
    """DNS name and port; the name is the one in the certificate, too."""
    authority: Callable[[], bytes]
    """The certificates to trust, in PEM, as they are now."""


class ServicePort(NamedTuple):
    """A port of a Service of a Gateway."""

    service: str
    protocol: str
    port: int


class Provisioner:
    """Keeps the deployer and the graph in step. `changed` is to be called after each change of the graph."""

    def __init__(
        self, engine: Engine, deployer: Deployer, control_plane: ControlPlane, settings: ProxySettings
    ) -> None:
        self._engine, self._deployer, self._control_plane = engine, deployer, control_plane
        self._settings = settings
        self._services: dict[Name, tuple[Name, ...]] = {}
        """Gateway → the Services that lead to its proxies."""
        self._behind: dict[Name, Name] = {}
        """The other way round."""
        self._ports: dict[Name, frozenset[ServicePort]] = {}
        """Gateway → protocols and ports that its Services are to have."""
        self._complaints: set[Name] = set()

    def changed(self, changes: Changes) -> None:
        """Something changed: what it means for the proxies of some Gateways, and for where they are reached."""
        concerned = self._concerned(changes)
        for name in concerned:
            self._provide(name)
        for service in changes.keys(SERVICES):
            if (gateway := self._behind.get(service)) is not None:
                concerned.setdefault(gateway)
                if self._engine.graph.get(SERVICES, service) is None:
                    self._deployer.restore(gateway)
        if concerned:
            self._reach(concerned)

    def renew(self) -> None:
        """The authority changed: all proxies are to know it."""
        for gateway in list(self._engine.graph.rows(GATEWAY_PLANS)):
            self._provide(gateway)

    def service_account(self, gateway: Name) -> str | None:
        """Whose token proves a Gateway's proxies: see `kube.tokens.TokenReviewer`."""
        found = self._engine.graph.get(GATEWAYS, gateway)
        if found is None or self._engine.graph.get(GATEWAY_PLANS, gateway) is None:
            return None
        if self._parameters(found).self_managed:
            return ""
        return names.proxy_name(gateway.name, found.spec.gateway_class_name)

    def _concerned(self, changes: Changes) -> dict[Name, None]:
        """Gateways whose proxies may have to be run otherwise, in a stable order."""
        found: dict[Name, None] = dict.fromkeys(sorted(changes.keys(GATEWAYS) | changes.keys(GATEWAY_PLANS)))
        if changes.keys(GATEWAY_CLASSES) or changes.keys(GATEWAY_PARAMETERS):
            found |= dict.fromkeys(self._engine.graph.rows(GATEWAY_PLANS))
        return found

    # --- What runs ---------------------------------------------------------------------------------------------------

    def _provide(self, name: Name) -> None:
        graph = self._engine.graph
        gateway, plan = graph.get(GATEWAYS, name), graph.get(GATEWAY_PLANS, name)
        for service in self._services.pop(name, ()):
            self._behind.pop(service, None)
        if gateway is None or plan is None:
            self._deployer.forget(name)
            self._ports.pop(name, None)
            self._complaints.discard(name)
            return
        self._services[name] = _services(gateway)
        self._behind |= dict.fromkeys(self._services[name], name)
        try:
            objects = self._manifests(gateway, plan)
        except ValueError as error:
            self._deployer.keep(name)
            self._complain(gateway, str(error))
        else:
            self._complain(gateway, "")
            self._ports[name] = _ports(objects)
            self._deployer.want(gateway, objects)

    def _manifests(self, gateway: Gateway, plan: GatewayPlan) -> tuple[manifests.Object, ...]:
        """The objects of a Gateway; ValueError when its parameters cannot be followed, or are not there.

        Without them there are no objects, rather than those of our defaults: what parameters are there to prevent, such
        as an address for all the world, must not come about because they were forgotten, deleted or may not be read.
        """
        self._check_references(gateway)
        xds, wanted = self._control_plane.xds, self._parameters(gateway)
        kept = series.chosen(wanted.kube.stats.matcher if wanted.kube.stats is not None else None)
        key = names.digest(f"admin {gateway.metadata.uid}".encode())
        return manifests.manifests(
            gateway,
            gateway.spec.gateway_class_name,
            wanted,
            ports=[
                manifests.ListenerPort(port, "UDP" if udp else "TCP")
                for port, udp in dict.fromkeys(
                    (each.port, each.protocol == "UDP") for each in plan.listeners if each.usable
                )
            ],
            addresses=addresses.requested(gateway),
            in_front=addresses.in_front(gateway),
            within_cluster=addresses.within_cluster(gateway),
            bootstrap=bootstrap_kubernetes(
                str(gateway.key), ads=(xds.host, xds.port), server_name=xds.host, key=key, stats=kept
            ),
            files={**sds_files(), AUTHORITY_FILE: self._control_plane.authority().decode(), KEY_FILE: f"{key}\n"},
            settings=self._settings,
        )

    def _parameters(self, gateway: Gateway) -> parameters.Parameters:
        """What the GatewayParameters of the class and of the Gateway say, where they are there."""
        of_class, of_gateway = self._references(gateway)
        return parameters.merged(self._referred(of_class), self._referred(of_gateway))

    def _check_references(self, gateway: Gateway) -> None:
        """ValueError when a reference to parameters leads to none; an empty one where the model tells it already."""
        of_class, of_gateway = self._references(gateway)
        if of_class is not None and self._referred(of_class) is None:
            raise ValueError(f"its class refers to {of_class}, which does not exist or is no GatewayParameters")
        if of_gateway is not None and self._referred(of_gateway) is None:
            raise ValueError

    def _references(self, gateway: Gateway) -> tuple[Ref | None, Ref | None]:
        """What the class and the Gateway name as parameters."""
        class_ = self._engine.graph.get(GATEWAY_CLASSES, Name("", gateway.spec.gateway_class_name))
        of_class = class_.spec.parameters_ref if class_ is not None else None
        of_gateway = gateway.spec.infrastructure.parameters_ref if gateway.spec.infrastructure else None
        return (
            Ref(of_class.group, of_class.kind, of_class.namespace, of_class.name) if of_class else None,
            Ref(of_gateway.group, of_gateway.kind, gateway.key.namespace, of_gateway.name) if of_gateway else None,
        )

    def _referred(self, reference: Ref | None) -> GatewayParameters | None:
        if reference is None or (reference.group, reference.kind) != (OWN_GROUP, "GatewayParameters"):
            return None
        return self._engine.graph.get(GATEWAY_PARAMETERS, reference.key)

    def _complain(self, gateway: Gateway, what: str) -> None:
        """Tell that parameters cannot be followed; what ran before runs on. Nothing: they can."""
        if not what and gateway.key not in self._complaints:
            return
        finding = Finding(
            object=gateway.ref,
            condition="Accepted",
            reason="InvalidParameters",
            message=f"The parameters of Gateway `{gateway.key}` cannot be followed: {what}",
            hint="Correct the GatewayParameters of the Gateway or of its class; what ran before runs on",
        )
        self._engine.tell(_TELLER, gateway.ref, (finding,) if what else ())
        (self._complaints.add if what else self._complaints.discard)(gateway.key)

    # --- Where it is reached -----------------------------------------------------------------------------------------

    def _reach(self, gateways: Iterable[Name]) -> None:
        reached: Mapping[Name, Reached | None] = {gateway: self._reached(gateway) for gateway in gateways}
        self._engine.reach(reached)

    def _reached(self, name: Name) -> Reached | None:
        """Where a Gateway is reached; None: it is not one of ours."""
        graph = self._engine.graph
        gateway = graph.get(GATEWAYS, name)
        if gateway is None or graph.get(GATEWAY_PLANS, name) is None:
            return None
        if self._parameters(gateway).self_managed:
            return addresses.self_managed(gateway)
        services = {each.name: graph.get(SERVICES, each) for each in _services(gateway)}
        within = {each: services[each] for each in addresses.within_cluster(gateway)}
        reached = addresses.reached(gateway, services.get(_proxies(gateway)), within)
        # An address that cannot be had within the cluster is told, and keeps no listener from being served.
        counted = {each: service for each, service in services.items() if each not in within or service is not None}
        return msgspec.structs.replace(reached, closed=_closed(self._ports.get(name, frozenset()), counted))


def _closed(wanted: frozenset[ServicePort], services: Mapping[str, Service | None]) -> frozenset[tuple[str, int]]:
    """Protocols and ports that one of these Services is to have and does not have."""
    open_ = {
        ServicePort(name, each.protocol, each.port)
        for name, service in services.items()
        if service is not None
        for each in service.spec.ports
    }
    return frozenset((each.protocol, each.port) for each in wanted - open_ if each.service in services)


def _proxies(gateway: Gateway) -> str:
    return names.proxy_name(gateway.metadata.name, gateway.spec.gateway_class_name)


def _services(gateway: Gateway) -> tuple[Name, ...]:
    """The Services that lead to a Gateway's proxies, if these are made: the one in front first."""
    front = (_proxies(gateway),) if addresses.in_front(gateway) else ()
    return tuple(Name(gateway.metadata.namespace, each) for each in (*front, *addresses.within_cluster(gateway)))


def _ports(objects: Iterable[manifests.Object]) -> frozenset[ServicePort]:
    """What the Services among some objects open, overlays included; nothing where there is no Service."""
    return frozenset(
        ServicePort(obj["metadata"]["name"], each.get("protocol", "TCP"), each["port"])
        for obj in objects
        if obj["kind"] == "Service"
        for each in obj["spec"].get("ports") or ()
    )
