"""Streams of services of which nothing may run twice: what comes steadily is taken as begun, without a claim."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import pytest

from rpckit import Client, OutcomeUnknown, Server, Service
from rpckit.ids import new_id
from rpckit.registry import open_transport
from rpckit.testing import Redis
from rpckit.transport import Delivery, begins
from rpckit_redis._pulling import REAP_AT_ONCE

from .world import eventually, of_kind, proxied

SLOTS = 4
IDLE_S = 0.3  # seconds after which nothing comes steadily any more: an idle Redis ends reads ten times a second
REAPED_S = 3.0  # seconds for a server to look around, once a second

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def address(own_redis: Redis) -> Iterator[str]:
    yield f"faults.taken.{new_id()[:8]}"
    own_redis.ctl("FLUSHALL")


@pytest.fixture
def url(own_redis: Redis) -> str:
    return of_kind(own_redis.url, "stream")


class Work:
    """A service that counts its runs, and waits where it is told to."""

    def __init__(self, address: str, *, idempotent: bool = False, name: str = "taken") -> None:
        self.runs: Counter[int] = Counter()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.service = Service(name, address=address)
        self.service.method(idempotent=idempotent)(self.work)

    async def work(self, n: int) -> int:
        self.runs[n] += 1
        await self.go_on.wait()
        return n


class Place:
    """What Redis has at an address."""

    def __init__(self, broker: Redis, address: str) -> None:
        self.ctl = broker.ctl
        self.key = f"rpckit:{{{address}}}:stream"

    def length(self) -> int:
        return int(self.ctl("XLEN", self.key))  # type: ignore[arg-type]

    def pending(self) -> dict[str, int]:
        """Of each consumer that has anything."""
        consumers: Any = self.ctl("XINFO", "CONSUMERS", self.key, "rpckit")
        found = [dict(zip(each[::2], each[1::2], strict=True)) for each in consumers]
        return {each["name"]: each["pending"] for each in found if each["pending"]}

    def deliveries(self) -> dict[str, int]:
        """How often each was delivered that is pending, by its id."""
        entries: Any = self.ctl("XPENDING", self.key, "rpckit", "-", "+", "10")
        return {entry: delivered for entry, *_, delivered in entries}

    def taker(self) -> str:
        """The name under which the only server takes."""
        consumers: Any = self.ctl("XINFO", "CONSUMERS", self.key, "rpckit")
        (name,) = {each[1].removesuffix(":taken") for each in consumers}
        return f"{name}:taken"

    def take_as(self, consumer: str) -> None:
        """One entry, which a server of that name is given and never gets."""
        assert self.ctl("XREADGROUP", "GROUP", "rpckit", consumer, "COUNT", "1", "STREAMS", self.key, ">")


@pytest.fixture
def place(own_redis: Redis, address: str) -> Place:
    return Place(own_redis, address)


async def told_of(client: Client, address: str, deliveries: list[Delivery], count: int) -> None:
    """So many requests, each after the one before was delivered."""
    before = len(deliveries)
    for n in range(count):
        await client.notify(f"{address}.work", n)
        await eventually(partial(lambda n: len(deliveries) > before + n, n))


async def taken_as(consumer: str, client: Client, address: str, place: Place, receiver: Any) -> None:
    """A request that `consumer` is given, and not the `receiver`."""
    receiver.pause()
    await asyncio.sleep(IDLE_S)
    before = place.length()
    await client.notify(f"{address}.work", -1)
    await eventually(lambda: place.length() == before + 1)
    place.take_as(consumer)
    receiver.resume()


async def held(client: Client, address: str, work: Work, place: Place) -> list[asyncio.Future[Any]]:
    """Calls that are taken and run, until `work` may go on."""
    await steady(client, address)
    work.go_on.clear()
    calls: list[asyncio.Future[Any]] = [asyncio.ensure_future(client.call(f"{address}.work", n)) for n in range(SLOTS)]
    await eventually(lambda: sum(place.pending().values()) == SLOTS)
    return calls


async def steady(client: Client, address: str) -> None:
    """Two calls one after the other: what comes next is taken."""
    for n in (-1, -2):
        assert await client.call(f"{address}.work", n) == n


@asynccontextmanager
async def another(url: str, address: str) -> AsyncIterator[Client]:
    """A client whose calls wait for a server."""
    async with Client(url, no_server="wait", timeout=20) as client:
        yield client


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[Any]:
    """A transport that serves, without a server that settles."""
    transport = open_transport(url)
    await transport.connect(serve=True)
    try:
        yield transport
    finally:
        await transport.close()


def links_of_servers(broker: Redis) -> Iterator[str]:
    for line in str(broker.ctl("CLIENT", "LIST")).splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split())
        if int(fields["sub"]) > 1 or fields["cmd"] == "xreadgroup":
            yield fields["id"]


def cut(broker: Redis) -> None:
    for link in links_of_servers(broker):
        broker.ctl("CLIENT", "KILL", "ID", link)


async def broken_off(broker: Redis, transport: Any) -> None:
    """Every link of a server is cut, and it has another session."""
    before = transport._connection.session
    cut(broker)
    await eventually(lambda: transport._connection.session not in [None, before])


async def test_what_comes_steadily_is_claimed_by_nobody(own_redis: Redis, url: str, address: str, place: Place) -> None:
    work = Work(address)
    async with Server(work.service, url=url), Client(url) as client:
        await steady(client, address)
        own_redis.ctl("CONFIG", "RESETSTAT")
        for n in range(100):
            assert await client.call(f"{address}.work", n) == n
        stats = str(own_redis.ctl("INFO", "commandstats"))
        _, _, scripts = stats.partition("cmdstat_evalsha:calls=")
        assert int(scripts.partition(",")[0] or 0) < 20  # presence and looking around
        await eventually(lambda: not place.length() and not place.pending())


async def test_after_a_silence_the_first_one_is_claimed(url: str, address: str, place: Place) -> None:
    """What a server has asked for that freezes while nothing comes is another's in the end, as it was not begun."""
    work = Work(address)
    async with Server(work.service, url=url), Client(url) as client:
        await steady(client, address)
        await asyncio.sleep(IDLE_S)
        work.go_on.clear()
        calls = [asyncio.ensure_future(client.call(f"{address}.work", 1))]
        await eventually(lambda: work.runs[1])
        assert not place.pending()  # as after a claim
        assert not place.length()
        calls.append(asyncio.ensure_future(client.call(f"{address}.work", 2)))
        await eventually(lambda: work.runs[2])
        assert place.pending() == {place.taker(): 1}
        await asyncio.sleep(1.2)  # it has looked around
        assert list(place.deliveries().values()) == [1]
        work.go_on.set()
        assert await asyncio.gather(*calls) == [1, 2]


