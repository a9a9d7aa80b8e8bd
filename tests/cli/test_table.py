"""What people are shown: bounded, whatever the size, and worth copying."""

from __future__ import annotations

import io

import pytest

from tripylon.admin.notices import Identity, Notice
from tripylon.admin.picture import GatewayView, HostView, ListenerView, RouteView
from tripylon.cli.table import notice_text, print_gateways, print_notices, requests_to_try


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def listener(*hosts: HostView, protocol: str = "HTTP", port: int = 80, serving: bool = True) -> ListenerView:
    return ListenerView(
        name="web", port=port, protocol=protocol, hostname="", serving=serving, certificates=(), hosts=hosts
    )


def gateway(*listeners: ListenerView, address: str = "0.0.0.0") -> GatewayView:
    return GatewayView("default/edge", True, (address,), listeners)


def host(name: str, match: str = "/*", to: str = "Service default/web:80") -> HostView:
    return HostView(name, (RouteView(match, (to,), "HTTPRoute default/web rule 0"),))


def notice(number: int = 0, **fields: str) -> Notice:
    return Notice(
        object=Identity("", "Secret", "default", f"tls-{number}"),
        field="",
        file="a.yaml",
        line=number + 1,
        column=1,
        severity="error",
        condition="",
        reason="Broken",
        message=fields.get("message", "it is broken"),
        hint=fields.get("hint", ""),
    )


@pytest.mark.parametrize(
    ("view", "line"),
    [
        (gateway(listener(host("a.example"))), "curl -H 'Host: a.example' http://127.0.0.1:80/"),
        (gateway(listener(host("*.a.example", "/shop/*"))), "curl -H 'Host: any.a.example' http://127.0.0.1:80/shop/"),
        (gateway(listener(host("*", "/exact")), address="10.0.0.7"), "curl http://10.0.0.7:80/exact"),
        (gateway(listener(host("*")), address="::"), "curl 'http://[::1]:80/'"),
        (gateway(listener(host("*", "/a;$(b)"))), "curl 'http://127.0.0.1:80/a;$(b)'"),
        (
            gateway(listener(host("a.example"), protocol="HTTPS", port=8443)),
            "curl -k --resolve a.example:8443:127.0.0.1 https://a.example:8443/",
        ),
        (
            gateway(listener(host("b.example", to="500"), host("c.example"))),
            "curl -H 'Host: c.example' http://127.0.0.1:80/",
        ),
    ],
)
def test_what_to_try(view: GatewayView, line: str) -> None:
    assert requests_to_try([view]) == (line,)


@pytest.mark.parametrize(
    "view",
    [gateway(), gateway(listener()), gateway(listener(HostView("a", ()))), gateway(listener(host("a"), serving=False))],
)
def test_nothing_to_try(view: GatewayView) -> None:
    assert requests_to_try([view]) == ()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_many_hosts_are_counted(stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    to = stream()
    print_gateways([gateway(listener(*(host(f"h{number}.example") for number in range(1000))))], to)
    shown = to.getvalue()
    assert len(shown.splitlines()) < 60
    assert "960 more routes" in shown
    assert "h0.example" in shown
    assert "h999.example" not in shown


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_many_notices_are_counted(stream: type[io.StringIO]) -> None:
    to = stream()
    print_notices([notice(number) for number in range(100)], to)
    assert "and 80 more; `tripylon check` prints all" in to.getvalue()
    assert len(to.getvalue().splitlines()) == 21


def test_a_notice_names_its_object_once() -> None:
    assert notice_text(notice()) == "a.yaml:1:1: error: Secret default/tls-0: it is broken [Broken]"
    other = notice(message="Secret default/tls-01 is broken")
    assert notice_text(other) == "a.yaml:1:1: error: Secret default/tls-0: Secret default/tls-01 is broken [Broken]"
    named = notice(message="Secret default/tls-0 is broken", hint="mend it")
    assert notice_text(named) == "a.yaml:1:1: error: Secret default/tls-0 is broken [Broken]\n    mend it"


def test_markup_in_users_words_stays_as_it_is() -> None:
    to = Terminal()
    print_notices([notice(message="[bold]not bold[/bold] tls-0")], to)
    assert "[bold]not bold[/bold]" in to.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_what_a_file_says_does_not_steer_the_terminal(stream: type[io.StringIO]) -> None:
    to = stream()
    print_notices([notice(message="not 'a\r\n\x1b]0;x\x07é'", hint="\x1b[2J")], to)
    print_gateways([gateway(listener(host("a", "/\x1bc")))], to)
    assert r"not 'a\r\n\x1b]0;x\x07é'" in to.getvalue()
    assert r"\x1b[2J" in to.getvalue()
    assert r"/\x1bc" in to.getvalue()


def test_a_listener_that_does_not_serve_says_so() -> None:
    plain, table = io.StringIO(), Terminal()
    for to in (plain, table):
        print_gateways([gateway(listener(host("a"), serving=False), listener())], to)
    assert "not serving: http 0.0.0.0:80 default/edge/web" in plain.getvalue()
    assert "route: * / -> 404" not in plain.getvalue()
    assert "not serving" in table.getvalue()


def test_streams_are_shown_with_a_command_line_to_try_each() -> None:
    passed = HostView("*", (RouteView("", ("Service default/db:5432 70%", "closed 30%"), "TCPRoute default/db"),))
    named = HostView("*.example.com", (RouteView("", ("Service default/web:443",), "TLSRoute default/web"),))
    lost = HostView("*", (RouteView("", ("dropped",), "UDPRoute default/lost"),))
    shown = gateway(
        listener(passed, protocol="TCP", port=5432),
        listener(named, protocol="TLS", port=443),
        listener(passed, protocol="UDP", port=53),
        address="::",
    )
    assert requests_to_try([shown]) == (
        "nc ::1 5432",
        "openssl s_client -connect '[::1]:443' -servername any.example.com",
        "nc -u ::1 53",
    )
    assert requests_to_try([gateway(listener(lost, protocol="UDP", port=53), listener(protocol="TCP"))]) == ()
    out = io.StringIO()
    print_gateways([gateway(listener(passed, protocol="TCP", port=5432), listener(protocol="UDP", port=53))], out)
    assert out.getvalue().splitlines()[-2:] == [
        "route: * -> Service default/db:5432 70%, closed 30% (TCPRoute default/db)",
        "route: * -> dropped (no route is attached)",
    ]
