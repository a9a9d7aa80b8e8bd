"""What a user sets about one run of Tripylon: flags and environment variables as one frozen value.

`cli/` makes it, `app.py` reads it; nothing else looks at the environment. The invariant: whatever is in a `Settings`
has been checked for its form, so that no later layer parses text from a command line.
"""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
EnvoyStats = Literal["usual", "all"]
RouteLayout = Literal["auto", "plain", "scoped"]
"""How routing tables reach Envoy: whole, or with a scope for each hostname; `auto` counts hosts."""

ADMIN_PORT = 9095
DEFAULT_STATE = Path(".tripylon")
DRAIN_TIME_S = 60
"""How long connections of a changed or removed listener may go on, in seconds; then Envoy cuts them."""


class Address(NamedTuple):
    """An IP address or host name and a TCP port; port 0 stands for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Settings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One run of a standalone gateway."""

    paths: tuple[Path, ...] = (Path(),)
    """Files and folders with objects; none when all objects are handed over in memory."""
    bind: str = "0.0.0.0"  # noqa: S104 - a gateway is there to be reached; `--bind` narrows it
    """IP address that listeners of Gateways without `spec.addresses` bind."""
    admin: Address | None = Address("127.0.0.1", ADMIN_PORT)
    """Where health, metrics and the picture are served; None: nowhere."""
    state: Path = DEFAULT_STATE
    """Folder for sockets, the pid file and the last good snapshot."""
    concurrency: int = 0
    """Worker threads of Envoy; 0: one for each processor."""
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    access_log: str = "stdout"
    """`stdout`, `off`, or the path of a file: one JSON object for each request."""
    route_layout: RouteLayout = "auto"
    envoy_stats: EnvoyStats = "usual"
    """Which series Envoy keeps: those that dashboards need, or all, which costs memory for each destination."""
    envoy_binary: Path | None = None
    """The Envoy to run; None: the one that was installed with us."""
    drain_limit_s: float = 10.0
    """How long running requests may go on after the gateway was told to stop."""

    @property
    def workers(self) -> int:
        """Envoy's worker threads: what is set, else one for each processor that we may use."""
        return self.concurrency or processors()


class ControllerSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One replica of the controller in a cluster."""

    kubeconfig: Path | None = None
    """Where the cluster is and who we are; None: as the environment says, a pod's own account included."""
    context: str = ""
    """Context of the kubeconfig; empty: its current one."""
    namespace: str = "tripylon-system"
    """Namespace of the controller: there are its Lease, its certificate and its Service."""
    identity: str = ""
    """Name of this replica in the election; empty: the host's name."""
    controller_name: str = "gateway.tripylon.dev/controller"
    """controllerName of the GatewayClasses that are ours."""
    namespaces: tuple[str, ...] = ()
    """Namespaces whose objects count; empty: all."""
    secret_namespaces: tuple[str, ...] = ()
    """Namespaces whose Secrets may be listed; empty: the same as `namespaces`."""
    lease: str = "tripylon"
    """Name of the Lease by which replicas choose their leader."""
    xds: Address = Address("0.0.0.0", 9977)  # noqa: S104 - proxies come from other pods
    """Where proxies get their configuration."""
    advertise: str = ""
    """IP address at which other replicas reach this one's xDS; empty: the one by which it reaches the API server."""
    xds_service: str = "tripylon.tripylon-system.svc.cluster.local"
    """DNS name by which proxies reach the replicas' xDS."""
    xds_secret: str = "tripylon-xds-tls"  # noqa: S105 - the name of an object
    """Secret with the certificate of `xds_service`."""
    health: Address = Address("0.0.0.0", 9093)  # noqa: S104 - probes come from outside the pod
    """Where `/healthz` and `/readyz` are answered."""
    metrics: Address = Address("0.0.0.0", 9092)  # noqa: S104 - so does who collects them
    """Where `/metrics` is answered."""
    proxy_image: str = ""
    """Image of proxies whose GatewayParameters name none; empty: stock Envoy."""
    proxy_pull_policy: str = ""
    """imagePullPolicy of that image; empty: as Kubernetes chooses by its tag."""
    proxy_ca: str = "/etc/ssl/certs/ca-certificates.crt"
    """File in the proxies' image with the certificate authorities that are trusted where nothing else is said."""
    access_log: str = "stdout"
    """`stdout`, `off`, or the path of a file in the proxies' pods."""
    route_layout: RouteLayout = "auto"


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def parse_address(text: str, *, default_host: str, default_port: int | None = None) -> Address:
    """The address in `host:port`, `:port`, `port`, `[::1]:port`, or a bare host when there is a default port.

    ValueError, with a message for the user, when it is none.
    """
    host, port = _split(text.strip())
    if not port:
        if default_port is None:
            raise ValueError(f"{text!r} names no port: write host:port, such as 127.0.0.1:8080")
        return Address(host or default_host, default_port)
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{port!r} is not a port: write a number from 0 to 65535")
    return Address(host or default_host, int(port))


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    if text.isdigit():
        return "", text
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host, port
