"""Whether ports can be had: who is in the way is named, our own Envoy is not in the way."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tripylon.errors import StartError
from tripylon.files import ports
from tripylon.files.ports import check_ports, listening_processes, port_problems

LISTEN = """
import socket, sys
s = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(s.getsockname()[1], flush=True)
input()
"""


@pytest.fixture(params=["127.0.0.1", "0.0.0.0", "::1", "::"])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int, int]]:
    """Address, port and process id of another process that listens."""
    address = str(request.param)
    if ":" in address and ports.try_bind(address, 0):
        pytest.skip("this machine has no IPv6")
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        yield address, int(other.stdout.readline()), other.pid
        other.kill()


def test_who_is_in_the_way(taken: tuple[str, int, int]) -> None:
    address, port, pid = taken
    with pytest.raises(StartError, match=rf"^Port {port} on .* is taken by process {pid} \(python.*use another port"):
        check_ports([(address, port)])
    wildcard = "::" if ":" in address else "0.0.0.0"
    assert len(port_problems([(wildcard, port)])) == 1


def test_our_own_envoy_is_not_in_the_way(taken: tuple[str, int, int]) -> None:
    address, port, pid = taken
    check_ports([(address, port)], ours={pid})
    assert len(port_problems([(address, port)], ours={pid + 1})) == 1


@pytest.mark.skipif(shutil.which("lsof") is None, reason="needs lsof, which is asked where there is no /proc")
def test_who_is_in_the_way_without_proc(taken: tuple[str, int, int]) -> None:
    _, port, pid = taken
    ((holder, name),) = ports._listening_lsof(port, "tcp")
    assert holder == pid
    assert name.startswith("python")


def test_who_is_in_the_way_of_datagrams() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"^Port {port} \(UDP\) on 127.0.0.1 is taken by process {os.getpid()} "):
            check_ports([], udp=[("127.0.0.1", port)])
        check_ports([], udp=[("127.0.0.1", port)], ours={os.getpid()})
        check_ports([("127.0.0.1", port)])
    check_ports([], udp=[("127.0.0.1", port)])


def test_another_address_is_free(taken: tuple[str, int, int]) -> None:
    address, port, _ = taken
    if address == "127.0.0.1":
        check_ports([("127.0.0.2", port)])
        assert listening_processes("127.0.0.2", port) == ()


def test_a_port_of_ipv4_is_not_in_the_way_of_ipv6() -> None:
    if ports.try_bind("::", 0):
        pytest.skip("this machine has no IPv6")
    with closing(socket.create_server(("0.0.0.0", 0))) as server:
        port = server.getsockname()[1]
        check_ports([("::", port)])
        assert listening_processes("::", port) == ()
        assert [pid for pid, _ in listening_processes("127.0.0.1", port)] == [os.getpid()]


def test_free_ports_are_not_kept() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    for _ in range(2):
        check_ports([("127.0.0.1", port), ("127.0.0.1", port)])
    with closing(socket.create_server(("127.0.0.1", port))):
        pass


def test_an_address_of_another_machine() -> None:
    with pytest.raises(StartError, match=r"Address 192\.0\.2\.1 \(port 8080\) is none of this machine's"):
        check_ports([("192.0.2.1", 8080)])


def test_an_address_of_another_machine_beside_one_of_this() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with pytest.raises(StartError, match=rf"^Port {port} on 127\.0\.0\.1 is taken by [^\n]*$"):
            check_ports([("192.0.2.1", 8080), ("127.0.0.1", port)])
    check_ports([("192.0.2.1", 8080), ("127.0.0.1", port)], udp=[("192.0.2.1", 53)])


def test_all_problems_at_once_by_port() -> None:
    problems = port_problems([("192.0.2.1", 81), ("192.0.2.1", 80)])
    assert [problem.split("port ")[1][:2] for problem in problems] == ["80", "81"]


def test_a_privileged_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "try_bind", lambda _address, port, *_: errno.EACCES if port < 1024 else 0)
    (problem,) = port_problems([("0.0.0.0", 443), ("0.0.0.0", 8443)], envoy_binary=Path("/opt/envoy"))
    assert problem.startswith("Port 443 on 0.0.0.0 is privileged")
    assert "use a port from 1024 on" in problem
    if sys.platform == "linux":
        assert "net.ipv4.ip_unprivileged_port_start=443" in problem
        assert "setcap cap_net_bind_service=+ep /opt/envoy" in problem


@pytest.mark.skipif(sys.platform != "linux", reason="file capabilities are Linux's")
def test_a_binary_that_may_bind_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "try_bind", lambda *_: errno.EACCES)
    monkeypatch.setattr(os, "getxattr", lambda _path, name: b"\1" if name == "security.capability" else b"")
    check_ports([("0.0.0.0", 443)], envoy_binary=Path("/opt/envoy"))


def test_a_privileged_port_for_a_user_without_rights() -> None:
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if os.getuid() != 0 or not limit.exists() or int(limit.read_text()) < 2:
        pytest.skip("needs root, to become somebody else, and ports that are privileged")
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        os._exit(ports.try_bind("127.0.0.1", 1))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == errno.EACCES
