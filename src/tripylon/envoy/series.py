"""Which of Envoy's series are kept; a series that is not kept is not even created.

With many destinations that is a good part of Envoy's memory and start. The invariant: what dashboards, alerts and the
project's own pages name is kept (`docs/operating.md` lists it, and a test compares), and whatever a user chooses, what
tells whether a proxy may be ended is kept as well. Read `bootstrap.py` next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tripylon.api.parameters import StatsMatcher, StatsNameMatcher

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None

PREFIXES = ("cluster_manager.", "control_plane.", "listener_manager.", "overload.", "server.")
SUFFIXES = (
    ".downstream_cx_active",
    ".downstream_cx_drain_close",
    ".downstream_cx_overload_reject",
    ".downstream_cx_total",
    ".downstream_rq_1xx",
    ".downstream_rq_2xx",
    ".downstream_rq_3xx",
    ".downstream_rq_4xx",
    ".downstream_rq_5xx",
    ".downstream_rq_active",
    ".downstream_rq_time",
    ".downstream_rq_total",
    ".downstream_sess_active",
    ".downstream_sess_total",
    ".membership_healthy",
    ".membership_total",
    ".ssl.connection_error",
    ".ssl.handshake",
    ".upstream_cx_active",
    ".upstream_cx_connect_fail",
    ".upstream_cx_connect_timeout",
    ".upstream_cx_total",
    ".upstream_rq_1xx",
    ".upstream_rq_2xx",
    ".upstream_rq_3xx",
    ".upstream_rq_4xx",
    ".upstream_rq_5xx",
    ".upstream_rq_active",
    ".upstream_rq_pending_overflow",
    ".upstream_rq_retry",
    ".upstream_rq_time",
    ".upstream_rq_timeout",
    ".upstream_rq_total",
)
"""They meet `cluster.<name>.`, `http.<prefix>.`, `listener.<address>.`, `tcp.<prefix>.` and `udp.<prefix>.` at once."""
_ENDING = (".downstream_cx_active", ".downstream_rq_active")
"""By these it is seen whether anybody would notice the end of a proxy."""


def usual(*more_suffixes: str) -> Json:
    """The `stats_config` of a bootstrap that keeps what dashboards need, and what ends by further suffixes."""
    suffixes = sorted({*SUFFIXES, *more_suffixes})
    return _including([*({"prefix": prefix} for prefix in PREFIXES), *({"suffix": suffix} for suffix in suffixes)])


def every() -> Json:
    """The one that keeps all series."""
    return {}


def chosen(by: StatsMatcher | None) -> Json:
    """The one that a user asks for; None: nothing is asked for."""
    if by is None:
        return usual()
    if by.exclusion_list:
        return {"stats_matcher": {"exclusion_list": {"patterns": [_pattern(each) for each in by.exclusion_list]}}}
    return _including([*map(_pattern, by.inclusion_list), *({"suffix": suffix} for suffix in _ENDING)])


def _including(patterns: Sequence[Json]) -> Json:
    return {"stats_matcher": {"inclusion_list": {"patterns": patterns}}}


def _pattern(by: StatsNameMatcher) -> Json:
    """A StringMatcher."""
    if by.safe_regex:
        return {"safe_regex": {"regex": by.safe_regex}}
    (way,) = [way for way in ("exact", "prefix", "suffix", "contains") if getattr(by, way)]
    return {way: getattr(by, way), **({"ignore_case": True} if by.ignore_case else {})}
