"""gRPC messages as the bytes that they are, so that ready responses go out without being built again."""

from __future__ import annotations

from grpclib.encoding.base import CodecBase


class RawCodec(CodecBase):
    """Passes bytes through in both directions."""

    __content_subtype__ = "proto"

    def encode(self, message: object, message_type: object) -> bytes:
        """The bytes themselves."""
        assert isinstance(message, bytes)
        return message

    def decode(self, data: bytes, message_type: object) -> bytes:
        """The bytes themselves."""
        return data
