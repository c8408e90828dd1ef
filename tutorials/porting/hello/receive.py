"""Receives what is sent to `hello`.

::

    rpckit serve tutorials.porting.hello.receive:service
"""

from __future__ import annotations

from rpckit import Service

service = Service("hello")


@service.method
async def receive(text: str) -> None:
    print(f" [x] Received {text}")
