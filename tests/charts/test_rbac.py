"""Roles: the controller may do what its code does and nothing else; people get what their role in a cluster needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
from tests.charts.rendered import COMBINATIONS, Object, Values, environment, objects, of_kind, one

from tripylon.api.kinds import KINDS, Kind
from tripylon.kube import manifests

NAMESPACE = "gateways"
STATUS = (
    *("GatewayClass", "Gateway", "ListenerSet", "BackendTLSPolicy", "Backend", "XBackend"),
    *("XBackendTrafficPolicy", "XTelemetryPolicy", "Ingress"),
    *("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"),
)
"""Kinds whose status is written; see `status/desired.py`."""


class Grant(NamedTuple):
    """One thing that is allowed or done: in a namespace, or cluster-wide when that is empty."""

    namespace: str
    resource: str
    verb: str
    name: str = ""


# --- What the code does -----------------------------------------------------------------------------------------------


def used(watched: Iterable[str], secrets: Iterable[str], *, lease: str, certificate: str) -> set[Grant]:
    """The requests of all parts of the controller that needs them."""
    found = {
        *grants("", "customresourcedefinitions.apiextensions.k8s.io", "list watch"),  # crds.py
        *grants("", "tokenreviews.authentication.k8s.io", "create"),  # tokens.py
        *grants(NAMESPACE, "leases.coordination.k8s.io", "create"),  # lease.py
        *grants(NAMESPACE, "leases.coordination.k8s.io", "get update", lease),
        *grants(NAMESPACE, "secrets", "create"),  # identity.py
        *grants(NAMESPACE, "secrets", "get update", certificate),
    }
    for kind in KINDS:
        for namespace in (secrets if kind.name == "Secret" else watched) if kind.namespaced else ("",):
            found |= {*grants(namespace, resource(kind), "list watch")}  # watch.py
            if kind.name in STATUS:  # report.py
                plural, dot, group = resource(kind).partition(".")
                found |= {*grants(namespace, f"{plural}/status{dot}{group}", "patch")}
                found |= {*grants(namespace, resource(kind), "get")}
    for api_version, name in manifests.KINDS:  # deploy.py, made.py; server-side apply makes what is not there
        group = api_version.rpartition("/")[0]
        for namespace in watched:
            found |= {*grants(namespace, f"{name.lower()}s.{group}".rstrip("."), "get list watch create patch delete")}
    return found


def grants(namespace: str, of: str, verbs: str, name: str = "") -> Iterator[Grant]:
    return (Grant(namespace, of, verb, name) for verb in verbs.split())


def resource(kind: Kind) -> str:
    return f"{kind.plural}.{kind.group}".rstrip(".")


# --- What the chart allows --------------------------------------------------------------------------------------------


def allowed(found: list[Object]) -> Iterator[Grant]:
    """All that the bindings of the controller's account allow it."""
    account = one(found, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    for binding in (*of_kind(found, "ClusterRoleBinding"), *of_kind(found, "RoleBinding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
        namespace = binding["metadata"].get("namespace", "")
        [role] = [
            each
            for each in of_kind(found, binding["roleRef"]["kind"])
            if (each["metadata"].get("namespace", ""), each["metadata"]["name"])
            == (namespace, binding["roleRef"]["name"])
        ]
        for rule in role["rules"]:
            yield from granted(rule, namespace)


def granted(rule: Object, namespace: str = "") -> Iterator[Grant]:
    for group in rule["apiGroups"]:
        for plural in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", ("",)):
                    yield Grant(namespace, f"{plural}.{group}".rstrip("."), verb, name)


@pytest.mark.parametrize(
    ("values", "watched", "secrets"),
    [
        ({}, [""], [""]),
        (COMBINATIONS["namespaces"], ["blog", "shop"], ["blog", "shop"]),
        (COMBINATIONS["listed Secrets"], [""], ["certs", "shop"]),
        (COMBINATIONS["namespaces and listed Secrets"], ["blog", "shop"], ["shop"]),
        (COMBINATIONS["cert-manager"], [""], [""]),
        (COMBINATIONS["a foreign account"], [""], [""]),
    ],
)
def test_the_controller_may_do_what_it_does_and_nothing_else(
    values: Values, watched: list[str], secrets: list[str]
) -> None:
    found = objects(values, namespace=NAMESPACE)
    told = environment(found)
    made = list(allowed(found))
    wanted = used(watched, secrets, lease=told["TRIPYLON_LEASE"], certificate=told["TRIPYLON_XDS_SECRET"])
    assert set(made) - wanted == set(), "allowed, and not used"
    assert wanted - set(made) == set(), "used, and not allowed"
    assert len(made) == len(set(made)) or watched == [""], "allowed twice"
    assert told["TRIPYLON_NAMESPACES"] == ",".join(values.get("watchNamespaces", ()))


def test_two_installations_do_not_share_the_binding() -> None:
    first, second = (one(objects(namespace=each), "ClusterRoleBinding") for each in ("one", "two"))
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert first["roleRef"] != second["roleRef"]


def test_without_roles_none_are_made() -> None:
    kinds = {each["kind"] for each in objects(COMBINATIONS["no roles"])}
    assert not [each for each in kinds if "Role" in each]


# --- People -----------------------------------------------------------------------------------------------------------

ALL_VERBS = {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
READ = {"get", "list", "watch"}


def aggregated(role: str) -> dict[str, set[str]]:
    """What one of Kubernetes' own roles gains: verbs by resource."""
    gained: dict[str, set[str]] = {}
    for each in of_kind(objects(), "ClusterRole"):
        if each["metadata"]["labels"].get(f"rbac.authorization.k8s.io/aggregate-to-{role}") == "true":
            for rule in each["rules"]:
                for grant in granted(rule):
                    gained.setdefault(grant.resource.partition(".")[0], set()).add(grant.verb)
    return gained


DEVELOPERS = {
    *("httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes", "listenersets"),
    *("backendtlspolicies", "backends", "xbackends", "xbackendtrafficpolicies"),
}
"""What whoever edits a namespace may write."""
OPERATORS = {"gateways", "referencegrants", "xtelemetrypolicies"}
"""What whoever administers it may write, too."""


def test_who_views_sees_everything_of_a_namespace() -> None:
    gained = aggregated("view")
    assert set(gained) == {each.plural for each in KINDS if each.namespaced and each.group.startswith("gateway.")}
    assert all(verbs == READ for verbs in gained.values())


def test_who_edits_writes_routes_and_backends_only() -> None:
    gained = aggregated("edit")
    assert {each for each, verbs in gained.items() if verbs == ALL_VERBS} == DEVELOPERS
    assert all(
        verbs == READ for each, verbs in gained.items() if each in ("gateways", "referencegrants", "xtelemetrypolicies")
    )


def test_who_administers_a_namespace_writes_gateways_too() -> None:
    gained = aggregated("admin")
    assert {each for each, verbs in gained.items() if verbs == ALL_VERBS} == {
        *DEVELOPERS,
        *OPERATORS,
    }


def test_classes_and_how_proxies_run_are_the_providers() -> None:
    role = one(objects(), "ClusterRole", "tripylon-infrastructure-provider")
    made = {grant.resource.partition(".")[0] for rule in role["rules"] for grant in granted(rule)}
    assert made == {"gatewayclasses", "gatewayparameters"}
    assert not [label for label in role["metadata"]["labels"] if "aggregate" in label]
