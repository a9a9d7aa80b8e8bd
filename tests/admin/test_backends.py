"""What `/picture` tells of backends that are reached by TLS: by which policy, and who shows a certificate."""

from __future__ import annotations

from tests.admin.gateway import FakeGateway
from tests.cases.harness import HERE, load, run

from tripylon.admin.picture import picture


def test_each_gateway_that_shows_a_certificate_has_a_backend_of_its_own() -> None:
    gateway = FakeGateway()
    gateway.load(*run(load(HERE / "client_certificates" / "several-gateways.yaml")).resources)
    found = [(each.name, each.tls, each.policy, each.client) for each in picture(gateway).backends]
    assert found == [
        ("Service default/web:443", True, "default/web", ""),
        ("Service default/web:443", True, "default/web", "default/edge"),
        ("Service default/web:443", True, "default/web", "default/open"),
    ]
