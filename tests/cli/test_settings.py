"""Addresses as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tripylon.settings import Address, Settings, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", ("0.0.0.0", 8080)),
        ("8080", ("0.0.0.0", 8080)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("edge.example:0", ("edge.example", 0)),
        (" 127.0.0.1:80 ", ("127.0.0.1", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, default_host="0.0.0.0") == address


@pytest.mark.parametrize(("text", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("", "any")])
def test_a_default_port(text: str, host: str) -> None:
    assert parse_address(text, default_host="any", default_port=9095) == (host, 9095)


@pytest.mark.parametrize("text", ["a", "", "a:", "a:b", "a:65536", "a:-1", "a:²"])
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_address(text, default_host="any")


@given(st.ip_addresses(), st.integers(0, 65535))
def test_what_is_printed_is_read_back(host: object, port: int) -> None:
    address = Address(str(host), port)
    if "%" not in address.host:
        assert parse_address(str(address), default_host="") == address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert Address(host, 1).loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "127.evil.example", "localhost.evil.example", ""])
def test_not_loopback(host: str) -> None:
    assert not Address(host, 1).loopback


def test_workers() -> None:
    assert Settings(concurrency=3).workers == 3
    assert Settings().workers >= 1
