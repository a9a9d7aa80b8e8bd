"""Credentials that change while we run: tokens in files, programs that print them, certificates that get replaced.

The invariant: what is handed out is as fresh as its source at that moment, at the cost of a `stat`; a program is asked
again only when what it gave has expired or was refused.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from tripylon.errors import TripylonError
from tripylon.kube.config import ClusterConfig, Exec, Pem
from tripylon.pem import load_pair

_EXEC_TIMEOUT_S = 60.0
_EARLY_S = 10.0
"""How long before its expiry a credential counts as expired."""


class CredentialError(TripylonError):
    """No credentials are to be had now; the message says why and what to do."""


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """What an exec plugin gave."""

    token: str = ""
    certificate: Pem | None = None
    key: Pem | None = None
    expires: float | None = None
    """Seconds since the epoch; None: when it is refused."""


class Credentials:
    """What each request needs to be let in. Not to be shared between event loops."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._token: tuple[tuple[int, int, int], str] | None = None
        self._printed: Printed | None = None
        self._printing: asyncio.Task[Printed] | None = None
        self._tls: tuple[object, ssl.SSLContext] | None = None

    async def headers(self) -> list[tuple[str, str]]:
        """Headers that say who we are; CredentialError when that cannot be had."""
        user = self._config.user
        headers = list(user.impersonate)
        if user.token_file is not None:
            headers.append(("Authorization", f"Bearer {self._read_token(user.token_file)}"))
        elif user.token:
            headers.append(("Authorization", f"Bearer {user.token}"))
        elif user.exec is not None:
            if token := (await self._print(user.exec)).token:
                headers.append(("Authorization", f"Bearer {token}"))
        elif user.basic is not None:
            plain = ":".join(user.basic).encode()
            headers.append(("Authorization", f"Basic {base64.b64encode(plain).decode()}"))
        return headers

    def refused(self) -> None:
        """The server answered 401: forget what was remembered."""
        self._token = None
        self._printed = None

    def tls(self) -> ssl.SSLContext | bool:
        """TLS settings for the next connection, made anew when one of their files was replaced."""
        if not self._config.server.startswith("https:"):
            return True
        user, printed = self._config.user, self._printed
        certificate = printed.certificate if printed and printed.certificate else user.certificate
        key = printed.key if printed and printed.certificate else user.key
        state = (_state(self._config.authority), _state(certificate), _state(key))
        if self._tls is None or self._tls[0] != state:
            self._tls = (state, self._context(certificate, key))
        return self._tls[1]

    def _context(self, certificate: Pem | None, key: Pem | None) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context()
            if self._config.authority is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.load_verify_locations(cadata=_bytes(self._config.authority).decode("ascii", "replace"))
            if not self._config.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if certificate is not None:
                load_pair(context, _bytes(certificate), _bytes(key) if key is not None else b"")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError.
            if self._tls is not None:
                return self._tls[1]  # A replacement that is half written: the next look finds it whole.
            raise CredentialError(f"The certificates for {self._config.server} cannot be used: {error}") from error
        return context

    def _read_token(self, path: Path) -> str:
        try:
            found = path.stat()
            state = (found.st_mtime_ns, found.st_ino, found.st_size)
            if self._token is None or self._token[0] != state:
                self._token = (state, path.read_text().strip())
        except (OSError, ValueError) as error:
            if self._token is None:
                raise CredentialError(f"The token at {path} cannot be read: {error}") from error
        return self._token[1]

    async def _print(self, plugin: Exec) -> Printed:
        last = self._printed
        if last is not None and (last.expires is None or last.expires - _EARLY_S > time.time()):
            return last
        if self._printing is None or self._printing.done():  # All who wait share one run, be it a failure.
            self._printing = asyncio.create_task(run_plugin(plugin, self._config))
        self._printed = await asyncio.shield(self._printing)
        return self._printed


class _Status(msgspec.Struct, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str = ""
    status: _Status | None = None


async def run_plugin(plugin: Exec, config: ClusterConfig) -> Printed:
    """Ask an exec plugin; CredentialError when it fails or says nothing of use."""
    if plugin.interactive == "Always":
        raise CredentialError(f"The login program {plugin.command} wants a terminal, and there is none")
    out = await _run(plugin, {**os.environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": _exec_info(plugin, config)})
    try:
        said = msgspec.json.decode(out, type=_ExecCredential)
    except msgspec.MsgspecError as error:
        raise CredentialError(f"The login program {plugin.command} printed no ExecCredential: {error}") from error
    status = said.status
    if said.api_version != plugin.api_version:
        raise CredentialError(
            f"The login program {plugin.command} speaks {said.api_version!r}, not {plugin.api_version!r}"
        )
    if status is None or not (status.token or (status.client_certificate_data and status.client_key_data)):
        raise CredentialError(f"The login program {plugin.command} gave neither a token nor a certificate with its key")
    certified = bool(status.client_certificate_data)
    return Printed(
        token=status.token,
        certificate=Pem(data=status.client_certificate_data.encode()) if certified else None,
        key=Pem(data=status.client_key_data.encode()) if certified else None,
        expires=status.expiration_timestamp.timestamp() if status.expiration_timestamp else None,
    )


async def _run(plugin: Exec, environ: dict[str, str]) -> bytes:
    hint = f"; {plugin.install_hint}" if plugin.install_hint else ""
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command, *plugin.args, stdin=null, stdout=pipe, stderr=pipe, env=environ
        )
    except OSError as error:
        raise CredentialError(f"The login program {plugin.command} cannot be started: {error}{hint}") from error
    try:
        async with asyncio.timeout(_EXEC_TIMEOUT_S):
            out, complaint = await process.communicate()
    except TimeoutError as error:
        raise CredentialError(f"The login program {plugin.command} took over {_EXEC_TIMEOUT_S:.0f} s") from error
    finally:
        with suppress(ProcessLookupError):
            if process.returncode is None:
                process.kill()
    if process.returncode:
        said = complaint.decode(errors="replace").strip()[-500:]
        raise CredentialError(f"The login program {plugin.command} ended with {process.returncode}: {said}{hint}")
    return out


def _exec_info(plugin: Exec, config: ClusterConfig) -> str:
    spec: dict[str, object] = {"interactive": False}
    if plugin.provide_cluster_info:
        spec["cluster"] = {
            "server": config.server,
            "insecure-skip-tls-verify": not config.verify,
            **({"tls-server-name": config.server_name} if config.server_name else {}),
            **({"proxy-url": config.proxy} if config.proxy else {}),
            **({"certificate-authority-data": _bytes(config.authority)} if config.authority else {}),
        }
    info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return msgspec.json.encode(info).decode()


def _bytes(pem: Pem) -> bytes:
    return pem.path.read_bytes() if pem.path is not None else pem.data


def _state(pem: Pem | None) -> object:
    """What differs when a certificate was replaced."""
    if pem is None or pem.path is None:
        return pem
    with suppress(OSError):
        found = pem.path.stat()
        return (found.st_mtime_ns, found.st_ino, found.st_size)
    return None
