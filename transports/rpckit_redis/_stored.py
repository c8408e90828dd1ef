"""Replies that wait in a list or stream for a caller that comes back."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import hiredis

from rpckit.errors import DeadlineExceeded, UsageError

from ._connection import BLOCK_S, Session
from ._errors import explain
from ._keys import PlaceKind, no_store, stored_at
from ._link import Link

__all__ = ["collect"]


async def collect(session: Session, address: str, timeout: float | None) -> bytes:
    """The envelope of the oldest reply at `address`, taken away. Of several who wait, one gets it."""
    stored = stored_at(address)
    if stored is None:
        raise UsageError(no_store(address))
    kind, key = stored
    take = _take_from_list if kind is PlaceKind.LIST else _take_from_stream
    link: Link | None = None
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                link = await session.open_link(apart=True)
                while (reply := await take(link, key)) is None:
                    pass
                return reply
    except hiredis.ReplyError as error:
        raise explain(error, f"collecting from {address!r}") from error
    finally:
        if link is not None:
            session.drop(link)
    raise DeadlineExceeded(f"no reply at {address!r} within {timeout:g} s")


async def _take_from_list(link: Link, key: str) -> bytes | None:
    """Looking leaves it where it is: cancelled meanwhile, nothing is lost."""
    reply: bytes | None = await link.ask("BLMOVE", key, key, "LEFT", "LEFT", int(BLOCK_S))
    return reply if reply is not None and await link.ask("LREM", key, 1, reply) == 1 else None


async def _take_from_stream(link: Link, key: str) -> bytes | None:
    answer = await link.ask("XREAD", "COUNT", 1, "BLOCK", int(BLOCK_S * 1000), "STREAMS", key, "0")
    for entries in (answer or {}).values():
        for entry, fields in entries:
            if await link.ask("XDEL", key, entry) == 1:
                reply: bytes = fields[1]
                return reply
    return None
