"""xDS resources as people read them: JSON with Envoy's own field names, without private keys."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict

from tripylon.pb import pool
from tripylon.pb.messages import DeltaDiscoveryResponse
from tripylon.xds.snapshot import Resource

HIDDEN = "[redacted]"
"""What stands in place of a private key, as in Envoy's own dumps."""


def plain(resource: Resource) -> dict[str, Any]:
    """The message that a resource carries, as JSON values."""
    (sent,) = DeltaDiscoveryResponse.FromString(resource.body).resources
    values = MessageToDict(sent.resource, preserving_proto_field_name=True, descriptor_pool=pool())
    values.pop("@type", None)
    _hide_keys(values)
    return values


def _hide_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "private_key":
                value[key] = {"inline_string": HIDDEN}
            else:
                _hide_keys(each)
    elif isinstance(value, list):
        for each in value:
            _hide_keys(each)
