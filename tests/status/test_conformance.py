"""The Gateway API's own conformance manifests: the status that its suite asks for, none that a cluster would refuse.

Only what needs no cluster and is served here: Gateway, GatewayClass, HTTPRoute and GRPCRoute. Requests are in `live/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from tests.api import upstream
from tests.cases.harness import NOW, Case, Outcome, run
from tests.cases.together import refused_by_envoy

from tripylon.api.gateway import Gateway, GatewayStatus
from tripylon.api.kinds import KINDS, kind_of
from tripylon.api.meta import Condition, Resource
from tripylon.api.routes import GRPCRoute, HTTPRoute, RouteStatus
from tripylon.api.validate import validate
from tripylon.model.options import CONTROLLER_NAME
from tripylon.status.desired import Status, desired, with_status

INFRA, WEB = "gateway-conformance-infra", "gateway-conformance-web-backend"
EXCUSED = "gateway-api/skip-this-for-readiness"
CLASS: dict[str, Any] = {"kind": "GatewayClass", "name": "tripylon", "spec": {"controllerName": CONTROLLER_NAME}}
SECRETS: tuple[dict[str, Any], ...] = (
    {"kind": "Secret", "name": "tls-validity-checks-certificate", "namespace": INFRA, "certificate": {}},
    {"kind": "Secret", "name": "certificate", "namespace": WEB, "certificate": {}},
)
"""What the suite makes for its manifests."""
PLACEHOLDERS = (
    ("{GATEWAY_CLASS_NAME}", "tripylon"),
    ("{GATEWAY_CONTROLLER_NAME}", CONTROLLER_NAME),
    ("PLACEHOLDER_UNUSABLE_ADDRS", "203.0.113.9"),
    ("PLACEHOLDER_USABLE_ADDRS", "127.0.0.2"),
)
_KINDS = frozenset(kind.name for kind in KINDS)


class Wanted(NamedTuple):
    """One thing that the suite looks for."""

    file: str
    object: str
    """Name of a Gateway, or of a route of namespace infra unless another one is stated with a slash."""
    place: str
    """Listener of the Gateway (empty: as a whole), or name of the route's parent."""
    says: tuple[str, ...]
    """`type status [reason]`, `kinds …` or `routes n`."""


