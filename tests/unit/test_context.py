"""The running call, as its handler and the log see it."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace
from typing import cast

import pytest

from rpckit.context import CallLogFilter, Context, Response, Slot, current_context, enter_slot
from rpckit.deadline import Deadline
from rpckit.message import Kind, Message


def context(deadline: Deadline | None = None, method: str = "fib") -> Context:
    message = Message(
        Kind.REQUEST, "rpc_queue", method, "m-1", "c-1", "inbox.1", attempt=2, depth=3, headers={"user": "7"}
    )
    return Context(message, "fibonacci", method, deadline)


def record() -> logging.LogRecord:
    return logging.LogRecord("any", logging.INFO, __file__, 1, "text", (), None)


def test_a_context_shows_its_message() -> None:
    ctx = context()
    assert (ctx.headers, ctx.correlation_id, ctx.message_id) == ({"user": "7"}, "c-1", "m-1")
    assert (ctx.attempt, ctx.depth, ctx.caller) == (2, 3, "inbox.1")
    assert (ctx.service, ctx.method) == ("fibonacci", "fib")


async def test_time_left_counts_down_to_the_deadline() -> None:
    now = asyncio.get_running_loop().time()
    left = context(Deadline(now + 10)).time_left()
    assert left is not None
    assert 9 < left <= 10
    assert context().time_left() is None


async def test_time_left_and_log_work_in_a_thread() -> None:
    loop = asyncio.get_running_loop()
    ctx = Context(Message(Kind.REQUEST), "s", "m", Deadline(loop.time() + 10), loop)

    def in_thread() -> float | None:
        ctx.log.info("hello")
        return ctx.time_left()

    left = await asyncio.to_thread(in_thread)
    assert left is not None
    assert 9 < left <= 10


async def test_entering_makes_it_the_current_one_for_this_task_only() -> None:
    ctx = context()

    async def handler() -> Context | None:
        enter_slot(cast(Slot, SimpleNamespace(context=ctx)))
        await asyncio.sleep(0)
        return current_context()

    assert await asyncio.ensure_future(handler()) is ctx
    assert current_context() is None


async def test_log_records_carry_correlation_id_method_and_deadline(caplog: pytest.LogCaptureFixture) -> None:
    ctx = context(Deadline(asyncio.get_running_loop().time() + 10))
    with caplog.at_level(logging.INFO):
        ctx.log.info("hello", extra={"user": "7"})
    fields = vars(caplog.records[0])
    assert fields["name"] == "rpckit.call.fibonacci"
    assert (fields["correlation_id"], fields["rpc_method"], fields["user"]) == ("c-1", "fibonacci.fib", "7")
    assert fields["deadline"] == pytest.approx(time.time() + 10, abs=1)


def test_log_fields_without_a_deadline_or_method() -> None:
    assert context(method="").log_fields() == {
        "correlation_id": "c-1",
        "rpc_method": "fibonacci",
        "deadline": None,
    }


async def test_the_filter_stamps_records_of_any_logger_inside_a_call() -> None:
    ctx = context()

    async def handler() -> logging.LogRecord:
        enter_slot(cast(Slot, SimpleNamespace(context=ctx)))
        stamped = record()
        assert CallLogFilter().filter(stamped)
        return stamped

    fields = vars(await asyncio.ensure_future(handler()))
    assert (fields["correlation_id"], fields["rpc_method"]) == ("c-1", "fibonacci.fib")


def test_the_filter_leaves_empty_fields_outside_a_call() -> None:
    stamped = record()
    assert CallLogFilter().filter(stamped)
    assert (vars(stamped)["correlation_id"], vars(stamped)["deadline"]) == ("", None)


def test_the_filter_does_not_overwrite_what_a_record_has() -> None:
    stamped = record()
    stamped.correlation_id = "its own"
    CallLogFilter().filter(stamped)
    assert vars(stamped)["correlation_id"] == "its own"


def test_responses_do_not_share_their_headers() -> None:
    assert Response(1).headers is not Response(2).headers
