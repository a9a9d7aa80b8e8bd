"""The log as its readers get it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tripylon import log
from tripylon.settings import LogFormat, LogLevel


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def configured(level: LogLevel, form: LogFormat) -> io.StringIO:
    stream = io.StringIO()
    log.configure(level, form, stream=stream)
    return stream


def test_text_is_one_line_with_time_level_event_and_values() -> None:
    stream = configured("info", "text")
    structlog.get_logger("tripylon").warning("a listener is gone", port=8080, name="a b", empty="")
    time, _, rest = stream.getvalue().partition(" ")
    assert time.endswith("Z")
    assert rest == 'warning a listener is gone port=8080 name="a b" empty=""\n'


def test_json_is_one_object_for_each_event() -> None:
    stream = configured("info", "json")
    structlog.get_logger().info("two\nlines", port=8080, place=("a", 1), odd=object)
    line = json.loads(stream.getvalue())
    assert list(line) == ["time", "level", "event", "port", "place", "odd"]
    assert (line["level"], line["event"], line["port"], line["place"]) == ("info", "two\nlines", 8080, ["a", 1])
    assert stream.getvalue().count("\n") == 1


def test_levels() -> None:
    stream = configured("warning", "text")
    logger = structlog.get_logger()
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    logger.error("d")
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["c", "d"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_comes_with_its_traceback(form: LogFormat) -> None:
    stream = configured("info", form)
    try:
        raise RuntimeError("out of order")
    except RuntimeError as error:
        structlog.get_logger().error("a build step failed", exc_info=error)
    assert "RuntimeError: out of order" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


def test_what_libraries_log_comes_along() -> None:
    stream = configured("info", "json")
    logging.getLogger("aiohttp.server").error("broken %s", "pipe")
    logging.getLogger("asyncio").info("only for its authors")
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["level"], line["event"], line["library"]) == ("error", "broken pipe", "aiohttp.server")


def test_a_reader_that_went_away_is_no_trouble() -> None:
    stream = configured("info", "text")
    stream.close()
    structlog.get_logger().error("nobody reads this")
