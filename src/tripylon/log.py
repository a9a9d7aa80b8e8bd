"""Our log: structured events on stderr, as text for people or as JSON for collectors, configured once per process.

What libraries report through `logging` takes the same way. The invariant: writing a line never fails and never blocks a
request, so a log reader that went away takes nothing down with it.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog

from tripylon.settings import LogFormat, LogLevel

_LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_RESET = "\x1b[0m"
_LEADING = ("time", "level", "event", "exception")


def configure(level: LogLevel, form: LogFormat, *, stream: TextIO | None = None) -> None:
    """Send events of `level` and above to `stream` (stderr when None) in one of the two forms."""
    to = stream or sys.stderr
    render = _json if form == "json" else _text(coloured=to.isatty())
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, _with_time, structlog.processors.format_exc_info, render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Lines(to),
        cache_logger_on_first_use=False,
    )
    # Libraries say much at `info` that only their authors need.
    logging.basicConfig(handlers=[_Carrier()], level=logging.DEBUG if level == "debug" else logging.WARNING, force=True)


class _Lines:
    """Writes rendered events to a stream, one line each."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write the line; a reader that went away is no reason to stop."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


class _Carrier(logging.Handler):
    """Carries what libraries log through `logging` into our log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        name = logging.getLevelName(min(max(record.levelno // 10 * 10, 10), 50)).lower()
        getattr(structlog.get_logger(), name)(text, library=record.name, exc_info=record.exc_info)


def _with_time(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(_leading_first(event), enc_hook=str).decode()


def _text(*, coloured: bool) -> Callable[[Any, str, MutableMapping[str, Any]], str]:
    def render(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
        level = str(event["level"])
        word = f"{_COLOURS.get(level, '')}{level:7}{_RESET}" if coloured else f"{level:7}"
        rest = "".join(f" {key}={_value(value)}" for key, value in event.items() if key not in _LEADING)
        trace = f"\n{event['exception']}" if event.get("exception") else ""
        return f"{event['time']} {word} {event['event']}{rest}{trace}"

    return render


def _leading_first(event: Mapping[str, Any]) -> dict[str, Any]:
    head = {key: event[key] for key in _LEADING if key in event}
    return head | {key: value for key, value in event.items() if key not in head}


def _value(value: object) -> str:
    text = str(value)
    return (
        text if text and not any(character in text for character in ' "=\n\t') else msgspec.json.encode(text).decode()
    )
