"""Prints the log lines of some severities.

::

    SEVERITIES=warning,error rpckit serve tutorials.porting.routing.receive_logs_direct:service
"""

from __future__ import annotations

import os

from rpckit import Context, Service

LOGS = os.environ.get("LOGS", "direct:direct_logs/")  # what the topics begin with

service = Service("receive_logs_direct")


async def receive(line: str, ctx: Context) -> None:
    print(f" [x] {ctx.topic.removeprefix(LOGS)}:{line}")


for severity in os.environ.get("SEVERITIES", "info,warning,error").split(","):
    service.on(LOGS + severity)(receive)
