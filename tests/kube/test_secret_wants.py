"""Which Secrets are followed where not all may be listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from tests.kube.test_watch import kind

from tripylon.api.kinds import decode_as
from tripylon.envoy.options import EmitOptions
from tripylon.kube.secret_wants import SecretWants
from tripylon.loop import new_graph
from tripylon.model.options import Options
from tripylon.values import Ref
from tripylon.world import world


def gateway_class(name: str, controller: str = "gateway.tripylon.dev/controller") -> dict[str, Any]:
    return _object("GatewayClass", name, {"controllerName": controller}, namespace="")


def gateway(name: str, *refs: dict[str, str], class_name: str = "edge") -> dict[str, Any]:
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": refs}}
    plain = {"name": "http", "port": 80, "protocol": "HTTP"}
    return _object("Gateway", name, {"gatewayClassName": class_name, "listeners": [plain, listener]})


def backend(name: str, tls: dict[str, Any] | None) -> dict[str, Any]:
    static = {"hosts": [{"host": "192.0.2.1", "port": 443}]}
    return _object("Backend", name, {"type": "Static", "static": static, **({"tls": tls} if tls else {})})


def listener_set(name: str, parent: str, ref: dict[str, str]) -> dict[str, Any]:
    listener = {"name": "more", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [ref]}}
    return _object("ListenerSet", name, {"parentRef": {"name": parent}, "listeners": [listener]})


def policy(name: str, service: str, *authorities: dict[str, str]) -> dict[str, Any]:
    target = {"group": "", "kind": "Service", "name": service}
    validation = {"hostname": "a.example.com", "caCertificateRefs": authorities}
    return _object("BackendTLSPolicy", name, {"targetRefs": [target], "validation": validation})


def _object(kind_name: str, name: str, spec: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": "1"}
    return {"apiVersion": kind(kind_name).api_version, "kind": kind_name, "metadata": metadata, "spec": spec}


class Followed:
    def __init__(self) -> None:
        self.graph = new_graph(Options(standalone=False), EmitOptions())
        self.wants = SecretWants()
        self.put(gateway_class("edge"))

    def put(self, *objects: dict[str, Any]) -> bool:
        for each in objects:
            world.put(self.graph, decode_as(kind(each["kind"]), msgspec.json.encode(each)))
        return self.wants.changed(self.graph, self.graph.flush())

    def delete(self, kind_name: str, name: str) -> bool:
        world.delete(self.graph, Ref(kind(kind_name).group, kind_name, "shop", name))
        return self.wants.changed(self.graph, self.graph.flush())

    @property
    def names(self) -> list[str]:
        assert all((ref.group, ref.kind) == ("", "Secret") for ref in self.wants.refs)
        return sorted(f"{ref.namespace}/{ref.name}" for ref in self.wants.refs)


def test_certificates_of_listeners_in_any_namespace() -> None:
    followed = Followed()
    foreign = {"group": "example.com", "kind": "Vault", "name": "v"}
    assert followed.put(gateway("edge", {"name": "cert"}, {"name": "there", "namespace": "other"}, foreign))
    assert followed.names == ["other/there", "shop/cert"]


def test_certificates_and_authorities_of_backends() -> None:
    followed = Followed()
    authorities = [{"kind": "Secret", "name": "ca"}, {"kind": "ConfigMap", "name": "bundle"}]
    assert followed.put(backend("b", {"secretRef": {"name": "client"}, "caCertificateRefs": authorities}))
    assert followed.names == ["shop/ca", "shop/client"]
    assert followed.put(backend("b", None))
    assert followed.names == []


def test_the_certificate_that_a_gateway_shows_to_backends() -> None:
    followed = Followed()
    showing = gateway("edge")
    showing["spec"]["tls"] = {"backend": {"clientCertificateRef": {"name": "client", "namespace": "other"}}}
    assert followed.put(showing)
    assert followed.names == ["other/client"]


def test_authorities_of_policies_that_concern_a_gateway_of_ours() -> None:
    followed = Followed()
    authorities = ({"group": "", "kind": "Secret", "name": "ca"}, {"group": "", "kind": "ConfigMap", "name": "bundle"})
    followed.put(gateway("edge"))
    assert not followed.put(policy("p", "web", *authorities)), "no route leads there"
    rules = [{"backendRefs": [{"name": "web", "port": 443}]}]
    assert followed.put(_object("HTTPRoute", "r", {"parentRefs": [{"name": "edge"}], "rules": rules}))
    assert followed.names == ["shop/ca"]
    assert followed.delete("HTTPRoute", "r")
    assert followed.names == []


def test_what_an_xbackend_names_that_is_reached() -> None:
    followed = Followed()
    refs = [{"group": "", "kind": "Secret", "name": "ca"}]
    validation = {"hostname": "a.example.com", "caCertificateRefs": refs}
    tls = {"mode": "ClientAndServer", "clientCertificateRef": {"name": "shown"}, "validation": validation}
    host = {"type": "ExternalHostname", "port": {"number": 443}, "externalHostname": {"hostname": "a.example.com"}}
    followed.put(gateway("edge"))
    assert not followed.put(_object("XBackend", "far", {**host, "tls": tls})), "nobody reaches it"
    backend_refs = [{"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "far"}]
    rules = [{"backendRefs": backend_refs}]
    assert followed.put(_object("HTTPRoute", "r", {"parentRefs": [{"name": "edge"}], "rules": rules}))
    assert followed.names == ["shop/ca", "shop/shown"]


def asking(*backends: Mapping[str, object]) -> dict[str, Any]:
    """Filters of a listener by which services are asked whether requests may pass."""
    wanted = [{"protocol": "HTTP", "http": {}, "backendRef": each} for each in backends]
    return {"requests": [{"type": "ExternalAuth", "externalAuth": each} for each in wanted]}


def test_what_is_named_by_whom_only_a_listener_asks() -> None:
    followed = Followed()
    refs = [{"group": "", "kind": "Secret", "name": "ca-far"}]
    tls = {"mode": "ServerOnly", "validation": {"hostname": "a.example.com", "caCertificateRefs": refs}}
    host = {"type": "ExternalHostname", "port": {"number": 443}, "externalHostname": {"hostname": "a.example.com"}}
    followed.put(gateway("edge"), policy("p", "auth", {"group": "", "kind": "Secret", "name": "ca-auth"}))
    assert not followed.put(_object("XBackend", "far", {**host, "tls": tls})), "nobody asks"
    service = {"name": "auth", "port": 443}
    far = {"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "far"}
    guarded = gateway("edge")
    guarded["spec"]["listeners"][0]["filters"] = asking(service, far)
    guarded["spec"]["allowedListeners"] = {"namespaces": {"from": "Same"}}
    assert followed.put(guarded)
    assert followed.names == ["shop/ca-auth", "shop/ca-far"]
    assert followed.put(gateway("edge"))
    more = listener_set("more", "edge", {"name": "cert"})
    more["spec"]["listeners"][0]["filters"] = asking(service)
    assert not followed.put(more), "the gateway does not let it in"
    guarded["spec"]["listeners"][0].pop("filters")
    assert followed.put(guarded)
    assert followed.names == ["shop/ca-auth", "shop/cert"]


def test_a_secret_is_wanted_until_the_last_who_names_it_is_gone() -> None:
    followed = Followed()
    followed.put(gateway("one", {"name": "cert"}), gateway("two", {"name": "cert"}))
    assert not followed.delete("Gateway", "one")
    assert followed.names == ["shop/cert"]
    assert followed.delete("Gateway", "two")
    assert followed.names == []


def test_gateways_of_others_have_no_secret_read() -> None:
    followed = Followed()
    assert not followed.put(gateway("theirs", {"name": "cert"}, class_name="other"))
    assert not followed.put(gateway_class("other", "example.com/other"))
    assert followed.names == []
    assert followed.put(gateway_class("other"))
    assert followed.names == ["shop/cert"], "the class is ours now"
    assert followed.put(gateway_class("other", "example.com/other"))
    assert followed.names == []


def test_certificates_of_listener_sets_that_are_let_in() -> None:
    followed = Followed()
    followed.put(gateway("edge"), gateway("open"))
    assert not followed.put(listener_set("more", "edge", {"name": "cert"}))
    allowing = gateway("open")
    allowing["spec"]["allowedListeners"] = {"namespaces": {"from": "Same"}}
    followed.put(allowing)
    assert followed.put(listener_set("more", "open", {"name": "cert"}))
    assert followed.names == ["shop/cert"]
    assert followed.delete("Gateway", "open")
    assert followed.names == []


def test_certificates_of_ingresses_that_add_listeners() -> None:
    followed = Followed()
    open_gateway = gateway("edge", {"name": "cert"})
    open_gateway["spec"] |= {"defaultScope": "All"}
    own = _object("IngressClass", "ours", {"controller": "gateway.tripylon.dev/controller"}, namespace="")
    spec = {"tls": [{"hosts": ["a.example.com"], "secretName": "shown"}], "rules": [{"host": "a.example.com"}]}
    mine = _object("Ingress", "mine", {"ingressClassName": "ours", **spec})
    followed.put(open_gateway, own, mine, _object("Ingress", "foreign", {"ingressClassName": "others", **spec}))
    assert followed.names == ["shop/cert"], "the Gateway lets nobody add listeners"
    admitting = {**open_gateway, "spec": open_gateway["spec"] | {"allowedListeners": {"namespaces": {"from": "Same"}}}}
    assert followed.put(admitting)
    assert followed.names == ["shop/cert", "shop/shown"]
    assert followed.delete("Ingress", "mine")
    assert followed.names == ["shop/cert"]
