"""A script that uses a client."""

from __future__ import annotations

import subprocess
import sys

SILENT = """
import asyncio
from rpckit import Client, Server, Service

service = Service("s")

@service.method
async def plus(a: int) -> int:
    return a + 1

@service.method
async def hold() -> None:
    await asyncio.sleep(60)

client = Client("memory://silent")

async def main():
    async with Server(service, url="memory://silent", grace=1):
        assert await client.call("s.plus", 1) == 2
        pending = asyncio.ensure_future(client.call("s.hold"))
        await asyncio.sleep(0.01)
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
    asyncio.ensure_future(client.call("nobody.hold", no_server="wait"))
    await asyncio.sleep(0.01)

asyncio.run(main())
asyncio.run(main())
"""


def test_a_client_without_async_with_ends_silently_with_its_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", SILENT], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
