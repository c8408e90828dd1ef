"""The AMQP dialects, byte by byte, as they are on the wire: see golden/README.md.

What differs from run to run has a fixed value of the same length put in its place, so that the bytes compare.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pika
import pytest

from rpckit import Client, InvalidArgument, Server, Service
from tests.interop.conftest import delete_queue
from tests.interop.wire import Published, tapped

GOLDEN = Path(__file__).parent / "golden" / "amqp.json"
WRITE = os.environ.get("GOLDEN") == "write"
ADDRESS = "golden"
TIMEOUT = 30
DEADLINE = 1_767_225_629_999  # unix milliseconds that stand for every deadline
LEFT = "30000"  # milliseconds that stand for every time left
ID = re.compile(rb"[0-9a-f]{32}")

Vector = dict[str, Any]


# --- what is captured --------------------------------------------------------------------------


def golden_service() -> Service:
    service = Service("golden", address=ADDRESS)

    @service.method(default=True)
    async def fib(n: int) -> int:
        if n < 0:
            raise InvalidArgument("n must not be negative", details={"n": n})
        return {30: 832040, 4: 3}[n]

    @service.method
    async def hang() -> None:
        await asyncio.Event().wait()

    met, all_met = 0, asyncio.Event()

    @service.method
    async def meet(number: int, of: int) -> int:
        """Answers when as many are there, all in one tick."""
        nonlocal met
        met += 1
        if met == of:
            all_met.set()
        await all_met.wait()
        return number

    return service


async def capture(url: str) -> dict[str, Published]:
    """One message of each kind, by name, as client and server publish it."""
    async with (
        tapped(url) as to_requests,
        tapped(url) as to_plain,
        tapped(url) as to_replies,
        Server(golden_service(), url=to_replies.url),
    ):
        async with Client(to_requests.url, timeout=TIMEOUT) as client:
            await client.call("golden.fib", 30)
            await client.call("golden.fib", n=4, headers={"user": "7"}, idempotent=True)
            await client.notify("golden.fib", 4)
            with pytest.raises(InvalidArgument):
                await client.call("golden.fib", -1)
            hanging = asyncio.create_task(client.call("golden.hang"))
            hang = await to_requests.find(type="hang")
            hanging.cancel()
            with suppress(asyncio.CancelledError):
                await hanging
            cancel = await to_requests.find(type="$cancel")
        async with Client(to_plain.url, timeout=TIMEOUT, dialect="plain") as client:
            await client.call("golden", 30)
            with pytest.raises(InvalidArgument):
                await client.call("golden", -1)
            await client.request("golden", 30, headers={"user": "7"})
        native = to_requests.published()
        plain = to_plain.published()
        replies = to_replies.published()
    assert cancel.properties["correlation_id"] == hang.properties["correlation_id"]
    native_reply, _, native_fault, plain_reply, plain_fault, json_reply = replies
    return {
        "native request": native[0],
        "native request, idempotent, with a header": native[1],
        "native notification": native[2],
        "native cancel": cancel,
        "native reply": native_reply,
        "native fault": native_fault,
        "plain request": plain[0],
        "plain request, JSON, with a header": plain[2],
        "plain reply": plain_reply,
        "plain fault": plain_fault,
        "plain reply to JSON": json_reply,
    }


# --- making it comparable -----------------------------------------------------------------------


def vector(message: Published) -> Vector:
    """JSON of a message, with fixed values for ids and deadlines."""
    content = message.header
    properties = dict(message.properties)
    for name, letter in (("message_id", b"a"), ("correlation_id", b"c"), ("reply_to", b"b")):
        if name in properties:
            fixed = ID.sub(letter * 32, properties[name].encode())
            content = content.replace(properties[name].encode(), fixed)
            properties[name] = fixed.decode()
    if "expiration" in properties:
        assert TIMEOUT * 1000 - 100 <= int(properties["expiration"]) <= TIMEOUT * 1000
        content = content.replace(b"\x05" + properties["expiration"].encode(), b"\x05" + LEFT.encode())
        properties["expiration"] = LEFT
    if "x-deadline" in properties.get("headers", {}):
        deadline = properties["headers"]["x-deadline"]
        content = content.replace(deadline.to_bytes(8, "big"), DEADLINE.to_bytes(8, "big"))
        properties["headers"] = {**properties["headers"], "x-deadline": DEADLINE}
    return {
        "exchange": message.exchange,
        "routing_key": ID.sub(b"b" * 32, message.routing_key.encode()).decode(),
        "mandatory": message.mandatory,
        "properties": properties,
        "header": content.hex(),
        "body": message.body.hex(),
        "body reads": message.body.decode("ascii", errors="backslashreplace"),
    }


@pytest.fixture
async def captured(amqp_url: str) -> AsyncIterator[dict[str, Vector]]:
    yield {name: vector(message) for name, message in (await capture(amqp_url)).items()}
    delete_queue(amqp_url, ADDRESS)


def golden() -> dict[str, Vector]:
    vectors: dict[str, Vector] = json.loads(GOLDEN.read_text())
    return vectors


# --- the tests -----------------------------------------------------------------------------------


async def test_every_message_is_as_it_was_recorded(captured: dict[str, Vector]) -> None:
    if WRITE:
        GOLDEN.write_text(json.dumps(captured, indent=2) + "\n")
    assert captured == golden()


@pytest.mark.parametrize("dialect", ["native", "plain"])
@pytest.mark.parametrize("what", ["reply", "fault"])
async def test_a_server_answers_a_recorded_request_as_recorded(amqp_url: str, dialect: str, what: str) -> None:
    """Bytes of the past, which a client of that time still sends. Only the argument asks for a fault."""
    request, answer = golden()[f"{dialect} request"], golden()[f"{dialect} {what}"]
    argument = bytes.fromhex(request["body"])
    if what == "fault":
        argument = argument.replace(b"\x1e", b"\xff").replace(b"30", b"-1")
    async with Server(golden_service(), url=amqp_url):
        properties, body = await asyncio.to_thread(_exchange, amqp_url, request["properties"], argument)
    delete_queue(amqp_url, ADDRESS)
    assert body.hex() == answer["body"]
    for name in ("app_id", "type", "content_type", "headers", "message_id", "correlation_id"):
        assert getattr(properties, name) == answer["properties"].get(name), name


@pytest.mark.parametrize("dialect", ["native", "plain"])
async def test_a_client_reads_a_recorded_reply_and_a_recorded_fault(amqp_url: str, dialect: str) -> None:
    reply, fault = golden()[f"{dialect} reply"], golden()[f"{dialect} fault"]
    async with Client(amqp_url, dialect=dialect, timeout=5) as client:
        target = "golden.fib" if dialect == "native" else "golden"
        serving = asyncio.create_task(asyncio.to_thread(_serve_recorded, amqp_url, [reply, fault]))
        first = await client.call(target, 30, no_server="wait")
        with pytest.raises(InvalidArgument, match="n must not be negative"):
            await client.call(target, -1)
        await serving
    delete_queue(amqp_url, ADDRESS)
    assert first == 832040


async def test_replies_of_one_tick_to_one_client_leave_in_bundles(amqp_url: str) -> None:
    """The first may leave alone, at once. Each part: the correlation id, four bytes of size, the result."""
    async with tapped(amqp_url) as to_replies, Server(golden_service(), url=to_replies.url):
        async with Client(amqp_url, timeout=TIMEOUT) as client:
            assert await asyncio.gather(*(client.call("golden.meet", n, 9) for n in range(9))) == list(range(9))
        messages = to_replies.published()
    delete_queue(amqp_url, ADDRESS)
    parts: list[bytes] = []
    for message in messages:
        if message.properties["type"] == "$reply":
            parts.append(message.body)
            continue
        assert message.properties["type"] == "$bundle"
        assert message.properties["app_id"] == "rpckit/1"
        assert message.properties["content_type"] == "application/msgpack"
        assert message.body[:32].decode() == message.properties["correlation_id"]
        bundle = [message.body[at : at + 37] for at in range(0, len(message.body), 37)]
        assert all(ID.fullmatch(part[:32]) and part[32:36] == b"\0\0\0\x01" for part in bundle)
        parts += [part[36:] for part in bundle]
    assert sorted(parts) == [b"%c" % n for n in range(9)]
    assert len(messages) <= 3


async def test_an_inbox_of_another_name_gets_a_message_for_each_reply(amqp_url: str) -> None:
    async with Server(golden_service(), url=amqp_url):
        types, results = await asyncio.to_thread(_meet, amqp_url, 9)
    delete_queue(amqp_url, ADDRESS)
    assert types == {"$reply"}
    assert sorted(results) == [b"%c" % n for n in range(9)]


async def test_a_malformed_bundle_harms_no_call(amqp_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Server(golden_service(), url=amqp_url), Client(amqp_url, timeout=5) as client:
        assert await client.call("golden.fib", 4) == 3
        for body in (b"malformed", b""):
            await asyncio.to_thread(_tell, amqp_url, client.transport.inbox, body)
        assert await client.call("golden.fib", 30) == 832040
    delete_queue(amqp_url, ADDRESS)
    assert caplog.text.count("a bundle of replies is malformed") == 1


def _tell(url: str, inbox: str, bundle: bytes) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    properties = pika.BasicProperties(app_id="rpckit/1", type="$bundle", correlation_id="c" * 32)
    connection.channel().basic_publish("", inbox, bundle, properties)
    connection.close()


def _meet(url: str, count: int) -> tuple[set[str | None], list[bytes]]:
    """As a program without rpckit: the types and bodies of its replies."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        for number in range(count):
            properties = pika.BasicProperties(
                app_id="rpckit/1", type="meet", content_type="application/json", correlation_id=f"{number:032x}"
            )
            properties.reply_to = queue
            channel.basic_publish("", ADDRESS, json.dumps({"args": [number, count]}).encode(), properties)
        types, bodies = set[str | None](), list[bytes]()
        for _, props, body in channel.consume(queue, auto_ack=True, inactivity_timeout=5):
            assert props is not None, "silence"
            types.add(props.type)
            bodies.append(body)
            if len(bodies) == count:
                break
        return types, [bytes((int(body),)) for body in bodies]
    finally:
        connection.close()


def _exchange(url: str, recorded: Vector, body: bytes) -> tuple[pika.BasicProperties, bytes]:
    """Send a recorded request with pika, and return what came back. Its deadline is past, and left out."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        kept = {name: value for name, value in recorded.items() if name not in ("expiration", "headers")}
        properties = pika.BasicProperties(**{**kept, "reply_to": queue})
        channel.basic_publish("", ADDRESS, body, properties)
        for _, props, reply in channel.consume(queue, auto_ack=True, inactivity_timeout=5):
            assert props is not None, "silence"
            return props, reply
    finally:
        connection.close()
    raise AssertionError("the connection ended")


def _serve_recorded(url: str, answers: list[Vector]) -> None:
    """Answer each request with the next recorded answer."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        channel.queue_declare(ADDRESS, durable=True)
        for answer in answers:
            for method, props, _ in channel.consume(ADDRESS, inactivity_timeout=5):
                assert props is not None, "no request"
                recorded = {**answer["properties"], "correlation_id": props.correlation_id}
                body = bytes.fromhex(answer["body"])
                channel.basic_publish("", props.reply_to, body, pika.BasicProperties(**recorded))
                channel.basic_ack(method.delivery_tag)
                break
    finally:
        connection.close()
