"""500 requests a second, and nothing that is done to proxies, controllers or the API server costs one of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.install import NAMESPACE
from tests.cluster.load import load
from tests.cluster.serving import (
    HOST,
    LONG,
    PROXIES,
    address,
    assert_changes_arrive,
    controllers,
    gateway,
    https,
    kill,
    leader,
    listener_conditions,
    metric,
    new_certificate,
    parameters,
    ready_proxies,
    rolled,
    secret,
    serving,
    wait_connected,
    wait_programmed,
    wait_served,
    xds_secret,
)

from tripylon.kube.authority import Kept, advanced

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

OUTAGE_S = 60 if LONG else 10


@pytest.fixture(scope="module")
def gate() -> Iterator[Cluster]:
    yield from serving("dropped")


# --- Proxies --------------------------------------------------------------------------------------------------------


def test_proxies_are_rolled(gate: Cluster) -> None:
    before = set(ready_proxies(gate))
    with load(gate, address(gate)) as result:
        rolled(gate, PROXIES)
        wait_until(lambda: len(ready_proxies(gate)) == 2 and not before & set(ready_proxies(gate)), 60, "they stay")
        time.sleep(4)  # the last of the old ones drains and ends
    result.assert_none_failed()


def test_new_parameters_roll_the_proxies(gate: Cluster) -> None:
    before = set(ready_proxies(gate))
    with load(gate, address(gate)) as result:
        gate.apply(parameters(2, extraAnnotations={"example.com/rolled": "yes"}))
        wait_until(lambda: len(ready_proxies(gate)) == 2 and not before & set(ready_proxies(gate)), 60, "they stay")
        time.sleep(4)
    result.assert_none_failed()


def test_proxies_are_scaled_up_and_down(gate: Cluster) -> None:
    with load(gate, address(gate)) as result:
        for number in (4, 2):
            gate.apply(parameters(number))
            wait_until(lambda number=number: len(ready_proxies(gate)) == number, 60, f"there are not {number} proxies")
            time.sleep(4)
    result.assert_none_failed()


# --- Controllers and the API server ---------------------------------------------------------------------------------


def test_both_controllers_are_rolled_and_push_nothing(gate: Cluster) -> None:
    before = set(controllers(gate))
    with load(gate, address(gate)) as result:
        rolled(gate, "tripylon", NAMESPACE)
        wait_until(lambda: len(controllers(gate)) == 2 and not before & set(controllers(gate)), 60, "they stay")
        wait_connected(gate)
    result.assert_none_failed()
    assert_nothing_pushed(gate)
    assert_changes_arrive(gate, "rolled")


def test_the_leader_is_killed(gate: Cluster) -> None:
    wait_until(lambda: leader(gate) in controllers(gate), 40, "nobody leads")
    with load(gate, address(gate)) as result:
        kill(leader(gate))
        wait_until(lambda: len(controllers(gate)) < 2, 20, "it was not noticed")
        wait_until(lambda: len(controllers(gate)) == 2, 60, "it does not come back")
        wait_connected(gate)
        assert_changes_arrive(gate, "killed")
    result.assert_none_failed()


def test_there_is_no_controller_for_a_while(gate: Cluster) -> None:
    with load(gate, address(gate)) as result:
        gate.kubectl("-n", NAMESPACE, "scale", "deployment/tripylon", "--replicas=0")
        gate.kubectl("-n", NAMESPACE, "delete", "pods", "-l", "app.kubernetes.io/name=tripylon", "--force")
        wait_until(lambda: not controllers(gate), 20, "the controllers do not end")
        time.sleep(OUTAGE_S)
        gate.kubectl("-n", NAMESPACE, "scale", "deployment/tripylon", "--replicas=2")
        wait_until(lambda: len(controllers(gate)) == 2, 60, "they do not come back")
        wait_connected(gate)
    result.assert_none_failed()
    assert_nothing_pushed(gate)
    assert_changes_arrive(gate, "absent")


def test_the_api_server_is_restarted(gate: Cluster) -> None:
    with load(gate, address(gate)) as result:
        gate.stop("apiserver")
        time.sleep(3)
        gate.start("apiserver")
        gate.wait_ready()
        assert_changes_arrive(gate, "restarted")
    result.assert_none_failed()


# --- Certificates ---------------------------------------------------------------------------------------------------


def test_a_certificate_is_rotated_spoilt_mended_and_withdrawn(gate: Cluster, tmp_path: Path) -> None:
    first, second, third = (new_certificate(tmp_path) for _ in range(3))
    gate.apply(secret("www", first) + gateway("edge", https("https", 443, "www"), parameters="edge"))
    wait_programmed(gate)
    wait_served(gate, "https", 443)
    trust = (tmp_path / "authorities.pem", HOST)
    with load(gate, address(gate), port=443, tls=trust) as result:
        time.sleep(1)
        gate.apply(secret("www", second))
        time.sleep(3)
        gate.apply(secret("www", {"tls.crt": "garbage", "tls.key": "garbage"}))
        says = {"ResolvedRefs": "False", "Programmed": "True"}
        wait_until(lambda: says.items() <= listener_conditions(gate, "https").items(), 20, "status does not say so")
        time.sleep(3)
        gate.apply(secret("www", third))
        says = {"ResolvedRefs": "True", "Programmed": "True"}
        wait_until(lambda: says.items() <= listener_conditions(gate, "https").items(), 20, "status does not say so")
        time.sleep(3)
    result.assert_none_failed()
    assert len(result.serials) == 3
    gate.kubectl("delete", "secret", "www")
    assert_withdrawn(gate, "https", 443)


def test_a_revoked_grant_withdraws_the_certificate(gate: Cluster, tmp_path: Path) -> None:
    gate.kubectl("create", "namespace", "certificates")
    made = secret("shared", new_certificate(tmp_path))
    gate.kubectl("-n", "certificates", "apply", "-f", "-", text=made + grant())
    gate.apply(gateway("edge", https("shared", 8443, "shared", "certificates"), parameters="edge"))
    wait_programmed(gate)
    assert shows_certificate(gate, 8443)
    gate.kubectl("-n", "certificates", "delete", "referencegrant", "gateways")
    assert_withdrawn(gate, "shared", 8443)
    gate.apply(gateway("edge", parameters="edge"))
    wait_programmed(gate)


def test_the_certificate_for_proxies_is_renewed(gate: Cluster) -> None:
    kept = xds_secret(gate)
    aged = advanced(
        Kept(bundle=kept["ca.crt"], signer_key=kept["ca.key"]),
        [f"tripylon.{NAMESPACE}.svc.cluster.local"],
        datetime.now(UTC) - timedelta(days=70),
    )
    data = json.dumps({"stringData": {"tls.crt": aged.chain.decode(), "tls.key": aged.key.decode()}})
    with load(gate, address(gate)) as result:
        gate.kubectl("-n", NAMESPACE, "patch", "secret", "tripylon-xds-tls", "-p", data)
        wait_until(lambda: xds_secret(gate)["tls.crt"] not in (kept["tls.crt"], aged.chain), 80, "it is not renewed")
        assert xds_secret(gate)["ca.crt"] == kept["ca.crt"]
        assert_new_proxies_work(gate)
    result.assert_none_failed()


def test_the_secret_of_the_certificate_for_proxies_is_deleted(gate: Cluster) -> None:
    kept = xds_secret(gate)
    with load(gate, address(gate)) as result:
        gate.kubectl("-n", NAMESPACE, "delete", "secret", "tripylon-xds-tls")
        gate.kubectl("-n", NAMESPACE, "wait", "--for=create", "secret/tripylon-xds-tls", "--timeout=60s")
        assert xds_secret(gate) == kept
        rolled(gate, "tripylon", NAMESPACE)
        wait_connected(gate)
    result.assert_none_failed()


def test_the_authority_for_proxies_is_lost(gate: Cluster) -> None:
    kept = xds_secret(gate)
    with load(gate, address(gate)) as result:
        lost = json.dumps({"data": {"ca.crt": None, "ca.key": None}})
        gate.kubectl("-n", NAMESPACE, "patch", "secret", "tripylon-xds-tls", "-p", lost)
        rolled(gate, "tripylon", NAMESPACE)
        assert xds_secret(gate)["ca.crt"] != kept["ca.crt"]
        wait_connected(gate, limit_s=90)
        assert_new_proxies_work(gate)
    result.assert_none_failed()


# --- What is asserted -----------------------------------------------------------------------------------------------


def assert_nothing_pushed(cluster: Cluster) -> None:
    """New controllers have found that the connected proxies have everything."""
    time.sleep(1)  # a push would follow the connection at once
    sent = {name: metric(cluster, f"tripylon_xds_{name}_total") for name in ("resources", "removals")}
    assert [len(each) for each in sent.values()] == [2, 2], sent
    assert {number for each in sent.values() for number in each.values()} == {0.0}, sent


def assert_new_proxies_work(cluster: Cluster) -> None:
    """A third proxy gets ready and follows changes."""
    cluster.apply(parameters(3))
    wait_until(lambda: len(ready_proxies(cluster)) == 3, 60, "the new proxy does not get ready")
    wait_connected(cluster, 3)
    assert_changes_arrive(cluster, "renewed")
    cluster.apply(parameters(2))
    wait_until(lambda: len(ready_proxies(cluster)) == 2, 60, "the new proxy stays")
    wait_connected(cluster, 2)


def assert_withdrawn(cluster: Cluster, listener: str, port: int) -> None:
    says = {"ResolvedRefs": "False", "Programmed": "False"}
    wait_until(lambda: says.items() <= listener_conditions(cluster, listener).items(), 20, "status does not say so")
    wait_until(lambda: not shows_certificate(cluster, port), 20, "the certificate is still shown")


def shows_certificate(cluster: Cluster, port: int) -> bool:
    """Whether a handshake with the gateway comes to an end."""
    at = ["--connect-to", f"{HOST}:{port}:{address(cluster)}:{port}"]
    ran = cluster.run(["curl", "-sSk", "--max-time", "5", *at, f"https://{HOST}:{port}/"], check=False)
    return ran.returncode == 0


def grant() -> str:
    origin = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"}
    document = {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "gateways"},
        "spec": {"from": [origin], "to": [{"group": "", "kind": "Secret"}]},
    }
    return f"---\n{json.dumps(document)}\n"
