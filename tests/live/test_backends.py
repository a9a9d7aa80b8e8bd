"""The echo backend and the clients, tried on each other without a gateway between them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.live import clients
from tests.live.fleet import Fleet


def target(fleet: Fleet, port: str, *, name: str = "infra/echo-v1", pod: int = 0) -> clients.Target:
    placed = fleet.placed(name)
    secure = {"authority": fleet.authority.pem, "sni": "backend.example.com"} if port == "https" else {}
    return clients.Target(placed.addresses[pod], placed.ports[port], **secure)


def test_a_pod_says_what_reached_it(fleet: Fleet) -> None:
    call = clients.Call(
        host="a.example.com:99", path="/one?x=1", headers=(("x-some-HEADER", "A"), ("X-Some-Header", "b"))
    )
    answer = clients.http1(target(fleet, "http", pod=1), call)
    assert answer.status == 200
    assert answer.pod == "infra/echo-v1-1"
    assert answer.header("content-type") == "application/json"
    assert (answer.seen["path"], answer.seen["host"], answer.seen["method"]) == ("/one?x=1", "a.example.com:99", "GET")
    assert answer.seen["proto"] == "HTTP/1.1"
    assert answer.seen["headers"] == {"X-Some-Header": ["A", "b"]}


def test_a_request_names_headers_of_the_answer(fleet: Fleet) -> None:
    wanted = ("X-Echo-Set-Header", "X-One:1,x-TWO:a,x-TWO:b,Empty:")
    answer = clients.http1(target(fleet, "http"), clients.Call(host="a", headers=(wanted,)))
    assert ("x-TWO", "a,b") in answer.headers
    assert answer.header("X-One") == "1"
    assert answer.header("Empty") is None


def test_bodies_are_read_and_connections_kept(fleet: Fleet) -> None:
    with clients.Session(target(fleet, "http")) as session:
        for _ in range(3):
            answer = session.send(clients.Call(host="a", method="POST", body=b"x" * 100_000))
            assert (answer.status, answer.seen["method"]) == (200, "POST")
        assert session.send(clients.Call(host="a", method="HEAD")).body == b""
        assert session.send(clients.Call(host="a", path="/health")).body == b"OK"


@pytest.mark.parametrize(("path", "status"), [("/status/418", 418), ("/status/204", 204), ("/status/abc", 400)])
def test_status_paths(fleet: Fleet, path: str, status: int) -> None:
    assert clients.http1(target(fleet, "http"), clients.Call(host="a", path=path)).status == status


def test_retry_paths_fail_first(fleet: Fleet) -> None:
    where = target(fleet, "http", name="infra/echo-v3")
    call = clients.Call(host="a", path="/retry/x?uuid=1&succeedAfter=2&responseCode=503")
    assert [clients.http1(where, call).status for _ in range(4)] == [503, 503, 200, 200]
    with pytest.raises(ConnectionResetError):
        clients.http1(where, clients.Call(host="a", path="/retry/x?uuid=2&succeedAfter=1"))
    assert clients.http1(where, clients.Call(host="a", path="/retry/x?uuid=2")).status == 400


def test_h2c_speaks_http2_only(fleet: Fleet) -> None:
    where = target(fleet, "h2c")
    answer = clients.http2(where, clients.Call(host="b.example.com", path="/two", headers=(("X-A", "1"),)))
    assert (answer.status, answer.pod, answer.seen["proto"]) == (200, "infra/echo-v1-0", "HTTP/2.0")
    assert (answer.seen["host"], answer.seen["headers"]) == ("b.example.com", {"X-A": ["1"]})
    assert clients.http1(where, clients.Call(host="a")).status == 400


def test_https_speaks_both_and_tells_the_server_name(fleet: Fleet) -> None:
    where = target(fleet, "https")
    first, second = clients.http1(where, clients.Call(host="a")), clients.http2(where, clients.Call(host="a"))
    assert (first.seen["proto"], second.seen["proto"]) == ("HTTP/1.1", "HTTP/2.0")
    tls = second.seen["tls"]
    assert isinstance(tls, dict)
    assert (tls["serverName"], tls["negotiatedProtocol"]) == ("backend.example.com", "h2")


def test_websocket_echoes_text_and_binary(fleet: Fleet) -> None:
    messages = ("hello", b"\x00\x01")
    assert clients.websocket(target(fleet, "http"), clients.Call(host="a", path="/ws"), messages) == messages


def test_grpc_answers_two_methods(fleet: Fleet) -> None:
    with clients.GrpcSession(target(fleet, "grpc", name="infra/grpc-v2"), "a.example.com") as session:
        answer = session.call("Echo", (("X-Color", "red"),))
        assert (answer.code, answer.pod) == ("OK", "infra/grpc-v2-0")
        headers = answer.seen["headers"]
        assert isinstance(headers, dict)
        assert headers["X-Color"] == ["red"]
        assert session.call("EchoTwo").code == "OK"
        assert session.call("EchoThree").code == "UNIMPLEMENTED"


def test_the_log_lists_what_came_in(fleet: Fleet) -> None:
    number = fleet.next_number()
    clients.http1(target(fleet, "http"), clients.Call(host="a", path="/logged", headers=(("X-Id", "7"),)))
    (entry,) = fleet.log_since(number)
    assert (entry.pod, entry.path, entry.headers["X-Id"]) == ("echo-v1-0", "/logged", ["7"])
    assert fleet.next_number() == number + 1


def test_the_process_ends_with_its_owner(tmp_path: Path) -> None:
    with Fleet(tmp_path) as short:
        pid = short.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
