"""Envoy's messages and enums as Python classes: `from tripylon.pb.messages import RouteConfiguration`.

Which names there are is written in `table.py`. A class is made when its name is first asked for; the first one of a
process loads the pool (`descriptors.py`), so a module that imports names from here at its top pays for that at its own
import. All classes belong to one private pool: `Any`, `Duration` and the like must come from here too, those of the
`google.protobuf` modules do not fit into the fields. For a type checker `tools/stubs.py` writes the types beside this
file. No name of the table may be bound here by an import, or it would hide the message.
"""

from __future__ import annotations

import typing

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

from tripylon.pb.descriptors import pool
from tripylon.pb.table import MESSAGES


def __getattr__(name: str) -> typing.Any:
    full_name = MESSAGES.get(name)
    if full_name is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; is it in tripylon.pb.table?")
    made = globals()[name] = _make(full_name)
    return made


def __dir__() -> list[str]:
    return sorted(MESSAGES)


def _make(full_name: str) -> typing.Any:
    """The class of a message, or the wrapper of an enum; KeyError when Envoy's API has no such type."""
    try:
        return GetMessageClass(pool().FindMessageTypeByName(full_name))
    except KeyError:
        return EnumTypeWrapper(pool().FindEnumTypeByName(full_name))
