"""A server in a process of its own, to be killed: ``python worker.py URL ADDRESS LOG``.

Each execution is one line in LOG, written through before the work begins.
"""

from __future__ import annotations

import asyncio
import os
import sys

from rpckit import Server, Service


def service_at(address: str, log: str) -> Service:
    service = Service("worker", address=address)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def work(call_id: str, seconds: float) -> int:
        os.write(descriptor, f"{call_id} {os.getpid()}\n".encode())
        await asyncio.sleep(seconds)
        return os.getpid()

    service.method(work, name="once")  # type: ignore[call-overload]
    service.method(work, name="again", idempotent=True)  # type: ignore[call-overload]
    return service


async def main(url: str, address: str, log: str) -> None:
    async with Server(service_at(address, log), url=url):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
