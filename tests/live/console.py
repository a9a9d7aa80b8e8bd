"""Documents as tests: the `console` blocks of a Markdown page, and the `curl` commands in them.

A block holds commands, each behind `$ `, followed by what it prints; a line `…` stands for any number of lines. In
what a loop of requests prints, `about 30 TEXT` is a count with a tolerance. Commands are carried out here, without a
shell and without curl, so that the tests need neither.
"""

from __future__ import annotations

import argparse
import http.client
import re
import shlex
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

TIMEOUT_S = 30.0
TOLERANCE = 0.08
"""By which part of all requests a count may differ: more than four standard deviations of 300 requests."""
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LOOP = re.compile(r"for n in \$\(seq (\d+)\); do (.*); done \| grep (\S+) \| sort \| uniq -c")


class Command(msgspec.Struct, frozen=True):
    """A command with what it shall print; no lines: nothing is promised."""

    line: str
    expected: tuple[str, ...] = ()


def fences(page: str, language: str) -> Iterator[str]:
    """The fenced blocks of one language, in order."""
    for found in _FENCE.finditer(page):
        if found[1] == language:
            yield found[2]


def commands(page: str) -> Iterator[Command]:
    """All commands of a page's `console` blocks, in order."""
    for block in fences(page, "console"):
        assert block.startswith("$ "), f"a console block must begin with a command: {block}"
        for part in block.removeprefix("$ ").split("\n$ "):
            line, *printed = part.rstrip("\n").split("\n")
            yield Command(line, tuple(printed))


def differs(command: Command, cwd: Path) -> str:
    """What is wrong with what a `curl` command, or a loop of them, prints; empty when nothing is."""
    if loop := _LOOP.fullmatch(command.line):
        return _counts_differ(command, int(loop[1]), shlex.split(loop[2]), loop[3], cwd)
    return unlike(command, curl(shlex.split(command.line), cwd))


def unlike(command: Command, printed: str) -> str:
    """How the output differs from what is promised; empty when it does not."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line == "…" else re.escape(line.rstrip()) + r"[ ]*\n" for line in command.expected
    )
    text = printed.replace("\r", "").rstrip("\n") + "\n"
    if re.fullmatch(pattern, text):
        return ""
    promised = "\n".join(command.expected)
    return f"$ {command.line}\npromised:\n{promised}\nprinted:\n{text}"


def _counts_differ(command: Command, times: int, words: list[str], sign: str, cwd: Path) -> str:
    counts: Counter[str] = Counter()
    for _ in range(times):
        counts.update(line for line in curl(words, cwd).splitlines() if re.search(sign, line))
    promised = {text: int(number) for number, text in (line.split(" ", 2)[1:] for line in command.expected)}
    near = all(abs(counts[text] - number) <= TOLERANCE * times for text, number in promised.items())
    return "" if near and set(counts) == set(promised) else f"$ {command.line}\npromised {promised}, printed {counts}"


# --- curl ------------------------------------------------------------------------------------------------------------

_CURL = argparse.ArgumentParser(prog="curl", exit_on_error=False)
_CURL.add_argument("url")
_CURL.add_argument("-s", "-k", action="store_true")
_CURL.add_argument("-i", action="store_true")
_CURL.add_argument("-H", action="append", default=[])
_CURL.add_argument("-X")
_CURL.add_argument("-d")
_CURL.add_argument("--cacert")
_CURL.add_argument("--resolve", default="")


def curl(words: list[str], cwd: Path) -> str:
    """What `curl` prints for a command line with the few options that documents need."""
    assert words[0] == "curl", f"not a curl command: {shlex.join(words)}"
    asked = _CURL.parse_args(words[1:])
    url = urlsplit(asked.url)
    assert url.hostname
    port = url.port or (443 if url.scheme == "https" else 80)
    place = asked.resolve.rpartition(":")[2] or url.hostname
    connection = http.client.HTTPConnection(url.hostname, port, timeout=TIMEOUT_S)
    connection.sock = _connected(url.scheme, place, port, url.hostname, cwd / asked.cacert if asked.cacert else None)
    try:
        headers = {name: value.strip() for name, _, value in (each.partition(":") for each in asked.H)}
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request(asked.X or ("POST" if asked.d else "GET"), path, body=asked.d, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        lines = [
            f"HTTP/1.1 {answer.status} {answer.reason}",
            *(f"{key}: {value}" for key, value in answer.getheaders()),
        ]
        return "\n".join([*lines, "", body]) if asked.i else body
    finally:
        connection.close()


def _connected(scheme: str, place: str, port: int, name: str, authority: Path | None) -> socket.socket:
    plain = socket.create_connection((place, port), TIMEOUT_S)
    if scheme == "http":
        return plain
    context = ssl.create_default_context(cafile=str(authority) if authority else None)
    return context.wrap_socket(plain, server_hostname=name)
