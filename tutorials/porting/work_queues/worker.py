"""Works on tasks, a second for each dot.

::

    RPCKIT_PREFETCH_AHEAD=0 rpckit serve tutorials.porting.work_queues.worker:service --concurrency 1
"""

from __future__ import annotations

import asyncio

from rpckit import Service

service = Service("tasks", address="task_queue")


@service.method(idempotent=True, delivery="at_least_once")
async def work(task: str) -> None:
    print(f" [x] Received {task}")
    await asyncio.sleep(task.count("."))
    print(f" [x] Done {task}")
