"""Answers of a server over memory: to whom, how many at once, and what the dispatcher counts for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rpckit import (
    Client,
    DeadlineExceeded,
    Expired,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    RemoteError,
    Server,
    Service,
)
from rpckit.answering import MAX_ANSWERS
from rpckit.memory import MemoryBroker
from rpckit.message import Kind, Message
from rpckit.queries import TOPIC, Answer

Serve = Callable[..., Awaitable[Server]]


class Refused(Exception):
    """Declared."""


def shop() -> Service:
    service = Service("shop")

    @service.method(raises=[Refused])
    async def place(item: str = "tea") -> str:
        if item == "none":
            raise Refused(item)
        if item == "trouble":
            raise ValueError(item)
        if item == "stranger":
            raise RemoteError("no", code="THEIR_OWN")
        return item

    @service.method
    async def stuck() -> None:
        await asyncio.Event().wait()

    @service.on("news")
    async def news(what: str) -> None:
        if what == "bad":
            raise ValueError(what)

    return service


async def stats(client: Client, method: str) -> dict[str, Any]:
    (answer,) = await client.survey("stats", "shop", wait=5, first=True)
    entry: dict[str, Any] = next(each for each in answer.content["stats"] if each["method"] == method)
    return entry


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await condition():
            await asyncio.sleep(0.001)


# -- what is counted ----------------------------------------------------------------------------


async def test_calls_are_counted_with_their_errors_when_they_have_ended(serve: Serve, client: Client) -> None:
    await serve(shop())
    await client.call("shop.place")
    for error, item in ((RemoteError, "none"), (InternalError, "trouble"), (RemoteError, "stranger")):
        with pytest.raises(error):
            await client.call("shop.place", item)
    with pytest.raises(InvalidArgument):
        await client.call("shop.place", {})
    await client.notify("shop.place", "none")

    async def all_ended() -> bool:
        return (await stats(client, "place"))["calls"] == 6

    await until(all_ended)
    assert (await stats(client, "place"))["errors"] == {
        "UNKNOWN": 2,
        "INTERNAL": 1,
        "THEIR_OWN": 1,
        "INVALID_ARGUMENT": 1,
    }


async def test_what_is_refused_is_counted_too(serve: Serve, client: Client) -> None:
    await serve(shop(), max_body=100)
    with pytest.raises(InvalidArgument):
        await client.call("shop.place", "x" * 200)
    with pytest.raises(MethodNotFound):
        await client.call("shop.nosuch")
    refused, unknown = await stats(client, "place"), await stats(client, "")
    assert (refused["calls"], refused["errors"], refused["run_ms"]) == (1, {"INVALID_ARGUMENT": 1}, None)
    assert (unknown["calls"], unknown["errors"]) == (1, {"UNIMPLEMENTED": 1})


async def test_what_waits_and_what_runs_is_in_flight_and_its_end_is_counted(serve: Serve, client: Client) -> None:
    """Of two calls one has a slot: it is stopped by its deadline, the other one is never begun."""
    await serve(shop(), concurrency=1)
    calls = [asyncio.create_task(client.call("shop.stuck", timeout=1)) for _ in range(2)]

    async def both() -> bool:
        return (await stats(client, "stuck"))["in_flight"] == 2

    await until(both)
    for ended in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(ended, DeadlineExceeded | Expired)  # of the one not begun either side may say so first

    async def none() -> bool:
        entry = await stats(client, "stuck")
        return entry["in_flight"] == 0 and entry["calls"] == 2

    await until(none)
    assert (await stats(client, "stuck"))["errors"] == {"DEADLINE_EXCEEDED": 2}


async def test_a_cancelled_call_is_an_error_of_its_own(serve: Serve, client: Client) -> None:
    await serve(shop())
    call = asyncio.create_task(client.call("shop.stuck"))

    async def begun() -> bool:
        return (await stats(client, "stuck"))["in_flight"] == 1

    async def ended() -> bool:
        return (await stats(client, "stuck"))["errors"] == {"CANCELLED": 1}

    await until(begun)
    call.cancel()
    await until(ended)
    assert (await stats(client, "stuck"))["calls"] == 1


async def test_events_are_counted_as_calls_are(serve: Serve, client: Client) -> None:
    await serve(shop())
    await client.emit("news", "good")
    await client.emit("news", "bad")

    async def both() -> bool:
        return (await stats(client, "news"))["calls"] == 2

    await until(both)
    entry = await stats(client, "news")
    assert (entry["event"], entry["errors"]) == ("news", {"INTERNAL": 1})


# -- who is answered ------------------------------------------------------------------------------


async def test_an_asker_that_is_gone_harms_nothing(
    serve: Serve, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await serve(shop())
    caplog.set_level(logging.WARNING)
    await client.transport.publish(TOPIC, Message(Kind.REQUEST, TOPIC, "ping", correlation_id="c", reply_to="inbox.no"))
    assert len(await client.survey("ping", wait=5, first=True)) == 1
    assert caplog.text == ""


@pytest.mark.parametrize(
    "message",
    [
        Message(Kind.EVENT, TOPIC, "ping", correlation_id="c", reply_to="inbox"),
        Message(Kind.REQUEST, TOPIC, "ping", correlation_id="c"),
        Message(Kind.REQUEST, TOPIC, "nosuch", correlation_id="c", reply_to="inbox"),
        Message(Kind.REQUEST, TOPIC, "ping", correlation_id="c", reply_to="inbox", body=b"\xc1", content_type="x/y"),
        Message(Kind.REQUEST, TOPIC, "ping", correlation_id="c", reply_to="inbox", content_type="x/y"),
        Message(Kind.REQUEST, TOPIC, "ping", correlation_id="c", reply_to="inbox", body=b"x" * 2_000_000),
    ],
    ids=["an event", "nobody to answer", "no query", "no arguments", "no form we know", "too long"],
)
async def test_what_is_no_query_is_not_answered(
    serve: Serve, client: Client, broker: MemoryBroker, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is it an error: whoever may publish could fill the log."""
    await serve(shop())
    caplog.set_level(logging.WARNING)
    answers: list[Message] = []
    broker.inboxes["inbox"] = answers.append
    await client.transport.publish(TOPIC, message)
    assert len(await client.survey("ping", wait=5, first=True)) == 1
    assert answers == []
    assert caplog.text == ""


async def test_answers_under_way_are_bounded(serve: Serve, client: Client, broker: MemoryBroker) -> None:
    await serve(shop())
    answers: list[Message] = []
    broker.inboxes["inbox"] = answers.append
    for number in range(3 * MAX_ANSWERS):
        query = Message(Kind.REQUEST, TOPIC, "ping", correlation_id=str(number), reply_to="inbox")
        query.body, query.content_type = b'{"args":[],"kwargs":{}}', "application/json"
        await client.transport.publish(TOPIC, query)
    await asyncio.sleep(0.05)
    assert len(answers) == MAX_ANSWERS
    assert len(await client.survey("ping", wait=5, first=True)) == 1


async def test_a_server_that_has_stopped_answers_no_more(serve: Serve, client: Client) -> None:
    server = await serve(shop())
    assert len(await client.survey("ping", wait=5, first=True)) == 1
    await server.stop()
    assert await client.survey("ping", wait=0.05) == []


async def test_a_server_on_two_transports_of_one_broker_is_one_instance(serve: Serve, client: Client, url: str) -> None:
    await serve(shop(), url=[url, url])
    answers: list[Answer] = await client.survey("ping", wait=0.1)
    assert [each.instance.transports for each in answers] == [["memory", "memory"]]
