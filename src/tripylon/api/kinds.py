"""The table of kinds: which struct stands for which words, in which versions.

Everything that asks "what is this document?" asks here: decoding, validation, watching, generated definitions.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import msgspec

from tripylon.api.core import ConfigMap, EndpointSlice, Namespace, Secret, Service
from tripylon.api.gateway import Gateway, GatewayClass
from tripylon.api.grants import ReferenceGrant
from tripylon.api.imports import ServiceImport
from tripylon.api.ingress import Ingress, IngressClass
from tripylon.api.listener_sets import ListenerSet
from tripylon.api.meta import Resource
from tripylon.api.own import Backend
from tripylon.api.parameters import GatewayParameters
from tripylon.api.policies import BackendTLSPolicy
from tripylon.api.routes import GRPCRoute, HTTPRoute
from tripylon.api.streams import TCPRoute, TLSRoute, UDPRoute
from tripylon.api.trust import ClusterTrustBundle
from tripylon.api.x_backends import XBackend
from tripylon.api.x_policies import XBackendTrafficPolicy, XTelemetryPolicy
from tripylon.errors import TripylonError


class DecodeError(TripylonError):
    """An object does not have the shape of its kind; the message says where."""


class Column(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A column that `kubectl get` prints."""

    name: str
    """Heading of the column."""
    path: str
    """JSONPath of the value, such as `.spec.type`."""
    type: str = "string"
    """`string`, `integer`, `boolean` or `date`."""
    priority: int = 0
    """0: always shown; greater: only with `-o wide`."""


