"""The client of RabbitMQ's RPC tutorial, typed.

::

    python tutorials/fibonacci/client.py
    python client.py --profile redis-list        in this folder: by a profile of rpckit.toml
"""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser

from fibonacci_rpc import FibonacciRpcClient


async def main(profile: str | None = None) -> None:
    fibonacci_rpc = FibonacciRpcClient(profile=profile)
    result = await fibonacci_rpc.call(4)
    print("fib(4) is %r" % result)  # noqa: UP031  # as in aioamqp's tutorial


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--profile")
    asyncio.run(main(**vars(parser.parse_args())))
