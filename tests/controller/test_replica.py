"""One replica as a whole, as far as it goes without a cluster: how its parts are wired."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
import pytest

from tripylon import controller
from tripylon.api.gateway import GatewayClass, GatewayClassSpec
from tripylon.api.meta import ObjectMeta
from tripylon.api.routes import HTTPRoute
from tripylon.controller import Replica
from tripylon.errors import TripylonError
from tripylon.findings import Finding
from tripylon.kube.client import Client
from tripylon.kube.config import ClusterConfig
from tripylon.kube.crds import Crd, judge
from tripylon.kube.failures import ApiError, Backoff
from tripylon.kube.identity import Identity, IdentityError, Served
from tripylon.kube.watch import Batch, Watcher
from tripylon.settings import ControllerSettings
from tripylon.world.world import ROUTES


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


async def test_a_certificate_that_cannot_be_served_is_waited_for_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "Backoff", lambda: Backoff(first=0.001, most=0.002))
    made = Served(b"", b"", b"")
    answers: list[Served | TripylonError] = [IdentityError("Secret x lacks tls.crt"), ApiError(403, "", "no"), made]
    faults: list[str] = []

    async with Client(ClusterConfig(server="https://127.0.0.1:1")) as client:
        replica = Replica(ControllerSettings(identity="one", advertise="127.0.0.1"), client)

        async def load(_: Identity) -> Served:
            faults.extend(replica.faults())
            answer = answers.pop(0)
            if isinstance(answer, TripylonError):
                raise answer
            return answer

        monkeypatch.setattr(Identity, "load", load)
        monkeypatch.setattr(controller, "Certificate", lambda *_: object())
        await replica._identify()
    waiting = "waiting for Secret tripylon-system/tripylon-xds-tls"
    assert faults == [waiting, f"{waiting}: Secret x lacks tls.crt", f"{waiting}: no"]


def route(name: str) -> HTTPRoute:
    obj = {"metadata": {"name": name, "namespace": "shop"}, "spec": {}}
    head = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
    return msgspec.convert(head | obj, HTTPRoute)


async def test_what_changes_before_all_is_listed_counts_as_it_was_told_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first build, batches wait: an object that was deleted or mended meanwhile must not come back."""
    gone, mended, broken = route("gone"), route("mended"), route("broken")
    of = {
        each.metadata.name: Finding(object=each.ref, condition="Accepted", reason="Unreadable", message="unreadable")
        for each in (mended, broken)
    }
    told = (
        Batch(put=(gone, broken), findings=(of["mended"],)),
        Batch(put=(mended,), delete=(gone.ref,), findings=(of["broken"],)),
        Batch(synced=True),
    )

    async def batches(_: Watcher) -> AsyncIterator[Batch]:
        for each in told:
            yield each
        await asyncio.sleep(3600)

    monkeypatch.setattr(Watcher, "__aiter__", batches)
    monkeypatch.setattr(Watcher, "synced", True)
    async with Client(ClusterConfig(server="https://127.0.0.1:1")) as client:
        replica = Replica(ControllerSettings(identity="one", advertise="127.0.0.1"), client)
        taking = asyncio.create_task(replica._take())
        async with asyncio.timeout(10):
            await replica._synced.wait()
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
    assert sorted(name.name for name in replica.graph.rows(ROUTES)) == ["broken", "mended"]
    assert [each.message for each in replica.graph.findings(mended.ref)] == []
    assert [each.message for each in replica.graph.findings(broken.ref)] == ["unreadable"]


async def test_a_class_of_ours_says_that_the_definitions_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = GatewayClass(
        metadata=ObjectMeta(name="ours"), spec=GatewayClassSpec(controller_name="gateway.tripylon.dev/controller")
    )
    definition = Crd(name="gatewayclasses.gateway.networking.k8s.io", bundle_version="v1.9.0")
    async with Client(ClusterConfig(server="https://127.0.0.1:1")) as client:
        replica = Replica(ControllerSettings(identity="one", advertise="127.0.0.1"), client)
        replica._apply(Batch(put=(ours,)))
        assert replica.graph.findings(ours.ref) == ()
        monkeypatch.setattr(Watcher, "crds", judge([definition]))
        replica._apply(Batch(crds=judge([definition])))
        assert [each.reason for each in replica.graph.findings(ours.ref)] == ["UnsupportedVersion"]
        replica._apply(Batch(delete=(ours.ref,)))
        assert replica.graph.findings(ours.ref) == ()
