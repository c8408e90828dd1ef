"""Fibonacci numbers at `rpc_queue`: the old method, and a new one beside it.

::

    rpckit serve tutorials.porting.rpc.rpc_server:service
"""

from __future__ import annotations

from rpckit import Service

service = Service("fibonacci", address="rpc_queue")


@service.method(idempotent=True, default=True)
async def fib(n: int) -> int:
    """The n-th Fibonacci number: what a request that names no method means."""
    return (await first(n + 1))[-1]


@service.method(idempotent=True)
async def first(count: int) -> list[int]:
    """The first Fibonacci numbers: no old program knows of it."""
    numbers = [0, 1]
    while len(numbers) < count:
        numbers.append(numbers[-1] + numbers[-2])
    return numbers[:count]
