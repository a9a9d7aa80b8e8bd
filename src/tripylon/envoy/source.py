"""Where Envoy gets things from: always the one ADS stream."""

from __future__ import annotations

from google.protobuf.message import Message

from tripylon.pb.messages import ApiVersion, ConfigSource, Duration


def ads() -> ConfigSource:
    """The aggregated stream as a source of configuration."""
    source = ConfigSource(resource_api_version=ApiVersion.V3)
    source.ads.SetInParent()
    return source


def duration(milliseconds: int) -> Duration:
    """A span of time in Envoy's words."""
    return Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def to_bytes(message: Message) -> bytes:
    """The same content gives the same bytes, in every process."""
    return message.SerializeToString(deterministic=True)
