"""What is served and what is wrong, for people: tables on a terminal, plain lines elsewhere.

Both forms come from the same views, which also `/picture` shows. The invariant: the output is bounded, however many
hosts and findings there are; what is left out is counted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple, TextIO

import msgspec

from tripylon.admin.notices import Notice, count
from tripylon.admin.picture import GatewayView, ListenerView, RouteView
from tripylon.values import Ref

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MAX_ROWS = 40
MAX_NOTICES = 20
_NOT_SERVED = ("404", "500", "closed", "dropped", "not serving")
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


class Row(NamedTuple):
    """One route of one host as the table shows it."""

    listener: str
    host: str
    match: str
    to: str
    route: str


def print_gateways(gateways: Sequence[GatewayView], to: TextIO) -> None:
    """What is served, as a table or as lines."""
    rows, more = _bounded(gateways)
    if is_terminal(to):
        _print_table(rows, more, to)
        return
    for gateway in gateways[:MAX_ROWS]:
        for listener in gateway.listeners[:MAX_ROWS]:
            state = "listening" if listener.serving else "not serving"
            print(f"{state}: {_listener(gateway, listener)} for {_hosts_text(listener)}", file=to)
    for row in rows:
        by = f" ({row.route})" if row.route else ""
        print(visible(f"route: {f'{row.host} {row.match}'.rstrip()} -> {row.to}{by}"), file=to)
    if more:
        print(f"and {more} more routes", file=to)


def print_notices(notices: Sequence[Notice], to: TextIO, *, limit: int = MAX_NOTICES, total: int | None = None) -> None:
    """What is wrong: place, severity, message, hint, as compilers write it; `total`: how many there are in all."""
    if is_terminal(to):
        console = _console(to)
        for notice in notices[:limit]:
            console.print(_styled(notice), soft_wrap=True, highlight=False)
    else:
        for notice in notices[:limit]:
            print(notice_text(notice), file=to)
    more = (len(notices) if total is None else total) - min(len(notices), limit)
    if more > 0:
        print(f"and {more:,} more; `tripylon check` prints all", file=to)


def notice_text(notice: Notice) -> str:
    """One notice as plain text: one line, and a second one with the hint."""
    hint = f"\n    {visible(notice.hint)}" if notice.hint else ""
    return f"{visible(notice.place)}: {notice.severity}: {_message(notice)} [{notice.reason}]{hint}"


def visible(text: str) -> str:
    """`text` with control characters escaped: what a file says must not steer the terminal that it is shown on."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def summary(notices: Iterable[Notice]) -> str:
    """`2 errors, 1 warning`."""
    return counts_text(*count(notices))


def counts_text(errors: int, warnings: int) -> str:
    """`2 errors, 1 warning`."""
    return f"{plural(errors, 'error')}, {plural(warnings, 'warning')}"


