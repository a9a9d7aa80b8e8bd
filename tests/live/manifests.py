"""Completes the manifests of live tests: what every object has alike, ports, addresses, certificates, places of pods.

Tests write ports as they are in the field (80, 443, 8080 …); the system hands out the real ones, and every Gateway gets
a loopback address of its own. In strings, `${port:80}` is the real port, `${address:infra/edge}` the address of a
Gateway, `${pod:infra/echo-v1:0}` that of a pod, `${target:infra/echo-v1:http}` the port of a deployment's pods,
`${refused}` a port where nobody listens, `${backend_ca}` the authority of the pods' certificates in PEM and `${uuid}` a
new identifier.
"""

from __future__ import annotations

import copy
import ipaddress
import re
import socket
import uuid
from pathlib import Path

import yaml
from tests.live.certificates import Authority
from tests.live.fleet import Fleet, Manifest, loopback

GATEWAY_GROUP = "gateway.networking.k8s.io"
VERSIONS = {
    "Gateway": f"{GATEWAY_GROUP}/v1",
    "GatewayClass": f"{GATEWAY_GROUP}/v1",
    "ListenerSet": f"{GATEWAY_GROUP}/v1",
    "HTTPRoute": f"{GATEWAY_GROUP}/v1",
    "GRPCRoute": f"{GATEWAY_GROUP}/v1",
    "TLSRoute": f"{GATEWAY_GROUP}/v1",
    "TCPRoute": f"{GATEWAY_GROUP}/v1",
    "UDPRoute": f"{GATEWAY_GROUP}/v1",
    "Ingress": "networking.k8s.io/v1",
    "IngressClass": "networking.k8s.io/v1",
    "ReferenceGrant": f"{GATEWAY_GROUP}/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "ServiceImport": "multicluster.x-k8s.io/v1alpha1",
    "Backend": "gateway.tripylon.dev/v1alpha1",
}
CLUSTER_KINDS = frozenset({"Namespace", "GatewayClass", "IngressClass"})
DEFAULT_NAMESPACE = "infra"
FIRST_REAL_PORT = 10_000
BASE = Path(__file__).with_name("base.yaml")
_PLACEHOLDER = re.compile(r"\$\{(\w+)(?::([^}]*))?\}")


class Places:
    """Ports and addresses of one gateway process; each is chosen at its first use and stays."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._ports: dict[int, int] = {}
        self._addresses: dict[str, str] = {}
        self._refused = socket.socket()
        self._refused.bind(("127.0.0.1", 0))
        self.authority = Authority("Authority of the gateways")

    def port(self, written: int) -> int:
        """The real port that stands for a written one; ports from 10000 on are real already."""
        if written >= FIRST_REAL_PORT:
            return written
        if written not in self._ports:
            with socket.socket() as probe:
                probe.bind(("0.0.0.0", 0))
                self._ports[written] = probe.getsockname()[1]
        return self._ports[written]

    def address(self, gateway: str) -> str:
        """The address of the Gateway `namespace/name`."""
        if gateway not in self._addresses:
            first = ipaddress.ip_address(loopback(4))
            self._addresses[gateway] = str(first + len(self._addresses))
        return self._addresses[gateway]

    def resolve(self, text: str) -> str:
        """The text with its placeholders filled in."""
        return _PLACEHOLDER.sub(lambda found: self._value(found[1], found[2] or ""), text)

    def complete(self, manifests: list[Manifest]) -> list[Manifest]:
        """Copies of the manifests as the gateway under test shall read them."""
        return [self._complete(copy.deepcopy(manifest)) for manifest in manifests]

    def base(self) -> list[Manifest]:
        """Namespaces, shared Gateways and their certificates, and the Services of the fleet."""
        written = [manifest for manifest in yaml.safe_load_all(BASE.read_text()) if manifest]
        return [*self.complete(written), *self._fleet.manifests()]

    def close(self) -> None:
        """Gives the refused port back."""
        self._refused.close()

    def _value(self, what: str, argument: str) -> str:
        deployment, _, part = argument.rpartition(":")
        match what:
            case "port":
                return str(self.port(int(argument)))
            case "address":
                return self.address(argument)
            case "pod":
                return self._fleet.placed(deployment).addresses[int(part)]
            case "target":
                return str(self._fleet.placed(deployment).ports[part])
            case "refused":
                return str(self._refused.getsockname()[1])
            case "backend_ca":
                return self._fleet.authority.pem
            case "uuid":
                return str(uuid.uuid4())
        raise ValueError(f"${{{what}}} is no placeholder")

    def _complete(self, manifest: Manifest) -> Manifest:
        filled = self._fill(manifest)
        assert isinstance(filled, dict)
        kind = str(filled["kind"])
        filled.setdefault("apiVersion", VERSIONS.get(kind, "v1"))
        metadata = filled["metadata"]
        if kind not in CLUSTER_KINDS:
            metadata.setdefault("namespace", DEFAULT_NAMESPACE)
        if kind == "Gateway":
            self._complete_gateway(f"{metadata['namespace']}/{metadata['name']}", filled["spec"])
        elif kind == "ListenerSet":
            self._complete_listeners(filled["spec"])
        elif kind.endswith("Route"):
            for parent in filled["spec"].get("parentRefs", []):
                if "port" in parent:
                    parent["port"] = self.port(parent["port"])
        elif kind == "Secret" and "names" in filled:
            chain, key = self.authority.issue(*filled.pop("names"))
            filled |= {"type": "kubernetes.io/tls", "stringData": {"tls.crt": chain, "tls.key": key}}
        return filled

    def _complete_gateway(self, name: str, spec: dict[str, object]) -> None:
        spec.setdefault("gatewayClassName", "tripylon")
        spec.setdefault("addresses", [{"type": "IPAddress", "value": self.address(name)}])
        self._complete_listeners(spec)

    def _complete_listeners(self, spec: dict[str, object]) -> None:
        listeners = spec["listeners"]
        assert isinstance(listeners, list)
        for listener in listeners:
            listener["port"] = self.port(listener["port"])

    def _fill(self, value: object) -> object:
        if isinstance(value, dict):
            return {key: self._fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._fill(inner) for inner in value]
        if not isinstance(value, str) or "${" not in value:
            return value
        filled = self.resolve(value)
        return int(filled) if re.fullmatch(r"\$\{(port|target|refused)[^}]*\}", value) else filled


def identity(manifest: Manifest) -> str:
    """`Kind namespace/name` of an object."""
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    namespace = metadata.get("namespace")
    name = f"{namespace}/{metadata['name']}" if namespace else metadata["name"]
    return f"{manifest['kind']} {name}"


def full_name(short: str) -> str:
    """`namespace/name`; names without a namespace are in the namespace `infra`."""
    return short if "/" in short else f"{DEFAULT_NAMESPACE}/{short}"
