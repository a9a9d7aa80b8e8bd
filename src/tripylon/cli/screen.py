"""What the user of `run` and `proxy` is told: tables and lines for people, events for collectors of JSON.

The invariant: showing costs a bounded time, however large the gateway is, since it is done between two changes.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TextIO

import structlog

from tripylon.admin.notices import Notice, notices
from tripylon.admin.picture import GatewayView, gateways
from tripylon.cli.table import MAX_NOTICES, counts_text, plural, print_gateways, print_notices, requests_to_try
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.hosts import HOSTS
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.model.stream_plans import STREAM_ROUTES, STREAMS

if TYPE_CHECKING:
    from tripylon.app import Standalone
    from tripylon.loop import Applied
    from tripylon.settings import Address

_MAX_HOSTS = 300
"""Above that many hosts they are counted, not listed."""

_log = structlog.get_logger("tripylon")


class Told(NamedTuple):
    """What there is to tell about objects: how much in all, and the first of it with its place."""

    errors: int
    warnings: int
    first: tuple[Notice, ...]


NOTHING = Told(0, 0, ())


class Screen:
    """Shows one gateway to people, on a stream."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self._gateways: tuple[GatewayView, ...] | None = None
        self._told = NOTHING

    def started(self, gateway: Standalone, admin: Address | None, *, adopted: bool, live: bool) -> None:
        """The table, what is wrong, and what to try."""
        self._show(gateway)
        if not gateway.graph.rows(GATEWAY_PLANS):
            self._say("There is no Gateway to serve yet; write one, and it is served at once.")
        if not live:
            _log.warning("Envoy does not serve all of this yet", **_pending(gateway))
        envoy = "taken over" if adopted else "started"
        self._say(f"Envoy {envoy} (process {gateway.envoy.pid}); admin pages: {f'http://{admin}/' if admin else 'off'}")
        for line in requests_to_try(gateways(gateway.graph, max_hosts=_MAX_HOSTS)):
            self._say(f"Try: {line}")

    def changed(self, gateway: Standalone, applied: Applied, *, live: bool) -> None:
        """What differs from what was shown before."""
        _log_change(applied, live=live)
        self._show(gateway)

    def stopping(self, limit_s: float) -> None:
        """A word, so that waiting for requests is no surprise."""
        self._say(f"Stopping: running requests have up to {limit_s:g} s; Ctrl-C again ends them at once.")

    def _show(self, gateway: Standalone) -> None:
        try:
            self._show_gateways(gateway)
            self._show_told(gateway)
        except OSError:
            # The terminal is gone; the gateway is not.
            return

    def _show_told(self, gateway: Standalone) -> None:
        told = tell(gateway)
        if told != self._told:
            print_notices(told.first, self._to, total=told.errors + told.warnings)
            some = told.errors or told.warnings
            self._say(f"{counts_text(told.errors, told.warnings)}." if some else "No errors or warnings are left.")
        self._told = told

    def _show_gateways(self, gateway: Standalone) -> None:
        hosts, routes = _hosts_and_routes(gateway)
        if hosts > _MAX_HOSTS:
            plans = len(gateway.graph.rows(GATEWAY_PLANS))
            if self._gateways is None:
                self._say(f"{plural(plans, 'gateway')}, {plural(hosts, 'host')}, {plural(routes, 'route')}.")
            self._gateways = ()
            return
        views = gateways(gateway.graph)
        if views != self._gateways:
            print_gateways(views, self._to)
        self._gateways = views

    def _say(self, line: str) -> None:
        try:
            print(line, file=self._to, flush=True)
        except OSError:
            return


def _hosts_and_routes(gateway: Standalone) -> tuple[int, int]:
    """How many hosts there are, server names and ports of streams among them, and how many routes of every kind."""
    rows = gateway.graph.rows
    return len(rows(HOSTS)) + len(rows(STREAMS)), len(rows(ROUTE_PLANS)) + len(rows(STREAM_ROUTES))


class Events:
    """Tells the same as events of the log, for collectors."""

    def __init__(self) -> None:
        self._told = NOTHING

    def started(self, gateway: Standalone, admin: Address | None, *, adopted: bool, live: bool) -> None:
        """One event about the start, one for each thing that is wrong."""
        hosts, routes = _hosts_and_routes(gateway)
        _log.info(
            "the gateway runs",
            live=live,
            envoy=gateway.envoy.pid,
            adopted=adopted,
            admin=str(admin) if admin else "",
            gateways=len(gateway.graph.rows(GATEWAY_PLANS)),
            hosts=hosts,
            routes=routes,
        )
        self._tell(gateway)

    def changed(self, gateway: Standalone, applied: Applied, *, live: bool) -> None:
        """One event about the change, and one for each thing that is wrong since."""
        _log_change(applied, live=live)
        self._tell(gateway)

    def stopping(self, limit_s: float) -> None:
        """One event."""
        _log.info("stopping", drain_limit_s=limit_s)

    def _tell(self, gateway: Standalone) -> None:
        told = tell(gateway)
        for notice in told.first:
            if notice not in self._told.first:
                object_ = (
                    f"{notice.object.kind} {notice.object.namespace}/{notice.object.name}" if notice.object else ""
                )
                say = {"error": _log.error, "warning": _log.warning, "info": _log.info}[notice.severity]
                say(notice.message, object=object_, place=notice.place, reason=notice.reason, hint=notice.hint)
        if told[:2] != self._told[:2]:
            _log.info("findings", errors=told.errors, warnings=told.warnings)
        self._told = told


def tell(gateway: Standalone) -> Told:
    """What is wrong: all of it counted, the first of it looked up in the files.

    What makes a listener Conflicted makes it not Accepted, too, in the same words; it counts once.
    """
    severities: list[str] = [problem.severity for problem in gateway.problems]
    severities += [each.severity for each in gateway.graph.all_findings() if each.condition != "Conflicted"]
    limit = 2 * MAX_NOTICES
    findings = sorted(islice(gateway.graph.all_findings(), 10_000), key=lambda each: (each.severity, each.object))
    first = notices(findings[:limit], gateway.problems[:limit], gateway.locate)
    return Told(severities.count("error"), severities.count("warning"), first)


def _log_change(applied: Applied, *, live: bool) -> None:
    if applied.changed:
        took_ms = (applied.build_s + applied.publish_s) * 1000
        state = "live" if live else "not live yet"
        _log.info(f"change {applied.flight} is {state}", resources=applied.changed, built_ms=round(took_ms, 2))


def _pending(gateway: Standalone) -> dict[str, object]:
    return {"proxies": len(gateway.group.sessions), "flight": gateway.group.flight, "live": gateway.group.settled}