def plural(number: int, noun: str) -> str:
    """`1 host`, `2 hosts`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def requests_to_try(gateways: Iterable[GatewayView]) -> tuple[str, ...]:
    """Command lines that show the gateway at work: one for each of the first listeners that have a route."""
    lines = []
    for gateway in gateways:
        for listener in gateway.listeners:
            line = _try(gateway, listener) if listener.serving else ""
            if line:
                lines.append(line)
    return tuple(lines[:3])


def is_terminal(to: TextIO) -> bool:
    """Whether people look at it, so that colours and tables help."""
    return to.isatty() and os.environ.get("TERM") != "dumb"


def _bounded(gateways: Iterable[GatewayView]) -> tuple[list[Row], int]:
    rows: list[Row] = []
    more = 0
    for row in _rows(gateways):
        if len(rows) < MAX_ROWS:
            rows.append(row)
        else:
            more += 1
    return rows, more


def _rows(gateways: Iterable[GatewayView]) -> Iterator[Row]:
    for gateway in gateways:
        for listener in gateway.listeners:
            place = _listener(gateway, listener)
            if not listener.serving:
                yield Row(place, listener.hostname or "*", "", "not serving", "")
                continue
            routed = [host for host in listener.hosts if host.routes]
            if not routed:
                yield Row(place, listener.hostname or "*", "", _unrouted(listener), "no route is attached")
            for host in routed:
                for route in host.routes:
                    yield Row(place, host.hostname, route.match, ", ".join(route.to), route.route)


def _unrouted(listener: ListenerView) -> str:
    """What becomes of what no route takes."""
    return {"TCP": "closed", "TLS": "closed", "UDP": "dropped"}.get(listener.protocol, "404")


def _listener(gateway: GatewayView, listener: ListenerView) -> str:
    addresses = ",".join(gateway.addresses) or "-"
    return f"{listener.protocol.lower()} {addresses}:{listener.port} {gateway.name}/{listener.name}"


def _hosts_text(listener: ListenerView) -> str:
    routed = [host.hostname for host in listener.hosts if host.routes]
    if not routed:
        return "no route"
    shown = ", ".join(routed[:5])
    return shown if len(routed) <= 5 else f"{shown} and {len(routed) - 5} more"


def _print_table(rows: Sequence[Row], more: int, to: TextIO) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Listener", "Host", "Match", "To", "By"):
        table.add_column(heading, overflow="fold")
    before = Row("", "", "", "", "")
    for row in rows:
        same_listener = row.listener == before.listener
        same_host = same_listener and row.host == before.host
        table.add_row(
            _plain("" if same_listener else row.listener),
            _plain("" if same_host else row.host),
            _plain(row.match),
            _plain(row.to, "red" if row.to in _NOT_SERVED else "green"),
            _plain(row.route, "dim"),
        )
        before = row
    console = _console(to)
    console.print(table)
    if more:
        console.print(f"and {more:,} more routes", style="dim")


def _plain(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(visible(text), style=style)


def _styled(notice: Notice) -> Text:
    from rich.text import Text

    line = Text()
    line.append(f"{visible(notice.place)}: ", style="bold")
    line.append(f"{notice.severity}: ", style=_STYLES[notice.severity])
    line.append(_message(notice))
    line.append(f" [{notice.reason}]", style="dim")
    if notice.hint:
        line.append(f"\n    {visible(notice.hint)}", style="dim")
    return line


def _message(notice: Notice) -> str:
    """The message, behind the object that it is about unless it names that itself."""
    if notice.object is None:
        return visible(notice.message)
    ref = Ref(*msgspec.structs.astuple(notice.object))
    named = re.search(rf"(?<![\w.-]){re.escape(str(ref.key))}(?![\w.-])", notice.message)
    return visible(notice.message if named else f"{ref}: {notice.message}")


def _console(to: TextIO) -> Console:
    from rich.console import Console

    return Console(file=to, highlight=False)


def _try(gateway: GatewayView, listener: ListenerView) -> str:
    """A command line for the first host of a listener that leads somewhere; empty when none does."""
    serving = [(host, [route for route in host.routes if not {*_NOT_SERVED} & {*route.to}]) for host in listener.hosts]
    host, routes = next(((host, routes) for host, routes in serving if routes), (None, []))
    if host is None:
        return ""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(gateway.addresses[0], gateway.addresses[0])  # noqa: S104
    number = f"[{address}]" if ":" in address else address
    name = host.hostname.replace("*.", "any.") if host.hostname != "*" else ""
    match listener.protocol:
        case "TCP":
            return f"nc {address} {listener.port}"
        case "UDP":
            return f"nc -u {address} {listener.port}"
        case "TLS":
            return f"openssl s_client -connect {quote(f'{number}:{listener.port}')} -servername {quote(name)}"
    return _curl(listener, name, number, _example_path(routes))


def _curl(listener: ListenerView, name: str, number: str, path: str) -> str:
    if listener.protocol == "HTTPS":
        name = name or "localhost"
        url = quote(f"https://{name}:{listener.port}{path}")
        return f"curl -k --resolve {quote(f'{name}:{listener.port}:{number}')} {url}"
    header = f"-H 'Host: {name}' " if name else ""
    return f"curl {header}{quote(f'http://{number}:{listener.port}{path}')}"


def _example_path(routes: Sequence[RouteView]) -> str:
    """The path of a plain match, the widest there is."""
    plain = [route.match for route in routes if route.match.startswith("/")] or ["/"]
    return min((match.split(" ")[0].removesuffix("*") for match in plain), key=len)
