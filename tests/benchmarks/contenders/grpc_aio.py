"""gRPC's asyncio API with generic handlers: no broker between the two, text bodies, no generated code."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

__all__ = ["connect", "serve"]

SERVICE, METHOD = "bench.Bench", "Increment"


def encode(n: int) -> bytes:
    return str(n).encode()


class GrpcCaller:
    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.call = channel.unary_unary(f"/{SERVICE}/{METHOD}", request_serializer=encode, response_deserializer=int)

    async def close(self) -> None:
        await self._channel.close()


async def increment(n: int, context: object) -> int:
    return n + 1


async def serve(url: str, ready: Callable[[], None]) -> None:
    handler = grpc.unary_unary_rpc_method_handler(increment, request_deserializer=int, response_serializer=encode)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(urlsplit(url).netloc)
    await server.start()
    ready()
    await server.wait_for_termination()


async def connect(url: str) -> GrpcCaller:
    return GrpcCaller(grpc.aio.insecure_channel(urlsplit(url).netloc))