async def test_no_more_is_taken_than_can_begin(url: str, address: str, place: Place) -> None:
    work = Work(address)
    async with Server(work.service, url=url, concurrency=SLOTS) as server, Client(url, timeout=20) as client:
        await steady(client, address)
        work.go_on.clear()
        calls = [asyncio.ensure_future(client.call(f"{address}.work", n)) for n in range(3 * SLOTS)]
        await eventually(lambda: place.length() == 3 * SLOTS)
        await asyncio.sleep(IDLE_S)
        assert server.in_flight == SLOTS == sum(place.pending().values())
        work.go_on.set()
        assert await asyncio.gather(*calls) == list(range(3 * SLOTS))


@pytest.mark.parametrize("idempotent", [False, True])
async def test_the_caller_of_a_server_that_died_is_told(url: str, address: str, place: Place, idempotent: bool) -> None:
    """By another one, that has its method run again only if it may be."""
    work = Work(address, idempotent=idempotent)
    async with another(url, address) as client:
        async with Server(Work(address).service, url=url):
            await steady(client, address)
        call = asyncio.ensure_future(client.call(f"{address}.work", 1))
        await eventually(lambda: place.length() == 1)
        place.take_as("dead-1:taken")
        async with Server(work.service, url=url):
            if idempotent:
                assert await call == 1
            else:
                with pytest.raises(OutcomeUnknown, match="died with this request in hand"):
                    await call
            await eventually(lambda: not place.length() and not place.pending())
    assert work.runs == ({1: 1} if idempotent else {})


async def test_a_method_that_is_not_there_any_more_may_have_run(url: str, address: str, place: Place) -> None:
    async with another(url, address) as client, Server(Work(address).service, url=url) as before:
        await steady(client, address)
        await before.stop()
        call = asyncio.ensure_future(client.call(f"{address}.work", 1))
        await eventually(lambda: place.length() == 1)
        place.take_as("dead-1:taken")
        service = Service("taken", address=address)

        @service.method
        async def other() -> None: ...

        async with Server(service, url=url):
            with pytest.raises(OutcomeUnknown, match="died with this request in hand"):
                await call