UNRESOLVED_TLS = ("ResolvedRefs False InvalidCertificateRef", "kinds GRPCRoute HTTPRoute")
WANTED = (
    Wanted("gateway-infrastructure", "gateway-with-infrastructure-metadata", "", ("Accepted True",)),
    Wanted(
        "gateway-invalid-parameters-ref",
        "gateway-invalid-parameters-ref",
        "",
        ("Accepted False InvalidParameters",),
    ),
    Wanted(
        "gateway-invalid-listeners-unsupported-protocol",
        "gateway-only-unsupported-protocols",
        "",
        ("Accepted False ListenersNotValid",),
    ),
    Wanted(
        "gateway-invalid-listeners-unsupported-protocol",
        "gateway-only-unsupported-protocols",
        "invalid",
        ("Accepted False UnsupportedProtocol", "kinds", "routes 0"),
    ),
    Wanted(
        "gateway-invalid-listeners-unsupported-protocol",
        "gateway-supported-and-unsupported-protocols",
        "",
        ("Accepted True ListenersNotValid", "Programmed True"),
    ),
    Wanted(
        "gateway-invalid-listeners-unsupported-protocol",
        "gateway-supported-and-unsupported-protocols",
        "http",
        ("Accepted True Accepted",),
    ),
    Wanted(
        "gateway-invalid-route-kind",
        "gateway-only-invalid-route-kind",
        "http",
        ("ResolvedRefs False InvalidRouteKinds", "kinds"),
    ),
    Wanted(
        "gateway-invalid-route-kind",
        "gateway-supported-and-invalid-route-kind",
        "http",
        ("ResolvedRefs False InvalidRouteKinds", "kinds HTTPRoute"),
    ),
    Wanted("gateway-invalid-tls-configuration", "gateway-certificate-nonexistent-secret", "https", UNRESOLVED_TLS),
    Wanted("gateway-invalid-tls-configuration", "gateway-certificate-unsupported-group", "https", UNRESOLVED_TLS),
    Wanted("gateway-invalid-tls-configuration", "gateway-certificate-unsupported-kind", "https", UNRESOLVED_TLS),
    Wanted("gateway-invalid-tls-configuration", "gateway-certificate-malformed-secret", "https", UNRESOLVED_TLS),
    Wanted("gateway-modify-listeners", "gateway-add-listener", "", ("Accepted True Accepted",)),
    Wanted(
        "gateway-secret-invalid-reference-grant",
        "gateway-secret-invalid-reference-grant",
        "https",
        ("ResolvedRefs False RefNotPermitted", "kinds GRPCRoute HTTPRoute"),
    ),
    Wanted(
        "gateway-secret-missing-reference-grant",
        "gateway-secret-missing-reference-grant",
        "https",
        ("ResolvedRefs False RefNotPermitted",),
    ),
    Wanted(
        "gateway-secret-missing-reference-grant",
        "gateway-secret-missing-reference-grant",
        "https-nonexistent-secret",
        ("ResolvedRefs False RefNotPermitted",),
    ),
    Wanted(
        "gateway-secret-reference-grant-all-in-namespace",
        "gateway-secret-reference-grant-all-in-namespace",
        "https",
        ("Programmed True Programmed", "ResolvedRefs True ResolvedRefs"),
    ),
    Wanted(
        "gateway-secret-reference-grant-specific",
        "gateway-secret-reference-grant-specific",
        "https",
        ("Programmed True Programmed", "ResolvedRefs True ResolvedRefs"),
    ),
    Wanted("gateway-static-addresses", "gateway-static-addresses", "", ("Accepted False UnsupportedAddress",)),
    Wanted("gateway-with-attached-routes", "gateway-with-one-attached-route", "http", ("routes 1",)),
    Wanted("gateway-with-attached-routes", "gateway-with-two-attached-routes", "http", ("routes 2",)),
    Wanted(
        "gateway-with-attached-routes",
        "http-route-not-accepted",
        "gateway-with-two-attached-routes",
        ("Accepted False NoMatchingListenerHostname",),
    ),
    Wanted(
        "gateway-with-attached-routes",
        "unresolved-gateway-with-one-attached-unresolved-route",
        "tls",
        ("Programmed False", "ResolvedRefs False", "routes 1"),
    ),
    Wanted(
        "gateway-with-attached-routes",
        "http-route-4",
        "unresolved-gateway-with-one-attached-unresolved-route",
        ("ResolvedRefs False",),
    ),
    Wanted(
        "gateway-with-attached-routes-with-port-8080",
        "gateway-with-two-listeners-and-one-attached-route",
        "http-unattached",
        ("routes 0", "Accepted True"),
    ),
    Wanted(
        "httproute-disallowed-kind",
        "disallowed-kind",
        "tlsroutes-only",
        ("Accepted False NotAllowedByListeners", "ResolvedRefs True ResolvedRefs"),
    ),
    Wanted("httproute-hostname-intersection", "httproute-hostname-intersection", "listener-1", ("routes 2",)),
    Wanted("httproute-hostname-intersection", "httproute-hostname-intersection", "listener-2", ("routes 1",)),
    Wanted("httproute-hostname-intersection", "httproute-hostname-intersection", "listener-3", ("routes 1",)),
    Wanted(
        "httproute-hostname-intersection",
        "no-intersecting-hosts",
        "httproute-hostname-intersection",
        ("Accepted False NoMatchingListenerHostname",),
    ),
    Wanted(
        "httproute-invalid-backendref-unknown-kind",
        "invalid-backend-ref-unknown-kind",
        "same-namespace",
        ("Accepted True Accepted", "ResolvedRefs False InvalidKind"),
    ),
    Wanted(
        "httproute-invalid-cross-namespace-backend-ref",
        "invalid-cross-namespace-backend-ref",
        "same-namespace",
        ("Accepted True Accepted", "ResolvedRefs False RefNotPermitted"),
    ),
    Wanted(
        "httproute-invalid-cross-namespace-parent-ref",
        f"{WEB}/invalid-cross-namespace-parent-ref",
        "same-namespace",
        ("Accepted False NotAllowedByListeners", "ResolvedRefs True ResolvedRefs"),
    ),
    Wanted(
        "httproute-invalid-nonexistent-backendref",
        "invalid-nonexistent-backend-ref",
        "same-namespace",
        ("Accepted True Accepted", "ResolvedRefs False BackendNotFound"),
    ),
    Wanted(
        "httproute-invalid-parentref-not-matching-listener-port",
        "httproute-listener-not-matching-route-port",
        "same-namespace",
        ("Accepted False NoMatchingParent", "ResolvedRefs True ResolvedRefs"),
    ),
    Wanted(
        "httproute-invalid-parentref-not-matching-section-name",
        "httproute-listener-not-matching-section-name",
        "same-namespace",
        ("Accepted False NoMatchingParent",),
    ),
    Wanted(
        "httproute-invalid-parentref-section-name-not-matching-port",
        "httproute-listener-section-name-not-matching-port",
        "gateway-with-one-not-matching-port-and-section-name-route",
        ("Accepted False NoMatchingParent",),
    ),
    Wanted(
        "httproute-invalid-reference-grant",
        "reference-grant",
        "same-namespace",
        ("Accepted True Accepted", "ResolvedRefs False RefNotPermitted"),
    ),
    Wanted(
        "httproute-partially-invalid-via-invalid-reference-grant",
        "invalid-reference-grant",
        "same-namespace",
        ("Accepted True Accepted", "ResolvedRefs False RefNotPermitted"),
    ),
)


