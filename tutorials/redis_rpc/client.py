"""The requests of FastStream's page on Redis RPC.

::

    python tutorials/redis_rpc/client.py
"""

from __future__ import annotations

import asyncio
import os

from rpckit import Client

URL = os.environ.get("RPCKIT_URL", "redis://localhost:6379")


async def main() -> None:
    msg = "Hi!"

    async with Client(URL) as client:
        response = await client.request("channel:test-channel", msg, timeout=3.0)
        assert response.decode() == msg

        response = await client.request("list:test-list", msg, timeout=3.0)
        assert response.decode() == msg

        response = await client.request("stream:test-stream", msg, timeout=3.0)
        assert response.decode() == msg

    print("channel, list and stream answered")


if __name__ == "__main__":
    asyncio.run(main())
