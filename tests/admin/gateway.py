"""A gateway for tests of the admin pages: the real engine, a simulated proxy, no files and no Envoy."""

from __future__ import annotations

import base64
from typing import Any

from tests.live.certificates import Authority

from tripylon.api.kinds import decode, find
from tripylon.api.meta import Resource
from tripylon.envoy.options import EmitOptions
from tripylon.errors import TripylonError
from tripylon.files.problems import Problem
from tripylon.graph import Graph
from tripylon.loop import Engine
from tripylon.model.options import Options
from tripylon.values import Ref
from tripylon.xds.cache import Group, Session
from tripylon.xds.client import Proxy, envoy_references

MARK = "qpzmsecret"
"""Stands in every place of the test objects that nobody may see."""


class FakeGateway:
    """Satisfies `admin.engine.Engine`."""

    def __init__(self) -> None:
        self.engine = Engine(Options(), EmitOptions())
        self.built = False
        self.restarts = 0
        self.problems: tuple[Problem, ...] = ()
        self.envoy_answers = True
        self._proxy = Proxy("edge-1", envoy_references)
        self._session: Session | None = None

    @property
    def graph(self) -> Graph:
        return self.engine.graph

    @property
    def group(self) -> Group:
        return self.engine.group

    def locate(self, ref: Ref, field: str = "") -> tuple[str, int, int] | None:
        return (f"{ref.name}.yaml", 7, 3) if field else (f"{ref.name}.yaml", 1, 1)

    async def envoy_metrics(self) -> bytes:
        if not self.envoy_answers:
            raise TripylonError("Envoy's administration does not answer")
        return b"envoy_server_live 1\n"

    def load(self, *resources: Resource) -> None:
        self.engine.apply(resources)
        self.built = True

    def connect(self) -> None:
        """A proxy connects and takes everything."""
        self._session = self.group.connect(1, self._proxy.node, lambda: None)
        for request in self._proxy.connect():
            self._session.receive(request)
        self.settle()

    def settle(self) -> None:
        """The proxy takes what there is to send."""
        assert self._session is not None
        while responses := self._session.responses(0.0):
            for response in responses:
                for request in self._proxy.receive(response.payload):
                    self._session.receive(request)

    def disconnect(self) -> None:
        assert self._session is not None
        self._session.close()


def resource(kind: str, name: str, *, api_version: str = "gateway.networking.k8s.io/v1", **fields: Any) -> Resource:
    found = find(api_version, kind)
    assert found is not None
    head = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}}
    return decode(found, head | fields)


def gateway() -> Resource:
    tls = {"certificateRefs": [{"name": "edge"}]}
    listeners = [
        {"name": "http", "port": 8080, "protocol": "HTTP"},
        {"name": "https", "port": 8443, "protocol": "HTTPS", "hostname": "a.example.com", "tls": tls},
    ]
    return resource("Gateway", "edge", spec={"gatewayClassName": "tripylon", "listeners": listeners})


def secret() -> Resource:
    """A certificate with its key, both with the mark in them as far as that is possible."""
    certificate, key = Authority().issue("a.example.com")
    data = {"tls.crt": base64.b64encode(certificate.encode()).decode()}
    return resource(
        "Secret",
        "edge",
        api_version="v1",
        type="kubernetes.io/tls",
        data=data,
        stringData={"tls.key": key, "password": MARK},
    )


def config_map() -> Resource:
    return resource("ConfigMap", "notes", api_version="v1", data={"note": MARK})


def route() -> Resource:
    header = {"name": "authorization", "value": MARK}
    match = {"path": {"type": "PathPrefix", "value": "/shop"}, "headers": [header]}
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [header]}}]
    to_backend = {"group": "gateway.tripylon.dev", "kind": "Backend", "name": "shop", "weight": 3}
    rule = {"matches": [match], "filters": filters, "backendRefs": [to_backend, {"name": "gone", "port": 80}]}
    return resource("HTTPRoute", "shop", spec={"parentRefs": [{"name": "edge"}], "rules": [rule]})


def backend() -> Resource:
    static = {"hosts": [{"host": "127.0.0.1", "port": 9000}]}
    spec = {"static": static, "tls": {"insecureSkipVerify": True, "secretRef": {"name": "edge"}}}
    return resource("Backend", "shop", api_version="gateway.tripylon.dev/v1alpha1", spec=spec)


def everything() -> tuple[Resource, ...]:
    return (gateway(), secret(), config_map(), route(), backend())
