"""Counts what was sent.

::

    rpckit serve tutorials.porting.publisher_confirms.count:service
"""

from __future__ import annotations

from itertools import count as counter

from rpckit import Service

MESSAGES = 1_000

service = Service("confirms")
numbers = counter(1)


@service.method
async def count(text: str) -> None:
    number = next(numbers)
    if number % MESSAGES == 0:
        print(f" [x] {number} messages have come")
