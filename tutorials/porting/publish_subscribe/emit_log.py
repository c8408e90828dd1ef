"""Tells everyone a log line: python tutorials/porting/publish_subscribe/emit_log.py LINE…"""

from __future__ import annotations

import asyncio
import os
import sys

from rpckit import Client

LOGS = os.environ.get("LOGS", "fanout:logs")  # the topic


async def main(line: str) -> None:
    async with Client() as client:
        await client.emit(LOGS, line)
    print(f" [x] Sent {line}")


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "info: Hello World!"))
