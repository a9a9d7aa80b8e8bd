"""Two replicas, proxies at both: status says the same whichever replica a proxy asked, and whoever leads."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.fixtures import started
from tests.cluster.install import NAMESPACE, install
from tests.cluster.pods import manifest

from tripylon.neighbours import address_of
from tripylon.pb.messages import DeltaDiscoveryRequest
from tripylon.settings import Address
from tripylon.xds import client
from tripylon.xds.codec import RawCodec
from tripylon.xds.peer_link import Trust, client_context
from tripylon.xds.peers import METHOD, peer_token
from tripylon.xds.snapshot import LDS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GATEWAYS = [f"edge-{number}" for number in range(6)]
SERVICE = f"tripylon.{NAMESPACE}.svc.cluster.local"
PROGRAMMED_LIMIT_S = 20
LEASE_S, PATIENCE_S = 15.0, 10.0
"""After how long a dead leader is followed, and how long a new one waits before it says that proxies are missing."""


@pytest.fixture(scope="module")
def installed() -> Iterator[Cluster]:
    """A cluster with two replicas and six Gateways, all of which are programmed."""
    for cluster in started("replicas"):
        install(cluster, replicas=2)
        cluster.apply("".join(gateway(name) for name in GATEWAYS))
        limit = f"--timeout={PROGRAMMED_LIMIT_S}s"
        cluster.kubectl("wait", "--for=condition=Programmed", "gateway", "--all", limit)
        yield cluster


def test_gateways_are_programmed_whichever_replica_their_proxies_asked(installed: Cluster) -> None:
    spread(installed)
    assert sum(connected(installed).values()) == len(GATEWAYS)
    with statuses(installed) as seen:
        installed.apply(gateway(GATEWAYS[0], 80, 81))
        wait_until(lambda: ("True", 2) in seen.programmed(GATEWAYS[0]), PROGRAMMED_LIMIT_S, "it is not programmed")
    assert {status for status, _ in seen.programmed()} == {"True"}


def test_nothing_flaps_when_the_leader_is_killed(installed: Cluster) -> None:
    spread(installed)
    before = leader(installed)
    with statuses(installed) as seen:
        killed = before.partition("_")[0]
        installed.kubectl("-n", NAMESPACE, "delete", "pod", killed, "--grace-period=0", "--force")
        wait_until(lambda: leader(installed) not in ("", before), LEASE_S + 10, "nobody leads")
        wait_until(lambda: sum(connected(installed).values()) == len(GATEWAYS), 10, "proxies do not come back")
        time.sleep(PATIENCE_S + 2)  # what a new leader thinks is missing is told after that
        installed.apply(gateway(GATEWAYS[1], 80, 81))
        wait_until(lambda: ("True", 2) in seen.programmed(GATEWAYS[1]), PROGRAMMED_LIMIT_S, "nobody writes")
    assert {status for status, _ in seen.programmed()} == {"True"}


def test_nothing_flaps_while_all_replicas_are_replaced(installed: Cluster) -> None:
    spread(installed)
    before = leader(installed)
    with statuses(installed) as seen:
        installed.kubectl("-n", NAMESPACE, "rollout", "restart", "deployment", "tripylon")
        installed.kubectl("-n", NAMESPACE, "rollout", "status", "deployment", "tripylon", "--timeout=60s")
        wait_until(lambda: leader(installed) not in ("", before), LEASE_S + 10, "nobody leads")
        wait_until(lambda: sum(connected(installed).values()) == len(GATEWAYS), 10, "proxies do not come back")
        time.sleep(PATIENCE_S + 2)
        installed.apply(gateway(GATEWAYS[2], 80, 81))
        wait_until(lambda: ("True", 2) in seen.programmed(GATEWAYS[2]), PROGRAMMED_LIMIT_S, "nobody writes")
    assert {status for status, _ in seen.programmed()} == {"True"}


def test_what_somebody_deletes_of_proxies_is_put_back(installed: Cluster) -> None:
    for kind in ("deployment", "serviceaccount", "configmap"):
        name = f"{kind}/{GATEWAYS[3]}-tripylon"
        before = uid(installed, name)
        installed.kubectl("delete", name)
        wait_until(lambda name=name, before=before: uid(installed, name) not in ("", before), 15, f"{name} is gone")


def test_only_replicas_report_and_only_proxies_are_served(installed: Cluster) -> None:
    address = address_of(leader(installed))
    assert address is not None
    data = installed.get("secret", "tripylon-xds-tls", NAMESPACE)["data"]
    key, authority = (base64.b64decode(data[name]) for name in ("tls.key", "ca.crt"))
    trust = Trust(key, authority, SERVICE)
    account = f"{GATEWAYS[0]}-tripylon"
    proxy = installed.kubectl("create", "token", account, "--audience=tripylon-xds").strip()
    request = DeltaDiscoveryRequest(type_url=LDS)
    request.node.id, request.node.cluster = "somebody", f"default/{GATEWAYS[0]}"
    asked = request.SerializeToString()
    with installed.network():
        assert answer(address, trust, client.METHOD, proxy, asked) is None, "the token itself is good"
        assert answer(address, trust, METHOD, peer_token(key), b"{}") is None
        refused = (Status.PERMISSION_DENIED, Status.PERMISSION_DENIED)
        assert (answer(address, trust, METHOD, proxy, b"{}"), answer(address, trust, METHOD, "", b"{}")) == refused
        assert answer(address, trust, client.METHOD, peer_token(key), asked) is Status.PERMISSION_DENIED


def uid(cluster: Cluster, name: str) -> str:
    return cluster.kubectl("get", name, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")


# --- Asking ----------------------------------------------------------------------------------------------------------


def gateway(name: str, *ports: int) -> str:
    listeners = [{"name": f"http-{port}", "port": port, "protocol": "HTTP"} for port in ports or (80,)]
    spec = {"gatewayClassName": "tripylon", "listeners": listeners}
    return manifest("gateway.networking.k8s.io/v1", "Gateway", name, spec=spec)


def leader(cluster: Cluster) -> str:
    """Who holds the Lease."""
    return str(cluster.get("lease", "tripylon", NAMESPACE)["spec"].get("holderIdentity") or "")


def connected(cluster: Cluster) -> dict[str, int]:
    """How many proxies each replica holds, by its address."""
    pods = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
    found = {}
    for address in [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]:
        ran = cluster.run(["curl", "-sS", "--fail", "--max-time", "5", f"http://{address}:9092/metrics"], check=False)
        for line in ran.stdout.splitlines():
            if line.startswith("tripylon_xds_connected_proxies "):
                found[address] = int(float(line.split()[1]))
    return found


def spread(cluster: Cluster) -> None:
    """Makes sure that a follower holds proxies: chance has each of them ask another replica."""
    for _ in range(10):
        address = address_of(leader(cluster))
        assert address is not None
        wait_until(lambda: sum(connected(cluster).values()) == len(GATEWAYS), 20, "not all proxies are connected")
        if any(number for place, number in connected(cluster).items() if place != address.host):
            return
        cluster.kubectl("delete", "pod", "-l", "app.kubernetes.io/name=tripylon-proxy", "--wait=true")
        cluster.kubectl("wait", "--for=condition=Programmed", "gateway", "--all", "--timeout=20s")
    pytest.fail("all proxies ask the leader, again and again")


class Seen:
    """Every version of every Gateway that a watch told of."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def gateways(self) -> list[Any]:
        """All versions so far; a document that is not whole yet is left for later."""
        decoder, text, found = json.JSONDecoder(), self._place.read_text().lstrip(), []
        with contextlib.suppress(json.JSONDecodeError):
            while text:
                document, end = decoder.raw_decode(text)
                found.append(document)
                text = text[end:].lstrip()
        return found

    def programmed(self, name: str = "") -> list[tuple[str, int]]:
        """Status and generation of the Programmed conditions, of one Gateway or of all."""
        return [
            (condition["status"], condition["observedGeneration"])
            for each in self.gateways()
            if name in ("", each["metadata"]["name"])
            for condition in each["status"]["conditions"]
            if condition["type"] == "Programmed"
        ]


