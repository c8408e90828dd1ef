"""The processes behind `rpckit demo`: a Fibonacci server, and a client that measures it.

::

    python -m rpckit.cli.demo_worker serve      prints "ready"; ends when its stdin does
    python -m rpckit.cli.demo_worker measure    prints its figures as JSON
    python -m rpckit.cli.demo_worker both       server and client in one process

The URL comes from RPCKIT_URL, because arguments, and so passwords in them, can be read by everybody.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from functools import partial

from rpckit.cli.load import Figures, run_load
from rpckit.cli.loop import run
from rpckit.errors import RpcError
from rpckit.server import Server

__all__ = ["CALLERS", "FIB_N", "READY", "Measured", "N"]

READY = "ready"
N, FIB_N = 30, 832_040
CALLERS = 64
WARM_UP = 50  # calls
SINGLE_SECONDS = 1.0
LOAD_SECONDS = 2.0
CALL_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """fib(30); the median latency of one caller; calls a second of 64 callers."""

    result: int
    p50_ms: float
    rate: float


def main(role: str) -> None:
    """Play the role named. What goes wrong is one line on stderr and exit code 1."""
    roles = {"serve": _serve, "measure": _measure, "both": _both}
    try:
        run(roles[role]())
    except RpcError as error:
        sys.exit(str(error))


async def _serve() -> None:
    from rpckit.demo import service  # here and below: building it would hold up --help

    async with Server(service):
        print(READY, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _measure() -> None:
    from rpckit.demo import FibonacciRpcClient

    async with FibonacciRpcClient(timeout=CALL_TIMEOUT) as fibonacci_rpc:
        for _ in range(WARM_UP):
            result = await fibonacci_rpc.fib(N)
        call = partial(fibonacci_rpc.fib, N)
        single = await run_load(call, Figures(), concurrency=1, duration=SINGLE_SECONDS)
        load = await run_load(call, Figures(), concurrency=CALLERS, duration=LOAD_SECONDS)
    [p50] = single.percentiles_ms(0.5)
    print(json.dumps(asdict(Measured(result, p50, load.rate))))


async def _both() -> None:
    from rpckit.demo import service

    async with Server(service):
        await _measure()


if __name__ == "__main__":
    main(sys.argv[1])
