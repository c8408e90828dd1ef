"""The server of RabbitMQ's RPC tutorial, as a service.

::

    rpckit serve tutorials.fibonacci.service:service --url 'amqp://localhost?declare=quorum'
    rpckit serve service:service --profile redis-list        in this folder: by a profile of rpckit.toml
"""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser

from rpckit import InvalidArgument, Server, Service

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


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--profile")
    asyncio.run(Server(service, **vars(parser.parse_args())).run())
