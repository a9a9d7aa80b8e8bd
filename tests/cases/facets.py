"""The facets of an outcome in the words of cases: findings, status, hosts with their routes, xDS resources.

`actual` gives them in the shape of what is expected, so that the two can be compared and a case rewritten.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message_factory import GetMessageClass
from tests.cases.harness import NOW, Outcome, by_name
from tests.cases.words import host_lines, host_name, stream_line, stream_name

from tripylon.api.gateway import GatewayClassStatus, GatewayStatus, GatewayStatusAddress, ListenerStatus
from tripylon.api.ingress import IngressStatus
from tripylon.api.listener_sets import ListenerSetStatus
from tripylon.api.meta import Condition
from tripylon.api.own import BackendStatus
from tripylon.api.policies import PolicyStatus
from tripylon.api.refs import ParentReference
from tripylon.api.routes import RouteStatus
from tripylon.api.x_backends import XBackendStatus
from tripylon.envoy.static import decode
from tripylon.findings import Finding
from tripylon.model.hosts import HOSTS
from tripylon.model.stream_plans import STREAMS
from tripylon.pb import pool
from tripylon.status.desired import Status, desired

GOOD = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}
GOOD_LISTENER = {**GOOD, "Programmed": "True Programmed", "Conflicted": "False NoConflicts"}


def actual(outcome: Outcome, expect: dict[str, Any]) -> dict[str, Any]:
    """What an outcome shows of each facet that a case speaks of; an empty `expect` asks for all but xDS."""
    wanted = expect or {"findings": [], "status": {}, "hosts": {}}
    made: dict[str, Any] = {}
    if "refused" in wanted or outcome.refused:
        made["refused"] = _fragments(wanted.get("refused", []), list(outcome.refused))
    if "findings" in wanted or outcome.findings:
        made["findings"] = _findings(wanted.get("findings", []), outcome.findings)
    if "status" in wanted:
        made["status"] = _statuses(outcome, wanted["status"])
    if "hosts" in wanted:
        made["hosts"] = _hosts(outcome, wanted["hosts"])
    if "streams" in wanted:
        made["streams"] = _streams(outcome, wanted["streams"])
    if "xds" in wanted:
        made["xds"] = _xds(outcome, wanted["xds"])
    return made


# --- Findings ------------------------------------------------------------------------------------------------------


def _fragments(wanted: list[str], found: list[str]) -> list[str]:
    """Each text, shown as the fragment of it that is expected in its place."""
    return [
        wanted[place] if place < len(wanted) and _within(wanted[place], text) else text
        for place, text in enumerate(found)
    ]


def _within(fragment: str, text: str) -> bool:
    """Whether the parts of `fragment` around ` … ` stand in `text` in this order."""
    at = 0
    for part in fragment.split(" … "):
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def _findings(wanted: list[dict[str, str]], found: tuple[Finding, ...]) -> list[dict[str, str]]:
    """All findings, the expected ones in their order; a message is shown as the fragment that is expected."""
    left = [_finding(finding) for finding in found]
    ordered: list[dict[str, str]] = []
    for each in wanted:
        match = next((one for one in left if _same(each, one)), None)
        if match is not None:
            left.remove(match)
            ordered.append(each)
    return ordered + left


def _same(wanted: dict[str, str], one: dict[str, str]) -> bool:
    return all(one.get(key) == value for key, value in wanted.items() if key != "says") and _within(
        wanted.get("says", ""), one["says"]
    )


def _finding(finding: Finding) -> dict[str, str]:
    severity = "" if finding.severity == "error" else f"{finding.severity} "
    made = {"about": str(finding.object), "is": f"{severity}{finding.condition} {finding.reason}"}
    if finding.field:
        made["at"] = finding.field
    hint = f" ({finding.hint})" if finding.hint else ""
    return made | {"says": finding.message + hint}


# --- Status --------------------------------------------------------------------------------------------------------


def _statuses(outcome: Outcome, wanted: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, resource in by_name(outcome.resources):
        if wanted and name not in wanted:
            continue
        status = desired(outcome.graph, resource, options=outcome.options, programming=outcome.programming, now=NOW)
        if status is not None or name in wanted:
            made[name] = _status(status, wanted.get(name))
    return made


def _status(status: Status | None, wanted: Any) -> Any:
    keys = wanted if isinstance(wanted, dict) else None
    match status:
        case RouteStatus():
            return {
                _parent(entry.parent_ref): _conditions(entry.conditions, (keys or {}).get(_parent(entry.parent_ref)))
                for entry in status.parents
            }
        case PolicyStatus() | XBackendStatus():
            return {
                name: _conditions(entry.conditions, (keys or {}).get(name))
                for entry in status.ancestors
                for name in (_parent(entry.ancestor_ref),)
            }
        case GatewayStatus() | ListenerSetStatus():
            return _gateway(status, keys, wanted)
        case GatewayClassStatus():
            features = {"features": [each.name for each in status.supported_features]}
            return _pruned(_plain(status.conditions) | (features if keys and "features" in keys else {}), keys)
        case BackendStatus():
            return _conditions(status.conditions, wanted)
        case IngressStatus():
            return [each.ip or each.hostname for each in status.load_balancer.ingress]
    return "none"


def _gateway(status: GatewayStatus | ListenerSetStatus, keys: dict[str, Any] | None, wanted: Any) -> Any:
    listeners = keys.get("listeners") if keys is not None else None
    made = _plain(status.conditions)
    good = {"Accepted": "True Accepted", "Programmed": "True Programmed"}
    if isinstance(status, GatewayStatus):
        good |= GOOD
        made |= {"addresses": [_address(each) for each in status.addresses]}
        made |= {"sets": status.attached_listener_sets} if keys and "sets" in keys else {}
    made |= {
        "listeners": {
            each.name: _listener(each, listeners.get(each.name) if isinstance(listeners, dict) else None)
            for each in status.listeners
            if not isinstance(listeners, dict) or each.name in listeners
        }
    }
    if wanted == "good":
        bare = {key: made[key] for key in good}
        return "good" if bare == good and all(_is_good(each) for each in status.listeners) else made
    return _pruned(made, keys)


def _address(address: GatewayStatusAddress) -> str:
    return f"{address.type} {address.value} {address.routability}".rstrip()


def _listener(status: ListenerStatus, wanted: Any) -> Any:
    made = _plain(status.conditions) | {
        "kinds": [each.kind for each in status.supported_kinds],
        "routes": status.attached_routes,
    }
    if wanted == "good" and _is_good(status):
        return "good"
    return _pruned(made, wanted if isinstance(wanted, dict) else None)


def _is_good(status: ListenerStatus) -> bool:
    plain = _plain(status.conditions)
    plain.pop("OverlappingTLSConfig", None)
    return plain == GOOD_LISTENER


def _conditions(conditions: tuple[Condition, ...], wanted: Any) -> Any:
    made = _plain(conditions)
    if wanted == "good":
        whole = GOOD if "ResolvedRefs" in made else {"Accepted": "True Accepted"}
        return "good" if made == whole else made
    return _pruned(made, wanted if isinstance(wanted, dict) else None)


def _plain(conditions: tuple[Condition, ...]) -> dict[str, Any]:
    return {each.type: f"{each.status} {each.reason}" for each in conditions}


def _pruned(made: dict[str, Any], keys: dict[str, Any] | None) -> dict[str, Any]:
    return made if keys is None else {key: made.get(key, "absent") for key in keys}


def _parent(ref: ParentReference) -> str:
    namespace = f"{ref.namespace}/" if ref.namespace else ""
    return (
        f"{namespace}{ref.name}"
        + (f"#{ref.section_name}" if ref.section_name else "")
        + (f":{ref.port}" if ref.port is not None else "")
    )


# --- Hosts and xDS -------------------------------------------------------------------------------------------------


def _hosts(outcome: Outcome, wanted: dict[str, Any]) -> dict[str, Any]:
    hosts = {host_name(key): host_lines(plan) for key, plan in outcome.graph.rows(HOSTS).items()}
    if not wanted:
        return dict(sorted(hosts.items()))
    return {name: hosts.get(name, "none") for name in wanted}


def _streams(outcome: Outcome, wanted: dict[str, Any]) -> dict[str, Any]:
    streams = {stream_name(key): stream_line(plan) for key, plan in outcome.graph.rows(STREAMS).items()}
    if not wanted:
        return dict(sorted(streams.items()))
    return {name: streams.get(name, "none") for name in wanted}


def _xds(outcome: Outcome, wanted: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for kind, named in decode(outcome.xds).items():
        for name, body in named.items():
            key = f"{kind.rpartition('.')[2]} {name}"
            if key in wanted:
                made[key] = _projected(_message(kind, body), wanted[key])
    return {key: made.get(key, "none") for key in wanted}


def _message(kind: str, body: bytes) -> Any:
    message = GetMessageClass(pool().FindMessageTypeByName(kind)).FromString(body)
    return json.loads(MessageToJson(message, preserving_proto_field_name=True, descriptor_pool=pool()))


def _projected(value: Any, shape: Any) -> Any:
    """The parts of a value that a shape names; a list is compared whole, item by item."""
    if isinstance(value, dict) and isinstance(shape, dict):
        return {key: _projected(value[key], shape[key]) if key in value else "absent" for key in shape}
    if isinstance(value, list) and isinstance(shape, list):
        return [_projected(each, shape[i]) if i < len(shape) else each for i, each in enumerate(value)]
    return value
