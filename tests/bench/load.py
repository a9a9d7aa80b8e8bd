"""Load on a proxy: `wrk` if it is there, else a generator of our own (`python -m tests.bench.load PORT HOST SECONDS`).

Both keep 32 connections busy with one request after the other on each. Ours needs more processor time than the proxies
that it measures, so look at the proxies' own time per request rather than at requests per second then.
"""

from __future__ import annotations

import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec

CONNECTIONS = 32


class Load(msgspec.Struct, frozen=True):
    """What came of it; the latency is the median of all requests."""

    requests_per_s: float
    latency_s: float


def generator() -> str:
    """Which generator is used here."""
    return "wrk" if shutil.which("wrk") else "Python"


def load(port: int, host: str, seconds: int) -> Load:
    """Keeps a port of this machine busy for some time."""
    if generator() == "wrk":
        return _wrk(port, host, seconds)
    command = [sys.executable, "-m", "tests.bench.load", str(port), host, str(seconds)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=seconds + 30)
    return msgspec.json.decode(done.stdout, type=Load)


def processor_s(pid: int) -> float:
    """Processor time that a process has used, in seconds."""
    return time.clock_gettime((~pid << 3) | 2)


_SCRIPT = """done = function(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.status + summary.errors.timeout
  io.write(string.format("RESULT %d %d %f %d\\n", summary.requests, summary.duration, latency:percentile(50), failed))
end
"""


def _wrk(port: int, host: str, seconds: int) -> Load:
    script = Path(__file__).with_suffix(".lua")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-H", f"Host: {host}"]
    try:
        script.write_text(_SCRIPT)
        done = subprocess.run(
            [*command, "-s", str(script), f"http://127.0.0.1:{port}/"],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 30,
        )
    finally:
        script.unlink(missing_ok=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    requests, microseconds, latency, failed = map(float, line.split()[1:])
    assert not failed, done.stdout
    return Load(requests / (microseconds / 1e6), latency / 1e6)


def main() -> None:
    """The generator: as little as possible between an answer and the next request."""
    port, host, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    chosen = selectors.DefaultSelector()
    sent: dict[int, float] = {}
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chosen.register(connection.fileno(), selectors.EVENT_READ, connection)
        sent[connection.fileno()] = time.perf_counter()
        connection.sendall(request)
    latencies: list[float] = []
    began_s = now_s = time.perf_counter()
    while now_s - began_s < seconds:
        for key, _ in chosen.select(1.0):
            connection = key.fileobj if isinstance(key.fileobj, socket.socket) else key.data
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
            now_s = time.perf_counter()
            latencies.append(now_s - sent[key.fd])
            sent[key.fd] = now_s
            connection.sendall(request)
    result = Load(len(latencies) / (now_s - began_s), statistics.median(latencies))
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
