"""What is said of installed definitions."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.kube.scripted import Scripted, line, listing, stream
from tests.kube.test_watch import reading

from tripylon.kube.crds import Crd, about_class, judge
from tripylon.values import Ref

PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def crd(plural: str, version: str = "v1.7.0", channel: str = "standard") -> Crd:
    return Crd(name=f"{plural}.gateway.networking.k8s.io", bundle_version=version, channel=channel)


def metadata(plural: str, version: int, bundle: str = "v1.7.0") -> dict[str, Any]:
    marks = {
        "gateway.networking.k8s.io/bundle-version": bundle,
        "gateway.networking.k8s.io/channel": "standard",
    }
    name = f"{plural}.gateway.networking.k8s.io"
    return {"metadata": {"name": name, "resourceVersion": str(version), "annotations": marks}}


def test_one_release() -> None:
    report = judge([crd("httproutes"), crd("gatewayclasses")])
    assert (report.version, report.channel, report.supported, report.notes) == ("v1.7.0", "standard", True, ())
    assert [each.name.split(".")[0] for each in report.installed] == ["gatewayclasses", "httproutes"]


def test_nothing_installed() -> None:
    assert judge([]).version == ""
    assert judge([]).supported


def test_several_releases_or_channels_are_told() -> None:
    for other in (crd("httproutes", "v1.5.0"), crd("httproutes", channel="experimental")):
        report = judge([crd("gatewayclasses"), other])
        assert report.supported
        assert "httproutes" in report.notes[0]
        assert "install them all from one release" in report.notes[0]


def test_a_class_says_that_a_release_is_not_known() -> None:
    class_ = Ref("gateway.networking.k8s.io", "GatewayClass", "", "tripylon")
    assert about_class(judge([crd("gatewayclasses")]), class_) == ()
    (finding,) = about_class(judge([crd("gatewayclasses", "v1.8.0"), crd("httproutes")]), class_)
    assert (finding.condition, finding.reason) == ("SupportedVersion", "UnsupportedVersion")
    assert "v1.8.0" in finding.message
    assert "v1.7.0" not in finding.message


def test_a_release_that_is_not_known() -> None:
    for version in ("v1.8.0", "v2.0.0", "main"):
        report = judge([crd("gatewayclasses", version)])
        assert not report.supported
        assert version in report.notes[0]
    for version in ("v1.7.1", "v1.0.0", "v1.7.0-rc.1", ""):
        assert judge([crd("gatewayclasses", version)]).supported


async def test_changes_of_definitions_are_told(server: Scripted) -> None:
    other = {"metadata": {"name": "things.example.com", "resourceVersion": "1"}}
    server.lists[PATH].append(listing(other, metadata("httproutes", 2), version=3))
    server.watches[PATH].append(stream(line("MODIFIED", metadata("httproutes", 4, "v1.9.0")), then="stay"))
    server.lists["/apis/gateway.networking.k8s.io/v1/httproutes"].append(listing(version=1))
    async with reading(server) as reader:
        await reader.until(lambda: reader.watcher.crds.version == "v1.9.0")
        await asyncio.wait_for(reader.synced(), 20)
    assert reader.watcher.crds.version == "v1.9.0"
    assert [each.name for each in reader.watcher.crds.installed] == ["httproutes.gateway.networking.k8s.io"]
    assert [batch.crds.version for batch in reader.batches if batch.crds][-1] == "v1.9.0"
    assert "PartialObjectMetadataList" in server.asked(PATH)[0].headers["Accept"]
