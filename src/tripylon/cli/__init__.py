"""The command line: what each command is called, and how it ends.

One file per command, imported only when that command runs, so that help and completion are quick. Results go to stdout,
everything else to stderr. The invariant: every way out of here is an exit code that scripts can rely on: 0 fine, 1 the
thing checked is wrong or something keeps us from working, 2 wrong usage, 130 Ctrl-C. A traceback is shown only on
`--log-level debug`.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tripylon.errors import TripylonError

if TYPE_CHECKING:
    import cyclopts

FINE, WRONG, USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(TripylonError):
    """The command line cannot be meant as it stands; the message says what to write instead."""


class Command(NamedTuple):
    """One command: where it is, what the list of commands says about it, and lines to copy from its help."""

    name: str
    function: str
    help: str
    examples: tuple[str, ...]


COMMANDS = (
    Command(
        "run",
        "tripylon.cli.run:run",
        "Serve the gateways described in files, and follow every change of the files.",
        ("tripylon run examples/quickstart", "tripylon run --bind 127.0.0.1 --admin 127.0.0.1:9195 gateway.yaml"),
    ),
    Command(
        "proxy",
        "tripylon.cli.proxy:proxy",
        "Serve a reverse proxy with no file at all.",
        (
            "tripylon proxy --from :8080 --to http://127.0.0.1:9000",
            "tripylon proxy --from :8443 --tls --host shop.localhost --to https://example.com",
        ),
    ),
    Command(
        "check",
        "tripylon.cli.check:check",
        "Judge files offline: schema, references, conflicts, and Envoy's own validation.",
        ("tripylon check examples/quickstart", "tripylon check -o yaml gateway.yaml", "tripylon check -o json . | jq"),
    ),
    Command(
        "status",
        "tripylon.cli.status:status",
        "Show what a running instance serves and what it complains about.",
        ("tripylon status", "tripylon status --admin 127.0.0.1:9195 -o json"),
    ),
    Command(
        "envoy",
        "tripylon.cli.envoy:envoy",
        "Print the Envoy configuration of each Gateway as JSON.",
        ("tripylon envoy examples/quickstart", "tripylon envoy . --gateway default/edge | jq '.listeners'"),
    ),
    Command(
        "controller",
        "tripylon.cli.controller:controller",
        "Serve the Gateways of a Kubernetes cluster; what `tripylon gen install` runs.",
        ("tripylon controller", "tripylon controller --kubeconfig ~/.kube/config --namespaces shop,blog"),
    ),
    Command(
        "gen",
        "tripylon.cli.gen:app",
        "Write what other tools need: an installation, definitions, editor schemas, proxies to run yourself.",
        ("tripylon gen install | kubectl apply --server-side -f -", "tripylon gen schema --to schemas"),
    ),
    Command(
        "version",
        "tripylon.cli.version:version",
        "Print the versions of Tripylon, Envoy and the Gateway API.",
        ("tripylon version", "tripylon version -o json"),
    ),
)
"""Every command, in the order in which the help lists them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (that of the process when None) and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except UsageError as error:
        return _complain(str(error), USAGE)
    except TripylonError as error:
        return _complain(str(error), WRONG)
    except BrokenPipeError:
        # The reader of our output has seen enough; without this the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return WRONG
    except OSError as error:
        return (
            _complain(f"the output cannot be written: {error.strerror}", WRONG) if _is_full(error) else _give_up(error)
        )
    except Exception as error:  # noqa: BLE001 - the last resort: say it in one line, not in forty
        return _give_up(error)
    return code


def make_app() -> cyclopts.App:
    """The parser with all commands, none of which is imported yet."""
    import cyclopts

    app = cyclopts.App(
        name="tripylon",
        help="A gateway: configured by the Kubernetes Gateway API, served by Envoy, with or without a cluster.",
        help_format="plaintext",
        help_epilogue=examples(("tripylon run examples/quickstart", "tripylon check gateway.yaml")),
        version=_version,
        config=cyclopts.config.Env("TRIPYLON_", command=False),
        suppress_keyboard_interrupt=False,
    )
    for place, command in enumerate(COMMANDS):
        # A group of commands is an App of its own file, which brings its own examples.
        own = {} if command.function.endswith(":app") else {"help_epilogue": examples(command.examples)}
        app.command(command.function, name=command.name, help=command.help, sort_key=place, **own)
    return app


def _dispatch(words: list[str]) -> int:
    import cyclopts

    try:
        result = make_app()(words, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        raise UsageError(f"{str(error).strip()}\n{_where_help_is(words)}") from error
    if not words:
        return USAGE
    return result if isinstance(result, int) else FINE


def _where_help_is(words: list[str]) -> str:
    known = words[0] if words and words[0] in {command.name for command in COMMANDS} else ""
    return f"See `tripylon {known} --help`." if known else "See `tripylon --help`."


def examples(lines: Sequence[str]) -> str:
    """The end of a command's help: lines to copy."""
    return "\n".join(("Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)))


def _version() -> str:
    from importlib.metadata import version

    return version("tripylon")


def _complain(message: str, code: int) -> int:
    print(f"tripylon: {message}", file=sys.stderr)
    if _debugging():
        import traceback

        traceback.print_exc()
    return code


def _is_full(error: OSError) -> bool:
    """Whether a disk took no more; results go to stdout, which may be a file."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _give_up(error: Exception) -> int:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        (error,) = error.exceptions
    if isinstance(error, TripylonError):
        return _complain(str(error), WRONG)
    what = f"this is a fault of Tripylon, not yours: {type(error).__name__}: {error}"
    hint = "" if _debugging() else "\nRun it again with `--log-level debug` to see where it happened."
    return _complain(what + hint, WRONG)


def _debugging() -> bool:
    """Whether a command got as far as to turn the debug log on."""
    import logging

    return logging.getLogger().level == logging.DEBUG
