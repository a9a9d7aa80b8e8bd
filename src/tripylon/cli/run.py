"""`tripylon run`: the standalone gateway, and what its user is told while it runs.

Tables, findings and the log go to stderr, because stdout is the access log's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter

from tripylon.cli import UsageError
from tripylon.cli.options import EnvoyBinary, Logging, Paths, address, existing, use_envoy
from tripylon.errors import StartError
from tripylon.settings import ADMIN_PORT, DEFAULT_STATE, Address, EnvoyStats, RouteLayout, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tripylon.api.meta import Resource

N = TypeVar("N", int, float)
Admin = Annotated[str, Parameter(help="Address of health, metrics and picture; `off` for none.")]
State = Annotated[Path, Parameter(help="Folder for sockets and what is kept between runs.")]
Concurrency = Annotated[int, Parameter(help="Worker threads of Envoy; 0: one for each processor.")]
AccessLog = Annotated[str, Parameter(help="Where each request is logged as JSON: `stdout`, a file, or `off`.")]
Stats = Annotated[EnvoyStats, Parameter(help="Series that Envoy keeps: those that dashboards need, or all.")]
DrainLimit = Annotated[float, Parameter(help="Seconds that running requests may go on when the gateway is stopped.")]
RouteLayoutFlag = Annotated[
    RouteLayout, Parameter(help="How routes are sent to Envoy: `scoped` is fast with many hosts; `auto` counts them.")
]
DEFAULT_ADMIN = f"127.0.0.1:{ADMIN_PORT}"
DEFAULT_LOGGING = Logging()


def run(
    *paths: Paths,
    bind: Annotated[str, Parameter(help="IP address for Gateways without spec.addresses.")] = "0.0.0.0",  # noqa: S104
    admin: Admin = DEFAULT_ADMIN,
    state: State = DEFAULT_STATE,
    concurrency: Concurrency = 0,
    access_log: AccessLog = "stdout",
    route_layout: RouteLayoutFlag = "auto",
    envoy_stats: Stats = "usual",
    drain_limit: DrainLimit = 10.0,
    envoy_binary: EnvoyBinary = None,
    logging: Logging = DEFAULT_LOGGING,
) -> int:
    """Serve the gateways described in files, and follow every change of the files.

    Starts Envoy, or takes over the one that an earlier run left. Ctrl-C ends both, and lets running requests finish.
    """
    logging.configure()
    use_envoy(envoy_binary)
    settings = Settings(
        paths=existing(paths),
        bind=ip(bind, flag="--bind"),
        admin=admin_address(admin),
        state=state,
        concurrency=at_least(0, concurrency, flag="--concurrency"),
        log_level=logging.log_level,
        log_format=logging.log_format,
        access_log=access_log_place(access_log),
        route_layout=route_layout,
        envoy_stats=envoy_stats,
        drain_limit_s=at_least(0, drain_limit, flag="--drain-limit"),
    )
    return start(settings)


def start(settings: Settings, objects: Iterable[Resource] = ()) -> int:
    """Run a gateway until it is told to stop, and show on stderr what it does; the exit code."""
    import asyncio

    from tripylon import app
    from tripylon.cli.screen import Events, Screen

    _try_access_log(settings.access_log)
    # Among events in JSON a table would be a line that no collector can read.
    show = Events() if settings.log_format == "json" else Screen(sys.stderr)
    return asyncio.run(app.run(settings, objects, show=show))


def admin_address(text: str) -> Address | None:
    """Where the admin pages listen; None for `off`."""
    return None if text == "off" else address(text, flag="--admin", default_host="127.0.0.1", default_port=ADMIN_PORT)


def access_log_place(text: str) -> str:
    """`stdout`, `off`, or an absolute path, since Envoy has a working directory of its own."""
    return text if text in ("stdout", "off") else str(Path(text).absolute())


def _try_access_log(place: str) -> None:
    """StartError when the access log is a file that cannot be written: Envoy would refuse every listener for it."""
    if place in ("stdout", "off"):
        return
    try:
        Path(place).open("ab").close()
    except OSError as error:
        what = f"cannot write the access log {place} ({error.strerror})"
        raise StartError(f"{what}; choose another file with --access-log, or `stdout` or `off`") from error


def ip(text: str, *, flag: str) -> str:
    """The IP address in a flag's value; UsageError when it is none."""
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError:
        raise UsageError(f"{flag}: {text!r} is not an IP address") from None


def at_least(least: int, value: N, *, flag: str) -> N:
    """The value of a flag that has a lower bound; UsageError below it."""
    if not value >= least:  # Also what is no number at all.
        raise UsageError(f"{flag}: {value} is not at least {least}")
    return value
