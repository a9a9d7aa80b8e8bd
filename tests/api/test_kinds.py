"""From words to structs and back: nothing is lost, defaults are filled in, strangers are named."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.cases import broken_objects
from tests.api.corpus import GATEWAY_KINDS

from tripylon.api.core import ConfigMap, EndpointSlice, Secret, Service
from tripylon.api.gateway import Gateway, GatewayClass
from tripylon.api.kinds import KINDS, DecodeError, Kind, decode, decode_as, decode_json, find, kind_of
from tripylon.api.own import Backend
from tripylon.api.routes import GRPCRoute, HTTPRoute
from tripylon.api.schema import nested
from tripylon.api.validate import validate
from tripylon.values import Name, Ref


def document(kind: str, version: str = "gateway.networking.k8s.io/v1", **parts: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "n", "namespace": "ns"}, **parts}


def decoded(obj: dict[str, Any]) -> Any:
    kind = find(obj["apiVersion"], obj["kind"])
    assert kind is not None
    return decode(kind, obj)


# --- Identity of kinds and objects ---------------------------------------------------------------------------------


def test_kinds_are_found_in_every_version_by_their_words() -> None:
    assert find("gateway.networking.k8s.io/v1beta1", "HTTPRoute") is find("gateway.networking.k8s.io/v1", "HTTPRoute")
    assert find("gateway.networking.k8s.io/v1beta1", "ReferenceGrant") is not None
    assert find("gateway.networking.k8s.io/v1beta1", "GRPCRoute") is None
    assert find("v1", "Service") is not None
    assert find("apps/v1", "Deployment") is None
    assert find("gateway.tripylon.dev/v1alpha1", "Backend") is kind_of(Backend)


def test_kinds_are_distinct() -> None:
    assert len({(kind.group, kind.name) for kind in KINDS}) == len(KINDS)
    assert len({(kind.group, kind.plural) for kind in KINDS}) == len(KINDS)
    in_the_cluster = ["GatewayClass", "ClusterTrustBundle", "IngressClass", "Namespace"]
    assert sorted(kind.name for kind in KINDS if not kind.namespaced) == sorted(in_the_cluster)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_structs_are_frozen_and_light(kind: Kind) -> None:
    for struct in nested(kind.struct):
        config = struct.__struct_config__
        assert (config.frozen, config.gc, config.omit_defaults) == (True, False, True), struct


def test_key_and_ref() -> None:
    route = decoded(document("HTTPRoute", spec={}))
    assert route.key == Name("ns", "n")
    assert route.ref == Ref("gateway.networking.k8s.io", "HTTPRoute", "ns", "n")
    assert str(route.ref) == "HTTPRoute ns/n"
    assert kind_of(route).api_version == "gateway.networking.k8s.io/v1"
    bare = decode_as(kind_of(Service), b'{"metadata": {"name": "n", "namespace": "ns"}}')
    assert bare.ref == Ref("", "Service", "ns", "n")


# --- There and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GATEWAY_KINDS, ids=lambda kind: kind.name)
def test_valid_objects_survive_encoding(kind: Kind, objects: dict[str, list[dict[str, Any]]]) -> None:
    count = 0
    for obj in objects[kind.name]:
        if validate(kind, obj):
            continue
        resource = decode(kind, obj)
        encoded = msgspec.json.encode(resource)
        assert decode_json(encoded) == resource
        assert validate(kind, msgspec.json.decode(encoded)) == ()
        assert lost(obj["spec"], msgspec.to_builtins(resource)["spec"], type(resource)) == set()
        count += 1
    assert count >= 50


def lost(written: Any, kept: Any, struct: type) -> set[str]:
    """Texts and numbers that were written and are not in what was kept, unless they are defaults."""
    return {*leaves(written)} - {*leaves(kept)} - default_texts(struct)


@cache
def default_texts(struct: type) -> frozenset[str]:
    fields = [field for each in nested(struct) for field in msgspec.structs.fields(each)]
    return frozenset(str(field.default) for field in fields if isinstance(field.default, str | int))


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in leaves(each)]
    if isinstance(value, bool | None):
        return []
    return [str(int(value)) if isinstance(value, float) else str(value)]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(data=st.dictionaries(TEXTS, st.binary(max_size=40)), text=st.dictionaries(TEXTS, TEXTS))
@settings(max_examples=60, deadline=None)
def test_contents_of_secrets_survive(data: dict[str, bytes], text: dict[str, str]) -> None:
    written = {key: base64.b64encode(each).decode() for key, each in data.items()}
    obj = document("Secret", "v1", data=written, stringData=text)
    secret = decoded(obj)
    assert isinstance(secret, Secret)
    assert secret.contents == {**data, **{key: each.encode() for key, each in text.items()}}
    assert decode_json(msgspec.json.encode(secret)) == secret
    assert validate(kind_of(Secret), obj) == ()


# --- Defaults ------------------------------------------------------------------------------------------------------


def test_defaults_of_a_route() -> None:
    route = decoded(document("HTTPRoute", spec={"parentRefs": [{"name": "g"}]}))
    assert isinstance(route, HTTPRoute)
    [parent] = route.spec.parent_refs
    assert (parent.group, parent.kind, parent.namespace, parent.port) == (
        "gateway.networking.k8s.io", "Gateway", "", None,
    )  # fmt: skip
    [rule] = route.spec.rules
    [match] = rule.matches
    assert (match.path.type, match.path.value, match.method, match.headers) == ("PathPrefix", "/", "", ())
    assert rule.backend_refs == ()
    assert route.status is None
    assert decoded(document("GRPCRoute", spec={})).spec.rules == ()


def test_defaults_of_a_gateway() -> None:
    gateway = decoded(
        document(
            "Gateway",
            spec={"gatewayClassName": "c", "listeners": [{"name": "l", "port": 443, "protocol": "HTTPS", "tls": {}}]},
        )
    )
    assert isinstance(gateway, Gateway)
    [listener] = gateway.spec.listeners
    assert listener.hostname == ""
    assert listener.allowed_routes.namespaces.from_ == "Same"
    assert listener.tls is not None
    assert listener.tls.mode == "Terminate"
    assert [(each.type, each.status) for each in gateway.status.conditions] == [
        ("Accepted", "Unknown"),
        ("Programmed", "Unknown"),
    ]
    gateway_class = decoded(document("GatewayClass", spec={"controllerName": "a.example.com/b"}))
    assert isinstance(gateway_class, GatewayClass)
    assert [each.reason for each in gateway_class.status.conditions] == ["Pending"]


def test_core_kinds() -> None:
    endpoints = decoded(
        {
            **document("EndpointSlice", "discovery.k8s.io/v1", addressType="IPv4"),
            "metadata": {"name": "n", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": None}, "targetRef": {"kind": "Pod"}}],
            "ports": None,
        }
    )
    assert isinstance(endpoints, EndpointSlice)
    assert endpoints.service_name == "web"
    assert endpoints.ports == ()
    assert endpoints.endpoints[0].conditions.ready is None
    service = decoded(
        document("Service", "v1", spec={"ports": [{"port": 80, "targetPort": "http", "nodePort": 30000}]})
    )
    assert isinstance(service, Service)
    assert service.spec.ports[0].target_port == "http"
    config = decoded(document("ConfigMap", "v1", data={"a": "é"}, binaryData={"b": "AAE="}))
    assert isinstance(config, ConfigMap)
    assert config.contents == {"a": "é".encode(), "b": b"\x00\x01"}


# --- Leniency and errors -------------------------------------------------------------------------------------------


def test_values_of_later_versions_are_decoded() -> None:
    route = decoded(
        document(
            "HTTPRoute",
            spec={"rules": [{"matches": [{"path": {"type": "Glob"}, "method": "QUERY"}], "novelty": {"a": 1}}]},
        )
    )
    assert route.spec.rules[0].matches[0].path.type == "Glob"


def test_nulls_and_whole_floats_are_tolerated() -> None:
    obj = document(
        "HTTPRoute", spec={"hostnames": None, "rules": [{"backendRefs": [{"name": "a", "port": 80.0, "weight": None}]}]}
    )
    [ref] = decoded(obj).spec.rules[0].backend_refs
    assert (ref.port, ref.weight) == (80, 1)
    assert decode_json(msgspec.json.encode(obj)) == decoded(obj)


def test_what_cannot_be_decoded_says_where() -> None:
    with pytest.raises(DecodeError, match=r"^HTTPRoute cannot be read: Expected `array`, got `int` - at `\$\.spec\.ho"):
        decoded(document("HTTPRoute", spec={"hostnames": 5}))
    with pytest.raises(DecodeError, match="Gateway cannot be read: Object missing required field `spec`"):
        decoded(document("Gateway"))
    with pytest.raises(DecodeError, match=r"^kind 'Pod' of 'v1' is not one that Tripylon reads$"):
        decode_json(b'{"apiVersion": "v1", "kind": "Pod"}')
    with pytest.raises(DecodeError, match=r"^this is no API object in JSON: "):
        decode_json(b"{")
    with pytest.raises(DecodeError, match=r"^Service is no JSON: "):
        decode_as(kind_of(Service), b'{"spec": ')


def test_broken_objects_that_decode_keep_their_fields() -> None:
    """A rule broken is no reason not to decode: an API server of a later version may allow it."""
    decodable = 0
    for kind, obj, _ in broken_objects():
        try:
            resource = decode(kind, obj)
        except DecodeError:
            continue
        assert decode_json(msgspec.json.encode(resource)) == resource
        decodable += 1
    assert decodable >= 50
    assert isinstance(decoded(document("GRPCRoute", spec={"rules": [{"matches": [{"method": {}}]}]})), GRPCRoute)