@pytest.mark.parametrize("sign", ["connection", "beat"])
async def test_who_may_come_back_is_not_spoken_for(
    own_redis: Redis, url: str, address: str, place: Place, sign: str
) -> None:
    """A blocked loop beats no more, and a connection that is lost comes back: its server answers by itself."""
    work = Work(address)
    async with another(url, address) as client:
        async with Server(work.service, url=url):
            await steady(client, address)
        call = asyncio.ensure_future(client.call(f"{address}.work", 1))
        await eventually(lambda: place.length() == 1)
        place.take_as("slow-1:taken")
        holder = open_transport(url)
        await holder.connect()
        if sign == "connection":
            await holder._connection.session.main.subscribe("rpckit:consumer:slow-1")  # type: ignore[attr-defined]
        else:
            own_redis.ctl("SET", "rpckit:consumer:slow-1", "1", "PX", str(int(REAPED_S * 1000)))
        async with Server(work.service, url=url):
            await asyncio.sleep(REAPED_S / 2)
            assert not call.done()
            await holder.close()
            with pytest.raises(OutcomeUnknown):
                await call


async def test_what_has_never_been_here_runs_when_the_connection_is_back(url: str, address: str, place: Place) -> None:
    """Given to a link that was broken by then."""
    work = Work(address)
    async with proxied(url) as (proxy, through), another(url, address) as client, Server(work.service, url=through):
        for n in count(1):
            await steady(client, address)
            proxy.freeze("to_client")
            call = asyncio.ensure_future(client.call(f"{address}.work", n))
            await eventually(place.length)
            if place.taker() in place.pending():
                break
            proxy.thaw()  # it was too late for the read that takes
            await call
        proxy.reset()
        proxy.thaw()
        assert await call == n
    assert work.runs[n] == 1


async def test_what_runs_here_is_answered_once_when_the_connection_is_back(
    own_redis: Redis, url: str, address: str, place: Place
) -> None:
    """Long after the new session has found what the old one had not settled; and what ended meanwhile, too."""
    work = Work(address)
    async with Server(work.service, url=url) as server, another(url, address) as client:
        calls = await held(client, address, work, place)
        before = place.taker()
        cut(own_redis)
        await eventually(lambda: sum(place.pending().values()) == SLOTS and before not in place.pending(), REAPED_S)
        work.go_on.set()
        assert await asyncio.gather(*calls) == list(range(SLOTS))
        await eventually(lambda: not place.length() and not place.pending())
        assert server.in_flight == 0
    assert set(work.runs.values()) == {1}


async def test_what_ended_while_the_connection_was_away_is_answered_with_its_result(url: str, address: str) -> None:
    work = Work(address)
    async with proxied(url) as (proxy, through), another(url, address) as client:
        async with Server(work.service, url=through) as server:
            await steady(client, address)
            work.go_on.clear()
            call = asyncio.ensure_future(client.call(f"{address}.work", 1))
            await eventually(lambda: work.runs[1])
            await proxy.refuse()
            proxy.reset()
            await eventually(lambda: not proxy.connections)
            work.go_on.set()
            await eventually(lambda: server.in_flight == 0)
            await proxy.accept()
            assert await call == 1
    assert work.runs[1] == 1


async def test_what_is_handed_back_or_comes_too_late_waits_for_another(url: str, address: str, place: Place) -> None:
    deliveries: list[Delivery] = []
    async with another(url, address) as client:
        transport = open_transport(url)
        await transport.connect(serve=True)
        receiver = await transport.receive(address, deliveries.append, prefetch=3, at_most_once=True)
        for n in range(5):
            await client.notify(f"{address}.work", n)
        await eventually(lambda: len(deliveries) == 3)
        deliveries[0].settle()
        await eventually(lambda: len(deliveries) == 4)
        assert sum(place.pending().values()) == 3
        await receiver.stop()
        for delivery in deliveries:
            delivery.hand_back()
        await eventually(lambda: place.length() == 4 and not place.pending())
        late = await transport.receive(address, deliveries.append, prefetch=10, at_most_once=True)
        await eventually(lambda: len(deliveries) == 8)
        late._reading.cancel()  # type: ignore[attr-defined]  # as one does that Redis does not let go in time
        await client.notify(f"{address}.work", 5)
        await eventually(lambda: place.length() == 5 and len(place.deliveries()) == 4)
        for delivery in deliveries[4:]:
            delivery.settle()
        await eventually(lambda: place.length() == 1 and not place.pending())
        await transport.close()
        work = Work(address)
        async with Server(work.service, url=url):
            await eventually(lambda: work.runs == {5: 1})


