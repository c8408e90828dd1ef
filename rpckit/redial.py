"""Dialling, for transports that keep a connection: each target in turn, and again with back-off when it was lost.

What a session is, and when it is lost, each transport knows by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import TypeVar

from rpckit.backoff import Backoff
from rpckit.errors import NotSent, RpcError, UsageError

__all__ = ["LOG_EVERY", "CredentialsRefused", "dial_in_turn", "redial"]

log = logging.getLogger(__name__)

LOG_EVERY = 60  # failed attempts between two warnings

Target = TypeVar("Target")
Session = TypeVar("Session")


class CredentialsRefused(UsageError):
    """The broker does not know this user, or not with this password: trying again cannot help."""


async def dial_in_turn(
    targets: Iterable[Target], dial: Callable[[Target], Awaitable[Session]]
) -> tuple[Session, Target]:
    """The session of the first target that gives one, and which it was.

    Raises `UsageError` if that is what one of them said; else `NotSent` with what all of them said.
    """
    errors: list[RpcError] = []
    for target in targets:
        try:
            return await dial(target), target
        except RpcError as error:
            errors.append(error)
    fatal = next((error for error in errors if isinstance(error, UsageError)), None)
    if fatal is not None or len(errors) == 1:
        raise fatal or errors[0]
    raise NotSent("; ".join(map(str, errors)) or "there is nothing to dial")


async def redial(connect: Callable[[], Awaitable[None]]) -> None:
    """Returns when `connect` has; it is tried without end, so cancel this to stop. Raises `CredentialsRefused`.

    Any other refusal is tried again: what was good once may be so again when the broker is whole. So is what
    nobody expected, a fault of ours or of the system: it is no reason to stay away.
    """
    backoff, loop = Backoff(), asyncio.get_running_loop()
    began = loop.time()
    for attempt in count():
        await asyncio.sleep(backoff.delay(attempt, loop.time() - began, random.random))
        try:
            await connect()
            return
        except CredentialsRefused:
            raise
        except Exception as error:
            if attempt % LOG_EVERY == 0:
                log.warning(
                    "attempt %d to reconnect failed: %s",
                    attempt + 1,
                    error,
                    exc_info=None if isinstance(error, RpcError) else error,
                )
