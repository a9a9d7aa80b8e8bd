"""Steady requests against a gateway, each answer checked: `load(cluster, url)` around what must not cost a request.

The client is a process of its own within the cluster's network (this file, run as a script, standard library only). It
keeps a fixed rate whatever the gateway does, renews its connections as it goes, and counts every failure by its
reason. A request has failed unless its answer is 200 and repeats the path, which no two requests share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

RATE = 500
"""Requests per second."""
CONNECTIONS = 20
LIMIT_S = 10.0
"""After how long without an answer a request has failed."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Result:
    """What came of the requests; filled in when the load has ended."""

    sent: int = 0
    seconds: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)
    """How many requests failed, by reason."""
    serials: list[str] = field(default_factory=list)
    """Serial numbers of the server certificates that were shown, in the order in which they came up."""
    slowest_s: float = 0.0

    def assert_none_failed(self) -> None:
        """All requests were answered well; how many there were is up to the machine."""
        assert not self.failures, f"of {self.sent} requests in {self.seconds:.1f} s: {self.failures}"
        assert self.sent > CONNECTIONS, f"only {self.sent} requests in {self.seconds:.1f} s"


@contextlib.contextmanager
def load(cluster: Cluster, address: str, *, port: int = 80, tls: tuple[Path, str] | None = None) -> Iterator[Result]:
    """Requests while it lasts. `tls` is the file with the trusted authorities, and the server's name."""
    argv = [sys.executable, __file__, address, str(port), *([str(tls[0]), tls[1]] if tls else [])]
    client = subprocess.Popen(cluster.inside(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    result = Result()
    try:
        assert client.stdout.readline() == "started\n"
        yield result
        said, _ = client.communicate(timeout=LIMIT_S + 10)
        vars(result).update(json.loads(said))
    finally:
        client.kill()
        client.wait()


# --- The client -----------------------------------------------------------------------------------------------------


class Client:
    """One run of requests."""

    def __init__(self, host: str, port: int, authorities: str, name: str) -> None:
        self._host, self._port, self._name = host, port, name
        self._context = trusting(authorities) if authorities else None
        # A handshake costs a client in Python more than a request, so connections by TLS serve longer.
        self._uses = 50 if authorities else 20
        self._ended = asyncio.Event()
        self._began_s = 0.0
        self._failures: Counter[str] = Counter()
        self._result = Result()

    async def run(self) -> Result:
        """Requests until standard input ends."""
        self._began_s = time.monotonic()
        workers = [asyncio.create_task(self._work(number)) for number in range(CONNECTIONS)]
        print("started", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        self._ended.set()
        await asyncio.gather(*workers)
        self._result.seconds = time.monotonic() - self._began_s
        self._result.failures = dict(self._failures)
        return self._result

    async def _work(self, number: int) -> None:
        """Every CONNECTIONS-th request, one after the other."""
        connection: Connection | None = None
        count = number % self._uses  # so that not all are renewed at once
        request = number
        while not self._ended.is_set():
            due_s = self._began_s + request / RATE
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            asked_s = time.monotonic()
            count += 1
            step = "connecting"
            try:
                async with asyncio.timeout(LIMIT_S):
                    connection = connection or await self._connect()
                    step = "asking"
                    keep = await self._ask(connection, f"/{number}/{request}")
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self._failures[f"{step}: {type(error).__name__}: {error}"[:200]] += 1
                keep = False
            if connection is not None and (not keep or count >= self._uses):
                connection[1].close()
                connection, count = None, 0
            self._result.sent += 1
            self._result.slowest_s = max(self._result.slowest_s, time.monotonic() - asked_s)
            request += CONNECTIONS
        if connection is not None:
            connection[1].close()

    async def _connect(self) -> Connection:
        name = self._name if self._context else None
        connection = await asyncio.open_connection(self._host, self._port, ssl=self._context, server_hostname=name)
        if self._context:
            serial = str(connection[1].get_extra_info("peercert")["serialNumber"])
            if serial not in self._result.serials:
                self._result.serials.append(serial)
        return connection

    async def _ask(self, connection: Connection, path: str) -> bool:
        """Whether the connection can be used again. ValueError, with the reason, for an answer that is not right."""
        reader, writer = connection
        writer.write(f"GET {path} HTTP/1.1\r\nhost: {self._name}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await read_body(reader, headers)
        status = head[0].split(" ")[1]
        if status != "200":
            raise ValueError(f"{status} {body.decode(errors='replace')[:100]}")
        if json.loads(body)["path"] != path:
            raise ValueError("the answer is that of another request")
        return headers.get("connection", "").lower() != "close"


def trusting(authorities: str) -> ssl.SSLContext:
    """Trust in the certificates of a file, also in plain ones that certify nobody but themselves."""
    context = ssl.create_default_context(cafile=authorities)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # several of them may have one name
    return context


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """The body of an answer, by its length or in chunks."""
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    if headers.get("transfer-encoding") != "chunked":
        raise ValueError(f"an answer without length: {headers}")
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("authorities", nargs="?", default="")
    parser.add_argument("name", nargs="?", default="www.example.com")
    arguments = parser.parse_args()
    print(json.dumps(vars(asyncio.run(requests(arguments)))), flush=True)


async def requests(arguments: argparse.Namespace) -> Result:
    """A whole run, within the loop that the client needs from its start."""
    return await Client(arguments.host, arguments.port, arguments.authorities, arguments.name).run()


if __name__ == "__main__":
    main()
