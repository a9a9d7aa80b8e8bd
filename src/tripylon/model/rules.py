"""Rules of HTTPRoute and GRPCRoute → `RulePlan`: matches, destinations, filters, timeouts and retries.

The invariant: a rule that cannot be built as written still takes the requests it matches, and answers them with 500, so
that none reaches a rule that was not meant for it. Only a match that is itself unreadable is left out. If nothing of a
route is left the route is not accepted, else it is `PartiallyInvalid`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from tripylon.api.filters import GRPCRouteFilters, HTTPRouteFilters
from tripylon.api.routes import (
    GRPCBackendRef,
    GRPCRoute,
    GRPCRouteMatch,
    GRPCRouteRule,
    HTTPBackendRef,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRetry,
    HTTPRouteRule,
    HTTPRouteTimeouts,
    SessionPersistence,
)
from tripylon.findings import Finding
from tripylon.graph import Read
from tripylon.model.backends import Fault, resolve, unread_port
from tripylon.model.filters import FilterError, plan_filters, unresolved
from tripylon.model.matches import MatchError, grpc_match, http_match
from tripylon.model.plan import NO_FILTERS, Destination, Filters, Match, Retry, RulePlan
from tripylon.model.sessions import SessionFault, faults_of, with_sessions
from tripylon.values import Ref, parse_duration_ms
from tripylon.world.world import Route


class _Fault(NamedTuple):
    """Something that keeps part of a route from being built as written."""

    field: str
    message: str
    hint: str
    dropped: str = ""
    """The part that is not served, as it begins the message of `PartiallyInvalid`; empty: all is served."""


def plan_http_rules(read: Read, route: HTTPRoute, findings: list[Finding]) -> tuple[RulePlan, ...]:
    """All rules of an HTTPRoute that can match anything."""
    builder = _Builder(read, route, findings)
    return builder.judged(tuple(builder.http_rule(i, rule) for i, rule in enumerate(route.spec.rules)))


def plan_grpc_rules(read: Read, route: GRPCRoute, findings: list[Finding]) -> tuple[RulePlan, ...]:
    """All rules of a GRPCRoute that can match anything."""
    builder = _Builder(read, route, findings)
    return builder.judged(tuple(builder.grpc_rule(i, rule) for i, rule in enumerate(route.spec.rules)))


class _Builder:
    """Builds the rules of one route and gathers what is wrong with them."""

    def __init__(self, read: Read, route: Route, findings: list[Finding]) -> None:
        self.read = read
        self.route = route
        self.findings = findings
        self.faults: list[_Fault] = []

    def http_rule(self, index: int, rule: HTTPRouteRule) -> RulePlan:
        place = f"spec.rules[{index}]"
        wanted = rule.matches or (HTTPRouteMatch(),)
        matches = self._matches(place, [partial(http_match, match) for match in wanted])
        filters = self._filters(rule.filters, f"{place}.filters")
        destinations = self._destinations(rule.backend_refs, place, rule.session_persistence)
        has_prefix = self._has_prefix(place, matches, (filters or NO_FILTERS, *(each.filters for each in destinations)))
        timeouts = rule.timeouts or HTTPRouteTimeouts()
        return RulePlan(
            index=index,
            name=rule.name,
            matches=matches,
            destinations=destinations,
            filters=filters or NO_FILTERS,
            request_timeout_ms=parse_duration_ms(timeouts.request) if timeouts.request else None,
            backend_timeout_ms=parse_duration_ms(timeouts.backend_request) if timeouts.backend_request else None,
            retry=_retry(rule.retry),
            broken=filters is None or filters.closed or not has_prefix,
        )

    def grpc_rule(self, index: int, rule: GRPCRouteRule) -> RulePlan:
        place = f"spec.rules[{index}]"
        wanted = rule.matches or (GRPCRouteMatch(),)
        matches = self._matches(place, [partial(grpc_match, match) for match in wanted])
        filters = self._filters(rule.filters, f"{place}.filters")
        return RulePlan(
            index=index,
            name=rule.name,
            matches=matches,
            destinations=self._destinations(rule.backend_refs, place, rule.session_persistence),
            filters=filters or NO_FILTERS,
            broken=filters is None or filters.closed,
        )

    def judged(self, rules: tuple[RulePlan, ...]) -> tuple[RulePlan, ...]:
        """The rules that match anything; each fault becomes a finding, on the whole route when no rule works."""
        works = any(rule.matches and not rule.broken for rule in rules) or not rules
        for fault in self.faults:
            message = f"{self.route.ref} {fault.message}"
            self.findings.append(
                Finding(
                    object=self.route.ref,
                    condition="PartiallyInvalid" if works else "Accepted",
                    reason="UnsupportedValue",
                    message=f"Dropped {fault.dropped}: {message}" if works and fault.dropped else message,
                    hint=fault.hint,
                    field=fault.field,
                )
            )
        return tuple(rule for rule in rules if rule.matches)

    def _matches(self, place: str, builds: Iterable[Callable[[], Match]]) -> tuple[Match, ...]:
        found: list[Match] = []
        errors: list[tuple[int, MatchError]] = []
        for position, build in enumerate(builds):
            try:
                found.append(build())
            except MatchError as error:
                errors.append((position, error))
        self.faults.extend(
            _Fault(
                f"{place}.matches[{position}].{error.field}",
                f"has a match whose `{error.field}` {error.why}",
                "Correct the match; until then no request is matched by it",
                dropped="Match" if found else "Rule",
            )
            for position, error in errors
        )
        return tuple(found)

    def _filters(self, filters: HTTPRouteFilters | GRPCRouteFilters, field: str, *, of: str = "Rule") -> Filters | None:
        """The filters at one place; None when one of them cannot be built, and then nothing may pass without it."""
        try:
            return plan_filters(self.read, self.route, filters, field, self.findings)
        except FilterError as error:
            hint = error.hint or "Correct the filter; until then its requests are answered with 500"
            self.faults.append(_Fault(error.field, error.why, hint, dropped=of))
            return None

    def _destinations(
        self,
        backends: Sequence[HTTPBackendRef | GRPCBackendRef],
        place: str,
        persistence: SessionPersistence | None,
    ) -> tuple[Destination, ...]:
        """The backends that get a share. One that cannot be reached keeps its share, answered with 500."""
        found: list[Destination] = []
        for index, backend in enumerate(backends):
            field = f"{place}.backendRefs[{index}]"
            target = resolve(self.read, self.route.ref, backend, grpc=isinstance(self.route, GRPCRoute))
            if isinstance(target, Fault):
                self.findings.append(unresolved(self.route, target, field))
            self.findings.extend(unread_port(self.route, backend, field))
            filters = (
                self._filters(backend.filters, f"{field}.filters", of="Backend") if backend.filters else NO_FILTERS
            )
            if backend.weight:
                cluster = None if isinstance(target, Fault) else target
                found.append(
                    Destination(
                        backend.weight, cluster, filters or NO_FILTERS, broken=filters is None or filters.closed
                    )
                )
        return self._with_sessions(tuple(found), place, persistence)

    def _has_prefix(self, place: str, matches: Iterable[Match], filters: Iterable[Filters]) -> bool:
        """Whether every match has the prefix that some filter replaces; the schema sees to it for one backend only."""
        changes = [change for each in filters for change in (each.rewrite, each.redirect) if change is not None]
        if not any(change.path is not None and change.path.kind == "prefix" for change in changes):
            return True
        if all(match.path_kind == "PathPrefix" for match in matches):
            return True
        self.faults.append(
            _Fault(
                f"{place}.matches",
                "replaces the matched prefix of paths that are not matched by a prefix",
                "Match by PathPrefix, or use ReplaceFullPath; until then the rule's requests are answered with 500",
                dropped="Rule",
            )
        )
        return False

    def _with_sessions(
        self, destinations: tuple[Destination, ...], place: str, persistence: SessionPersistence | None
    ) -> tuple[Destination, ...]:
        """The destinations with their sessions. Those that cannot be kept are told, and the requests spread."""
        field = f"{place}.sessionPersistence"
        for fault in faults_of(persistence) if persistence is not None else ():
            if fault.kept:
                self.findings.append(_unkept(self.route.ref, fault, field))
            else:
                self.faults.append(_Fault(field + fault.field, fault.what, fault.hint))
        kept, shared = with_sessions(self.read, self.route.ref, persistence, destinations)
        self.faults.extend(
            _Fault(
                f"{place}.backendRefs",
                f"has several backends in one rule that know their sessions by `{name}`",
                "Give each XBackend a name of its own, or none; until then these keep no sessions here",
            )
            for name in shared
        )
        return kept


def _retry(retry: HTTPRouteRetry | None) -> Retry | None:
    if retry is None or not retry.attempts:
        return None
    return Retry(retry.attempts, tuple(sorted(set(retry.codes))), parse_duration_ms(retry.backoff or "0s"))


def _unkept(route: Ref, fault: SessionFault, field: str) -> Finding:
    return Finding(
        object=route,
        severity="warning",
        condition="Accepted",
        reason="UnsupportedValue",
        message=f"{route} {fault.what}",
        hint=fault.hint,
        field=field + fault.field,
    )