async def test_what_was_handed_out_by_a_session_that_is_over_is_settled_in_the_next_one(
    own_redis: Redis, url: str, address: str, place: Place
) -> None:
    """It is not handed out again: it goes on where it is, and waits for a slot there still if it has none."""
    deliveries: list[Delivery] = []
    async with another(url, address) as client, serving(url) as transport:
        receiver = await transport.receive(address, deliveries.append, prefetch=4, at_most_once=True)
        await told_of(client, address, deliveries, 4)
        deliveries[0].settle()
        before = place.deliveries()
        await broken_off(own_redis, transport)
        assert place.deliveries() == before  # nobody has died
        assert receiver.room() == 1
        assert len(deliveries) == 4
        deliveries[1].hand_back()
        assert await begins(deliveries[2])
        deliveries[2].settle()
        await eventually(lambda: len(deliveries) == 5 and place.length() == 2)  # the copy has come
        deliveries[3].settle()
        deliveries[4].settle()
        await eventually(lambda: not place.length() and not place.pending())


async def test_what_waits_for_a_slot_runs_when_the_connection_is_back(
    own_redis: Redis, url: str, address: str, place: Place
) -> None:
    """Another service of the same server had them all."""
    work, other = Work(address), Work(f"{address}.other", name="other")
    async with (
        another(url, address) as client,
        Server(work.service, other.service, url=url, concurrency=1),
    ):
        await steady(client, address)
        other.go_on.clear()
        busy = asyncio.ensure_future(client.call(f"{address}.other.work", 0))
        await eventually(lambda: other.runs[0])
        waiting = asyncio.ensure_future(client.call(f"{address}.work", 1))
        await eventually(place.length)
        before = place.taker()
        cut(own_redis)
        await eventually(lambda: place.pending() and before not in place.pending(), REAPED_S)
        other.go_on.set()
        assert await busy == 0
        assert await waiting == 1
    assert work.runs[1] == 1


async def test_what_never_came_runs_once_however_often_the_connection_is_lost(
    own_redis: Redis, url: str, address: str, place: Place
) -> None:
    """Given to a link that was broken by then, begun in the next session, and over when that is lost too."""
    deliveries: list[Delivery] = []
    async with another(url, address) as client, serving(url) as transport:
        receiver = await transport.receive(address, deliveries.append, prefetch=3, at_most_once=True)
        await taken_as(f"{transport._connection.session.consumer}:taken", client, address, place, receiver)
        await broken_off(own_redis, transport)
        await eventually(lambda: len(deliveries) == 1)
        assert not deliveries[0].redelivered
        assert await begins(deliveries[0])
        transport._connection.session.abort("once more")
        deliveries[0].settle()
        await eventually(lambda: not place.length() and not place.pending())
        assert len(deliveries) == 1


async def test_what_never_came_is_not_forgotten_over_much_that_runs(
    own_redis: Redis, url: str, address: str, place: Place
) -> None:
    """More than is taken over at once, so that what is new is read before it."""
    deliveries: list[Delivery] = []
    async with another(url, address) as client, serving(url) as transport:
        receiver = await transport.receive(address, deliveries.append, prefetch=100, at_most_once=True)
        await told_of(client, address, deliveries, REAP_AT_ONCE + 9)
        assert await begins(deliveries[0])  # not taken: nothing came before it
        await eventually(lambda: place.length() == REAP_AT_ONCE + 8)
        await taken_as(f"{transport._connection.session.consumer}:taken", client, address, place, receiver)
        await broken_off(own_redis, transport)
        for n in (-2, -3):
            await client.notify(f"{address}.work", n)
            await eventually(partial(lambda n: len(deliveries) >= REAP_AT_ONCE + 8 - n, n))
        await eventually(lambda: len(deliveries) == REAP_AT_ONCE + 9 + 3)
        for delivery in deliveries[1:]:
            assert await begins(delivery)
            delivery.settle()
        await eventually(lambda: not place.length() and not place.pending())


async def test_what_somebody_dead_may_have_run_does_not_run_though_the_connection_is_lost_meanwhile(
    own_redis: Redis, url: str, address: str, place: Place
) -> None:
    deliveries: list[Delivery] = []
    async with another(url, address) as client, serving(url) as transport:
        receiver = await transport.receive(address, deliveries.append, prefetch=3, at_most_once=True)
        await taken_as("dead-1:taken", client, address, place, receiver)
        await eventually(lambda: len(deliveries) == 1)
        await broken_off(own_redis, transport)
        await eventually(lambda: len(deliveries) == 2)
        assert not await begins(deliveries[0])  # of a session that is over
        with pytest.raises(OutcomeUnknown, match="died with this request in hand"):
            await begins(deliveries[1])


