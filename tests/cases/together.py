"""Many cases before one Envoy: a start of Envoy costs more than a case.

Names and ports of different cases collide, so they are made different; what the names stand for stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.cases.certificates import authorities
from tests.cases.harness import Case, run

from tripylon.envoy.static import static_config
from tripylon.envoy.verify import verify, verify_resources
from tripylon.pb.messages import Bootstrap

_FIRST_PORT = 10_000


def refused_by_envoy(cases: Iterable[Case], folder: Path) -> list[str]:
    """What Envoy refuses, as `case: type name: why`."""
    system = folder / "system-ca.pem"
    system.write_text(authorities()["ca.crt"])
    resources = {case.name: run(case, system_ca=str(system)).xds for case in cases}
    together = Bootstrap()
    secrets: dict[str, bytes] = {}
    apart: list[str] = []
    for number, (name, each) in enumerate(resources.items()):
        one = Bootstrap.FromString(static_config(each))
        mine = {secret.name: secret.SerializeToString(deterministic=True) for secret in one.static_resources.secrets}
        if any(secrets.get(secret, body) != body for secret, body in mine.items()):
            apart.append(name)
            continue
        _add(together, one, number, secrets)
        secrets |= mine
    suspects = apart if not verify(together.SerializeToString(deterministic=True)) else list(resources)
    return [
        f"{name}: {refusal.type.rpartition('.')[2]} {refusal.name}: {refusal.message}"
        for name in suspects
        for refusal in verify_resources(resources[name])
    ]


def _add(together: Bootstrap, one: Bootstrap, number: int, known: dict[str, bytes]) -> None:
    static = together.static_resources
    static.secrets.extend(each for each in one.static_resources.secrets if each.name not in known)
    for cluster in one.static_resources.clusters:
        cluster.name = f"{number}/{cluster.name}"
        if cluster.HasField("load_assignment"):
            cluster.load_assignment.cluster_name = cluster.name
        static.clusters.append(cluster)
    for listener in one.static_resources.listeners:
        listener.name = f"{number}/{listener.name}"
        for address in (listener.address, *(each.address for each in listener.additional_addresses)):
            address.socket_address.port_value = _FIRST_PORT + len(static.listeners)
        static.listeners.append(listener)
