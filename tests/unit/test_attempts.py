"""Attempts: into the table before they are sent, and out of it once, however they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from rpckit.attempts import Attempts, Pending
from rpckit.call import Call, CallOptions
from rpckit.connecting import Connecting
from rpckit.deadline import Deadline
from rpckit.errors import ConnectionLost, DeadlineExceeded, NoResponder, NotSent, OutcomeUnknown, RpcError
from rpckit.message import NATIVE, Kind, Message
from rpckit.pending import PendingCalls
from rpckit.transport import State, Transport
from rpckit.url import Url

BRIEF = 0.01  # seconds


class Wire:
    """A transport: what it was given to send, and what becomes of that."""

    inbox = "inbox"

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.published: list[Message] = []
        self.refusal: RpcError | None = None

    async def send(self, message: Message, *, must_be_served: bool = True) -> None:
        self.sent.append(message)
        if self.refusal is not None:
            raise self.refusal

    async def publish(self, topic: str, message: Message) -> None:
        self.published.append(message)


class Caller:
    def __init__(self) -> None:
        self.wire = Wire()
        self.pending: Pending = PendingCalls(4)
        self.other: list[Message] = []
        self.tasks: list[asyncio.Task[Any]] = []
        transport = cast(Transport, self.wire)
        self.connecting = Connecting(Url.parse("memory://x"), transport, self.pending, _never, self.own)
        self.connecting.told(State.CONNECTED, "")
        options: dict[str, Any] = {"max_body": 8, "send_wait": BRIEF, "own": self.own, "on_other": self.other.append}
        self.attempts = Attempts(transport, self.pending, self.connecting, **options)
        self.attempts.bind(asyncio.get_running_loop())

    def own(self, work: Any) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    async def begin(self, *, idempotent: bool = False, seconds: float = 5.0) -> asyncio.Task[Message]:
        """A call whose request is sent."""
        options = CallOptions(timeout=seconds, idempotent=idempotent)
        deadline = Deadline(asyncio.get_running_loop().time() + seconds)
        call = Call("a", "m", (), {}, options, {}, deadline, "id", 0, NATIVE, body=b"1")
        attempt = self.attempts.until_settled if idempotent else self.attempts.once
        task = asyncio.create_task(attempt(call))
        await asyncio.sleep(0)
        return task

    def reply(self, body: bytes = b"2") -> None:
        self.attempts.on_message(Message(Kind.REPLY, correlation_id=self.wire.sent[-1].correlation_id, body=body))


async def _never() -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    caller = Caller()
    yield caller
    await caller.attempts.end()
    assert len(caller.pending) == 0
    assert all(task.done() for task in caller.tasks)


async def test_a_reply_ends_its_attempt_and_a_second_one_is_somebody_elses(caller: Caller) -> None:
    attempt = await caller.begin()
    assert len(caller.pending) == 1
    caller.reply()
    caller.reply()
    assert (await attempt).body == b"2"
    assert len(caller.other) == 1


async def test_what_was_not_sent_has_left_the_table(caller: Caller) -> None:
    caller.wire.refusal = NotSent("the line is down")
    with pytest.raises(NotSent, match="the line is down"):
        await (await caller.begin())


async def test_what_could_not_be_delivered_ends_with_its_error(caller: Caller) -> None:
    attempt = await caller.begin()
    caller.attempts.on_undelivered(caller.wire.sent[0].correlation_id, NoResponder("nobody"))
    with pytest.raises(NoResponder, match="nobody"):
        await attempt


async def test_an_attempt_ends_by_its_deadline(caller: Caller) -> None:
    with pytest.raises(DeadlineExceeded):
        await (await caller.begin(seconds=BRIEF))


async def test_each_of_those_lost_has_an_error_of_its_own(caller: Caller) -> None:
    attempts = [await caller.begin() for _ in range(2)]
    caller.attempts.lose("cut")
    one, other = await asyncio.gather(*attempts, return_exceptions=True)
    assert isinstance(one, ConnectionLost)
    assert isinstance(other, ConnectionLost)
    assert one is not other


async def test_who_is_cancelled_cancels_the_work_but_not_what_is_done(caller: Caller) -> None:
    abandoned, done = await caller.begin(), await caller.begin()
    caller.reply()
    for attempt in (abandoned, done):
        attempt.cancel()
    await asyncio.wait((abandoned, done))
    assert abandoned.cancelled()
    assert done.cancelled()
    await asyncio.sleep(0)
    assert [cancel.correlation_id for cancel in caller.wire.published] == [caller.wire.sent[0].correlation_id]


async def test_an_idempotent_call_is_sent_again_under_another_correlation_id(caller: Caller) -> None:
    attempt = await caller.begin(idempotent=True)
    caller.attempts.lose("cut")
    await asyncio.sleep(0)
    first, second = caller.wire.sent
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.message_id == second.message_id
    assert first.correlation_id != second.correlation_id
    caller.reply()
    assert (await attempt).body == b"2"


async def test_what_did_not_run_at_the_second_attempt_may_have_at_the_first(caller: Caller) -> None:
    attempt = await caller.begin(idempotent=True)
    caller.wire.refusal = NoResponder("nobody")
    caller.attempts.lose("cut")
    with pytest.raises(OutcomeUnknown):
        await attempt
