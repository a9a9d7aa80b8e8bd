"""The Plan of backends: how a destination is reached as a cluster, and where it is.

Frozen values, as in `plan.py`: `backends.py` and its neighbours make them, `envoy/clusters.py` turns them into bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tripylon.model.plan import ClusterKey
from tripylon.values import Name


class BackendPolicy(msgspec.Struct, frozen=True, gc=False):
    """One BackendTLSPolicy, resolved but for the authorities, whose certificates change without a connection lost."""

    name: Name
    sni: str
    names: tuple[str, ...]
    """Names of which the host's certificate must carry one; empty: the SNI."""
    system: bool
    """Whether the host's certificate is checked by the system's authorities, not by the policy's own."""
    usable: bool
    """False: there is no authority to check by, so destinations of the policy are not reached."""


class BackendTls(msgspec.Struct, frozen=True, gc=False):
    """TLS towards a destination; always verified unless `insecure` was asked for."""

    sni: str
    names: tuple[str, ...] = ()
    """Names of which the host's certificate must carry one; empty: the SNI."""
    ca: bytes = b""
    """PEM bundle; empty: the system's, unless `authorities` says whose."""
    authorities: Name | None = None
    """The BackendTLSPolicy whose authorities count; they are told apart."""
    client_chain: bytes = b""
    client_key: bytes = b""
    """The certificate that the proxy presents, in PEM; empty: none, unless `client` says which."""
    client: Name | None = None
    """The Secret with the certificate that the proxy presents; it is told apart."""
    policy: Name | None = None
    """The BackendTLSPolicy that this comes from, if any."""
    insecure: bool = False
    """Do not verify the host's certificate at all."""


class RetryBudget(msgspec.Struct, frozen=True, gc=False):
    """How much of what goes to a destination may be retries."""

    percent: int
    """Of the requests under way, in percent."""
    least: int
    """So many at a time whatever the share; 0: none."""


class ClusterPlan(msgspec.Struct, frozen=True, gc=False):
    """How one destination is reached."""

    key: ClusterKey
    discovery: Literal["endpoints", "listed", "dns"]
    """Whether addresses are told apart, stand in the cluster itself, or are looked up by the proxy."""
    tls: BackendTls | None = None
    lookup_family: str = "Auto"
    """Which addresses a DNS look-up is to give: Auto, V4Only, V6Only, V4Preferred or All."""
    refresh_ms: int = 5000
    """How often DNS is asked again."""
    respect_ttl: bool = True
    """Ask DNS again when its answer expires, if that is later than `refresh_ms`."""
    budget: RetryBudget | None = None
    """None: as many retries as routes ask for."""


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One address of a destination: an IP, or a host name when the cluster discovers by DNS."""

    address: str
    port: int
    zone: str = ""


class EndpointsPlan(msgspec.Struct, frozen=True, gc=False):
    """The addresses of one destination, sorted; none: requests are answered with 503."""

    key: ClusterKey
    endpoints: tuple[Endpoint, ...]
