"""Where the API server is and who we are there: read from a kubeconfig, or from what Kubernetes mounts into a pod.

The invariant: nothing here talks to the network; secrets are kept as places to read again (`credentials.py`), so that
rotated tokens and certificates are taken up without a restart. Read `client.py` next.
"""

from __future__ import annotations

import base64
import binascii
import os
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tripylon.errors import StartError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token, the authority's certificate and its namespace."""


class Pem(msgspec.Struct, frozen=True):
    """Certificates or a key: a file that may be replaced while we run, or the text itself."""

    path: Path | None = None
    data: bytes = b""


class Exec(msgspec.Struct, frozen=True, kw_only=True):
    """A program that prints credentials (client.authentication.k8s.io)."""

    api_version: str
    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive: str = "IfAvailable"
    """`Never`, `IfAvailable` or `Always`; we have no terminal, so `Always` cannot work."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """How we prove who we are; the first that is set of `token_file`, `token`, `exec` and `basic` counts."""

    token: str = ""
    token_file: Path | None = None
    basic: tuple[str, str] | None = None
    exec: Exec | None = None
    certificate: Pem | None = None
    key: Pem | None = None
    impersonate: tuple[tuple[str, str], ...] = ()
    """Headers that make the server treat us as someone else."""


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An API server and our place on it."""

    server: str
    """URL without a slash at the end, such as `https://10.96.0.1:443`."""
    namespace: str = "default"
    """Where objects of ours go that name no namespace."""
    authority: Pem | None = None
    """Certificates that the server's is checked against; None: those of the system."""
    verify: bool = True
    """Whether the server's certificate is checked at all."""
    server_name: str = ""
    """Name that the server's certificate must have; empty: the one in `server`."""
    proxy: str = ""
    """URL of an HTTP proxy on the way; empty: none."""
    user: User = User()


def load(kubeconfig: Path | None = None, *, context: str = "") -> ClusterConfig:
    """The configuration that is meant: the file given, else what a pod has, else `$KUBECONFIG` or `~/.kube/config`.

    As clients of Kubernetes usually do, `$KUBECONFIG` goes before the pod's. StartError when there is none or it
    cannot be understood.
    """
    if kubeconfig is not None:
        return from_files((kubeconfig,), context=context)
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        return from_files(named, context=context)
    if "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").exists():
        return in_cluster()
    return from_files((Path.home() / ".kube" / "config",), context=context)


def in_cluster(directory: Path = SERVICE_ACCOUNT, environ: Mapping[str, str] | None = None) -> ClusterConfig:
    """What Kubernetes gives to a pod: address by environment, token and authority by files."""
    environ = os.environ if environ is None else environ
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise StartError("KUBERNETES_SERVICE_HOST is not set: this is no pod; name a kubeconfig instead")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    namespace = directory / "namespace"
    return ClusterConfig(
        server=server,
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
        authority=Pem(path=directory / "ca.crt"),
        proxy=_environment_proxy(server),
        user=User(token_file=directory / "token"),
    )


def from_files(paths: Sequence[Path], *, context: str = "") -> ClusterConfig:
    """Of kubeconfig files in order, where the first that defines a name counts; StartError when one is unusable."""
    merged = _Merged()
    missing = [path for path in paths if not merged.add(path)]
    if len(missing) == len(paths):
        where = ", ".join(map(str, paths))
        raise StartError(f"There is no kubeconfig at {where}; set KUBECONFIG or name a file")
    chosen = context or merged.current
    if not chosen:
        raise StartError(f"{_names(paths)} has no current-context; name the context to use")
    entry, _ = merged.find("contexts", "context", chosen)
    cluster, cluster_dir = merged.find("clusters", "cluster", str(entry.get("cluster", "")))
    user, user_dir = merged.find("users", "user", str(entry.get("user", ""))) if entry.get("user") else ({}, Path())
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise StartError(f"Cluster {entry.get('cluster')!r} of {_names(paths)} has no server URL")
    return ClusterConfig(
        server=server,
        namespace=str(entry.get("namespace") or "default"),
        authority=_pem(cluster, "certificate-authority", cluster_dir),
        verify=not cluster.get("insecure-skip-tls-verify", False),
        server_name=str(cluster.get("tls-server-name") or ""),
        proxy=str(cluster.get("proxy-url") or _environment_proxy(server)),
        user=_user(user, user_dir),
    )


