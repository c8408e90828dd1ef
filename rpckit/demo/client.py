"""The Fibonacci service's typed client, in the form that `rpckit generate` writes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import TypeAdapter

from rpckit.typed import TypedClient

__all__ = ["FibonacciRpcClient"]

_INT: TypeAdapter[int] = TypeAdapter(int)


class FibonacciRpcClient(TypedClient):
    """Calls the service "fibonacci" at `rpc_queue`.

    ::

        async with FibonacciRpcClient() as fibonacci_rpc:
            result = await fibonacci_rpc.call(4)
    """

    address: ClassVar[str] = "rpc_queue"
    default_method: ClassVar[str] = "fib"

    async def fib(self, n: int) -> int:
        """The n-th Fibonacci number; n is 0 to 10,000."""
        return await self._call("fib", _INT, (n,), idempotent=True)

    async def call(self, n: int) -> int:
        """The service's only method: `fib`."""
        return await self.fib(n)
