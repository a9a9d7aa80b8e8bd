"""The little of protobuf's wire format that is needed before there are messages: varints and the files of a set.

It stands apart from `scan.py` so that a start from the cache does not import the descriptor messages (30 ms).
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

Buffer = bytes | mmap


def split_files(serialised_set: bytes) -> Iterator[bytes]:
    """The serialised files of a serialised `FileDescriptorSet`, in order, without decoding them."""
    position = 0
    while position < len(serialised_set):
        length, position = read_varint(serialised_set, position + 1)
        yield serialised_set[position : position + length]
        position += length


def read_varint(data: Buffer, position: int) -> tuple[int, int]:
    """The unsigned varint at `position` and the position after it; ValueError when it is longer than 35 bits."""
    value = 0
    for shift in range(0, 35, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("varint too long")
