"""The Fibonacci service: the server of RabbitMQ's RPC tutorial, at the same queue.

::

    rpckit serve rpckit.demo.service:service
"""

from __future__ import annotations

from rpckit.contract import Service
from rpckit.errors import InvalidArgument

__all__ = ["MAX_N", "service"]

MAX_N = 10_000  # 2,090 digits, computed in a millisecond

service = Service("fibonacci", address="rpc_queue")


@service.method(idempotent=True)
async def fib(n: int) -> int:
    """The n-th Fibonacci number; n is 0 to 10,000."""
    if not 0 <= n <= MAX_N:
        raise InvalidArgument(f"fib: n must be 0 to {MAX_N:,}, not {n:,}")
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a
