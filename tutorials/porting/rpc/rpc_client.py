"""Asks for a Fibonacci number: python tutorials/porting/rpc/rpc_client.py"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from pydantic import TypeAdapter

from rpckit import TypedClient

_INT: TypeAdapter[int] = TypeAdapter(int)


class FibonacciRpcClient(TypedClient):
    address: ClassVar[str] = "rpc_queue"

    async def call(self, n: int) -> int:
        return await self._call("fib", _INT, (n,), idempotent=True)


async def main() -> None:
    async with FibonacciRpcClient() as fibonacci_rpc:
        print(" [x] Requesting fib(30)")
        response = await fibonacci_rpc.call(30)
        print(f" [.] Got {response}")


if __name__ == "__main__":
    asyncio.run(main())
