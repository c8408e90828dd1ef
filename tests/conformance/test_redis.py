"""Redis passes the suite with each kind of place."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from rpckit import Client, Server, Service
from rpckit.errors import MethodNotFound, NoResponder, Overloaded
from rpckit.ids import new_id
from rpckit.testing import Redis
from rpckit.testing.conformance import ReconnectConformance, TransportConformance
from rpckit.testing.conformance._rig import until
from rpckit.transport import Transport
from rpckit_redis import RedisTransport


class _Redis:
    kind: ClassVar[str]

    @pytest.fixture
    def url(self, redis_url: str) -> str:
        return redis_url.replace("redis://", f"redis+{self.kind}://")


class _Reconnects(ReconnectConformance):
    async def cut(self, transport: Transport) -> None:
        """Abort the socket; the transport is told by its event loop, as of any loss."""
        assert isinstance(transport, RedisTransport)
        session = transport._connection.session
        if session is not None and session.main.transport is not None:
            session.main.transport.abort()
        await asyncio.sleep(0)


class TestStreams(_Redis, TransportConformance):
    kind = "stream"


class TestLists(_Redis, TransportConformance):
    kind = "list"


class TestPubSub(_Redis, TransportConformance):
    kind = "pubsub"


async def test_a_replica_without_the_method_lets_the_others_run_it(redis_url: str) -> None:
    """A rolling update over Pub/Sub: both hear the request; only when nobody runs it is it refused, once."""
    url, address, ran = redis_url.replace("redis://", "redis+pubsub://"), f"mix-{new_id()}", []
    old, new = Service(address), Service(address)

    @old.method
    async def before() -> None: ...

    @new.method
    async def after(n: int) -> int:
        ran.append(n)
        return n

    async with Server(old, url=url), Server(new, url=url), Client(url) as client:
        for n in range(20):
            assert await client.call(f"{address}.after", n) == n
        assert ran == list(range(20))
        with pytest.raises(MethodNotFound):
            await client.call(f"{address}.never")
        assert client.late_replies == 0


async def test_a_strangers_key_of_the_same_name_is_apart(redis_url: str) -> None:
    """`x` and `list:x` share nothing: neither presence nor what a dead server left."""
    url, name = redis_url.replace("redis://", "redis+list://"), f"x-{new_id()}"
    ours = Service("ours", address=name)

    @ours.method
    async def f() -> None: ...

    async with Server(ours, url=url), Client(url) as client:
        with pytest.raises(NoResponder):
            await client.call(f"list:{name}.f", timeout=2)


@pytest.mark.parametrize("kind", ["stream", "list"])
async def test_what_has_filled_redis_can_be_drained(own_redis: Redis, kind: str) -> None:
    """Nothing more goes in, and what waits is worked off."""
    url, address, ran = own_redis.url.replace("redis://", f"redis+{kind}://"), f"full-{kind}", []
    service = Service(address)

    @service.method
    async def work(n: int) -> None:
        ran.append(n)

    async with Client(url, no_server="wait") as client:
        for n in range(50):
            await client.notify(f"{address}.work", n)
        own_redis.ctl("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(Overloaded):
                await client.notify(f"{address}.work", -1)
            async with Server(service, url=url):
                await until(lambda: len(ran) == 50, "everything that waited")
        finally:
            own_redis.ctl("CONFIG", "SET", "maxmemory", "0")
    assert ran == list(range(50))


async def test_a_redis_that_evicts_is_warned_of(own_redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Once a server, and in time: before what waits is forgotten."""
    service = Service("evicted")
    service.method(_nothing)
    own_redis.ctl("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        async with Server(service, url=own_redis.url):
            assert "evicts keys when it is full (allkeys-lru)" in caplog.text
    finally:
        own_redis.ctl("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def _nothing() -> None: ...


class TestStreamsReconnect(_Redis, _Reconnects):
    kind = "stream"


class TestListsReconnect(_Redis, _Reconnects):
    kind = "list"


class TestPubSubReconnects(_Redis, _Reconnects):
    kind = "pubsub"
