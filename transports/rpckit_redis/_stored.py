"""Replies that wait in a list or stream for a caller that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

import hiredis

from rpckit.errors import DeadlineExceeded, UsageError

from ._connection import BLOCK_S, Session
from ._errors import explain
from ._keys import PlaceKind, no_store, stored_at
from ._link import Link

__all__ = ["collect"]

TAKING_S = 1.0  # seconds for Redis to take a reply away that was seen: given up meanwhile, it would be lost


async def collect(session: Session, address: str, timeout: float | None) -> bytes:
    """The envelope of the oldest reply at `address`, taken away. Of several who wait, one gets it.

    One that is seen in time is taken away, for up to `TAKING_S` longer.
    """
    stored = stored_at(address)
    if stored is None:
        raise UsageError(no_store(address))
    kind, key = stored
    take = _take_from_list if kind is PlaceKind.LIST else _take_from_stream
    link: Link | None = None
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout) as limit:
                link = await session.open_link(apart=True)
                while (reply := await take(link, key, limit)) is None:
                    pass
                return reply
    except hiredis.ReplyError as error:
        raise explain(error, f"collecting from {address!r}") from error
    finally:
        if link is not None:
            session.drop(link)
    raise DeadlineExceeded(f"no reply at {address!r} within {timeout:g} s")


async def _take_from_list(link: Link, key: str, limit: asyncio.Timeout) -> bytes | None:
    """Looking leaves it where it is: cancelled meanwhile, nothing is lost."""
    reply: bytes | None = await link.ask("BLMOVE", key, key, "LEFT", "LEFT", int(BLOCK_S))
    return reply if reply is not None and await _is_taken(limit, link.ask("LREM", key, 1, reply)) else None


async def _take_from_stream(link: Link, key: str, limit: asyncio.Timeout) -> bytes | None:
    answer = await link.ask("XREAD", "COUNT", 1, "BLOCK", int(BLOCK_S * 1000), "STREAMS", key, "0")
    for entries in (answer or {}).values():
        for entry, fields in entries:
            if await _is_taken(limit, link.ask("XDEL", key, entry)):
                reply: bytes = fields[1]
                return reply
    return None


async def _is_taken(limit: asyncio.Timeout, taking: Awaitable[int]) -> bool:
    """Whether it was still there. It is waited for beyond `limit`: Redis may have taken it away when that comes."""
    end = limit.when()
    if end is not None:
        limit.reschedule(max(end, asyncio.get_running_loop().time() + TAKING_S))
    taken = await taking == 1
    limit.reschedule(end)
    return taken
