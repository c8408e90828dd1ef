"""The links of one session: which of them ends it when no sign of life comes."""

from __future__ import annotations

import asyncio

import pytest

from rpckit_redis._connection import BLOCK_S, Session
from rpckit_redis._link import Link, pack

from .test_link import Wire

HEARTBEAT = 10.0
LONG = 2 * HEARTBEAT + BLOCK_S  # seconds


async def dial() -> Link:
    return Wire(Link()).link


@pytest.fixture
async def session() -> Session:
    return Session(await dial(), dial, "me")


async def waits_in_vain(session: Session, link: Link) -> None:
    """For a reply, while the main link is well."""
    link.send(pack("PING"), lambda _: None)
    session.look(link.last_read, HEARTBEAT)
    session.main.last_read = link.last_read + LONG
    session.look(link.last_read + LONG, HEARTBEAT)
    await asyncio.sleep(0)


async def test_a_dead_link_ends_its_session(session: Session) -> None:
    link = await session.open_link()
    await waits_in_vain(session, link)
    assert not session.alive
    assert session.close_reason == link.close_reason == "no sign of life from Redis for 22.0 s"


async def test_a_dead_link_that_is_apart_ends_alone(session: Session) -> None:
    """As of somebody who waits for a stored reply: the calls of others go on."""
    link = await session.open_link(apart=True)
    await waits_in_vain(session, link)
    assert not link.alive
    assert session.alive
    assert session.main.alive
