"""Envoy's log in ours: each entry once, at its level, whatever happens to the file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tripylon.files import log
from tripylon.files.log import Entry, follow, last_words, parse_line

WARNING = "2026-11-25T02:44:20.362+0000 [warning] [main] caught ENVOY_SIGTERM\n"
CRITICAL = "2026-11-25T02:44:21.000+0000 [critical] [config.sub-part] no [good]\\nat all\n"


def test_parse_line() -> None:
    assert parse_line(WARNING.rstrip()) == Entry(
        "warning", "main", "2026-11-25T02:44:20.362+0000", "caught ENVOY_SIGTERM"
    )
    assert parse_line(CRITICAL.rstrip()).level == "critical"
    assert parse_line("Caught Segmentation fault") == Entry("warning", "", "", "Caught Segmentation fault")


def test_last_words(tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert last_words(file) == ""
    file.write_text("old\n" + WARNING + CRITICAL)
    assert last_words(file, start_bytes=4, lines=2) == "caught ENVOY_SIGTERM; no [good] at all"
    assert last_words(file, start_bytes=10_000) == ""


async def test_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_POLL_S", 0.01)
    monkeypatch.setattr(log, "_MAX_FILE_BYTES", 400)
    file = tmp_path / "log"
    file.write_text("before\n")
    with capture_logs() as entries:
        following = asyncio.create_task(follow(file, start_bytes=7))
        for number in range(12):
            with file.open("a") as to:
                to.write(WARNING[:20])
            await asyncio.sleep(0.02)
            with file.open("a") as to:
                to.write(WARNING[20:])
            async with asyncio.timeout(60):
                while len(entries) <= number:
                    await asyncio.sleep(0.005)
            if number == 5:
                file.unlink()
                await asyncio.sleep(0.05)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert len(entries) == 12
    assert {(entry["event"], entry["log_level"], entry["component"]) for entry in entries} == {
        ("caught ENVOY_SIGTERM", "warning", "main")
    }
    assert file.stat().st_size < 400 + len(WARNING)


def test_a_refusal_is_told_as_a_finding_and_logged_only_for_the_curious() -> None:
    said = "2026-11-25T02:44:20.362+0000 [warning] [config] delta config for x.y rejected: no route \\'a\\'\\n"
    assert parse_line(said) == Entry(
        "debug", "config", "2026-11-25T02:44:20.362+0000", "delta config for x.y rejected: no route 'a'"
    )


def test_what_envoy_says_of_every_udp_listener_is_no_warning() -> None:
    field = "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig.matcher"
    said = f"2026-11-25T02:44:20.362+0000 [warning] [misc] field \\'{field}\\' is marked as work-in-progress."
    assert parse_line(said).level == "debug"
    assert parse_line(said.replace("matcher", "other")).level == "warning"
