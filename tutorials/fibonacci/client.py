"""The client of RabbitMQ's RPC tutorial, typed.

::

    python tutorials/fibonacci/client.py
    python client.py --profile redis-list        in this folder: by a profile of rpckit.toml
"""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser
from typing import ClassVar

from pydantic import TypeAdapter

from rpckit import TypedClient

_INT: TypeAdapter[int] = TypeAdapter(int)


class FibonacciRpcClient(TypedClient):
    """Calls the service "fibonacci" at `rpc_queue`."""

    address: ClassVar[str] = "rpc_queue"
    default_method: ClassVar[str] = "fib"

    async def fib(self, n: int) -> int:
        """The n-th Fibonacci number; n is 0 to 10,000."""
        return await self._call("fib", _INT, (n,), idempotent=True)

    async def call(self, n: int) -> int:
        """The service's only method: `fib`."""
        return await self.fib(n)


async def main(profile: str | None = None) -> None:
    fibonacci_rpc = FibonacciRpcClient(profile=profile)
    result = await fibonacci_rpc.call(4)
    print("fib(4) is %r" % result)  # noqa: UP031  # as in aioamqp's tutorial


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--profile")
    asyncio.run(main(**vars(parser.parse_args())))