@contextlib.contextmanager
def statuses(cluster: Cluster) -> Iterator[Seen]:
    """What is told of Gateways within it."""
    place = cluster.folder / "gateways.json"
    command = cluster.inside(["kubectl", "get", "gateways", "--watch", "-o", "json"])
    with place.open("wb") as out:
        watch = subprocess.Popen(command, stdout=out, env=cluster.environment())
    try:
        seen = Seen(place)
        wait_until(lambda: len(seen.gateways()) >= len(GATEWAYS), 10, "the watch tells nothing")
        yield seen
    finally:
        watch.kill()
        watch.wait()


def answer(address: Address, trust: Trust, method: str, token: str, message: bytes) -> Status | None:
    """Why the server refuses a message; None: it answers."""
    return asyncio.run(ask(address, trust, method, token, message))


async def ask(address: Address, trust: Trust, method: str, token: str, message: bytes) -> Status | None:
    config = Configuration(ssl_target_name_override=trust.server_name)
    channel = Channel(*address, codec=RawCodec(), ssl=client_context(trust), config=config)
    metadata = {"authorization": f"Bearer {token}" if token else "-"}
    try:
        async with asyncio.timeout(10):
            async with channel.request(method, Cardinality.STREAM_STREAM, bytes, bytes, metadata=metadata) as stream:
                await stream.send_message(message)
                assert await stream.recv_message() is not None
                await stream.cancel()
    except GRPCError as error:
        return error.status
    finally:
        channel.close()
    return None
