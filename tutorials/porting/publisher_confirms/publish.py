"""Sends a thousand messages; the broker has confirmed each: python tutorials/porting/publisher_confirms/publish.py"""

from __future__ import annotations

import asyncio

from rpckit import Client

MESSAGES = 1_000


async def main() -> None:
    async with Client() as client:
        queue = client.at("confirms").using(no_server="wait", timeout=None)
        await queue.notify("count", "one by one")  # returns when the broker has it
        async with asyncio.TaskGroup() as tasks:  # and ends when it has all of them
            for number in range(1, MESSAGES):
                tasks.create_task(queue.notify("count", str(number)))
    print(f" [x] {MESSAGES} messages are confirmed")


if __name__ == "__main__":
    asyncio.run(main())