async def test_what_another_took_over_is_not_remembered(own_redis: Redis, url: str, address: str, place: Place) -> None:
    deliveries: list[Delivery] = []
    async with another(url, address) as client, serving(url) as transport:
        receiver: Any = await transport.receive(address, deliveries.append, prefetch=3, at_most_once=True)
        await told_of(client, address, deliveries, 2)
        assert len(receiver._here) == 1
        own_redis.ctl("DEL", place.key)
        await broken_off(own_redis, transport)
        for delivery in deliveries:
            delivery.settle()
        await eventually(lambda: not receiver._here)


async def test_what_is_taken_of_a_shared_stream_stays_for_the_others(own_redis: Redis, url: str) -> None:
    key = f"faults:taken:{new_id()[:8]}"
    deliveries: list[Delivery] = []
    async with another(url, key) as client, serving(url) as transport:
        await transport.receive(f"stream:{key}", deliveries.append, prefetch=3, at_most_once=True)
        own_redis.ctl("XGROUP", "CREATE", key, "theirs", "0")
        await told_of(client, f"stream:{key}", deliveries, 3)
        for delivery in deliveries:
            delivery.settle()
        await eventually(lambda: own_redis.ctl("XPENDING", key, "rpckit", "-", "+", "10") == [])
        assert int(own_redis.ctl("XLEN", key)) == 3  # type: ignore[arg-type]


async def test_what_ends_after_the_last_read_is_settled_at_once(url: str, address: str, place: Place) -> None:
    deliveries: list[Delivery] = []
    async with another(url, address) as client, serving(url) as transport:
        receiver = await transport.receive(address, deliveries.append, prefetch=3, at_most_once=True)
        await told_of(client, address, deliveries, 3)
        await receiver.stop()
        for delivery in deliveries:
            delivery.settle()
        await eventually(lambda: not place.length() and not place.pending())


async def test_what_was_settled_is_told_of_before_the_connection_is_closed(
    url: str, address: str, place: Place
) -> None:
    async with another(url, address) as client, Server(Work(address).service, url=url):
        await steady(client, address)
    assert not place.pending()
    assert not place.length()


async def test_what_is_in_hand_is_kept_from_the_others_where_there_is_no_room(
    own_redis: Redis, url: str, address: str, place: Place
) -> None:
    """They would tell the callers of what runs and is answered that nobody knows."""
    work, slots = Work(address), 40
    async with Server(work.service, url=url, concurrency=slots), another(url, address) as client:
        await steady(client, address)
        work.go_on.clear()
        calls = [asyncio.ensure_future(client.call(f"{address}.work", n)) for n in range(3 * slots)]
        await eventually(lambda: len(work.runs) == slots + 2)
        before = place.taker()
        cut(own_redis)
        await eventually(lambda: place.pending() and before not in place.pending(), REAPED_S)
        await asyncio.sleep(IDLE_S)
        assert sum(place.pending().values()) <= slots
        work.go_on.set()
        assert await asyncio.gather(*calls) == list(range(3 * slots))
        await eventually(lambda: not place.length() and not place.pending())


async def test_what_runs_while_a_server_stops_is_kept_from_the_others(
    own_redis: Redis, url: str, address: str, place: Place
) -> None:
    work = Work(address)
    async with Server(work.service, url=url) as server, another(url, address) as client:
        calls = await held(client, address, work, place)
        before = place.taker()
        stopping = asyncio.ensure_future(server.stop(grace=20))
        await asyncio.sleep(IDLE_S)
        cut(own_redis)
        await eventually(lambda: sum(place.pending().values()) == SLOTS and before not in place.pending(), REAPED_S)
        work.go_on.set()
        assert await asyncio.gather(*calls) == list(range(SLOTS))
        await stopping
        assert not place.length()
        assert not place.pending()


async def test_who_has_just_come_back_does_not_speak_for_those_who_have_not_yet(
    url: str, address: str, place: Place
) -> None:
    """Where Redis was away for long, nobody's sign of life is left."""
    async with another(url, address) as client:
        async with Server(Work(address).service, url=url):
            await steady(client, address)
        call = asyncio.ensure_future(client.call(f"{address}.work", 1))
        await eventually(lambda: place.length() == 1)
        place.take_as("slow-1:taken")
        async with Server(Work(address).service, url=url):
            assert place.pending() == {"slow-1:taken": 1}
            with pytest.raises(OutcomeUnknown):
                await call
