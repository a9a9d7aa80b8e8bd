"""Sessions that stay at one endpoint, by Envoy's stateful_session filter.

Every connection manager has the filter, switched off, and a share of a route switches it on. The invariant: it is
switched on for one cluster only, never for a whole route, so that weights stay in force for every request.
"""

from __future__ import annotations

from tripylon.envoy.source import duration
from tripylon.model.plan import Session
from tripylon.pb import pack
from tripylon.pb.messages import (
    CookieBasedSessionState,
    HeaderBasedSessionState,
    HttpFilter,
    StatefulSession,
    StatefulSessionPerRoute,
    WeightedCluster,
)

FILTER = "envoy.filters.http.stateful_session"


def slot() -> HttpFilter:
    """The filter of a chain that knows no session by itself."""
    built = HttpFilter(name=FILTER, disabled=True)
    built.typed_config.CopyFrom(pack(StatefulSession()))
    return built


def enable(place: WeightedCluster.ClusterWeight, session: Session) -> None:
    """Keeps the sessions of one share of a route at its endpoints."""
    built = StatefulSessionPerRoute()
    state = built.stateful_session.session_state
    if session.kind == "cookie":
        cookie = CookieBasedSessionState()
        cookie.cookie.name = session.name
        cookie.cookie.path = session.path
        if session.lasts_s:
            cookie.cookie.ttl.CopyFrom(duration(session.lasts_s * 1000))
        state.name = "envoy.http.stateful_session.cookie"
        state.typed_config.CopyFrom(pack(cookie))
    else:
        state.name = "envoy.http.stateful_session.header"
        state.typed_config.CopyFrom(pack(HeaderBasedSessionState(name=session.name)))
    place.typed_per_filter_config[FILTER].CopyFrom(pack(built))
