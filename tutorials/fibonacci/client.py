"""The client of RabbitMQ's RPC tutorial, typed.

::

    python tutorials/fibonacci/client.py
"""

from __future__ import annotations

import asyncio
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


async def main() -> None:
    fibonacci_rpc = FibonacciRpcClient()
    result = await fibonacci_rpc.call(4)
    print("fib(4) is %r" % result)  # noqa: UP031  # as in aioamqp's tutorial


if __name__ == "__main__":
    asyncio.run(main())
