"""Exchanges of programs with pika and FastStream, and channels of programs with redis-py: rpckit at either end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pika
import pytest
import redis as redis_py
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from rpckit import Client, Context, Server, Service, UsageError
from rpckit.ids import new_id

PATIENCE_S = 10.0


class Heard(NamedTuple):
    topic: str
    value: Any
    headers: dict[str, str]


class Listener:
    """A service that hears `topics`, and remembers what."""

    def __init__(self, *topics: str, group: str = "") -> None:
        self.heard: list[Heard] = []
        self.service = Service("listener")
        for topic in topics:
            self.service.on(topic, group=group)(self.hear)

    async def hear(self, value: str, ctx: Context) -> None:
        self.heard.append(Heard(ctx.topic, value, dict(ctx.headers)))

    @property
    def values(self) -> list[Any]:
        return sorted(each.value for each in self.heard)


class Pika:
    """A program of the tutorials' kind."""

    def __init__(self, url: str) -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()

    def listen(self, exchange: str, kind: str, *keys: str) -> str:
        self.channel.exchange_declare(exchange, exchange_type=kind)
        queue: str = self.channel.queue_declare("", exclusive=True).method.queue
        for key in keys:
            self.channel.queue_bind(queue, exchange, key)
        return queue

    def heard(self, queue: str) -> list[tuple[str, bytes, pika.BasicProperties]]:
        """What has come by now, within a second."""
        messages = []
        for method, properties, body in self.channel.consume(queue, auto_ack=True, inactivity_timeout=1):
            if method is None:
                break
            messages.append((method.routing_key, body, properties))
        self.channel.cancel()
        return messages


@pytest.fixture
def old(amqp_url: str) -> Iterator[Pika]:
    program = Pika(amqp_url)
    yield program
    program.connection.close()


@pytest.fixture
def exchange(amqp_url: str) -> Iterator[str]:
    """A name that nobody has used; deleted afterwards."""
    name = f"interop.{new_id()}"
    yield name
    program = Pika(amqp_url)
    program.channel.exchange_delete(name)
    program.connection.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(url: str, *listeners: Listener) -> AsyncIterator[Client]:
    async with Server(*(listener.service for listener in listeners), url=url), Client(url) as client:
        yield client


TOPICS = [("fanout", ""), ("direct", "/info"), ("topic", "/kern.info")]


@pytest.mark.parametrize("kind, key", TOPICS)
@pytest.mark.parametrize("first", ["old", "new"])
async def test_either_side_may_start_first(
    amqp_url: str, old: Pika, exchange: str, kind: str, key: str, first: str
) -> None:
    """Both declare the exchange in the same way, so that neither is refused."""
    topic, routing_key = f"{kind}:{exchange}{key}", key.removeprefix("/")
    if first == "old":
        queue = old.listen(exchange, kind, routing_key)
    listener = Listener(topic)
    async with listening(amqp_url, listener) as client:
        if first == "new":
            queue = old.listen(exchange, kind, routing_key)
        await client.emit(topic, "new", headers={"user": "7"})
        old.channel.basic_publish(exchange, routing_key, "old", pika.BasicProperties(headers={"number": 8}))
        await until(lambda: len(listener.heard) == 2)
    assert sorted(listener.heard, key=lambda each: each.value) == [
        Heard(topic, "new", {"user": "7"}),
        Heard(topic, "old", {"number": "8"}),
    ]
    new, _ = sorted(old.heard(queue), key=lambda message: message[1])
    assert (new[0], new[1], new[2].headers) == (routing_key, b"new", {"user": "7"})
    assert new[2].app_id is new[2].type is new[2].message_id is new[2].content_type is None


async def test_a_pattern_is_the_exchanges_own(amqp_url: str, old: Pika, exchange: str) -> None:
    listener, everything = Listener(f"topic:{exchange}/kern.*"), Listener(f"topic:{exchange}/#")
    async with listening(amqp_url, listener, everything):
        for key in ("kern.info", "cron.info", "kern", "kern.info.more"):
            old.channel.basic_publish(exchange, key, key)
        await until(lambda: len(everything.heard) == 4 and listener.heard)
    assert [each.topic for each in listener.heard] == [f"topic:{exchange}/kern.info"]


async def test_a_group_shares_what_an_exchange_has(amqp_url: str, old: Pika, exchange: str) -> None:
    one, other = Listener(f"fanout:{exchange}", group="g"), Listener(f"fanout:{exchange}", group="g")
    async with listening(amqp_url, one), listening(amqp_url, other):
        for number in range(20):
            old.channel.basic_publish(exchange, "", f"{number:02}")
        await until(lambda: len(one.heard) + len(other.heard) >= 20)
        await asyncio.sleep(0.1)
    assert sorted(one.values + other.values) == [f"{number:02}" for number in range(20)]
    assert one.heard
    assert other.heard


async def test_an_exchange_is_used_as_it_is(amqp_url: str, old: Pika, exchange: str) -> None:
    """Durable, and of another type than the topic says: a fanout hears it all the same."""
    old.channel.exchange_declare(exchange, exchange_type="fanout", durable=True)
    listener = Listener(f"topic:{exchange}/a.b")
    async with listening(amqp_url, listener) as client:
        await client.emit(f"direct:{exchange}/anything", "heard")
        await until(lambda: listener.heard)