class _Merged:
    """Kubeconfig files laid over one another."""

    def __init__(self) -> None:
        self.current = ""
        self._entries: dict[tuple[str, str], tuple[dict[str, Any], Path]] = {}

    def add(self, path: Path) -> bool:
        """Take in a file; False when it is not there."""
        try:
            document = yaml.safe_load(path.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, yaml.YAMLError) as error:
            raise StartError(f"{path} cannot be read as a kubeconfig: {error}") from error
        if not isinstance(document, dict):
            raise StartError(f"{path} is no kubeconfig: it holds no mapping")
        self.current = self.current or str(document.get("current-context") or "")
        for section, word in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            for each in document.get(section) or ():
                value = each.get(word) if isinstance(each, dict) else None
                if isinstance(value, dict):
                    self._entries.setdefault((section, str(each.get("name"))), (value, path.absolute().parent))
        return True

    def find(self, section: str, word: str, name: str) -> tuple[dict[str, Any], Path]:
        """An entry and the folder that its paths are relative to."""
        found = self._entries.get((section, name))
        if found is None:
            known = ", ".join(sorted(each for kind, each in self._entries if kind == section)) or "none"
            raise StartError(f"The kubeconfig has no {word} {name!r}; it has: {known}")
        return found


def _user(user: dict[str, Any], directory: Path) -> User:
    if user.get("auth-provider"):
        name = user["auth-provider"].get("name", "") if isinstance(user["auth-provider"], dict) else ""
        raise StartError(f"The kubeconfig's auth-provider {name!r} is not supported; use an exec plugin or a token")
    basic = (str(user["username"]), str(user.get("password", ""))) if user.get("username") else None
    return User(
        token=str(user.get("token") or ""),
        token_file=directory / str(user["tokenFile"]) if user.get("tokenFile") else None,
        basic=basic,
        exec=_exec(user["exec"], directory) if isinstance(user.get("exec"), dict) else None,
        certificate=_pem(user, "client-certificate", directory),
        key=_pem(user, "client-key", directory),
        impersonate=_impersonate(user),
    )


def _exec(entry: dict[str, Any], directory: Path) -> Exec:
    version = str(entry.get("apiVersion", ""))
    if version not in ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"):
        raise StartError(f"The kubeconfig's exec plugin speaks {version!r}; v1 and v1beta1 are supported")
    command = str(entry.get("command", ""))
    if "/" in command:
        command = str(directory / command)
    return Exec(
        api_version=version,
        command=command,
        args=tuple(map(str, entry.get("args") or ())),
        env=tuple((str(each["name"]), str(each["value"])) for each in entry.get("env") or ()),
        install_hint=str(entry.get("installHint") or ""),
        provide_cluster_info=bool(entry.get("provideClusterInfo", False)),
        interactive=str(entry.get("interactiveMode") or "IfAvailable"),
    )


def _impersonate(user: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    headers = [("Impersonate-User", str(user["as"]))] if user.get("as") else []
    headers += [("Impersonate-Uid", str(user["as-uid"]))] if user.get("as-uid") else []
    headers += [("Impersonate-Group", str(each)) for each in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{urllib.parse.quote(key, safe='')}", str(each)) for each in values]
    return tuple(headers)


def _pem(entry: dict[str, Any], word: str, directory: Path) -> Pem | None:
    """`word` names a file, `word-data` holds the text in base64, which goes first."""
    if data := entry.get(f"{word}-data"):
        try:
            return Pem(data=base64.b64decode(data, validate=True))
        except (binascii.Error, TypeError) as error:
            raise StartError(f"The kubeconfig's {word}-data is no base64: {error}") from error
    return Pem(path=directory / str(entry[word])) if entry.get(word) else None


def _environment_proxy(server: str) -> str:
    """The proxy that the environment (`HTTPS_PROXY`, `NO_PROXY`) prescribes for a server; empty: none."""
    url = urllib.parse.urlsplit(server)
    proxies = urllib.request.getproxies()
    return "" if urllib.request.proxy_bypass(url.netloc) else proxies.get(url.scheme, "")


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
