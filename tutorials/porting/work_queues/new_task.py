"""Sends tasks, whose dots are seconds: python tutorials/porting/work_queues/new_task.py TASK…"""

from __future__ import annotations

import asyncio
import sys

from rpckit import Client


async def main(tasks: list[str]) -> None:
    async with Client() as client:
        queue = client.at("task_queue").using(idempotent=True, timeout=None, no_server="wait")
        for task in tasks:
            await queue.notify("work", task)
            print(f" [x] Sent {task}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["Hello..."]))
