"""Messages laid out for one channel: whole, for that channel only, and with a bound on what is remembered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pamqp.frame
import pytest

from rpckit.errors import UsageError
from rpckit.message import Kind, Message
from rpckit_amqp._framing import MAX_PUBLISH_FRAMES, Framing

REPLY = Message(Kind.REPLY, "q", correlation_id="c", body=b"30")


def attached(channel_id: int, framing: Framing | None = None) -> Framing:
    framing = framing or Framing()
    framing.attach(cast(Any, SimpleNamespace(channel_id=channel_id, protocol=SimpleNamespace(server_frame_max=0))))
    return framing


def frames(data: bytes) -> list[tuple[int, str]]:
    """The channel and the name of each."""
    names = []
    while data:
        consumed, channel, frame = pamqp.frame.unmarshal(data)
        names.append((channel, frame.name))
        data = data[consumed:]
    return names


def test_a_message_is_laid_out_whole() -> None:
    expected = [(2, "Basic.Publish"), (2, "ContentHeader"), (2, "ContentBody")]
    assert frames(attached(2).lay_out(REPLY, mandatory=True)) == expected


def test_attached_to_another_channel_it_lays_out_for_that_one() -> None:
    framing = attached(2)
    framing.lay_out(REPLY, mandatory=True)
    assert {channel for channel, _ in frames(attached(3, framing).lay_out(REPLY, mandatory=True))} == {3}


def test_remembered_publish_frames_are_bounded() -> None:
    framing = attached(2)
    for number in range(MAX_PUBLISH_FRAMES + 5):
        framing.lay_out(Message(Kind.REPLY, f"q{number}"), mandatory=False)
    assert len(framing._frames) == 5


def test_what_was_laid_out_before_a_limit_is_refused_by_its_body_alone() -> None:
    framing = attached(2)
    data = framing.lay_out(REPLY, mandatory=True)
    framing.limit(2)
    assert framing.refusal(data) is None, "the frames around it do not count"
    framing.limit(1)
    assert isinstance(framing.refusal(data), UsageError)
    with pytest.raises(UsageError):
        attached(2, framing).lay_out(REPLY, mandatory=True)
