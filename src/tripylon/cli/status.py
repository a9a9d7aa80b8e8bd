"""`tripylon status`: the picture of a running instance, read from its admin address."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tripylon.cli import FINE, WRONG
from tripylon.cli.options import Output, address
from tripylon.errors import TripylonError
from tripylon.settings import ADMIN_PORT, Address

if TYPE_CHECKING:
    from tripylon.admin.picture import Picture

_TIMEOUT_S = 10.0


class UnreachableError(TripylonError):
    """No instance answers at the admin address."""


def status(
    *,
    admin: Annotated[str, Parameter(help="Admin address of the instance.")] = f"127.0.0.1:{ADMIN_PORT}",
    output: Output = "text",
) -> int:
    """Show what a running instance serves and what it complains about.

    Exit code 0: it serves all that it was given; 1: it is not ready, there are errors, or it does not answer.
    """
    import msgspec

    from tripylon.admin.picture import Picture

    where = address(admin, flag="--admin", default_host="127.0.0.1", default_port=ADMIN_PORT)
    try:
        picture = msgspec.json.decode(fetch(where, "/picture"), type=Picture)
    except msgspec.MsgspecError as error:
        raise UnreachableError(f"what answers at {where} is no Tripylon of this version: {error}") from error
    if output == "text":
        _print_text(picture)
    else:
        from tripylon.cli.output import print_data

        print_data(picture, output)
    errors = any(notice.severity == "error" for notice in picture.findings)
    return FINE if picture.ready and not errors else WRONG


def fetch(where: Address, path: str) -> bytes:
    """The body of an admin page; UnreachableError when there is none."""
    import http.client

    connection = http.client.HTTPConnection(where.host, where.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        hint = "is one running there? Name its address with --admin"
        raise UnreachableError(f"no Tripylon answers at {where} ({error}); {hint}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise UnreachableError(f"{where} answered {path} with status {answer.status}; is it a Tripylon?")
    return body


def _print_text(picture: Picture) -> None:
    from tripylon.cli.table import plural, print_gateways, print_notices, summary

    print_gateways(picture.gateways, sys.stdout)
    print_notices(picture.findings, sys.stdout)
    objects = sum(map(len, picture.world.values()))
    print(f"{plural(objects, 'object')}, {summary(picture.findings)}.")
    for proxy in picture.proxies:
        behind = picture.flight - proxy.live
        state = f"serves the last change ({proxy.live})" if not behind else f"is {plural(behind, 'change')} behind"
        print(f"Envoy {proxy.node} {state}.")
    if not picture.proxies:
        print("No Envoy is connected.")
