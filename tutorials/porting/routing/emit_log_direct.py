"""Tells a log line of a severity: python tutorials/porting/routing/emit_log_direct.py SEVERITY LINE…"""

from __future__ import annotations

import asyncio
import os
import sys

from rpckit import Client

LOGS = os.environ.get("LOGS", "direct:direct_logs/")  # what the topics begin with


async def main(severity: str, line: str) -> None:
    async with Client() as client:
        await client.emit(LOGS + severity, line)
    print(f" [x] Sent {severity}:{line}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], " ".join(sys.argv[2:])))
