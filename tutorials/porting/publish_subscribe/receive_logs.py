"""Prints every log line.

::

    rpckit serve tutorials.porting.publish_subscribe.receive_logs:service
"""

from __future__ import annotations

import os

from rpckit import Service

LOGS = os.environ.get("LOGS", "fanout:logs")  # the topic

service = Service("receive_logs")


@service.on(LOGS)
async def receive(line: str) -> None:
    print(f" [x] {line}")
