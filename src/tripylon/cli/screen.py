"""What the user of `run` and `proxy` sees: the table at the start, what changed, what is wrong, and the end.

The invariant: showing costs a bounded time, however large the gateway is, since it is done between two changes.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TextIO

import structlog

from tripylon.admin.notices import Notice, notices
from tripylon.admin.picture import GatewayView, gateways
from tripylon.cli.table import MAX_NOTICES, plural, print_gateways, print_notices, requests_to_try, summary
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.hosts import HOSTS
from tripylon.model.route_plans import ROUTE_PLANS

if TYPE_CHECKING:
    from tripylon.app import Standalone
    from tripylon.loop import Applied
    from tripylon.settings import Address

_MAX_HOSTS = 300
"""Above that many hosts they are counted, not listed."""

_log = structlog.get_logger("tripylon")


class Screen:
    """Shows one gateway on a stream."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self._gateways: tuple[GatewayView, ...] | None = None
        self._notices: tuple[Notice, ...] = ()

    def started(self, gateway: Standalone, admin: Address | None, *, adopted: bool, live: bool) -> None:
        """The table, what is wrong, and what to try."""
        self._show(gateway)
        if not gateway.graph.rows(GATEWAY_PLANS):
            self._say("There is no Gateway to serve yet; write one, and it is served at once.")
        if not live:
            _log.warning("Envoy does not serve all of this yet", **_pending(gateway))
        envoy = "taken over" if adopted else "started"
        self._say(f"Envoy {envoy} (process {gateway.envoy.pid}); admin pages: {f'http://{admin}/' if admin else 'off'}")
        for line in requests_to_try(self._gateways or gateways_to_try(gateway)):
            self._say(f"Try: {line}")

    def changed(self, gateway: Standalone, applied: Applied, *, live: bool) -> None:
        """What differs from what was shown before."""
        if applied.changed:
            took_ms = (applied.build_s + applied.publish_s) * 1000
            state = "live" if live else "not live yet"
            _log.info(f"change {applied.flight} is {state}", resources=applied.changed, built_ms=round(took_ms, 2))
        self._show(gateway)

    def stopping(self, limit_s: float) -> None:
        """A word, so that waiting for requests is no surprise."""
        self._say(f"Stopping: running requests have up to {limit_s:g} s; Ctrl-C again ends them at once.")

    def _show(self, gateway: Standalone) -> None:
        self._show_gateways(gateway)
        found = _first_notices(gateway)
        if found != self._notices:
            print_notices(found, self._to)
            self._say(f"{summary(found)}." if found else "No errors or warnings are left.")
        self._notices = found

    def _show_gateways(self, gateway: Standalone) -> None:
        hosts = len(gateway.graph.rows(HOSTS))
        if hosts > _MAX_HOSTS:
            routes, plans = len(gateway.graph.rows(ROUTE_PLANS)), len(gateway.graph.rows(GATEWAY_PLANS))
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
            # The terminal is gone; the gateway is not.
            return


def gateways_to_try(gateway: Standalone) -> tuple[GatewayView, ...]:
    """All gateways, for the one time that a large one is looked through for something to try."""
    return gateways(gateway.graph)


def _first_notices(gateway: Standalone) -> tuple[Notice, ...]:
    """What is wrong, as much of it as is shown and a little more, so that the rest need not be looked up in files."""
    limit = 3 * MAX_NOTICES
    findings = sorted(islice(gateway.graph.all_findings(), 10_000), key=lambda each: (each.severity, each.object))
    return notices(findings[:limit], gateway.problems[:limit], gateway.locate)


def _pending(gateway: Standalone) -> dict[str, object]:
    return {"proxies": len(gateway.group.sessions), "flight": gateway.group.flight, "live": gateway.group.settled}