def files() -> list[Path]:
    """The manifests of the tests of what is served here."""
    folder = upstream.module(upstream.CONFORMANCE) / "tests"
    served = ("gateway-", "gatewayclass-", "httproute-", "grpcroute-")
    return sorted(file for file in folder.glob("*.yaml") if file.name.startswith(served))


def case(file: Path) -> Case:
    """A test's manifests together with those that all tests share."""
    base = upstream.module(upstream.CONFORMANCE) / "base/manifests.yaml"
    objects = (CLASS, *SECRETS, *_objects(base), *_objects(file))
    return Case(file, file.stem, {"standalone": False}, objects, {})


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    text = file.read_text()
    for placeholder, value in PLACEHOLDERS:
        text = text.replace(placeholder, value)
    for each in yaml.load_all(text, yaml.CSafeLoader):
        if isinstance(each, dict) and each.get("kind") in _KINDS:
            yield each


@cache
def outcome(stem: str) -> Outcome:
    return run(case(next(file for file in files() if file.stem == stem)))


def status_of(found: Outcome, resource: Resource) -> Status | None:
    return desired(found.graph, resource, options=found.options, programming=None, now=NOW)


@pytest.mark.parametrize("wanted", WANTED, ids=lambda each: f"{each.file}-{each.object}-{each.place}"[:120])
def test_the_suite_finds_what_it_looks_for(wanted: Wanted) -> None:
    said = list(_said(outcome(wanted.file), wanted))
    for words in wanted.says:
        assert any(f"{each} ".startswith(f"{words} ") for each in said), f"{words!r} is not in {said}"


def _said(found: Outcome, wanted: Wanted) -> Iterator[str]:
    namespace, _, name = wanted.object.rpartition("/")
    for resource in found.resources:
        if (resource.metadata.namespace, resource.metadata.name) != (namespace or INFRA, name):
            continue
        match status_of(found, resource):
            case GatewayStatus() as status if not wanted.place:
                yield from map(_words, status.conditions)
            case GatewayStatus() as status:
                listener = next(each for each in status.listeners if each.name == wanted.place)
                yield from map(_words, listener.conditions)
                yield " ".join(("kinds", *sorted(kind.kind for kind in listener.supported_kinds)))
                yield f"routes {listener.attached_routes}"
            case RouteStatus() as status:
                for entry in status.parents:
                    if entry.parent_ref.name == wanted.place:
                        yield from map(_words, entry.conditions)


def _words(condition: Condition) -> str:
    return f"{condition.type} {condition.status} {condition.reason}"


def test_every_manifest_is_taken_and_gets_a_status_that_a_cluster_would_take() -> None:
    seen = 0
    for file in files():
        found = outcome(file.stem)
        assert not found.refused, file.name
        for resource in found.resources:
            status = status_of(found, resource)
            if status is None:
                assert not isinstance(resource, Gateway), (file.name, resource.ref)
                continue
            seen += 1
            assert validate(kind_of(resource), with_status(resource, status)) == (), (file.name, resource.ref)
            if isinstance(resource, Gateway) and isinstance(status, GatewayStatus):
                assert [each.name for each in status.listeners] == [each.name for each in resource.spec.listeners]
            if isinstance(resource, HTTPRoute | GRPCRoute) and isinstance(status, RouteStatus):
                assert {entry.parent_ref for entry in status.parents} <= set(resource.spec.parent_refs)
    assert seen > 200


def test_every_gateway_that_is_not_excused_gets_ready() -> None:
    """The suite waits for it: a broken listener or certificate must not keep its Gateway from being ready."""
    for file in files():
        found = outcome(file.stem)
        for resource in found.resources:
            if not isinstance(resource, Gateway) or _is_excused(resource):
                continue
            status = status_of(found, resource)
            assert isinstance(status, GatewayStatus)
            verdicts = {each.type: each.status for each in status.conditions}
            assert (verdicts["Accepted"], verdicts["Programmed"]) == ("True", "True"), (file.name, resource.ref)


def _is_excused(gateway: Gateway) -> bool:
    """Excused by the suite; or it has only listeners of protocols that are not served, or checks clients by TLS."""
    return (
        gateway.metadata.annotations.get(EXCUSED) == "true"
        or not any(listener.protocol in ("HTTP", "HTTPS") for listener in gateway.spec.listeners)
        or (gateway.spec.tls is not None and gateway.spec.tls.frontend is not None)
    )


def test_envoy_takes_what_every_manifest_becomes(tmp_path: Path) -> None:
    assert refused_by_envoy([case(file) for file in files()], tmp_path) == []