class Kind(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One kind of object."""

    struct: type[Resource]
    """What it is decoded into; its name is the kind's name, its `GROUP` the API group."""
    versions: tuple[str, ...]
    """Versions that we read, the best first. All have the same fields."""
    plural: str
    """Name in URLs and of the definition."""
    scope: Literal["Namespaced", "Cluster"] = "Namespaced"
    """Whether objects live in namespaces."""
    short_names: tuple[str, ...] = ()
    """Abbreviations for `kubectl`."""
    columns: tuple[Column, ...] = ()
    """Columns that `kubectl get` prints, beside the name; only for our own kinds."""

    @property
    def name(self) -> str:
        """The kind as written in YAML."""
        return self.struct.__name__

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.struct.GROUP

    @property
    def version(self) -> str:
        """The version that we write."""
        return self.versions[0]

    @property
    def api_version(self) -> str:
        """Group and version as we write them."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def builtin(self) -> bool:
        """Whether the kind comes with the API server, if at all, and not by a definition."""
        return self.group in _BUILTIN

    @property
    def namespaced(self) -> bool:
        """Whether objects live in namespaces."""
        return self.scope == "Namespaced"


_BUILTIN = frozenset(("", "certificates.k8s.io", "discovery.k8s.io", "networking.k8s.io"))
"""The API groups that come with the API server."""

KINDS: tuple[Kind, ...] = (
    Kind(
        struct=GatewayClass,
        versions=("v1", "v1beta1"),
        plural="gatewayclasses",
        scope="Cluster",
        short_names=("gc",),
    ),
    Kind(struct=Gateway, versions=("v1", "v1beta1"), plural="gateways", short_names=("gtw",)),
    Kind(struct=ListenerSet, versions=("v1",), plural="listenersets", short_names=("lset",)),
    Kind(struct=HTTPRoute, versions=("v1", "v1beta1"), plural="httproutes"),
    Kind(struct=GRPCRoute, versions=("v1",), plural="grpcroutes"),
    Kind(struct=TLSRoute, versions=("v1", "v1alpha3", "v1alpha2"), plural="tlsroutes"),
    Kind(struct=TCPRoute, versions=("v1", "v1alpha2"), plural="tcproutes"),
    Kind(struct=UDPRoute, versions=("v1", "v1alpha2"), plural="udproutes"),
    Kind(
        struct=BackendTLSPolicy,
        versions=("v1", "v1alpha3"),
        plural="backendtlspolicies",
        short_names=("btlspolicy",),
    ),
    Kind(struct=ReferenceGrant, versions=("v1", "v1beta1"), plural="referencegrants", short_names=("refgrant",)),
    Kind(struct=XBackend, versions=("v1alpha1",), plural="xbackends", short_names=("xbackend",)),
    Kind(
        struct=XBackendTrafficPolicy,
        versions=("v1alpha1",),
        plural="xbackendtrafficpolicies",
        short_names=("xbtrafficpolicy",),
    ),
    Kind(
        struct=XTelemetryPolicy,
        versions=("v1alpha1",),
        plural="xtelemetrypolicies",
        short_names=("xtelemetrypolicy",),
    ),
    Kind(
        struct=Backend,
        versions=("v1alpha1",),
        plural="backends",
        short_names=("be",),
        columns=(
            Column(name="Type", path=".spec.type"),
            Column(name="Accepted", path='.status.conditions[?(@.type=="Accepted")].status'),
            Column(name="Age", path=".metadata.creationTimestamp", type="date"),
        ),
    ),
    Kind(
        struct=GatewayParameters,
        versions=("v1alpha1",),
        plural="gatewayparameters",
        short_names=("gwp",),
        columns=(Column(name="Age", path=".metadata.creationTimestamp", type="date"),),
    ),
    Kind(struct=IngressClass, versions=("v1",), plural="ingressclasses", scope="Cluster"),
    Kind(struct=Ingress, versions=("v1",), plural="ingresses", short_names=("ing",)),
    Kind(struct=Service, versions=("v1",), plural="services", short_names=("svc",)),
    Kind(struct=ServiceImport, versions=("v1alpha1",), plural="serviceimports", short_names=("svcim", "svcimport")),
    Kind(struct=EndpointSlice, versions=("v1",), plural="endpointslices"),
    Kind(struct=Secret, versions=("v1",), plural="secrets"),
    Kind(struct=ConfigMap, versions=("v1",), plural="configmaps", short_names=("cm",)),
    Kind(struct=ClusterTrustBundle, versions=("v1", "v1beta1"), plural="clustertrustbundles", scope="Cluster"),
    Kind(struct=Namespace, versions=("v1",), plural="namespaces", scope="Cluster", short_names=("ns",)),
)
"""Every kind that is read, in the order in which lists show them."""


def find(api_version: str, kind: str) -> Kind | None:
    """The kind with this `apiVersion` and `kind` as written in YAML; None when we do not read it."""
    return _by_words().get((api_version, kind))


def kind_of(resource: Resource | type[Resource]) -> Kind:
    """The kind of an object or of its struct."""
    struct = resource if isinstance(resource, type) else type(resource)
    return _by_struct()[struct]


def decode(kind: Kind, obj: dict[str, Any]) -> Resource:
    """The struct of an object that was read from YAML or JSON. Bounds and rules are not checked: see `validate.py`.

    Unknown fields are dropped, values that are null count as absent, and 80.0 is the same as 80. DecodeError when a
    required field is missing or a value has the wrong type.
    """
    try:
        return msgspec.convert(obj, kind.struct)
    except msgspec.ValidationError:
        return _decode_tolerantly(kind, obj)


def decode_json(data: bytes) -> Resource:
    """The struct of an object in JSON, whose `apiVersion` and `kind` say what it is; DecodeError as `decode`."""
    try:
        head = _heads().decode(data)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"this is no API object in JSON: {error}") from error
    kind = find(head.apiVersion, head.kind)
    if kind is None:
        raise DecodeError(f"kind {head.kind!r} of {head.apiVersion!r} is not one that Tripylon reads")
    return decode_as(kind, data)


def decode_as(kind: Kind, data: bytes) -> Resource:
    """The struct of an object in JSON whose kind is known, as in the answer to a list; DecodeError as `decode`."""
    try:
        return decoder(kind.struct).decode(data)
    except msgspec.ValidationError:
        return _decode_tolerantly(kind, msgspec.json.decode(data))
    except msgspec.DecodeError as error:
        raise DecodeError(f"{kind.name} is no JSON: {error}") from error


@cache
def decoder(struct: type[Resource]) -> msgspec.json.Decoder[Resource]:
    """The JSON decoder of a kind; it raises msgspec's own errors."""
    return msgspec.json.Decoder(struct)


def drop_nulls(value: Any) -> Any:
    """A copy in which no map has an entry that is null, as an API server treats fields that may not be null."""
    if isinstance(value, dict):
        return {key: drop_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [drop_nulls(each) for each in value]
    return value


class _Head(msgspec.Struct, frozen=True, gc=False):
    apiVersion: str = ""  # noqa: N815
    kind: str = ""


@cache
def _heads() -> msgspec.json.Decoder[_Head]:
    return msgspec.json.Decoder(_Head)


@cache
def _by_words() -> dict[tuple[str, str], Kind]:
    return {
        (f"{kind.group}/{version}" if kind.group else version, kind.name): kind
        for kind in KINDS
        for version in kind.versions
    }


@cache
def _by_struct() -> dict[type[Resource], Kind]:
    return {kind.struct: kind for kind in KINDS}


def _decode_tolerantly(kind: Kind, obj: Any) -> Resource:
    try:
        return msgspec.convert(_whole_numbers(drop_nulls(obj)), kind.struct)
    except msgspec.ValidationError as error:
        raise DecodeError(f"{kind.name} cannot be read: {error}") from error


def _whole_numbers(value: Any) -> Any:
    """A copy in which floats without a fraction are integers, as a schema's `integer` allows them."""
    if isinstance(value, dict):
        return {key: _whole_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
