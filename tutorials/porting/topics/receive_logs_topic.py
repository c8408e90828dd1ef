"""Prints the log lines whose facility and severity fit a pattern.

::

    PATTERNS='kern.*,*.critical' rpckit serve tutorials.porting.topics.receive_logs_topic:service
"""

from __future__ import annotations

import os

from rpckit import Context, Service

LOGS = os.environ.get("LOGS", "topic:topic_logs/")  # what the topics begin with

service = Service("receive_logs_topic")


async def receive(line: str, ctx: Context) -> None:
    print(f" [x] {ctx.topic.removeprefix(LOGS)}:{line}")


for pattern in os.environ.get("PATTERNS", "#").split(","):
    service.on(LOGS + pattern)(receive)
