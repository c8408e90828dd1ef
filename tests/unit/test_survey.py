"""Surveys: what is collected, for how long, and what is none of theirs."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from rpckit import Client, ConnectionLost, NotSent, UsageError, codec
from rpckit import survey as survey_module
from rpckit.memory import MemoryTransport
from rpckit.message import Kind, Message
from rpckit.queries import TOPIC
from rpckit.survey import MAX_SURVEYS, Surveys
from rpckit.transport import Transport


class FakeTransport:
    """Remembers what is published, and answers nothing."""

    def __init__(self) -> None:
        self.inbox = "inbox"
        self.published: list[Message] = []

    async def publish(self, topic: str, message: Message) -> None:
        assert topic == TOPIC
        self.published.append(message)


class Bench:
    def __init__(self) -> None:
        self.surveys = Surveys()
        self.transport = FakeTransport()

    async def run(self, wait: float = 0.05, *, first: bool = False) -> list[str]:
        transport = cast(Transport, self.transport)
        answers = await self.surveys.run(transport, "ping", "orders", wait, first=first)
        return [answer.instance.id for answer in answers]

    def answer(self, id_: str, **fields: Any) -> bool:
        body = codec.encode(codec.MSGPACK, {"instance": {"id": id_}})
        message = Message(Kind.REPLY, content_type=codec.MSGPACK, body=body)
        message.correlation_id = self.transport.published[0].correlation_id
        for name, value in fields.items():
            setattr(message, name, value)
        return self.surveys.take(message)


async def begun(bench: Bench, **options: Any) -> asyncio.Task[list[str]]:
    task = asyncio.create_task(bench.run(**options))
    while not bench.transport.published:
        await asyncio.sleep(0)
    return task


async def test_a_query_says_where_to_answer_and_until_when() -> None:
    bench = Bench()
    assert await bench.run(0.02) == []
    (query,) = bench.transport.published
    assert (query.kind, query.method, query.reply_to, query.time_left_ms) == (Kind.REQUEST, "ping", "inbox", 20)
    assert codec.decode(query.content_type, query.body)["kwargs"] == {"address": "orders"}


async def test_answers_are_collected_once_an_instance_until_time_is_up() -> None:
    bench = Bench()
    running = await begun(bench)
    assert all(bench.answer(each) for each in ("a", "b", "a"))
    assert await running == ["a", "b"]
    assert not bench.answer("c")  # late: whose it was is forgotten


async def test_the_first_answer_may_be_enough() -> None:
    bench = Bench()
    running = await begun(bench, wait=60, first=True)
    bench.answer("rubbish", body=b"\xc1")
    bench.answer("a fault", kind=Kind.FAULT)
    await asyncio.sleep(0.01)
    assert not running.done()
    bench.answer("a")
    async with asyncio.timeout(5):
        assert await running == ["a"]


async def test_what_others_wait_for_is_left_to_them() -> None:
    bench = Bench()
    running = await begun(bench)
    assert not bench.answer("a", correlation_id="another")
    assert await running == []


async def test_too_many_answers_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small they are."""
    monkeypatch.setattr(survey_module, "MAX_BYTES", 4 * survey_module.ANSWER_BYTES)
    bench = Bench()
    running = await begun(bench, wait=60)
    for each in "abcdef":
        bench.answer(each)
    async with asyncio.timeout(5):
        assert len(await running) < 6


async def test_surveys_under_way_are_bounded() -> None:
    bench = Bench()
    running = [asyncio.create_task(bench.run()) for _ in range(MAX_SURVEYS)]
    await asyncio.sleep(0)
    with pytest.raises(NotSent):
        await bench.run()
    await asyncio.gather(*running)


async def test_a_connection_lost_meanwhile_is_told_if_nobody_had_answered() -> None:
    for answered in (True, False):
        bench = Bench()
        running = await begun(bench)
        if answered:
            bench.answer("a")
        bench.transport.inbox = ""
        if answered:
            assert await running == ["a"]
        else:
            with pytest.raises(ConnectionLost):
                await running


@pytest.mark.parametrize("end", ["drop", "close"])
async def test_nobody_waits_for_answers_that_can_no_longer_come(client: Client, end: str) -> None:
    asking = asyncio.create_task(client.survey("ping", wait=600))
    await asyncio.sleep(0.01)
    if end == "drop":
        cast(MemoryTransport, client.transport).drop()
    else:
        await client.close()
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionLost):
            await asking


async def test_a_broker_that_takes_nothing_is_not_taken_for_silence(client: Client) -> None:
    asking = asyncio.create_task(client.survey("ping", wait=0.05))
    await asyncio.sleep(0.01)
    cast(MemoryTransport, client.transport).block("it is full")
    with pytest.raises(NotSent, match="it is full"):
        await asking


async def test_what_could_not_be_asked_in_time_is_not_taken_for_silence(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stall(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(client.transport, "publish", stall)
    with pytest.raises(NotSent, match=r"within 0.01 s"):
        await client.survey("ping", wait=0.01)


async def test_a_client_without_a_connection_says_so(client: Client) -> None:
    assert isinstance(client.transport, MemoryTransport)
    client.settings = client.settings.model_copy(update={"send_wait": 0.01})
    client.transport.drop()
    with pytest.raises(NotSent):
        await client.survey("ping")


async def test_a_late_answer_is_a_late_reply(client: Client) -> None:
    client._attempts.on_message(Message(Kind.REPLY, correlation_id="late"))
    assert client.late_replies == 1


@pytest.mark.parametrize(
    "query, address, wait, words",
    [
        ("ping", "a{b", 0.1, "address 'a{b' cannot be used"),
        ("pong", "", 0.1, "there is no query 'pong'; there are ping, info, stats, schema"),
        ("ping", "", float("inf"), "wait is in seconds"),
        ("ping", "", float("nan"), "wait is in seconds"),
        ("ping", "", float("-inf"), "wait is in seconds"),
        ("ping", "", 0, "more than 0"),
        ("ping", "", None, "wait is in seconds"),
    ],
)
async def test_what_nobody_would_answer_or_would_never_end_is_refused(
    query: Any, address: str, wait: Any, words: str
) -> None:
    async with Client("memory://survey") as client:
        with pytest.raises(UsageError, match=words):
            await client.survey(query, address, wait=wait)
