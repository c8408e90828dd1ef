"""The envelope: short in logs, and mirrored by its replies."""

from __future__ import annotations

import pytest

from rpckit.message import PLAIN, Kind, Message


def request(**fields: object) -> Message:
    return Message(
        Kind.REQUEST,
        "rpc_queue",
        "fib",
        "m-1",
        "c-1",
        "inbox.1",
        "application/json",
        **fields,  # type: ignore[arg-type]
    )


def test_a_reply_goes_to_the_reply_to_of_its_request_with_its_id_and_dialect() -> None:
    reply = request(dialect=PLAIN).reply(Kind.REPLY, b"55", "application/json")
    assert (reply.address, reply.correlation_id) == ("inbox.1", "c-1")
    assert (reply.kind, reply.body, reply.content_type, reply.dialect) == (
        Kind.REPLY,
        b"55",
        "application/json",
        PLAIN,
    )


def test_a_reply_does_not_carry_its_requests_headers_method_or_deadline() -> None:
    reply = request(headers={"user": "7"}, time_left_ms=5, deadline_ms=6, depth=3).reply(Kind.FAULT, b"")
    assert (dict(reply.headers), reply.method, reply.reply_to, reply.depth) == ({}, "", "", 0)
    assert (reply.time_left_ms, reply.deadline_ms) == (None, None)


def test_repr_is_short_and_hides_the_body() -> None:
    shown = repr(request(body=b"secret" * 1000))
    assert "secret" not in shown
    assert "6000 B" in shown
    assert "rpc_queue.fib" in shown


@pytest.mark.parametrize("field", ["address", "correlation_id"])
def test_repr_is_bounded_whatever_a_stranger_sends(field: str) -> None:
    message = request()
    setattr(message, field, "x" * 100_000)
    assert len(repr(message)) < 500


def test_messages_do_not_share_their_default_headers() -> None:
    assert Message(Kind.REQUEST).headers is not Message(Kind.REQUEST).headers
