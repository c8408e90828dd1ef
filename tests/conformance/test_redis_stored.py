"""Replies that wait in a list or stream of Redis for a caller that comes back."""

from __future__ import annotations

import asyncio

import pytest

from rpckit import Client, Server, Service
from rpckit.errors import DeadlineExceeded, InternalError, UsageError
from rpckit.ids import new_id
from rpckit.testing import memory_pair
from rpckit_redis import RedisResponse


@pytest.fixture
def service() -> Service:
    service = Service(f"stored-{new_id()}")

    @service.method
    async def double(n: int) -> int:
        return 2 * n

    @service.method
    async def boom() -> None:
        raise ValueError("a secret")

    @service.method
    async def capped(n: int) -> RedisResponse:
        return RedisResponse(n, headers={"x": "1"}, maxlen=2)

    return service


@pytest.fixture(params=["list", "stream"])
def reply_to(request: pytest.FixtureRequest) -> str:
    return f"{request.param}:rpckit:reply:{new_id()}"


@pytest.mark.parametrize("kind", ["stream", "list", "pubsub"])
async def test_a_reply_waits_for_another_client(redis_url: str, service: Service, reply_to: str, kind: str) -> None:
    """With its value or its error, in the order of the replies, each to one who asks."""
    url = redis_url.replace("redis://", f"redis+{kind}://")
    async with Server(service, url=url, concurrency=1):
        async with Client(url) as client:
            await client.notify(f"{service.address}.double", 21, reply_to=reply_to)
            await client.notify(f"{service.address}.boom", reply_to=reply_to)
        async with Client(url) as later:
            assert await later.collect(reply_to, timeout=5) == 42
            with pytest.raises(InternalError):
                await later.collect(reply_to, timeout=5)
            with pytest.raises(DeadlineExceeded):
                await later.collect(reply_to, timeout=0.05)


async def test_of_two_who_wait_one_gets_it(redis_url: str, service: Service, reply_to: str) -> None:
    async with Server(service, url=redis_url), Client(redis_url) as client:
        waiting = [asyncio.create_task(client.collect(reply_to, timeout=1)) for _ in range(2)]
        await asyncio.sleep(0.1)
        await client.notify(f"{service.address}.double", 1, reply_to=reply_to)
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(str(type(end).__name__) for end in ends) == ["DeadlineExceeded", "int"]


async def test_a_handler_caps_what_is_kept(redis_url: str, service: Service, reply_to: str) -> None:
    """`maxlen`: the newest stay."""
    async with Server(service, url=redis_url, concurrency=1), Client(redis_url) as client:
        for n in range(5):
            await client.notify(f"{service.address}.capped", n, reply_to=reply_to)
        await asyncio.sleep(0.3)
        assert [await client.collect(reply_to, timeout=5) for _ in range(2)] == [3, 4]


async def test_a_cancelled_collector_takes_nothing(redis_url: str, service: Service, reply_to: str) -> None:
    async with Server(service, url=redis_url), Client(redis_url) as client:
        waiting = asyncio.create_task(client.collect(reply_to, timeout=5))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await client.notify(f"{service.address}.double", 4, reply_to=reply_to)
        assert await client.collect(reply_to, timeout=5) == 8


async def test_nothing_is_stored_elsewhere(redis_url: str, service: Service) -> None:
    """A stranger cannot make a server write to a key of its choice."""
    async with Client(redis_url) as client:
        with pytest.raises(UsageError, match="replies are stored at"):
            await client.collect("list:secrets")
        with pytest.raises(UsageError):
            await client.notify(f"{service.address}.double", 1, reply_to="list:secrets")


async def test_a_transport_that_stores_none_says_so(service: Service) -> None:
    async with memory_pair(service) as client:
        with pytest.raises(UsageError, match="memory stores no replies"):
            await client.collect("list:rpckit:reply:x")
        with pytest.raises(UsageError, match="memory stores no replies"):
            await client.notify(f"{service.address}.double", 1, reply_to="list:rpckit:reply:x")
