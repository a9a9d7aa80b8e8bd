"""Sends the rows of request tables to a real gateway and says, in words, what was not as expected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import msgspec
from tests.live import clients
from tests.live.fleet import Manifest
from tests.live.manifests import Places, full_name
from tests.live.table import ListenerStatus, ObjectStatus, ParentStatus, Row

TOLERANCE = 5.0
"""Percentage points by which a share may differ from the weight."""
TRIES = 4
"""How often a share may be measured: one in fifty honest measurements of 500 requests is outside of the tolerance."""

_IMPLIED_PORT = re.compile(r"^(http://[^/:]+(?=:80/)|https://[^/:]+(?=:443/)):\d+")

Dial = Callable[[str, int, str], clients.Target]


def ask(row: Row, places: Places, dial: Dial, default_gateway: str) -> list[str]:
    """Sends a row's requests; each returned text is one thing that was not as expected."""
    row = msgspec.structs.replace(row, host=places.resolve(row.host), path=places.resolve(row.path))
    port = row.port or (443 if row.over in {"https", "https2"} else 80)
    secure = row.over in {"https", "https2"} or (row.over == "grpc" and bool(row.sni))
    sni = (row.sni or row.host.partition(":")[0]) if secure else ""
    target = dial(row.to or default_gateway, port, sni)
    try:
        if row.over == "websocket":
            messages = ("hello", b"\x00\xff")
            return _differs("the messages echoed", messages, clients.websocket(target, _call(row), messages))
        if row.shares:
            return _shares(row, target)
        if row.over == "grpc":
            return _grpc(row, target)
        return _http(row, places, target)
    except (OSError, *clients.ProtocolError) as error:
        return [f"no answer: {error!r}"]


def _call(row: Row) -> clients.Call:
    return clients.Call(method=row.method, path=row.path, host=row.host, headers=_fields(row))


def _fields(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value)
        for name, values in row.headers.items()
        for value in ([values] if isinstance(values, str) else values)
    )


def _http(row: Row, places: Places, target: clients.Target) -> list[str]:
    client = clients.http1 if row.over in {"http1", "https"} else clients.http2
    for _ in range(row.times):
        answer = client(target, _call(row))
        problems = _differs("status", row.status, answer.status) + _of_answer(row, places, answer)
        problems += _of_pod(row, answer.pod, answer.seen)
        if problems:
            return problems
    return []


def _of_answer(row: Row, places: Places, answer: clients.Answer) -> list[str]:
    problems = []
    for name, value in row.answer_headers.items():
        problems += _differs(f"answer header {name}", _spaced(value), _spaced(answer.header(name)))
    for name, values in row.answer_lists.items():
        listed = {part.strip().lower() for part in (answer.header(name) or "").split(",")}
        if listed != {value.lower() for value in values}:
            problems.append(f"answer header {name} is {answer.header(name)!r}, not {list(values)}")
    for name, allowed in row.answer_one_of.items():
        if answer.header(name) not in allowed:
            problems.append(f"answer header {name} is {answer.header(name)!r}, none of {list(allowed)}")
    present = [name for name in row.absent_headers if answer.header(name) is not None]
    problems += [f"answer headers {present} should be absent"] if present else []
    if row.location:
        problems += _differs("location", _portless(places.resolve(row.location)), _portless(answer.header("location")))
    return problems


def _of_pod(row: Row, pod: str, seen: dict[str, object]) -> list[str]:
    if row.any_pod and not row.pod_header:
        return []
    if not (row.pod or row.pod_header):
        return _differs("pod", "", pod)
    problems = _differs("pod", full_name(row.pod), deployment(pod)) if row.pod else []
    if not seen:
        return problems or ["no pod answered"]
    if row.over != "grpc":
        problems += _differs("path at the pod", row.seen_path or row.path, seen["path"])
        problems += _differs("host at the pod", row.seen_host or row.host, seen["host"])
        problems += _differs("protocol at the pod", row.seen_proto or seen["proto"], seen["proto"])
    headers = msgspec.convert(seen["headers"], type=dict[str, list[str]])
    for name, value in row.seen_headers.items():
        problems += _differs(f"header {name} at the pod", _spaced(value), _spaced(_joined(headers, name)))
    present = [name for name in row.unseen_headers if _joined(headers, name) is not None]
    problems += [f"headers {present} should not reach the pod"] if present else []
    if row.pod_header:
        own = deployment(pod).partition("/")[2]
        problems += _differs(f"header {row.pod_header} at the pod", own, _joined(headers, row.pod_header))
    return problems


def _grpc(row: Row, target: clients.Target) -> list[str]:
    with clients.GrpcSession(target, row.host) as session:
        for _ in range(row.times):
            answer = session.call(row.call, _fields(row))
            problems = _differs("code", row.code, answer.code) + _of_pod(row, answer.pod, answer.seen)
            headers = dict(answer.headers)
            for name, value in row.answer_headers.items():
                problems += _differs(f"answer header {name}", value, headers.get(name.lower()))
            if problems:
                return problems
    return []


def _shares(row: Row, target: clients.Target) -> list[str]:
    wanted = {name if name.isdigit() else full_name(name): share for name, share in row.shares.items()}
    measured: dict[str, float] = {}
    for _ in range(TRIES):
        counts = _count(row, target)
        measured = {name: 100 * count / row.times for name, count in counts.items()}
        near = all(abs(measured.get(name, 0) - share) <= TOLERANCE for name, share in wanted.items())
        if near and set(measured) <= set(wanted):
            return []
    return [f"shares are {measured}, not {wanted}"]


