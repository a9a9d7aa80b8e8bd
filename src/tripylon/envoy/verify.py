"""Envoy's own verdict on a configuration, got offline from the real Envoy in validate mode.

Nothing listens and nothing is sent; one question costs one start of Envoy, about 40 ms. The invariant: what passes here
is not refused when it is published, as far as Envoy can tell without binding ports. Read `static.py` for how published
resources become the one file that Envoy can judge.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tripylon.envoy.static import Published, assemble, decode
from tripylon.errors import TripylonError
from tripylon.pb.descriptors import envoy_binary
from tripylon.xds.snapshot import Resource

# Envoy stops at the first thing that it refuses. So the pieces are laid out in an order in which each one needs only
# those before it, and the shortest refused beginning ends with the culprit.
_ORDER = (
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    "envoy.config.core.v3.TypedExtensionConfig",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.route.v3.VirtualHost",
    "envoy.config.route.v3.ScopedRouteConfiguration",
)
_MAX_CULPRITS = 50

_VERDICT = re.compile(r"error initializing configuration '[^\n]*?': (.*)", re.DOTALL)
_CONSTRAINT = re.compile(r"Proto constraint validation failed \((.*)\)", re.DOTALL)
_DUMP = re.compile(r"goo\.gle/debug\w*\s.*?\n: ", re.DOTALL)


class EnvoyFailedError(TripylonError):
    """Envoy gave no verdict: it did not finish in time, or crashed."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """One resource that Envoy does not take."""

    type: str
    """Full name of its message type, such as `envoy.config.route.v3.VirtualHost`."""
    name: str
    message: str
    """Envoy's words, without the dump of the message that it adds to them."""


def verify(config: bytes, *, timeout_s: float = 30, binary: Path | None = None) -> tuple[str, ...]:
    """What Envoy refuses in `config`, a bootstrap as JSON or as serialised `Bootstrap`; empty when it would start.

    Envoy names only the first fault. `binary` is the Envoy to ask, by default the one that we run. Raises
    EnvoyFailedError when there is no verdict within `timeout_s` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="tripylon-verify-") as folder:
        file = Path(folder, "config.json" if config[:1] == b"{" else "config.pb")
        file.write_bytes(config)
        command = [str(binary or envoy_binary()), "--mode", "validate", "--disable-hot-restart", "--concurrency", "1"]
        command += ["--log-level", "critical", "--log-format", "%v", "--config-path", str(file)]
        try:
            ran = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise EnvoyFailedError(f"Envoy gave no verdict on the configuration within {timeout_s:g} s") from None
        except OSError as error:
            raise EnvoyFailedError(f"Envoy could not be asked about the configuration: {error}") from error
    if ran.returncode == 0:
        return ()
    said = ran.stderr.decode(errors="replace").strip()
    if ran.returncode < 0:
        raise EnvoyFailedError(f"Envoy died of signal {-ran.returncode} over the configuration: {said[-500:]}")
    return (clean_message(said),)


def verify_resources(
    resources: Iterable[Resource], *, timeout_s: float = 60, binary: Path | None = None
) -> tuple[Refusal, ...]:
    """Every one of `resources` that Envoy refuses; at most 50.

    One start of Envoy when all is well; for each culprit about as many more as the number of resources has binary
    digits. `timeout_s` bounds the whole.
    """
    published = decode(resources)
    suspects = [(kind, name) for kind in _ORDER for name in sorted(published.get(kind, {}))]
    ends_s = time.monotonic() + timeout_s
    refusals: list[Refusal] = []
    while len(refusals) < _MAX_CULPRITS:
        refusal = _first_refusal(published, suspects, ends_s=ends_s, binary=binary)
        if refusal is None:
            break
        refusals.append(refusal)
        suspects.remove((refusal.type, refusal.name))
    return tuple(refusals)


def clean_message(said: str) -> str:
    """One line of Envoy's words of refusal: no log prefix, no dump of the refused message, no line breaks."""
    verdict = _VERDICT.search(said)
    text = verdict.group(1) if verdict else said
    constraint = _CONSTRAINT.search(text)
    text = constraint.group(1).rpartition(" caused by ")[2] if constraint else _DUMP.sub("", text)
    return " ".join(text.split())


def _first_refusal(
    published: Published, suspects: list[tuple[str, str]], *, ends_s: float, binary: Path | None
) -> Refusal | None:
    """The last resource of the shortest beginning of `suspects` that Envoy refuses; None when it takes them all."""

    def refused(count: int) -> tuple[str, ...]:
        left_s = max(0.001, ends_s - time.monotonic())
        return verify(assemble(_only(published, suspects[:count])), timeout_s=left_s, binary=binary)

    messages = refused(len(suspects))
    if not messages:
        return None
    taken, not_taken = 0, len(suspects)
    while not_taken - taken > 1:
        middle = (taken + not_taken) // 2
        found = refused(middle)
        if found:
            not_taken, messages = middle, found
        else:
            taken = middle
    kind, name = suspects[not_taken - 1]
    return Refusal(kind, name, messages[0])


def _only(published: Published, kept: Iterable[tuple[str, str]]) -> Published:
    chosen: Published = {}
    for kind, name in kept:
        chosen.setdefault(kind, {})[name] = published[kind][name]
    return chosen
