"""A gRPC service and its client in one file, without generated code: messages are `google.protobuf.StringValue`.

`python greeter.py serve PORT…` serves `demo.Greeter`; `python greeter.py call HOST:PORT PATH TEXT [NAME=VALUE…]` calls
a method with headers and prints the answer or the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from google.protobuf.wrappers_pb2 import StringValue
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream


class Greeter:
    def __init__(self, port: int) -> None:
        self.port = port

    async def hello(self, stream: Stream[StringValue, StringValue]) -> None:
        request = await stream.recv_message()
        name = request.value if request else ""
        await stream.send_message(StringValue(value=f"Hello {name}, says port {self.port}"))

    def __mapping__(self) -> dict[str, Handler]:
        unary = Cardinality.UNARY_UNARY
        return {"/demo.Greeter/Hello": Handler(self.hello, unary, StringValue, StringValue)}


async def serve(ports: list[int]) -> None:
    servers = [Server([Greeter(port)]) for port in ports]
    for server, port in zip(servers, ports, strict=True):
        await server.start("127.0.0.1", port)
    await asyncio.gather(*(server.wait_closed() for server in servers))


async def call(place: str, path: str, text: str, headers: list[str]) -> None:
    host, _, port = place.rpartition(":")
    async with Channel(host, int(port)) as channel:
        method = UnaryUnaryMethod(channel, path, StringValue, StringValue)
        try:
            answer = await method(StringValue(value=text), metadata=dict(each.split("=", 1) for each in headers))
        except GRPCError as error:
            print(error.status.name)
        else:
            print(answer.value)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        if sys.argv[1] == "serve":
            asyncio.run(serve([int(port) for port in sys.argv[2:]]))
        else:
            place, path, text, *headers = sys.argv[2:]
            asyncio.run(call(place, path, text, headers))
