"""Options that several commands share, each with its help in one place.

Only what parsing needs is imported here. Read `__init__.py` for the environment variables that stand for flags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tripylon.cli import UsageError
from tripylon.errors import StartError
from tripylon.settings import Address, LogFormat, LogLevel, parse_address

Output = Annotated[
    Literal["text", "json", "yaml"], Parameter(name=["--output", "-o"], help="Form of the result.", show_env_var=False)
]

Paths = Annotated[
    Path, Parameter(help="Files and folders with objects in YAML or JSON; default: this folder.", show_env_var=False)
]

EnvoyBinary = Annotated[
    Path | None, Parameter(name="--envoy-binary", help="The Envoy to use; default: the one installed with Tripylon.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Logging:
    """What is logged, and how."""

    log_level: Annotated[LogLevel, Parameter(help="Least level that is logged; debug also shows tracebacks.")] = "info"
    log_format: Annotated[LogFormat, Parameter(help="Form of the log on stderr.")] = "text"

    def configure(self) -> None:
        """Set up the log for this process."""
        from tripylon import log

        log.configure(self.log_level, self.log_format)


QUIET = Logging(log_level="warning")
"""For commands whose result is what counts."""


def existing(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The paths, the current folder when there are none; UsageError for one that does not exist."""
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no file or folder {path}")
    return tuple(paths) or (Path(),)


def use_envoy(binary: Path | None) -> None:
    """Make `binary` the Envoy of this process and of what it starts; None leaves the environment's choice.

    StartError when there is no such file.
    """
    if binary is None:
        return
    import os

    from tripylon.pb.descriptors import BINARY_VARIABLE

    if not binary.is_file():
        raise StartError(
            f"there is no Envoy at {binary}; correct --envoy-binary, or leave it out for the installed one"
        )
    os.environ[BINARY_VARIABLE] = str(binary.absolute())


def address(text: str, *, flag: str, default_host: str, default_port: int | None = None) -> Address:
    """The address in a flag's value; UsageError that names the flag."""
    try:
        return parse_address(text, default_host=default_host, default_port=default_port)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error