async def test_an_exchange_of_another_type_is_told(amqp_url: str, old: Pika, exchange: str) -> None:
    """Else a pattern on a direct one would never hear. Calls go on."""
    old.channel.exchange_declare(exchange, exchange_type="direct", durable=True)
    with pytest.raises(UsageError, match="is of the type direct, not topic"):
        async with Server(Listener(f"topic:{exchange}/kern.*").service, url=amqp_url):
            pass
    async with listening(amqp_url, Listener(f"direct:{exchange}/kern")) as client:
        with pytest.raises(UsageError, match="is of the type direct, not topic"):
            await client.emit(f"topic:{exchange}/kern.critical", "x")
        await client.emit(f"direct:{exchange}/kern", "x")


async def test_an_exchange_that_is_deleted_ends_no_call(amqp_url: str, old: Pika, exchange: str) -> None:
    """What is told there just then is lost; the next one finds it declared again."""
    service = Service(f"slow-{exchange}")

    @service.method
    async def wait() -> str:
        await asyncio.sleep(0.5)
        return "done"

    async with Server(service, url=f"{amqp_url}?declare=transient"), Client(amqp_url) as client:
        await client.emit(f"fanout:{exchange}", "first")
        call = asyncio.create_task(client.call(f"slow-{exchange}.wait"))
        old.channel.exchange_delete(exchange)
        await client.emit(f"fanout:{exchange}", "lost")
        assert await call == "done"
        queue = old.listen(exchange, "fanout", "")
        await client.emit(f"fanout:{exchange}", "heard")
        assert [body for _, body, _ in old.heard(queue)] == [b"heard"]


async def test_declare_never_declares_no_exchange(amqp_url: str, exchange: str) -> None:
    async with Client(f"{amqp_url}?declare=never") as client:
        with pytest.raises(UsageError, match="does not exist, and declare=never"):
            await client.emit(f"fanout:{exchange}", "nobody")


async def test_a_number_and_an_object_are_json_to_others(amqp_url: str, old: Pika, exchange: str) -> None:
    """And JSON of theirs is what the handler's annotation says."""
    numbers: list[int] = []
    service = Service("numbers")

    @service.on(f"fanout:{exchange}")
    async def hear(number: int) -> None:
        numbers.append(number)

    queue = old.listen(exchange, "fanout", "")
    async with Server(service, url=amqp_url), Client(amqp_url) as client:
        await client.emit(f"fanout:{exchange}", 7)
        await until(lambda: numbers)  # on another connection it may overtake
        old.channel.basic_publish(exchange, "", "8")
        await until(lambda: len(numbers) == 2)
        await client.emit(f"fanout:{exchange}", name="ada", age=36)
        with pytest.raises(UsageError, match="one argument"):
            await client.emit(f"fanout:{exchange}", 1, 2)
    assert numbers == [7, 8]
    assert [body for _, body, _ in old.heard(queue)] == [b"7", b"8", b'{"name":"ada","age":36}']


async def test_faststream_at_either_end(amqp_url: str, exchange: str) -> None:
    """FastStream's exchanges are durable: its program declares this one."""
    theirs = RabbitExchange(exchange, type=ExchangeType.TOPIC)
    broker, got = RabbitBroker(amqp_url, logger=None), list[str]()

    @broker.subscriber(RabbitQueue("", exclusive=True, durable=False, routing_key="logs.*"), theirs)
    async def hear(line: str) -> None:
        got.append(line)

    async with broker:
        await broker.start()
        listener = Listener(f"topic:{exchange}/logs.#")
        async with listening(amqp_url, listener) as client:
            await client.emit(f"topic:{exchange}/logs.new", "new")
            await broker.publish("old", exchange=theirs, routing_key="logs.old")
            await until(lambda: len(listener.heard) == len(got) == 2)
    assert sorted(got) == listener.values == ["new", "old"]


# --- Redis -----------------------------------------------------------------------------------------


async def test_a_channel_is_shared_with_programs_of_redis_py(redis_url: str, exchange: str) -> None:
    """`exchange` is a name like any other here."""
    listener, pattern = Listener(f"channel:{exchange}.news"), Listener(f"channel:{exchange}.*")
    with redis_py.Redis.from_url(redis_url) as server, server.pubsub() as old:
        old.subscribe(f"{exchange}.news")
        async with listening(redis_url, listener, pattern) as client:
            await client.emit(f"channel:{exchange}.news", "new")
            server.publish(f"{exchange}.news", "old")
            server.publish(f"{exchange}.news.more", "not heard: two words")
            await until(lambda: len(listener.heard) == len(pattern.heard) == 2)
            with pytest.raises(UsageError, match="headers cannot be told"):
                await client.emit(f"channel:{exchange}.news", "new", headers={"a": "b"})
        bodies = [old.get_message(timeout=1) for _ in range(3)]
    assert sorted(message["data"] for message in bodies if message["type"] == "message") == [b"new", b"old"]
    assert {each.topic for each in pattern.heard} == {f"channel:{exchange}.news"}
    assert listener.values == pattern.values == ["new", "old"]


async def test_a_channel_has_no_groups(redis_url: str) -> None:
    with pytest.raises(UsageError, match="has no groups"):
        await Server(Listener("channel:news", group="g").service, url=redis_url).start()
