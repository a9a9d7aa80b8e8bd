"""`tripylon check`: everything that can be said about files without serving them.

Schema, rules, references, conflicts, and what Envoy itself says about the outcome. The result goes to stdout in the
form asked for; the exit code is 1 as soon as one finding is an error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tripylon.cli import FINE, WRONG
from tripylon.cli.options import QUIET, EnvoyBinary, Logging, Output, Paths, existing, use_envoy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tripylon.admin.notices import Notice
    from tripylon.api.meta import Resource
    from tripylon.cli.offline import Offline

_HIDDEN = "(not shown)"


def check(
    *paths: Paths,
    output: Output = "text",
    envoy: Annotated[bool, Parameter(help="Ask Envoy for its own verdict, too.")] = True,
    envoy_binary: EnvoyBinary = None,
    logging: Logging = QUIET,
) -> int:
    """Judge files offline: schema, references, conflicts, and Envoy's own validation.

    Prints findings with file, line and column; with `-o json` as a list; with `-o yaml` every object with the status
    that a cluster would show. Exit code 0: no errors (there may be warnings); 1: errors.
    """
    logging.configure()
    use_envoy(envoy_binary)
    from tripylon.cli.offline import load

    offline = load(existing(paths))
    if envoy:
        _ask_envoy(offline)
    notices = offline.notices()
    if output == "json":
        from tripylon.cli.output import print_json

        print_json(notices)
    elif output == "yaml":
        from tripylon.cli.output import print_yaml

        print_yaml(objects_with_status(offline))
    else:
        _print_text(offline, notices, envoy=envoy)
    return WRONG if any(notice.severity == "error" for notice in notices) else FINE


def _ask_envoy(offline: Offline) -> None:
    from tripylon.errors import StartError
    from tripylon.files.launch import check_binary
    from tripylon.pb.descriptors import envoy_binary

    try:
        check_binary(envoy_binary())
    except StartError as error:
        raise StartError(f"{error}; or leave Envoy's verdict out with --no-envoy") from error
    offline.ask_envoy()


def objects_with_status(offline: Offline) -> Iterator[dict[str, Any]]:
    """Every object with the status that it would have; the content of Secrets is not shown."""
    from datetime import UTC, datetime

    from tripylon.status.desired import desired, with_status
    from tripylon.world import world

    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for resource in sorted(world.resources(offline.graph), key=lambda each: each.ref):
        status = desired(offline.graph, resource, options=offline.options, programming=None, now=now)
        yield _without_secrets(resource, with_status(resource, status))


def _without_secrets(resource: Resource, plain: dict[str, Any]) -> dict[str, Any]:
    from tripylon.api.core import Secret

    if isinstance(resource, Secret):
        for part in ("data", "stringData"):
            if part in plain:
                plain[part] = dict.fromkeys(plain[part], _HIDDEN)
    return plain


def _print_text(offline: Offline, notices: tuple[Notice, ...], *, envoy: bool) -> None:
    from tripylon.cli.table import plural, print_notices, summary
    from tripylon.world import world

    print_notices(notices, sys.stdout, limit=len(notices))
    objects = sum(1 for _ in world.resources(offline.graph))
    asked = "" if envoy else "; Envoy was not asked"
    print(f"{summary(notices)}; {plural(objects, 'valid object')}{asked}.")
