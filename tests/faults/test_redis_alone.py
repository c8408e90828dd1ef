"""Servers on a Pub/Sub channel that come and go: who is alone claims nothing, and nothing runs twice all the same."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from rpckit import Client, RpcError, Server, Service
from rpckit.ids import new_id
from rpckit.testing import Redis

from .world import eventually, of_kind

CALLERS = 64
COMINGS = 20
KILLS = 12

pytestmark = pytest.mark.timeout(60)


class Shop:
    """A service and what each of its servers ran."""

    def __init__(self) -> None:
        self.address = f"faults.alone.{new_id()[:8]}"
        self.executions: Counter[int] = Counter()

    def service(self) -> Service:
        service = Service("alone", address=self.address)

        @service.method
        async def work(n: int) -> int:
            self.executions[n] += 1
            await asyncio.sleep(random.uniform(0, 0.002))
            return n

        return service


@pytest.fixture
def url(own_redis: Redis) -> str:
    return of_kind(own_redis.url, "pubsub")


def claims(broker: Redis) -> int:
    """How many there are: each stays for its call's time and 5 s more."""
    keys = broker.ctl("KEYS", "rpckit:claim:*")
    assert isinstance(keys, list)
    return len(keys)


@asynccontextmanager
async def called(client: Client, shop: Shop) -> AsyncIterator[Counter[str]]:
    """64 callers, and how their calls ended."""
    ends: Counter[str] = Counter()
    going = True

    async def call_on(caller: int) -> None:
        n = caller
        while going:
            n += CALLERS
            try:
                assert await client.call(f"{shop.address}.work", n, timeout=2) == n
                ends["answered"] += 1
            except RpcError as error:  # lost with a connection
                ends[type(error).__name__] += 1
                await asyncio.sleep(0.01)

    callers = [asyncio.create_task(call_on(caller)) for caller in range(CALLERS)]
    try:
        yield ends
    finally:
        going = False
        await asyncio.gather(*callers)


async def test_who_is_alone_claims_nothing_and_nothing_runs_twice_as_others_come_and_go(
    own_redis: Redis, url: str
) -> None:
    shop = Shop()
    async with Client(url) as client, Server(shop.service(), url=url):
        async with called(client, shop) as ends:
            await eventually(lambda: ends["answered"] > 200)
            assert claims(own_redis) == 0
            for _ in range(COMINGS):
                async with Server(shop.service(), url=url):
                    await asyncio.sleep(random.uniform(0.02, 0.1))
                await asyncio.sleep(random.uniform(0, 0.05))
            assert claims(own_redis) > 0
            await asyncio.sleep(1.2)  # it looks around once a second
            own_redis.ctl("FLUSHALL")
            before = ends["answered"]
            await eventually(lambda: ends["answered"] > before + 200)
            assert claims(own_redis) == 0
    assert set(ends) == {"answered"}
    assert set(shop.executions.values()) == {1}


async def test_nothing_runs_twice_as_servers_lose_their_connections(own_redis: Redis, url: str) -> None:
    """Each comes back beside others that may be alone by then."""
    shop = Shop()
    async with Client(url) as client, AsyncExitStack() as servers:
        for _ in range(3):
            await servers.enter_async_context(Server(shop.service(), url=url))
        async with called(client, shop) as ends:
            for _ in range(KILLS):
                await asyncio.sleep(random.uniform(0.02, 0.2))
                for id_ in server_connections(own_redis)[: random.choice([1, 2, 3])]:
                    own_redis.ctl("CLIENT", "KILL", "ID", id_)
            before = ends["answered"]
            await eventually(lambda: ends["answered"] > before + 200)
    assert max(shop.executions.values()) == 1


def server_connections(broker: Redis) -> list[str]:
    """Those that listen for cancels, as no client does."""
    clients = broker.ctl("CLIENT", "LIST")
    assert isinstance(clients, str)
    found = [dict(word.partition("=")[::2] for word in line.split()) for line in clients.splitlines()]
    return [each["id"] for each in found if int(each["sub"]) > 1]


async def test_on_a_replica_nobody_is_alone(url: str, own_redis: Redis) -> None:
    """It was a master when the server came; it passes on what its own master's servers hear as well."""
    shop = Shop()
    async with Server(shop.service(), url=url):
        with Redis() as master:
            own_redis.ctl("REPLICAOF", "127.0.0.1", str(master.port))
            try:
                await asyncio.sleep(2.5)  # it synchronises, and is asked once a second who else is there
                there = of_kind(master.url, "pubsub")
                async with Server(shop.service(), url=there), Client(there) as client:
                    await asyncio.sleep(1.2)
                    for n in range(5):
                        await client.call(f"{shop.address}.work", n, timeout=5)
            finally:
                own_redis.ctl("REPLICAOF", "NO", "ONE")
    assert set(shop.executions.values()) == {1}
