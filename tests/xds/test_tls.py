"""The certificate of the ADS server, seen by clients of the ssl module."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
from tests.live.certificates import Authority

from tripylon.xds.cache import Group
from tripylon.xds.server import XdsServer
from tripylon.xds.tls import Certificate, CertificateError

HOST = "127.0.0.1"


def issued(authority: Authority, name: str) -> tuple[bytes, bytes]:
    chain, key = authority.issue(name)
    return chain.encode(), key.encode()


@contextlib.asynccontextmanager
async def serving(certificate: Certificate) -> AsyncIterator[int]:
    server = XdsServer(lambda _: Group(), stop_s=0.1)
    try:
        yield await server.start_tcp(HOST, 0, certificate)
    finally:
        await server.stop()


async def shown(port: int, authority: Authority, name: str | None) -> tuple[str, str]:
    """The name in the certificate that a client is shown, and the protocol agreed on; `name` None: no SNI."""
    context = ssl.create_default_context(cadata=authority.pem)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname=name or "")
    try:
        found = writer.get_extra_info("ssl_object")
        return found.getpeercert()["subject"][0][0][1], found.selected_alpn_protocol()
    finally:
        writer.close()


@pytest.mark.parametrize("name", ["any.example", None])
async def test_new_connections_see_the_new_certificate(name: str | None) -> None:
    authority = Authority()
    certificate = Certificate(*issued(authority, "first.example"))
    async with serving(certificate) as port:
        assert await shown(port, authority, name) == ("first.example", "h2")
        certificate.replace(*issued(authority, "second.example"))
        assert await shown(port, authority, name) == ("second.example", "h2")


async def test_a_pair_that_does_not_match_changes_nothing() -> None:
    authority = Authority()
    certificate = Certificate(*issued(authority, "first.example"))
    chain, _ = issued(authority, "second.example")
    _, key = issued(authority, "third.example")
    async with serving(certificate) as port:
        for bad in ((chain, key), (b"", key), (chain, b"")):
            with pytest.raises(CertificateError):
                certificate.replace(*bad)
        assert await shown(port, authority, "any.example") == ("first.example", "h2")


async def test_clear_text_is_not_understood() -> None:
    authority = Authority()
    async with serving(Certificate(*issued(authority, "first.example"))) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert b"PRI" not in await asyncio.wait_for(reader.read(100), 10)
        writer.close()
