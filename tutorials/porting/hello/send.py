"""Sends one message to `hello`: python tutorials/porting/hello/send.py"""

from __future__ import annotations

import asyncio

from rpckit import Client


async def main() -> None:
    async with Client() as client:
        await client.at("hello").notify("receive", "Hello World!")
    print(" [x] Sent 'Hello World!'")


if __name__ == "__main__":
    asyncio.run(main())
