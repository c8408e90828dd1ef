"""Replies that wait in a list or stream of Redis for a caller that comes back."""

from __future__ import annotations

import asyncio

import pytest

from rpckit import Client, Server, Service
from rpckit.errors import ConnectionLost, DeadlineExceeded, InternalError, UsageError
from rpckit.ids import new_id
from rpckit.message import Kind, Message
from rpckit.testing import FaultProxy, Redis, memory_pair
from rpckit.url import Url
from rpckit_redis import RedisResponse
from rpckit_redis._replier import _storing


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


async def test_a_reply_is_stored_where_redis_has_filled_up_meanwhile(own_redis: Redis, reply_to: str) -> None:
    """Its request was taken, and is settled with it."""
    service, begun, go_on = Service(f"stored-{new_id()}"), asyncio.Event(), asyncio.Event()

    @service.method(idempotent=True)
    async def work() -> int:
        begun.set()
        await go_on.wait()
        return 7

    async with Server(service, url=own_redis.url), Client(own_redis.url) as client:
        await client.notify(f"{service.address}.work", reply_to=reply_to)
        await begun.wait()
        own_redis.ctl("CONFIG", "SET", "maxmemory", "1")
        try:
            go_on.set()
            await asyncio.sleep(0.2)
        finally:
            own_redis.ctl("CONFIG", "SET", "maxmemory", "0")
        assert await client.collect(reply_to, timeout=2) == 7


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


async def test_a_reply_seen_just_in_time_is_not_lost(redis_url: str, service: Service, reply_to: str) -> None:
    """It is taken away by a command of its own, whose answer comes behind the end of the collector's time."""
    host = Url.parse(redis_url).hosts[0]
    async with Server(service, url=redis_url), FaultProxy(host.name, host.port or 6379) as proxy:
        async with Client(redis_url) as client:
            await client.notify(f"{service.address}.double", 21, reply_to=reply_to)
        async with Client(proxy.url(redis_url)) as slow:
            proxy.delay(0.2)  # the greeting, looking and taking it away: 0.4 s each
            try:
                value = await slow.collect(reply_to, timeout=1)
            except DeadlineExceeded:  # on a slow machine it was not seen in time
                value = await slow.collect(reply_to, timeout=5)
            assert value == 42


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


async def test_the_same_reply_sent_twice_is_stored_once(redis_url: str, reply_to: str) -> None:
    """As after a lost connection: nobody knows whether Redis had it."""
    command = _storing(Message(Kind.REPLY, reply_to, content_type="application/json", body=b"7"), 1.0)
    other = _storing(Message(Kind.REPLY, reply_to, content_type="application/json", body=b"7"), 1.0)
    async with Client(redis_url) as client:
        session = client.transport._connection.session  # type: ignore[attr-defined]
        for each in (command, command, other):
            session.main.send(each, lambda _: None)
        assert [await client.collect(reply_to, timeout=5) for _ in range(2)] == [7, 7]
        with pytest.raises(DeadlineExceeded):
            await client.collect(reply_to, timeout=0.05)


async def test_a_collector_whose_connection_is_lost_harms_nobody_else(redis_url: str, reply_to: str) -> None:
    async with Client(redis_url) as client:
        waiting = asyncio.create_task(client.collect(reply_to, timeout=5))
        session = client.transport._connection.session  # type: ignore[attr-defined]
        while len(session._links) == 1:
            await asyncio.sleep(0.01)
        session._links[-1].abort("killed")
        with pytest.raises(ConnectionLost):
            await waiting
        assert session.alive


async def test_what_was_written_before_closing_has_left_when_its_loop_ends(redis_url: str) -> None:
    """A connection that is only closed sends the rest while its loop runs, and not after that."""
    topic, count, heard = f"t{new_id()}", 12, asyncio.Semaphore(0)
    service = Service("ears")

    @service.on(topic)
    async def hear(data: bytes) -> None:
        heard.release()

    async def emit() -> None:
        async with Client(redis_url) as client:
            for _ in range(count):
                await client.emit(topic, bytes(900_000))

    async with Server(service, url=redis_url):
        await asyncio.to_thread(asyncio.run, emit())
        async with asyncio.timeout(5):
            for _ in range(count):
                await heard.acquire()
