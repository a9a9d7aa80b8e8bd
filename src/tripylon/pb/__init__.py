"""Envoy's own protobuf messages, exactly those of the Envoy that is installed.

Nothing generated is shipped: `scan.py` finds the descriptors inside the Envoy binary, `descriptors.py` caches them and
fills a private pool, `table.py` lists what we use, `messages.py` makes the classes. This file adds the few verbs that
every user of the messages needs. Importing it does no work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import Message

from tripylon.pb.descriptors import pool

if TYPE_CHECKING:
    from tripylon.pb.messages import Any

__all__ = ["TYPE_URL_PREFIX", "pack", "pool", "to_object", "type_url"]

TYPE_URL_PREFIX = "type.googleapis.com/"


def type_url(message: Message | type[Message]) -> str:
    """The type URL of a message or of its class, as `Any` and xDS name it."""
    return TYPE_URL_PREFIX + message.DESCRIPTOR.full_name


def pack(message: Message, *, deterministic: bool = True) -> Any:
    """`message` wrapped in an `Any`; by default the same content gives the same bytes, map fields included."""
    from tripylon.pb.messages import Any

    return Any(type_url=type_url(message), value=message.SerializeToString(deterministic=deterministic))


def to_object(message: Message) -> dict[str, object]:
    """`message` as JSON-ready values under protobuf's field names, packed messages opened; what Envoy reads as JSON."""
    from google.protobuf.json_format import MessageToDict

    fields: dict[str, object] = MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=pool())
    return fields
