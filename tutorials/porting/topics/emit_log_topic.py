"""Tells a log line of a facility and severity: python tutorials/porting/topics/emit_log_topic.py kern.critical LINE…"""

from __future__ import annotations

import asyncio
import os
import sys

from rpckit import Client

LOGS = os.environ.get("LOGS", "topic:topic_logs/")  # what the topics begin with


async def main(key: str, line: str) -> None:
    async with Client() as client:
        await client.emit(LOGS + key, line)
    print(f" [x] Sent {key}:{line}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], " ".join(sys.argv[2:])))