def _count(row: Row, target: clients.Target) -> Counter[str]:
    counts: Counter[str] = Counter()
    if row.over == "grpc":
        with clients.GrpcSession(target, row.host) as session:
            for _ in range(row.times):
                call = session.call(row.call, _fields(row))
                counts[deployment(call.pod) or call.code] += 1
    else:
        with clients.Session(target) as http:
            for _ in range(row.times):
                answer = http.send(_call(row))
                counts[deployment(answer.pod) or str(answer.status)] += 1
    return counts


def deployment(pod: str) -> str:
    """`namespace/deployment` of the pod `namespace/deployment-number`."""
    return pod.rpartition("-")[0]


def judge(expected: ObjectStatus, found: Manifest | None) -> list[str]:
    """What the status of an object says otherwise than expected."""
    if found is None:
        if expected == ObjectStatus(of=expected.of):
            return []
        return [f"{expected.of} is missing"]
    status = msgspec.convert(found.get("status") or {}, type=dict[str, object])
    problems = _stale(found, status)
    problems += _judge_conditions("", expected.conditions, status.get("conditions"))
    if expected.listeners:
        listeners = {str(entry["name"]): entry for entry in _entries(status.get("listeners"))}
        problems += _differs("listeners", sorted(expected.listeners), sorted(listeners))
        for name, listener in expected.listeners.items():
            problems += _judge_listener(name, listener, listeners.get(name, {}))
    if expected.parents is not None:
        parents = _entries(status.get("parents"))
        problems += _differs("number of parents", len(expected.parents), len(parents))
        for wanted, entry in zip(expected.parents, parents, strict=False):
            problems += _judge_parent(wanted, entry)
    return [f"{expected.of}: {problem}" for problem in problems]


def _stale(found: Manifest, status: dict[str, object]) -> list[str]:
    """Conditions that were not judged by the generation that the object has now."""
    metadata = msgspec.convert(found["metadata"], type=dict[str, object])
    generation = metadata.get("generation") or 1
    groups = [status, *_entries(status.get("listeners")), *_entries(status.get("parents"))]
    stale = [
        entry["type"]
        for group in groups
        for entry in _entries(group.get("conditions"))
        if entry.get("observedGeneration") != generation
    ]
    return [f"conditions {stale} are not of generation {generation}"] if stale else []


def _judge_listener(name: str, expected: ListenerStatus, entry: dict[str, object]) -> list[str]:
    problems = _judge_conditions(f"listener {name} ", expected.conditions, entry.get("conditions"))
    if expected.attached is not None:
        problems += _differs(f"listener {name} attachedRoutes", expected.attached, entry.get("attachedRoutes"))
    if expected.kinds is not None:
        kinds = [str(kind["kind"]) for kind in _entries(entry.get("supportedKinds"))]
        missing = [kind for kind in expected.kinds if kind not in kinds]
        if missing or (kinds and not expected.kinds):
            problems.append(f"listener {name} supportedKinds are {kinds}, not {list(expected.kinds)}")
    return problems


def _judge_parent(expected: ParentStatus, entry: dict[str, object]) -> list[str]:
    ref = msgspec.convert(entry["parentRef"], type=dict[str, object])
    label = f"parent {expected.gateway} {expected.section}".rstrip()
    problems = _differs(label, full_name(expected.gateway).partition("/")[2], ref.get("name"))
    problems += _differs(f"{label} sectionName", expected.section, ref.get("sectionName", ""))
    conditions = {"Accepted": expected.Accepted, "ResolvedRefs": expected.ResolvedRefs}
    return problems + _judge_conditions(f"{label} ", conditions, entry.get("conditions"))


def _judge_conditions(label: str, expected: dict[str, str], found: object) -> list[str]:
    """A condition is written as its status alone, or as status and reason."""
    conditions = {str(entry["type"]): entry for entry in _entries(found)}
    problems = []
    for name, wanted in expected.items():
        entry = conditions.get(name)
        is_now = f"{entry['status']} {entry['reason']}" if entry else "missing"
        if is_now != wanted and (" " in wanted or is_now.partition(" ")[0] != wanted):
            message = f" ({entry.get('message')})" if entry else ""
            problems.append(f"{label}{name} is {is_now!r}, not {wanted!r}{message}")
    return problems


def _entries(value: object) -> list[dict[str, object]]:
    return msgspec.convert(value or [], type=list[dict[str, object]])


def _joined(headers: dict[str, list[str]], name: str) -> str | None:
    values = {key.lower(): values for key, values in headers.items()}.get(name.lower())
    return ",".join(values) if values is not None else None


def _portless(location: str | None) -> str | None:
    """The location without a port that its scheme implies: both forms mean the same."""
    return None if location is None else _IMPLIED_PORT.sub(r"\1", location)


def _spaced(value: str | None) -> str | None:
    """The value with no blanks after commas: both forms mean the same."""
    return None if value is None else value.replace(", ", ",")


def _differs(what: str, expected: object, found: object) -> list[str]:
    return [] if expected == found else [f"{what} is {found!r}, not {expected!r}"]
