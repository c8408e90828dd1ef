"""A broker that takes smaller bodies than we do: one that is too large costs its own call, and no other.

It closes the channel of what it refuses, and so ends a connection once; from then on it is known.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from rpckit import Client, ConnectionLost, RemoteError, Server, Service, UsageError
from rpckit.testing import RabbitMq

from .world import eventually

MOST = 65_536  # bytes of a body
TOO_MUCH = b"x" * 100_000

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def small_url() -> Iterator[str]:
    with RabbitMq(config={"max_message_size": str(MOST)}) as broker:
        yield broker.url


@pytest.fixture
def runs() -> Counter[str]:
    return Counter()


@pytest.fixture
async def server(small_url: str, runs: Counter[str]) -> AsyncIterator[Server]:
    service = Service("small")

    async def give(size: int) -> bytes:
        runs["give"] += 1
        return b"x" * size

    service.method(give, name="give")
    service.method(give, name="give_again", idempotent=True)

    @service.method(idempotent=True)
    async def take(body: bytes) -> int:
        runs["take"] += 1
        return len(body)

    async with Server(service, url=small_url) as server:
        yield server


def reconnections(client: Client) -> list[str]:
    told: list[str] = []
    client.transport.on_state(lambda state, why: told.append(why) if state == "reconnecting" else None)
    return told


@pytest.mark.parametrize("method", ["give", "give_again"])
async def test_a_reply_the_broker_finds_too_large_is_told_as_such_and_stops_no_other(
    small_url: str, server: Server, runs: Counter[str], method: str
) -> None:
    async with Client(small_url, timeout=5) as client:
        poisoned = asyncio.create_task(client.call(f"small.{method}", len(TOO_MUCH)))
        others = [asyncio.create_task(client.call("small.take", b"x" * n, idempotent=True)) for n in range(20)]
        assert await asyncio.gather(*others) == list(range(20))
        with pytest.raises(RemoteError, match=f"{method} cannot be sent: .*takes {MOST}") as failed:
            await poisoned
        assert failed.value.code == "DATA_LOSS"
        with pytest.raises(RemoteError, match=f"cannot be sent: .*takes {MOST}"):
            await client.call(f"small.{method}", len(TOO_MUCH))
        assert len(await client.call(f"small.{method}", MOST - 100)) == MOST - 100
    assert runs["give"] == 3


async def test_a_request_the_broker_finds_too_large_ends_one_connection_and_is_not_sent_for_ever(
    small_url: str, server: Server, runs: Counter[str]
) -> None:
    async with Client(small_url, timeout=5) as client:
        await client.connect()
        lost = reconnections(client)
        for _ in range(2):
            with pytest.raises(UsageError, match=f"takes {MOST}.* max_message_size"):
                await client.call("small.take", TOO_MUCH, idempotent=True)
        with pytest.raises(UsageError, match=f"takes {MOST}"):
            await client.notify("small.take", TOO_MUCH)
        with pytest.raises(UsageError, match=f"takes {MOST}"):
            await client.emit("small", TOO_MUCH)
        assert await client.call("small.take", b"x") == 1
    assert len(lost) == 1
    assert runs["take"] == 1


async def test_a_notification_the_broker_finds_too_large_is_a_usage_error_from_the_first(
    small_url: str, server: Server
) -> None:
    async with Client(small_url, timeout=5) as client:
        with pytest.raises(UsageError, match=f"takes {MOST}"):
            await client.notify("small.take", TOO_MUCH)


async def test_a_limit_is_forgotten_with_the_next_loss_as_it_may_have_been_raised(
    small_url: str, server: Server
) -> None:
    async with Client(small_url, timeout=5) as client:
        for _ in range(2):
            with pytest.raises(UsageError, match=f"takes {MOST}"):
                await client.notify("small.take", TOO_MUCH)
        lost = reconnections(client)
        client.transport._publishing.session.protocol.transport.abort()  # type: ignore[attr-defined]
        await eventually(lambda: bool(lost))
        with pytest.raises(ConnectionLost, match="larger than"):
            await client.call("small.take", TOO_MUCH)
    assert len(lost) == 2
