"""A server in a process of its own, to be killed: ``python worker.py URL ADDRESS LOG``.

Each execution is one line in LOG, written through before the work begins.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from rpckit import Server, Service


def service_at(address: str, log: str) -> Service:
    service = Service("worker", address=address)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def work(call_id: str, seconds: float) -> int:
        os.write(descriptor, f"{call_id} {os.getpid()}\n".encode())
        await asyncio.sleep(seconds)
        return os.getpid()

    async def poison(call_id: str) -> None:
        os.write(descriptor, f"{call_id} {os.getpid()}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    service.method(work, name="once")
    service.method(work, name="again", idempotent=True)
    service.method(poison, name="poison", idempotent=True)
    return service


def ready() -> None:
    print("ready", flush=True)


async def main(url: str, address: str, log: str, concurrency: int = 100) -> None:
    async with Server(service_at(address, log), url=url, concurrency=concurrency):
        ready()
        await asyncio.Event().wait()


if __name__ == "__main__":
    url, address, log = sys.argv[1:]
    asyncio.run(main(url, address, log))
