"""A Secret that the controller may not read: status says so, whether there is one or not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fleet.test_groups import CLASS, make

from tripylon.api.meta import Resource
from tripylon.envoy.options import EmitOptions
from tripylon.loop import Engine
from tripylon.model.options import Options
from tripylon.values import Name

SECRET = Name("default", "cert")
REMEDY = "grant list and watch of secrets in namespace default, be it only of resourceNames [cert]"
WHAT = "may not be read by the controller"


def gateway(**tls: Any) -> Resource:
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "cert"}]}}
    if tls:
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    return make("Gateway", "edge", spec={"gatewayClassName": "tripylon", "listeners": [listener], "tls": tls or None})


def service() -> Resource:
    return make("Service", "app", api="v1", spec={"ports": [{"port": 80}]})


def policy() -> Resource:
    target = {"group": "", "kind": "Service", "name": "app"}
    validation = {"hostname": "app.test", "caCertificateRefs": [{"group": "", "kind": "Secret", "name": "cert"}]}
    return make("BackendTLSPolicy", "app", spec={"targetRefs": [target], "validation": validation})


def backend(**tls: Any) -> tuple[Resource, ...]:
    spec = {"dns": {"hostname": "a.test", "port": 443}, "tls": tls}
    made = make("Backend", "far", api="gateway.tripylon.dev/v1alpha1", spec=spec)
    ref = {"group": "gateway.tripylon.dev", "kind": "Backend", "name": "far"}
    route = make("HTTPRoute", "r", spec={"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [ref]}]})
    return made, route


def route() -> Resource:
    ref = {"name": "app", "port": 80}
    return make("HTTPRoute", "r", spec={"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [ref]}]})


PLAIN = gateway(backend={})
REFERRING: dict[str, tuple[Resource, ...]] = {
    "listener": (gateway(),),
    "client certificate": (gateway(backend={"clientCertificateRef": {"name": "cert"}}),),
    "authorities of a policy": (PLAIN, service(), policy(), route()),
    "authorities of a Backend": (PLAIN, *backend(caCertificateRefs=[{"kind": "Secret", "name": "cert"}])),
    "client certificate of a Backend": (PLAIN, *backend(secretRef={"name": "cert"})),
}


def told(engine: Engine) -> str:
    """All that is told of the Secret."""
    texts = [f"{each.message}. {each.hint}" for each in engine.graph.all_findings()]
    return "\n".join(sorted(text for text in texts if "cert" in text))


@pytest.mark.parametrize("objects", REFERRING.values(), ids=REFERRING)
def test_status_says_that_it_may_not_be_read_and_what_to_grant(objects: tuple[Resource, ...]) -> None:
    engine = Engine(Options(standalone=False), EmitOptions())
    engine.apply([CLASS, *objects])
    missing = told(engine)
    assert "does not exist" in missing
    assert WHAT not in missing
    engine.withhold({SECRET: REMEDY})
    assert "does not exist" not in told(engine)
    assert WHAT in told(engine)
    assert REMEDY[1:] in told(engine)
    engine.withhold({Name("default", "another"): REMEDY})
    assert told(engine) == missing


def test_nothing_of_it_is_said_to_whom_no_grant_lets_refer_to_it() -> None:
    engine = Engine(Options(standalone=False), EmitOptions())
    tls = {"certificateRefs": [{"name": "cert", "namespace": "closed"}]}
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls}
    engine.apply([CLASS, make("Gateway", "edge", spec={"gatewayClassName": "tripylon", "listeners": [listener]})])
    before = told(engine)
    engine.withhold({Name("closed", "cert"): REMEDY})
    assert told(engine) == before
    assert "ReferenceGrant" in before
