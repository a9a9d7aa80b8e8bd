"""One replica as a whole, as far as it goes without a cluster: how its parts are wired."""

from __future__ import annotations

import re

from tripylon.controller import Replica
from tripylon.kube.client import Client
from tripylon.kube.config import ClusterConfig
from tripylon.settings import ControllerSettings


async def test_requests_to_the_api_server_are_counted() -> None:
    async with Client(ClusterConfig(server="https://127.0.0.1:1")) as client:
        replica = Replica(ControllerSettings(identity="one", advertise="127.0.0.1"), client)
        client.on_call("patch", "gateways/status", 200, 0.01)
        client.on_call("patch", "gateways/status", 200, 0.01)
        client.on_call("watch", "httproutes", 0, 1.0)
        text = replica._metrics.render().decode()
    counted = dict(re.findall(r"^tripylon_kube_requests_total\{(.*)\} (.*)$", text, re.MULTILINE))
    assert counted == {
        'code="200",resource="gateways/status",verb="patch"': "2.0",
        'code="0",resource="httproutes",verb="watch"': "1.0",
    }


async def test_a_replica_that_has_just_begun_says_what_it_waits_for() -> None:
    async with Client(ClusterConfig(server="https://127.0.0.1:1")) as client:
        replica = Replica(ControllerSettings(identity="one", advertise="127.0.0.1"), client)
        assert replica.faults() == ("waiting for Secret tripylon-system/tripylon-xds-tls",)
        assert (replica.ready, replica.leading) == (False, False)
