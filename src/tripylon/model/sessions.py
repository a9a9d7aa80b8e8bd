"""Session persistence: by what a session is known, so that its requests stay at one endpoint (GEP-1619, experimental).

The weights of a rule choose the backend of every request; a session then holds to an endpoint within that backend. The
invariant: no two backends of a rule know their sessions by the same cookie or header, as each would take the other's
for its own and write it anew.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from tripylon.api.routes import SessionPersistence
from tripylon.api.x_policies import XBackendTrafficPolicy
from tripylon.graph import Read, Table
from tripylon.model.plan import ClusterKey, Destination, Session
from tripylon.values import Name, Ref, parse_duration_ms
from tripylon.world.world import X_BACKENDS

_COOKIE_PATH = re.compile(r"/[!-:<-~]*")


TRAFFIC_POLICIES: Table[Name, XBackendTrafficPolicy] = Table("backend traffic policies in force")
"""By Service; see `traffic_policies.py`."""


class SessionFault(NamedTuple):
    """What of a session persistence is not as its author wrote it."""

    what: str
    """The end of a sentence about the object that asks for it."""
    hint: str
    field: str
    """Path within `sessionPersistence`, with a dot in front; empty: all of it."""
    kept: bool
    """Whether sessions are kept all the same."""


def faults_of(persistence: SessionPersistence) -> Iterator[SessionFault]:
    """What cannot be had as it is written."""
    cookie = persistence.cookie
    if cookie is not None and cookie.path and not _COOKIE_PATH.fullmatch(cookie.path):
        what = f"keeps sessions by a cookie with the path {cookie.path!r}, which is none"
        hint = "Begin it with '/' and leave out spaces and ';'; until then sessions are not kept"
        yield SessionFault(what, hint, ".cookie.path", kept=False)
    if not persistence.absolute_timeout:
        return
    if persistence.header is not None:
        what = "bounds a session that is known by a header, which cannot be done"
        yield SessionFault(
            what, "Use a cookie; until then it lasts as long as its endpoint", ".absoluteTimeout", kept=True
        )
    elif cookie is not None and cookie.lifetime_type == "Session":
        what = "bounds a session whose cookie is to go with the browser, and only one of the two can be had"
        hint = "Choose Permanent, or remove the bound; until then the cookie lasts as long as the session may"
        yield SessionFault(what, hint, ".absoluteTimeout", kept=True)


def with_sessions(
    read: Read, route: Ref, persistence: SessionPersistence | None, destinations: tuple[Destination, ...]
) -> tuple[tuple[Destination, ...], tuple[str, ...]]:
    """The destinations of a rule, each with its sessions: of its XBackend, else of the rule, else of its Service.

    With them come names that several backends have chosen, who therefore keep no sessions here.
    """
    sessions = [_session(read, route, persistence, each, len(destinations) > 1) for each in destinations]
    takers: dict[tuple[str, str], set[ClusterKey]] = defaultdict(set)
    for each, session in zip(destinations, sessions, strict=True):
        if session is not None and each.cluster is not None:
            takers[_identity(session)].add(each.cluster)
    shared = {identity for identity, clusters in takers.items() if len(clusters) > 1}
    kept = tuple(
        replace(each, session=session) if session is not None and _identity(session) not in shared else each
        for each, session in zip(destinations, sessions, strict=True)
    )
    return kept, tuple(sorted(name for _, name in shared))


def _session(
    read: Read, route: Ref, persistence: SessionPersistence | None, destination: Destination, one_of_several: bool
) -> Session | None:
    key = destination.cluster
    if key is None:
        return None
    if key.kind == "XBackend":
        backend = read.get(X_BACKENDS, Name(key.namespace, key.name))
        if backend is not None and backend.spec.session_persistence is not None:
            return _known_by(backend.spec.session_persistence, _mark("XBackend", key.namespace, key.name))
    if key.kind == "Service" and persistence is None:
        policy = read.get(TRAFFIC_POLICIES, Name(key.namespace, key.name))
        if policy is not None and policy.spec.session_persistence is not None:
            return _known_by(policy.spec.session_persistence, _mark("Service", key.namespace, key.name))
    if persistence is None:
        return None
    mark = _mark(*route, key.kind, key.namespace, key.name, str(key.port))
    session = _known_by(persistence, mark)
    if session is None or not one_of_several or session.name.endswith(mark):
        return session
    return replace(session, name=f"{session.name}-{mark}")


def _known_by(persistence: SessionPersistence, mark: str) -> Session | None:
    """How a session is known; `mark` stands in names that nobody chose. None: it cannot be."""
    if any(not fault.kept for fault in faults_of(persistence)):
        return None
    if persistence.header is not None:
        return Session("header", persistence.header.name.lower())
    cookie = persistence.cookie
    if cookie is None:
        return None
    lasts = parse_duration_ms(persistence.absolute_timeout) if persistence.absolute_timeout else 0
    return Session("cookie", cookie.name or f"session-{mark}", cookie.path or "/", -(-lasts // 1000))


def _identity(session: Session) -> tuple[str, str]:
    return session.kind, session.name


def _mark(*parts: str) -> str:
    """The same for the same backend, whatever else changes, so that sessions outlive changes."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:10]
